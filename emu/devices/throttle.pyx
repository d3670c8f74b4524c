# Token buckets: how many bytes and operations a second a device may move, exact to the nanosecond of virtual time.
#
# A bucket fills at `rate` tokens a second up to `burst`. A request goes as soon as the bucket is not empty; what it costs
# beyond the level is owed, and the next one waits until it is paid: up to any instant t since the bucket was set, at most
# burst + rate * t + one request have gone. Levels are counted in 1e-9 tokens, so that nothing is ever rounded.
from typing import NamedTuple

from emu.base.errors import UsageError
from emu.base.state cimport StateFields
from emu.base.types cimport u64

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec* when)
    int CLOCK_MONOTONIC

cdef enum:
    FRACTION = 1000000000
LARGEST = 10 ** 10                       # of rate and burst, so that a level fits in 64 bits


class Limits(NamedTuple):
    """Limits of a device, 0 for none: bytes and operations a second, and how many of each at once (0: a tenth of a second's).

    `clock`: "virtual" (the machine's time, exact) or "host".
    """

    bps: int = 0
    iops: int = 0
    burst: int = 0
    iops_burst: int = 0
    clock: str = "virtual"

    def check(self, subject):
        """Raises UsageError where a limit cannot be."""
        for name in ("bps", "iops", "burst", "iops_burst"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value <= LARGEST:
                raise UsageError(f"{subject} {name}", str(value), f"from 0 to {LARGEST}")
        for name, needed in (("burst", "bps"), ("iops_burst", "iops")):
            if getattr(self, name) and not getattr(self, needed):
                raise UsageError(f"{subject} {name}", "has no limit that it belongs to", f"give {needed}, too")
        if self.clock not in ("virtual", "host"):
            raise UsageError(f"{subject} clock", repr(self.clock), "virtual or host")


cdef u64 _now(ThrottleState* throttle, u64 now_ns) noexcept nogil:
    cdef timespec when
    if not throttle.follows_host:
        return now_ns
    clock_gettime(CLOCK_MONOTONIC, &when)
    return <u64>when.tv_sec * FRACTION + <u64>when.tv_nsec


cdef void _fill(Bucket* bucket, u64 now_ns) noexcept nogil:
    """Adds what has come since the last call."""
    cdef u64 capacity = bucket.burst * FRACTION
    cdef u64 elapsed, gain
    if now_ns <= bucket.filled_ns:       # the host's clock of another host, after a restore
        bucket.filled_ns = now_ns
        return
    elapsed = now_ns - bucket.filled_ns
    bucket.filled_ns = now_ns
    if elapsed > (capacity - bucket.level + bucket.debt) // bucket.rate:
        bucket.level = capacity
        bucket.debt = 0
        return
    gain = elapsed * bucket.rate
    if gain < bucket.debt:
        bucket.debt -= gain
    else:
        bucket.level += gain - bucket.debt
        bucket.debt = 0
        if bucket.level > capacity:
            bucket.level = capacity


cdef u64 _wait(Bucket* bucket, u64 now_ns) noexcept nogil:
    if bucket.rate == 0:
        return 0
    _fill(bucket, now_ns)
    return 0 if bucket.level else bucket.debt // bucket.rate + 1


cdef void _charge(Bucket* bucket, u64 tokens) noexcept nogil:
    cdef u64 cost
    if bucket.rate == 0:
        return
    cost = tokens * FRACTION             # requests have at most 2**33 bytes
    if cost <= bucket.level:
        bucket.level -= cost
    else:
        bucket.debt += cost - bucket.level
        bucket.level = 0


cdef u64 throttle_wait(ThrottleState* throttle, u64 now_ns) noexcept nogil:
    cdef u64 now = _now(throttle, now_ns)
    cdef u64 wait = _wait(&throttle.bytes, now)
    cdef u64 other = _wait(&throttle.operations, now)
    if other > wait:
        wait = other
    if wait and not throttle.is_waiting:
        throttle.is_waiting = 1
        throttle.waiting_since_ns = now_ns
    return wait


cdef void throttle_charge(ThrottleState* throttle, u64 now_ns, u64 length) noexcept nogil:
    if throttle.is_waiting:
        throttle.is_waiting = 0
        throttle.throttled_ns += now_ns - throttle.waiting_since_ns
    throttle.moved_bytes += length
    throttle.moved_operations += 1
    _charge(&throttle.bytes, length)
    _charge(&throttle.operations, 1)


cdef void throttle_reset(ThrottleState* throttle) noexcept nogil:
    """The device was reset: nothing waits any more; what is owed stays owed."""
    throttle.is_waiting = 0


cdef int throttle_set(ThrottleState* throttle, object limits, u64 now_ns) except -1:
    """Sets new limits, with full buckets; `limits` is a checked Limits."""
    cdef u64 now
    throttle.follows_host = limits.clock == "host"
    now = _now(throttle, now_ns)
    for bucket_rate, bucket_burst, is_bytes in ((limits.bps, limits.burst, True), (limits.iops, limits.iops_burst, False)):
        _set_bucket(&throttle.bytes if is_bytes else &throttle.operations, bucket_rate,
                    bucket_burst or max(1, bucket_rate // 10), now)
    return 0


cdef void _set_bucket(Bucket* bucket, u64 rate, u64 burst, u64 now_ns) noexcept:
    bucket.rate = rate
    bucket.burst = burst
    bucket.level = burst * FRACTION
    bucket.debt = 0
    bucket.filled_ns = now_ns


cdef int throttle_declare(ThrottleState* throttle, object fields, str prefix) except -1:
    """Adds what changes while the machine runs to a device's declared state; the limits are its configuration."""
    cdef StateFields declared = fields
    declared.add(f"{prefix}byte_level", "u64", &throttle.bytes.level)
    declared.add(f"{prefix}byte_debt", "u64", &throttle.bytes.debt)
    declared.add(f"{prefix}bytes_filled_ns", "u64", &throttle.bytes.filled_ns)
    declared.add(f"{prefix}operation_level", "u64", &throttle.operations.level)
    declared.add(f"{prefix}operation_debt", "u64", &throttle.operations.debt)
    declared.add(f"{prefix}operations_filled_ns", "u64", &throttle.operations.filled_ns)
    declared.add(f"{prefix}is_waiting", "u8", &throttle.is_waiting)
    declared.add(f"{prefix}waiting_since_ns", "u64", &throttle.waiting_since_ns)
    declared.add(f"{prefix}throttled_ns", "u64", &throttle.throttled_ns)
    declared.add(f"{prefix}moved_bytes", "u64", &throttle.moved_bytes)
    declared.add(f"{prefix}moved_operations", "u64", &throttle.moved_operations)
    return 0


cdef object throttle_usage(ThrottleState* throttle):
    """Bytes and operations since power-on, and how long requests have waited, as a dict."""
    return {"bytes": throttle.moved_bytes, "operations": throttle.moved_operations, "throttled_ns": throttle.throttled_ns}
