# Integer instructions that are too large or too rare to be inlined into their handlers.
from emu.base.bits cimport mask_of, sign_extend
from emu.base.types cimport i64, u8, u32, u64
from emu.cpu.access cimport (commit, drop, get, modify_operand, operand_offset, put, read_at, reg, set_fault, set_reg,
                             set_stack_pointer, stack_fault, stack_mask, stack_segment, stack_top, write_at, write_operand)
from emu.cpu.flags cimport (arithmetic_flags, flag_af, flag_cf, load_arithmetic_flags, set_cf, set_cf_of,
                            set_flags_logic)
from emu.cpu.state cimport BR, DE, F_DF, I_ASIZE, RBP, RSP, Cpu, Insn

cdef u32[256] _CRC


def _fill_crc():
    """CRC-32C (Castagnoli), reflected polynomial <u64>0x82F63B78."""
    cdef u32 crc
    for n in range(256):
        crc = <u32>n
        for _ in range(8):
            crc = (crc >> 1) ^ (<u32>0x82F63B78 if crc & 1 else <u32>0)
        _CRC[n] = crc


_fill_crc()


cdef u32 crc32c(u32 crc, u64 value, int size) noexcept nogil:
    cdef int _k
    for _k in range(size):
        crc = _CRC[(crc ^ value) & 0xFF] ^ (crc >> 8)
        value >>= 8
    return crc


cdef u64 rotate_carry_left(Cpu* c, u64 a, u64 count, int size) noexcept nogil:
    cdef int bits = 8 * size
    cdef int n = <int>(count & (0x3F if size == 8 else 0x1F))
    cdef u64 cf = flag_cf(c)
    cdef u64 top
    if n == 0:
        return a
    if size < 4:
        n = n % (bits + 1)
    while n > 0:
        top = (a >> (bits - 1)) & 1
        a = ((a << 1) | cf) & mask_of(size)
        cf = top
        n -= 1
    set_cf_of(c, cf, cf ^ ((a >> (bits - 1)) & 1))
    return a


cdef u64 rotate_carry_right(Cpu* c, u64 a, u64 count, int size) noexcept nogil:
    cdef int bits = 8 * size
    cdef int n = <int>(count & (0x3F if size == 8 else 0x1F))
    cdef u64 cf = flag_cf(c)
    cdef u64 low
    if n == 0:
        return a
    if size < 4:
        n = n % (bits + 1)
    while n > 0:
        low = a & 1
        a = (a >> 1) | (cf << (bits - 1))
        cf = low
        n -= 1
    set_cf_of(c, cf, ((a >> (bits - 1)) ^ (a >> (bits - 2))) & 1)
    return a


cdef int pusha(Cpu* c, Insn* i, int size) noexcept nogil:
    """All eight are checked as one access of eight operands, each written where PUSH would put it."""
    cdef u64 mask = stack_mask(c)
    cdef u64 top = c.regs[RSP]
    cdef u8* p
    cdef int k
    for k in range(8):                                  # probe first: nothing is written where one would fault
        p = write_at(c, stack_segment(c), (top - (k + 1) * size) & mask, size)
        if p == NULL:
            stack_fault(c)
            return 1
    for k in range(8):
        p = write_at(c, stack_segment(c), (top - (k + 1) * size) & mask, size)
        if p == NULL:
            stack_fault(c)
            return 1
        put(p, c.regs[k], size)
        commit(c, p)
    set_stack_pointer(c, top - 8 * size)
    return 0


cdef int popa(Cpu* c, Insn* i, int size) noexcept nogil:
    cdef u64 mask = stack_mask(c)
    cdef u64[8] values
    cdef u8* p
    cdef int k
    for k in range(8):
        p = read_at(c, stack_segment(c), (c.regs[RSP] + k * size) & mask, size)
        if p == NULL:
            stack_fault(c)
            return 1
        values[7 - k] = get(p, size)
    for k in range(8):
        if k != RSP:
            set_reg(c, k * 8, values[k], size)
    set_stack_pointer(c, c.regs[RSP] + 8 * size)
    return 0


cdef int enter(Cpu* c, Insn* i, int size) noexcept nogil:
    """SDM 2A ENTER; the final stack pointer is probed for writing, as the hardware does. The frame pointer is all of ESP,
    whose upper half stays where the stack is of 16 bits."""
    cdef u64 frame_bytes = <u64>i.imm & 0xFFFF
    cdef int level = <int>((i.imm >> 16) & 31)
    cdef u64 mask = stack_mask(c)
    cdef u64 top = c.regs[RSP]
    cdef u64 old_base = c.regs[RBP]
    cdef u64 base = old_base
    cdef u64 frame, value
    cdef int _k
    cdef u8* p
    top = (top - size) & mask
    p = write_at(c, stack_segment(c), top, size)
    if p == NULL:
        stack_fault(c)
        return 1
    put(p, old_base, size)
    commit(c, p)
    frame = (c.regs[RSP] & ~mask) | top
    if level > 0:
        for _k in range(1, level):
            base = (base - size) & mask
            p = read_at(c, stack_segment(c), base, size)
            if p == NULL:
                stack_fault(c)
                return 1
            value = get(p, size)
            top = (top - size) & mask
            p = write_at(c, stack_segment(c), top, size)
            if p == NULL:
                stack_fault(c)
                return 1
            put(p, value, size)
            commit(c, p)
        top = (top - size) & mask
        p = write_at(c, stack_segment(c), top, size)
        if p == NULL:
            stack_fault(c)
            return 1
        put(p, frame, size)
        commit(c, p)
    top = (top - frame_bytes) & mask
    p = write_at(c, stack_segment(c), top, size)
    if p == NULL:
        stack_fault(c)
        return 1
    set_reg(c, RBP * 8, frame, size)
    set_stack_pointer(c, top)
    return 0


cdef int leave_frame(Cpu* c, Insn* i, int size) noexcept nogil:
    cdef u64 mask = stack_mask(c)
    cdef u64 value
    cdef u8* p = read_at(c, stack_segment(c), c.regs[RBP] & mask, size)
    if p == NULL:
        stack_fault(c)
        return 1
    value = get(p, size)
    set_stack_pointer(c, c.regs[RBP] + size)
    set_reg(c, RBP * 8, value, size)
    return 0


cdef int pop_memory(Cpu* c, Insn* i, int size) noexcept nogil:
    """POP to memory: the address is computed with the stack pointer already moved; undone on a fault."""
    cdef u64 old = c.regs[RSP]
    cdef u64 value
    cdef u8* p = stack_top(c, size)
    if p == NULL:
        return 1
    value = get(p, size)
    drop(c, size)
    p = write_operand(c, i, size)
    if p == NULL:
        c.regs[RSP] = old
        return 1
    put(p, value, size)
    commit(c, p)
    return 0


cdef int bound(Cpu* c, Insn* i, int size) noexcept nogil:
    cdef i64 low, high
    cdef i64 value = sign_extend(reg(c, i.dst, size), size)
    cdef u64 at = operand_offset(c, i)
    cdef u8* p = read_at(c, i.seg, at, size)         # two reads, each with its own checks
    if p == NULL:
        return 1
    low = sign_extend(get(p, size), size)
    p = read_at(c, i.seg, (at + <u64>size) & c.address_mask[i.flags & I_ASIZE], size)
    if p == NULL:
        return 1
    high = sign_extend(get(p, size), size)
    if value < low or value > high:
        return set_fault(c, BR, False, 0)
    return 0


cdef void _set_zf(Cpu* c, bint zf) noexcept nogil:
    cdef u64 flags = arithmetic_flags(c)
    load_arithmetic_flags(c, (flags | 0x40) if zf else (flags & ~<u64>0x40))


cdef int cmpxchg8b(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 old, wanted
    cdef u8* p = modify_operand(c, i, 8)
    if p == NULL:
        return 1
    old = get(p, 8)
    wanted = (c.regs[2] << 32) | (c.regs[0] & <u64>0xFFFFFFFF)
    if old == wanted:
        put(p, (c.regs[1] << 32) | (c.regs[3] & <u64>0xFFFFFFFF), 8)
    else:
        c.regs[0] = old & <u64>0xFFFFFFFF
        c.regs[2] = old >> 32
    commit(c, p)
    _set_zf(c, old == wanted)
    return 0


cdef int cmpxchg16b(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 low, high
    cdef bint equal
    cdef u64 linear = ((<u64*>(<u8*>c + i.base))[0] + ((<u64*>(<u8*>c + i.index))[0] << i.scale) + <u64><i64>i.disp)
    linear = (linear & c.address_mask[i.flags & I_ASIZE]) + c.segment_base[i.seg & 7]
    if linear & 15:
        return set_fault(c, 13, True, 0)
    cdef u8* p = modify_operand(c, i, 16)
    if p == NULL:
        return 1
    low = get(p, 8)
    high = get(p + 8, 8)
    equal = low == c.regs[0] and high == c.regs[2]
    if equal:
        put(p, c.regs[3], 8)
        put(p + 8, c.regs[1], 8)
    else:
        c.regs[0] = low
        c.regs[2] = high
    commit(c, p)
    _set_zf(c, equal)
    return 0


cdef void _set_decimal(Cpu* c, u64 al, bint cf, bint af) noexcept nogil:
    set_reg(c, 0, al, 1)
    set_flags_logic(c, al & 0xFF, 1)
    set_cf_of(c, cf, False)
    c.flag_adjust = 16 if af else 0


cdef int daa(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 al = reg(c, 0, 1)
    cdef u64 old = al
    cdef bint cf = flag_cf(c)
    cdef bint af = flag_af(c)
    cdef bint carry = False
    if (al & 0xF) > 9 or af:
        al += 6
        carry = cf or al > 0xFF
        af = True
    else:
        af = False
    if old > 0x99 or cf:
        al += 0x60
        carry = True
    _set_decimal(c, al & 0xFF, carry, af)
    return 0


cdef int das(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 al = reg(c, 0, 1)
    cdef u64 old = al
    cdef bint cf = flag_cf(c)
    cdef bint af = flag_af(c)
    cdef bint carry = False
    if (al & 0xF) > 9 or af:
        carry = cf or al < 6
        al -= 6
        af = True
    else:
        af = False
    if old > 0x99 or cf:
        al -= 0x60
        carry = True
    _set_decimal(c, al & 0xFF, carry, af)
    return 0


cdef int aaa(Cpu* c, Insn* i) noexcept nogil:
    cdef bint adjust = (c.regs[0] & 0xF) > 9 or flag_af(c)
    if adjust:
        set_reg(c, 0, c.regs[0] + 0x106, 2)
    set_reg(c, 0, c.regs[0] & 0xF, 1)
    set_flags_logic(c, reg(c, 0, 1), 1)
    set_cf_of(c, adjust, False)
    c.flag_adjust = 16 if adjust else 0
    return 0


cdef int aas(Cpu* c, Insn* i) noexcept nogil:
    cdef bint adjust = (c.regs[0] & 0xF) > 9 or flag_af(c)
    if adjust:
        set_reg(c, 0, c.regs[0] - 0x106, 2)
    set_reg(c, 0, c.regs[0] & 0xF, 1)
    set_flags_logic(c, reg(c, 0, 1), 1)
    set_cf_of(c, adjust, False)
    c.flag_adjust = 16 if adjust else 0
    return 0


cdef int aam(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 base = <u64>i.imm & 0xFF
    cdef u64 al = reg(c, 0, 1)
    if base == 0:
        return set_fault(c, DE, False, 0)
    set_reg(c, 0, ((al / base) << 8) | (al % base), 2)
    set_flags_logic(c, reg(c, 0, 1), 1)
    return 0


cdef int aad(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 al = (reg(c, 0, 1) + reg(c, 1, 1) * (<u64>i.imm & 0xFF)) & 0xFF
    set_reg(c, 0, al, 2)
    set_flags_logic(c, al, 1)
    return 0


cdef int salc(Cpu* c, Insn* i) noexcept nogil:
    set_reg(c, 0, 0xFF if flag_cf(c) else 0, 1)
    return 0


cdef int xlat(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p = read_at(c, i.seg, (c.regs[3] + reg(c, 0, 1)) & c.address_mask[i.flags & I_ASIZE], 1)
    if p == NULL:
        return 1
    set_reg(c, 0, p[0], 1)
    return 0


cdef int sahf(Cpu* c, Insn* i) noexcept nogil:
    load_arithmetic_flags(c, (arithmetic_flags(c) & 0x800) | (reg(c, 1, 1) & 0xD5))
    return 0


cdef int lahf(Cpu* c, Insn* i) noexcept nogil:
    set_reg(c, 1, (arithmetic_flags(c) & 0xD5) | 2, 1)
    return 0


cdef int cmc(Cpu* c, Insn* i) noexcept nogil:
    set_cf(c, not flag_cf(c))
    return 0


cdef int clc(Cpu* c, Insn* i) noexcept nogil:
    set_cf(c, False)
    return 0


cdef int stc(Cpu* c, Insn* i) noexcept nogil:
    set_cf(c, True)
    return 0


cdef int cld(Cpu* c, Insn* i) noexcept nogil:
    c.flags_system &= ~<u64>F_DF
    return 0


cdef int std(Cpu* c, Insn* i) noexcept nogil:
    c.flags_system |= F_DF
    return 0
