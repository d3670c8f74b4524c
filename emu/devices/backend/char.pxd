# A byte stream to and from the host: the rings behind a serial line, a debug port or a console.
#
# The device's side is char_put and char_get, without the GIL; the host's side is CharBackend.take and .feed, between
# two slices of a run. Output is bounded: from CHAR_FULL_BYTES on the line `full` is up, and whoever runs the machine
# stops at the next instruction boundary and takes it all. A device puts at most CHAR_BURST_BYTES in one access, so
# nothing is lost as long as somebody takes; bytes that find no room are counted in `lost`.
from emu.base.line cimport Line, LineOutput
from emu.base.types cimport u8, u32, u64

cdef enum:
    CHAR_OUTPUT_BYTES = 1 << 18          # powers of two
    CHAR_INPUT_BYTES = 1 << 12
    CHAR_FULL_BYTES = 1 << 16
    CHAR_BURST_BYTES = 1 << 16

ctypedef void (*char_ready_fn)(void* owner) noexcept nogil


cdef struct CharState:
    u8* output
    u32 output_head                      # bytes ever put and ever taken, modulo 2**32
    u32 output_tail
    u8 input[CHAR_INPUT_BYTES]
    u32 input_head                       # bytes ever fed and ever got, modulo 2**32
    u32 input_tail
    int output_full                      # 1 from CHAR_FULL_BYTES on, until it is taken
    Line full
    u64 lost
    u64 total                            # bytes put since power-on, lost ones included
    char_ready_fn ready                  # tells the device that input has come
    void* ready_owner


cdef inline u32 char_available(CharState* stream) noexcept nogil:
    """How many bytes of input wait."""
    return stream.input_head - stream.input_tail


cdef inline int char_get(CharState* stream) noexcept nogil:
    """The next byte of input, or -1 where none waits."""
    cdef u8 byte
    if stream.input_head == stream.input_tail:
        return -1
    byte = stream.input[stream.input_tail & (CHAR_INPUT_BYTES - 1)]
    stream.input_tail += 1
    return byte


cdef void char_put(CharState* stream, u8 byte) noexcept nogil


cdef class CharBackend:
    cdef CharState state
    cdef readonly object fields
    cdef readonly LineOutput full        # up while so much output waits that the machine should stop for `take`
    cdef object _device
    cdef int attach(self, char_ready_fn ready, void* owner, object device) except -1
