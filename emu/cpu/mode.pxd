# What follows from CR0, CR4, EFER, RFLAGS and the segment registers: the mode word, contexts, bases and widths.
from emu.cpu.state cimport Cpu

cdef void update_mode(Cpu* c) noexcept nogil
