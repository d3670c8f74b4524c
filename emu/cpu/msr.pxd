# Model-specific registers.
from emu.cpu.state cimport Cpu, Insn

cdef int rdmsr(Cpu* c, Insn* i) noexcept nogil
cdef int wrmsr(Cpu* c, Insn* i) noexcept nogil
