# All that the CPU knows of the outside, besides physical memory: interrupt acknowledge and its local APIC.
# The board fills it; the CPU only calls. Every function may be NULL where the machine has no such part.
from emu.base.types cimport u32, u64


cdef struct Port:
    void* interrupt_owner
    int (*acknowledge)(void* owner) noexcept nogil          # the vector of the pending INTR, -1: spurious withdrawal
    void* apic_owner
    u64 (*apic_base_read)(void* owner) noexcept nogil       # IA32_APIC_BASE
    int (*apic_base_write)(void* owner, u64 value) noexcept nogil       # 0, or -1: #GP
    int (*apic_msr_read)(void* owner, u32 index, u64* value) noexcept nogil     # x2APIC 0x800..0x8FF and TSC deadline 0x6E0; 0, or -1: #GP
    int (*apic_msr_write)(void* owner, u32 index, u64 value) noexcept nogil
    u64 (*tpr_read)(void* owner) noexcept nogil             # CR8: bits 3:0
    void (*tpr_write)(void* owner, u64 value) noexcept nogil
