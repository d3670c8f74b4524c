# PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM (SDM 2B 4.1: the steps and the fields of the immediate are named there).
from emu.base.types cimport i32, i64, u8, u16, u32, u64
from emu.cpu.flags cimport load_arithmetic_flags
from emu.cpu.semantics.simd cimport Vec, xmm
from emu.cpu.state cimport F_CF, F_OF, F_SF, F_ZF, RAX, RCX, RDX, Cpu, Insn

cdef enum:                       # immediate, bits 3:2: how the elements are compared
    EQUAL_ANY = 0
    RANGES = 1
    EQUAL_EACH = 2
    EQUAL_ORDERED = 3


cdef inline int element(const Vec* v, int k, int form) noexcept nogil:
    """Element k; form is bits 1:0 of the immediate: unsigned bytes, unsigned words, signed bytes, signed words."""
    if form == 0:
        return v.ub[k]
    if form == 1:
        return v.uw[k]
    if form == 2:
        return v.sb[k]
    return v.sw[k]


cdef inline int explicit_length(u64 value, bint wide, int count) noexcept nogil:
    """Absolute value of EAX/EDX (RAX/RDX with REX.W), at most the number of elements."""
    cdef i64 length = <i64>value if wide else <i64><i32>value
    if length > count or length < -count:
        return count
    return <int>(length if length >= 0 else -length)


cdef inline int implicit_length(const Vec* v, int form, int count) noexcept nogil:
    cdef int k
    for k in range(count):
        if element(v, k, form) == 0:
            return k
    return count


cdef u32 aggregate(const Vec* a, int length_a, const Vec* b, int length_b, int control) noexcept nogil:
    """IntRes1: one bit for each element of b (the second operand)."""
    cdef int form = control & 3
    cdef int count = 8 if control & 1 else 16
    cdef int kind = (control >> 2) & 3
    cdef u32 result = 0
    cdef int j, k, x
    cdef bint hit
    for j in range(count):
        hit = False
        if kind == EQUAL_ANY:
            if j < length_b:
                for k in range(length_a):
                    hit |= element(a, k, form) == element(b, j, form)
        elif kind == RANGES:
            if j < length_b:
                x = element(b, j, form)
                for k in range(0, length_a - 1, 2):
                    hit |= element(a, k, form) <= x <= element(a, k + 1, form)
        elif kind == EQUAL_EACH:
            hit = element(a, j, form) == element(b, j, form) if j < length_a and j < length_b else j >= length_a and j >= length_b
        else:
            hit = True
            for k in range(length_a):
                if j + k >= count:
                    break
                if j + k >= length_b or element(a, k, form) != element(b, j + k, form):
                    hit = False
                    break
        result |= <u32>hit << j
    return result


cdef u32 compare_strings(Cpu* c, const Vec* a, int length_a, const Vec* b, int length_b, int control) noexcept nogil:
    """IntRes2, and the flags."""
    cdef int count = 8 if control & 1 else 16
    cdef u32 all_ones = (<u32>1 << count) - 1
    cdef u32 result = aggregate(a, length_a, b, length_b, control)
    if control & 0x10:
        result ^= ((<u32>1 << length_b) - 1) if control & 0x20 else all_ones
    load_arithmetic_flags(c, (F_CF if result else 0) | (F_ZF if length_b < count else 0) | (F_SF if length_a < count else 0)
                          | (F_OF if result & 1 else 0))
    return result


cdef void set_index(Cpu* c, u32 result, int control) noexcept nogil:
    """ECX = place of the lowest or highest one; the number of elements where there is none."""
    cdef int count = 8 if control & 1 else 16
    cdef int k, found = count
    for k in range(count):
        if (result >> k) & 1:
            found = k
            if not control & 0x40:
                break
    c.regs[RCX] = found


cdef void set_mask(Cpu* c, u32 result, int control) noexcept nogil:
    """XMM0 = the bits, or a mask of bytes or words."""
    cdef Vec* out = xmm(c, 0)
    cdef int k
    out.uq[0] = result
    out.uq[1] = 0
    if control & 0x40:
        if control & 1:
            for k in range(8):
                out.uw[k] = <u16>(0 - ((result >> k) & 1))
        else:
            for k in range(16):
                out.ub[k] = <u8>(0 - ((result >> k) & 1))


cdef u32 compare_explicit(Cpu* c, Insn* i, const Vec* s) noexcept nogil:
    cdef int control = <u8>i.imm
    cdef int count = 8 if control & 1 else 16
    cdef bint wide = i.opsize == 8
    return compare_strings(c, xmm(c, i.dst), explicit_length(c.regs[RAX], wide, count), s,
                           explicit_length(c.regs[RDX], wide, count), control)


cdef u32 compare_implicit(Cpu* c, Insn* i, const Vec* s) noexcept nogil:
    cdef int control = <u8>i.imm
    cdef int count = 8 if control & 1 else 16
    return compare_strings(c, xmm(c, i.dst), implicit_length(xmm(c, i.dst), control & 3, count), s,
                           implicit_length(s, control & 3, count), control)


cdef void pcmpestri(Cpu* c, Insn* i, const Vec* s) noexcept nogil:
    set_index(c, compare_explicit(c, i, s), <u8>i.imm)


cdef void pcmpestrm(Cpu* c, Insn* i, const Vec* s) noexcept nogil:
    set_mask(c, compare_explicit(c, i, s), <u8>i.imm)


cdef void pcmpistri(Cpu* c, Insn* i, const Vec* s) noexcept nogil:
    set_index(c, compare_implicit(c, i, s), <u8>i.imm)


cdef void pcmpistrm(Cpu* c, Insn* i, const Vec* s) noexcept nogil:
    set_mask(c, compare_implicit(c, i, s), <u8>i.imm)
