# DPPS, DPPD, and the approximations of RCPPS and RSQRTPS.
from emu.base.types cimport u32, u64
from emu.cpu.semantics.simd cimport Vec, float_end, float_start, sse_source, xmm
from emu.cpu.softfloat cimport FloatStatus, f32_add, f32_mul, f64_add, f64_mul
from emu.cpu.state cimport Cpu, Insn


cdef int dpps(Cpu* c, Insn* i) noexcept nogil:
    """Products of the lanes chosen by bits 7:4, summed in pairs, put into the lanes chosen by bits 3:0.

    Exceptions of each step count before the next begins (SDM 2A DPPS)."""
    cdef Vec* s = <Vec*>&c.operand
    cdef Vec* d
    cdef FloatStatus* f
    cdef u32[4] product
    cdef u32 low, high
    cdef int k
    if sse_source(c, i, 16, s):
        return 1
    d = xmm(c, i.dst)
    f = float_start(c)
    for k in range(4):
        product[k] = f32_mul(d.ud[k], s.ud[k], f) if (i.imm >> (4 + k)) & 1 else 0
    if float_end(c):
        return 1
    low = f32_add(product[0], product[1], f)
    high = f32_add(product[2], product[3], f)
    if float_end(c):
        return 1
    low = f32_add(low, high, f)
    if float_end(c):
        return 1
    for k in range(4):
        d.ud[k] = low if (i.imm >> k) & 1 else 0
    return 0


cdef int dppd(Cpu* c, Insn* i) noexcept nogil:
    cdef Vec* s = <Vec*>&c.operand
    cdef Vec* d
    cdef FloatStatus* f
    cdef u64[2] product
    cdef u64 total
    cdef int k
    if sse_source(c, i, 16, s):
        return 1
    d = xmm(c, i.dst)
    f = float_start(c)
    for k in range(2):
        product[k] = f64_mul(d.uq[k], s.uq[k], f) if (i.imm >> (4 + k)) & 1 else 0
    if float_end(c):
        return 1
    total = f64_add(product[0], product[1], f)
    if float_end(c):
        return 1
    for k in range(2):
        d.uq[k] = total if (i.imm >> k) & 1 else 0
    return 0


# The approximations. DEVIATES: processors differ in these from vendor to vendor; here the result is the exact one
# cut to 13 significant bits, then rounded to 12 (relative error below 2^-12; SDM 2B allows 1.5 * 2^-12), the same on every host.
# Denormals count as zeros, tiny results are zeros, MXCSR is neither read nor written (SDM 2B RCPPS, RSQRTPS).

cdef inline u32 twelve_bits(u32 sign, int exponent, u64 significand) noexcept nogil:
    """significand: 13 bits with the leading one in bit 12; rounds the last one off."""
    significand = (significand + 1) >> 1
    return sign + (<u32>exponent << 23) + (<u32>(significand - 0x800) << 12)     # a carry goes into the exponent


cdef u32 reciprocal(u32 a) noexcept nogil:
    cdef u32 sign = a & <u32>0x80000000
    cdef int exponent = (a >> 23) & 0xFF
    cdef u64 fraction = a & 0x7FFFFF
    cdef u64 quotient
    if exponent == 0xFF:
        return a | 0x400000 if fraction else sign
    if exponent == 0:
        return sign | 0x7F800000
    # 1 / (1.f * 2^e): with f = 0 it is 2^-e, else 2 / 1.f lies in (1, 2) and the exponent is one lower
    if fraction == 0:
        return sign | (<u32>(254 - exponent) << 23) if exponent < 254 else sign
    if exponent >= 253:
        return sign
    quotient = (<u64>1 << 36) // (fraction | 0x800000)           # 13 bits: 2^12 * 2 / 1.f
    return twelve_bits(sign, 253 - exponent, quotient)


cdef u32 reciprocal_root(u32 a) noexcept nogil:
    cdef u32 sign = a & <u32>0x80000000
    cdef int exponent = (a >> 23) & 0xFF
    cdef u64 fraction = a & 0x7FFFFF
    cdef u64 radicand, root, try_root
    cdef int half, bit
    if exponent == 0xFF and fraction:
        return a | 0x400000
    if exponent == 0:
        return sign | 0x7F800000
    if sign:
        return <u32>0xFFC00000
    if exponent == 0xFF:
        return 0
    half = exponent - 127
    radicand = fraction | 0x800000               # 1.f * 2^23
    if half & 1:
        radicand <<= 1                           # in [1, 4): exponent is even now
        half -= 1
    half = half >> 1                             # 1/sqrt(r) * 2^-half, in (1/2, 1]
    if radicand == 0x800000:
        return <u32>(127 - half) << 23
    # the largest root with root^2 * radicand <= 2^(2*13 + 23): 13 bits, 2^13 / sqrt(r) in [2^12, 2^13)
    root = 0
    for bit in range(12, -1, -1):
        try_root = root | (<u64>1 << bit)
        if try_root * try_root * radicand <= (<u64>1 << 49):
            root = try_root
    return twelve_bits(0, 126 - half, root)
