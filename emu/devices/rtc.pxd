# The MC146818 real-time clock of the AT with its battery-backed RAM.
# Source: Motorola MC146818A datasheet; the century byte at 0x32 is the AT's convention.
from emu.base.clock cimport ClockState, Timer
from emu.base.line cimport Line, LineOutput
from emu.base.types cimport u8, u64
from emu.memory.space cimport Region


cdef struct RtcState:
    u8 index                 # what port 0x70 chose, bits 6:0
    u8 ram[128]              # the registers and the user RAM, as the guest wrote and reads them (A without UIP, C as flags)
    u64 next_update_ns       # the end of the next update cycle; NEVER while the divider is held in reset
    u64 next_periodic_ns     # the next tap of the divider that sets PF; NEVER where none is chosen
    ClockState* clock
    Timer timer
    Line output              # IRQ, active high here


cdef class Rtc:
    cdef RtcState state
    cdef object _clock
    cdef readonly object fields
    cdef readonly Region region
    cdef readonly LineOutput output
