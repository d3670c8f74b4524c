# MASKMOVQ and MASKMOVDQU.
from emu.base.types cimport u8, u64
from emu.cpu.access cimport commit, write_at
from emu.cpu.state cimport I_ASIZE, RDI, Cpu, Insn


cdef int store_masked(Cpu* c, Insn* i, const u8* data, const u8* mask, int size) noexcept nogil:
    """Bytes whose mask byte has its top bit set go to DS:rDI (segment may be overridden); bytes not chosen are not
    touched and do not fault (SDM 2 MASKMOVDQU leaves that to the processor). All are probed before one is written."""
    cdef int k
    cdef u64 address = c.address_mask[i.flags & I_ASIZE]
    cdef u8* p
    for k in range(size):
        if mask[k] & 0x80 and write_at(c, i.seg, (c.regs[RDI] + <u64>k) & address, 1) == NULL:
            return 1
    for k in range(size):
        if mask[k] & 0x80:
            p = write_at(c, i.seg, (c.regs[RDI] + <u64>k) & address, 1)
            if p == NULL:
                return 1
            p[0] = data[k]
            commit(c, p)
    return 0
