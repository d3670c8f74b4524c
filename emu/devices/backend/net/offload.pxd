# What network cards compute for their drivers: Internet checksums, TCP segmentation, CRC-32.
from emu.base.types cimport u8, u16, u32, u64

cdef enum:
    CHECK_IP = 1                         # the frame has an IPv4 header ...
    CHECK_IP_GOOD = 2                    # ... whose checksum is right
    CHECK_DATA = 4                       # the frame is a whole TCP or UDP datagram with a checksum ...
    CHECK_DATA_GOOD = 8                  # ... that is right
    CHECK_TCP = 16                       # and it is TCP

# A frame made of a larger one by segmentation.
ctypedef void (*segment_fn)(void* owner, const u8* frame, u32 length) noexcept nogil


cdef u64 sum_words(const u8* data, u32 length) noexcept nogil                    # of 16-bit words as they lie in memory
cdef u16 fold(u64 words) noexcept nogil                                          # the checksum of such a sum, as it lies in memory
cdef bint put_checksum(u8* frame, u32 length, u32 start, u32 end, u32 place) noexcept nogil
cdef u32 inspect(const u8* frame, u32 length) noexcept nogil                     # CHECK_*
cdef int segment_tcp(u8* frame, u32 length, u32 headers, u32 maximum, u32 network, u32 transport, u8* scratch, segment_fn emit,
                     void* owner) noexcept nogil
cdef u32 crc32(const u8* data, u32 length) noexcept nogil
