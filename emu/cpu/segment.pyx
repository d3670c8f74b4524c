# Descriptors and segment registers: reading, checking, loading; I/O permission.
from emu.base.types cimport u16, u32, u64
from emu.cpu.access cimport read_system, set_fault, write_system
from emu.cpu.mode cimport update_mode
from emu.cpu.state cimport *


cdef int read_descriptor(Cpu* c, u32 selector, u32 vector, u32 ext, u64* descriptor) noexcept nogil:
    """The 8 bytes that `selector` names; outside of its table: `vector` with the selector as error code."""
    cdef u64 base
    cdef u32 limit
    if selector & 4:
        if c.seg[LDTR].attributes & A_NULL or not c.seg[LDTR].attributes & A_P:
            return set_fault(c, vector, True, (selector & 0xFFFC) | ext)
        base = c.seg[LDTR].base
        limit = c.seg[LDTR].limit
    else:
        base = c.gdtr.base
        limit = c.gdtr.limit
    if (selector | 7) > limit:
        return set_fault(c, vector, True, (selector & 0xFFFC) | ext)
    return read_system(c, base + (selector & 0xFFF8), 8, descriptor)


cdef void unpack(Segment* s, u32 selector, u64 descriptor) noexcept nogil:
    """The hidden part of a segment register from its descriptor (SDM 3A figure 3-8)."""
    s.selector = <u16>selector
    s.base = ((descriptor >> 16) & 0xFFFFFF) | ((descriptor >> 56) << 24)
    s.limit = <u32>((descriptor & 0xFFFF) | ((descriptor >> 32) & 0xF0000))
    s.attributes = <u16>(((descriptor >> 40) & 0xFF) | (((descriptor >> 52) & 0xF) << 8))
    if s.attributes & A_G:
        s.limit = (s.limit << 12) | 0xFFF


cdef int mark_accessed(Cpu* c, u32 selector, u64 descriptor) noexcept nogil:
    """Sets the accessed bit of a code or data descriptor in its table."""
    cdef u64 base = c.seg[LDTR].base if selector & 4 else c.gdtr.base
    if descriptor & (<u64>1 << 40):
        return 0
    return write_system(c, base + (selector & 0xFFF8) + 5, 1, ((descriptor >> 40) & 0xFF) | 1)


cdef void make_null(Segment* s, u32 selector) noexcept nogil:
    s.selector = <u16>selector
    s.base = 0
    s.limit = 0
    s.attributes = A_NULL


cdef void load_real(Cpu* c, int number, u32 selector) noexcept nogil:
    """Real and virtual-8086 mode: base = selector * 16; V86 sets limit and rights too (SDM 3B 20.2.1)."""
    cdef Segment* s = &c.seg[number]
    s.selector = <u16>selector
    s.base = (selector & 0xFFFF) << 4
    if c.flags_system & F_VM:
        s.limit = 0xFFFF
        s.attributes = 0xF3
    elif number == CS:
        s.attributes = (s.attributes & ~<u32>(A_NULL)) | A_P | A_S
    else:
        s.attributes = (s.attributes & ~<u32>(A_NULL | A_CODE | A_EXPAND_DOWN)) | A_P | A_S | A_RW


cdef int load_data(Cpu* c, int number, u32 selector, u32 cpl, Segment* out) noexcept nogil:
    """The checks of loading a data segment register in protected mode (SDM 2 MOV); the hidden part goes to `out`."""
    cdef u64 descriptor
    cdef u32 dpl
    if not selector & 0xFFFC:
        if number == SS and (c.mode & MODE_CODE != MODE_64 or cpl == 3 or (selector & 3) != cpl):
            return set_fault(c, GP, True, 0)
        make_null(out, selector)
        if number == SS:
            out.attributes = <u16>(A_NULL | (cpl << 5))
        return 0
    if read_descriptor(c, selector, GP, 0, &descriptor):
        return 1
    unpack(out, selector, descriptor)
    dpl = dpl_of(out)
    if number == SS:
        if (selector & 3) != cpl or dpl != cpl or out.attributes & (A_S | A_CODE | A_RW) != A_S | A_RW:
            return set_fault(c, GP, True, selector & 0xFFFC)
        if not out.attributes & A_P:
            return set_fault(c, SS_FAULT, True, selector & 0xFFFC)
    else:
        if not out.attributes & A_S or out.attributes & (A_CODE | A_RW) == A_CODE:
            return set_fault(c, GP, True, selector & 0xFFFC)
        if out.attributes & (A_CODE | A_CONFORMING) != A_CODE | A_CONFORMING and ((selector & 3) > dpl or cpl > dpl):
            return set_fault(c, GP, True, selector & 0xFFFC)
        if not out.attributes & A_P:
            return set_fault(c, NP, True, selector & 0xFFFC)
    if mark_accessed(c, selector, descriptor):
        return 1
    out.attributes |= 1
    return 0


cdef int load_segment(Cpu* c, int number, u32 selector) noexcept nogil:
    """MOV/POP/LxS to a segment register other than CS: 0, or 1 with the fault set."""
    cdef Segment loaded
    selector &= 0xFFFF
    if not c.mode & MODE_PROTECTED:
        load_real(c, number, selector)
    else:
        if load_data(c, number, selector, c.cpl, &loaded):
            return 1
        c.seg[number] = loaded
    update_mode(c)
    return 0


cdef void drop_outer_segments(Cpu* c) noexcept nogil:
    """After a return to less privilege: data segments it may not use become null (SDM 2 RET, IRET). The bases of FS and GS
    stay, which 64-bit code goes on to use: kvm-unit-tests rely on it on the processors of both makers."""
    cdef int k
    cdef u64 base
    cdef Segment* s
    for k in range(6):
        if k == CS or k == SS:
            continue
        s = &c.seg[k]
        if s.attributes & A_NULL:
            continue
        if s.attributes & (A_CODE | A_CONFORMING) != A_CODE | A_CONFORMING and dpl_of(s) < c.cpl:
            base = s.base
            make_null(s, 0)
            s.base = base


cdef int io_allowed(Cpu* c, u32 port, int size) noexcept nogil:
    """CPL against IOPL, then the I/O permission map of the TSS (SDM 1 19.5.2): 0, or 1 with #GP(0)."""
    cdef u64 offset, bits
    cdef u32 kind
    if not c.cr0 & CR0_PE:
        return 0
    if not c.flags_system & F_VM and c.cpl <= (c.flags_system >> 12) & 3:
        return 0
    kind = c.seg[TR].attributes & 15
    if c.seg[TR].attributes & A_NULL or (kind != 9 and kind != 11) or c.seg[TR].limit < 103:
        return set_fault(c, GP, True, 0)
    if read_system(c, c.seg[TR].base + 102, 2, &offset):
        return 1
    offset += port >> 3
    if offset + 1 > c.seg[TR].limit:
        return set_fault(c, GP, True, 0)
    if read_system(c, c.seg[TR].base + offset, 2, &bits):
        return 1
    if (bits >> (port & 7)) & ((1 << size) - 1):
        return set_fault(c, GP, True, 0)
    return 0
