# Arithmetic flags, kept lazily: the result and the carries into and out of its sign bit (docs/adr/0003).
#
#   ZF = flag_result == 0             SF = flag_result < 0, flipped by carries bit 2
#   PF = parity of its low byte, flipped by carries bit 3
#   CF = carries bit 1                OF = carries bit 1 xor bit 0          AF = flag_adjust bit 4
#
# The two flip bits are there only for flags that were loaded (POPF, IRET, SAHF), where ZF, SF and PF need not agree.
from emu.base.bits cimport parity8, sign_extend
from emu.base.types cimport i64, u32, u64
from emu.cpu.state cimport F_AF, F_ARITH, F_CF, F_OF, F_PF, F_SF, F_ZF, Cpu


cdef inline bint flag_cf(Cpu* c) noexcept nogil:
    return (c.flag_carries >> 1) & 1


cdef inline bint flag_of(Cpu* c) noexcept nogil:
    return (c.flag_carries ^ (c.flag_carries >> 1)) & 1


cdef inline bint flag_zf(Cpu* c) noexcept nogil:
    return c.flag_result == 0


cdef inline bint flag_sf(Cpu* c) noexcept nogil:
    return ((<u64>c.flag_result >> 63) ^ (c.flag_carries >> 2)) & 1


cdef inline bint flag_pf(Cpu* c) noexcept nogil:
    return parity8(<u64>c.flag_result) ^ ((c.flag_carries >> 3) & 1)


cdef inline bint flag_af(Cpu* c) noexcept nogil:
    return (c.flag_adjust >> 4) & 1


cdef inline bint condition(Cpu* c, int code) noexcept nogil:
    """The condition with the number `code` (low four bits of Jcc's opcode); `code` is a constant where it is hot."""
    cdef bint value
    cdef int pair = code >> 1
    if pair == 0:
        value = flag_of(c)
    elif pair == 1:
        value = flag_cf(c)
    elif pair == 2:
        value = flag_zf(c)
    elif pair == 3:
        value = flag_cf(c) | flag_zf(c)
    elif pair == 4:
        value = flag_sf(c)
    elif pair == 5:
        value = flag_pf(c)
    elif pair == 6:
        value = flag_sf(c) ^ flag_of(c)
    else:
        value = flag_zf(c) | (flag_sf(c) ^ flag_of(c))
    return value ^ (code & 1)


cdef inline void set_flags_logic(Cpu* c, u64 result, int size) noexcept nogil:
    """AND, OR, XOR, TEST: CF = OF = 0 (AF undefined: cleared here and in every engine)."""
    c.flag_result = sign_extend(result, size)
    c.flag_carries = 0
    c.flag_adjust = 0


cdef inline void set_flags_add(Cpu* c, u64 a, u64 b, u64 result, int size) noexcept nogil:
    """Flags of a + b (+ carry) = result; all truncated to size."""
    c.flag_result = sign_extend(result, size)
    c.flag_carries = <u32>((((a & b) | ((a | b) & ~result)) >> (8 * size - 2)) & 3)
    c.flag_adjust = <u32>(a ^ b ^ result)


cdef inline void set_flags_sub(Cpu* c, u64 a, u64 b, u64 result, int size) noexcept nogil:
    """Flags of a - b (- borrow) = result; CF is the borrow."""
    c.flag_result = sign_extend(result, size)
    c.flag_carries = <u32>((((~a & b) | ((~a | b) & result)) >> (8 * size - 2)) & 3)
    c.flag_adjust = <u32>(a ^ b ^ result)


cdef inline void set_cf_of(Cpu* c, bint cf, bint of) noexcept nogil:
    """Replaces CF and OF, keeps the flips."""
    c.flag_carries = (c.flag_carries & ~<u32>3) | (<u32>cf << 1) | (<u32>(cf ^ of))


cdef inline void set_cf(Cpu* c, bint cf) noexcept nogil:
    """Replaces CF alone."""
    set_cf_of(c, cf, flag_of(c))


cdef inline u64 arithmetic_flags(Cpu* c) noexcept nogil:
    """OF SF ZF AF PF CF in their places."""
    return (<u64>flag_cf(c) | (<u64>flag_pf(c) << 2) | (<u64>flag_af(c) << 4) | (<u64>flag_zf(c) << 6)
            | (<u64>flag_sf(c) << 7) | (<u64>flag_of(c) << 11))


cdef inline u64 all_flags(Cpu* c) noexcept nogil:
    """RFLAGS."""
    return c.flags_system | arithmetic_flags(c)


cdef inline void load_arithmetic_flags(Cpu* c, u64 flags) noexcept nogil:
    """Sets OF SF ZF AF PF CF from their places in `flags`."""
    cdef u32 cf = <u32>(flags & F_CF)
    cdef u32 of = <u32>((flags >> 11) & 1)
    # a result of 0 has SF = 0 and PF = 1; a result of 1 has SF = 0 and PF = 0
    c.flag_result = 0 if flags & F_ZF else 1
    cdef u32 sf_flip = <u32>((flags >> 7) & 1)
    cdef u32 pf_flip = <u32>((flags >> 2) & 1) ^ <u32>(1 if flags & F_ZF else 0)
    c.flag_carries = (cf << 1) | (cf ^ of) | (sf_flip << 2) | (pf_flip << 3)
    c.flag_adjust = <u32>(flags & F_AF)
