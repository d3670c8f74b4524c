# Moves of MMX and SSE: loads and stores of whole registers and of parts, general registers, masked stores, sign masks.
#
# Memory forms get the number of the vector register and the size in bytes; register forms the size alone (i.dst, i.src).
from emu.base.bits cimport unlikely
from emu.base.types cimport u8, u32, u64
from emu.cpu.access cimport commit, get, put, read_operand, reg, set_reg, write_operand
from emu.cpu.fpu cimport mmx_enter, mmx_leave
from emu.cpu.semantics.simd cimport (Vec, mmx, mmx_check, mmx_result, read_aligned, sse_check, write_aligned, xmm)
from emu.cpu.semantics.sse_shuffle cimport byte_signs, lane_get, lane_set
from emu.cpu.state cimport Cpu, Insn

cdef int store_masked(Cpu* c, Insn* i, const u8* data, const u8* mask, int size) noexcept nogil     # sse_move.pyx


# --- whole xmm registers ---------------------------------------------------------------------------------------------

cdef inline int copy_xmm(Cpu* c, Insn* i, int size) noexcept nogil:
    if sse_check(c):
        return 1
    c.xmm[i.dst] = c.xmm[i.src]
    return 0


cdef inline int load_from(Cpu* c, int number, u8* p) noexcept nogil:
    if unlikely(p == NULL):
        return 1
    c.xmm[number].low = (<u64*>p)[0]
    c.xmm[number].high = (<u64*>p)[1]
    return 0


cdef inline int store_to(Cpu* c, int number, u8* p) noexcept nogil:
    if unlikely(p == NULL):
        return 1
    (<u64*>p)[0] = c.xmm[number].low
    (<u64*>p)[1] = c.xmm[number].high
    commit(c, p)
    return 0


cdef inline int load_aligned(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    return 1 if sse_check(c) else load_from(c, number, read_aligned(c, i))


cdef inline int load_unaligned(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    return 1 if sse_check(c) else load_from(c, number, read_operand(c, i, 16))


cdef inline int store_aligned(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    return 1 if sse_check(c) else store_to(c, number, write_aligned(c, i))


cdef inline int store_unaligned(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    return 1 if sse_check(c) else store_to(c, number, write_operand(c, i, 16))


# --- parts of xmm registers ------------------------------------------------------------------------------------------

cdef inline int load_low(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    """MOVD, MOVQ, MOVSS, MOVSD: the rest becomes 0."""
    cdef u8* p
    if sse_check(c):
        return 1
    p = read_operand(c, i, size)
    if unlikely(p == NULL):
        return 1
    c.xmm[number].low = get(p, size)
    c.xmm[number].high = 0
    return 0


cdef inline int store_value(Cpu* c, Insn* i, u64 value, int size) noexcept nogil:
    cdef u8* p = write_operand(c, i, size)
    if unlikely(p == NULL):
        return 1
    put(p, value, size)
    commit(c, p)
    return 0


cdef inline int store_low(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    return 1 if sse_check(c) else store_value(c, i, c.xmm[number].low, size)


cdef inline int store_high(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    return 1 if sse_check(c) else store_value(c, i, c.xmm[number].high, size)


cdef inline int load_half(Cpu* c, Insn* i, u64* half) noexcept nogil:
    cdef u8* p
    if sse_check(c):
        return 1
    p = read_operand(c, i, 8)
    if unlikely(p == NULL):
        return 1
    half[0] = (<u64*>p)[0]
    return 0


cdef inline int load_low_half(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    """MOVLPS, MOVLPD: the high half stays."""
    return load_half(c, i, &c.xmm[number].low)


cdef inline int load_high_half(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    return load_half(c, i, &c.xmm[number].high)


cdef inline int copy_low(Cpu* c, Insn* i, int size) noexcept nogil:
    """MOVQ between registers: the high half becomes 0."""
    if sse_check(c):
        return 1
    c.xmm[i.dst].low = c.xmm[i.src].low
    c.xmm[i.dst].high = 0
    return 0


cdef inline int merge_low(Cpu* c, Insn* i, int size) noexcept nogil:
    """MOVSS, MOVSD between registers: the rest stays."""
    if sse_check(c):
        return 1
    put(<u8*>&c.xmm[i.dst], c.xmm[i.src].low, size)
    return 0


cdef inline int copy_high_to_low(Cpu* c, Insn* i, int size) noexcept nogil:
    """MOVHLPS."""
    if sse_check(c):
        return 1
    c.xmm[i.dst].low = c.xmm[i.src].high
    return 0


cdef inline int copy_low_to_high(Cpu* c, Insn* i, int size) noexcept nogil:
    """MOVLHPS."""
    if sse_check(c):
        return 1
    c.xmm[i.dst].high = c.xmm[i.src].low
    return 0


# --- general registers -----------------------------------------------------------------------------------------------

cdef inline int xmm_from_general(Cpu* c, Insn* i, int size) noexcept nogil:
    if sse_check(c):
        return 1
    c.xmm[i.dst].low = reg(c, i.src, size)
    c.xmm[i.dst].high = 0
    return 0


cdef inline int xmm_to_general(Cpu* c, Insn* i, int size) noexcept nogil:
    if sse_check(c):
        return 1
    set_reg(c, i.dst, c.xmm[i.src].low, size)
    return 0


cdef inline int sign_mask_bytes(Cpu* c, Insn* i, int size) noexcept nogil:
    if sse_check(c):
        return 1
    set_reg(c, i.dst, byte_signs(xmm(c, i.src), 16), 4)
    return 0


cdef inline int sign_mask_ps(Cpu* c, Insn* i, int size) noexcept nogil:
    cdef Vec* s = xmm(c, i.src)
    if sse_check(c):
        return 1
    set_reg(c, i.dst, (s.ud[0] >> 31) | ((s.ud[1] >> 31) << 1) | ((s.ud[2] >> 31) << 2) | ((s.ud[3] >> 31) << 3), 4)
    return 0


cdef inline int sign_mask_pd(Cpu* c, Insn* i, int size) noexcept nogil:
    if sse_check(c):
        return 1
    set_reg(c, i.dst, (c.xmm[i.src].low >> 63) | ((c.xmm[i.src].high >> 63) << 1), 4)
    return 0


cdef inline int extract_general(Cpu* c, Insn* i, int size) noexcept nogil:
    """PEXTRB, PEXTRW, PEXTRD, PEXTRQ, EXTRACTPS: a general register gets the lane, zero-extended."""
    if sse_check(c):
        return 1
    set_reg(c, i.dst, lane_get(xmm(c, i.src), <int>i.imm, size), 8)
    return 0


cdef inline int extract_memory(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    return 1 if sse_check(c) else store_value(c, i, lane_get(xmm(c, number), <int>i.imm, size), size)


cdef inline int insert_general(Cpu* c, Insn* i, int size) noexcept nogil:
    if sse_check(c):
        return 1
    lane_set(xmm(c, i.dst), <int>i.imm, reg(c, i.src, size), size)
    return 0


cdef inline int insert_memory(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    cdef u8* p
    if sse_check(c):
        return 1
    p = read_operand(c, i, size)
    if unlikely(p == NULL):
        return 1
    lane_set(xmm(c, number), <int>i.imm, get(p, size), size)
    return 0


cdef inline int store_general(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    """MOVNTI: neither CR0 nor CR4 can forbid it."""
    return store_value(c, i, reg(c, number, size), size)


# --- MMX -------------------------------------------------------------------------------------------------------------

cdef inline int mmx_copy(Cpu* c, Insn* i, int size) noexcept nogil:
    if mmx_check(c):
        return 1
    mmx_result(c, i.dst, mmx(c, i.src))
    return 0


cdef inline int mmx_load(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    cdef u8* p
    if mmx_check(c):
        return 1
    p = read_operand(c, i, size)
    if unlikely(p == NULL):
        return 1
    mmx_result(c, number, get(p, size))
    return 0


cdef inline int mmx_store(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    if mmx_check(c):
        return 1
    if store_value(c, i, mmx(c, number), size):
        return 1
    mmx_enter(&c.fpu)
    return 0


cdef inline int mmx_from_general(Cpu* c, Insn* i, int size) noexcept nogil:
    if mmx_check(c):
        return 1
    mmx_result(c, i.dst, reg(c, i.src, size))
    return 0


cdef inline int mmx_to_general(Cpu* c, Insn* i, int size) noexcept nogil:
    if mmx_check(c):
        return 1
    set_reg(c, i.dst, mmx(c, i.src), size)
    mmx_enter(&c.fpu)
    return 0


cdef inline int mmx_sign_mask(Cpu* c, Insn* i, int size) noexcept nogil:
    cdef Vec s
    if mmx_check(c):
        return 1
    s.uq[0] = mmx(c, i.src)
    set_reg(c, i.dst, byte_signs(&s, 8), 4)
    mmx_enter(&c.fpu)
    return 0


cdef inline int mmx_extract(Cpu* c, Insn* i, int size) noexcept nogil:
    if mmx_check(c):
        return 1
    set_reg(c, i.dst, (mmx(c, i.src) >> (16 * (i.imm & 3))) & 0xFFFF, 4)
    mmx_enter(&c.fpu)
    return 0


cdef inline void mmx_insert_word(Cpu* c, Insn* i, u64 value) noexcept nogil:
    cdef int shift = 16 * <int>(i.imm & 3)
    mmx_result(c, i.dst, (mmx(c, i.dst) & ~(<u64>0xFFFF << shift)) | ((value & 0xFFFF) << shift))


cdef inline int mmx_insert(Cpu* c, Insn* i, int size) noexcept nogil:
    if mmx_check(c):
        return 1
    mmx_insert_word(c, i, reg(c, i.src, 2))
    return 0


cdef inline int mmx_insert_memory(Cpu* c, Insn* i, int number, int size) noexcept nogil:
    cdef u8* p
    if mmx_check(c):
        return 1
    p = read_operand(c, i, 2)
    if unlikely(p == NULL):
        return 1
    mmx_insert_word(c, i, get(p, 2))
    return 0


cdef inline int mmx_to_xmm(Cpu* c, Insn* i, int size) noexcept nogil:
    """MOVQ2DQ."""
    if sse_check(c) or mmx_check(c):
        return 1
    c.xmm[i.dst].low = mmx(c, i.src)
    c.xmm[i.dst].high = 0
    mmx_enter(&c.fpu)
    return 0


cdef inline int xmm_to_mmx(Cpu* c, Insn* i, int size) noexcept nogil:
    """MOVDQ2Q."""
    if sse_check(c) or mmx_check(c):
        return 1
    mmx_result(c, i.dst, c.xmm[i.src].low)
    return 0


cdef inline int maskmovq(Cpu* c, Insn* i, int size) noexcept nogil:
    cdef u64 data, mask
    if mmx_check(c):
        return 1
    data = mmx(c, i.dst)
    mask = mmx(c, i.src)
    mmx_enter(&c.fpu)                            # also where the store faults
    return store_masked(c, i, <const u8*>&data, <const u8*>&mask, 8)


cdef inline int maskmovdqu(Cpu* c, Insn* i, int size) noexcept nogil:
    return 1 if sse_check(c) else store_masked(c, i, <const u8*>&c.xmm[i.dst], <const u8*>&c.xmm[i.src], 16)


cdef inline int emms(Cpu* c, Insn* i) noexcept nogil:
    if mmx_check(c):
        return 1
    mmx_leave(&c.fpu)
    return 0
