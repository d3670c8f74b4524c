# The core loop, and the owner of a CPU's state.
from emu.base.line cimport LineInput, line_fn
from emu.base.state cimport StateFields
from emu.base.types cimport i64, u32, u64
from emu.cpu.state cimport Cpu
from emu.memory.space cimport PhysicalMemory

cdef enum:                       # why run_cpu returned
    EXIT_TARGET = 0              # the instruction count was reached
    EXIT_IDLE = 1                # halted; nothing due before `until`, or (clock of the host) the next timer is to be waited for
    EXIT_SHUTDOWN = 2            # triple fault
    EXIT_STOP = 3                # stop_request
    EXIT_UNSUPPORTED = 4
    EXIT_DEAD = 5                # halted with interrupts off and nothing that could wake it
    EXIT_RESET = 6
    EXIT_PAUSE = 7               # a bounded piece of work is done: to be called again

cdef int run_cpu(Cpu* c, u64 target, bint jump) noexcept nogil
cdef inline u64 retired(Cpu* c) noexcept nogil:
    """Instructions retired so far; between blocks."""
    return c.slice_end - <u64>c.budget


cdef class Core:
    cdef Cpu* c
    cdef readonly object fields
    cdef list _keep
    cdef PhysicalMemory _memory
    cdef void* _tables
    cdef u64 _tables_bytes
    cdef StateFields _declare(self)
    cdef LineInput _input(self, line_fn fn)
