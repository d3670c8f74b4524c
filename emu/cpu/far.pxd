# Far transfers: JMP, CALL, RET through segments and gates; IRET; INT n.
from emu.base.types cimport u32, u64
from emu.cpu.state cimport Cpu, Insn

cdef int far_operand(Cpu* c, Insn* i, int size, u32* selector, u64* offset) noexcept nogil    # m16:16, m16:32 (size 4), m16:64
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
