# ACPI fixed hardware: PM1a event and control blocks, and the PM timer.
# Source: ACPI specification 6.4, 4.8.3 "Fixed Hardware Features".
from emu.base.clock cimport ClockState, Timer
from emu.base.line cimport Line, LineInput, LineOutput
from emu.base.types cimport u8, u16, u64
from emu.memory.space cimport Region


cdef struct AcpiPmState:
    u16 status               # PM1_STS
    u16 enable               # PM1_EN
    u16 control              # PM1_CNT without its write-only bits
    u8 soft_off_type         # the SLP_TYP that the DSDT gives for S5
    u64 next_carry           # the tick when the timer's highest bit changes next
    ClockState* clock
    Timer timer
    Line sci
    Line power_off


cdef class AcpiPm:
    cdef AcpiPmState state
    cdef object _clock
    cdef readonly object fields
    cdef readonly Region region
    cdef readonly LineOutput sci, power_off
    cdef readonly LineInput power_button
