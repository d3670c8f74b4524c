# Instructions that look at a descriptor without loading it: LAR, LSL, VERR, VERW; ARPL.
from emu.cpu.state cimport Cpu, Insn

cdef int lar_register(Cpu* c, Insn* i) noexcept nogil
cdef int lar_memory(Cpu* c, Insn* i) noexcept nogil
cdef int lsl_register(Cpu* c, Insn* i) noexcept nogil
cdef int lsl_memory(Cpu* c, Insn* i) noexcept nogil
cdef int verr_register(Cpu* c, Insn* i) noexcept nogil
cdef int verr_memory(Cpu* c, Insn* i) noexcept nogil
cdef int verw_register(Cpu* c, Insn* i) noexcept nogil
cdef int verw_memory(Cpu* c, Insn* i) noexcept nogil
cdef int arpl_register(Cpu* c, Insn* i) noexcept nogil
cdef int arpl_memory(Cpu* c, Insn* i) noexcept nogil
