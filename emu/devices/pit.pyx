# The 8254 programmable interval timer, and port 0x61 of the AT that holds the gate of its channel 2.
# Source: Intel 8254 datasheet (order 231164); port 0x61: Intel 82371SB (PIIX3) datasheet, NMI status and control.
#
# A channel is not stepped clock by clock: it knows the value of its counting element at one tick, and when its OUT
# changes next. Channel 0 has a timer for that; channels 1 and 2 catch up when they are looked at.
import cython

from emu.base.clock cimport NEVER, Clock, muldiv64, timer_arm
from emu.base.errors import SnapshotError
from emu.base.line cimport drive, line_output
from emu.base.state cimport declare_state
from emu.base.types cimport u8, u16, u32, u64
from emu.devices.narrow cimport read_bytes, write_bytes
from emu.memory.space cimport region

cdef enum:
    # CLK is 14.31818 MHz / 12 = 105/88 MHz: 21 ticks in 17,600 ns
    TICKS = 21
    NANOSECONDS = 17600
    REFRESH_TICKS = 18               # one refresh request in 15.085 us
    ACCESS_LATCH = 0                 # RW1, RW0 of a control word
    ACCESS_LOW = 1
    ACCESS_HIGH = 2
    ACCESS_BOTH = 3
    READ_BACK = 3                    # SC1, SC0
    READ_BACK_NO_COUNT = 0x20
    READ_BACK_NO_STATUS = 0x10
    SPEAKER_GATE = 0x01
    SPEAKER_WRITABLE = 0x0F          # gate, speaker data, and two NMI enables that gate nothing here
    SPEAKER_REFRESH = 0x10
    SPEAKER_OUT = 0x20


cdef inline u64 _tick(PitState* pit) noexcept nogil:
    return muldiv64(pit.clock.now_ns, TICKS, NANOSECONDS)


cdef inline int _mode(Channel* channel) noexcept nogil:
    cdef int mode = (channel.control >> 1) & 7
    return mode - 4 if mode > 5 else mode            # 6 and 7 are 2 and 3


cdef inline int _access(Channel* channel) noexcept nogil:
    return (channel.control >> 4) & 3


cdef u32 _decode(Channel* channel) noexcept nogil:
    """CR as a number of ticks; 0 is the largest count."""
    cdef u32 value = channel.count
    cdef int mode = _mode(channel)
    if channel.control & 1:
        value = (value & 15) + 10 * ((value >> 4) & 15) + 100 * ((value >> 8) & 15) + 1000 * (value >> 12)
    if value == 0:
        value = 10000 if channel.control & 1 else 0x10000
    # DEVIATES: a count of 1 is illegal in modes 2 and 3; it is taken as 2, so that OUT changes at most once a tick.
    if value == 1 and (mode == 2 or mode == 3):
        value = 2
    return value


cdef u32 _value(Channel* channel, u64 tick) noexcept nogil:
    """CE as a plain number, 0..65535 (0..9999 in BCD mode)."""
    cdef u32 modulus = 10000 if channel.control & 1 else 0x10000
    cdef u32 elapsed = 0
    if channel.loaded and channel.counting:
        elapsed = <u32>((tick - channel.start) % modulus)
    if channel.loaded and _mode(channel) == 3:       # counts even numbers, by twos
        return ((channel.value & ~<u32>1) + 2 * (modulus - elapsed)) % modulus
    return (channel.value + modulus - elapsed) % modulus


cdef u16 _element(Channel* channel, u64 tick) noexcept nogil:
    """CE as it is read."""
    cdef u32 value = _value(channel, tick)
    if channel.control & 1:
        return <u16>(value % 10 + (value // 10 % 10 << 4) + (value // 100 % 10 << 8) + (value // 1000 % 10 << 12))
    return <u16>value


cdef u64 _next(Channel* channel) noexcept nogil:
    """The tick when something happens next: CE is loaded, or OUT changes. NEVER: until a write or the gate."""
    cdef int mode = _mode(channel)
    cdef u64 change = NEVER
    if channel.loaded and channel.counting:
        if mode == 2:
            change = channel.start + channel.value - channel.out
        elif mode == 3:
            change = channel.start + (channel.value + channel.out) // 2
        elif mode < 2:
            if channel.strobe:
                change = channel.start + channel.value
        elif channel.strobe:
            change = channel.start + channel.value + (2 - channel.strobe)
    return min(change, channel.load)


cdef void _load(Channel* channel, u64 tick) noexcept nogil:
    channel.value = _decode(channel)
    channel.start = tick
    channel.load = NEVER
    channel.loaded = 1
    channel.null_count = 0


cdef void _step(Channel* channel, u64 tick) noexcept nogil:
    """What happens at `tick`, which `_next` gave. Datasheet, mode definitions."""
    cdef int mode = _mode(channel)
    if channel.load == tick:
        _load(channel, tick)
        channel.counting = channel.gate or mode == 1 or mode == 5
        channel.out = mode > 1
        channel.strobe = 2 if mode > 3 else 1
    elif mode == 2:
        if channel.out:
            channel.out = 0
        else:
            channel.out = 1
            _load(channel, tick)
    elif mode == 3:
        channel.out ^= 1
        _load(channel, tick)
    else:
        channel.strobe -= 1
        channel.out = channel.strobe == 0


cdef void _catch_up(PitState* pit, int which) noexcept nogil:
    """Brings a channel to the present tick; whole periods that nobody saw are skipped."""
    cdef Channel* channel = &pit.channel[which]
    cdef u64 tick = _tick(pit)
    cdef u64 change = _next(channel)
    cdef int mode = _mode(channel)
    while change <= tick:
        _step(channel, change)
        if which == 0:
            drive(&pit.output, channel.out)
        if (mode == 2 or mode == 3) and channel.out and channel.counting and not channel.null_count and tick > channel.start:
            channel.start += (tick - channel.start) // channel.value * channel.value
        change = _next(channel)


cdef void _settle(PitState* pit, int which) noexcept nogil:
    """After a change by a write or the gate: OUT goes out, the timer is armed."""
    cdef Channel* channel = &pit.channel[which]
    cdef u64 change
    if which:
        return
    drive(&pit.output, channel.out)
    change = _next(channel)
    timer_arm(pit.clock, &pit.timer, change if change == NEVER else (change * NANOSECONDS + TICKS - 1) // TICKS)


cdef void _fire(void* owner, u64 now_ns) noexcept nogil:
    _catch_up(<PitState*>owner, 0)
    _settle(<PitState*>owner, 0)


cdef void _set_gate(PitState* pit, int which, int level) noexcept nogil:
    cdef Channel* channel = &pit.channel[which]
    cdef int mode = _mode(channel)
    cdef u64 tick = _tick(pit)
    if channel.gate == level:
        return
    channel.gate = level
    if mode == 1 or mode == 5:                       # a trigger: CE is loaded at the next CLK
        if level and channel.written:
            channel.load = tick + 1
    elif level:
        if mode == 0 or mode == 4:
            channel.start = tick
            channel.counting = channel.loaded
        elif channel.written:
            channel.load = tick + 1
    else:
        channel.value = _value(channel, tick)
        channel.counting = 0
        if mode > 1:
            channel.out = 1                          # at once in modes 2 and 3; the strobe of mode 4 ends by itself
            if channel.strobe == 1:
                channel.strobe = 0


cdef void _control(PitState* pit, int which, u8 value) noexcept nogil:
    cdef Channel* channel = &pit.channel[which]
    channel.value = _value(channel, _tick(pit))
    channel.control = value & 0x3F
    channel.write_high = 0
    channel.read_high = 0
    channel.count_latched = 0
    channel.status_latched = 0
    channel.null_count = 1
    channel.written = 0
    channel.loaded = 0
    channel.counting = 0
    channel.strobe = 0
    channel.load = NEVER
    channel.out = _mode(channel) != 0


cdef void _latch_count(PitState* pit, int which) noexcept nogil:
    cdef Channel* channel = &pit.channel[which]
    if channel.count_latched == 0:                   # a second latch command before the read is ignored
        channel.latch = _element(channel, _tick(pit))
        channel.count_latched = 2 if _access(channel) == ACCESS_BOTH else 1


cdef void _read_back(PitState* pit, u8 value) noexcept nogil:
    cdef int which
    cdef Channel* channel
    for which in range(3):
        if not value & (2 << which):
            continue
        channel = &pit.channel[which]
        _catch_up(pit, which)
        if not value & READ_BACK_NO_COUNT:
            _latch_count(pit, which)
        if not value & READ_BACK_NO_STATUS and not channel.status_latched:
            channel.status_latched = 1
            channel.status = channel.out << 7 | channel.null_count << 6 | channel.control


cdef void _write_count(PitState* pit, int which, u8 value) noexcept nogil:
    cdef Channel* channel = &pit.channel[which]
    cdef int access = _access(channel)
    cdef int mode = _mode(channel)
    cdef u64 tick = _tick(pit)
    if mode == 0:                                    # already the first byte stops the count and takes OUT low
        channel.value = _value(channel, tick)
        channel.counting = 0
        channel.strobe = 0
        channel.out = 0
        channel.load = NEVER
    if access == ACCESS_BOTH and not channel.write_high:
        channel.write_low = value
        channel.write_high = 1
        return
    channel.write_high = 0
    channel.count = value if access == ACCESS_LOW else value << 8
    if access == ACCESS_BOTH:
        channel.count |= channel.write_low
    channel.null_count = 1
    channel.written = 1
    if mode == 0 or mode == 4 or ((mode == 2 or mode == 3) and not channel.loaded):
        channel.load = tick + 1                      # modes 2, 3 running: at the end of the cycle; 1, 5: at the trigger


cdef u8 _read_count(PitState* pit, int which) noexcept nogil:
    cdef Channel* channel = &pit.channel[which]
    cdef int access = _access(channel)
    cdef u16 count
    if channel.status_latched:
        channel.status_latched = 0
        return channel.status
    if channel.count_latched:
        channel.count_latched -= 1
        count = channel.latch
    else:
        count = _element(channel, _tick(pit))
    if access == ACCESS_BOTH:
        channel.read_high ^= 1
        access = ACCESS_LOW if channel.read_high else ACCESS_HIGH
    return <u8>(count if access == ACCESS_LOW else count >> 8)


cdef u8 _read_byte(void* owner, u64 offset) noexcept nogil:
    cdef PitState* pit = <PitState*>owner
    if offset >= 3:
        return 0xFF                                  # the control register is write only: the bus floats
    _catch_up(pit, <int>offset)
    return _read_count(pit, <int>offset)


cdef void _write_byte(void* owner, u64 offset, u8 value) noexcept nogil:
    cdef PitState* pit = <PitState*>owner
    cdef int which = <int>offset if offset < 3 else value >> 6
    if which == READ_BACK:
        _read_back(pit, value)
        return
    _catch_up(pit, which)
    if offset < 3:
        _write_count(pit, which, value)
    elif (value >> 4) & 3 == ACCESS_LATCH:
        _latch_count(pit, which)
    else:
        _control(pit, which, value)
    _settle(pit, which)


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    return read_bytes(_read_byte, owner, offset, size)


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    write_bytes(_write_byte, owner, offset, size, value)


cdef u64 _speaker_read(void* owner, u64 offset, int size) noexcept nogil:
    cdef PitState* pit = <PitState*>owner
    cdef u64 value = pit.speaker
    _catch_up(pit, 2)
    if pit.channel[2].out:
        value |= SPEAKER_OUT
    if _tick(pit) // REFRESH_TICKS & 1:
        value |= SPEAKER_REFRESH
    return value


cdef void _speaker_write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef PitState* pit = <PitState*>owner
    _catch_up(pit, 2)
    pit.speaker = value & SPEAKER_WRITABLE
    _set_gate(pit, 2, value & SPEAKER_GATE)


@cython.final
cdef class Pit:
    """The three channels, driven at 105/88 MHz by `clock`.

    Regions: `counters` (4 bytes: three counters, control) and `speaker` (1 byte, port 0x61). `output` is OUT of
    channel 0. After a reset every channel waits for its control word.
    """

    def __cinit__(self, Clock clock not None):
        cdef int k
        cdef Channel* channel
        cdef void* owner = <void*>&self.state
        self.state.clock = &clock.state
        self._clock = clock
        self.counters = region("pit", 4, _read, _write, owner, self)
        self.speaker = region("speaker", 1, _speaker_read, _speaker_write, owner, self)
        self.output = line_output(&self.state.output, self)
        fields = declare_state("pit", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        for k in range(3):
            channel = &self.state.channel[k]
            prefix = f"channel{k}_"
            fields.add(prefix + "control", "u8", &channel.control)
            fields.add(prefix + "write_high", "u8", &channel.write_high)
            fields.add(prefix + "read_high", "u8", &channel.read_high)
            fields.add(prefix + "write_low", "u8", &channel.write_low)
            fields.add(prefix + "count_latched", "u8", &channel.count_latched)
            fields.add(prefix + "status_latched", "u8", &channel.status_latched)
            fields.add(prefix + "status", "u8", &channel.status)
            fields.add(prefix + "null_count", "u8", &channel.null_count)
            fields.add(prefix + "gate", "u8", &channel.gate)
            fields.add(prefix + "out", "u8", &channel.out)
            fields.add(prefix + "written", "u8", &channel.written)
            fields.add(prefix + "loaded", "u8", &channel.loaded)
            fields.add(prefix + "counting", "u8", &channel.counting)
            fields.add(prefix + "strobe", "u8", &channel.strobe)
            fields.add(prefix + "latch", "u16", &channel.latch)
            fields.add(prefix + "count", "u16", &channel.count)
            fields.add(prefix + "value", "u32", &channel.value)
            fields.add(prefix + "start", "u64", &channel.start)
            fields.add(prefix + "load", "u64", &channel.load)
        fields.add("speaker", "u8", &self.state.speaker)
        fields.add("deadline_ns", "u64", &self.state.timer.deadline_ns)
        fields.add("output", "i32", &self.state.output.level)
        self.fields = fields
        clock.attach(&self.state.timer, _fire, owner, self)
        self.reset()

    def reset(self):
        """As after power-on: no channel counts; the gate of channel 2 is low."""
        cdef int k
        for k in range(3):
            _control(&self.state, k, ACCESS_BOTH << 4)
            self.state.channel[k].value = 0
            self.state.channel[k].count = 0
            self.state.channel[k].gate = k < 2
        self.state.speaker = 0
        _settle(&self.state, 0)

    def _validate(self):
        cdef int k
        cdef Channel* channel
        for k in range(3):
            channel = &self.state.channel[k]
            if channel.control > 0x3F or _access(channel) == ACCESS_LATCH or channel.value > 0x10000:
                raise SnapshotError(f"pit.channel{k}", f"control {channel.control:#x}, value {channel.value}",
                                    "no such control word or count")
            if (max(channel.gate, channel.out, channel.loaded, channel.counting, channel.written, channel.null_count,
                    channel.read_high, channel.write_high, channel.status_latched) > 1
                    or max(channel.count_latched, channel.strobe) > 2):
                raise SnapshotError(f"pit.channel{k}", "a flag", "0 or 1 (0..2 for count_latched and strobe)")
            if channel.loaded and channel.counting and _mode(channel) in (2, 3) and channel.value < 2:
                raise SnapshotError(f"pit.channel{k}.value", str(channel.value), "at least 2 in modes 2 and 3")
        if self.state.speaker & ~SPEAKER_WRITABLE or self.state.output.level not in (0, 1):
            raise SnapshotError("pit", f"speaker {self.state.speaker:#x}, output {self.state.output.level}", "bits 3:0, and 0 or 1")
        timer_arm(self.state.clock, &self.state.timer, self.state.timer.deadline_ns)
