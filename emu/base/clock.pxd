# Virtual time and the one queue of timers of a machine.
#
# now_ns is a function of retired instructions plus idle jumps; only the core loop advances it. A device reads
# `clock.now_ns` (exact to the instruction inside every port, MMIO and timer callback) and arms timers.
from emu.base.types cimport u64

cdef enum:
    MAX_TIMERS = 320                     # 255 local APICs, and the devices

cdef u64 NEVER                           # a deadline that never comes (2**64 - 1)

ctypedef void (*timer_fn)(void* owner, u64 now_ns) noexcept nogil


cdef struct Timer:
    u64 deadline_ns                      # NEVER: not armed
    timer_fn fire                        # called once when now_ns >= deadline_ns; re-arms itself if it wants
    void* owner
    int slot


cdef struct ClockState:
    u64 now_ns
    u64 next_deadline_ns                 # the earliest of all, NEVER where none is armed
    int count
    Timer* timers[MAX_TIMERS]


cdef class Clock:
    cdef ClockState state
    cdef readonly object fields
    cdef list _keep
    cdef int attach(self, Timer* timer, timer_fn fire, void* owner, object keep) except -1


cdef void timer_arm(ClockState* clock, Timer* timer, u64 deadline_ns) noexcept nogil
cdef void timer_cancel(ClockState* clock, Timer* timer) noexcept nogil
cdef void clock_fire(ClockState* clock) noexcept nogil       # runs every timer whose deadline has come, in order


cdef inline u64 muldiv64(u64 a, u64 b, u64 c) noexcept nogil:
    """a * b / c with a 128-bit product, for ticks <-> ns."""
    return _muldiv64(a, b, c)


cdef extern from *:
    """
    static inline unsigned long long emu_muldiv64(unsigned long long a, unsigned long long b, unsigned long long c)
    { return (unsigned long long)((unsigned __int128)a * b / c); }
    """
    u64 _muldiv64 "emu_muldiv64"(u64 a, u64 b, u64 c) noexcept nogil
