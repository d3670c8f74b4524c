# MASKMOVQ and MASKMOVDQU.
from emu.base.types cimport u8, u64
from emu.cpu.access cimport commit, write_at
from emu.cpu.state cimport I_ASIZE, RDI, Cpu, Insn


cdef int store_masked(Cpu* c, Insn* i, const u8* data, const u8* mask, int size) noexcept nogil:
    """Bytes whose mask byte has its top bit set go to DS:rDI (segment may be overridden). Each half of 8 bytes is checked as an operand,
    chosen bytes or not, as AMD's processors do it (SDM 2 MASKMOVDQU leaves that open)."""
    cdef int k
    cdef u64 address = c.address_mask[i.flags & I_ASIZE]
    cdef u8* p
    for k in range(0, size, 8):
        if write_at(c, i.seg, (c.regs[RDI] + <u64>k) & address, 8) == NULL:
            return 1
    for k in range(size):
        if mask[k] & 0x80:
            p = write_at(c, i.seg, (c.regs[RDI] + <u64>k) & address, 1)
            if p == NULL:
                return 1
            p[0] = data[k]
            commit(c, p)
    return 0
