# Hardware task switch (SDM 3A chapter 7).
from emu.base.types cimport u32
from emu.cpu.state cimport *


cdef int task_switch(Cpu* c, u32 selector, int how, bint has_error, u32 error, u32 ext) noexcept nogil:
    c.unsupported = "hardware task switch"
    c.rc = RC_UNSUPPORTED
    return 1
