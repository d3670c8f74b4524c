# The common ground of MMX and SSE: a register as lanes, the checks before an instruction, operands from register or memory.
#
# An instruction works on copies of its operands and writes its destination last, so that it may be its own source and
# a fault leaves everything as it was. What is passed by address to a function that is not inlined stands in Cpu (operand,
# float_status): the address of a local that escapes would cost the handler its sibling call.
from emu.base.bits cimport likely, unlikely
from emu.base.types cimport i8, i16, i32, i64, u8, u16, u32, u64
from emu.cpu.access cimport check_segment, get, operand_offset, read_linear, read_operand, reg, set_fault, write_linear
from emu.cpu.fpu cimport mmx_enter, mmx_set, x87_pending
from emu.cpu.softfloat cimport FloatStatus, mxcsr_commit, status_from_mxcsr
from emu.cpu.state cimport CR0_EM, CR0_TS, CR4_OSFXSR, GP, I_MEMORY, SEG_CHECKED, Cpu, Insn

cdef union Vec:                  # 16 bytes as lanes, lane 0 lowest; an MMX value is in the low 8
    u8 ub[16]
    i8 sb[16]
    u16 uw[8]
    i16 sw[8]
    u32 ud[4]
    i32 sd[4]
    u64 uq[2]
    i64 sq[2]

# the faults behind the checks (simd.pyx); all give 1
cdef int sse_blocked(Cpu* c) noexcept nogil
cdef int mmx_blocked(Cpu* c) noexcept nogil
cdef int simd_exception(Cpu* c) noexcept nogil


cdef inline int sse_check(Cpu* c) noexcept nogil:
    """#UD where SSE is off, #NM after a task switch (SDM 3A 13.1.2, 2.5): 0, or 1 with the fault set."""
    if unlikely(((c.cr0 & (CR0_EM | CR0_TS)) | (~c.cr4 & CR4_OSFXSR)) != 0):
        return sse_blocked(c)
    return 0


cdef inline int mmx_check(Cpu* c) noexcept nogil:
    """#UD, #NM, then #MF for an x87 exception that waits (SDM 3A 12.1, 12.5)."""
    if unlikely((c.cr0 & (CR0_EM | CR0_TS)) != 0 or x87_pending(&c.fpu)):
        return mmx_blocked(c)
    return 0


cdef inline u64 aligned_linear(Cpu* c, Insn* i, bint write) noexcept nogil:
    """Linear address of a memory operand that must lie at a multiple of 16; 1, which is none, with the fault set."""
    cdef u64 linear = operand_offset(c, i)
    if unlikely(i.seg & SEG_CHECKED):
        if (linear + c.segment_base[i.seg & 7]) & 15:          # before the limit
            set_fault(c, GP, True, 0)
            return 1
        if check_segment(c, i.seg & 7, linear, 16, write, &c.bounce_linear):
            return 1
        linear = c.bounce_linear
    else:
        linear += c.segment_base[i.seg]
    if unlikely(linear & 15):
        set_fault(c, GP, True, 0)
        return 1
    return linear


cdef inline u8* read_aligned(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 linear = aligned_linear(c, i, False)
    return read_linear(c, linear, 16) if likely(linear != 1) else NULL


cdef inline u8* write_aligned(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 linear = aligned_linear(c, i, True)
    return write_linear(c, linear, 16) if likely(linear != 1) else NULL


cdef inline Vec* xmm(Cpu* c, int number) noexcept nogil:
    return <Vec*>&c.xmm[number]


cdef inline u64 mmx(Cpu* c, int number) noexcept nogil:
    return c.fpu.st[number].significand


cdef inline int memory_source(Cpu* c, Insn* i, int size, bint aligned, Vec* s) noexcept nogil:
    cdef u8* p = read_aligned(c, i) if size == 16 and aligned else read_operand(c, i, size)
    if unlikely(p == NULL):
        return 1
    if size == 16:
        s.uq[0] = (<u64*>p)[0]
        s.uq[1] = (<u64*>p)[1]
    else:
        s.uq[0] = get(p, size)
        s.uq[1] = 0
    return 0


cdef inline int sse_source(Cpu* c, Insn* i, int size, Vec* s) noexcept nogil:
    """Checks, then the second operand: an xmm register, or `size` bytes of memory (16: aligned)."""
    if sse_check(c):
        return 1
    if i.flags & I_MEMORY:
        return memory_source(c, i, size, True, s)
    s[0] = xmm(c, i.src)[0]
    return 0


cdef inline int sse_source_loose(Cpu* c, Insn* i, int size, Vec* s) noexcept nogil:
    """The same, where memory need not be aligned (PCMPxSTRx)."""
    if sse_check(c):
        return 1
    if i.flags & I_MEMORY:
        return memory_source(c, i, size, False, s)
    s[0] = xmm(c, i.src)[0]
    return 0


cdef inline int mmx_source(Cpu* c, Insn* i, int size, Vec* s) noexcept nogil:
    """Checks, then the second operand: an mmx register, or `size` bytes of memory."""
    if mmx_check(c):
        return 1
    if i.flags & I_MEMORY:
        return memory_source(c, i, size, False, s)
    s.uq[0] = mmx(c, i.src)
    s.uq[1] = 0
    return 0


cdef inline int general_source(Cpu* c, Insn* i, int size, Vec* s) noexcept nogil:
    """Checks, then the second operand: a general register or memory."""
    if sse_check(c):
        return 1
    if i.flags & I_MEMORY:
        return memory_source(c, i, size, False, s)
    s.uq[0] = reg(c, i.src, size)
    return 0


cdef inline void mmx_result(Cpu* c, int number, u64 value) noexcept nogil:
    mmx_enter(&c.fpu)
    mmx_set(&c.fpu, number, value)


cdef inline FloatStatus* float_start(Cpu* c) noexcept nogil:
    status_from_mxcsr(&c.float_status, c.mxcsr)
    return &c.float_status


cdef inline int float_end(Cpu* c) noexcept nogil:
    """Exceptions of all lanes go into MXCSR; 1 where one is unmasked: #XM, and nothing may be written."""
    if unlikely(mxcsr_commit(&c.float_status, &c.mxcsr)):
        return simd_exception(c)
    return 0
