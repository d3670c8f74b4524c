# Slow paths of memory accesses: page walk, filling the software TLB, page crossing, MMIO, segment checks, flushes.
from libc.string cimport memcpy, memset

from emu.base.bits cimport unlikely
from emu.base.check cimport check
from emu.base.types cimport u8, u32, u64
from emu.cpu.gen.features cimport FEATURE_PAGE1GB
from emu.cpu.mode cimport canonical
from emu.cpu.state cimport *
from emu.memory.space cimport (Slot, Space, find_slot, page_index, ram_pointer, space_read, space_write)

cdef enum:
    PTE_P = 1
    PTE_W = 2
    PTE_U = 4
    PTE_A = 32
    PTE_D = 64
    PTE_PS = 128
    PTE_G = 256
    ERROR_P = 1
    ERROR_W = 2
    ERROR_U = 4
    ERROR_RSVD = 8
    ERROR_I = 16
    ERROR_PK = 32

cdef u64 PTE_NX = <u64>1 << 63
cdef u64 FRAME = <u64>0x000FFFFFFFFFF000


cdef inline int page_fault(Cpu* c, u64 linear, u32 error) noexcept nogil:
    c.cr2 = linear
    c.page_faults += 1
    return set_fault(c, PF, True, error)


cdef inline u64 read_entry(Cpu* c, u64 address, int size) noexcept nogil:
    cdef u8* p = ram_pointer(c.space, address & c.space.a20_mask)
    if p != NULL:
        return (<u64*>p)[0] if size == 8 else (<u32*>p)[0]
    return space_read(c.space, address & c.space.a20_mask, size)


cdef inline void write_entry(Cpu* c, u64 address, int size, u64 value) noexcept nogil:
    space_write(c.space, address & c.space.a20_mask, size, value)


cdef int translate(Cpu* c, u64 linear, int access, int ctx, u64* physical, int* shift) noexcept nogil:
    """Walks the page tables (SDM 3A 4.3 to 4.7): 0 and the physical address and log2 of the page size, or 1 with #PF set.

    Sets accessed and dirty bits exactly when the translation succeeds. `ctx` is whose access it is (CTX_*)."""
    cdef u64[4] where
    cdef u64[4] entry
    cdef int level, levels, size, k, last
    cdef u64 table, index, reserved, combined, nx, frame_mask, key
    cdef bint user = ctx == CTX_USER
    cdef bint write = access == ACCESS_WRITE
    cdef bint execute = access == ACCESS_EXECUTE
    cdef bint pae = c.cr4 & CR4_PAE != 0
    cdef bint is_long = c.efer & EFER_LMA != 0
    cdef bint nxe = c.efer & EFER_NXE != 0
    cdef bint allowed
    cdef u32 error = (ERROR_W if write else 0) | (ERROR_U if user else 0)
    cdef u64 above = ~<u64>0 << c.physical_bits
    if not c.cr0 & CR0_PG:
        physical[0] = linear & <u64>0xFFFFFFFF if not is_long else linear
        shift[0] = 32
        return 0
    if execute and ((nxe and pae) or c.cr4 & CR4_SMEP):
        error |= ERROR_I
    nx = 0
    if not pae:
        size = 4
        levels = 2
        table = c.cr3 & <u64>0xFFFFF000
    elif not is_long:
        size = 8
        levels = 3
        table = 0
    else:
        size = 8
        levels = 4
        table = c.cr3 & FRAME
    combined = PTE_W | PTE_U
    last = -1
    level = levels - 1
    while level >= 0:
        k = levels - 1 - level
        if size == 4:
            index = (linear >> (12 + 10 * level)) & 0x3FF
            where[k] = table + index * 4
        else:
            index = (linear >> (12 + 9 * level)) & 0x1FF
            where[k] = table + index * 8
        if levels == 3 and level == 2:
            entry[k] = c.pdpte[(linear >> 30) & 3]       # loaded at MOV CR3, no permissions in it
            if not entry[k] & PTE_P:
                return page_fault(c, linear, error)
            table = entry[k] & FRAME
            level -= 1
            continue
        entry[k] = read_entry(c, where[k], size)
        if not entry[k] & PTE_P:
            return page_fault(c, linear, error)
        if size == 8:
            reserved = above & <u64>0x000FFFFFFFFFFFFF
            if not nxe:
                reserved |= PTE_NX
            if levels == 3:
                reserved |= <u64>0x7FF0000000000000      # bits 62:52 are reserved with PAE paging
            if level > 0 and entry[k] & PTE_PS:
                if level == 1:
                    reserved |= 0x1FE000
                elif level == 2 and (c.features[FEATURE_PAGE1GB >> 6] >> (FEATURE_PAGE1GB & 63)) & 1:
                    reserved |= 0x3FFFE000
                else:
                    reserved |= PTE_PS
            if entry[k] & reserved:
                return page_fault(c, linear, error | ERROR_P | ERROR_RSVD)
            nx |= entry[k] & PTE_NX
        elif level == 1 and entry[k] & PTE_PS and c.cr4 & CR4_PSE:
            # 4 MiB page: bits 20:13 give physical bits 39:32 where PSE-36 is there; bit 21 is reserved
            reserved = 0x200000
            if c.physical_bits < 40:
                reserved |= 0x1FE000 & ~((<u64>1 << (c.physical_bits - 19)) - 1)
            if entry[k] & reserved:
                return page_fault(c, linear, error | ERROR_P | ERROR_RSVD)
        combined &= entry[k]
        last = k
        if level == 0 or (entry[k] & PTE_PS and (size == 8 or c.cr4 & CR4_PSE)):
            break
        table = entry[k] & (FRAME if size == 8 else <u64>0xFFFFF000)
        level -= 1
    # --- rights
    error |= ERROR_P
    allowed = True
    if user:
        allowed = combined & PTE_U != 0 and (not write or combined & PTE_W)
    else:
        if write and not combined & PTE_W and c.cr0 & CR0_WP:
            allowed = False
        if combined & PTE_U:
            if execute:
                if c.cr4 & CR4_SMEP:
                    allowed = False
            elif ctx == CTX_KERNEL_SMAP:
                allowed = False
    if execute and nx:
        allowed = False
    if not allowed:
        return page_fault(c, linear, error)
    if c.cr4 & CR4_PKE and is_long and combined & PTE_U and not execute:
        key = (entry[last] >> 59) & 15
        if (c.pkru >> (2 * key)) & 1 or (write and (c.pkru >> (2 * key + 1)) & 1 and (user or c.cr0 & CR0_WP)):
            return page_fault(c, linear, error | ERROR_PK)
    # --- accessed and dirty bits
    for k in range(last + 1):
        if levels == 3 and k == 0:
            continue
        if not entry[k] & PTE_A or (k == last and write and not entry[k] & PTE_D):
            entry[k] |= PTE_A | (PTE_D if k == last and write else 0)
            write_entry(c, where[k], size, entry[k])
    # --- the frame
    if size == 8:
        shift[0] = 12 + 9 * level
        frame_mask = (<u64>1 << shift[0]) - 1
        physical[0] = (entry[last] & FRAME & ~frame_mask) | (linear & frame_mask)
    elif level == 1:
        shift[0] = 22
        physical[0] = (entry[last] & <u64>0xFFC00000) | ((entry[last] & 0x1FE000) << 19) | (linear & 0x3FFFFF)
    else:
        shift[0] = 12
        physical[0] = (entry[last] & <u64>0xFFFFF000) | (linear & 0xFFF)
    return 0


cdef inline int check_outside(Cpu* c, u64 linear, int size) noexcept nogil:
    """Canonical addresses in 64-bit mode; else no flat segment goes on at 0 after 4 GiB."""
    if c.mode & MODE_CODE == MODE_64:
        if not (canonical(linear) and canonical(linear + size - 1)):
            c.outside = OUTSIDE_FAULT
            return set_fault(c, GP, True, 0)
    elif unlikely(linear + size > <u64>1 << 32):
        if c.outside != OUTSIDE_WRAPS:
            c.outside = OUTSIDE_FAULT
            return set_fault(c, GP, True, 0)
        c.outside = OUTSIDE_NOT
    return 0


cdef void stack_fault(Cpu* c) noexcept nogil:
    if c.outside == OUTSIDE_FAULT and c.rc == RC_FAULT:
        c.fault_vector = SS_FAULT
    c.outside = OUTSIDE_NOT


cdef int probe_push(Cpu* c, int size) noexcept nogil:
    if write_at(c, stack_segment(c), (c.regs[RSP] - <u64>size) & stack_mask(c), size) != NULL:
        return 0
    stack_fault(c)
    return 1


cdef inline void fill(Cpu* c, int ctx, int write, u64 linear, u8* host, int shift) noexcept nogil:
    cdef u64 place = (<u64>ctx * 2 + write) * TLB_ENTRIES + ((linear >> 12) & (TLB_ENTRIES - 1))
    if ctx == CTX_SLOW:
        return
    check(0 <= ctx < CTX_SLOW and 12 <= shift <= 64)
    c.tlbs[place].tag = linear & ~<u64>0xFFF
    c.tlbs[place].host = <u8*>(<u64>host & ~<u64>0xFFF)
    c.tlb_shift[place] = <u8>shift
    c.tlb_used[ctx] = 1
    if shift > 12:
        c.large_seen[(linear >> 21) & 0xFF] = 1
        if shift >= 30:
            c.gigabyte_seen = True


cdef inline u64 cut_linear(Cpu* c, u64 linear) noexcept nogil:
    return linear if c.mode & MODE_CODE == MODE_64 else linear & <u64>0xFFFFFFFF


cdef void note_data_breakpoints(Cpu* c, u64 linear, int size, bint write) noexcept nogil:
    """DR7 R/W and LEN against this access; the trap comes after the instruction (SDM 3B 18.2.4)."""
    cdef int k, kind
    cdef u64 length, start
    for k in range(4):
        if not c.dr[7] & (<u64>3 << (2 * k)):
            continue
        kind = <int>(c.dr[7] >> (16 + 4 * k)) & 3
        if kind == 0 or kind == 2 or (kind == 1 and not write):
            continue
        length = (c.dr[7] >> (18 + 4 * k)) & 3
        length = 8 if length == 2 else length + 1
        start = c.dr[k] & ~(length - 1)
        if linear < start + length and start < linear + size:
            c.debug_trap |= 1 << k


cdef inline int slow_checks(Cpu* c, u64 linear, int size, bint write) noexcept nogil:
    """What makes a context never be cached: alignment checks and data breakpoints."""
    if c.cpl == 3 and c.cr0 & CR0_AM and c.flags_system & F_AC and size & (size - 1) == 0 and linear & (size - 1):
        return set_fault(c, AC, True, 0)
    if c.dr[7] & 0xFF:
        note_data_breakpoints(c, linear, size, write)
    return 0


cdef inline int real_ctx(Cpu* c) noexcept nogil:
    """The context whose rules hold while CTX_SLOW is in force."""
    if c.ctx != CTX_SLOW:
        return c.ctx
    if c.cpl == 3:
        return CTX_USER
    if c.cr4 & CR4_SMAP and not c.flags_system & F_AC:
        return CTX_KERNEL_SMAP
    return CTX_KERNEL


cdef void load_bytes(Cpu* c, u64 physical, u8* data, int size) noexcept nogil:
    """Reads bytes that lie in one page, from RAM or from a device in one access where the size is a power of two."""
    cdef u8* p = ram_pointer(c.space, physical)
    cdef u64 value
    cdef int k
    check(0 < size <= 64 and (physical & 0xFFF) + <u64>size <= 4096)
    if p != NULL:
        memcpy(data, p, size)
    elif size == 1 or size == 2 or size == 4 or size == 8:
        value = space_read(c.space, physical, size)
        memcpy(data, &value, size)
    elif size % 8 == 0:
        for k in range(0, size, 8):
            value = space_read(c.space, physical + k, 8)
            memcpy(data + k, &value, 8)
    else:
        for k in range(size):
            data[k] = <u8>space_read(c.space, physical + k, 1)


cdef void store_bytes(Cpu* c, u64 physical, const u8* data, int size) noexcept nogil:
    cdef u64 value = 0
    cdef int k
    check(0 < size <= 64 and (physical & 0xFFF) + <u64>size <= 4096)
    if size == 1 or size == 2 or size == 4 or size == 8:
        memcpy(&value, data, size)
        space_write(c.space, physical, size, value)
    elif size % 8 == 0:
        for k in range(0, size, 8):
            memcpy(&value, data + k, 8)
            space_write(c.space, physical + k, 8, value)
    else:
        for k in range(size):
            space_write(c.space, physical + k, 1, data[k])


cdef u8* read_slow(Cpu* c, u64 linear, int size) noexcept nogil:
    cdef u64 physical, second
    cdef int shift, first
    cdef int ctx = real_ctx(c)
    cdef u8* host
    linear = cut_linear(c, linear)
    c.tlb_misses += 1
    if check_outside(c, linear, size):
        return NULL
    if c.ctx == CTX_SLOW and slow_checks(c, linear, size, False):
        return NULL
    if translate(c, linear, ACCESS_READ, ctx, &physical, &shift):
        return NULL
    physical &= c.space.a20_mask
    host = ram_pointer(c.space, physical)
    if (linear & 0xFFF) + size <= 4096:
        if host != NULL:
            fill(c, c.ctx, 0, linear, host, shift)
            return host
        if not c.single:
            run_alone(c)
            return NULL
        load_bytes(c, physical, c.bounce, size)
        return c.bounce
    first = 4096 - <int>(linear & 0xFFF)
    if translate(c, cut_linear(c, linear + first), ACCESS_READ, ctx, &second, &shift):
        return NULL
    second &= c.space.a20_mask
    if not c.single and (host == NULL or ram_pointer(c.space, second) == NULL):
        run_alone(c)
        return NULL
    load_bytes(c, physical, c.bounce, first)
    load_bytes(c, second, c.bounce + first, size - first)
    return c.bounce


cdef inline bint hits_code(Space* space, Slot* slot, u64 physical, int size) noexcept nogil:
    """Whether bytes within one page touch a 64-byte line that holds decoded code."""
    cdef u64 lines = space.code_lines[page_index(slot, physical)]
    cdef u64 low, high
    if lines == 0:
        return False
    low = (physical >> 6) & 63
    high = ((physical + size - 1) >> 6) & 63
    return (lines >> low) & ((<u64>2 << (high - low)) - 1) != 0


cdef u8* store_slow(Cpu* c, u64 linear, int size, bint load) noexcept nogil:
    """Translates a store; a host pointer, or bounce with the places noted, or NULL. `load`: bounce holds the old bytes."""
    cdef u64 physical, second
    cdef int shift, first
    cdef int ctx = real_ctx(c)
    cdef Slot* slot
    cdef Slot* other
    cdef u64 page
    cdef u8* host
    linear = cut_linear(c, linear)
    c.tlb_misses += 1
    if check_outside(c, linear, size):
        return NULL
    if c.ctx == CTX_SLOW and slow_checks(c, linear, size, True):
        return NULL
    if translate(c, linear, ACCESS_WRITE, ctx, &physical, &shift):
        return NULL
    physical &= c.space.a20_mask
    slot = find_slot(c.space, physical)
    if (linear & 0xFFF) + size <= 4096:
        if slot != NULL and not slot.readonly:
            page = page_index(slot, physical)
            host = slot.host + (physical - slot.base)
            if c.space.code_lines[page] == 0:
                c.space.dirty[page] = 1
                fill(c, c.ctx, 1, linear, host, shift)
                return host
            if not hits_code(c.space, slot, physical, size):
                c.space.dirty[page] = 1
                return host
        if not c.single:
            run_alone(c)
            return NULL
        c.bounce_size = size
        c.bounce_pages = 1
        c.bounce_physical[0] = physical
        if load:
            load_bytes(c, physical, c.bounce, size)
        return c.bounce
    first = 4096 - <int>(linear & 0xFFF)
    if translate(c, cut_linear(c, linear + first), ACCESS_WRITE, ctx, &second, &shift):
        return NULL
    second &= c.space.a20_mask
    other = find_slot(c.space, second)
    if not c.single and (slot == NULL or other == NULL or hits_code(c.space, slot, physical, first)
                         or hits_code(c.space, other, second, size - first)):
        run_alone(c)
        return NULL
    c.bounce_size = size
    c.bounce_pages = 2
    c.bounce_linear = first
    c.bounce_physical[0] = physical
    c.bounce_physical[1] = second
    if load:
        load_bytes(c, physical, c.bounce, first)
        load_bytes(c, second, c.bounce + first, size - first)
    return c.bounce


cdef u8* write_slow(Cpu* c, u64 linear, int size) noexcept nogil:
    return store_slow(c, linear, size, False)


cdef u8* modify_slow(Cpu* c, u64 linear, int size) noexcept nogil:
    return store_slow(c, linear, size, True)


cdef void commit_slow(Cpu* c) noexcept nogil:
    cdef int first
    if c.bounce_pages == 1:
        store_bytes(c, c.bounce_physical[0], c.bounce, c.bounce_size)
    else:
        first = <int>c.bounce_linear
        check(0 < first < c.bounce_size <= 64)
        store_bytes(c, c.bounce_physical[0], c.bounce, first)
        store_bytes(c, c.bounce_physical[1], c.bounce + first, c.bounce_size - first)


# --- segments ----------------------------------------------------------------------------------------------------

cdef int check_segment(Cpu* c, int segment, u64 offset, int size, bint write, u64* linear) noexcept nogil:
    """Limit and type of a segment that is not flat (SDM 3A 5.3, 5.5): #GP(0), #SS(0) for SS."""
    cdef Segment* s = &c.seg[segment]
    cdef u32 kind = s.attributes & 15
    cdef u64 last = offset + size - 1
    cdef bint bad
    cdef u64 top
    if c.mode & MODE_CODE == MODE_64:               # FS and GS: AMD's processors want the offset canonical too, and no way around
        linear[0] = offset + s.base
        if not canonical(offset) or linear[0] + size - 1 < linear[0]:
            return set_fault(c, GP, True, 0)
        return 0
    if c.mode & MODE_PROTECTED:
        bad = s.attributes & 0x8000 or not s.attributes & 0x80
        if kind & 8:                                    # code: never written, read only where readable
            bad = bad or write or not kind & 2
        elif write:
            bad = bad or not kind & 2
        if bad:
            return set_fault(c, SS_FAULT if segment == SS else GP, True, 0)
    if not kind & 8 and kind & 4:                       # expand-down: limit + 1 .. top
        top = <u64>0xFFFFFFFF if s.attributes & 0x400 else 0xFFFF
        bad = offset <= s.limit or last > top
    else:
        bad = last > s.limit
    if bad:
        return set_fault(c, SS_FAULT if segment == SS else GP, True, 0)
    linear[0] = (s.base + offset) & <u64>0xFFFFFFFF
    c.outside = OUTSIDE_WRAPS if linear[0] + size > <u64>1 << 32 else OUTSIDE_NOT
    return 0


# --- system structures -------------------------------------------------------------------------------------------

cdef inline int system_ctx(Cpu* c) noexcept nogil:
    """Implicit supervisor accesses: SMAP binds them whatever AC says (SDM 3A 4.6.1)."""
    return CTX_KERNEL_SMAP if c.cr4 & CR4_SMAP else CTX_KERNEL


cdef int find_places(Cpu* c, u64 linear, int size, int access, int ctx, u64* places, int* first) noexcept nogil:
    """Physical places of up to 8 bytes under the rules of `ctx`: 0, or 1 with the fault set."""
    cdef int shift
    if not c.efer & EFER_LMA:
        linear &= <u64>0xFFFFFFFF
    elif not (canonical(linear) and canonical(linear + size - 1)):
        return set_fault(c, GP, True, 0)
    first[0] = 4096 - <int>(linear & 0xFFF)
    if first[0] > size:
        first[0] = size
    if translate(c, linear, access, ctx, &places[0], &shift):
        return 1
    places[0] &= c.space.a20_mask
    if first[0] < size:
        linear += first[0]
        if not c.efer & EFER_LMA:
            linear &= <u64>0xFFFFFFFF
        if translate(c, linear, access, ctx, &places[1], &shift):
            return 1
        places[1] &= c.space.a20_mask
    return 0


cdef int read_as(Cpu* c, u64 linear, int size, int ctx, u64* value) noexcept nogil:
    cdef u64[2] places
    cdef int first
    cdef u64 result = 0
    if find_places(c, linear, size, ACCESS_READ, ctx, places, &first):
        return 1
    load_bytes(c, places[0], <u8*>&result, first)
    if first < size:
        load_bytes(c, places[1], <u8*>&result + first, size - first)
    value[0] = result
    return 0


cdef int write_as(Cpu* c, u64 linear, int size, int ctx, u64 value) noexcept nogil:
    cdef u64[2] places
    cdef int first
    if find_places(c, linear, size, ACCESS_WRITE, ctx, places, &first):
        return 1
    store_bytes(c, places[0], <u8*>&value, first)
    if first < size:
        store_bytes(c, places[1], <u8*>&value + first, size - first)
    return 0


cdef int probe_as(Cpu* c, u64 linear, int size, int access, int ctx) noexcept nogil:
    cdef u64[2] places
    cdef int first
    return find_places(c, linear, size, access, ctx, places, &first)


cdef int read_system(Cpu* c, u64 linear, int size, u64* value) noexcept nogil:
    return read_as(c, linear, size, system_ctx(c), value)


cdef int write_system(Cpu* c, u64 linear, int size, u64 value) noexcept nogil:
    return write_as(c, linear, size, system_ctx(c), value)


cdef int stack_ctx(Cpu* c, u32 cpl) noexcept nogil:
    """The context of pushes and pops at privilege `cpl`."""
    if cpl == 3:
        return CTX_USER
    return CTX_KERNEL_SMAP if c.cr4 & CR4_SMAP and not c.flags_system & F_AC else CTX_KERNEL


# --- instruction fetch -------------------------------------------------------------------------------------------

cdef int fetch_page(Cpu* c, u64 linear, u64* page) noexcept nogil:
    cdef ItlbEntry* e = &c.itlb[(linear >> 12) & (ITLB_ENTRIES - 1)]
    cdef u64 physical
    cdef int shift
    if e.tag == linear & ~<u64>0xFFF:
        page[0] = e.page
        return 0
    if c.mode & MODE_CODE == MODE_64 and not canonical(linear):
        return set_fault(c, GP, True, 0)
    if translate(c, linear, ACCESS_EXECUTE, CTX_USER if c.cpl == 3 else CTX_KERNEL, &physical, &shift):
        return 1
    page[0] = physical & c.space.a20_mask & ~<u64>0xFFF
    e.tag = linear & ~<u64>0xFFF
    e.page = page[0]
    if shift > 12:
        c.large_seen[(linear >> 21) & 0xFF] = 1
        if shift >= 30:
            c.gigabyte_seen = True
    return 0


cdef int fetch_bytes(Cpu* c, u64 linear, u8* data, int length) noexcept nogil:
    """Up to `length` bytes at `linear`, over a page end; -1 with the fault set where even the first cannot be had."""
    cdef u64 page
    cdef int got = 0, n, k
    cdef u8* p
    while got < length:
        linear = cut_linear(c, linear)
        if fetch_page(c, linear, &page):
            return got if got else -1
        n = 4096 - <int>(linear & 0xFFF)
        if n > length - got:
            n = length - got
        p = ram_pointer(c.space, page + (linear & 0xFFF))
        for k in range(n):
            data[got + k] = p[k] if p != NULL else <u8>space_read(c.space, page + (linear & 0xFFF) + k, 1)
        got += n
        linear += n
    return got


# --- flushes -----------------------------------------------------------------------------------------------------

cdef inline u64 no_tag(u64 index) noexcept nogil:
    """A tag that no address with this index has."""
    return (index ^ 1) << 12


cdef void flush_tlb(Cpu* c, bint global_too) noexcept nogil:
    """Drops all translations. Global ones are dropped too: keeping them is allowed, never required (SDM 3A 4.10.4)."""
    cdef int ctx
    cdef u64 k
    cdef TlbEntry* e
    c.flushes += 1
    for ctx in range(CTX_SLOW):
        if c.tlb_used[ctx]:
            e = c.tlbs + <u64>ctx * 2 * TLB_ENTRIES
            for k in range(TLB_ENTRIES):
                e[k].tag = no_tag(k)
                e[k + TLB_ENTRIES].tag = no_tag(k)
            c.tlb_used[ctx] = 0
    for k in range(ITLB_ENTRIES):
        c.itlbs[k].tag = no_tag(k)
        c.itlbs[k + ITLB_ENTRIES].tag = no_tag(k)
    memset(c.large_seen, 0, sizeof(c.large_seen))
    c.gigabyte_seen = False


cdef void flush_page(Cpu* c, u64 linear) noexcept nogil:
    """INVLPG: all cached parts of the page that holds `linear`, whatever its size."""
    cdef u64 index = (linear >> 12) & (TLB_ENTRIES - 1)
    cdef u64 k
    cdef int part
    if c.gigabyte_seen or c.large_seen[(linear >> 21) & 0xFF] or c.large_seen[((linear >> 21) & 0xFF) ^ 1]:
        flush_tlb(c, True)
        return
    for part in range(2 * CTX_SLOW):
        c.tlbs[part * TLB_ENTRIES + index].tag = no_tag(index)
    index &= ITLB_ENTRIES - 1
    for k in range(2):
        c.itlbs[k * ITLB_ENTRIES + index].tag = no_tag(index)


cdef void forget_writable(Cpu* c, u8* host_page) noexcept nogil:
    cdef int ctx
    cdef u64 k
    cdef TlbEntry* e
    for ctx in range(CTX_SLOW):
        if c.tlb_used[ctx]:
            e = c.tlbs + (<u64>ctx * 2 + 1) * TLB_ENTRIES
            for k in range(TLB_ENTRIES):
                if e[k].host == host_page:
                    e[k].tag = no_tag(k)
