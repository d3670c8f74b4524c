# String instructions and port I/O: whole handlers, by element size.
from emu.base.types cimport u32
from emu.cpu.state cimport Cpu, Insn

cdef int movs_any(Cpu* c, Insn* i, int size) noexcept nogil
cdef int stos_any(Cpu* c, Insn* i, int size) noexcept nogil
cdef int lods_any(Cpu* c, Insn* i, int size) noexcept nogil
cdef int cmps_any(Cpu* c, Insn* i, int size) noexcept nogil
cdef int scas_any(Cpu* c, Insn* i, int size) noexcept nogil
cdef int ins_any(Cpu* c, Insn* i, int size) noexcept nogil
cdef int outs_any(Cpu* c, Insn* i, int size) noexcept nogil
cdef int port_in(Cpu* c, Insn* i, u32 port, int size) noexcept nogil
cdef int port_out(Cpu* c, Insn* i, u32 port, int size) noexcept nogil
