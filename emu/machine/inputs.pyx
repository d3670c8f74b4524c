# What enters a machine from outside, at a virtual time of its own.
#
# Bytes, keys and frames wait in a queue until virtual time reaches the nanosecond after the one in which they came; a
# timer of the machine's clock hands them to their device, between two instructions, like a timer of any device. A run
# that is fed the same inputs at the same times is the same run, however it was cut into slices (docs/adr/0009).
import cython

from emu.base.clock cimport NEVER, Clock, timer_arm
from emu.base.types cimport u64


cdef void _due(void* owner, u64 now_ns) noexcept with gil:
    cdef Inputs inputs = <Inputs>owner
    try:
        inputs._enter_due()
    except BaseException as error:
        if inputs.error is None:
            inputs.error = error


@cython.final
cdef class Inputs:
    """The inputs of the machine with this clock; made after its devices, so that at one instant theirs come first.

    `latest()`, where it is given, is the time up to which something may have happened already: a CPU can be ahead of the
    devices' clock.
    `on_entered(at_ns, channel, data)`, where it is set, is told of everything at the moment it enters. An exception of a
    channel's function is kept in `error` (the first one), for whoever runs the machine."""

    def __init__(self, Clock clock not None, latest=None):
        self._latest = latest
        self._clock = clock
        self.clock = &clock.state
        self._queue = []
        self._channels = {}
        clock.attach(&self.timer, _due, <void*>self, self)

    def channel(self, str name, enter):
        """A new way in: `enter(data)` hands the data to its device."""
        if name in self._channels:
            raise ValueError(f"there is a channel {name} already")
        self._channels[name] = enter

    @property
    def channels(self):
        """The names of all channels."""
        return tuple(self._channels)

    def enter(self, str channel, data, at_ns=None):
        """Has `data` enter at the virtual time `at_ns`, or as soon as can be; in the order of the calls where times are equal.

        Gives the time. KeyError where there is no such channel, ValueError for a time that has passed."""
        if channel not in self._channels:
            raise KeyError(channel)
        soonest = (self.clock.now_ns if self._latest is None else self._latest()) + 1
        if self._queue and at_ns is None:
            soonest = max(soonest, self._queue[len(self._queue) - 1][0])
        if at_ns is None:
            at_ns = soonest
        elif at_ns < soonest:
            raise ValueError(f"virtual time {at_ns} ns has passed: it is {self.clock.now_ns} ns")
        self._queue.append((at_ns, channel, data))
        self._queue.sort(key=_time_of)           # stable
        self._arm()
        return at_ns

    cdef int _arm(self) except -1:
        cdef u64 at = self._queue[0][0] if self._queue else NEVER
        timer_arm(self.clock, &self.timer, at)
        return 0

    cdef int _enter_due(self) except -1:
        while self._queue and self._queue[0][0] <= self.clock.now_ns:
            at_ns, channel, data = self._queue.pop(0)
            try:
                if self.on_entered is not None:
                    self.on_entered(at_ns, channel, data)
                self._channels[channel](data)
            finally:
                self._arm()
        self._arm()
        return 0

    def waiting(self, str channel):
        """The data that have not entered yet, in order."""
        return [data for _, name, data in self._queue if name == channel]

    def clear(self):
        """Forgets what has not entered yet."""
        self._queue.clear()
        self._arm()


def _time_of(entry):
    return entry[0]
