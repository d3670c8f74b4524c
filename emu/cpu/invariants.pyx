# What must hold in a CPU between two instructions, whatever the guest did: its caches against memory and against each other.
#
# For fuzzers and tests: slow, and of no use while a CPU runs.
from emu.base.types cimport u8, u32, u64
from emu.cpu.core cimport Core
from emu.cpu.decode cimport ROW_END, ROW_REP_END, Decoded, decode_one
from emu.cpu.mode cimport update_mode
from emu.cpu.state cimport *
from emu.memory.space cimport Slot, Space, find_slot, page_index

cdef enum:
    HASH = 65536


cdef Slot* slot_of_host(Space* space, u8* host) noexcept nogil:
    cdef int k
    for k in range(space.slots):
        if space.slot[k].host <= host < space.slot[k].host + space.slot[k].size:
            return &space.slot[k]
    return NULL


cdef bint is_block(Cpu* c, Block* b) noexcept nogil:
    """Whether a pointer is into the part of the arena that is in use, and what is there looks like a block."""
    cdef u8* arena = c.crew.arena
    if <u8*>b < arena or <u8*>b + sizeof(Block) >= arena + c.crew.arena_used or (<u64>b - <u64>arena) % sizeof(Insn):
        return False
    return b.n == NEVER_FITS or (0 < b.n <= MAX_BLOCK and b.start + b.bytes <= 4096)


cdef str check_links(Cpu* c, Block* b, Links* links):
    cdef Block* target
    cdef int k
    for k in range(2):
        target = links.fall if k else links.taken
        if target == NULL:
            continue
        if not is_block(c, target):
            return "is linked to no block"
        if target.n != NEVER_FITS and (target.mode != b.mode or target.page != b.page):
            return "is linked to a block of another mode or page"
    return ""


cdef str check_block(Cpu* c, Block* b):
    """A block against the bytes it was made from; "" where all is well."""
    cdef Slot* slot = find_slot(c.space, b.page)
    cdef Insn* insn = <Insn*>(b + 1)
    cdef Decoded d
    cdef int at = b.start, length = 0
    cdef u32 k
    cdef bint ends = True
    cdef u64 lines, first, last
    cdef u8* host
    if slot == NULL or b.page & 0xFFF:
        return "lies in no memory"
    first = b.start >> 6
    last = (b.start + b.bytes - 1) >> 6
    lines = ((<u64>2 << (last - first)) - 1) << first
    if c.space.code_lines[page_index(slot, b.page)] & lines != lines:
        return "lies in lines that are not marked as code"
    host = slot.host + (b.page - slot.base)
    for k in range(b.n):
        length = decode_one(host + at, 4096 - at, b.mode, c.features, &d)
        if length <= 0:
            if k + 1 != b.n or b.bytes != at + 1 - b.start:
                return f"instruction {k} is none any more"
            return ""
        if insn.len == 0:                        # the address of a RIP-relative operand is made first
            insn += 1
        if insn.len != length or insn.off != at - b.start or insn.fn != d.insn.fn or insn.opsize != d.insn.opsize:
            return f"instruction {k} is stale"
        if insn.left != b.n - k:
            return f"instruction {k} counts {insn.left}"
        at += length
        ends = d.row.attributes & ROW_END != 0 or (d.row.attributes & ROW_REP_END and d.insn.flags & (I_REP | I_REPNE))
        if k + 1 < b.n:
            if ends:
                return f"instruction {k} does not end it"
            insn += 1
    if b.bytes != at - b.start:
        return f"has {b.bytes} bytes"
    if not ends:                                 # then a pseudo instruction leads to the next block
        insn += 1
        if insn.len or insn.left:
            return "has no end"
    elif not d.branch:
        return ""
    return check_links(c, b, <Links*>(insn + 1))


def broken_invariants(Core core not None):
    """Checks everything; gives a list of sentences, empty where all holds."""
    cdef Cpu* c = core.c
    cdef u64 k, place, count, found = 0
    cdef int ctx, write
    cdef TlbEntry* e
    cdef VtabEntry* v
    cdef Slot* slot
    cdef Block* b
    cdef str text
    said = []
    if c.regs[ZERO_SLOT] or not c.flags_system & F_ONE or c.flags_system & F_ARITH or c.budget or c.single or c.cpl > 3:
        said.append(f"registers: zero {c.regs[ZERO_SLOT]:#x}, flags {c.flags_system:#x}, budget {c.budget}, single {c.single}, cpl {c.cpl}")
    before = (c.mode, c.ctx, c.cs_base, c.cs_limit, c.rip_mask, c.stack_kind, <u64>c.tlb_read, <u64>c.itlb)
    update_mode(c)
    after = (c.mode, c.ctx, c.cs_base, c.cs_limit, c.rip_mask, c.stack_kind, <u64>c.tlb_read, <u64>c.itlb)
    if before != after:
        said.append(f"mode {before} is not what the registers say: {after}")
    if c.rip & ~c.rip_mask:
        said.append(f"rip {c.rip:#x} is wider than its mode")
    # --- data TLBs: into RAM only; writable ones to pages that are dirty and hold no code
    for ctx in range(CTX_SLOW):
        for write in range(2):
            for k in range(TLB_ENTRIES):
                place = (<u64>ctx * 2 + write) * TLB_ENTRIES + k
                e = &c.tlbs[place]
                if (e.tag >> 12) & (TLB_ENTRIES - 1) != k:
                    continue
                slot = slot_of_host(c.space, e.host)
                if slot == NULL or e.tag & 0xFFF or (<u64>e.host - <u64>slot.host) & 0xFFF:
                    said.append(f"TLB {ctx}/{write}: {e.tag:#x} leads to no page")
                elif not c.tlb_used[ctx]:
                    said.append(f"TLB {ctx} has entries and says it has none")
                elif write:
                    place = page_index(slot, slot.base + (<u64>e.host - <u64>slot.host))
                    if slot.readonly or c.space.code_lines[place] or not c.space.dirty[place]:
                        said.append(f"TLB {ctx}: {e.tag:#x} may be written, yet is ROM, code or clean")
    # --- blocks
    if c.crew.arena_used > c.crew.arena_size:
        said.append(f"arena: {c.crew.arena_used} of {c.crew.arena_size} bytes")
    for k in range(HASH):
        b = c.hash[k]
        count = 0
        while b != NULL:
            count += 1
            if (not is_block(c, b) or b.n == NEVER_FITS or ((b.page + b.start) >> 1) & (HASH - 1) != k
                    or count > c.crew.arena_size // 64):
                said.append(f"hash {k:#x} holds something that is no block of it")
                break
            found += 1
            text = check_block(c, b)
            if text:
                said.append(f"block {b.page + b.start:#x}, mode {b.mode:#x}: {text}")
            b = b.chain
    for k in range(VTAB_ENTRIES):
        v = &c.vtab[k]
        if v.block != NULL and (not is_block(c, v.block) or (v.block.n != NEVER_FITS and v.block.start != v.linear & 0xFFF)):
            said.append(f"{v.linear:#x} leads to no block")
    return said
