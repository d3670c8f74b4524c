# The high precision event timer: a 100 MHz counter with three comparators.
# Source: Intel, IA-PC HPET Specification 1.0a.
import cython

from emu.base.bits cimport mask_of
from emu.base.clock cimport NEVER, Clock, timer_arm
from emu.base.errors import SnapshotError
from emu.base.line cimport drive, line_input, line_output, pulse
from emu.base.state cimport declare_state
from emu.base.types cimport u64
from emu.memory.space cimport region

cdef enum:
    CAPABILITIES = 0x000
    CONFIG = 0x010
    STATUS = 0x020
    COUNTER = 0x0F0
    FIRST_COMPARATOR = 0x100         # 32 bytes each: configuration, comparator, FSB route
    CONFIG_ENABLE = 1
    CONFIG_LEGACY = 2
    TICK_NS = 10                     # virtual time has 1 ns: every tick is exact
    TIMER_LEVEL = 0x0002
    TIMER_ENABLE = 0x0004
    TIMER_PERIODIC = 0x0008
    TIMER_PERIODIC_CAPABLE = 0x0010
    TIMER_64_BIT_CAPABLE = 0x0020
    TIMER_SET_VALUE = 0x0040
    TIMER_32_BIT = 0x0100
    TIMER_ROUTE = 0x3E00
    TIMER_WRITABLE = TIMER_LEVEL | TIMER_ENABLE | TIMER_PERIODIC | TIMER_SET_VALUE | TIMER_32_BIT | TIMER_ROUTE
    # DEVIATES: hardware accepts any period; below 1 us a guest would make the emulator do nothing but fire timers.
    SHORTEST_PERIOD = 100

# 10,000,000 fs a tick; vendor 8086; legacy replacement; 64 bits; three comparators; revision 1
cdef u64 CAPABILITIES_VALUE = (<u64>10000000 << 32) | 0x8086A201
# Which pins of the I/O APIC a comparator can drive: 20..23 (as Intel's ICHs).
cdef u64 ROUTES = 0xF00000


cdef inline u64 _counter(HpetState* hpet) noexcept nogil:
    if not hpet.config & CONFIG_ENABLE:
        return hpet.counter
    return hpet.counter + (hpet.clock.now_ns - hpet.start_ns) // TICK_NS


cdef inline bint _is_legacy(HpetState* hpet, int n) noexcept nogil:
    return hpet.config & CONFIG_LEGACY and n < 2


cdef inline u64 _width(Comparator* comparator) noexcept nogil:
    """Mask of the bits that are compared."""
    return <u64>0xFFFFFFFF if comparator.config & TIMER_32_BIT else <u64>0xFFFFFFFFFFFFFFFF


# ---- wires

cdef void _drive(HpetState* hpet) noexcept nogil:
    """Drives every wire whose level stands for a state: level-triggered comparators, and the legacy pair."""
    cdef Comparator* comparator
    cdef u64 high = 0
    cdef int n, asked
    for n in range(COMPARATORS):
        comparator = &hpet.comparator[n]
        asked = comparator.config & TIMER_ENABLE and (hpet.status >> n & 1 or comparator.edge)
        if _is_legacy(hpet, n):
            drive(&hpet.legacy[n], asked)
        elif asked and comparator.config & TIMER_LEVEL:
            high |= <u64>1 << (comparator.config >> 9 & 31)
    if not hpet.config & CONFIG_LEGACY:
        for n in range(2):
            drive(&hpet.legacy[n], hpet.legacy_inputs[n])
    for n in range(HPET_PINS):
        drive(&hpet.pin[n], high >> n & 1)


cdef void _set_legacy_input(void* owner, int number, int level) noexcept nogil:
    """The 8254 (0) and the RTC (1) come through here, and are shut out in legacy replacement mode (2.3.2)."""
    cdef HpetState* hpet = <HpetState*>owner
    hpet.legacy_inputs[number] = level != 0
    if not hpet.config & CONFIG_LEGACY:
        drive(&hpet.legacy[number], level != 0)


# ---- comparators

cdef void _arm(HpetState* hpet, int n, u64 least) noexcept nogil:
    """Finds when the counter, `least` ticks from now or later, is at the comparator's value next."""
    cdef Comparator* comparator = &hpet.comparator[n]
    cdef u64 ticks = (comparator.value - _counter(hpet)) & _width(comparator)
    cdef u64 elapsed
    comparator.deadline_ns = NEVER
    if hpet.config & CONFIG_ENABLE:
        if ticks < least:
            ticks += _width(comparator) + 1          # once around; for 64 bits that is 0: a match that stays away
        elapsed = (hpet.clock.now_ns - hpet.start_ns) // TICK_NS
        if ticks >= least and ticks < (<u64>1 << 63) // TICK_NS - elapsed:
            comparator.deadline_ns = hpet.start_ns + (elapsed + ticks) * TICK_NS
    _queue(hpet, comparator)


cdef void _queue(HpetState* hpet, Comparator* comparator) noexcept nogil:
    """Puts the match into the queue of timers, unless nobody could see it: edge-triggered, and not enabled (2.3.8)."""
    cdef bint seen = comparator.config & (TIMER_LEVEL | TIMER_ENABLE) != 0
    timer_arm(hpet.clock, &comparator.timer, comparator.deadline_ns if seen else NEVER)


cdef void _move_on(HpetState* hpet, Comparator* comparator) noexcept nogil:
    """A periodic comparator goes on to its first value beyond the counter."""
    cdef u64 period = comparator.period & _width(comparator)
    cdef u64 behind
    if comparator.config & TIMER_PERIODIC and period:
        period = max(period, SHORTEST_PERIOD)
        behind = (_counter(hpet) - comparator.value) & _width(comparator)
        comparator.value = (comparator.value + (behind // period + 1) * period) & _width(comparator)


cdef void _catch_up(HpetState* hpet, int n) noexcept nogil:
    """Does what matches that were not queued would have done."""
    if hpet.comparator[n].deadline_ns <= hpet.clock.now_ns:
        _move_on(hpet, &hpet.comparator[n])
        _arm(hpet, n, 1)


cdef void _arm_all(HpetState* hpet) noexcept nogil:
    cdef int n
    for n in range(COMPARATORS):
        _arm(hpet, n, 0)


cdef void _match(HpetState* hpet, int n) noexcept nogil:
    """The counter has reached comparator `n` (2.3.9.2)."""
    cdef Comparator* comparator = &hpet.comparator[n]
    _move_on(hpet, comparator)
    _arm(hpet, n, 1)
    if comparator.config & TIMER_LEVEL:
        hpet.status |= <u64>1 << n
    elif comparator.config & TIMER_ENABLE:
        if _is_legacy(hpet, n):
            # An 8259A wants its input to stay high until the acknowledge, so the pulse lasts to the next match.
            drive(&hpet.legacy[n], 0)
            comparator.edge = 1
        else:
            pulse(&hpet.pin[comparator.config >> 9 & 31])
    _drive(hpet)


cdef void _fire0(void* owner, u64 now_ns) noexcept nogil:
    _match(<HpetState*>owner, 0)


cdef void _fire1(void* owner, u64 now_ns) noexcept nogil:
    _match(<HpetState*>owner, 1)


cdef void _fire2(void* owner, u64 now_ns) noexcept nogil:
    _match(<HpetState*>owner, 2)


# ---- registers

cdef inline u64 _merge(u64 before, u64 offset, int size, u64 value) noexcept nogil:
    """`before` with `size` bytes at `offset` (within 8) replaced."""
    cdef u64 mask = mask_of(size) << (8 * (offset & 7))
    return (before & ~mask) | (value << (8 * (offset & 7)) & mask)


cdef u64 _read_register(HpetState* hpet, u64 place) noexcept nogil:
    cdef Comparator* comparator
    cdef u64 n
    if place == CAPABILITIES:
        return CAPABILITIES_VALUE
    if place == CONFIG:
        return hpet.config
    if place == STATUS:
        return hpet.status
    if place == COUNTER:
        return _counter(hpet)
    n = (place - FIRST_COMPARATOR) >> 5
    if place < FIRST_COMPARATOR or n >= COMPARATORS:
        return 0
    _catch_up(hpet, <int>n)
    comparator = &hpet.comparator[n]
    if place & 0x18 == 0x00:
        return comparator.config | TIMER_PERIODIC_CAPABLE | TIMER_64_BIT_CAPABLE | ROUTES << 32
    if place & 0x18 == 0x08:
        return comparator.value
    return 0


cdef void _write_config(HpetState* hpet, u64 value) noexcept nogil:
    cdef u64 before = hpet.config
    cdef int n
    for n in range(COMPARATORS):
        _catch_up(hpet, n)
    value &= CONFIG_ENABLE | CONFIG_LEGACY
    hpet.counter = _counter(hpet)
    if (before ^ value) & CONFIG_ENABLE:
        hpet.start_ns = hpet.clock.now_ns
    else:                                            # the fraction of a tick that has passed is kept
        hpet.start_ns += (hpet.clock.now_ns - hpet.start_ns) // TICK_NS * TICK_NS
    hpet.config = value
    if (before ^ value) & CONFIG_ENABLE:
        _arm_all(hpet)
    if (before ^ value) & CONFIG_LEGACY or not value & CONFIG_ENABLE:
        for n in range(COMPARATORS):
            hpet.comparator[n].edge = 0
    _drive(hpet)


cdef void _write_timer_config(HpetState* hpet, int n, u64 value) noexcept nogil:
    cdef Comparator* comparator = &hpet.comparator[n]
    _catch_up(hpet, n)
    value &= TIMER_WRITABLE
    if not ROUTES >> (value >> 9 & 31) & 1:
        value &= ~<u64>TIMER_ROUTE                   # a pin that is not offered does not read back (2.3.8)
    comparator.config = value
    comparator.edge = 0
    if value & TIMER_32_BIT:
        comparator.value &= <u64>0xFFFFFFFF
    if not value & TIMER_LEVEL:
        hpet.status &= ~(<u64>1 << n)
    _arm(hpet, n, 1)
    _drive(hpet)


cdef void _write_comparator(HpetState* hpet, int n, u64 offset, int size, u64 value) noexcept nogil:
    """In periodic mode a write sets the period, and the comparator itself only where TIMER_SET_VALUE says so (2.3.9.2.2)."""
    cdef Comparator* comparator = &hpet.comparator[n]
    _catch_up(hpet, n)
    if not comparator.config & TIMER_PERIODIC or comparator.config & TIMER_SET_VALUE:
        comparator.value = _merge(comparator.value, offset, size, value) & _width(comparator)
    if comparator.config & TIMER_PERIODIC:
        comparator.period = _merge(comparator.period, offset, size, value)
    comparator.config &= ~<u64>TIMER_SET_VALUE
    _arm(hpet, n, 0)


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    """An access never goes beyond 8 aligned bytes (2.3.2)."""
    return _read_register(<HpetState*>owner, offset & ~<u64>7) >> (8 * (offset & 7))


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef HpetState* hpet = <HpetState*>owner
    cdef u64 place = offset & ~<u64>7
    cdef u64 n = (place - FIRST_COMPARATOR) >> 5
    if place == CONFIG:
        _write_config(hpet, _merge(hpet.config, offset, size, value))
    elif place == STATUS:
        hpet.status &= ~_merge(0, offset, size, value)
        _drive(hpet)
    elif place == COUNTER:
        # Meant for a counter that stands; a running one goes on from the new value.
        hpet.counter = _merge(_counter(hpet), offset, size, value)
        hpet.start_ns = hpet.clock.now_ns
        _arm_all(hpet)
    elif place >= FIRST_COMPARATOR and n < COMPARATORS:
        if place & 0x18 == 0x00:
            _write_timer_config(hpet, <int>n, _merge(hpet.comparator[n].config, offset, size, value))
        elif place & 0x18 == 0x08:
            _write_comparator(hpet, <int>n, offset, size, value)


cdef void _restored(void* owner) noexcept nogil:
    cdef HpetState* hpet = <HpetState*>owner
    cdef int n
    for n in range(COMPARATORS):
        _queue(hpet, &hpet.comparator[n])


@cython.final
cdef class Hpet:
    """The counter (10 ns a tick) and three periodic 64-bit comparators.

    Region: `region` (1 KiB). Wires: `pit` and `rtc` take the outputs of those two, `irq0` and `irq8` give them on, or
    in legacy replacement mode the first two comparators instead; `pins` holds the wires to the I/O APIC by pin number.
    """

    def __cinit__(self, Clock clock not None):
        cdef int n
        cdef void* owner = <void*>&self.state
        cdef Comparator* comparator
        self.state.clock = &clock.state
        self._clock = clock
        self.region = region("hpet", 0x400, _read, _write, owner, self)
        self.pit = line_input(_set_legacy_input, owner, 0, self)
        self.rtc = line_input(_set_legacy_input, owner, 1, self)
        self.irq0 = line_output(&self.state.legacy[0], self)
        self.irq8 = line_output(&self.state.legacy[1], self)
        self.pins = {n: line_output(&self.state.pin[n], self) for n in (20, 21, 22, 23)}
        fields = declare_state("hpet", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        fields.when_restored(_restored, &self.state)
        fields.add("config", "u64", &self.state.config)
        fields.add("status", "u64", &self.state.status)
        fields.add("counter", "u64", &self.state.counter)
        fields.add("start_ns", "u64", &self.state.start_ns)
        for n in range(COMPARATORS):
            comparator = &self.state.comparator[n]
            fields.add(f"timer{n}_config", "u64", &comparator.config)
            fields.add(f"timer{n}_value", "u64", &comparator.value)
            fields.add(f"timer{n}_period", "u64", &comparator.period)
            fields.add(f"timer{n}_deadline_ns", "u64", &comparator.deadline_ns)
            fields.add(f"timer{n}_edge", "u8", &comparator.edge)
        fields.add("legacy_inputs", "u8", &self.state.legacy_inputs, 2)
        for n in range(2):
            fields.add(f"legacy{n}", "i32", &self.state.legacy[n].level)
        for n in self.pins:
            fields.add(f"pin{n}", "i32", &self.state.pin[n].level)
        self.fields = fields
        clock.attach(&self.state.comparator[0].timer, _fire0, owner, self)
        clock.attach(&self.state.comparator[1].timer, _fire1, owner, self)
        clock.attach(&self.state.comparator[2].timer, _fire2, owner, self)
        self.reset()

    def reset(self):
        """Halted at 0, all interrupts off, comparators at their maximum; the 8254 and the RTC get through."""
        cdef int n
        self.state.config = 0
        self.state.status = 0
        self.state.counter = 0
        self.state.start_ns = self.state.clock.now_ns
        for n in range(COMPARATORS):
            self.state.comparator[n].config = 0
            self.state.comparator[n].value = NEVER
            self.state.comparator[n].period = 0
            self.state.comparator[n].edge = 0
        _arm_all(&self.state)
        _drive(&self.state)

    def _validate(self):
        cdef int n
        cdef Comparator* comparator
        if self.state.config > 3 or self.state.status > 7 or max(self.state.legacy_inputs[0], self.state.legacy_inputs[1]) > 1:
            raise SnapshotError("hpet", f"config {self.state.config:#x}, status {self.state.status:#x}", "no reserved bits")
        for n in range(COMPARATORS):
            comparator = &self.state.comparator[n]
            route = comparator.config >> 9 & 31
            if comparator.config & ~<u64>TIMER_WRITABLE or comparator.edge > 1 or (route and not ROUTES >> route & 1):
                raise SnapshotError(f"hpet.timer{n}_config", f"{comparator.config:#x}", "no reserved bits, a route that is offered")
            if comparator.config & TIMER_32_BIT and comparator.value >> 32:
                raise SnapshotError(f"hpet.timer{n}_value", f"{comparator.value:#x}", "32 bits")
        for n in range(HPET_PINS):
            if self.state.pin[n].level not in (0, 1):
                raise SnapshotError(f"hpet.pin{n}", str(self.state.pin[n].level), "0 or 1")
        for n in range(2):
            if self.state.legacy[n].level not in (0, 1):
                raise SnapshotError(f"hpet.legacy{n}", str(self.state.legacy[n].level), "0 or 1")
        _restored(&self.state)
