# What follows from CR0, CR4, EFER, RFLAGS and the segment registers: the mode word, contexts, bases and widths.
from emu.base.types cimport u32, u64
from emu.cpu.state cimport *


cdef inline bint flat(Segment* s, bint writable) noexcept nogil:
    """Base 0, limit 4 GiB, present, expand-up data (writable) or readable: nothing is left to check on an access."""
    cdef u32 kind = s.attributes & 15
    if s.base != 0 or s.limit != <u32>0xFFFFFFFF or s.attributes & 0x8000 or not s.attributes & 0x80:
        return False
    if kind & 8:
        return not writable and kind & 2 != 0
    return not kind & 4 and kind & 2 != 0


cdef void update_mode(Cpu* c) noexcept nogil:
    """To be called after any change of what the mode word is made from; cheap."""
    cdef u32 mode = c.cpl << MODE_CPL_SHIFT
    cdef bint slow
    cdef int k
    if c.efer & EFER_LMA:
        mode |= MODE_LONG
    if c.cr0 & CR0_PE:
        mode |= MODE_V86 if c.flags_system & F_VM else MODE_PROTECTED
    if mode & MODE_LONG and c.seg[CS].attributes & 0x200:
        mode |= MODE_64 | MODE_FLAT_DS | MODE_FLAT_ES | MODE_FLAT_SS | MODE_FLAT_CS
        c.cs_base = 0
        c.cs_limit = <u64>0xFFFFFFFFFFFFFFFF
        c.rip_mask = <u64>0xFFFFFFFFFFFFFFFF
        c.stack_kind = 0
    else:
        if c.seg[CS].attributes & 0x400:
            mode |= MODE_32
        if c.seg[SS].attributes & 0x400:
            mode |= MODE_STACK32
        if flat(&c.seg[DS], True):
            mode |= MODE_FLAT_DS
        if flat(&c.seg[ES], True):
            mode |= MODE_FLAT_ES
        if flat(&c.seg[SS], True):
            mode |= MODE_FLAT_SS
        if flat(&c.seg[CS], False):
            mode |= MODE_FLAT_CS
        c.cs_base = c.seg[CS].base
        c.cs_limit = c.seg[CS].limit
        c.rip_mask = <u64>0xFFFFFFFF
        c.stack_kind = 1 if mode & MODE_FLAT_SS and mode & MODE_STACK32 else 2
    for k in range(6):
        c.segment_base[k] = c.seg[k].base
    c.segment_base[FLAT] = 0
    c.mode = mode
    # --- whose rules data accesses are under
    slow = c.dr[7] & 0xFF != 0 or (c.cpl == 3 and c.cr0 & CR0_AM and c.flags_system & F_AC)
    if slow:
        c.ctx = CTX_SLOW
    elif c.cpl == 3:
        c.ctx = CTX_USER
    elif c.cr4 & CR4_SMAP and not c.flags_system & F_AC:
        c.ctx = CTX_KERNEL_SMAP
    else:
        c.ctx = CTX_KERNEL
    c.tlb_read = c.tlbs + <u64>c.ctx * 2 * TLB_ENTRIES
    c.tlb_write = c.tlb_read + TLB_ENTRIES
    c.itlb = c.itlbs + (ITLB_ENTRIES if c.cpl == 3 else 0)
