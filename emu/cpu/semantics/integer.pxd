# What the integer instructions do. `size` is the operand size in bytes, a constant wherever these are inlined; values
# are zero-extended. Undefined flags are canonical: AF = 0, others as each function says (docs/adr/0003).
from emu.base.bits cimport bswap64, clz64, ctz64, i128, mask_of, popcount64, sign_bit, sign_extend, u128
from emu.base.types cimport i8, i16, i32, i64, u8, u16, u32, u64
from emu.cpu.access cimport reg, set_fault, set_reg
from emu.cpu.flags cimport (flag_cf, flag_of, set_cf, set_cf_of, set_flags_add, set_flags_logic, set_flags_sub)
from emu.cpu.state cimport DE, F_AF, Cpu, Insn

# larger or rarer ones (integer.pyx)
cdef int pusha(Cpu* c, Insn* i, int size) noexcept nogil
cdef int popa(Cpu* c, Insn* i, int size) noexcept nogil
cdef int enter(Cpu* c, Insn* i, int size) noexcept nogil
cdef int leave_frame(Cpu* c, Insn* i, int size) noexcept nogil
cdef int pop_memory(Cpu* c, Insn* i, int size) noexcept nogil
cdef int bound(Cpu* c, Insn* i, int size) noexcept nogil
cdef int cmpxchg8b(Cpu* c, Insn* i) noexcept nogil
cdef int cmpxchg16b(Cpu* c, Insn* i) noexcept nogil
cdef int daa(Cpu* c, Insn* i) noexcept nogil
cdef int das(Cpu* c, Insn* i) noexcept nogil
cdef int aaa(Cpu* c, Insn* i) noexcept nogil
cdef int aas(Cpu* c, Insn* i) noexcept nogil
cdef int aam(Cpu* c, Insn* i) noexcept nogil
cdef int aad(Cpu* c, Insn* i) noexcept nogil
cdef int salc(Cpu* c, Insn* i) noexcept nogil
cdef int xlat(Cpu* c, Insn* i) noexcept nogil
cdef int sahf(Cpu* c, Insn* i) noexcept nogil
cdef int lahf(Cpu* c, Insn* i) noexcept nogil
cdef int cmc(Cpu* c, Insn* i) noexcept nogil
cdef int clc(Cpu* c, Insn* i) noexcept nogil
cdef int stc(Cpu* c, Insn* i) noexcept nogil
cdef int cld(Cpu* c, Insn* i) noexcept nogil
cdef int std(Cpu* c, Insn* i) noexcept nogil
cdef u32 crc32c(u32 crc, u64 value, int size) noexcept nogil
cdef u64 rotate_carry_left(Cpu* c, u64 a, u64 count, int size) noexcept nogil
cdef u64 rotate_carry_right(Cpu* c, u64 a, u64 count, int size) noexcept nogil


cdef inline u64 do_add(Cpu* c, u64 a, u64 b, int size) noexcept nogil:
    cdef u64 result = (a + b) & mask_of(size)
    set_flags_add(c, a, b, result, size)
    return result


cdef inline u64 do_adc(Cpu* c, u64 a, u64 b, int size) noexcept nogil:
    cdef u64 result = (a + b + flag_cf(c)) & mask_of(size)
    set_flags_add(c, a, b, result, size)
    return result


cdef inline u64 do_sub(Cpu* c, u64 a, u64 b, int size) noexcept nogil:
    cdef u64 result = (a - b) & mask_of(size)
    set_flags_sub(c, a, b, result, size)
    return result


cdef inline u64 do_sbb(Cpu* c, u64 a, u64 b, int size) noexcept nogil:
    cdef u64 result = (a - b - flag_cf(c)) & mask_of(size)
    set_flags_sub(c, a, b, result, size)
    return result


cdef inline void do_cmp(Cpu* c, u64 a, u64 b, int size) noexcept nogil:
    set_flags_sub(c, a, b, (a - b) & mask_of(size), size)


cdef inline void do_test(Cpu* c, u64 a, u64 b, int size) noexcept nogil:
    set_flags_logic(c, a & b, size)


cdef inline u64 do_and(Cpu* c, u64 a, u64 b, int size) noexcept nogil:
    set_flags_logic(c, a & b, size)
    return a & b


cdef inline u64 do_or(Cpu* c, u64 a, u64 b, int size) noexcept nogil:
    set_flags_logic(c, a | b, size)
    return a | b


cdef inline u64 do_xor(Cpu* c, u64 a, u64 b, int size) noexcept nogil:
    set_flags_logic(c, a ^ b, size)
    return a ^ b


cdef inline u64 do_inc(Cpu* c, u64 a, int size) noexcept nogil:
    cdef bint cf = flag_cf(c)
    cdef u64 result = (a + 1) & mask_of(size)
    c.flag_result = sign_extend(result, size)
    c.flag_carries = (<u32>cf << 1) | (<u32>(cf ^ (result == sign_bit(size))))
    c.flag_adjust = <u32>(a ^ 1 ^ result)
    return result


cdef inline u64 do_dec(Cpu* c, u64 a, int size) noexcept nogil:
    cdef bint cf = flag_cf(c)
    cdef u64 result = (a - 1) & mask_of(size)
    c.flag_result = sign_extend(result, size)
    c.flag_carries = (<u32>cf << 1) | (<u32>(cf ^ (a == sign_bit(size))))
    c.flag_adjust = <u32>(a ^ 1 ^ result)
    return result


cdef inline u64 do_not(Cpu* c, u64 a, int size) noexcept nogil:
    return ~a & mask_of(size)


cdef inline u64 do_neg(Cpu* c, u64 a, int size) noexcept nogil:
    cdef u64 result = (0 - a) & mask_of(size)
    set_flags_sub(c, 0, a, result, size)
    return result


cdef inline u64 move(Cpu* c, u64 value, int source, int size) noexcept nogil:
    return value


cdef inline u64 move_sign(Cpu* c, u64 value, int source, int size) noexcept nogil:
    return <u64>sign_extend(value, source)


cdef inline u64 swap_bytes(u64 value, int size) noexcept nogil:
    return bswap64(value) >> (64 - 8 * size)


cdef inline u64 do_bswap(Cpu* c, u64 value, int size) noexcept nogil:
    """A 16-bit BSWAP is undefined; processors of both makers give 0."""
    return 0 if size == 2 else swap_bytes(value, size)


# --- shifts and rotates: the count is masked to 5 bits, 6 with 64-bit operands; a count of 0 changes no flag ---------

cdef inline u64 masked_count(u64 count, int size) noexcept nogil:
    return count & (0x3F if size == 8 else 0x1F)


cdef inline u64 do_shl(Cpu* c, u64 a, u64 count, int size) noexcept nogil:
    cdef u64 n = masked_count(count, size)
    cdef u64 result
    cdef bint cf
    if n == 0:
        return a
    result = (a << n) & mask_of(size)
    cf = n <= <u64>(8 * size) and (a >> (8 * size - n)) & 1
    c.flag_result = sign_extend(result, size)
    c.flag_carries = (<u32>cf << 1) | <u32>((result >> (8 * size - 1)) & 1)
    c.flag_adjust = F_AF                         # undefined; as AMD's processors have it
    return result


cdef inline u64 do_shr(Cpu* c, u64 a, u64 count, int size) noexcept nogil:
    cdef u64 n = masked_count(count, size)
    cdef u64 result
    cdef u32 cf, of
    if n == 0:
        return a
    result = a >> n
    cf = <u32>((a >> (n - 1)) & 1)
    of = <u32>(((result << 1) ^ result) >> (8 * size - 1)) & 1     # one-bit form: OF = sign of the operand
    c.flag_result = sign_extend(result, size)
    c.flag_carries = (cf << 1) | (cf ^ of)
    c.flag_adjust = F_AF                         # undefined; as AMD's processors have it
    return result


cdef inline u64 do_sar(Cpu* c, u64 a, u64 count, int size) noexcept nogil:
    cdef u64 n = masked_count(count, size)
    cdef i64 value = sign_extend(a, size)
    cdef u32 cf
    if n == 0:
        return a
    cf = <u32>((value >> (n - 1)) & 1)
    c.flag_result = value >> n
    c.flag_carries = (cf << 1) | cf
    c.flag_adjust = F_AF                         # undefined; as AMD's processors have it
    return <u64>c.flag_result & mask_of(size)


cdef inline u64 do_rol(Cpu* c, u64 a, u64 count, int size) noexcept nogil:
    cdef u64 n = masked_count(count, size)
    cdef u64 k = n & (8 * size - 1)
    cdef u64 result
    if n == 0:
        return a
    result = ((a << k) | (a >> ((8 * size - k) & (8 * size - 1)))) & mask_of(size) if k else a
    set_cf_of(c, result & 1, (result ^ (result >> (8 * size - 1))) & 1)
    return result


cdef inline u64 do_ror(Cpu* c, u64 a, u64 count, int size) noexcept nogil:
    cdef u64 n = masked_count(count, size)
    cdef u64 k = n & (8 * size - 1)
    cdef u64 result
    if n == 0:
        return a
    result = ((a >> k) | (a << ((8 * size - k) & (8 * size - 1)))) & mask_of(size) if k else a
    set_cf_of(c, (result >> (8 * size - 1)) & 1, ((result >> (8 * size - 1)) ^ (result >> (8 * size - 2))) & 1)
    return result


cdef inline u64 do_rcl(Cpu* c, u64 a, u64 count, int size) noexcept nogil:
    return rotate_carry_left(c, a, count, size)


cdef inline u64 do_rcr(Cpu* c, u64 a, u64 count, int size) noexcept nogil:
    return rotate_carry_right(c, a, count, size)


cdef inline u64 do_shld(Cpu* c, u64 a, u64 b, u64 count, int size) noexcept nogil:
    """What is undefined is as AMD's processors have it (Zen 3): OF = sign xor CF at every count, AF = 1; with 16-bit operands and a
    count above 16 the bits go on with `b` once more, CF = 0, and the sign counts as 0 for OF from 16 on."""
    cdef u64 n = masked_count(count, size)
    cdef u64 result
    if n == 0:
        return a
    if size == 2 and n >= 16:
        result = ((b << (n - 16)) | (b >> (32 - n))) & 0xFFFF
        c.flag_carries = <u32>((a & 1) << 1) if n == 16 else 0
    else:
        result = ((a << n) | (b >> (8 * size - n))) & mask_of(size)
        c.flag_carries = <u32>(((a >> (8 * size - n)) & 1) << 1) | <u32>((result >> (8 * size - 1)) & 1)
    c.flag_result = sign_extend(result, size)
    c.flag_adjust = F_AF
    return result


cdef inline u64 do_shrd(Cpu* c, u64 a, u64 b, u64 count, int size) noexcept nogil:
    """As do_shld; OF is the difference of the result's two highest bits at every count."""
    cdef u64 n = masked_count(count, size)
    cdef u64 result
    cdef u32 cf, of
    if n == 0:
        return a
    if size == 2 and n > 16:
        result = ((b >> (n - 16)) | (b << (32 - n))) & 0xFFFF
        cf = 0
    else:
        result = ((a >> n) | (b << (8 * size - n))) & mask_of(size)
        cf = <u32>((a >> (n - 1)) & 1)
    of = <u32>((result ^ (result << 1)) >> (8 * size - 1)) & 1
    c.flag_result = sign_extend(result, size)
    c.flag_carries = (cf << 1) | (cf ^ of)
    c.flag_adjust = F_AF
    return result


# --- multiply and divide -----------------------------------------------------------------------------------------

cdef inline u64 do_imul(Cpu* c, u64 a, u64 b, int size) noexcept nogil:
    """Two-operand form: CF = OF = the product does not fit; SF, ZF, PF follow the low half here."""
    cdef i128 product
    cdef i64 narrow
    cdef bint lost
    if size == 8:
        product = <i128><i64>a * <i128><i64>b
        narrow = <i64>product
        lost = <i128>narrow != product
    else:
        narrow = sign_extend(a, size) * sign_extend(b, size)
        lost = sign_extend(<u64>narrow, size) != narrow
    c.flag_result = sign_extend(<u64>narrow, size)
    c.flag_carries = 2 if lost else 0
    c.flag_adjust = 0
    return <u64>narrow & mask_of(size)


cdef inline int do_mul(Cpu* c, u64 value, int size) noexcept nogil:
    cdef u128 wide
    cdef u64 low, high
    if size == 1:
        low = (c.regs[0] & 0xFF) * value
        set_reg(c, 0, low, 2)
        high = low >> 8
        low &= 0xFF
    elif size == 8:
        wide = <u128>c.regs[0] * <u128>value
        low = <u64>wide
        high = <u64>(wide >> 64)
        c.regs[0] = low
        c.regs[2] = high
    else:
        low = reg(c, 0, size) * value
        high = low >> (8 * size)
        low &= mask_of(size)
        set_reg(c, 0, low, size)
        set_reg(c, 16, high, size)
    c.flag_result = sign_extend(low, size)
    c.flag_carries = 2 if high else 0
    c.flag_adjust = 0
    return 0


cdef inline int do_imul1(Cpu* c, u64 value, int size) noexcept nogil:
    cdef i128 wide
    cdef i64 product
    cdef bint lost
    if size == 8:
        wide = <i128><i64>c.regs[0] * <i128><i64>value
        c.regs[0] = <u64>wide
        c.regs[2] = <u64>(wide >> 64)
        c.flag_result = <i64>c.regs[0]
        lost = <i64>c.regs[2] != (<i64>c.regs[0] >> 63)
    else:
        product = sign_extend(reg(c, 0, size), size) * sign_extend(value, size)
        if size == 1:
            set_reg(c, 0, <u64>product, 2)
        else:
            set_reg(c, 0, <u64>product & mask_of(size), size)
            set_reg(c, 16, (<u64>product >> (8 * size)) & mask_of(size), size)
        c.flag_result = sign_extend(<u64>product, size)
        lost = c.flag_result != product
    c.flag_carries = 2 if lost else 0
    c.flag_adjust = 0
    return 0


cdef inline int do_div(Cpu* c, u64 value, int size) noexcept nogil:
    """#DE on a zero divisor or a quotient that does not fit; flags are left alone (undefined)."""
    cdef u128 wide, quotient
    cdef u64 dividend, narrow
    if value == 0:
        return set_fault(c, DE, False, 0)
    if size == 8:
        if c.regs[2] >= value:
            return set_fault(c, DE, False, 0)
        wide = (<u128>c.regs[2] << 64) | <u128>c.regs[0]
        quotient = wide / <u128>value
        c.regs[2] = <u64>(wide - quotient * <u128>value)
        c.regs[0] = <u64>quotient
        return 0
    dividend = reg(c, 0, 2) if size == 1 else (reg(c, 16, size) << (8 * size)) | reg(c, 0, size)
    narrow = dividend / value
    if narrow > mask_of(size):
        return set_fault(c, DE, False, 0)
    dividend = dividend % value
    if size == 1:
        set_reg(c, 0, narrow | (dividend << 8), 2)
    else:
        set_reg(c, 0, narrow, size)
        set_reg(c, 16, dividend, size)
    return 0


cdef inline int do_idiv(Cpu* c, u64 value, int size) noexcept nogil:
    cdef i128 wide, quotient
    cdef i64 divisor = sign_extend(value, size)
    cdef i64 dividend, narrow
    if value == 0:
        return set_fault(c, DE, False, 0)
    if size == 8:
        wide = <i128>((<u128>c.regs[2] << 64) | <u128>c.regs[0])
        if divisor == -1:
            quotient = <i128>(0 - <u128>wide)
        else:
            quotient = wide / <i128>divisor
        if <i128><i64>quotient != quotient:
            return set_fault(c, DE, False, 0)
        c.regs[2] = <u64>(<u128>wide - <u128>quotient * <u128><i128>divisor)
        c.regs[0] = <u64>quotient
        return 0
    if size == 1:
        dividend = <i64><i16>c.regs[0]
    elif size == 2:
        dividend = <i64><i32>((reg(c, 16, 2) << 16) | reg(c, 0, 2))
    else:
        dividend = <i64>((c.regs[2] << 32) | reg(c, 0, 4))
    if divisor == -1:
        narrow = <i64>(0 - <u64>dividend)
        if narrow == dividend and dividend != 0:
            return set_fault(c, DE, False, 0)
    else:
        narrow = dividend / divisor
    if sign_extend(<u64>narrow, size) != narrow:
        return set_fault(c, DE, False, 0)
    dividend = <i64>(<u64>dividend - <u64>narrow * <u64>divisor)
    if size == 1:
        set_reg(c, 0, (<u64>narrow & 0xFF) | ((<u64>dividend & 0xFF) << 8), 2)
    else:
        set_reg(c, 0, <u64>narrow & mask_of(size), size)
        set_reg(c, 16, <u64>dividend & mask_of(size), size)
    return 0


# --- bits --------------------------------------------------------------------------------------------------------

cdef inline u64 do_bts(u64 old, u64 bit) noexcept nogil:
    return old | (<u64>1 << bit)


cdef inline u64 do_btr(u64 old, u64 bit) noexcept nogil:
    return old & ~(<u64>1 << bit)


cdef inline u64 do_btc(u64 old, u64 bit) noexcept nogil:
    return old ^ (<u64>1 << bit)


cdef inline void scan_flags(Cpu* c, bint zero) noexcept nogil:
    """BSF and BSR change ZF alone (the rest is undefined: kept, but for SF and PF, which are made to be kept too)."""
    cdef u32 sf = (<u32>(<u64>c.flag_result >> 63)) ^ ((c.flag_carries >> 2) & 1)
    c.flag_result = 0 if zero else 1
    c.flag_carries = (c.flag_carries & 3) | (sf << 2)


cdef inline void do_bsf(Cpu* c, int slot, u64 value, int size) noexcept nogil:
    """A zero source leaves the destination unchanged (AMD APM 3; Intel processors do the same)."""
    scan_flags(c, value == 0)
    if value:
        set_reg(c, slot, ctz64(value), size)


cdef inline void do_bsr(Cpu* c, int slot, u64 value, int size) noexcept nogil:
    scan_flags(c, value == 0)
    if value:
        set_reg(c, slot, 63 - clz64(value), size)


cdef inline void do_popcnt(Cpu* c, int slot, u64 value, int size) noexcept nogil:
    """ZF by the source, all other flags 0."""
    c.flag_result = 0 if value == 0 else 1
    c.flag_carries = 8 if value == 0 else 0
    c.flag_adjust = 0
    set_reg(c, slot, popcount64(value), size)
