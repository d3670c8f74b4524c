# PTEST and the string comparisons of SSE4.2.
from emu.base.types cimport u64
from emu.cpu.flags cimport load_arithmetic_flags
from emu.cpu.semantics.simd cimport Vec
from emu.cpu.state cimport F_CF, F_ZF, Cpu, Insn

cdef void pcmpestri(Cpu* c, Insn* i, const Vec* s) noexcept nogil
cdef void pcmpestrm(Cpu* c, Insn* i, const Vec* s) noexcept nogil
cdef void pcmpistri(Cpu* c, Insn* i, const Vec* s) noexcept nogil
cdef void pcmpistrm(Cpu* c, Insn* i, const Vec* s) noexcept nogil


cdef inline void ptest_flags(Cpu* c, const Vec* d, const Vec* s) noexcept nogil:
    """ZF: no common bit; CF: no bit of s outside d; the others 0."""
    load_arithmetic_flags(c, (F_ZF if ((d.uq[0] & s.uq[0]) | (d.uq[1] & s.uq[1])) == 0 else 0)
                          | (F_CF if ((~d.uq[0] & s.uq[0]) | (~d.uq[1] & s.uq[1])) == 0 else 0))
