# The 8254 programmable interval timer, and port 0x61 of the AT that holds the gate of its channel 2.
# Source: Intel 8254 datasheet (order 231164); port 0x61: Intel 82371SB (PIIX3) datasheet, NMI status and control.
from emu.base.clock cimport ClockState, Timer
from emu.base.line cimport Line, LineOutput
from emu.base.types cimport u8, u16, u32, u64
from emu.memory.space cimport Region


cdef struct Channel:
    u8 control               # bits 5:0 of the control word, as written
    u8 write_high            # the next byte written is the high one of two
    u8 read_high             # the next byte read is the high one of two
    u8 write_low             # the low one that came before
    u8 count_latched         # bytes of `latch` still to be read, 0..2
    u8 status_latched
    u8 status
    u8 null_count            # CR is not in CE yet
    u8 gate
    u8 out
    u8 written               # a count came since the control word
    u8 loaded                # CE holds a count: the counter counts while its gate permits it
    u8 counting              # 0: stopped where `value` says
    u8 strobe                # modes 1, 4, 5: 1: the end of OUT's low pulse is still to come, 2: the whole strobe is
    u16 latch
    u16 count                # CR, as written
    u32 value                # CE at tick `start`, 1..65536 (in BCD mode as a plain number, up to 16665)
    u64 start                # the tick when `value` was there
    u64 load                 # the tick when CR goes to CE, NEVER: not asked for


cdef struct PitState:
    Channel channel[3]
    u8 speaker               # port 0x61, bits 3:0
    ClockState* clock
    Timer timer              # the next change of channel 0's OUT
    Line output              # OUT of channel 0


cdef class Pit:
    cdef PitState state
    cdef object _clock
    cdef readonly object fields
    cdef readonly Region counters, speaker
    cdef readonly LineOutput output
