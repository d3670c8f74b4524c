# MXCSR, cache-line instructions, FXSAVE/FXRSTOR and the XSAVE family. All: 0, or 1 with the fault set and nothing done.
from emu.base.types cimport u32, u64
from emu.cpu.state cimport Cpu, Insn

cdef enum:                       # XCR0 and XSTATE_BV bits; PKRU is the one extended component, so that it has the same place in
                                 # both formats (cpuid.pyx tells it in leaf 0DH)
    XSTATE_X87 = 1 << 0
    XSTATE_SSE = 1 << 1
    XSTATE_AVX = 1 << 2
    XSTATE_PKRU = 1 << 9
    XSAVE_HEADER = 512
    XSAVE_EXTENDED = 576
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
