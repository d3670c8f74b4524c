# Blocks: made from guest bytes, found by physical address, forgotten when their bytes change.
#
# A block is up to MAX_BLOCK instructions of one page, ending at a branch, at an instruction that must return to the core
# loop, or at the page's end. An instruction that straddles two pages is never kept: it is decoded and run alone.
from libc.string cimport memset

from emu.base.bits cimport unlikely
from emu.base.check cimport check
from emu.base.types cimport i32, i64, u8, u16, u32, u64
from emu.cpu.access cimport (fetch_bytes, fetch_page, forget_writable, leave, next_insn, set_fault)
from emu.cpu.branch cimport branch_fall
from emu.cpu.decode cimport (DECODE_BAD, DECODE_LONG, DECODE_MORE, ROW_END, ROW_REP_END, Decoded, decode_one)
from emu.cpu.state cimport *
from emu.memory.space cimport Slot, find_slot, page_index, ram_pointer

cdef enum:
    HASH = 65536
    INSN = 32
    LONGEST = 240                # no instruction starts beyond this offset in a block (offsets are bytes)


# --- pseudo instructions ----------------------------------------------------------------------------------------

cdef int do_stop(Cpu* c, Insn* i) noexcept nogil:
    """Ends what was run in scratch."""
    c.rip = (c.regs[RIP_SLOT] + i.off) & c.rip_mask
    return RC_NEXT


cdef int do_chain(Cpu* c, Insn* i) noexcept nogil:
    """Ends a block that simply goes on in the next one."""
    return branch_fall(c, i)


cdef int do_set_temp(Cpu* c, Insn* i) noexcept nogil:
    """RIP-relative operand whose displacement does not fit from the block's start."""
    c.regs[TEMP_SLOT] = c.regs[RIP_SLOT] + <u64>i.imm
    return next_insn(c, i)


cdef int do_bad(Cpu* c, Insn* i) noexcept nogil:
    set_fault(c, UD, False, 0)
    return leave(c, i)


cdef int do_long(Cpu* c, Insn* i) noexcept nogil:
    set_fault(c, GP, True, 0)
    return leave(c, i)


# --- making -----------------------------------------------------------------------------------------------------

cdef inline u8 resolved_segment(u32 mode, int segment, bint register) noexcept nogil:
    """The segment as handlers want it: FLAT where there is nothing to add or check. register: the offset has a part that is not in
    the instruction, and may be no canonical address."""
    if mode & MODE_CODE == MODE_64:
        if segment >= FS:
            return <u8>(segment | SEG_CHECKED if register else segment)
        return FLAT_STACK if segment == SS else FLAT
    if segment == SS and mode & MODE_FLAT_SS:
        return FLAT_STACK
    if segment == DS and mode & MODE_FLAT_DS or segment == ES and mode & MODE_FLAT_ES:
        return FLAT
    return <u8>(segment | SEG_CHECKED)


cdef int place(Insn* slot, Decoded* d, u32 mode, int off, int start, bint linkable) noexcept nogil:
    """Puts a decoded instruction at `off` of a block; gives the number of slots used, bit 8 set where the block ends."""
    cdef int used = 1
    cdef i64 target
    cdef bint ends
    if d.row == NULL:
        memset(slot, 0, sizeof(Insn))
        slot.fn = do_bad if d.length != DECODE_LONG else do_long
        slot.off = <u8>off
        return 1 | 256
    ends = d.row.attributes & ROW_END != 0 or (d.row.attributes & ROW_REP_END and d.insn.flags & (I_REP | I_REPNE))
    if d.rip_relative:
        target = <i64>d.insn.disp + off + d.length
        if unlikely(target != <i32>target):
            memset(slot, 0, sizeof(Insn))
            slot.fn = do_set_temp
            slot.imm = target
            slot.off = <u8>off
            slot += 1
            used += 1
            d.insn.base = 8 * TEMP_SLOT
            d.insn.disp = 0
        else:
            d.insn.disp = <i32>target
    check(d.insn.fn != NULL and d.insn.base % 8 == 0 and d.insn.base <= 8 * TEMP_SLOT and d.insn.index <= 8 * ZERO_SLOT
          and d.insn.index % 8 == 0 and d.insn.seg < FLAT and d.insn.scale < 4 and 0 < d.insn.len <= 15)
    check(0 <= off <= LONGEST)
    slot[0] = d.insn
    slot.off = <u8>off
    slot.seg = resolved_segment(mode, d.insn.seg, not d.memory or not d.rip_relative
                                and (d.insn.base != 8 * ZERO_SLOT or d.insn.index != 8 * ZERO_SLOT))
    if d.branch:
        slot.imm = d.insn.imm + off + d.length
        if linkable and d.insn.opsize != 2:
            if 0 <= start + slot.imm < 4096:
                slot.flags |= I_LINK_TAKEN
            if start + off + d.length < 4096:
                slot.flags |= I_LINK_FALL
        memset(slot + 1, 0, sizeof(Insn))        # its Links
        used += 1
    return used | (256 if ends else 0)


cdef void set_left(Insn* insn, int slots, int count) noexcept nogil:
    """Numbers instructions backwards; a pseudo instruction counts with the one behind it."""
    cdef int k
    cdef int left = count
    for k in range(slots):
        insn[k].left = <u8>left
        if insn[k].fn != do_set_temp:
            left -= 1


cdef Block* make_block(Cpu* c, u64 page, int start, const u8* host) noexcept nogil:
    """Decodes a block at page + start; NULL where not even one instruction lies wholly in the page."""
    cdef Block* b
    cdef Insn* insn
    cdef Decoded d
    cdef int at = start, n = 0, slots = 0, used, length
    cdef bint linkable = c.mode & MODE_CODE == MODE_64 or (c.mode & MODE_FLAT_CS and c.mode & MODE_CODE == MODE_32)
    cdef Slot* slot
    cdef u64 index, first, last
    cdef Crew* w = c.crew
    cdef int k
    if w.arena_used + sizeof(Block) + (MAX_BLOCK + 4) * 2 * INSN > w.arena_size:
        flush_blocks(w)
    b = <Block*>(w.arena + w.arena_used)
    insn = <Insn*>(b + 1)
    while True:
        length = decode_one(host + at, 4096 - at, c.mode, c.features, &d)
        if length == DECODE_MORE:
            break
        if length == DECODE_BAD or length == DECODE_LONG:
            d.row = NULL
            d.length = length
        used = place(insn + slots, &d, c.mode, at - start, start, linkable)
        slots += used & 255
        n += 1
        if used & 256:
            if length > 0:
                at += length
            else:
                at += 1
            break
        at += length
        if n == MAX_BLOCK or at - start > LONGEST - 15 or at >= 4096:
            break
    if n == 0:
        return NULL
    set_left(insn, slots, n)
    if not used & 256 or length == DECODE_MORE:
        memset(insn + slots, 0, 2 * sizeof(Insn))
        insn[slots].fn = do_chain
        insn[slots].off = <u8>(at - start)
        if linkable and at < 4096:
            insn[slots].flags = I_LINK_FALL
        slots += 2
    check(0 < n <= MAX_BLOCK and slots <= (MAX_BLOCK + 4) * 2 and at <= 4096)
    b.page = page
    b.mode = c.mode
    b.n = n
    b.bytes = <u16>(at - start)
    b.start = <u16>start
    w.arena_used += sizeof(Block) + slots * INSN
    w.blocks_made += 1
    index = (page + start) >> 1 & (HASH - 1)
    b.chain = c.hash[index]
    c.hash[index] = b
    # --- the page holds code now: no store to it passes unseen
    slot = find_slot(c.space, page)
    if slot != NULL:
        index = page_index(slot, page)
        first = start >> 6
        last = (at - 1) >> 6
        if c.space.code_lines[index] == 0:
            for k in range(w.count):
                forget_writable(w.cpu[k], slot.host + (page - slot.base))
        c.space.code_lines[index] |= (((<u64>2 << (last - first)) - 1) << first)
    return b


cdef Block* find_block(Cpu* c) noexcept nogil:
    """The block at Cpu.rip. NULL with c.rc = RC_FAULT (fetch fault) or RC_SINGLE (it must be run by run_one)."""
    cdef u64 linear = c.rip + c.cs_base
    cdef u64 page, address
    cdef Block* b
    cdef VtabEntry* v
    cdef u8* host
    if c.mode & MODE_CODE != MODE_64:
        linear &= <u64>0xFFFFFFFF
        if c.rip > c.cs_limit:
            set_fault(c, GP, True, 0)
            return NULL
    if fetch_page(c, linear, &page):
        return NULL
    address = page | (linear & 0xFFF)
    b = c.hash[(address >> 1) & (HASH - 1)]
    while b != NULL:
        if b.page == page and b.start == (linear & 0xFFF) and b.mode == c.mode:
            break
        b = b.chain
    if b == NULL:
        host = ram_pointer(c.space, page)
        if host == NULL:
            c.rc = RC_SINGLE
            return NULL
        b = make_block(c, page, <int>(linear & 0xFFF), host)
        if b == NULL:
            c.rc = RC_SINGLE
            return NULL
    if c.rip + b.bytes - 1 > c.cs_limit:
        c.rc = RC_SINGLE
        return NULL
    v = &c.vtab[(linear ^ (linear >> 12)) & (VTAB_ENTRIES - 1)]
    v.linear = linear
    v.block = b
    return b


# --- running in scratch -----------------------------------------------------------------------------------------

cdef void put_stop(Insn* insn, int off) noexcept nogil:
    memset(insn, 0, sizeof(Insn))
    insn.fn = do_stop
    insn.off = <u8>off


cdef int run_prefix(Cpu* c, Block* b, u64 count) noexcept nogil:
    """Runs the first `count` (fewer than all) instructions of a block; the caller has them charged."""
    cdef Insn* insn = <Insn*>(b + 1)
    cdef int slots = 0
    cdef u64 n = 0
    while n < count:
        c.scratch[slots] = insn[slots]
        if insn[slots].fn != do_set_temp:
            n += 1
        slots += 1
    check(0 < slots <= 2 * MAX_BLOCK and 0 < count < b.n)
    set_left(c.scratch, slots, <int>count)
    put_stop(&c.scratch[slots], c.scratch[slots - 1].off + c.scratch[slots - 1].len)
    c.regs[RIP_SLOT] = c.rip
    return c.scratch[0].fn(c, c.scratch)


cdef int run_again_alone(Cpu* c) noexcept nogil:
    """Runs Cpu.at again, alone; the caller has it charged. RIP_SLOT still stands."""
    c.scratch[0] = c.at[0]
    c.scratch[0].left = 1
    if c.scratch[0].flags & (I_LINK_TAKEN | I_LINK_FALL):
        c.scratch[0].flags &= ~<u8>(I_LINK_TAKEN | I_LINK_FALL)
    put_stop(&c.scratch[1], c.at.off + c.at.len)
    c.single = 1
    c.singles += 1
    cdef int rc = c.scratch[0].fn(c, c.scratch)
    c.single = 0
    return rc


cdef int run_one(Cpu* c) noexcept nogil:
    """Decodes and runs one instruction at Cpu.rip, over a page end too; the caller has it charged."""
    cdef u8[16] data
    cdef Decoded d
    cdef u64 linear = c.rip + c.cs_base
    cdef int got, length, used, rc
    cdef u64 room
    c.regs[RIP_SLOT] = c.rip
    put_stop(&c.scratch[0], 0)
    c.scratch[0].left = 1
    c.at = &c.scratch[0]
    if c.mode & MODE_CODE != MODE_64:
        linear &= <u64>0xFFFFFFFF
        if c.rip > c.cs_limit:
            set_fault(c, GP, True, 0)
            return RC_FAULT
    room = c.cs_limit - c.rip
    room = 15 if room >= 15 else room + 1
    # byte by byte over the page end: only an instruction that really goes on there may fault there
    got = 4096 - <int>(linear & 0xFFF)
    if got > <int>room:
        got = <int>room
    if got > 15:
        got = 15
    got = fetch_bytes(c, linear, data, got)
    if got < 0:
        return RC_FAULT
    length = decode_one(data, got, c.mode, c.features, &d)
    if length == DECODE_MORE:
        if got == <int>room:
            set_fault(c, GP, True, 0)
            return RC_FAULT
        used = fetch_bytes(c, linear + got, data + got, <int>room - got)
        if used < 0:
            return RC_FAULT
        length = decode_one(data, got + used, c.mode, c.features, &d)
        if length == DECODE_MORE:
            set_fault(c, GP, True, 0)
            return RC_FAULT
    if length == DECODE_BAD or length == DECODE_LONG:
        d.row = NULL
        d.length = length
    used = place(c.scratch, &d, c.mode, 0, 0, False) & 255
    set_left(c.scratch, used, 1)
    put_stop(&c.scratch[used], length if length > 0 else 0)
    if d.row != NULL and not d.branch:
        put_stop(&c.scratch[used], length)
    c.single = 1
    c.singles += 1
    rc = c.scratch[0].fn(c, c.scratch)
    c.single = 0
    return rc


# --- forgetting -------------------------------------------------------------------------------------------------

cdef void invalidate_code(void* owner, u64 physical, u64 length) noexcept nogil:
    """Bytes of a page with code have changed: forgets every block that touches their 64-byte lines."""
    cdef Crew* w = <Crew*>owner
    cdef u64 page = physical & ~<u64>0xFFF
    cdef u64 low = physical & 0xFC0
    cdef u64 high = ((physical + length - 1) & 0xFFF) | 63
    cdef u64 start = low - 255 if low >= 255 else 0
    cdef Block** link
    cdef Block* b
    cdef Slot* slot
    if length == 0:
        return
    while start <= high:
        link = &w.hash[((page + start) >> 1) & (HASH - 1)]
        while link[0] != NULL:
            b = link[0]
            if b.page == page and b.start <= high and b.start + b.bytes > low:
                link[0] = b.chain
                b.n = NEVER_FITS
                b.mode = <u64>0xFFFFFFFF
            else:
                link = &b.chain
        start += 2 if start & 1 == 0 else 1
    slot = find_slot(w.space, page)
    if slot != NULL:
        w.space.code_lines[page_index(slot, page)] &= ~(((<u64>2 << ((high >> 6) - (low >> 6))) - 1) << (low >> 6))


cdef void flush_blocks(Crew* w) noexcept nogil:
    """Forgets every block and starts the arena anew."""
    cdef int k
    if w.arena_used == 0:                        # nothing to forget: the tables, still zeros, stay untouched
        return
    memset(w.hash, 0, HASH * sizeof(Block*))
    memset(w.vtab, 0, VTAB_ENTRIES * sizeof(VtabEntry))
    w.arena_used = 0
    for k in range(w.count):
        w.cpu[k].link_slot = NULL
