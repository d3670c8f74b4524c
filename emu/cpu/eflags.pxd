# Instructions on the system flags: CLI, STI, PUSHF, POPF, CLAC, STAC.
from emu.cpu.state cimport Cpu, Insn

cdef int cli(Cpu* c, Insn* i) noexcept nogil
cdef int sti(Cpu* c, Insn* i) noexcept nogil
cdef int pushf(Cpu* c, Insn* i) noexcept nogil
cdef int popf(Cpu* c, Insn* i) noexcept nogil
cdef int clac(Cpu* c, Insn* i) noexcept nogil
cdef int stac(Cpu* c, Insn* i) noexcept nogil
