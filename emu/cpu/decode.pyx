# The decoder: bytes -> a decoded instruction, by the packed instruction table. Pure: it reads no CPU state but the mode.
from libc.string cimport memcpy, memset

from emu.base.types cimport i8, i16, i32, i64, u8, u16, u32, u64
from emu.cpu.state cimport (CS, DS, GS, I_A16, I_A32, I_LOCK, I_MEMORY, I_REP, I_REPNE, MODE_16, MODE_32, MODE_64, MODE_CODE,
                            MODE_PROTECTED, RBP, RIP_SLOT, RSP, SS, ZERO_SLOT, Insn, handler_t)

from collections import namedtuple

from emu.cpu.gen import tables
from emu.cpu.gen.features cimport FEATURE_CR8_LEGACY

cdef handler_t handlers[4096]
cdef RowInfo[8192] rows
cdef u16[1025] starts

if len(tables.ROWS) % sizeof(RowInfo) or len(tables.ROWS) // sizeof(RowInfo) > 8192 or tables.HANDLERS > 4096:
    raise ImportError("the instruction table does not fit the decoder")
memcpy(rows, <const u8*>tables.ROWS, len(tables.ROWS))
memcpy(starts, <const u8*>tables.STARTS, sizeof(starts))


cdef void register_handler(int number, handler_t handler):
    handlers[number] = handler


cdef inline int place_number(u8 code, int reg_field, int rm_field, int low, u8 rex) noexcept nogil:
    """The register that a place code stands for, as handlers want it (a byte offset in regs[], or a number)."""
    cdef int where = code & 7
    cdef int kind = code >> 3
    cdef int number
    if where == 1:
        number = reg_field
    elif where == 2:
        number = rm_field
    else:
        number = low
    if kind == 0:
        return 8 * number
    if kind == 1:
        if rex == 0 and 4 <= number < 8:
            return 8 * (number - 4) + 1          # AH CH DH BH
        return 8 * number
    if kind == 2:
        return number
    return number & 7


cdef inline bint has_feature(const u64* features, int number) noexcept nogil:
    return (features[number >> 6] >> (number & 63)) & 1


cdef inline bint names_register(u8 special, int number) noexcept nogil:
    """Whether ModRM.reg (with REX.R) names a register that there is (SDM 2B MOV; SDM 3A 2.5, 17.2; APM 2 3.1)."""
    if special & SPECIAL_SEGMENT:
        return number & 7 <= GS and not (special & SPECIAL_NOT_CS and number & 7 == CS)
    if special & SPECIAL_CONTROL:
        return number == 0 or 2 <= number <= 4 or number == 8
    return number < 8


cdef bint is_too_long(const u8* bytes, int n, int limit, u32 mode, int slot, int address_size, bint modrm_read) noexcept nogil:
    """Whether an instruction that no row fits passes 15 bytes: it is #GP(0) then, not #UD, as its opcode alone tells where it ends.
    n: behind the opcode, or behind ModRM where that was read."""
    cdef const RowInfo* row = &rows[starts[slot]]
    cdef int mod, rm
    if starts[slot] == starts[slot + 1] or not row.modrm & 1 or row.attributes & ROW_I64 and mode & MODE_CODE == MODE_64:
        return False
    if not modrm_read:
        n += 1
    if n > limit:
        return limit == 15
    mod = bytes[n - 1] >> 6
    rm = bytes[n - 1] & 7
    if mod != 3 and not row.special & SPECIAL_ANY_MOD:
        if address_size == 2:
            n += 2 if mod == 2 or (mod == 0 and rm == 6) else mod
        else:
            if rm == 4:
                n += 1
                if mod == 0 and n <= limit and bytes[n - 1] & 7 == 5:
                    n += 4
            elif rm == 5 and mod == 0:
                n += 4
            n += 1 if mod == 1 else 4 if mod == 2 else 0
    if row.immediate == 1:
        n += 1
    return n > 15


cdef int decode_one(const u8* bytes, int available, u32 mode, const u64* features, Decoded* out) noexcept nogil:
    """Decodes one instruction; gives its length, DECODE_MORE, DECODE_BAD or DECODE_LONG.

    On DECODE_BAD out.length is the number of bytes looked at."""
    cdef int n = 0
    cdef int code = mode & MODE_CODE
    cdef int limit = available if available < 15 else 15
    cdef u8 b, rex = 0, rep = 0, modrm = 0
    cdef bint size_prefix = False, address_prefix = False, lock = False
    cdef int segment = -1
    cdef int table = 0
    cdef int too_long = DECODE_LONG
    cdef int opcode, slot, k, size, size_index, address_size
    cdef int reg_field = 0, rm_field = 0, mod = 3, rm = 0
    cdef bint is_memory
    cdef bint modrm_read = False
    cdef const RowInfo* row
    cdef const RowInfo* found = NULL
    cdef Insn* insn = &out.insn
    cdef int immediate_bytes, displacement_bytes = 0
    cdef u8 sib
    cdef i64 value
    memset(out, 0, sizeof(Decoded))
    insn.base = 8 * ZERO_SLOT
    insn.index = 8 * ZERO_SLOT
    # --- prefixes
    while True:
        if n >= limit:
            return DECODE_LONG if n >= 15 else DECODE_MORE
        b = bytes[n]
        if b == 0x66:
            size_prefix = True
        elif b == 0x67:
            address_prefix = True
        elif b == 0xF0:
            lock = True
        elif b == 0xF2 or b == 0xF3:
            rep = b
        elif b == 0x26 or b == 0x2E or b == 0x36 or b == 0x3E:
            if code != MODE_64:
                segment = (b >> 3) & 3
        elif b == 0x64 or b == 0x65:
            segment = b & 7
        elif code == MODE_64 and b & 0xF0 == 0x40:
            rex = b
            n += 1
            continue
        else:
            break
        rex = 0                                  # REX counts only right before the opcode
        n += 1
    out.segment_override = segment >= 0
    # --- opcode
    opcode = b
    n += 1
    if opcode == 0x0F:
        if n >= limit:
            return DECODE_LONG if n >= 15 else DECODE_MORE
        table = 1
        opcode = bytes[n]
        n += 1
        if opcode == 0x38 or opcode == 0x3A:
            if n >= limit:
                return DECODE_LONG if n >= 15 else DECODE_MORE
            table = 2 if opcode == 0x38 else 3
            opcode = bytes[n]
            n += 1
    out.rex = rex
    out.length = n
    if code == MODE_64:
        address_size = 4 if address_prefix else 8
    elif code == MODE_32:
        address_size = 2 if address_prefix else 4
    else:
        address_size = 4 if address_prefix else 2
    if table == 1 and (opcode == 0xB9 or opcode == 0xFF):
        too_long = DECODE_BAD                    # UD0, UD1: #UD however long
    # --- the row
    slot = table * 256 + opcode
    for k in range(starts[slot], starts[slot + 1]):
        row = &rows[k]
        if row.attributes & ROW_I64 and code == MODE_64:
            continue
        if row.attributes & ROW_O64 and code != MODE_64:
            continue
        if row.attributes & ROW_PROTECTED and not mode & MODE_PROTECTED:
            continue
        if row.attributes & ROW_W0 and rex & 8:
            continue
        if row.attributes & ROW_W1 and not rex & 8:
            continue
        if row.special & SPECIAL_B0 and rex & 1:
            continue
        if row.feature and not has_feature(features, row.feature):
            continue
        if row.prefix:
            if row.prefix == 1:
                if rep or size_prefix:
                    continue
            elif row.prefix == 2:
                if rep or not size_prefix:
                    continue
            elif rep != (0xF3 if row.prefix == 3 else 0xF2 if row.prefix == 4 else 0):
                continue
        if row.modrm & 1:
            if not modrm_read:
                if n >= limit:
                    return too_long if n >= 15 else DECODE_MORE
                modrm = bytes[n]
                n += 1
                modrm_read = True
                mod = modrm >> 6
            if row.fixed >= 0 and row.fixed != modrm:
                continue
            if row.digit >= 0 and row.digit != (modrm >> 3) & 7:
                continue
            if row.special & SPECIAL_ANY_MOD:
                mod = 3
            if row.fixed < 0 and not row.modrm & (2 if mod == 3 else 4):
                continue
        if code == MODE_64:
            if row.size_rule == 2:
                size = 8
            elif rex & 8:
                size = 8
            elif size_prefix and row.prefix != 2:
                size = 2
            else:
                size = 8 if row.size_rule == 1 else 4
        else:
            size = 2 if (code == MODE_16) != (size_prefix and row.prefix != 2) else 4
        size_index = 0 if size == 2 else 1 if size == 4 else 2
        if not row.size_mask & (1 << size_index):
            continue
        found = row
        break
    out.modrm = modrm
    out.length = n
    if found == NULL:
        return DECODE_LONG if is_too_long(bytes, n, limit, mode, slot, address_size, modrm_read) else DECODE_BAD
    row = found
    is_memory = row.modrm & 1 and row.fixed < 0 and mod != 3
    out.memory = is_memory
    out.prefix = 0xF3 if row.prefix == 3 else 0xF2 if row.prefix == 4 else 0x66 if row.prefix == 2 else 0
    if modrm_read and row.modrm & 1:
        reg_field = ((modrm >> 3) & 7) | ((rex & 4) << 1)
        rm = modrm & 7
        rm_field = rm | ((rex & 1) << 3)
        if row.special & SPECIAL_REGISTER:
            if lock and row.special & SPECIAL_CONTROL and reg_field == 0 and has_feature(features, FEATURE_CR8_LEGACY):
                reg_field = 8                    # LOCK MOV CR0 is MOV CR8 (APM 2 3.1.5)
                lock = False
                insn.flags |= I_LOCK
            if not names_register(row.special, reg_field):
                return DECODE_BAD
    insn.opsize = <u8>size
    insn.aux = row.aux
    insn.flags |= I_A16 if address_size == 2 else I_A32 if address_size == 4 else 0
    # --- memory operand
    if is_memory:
        insn.flags |= I_MEMORY
        if address_size == 2:
            if rm == 0 or rm == 1 or rm == 7:
                insn.base = 24                   # BX
            elif rm == 2 or rm == 3:
                insn.base = 8 * RBP
            elif rm == 4:
                insn.base = 48                   # SI
            elif rm == 5:
                insn.base = 56                   # DI
            elif mod != 0:
                insn.base = 8 * RBP
            if rm == 0 or rm == 2:
                insn.index = 48
            elif rm == 1 or rm == 3:
                insn.index = 56
            displacement_bytes = 2 if mod == 2 or (mod == 0 and rm == 6) else 1 if mod == 1 else 0
            if segment < 0:
                segment = SS if rm == 2 or rm == 3 or (rm == 6 and mod != 0) else DS
        else:
            displacement_bytes = 1 if mod == 1 else 4 if mod == 2 else 0
            if rm == 4:
                if n >= limit:
                    return too_long if n >= 15 else DECODE_MORE
                sib = bytes[n]
                n += 1
                rm = sib & 7
                rm_field = rm | ((rex & 1) << 3)
                k = ((sib >> 3) & 7) | ((rex & 2) << 2)
                if k != 4:
                    insn.index = <u8>(8 * k)
                    insn.scale = sib >> 6
                if rm == 5 and mod == 0:
                    displacement_bytes = 4
                else:
                    insn.base = <u8>(8 * rm_field)
            elif rm == 5 and mod == 0:
                displacement_bytes = 4
                if code == MODE_64:
                    out.rip_relative = True
                    insn.base = 8 * RIP_SLOT
            else:
                insn.base = <u8>(8 * rm_field)
            if segment < 0:
                segment = SS if insn.base == 8 * RSP or insn.base == 8 * RBP else DS
        if n + displacement_bytes > limit:
            return too_long if n + displacement_bytes > 15 else DECODE_MORE
        if displacement_bytes == 1:
            insn.disp = <i8>bytes[n]
        elif displacement_bytes == 2:
            insn.disp = <i16>(bytes[n] | (bytes[n + 1] << 8))
        elif displacement_bytes == 4:
            memcpy(&insn.disp, bytes + n, 4)
        n += displacement_bytes
    if segment < 0:
        segment = DS
    insn.seg = <u8>segment
    # --- immediate
    k = row.immediate
    immediate_bytes = 0
    if k == 1 or k == 5:
        immediate_bytes = 1
    elif k == 2:
        immediate_bytes = 2
    elif k == 3 or k == 6:
        immediate_bytes = 2 if size == 2 else 4
    elif k == 4:
        immediate_bytes = size
    elif k == 7:
        immediate_bytes = 3
    elif k == 8:
        immediate_bytes = address_size
    elif k == 9:
        immediate_bytes = 4 if size == 2 else 6
    elif k == 10:
        immediate_bytes = 4
    if n + immediate_bytes > limit:
        return too_long if n + immediate_bytes > 15 else DECODE_MORE
    if immediate_bytes:
        value = 0
        memcpy(&value, bytes + n, immediate_bytes)
        n += immediate_bytes
        if k == 1 or k == 5:
            value = <i8>value
        elif k == 3 or k == 6:
            value = <i64><i16>value if size == 2 else <i64><i32>value
        elif k == 10:
            value = <i64><i32>value
        elif k == 9 and size == 2:
            value = (value & 0xFFFF) | ((value >> 16) << 32)
        insn.imm = value
        out.branch = k == 5 or k == 6
    elif table == 0 and opcode & 0xF8 == 0xD8:
        insn.imm = (opcode & 7) << 8 | modrm | <i64>insn.seg << 16       # FOP, and the segment that FDS is of
    # --- registers
    if row.dst:
        if row.dst & 0x80:
            insn.dst = row.dst & 0x7F
        elif not (is_memory and row.dst & 7 == 2):
            insn.dst = <u8>place_number(row.dst, reg_field, rm_field, (opcode & 7) | ((rex & 1) << 3), rex)
    if row.src:
        if row.src & 0x80:
            insn.src = row.src & 0x7F
        elif not (is_memory and row.src & 7 == 2):
            insn.src = <u8>place_number(row.src, reg_field, rm_field, (opcode & 7) | ((rex & 1) << 3), rex)
    if rep == 0xF3:
        insn.flags |= I_REP
    elif rep == 0xF2:
        insn.flags |= I_REPNE
    out.length = n
    insn.len = <u8>n
    out.row = row
    if lock:
        if not (row.attributes & ROW_LOCK and is_memory):
            out.row = NULL
            return DECODE_BAD
        insn.flags |= I_LOCK
    insn.fn = handlers[row.handler[2 * size_index + is_memory]]
    return n


Decoding = namedtuple("Decoding", "length row opsize address_size prefixes rex modrm memory base index scale displacement segment "
                                  "override rip_relative immediate")
Decoding.__doc__ = """One decoded instruction. length: bytes; row: its number in the table; opsize, address_size: bytes; prefixes: of LOCK,
REPNE, REP (0xF0, 0xF2, 0xF3), those given and not part of the opcode; rex: 0 or the prefix; modrm: the byte (0 where there is none);
memory: whether ModRM names memory, and then base and index (register numbers or None), scale (a power of two), displacement (signed),
segment (0..5) and whether a prefix chose it (override); rip_relative; immediate: sign-extended as the table says (0: none)."""


def decode(data: bytes, int mode, features=None, bint protected=True):
    """Decodes the first instruction of `data`.

    mode: 16, 32 or 64; features: numbers of the CPU features there are (None: all that rows name); protected: whether CR0.PE is set.
    Returns a Decoding; None where the processor raises #UD or the instruction is longer than 15 bytes; 0 where data ends before it does.
    """
    cdef u64[4] bits
    cdef Decoded d
    cdef bytes held = data[:16]
    cdef u32 word
    cdef int length, given
    if mode not in (16, 32, 64):
        raise ValueError(f"mode {mode}: 16, 32 or 64 wanted")
    memset(bits, 255 if features is None else 0, sizeof(bits))
    for number in features or ():
        if not 0 <= number < 256:
            raise ValueError(f"feature {number}: 0..255 wanted")
        bits[<int>number >> 6] |= <u64>1 << (<int>number & 63)
    word = MODE_16 if mode == 16 else MODE_32 if mode == 32 else MODE_64
    if protected or mode == 64:
        word |= MODE_PROTECTED
    length = decode_one(held, len(held), word, bits, &d)
    if length <= 0:
        return 0 if length == DECODE_MORE else None
    given = d.insn.flags
    return Decoding(
        length, d.row.number, d.insn.opsize, 2 if given & I_A16 else 4 if given & I_A32 else 8,
        ((0xF0,) if given & I_LOCK else ()) + ((0xF2,) if given & I_REPNE and d.prefix != 0xF2 else ())
        + ((0xF3,) if given & I_REP and d.prefix != 0xF3 else ()),
        d.rex, d.modrm, d.memory, None if d.rip_relative or d.insn.base == 8 * ZERO_SLOT else d.insn.base // 8,
        None if d.insn.index == 8 * ZERO_SLOT else d.insn.index // 8, 1 << d.insn.scale, d.insn.disp, d.insn.seg,
        d.segment_override, d.rip_relative, <i64>d.insn.imm)
