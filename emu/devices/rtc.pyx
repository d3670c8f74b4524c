# The MC146818 real-time clock of the AT with its battery-backed RAM.
# Source: Motorola MC146818A datasheet; the century byte at 0x32 is the AT's convention.
#
# The registers hold the time as the guest wrote it. Whole seconds that have passed are added when someone looks, or
# when an interrupt that is enabled falls due; there is a timer only for that.
import cython

from emu.base.clock cimport NEVER, Clock, timer_arm
from emu.base.errors import SnapshotError
from emu.base.line cimport drive, line_output
from emu.base.state cimport declare_state
from emu.base.types cimport i64, u8, u64
from emu.devices.narrow cimport read_bytes, write_bytes
from emu.memory.space cimport region

cdef enum:
    SECONDS = 0x00
    SECONDS_ALARM = 0x01
    MINUTES = 0x02
    MINUTES_ALARM = 0x03
    HOURS = 0x04
    HOURS_ALARM = 0x05
    DAY_OF_WEEK = 0x06               # 1 = Sunday
    DAY_OF_MONTH = 0x07
    MONTH = 0x08
    YEAR = 0x09
    REGISTER_A = 0x0A
    REGISTER_B = 0x0B
    REGISTER_C = 0x0C
    REGISTER_D = 0x0D
    USER_RAM = 0x0E
    CENTURY = 0x32
    A_UIP = 0x80
    A_DIVIDER_RESET = 0x60           # DV2, DV1 both set
    A_RUNNING = 0x26                 # 32,768 Hz, periodic rate 1,024 Hz: what the AT's BIOS sets
    B_SET = 0x80
    B_PIE = 0x40
    B_AIE = 0x20
    B_UIE = 0x10
    B_SQWE = 0x08
    B_BINARY = 0x04
    B_24_HOURS = 0x02
    C_IRQF = 0x80
    C_PF = 0x40
    C_AF = 0x20
    C_UF = 0x10
    D_VRT = 0x80
    HOUR_PM = 0x80
    ALARM_ANY = 0xC0
    SECOND_NS = 1000000000
    HALF_SECOND_NS = 500000000
    UPDATE_NS = 2228000              # UIP rises 244 us before an update cycle of 1,984 us (datasheet, table 5)
    # The divider counts 32,768 Hz: 64 ticks in 1,953,125 ns
    DIVIDER_TICKS = 64
    DIVIDER_NS = 1953125


# ---- the calendar

cdef i64 _days_of_date(i64 year, i64 month, i64 day) noexcept nogil:
    """Days since March 1st, 400 years before the year 0, in the Gregorian calendar; so for years 0..9999 nothing is
    negative, and years begin in March, so that the leap day comes last."""
    year += 400
    if month < 3:
        year -= 1
        month += 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 1


cdef void _date_of_days(i64 days, i64* year, i64* month, i64* day) noexcept nogil:
    cdef i64 era = days // 146097
    cdef i64 in_era = days % 146097
    cdef i64 of_era = (in_era - in_era // 1460 + in_era // 36524 - in_era // 146096) // 365
    cdef i64 in_year = in_era - (365 * of_era + of_era // 4 - of_era // 100)
    cdef i64 from_march = (5 * in_year + 2) // 153
    day[0] = in_year - (153 * from_march + 2) // 5 + 1
    month[0] = from_march + 3 if from_march < 10 else from_march - 9
    year[0] = 400 * era + of_era - 400 + (1 if month[0] < 3 else 0)


# ---- the registers' formats

cdef inline int _number(RtcState* rtc, u8 value) noexcept nogil:
    return value if rtc.ram[REGISTER_B] & B_BINARY else (value >> 4) * 10 + (value & 15)


cdef inline u8 _format(RtcState* rtc, i64 number) noexcept nogil:
    return <u8>number if rtc.ram[REGISTER_B] & B_BINARY else <u8>(number // 10 << 4 | number % 10)


cdef int _hour(RtcState* rtc, u8 value) noexcept nogil:
    cdef int number
    if rtc.ram[REGISTER_B] & B_24_HOURS:
        return _number(rtc, value)
    number = _number(rtc, value & ~<u8>HOUR_PM)
    if number < 1 or number > 12:
        return 24                                    # no hour: an alarm that never comes
    return number % 12 + (12 if value & HOUR_PM else 0)


cdef u8 _format_hour(RtcState* rtc, i64 hour) noexcept nogil:
    if rtc.ram[REGISTER_B] & B_24_HOURS:
        return _format(rtc, hour)
    return _format(rtc, (hour + 11) % 12 + 1) | (HOUR_PM if hour >= 12 else 0)


cdef i64 _second_of_day(RtcState* rtc) noexcept nogil:
    # What is out of range (a guest can write anything) is taken into it; hardware is undefined there.
    return (_hour(rtc, rtc.ram[HOURS]) % 24 * 3600 + _number(rtc, rtc.ram[MINUTES]) % 60 * 60
            + _number(rtc, rtc.ram[SECONDS]) % 60)


cdef i64 _days(RtcState* rtc) noexcept nogil:
    cdef i64 year = _number(rtc, rtc.ram[CENTURY]) % 100 * 100 + _number(rtc, rtc.ram[YEAR]) % 100
    cdef i64 month = min(max(_number(rtc, rtc.ram[MONTH]), 1), 12)
    cdef i64 day = min(max(_number(rtc, rtc.ram[DAY_OF_MONTH]), 1), 31)
    return _days_of_date(year, month, day)


cdef void _store_date(RtcState* rtc, i64 days) noexcept nogil:
    cdef i64 year, month, day
    _date_of_days(days, &year, &month, &day)
    rtc.ram[DAY_OF_MONTH] = _format(rtc, day)
    rtc.ram[MONTH] = _format(rtc, month)
    rtc.ram[YEAR] = _format(rtc, year % 100)
    rtc.ram[CENTURY] = _format(rtc, year // 100 % 100)


cdef void _store_second_of_day(RtcState* rtc, i64 second) noexcept nogil:
    rtc.ram[HOURS] = _format_hour(rtc, second // 3600)
    rtc.ram[MINUTES] = _format(rtc, second // 60 % 60)
    rtc.ram[SECONDS] = _format(rtc, second % 60)


# ---- running

cdef u64 _seconds_to_alarm(RtcState* rtc) noexcept nogil:
    """Updates until the one that sets AF, 1..86,400; NEVER where the alarm is at no time of the day."""
    cdef i64 now = _second_of_day(rtc)
    cdef i64 at = now + 1
    cdef u8 hour = rtc.ram[HOURS_ALARM]
    cdef u8 minute = rtc.ram[MINUTES_ALARM]
    cdef u8 second = rtc.ram[SECONDS_ALARM]
    if ((hour & ALARM_ANY != ALARM_ANY and _hour(rtc, hour) > 23) or (minute & ALARM_ANY != ALARM_ANY and _number(rtc, minute) > 59)
            or (second & ALARM_ANY != ALARM_ANY and _number(rtc, second) > 59)):
        return NEVER                                 # no need to look through the day for it
    while at - now <= 86400:
        if hour & ALARM_ANY != ALARM_ANY and at // 3600 % 24 != _hour(rtc, hour):
            at = (at // 3600 + 1) * 3600
        elif minute & ALARM_ANY != ALARM_ANY and at // 60 % 60 != _number(rtc, minute):
            at = (at // 60 + 1) * 60
        elif second & ALARM_ANY != ALARM_ANY and at % 60 != _number(rtc, second):
            at += 1
        else:
            return <u64>(at - now)
    return NEVER


cdef u64 _periodic_after(RtcState* rtc, u64 now_ns) noexcept nogil:
    """When the chosen tap of the divider toggles next (datasheet, table 4)."""
    cdef int rate = rtc.ram[REGISTER_A] & 15
    cdef u64 origin_ns, period, tick
    if rtc.next_update_ns == NEVER or rate == 0:
        return NEVER
    period = <u64>1 << (rate + 6 if rate < 3 else rate - 1)
    origin_ns = rtc.next_update_ns - SECOND_NS       # may lie before 0: differences are right all the same
    tick = ((now_ns - origin_ns) * DIVIDER_TICKS // DIVIDER_NS // period + 1) * period
    return origin_ns + (tick * DIVIDER_NS + DIVIDER_TICKS - 1) // DIVIDER_TICKS


cdef void _advance(RtcState* rtc, u64 seconds) noexcept nogil:
    """What `seconds` update cycles do."""
    cdef i64 second = _second_of_day(rtc) + <i64>seconds
    cdef i64 days = second // 86400
    if _seconds_to_alarm(rtc) <= seconds:
        rtc.ram[REGISTER_C] |= C_AF
    rtc.ram[REGISTER_C] |= C_UF
    _store_second_of_day(rtc, second % 86400)
    if days:
        _store_date(rtc, _days(rtc) + days)
        rtc.ram[DAY_OF_WEEK] = _format(rtc, (_number(rtc, rtc.ram[DAY_OF_WEEK]) + 6 + days) % 7 + 1)


cdef void _catch_up(RtcState* rtc) noexcept nogil:
    cdef u64 now_ns = rtc.clock.now_ns
    cdef u64 seconds
    if rtc.next_periodic_ns <= now_ns:
        rtc.ram[REGISTER_C] |= C_PF
    if rtc.next_update_ns <= now_ns:
        seconds = (now_ns - rtc.next_update_ns) // SECOND_NS + 1
        rtc.next_update_ns += seconds * SECOND_NS
        if not rtc.ram[REGISTER_B] & B_SET:
            _advance(rtc, seconds)
    if rtc.next_periodic_ns <= now_ns:
        rtc.next_periodic_ns = _periodic_after(rtc, now_ns)


cdef void _settle(RtcState* rtc) noexcept nogil:
    """Drives IRQ, and arms the timer for the next flag that would change it."""
    cdef u8 enabled = rtc.ram[REGISTER_B]
    cdef u8 wanted = enabled & ~rtc.ram[REGISTER_C]
    cdef u64 deadline_ns = NEVER
    cdef u64 seconds
    drive(&rtc.output, (enabled & rtc.ram[REGISTER_C] & (C_PF | C_AF | C_UF)) != 0)
    if wanted & B_PIE:
        deadline_ns = rtc.next_periodic_ns
    if rtc.next_update_ns != NEVER and not enabled & B_SET:
        if wanted & B_UIE:
            deadline_ns = min(deadline_ns, rtc.next_update_ns)
        if wanted & B_AIE:
            seconds = _seconds_to_alarm(rtc)
            if seconds != NEVER:
                deadline_ns = min(deadline_ns, rtc.next_update_ns + (seconds - 1) * SECOND_NS)
    timer_arm(rtc.clock, &rtc.timer, deadline_ns)


cdef void _fire(void* owner, u64 now_ns) noexcept nogil:
    _catch_up(<RtcState*>owner)
    _settle(<RtcState*>owner)


cdef u8 _read_register(RtcState* rtc) noexcept nogil:
    cdef u8 value
    _catch_up(rtc)
    value = rtc.ram[rtc.index]
    if rtc.index == REGISTER_A:
        if not rtc.ram[REGISTER_B] & B_SET and rtc.next_update_ns - rtc.clock.now_ns <= UPDATE_NS:
            value |= A_UIP
    elif rtc.index == REGISTER_C:
        if value & rtc.ram[REGISTER_B]:
            value |= C_IRQF
        rtc.ram[REGISTER_C] = 0
        _settle(rtc)
    return value


cdef void _write_register(RtcState* rtc, u8 value) noexcept nogil:
    cdef u64 now_ns = rtc.clock.now_ns
    _catch_up(rtc)
    if rtc.index == REGISTER_A:
        rtc.ram[REGISTER_A] = value & ~<u8>A_UIP
        # DEVIATES: the crystal is 32,768 Hz; the divider settings for other crystals run as the one for it.
        if value & A_DIVIDER_RESET == A_DIVIDER_RESET:
            rtc.next_update_ns = NEVER
        elif rtc.next_update_ns == NEVER:
            rtc.next_update_ns = now_ns + HALF_SECOND_NS     # datasheet, register A, DV
        rtc.next_periodic_ns = _periodic_after(rtc, now_ns)
    elif rtc.index == REGISTER_B:
        # DEVIATES: DSE is kept but moves no clock, as in every chipset since the law changed.
        rtc.ram[REGISTER_B] = value & ~<u8>B_UIE if value & B_SET else value
    elif rtc.index != REGISTER_C and rtc.index != REGISTER_D:
        rtc.ram[rtc.index] = value
    _settle(rtc)


cdef u8 _read_byte(void* owner, u64 offset) noexcept nogil:
    return _read_register(<RtcState*>owner) if offset else 0xFF      # the index cannot be read


cdef void _write_byte(void* owner, u64 offset, u8 value) noexcept nogil:
    cdef RtcState* rtc = <RtcState*>owner
    if offset:
        _write_register(rtc, value)
    else:
        rtc.index = value & 0x7F                     # bit 7 masks NMI sources of the chipset; there are none here


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    return read_bytes(_read_byte, owner, offset, size)


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    write_bytes(_write_byte, owner, offset, size, value)


@cython.final
cdef class Rtc:
    """The clock and 114 bytes of user RAM; it begins at `start_seconds` (since 1970-01-01, UTC, years 1970..9999).

    Region: `region` (2 bytes: index, data). `output` is the interrupt (IRQ 8), high until register C is read.
    """

    def __cinit__(self, Clock clock not None, u64 start_seconds):
        cdef void* owner = <void*>&self.state
        self.state.clock = &clock.state
        self._clock = clock
        self.region = region("rtc", 2, _read, _write, owner, self)
        self.output = line_output(&self.state.output, self)
        fields = declare_state("rtc", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        fields.add("index", "u8", &self.state.index)
        fields.add("ram", "bytes", &self.state.ram, 128)
        fields.add("next_update_ns", "u64", &self.state.next_update_ns)
        fields.add("next_periodic_ns", "u64", &self.state.next_periodic_ns)
        fields.add("deadline_ns", "u64", &self.state.timer.deadline_ns)
        fields.add("output", "i32", &self.state.output.level)
        self.fields = fields
        clock.attach(&self.state.timer, _fire, owner, self)
        self.state.ram[REGISTER_A] = A_RUNNING
        self.state.ram[REGISTER_B] = B_24_HOURS
        self.state.ram[REGISTER_D] = D_VRT
        self.state.next_update_ns = NEVER
        self.state.next_periodic_ns = NEVER
        self.set_time(start_seconds)

    def set_time(self, u64 seconds):
        """Sets date and time, in the format that register B says; the next second begins now."""
        cdef i64 days = <i64>(seconds // 86400)
        if days > 2932896:
            raise ValueError("the clock ends with the year 9999")
        _catch_up(&self.state)
        _store_date(&self.state, days + _days_of_date(1970, 1, 1))
        _store_second_of_day(&self.state, <i64>(seconds % 86400))
        self.state.ram[DAY_OF_WEEK] = _format(&self.state, (days + 4) % 7 + 1)       # 1970-01-01 was a Thursday
        self.state.next_update_ns = self.state.clock.now_ns + SECOND_NS
        self.state.next_periodic_ns = _periodic_after(&self.state, self.state.clock.now_ns)
        _settle(&self.state)

    def reset(self):
        """The RESET pin: no interrupts are enabled or flagged. Time and RAM live on (datasheet, RESET)."""
        _catch_up(&self.state)
        self.state.ram[REGISTER_B] &= ~<u8>(B_PIE | B_AIE | B_UIE | B_SQWE)
        self.state.ram[REGISTER_C] = 0
        self.state.index = 0
        _settle(&self.state)

    def read_nvram(self, int index):
        """The byte of user RAM at `index`, 0x0E..0x7F."""
        self._check(index)
        return self.state.ram[index]

    def write_nvram(self, int index, u8 value):
        """Sets the byte of user RAM at `index`, 0x0E..0x7F (what a board's set-up leaves there for the firmware)."""
        self._check(index)
        self.state.ram[index] = value

    def _check(self, index):
        if not USER_RAM <= index < 128:
            raise ValueError(f"{index:#x} is not in the user RAM, 0x0e..0x7f")

    def _validate(self):
        cdef RtcState* rtc = &self.state
        if rtc.index > 0x7F or rtc.output.level not in (0, 1):
            raise SnapshotError("rtc", f"index {rtc.index:#x}, output {rtc.output.level}", "at most 0x7f, and 0 or 1")
        if rtc.ram[REGISTER_A] & A_UIP or rtc.ram[REGISTER_C] & ~(C_PF | C_AF | C_UF) or rtc.ram[REGISTER_D] != D_VRT:
            raise SnapshotError("rtc.ram", rtc.ram[REGISTER_A:REGISTER_D + 1].hex(), "registers A, C and D as they are kept")
        timer_arm(rtc.clock, &rtc.timer, rtc.timer.deadline_ns)
