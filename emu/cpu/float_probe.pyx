# A Python face of floating point alone: batches of one operation over arrays, without a CPU around it. For tests and for teaching.
"""Each function runs one operation over whole arrays, so that hundreds of thousands of cases take seconds."""
from emu.base.types cimport i16, i32, i64, u8, u16, u32, u64
from emu.cpu.fpu cimport X87
from emu.cpu.semantics cimport x87 as semantics
from emu.cpu.softfloat cimport (FloatStatus, f32_add, f32_compare, f32_div, f32_max, f32_min, f32_mul, f32_round, f32_sqrt,
                                f32_sub, f32_to_f64, f32_to_i32, f32_to_i64, f64_add, f64_compare, f64_div, f64_max,
                                f64_min, f64_mul, f64_round, f64_sqrt, f64_sub, f64_to_f32, f64_to_i32, f64_to_i64,
                                i32_to_f32, i32_to_f64, i64_to_f32, i64_to_f64, mxcsr_commit, status_from_mxcsr)

# Operations of run_sse, by name.
SSE_OPERATIONS = ("f32_add", "f32_sub", "f32_mul", "f32_div", "f32_min", "f32_max", "f32_sqrt", "f32_compare",
                  "f32_compare_quiet", "f32_round", "f32_to_f64", "f32_to_i32", "f32_to_i64", "f32_to_i32_cut",
                  "f32_to_i64_cut", "i32_to_f32", "i64_to_f32",
                  "f64_add", "f64_sub", "f64_mul", "f64_div", "f64_min", "f64_max", "f64_sqrt", "f64_compare",
                  "f64_compare_quiet", "f64_round", "f64_to_f32", "f64_to_i32", "f64_to_i64", "f64_to_i32_cut",
                  "f64_to_i64_cut", "i32_to_f64", "i64_to_f64")


cdef u64 sse_operation(int operation, u64 a, u64 b, int control, FloatStatus* s) noexcept nogil:
    if operation == 0:
        return f32_add(<u32>a, <u32>b, s)
    if operation == 1:
        return f32_sub(<u32>a, <u32>b, s)
    if operation == 2:
        return f32_mul(<u32>a, <u32>b, s)
    if operation == 3:
        return f32_div(<u32>a, <u32>b, s)
    if operation == 4:
        return f32_min(<u32>a, <u32>b, s)
    if operation == 5:
        return f32_max(<u32>a, <u32>b, s)
    if operation == 6:
        return f32_sqrt(<u32>b, s)
    if operation == 7 or operation == 8:
        return <u64>(f32_compare(<u32>a, <u32>b, operation == 8, s) + 1)
    if operation == 9:
        return f32_round(<u32>b, s.rounding if control & 4 else control & 3, control & 8, s)
    if operation == 10:
        return f32_to_f64(<u32>b, s)
    if operation == 11 or operation == 13:
        return <u32>f32_to_i32(<u32>b, 3 if operation == 13 else s.rounding, s)
    if operation == 12 or operation == 14:
        return <u64>f32_to_i64(<u32>b, 3 if operation == 14 else s.rounding, s)
    if operation == 15:
        return i32_to_f32(<i32>b, s)
    if operation == 16:
        return i64_to_f32(<i64>b, s)
    if operation == 17:
        return f64_add(a, b, s)
    if operation == 18:
        return f64_sub(a, b, s)
    if operation == 19:
        return f64_mul(a, b, s)
    if operation == 20:
        return f64_div(a, b, s)
    if operation == 21:
        return f64_min(a, b, s)
    if operation == 22:
        return f64_max(a, b, s)
    if operation == 23:
        return f64_sqrt(b, s)
    if operation == 24 or operation == 25:
        return <u64>(f64_compare(a, b, operation == 25, s) + 1)
    if operation == 26:
        return f64_round(b, s.rounding if control & 4 else control & 3, control & 8, s)
    if operation == 27:
        return f64_to_f32(b, s)
    if operation == 28 or operation == 30:
        return <u32>f64_to_i32(b, 3 if operation == 30 else s.rounding, s)
    if operation == 29 or operation == 31:
        return <u64>f64_to_i64(b, 3 if operation == 31 else s.rounding, s)
    if operation == 32:
        return i32_to_f64(<i32>b, s)
    return i64_to_f64(<i64>b, s)


def run_sse(str name, const u64[::1] a, const u64[::1] b, const u32[::1] mxcsr, u64[::1] result, u32[::1] mxcsr_after,
            int control=0):
    """Runs one scalar operation, element by element.

    name: one of SSE_OPERATIONS. a: first (destination) operands. b: second ones, or the only ones. f32 and 32-bit values
    in the low halves. control: imm8 of ROUND*. result stays as it was where an unmasked exception was raised; a
    comparison gives 0 less, 1 equal, 2 greater, 3 unordered.
    """
    cdef int operation = SSE_OPERATIONS.index(name)
    cdef Py_ssize_t place
    cdef FloatStatus s
    cdef u64 value
    if not len(a) == len(b) == len(mxcsr) == len(result) == len(mxcsr_after):
        raise ValueError("all arrays must have the same length")
    with nogil:
        for place in range(a.shape[0]):
            status_from_mxcsr(&s, mxcsr[place])
            value = sse_operation(operation, a[place], b[place], control, &s)
            mxcsr_after[place] = mxcsr[place]
            if not mxcsr_commit(&s, &mxcsr_after[place]):
                result[place] = value


cdef int x87_memory(X87* x, int opcode, int digit, u64* memory) noexcept nogil:
    """One x87 instruction with a memory operand; -1: not one of those that take arguments from memory."""
    cdef u16 high = <u16>memory[1]
    cdef u64 out = memory[0]
    cdef u32 out_32 = <u32>memory[0]
    cdef int operation = digit
    cdef bint written = False
    cdef int size = 8
    if not opcode & 1:                       # D8, DA, DC, DE: arithmetic and comparison
        if opcode == 0xD8:
            if digit & 6 == 2:
                semantics.x87_compare_f32(x, <u32>out, digit & 1)
            else:
                semantics.x87_arithmetic_f32(x, operation, <u32>out)
        elif opcode == 0xDC:
            if digit & 6 == 2:
                semantics.x87_compare_f64(x, out, digit & 1)
            else:
                semantics.x87_arithmetic_f64(x, operation, out)
        elif digit & 6 == 2:
            semantics.x87_compare_integer(x, <i32>out if opcode == 0xDA else <i64><i16>out, digit & 1)
        else:
            semantics.x87_arithmetic_integer(x, operation, <i32>out if opcode == 0xDA else <i64><i16>out)
        return 0
    if digit == 0:
        if opcode == 0xD9:
            semantics.x87_load_f32(x, <u32>out)
        elif opcode == 0xDD:
            semantics.x87_load_f64(x, out)
        else:
            semantics.x87_load_integer(x, <i32>out if opcode == 0xDB else <i64><i16>out)
    elif digit < 4:                          # FST, FSTP, FIST, FISTP, FISTTP
        if opcode == 0xD9 and digit > 1:
            written = semantics.x87_store_f32(x, digit == 3, &out_32)
            size = 4
            out = out_32
        elif opcode == 0xDD and digit > 1:
            written = semantics.x87_store_f64(x, digit == 3, &out)
        elif opcode != 0xD9:
            size = 2 if opcode == 0xDF else 4 if opcode == 0xDB else 8
            written = semantics.x87_store_integer(x, size, digit == 1, digit != 2, &out)
        else:
            return -1
    elif opcode == 0xDB and digit == 5:
        semantics.x87_load_f80(x, out, high)
    elif opcode == 0xDB and digit == 7:
        written = semantics.x87_store_f80(x, &out, &high)
        size = 10
    elif opcode == 0xDF and digit == 4:
        semantics.x87_load_bcd(x, out, high)
    elif opcode == 0xDF and digit == 5:
        semantics.x87_load_integer(x, <i64>out)
    elif opcode == 0xDF and digit == 6:
        written = semantics.x87_store_bcd(x, &out, &high)
        size = 10
    elif opcode == 0xDF and digit == 7:
        written = semantics.x87_store_integer(x, 8, False, True, &out)
    else:
        return -1
    if written:
        if size == 10:
            memory[0] = out
            memory[1] = (memory[1] & ~<u64>0xFFFF) | high
        elif size == 8:
            memory[0] = out
        else:
            memory[0] = (memory[0] >> (8 * size)) << (8 * size) | (out & ((<u64>1 << (8 * size)) - 1))
    return 0


cdef int x87_register(X87* x, int opcode, int digit, int i, u64* flags) noexcept nogil:
    """One x87 instruction with registers only; -1: none that is known here."""
    cdef int code = 8 * digit + i
    if opcode == 0xD8 or opcode == 0xDC or opcode == 0xDE:
        if digit == 2 or digit == 3:
            semantics.x87_compare_register(x, i, False, 2 if opcode == 0xDE and digit == 3 else (digit | opcode >> 1) & 1)
        elif opcode == 0xD8:
            semantics.x87_arithmetic_register(x, digit, 0, i, False)
        else:                                # SUB and SUBR, DIV and DIVR change places
            semantics.x87_arithmetic_register(x, digit ^ 1 if digit & 4 else digit, i, 0, opcode == 0xDE)
    elif opcode == 0xD9:
        if digit == 0:
            semantics.x87_load_register(x, i)
        elif digit == 1:
            semantics.x87_exchange(x, i)
        elif code == 0x20:
            semantics.x87_change_sign(x)
        elif code == 0x21:
            semantics.x87_absolute(x)
        elif code == 0x24:
            semantics.x87_test(x)
        elif code == 0x25:
            semantics.x87_examine(x)
        elif digit == 5 and i < 7:
            semantics.x87_load_constant(x, i)
        elif code == 0x30:
            semantics.x87_2xm1(x)
        elif code == 0x31 or code == 0x39:
            semantics.x87_log2(x, code == 0x39)
        elif code == 0x32:
            semantics.x87_tan(x)
        elif code == 0x33:
            semantics.x87_atan(x)
        elif code == 0x3B:
            semantics.x87_sincos(x)
        elif code == 0x3E:
            semantics.x87_sin(x)
        elif code == 0x3F:
            semantics.x87_cos(x)
        elif code == 0x34:
            semantics.x87_extract(x)
        elif code == 0x35 or code == 0x38:
            semantics.x87_remainder(x, code == 0x35)
        elif code == 0x36 or code == 0x37:
            semantics.x87_turn(x, -1 if code == 0x36 else 1)
        elif code == 0x3A:
            semantics.x87_sqrt(x)
        elif code == 0x3C:
            semantics.x87_round(x)
        elif code == 0x3D:
            semantics.x87_scale(x)
        else:
            return -1
    elif opcode == 0xDD and (digit == 2 or digit == 3):
        semantics.x87_store_register(x, i, digit & 1)
    elif opcode == 0xDD and (digit == 4 or digit == 5):
        semantics.x87_compare_register(x, i, True, digit & 1)
    elif opcode == 0xDA and code == 0x29:
        semantics.x87_compare_register(x, 1, True, 2)
    elif opcode == 0xDD and digit == 0 or opcode == 0xDF and digit == 0:
        semantics.x87_free(x, i, opcode == 0xDF)
    elif (opcode == 0xDB or opcode == 0xDF) and (digit == 5 or digit == 6):
        flags[0] = semantics.x87_compare_flags(x, i, digit == 5, opcode == 0xDF)
    elif opcode == 0xDA and digit < 2:       # FCMOVB, FCMOVE
        semantics.x87_move_if(x, i, flags[0] & 1 if digit == 0 else flags[0] & 0x40)
    else:
        return -1
    return 0


def run_x87(int opcode, int modrm, const u8[:, ::1] images, u64[:, ::1] memory, u64[::1] flags, u8[:, ::1] images_after):
    """Runs one x87 instruction over many states.

    images, images_after: 108-byte images of 32-bit protected FSAVE. memory: the operand (16 bytes each), in and out.
    flags: ZF, PF and CF at their places, in and out.
    """
    cdef Py_ssize_t place
    cdef X87 x
    cdef int bad = 0
    if images.shape[1] != 108 or images_after.shape[1] != 108 or memory.shape[1] != 2:
        raise ValueError("108 bytes an image and 16 bytes an operand are wanted")
    if not len(images) == len(images_after) == len(memory) == len(flags):
        raise ValueError("all arrays must have the same length")
    with nogil:
        for place in range(images.shape[0]):
            semantics.x87_restore(&x, &images[place, 0], True, True)
            if modrm >= 0xC0:
                bad |= x87_register(&x, opcode, modrm >> 3 & 7, modrm & 7, &flags[place])
            else:
                bad |= x87_memory(&x, opcode, modrm >> 3 & 7, &memory[place, 0])
            semantics.x87_save(&x, &images_after[place, 0], True, True)
    if bad:
        raise ValueError(f"{opcode:02x} {modrm:02x} is not an instruction that is known here")
