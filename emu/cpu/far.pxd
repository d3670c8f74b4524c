# Far transfers: JMP, CALL, RET through segments and gates; IRET; INT n.
from emu.cpu.state cimport Cpu, Insn

cdef int jmp_far(Cpu* c, Insn* i) noexcept nogil             # ptr16:16/32 in imm
cdef int call_far(Cpu* c, Insn* i) noexcept nogil
cdef int jmp_far_memory(Cpu* c, Insn* i) noexcept nogil
cdef int call_far_memory(Cpu* c, Insn* i) noexcept nogil
cdef int ret_far(Cpu* c, Insn* i) noexcept nogil             # imm: bytes to drop
cdef int iret(Cpu* c, Insn* i) noexcept nogil
cdef int int_n(Cpu* c, Insn* i) noexcept nogil
cdef int int_3(Cpu* c, Insn* i) noexcept nogil
cdef int int_1(Cpu* c, Insn* i) noexcept nogil
cdef int into(Cpu* c, Insn* i) noexcept nogil
