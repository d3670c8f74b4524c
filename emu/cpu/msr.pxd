# Model-specific registers.
from emu.base.types cimport u32, u64
from emu.cpu.state cimport Cpu, Insn

cdef int read_msr(Cpu* c, u32 index, u64* value) noexcept nogil      # 0, or 1 with #GP(0), or run_alone asked for
cdef int write_msr(Cpu* c, u32 index, u64 value) noexcept nogil
cdef int rdmsr(Cpu* c, Insn* i) noexcept nogil
cdef int wrmsr(Cpu* c, Insn* i) noexcept nogil
