# Split virtqueues: taking descriptor chains from a guest's ring, and giving them back.
from emu.base.types cimport u8, u16, u32, u64
from emu.memory.space cimport Space

cdef enum:
    QUEUE_MAXIMUM = 256                  # descriptors of the largest ring, and of the longest chain


cdef struct Segment:
    u64 address
    u32 length


cdef struct Chain:                       # readable segments first, then writable ones
    u16 head
    int count
    int readable                         # how many of them the device may read; the others it may write
    u64 readable_bytes
    u64 writable_bytes
    Segment segment[QUEUE_MAXIMUM]


cdef struct VirtQueue:
    u16 maximum
    u16 size
    u16 vector                           # MSI-X
    u8 enabled
    u8 indirect                          # negotiated
    u8 event_index                       # negotiated
    u64 descriptors                      # descriptor table
    u64 driver                           # available ring
    u64 device                           # used ring
    u16 next_available
    u16 next_used
    u16 signalled                        # next_used when the driver was last told


cdef void queue_reset(VirtQueue* queue) noexcept nogil
cdef int queue_pop(VirtQueue* queue, Space* space, Chain* chain) noexcept nogil
cdef void queue_unpop(VirtQueue* queue) noexcept nogil
cdef int queue_push(VirtQueue* queue, Space* space, Chain* chain, u32 written) noexcept nogil
cdef int queue_should_signal(VirtQueue* queue, Space* space) noexcept nogil
cdef int chain_read(Chain* chain, Space* space, u64 offset, void* data, u64 length) noexcept nogil
cdef int chain_write(Chain* chain, Space* space, u64 offset, const void* data, u64 length) noexcept nogil
