# x87 instructions that move images and control words between the unit, memory and AX.
from emu.base.line cimport drive
from emu.base.types cimport u8, u16, u64
from emu.cpu.access cimport commit, get, operand_offset, put, read_at, read_operand, set_fault, write_at, write_operand
from emu.cpu.flags cimport load_arithmetic_flags
from emu.cpu.fpu cimport x87_reset
from emu.cpu.semantics.x87 cimport (x87_clear_exceptions, x87_load_bcd, x87_load_control, x87_load_environment, x87_load_f80,
                                    x87_restore, x87_save, x87_store_bcd, x87_store_environment, x87_store_f80)
from emu.cpu.state cimport CR0_MP, CR0_TS, I_ASIZE, MODE_PROTECTED, NM, RAX, Cpu, Insn


# ---- images: any even number of bytes, in pieces of 8 and less -----------------------------------------------------------
cdef inline int piece(int left) noexcept nogil:
    return 8 if left >= 8 else 4 if left >= 4 else 2


cdef int read_image(Cpu* c, Insn* i, u8* image, int length) noexcept nogil:
    """Reads the memory operand; 0, or 1 with c.rc set."""
    cdef u64 offset = operand_offset(c, i)
    cdef int at = 0
    cdef int size
    cdef u8* p
    while at < length:
        size = piece(length - at)
        p = read_at(c, i.seg, (offset + <u64>at) & c.address_mask[i.flags & I_ASIZE], size)
        if p == NULL:
            return 1
        put(image + at, get(p, size), size)
        at += size
    return 0


cdef int check_image(Cpu* c, Insn* i, int length) noexcept nogil:
    """Whether the memory operand can be written as a whole; 0, or 1 with c.rc set."""
    cdef u64 offset = operand_offset(c, i)
    cdef int at = 0
    cdef int size
    while at < length:
        size = piece(length - at)
        if write_at(c, i.seg, (offset + <u64>at) & c.address_mask[i.flags & I_ASIZE], size) == NULL:
            return 1
        at += size
    return 0


cdef void write_image(Cpu* c, Insn* i, const u8* image, int length) noexcept nogil:
    """After check_image."""
    cdef u64 offset = operand_offset(c, i)
    cdef int at = 0
    cdef int size
    cdef u8* p
    while at < length:
        size = piece(length - at)
        p = write_at(c, i.seg, (offset + <u64>at) & c.address_mask[i.flags & I_ASIZE], size)
        if p == NULL:
            return
        put(p, get(image + at, size), size)
        commit(c, p)
        at += size


# ---- ten bytes -------------------------------------------------------------------------------------------------------------
cdef int fld_m80(Cpu* c, Insn* i) noexcept nogil:
    cdef u8 image[10]
    if fpu_enter(c) or read_image(c, i, image, 10):
        return 1
    x87_load_f80(&c.fpu, get(image, 8), <u16>get(image + 8, 2))
    fpu_note_operand(c, i)
    return 0


cdef int fbld(Cpu* c, Insn* i) noexcept nogil:
    cdef u8 image[10]
    if fpu_enter(c) or read_image(c, i, image, 10):
        return 1
    x87_load_bcd(&c.fpu, get(image, 8), <u16>get(image + 8, 2))
    fpu_note_operand(c, i)
    return 0


cdef inline int store_ten(Cpu* c, Insn* i, bint decimal) noexcept nogil:
    cdef u8 image[10]
    cdef u64 low
    cdef u16 high
    cdef bint written
    if fpu_enter(c) or check_image(c, i, 10):
        return 1
    written = x87_store_bcd(&c.fpu, &low, &high) if decimal else x87_store_f80(&c.fpu, &low, &high)
    if written:
        put(image, low, 8)
        put(image + 8, high, 2)
        write_image(c, i, image, 10)
    fpu_note_operand(c, i)
    return 0


cdef int fstp_m80(Cpu* c, Insn* i) noexcept nogil:
    return store_ten(c, i, False)


cdef int fbstp(Cpu* c, Insn* i) noexcept nogil:
    return store_ten(c, i, True)


# ---- environment and state ---------------------------------------------------------------------------------------------------
cdef int fldenv(Cpu* c, Insn* i) noexcept nogil:
    cdef u8 image[28]
    cdef bint wide = i.opsize != 2
    if fpu_enter(c) or read_image(c, i, image, 28 if wide else 14):
        return 1
    x87_load_environment(&c.fpu, image, wide, c.mode & MODE_PROTECTED)
    return 0


cdef int frstor(Cpu* c, Insn* i) noexcept nogil:
    cdef u8 image[108]
    cdef bint wide = i.opsize != 2
    if fpu_enter(c) or read_image(c, i, image, 108 if wide else 94):
        return 1
    x87_restore(&c.fpu, image, wide, c.mode & MODE_PROTECTED)
    return 0


cdef int fnstenv(Cpu* c, Insn* i) noexcept nogil:
    cdef u8 image[28]
    cdef bint wide = i.opsize != 2
    cdef int length = 28 if wide else 14
    if fpu_use(c) or check_image(c, i, length):
        return 1
    x87_store_environment(&c.fpu, image, wide, c.mode & MODE_PROTECTED)
    write_image(c, i, image, length)
    return 0


cdef int fnsave(Cpu* c, Insn* i) noexcept nogil:
    cdef u8 image[108]
    cdef bint wide = i.opsize != 2
    cdef int length = 108 if wide else 94
    if fpu_use(c) or check_image(c, i, length):
        return 1
    x87_save(&c.fpu, image, wide, c.mode & MODE_PROTECTED)
    write_image(c, i, image, length)
    drive(&c.ferr, 0)
    return 0


# ---- control and status words --------------------------------------------------------------------------------------------------
cdef int fldcw(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p
    if fpu_enter(c):
        return 1
    p = read_operand(c, i, 2)
    if p == NULL:
        return 1
    x87_load_control(&c.fpu, <u16>get(p, 2))
    return 0


cdef inline int store_word(Cpu* c, Insn* i, u16 value) noexcept nogil:
    cdef u8* p
    if fpu_use(c):
        return 1
    p = write_operand(c, i, 2)
    if p == NULL:
        return 1
    put(p, value, 2)
    commit(c, p)
    return 0


cdef int fnstcw(Cpu* c, Insn* i) noexcept nogil:
    return store_word(c, i, c.fpu.control)


cdef int fnstsw(Cpu* c, Insn* i) noexcept nogil:
    return store_word(c, i, c.fpu.status)


cdef int fnstsw_ax(Cpu* c, Insn* i) noexcept nogil:
    if fpu_use(c):
        return 1
    (<u16*>&c.regs[RAX])[0] = c.fpu.status
    return 0


cdef int fninit(Cpu* c, Insn* i) noexcept nogil:
    if fpu_use(c):
        return 1
    x87_reset(&c.fpu)
    drive(&c.ferr, 0)
    return 0


cdef int fnclex(Cpu* c, Insn* i) noexcept nogil:
    if fpu_use(c):
        return 1
    x87_clear_exceptions(&c.fpu)
    drive(&c.ferr, 0)
    return 0


cdef int fnop(Cpu* c, Insn* i) noexcept nogil:
    if fpu_enter(c):
        return 1
    fpu_note(c, i)
    return 0


cdef int fnop_quiet(Cpu* c, Insn* i) noexcept nogil:
    return fpu_use(c)


cdef int fwait(Cpu* c, Insn* i) noexcept nogil:
    if c.cr0 & CR0_MP and c.cr0 & CR0_TS:
        return set_fault(c, NM, False, 0)
    return fpu_wait(c)


cdef void set_compare_flags(Cpu* c, int flags) noexcept nogil:
    load_arithmetic_flags(c, <u64>flags)
