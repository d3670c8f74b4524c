# Virtual time and the one queue of timers of a machine.
from emu.base.state cimport StateFields, declare_state
from emu.base.types cimport u64

cdef u64 NEVER = <u64>0xFFFFFFFFFFFFFFFF


cdef class Clock:
    """The clock of one machine: virtual nanoseconds since power-on, and its timers."""

    def __cinit__(self):
        self.state.next_deadline_ns = NEVER
        self._keep = []
        cdef StateFields fields = declare_state("clock", self)
        fields.add("now_ns", "u64", &self.state.now_ns)
        fields.cover(&self.state, sizeof(ClockState))
        fields.derived("next_deadline_ns", &self.state.next_deadline_ns, sizeof(u64))
        fields.derived("timers", &self.state.count, <u64>&self.state + sizeof(ClockState) - <u64>&self.state.count)
        fields.when_restored(_restored, &self.state)
        self.fields = fields

    cdef int attach(self, Timer* timer, timer_fn fire, void* owner, object keep) except -1:
        """Adds a timer, disarmed. Timers with equal deadlines fire in the order in which they were attached."""
        if self.state.count == MAX_TIMERS:
            raise ValueError("too many timers")
        timer.deadline_ns = NEVER
        timer.fire = fire
        timer.owner = owner
        timer.slot = self.state.count
        self.state.timers[self.state.count] = timer
        self.state.count += 1
        self._keep.append(keep)
        return 0

    @property
    def now_ns(self):
        return self.state.now_ns

    @property
    def next_deadline_ns(self):
        """Virtual time of the earliest armed timer; None where none is armed."""
        return None if self.state.next_deadline_ns == NEVER else self.state.next_deadline_ns

    def advance(self, u64 now_ns):
        """Moves time forward to `now_ns` and fires what is due on the way, each timer at its own deadline (for tests and idle jumps)."""
        while self.state.next_deadline_ns <= now_ns:
            if self.state.next_deadline_ns > self.state.now_ns:
                self.state.now_ns = self.state.next_deadline_ns
            clock_fire(&self.state)
        if now_ns > self.state.now_ns:
            self.state.now_ns = now_ns


cdef void _find_next(ClockState* clock) noexcept nogil:
    cdef int k
    cdef u64 best = NEVER
    for k in range(clock.count):
        if clock.timers[k].deadline_ns < best:
            best = clock.timers[k].deadline_ns
    clock.next_deadline_ns = best


cdef void _restored(void* owner) noexcept nogil:
    _find_next(<ClockState*>owner)


cdef void timer_arm(ClockState* clock, Timer* timer, u64 deadline_ns) noexcept nogil:
    cdef u64 before = timer.deadline_ns
    timer.deadline_ns = deadline_ns
    if deadline_ns <= clock.next_deadline_ns:
        clock.next_deadline_ns = deadline_ns
    elif before == clock.next_deadline_ns:
        _find_next(clock)


cdef void timer_cancel(ClockState* clock, Timer* timer) noexcept nogil:
    timer_arm(clock, timer, NEVER)


cdef void clock_fire(ClockState* clock) noexcept nogil:
    cdef int k, best
    cdef Timer* timer
    while clock.next_deadline_ns <= clock.now_ns:
        best = -1
        for k in range(clock.count):
            if clock.timers[k].deadline_ns <= clock.now_ns and (
                    best < 0 or clock.timers[k].deadline_ns < clock.timers[best].deadline_ns):
                best = k
        if best >= 0:
            timer = clock.timers[best]
            timer.deadline_ns = NEVER
            _find_next(clock)
            timer.fire(timer.owner, clock.now_ns)
        else:
            _find_next(clock)
