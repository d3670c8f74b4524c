# f32 and f64 arithmetic in integers, for every operand, rounding mode and mask: what SSE computes.
from emu.base.types cimport i32, i64, u32, u64
from emu.cpu.softfloat_core cimport (FOUND_INFINITY, FOUND_NAN, FOUND_NUMBER, FOUND_ZERO, KIND_FINITE,
                                     KIND_INFINITY, KIND_SNAN, KIND_ZERO, TOP, Exact, Unpacked, convert_integer,
                                     exact_add, exact_div, exact_mul, exact_sqrt, finish, flush_denormal, is_nan,
                                     order, set_from, stops_at_denormal, to_integer, unpack_f32, unpack_f64,
                                     unpack_integer)


# ---- putting together ------------------------------------------------------------------------------------------------
cdef inline u32 pack_f32(int found, Exact* e, FloatStatus* s) noexcept nogil:
    cdef u32 sign = <u32>e.sign << 31
    if found == FOUND_NUMBER:
        found = finish(e, 24, -126, 127, False, s)
    if found == FOUND_NUMBER:
        if e.significand & TOP:
            return sign | <u32>(e.exponent + 127) << 23 | (<u32>(e.significand >> 40) & 0x7FFFFF)
        return sign | <u32>(e.significand >> 40)
    if found == FOUND_INFINITY:
        return sign | 0x7F800000
    if found == FOUND_NAN:
        return 0xFFC00000
    return sign                              # FOUND_ZERO; FOUND_NOTHING is not stored


cdef inline u64 pack_f64(int found, Exact* e, FloatStatus* s) noexcept nogil:
    cdef u64 sign = <u64>e.sign << 63
    if found == FOUND_NUMBER:
        found = finish(e, 53, -1022, 1023, False, s)
    if found == FOUND_NUMBER:
        if e.significand & TOP:
            return sign | <u64>(e.exponent + 1023) << 52 | (e.significand >> 11 & <u64>0xFFFFFFFFFFFFF)
        return sign | e.significand >> 11
    if found == FOUND_INFINITY:
        return sign | <u64>0x7FF << 52
    if found == FOUND_NAN:
        return <u64>0xFFF8 << 48
    return sign


cdef inline u32 nan_f32(u32 a, Unpacked* x, u32 b, Unpacked* y, FloatStatus* s) noexcept nogil:
    """The NaN that comes of at least one NaN operand: the first, made quiet (SDM 1 table 4-7)."""
    if x.kind == KIND_SNAN or y.kind == KIND_SNAN:
        s.flags |= FLOAT_INVALID
    return (a if is_nan(x) else b) | 0x400000


cdef inline u64 nan_f64(u64 a, Unpacked* x, u64 b, Unpacked* y, FloatStatus* s) noexcept nogil:
    if x.kind == KIND_SNAN or y.kind == KIND_SNAN:
        s.flags |= FLOAT_INVALID
    return (a if is_nan(x) else b) | <u64>1 << 51


cdef inline bint take_f32(u32 a, Unpacked* x, u32 b, Unpacked* y, FloatStatus* s) noexcept nogil:
    """Takes two operands apart; true: one is a NaN."""
    unpack_f32(a, x)
    unpack_f32(b, y)
    flush_denormal(x, s)
    flush_denormal(y, s)
    return is_nan(x) or is_nan(y)


cdef inline bint take_f64(u64 a, Unpacked* x, u64 b, Unpacked* y, FloatStatus* s) noexcept nogil:
    unpack_f64(a, x)
    unpack_f64(b, y)
    flush_denormal(x, s)
    flush_denormal(y, s)
    return is_nan(x) or is_nan(y)


# ---- f32 -------------------------------------------------------------------------------------------------------------
cdef inline u32 f32_sum(u32 a, u32 b, bint subtract, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    cdef Exact e
    if take_f32(a, &x, b, &y, s):
        return nan_f32(a, &x, b, &y, s)
    return pack_f32(exact_add(&x, &y, subtract, &e, s), &e, s)


cdef u32 f32_add_soft(u32 a, u32 b, FloatStatus* s) noexcept nogil:
    return f32_sum(a, b, False, s)


cdef u32 f32_sub_soft(u32 a, u32 b, FloatStatus* s) noexcept nogil:
    return f32_sum(a, b, True, s)


cdef u32 f32_mul_soft(u32 a, u32 b, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    cdef Exact e
    if take_f32(a, &x, b, &y, s):
        return nan_f32(a, &x, b, &y, s)
    return pack_f32(exact_mul(&x, &y, &e, s), &e, s)


cdef u32 f32_div_soft(u32 a, u32 b, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    cdef Exact e
    if take_f32(a, &x, b, &y, s):
        return nan_f32(a, &x, b, &y, s)
    return pack_f32(exact_div(&x, &y, &e, s), &e, s)


cdef u32 f32_sqrt_soft(u32 a, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Exact e
    if take_f32(a, &x, a, &x, s):
        return nan_f32(a, &x, a, &x, s)
    return pack_f32(exact_sqrt(&x, &e, s), &e, s)


cdef inline u32 f32_choose(u32 a, u32 b, int wanted, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    if take_f32(a, &x, b, &y, s):
        s.flags |= FLOAT_INVALID
    else:
        stops_at_denormal(s, x.denormal or y.denormal)
        if order(&x, &y) == wanted:
            return <u32>x.sign << 31 if x.kind == KIND_ZERO else a
    return <u32>y.sign << 31 if y.kind == KIND_ZERO else b


cdef u32 f32_min(u32 a, u32 b, FloatStatus* s) noexcept nogil:
    return f32_choose(a, b, RELATION_LESS, s)


cdef u32 f32_max(u32 a, u32 b, FloatStatus* s) noexcept nogil:
    return f32_choose(a, b, RELATION_GREATER, s)


cdef int f32_compare(u32 a, u32 b, bint quiet, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    if take_f32(a, &x, b, &y, s):
        if not quiet or x.kind == KIND_SNAN or y.kind == KIND_SNAN:
            s.flags |= FLOAT_INVALID
        return RELATION_UNORDERED
    stops_at_denormal(s, x.denormal or y.denormal)
    return order(&x, &y)


cdef u32 f32_round(u32 a, int rounding, bint exact, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    cdef Exact e
    cdef u64 magnitude
    cdef int change
    if take_f32(a, &x, a, &x, s):
        return nan_f32(a, &x, a, &x, s)
    if x.kind == KIND_INFINITY or (x.kind == KIND_FINITE and x.exponent >= 23):
        return a
    to_integer(&x, rounding, &magnitude, &change)
    if change and not exact:
        s.flags |= FLOAT_PRECISION
    unpack_integer(<i64>magnitude, &y)
    y.sign = x.sign
    set_from(&e, &y)
    return pack_f32(FOUND_NUMBER if magnitude else FOUND_ZERO, &e, s)


cdef u64 f32_to_f64(u32 a, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Exact e
    if take_f32(a, &x, a, &x, s):
        if x.kind == KIND_SNAN:
            s.flags |= FLOAT_INVALID
        return <u64>x.sign << 63 | <u64>0x7FF8 << 48 | x.significand << 1 >> 12
    set_from(&e, &x)
    if stops_at_denormal(s, x.denormal):
        return 0
    return pack_f64(FOUND_NUMBER if x.kind == KIND_FINITE else FOUND_ZERO if x.kind == KIND_ZERO else FOUND_INFINITY, &e, s)


cdef i64 f32_to_integer(u32 a, int bits, int rounding, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    unpack_f32(a, &x)
    flush_denormal(&x, s)
    return convert_integer(&x, bits, rounding, s)


cdef i32 f32_to_i32(u32 a, int rounding, FloatStatus* s) noexcept nogil:
    return <i32>f32_to_integer(a, 32, rounding, s)


cdef i64 f32_to_i64(u32 a, int rounding, FloatStatus* s) noexcept nogil:
    return f32_to_integer(a, 64, rounding, s)


cdef u32 i64_to_f32(i64 a, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Exact e
    unpack_integer(a, &x)
    set_from(&e, &x)
    return pack_f32(FOUND_NUMBER if a else FOUND_ZERO, &e, s)


cdef u32 i32_to_f32(i32 a, FloatStatus* s) noexcept nogil:
    return i64_to_f32(a, s)


# ---- f64 -------------------------------------------------------------------------------------------------------------
cdef inline u64 f64_sum(u64 a, u64 b, bint subtract, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    cdef Exact e
    if take_f64(a, &x, b, &y, s):
        return nan_f64(a, &x, b, &y, s)
    return pack_f64(exact_add(&x, &y, subtract, &e, s), &e, s)


cdef u64 f64_add_soft(u64 a, u64 b, FloatStatus* s) noexcept nogil:
    return f64_sum(a, b, False, s)


cdef u64 f64_sub_soft(u64 a, u64 b, FloatStatus* s) noexcept nogil:
    return f64_sum(a, b, True, s)


cdef u64 f64_mul_soft(u64 a, u64 b, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    cdef Exact e
    if take_f64(a, &x, b, &y, s):
        return nan_f64(a, &x, b, &y, s)
    return pack_f64(exact_mul(&x, &y, &e, s), &e, s)


cdef u64 f64_div_soft(u64 a, u64 b, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    cdef Exact e
    if take_f64(a, &x, b, &y, s):
        return nan_f64(a, &x, b, &y, s)
    return pack_f64(exact_div(&x, &y, &e, s), &e, s)


cdef u64 f64_sqrt_soft(u64 a, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Exact e
    if take_f64(a, &x, a, &x, s):
        return nan_f64(a, &x, a, &x, s)
    return pack_f64(exact_sqrt(&x, &e, s), &e, s)


cdef inline u64 f64_choose(u64 a, u64 b, int wanted, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    if take_f64(a, &x, b, &y, s):
        s.flags |= FLOAT_INVALID
    else:
        stops_at_denormal(s, x.denormal or y.denormal)
        if order(&x, &y) == wanted:
            return <u64>x.sign << 63 if x.kind == KIND_ZERO else a
    return <u64>y.sign << 63 if y.kind == KIND_ZERO else b


cdef u64 f64_min(u64 a, u64 b, FloatStatus* s) noexcept nogil:
    return f64_choose(a, b, RELATION_LESS, s)


cdef u64 f64_max(u64 a, u64 b, FloatStatus* s) noexcept nogil:
    return f64_choose(a, b, RELATION_GREATER, s)


cdef int f64_compare(u64 a, u64 b, bint quiet, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    if take_f64(a, &x, b, &y, s):
        if not quiet or x.kind == KIND_SNAN or y.kind == KIND_SNAN:
            s.flags |= FLOAT_INVALID
        return RELATION_UNORDERED
    stops_at_denormal(s, x.denormal or y.denormal)
    return order(&x, &y)


cdef u64 f64_round(u64 a, int rounding, bint exact, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    cdef Exact e
    cdef u64 magnitude
    cdef int change
    if take_f64(a, &x, a, &x, s):
        return nan_f64(a, &x, a, &x, s)
    if x.kind == KIND_INFINITY or (x.kind == KIND_FINITE and x.exponent >= 52):
        return a
    to_integer(&x, rounding, &magnitude, &change)
    if change and not exact:
        s.flags |= FLOAT_PRECISION
    unpack_integer(<i64>magnitude, &y)
    y.sign = x.sign
    set_from(&e, &y)
    return pack_f64(FOUND_NUMBER if magnitude else FOUND_ZERO, &e, s)


cdef u32 f64_to_f32(u64 a, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Exact e
    if take_f64(a, &x, a, &x, s):
        if x.kind == KIND_SNAN:
            s.flags |= FLOAT_INVALID
        return <u32>x.sign << 31 | 0x7FC00000 | <u32>(x.significand >> 40 & 0x3FFFFF)
    set_from(&e, &x)
    if stops_at_denormal(s, x.denormal):
        return 0
    return pack_f32(FOUND_NUMBER if x.kind == KIND_FINITE else FOUND_ZERO if x.kind == KIND_ZERO else FOUND_INFINITY, &e, s)


cdef i64 f64_to_integer(u64 a, int bits, int rounding, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    unpack_f64(a, &x)
    flush_denormal(&x, s)
    return convert_integer(&x, bits, rounding, s)


cdef i32 f64_to_i32(u64 a, int rounding, FloatStatus* s) noexcept nogil:
    return <i32>f64_to_integer(a, 32, rounding, s)


cdef i64 f64_to_i64(u64 a, int rounding, FloatStatus* s) noexcept nogil:
    return f64_to_integer(a, 64, rounding, s)


cdef u64 i64_to_f64(i64 a, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Exact e
    unpack_integer(a, &x)
    set_from(&e, &x)
    return pack_f64(FOUND_NUMBER if a else FOUND_ZERO, &e, s)


cdef u64 i32_to_f64(i32 a, FloatStatus* s) noexcept nogil:
    return i64_to_f64(a, s)
