# CPUID: what the CPU says about itself.
from emu.base.types cimport u32, u64
from emu.cpu.state cimport Cpu

cdef inline bint has_feature(Cpu* c, int number) noexcept nogil:
    """Whether the CPU model has the feature FEATURE_*."""
    return (c.features[number >> 6] >> (number & 63)) & 1


cdef u64 xcr0_mask(Cpu* c) noexcept nogil
cdef bint is_amd(Cpu* c) noexcept nogil
cdef void read_cpuid(Cpu* c, u32 leaf, u32 subleaf, u32* out) noexcept nogil
