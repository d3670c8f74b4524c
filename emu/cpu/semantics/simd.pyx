# The faults of MMX and SSE instructions that may not run, or that found an unmasked exception.
from emu.cpu.access cimport set_fault
from emu.cpu.state cimport CR0_EM, CR0_TS, CR4_OSFXSR, CR4_OSXMMEXCPT, MF, NM, UD, XM, Cpu


cdef int sse_blocked(Cpu* c) noexcept nogil:
    if c.cr0 & CR0_EM or not c.cr4 & CR4_OSFXSR:
        return set_fault(c, UD, False, 0)
    return set_fault(c, NM, False, 0)


cdef int mmx_blocked(Cpu* c) noexcept nogil:
    if c.cr0 & CR0_EM:
        return set_fault(c, UD, False, 0)
    if c.cr0 & CR0_TS:
        return set_fault(c, NM, False, 0)
    return set_fault(c, MF, False, 0)


cdef int simd_exception(Cpu* c) noexcept nogil:
    """SDM 3A 2.5: without CR4.OSXMMEXCPT the exception is #UD."""
    return set_fault(c, XM if c.cr4 & CR4_OSXMMEXCPT else UD, False, 0)
