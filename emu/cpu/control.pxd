# Control and debug registers, descriptor-table registers, cache and TLB instructions, XCR0.
from emu.base.types cimport u64
from emu.cpu.state cimport Cpu, Insn

cdef int write_cr0(Cpu* c, u64 value) noexcept nogil         # 0, or 1 with #GP(0) and nothing changed
cdef int write_cr3(Cpu* c, u64 value) noexcept nogil
cdef int write_cr4(Cpu* c, u64 value) noexcept nogil

cdef int mov_from_cr(Cpu* c, Insn* i) noexcept nogil
cdef int mov_to_cr(Cpu* c, Insn* i) noexcept nogil
cdef int mov_from_dr(Cpu* c, Insn* i) noexcept nogil
cdef int mov_to_dr(Cpu* c, Insn* i) noexcept nogil
cdef int clts(Cpu* c, Insn* i) noexcept nogil
cdef int lmsw_register(Cpu* c, Insn* i) noexcept nogil
cdef int lmsw_memory(Cpu* c, Insn* i) noexcept nogil
cdef int smsw_register(Cpu* c, Insn* i) noexcept nogil
cdef int smsw_memory(Cpu* c, Insn* i) noexcept nogil
cdef int lgdt(Cpu* c, Insn* i) noexcept nogil
cdef int lidt(Cpu* c, Insn* i) noexcept nogil
cdef int sgdt(Cpu* c, Insn* i) noexcept nogil
cdef int sidt(Cpu* c, Insn* i) noexcept nogil
cdef int invlpg(Cpu* c, Insn* i) noexcept nogil
cdef int invpcid(Cpu* c, Insn* i) noexcept nogil
cdef int flush_caches(Cpu* c, Insn* i) noexcept nogil
cdef int xgetbv(Cpu* c, Insn* i) noexcept nogil
cdef int xsetbv(Cpu* c, Insn* i) noexcept nogil
cdef int rdpkru(Cpu* c, Insn* i) noexcept nogil
cdef int wrpkru(Cpu* c, Insn* i) noexcept nogil
cdef int hlt(Cpu* c, Insn* i) noexcept nogil
