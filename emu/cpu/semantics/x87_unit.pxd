# The x87 unit inside the CPU: when it may be used, what it remembers of an instruction, and its images in memory.
from emu.base.bits cimport unlikely
from emu.base.line cimport drive
from emu.cpu.access cimport operand_offset, rip_of, set_fault
from emu.cpu.fpu cimport x87_pending
from emu.cpu.state cimport CR0_EM, CR0_NE, CR0_TS, CS, MF, NM, Cpu, Insn


cdef inline int fpu_use(Cpu* c) noexcept nogil:
    """What every x87 instruction but FWAIT begins with: 0, or 1 with #NM set (SDM 3A 2.5)."""
    if unlikely(c.cr0 & (CR0_EM | CR0_TS)):
        return set_fault(c, NM, False, 0)
    return 0


cdef inline int fpu_wait(Cpu* c) noexcept nogil:
    """Reports a pending exception: #MF, or FERR# where CR0.NE is clear (SDM 1 8.7)."""
    if unlikely(x87_pending(&c.fpu)):
        if c.cr0 & CR0_NE:
            return set_fault(c, MF, False, 0)
        # DEVIATES: the processor stops here until an interrupt comes; we go on, and the interrupt comes at the next boundary
        drive(&c.ferr, 1)
    return 0


cdef inline int fpu_enter(Cpu* c) noexcept nogil:
    """Both: what every waiting instruction begins with."""
    return fpu_use(c) or fpu_wait(c)


cdef inline void fpu_note(Cpu* c, Insn* i) noexcept nogil:
    """Remembers the instruction (SDM 1 8.1.8)."""
    c.fpu.fop = i.imm & 0x7FF
    c.fpu.fip = rip_of(c, i)
    c.fpu.fcs = c.seg[CS].selector


cdef inline void fpu_note_operand(Cpu* c, Insn* i) noexcept nogil:
    """The same for an instruction with a memory operand."""
    fpu_note(c, i)
    c.fpu.fdp = operand_offset(c, i)
    c.fpu.fds = c.seg[i.imm >> 16].selector


# Instructions whose operands are not plain 2, 4 or 8 bytes of memory, or that are no computation: 0, or 1 with c.rc set.
cdef int fld_m80(Cpu* c, Insn* i) noexcept nogil
cdef int fstp_m80(Cpu* c, Insn* i) noexcept nogil
cdef int fbld(Cpu* c, Insn* i) noexcept nogil
cdef int fbstp(Cpu* c, Insn* i) noexcept nogil
cdef int fldenv(Cpu* c, Insn* i) noexcept nogil
cdef int fnstenv(Cpu* c, Insn* i) noexcept nogil
cdef int frstor(Cpu* c, Insn* i) noexcept nogil
cdef int fnsave(Cpu* c, Insn* i) noexcept nogil
cdef int fldcw(Cpu* c, Insn* i) noexcept nogil
cdef int fnstcw(Cpu* c, Insn* i) noexcept nogil
cdef int fnstsw(Cpu* c, Insn* i) noexcept nogil
cdef int fnstsw_ax(Cpu* c, Insn* i) noexcept nogil
cdef int fninit(Cpu* c, Insn* i) noexcept nogil
cdef int fnclex(Cpu* c, Insn* i) noexcept nogil
cdef int fnop(Cpu* c, Insn* i) noexcept nogil
cdef int fnop_quiet(Cpu* c, Insn* i) noexcept nogil                              # FENI, FDISI, FSETPM
cdef int fwait(Cpu* c, Insn* i) noexcept nogil
cdef void set_compare_flags(Cpu* c, int flags) noexcept nogil                    # FCOMI: ZF PF CF; OF SF AF become 0
