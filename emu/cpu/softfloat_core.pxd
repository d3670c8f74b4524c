# What all formats of softfloat share: numbers taken apart, exact results, and their one rounding.
from emu.base.bits cimport clz64, u128
from emu.base.types cimport i32, i64, u8, u16, u32, u64
from emu.cpu.softfloat cimport (F80, FLOAT_BEFORE, FLOAT_DENORMAL, FLOAT_INVALID, FLOAT_OVERFLOW, FLOAT_PRECISION,
                                FLOAT_UNDERFLOW, FLOAT_ZERO_DIVIDE, FloatStatus, RELATION_EQUAL, RELATION_GREATER,
                                RELATION_LESS, RELATION_UNORDERED, ROUND_DOWN, ROUND_NEAREST, ROUND_UP, host_sqrt)

cdef enum:                       # kind of an unpacked number
    KIND_ZERO
    KIND_FINITE
    KIND_INFINITY
    KIND_QNAN
    KIND_SNAN
    KIND_UNSUPPORTED             # f80 only: unnormal, pseudo-infinity, pseudo-NaN (SDM 1 8.2.2)

cdef struct Unpacked:
    u64 significand              # finite: bit 63 set; NaN: the f80 significand (quiet bit in bit 62)
    i32 exponent                 # value = significand * 2^(exponent - 63)
    u8 sign
    u8 kind
    u8 denormal                  # was encoded as a denormal (or pseudo-denormal)

cdef enum:                       # what an operation found
    FOUND_NUMBER                 # finite, not zero: to be rounded
    FOUND_ZERO
    FOUND_INFINITY
    FOUND_NAN                    # the default NaN
    FOUND_NOTHING                # an unmasked exception stops the instruction

cdef struct Exact:               # (significand + rest / 2^64) * 2^(exponent - 63), bit 63 set; rest: 0, < 1/2, 1/2 or more
    u64 significand
    u64 rest
    i32 exponent
    u8 sign

cdef enum:
    BIAS_ADJUST = 24576          # of an x87 register result with overflow or underflow unmasked (SDM 1 4.9.1.4)

cdef extern from *:
    """
    #define EMU_HALF 0x8000000000000000ull
    """
    const u64 TOP "EMU_HALF"     # the integer bit


# ---- taking apart --------------------------------------------------------------------------------------------------
cdef inline void unpack_f32(u32 a, Unpacked* x) noexcept nogil:
    cdef u64 fraction = a & 0x7FFFFF
    cdef int exponent = (a >> 23) & 0xFF
    cdef int shift
    x.sign = a >> 31
    x.denormal = 0
    x.exponent = exponent - 127
    x.significand = TOP | fraction << 40
    if exponent == 0xFF:
        x.kind = KIND_INFINITY if fraction == 0 else KIND_QNAN if fraction & 0x400000 else KIND_SNAN
    elif exponent:
        x.kind = KIND_FINITE
    elif fraction:
        shift = clz64(fraction)
        x.significand = fraction << shift
        x.exponent = -86 - shift             # 2^-149 is bit 0: exponent - 63 + shift = -149
        x.kind = KIND_FINITE
        x.denormal = 1
    else:
        x.kind = KIND_ZERO


cdef inline void unpack_f64(u64 a, Unpacked* x) noexcept nogil:
    cdef u64 fraction = a & <u64>0xFFFFFFFFFFFFF
    cdef int exponent = (a >> 52) & 0x7FF
    cdef int shift
    x.sign = a >> 63
    x.denormal = 0
    x.exponent = exponent - 1023
    x.significand = TOP | fraction << 11
    if exponent == 0x7FF:
        x.kind = KIND_INFINITY if fraction == 0 else KIND_QNAN if fraction >> 51 else KIND_SNAN
    elif exponent:
        x.kind = KIND_FINITE
    elif fraction:
        shift = clz64(fraction)
        x.significand = fraction << shift
        x.exponent = -1011 - shift           # bit 0 is 2^-1074
        x.kind = KIND_FINITE
        x.denormal = 1
    else:
        x.kind = KIND_ZERO


cdef inline void unpack_f80(F80 a, Unpacked* x) noexcept nogil:
    cdef int exponent = a.sign_exponent & 0x7FFF
    cdef int shift
    x.sign = a.sign_exponent >> 15
    x.denormal = 0
    x.exponent = exponent - 16383
    x.significand = a.significand
    if exponent == 0:
        if a.significand == 0:
            x.kind = KIND_ZERO
        else:
            shift = clz64(a.significand)
            x.significand = a.significand << shift
            x.exponent = -16382 - shift
            x.kind = KIND_FINITE
            x.denormal = 1
    elif not a.significand & TOP:
        x.kind = KIND_UNSUPPORTED
    elif exponent == 0x7FFF:
        if a.significand == TOP:
            x.kind = KIND_INFINITY
        else:
            x.kind = KIND_QNAN if a.significand & (TOP >> 1) else KIND_SNAN
    else:
        x.kind = KIND_FINITE


cdef inline void flush_denormal(Unpacked* x, const FloatStatus* s) noexcept nogil:
    """Denormals-are-zeros (SDM 1 10.2.3.4)."""
    if x.denormal and s.daz:
        x.kind = KIND_ZERO
        x.denormal = 0


cdef inline bint is_nan(const Unpacked* x) noexcept nogil:
    return x.kind == KIND_QNAN or x.kind == KIND_SNAN


# ---- 128-bit pieces ------------------------------------------------------------------------------------------------
cdef inline u128 shift_right_jam(u128 x, int count) noexcept nogil:
    """x >> count with all that is lost kept as a one in bit 0."""
    if count == 0:
        return x
    if count > 127:
        return x != 0
    return x >> count | <u128>((x << (128 - count)) != 0)


cdef inline void set_exact(Exact* e, u128 x, i32 exponent) noexcept nogil:
    """e = x * 2^(exponent - 126), x not zero."""
    cdef u64 high = <u64>(x >> 64)
    cdef int shift = clz64(high) if high else 64 + clz64(<u64>x)
    x = x << shift
    e.significand = <u64>(x >> 64)
    e.rest = <u64>x
    e.exponent = exponent + 1 - shift


# ---- the one rounding ----------------------------------------------------------------------------------------------
cdef inline bint rounds_up(u64 fraction, bint odd, int sign, int rounding) noexcept nogil:
    """Whether a magnitude with a lost `fraction` (of 2^64, not 0) becomes larger."""
    if rounding == ROUND_NEAREST:
        return fraction > TOP or (fraction == TOP and odd)
    if rounding == ROUND_DOWN:
        return sign
    if rounding == ROUND_UP:
        return not sign
    return False


cdef inline u64 round_significand(u64 significand, u64 rest, int bits, int sign, int rounding, int* change) noexcept nogil:
    """The upper `bits` bits, rounded; change: 0 exact, -1 cut, 1 made larger. A carry out of bit 63 gives 0."""
    cdef u64 unit = <u64>1 << (64 - bits)
    cdef u64 kept = significand & ~(unit - 1)
    cdef u64 fraction = rest if bits == 64 else (significand << (bits & 63) | <u64>(rest != 0))
    change[0] = 0
    if fraction == 0:
        return kept
    change[0] = -1
    if rounds_up(fraction, (kept & unit) != 0, sign, rounding):
        change[0] = 1
        kept += unit
    return kept


cdef inline int finish(Exact* e, int bits, i32 smallest, i32 largest, bint register, FloatStatus* s) noexcept nogil:
    """Rounds e to `bits` bits and the exponent range [smallest, largest] (SDM 1 4.9.1.4-6); returns FOUND_*.

    Bit 63 of the significand clear afterwards: a denormal (exponent == smallest). register: an x87 register, which gets a
    result with an adjusted exponent where overflow or underflow is unmasked; else such a result is not stored.
    """
    cdef int change
    cdef int again
    cdef u128 wide
    cdef i32 exponent = e.exponent
    cdef u64 significand = round_significand(e.significand, e.rest, bits, e.sign, s.rounding, &change)
    if significand == 0:
        significand = TOP
        exponent += 1
    if exponent > largest:
        s.flags |= FLOAT_OVERFLOW
        if not s.masks & FLOAT_OVERFLOW:
            if change:
                s.flags |= FLOAT_PRECISION
            if not register:
                return FOUND_NOTHING
            exponent -= BIAS_ADJUST
            s.rounded_up = change > 0
            e.significand = significand
            e.exponent = exponent
            if exponent > largest:           # FSCALE only
                s.flags |= FLOAT_PRECISION
                s.rounded_up = 1
                return FOUND_INFINITY
            return FOUND_NUMBER
        s.flags |= FLOAT_PRECISION
        s.rounded_up = s.rounding == ROUND_NEAREST or s.rounding == (ROUND_DOWN if e.sign else ROUND_UP)
        if s.rounded_up:
            return FOUND_INFINITY
        e.significand = ~(((<u64>1) << (64 - bits)) - 1)
        e.exponent = largest
        return FOUND_NUMBER
    if exponent < smallest:                  # tiny after rounding
        if not s.masks & FLOAT_UNDERFLOW:
            s.flags |= FLOAT_UNDERFLOW
            if change:
                s.flags |= FLOAT_PRECISION
            if not register:
                return FOUND_NOTHING
            exponent += BIAS_ADJUST
            s.rounded_up = change > 0
            e.significand = significand
            e.exponent = exponent
            if exponent < smallest:
                s.flags |= FLOAT_PRECISION
                s.rounded_up = 0
                return FOUND_ZERO
            return FOUND_NUMBER
        if s.ftz:
            s.flags |= FLOAT_UNDERFLOW | FLOAT_PRECISION
            return FOUND_ZERO
        wide = shift_right_jam(<u128>e.significand << 64 | e.rest, smallest - e.exponent if smallest - e.exponent < 1000 else 1000)
        significand = round_significand(<u64>(wide >> 64), <u64>wide, bits, e.sign, s.rounding, &again)
        if again:
            s.flags |= FLOAT_UNDERFLOW | FLOAT_PRECISION
        s.rounded_up = again > 0
        e.significand = significand
        e.exponent = smallest
        return FOUND_NUMBER if significand else FOUND_ZERO
    if change:
        s.flags |= FLOAT_PRECISION
    s.rounded_up = change > 0
    e.significand = significand
    e.exponent = exponent
    return FOUND_NUMBER


# ---- exact operations on operands that are not NaNs ------------------------------------------------------------------
cdef inline int invalid(FloatStatus* s) noexcept nogil:
    s.flags |= FLOAT_INVALID
    return FOUND_NAN if s.masks & FLOAT_INVALID else FOUND_NOTHING


cdef inline bint stops_at_denormal(FloatStatus* s, bint denormal) noexcept nogil:
    """Raises DE for a denormal operand; true: it is unmasked, the operation is not done."""
    if denormal:
        s.flags |= FLOAT_DENORMAL
        return not s.masks & FLOAT_DENORMAL
    return False


cdef inline void set_from(Exact* e, const Unpacked* x) noexcept nogil:
    e.significand = x.significand
    e.rest = 0
    e.exponent = x.exponent
    e.sign = x.sign


cdef inline int exact_add(const Unpacked* a, const Unpacked* b, bint subtract, Exact* e, FloatStatus* s) noexcept nogil:
    cdef u8 sign = b.sign ^ subtract
    cdef const Unpacked* swap
    cdef u8 first
    cdef u128 x
    cdef u128 y
    cdef int distance
    if a.kind == KIND_INFINITY and b.kind == KIND_INFINITY and a.sign != sign:
        return invalid(s)
    if stops_at_denormal(s, a.denormal or b.denormal):
        return FOUND_NOTHING
    if a.kind == KIND_INFINITY:
        e.sign = a.sign
        return FOUND_INFINITY
    if b.kind == KIND_INFINITY:
        e.sign = sign
        return FOUND_INFINITY
    if a.kind == KIND_ZERO or b.kind == KIND_ZERO:
        if a.kind == b.kind:
            e.sign = a.sign if a.sign == sign else s.rounding == ROUND_DOWN
            return FOUND_ZERO
        set_from(e, b if a.kind == KIND_ZERO else a)
        if a.kind == KIND_ZERO:
            e.sign = sign
        return FOUND_NUMBER
    first = a.sign
    if a.exponent < b.exponent or (a.exponent == b.exponent and a.significand < b.significand):
        swap = a
        a = b
        b = swap
        first = sign
        sign = swap.sign
    distance = a.exponent - b.exponent
    x = <u128>a.significand << 63
    y = shift_right_jam(<u128>b.significand << 63, distance)
    if first == sign:
        x += y
    else:
        x -= y
        if x == 0:
            e.sign = s.rounding == ROUND_DOWN
            return FOUND_ZERO
    e.sign = first
    set_exact(e, x, a.exponent)
    return FOUND_NUMBER


cdef inline int exact_mul(const Unpacked* a, const Unpacked* b, Exact* e, FloatStatus* s) noexcept nogil:
    e.sign = a.sign ^ b.sign
    if (a.kind == KIND_INFINITY and b.kind == KIND_ZERO) or (a.kind == KIND_ZERO and b.kind == KIND_INFINITY):
        return invalid(s)
    if stops_at_denormal(s, a.denormal or b.denormal):
        return FOUND_NOTHING
    if a.kind == KIND_INFINITY or b.kind == KIND_INFINITY:
        return FOUND_INFINITY
    if a.kind == KIND_ZERO or b.kind == KIND_ZERO:
        return FOUND_ZERO
    set_exact(e, <u128>a.significand * b.significand, a.exponent + b.exponent)
    return FOUND_NUMBER


cdef inline int exact_div(const Unpacked* a, const Unpacked* b, Exact* e, FloatStatus* s) noexcept nogil:
    cdef u128 dividend
    cdef u64 remainder
    e.sign = a.sign ^ b.sign
    if a.kind == b.kind and (a.kind == KIND_INFINITY or a.kind == KIND_ZERO):
        return invalid(s)
    if b.kind == KIND_ZERO and a.kind == KIND_FINITE:
        s.flags |= FLOAT_ZERO_DIVIDE         # comes before a denormal dividend (SDM 1 4.9.2)
        return FOUND_INFINITY if s.masks & FLOAT_ZERO_DIVIDE else FOUND_NOTHING
    if stops_at_denormal(s, a.denormal or b.denormal):
        return FOUND_NOTHING
    if a.kind == KIND_INFINITY:
        return FOUND_INFINITY
    if a.kind == KIND_ZERO or b.kind == KIND_INFINITY:
        return FOUND_ZERO
    e.exponent = a.exponent - b.exponent
    dividend = <u128>a.significand << 63
    if a.significand < b.significand:
        e.exponent -= 1
        dividend = dividend << 1
    e.significand = <u64>(dividend / <u128>b.significand)
    remainder = <u64>(dividend - <u128>e.significand * b.significand)
    e.rest = 0
    if remainder:
        if remainder > b.significand - remainder:
            e.rest = TOP + 1
        elif remainder == b.significand - remainder:
            e.rest = TOP
        else:
            e.rest = 1
    return FOUND_NUMBER


cdef inline int exact_sqrt(const Unpacked* a, Exact* e, FloatStatus* s) noexcept nogil:
    cdef u128 radicand
    cdef u128 remainder
    cdef u128 better
    cdef u64 root
    cdef double guess
    e.sign = a.sign
    if a.sign and a.kind != KIND_ZERO:
        return invalid(s)
    if stops_at_denormal(s, a.denormal):
        return FOUND_NOTHING
    if a.kind == KIND_ZERO:
        return FOUND_ZERO
    if a.kind == KIND_INFINITY:
        return FOUND_INFINITY
    # root = floor(sqrt(significand * 2^63 or 2^64)): the host guesses 50 bits, one step of Newton's gives 64 but for the last,
    # and what is left is put right in integers, whatever the guess was
    radicand = <u128>a.significand << (63 + (a.exponent & 1))
    e.exponent = a.exponent >> 1
    guess = host_sqrt(<double><u64>(radicand >> 64)) * 4294967296.0
    root = <u64>guess if guess < 18446744073709549568.0 else <u64>0xFFFFFFFFFFFFFFFF
    better = (radicand / <u128>root + <u128>root) >> 1
    root = <u64>better if better >> 64 == 0 else <u64>0xFFFFFFFFFFFFFFFF
    while <u128>root * <u128>root > radicand:
        root -= 1
    remainder = radicand - <u128>root * <u128>root
    while remainder > <u128>root << 1:
        remainder = remainder - (<u128>root << 1) - 1
        root += 1
    e.significand = root
    e.rest = 0 if remainder == 0 else TOP + 1 if remainder > root else 1   # never exactly a half
    return FOUND_NUMBER


# ---- integers ------------------------------------------------------------------------------------------------------
cdef inline bint to_integer(const Unpacked* a, int rounding, u64* magnitude, int* change) noexcept nogil:
    """The magnitude of a zero or finite `a` rounded to an integer; false: 2^64 or more. change as in round_significand."""
    cdef int shift = 63 - a.exponent
    cdef u64 fraction = 0
    change[0] = 0
    magnitude[0] = 0
    if a.kind == KIND_ZERO:
        return True
    if shift < 0:
        return False
    if shift == 0:
        magnitude[0] = a.significand
    elif shift < 64:
        magnitude[0] = a.significand >> shift
        fraction = a.significand << (64 - shift)
    else:
        fraction = a.significand if shift == 64 else 1
    if fraction:
        change[0] = -1
        if rounds_up(fraction, magnitude[0] & 1, a.sign, rounding):
            change[0] = 1
            magnitude[0] += 1
    return True


cdef inline i64 convert_integer(const Unpacked* a, int bits, int rounding, FloatStatus* s) noexcept nogil:
    """To a signed integer of `bits` bits; the integer indefinite with IE where it does not fit (SDM 1 4.2.2)."""
    cdef u64 magnitude
    cdef int change
    cdef u64 limit = <u64>1 << (bits - 1)
    if a.kind <= KIND_FINITE and to_integer(a, rounding, &magnitude, &change):
        if magnitude < limit or (magnitude == limit and a.sign):
            if change:
                s.flags |= FLOAT_PRECISION
            s.rounded_up = change > 0
            return <i64>(0 - magnitude) if a.sign else <i64>magnitude
    s.flags |= FLOAT_INVALID
    return <i64>(0 - limit)


cdef inline void unpack_integer(i64 value, Unpacked* x) noexcept nogil:
    cdef u64 magnitude = 0 - <u64>value if value < 0 else <u64>value
    cdef int shift
    x.sign = value < 0
    x.denormal = 0
    x.kind = KIND_ZERO
    if magnitude:
        shift = clz64(magnitude)
        x.kind = KIND_FINITE
        x.significand = magnitude << shift
        x.exponent = 63 - shift


# ---- order ---------------------------------------------------------------------------------------------------------
cdef inline int order(const Unpacked* a, const Unpacked* b) noexcept nogil:
    """RELATION_* of two operands that are not NaNs."""
    cdef int larger = 0                      # of the magnitudes
    if a.kind != b.kind:
        larger = 1 if a.kind > b.kind else -1
    elif a.kind == KIND_FINITE:
        if a.exponent != b.exponent:
            larger = 1 if a.exponent > b.exponent else -1
        elif a.significand != b.significand:
            larger = 1 if a.significand > b.significand else -1
    if a.sign != b.sign:
        if a.kind == KIND_ZERO and b.kind == KIND_ZERO:
            return RELATION_EQUAL
        return RELATION_LESS if a.sign else RELATION_GREATER
    return -larger if a.sign else larger
