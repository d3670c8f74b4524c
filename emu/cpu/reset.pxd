# The state of the processor after RESET (SDM 3A table 9-1).
from emu.cpu.state cimport Cpu

cdef void reset_cpu(Cpu* c) noexcept nogil
