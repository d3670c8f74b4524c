# IEEE-754 arithmetic as x86 does it: the numbers of SSE (f32, f64). f80 is in softfloat_x87, the common ground in softfloat_core.
#
# Every function is pure: bits in, bits out, exceptions into FloatStatus.flags (never cleared here). Where an exception is
# unmasked (its bit in FloatStatus.masks is clear) f32/f64 results are meaningless: the caller must not write them.
# Host floating point is used only where its answer is known to be the exact one; it is assumed to round to nearest.
from emu.base.bits cimport ctz64, likely
from emu.base.types cimport i32, i64, u8, u16, u32, u64

cdef enum:                       # bits of the x87 status word, of MXCSR and (as masks) of the x87 control word
    FLOAT_INVALID = 0x01
    FLOAT_DENORMAL = 0x02
    FLOAT_ZERO_DIVIDE = 0x04
    FLOAT_OVERFLOW = 0x08
    FLOAT_UNDERFLOW = 0x10
    FLOAT_PRECISION = 0x20
    FLOAT_BEFORE = 0x07          # found before the operation: where unmasked, it is not done (SDM 1 4.9.2)
    FLOAT_ALL = 0x3F

cdef enum:                       # rounding control, as encoded in MXCSR and the x87 control word
    ROUND_NEAREST = 0
    ROUND_DOWN = 1
    ROUND_UP = 2
    ROUND_ZERO = 3

cdef enum:                       # what a comparison finds
    RELATION_LESS = -1
    RELATION_EQUAL = 0
    RELATION_GREATER = 1
    RELATION_UNORDERED = 2

cdef struct FloatStatus:
    u8 rounding                  # ROUND_*
    u8 precision                 # bits of an f80 result's significand: 24, 53 or 64
    u8 daz                       # denormal operands are zeros (SSE only)
    u8 ftz                       # tiny results are zeros where underflow is masked (SSE only)
    u8 masks                     # FLOAT_*: 1 = masked
    u8 flags                     # FLOAT_*: raised so far; a new instruction starts with 0
    u8 rounded_up                # the last rounding made the magnitude larger (x87 C1)
    u8 host                      # 0: no host arithmetic; 1: only where the result is exact; 2: precision is sticky already

cdef struct F80:                 # 80-bit extended: bit 63 of the significand is the explicit integer bit
    u64 significand
    u16 sign_exponent            # bit 15 sign, 14..0 exponent biased by 16383


# ---- MXCSR <-> FloatStatus ----------------------------------------------------------------------------------------
cdef inline void status_from_mxcsr(FloatStatus* s, u32 mxcsr) noexcept nogil:
    """Fresh status (no flags) with the modes of MXCSR (SDM 1 10.2.3)."""
    s.rounding = (mxcsr >> 13) & 3
    s.precision = 64
    s.daz = (mxcsr >> 6) & 1
    s.ftz = (mxcsr >> 15) & 1
    s.masks = (mxcsr >> 7) & FLOAT_ALL
    s.flags = 0
    s.rounded_up = 0
    s.host = 0
    if (mxcsr & 0x7000) == 0x1000:           # nearest, precision masked
        s.host = 2 if mxcsr & FLOAT_PRECISION else 1


cdef inline bint mxcsr_commit(FloatStatus* s, u32* mxcsr) noexcept nogil:
    """Adds what an instruction (all its elements) raised to MXCSR; true: an exception is unmasked, write nothing, raise #XM."""
    cdef u32 unmasked = s.flags & ~<u32>s.masks
    if unmasked & FLOAT_BEFORE:              # SDM 1 11.5.3: then nothing was computed
        mxcsr[0] |= s.flags & FLOAT_BEFORE
        return True
    mxcsr[0] |= s.flags
    return unmasked != 0


# ---- in integers, for every operand and mode (softfloat.pyx) --------------------------------------------------------
cdef u32 f32_add_soft(u32 a, u32 b, FloatStatus* s) noexcept nogil
cdef u32 f32_sub_soft(u32 a, u32 b, FloatStatus* s) noexcept nogil
cdef u32 f32_mul_soft(u32 a, u32 b, FloatStatus* s) noexcept nogil
cdef u32 f32_div_soft(u32 a, u32 b, FloatStatus* s) noexcept nogil
cdef u32 f32_sqrt_soft(u32 a, FloatStatus* s) noexcept nogil
cdef u64 f64_add_soft(u64 a, u64 b, FloatStatus* s) noexcept nogil
cdef u64 f64_sub_soft(u64 a, u64 b, FloatStatus* s) noexcept nogil
cdef u64 f64_mul_soft(u64 a, u64 b, FloatStatus* s) noexcept nogil
cdef u64 f64_div_soft(u64 a, u64 b, FloatStatus* s) noexcept nogil
cdef u64 f64_sqrt_soft(u64 a, FloatStatus* s) noexcept nogil

# MIN*/MAX*: the second operand where both are zero or either is a NaN (IE for any NaN).
cdef u32 f32_min(u32 a, u32 b, FloatStatus* s) noexcept nogil
cdef u32 f32_max(u32 a, u32 b, FloatStatus* s) noexcept nogil
cdef u64 f64_min(u64 a, u64 b, FloatStatus* s) noexcept nogil
cdef u64 f64_max(u64 a, u64 b, FloatStatus* s) noexcept nogil

# RELATION_*; quiet: only an SNaN is invalid (UCOMIS*, CMP* eq/neq/ord/unord); else any NaN is (COMIS*, CMP* lt/le/nlt/nle).
cdef int f32_compare(u32 a, u32 b, bint quiet, FloatStatus* s) noexcept nogil
cdef int f64_compare(u64 a, u64 b, bint quiet, FloatStatus* s) noexcept nogil

# ROUND*: to an integral value in the given rounding mode; exact: no precision exception.
cdef u32 f32_round(u32 a, int rounding, bint exact, FloatStatus* s) noexcept nogil
cdef u64 f64_round(u64 a, int rounding, bint exact, FloatStatus* s) noexcept nogil

cdef u64 f32_to_f64(u32 a, FloatStatus* s) noexcept nogil
cdef u32 f64_to_f32(u64 a, FloatStatus* s) noexcept nogil
# To integers: `rounding` is s.rounding or ROUND_ZERO for the truncating forms; the integer indefinite (sign bit alone) and IE
# where the value does not fit.
cdef i32 f32_to_i32(u32 a, int rounding, FloatStatus* s) noexcept nogil
cdef i64 f32_to_i64(u32 a, int rounding, FloatStatus* s) noexcept nogil
cdef i32 f64_to_i32(u64 a, int rounding, FloatStatus* s) noexcept nogil
cdef i64 f64_to_i64(u64 a, int rounding, FloatStatus* s) noexcept nogil
cdef u32 i32_to_f32(i32 a, FloatStatus* s) noexcept nogil
cdef u32 i64_to_f32(i64 a, FloatStatus* s) noexcept nogil
cdef u64 i32_to_f64(i32 a, FloatStatus* s) noexcept nogil
cdef u64 i64_to_f64(i64 a, FloatStatus* s) noexcept nogil


# ---- what the host's own arithmetic may answer ---------------------------------------------------------------------
# Operands normal or zero, result safely normal (or an exact zero), rounding to nearest: then IEEE-754 leaves one answer
# and no flag but precision, which is either sticky already (host == 2) or shown here not to be raised.
cdef extern from *:
    """
    #include <float.h>
    #include <math.h>
    #if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD == 0
    #define EMU_HOST_FLOAT 1
    #else
    #define EMU_HOST_FLOAT 0
    #endif
    """
    bint HOST_FLOAT "EMU_HOST_FLOAT"
    double host_sqrt "__builtin_sqrt"(double) noexcept nogil
    float host_sqrtf "__builtin_sqrtf"(float) noexcept nogil


cdef inline bint f64_plain(u64 a) noexcept nogil:
    return (((a >> 52) + 1) & 0x7FF) > 1 or (a << 1) == 0


cdef inline bint f64_safe(u64 a) noexcept nogil:
    return ((a >> 52) & 0x7FF) - 2 < <u64>0x7FB


cdef inline int f64_trailing_zeros(u64 a) noexcept nogil:
    return ctz64(a | <u64>1 << 52)


cdef inline bint f32_plain(u32 a) noexcept nogil:
    return (((a >> 23) + 1) & 0xFF) > 1 or <u32>(a << 1) == 0


cdef inline bint f32_safe(u32 a) noexcept nogil:
    return <u32>(((a >> 23) & 0xFF) - 2) < <u32>0xFB


cdef inline u64 f64_add(u64 a, u64 b, FloatStatus* s) noexcept nogil:
    cdef double x, y, sum, back
    cdef u64 result
    if HOST_FLOAT and s.host and f64_plain(a) and f64_plain(b):
        x = (<double*>&a)[0]
        y = (<double*>&b)[0]
        sum = x + y
        result = (<u64*>&sum)[0]
        if likely(f64_safe(result)):
            if s.host == 2:
                return result
            back = sum - x                   # Knuth's two-sum: the rounding error itself is a double
            if (x - (sum - back)) + (y - back) == 0:
                return result
    return f64_add_soft(a, b, s)


cdef inline u64 f64_sub(u64 a, u64 b, FloatStatus* s) noexcept nogil:
    cdef double x, y, sum, back
    cdef u64 result
    if HOST_FLOAT and s.host and f64_plain(a) and f64_plain(b):
        x = (<double*>&a)[0]
        y = -(<double*>&b)[0]
        sum = x + y
        result = (<u64*>&sum)[0]
        if likely(f64_safe(result)):
            if s.host == 2:
                return result
            back = sum - x
            if (x - (sum - back)) + (y - back) == 0:
                return result
    return f64_sub_soft(a, b, s)


cdef inline u64 f64_mul(u64 a, u64 b, FloatStatus* s) noexcept nogil:
    cdef double product
    cdef u64 result
    if HOST_FLOAT and s.host and f64_plain(a) and f64_plain(b):
        product = (<double*>&a)[0] * (<double*>&b)[0]
        result = (<u64*>&product)[0]
        if likely(f64_safe(result)):
            if s.host == 2 or f64_trailing_zeros(a) + f64_trailing_zeros(b) >= 53:
                return result
    return f64_mul_soft(a, b, s)


cdef inline u64 f64_div(u64 a, u64 b, FloatStatus* s) noexcept nogil:
    cdef double quotient
    cdef u64 result
    if HOST_FLOAT and s.host and f64_plain(a) and f64_plain(b) and (b << 1) != 0:
        quotient = (<double*>&a)[0] / (<double*>&b)[0]
        result = (<u64*>&quotient)[0]
        if likely(f64_safe(result)):
            if s.host == 2 or (f64_trailing_zeros(result) + f64_trailing_zeros(b) >= 53
                               and quotient * (<double*>&b)[0] == (<double*>&a)[0]):
                return result
    return f64_div_soft(a, b, s)


cdef inline u64 f64_sqrt(u64 a, FloatStatus* s) noexcept nogil:
    cdef double root
    cdef u64 result
    if HOST_FLOAT and s.host and f64_safe(a) and not a >> 63:
        root = host_sqrt((<double*>&a)[0])
        result = (<u64*>&root)[0]
        if s.host == 2 or (2 * f64_trailing_zeros(result) >= 53 and root * root == (<double*>&a)[0]):
            return result
    return f64_sqrt_soft(a, s)


cdef inline u32 f32_add(u32 a, u32 b, FloatStatus* s) noexcept nogil:
    cdef float x, y, sum, back
    cdef u32 result
    if HOST_FLOAT and s.host and f32_plain(a) and f32_plain(b):
        x = (<float*>&a)[0]
        y = (<float*>&b)[0]
        sum = x + y
        result = (<u32*>&sum)[0]
        if likely(f32_safe(result)):
            if s.host == 2:
                return result
            back = sum - x
            if (x - (sum - back)) + (y - back) == 0:
                return result
    return f32_add_soft(a, b, s)


cdef inline u32 f32_sub(u32 a, u32 b, FloatStatus* s) noexcept nogil:
    cdef float x, y, sum, back
    cdef u32 result
    if HOST_FLOAT and s.host and f32_plain(a) and f32_plain(b):
        x = (<float*>&a)[0]
        y = -(<float*>&b)[0]
        sum = x + y
        result = (<u32*>&sum)[0]
        if likely(f32_safe(result)):
            if s.host == 2:
                return result
            back = sum - x
            if (x - (sum - back)) + (y - back) == 0:
                return result
    return f32_sub_soft(a, b, s)


cdef inline u32 f32_mul(u32 a, u32 b, FloatStatus* s) noexcept nogil:
    cdef float product
    cdef u32 result
    if HOST_FLOAT and s.host and f32_plain(a) and f32_plain(b):
        product = (<float*>&a)[0] * (<float*>&b)[0]
        result = (<u32*>&product)[0]
        if likely(f32_safe(result)):
            # 48 bits of product fit a double
            if s.host == 2 or <double>product == <double>(<float*>&a)[0] * <double>(<float*>&b)[0]:
                return result
    return f32_mul_soft(a, b, s)


cdef inline u32 f32_div(u32 a, u32 b, FloatStatus* s) noexcept nogil:
    cdef float quotient
    cdef u32 result
    if HOST_FLOAT and s.host and f32_plain(a) and f32_plain(b) and <u32>(b << 1) != 0:
        quotient = (<float*>&a)[0] / (<float*>&b)[0]
        result = (<u32*>&quotient)[0]
        if likely(f32_safe(result)):
            if s.host == 2 or <double>quotient * <double>(<float*>&b)[0] == <double>(<float*>&a)[0]:
                return result
    return f32_div_soft(a, b, s)


cdef inline u32 f32_sqrt(u32 a, FloatStatus* s) noexcept nogil:
    cdef float root
    cdef u32 result
    if HOST_FLOAT and s.host and f32_safe(a) and not a >> 31:
        root = host_sqrtf((<float*>&a)[0])
        result = (<u32*>&root)[0]
        if s.host == 2 or <double>root * <double>root == <double>(<float*>&a)[0]:
            return result
    return f32_sqrt_soft(a, s)
