# MXCSR, cache-line instructions, FXSAVE/FXRSTOR and the XSAVE family. All: 0, or 1 with the fault set and nothing done.
from emu.base.types cimport u32, u64
from emu.cpu.state cimport Cpu, Insn

cdef enum:                       # XCR0 and XSTATE_BV bits; the PKRU component in the standard format, as CPUID leaf 0xD tells it
    XSTATE_X87 = 1 << 0
    XSTATE_SSE = 1 << 1
    XSTATE_AVX = 1 << 2
    XSTATE_PKRU = 1 << 9
    XSAVE_HEADER = 512
    XSAVE_EXTENDED = 576
    XSAVE_PKRU = 576             # standard form: right behind the header, as CPUID leaf 0xD says (cpu/cpuid.pyx)
    XSAVE_PKRU_BYTES = 8

cdef int ldmxcsr(Cpu* c, Insn* i) noexcept nogil
cdef int stmxcsr(Cpu* c, Insn* i) noexcept nogil
cdef int flush_line(Cpu* c, Insn* i) noexcept nogil
cdef int fxsave(Cpu* c, Insn* i) noexcept nogil
cdef int fxrstor(Cpu* c, Insn* i) noexcept nogil
cdef int xsave(Cpu* c, Insn* i) noexcept nogil
cdef int xsaveopt(Cpu* c, Insn* i) noexcept nogil
cdef int xsavec(Cpu* c, Insn* i) noexcept nogil
cdef int xrstor(Cpu* c, Insn* i) noexcept nogil
