# Instructions that look at a descriptor without loading it: LAR, LSL, VERR, VERW (SDM 2A, 2B); ARPL.
#
# A selector that may not be used is no fault: ZF is cleared. Only a page fault of the descriptor table is one.
from emu.base.types cimport u8, u32, u64
from emu.cpu.access cimport commit, get, modify_operand, put, read_operand, read_system, reg, set_reg
from emu.cpu.flags cimport arithmetic_flags, load_arithmetic_flags
from emu.cpu.segment cimport *
from emu.cpu.state cimport *

cdef enum:                       # bit n: a system descriptor of type n counts
    LAR_LEGACY = 0x1A3E          # TSS, LDT, call gates, task gate
    LAR_LONG = 0x1A04
    LSL_LEGACY = 0x0A0E          # TSS, LDT
    LSL_LONG = 0x0A04
    FAILED = -1                  # a page fault


cdef inline void set_zf(Cpu* c, bint zf) noexcept nogil:
    load_arithmetic_flags(c, (arithmetic_flags(c) & ~<u64>F_ZF) | (F_ZF if zf else 0))


cdef int look_up(Cpu* c, u32 selector, u32 systems, Segment* out, u64* descriptor) noexcept nogil:
    """1 where the descriptor exists, is of a type that counts (`systems`: of the system types) and may be used at the
    present privilege; 0 where not; FAILED with a page fault set."""
    cdef u64 base
    cdef u32 limit
    cdef Segment* ldt = &c.seg[LDTR]
    if not selector & 0xFFFC:
        return 0
    base = ldt.base if selector & 4 else c.gdtr.base
    limit = ldt.limit if selector & 4 else c.gdtr.limit
    if selector & 4 and (ldt.attributes & A_NULL or not ldt.attributes & A_P):
        return 0
    if (selector | 7) > limit:
        return 0
    if read_system(c, base + (selector & 0xFFF8), 8, descriptor):
        return FAILED
    unpack(out, selector, descriptor[0])
    if not out.attributes & A_S:
        if not (systems >> (out.attributes & A_TYPE)) & 1:
            return 0
    elif out.attributes & (A_CODE | A_CONFORMING) == A_CODE | A_CONFORMING:
        return 1
    return c.cpl <= dpl_of(out) and (selector & 3) <= dpl_of(out)


cdef int load_rights(Cpu* c, Insn* i, u32 selector) noexcept nogil:
    cdef Segment segment
    cdef u64 descriptor
    cdef int found = look_up(c, selector, LAR_LONG if c.efer & EFER_LMA else LAR_LEGACY, &segment, &descriptor)
    if found == FAILED:
        return 1
    if found:
        set_reg(c, i.dst, (descriptor >> 32) & 0x00FFFF00, i.opsize)
    set_zf(c, found)
    return 0


cdef int load_limit(Cpu* c, Insn* i, u32 selector) noexcept nogil:
    cdef Segment segment
    cdef u64 descriptor
    cdef int found = look_up(c, selector, LSL_LONG if c.efer & EFER_LMA else LSL_LEGACY, &segment, &descriptor)
    if found == FAILED:
        return 1
    if found:
        set_reg(c, i.dst, segment.limit, i.opsize)
    set_zf(c, found)
    return 0


cdef int verify(Cpu* c, u32 selector, bint write) noexcept nogil:
    cdef Segment segment
    cdef u64 descriptor
    cdef int found = look_up(c, selector, 0, &segment, &descriptor)
    cdef bint code
    if found == FAILED:
        return 1
    if found:
        code = segment.attributes & A_CODE != 0
        if write:
            found = not code and segment.attributes & A_RW != 0
        else:
            found = not code or segment.attributes & A_RW != 0
    set_zf(c, found)
    return 0


cdef inline int memory_selector(Cpu* c, Insn* i, u32* selector) noexcept nogil:
    cdef u8* p = read_operand(c, i, 2)
    if p == NULL:
        return 1
    selector[0] = <u32>get(p, 2)
    return 0


cdef int lar_register(Cpu* c, Insn* i) noexcept nogil:
    return load_rights(c, i, <u32>reg(c, i.src, 2))


cdef int lar_memory(Cpu* c, Insn* i) noexcept nogil:
    cdef u32 selector
    return 1 if memory_selector(c, i, &selector) else load_rights(c, i, selector)


cdef int lsl_register(Cpu* c, Insn* i) noexcept nogil:
    return load_limit(c, i, <u32>reg(c, i.src, 2))


cdef int lsl_memory(Cpu* c, Insn* i) noexcept nogil:
    cdef u32 selector
    return 1 if memory_selector(c, i, &selector) else load_limit(c, i, selector)


cdef int verr_register(Cpu* c, Insn* i) noexcept nogil:
    return verify(c, <u32>reg(c, i.dst, 2), False)


cdef int verr_memory(Cpu* c, Insn* i) noexcept nogil:
    cdef u32 selector
    return 1 if memory_selector(c, i, &selector) else verify(c, selector, False)


cdef int verw_register(Cpu* c, Insn* i) noexcept nogil:
    return verify(c, <u32>reg(c, i.dst, 2), True)


cdef int verw_memory(Cpu* c, Insn* i) noexcept nogil:
    cdef u32 selector
    return 1 if memory_selector(c, i, &selector) else verify(c, selector, True)


cdef inline u64 adjust(u64 selector, u64 rpl) noexcept nogil:
    """The selector with an RPL of at least `rpl`."""
    return (selector & ~<u64>3) | rpl if (selector & 3) < rpl else selector


cdef int arpl_register(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 old = reg(c, i.dst, 2)
    cdef u64 new = adjust(old, reg(c, i.src, 2) & 3)
    set_reg(c, i.dst, new, 2)
    set_zf(c, new != old)                        # ZF tells whether it was raised
    return 0


cdef int arpl_memory(Cpu* c, Insn* i) noexcept nogil:
    """Its operand need be writable only where it changes: measured on processors of AMD (family 19H); test386 holds the
    80386 to the same. A row whose first operand is memory only has its register operand in dst."""
    cdef u8* p = read_operand(c, i, 2)
    cdef u64 old, new
    if p == NULL:
        return 1
    old = get(p, 2)
    new = adjust(old, reg(c, i.dst, 2) & 3)
    if new != old:
        p = modify_operand(c, i, 2)
        if p == NULL:
            return 1
        put(p, new, 2)
        commit(c, p)
    set_zf(c, new != old)
    return 0
