# The core loops: of one CPU, and of all CPUs of a machine.
from emu.base.types cimport u64
from emu.cpu.state cimport Cpu, Crew

cdef enum:                       # why a loop returned
    EXIT_TARGET = 0              # the instruction count was reached
    EXIT_IDLE = 1                # all are asleep; nothing is due, or (clock of the host) the next timer is to be waited for
    EXIT_SHUTDOWN = 2            # triple fault of the CPU whose turn it is
    EXIT_STOP = 3                # stop_request
    EXIT_UNSUPPORTED = 4         # of the CPU whose turn it is
    EXIT_DEAD = 5                # all halted with interrupts off (or waiting for a SIPI): nothing could wake them
    EXIT_RESET = 6
    EXIT_PAUSE = 7               # a bounded piece of work is done: to be called again
    EXIT_TURN = 8                # of run_cpu only: another CPU comes first

cdef inline u64 retired(Cpu* c) noexcept nogil:
    """Instructions that one CPU has retired so far; between blocks."""
    return c.slice_end - <u64>c.budget

cdef int run_cpu(Cpu* c, u64 target) noexcept nogil
cdef int run_crew(Crew* w, u64 target, bint jump) noexcept nogil
cdef u64 crew_retired(Crew* w) noexcept nogil
cdef void catch_up(Crew* w) noexcept nogil
cdef void call_cpu(Cpu* c) noexcept nogil
