# f80 arithmetic in integers, for every operand, rounding mode, precision and mask; the transcendental functions stand elsewhere.
from emu.base.bits cimport u128
from emu.base.types cimport i32, i64, u16, u32, u64
from emu.cpu.softfloat cimport (F80, FLOAT_INVALID, FLOAT_PRECISION, FLOAT_ZERO_DIVIDE, FloatStatus,
                                RELATION_UNORDERED, ROUND_ZERO)
from emu.cpu.softfloat_core cimport (FOUND_INFINITY, FOUND_NAN, FOUND_NUMBER, FOUND_ZERO, KIND_FINITE,
                                     KIND_INFINITY, KIND_QNAN, KIND_SNAN, KIND_UNSUPPORTED, KIND_ZERO, TOP, Exact,
                                     Unpacked, convert_integer, exact_add, exact_div, exact_mul, exact_sqrt, finish,
                                     invalid, order, set_exact, set_from, stops_at_denormal, to_integer, unpack_f80,
                                     unpack_integer)


# ---- putting together ------------------------------------------------------------------------------------------------
cdef F80 pack_f80(int found, Exact* e, int bits, FloatStatus* s) noexcept nogil:
    """To an x87 register: `bits` of precision, the full range of exponents (SDM 1 8.1.5.2)."""
    cdef u16 sign = <u16>e.sign << 15
    if found == FOUND_NUMBER:
        found = finish(e, bits, -16382, 16383, True, s)
    if found == FOUND_NUMBER:
        return f80(sign | (<u16>(e.exponent + 16383) if e.significand & TOP else 0), e.significand)
    if found == FOUND_INFINITY:
        return f80(sign | 0x7FFF, TOP)
    if found == FOUND_NAN:
        return f80_indefinite()
    return f80(sign, 0)


cdef inline int found_of(const Unpacked* a) noexcept nogil:
    return FOUND_NUMBER if a.kind == KIND_FINITE else FOUND_ZERO if a.kind == KIND_ZERO else FOUND_INFINITY


cdef F80 f80_nan(const Unpacked* a, const Unpacked* b, FloatStatus* s) noexcept nogil:
    """SDM 1 table 4-7 for the x87: a QNaN before an SNaN, else the larger significand, else the positive one."""
    cdef bint first
    cdef const Unpacked* chosen
    if a.kind == KIND_UNSUPPORTED or b.kind == KIND_UNSUPPORTED:
        invalid(s)
        return f80_indefinite()
    if a.kind == KIND_SNAN or b.kind == KIND_SNAN:
        invalid(s)
    if a.kind < KIND_QNAN or b.kind < KIND_QNAN:
        first = a.kind >= KIND_QNAN
    elif a.kind != b.kind:
        first = a.kind == KIND_QNAN
    elif a.significand != b.significand:
        first = a.significand > b.significand
    else:
        first = not a.sign
    chosen = a if first else b
    return f80(<u16>chosen.sign << 15 | 0x7FFF, chosen.significand | TOP >> 1)


# ---- arithmetic --------------------------------------------------------------------------------------------------------
cdef F80 f80_operate(int operation, const Unpacked* a, const Unpacked* b, FloatStatus* s) noexcept nogil:
    cdef Exact e
    cdef int found
    if a.kind >= KIND_QNAN or b.kind >= KIND_QNAN:
        return f80_nan(a, b, s)
    if operation == OPERATION_ADD:
        found = exact_add(a, b, False, &e, s)
    elif operation == OPERATION_MUL:
        found = exact_mul(a, b, &e, s)
    elif operation == OPERATION_SUB:
        found = exact_add(a, b, True, &e, s)
    elif operation == OPERATION_SUBR:
        found = exact_add(b, a, True, &e, s)
    elif operation == OPERATION_DIV:
        found = exact_div(a, b, &e, s)
    else:
        found = exact_div(b, a, &e, s)
    return pack_f80(found, &e, s.precision, s)


cdef F80 f80_sqrt(const Unpacked* a, FloatStatus* s) noexcept nogil:
    cdef Exact e
    if a.kind >= KIND_QNAN:
        return f80_nan(a, a, s)
    return pack_f80(exact_sqrt(a, &e, s), &e, s.precision, s)


cdef F80 f80_round(F80 a, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef u64 magnitude
    cdef int change
    cdef F80 result
    unpack_f80(a, &x)
    if x.kind >= KIND_QNAN:
        return f80_nan(&x, &x, s)
    if stops_at_denormal(s, x.denormal) or x.kind != KIND_FINITE or x.exponent >= 63:
        return a
    to_integer(&x, s.rounding, &magnitude, &change)
    if change:
        s.flags |= FLOAT_PRECISION
    s.rounded_up = change > 0
    result = f80_from_integer(0)
    if magnitude:
        if magnitude >> 63:
            result = f80(16383 + 63, magnitude)
        else:
            result = f80_from_integer(<i64>magnitude)
    result.sign_exponent |= <u16>x.sign << 15
    return result


cdef F80 f80_scale(F80 a, F80 b, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    cdef Exact e
    cdef u64 count
    cdef int change
    unpack_f80(a, &x)
    unpack_f80(b, &y)
    if x.kind >= KIND_QNAN or y.kind >= KIND_QNAN:
        return f80_nan(&x, &y, s)
    set_from(&e, &x)
    if y.kind == KIND_INFINITY:
        if x.kind == (KIND_INFINITY if y.sign else KIND_ZERO):
            return pack_f80(invalid(s), &e, 64, s)
        if stops_at_denormal(s, x.denormal):
            return a
        return pack_f80(FOUND_ZERO if y.sign or x.kind == KIND_ZERO else FOUND_INFINITY, &e, 64, s)
    if stops_at_denormal(s, x.denormal or y.denormal):
        return a
    if x.kind == KIND_FINITE:
        if not to_integer(&y, ROUND_ZERO, &count, &change) or count > 0x20000:
            count = 0x20000                  # beyond the range of exponents, even of adjusted ones
        e.exponent += -<i32>count if y.sign else <i32>count
    return pack_f80(found_of(&x), &e, 64, s)


cdef F80 f80_extract(F80 a, F80* exponent, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    unpack_f80(a, &x)
    if x.kind >= KIND_QNAN:
        exponent[0] = f80_nan(&x, &x, s)
        return exponent[0]
    if x.kind == KIND_ZERO:
        s.flags |= FLOAT_ZERO_DIVIDE
        exponent[0] = f80(0xFFFF, TOP)
        return a
    if x.kind == KIND_INFINITY:
        exponent[0] = f80(0x7FFF, TOP)
        return a
    stops_at_denormal(s, x.denormal)
    exponent[0] = f80_from_integer(x.exponent)
    return f80(<u16>x.sign << 15 | 16383, x.significand)


cdef Remainder f80_remainder(F80 a, F80 b, bint nearest, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Unpacked y
    cdef Exact e
    cdef Remainder r
    cdef int distance
    cdef int step
    cdef u128 dividend
    cdef u64 rest
    r.quotient = 0
    r.partial = False
    r.nan = True
    r.value = a
    unpack_f80(a, &x)
    unpack_f80(b, &y)
    if x.kind >= KIND_QNAN or y.kind >= KIND_QNAN:
        r.value = f80_nan(&x, &y, s)
        return r
    set_from(&e, &x)
    if x.kind == KIND_INFINITY or y.kind == KIND_ZERO:
        r.value = pack_f80(invalid(s), &e, 64, s)
        return r
    r.nan = False
    if stops_at_denormal(s, x.denormal or y.denormal) or x.kind == KIND_ZERO:
        return r
    distance = x.exponent - y.exponent
    if y.kind == KIND_INFINITY or distance < -1 or (distance < 0 and not nearest):
        r.value = pack_f80(FOUND_NUMBER, &e, 64, s)
        return r
    if distance < 0:                         # at least a quarter of b, less than b
        if x.significand > y.significand:    # more than a half: a - b, in units of a
            r.quotient = 1
            e.sign ^= 1
            set_exact(&e, (<u128>y.significand << 1) - x.significand, x.exponent + 63)
        r.value = pack_f80(FOUND_NUMBER, &e, 64, s)
        return r
    step = distance
    if distance >= 64:
        r.partial = True
        step = (distance & 31) | 32          # 32 to 63 bits at a time, so that the last step is a whole one (SDM 2 FPREM)
    dividend = <u128>x.significand << step
    r.quotient = <u64>(dividend / <u128>y.significand)
    rest = <u64>(dividend - <u128>r.quotient * y.significand)
    if nearest and not r.partial and (rest > y.significand - rest or (rest == y.significand - rest and r.quotient & 1)):
        rest = y.significand - rest
        r.quotient += 1
        e.sign ^= 1
    if rest:
        set_exact(&e, rest, y.exponent + distance - step + 63)
    r.value = pack_f80(FOUND_NUMBER if rest else FOUND_ZERO, &e, 64, s)
    return r


cdef int f80_compare(const Unpacked* a, const Unpacked* b, bint quiet, FloatStatus* s) noexcept nogil:
    if a.kind >= KIND_QNAN or b.kind >= KIND_QNAN:
        if not quiet or a.kind > KIND_QNAN or b.kind > KIND_QNAN:
            s.flags |= FLOAT_INVALID
        return RELATION_UNORDERED
    stops_at_denormal(s, a.denormal or b.denormal)
    return order(a, b)


# ---- conversions -------------------------------------------------------------------------------------------------------
cdef F80 f80_load(const Unpacked* a, FloatStatus* s) noexcept nogil:
    cdef u16 sign = <u16>a.sign << 15
    if a.kind >= KIND_QNAN:
        return f80_nan(a, a, s)
    if a.kind == KIND_ZERO:
        return f80(sign, 0)
    if a.kind == KIND_INFINITY:
        return f80(sign | 0x7FFF, TOP)
    stops_at_denormal(s, a.denormal)
    return f80(sign | <u16>(a.exponent + 16383), a.significand)


cdef F80 f80_from_integer(i64 value) noexcept nogil:
    cdef Unpacked x
    unpack_integer(value, &x)
    if x.kind == KIND_ZERO:
        return f80(0, 0)
    return f80(<u16>x.sign << 15 | <u16>(x.exponent + 16383), x.significand)


cdef u32 f80_to_f32(F80 a, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Exact e
    cdef int found
    unpack_f80(a, &x)
    if x.kind >= KIND_QNAN:
        a = f80_nan(&x, &x, s)
        return <u32>(a.sign_exponent >> 15) << 31 | 0x7F800000 | <u32>(a.significand >> 40 & 0x7FFFFF)
    set_from(&e, &x)
    found = found_of(&x)
    if found == FOUND_NUMBER:
        found = finish(&e, 24, -126, 127, False, s)
    if found == FOUND_INFINITY:
        return <u32>x.sign << 31 | 0x7F800000
    if found != FOUND_NUMBER:
        return <u32>x.sign << 31
    return <u32>x.sign << 31 | (<u32>(e.exponent + 127) << 23 if e.significand & TOP else 0) | <u32>(e.significand >> 40 & 0x7FFFFF)


cdef u64 f80_to_f64(F80 a, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Exact e
    cdef int found
    unpack_f80(a, &x)
    if x.kind >= KIND_QNAN:
        a = f80_nan(&x, &x, s)
        return <u64>(a.sign_exponent >> 15) << 63 | <u64>0x7FF << 52 | (a.significand << 1) >> 12
    set_from(&e, &x)
    found = found_of(&x)
    if found == FOUND_NUMBER:
        found = finish(&e, 53, -1022, 1023, False, s)
    if found == FOUND_INFINITY:
        return <u64>x.sign << 63 | <u64>0x7FF << 52
    if found != FOUND_NUMBER:
        return <u64>x.sign << 63
    return <u64>x.sign << 63 | (<u64>(e.exponent + 1023) << 52 if e.significand & TOP else 0) | (e.significand << 1) >> 12


cdef i64 f80_to_integer(F80 a, int bits, int rounding, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    unpack_f80(a, &x)
    return convert_integer(&x, bits, rounding, s)


# ---- packed decimals (SDM 1 4.7) -----------------------------------------------------------------------------------------
cdef F80 f80_from_bcd(u64 low, u16 high) noexcept nogil:
    cdef i64 value = 10 * (high >> 4 & 15) + (high & 15)
    cdef int digit
    cdef F80 result
    for digit in range(15, -1, -1):
        value = 10 * value + <i64>(low >> (4 * digit) & 15)
    result = f80_from_integer(value)
    result.sign_exponent |= high & 0x8000
    return result


cdef u64 f80_to_bcd(F80 a, u16* high, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef u64 magnitude
    cdef u64 low = 0
    cdef int change
    cdef int digit
    unpack_f80(a, &x)
    if x.kind > KIND_FINITE or not to_integer(&x, s.rounding, &magnitude, &change) or magnitude > <u64>999999999999999999:
        s.flags |= FLOAT_INVALID
        high[0] = 0xFFFF
        return <u64>0xC0 << 56
    if change:
        s.flags |= FLOAT_PRECISION
    s.rounded_up = change > 0
    for digit in range(16):
        low |= (magnitude % 10) << (4 * digit)
        magnitude = magnitude / 10
    high[0] = <u16>x.sign << 15 | <u16>(magnitude % 10) | <u16>(magnitude / 10) << 4
    return low
