# From block to block: links within a page, the table by virtual address, and the way back to the core loop.
from emu.base.bits cimport likely, unlikely
from emu.base.check cimport check
from emu.base.types cimport u32, u64, u8
from emu.cpu.state cimport (I_LINK_FALL, I_LINK_TAKEN, ITLB_ENTRIES, MAX_BLOCK, NEVER_FITS, RC_NEXT, RIP_SLOT, VTAB_ENTRIES, ZERO_SLOT,
                            Block, Cpu, Insn, ItlbEntry, Links, VtabEntry)


cdef inline void check_block(Cpu* c, Block* b) noexcept nogil:
    """What every block that is entered, or tried, must be."""
    check(<u8*>b >= c.crew.arena and <u8*>b + sizeof(Block) < c.crew.arena + c.crew.arena_used)
    check(b.n == NEVER_FITS or (0 < b.n <= MAX_BLOCK and b.bytes + b.start <= 4096 and (<Insn*>(b + 1)).left == b.n))
    check(c.regs[ZERO_SLOT] == 0 and c.budget >= 0)


cdef inline int enter_block(Cpu* c, Block* b, u64 rip) noexcept nogil:
    """Charges the block and runs it; an invalidated one never fits the budget."""
    cdef Insn* first = <Insn*>(b + 1)
    check_block(c, b)
    c.budget -= b.n
    if unlikely(c.budget < 0):
        c.budget += b.n
        c.rip = rip
        return RC_NEXT
    c.regs[RIP_SLOT] = rip
    return first.fn(c, first)


cdef inline int goto_rip(Cpu* c, u64 rip) noexcept nogil:
    """Goes on at `rip` (already cut to the width of the instruction pointer), in any page."""
    cdef u64 linear = rip + c.cs_base
    cdef VtabEntry* v = &c.vtab[(linear ^ (linear >> 12)) & (VTAB_ENTRIES - 1)]
    cdef ItlbEntry* t
    cdef Block* b = v.block
    if likely(v.linear == linear and b != NULL and b.mode == c.mode):
        t = &c.itlb[(linear >> 12) & (ITLB_ENTRIES - 1)]
        if likely(t.tag == (linear & ~<u64>0xFFF) and t.page == b.page and rip + b.bytes - 1 <= c.cs_limit):
            return enter_block(c, b, rip)
    c.rip = rip
    return RC_NEXT


cdef inline u64 cut_rip(u64 rip, int size) noexcept nogil:
    """Cuts an instruction pointer to the operand size of the branch."""
    if size == 2:
        return rip & 0xFFFF
    if size == 4:
        return rip & <u64>0xFFFFFFFF
    return rip


cdef inline int follow_link(Cpu* c, Block** link, u64 rip) noexcept nogil:
    """Enters the block that a branch is linked to; where that cannot be now, the core loop finds it and links anew."""
    cdef Block* b = link[0]
    cdef Insn* first
    if likely(b != NULL):
        check_block(c, b)
        check(b.n == NEVER_FITS or b.mode == c.mode)
        c.budget -= b.n
        if likely(c.budget >= 0):
            c.regs[RIP_SLOT] = rip
            first = <Insn*>(b + 1)
            return first.fn(c, first)
        c.budget += b.n
    c.link_slot = link
    c.rip = rip
    return RC_NEXT


cdef inline int branch_taken(Cpu* c, Insn* i, int size) noexcept nogil:
    """A direct branch to block start + imm; `size` is its operand size."""
    if likely(i.flags & I_LINK_TAKEN):
        return follow_link(c, &(<Links*>(i + 1)).taken, c.regs[RIP_SLOT] + <u64>i.imm)
    return goto_rip(c, cut_rip(c.regs[RIP_SLOT] + <u64>i.imm, size))


cdef inline int branch_fall(Cpu* c, Insn* i) noexcept nogil:
    """Not taken: on behind the branch."""
    if likely(i.flags & I_LINK_FALL):
        return follow_link(c, &(<Links*>(i + 1)).fall, c.regs[RIP_SLOT] + i.off + i.len)
    return goto_rip(c, (c.regs[RIP_SLOT] + i.off + i.len) & c.rip_mask)
