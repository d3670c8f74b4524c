# Token buckets: how many bytes and operations a second a device may move.
from emu.base.types cimport u8, u64


cdef struct Bucket:
    u64 rate                             # tokens a second; 0: no limit
    u64 burst                            # tokens it holds at most
    u64 level                            # what it holds, in 1e-9 tokens
    u64 debt                             # or what is owed, in 1e-9 tokens; one of the two is 0
    u64 filled_ns                        # up to when it has been filled


cdef struct ThrottleState:
    Bucket bytes
    Bucket operations
    u8 follows_host                      # time is the host's monotonic clock, not the machine's
    u8 is_waiting
    u64 waiting_since_ns                 # of the first request that waits; virtual
    u64 throttled_ns                     # how long requests have waited in all; virtual
    u64 moved_bytes                      # what was charged since power-on
    u64 moved_operations


# How long the next request has to wait, in ns; 0: it may go now, and is to be charged.
cdef u64 throttle_wait(ThrottleState* throttle, u64 now_ns) noexcept nogil
cdef void throttle_charge(ThrottleState* throttle, u64 now_ns, u64 length) noexcept nogil
cdef void throttle_reset(ThrottleState* throttle) noexcept nogil
cdef int throttle_set(ThrottleState* throttle, object limits, u64 now_ns) except -1
cdef int throttle_declare(ThrottleState* throttle, object fields, str prefix) except -1
cdef object throttle_usage(ThrottleState* throttle)
