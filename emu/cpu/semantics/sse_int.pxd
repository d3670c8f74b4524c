# Integer arithmetic of MMX and SSE: lanes of `d` become d op s. `n` is the number of bytes: 8 for MMX, 16 for xmm.
from emu.base.types cimport i8, i16, i32, i64, u8, u16, u32, u64
from emu.cpu.semantics.simd cimport Vec


cdef inline int clamp(int value, int low, int high) noexcept nogil:
    """Saturates."""
    return low if value < low else high if value > high else value


cdef inline void copy_lanes(Vec* d, const Vec* s, int n) noexcept nogil:
    d.uq[0] = s.uq[0]
    if n == 16:
        d.uq[1] = s.uq[1]


# --- add and subtract ------------------------------------------------------------------------------------------------

cdef inline void paddb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.ub[k] = <u8>(d.ub[k] + s.ub[k])


cdef inline void paddw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.uw[k] = <u16>(d.uw[k] + s.uw[k])


cdef inline void paddd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 4):
        d.ud[k] = <u32>(d.ud[k] + s.ud[k])


cdef inline void paddq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 8):
        d.uq[k] = <u64>(d.uq[k] + s.uq[k])


cdef inline void psubb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.ub[k] = <u8>(d.ub[k] - s.ub[k])


cdef inline void psubw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.uw[k] = <u16>(d.uw[k] - s.uw[k])


cdef inline void psubd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 4):
        d.ud[k] = <u32>(d.ud[k] - s.ud[k])


cdef inline void psubq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 8):
        d.uq[k] = <u64>(d.uq[k] - s.uq[k])


cdef inline void paddsb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.sb[k] = <i8>clamp(<int>d.sb[k] + <int>s.sb[k], -128, 127)


cdef inline void paddsw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.sw[k] = <i16>clamp(<int>d.sw[k] + <int>s.sw[k], -32768, 32767)


cdef inline void paddusb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.ub[k] = <u8>clamp(<int>d.ub[k] + <int>s.ub[k], 0, 255)


cdef inline void paddusw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.uw[k] = <u16>clamp(<int>d.uw[k] + <int>s.uw[k], 0, 65535)


cdef inline void psubsb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.sb[k] = <i8>clamp(<int>d.sb[k] - <int>s.sb[k], -128, 127)


cdef inline void psubsw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.sw[k] = <i16>clamp(<int>d.sw[k] - <int>s.sw[k], -32768, 32767)


cdef inline void psubusb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.ub[k] = <u8>clamp(<int>d.ub[k] - <int>s.ub[k], 0, 255)


cdef inline void psubusw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.uw[k] = <u16>clamp(<int>d.uw[k] - <int>s.uw[k], 0, 65535)


# --- logic -----------------------------------------------------------------------------------------------------------

cdef inline void pand(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 8):
        d.uq[k] = d.uq[k] & s.uq[k]


cdef inline void pandn(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 8):
        d.uq[k] = ~d.uq[k] & s.uq[k]


cdef inline void por(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 8):
        d.uq[k] = d.uq[k] | s.uq[k]


cdef inline void pxor(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 8):
        d.uq[k] = d.uq[k] ^ s.uq[k]


# --- comparisons -----------------------------------------------------------------------------------------------------

cdef inline void pcmpeqb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.ub[k] = <u8>-(d.ub[k] == s.ub[k])


cdef inline void pcmpeqw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.uw[k] = <u16>-(d.uw[k] == s.uw[k])


cdef inline void pcmpeqd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 4):
        d.ud[k] = <u32>-(d.ud[k] == s.ud[k])


cdef inline void pcmpeqq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 8):
        d.uq[k] = <u64>-(d.uq[k] == s.uq[k])


cdef inline void pcmpgtb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.sb[k] = <i8>-(d.sb[k] > s.sb[k])


cdef inline void pcmpgtw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.sw[k] = <i16>-(d.sw[k] > s.sw[k])


cdef inline void pcmpgtd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 4):
        d.sd[k] = <i32>-(d.sd[k] > s.sd[k])


cdef inline void pcmpgtq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 8):
        d.sq[k] = <i64>-(d.sq[k] > s.sq[k])


cdef inline void pmaxub(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.ub[k] = d.ub[k] if d.ub[k] > s.ub[k] else s.ub[k]


cdef inline void pmaxsb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.sb[k] = d.sb[k] if d.sb[k] > s.sb[k] else s.sb[k]


cdef inline void pmaxuw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.uw[k] = d.uw[k] if d.uw[k] > s.uw[k] else s.uw[k]


cdef inline void pmaxsw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.sw[k] = d.sw[k] if d.sw[k] > s.sw[k] else s.sw[k]


cdef inline void pmaxud(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 4):
        d.ud[k] = d.ud[k] if d.ud[k] > s.ud[k] else s.ud[k]


cdef inline void pmaxsd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 4):
        d.sd[k] = d.sd[k] if d.sd[k] > s.sd[k] else s.sd[k]


cdef inline void pminub(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.ub[k] = d.ub[k] if d.ub[k] < s.ub[k] else s.ub[k]


cdef inline void pminsb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.sb[k] = d.sb[k] if d.sb[k] < s.sb[k] else s.sb[k]


cdef inline void pminuw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.uw[k] = d.uw[k] if d.uw[k] < s.uw[k] else s.uw[k]


cdef inline void pminsw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.sw[k] = d.sw[k] if d.sw[k] < s.sw[k] else s.sw[k]


cdef inline void pminud(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 4):
        d.ud[k] = d.ud[k] if d.ud[k] < s.ud[k] else s.ud[k]


cdef inline void pminsd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 4):
        d.sd[k] = d.sd[k] if d.sd[k] < s.sd[k] else s.sd[k]


# --- averages, absolute values, signs --------------------------------------------------------------------------------

cdef inline void pavgb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.ub[k] = <u8>((<u32>d.ub[k] + <u32>s.ub[k] + 1) >> 1)


cdef inline void pavgw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.uw[k] = <u16>((<u32>d.uw[k] + <u32>s.uw[k] + 1) >> 1)


cdef inline void pabsb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.ub[k] = <u8>(0 - s.ub[k]) if s.sb[k] < 0 else s.ub[k]


cdef inline void pabsw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.uw[k] = <u16>(0 - s.uw[k]) if s.sw[k] < 0 else s.uw[k]


cdef inline void pabsd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 4):
        d.ud[k] = <u32>(0 - s.ud[k]) if s.sd[k] < 0 else s.ud[k]


cdef inline void psignb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n):
        d.ub[k] = <u8>(0 - d.ub[k]) if s.sb[k] < 0 else (d.ub[k] if s.sb[k] else 0)


cdef inline void psignw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.uw[k] = <u16>(0 - d.uw[k]) if s.sw[k] < 0 else (d.uw[k] if s.sw[k] else 0)


cdef inline void psignd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 4):
        d.ud[k] = <u32>(0 - d.ud[k]) if s.sd[k] < 0 else (d.ud[k] if s.sd[k] else 0)


# --- products --------------------------------------------------------------------------------------------------------

cdef inline void pmullw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.uw[k] = <u16>(<u32>d.uw[k] * <u32>s.uw[k])


cdef inline void pmulld(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 4):
        d.ud[k] = d.ud[k] * s.ud[k]


cdef inline void pmulhw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.sw[k] = <i16>((<i32>d.sw[k] * <i32>s.sw[k]) >> 16)


cdef inline void pmulhuw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.uw[k] = <u16>((<u32>d.uw[k] * <u32>s.uw[k]) >> 16)


cdef inline void pmulhrsw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.sw[k] = <i16>(((<i32>d.sw[k] * <i32>s.sw[k]) + 0x4000) >> 15)


cdef inline void pmuludq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 8):
        d.uq[k] = <u64><u32>d.uq[k] * <u64><u32>s.uq[k]


cdef inline void pmuldq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 8):
        d.sq[k] = <i64><i32>d.uq[k] * <i64><i32>s.uq[k]


cdef inline void pmaddwd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 4):
        d.ud[k] = <u32>(<i32>d.sw[2 * k] * <i32>s.sw[2 * k]) + <u32>(<i32>d.sw[2 * k + 1] * <i32>s.sw[2 * k + 1])


cdef inline void pmaddubsw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(n // 2):
        d.sw[k] = <i16>clamp(<int>d.ub[2 * k] * s.sb[2 * k] + <int>d.ub[2 * k + 1] * s.sb[2 * k + 1], -32768, 32767)


cdef inline void psadbw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k, half
    cdef u32 total
    for half in range(n // 8):
        total = 0
        for k in range(8 * half, 8 * half + 8):
            total += <u32>(d.ub[k] - s.ub[k] if d.ub[k] > s.ub[k] else s.ub[k] - d.ub[k])
        d.uq[half] = total


# --- shifts: a count beyond the lane clears it, or fills it with the sign; `shift` serves both count forms -----------

cdef inline void shift_sllw(Vec* d, u64 count, int n) noexcept nogil:
    cdef int k
    if count > 15:
        d.uq[0] = 0
        d.uq[1] = 0
        return
    for k in range(n // 2):
        d.uw[k] = <u16>(d.uw[k] << <int>count)


cdef inline void shift_slld(Vec* d, u64 count, int n) noexcept nogil:
    cdef int k
    if count > 31:
        d.uq[0] = 0
        d.uq[1] = 0
        return
    for k in range(n // 4):
        d.ud[k] = <u32>(d.ud[k] << <int>count)


cdef inline void shift_sllq(Vec* d, u64 count, int n) noexcept nogil:
    cdef int k
    if count > 63:
        d.uq[0] = 0
        d.uq[1] = 0
        return
    for k in range(n // 8):
        d.uq[k] = <u64>(d.uq[k] << <int>count)


cdef inline void shift_srlw(Vec* d, u64 count, int n) noexcept nogil:
    cdef int k
    if count > 15:
        d.uq[0] = 0
        d.uq[1] = 0
        return
    for k in range(n // 2):
        d.uw[k] = <u16>(d.uw[k] >> <int>count)


cdef inline void shift_srld(Vec* d, u64 count, int n) noexcept nogil:
    cdef int k
    if count > 31:
        d.uq[0] = 0
        d.uq[1] = 0
        return
    for k in range(n // 4):
        d.ud[k] = <u32>(d.ud[k] >> <int>count)


cdef inline void shift_srlq(Vec* d, u64 count, int n) noexcept nogil:
    cdef int k
    if count > 63:
        d.uq[0] = 0
        d.uq[1] = 0
        return
    for k in range(n // 8):
        d.uq[k] = <u64>(d.uq[k] >> <int>count)


cdef inline void shift_sraw(Vec* d, u64 count, int n) noexcept nogil:
    cdef int k
    cdef int places = <int>count if count < 16 else 15
    for k in range(n // 2):
        d.sw[k] = <i16>(d.sw[k] >> places)


cdef inline void shift_srad(Vec* d, u64 count, int n) noexcept nogil:
    cdef int k
    cdef int places = <int>count if count < 32 else 31
    for k in range(n // 4):
        d.sd[k] = <i32>(d.sd[k] >> places)


cdef inline void psllw(Vec* d, const Vec* s, int n) noexcept nogil:
    shift_sllw(d, s.uq[0], n)


cdef inline void pslld(Vec* d, const Vec* s, int n) noexcept nogil:
    shift_slld(d, s.uq[0], n)


cdef inline void psllq(Vec* d, const Vec* s, int n) noexcept nogil:
    shift_sllq(d, s.uq[0], n)


cdef inline void psrlw(Vec* d, const Vec* s, int n) noexcept nogil:
    shift_srlw(d, s.uq[0], n)


cdef inline void psrld(Vec* d, const Vec* s, int n) noexcept nogil:
    shift_srld(d, s.uq[0], n)


cdef inline void psrlq(Vec* d, const Vec* s, int n) noexcept nogil:
    shift_srlq(d, s.uq[0], n)


cdef inline void psraw(Vec* d, const Vec* s, int n) noexcept nogil:
    shift_sraw(d, s.uq[0], n)


cdef inline void psrad(Vec* d, const Vec* s, int n) noexcept nogil:
    shift_srad(d, s.uq[0], n)


cdef inline void shift_slldq(Vec* d, u64 count, int n) noexcept nogil:
    """Bytes of the whole register."""
    if count > 15:
        d.uq[0] = 0
        d.uq[1] = 0
    elif count >= 8:
        d.uq[1] = d.uq[0] << (8 * (count - 8))
        d.uq[0] = 0
    elif count:
        d.uq[1] = (d.uq[1] << (8 * count)) | (d.uq[0] >> (64 - 8 * count))
        d.uq[0] = d.uq[0] << (8 * count)


cdef inline void shift_srldq(Vec* d, u64 count, int n) noexcept nogil:
    if count > 15:
        d.uq[0] = 0
        d.uq[1] = 0
    elif count >= 8:
        d.uq[0] = d.uq[1] >> (8 * (count - 8))
        d.uq[1] = 0
    elif count:
        d.uq[0] = (d.uq[0] >> (8 * count)) | (d.uq[1] << (64 - 8 * count))
        d.uq[1] = d.uq[1] >> (8 * count)


# --- horizontal ------------------------------------------------------------------------------------------------------

cdef inline void phaddw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 4):
        r.uw[k] = <u16>(d.uw[2 * k] + d.uw[2 * k + 1])
        r.uw[k + n // 4] = <u16>(s.uw[2 * k] + s.uw[2 * k + 1])
    copy_lanes(d, &r, n)


cdef inline void phaddd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 8):
        r.ud[k] = <u32>(d.ud[2 * k] + d.ud[2 * k + 1])
        r.ud[k + n // 8] = <u32>(s.ud[2 * k] + s.ud[2 * k + 1])
    copy_lanes(d, &r, n)


cdef inline void phaddsw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 4):
        r.sw[k] = <i16>clamp(<int>d.sw[2 * k] + <int>d.sw[2 * k + 1], -32768, 32767)
        r.sw[k + n // 4] = <i16>clamp(<int>s.sw[2 * k] + <int>s.sw[2 * k + 1], -32768, 32767)
    copy_lanes(d, &r, n)


cdef inline void phsubw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 4):
        r.uw[k] = <u16>(d.uw[2 * k] - d.uw[2 * k + 1])
        r.uw[k + n // 4] = <u16>(s.uw[2 * k] - s.uw[2 * k + 1])
    copy_lanes(d, &r, n)


cdef inline void phsubd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 8):
        r.ud[k] = <u32>(d.ud[2 * k] - d.ud[2 * k + 1])
        r.ud[k + n // 8] = <u32>(s.ud[2 * k] - s.ud[2 * k + 1])
    copy_lanes(d, &r, n)


cdef inline void phsubsw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 4):
        r.sw[k] = <i16>clamp(<int>d.sw[2 * k] - <int>d.sw[2 * k + 1], -32768, 32767)
        r.sw[k + n // 4] = <i16>clamp(<int>s.sw[2 * k] - <int>s.sw[2 * k + 1], -32768, 32767)
    copy_lanes(d, &r, n)


cdef inline void phminposuw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef int best = 0
    for k in range(8):
        if s.uw[k] < s.uw[best]:
            best = k
    d.uq[0] = s.uw[best] | (<u64>best << 16)
    d.uq[1] = 0
