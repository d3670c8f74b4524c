# Instructions on the system flags: CLI, STI, PUSHF, POPF (with the rules of IOPL, VME and PVI), CLAC, STAC.
from emu.base.types cimport u8, u32, u64
from emu.cpu.access cimport drop, get, push, set_fault, stack_top
from emu.cpu.flags cimport all_flags, load_arithmetic_flags
from emu.cpu.mode cimport update_mode
from emu.cpu.state cimport *


cdef inline u32 iopl(Cpu* c) noexcept nogil:
    return <u32>(c.flags_system >> 12) & 3


cdef inline bint virtual_interrupts(Cpu* c) noexcept nogil:
    """Whether CLI and STI act on VIF: VME in virtual-8086 mode, PVI in protected mode at CPL 3; IOPL < 3 (SDM 3B 20.3, 20.4)."""
    return c.cpl == 3 and iopl(c) < 3 and c.cr4 & (CR4_VME if c.flags_system & F_VM else CR4_PVI) != 0


cdef int cli(Cpu* c, Insn* i) noexcept nogil:
    if c.cr0 & CR0_PE and c.cpl > iopl(c):
        if not virtual_interrupts(c):
            return set_fault(c, GP, True, 0)
        c.flags_system &= ~<u64>F_VIF
        return 0
    c.flags_system &= ~<u64>F_IF
    return 0


cdef int sti(Cpu* c, Insn* i) noexcept nogil:
    if c.cr0 & CR0_PE and c.cpl > iopl(c):
        if not virtual_interrupts(c) or c.flags_system & F_VIP:
            return set_fault(c, GP, True, 0)
        c.flags_system |= F_VIF
        return 0
    if not c.flags_system & F_IF:
        c.flags_system |= F_IF
        c.shadow = 1
    return 0


cdef int pushf(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 flags = all_flags(c) & ~<u64>(F_VM | F_RF)
    if c.flags_system & F_VM and iopl(c) < 3:
        if not c.cr4 & CR4_VME or i.opsize != 2:
            return set_fault(c, GP, True, 0)
        flags = (flags | F_IOPL) & ~<u64>F_IF
        if flags & F_VIF:
            flags |= F_IF
    return push(c, flags, i.opsize)


cdef int popf(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p
    cdef u64 flags, mask
    cdef bint virtual_if = False
    if c.flags_system & F_VM and iopl(c) < 3:
        if not c.cr4 & CR4_VME or i.opsize != 2:
            return set_fault(c, GP, True, 0)
        virtual_if = True
    p = stack_top(c, i.opsize)
    if p == NULL:
        return 1
    flags = get(p, i.opsize)
    mask = F_TF | F_DF | F_NT
    if i.opsize != 2:
        mask |= F_AC | F_ID
    if virtual_if:
        if flags & F_TF or (flags & F_IF and c.flags_system & F_VIP):
            return set_fault(c, GP, True, 0)
    elif not c.cr0 & CR0_PE or c.cpl <= iopl(c):
        mask |= F_IF
        if c.cpl == 0:
            mask |= F_IOPL
    drop(c, i.opsize)
    load_arithmetic_flags(c, flags)
    mask |= F_RF                                 # always clear afterwards
    flags &= ~<u64>F_RF
    if virtual_if:
        c.flags_system = (c.flags_system & ~<u64>F_VIF) | (F_VIF if flags & F_IF else 0)
    c.flags_system = (c.flags_system & ~mask) | (flags & mask)
    update_mode(c)
    return 0


cdef int clac(Cpu* c, Insn* i) noexcept nogil:
    if c.cpl:
        return set_fault(c, UD, False, 0)
    c.flags_system &= ~<u64>F_AC
    update_mode(c)
    return 0


cdef int stac(Cpu* c, Insn* i) noexcept nogil:
    if c.cpl:
        return set_fault(c, UD, False, 0)
    c.flags_system |= F_AC
    update_mode(c)
    return 0
