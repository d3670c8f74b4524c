# Small bit operations on integers; all inline, all without the GIL. `size` is always in bytes (1, 2, 4, 8).
from emu.base.types cimport i8, i16, i32, i64, u8, u16, u32, u64

cdef extern from *:
    """
    #define emu_likely(x)   __builtin_expect(!!(x), 1)
    #define emu_unlikely(x) __builtin_expect(!!(x), 0)
    #define emu_clz64(x)    __builtin_clzll(x)
    #define emu_ctz64(x)    __builtin_ctzll(x)
    #define emu_popcount64(x) __builtin_popcountll(x)
    #define emu_parity8(x)  (!__builtin_parity((unsigned)(x) & 0xff))
    #define emu_bswap64(x)  __builtin_bswap64(x)
    #define emu_bswap32(x)  __builtin_bswap32(x)
    typedef unsigned __int128 emu_u128;
    typedef __int128 emu_i128;
    """
    bint likely "emu_likely"(bint x) noexcept nogil
    bint unlikely "emu_unlikely"(bint x) noexcept nogil
    int clz64 "emu_clz64"(u64 x) noexcept nogil          # undefined for 0
    int ctz64 "emu_ctz64"(u64 x) noexcept nogil          # undefined for 0
    int popcount64 "emu_popcount64"(u64 x) noexcept nogil
    int parity8 "emu_parity8"(u64 x) noexcept nogil      # 1 where the low byte has an even number of ones (PF)
    u64 bswap64 "emu_bswap64"(u64 x) noexcept nogil
    u32 bswap32 "emu_bswap32"(u32 x) noexcept nogil
    ctypedef unsigned long long u128 "emu_u128"          # really 128 bits wide in C
    ctypedef long long i128 "emu_i128"


cdef inline u64 mask_of(int size) noexcept nogil:
    return <u64>0xFFFFFFFFFFFFFFFF >> (64 - 8 * size)


cdef inline u64 sign_bit(int size) noexcept nogil:
    return <u64>1 << (8 * size - 1)


cdef inline i64 sign_extend(u64 value, int size) noexcept nogil:
    if size == 1:
        return <i64><i8>value
    if size == 2:
        return <i64><i16>value
    if size == 4:
        return <i64><i32>value
    return <i64>value
