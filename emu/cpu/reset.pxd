# RESET, INIT and SIPI.
from emu.cpu.state cimport Cpu

cdef void reset_cpu(Cpu* c) noexcept nogil
cdef void init_cpu(Cpu* c) noexcept nogil
cdef void start_cpu(Cpu* c) noexcept nogil               # Cpu.sipi is the vector
