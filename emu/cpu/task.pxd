# Hardware task switch (SDM 3A chapter 7).
from emu.base.types cimport u32
from emu.cpu.state cimport Cpu

cdef enum:
    TASK_JUMP = 0
    TASK_CALL = 1
    TASK_INTERRUPT = 2
    TASK_IRET = 3

# Switches to the task whose TSS `selector` names: 0; 1: a fault of the old task, nothing changed; 2: a fault of the new one,
# which runs (c.rip is its). has_error: `error` is pushed on its stack. ext: the EXT bit of error codes.
cdef int task_switch(Cpu* c, u32 selector, int how, bint has_error, u32 error, u32 ext) noexcept nogil
