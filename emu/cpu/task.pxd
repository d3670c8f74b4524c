# Hardware task switch (SDM 3A chapter 7).
from emu.base.types cimport u32
from emu.cpu.state cimport Cpu

cdef enum:
    TASK_JUMP = 0
    TASK_CALL = 1
    TASK_INTERRUPT = 2
    TASK_IRET = 3

cdef int task_switch(Cpu* c, u32 selector, int how, bint has_error, u32 error, u32 ext) noexcept nogil
