# The high precision event timer: a 100 MHz counter with three comparators.
# Source: Intel, IA-PC HPET Specification 1.0a.
from emu.base.clock cimport ClockState, Timer
from emu.base.line cimport Line, LineInput, LineOutput
from emu.base.types cimport u8, u32, u64
from emu.memory.space cimport Region

cdef enum:
    COMPARATORS = 3
    HPET_PINS = 24


cdef struct Comparator:
    u64 config               # the bits that can be written
    u64 value                # what the counter is compared with; in periodic mode it moves on by itself
    u64 period               # what was written last, in ticks
    u64 deadline_ns          # the next match, NEVER: none
    u8 edge                  # legacy replacement, edge triggered: the wire is kept high until the next match
    Timer timer


cdef struct HpetState:
    u64 config
    u64 status               # level-triggered comparators that ask
    u64 counter              # the main counter at `start_ns`, or where it stands
    u64 start_ns
    Comparator comparator[COMPARATORS]
    u8 legacy_inputs[2]      # levels of the 8254 and of the RTC
    ClockState* clock
    Line legacy[2]           # to IRQ 0 and IRQ 8
    Line pin[HPET_PINS]      # to the I/O APIC


cdef class Hpet:
    cdef HpetState state
    cdef object _clock
    cdef readonly object fields
    cdef readonly Region region
    cdef readonly LineInput pit, rtc
    cdef readonly LineOutput irq0, irq8
    cdef readonly dict pins
