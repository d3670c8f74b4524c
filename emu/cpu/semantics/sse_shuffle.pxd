# Lanes rearranged: interleave, pack, widen, shuffle, blend, insert. `n` is the number of bytes: 8 for MMX, 16 for xmm.
from emu.base.types cimport i8, i16, i32, i64, u8, u16, u32, u64
from emu.cpu.semantics.simd cimport Vec
from emu.cpu.semantics.sse_int cimport clamp, copy_lanes


# --- interleave ------------------------------------------------------------------------------------------------------

cdef inline void punpcklbw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 2):
        r.ub[2 * k] = d.ub[k]
        r.ub[2 * k + 1] = s.ub[k]
    copy_lanes(d, &r, n)


cdef inline void punpcklwd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 4):
        r.uw[2 * k] = d.uw[k]
        r.uw[2 * k + 1] = s.uw[k]
    copy_lanes(d, &r, n)


cdef inline void punpckldq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 8):
        r.ud[2 * k] = d.ud[k]
        r.ud[2 * k + 1] = s.ud[k]
    copy_lanes(d, &r, n)


cdef inline void punpckhbw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 2):
        r.ub[2 * k] = d.ub[k + n // 2]
        r.ub[2 * k + 1] = s.ub[k + n // 2]
    copy_lanes(d, &r, n)


cdef inline void punpckhwd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 4):
        r.uw[2 * k] = d.uw[k + n // 4]
        r.uw[2 * k + 1] = s.uw[k + n // 4]
    copy_lanes(d, &r, n)


cdef inline void punpckhdq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 8):
        r.ud[2 * k] = d.ud[k + n // 8]
        r.ud[2 * k + 1] = s.ud[k + n // 8]
    copy_lanes(d, &r, n)


cdef inline void punpcklqdq(Vec* d, const Vec* s, int n) noexcept nogil:
    d.uq[1] = s.uq[0]


cdef inline void punpckhqdq(Vec* d, const Vec* s, int n) noexcept nogil:
    d.uq[0] = d.uq[1]
    d.uq[1] = s.uq[1]


# --- pack with saturation --------------------------------------------------------------------------------------------

cdef inline void packsswb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 2):
        r.sb[k] = <i8>clamp(d.sw[k], -128, 127)
        r.sb[k + n // 2] = <i8>clamp(s.sw[k], -128, 127)
    copy_lanes(d, &r, n)


cdef inline void packuswb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 2):
        r.ub[k] = <u8>clamp(d.sw[k], 0, 255)
        r.ub[k + n // 2] = <u8>clamp(s.sw[k], 0, 255)
    copy_lanes(d, &r, n)


cdef inline void packssdw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 4):
        r.sw[k] = <i16>clamp(d.sd[k], -32768, 32767)
        r.sw[k + n // 4] = <i16>clamp(s.sd[k], -32768, 32767)
    copy_lanes(d, &r, n)


cdef inline void packusdw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n // 4):
        r.uw[k] = <u16>clamp(d.sd[k], 0, 65535)
        r.uw[k + n // 4] = <u16>clamp(s.sd[k], 0, 65535)
    copy_lanes(d, &r, n)


# --- widen -----------------------------------------------------------------------------------------------------------

cdef inline void pmovsxbw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(8):
        d.sw[k] = s.sb[k]


cdef inline void pmovzxbw(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(8):
        d.uw[k] = s.ub[k]


cdef inline void pmovsxbd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(4):
        d.sd[k] = s.sb[k]


cdef inline void pmovzxbd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(4):
        d.ud[k] = s.ub[k]


cdef inline void pmovsxbq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(2):
        d.sq[k] = s.sb[k]


cdef inline void pmovzxbq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(2):
        d.uq[k] = s.ub[k]


cdef inline void pmovsxwd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(4):
        d.sd[k] = s.sw[k]


cdef inline void pmovzxwd(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(4):
        d.ud[k] = s.uw[k]


cdef inline void pmovsxwq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(2):
        d.sq[k] = s.sw[k]


cdef inline void pmovzxwq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(2):
        d.uq[k] = s.uw[k]


cdef inline void pmovsxdq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(2):
        d.sq[k] = s.sd[k]


cdef inline void pmovzxdq(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(2):
        d.uq[k] = s.ud[k]


# --- shuffle; `order` is the immediate -------------------------------------------------------------------------------

cdef inline void pshufb(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n):
        r.ub[k] = 0 if s.ub[k] & 0x80 else d.ub[s.ub[k] & (n - 1)]
    copy_lanes(d, &r, n)


cdef inline void pshufw(Vec* d, const Vec* s, int n, int order) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(4):
        r.uw[k] = s.uw[(order >> (2 * k)) & 3]
    d.uq[0] = r.uq[0]


cdef inline void pshufd(Vec* d, const Vec* s, int n, int order) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(4):
        r.ud[k] = s.ud[(order >> (2 * k)) & 3]
    copy_lanes(d, &r, n)


cdef inline void pshuflw(Vec* d, const Vec* s, int n, int order) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(4):
        r.uw[k] = s.uw[(order >> (2 * k)) & 3]
    d.uq[0] = r.uq[0]
    d.uq[1] = s.uq[1]


cdef inline void pshufhw(Vec* d, const Vec* s, int n, int order) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(4):
        r.uw[k] = s.uw[4 + ((order >> (2 * k)) & 3)]
    d.uq[0] = s.uq[0]
    d.uq[1] = r.uq[0]


cdef inline void shufps(Vec* d, const Vec* s, int n, int order) noexcept nogil:
    cdef Vec r
    r.ud[0] = d.ud[order & 3]
    r.ud[1] = d.ud[(order >> 2) & 3]
    r.ud[2] = s.ud[(order >> 4) & 3]
    r.ud[3] = s.ud[(order >> 6) & 3]
    copy_lanes(d, &r, n)


cdef inline void shufpd(Vec* d, const Vec* s, int n, int order) noexcept nogil:
    d.uq[0] = d.uq[order & 1]
    d.uq[1] = s.uq[(order >> 1) & 1]


cdef inline void palignr(Vec* d, const Vec* s, int n, int count) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(n):
        r.ub[k] = 0 if k + count >= 2 * n else s.ub[k + count] if k + count < n else d.ub[k + count - n]
    copy_lanes(d, &r, n)


cdef inline void movshdup(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(4):
        d.ud[k] = s.ud[k | 1]


cdef inline void movsldup(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(4):
        d.ud[k] = s.ud[k & 2]


cdef inline void movddup(Vec* d, const Vec* s, int n) noexcept nogil:
    d.uq[0] = s.uq[0]
    d.uq[1] = s.uq[0]


# --- blend -----------------------------------------------------------------------------------------------------------

cdef inline void blendps(Vec* d, const Vec* s, int n, int choice) noexcept nogil:
    cdef int k
    for k in range(4):
        if (choice >> k) & 1:
            d.ud[k] = s.ud[k]


cdef inline void blendpd(Vec* d, const Vec* s, int n, int choice) noexcept nogil:
    cdef int k
    for k in range(2):
        if (choice >> k) & 1:
            d.uq[k] = s.uq[k]


cdef inline void pblendw(Vec* d, const Vec* s, int n, int choice) noexcept nogil:
    cdef int k
    for k in range(8):
        if (choice >> k) & 1:
            d.uw[k] = s.uw[k]


cdef inline void pblendvb(Vec* d, const Vec* s, int n, const Vec* choice) noexcept nogil:
    cdef int k
    for k in range(16):
        if choice.sb[k] < 0:
            d.ub[k] = s.ub[k]


cdef inline void blendvps(Vec* d, const Vec* s, int n, const Vec* choice) noexcept nogil:
    cdef int k
    for k in range(4):
        if choice.sd[k] < 0:
            d.ud[k] = s.ud[k]


cdef inline void blendvpd(Vec* d, const Vec* s, int n, const Vec* choice) noexcept nogil:
    cdef int k
    for k in range(2):
        if choice.sq[k] < 0:
            d.uq[k] = s.uq[k]


# --- the rest --------------------------------------------------------------------------------------------------------

cdef inline void insertps(Vec* d, const Vec* s, int n, int control) noexcept nogil:
    """Bits 5:4: lane written, 3:0: lanes cleared; s has the value in lane 0 (bits 7:6 are the caller's: memory has one)."""
    cdef int k
    d.ud[(control >> 4) & 3] = s.ud[0]
    for k in range(4):
        if (control >> k) & 1:
            d.ud[k] = 0


cdef inline void insertps_lane(Vec* d, const Vec* s, int n, int control) noexcept nogil:
    cdef Vec r
    r.ud[0] = s.ud[(control >> 6) & 3]
    insertps(d, &r, n, control)


cdef inline void mpsadbw(Vec* d, const Vec* s, int n, int control) noexcept nogil:
    """Eight sums of absolute differences of four bytes: d at 4 * bit 2 and up, s at 4 * bits 1:0."""
    cdef int k, m, difference, total
    cdef int left = control & 4
    cdef int right = 4 * (control & 3)
    cdef Vec r
    for k in range(8):
        total = 0
        for m in range(4):
            difference = <int>d.ub[left + k + m] - <int>s.ub[right + m]
            total += difference if difference > 0 else -difference
        r.uw[k] = <u16>total
    d[0] = r


cdef inline u64 byte_signs(const Vec* s, int n) noexcept nogil:
    """PMOVMSKB."""
    cdef int k
    cdef u64 mask = 0
    for k in range(n):
        mask |= <u64>(s.ub[k] >> 7) << k
    return mask


cdef inline u64 lane_get(const Vec* s, int lane, int size) noexcept nogil:
    """Lane of `size` bytes, zero-extended; `lane` is an immediate, of which only the low bits count."""
    if size == 1:
        return s.ub[lane & 15]
    if size == 2:
        return s.uw[lane & 7]
    if size == 4:
        return s.ud[lane & 3]
    return s.uq[lane & 1]


cdef inline void lane_set(Vec* d, int lane, u64 value, int size) noexcept nogil:
    if size == 1:
        d.ub[lane & 15] = <u8>value
    elif size == 2:
        d.uw[lane & 7] = <u16>value
    elif size == 4:
        d.ud[lane & 3] = <u32>value
    else:
        d.uq[lane & 1] = value
