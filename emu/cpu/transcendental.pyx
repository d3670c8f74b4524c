# Sine, cosine, tangent, arctangent, 2^x - 1 and logarithms by series in 128-bit arithmetic, with pi to 256 bits.
#
# Series are cut where their rest lies below 2^-125 of the sum, so that what is rounded to 64 bits is wrong by less than 2^-55 of a
# unit in the last place.
#
# DEVIATES: processors reduce angles by a pi of 66 bits; here they are reduced exactly, for results nearer the true value.
from emu.base.bits cimport clz64, u128
from emu.base.types cimport i32, u8, u64
from emu.cpu.softfloat cimport F80, FLOAT_PRECISION, FLOAT_UNDERFLOW, FLOAT_ZERO_DIVIDE, FloatStatus
from emu.cpu.softfloat_core cimport (FOUND_INFINITY, FOUND_NUMBER, FOUND_ZERO, KIND_FINITE,
                                     KIND_INFINITY, KIND_QNAN, KIND_ZERO, TOP, Exact, Unpacked, invalid,
                                     stops_at_denormal, unpack_f80)
from emu.cpu.softfloat_x87 cimport f80, f80_nan, pack_f80

cdef struct Wide:                # value = significand * 2^(exponent - 127); bit 127 set, or zero
    u128 significand
    i32 exponent
    u8 sign

cdef enum:
    ATAN_STEPS = 16


# ---- 128-bit arithmetic; results are cut, wrong by at most 2^-126 -------------------------------------------------------
cdef inline u128 high_product(u128 a, u128 b) noexcept nogil:
    cdef u64 al = <u64>a
    cdef u64 ah = <u64>(a >> 64)
    cdef u64 bl = <u64>b
    cdef u64 bh = <u64>(b >> 64)
    cdef u128 low = <u128>al * <u128>bl
    cdef u128 cross = <u128>al * <u128>bh
    cdef u128 other = <u128>ah * <u128>bl
    cdef u128 middle = (low >> 64) + <u128><u64>cross + <u128><u64>other
    return <u128>ah * <u128>bh + (cross >> 64) + (other >> 64) + (middle >> 64)


cdef inline Wide normal(u128 significand, i32 exponent, u8 sign) noexcept nogil:
    cdef Wide r
    cdef u64 high = <u64>(significand >> 64)
    cdef int shift
    r.sign = sign
    r.exponent = exponent
    r.significand = significand
    if high:
        shift = clz64(high)
    elif significand:
        shift = 64 + clz64(<u64>significand)
    else:
        return r
    r.significand = significand << shift
    r.exponent = exponent - shift
    return r


cdef inline Wide wide(const Unpacked* a) noexcept nogil:
    cdef Wide r
    r.significand = <u128>a.significand << 64
    r.exponent = a.exponent
    r.sign = a.sign
    return r


cdef inline Wide wide_integer(int value) noexcept nogil:
    return normal(<u128>(-value if value < 0 else value), 127, value < 0)


cdef inline Wide wide_mul(Wide a, Wide b) noexcept nogil:
    return normal(high_product(a.significand, b.significand), a.exponent + b.exponent + 1, a.sign ^ b.sign)


cdef inline Wide wide_add(Wide a, Wide b) noexcept nogil:
    cdef Wide swap
    cdef int distance
    cdef u128 shifted
    if a.significand == 0:
        return b
    if b.significand == 0:
        return a
    if a.exponent < b.exponent or (a.exponent == b.exponent and a.significand < b.significand):
        swap = a
        a = b
        b = swap
    distance = a.exponent - b.exponent
    shifted = b.significand >> distance if distance < 128 else 0
    if a.sign == b.sign:
        return normal((a.significand >> 1) + (shifted >> 1), a.exponent + 1, a.sign)
    if shifted == 0:
        shifted = 1                              # what is far too small still makes the magnitude smaller
    return normal(a.significand - shifted, a.exponent, a.sign)


cdef inline Wide wide_negative(Wide a) noexcept nogil:
    a.sign ^= 1
    return a


cdef inline Wide wide_scaled(Wide a, int by) noexcept nogil:
    """a * 2^by."""
    a.exponent += by
    return a


cdef inline Wide wide_part(Wide a, u64 divisor) noexcept nogil:
    """a / divisor, for small divisors."""
    return normal(a.significand / <u128>divisor, a.exponent, a.sign)


cdef Wide wide_div(Wide a, Wide b) noexcept nogil:
    cdef Wide r
    cdef u128 rest = a.significand
    cdef u128 quotient = 0
    cdef bint carry = False
    cdef int _n
    r.sign = a.sign ^ b.sign
    r.exponent = a.exponent - b.exponent
    r.significand = 0
    if a.significand == 0:
        return r
    if rest < b.significand:
        carry = <bint>(rest >> 127)
        rest = rest << 1
        r.exponent -= 1
    for _n in range(128):
        quotient = quotient << 1
        if carry or rest >= b.significand:
            rest = rest - b.significand
            quotient |= 1
        carry = <bint>(rest >> 127)
        rest = rest << 1
    r.significand = quotient
    return r


# ---- constants, computed here by series over Python's integers -----------------------------------------------------------
cdef Wide ONE, PI, LN2, LOG2E
cdef Wide[17] ATANS                              # of n / 16
cdef u64[4] TWO_OVER_PI                          # its fraction's 256 bits, highest first

_BITS = 320


def _atan(numerator, denominator):
    """arctan(numerator / denominator) * 2^_BITS, by Euler's series."""
    square = numerator * numerator + denominator * denominator
    term = (numerator * denominator << _BITS) // square
    total, n = 0, 0
    while term:
        total += term
        n += 1
        term = term * 2 * n * numerator * numerator // ((2 * n + 1) * square)
    return total


def _ln2():
    """ln(2) * 2^_BITS = 2 artanh(1/3)."""
    term, total, n = (2 << _BITS) // 3, 0, 1
    while term:
        total += term // n
        term //= 9
        n += 2
    return total


cdef Wide constant(value):
    """A positive Python integer / 2^_BITS."""
    cdef int length = value.bit_length()
    cdef Wide r
    top = value >> (length - 128)
    r.significand = <u128><u64>(top >> 64) << 64 | <u128><u64>(top & 0xFFFFFFFFFFFFFFFF)
    r.exponent = length - 1 - _BITS
    r.sign = 0
    return r


def _set_constants():
    cdef int n
    global ONE, PI, LN2, LOG2E
    pi = 4 * (4 * _atan(1, 5) - _atan(1, 239))
    ln2 = _ln2()
    ONE = constant(1 << _BITS)
    PI = constant(pi)
    LN2 = constant(ln2)
    LOG2E = constant((1 << 2 * _BITS) // ln2)
    for n in range(1, ATAN_STEPS + 1):
        ATANS[n] = constant(_atan(n, ATAN_STEPS))
    fraction = (2 << (_BITS + 256)) // pi
    for n in range(4):
        TWO_OVER_PI[n] = (fraction >> (192 - 64 * n)) & 0xFFFFFFFFFFFFFFFF


_set_constants()


# ---- results ---------------------------------------------------------------------------------------------------------------
cdef inline F80 inexact(Wide a, FloatStatus* s) noexcept nogil:
    """Rounds a result that is never exact."""
    cdef Exact e
    e.significand = <u64>(a.significand >> 64)
    e.rest = <u64>a.significand | 1
    e.exponent = a.exponent
    e.sign = a.sign
    return pack_f80(FOUND_NUMBER, &e, 64, s)


cdef inline F80 special(int found, u8 sign, FloatStatus* s) noexcept nogil:
    cdef Exact e
    e.sign = sign
    return pack_f80(found, &e, 64, s)


cdef inline F80 signed_wide(Wide a, u8 sign, FloatStatus* s) noexcept nogil:
    a.sign = sign
    return inexact(a, s)


# ---- sine, cosine, tangent ---------------------------------------------------------------------------------------------------
cdef Wide reduce(const Unpacked* a, int* quadrant) noexcept nogil:
    """|a| less the nearest multiple of pi/2, for |a| < 2^63; quadrant: that multiple, modulo 4."""
    cdef u64 words[5]
    cdef u64 integer
    cdef u128 carry = 0
    cdef int n
    cdef int shift
    cdef u8 sign = 0
    cdef Wide r
    quadrant[0] = 0
    if a.exponent < -1:                          # below 1/2, less than pi/4
        r = wide(a)
        r.sign = 0
        return r
    # a * 2/pi = words * 2^(exponent - 63), words being 64 bits of integer and 256 of fraction
    for n in range(3, -1, -1):
        carry += <u128>a.significand * <u128>TWO_OVER_PI[n]
        words[n + 1] = <u64>carry
        carry = carry >> 64
    words[0] = <u64>carry
    shift = 63 - a.exponent                      # 1 to 64
    for n in range(4, -1, -1):
        if shift < 64:
            words[n] = words[n] >> shift | (words[n - 1] << (64 - shift) if n else 0)
        else:
            words[n] = words[n - 1] if n else 0
    integer = words[0]
    if words[1] >> 63:                           # a half or more: the next multiple is nearer
        integer += 1
        sign = 1
        carry = 1
        for n in range(4, 0, -1):
            carry += <u128>~words[n]
            words[n] = <u64>carry
            carry = carry >> 64
    quadrant[0] = integer & 3
    n = 1
    while n < 3 and words[n] == 0:               # no f80 number comes nearer than about 2^-70
        n += 1
    r = normal(<u128>words[n] << 64 | words[n + 1], -1 - 64 * (n - 1), sign)
    if n < 3 and r.exponent != -1 - 64 * (n - 1):
        shift = -1 - 64 * (n - 1) - r.exponent
        if shift < 64:
            r.significand |= <u128>(words[n + 2] >> (64 - shift))
    return wide_mul(r, wide_scaled(PI, -1))


cdef Wide sine(Wide y) noexcept nogil:
    cdef Wide square = wide_mul(y, y)
    cdef Wide sum = ONE
    cdef int n
    for n in range(17, 0, -1):
        sum = wide_add(ONE, wide_negative(wide_part(wide_mul(square, sum), 2 * n * (2 * n + 1))))
    return wide_mul(y, sum)


cdef Wide cosine(Wide y) noexcept nogil:
    cdef Wide square = wide_mul(y, y)
    cdef Wide sum = ONE
    cdef int n
    for n in range(17, 0, -1):
        sum = wide_add(ONE, wide_negative(wide_part(wide_mul(square, sum), 2 * n * (2 * n - 1))))
    return sum


cdef inline bint angle(F80 a, Unpacked* x, bint* far, F80* result, FloatStatus* s) noexcept nogil:
    """Takes an angle apart; false: *result is the answer already (not for zero: x.kind)."""
    far[0] = False
    result[0] = a
    unpack_f80(a, x)
    if x.kind >= KIND_QNAN:
        result[0] = f80_nan(x, x, s)
        return False
    if x.kind == KIND_INFINITY:
        result[0] = special(invalid(s), 0, s)
        return False
    if x.kind == KIND_FINITE and x.exponent >= 63:
        far[0] = True
        return False
    return not stops_at_denormal(s, x.denormal)


cdef F80 f80_sin(F80 a, bint* far, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef F80 result
    cdef int quadrant
    cdef Wide y
    if not angle(a, &x, far, &result, s) or x.kind == KIND_ZERO:
        return result
    y = reduce(&x, &quadrant)
    y = cosine(y) if quadrant & 1 else sine(y)
    return signed_wide(y, y.sign ^ x.sign ^ <u8>(quadrant >> 1), s)


cdef F80 f80_cos(F80 a, bint* far, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef F80 result
    cdef int quadrant
    cdef Wide y
    if not angle(a, &x, far, &result, s):
        return result
    if x.kind == KIND_ZERO:
        return f80(0x3FFF, TOP)
    y = reduce(&x, &quadrant)
    y = sine(y) if quadrant & 1 else cosine(y)
    return signed_wide(y, y.sign ^ <u8>((quadrant + 1) >> 1 & 1), s)


cdef F80 f80_tan(F80 a, bint* far, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef F80 result
    cdef int quadrant
    cdef Wide y
    cdef u8 sign
    if not angle(a, &x, far, &result, s) or x.kind == KIND_ZERO:
        return result
    y = reduce(&x, &quadrant)
    sign = x.sign ^ y.sign ^ <u8>(quadrant & 1)
    y.sign = 0
    if quadrant & 1:
        y = wide_div(cosine(y), sine(y))
    elif y.exponent >= -40:                      # below, the tangent is the angle and a very little more
        y = wide_div(sine(y), cosine(y))
    return signed_wide(y, sign, s)


# ---- arctangent ----------------------------------------------------------------------------------------------------------------
cdef Wide arctangent(Wide t) noexcept nogil:
    """Of 0 < t <= 1: the arctangent of the nearest n/16, and a series for what is left."""
    cdef int n = 0
    cdef int k
    cdef Wide c
    cdef Wide u = t
    cdef Wide square
    cdef Wide sum
    if t.exponent >= -5:
        n = <int>((t.significand >> (122 - t.exponent)) + 1) >> 1
    if n:
        c = wide_scaled(wide_integer(n), -4)
        u = wide_div(wide_add(t, wide_negative(c)), wide_add(ONE, wide_mul(t, c)))
    sum = ONE
    if u.significand:
        square = wide_mul(u, u)                  # at most 2^-10
        sum = wide_part(ONE, 29)
        for k in range(27, 0, -2):
            sum = wide_add(wide_part(ONE, k), wide_negative(wide_mul(square, sum)))
        u = wide_mul(u, sum)
    return wide_add(ATANS[n], u) if n else u


cdef F80 f80_atan(F80 y, F80 x, FloatStatus* s) noexcept nogil:
    cdef Unpacked a
    cdef Unpacked b
    cdef Wide r
    cdef Wide p
    cdef Wide q
    unpack_f80(y, &a)
    unpack_f80(x, &b)
    if a.kind >= KIND_QNAN or b.kind >= KIND_QNAN:
        return f80_nan(&a, &b, s)
    if stops_at_denormal(s, a.denormal or b.denormal):
        return y
    if a.kind == KIND_ZERO or (b.kind == KIND_INFINITY and a.kind != KIND_INFINITY):
        return signed_wide(PI, a.sign, s) if b.sign else special(FOUND_ZERO, a.sign, s)
    if a.kind == KIND_INFINITY:
        r = wide_scaled(PI, -1)
        if b.kind == KIND_INFINITY:
            r = wide_scaled(PI, -2)
            if b.sign:
                r = wide_add(r, wide_scaled(PI, -1))
        return signed_wide(r, a.sign, s)
    if b.kind == KIND_ZERO:
        return signed_wide(wide_scaled(PI, -1), a.sign, s)
    p = wide(&a)
    q = wide(&b)
    p.sign = 0
    q.sign = 0
    if a.exponent > b.exponent or (a.exponent == b.exponent and a.significand > b.significand):
        r = wide_add(wide_scaled(PI, -1), wide_negative(arctangent(wide_div(q, p))))
    else:
        r = arctangent(wide_div(p, q))
    if b.sign:
        r = wide_add(PI, wide_negative(r))
    return signed_wide(r, a.sign, s)


# ---- powers and logarithms -------------------------------------------------------------------------------------------------------
cdef F80 f80_2xm1(F80 a, FloatStatus* s) noexcept nogil:
    cdef Unpacked x
    cdef Wide y
    cdef Wide sum
    cdef int n
    unpack_f80(a, &x)
    if x.kind >= KIND_QNAN:
        return f80_nan(&x, &x, s)
    if x.kind == KIND_INFINITY:
        return f80(0xBFFF, TOP) if x.sign else a
    if stops_at_denormal(s, x.denormal) or x.kind == KIND_ZERO:
        return a
    if x.exponent >= 0:                          # 1 and -1; what lies beyond is undefined, and left as it is
        if x.exponent == 0 and x.significand == TOP:
            s.flags |= FLOAT_PRECISION           # as processors do it, though the result is exact
            return f80(0xBFFE, TOP) if x.sign else a
        return a
    y = wide_mul(wide(&x), LN2)
    sum = ONE
    for n in range(32, 1, -1):                   # y + y^2/2! + y^3/3! + ...
        sum = wide_add(ONE, wide_part(wide_mul(y, sum), n))
    return inexact(wide_mul(y, sum), s)


cdef Wide logarithm(Wide z) noexcept nogil:
    """log2((1 + z) / (1 - z)) = 2 artanh(z) / ln(2), for |z| <= 0.172."""
    cdef Wide square = wide_mul(z, z)
    cdef Wide sum = wide_part(ONE, 53)
    cdef int k
    for k in range(51, 0, -2):
        sum = wide_add(wide_part(ONE, k), wide_mul(square, sum))
    return wide_scaled(wide_mul(wide_mul(z, sum), LOG2E), 1)


cdef Wide log2_of(Wide x) noexcept nogil:
    """Of a positive number; zero for 1."""
    cdef int power = x.exponent
    x.exponent = 0
    if x.significand >> 64 > <u128><u64>0xB504F333F9DE6484:     # the square root of 2
        x.exponent = -1
        power += 1
    return wide_add(wide_integer(power),
                    logarithm(wide_div(wide_add(x, wide_negative(ONE)), wide_add(x, ONE))))


cdef inline F80 exact_multiple(const Unpacked* y, int count, FloatStatus* s) noexcept nogil:
    """y * count: a logarithm of a power of two is an integer. Processors tell a precision exception all the same."""
    cdef Exact e
    cdef F80 result
    cdef Wide r = normal(<u128>y.significand * <u128>(-count if count < 0 else count), y.exponent + 64, y.sign ^ (count < 0))
    e.significand = <u64>(r.significand >> 64)
    e.rest = <u64>r.significand
    e.exponent = r.exponent
    e.sign = r.sign
    result = pack_f80(FOUND_NUMBER, &e, 64, s)
    s.flags |= FLOAT_PRECISION
    if not result.significand & TOP:             # so it counts as an underflow, too
        s.flags |= FLOAT_UNDERFLOW
    return result


cdef F80 f80_yl2x(F80 x, F80 y, FloatStatus* s) noexcept nogil:
    cdef Unpacked a
    cdef Unpacked b
    cdef int relation                            # of x to 1
    unpack_f80(x, &a)
    unpack_f80(y, &b)
    if a.kind >= KIND_QNAN or b.kind >= KIND_QNAN:
        return f80_nan(&a, &b, s)
    if a.sign and a.kind != KIND_ZERO:
        return special(invalid(s), 0, s)
    if a.kind == KIND_ZERO:
        if b.kind == KIND_ZERO:
            return special(invalid(s), 0, s)
        if b.kind == KIND_FINITE:
            s.flags |= FLOAT_ZERO_DIVIDE
        else:
            stops_at_denormal(s, b.denormal)
        return special(FOUND_INFINITY, b.sign ^ 1, s)
    relation = 1
    if a.kind == KIND_FINITE:
        relation = -1 if a.exponent < 0 else 1 if a.exponent > 0 or a.significand != TOP else 0
    if (b.kind == KIND_INFINITY and relation == 0) or (a.kind == KIND_INFINITY and b.kind == KIND_ZERO):
        return special(invalid(s), 0, s)
    if stops_at_denormal(s, a.denormal or b.denormal):
        return y
    if a.kind == KIND_INFINITY or b.kind == KIND_INFINITY:
        return special(FOUND_INFINITY, b.sign ^ (relation < 0), s)
    if relation == 0 or b.kind == KIND_ZERO:
        return special(FOUND_ZERO, b.sign ^ (relation < 0), s)
    if a.significand == TOP:
        return exact_multiple(&b, a.exponent, s)
    return inexact(wide_mul(wide(&b), log2_of(wide(&a))), s)


cdef F80 f80_yl2xp1(F80 x, F80 y, FloatStatus* s) noexcept nogil:
    cdef Unpacked a
    cdef Unpacked b
    cdef Wide w
    cdef Wide log2
    unpack_f80(x, &a)
    unpack_f80(y, &b)
    if a.kind >= KIND_QNAN or b.kind >= KIND_QNAN:
        return f80_nan(&a, &b, s)
    if (a.sign and (a.kind == KIND_INFINITY or (a.kind == KIND_FINITE and a.exponent >= 0))
            or (a.kind == KIND_ZERO and b.kind == KIND_INFINITY) or (a.kind == KIND_INFINITY and b.kind == KIND_ZERO)):
        return special(invalid(s), 0, s)         # -1 and below: undefined in the manual
    if stops_at_denormal(s, a.denormal or b.denormal):
        return y
    if a.kind == KIND_INFINITY or b.kind == KIND_INFINITY:
        return special(FOUND_INFINITY, a.sign ^ b.sign, s)
    if a.kind == KIND_ZERO or b.kind == KIND_ZERO:
        return special(FOUND_ZERO, a.sign ^ b.sign, s)
    w = wide(&a)
    if a.exponent <= -3 or (a.exponent == -2 and a.significand < <u64>0x9000 << 48):     # |x| < 0.28
        log2 = logarithm(wide_div(w, wide_add(wide_integer(2), w)))
    else:
        w = wide_add(ONE, w)
        if w.significand == <u128>TOP << 64:     # 1 + x is a power of two
            return exact_multiple(&b, w.exponent, s)
        log2 = log2_of(w)
    return inexact(wide_mul(wide(&b), log2), s)
