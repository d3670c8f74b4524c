# f80 arithmetic as the x87 does it: operations on unpacked operands (so that m32 and m64 operands keep their DE and SNaN), and
# what only the x87 has: scale, extract, remainders, packed decimals.
from emu.base.types cimport i64, u8, u16, u32, u64
from emu.cpu.softfloat cimport F80, FloatStatus
from emu.cpu.softfloat_core cimport Exact, Unpacked

cdef enum:                       # arithmetic operations, as ModRM.reg of D8 encodes them
    OPERATION_ADD = 0
    OPERATION_MUL = 1
    OPERATION_SUB = 4            # destination - source
    OPERATION_SUBR = 5           # source - destination
    OPERATION_DIV = 6
    OPERATION_DIVR = 7

cdef struct Remainder:
    F80 value
    u64 quotient                 # its low bits
    bint nan                     # a NaN came of it: there is no quotient
    bint partial                 # the exponents were too far apart: reduced, but not yet a remainder (C2)


cdef inline F80 f80(u16 sign_exponent, u64 significand) noexcept nogil:
    cdef F80 value
    value.significand = significand
    value.sign_exponent = sign_exponent
    return value


cdef inline F80 f80_indefinite() noexcept nogil:
    """The QNaN floating-point indefinite (SDM 1 table 4-3)."""
    return f80(0xFFFF, <u64>3 << 62)


# An unmasked FLOAT_BEFORE exception leaves the result meaningless: the caller must not write it. Otherwise the result is what goes
# to the register, with its exponent adjusted where overflow or underflow is unmasked.
cdef F80 f80_operate(int operation, const Unpacked* a, const Unpacked* b, FloatStatus* s) noexcept nogil
cdef F80 f80_sqrt(const Unpacked* a, FloatStatus* s) noexcept nogil
cdef F80 f80_round(F80 a, FloatStatus* s) noexcept nogil                         # FRNDINT
cdef F80 f80_scale(F80 a, F80 b, FloatStatus* s) noexcept nogil                  # a * 2^trunc(b)
cdef F80 f80_extract(F80 a, F80* exponent, FloatStatus* s) noexcept nogil        # the significand; the exponent into *exponent
cdef Remainder f80_remainder(F80 a, F80 b, bint nearest, FloatStatus* s) noexcept nogil   # FPREM1 (nearest), FPREM
cdef int f80_compare(const Unpacked* a, const Unpacked* b, bint quiet, FloatStatus* s) noexcept nogil
cdef F80 pack_f80(int found, Exact* e, int bits, FloatStatus* s) noexcept nogil           # rounds to `bits` bits
cdef F80 f80_nan(const Unpacked* a, const Unpacked* b, FloatStatus* s) noexcept nogil     # a or b is a NaN or unsupported

cdef F80 f80_load(const Unpacked* a, FloatStatus* s) noexcept nogil              # FLD m32/m64: exact
cdef F80 f80_from_integer(i64 value) noexcept nogil
cdef u32 f80_to_f32(F80 a, FloatStatus* s) noexcept nogil
cdef u64 f80_to_f64(F80 a, FloatStatus* s) noexcept nogil
cdef i64 f80_to_integer(F80 a, int bits, int rounding, FloatStatus* s) noexcept nogil     # sign-extended; indefinite and IE
# Packed decimal: 18 digits in `low` (16 of them) and bits 7:0 of `high`; the sign in bit 15 of `high`.
cdef F80 f80_from_bcd(u64 low, u16 high) noexcept nogil
cdef u64 f80_to_bcd(F80 a, u16* high, FloatStatus* s) noexcept nogil
