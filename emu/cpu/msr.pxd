# Model-specific registers.
from emu.base.types cimport u32, u64
from emu.cpu.state cimport Cpu, Insn

cdef enum:                       # registers that hold memory types
    MSR_MTRR_VARIABLE = 0x200    # base and mask, eight pairs
    MSR_MTRR_FIXED = 0x250       # the first of them
    MSR_PAT = 0x277
    MSR_MTRR_DEF_TYPE = 0x2FF

cdef int rdmsr(Cpu* c, Insn* i) noexcept nogil
cdef int wrmsr(Cpu* c, Insn* i) noexcept nogil
cdef bint valid_memory_type(Cpu* c, u32 index, u64 value) noexcept nogil       # whether such a register takes `value`
