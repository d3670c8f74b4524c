# ACPI fixed hardware: PM1a event and control blocks, and the PM timer. (Reset by port 0xCF9 is the PCI host bridge's.)
# Source: ACPI specification 6.4, 4.8.3 "Fixed Hardware Features".
import cython

from emu.base.clock cimport NEVER, Clock, muldiv64, timer_arm
from emu.base.errors import SnapshotError
from emu.base.line cimport drive, line_input, line_output
from emu.base.state cimport declare_state
from emu.base.types cimport u8, u16, u64
from emu.devices.narrow cimport read_bytes, write_bytes
from emu.memory.space cimport region

cdef enum:
    STATUS = 0                       # 2 bytes: PM1a_EVT_BLK
    ENABLE = 2                       # 2 bytes
    CONTROL = 4                      # 2 bytes: PM1a_CNT_BLK
    TIMER = 8                        # 4 bytes: PM_TMR_BLK
    BLOCK_BYTES = 12
    TIMER_STATUS = 0x0001            # TMR_STS, TMR_EN
    GLOBAL_STATUS = 0x0020           # GBL_STS, GBL_EN
    BUTTON_STATUS = 0x0100           # PWRBTN_STS, PWRBTN_EN
    RTC_STATUS = 0x0400              # RTC_STS, RTC_EN: can be enabled, never comes (FADT: FIX_RTC)
    EVENTS = TIMER_STATUS | GLOBAL_STATUS | BUTTON_STATUS | RTC_STATUS
    CONTROL_SCI = 0x0001             # SCI_EN
    CONTROL_SLEEP_TYPE = 0x1C00      # SLP_TYP, bits 12:10
    CONTROL_SLEEP = 0x2000           # SLP_EN
    CONTROL_KEPT = CONTROL_SCI | CONTROL_SLEEP_TYPE
    # 3.579545 MHz = 315/88 MHz: 63 ticks in 17,600 ns
    TICKS = 63
    NANOSECONDS = 17600
    HALF = 0x800000                  # a timer of 24 bits: its highest bit changes after so many ticks


cdef inline u64 _tick(AcpiPmState* pm) noexcept nogil:
    return muldiv64(pm.clock.now_ns, TICKS, NANOSECONDS)


cdef void _catch_up(AcpiPmState* pm) noexcept nogil:
    cdef u64 tick = _tick(pm)
    if tick >= pm.next_carry:
        pm.status |= TIMER_STATUS
        pm.next_carry = (tick // HALF + 1) * HALF


cdef void _settle(AcpiPmState* pm) noexcept nogil:
    """Drives SCI, and arms the timer where the next carry would change it."""
    cdef u64 deadline_ns = NEVER
    if pm.enable & ~pm.status & TIMER_STATUS:
        deadline_ns = (pm.next_carry * NANOSECONDS + TICKS - 1) // TICKS
    timer_arm(pm.clock, &pm.timer, deadline_ns)
    drive(&pm.sci, pm.control & CONTROL_SCI and (pm.status & pm.enable) != 0)


cdef void _fire(void* owner, u64 now_ns) noexcept nogil:
    _catch_up(<AcpiPmState*>owner)
    _settle(<AcpiPmState*>owner)


cdef u8 _read_byte(void* owner, u64 offset) noexcept nogil:
    cdef AcpiPmState* pm = <AcpiPmState*>owner
    cdef int shift = 8 * (offset & 1)
    if offset < ENABLE:
        return pm.status >> shift
    if offset < CONTROL:
        return pm.enable >> shift
    if offset < CONTROL + 2:
        return pm.control >> shift
    if offset >= TIMER:
        return <u8>((_tick(pm) & (2 * HALF - 1)) >> (8 * (offset - TIMER)))
    return 0


cdef void _write_byte(void* owner, u64 offset, u8 value) noexcept nogil:
    cdef AcpiPmState* pm = <AcpiPmState*>owner
    cdef int shift = 8 * (offset & 1)
    cdef u16 mask = 0xFF << shift
    cdef u16 moved = value << shift
    if offset < ENABLE:
        pm.status &= ~moved                          # written ones clear
    elif offset < CONTROL:
        pm.enable = ((pm.enable & ~mask) | moved) & EVENTS
    elif offset < CONTROL + 2:
        pm.control = ((pm.control & ~mask) | moved) & CONTROL_KEPT
        # Any other sleep type is one that the DSDT does not offer.
        if moved & CONTROL_SLEEP and (pm.control & CONTROL_SLEEP_TYPE) >> 10 == pm.soft_off_type:
            drive(&pm.power_off, 1)


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    _catch_up(<AcpiPmState*>owner)
    return read_bytes(_read_byte, owner, offset, size)


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    _catch_up(<AcpiPmState*>owner)
    write_bytes(_write_byte, owner, offset, size, value)
    _settle(<AcpiPmState*>owner)


cdef void _press(void* owner, int number, int level) noexcept nogil:
    cdef AcpiPmState* pm = <AcpiPmState*>owner
    if level:
        _catch_up(pm)
        pm.status |= BUTTON_STATUS
        _settle(pm)


@cython.final
cdef class AcpiPm:
    """Power management of a machine that is always in ACPI mode.

    `soft_off_type` is the SLP_TYP (0..7) that the DSDT names for S5. Region: `region` (12 bytes: status 0, enable 2,
    control 4, timer 8 with 24 bits). Wires: `sci`, a level; `power_off` goes high; `power_button`, a high level presses it.
    """

    def __cinit__(self, Clock clock not None, int soft_off_type=5):
        cdef void* owner = <void*>&self.state
        if not 0 <= soft_off_type <= 7:
            raise ValueError(f"sleep type {soft_off_type} is not in 0..7")
        self.state.clock = &clock.state
        self.state.soft_off_type = soft_off_type
        self._clock = clock
        self.region = region("acpi_pm", BLOCK_BYTES, _read, _write, owner, self)
        self.sci = line_output(&self.state.sci, self)
        self.power_off = line_output(&self.state.power_off, self)
        self.power_button = line_input(_press, owner, 0, self)
        fields = declare_state("acpi_pm", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        fields.add("status", "u16", &self.state.status)
        fields.add("enable", "u16", &self.state.enable)
        fields.add("control", "u16", &self.state.control)
        fields.add("next_carry", "u64", &self.state.next_carry)
        fields.add("deadline_ns", "u64", &self.state.timer.deadline_ns)
        fields.add("sci", "i32", &self.state.sci.level)
        fields.add("power_off", "i32", &self.state.power_off.level)
        self.fields = fields
        clock.attach(&self.state.timer, _fire, owner, self)
        self.reset()

    def reset(self):
        """No event is pending or enabled; SCI_EN is set, since there is no legacy mode to switch from."""
        self.state.status = 0
        self.state.enable = 0
        self.state.control = CONTROL_SCI
        self.state.next_carry = (_tick(&self.state) // HALF + 1) * HALF
        _settle(&self.state)
        drive(&self.state.power_off, 0)

    def press_power_button(self):
        """PWRBTN_STS, which asks a guest that listens to shut down."""
        _press(<void*>&self.state, 0, 1)

    def _validate(self):
        cdef AcpiPmState* pm = &self.state
        if pm.status & ~EVENTS or pm.enable & ~EVENTS or pm.control & ~CONTROL_KEPT:
            raise SnapshotError("acpi_pm", f"status {pm.status:#x}, enable {pm.enable:#x}, control {pm.control:#x}", "no reserved bits")
        if pm.sci.level not in (0, 1) or pm.power_off.level not in (0, 1):
            raise SnapshotError("acpi_pm", "the level of a wire", "0 or 1")
        timer_arm(pm.clock, &pm.timer, pm.timer.deadline_ns)
