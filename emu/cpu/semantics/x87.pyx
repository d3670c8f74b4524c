# What the x87 instructions do: stack checks, status and condition codes around the arithmetic of softfloat_x87.
from libc.string cimport memset

from emu.base.types cimport i64, u8, u16, u32, u64
from emu.cpu.fpu cimport (X87, X87_B, X87_C0, X87_C1, X87_C2, X87_C3, X87_CONDITION, X87_ES, X87_SF, stack_empty,
                          stack_free, stack_pop, stack_push, stack_register, stack_set, stack_top, stack_turn,
                          x87_renew, x87_reset)
from emu.cpu.softfloat cimport (F80, FLOAT_ALL, FLOAT_BEFORE, FLOAT_INVALID, FLOAT_OVERFLOW, FLOAT_PRECISION, FLOAT_UNDERFLOW,
                                FloatStatus, RELATION_EQUAL, RELATION_LESS, RELATION_UNORDERED, ROUND_NEAREST, ROUND_UP,
                                ROUND_ZERO)
from emu.cpu.softfloat_core cimport (KIND_FINITE, KIND_INFINITY, KIND_UNSUPPORTED, KIND_ZERO, TOP, Unpacked, unpack_f32,
                                     unpack_f64, unpack_f80, unpack_integer)
from emu.cpu.softfloat_x87 cimport (Remainder, f80, f80_compare, f80_extract, f80_from_bcd, f80_from_integer, f80_indefinite,
                                    f80_load, f80_operate, f80_remainder, f80_round, f80_scale, f80_sqrt, f80_to_bcd,
                                    f80_to_f32, f80_to_f64, f80_to_integer)
from emu.cpu.transcendental cimport f80_2xm1, f80_atan, f80_cos, f80_sin, f80_tan, f80_yl2x, f80_yl2xp1


# ---- exceptions ----------------------------------------------------------------------------------------------------------
cdef inline FloatStatus begin(X87* x) noexcept nogil:
    """The modes of the control word; C1 is clear until something sets it."""
    cdef FloatStatus s
    cdef int precision = x.control >> 8 & 3
    s.rounding = x.control >> 10 & 3
    s.precision = 24 if precision == 0 else 53 if precision == 2 else 64
    s.daz = 0
    s.ftz = 0
    s.masks = x.control & FLOAT_ALL
    s.flags = 0
    s.rounded_up = 0
    s.host = 0
    x.status &= ~X87_C1
    return s


cdef inline bint settle(X87* x, const FloatStatus* s) noexcept nogil:
    """Raises what was found; false: the instruction is not done."""
    x.status |= s.flags
    if s.flags & ~s.masks:
        x.status |= X87_ES | X87_B
        if s.flags & ~s.masks & FLOAT_BEFORE:
            return False
    if s.rounded_up:
        x.status |= X87_C1
    return True


cdef inline bint settle_memory(X87* x, FloatStatus* s) noexcept nogil:
    """The same for a result that goes to memory: overflow and underflow, too, stop it where unmasked."""
    if s.flags & ~s.masks & (FLOAT_OVERFLOW | FLOAT_UNDERFLOW):
        s.flags &= ~FLOAT_PRECISION          # nothing was rounded
        settle(x, s)
        return False
    return settle(x, s)


cdef inline bint stack_fault(X87* x, bint overflow) noexcept nogil:
    """Raises a stack fault; true: it is masked (the result is the indefinite)."""
    x.status |= X87_SF | FLOAT_INVALID
    if overflow:
        x.status |= X87_C1
    else:
        x.status &= ~X87_C1
    if x.control & FLOAT_INVALID:
        return True
    x.status |= X87_ES | X87_B
    return False


cdef inline void set_condition(X87* x, int bits) noexcept nogil:
    x.status = (x.status & ~X87_CONDITION) | bits


# ---- loads -----------------------------------------------------------------------------------------------------------------
cdef inline bint may_push(X87* x) noexcept nogil:
    """False: the stack overflowed, and the masked response is done."""
    x.status &= ~X87_C1
    if stack_empty(x, -1):
        return True
    if stack_fault(x, True):
        stack_push(x, f80_indefinite())
    return False


cdef inline void load_unpacked(X87* x, const Unpacked* a) noexcept nogil:
    cdef FloatStatus s
    cdef F80 value
    if may_push(x):
        s = begin(x)
        value = f80_load(a, &s)
        if settle(x, &s) or not s.flags & FLOAT_INVALID:     # a denormal is loaded even where DE is unmasked
            stack_push(x, value)


cdef void x87_load_f32(X87* x, u32 value) noexcept nogil:
    cdef Unpacked a
    unpack_f32(value, &a)
    load_unpacked(x, &a)


cdef void x87_load_f64(X87* x, u64 value) noexcept nogil:
    cdef Unpacked a
    unpack_f64(value, &a)
    load_unpacked(x, &a)


cdef void x87_load_f80(X87* x, u64 significand, u16 sign_exponent) noexcept nogil:
    if may_push(x):
        stack_push(x, f80(sign_exponent, significand))


cdef void x87_load_integer(X87* x, i64 value) noexcept nogil:
    if may_push(x):
        stack_push(x, f80_from_integer(value))


cdef void x87_load_bcd(X87* x, u64 low, u16 high) noexcept nogil:
    if may_push(x):
        stack_push(x, f80_from_bcd(low, high))


cdef void x87_load_register(X87* x, int i) noexcept nogil:
    if stack_empty(x, i):
        if stack_fault(x, False):
            stack_push(x, f80_indefinite())
    elif may_push(x):
        stack_push(x, stack_register(x, i)[0])


cdef void x87_load_constant(X87* x, int which) noexcept nogil:
    # significand, exponent, and whether the next bit of the true value is a one (none is exact but 1 and 0)
    cdef u64 significand
    cdef u16 exponent
    cdef bint more = False
    cdef int rounding = x.control >> 10 & 3
    if not may_push(x):
        return
    if which == 0:                           # FLD1
        stack_push(x, f80(0x3FFF, TOP))
        return
    if which == 6:                           # FLDZ
        stack_push(x, f80(0, 0))
        return
    if which == 1:                           # FLDL2T: log2(10) = 1.D49A784B CD1B8AFE 492B..., cut to 64 bits as all here
        exponent = 0x4000
        significand = <u64>0xD49A784BCD1B8AFE
    elif which == 2:                         # FLDL2E: log2(e)
        exponent = 0x3FFF
        significand = <u64>0xB8AA3B295C17F0BB
        more = True
    elif which == 3:                         # FLDPI
        exponent = 0x4000
        significand = <u64>0xC90FDAA22168C234
        more = True
    elif which == 4:                         # FLDLG2: log10(2)
        exponent = 0x3FFD
        significand = <u64>0x9A209A84FBCFF798
        more = True
    else:                                    # FLDLN2: ln(2)
        exponent = 0x3FFE
        significand = <u64>0xB17217F7D1CF79AB
        more = True
    if rounding == ROUND_UP or (rounding == ROUND_NEAREST and more):
        significand += 1
    stack_push(x, f80(exponent, significand))


# ---- stores ----------------------------------------------------------------------------------------------------------------
cdef bint x87_store_f32(X87* x, bint pop, u32* out) noexcept nogil:
    cdef FloatStatus s = begin(x)
    if stack_empty(x, 0):
        if not stack_fault(x, False):
            return False
        out[0] = 0xFFC00000
    else:
        out[0] = f80_to_f32(stack_register(x, 0)[0], &s)
        if not settle_memory(x, &s):
            return False
    if pop:
        stack_pop(x)
    return True


cdef bint x87_store_f64(X87* x, bint pop, u64* out) noexcept nogil:
    cdef FloatStatus s = begin(x)
    if stack_empty(x, 0):
        if not stack_fault(x, False):
            return False
        out[0] = <u64>0xFFF8 << 48
    else:
        out[0] = f80_to_f64(stack_register(x, 0)[0], &s)
        if not settle_memory(x, &s):
            return False
    if pop:
        stack_pop(x)
    return True


cdef bint x87_store_f80(X87* x, u64* significand, u16* sign_exponent) noexcept nogil:
    cdef F80 value
    x.status &= ~X87_C1
    if stack_empty(x, 0):
        if not stack_fault(x, False):
            return False
        value = f80_indefinite()
    else:
        value = stack_register(x, 0)[0]
    significand[0] = value.significand
    sign_exponent[0] = value.sign_exponent
    stack_pop(x)
    return True


cdef bint x87_store_integer(X87* x, int size, bint truncate, bint pop, u64* out) noexcept nogil:
    cdef FloatStatus s = begin(x)
    if stack_empty(x, 0):
        if not stack_fault(x, False):
            return False
        out[0] = 0 - (<u64>1 << (8 * size - 1))
    else:
        out[0] = <u64>f80_to_integer(stack_register(x, 0)[0], 8 * size, ROUND_ZERO if truncate else s.rounding, &s)
        if not settle(x, &s):
            return False
    if pop:
        stack_pop(x)
    return True


cdef bint x87_store_bcd(X87* x, u64* low, u16* high) noexcept nogil:
    cdef FloatStatus s = begin(x)
    if stack_empty(x, 0):
        if not stack_fault(x, False):
            return False
        low[0] = <u64>0xC0 << 56
        high[0] = 0xFFFF
    else:
        low[0] = f80_to_bcd(stack_register(x, 0)[0], high, &s)
        if not settle(x, &s):
            return False
    stack_pop(x)
    return True


cdef void x87_store_register(X87* x, int i, bint pop) noexcept nogil:
    x.status &= ~X87_C1
    if stack_empty(x, 0):
        if not stack_fault(x, False):
            return
        stack_set(x, i, f80_indefinite())
    else:
        stack_set(x, i, stack_register(x, 0)[0])
    if pop:
        stack_pop(x)


cdef void x87_store_unchecked(X87* x, int i) noexcept nogil:
    """FSTP's alias D9 /3: from an empty register it only pops, without a stack fault (so processors do it; no manual tells)."""
    x.status &= ~X87_C1
    if not stack_empty(x, 0):
        stack_set(x, i, stack_register(x, 0)[0])
    stack_pop(x)


# ---- arithmetic --------------------------------------------------------------------------------------------------------------
cdef inline void write_result(X87* x, int i, F80 value, const FloatStatus* s) noexcept nogil:
    if settle(x, s):
        stack_set(x, i, value)


cdef inline void arithmetic_unpacked(X87* x, int operation, const Unpacked* b) noexcept nogil:
    cdef FloatStatus s = begin(x)
    cdef Unpacked a
    if stack_empty(x, 0):
        if stack_fault(x, False):
            stack_set(x, 0, f80_indefinite())
        return
    unpack_f80(stack_register(x, 0)[0], &a)
    write_result(x, 0, f80_operate(operation, &a, b, &s), &s)


cdef void x87_arithmetic_f32(X87* x, int operation, u32 value) noexcept nogil:
    cdef Unpacked b
    unpack_f32(value, &b)
    arithmetic_unpacked(x, operation, &b)


cdef void x87_arithmetic_f64(X87* x, int operation, u64 value) noexcept nogil:
    cdef Unpacked b
    unpack_f64(value, &b)
    arithmetic_unpacked(x, operation, &b)


cdef void x87_arithmetic_integer(X87* x, int operation, i64 value) noexcept nogil:
    cdef Unpacked b
    unpack_integer(value, &b)
    arithmetic_unpacked(x, operation, &b)


cdef void x87_arithmetic_register(X87* x, int operation, int destination, int source, bint pop) noexcept nogil:
    cdef FloatStatus s = begin(x)
    cdef Unpacked a
    cdef Unpacked b
    cdef F80 value
    if stack_empty(x, destination) or stack_empty(x, source):
        if not stack_fault(x, False):
            return
        value = f80_indefinite()
    else:
        unpack_f80(stack_register(x, destination)[0], &a)
        unpack_f80(stack_register(x, source)[0], &b)
        value = f80_operate(operation, &a, &b, &s)
        if not settle(x, &s):
            return
    stack_set(x, destination, value)
    if pop:
        stack_pop(x)


# ---- comparison --------------------------------------------------------------------------------------------------------------
cdef inline int condition_of(int relation) noexcept nogil:
    if relation == RELATION_UNORDERED:
        return X87_C3 | X87_C2 | X87_C0
    return X87_C0 if relation == RELATION_LESS else X87_C3 if relation == RELATION_EQUAL else 0


cdef inline bint compare_unpacked(X87* x, bint fault, F80 left, const Unpacked* b, bint quiet, int* condition) noexcept nogil:
    """False: an unmasked exception stops the instruction. fault: an operand is empty."""
    cdef FloatStatus s = begin(x)
    cdef Unpacked a
    condition[0] = X87_C3 | X87_C2 | X87_C0
    if fault:
        return stack_fault(x, False)
    unpack_f80(left, &a)
    condition[0] = condition_of(f80_compare(&a, b, quiet, &s))
    return settle(x, &s)


cdef inline void compare_st0(X87* x, bint fault, const Unpacked* b, bint quiet, int pops) noexcept nogil:
    cdef int condition
    cdef bint done = compare_unpacked(x, fault, stack_register(x, 0)[0], b, quiet, &condition)
    set_condition(x, condition)              # whether or not an exception is unmasked; only the pops then stay out
    while done and pops > 0:
        stack_pop(x)
        pops -= 1


cdef void x87_compare_f32(X87* x, u32 value, bint pop) noexcept nogil:
    cdef Unpacked b
    unpack_f32(value, &b)
    compare_st0(x, stack_empty(x, 0), &b, False, pop)


cdef void x87_compare_f64(X87* x, u64 value, bint pop) noexcept nogil:
    cdef Unpacked b
    unpack_f64(value, &b)
    compare_st0(x, stack_empty(x, 0), &b, False, pop)


cdef void x87_compare_integer(X87* x, i64 value, bint pop) noexcept nogil:
    cdef Unpacked b
    unpack_integer(value, &b)
    compare_st0(x, stack_empty(x, 0), &b, False, pop)


cdef void x87_compare_register(X87* x, int i, bint quiet, int pops) noexcept nogil:
    cdef Unpacked b
    unpack_f80(stack_register(x, i)[0], &b)
    compare_st0(x, stack_empty(x, 0) or stack_empty(x, i), &b, quiet, pops)


cdef int x87_compare_flags(X87* x, int i, bint quiet, bint pop) noexcept nogil:
    """C1 stays as it is, as AMD's processors have it (SDM 2A FCOMI: it becomes 0)."""
    cdef Unpacked b
    cdef int condition
    cdef bint fault = stack_empty(x, 0) or stack_empty(x, i)
    cdef u16 before = x.status & X87_C1
    unpack_f80(stack_register(x, i)[0], &b)
    if compare_unpacked(x, fault, stack_register(x, 0)[0], &b, quiet, &condition) and pop:
        stack_pop(x)
    if not fault:
        x.status |= before
    return condition >> 8 & 0x45             # C3 C2 C0 stand as ZF PF CF do


cdef void x87_test(X87* x) noexcept nogil:
    cdef Unpacked zero
    unpack_integer(0, &zero)
    compare_st0(x, stack_empty(x, 0), &zero, False, 0)


cdef void x87_examine(X87* x) noexcept nogil:
    cdef F80 value = stack_register(x, 0)[0]
    cdef Unpacked a
    cdef int found
    unpack_f80(value, &a)
    if stack_empty(x, 0):
        found = X87_C3 | X87_C0
    elif a.kind == KIND_UNSUPPORTED:
        found = 0
    elif a.kind == KIND_ZERO:
        found = X87_C3
    elif a.kind == KIND_INFINITY:
        found = X87_C2 | X87_C0
    elif a.kind == KIND_FINITE:
        found = X87_C3 | X87_C2 if a.denormal else X87_C2
    else:
        found = X87_C0
    set_condition(x, found | (X87_C1 if value.sign_exponent >> 15 else 0))


# ---- registers -----------------------------------------------------------------------------------------------------------------
cdef void x87_exchange(X87* x, int i) noexcept nogil:
    cdef F80 value
    x.status &= ~X87_C1
    if stack_empty(x, 0) or stack_empty(x, i):
        if not stack_fault(x, False):
            return
        if stack_empty(x, 0):
            stack_set(x, 0, f80_indefinite())
        if stack_empty(x, i):
            stack_set(x, i, f80_indefinite())
    value = stack_register(x, 0)[0]
    stack_register(x, 0)[0] = stack_register(x, i)[0]
    stack_register(x, i)[0] = value


cdef void x87_move_if(X87* x, int i, bint condition) noexcept nogil:
    if stack_empty(x, 0) or stack_empty(x, i):
        if stack_fault(x, False):
            stack_set(x, 0, f80_indefinite())
    elif condition:
        stack_register(x, 0)[0] = stack_register(x, i)[0]


cdef inline bint may_use(X87* x, int registers) noexcept nogil:
    """Clears C1; false: one of ST0 ... is empty, and the masked response is done."""
    x.status &= ~X87_C1
    if stack_empty(x, 0) or (registers == 2 and stack_empty(x, 1)):
        if stack_fault(x, False):
            stack_set(x, 0, f80_indefinite())
        return False
    return True


cdef void x87_change_sign(X87* x) noexcept nogil:
    if may_use(x, 1):
        stack_register(x, 0).sign_exponent ^= 0x8000


cdef void x87_absolute(X87* x) noexcept nogil:
    if may_use(x, 1):
        stack_register(x, 0).sign_exponent &= 0x7FFF


cdef void x87_sqrt(X87* x) noexcept nogil:
    cdef FloatStatus s
    cdef Unpacked a
    if may_use(x, 1):
        s = begin(x)
        unpack_f80(stack_register(x, 0)[0], &a)
        write_result(x, 0, f80_sqrt(&a, &s), &s)


cdef void x87_round(X87* x) noexcept nogil:
    cdef FloatStatus s
    if may_use(x, 1):
        s = begin(x)
        write_result(x, 0, f80_round(stack_register(x, 0)[0], &s), &s)


cdef void x87_scale(X87* x) noexcept nogil:
    cdef FloatStatus s
    if may_use(x, 2):
        s = begin(x)
        write_result(x, 0, f80_scale(stack_register(x, 0)[0], stack_register(x, 1)[0], &s), &s)


cdef void x87_extract(X87* x) noexcept nogil:
    cdef FloatStatus s = begin(x)
    cdef F80 exponent
    cdef F80 significand
    if stack_empty(x, 0) or not stack_empty(x, -1):
        if not stack_fault(x, not stack_empty(x, 0)):
            return
        exponent = f80_indefinite()
        significand = exponent
    else:
        significand = f80_extract(stack_register(x, 0)[0], &exponent, &s)
        if not settle(x, &s):
            return
    stack_set(x, 0, exponent)
    stack_push(x, significand)


cdef void x87_remainder(X87* x, bint nearest) noexcept nogil:
    cdef FloatStatus s
    cdef Remainder r
    x.status &= ~X87_C2
    if not may_use(x, 2):
        return
    s = begin(x)
    r = f80_remainder(stack_register(x, 0)[0], stack_register(x, 1)[0], nearest, &s)
    if not settle(x, &s):
        return
    stack_set(x, 0, r.value)
    if r.partial:
        set_condition(x, X87_C2)
    elif not r.nan:
        set_condition(x, (X87_C1 if r.quotient & 1 else 0) | (X87_C3 if r.quotient & 2 else 0) | (X87_C0 if r.quotient & 4 else 0))


# ---- transcendental functions ----------------------------------------------------------------------------------------------
cdef void x87_sin(X87* x) noexcept nogil:
    cdef FloatStatus s
    cdef bint far
    cdef F80 value
    x.status &= ~X87_C2
    if may_use(x, 1):
        s = begin(x)
        value = f80_sin(stack_register(x, 0)[0], &far, &s)
        if far:
            x.status |= X87_C2
        else:
            write_result(x, 0, value, &s)


cdef void x87_cos(X87* x) noexcept nogil:
    cdef FloatStatus s
    cdef bint far
    cdef F80 value
    x.status &= ~X87_C2
    if may_use(x, 1):
        s = begin(x)
        value = f80_cos(stack_register(x, 0)[0], &far, &s)
        if far:
            x.status |= X87_C2
        else:
            write_result(x, 0, value, &s)


cdef inline bint may_grow(X87* x) noexcept nogil:
    """For what replaces ST0 and pushes: clears C1 and C2; false: a stack fault, and the masked response is done."""
    x.status &= ~(X87_C1 | X87_C2)
    if not stack_empty(x, 0) and stack_empty(x, -1):
        return True
    if stack_fault(x, not stack_empty(x, 0)):
        stack_set(x, 0, f80_indefinite())
        stack_push(x, f80_indefinite())
    return False


cdef void x87_sincos(X87* x) noexcept nogil:
    cdef FloatStatus s
    cdef bint far
    cdef F80 first
    cdef F80 second
    if may_grow(x):
        s = begin(x)
        first = f80_sin(stack_register(x, 0)[0], &far, &s)
        second = f80_cos(stack_register(x, 0)[0], &far, &s)
        if far:
            x.status |= X87_C2
        elif settle(x, &s):
            stack_set(x, 0, first)
            stack_push(x, second)


cdef void x87_tan(X87* x) noexcept nogil:
    cdef FloatStatus s
    cdef bint far
    cdef F80 value
    if may_grow(x):
        s = begin(x)
        value = f80_tan(stack_register(x, 0)[0], &far, &s)
        if far:
            x.status |= X87_C2
        elif settle(x, &s):
            stack_set(x, 0, value)
            # a NaN is pushed once more; else 1, so that the ratio is the tangent
            stack_push(x, value if value.sign_exponent & 0x7FFF == 0x7FFF else f80(0x3FFF, TOP))


cdef inline void replace_two(X87* x, F80 value, const FloatStatus* s) noexcept nogil:
    if settle(x, s):
        stack_set(x, 1, value)
        stack_pop(x)


cdef inline bint may_use_two(X87* x) noexcept nogil:
    """For what puts its result into ST1 and pops."""
    x.status &= ~X87_C1
    if not stack_empty(x, 0) and not stack_empty(x, 1):
        return True
    if stack_fault(x, False):
        stack_set(x, 1, f80_indefinite())
        stack_pop(x)
    return False


cdef void x87_atan(X87* x) noexcept nogil:
    cdef FloatStatus s
    if may_use_two(x):
        s = begin(x)
        replace_two(x, f80_atan(stack_register(x, 1)[0], stack_register(x, 0)[0], &s), &s)


cdef void x87_log2(X87* x, bint plus_one) noexcept nogil:
    cdef FloatStatus s
    cdef F80 value
    if may_use_two(x):
        s = begin(x)
        if plus_one:
            value = f80_yl2xp1(stack_register(x, 0)[0], stack_register(x, 1)[0], &s)
        else:
            value = f80_yl2x(stack_register(x, 0)[0], stack_register(x, 1)[0], &s)
        replace_two(x, value, &s)


cdef void x87_2xm1(X87* x) noexcept nogil:
    cdef FloatStatus s
    if may_use(x, 1):
        s = begin(x)
        write_result(x, 0, f80_2xm1(stack_register(x, 0)[0], &s), &s)


cdef void x87_free(X87* x, int i, bint pop) noexcept nogil:
    x.status &= ~X87_C1
    stack_free(x, i)
    if pop:
        stack_pop(x)


cdef void x87_turn(X87* x, int by) noexcept nogil:
    x.status &= ~X87_C1
    stack_turn(x, by)


# ---- control -------------------------------------------------------------------------------------------------------------------
cdef void x87_clear_exceptions(X87* x) noexcept nogil:
    x.status &= ~(FLOAT_ALL | X87_SF | X87_ES | X87_B)


cdef void x87_load_control(X87* x, u16 value) noexcept nogil:
    x.control = control_word(value)
    x87_renew(x)


cdef u16 control_word(u16 value) noexcept nogil:
    """Bit 6 is always one; 13 to 15 and 7 always zero; bit 12 (infinity control) is kept."""
    return (value & 0x1F3F) | 0x40


# ---- images ----------------------------------------------------------------------------------------------------------------------
cdef inline void put_16(u8* p, u16 value) noexcept nogil:
    p[0] = <u8>value
    p[1] = <u8>(value >> 8)


cdef inline void put_32(u8* p, u32 value) noexcept nogil:
    put_16(p, <u16>value)
    put_16(p + 2, <u16>(value >> 16))


cdef inline void put_64(u8* p, u64 value) noexcept nogil:
    put_32(p, <u32>value)
    put_32(p + 4, <u32>(value >> 32))


cdef inline u16 get_16(const u8* p) noexcept nogil:
    return p[0] | <u16>p[1] << 8


cdef inline u32 get_32(const u8* p) noexcept nogil:
    return get_16(p) | <u32>get_16(p + 2) << 16


cdef inline u64 get_64(const u8* p) noexcept nogil:
    return get_32(p) | <u64>get_32(p + 4) << 32


cdef u16 full_tags(const X87* x) noexcept nogil:
    """The 16-bit tag word, made from the registers' contents (SDM 1 8.1.7): 0 valid, 1 zero, 2 special, 3 empty."""
    cdef u16 tags = 0
    cdef int place
    cdef int tag
    cdef Unpacked a
    for place in range(8):
        unpack_f80(x.st[place], &a)
        if not x.valid >> place & 1:
            tag = 3
        elif a.kind == KIND_ZERO:
            tag = 1
        elif a.kind == KIND_FINITE and not a.denormal:
            tag = 0
        else:
            tag = 2
        tags |= tag << (2 * place)
    return tags


cdef inline void set_tags(X87* x, u16 tags) noexcept nogil:
    """Only "empty" is taken from a full tag word."""
    cdef int place
    x.valid = 0
    for place in range(8):
        if tags >> (2 * place) & 3 != 3:
            x.valid |= 1 << place


cdef void x87_store_environment(X87* x, u8* image, bint wide, bint protected) noexcept nogil:
    cdef u32 linear = <u32>(x.fip + (<u32>x.fcs << 4))
    cdef u32 data = <u32>(x.fdp + (<u32>x.fds << 4))
    if wide:
        put_32(image, <u32>0xFFFF0000 | x.control)
        put_32(image + 4, <u32>0xFFFF0000 | x.status)
        put_32(image + 8, <u32>0xFFFF0000 | full_tags(x))
        if protected:
            put_32(image + 12, <u32>x.fip)
            put_32(image + 16, x.fcs | <u32>x.fop << 16)
            put_32(image + 20, <u32>x.fdp)
            put_32(image + 24, <u32>0xFFFF0000 | x.fds)
        else:
            put_32(image + 12, <u32>0xFFFF0000 | linear & 0xFFFF)
            put_32(image + 16, (linear >> 16) << 12 | x.fop)
            put_32(image + 20, <u32>0xFFFF0000 | data & 0xFFFF)
            put_32(image + 24, (data >> 16) << 12)
    else:
        put_16(image, x.control)
        put_16(image + 2, x.status)
        put_16(image + 4, full_tags(x))
        if protected:
            put_16(image + 6, <u16>x.fip)
            put_16(image + 8, x.fcs)
            put_16(image + 10, <u16>x.fdp)
            put_16(image + 12, x.fds)
        else:
            put_16(image + 6, <u16>linear)
            put_16(image + 8, <u16>(linear >> 16) << 12 | x.fop)
            put_16(image + 10, <u16>data)
            put_16(image + 12, <u16>(data >> 16) << 12)
    x.control |= FLOAT_ALL
    x87_renew(x)


cdef void x87_load_environment(X87* x, const u8* image, bint wide, bint protected) noexcept nogil:
    cdef u32 code
    x.control = control_word(get_16(image))
    if wide:
        x.status = get_16(image + 4)
        set_tags(x, get_16(image + 8))
        code = get_32(image + 16)
        if protected:
            x.fip = get_32(image + 12)
            x.fcs = <u16>code
            x.fop = code >> 16 & 0x7FF
            x.fdp = get_32(image + 20)
            x.fds = get_16(image + 24)
        else:
            x.fip = get_16(image + 12) | (code >> 12 & 0xFFFF) << 16
            x.fdp = get_16(image + 20) | (get_32(image + 24) >> 12 & 0xFFFF) << 16
            x.fop = code & 0x7FF
            x.fcs = 0
            x.fds = 0
    else:
        x.status = get_16(image + 2)
        set_tags(x, get_16(image + 4))
        code = get_16(image + 8)
        if protected:
            x.fip = get_16(image + 6)
            x.fcs = <u16>code
            x.fop = 0
            x.fdp = get_16(image + 10)
            x.fds = get_16(image + 12)
        else:
            x.fip = get_16(image + 6) | code >> 12 << 16
            x.fdp = get_16(image + 10) | <u32>(get_16(image + 12) >> 12) << 16
            x.fop = code & 0x7FF
            x.fcs = 0
            x.fds = 0
    x87_renew(x)


cdef void x87_save(X87* x, u8* image, bint wide, bint protected) noexcept nogil:
    cdef int i
    x87_store_environment(x, image, wide, protected)
    image += 28 if wide else 14
    for i in range(8):
        put_64(image + 10 * i, stack_register(x, i).significand)
        put_16(image + 10 * i + 8, stack_register(x, i).sign_exponent)
    x87_reset(x)


cdef void x87_restore(X87* x, const u8* image, bint wide, bint protected) noexcept nogil:
    cdef int i
    x87_load_environment(x, image, wide, protected)
    image += 28 if wide else 14
    for i in range(8):
        stack_register(x, i)[0] = f80(get_16(image + 10 * i + 8), get_64(image + 10 * i))


cdef void fxsave_image(const X87* x, const u64* xmm, int registers, u32 mxcsr, u8* image, bint rex_w, bint pointers) noexcept nogil:
    cdef int i
    cdef const F80* st
    put_16(image, x.control)
    put_16(image + 2, x.status)
    put_16(image + 4, x.valid)
    if pointers or x.status & X87_ES:
        put_16(image + 6, x.fop)
        put_64(image + 8, x.fip if rex_w else <u32>x.fip | <u64>x.fcs << 32)
        put_64(image + 16, x.fdp if rex_w else <u32>x.fdp | <u64>x.fds << 32)
    else:
        memset(image + 6, 0, 18)
    put_32(image + 24, mxcsr)
    put_32(image + 28, MXCSR_MASK)
    for i in range(8):
        st = &x.st[(stack_top(x) + i) & 7]
        put_64(image + 32 + 16 * i, st.significand)
        put_64(image + 40 + 16 * i, st.sign_exponent)
    for i in range(2 * registers):
        put_64(image + 160 + 8 * i, xmm[i])


cdef bint fxrstor_image(X87* x, u64* xmm, int registers, u32* mxcsr, const u8* image, bint rex_w) noexcept nogil:
    cdef int i
    if registers:
        if get_32(image + 24) & ~<u32>MXCSR_MASK:
            return False
        mxcsr[0] = get_32(image + 24)
        for i in range(2 * registers):
            xmm[i] = get_64(image + 160 + 8 * i)
    x.control = control_word(get_16(image))
    x.status = get_16(image + 2)
    x.valid = image[4]
    x.fop = get_16(image + 6) & 0x7FF
    if rex_w:
        x.fip = <u64>(<i64>(get_64(image + 8) << 16) >> 16)      # 48 bits of it, sign-extended
        x.fdp = <u64>(<i64>(get_64(image + 16) << 16) >> 16)
        x.fcs = 0
        x.fds = 0
    else:
        x.fip = get_32(image + 8)
        x.fcs = get_16(image + 12)
        x.fdp = get_32(image + 16)
        x.fds = get_16(image + 20)
    for i in range(8):
        stack_register(x, i)[0] = f80(get_16(image + 40 + 16 * i), get_64(image + 32 + 16 * i))
    x87_renew(x)
    return True
