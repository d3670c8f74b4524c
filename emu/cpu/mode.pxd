# What follows from CR0, CR4, EFER, RFLAGS and the segment registers: the mode word, contexts, bases and widths.
from emu.base.types cimport i64, u64
from emu.cpu.state cimport Cpu

cdef void update_mode(Cpu* c) noexcept nogil


cdef inline bint canonical(u64 linear) noexcept nogil:
    """Whether bits 63:48 repeat bit 47 (SDM 1 3.3.7.1)."""
    return (<i64>(linear << 16) >> 16) == <i64>linear
