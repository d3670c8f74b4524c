# Integer data movement, arithmetic, logic, shifts and bit instructions.
"""Rows of the integer instructions; string.py, branch.py and system.py have the rest of the general-purpose ones."""

IMPORTS = """
from emu.cpu.flags cimport condition, flag_cf
from emu.cpu.semantics.integer cimport *
from emu.cpu.access cimport drop, modify_at, read_at, stack_top, write_at
"""

_ALU = ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp")
_SHIFT = ("rol", "ror", "rcl", "rcr", "shl", "shr", "shl", "sar")


def _alu_rows() -> str:
    lines = []
    for number, name in enumerate(_ALU):
        shape = f"cmp do_{name}" if name == "cmp" else f"alu do_{name}"
        lock = "" if name == "cmp" else "lock"
        flags = ("r=c " if name in ("adc", "sbb") else "") + ("w=oszpc u=a" if name in ("or", "and", "xor") else "w=oszapc")
        base = 8 * number
        for offset, operands in enumerate(("Eb,Gb", "Ev,Gv", "Gb,Eb", "Gv,Ev")):
            lines.append(f"{base + offset:02X} /r | {name} {operands} | {shape} | {lock if offset < 2 else ''} {flags}")
        lines.append(f"{base + 4:02X} | {name} AL,Ib | {shape} | {flags}")
        lines.append(f"{base + 5:02X} | {name} rAX,Iz | {shape} | {flags}")
        for opcode, operands, mode in (("80", "Eb,Ib", ""), ("81", "Ev,Iz", ""), ("82", "Eb,Ib", "i64")):
            lines.append(f"{opcode} /{number} | {name} {operands} | {shape} | {lock} {mode} {flags}")
        lines.append(f"83 /{number} | {name} Ev,Ibs | {shape} | {lock} {flags}")
    return "\n".join(lines)


def _shift_rows() -> str:
    lines = []
    for number, name in enumerate(_SHIFT):
        flags = "r=c w=oc" if name[0] == "r" else "w=oszpc u=a"
        shown = "sal" if number == 6 else name
        for opcode, operands in (("C0", "Eb,Ib"), ("C1", "Ev,Ib"), ("D0", "Eb,1"), ("D1", "Ev,1"), ("D2", "Eb,CL"),
                                 ("D3", "Ev,CL")):
            lines.append(f"{opcode} /{number} | {shown} {operands} | shift do_{name} | {flags}")
    return "\n".join(lines)


TABLE = _alu_rows() + "\n" + _shift_rows() + """
40+r | inc Zv | unary do_inc | i64 w=oszap
48+r | dec Zv | unary do_dec | i64 w=oszap
FE /0 | inc Eb | unary do_inc | lock w=oszap
FF /0 | inc Ev | unary do_inc | lock w=oszap
FE /1 | dec Eb | unary do_dec | lock w=oszap
FF /1 | dec Ev | unary do_dec | lock w=oszap
F6 /2 | not Eb | unary do_not | lock
F7 /2 | not Ev | unary do_not | lock
F6 /3 | neg Eb | unary do_neg | lock w=oszapc
F7 /3 | neg Ev | unary do_neg | lock w=oszapc
F6 /0 | test Eb,Ib | cmp do_test | w=oszpc u=a
F7 /0 | test Ev,Iz | cmp do_test | w=oszpc u=a
F6 /1 | test Eb,Ib | cmp do_test | w=oszpc u=a
F7 /1 | test Ev,Iz | cmp do_test | w=oszpc u=a
84 /r | test Eb,Gb | cmp do_test | w=oszpc u=a
85 /r | test Ev,Gv | cmp do_test | w=oszpc u=a
A8 | test AL,Ib | cmp do_test | w=oszpc u=a
A9 | test rAX,Iz | cmp do_test | w=oszpc u=a
F6 /4 | mul Eb | muldiv mul | w=oc u=szap
F7 /4 | mul Ev | muldiv mul | w=oc u=szap
F6 /5 | imul Eb | muldiv imul1 | w=oc u=szap
F7 /5 | imul Ev | muldiv imul1 | w=oc u=szap
F6 /6 | div Eb | muldiv div | u=oszapc
F7 /6 | div Ev | muldiv div | u=oszapc
F6 /7 | idiv Eb | muldiv idiv | u=oszapc
F7 /7 | idiv Ev | muldiv idiv | u=oszapc
0F AF /r | imul Gv,Ev | alu do_imul | w=oc u=szap
69 /r | imul Gv,Ev,Iz | imul3 imul3 | w=oc u=szap
6B /r | imul Gv,Ev,Ibs | imul3 imul3 | w=oc u=szap

88 /r | mov Eb,Gb | store mov |
89 /r | mov Ev,Gv | store mov |
8A /r | mov Gb,Eb | load move |
8B /r | mov Gv,Ev | load move |
A0 | mov AL,Ob | moffs load_moffs |
A1 | mov rAX,Ov | moffs load_moffs |
A2 | mov Ob,AL | moffs store_moffs |
A3 | mov Ov,rAX | moffs store_moffs |
B0+r | mov Zb,Ib | store mov |
B8+r | mov Zv,Iv | store mov |
C6 /0 | mov Eb,Ib | store mov |
C7 /0 | mov Ev,Iz | store mov |
0F B6 /r | movzx Gv,Eb | load move |
0F B7 /r | movzx Gv,Ew | load move |
0F BE /r | movsx Gv,Eb | load move_sign |
0F BF /r | movsx Gv,Ew | load move_sign |
63 /r | movsxd Gv,Ew | load_dword move_sign | o64 os16
63 /r | movsxd Gv,Ed | load move_sign | o64
8D /r | lea Gv,M | lea lea |
86 /r | xchg Eb,Gb | xchg xchg | lock
87 /r | xchg Ev,Gv | xchg xchg | lock
F3 90 | pause | pause pause | b0
90 | nop | nop nop | b0
90+r | xchg Zv,rAX | xchg_ax xchg_ax |
0F C0 /r | xadd Eb,Gb | xadd xadd | lock cpuid=I486 w=oszapc
0F C1 /r | xadd Ev,Gv | xadd xadd | lock cpuid=I486 w=oszapc
0F B0 /r | cmpxchg Eb,Gb | cmpxchg cmpxchg | lock cpuid=I486 w=oszapc
0F B1 /r | cmpxchg Ev,Gv | cmpxchg cmpxchg | lock cpuid=I486 w=oszapc
0F C7 /1 | cmpxchg16b Mdq | op cmpxchg16b | lock o64 w1 cpuid=CX16 w=z
0F C7 /1 | cmpxchg8b Mq | op cmpxchg8b | lock cpuid=CX8 w=z
0F C8+r | bswap Zv | unary do_bswap | cpuid=I486
F2 0F 38 F0 /r | crc32 Gy,Eb | crc crc32 | cpuid=SSE42
F2 0F 38 F1 /r | crc32 Gy,Ev | crc crc32 | cpuid=SSE42
NFx 0F 38 F0 /r | movbe Gv,Mv | movbe movbe_load | cpuid=MOVBE
NFx 0F 38 F1 /r | movbe Mv,Gv | movbe movbe_store | cpuid=MOVBE
F3 0F B8 /r | popcnt Gv,Ev | scan popcnt | cpuid=POPCNT w=oszapc
0F BC /r | bsf Gv,Ev | scan bsf | w=z u=osapc
0F BD /r | bsr Gv,Ev | scan bsr | w=z u=osapc
98 | cbw/cwde/cdqe | widen widen_ax | sized
99 | cwd/cdq/cqo | widen widen_dx | sized
0F 40+cc /r | cmov Gv,Ev | cmov cmov | cpuid=CMOV r=oszpc
0F 90+cc /r | set Eb | setcc setcc | r=oszpc
0F A3 /r | bt Ev,Gv | bits bt | w=c u=osap
0F AB /r | bts Ev,Gv | bits bts | lock w=c u=osap
0F B3 /r | btr Ev,Gv | bits btr | lock w=c u=osap
0F BB /r | btc Ev,Gv | bits btc | lock w=c u=osap
0F BA /4 | bt Ev,Ib | bits bt | w=c u=osap
0F BA /5 | bts Ev,Ib | bits bts | lock w=c u=osap
0F BA /6 | btr Ev,Ib | bits btr | lock w=c u=osap
0F BA /7 | btc Ev,Ib | bits btc | lock w=c u=osap
0F A4 /r | shld Ev,Gv,Ib | double shld | w=oszpc u=a
0F A5 /r | shld Ev,Gv,CL | double shld | w=oszpc u=a
0F AC /r | shrd Ev,Gv,Ib | double shrd | w=oszpc u=a
0F AD /r | shrd Ev,Gv,CL | double shrd | w=oszpc u=a
50+r | push Zv | stack push_value | d64
68 | push Iz | stack push_value | d64
6A | push Ibs | stack push_value | d64 sized
FF /6 | push Ev | stack push_value | d64
58+r | pop Zv | stack pop_value | d64
8F /0 | pop Ev | stack pop_value | d64
60 | pusha/pushad | sized_op pusha | i64 sized
61 | popa/popad | sized_op popa | i64 sized
C8 | enter Iw,Ib | sized_op enter | d64 sized
C9 | leave | sized_op leave_frame | d64 sized
27 | daa | op daa | i64 r=ac w=szapc u=o
2F | das | op das | i64 r=ac w=szapc u=o
37 | aaa | op aaa | i64 r=a w=ac u=oszp
3F | aas | op aas | i64 r=a w=ac u=oszp
D4 | aam Ib | op aam | i64 w=szp u=oac
D5 | aad Ib | op aad | i64 w=szp u=oac
D6 | salc | op salc | i64 r=c
D7 | xlatb | op xlat |
9E | sahf | op sahf | i64 w=szapc
9E | sahf | op sahf | o64 cpuid=LAHF w=szapc
9F | lahf | op lahf | i64 r=szapc
9F | lahf | op lahf | o64 cpuid=LAHF r=szapc
F5 | cmc | op cmc | r=c w=c
F8 | clc | op clc | w=c
F9 | stc | op stc | w=c
FC | cld | op cld | w=d
FD | std | op std | w=d
62 /r | bound Gv,Ma | sized_op bound | i64
0F 1F /r | nop Ev | nop nop | cpuid=NOPL
0F 19 /r | nop Ev | nop nop | cpuid=NOPL
0F 1A /r | nop Ev | nop nop | cpuid=NOPL
0F 1B /r | nop Ev | nop nop | cpuid=NOPL
0F 1C /r | nop Ev | nop nop | cpuid=NOPL
0F 1D /r | nop Ev | nop nop | cpuid=NOPL
0F 1E /r | nop Ev | nop nop | cpuid=NOPL
0F 0D /r | prefetchw M | nop nop | cpuid=PREFETCHW
"""

from emu.isa.shapes import FAIL, NEXT, Variant, source_value  # noqa: E402

_P = "cdef u8* p"
_CHECK = ["if unlikely(p == NULL):", "    " + FAIL]


def _shift(v: Variant) -> tuple[str, list[str]]:
    """Like alu, with a byte-sized count."""
    size = v.size(0)
    name = v.name(8 * size, v.form)
    _, count = source_value(v, 1, 1)
    function = v.row.function
    if v.memory:
        return name, [f"{_P} = modify_operand(c, i, {size})", *_CHECK,
                      f"put(p, {function}(c, get(p, {size}), {count}, {size}), {size})", "commit(c, p)", NEXT]
    return name, [f"set_reg(c, i.dst, {function}(c, reg(c, i.dst, {size}), {count}, {size}), {size})", NEXT]


def _muldiv(v: Variant) -> tuple[str, list[str]]:
    size = v.size(0)
    lines, value = source_value(v, 0, size, "dst")
    return v.name(8 * size, v.form), [_P, *lines, f"if unlikely(do_{v.row.function}(c, {value}, {size})):", "    " + FAIL,
                                      NEXT]


def _imul3(v: Variant) -> tuple[str, list[str]]:
    size = v.size(0)
    lines, value = source_value(v, 1, size)
    return v.name(8 * size, v.form), [_P, *lines,
                                      f"set_reg(c, i.dst, do_imul(c, {value}, <u64>i.imm & mask_of({size}), {size}), {size})",
                                      NEXT]


def _moffs(v: Variant) -> tuple[str, list[str]]:
    load = v.row.function == "load_moffs"
    size = v.size(0 if load else 1)
    call = f"{'read' if load else 'write'}_at(c, i.seg, <u64>i.imm & c.address_mask[i.flags & 3], {size})"
    body = [f"{_P} = {call}", *_CHECK]
    body += [f"set_reg(c, 0, get(p, {size}), {size})"] if load else [f"put(p, reg(c, 0, {size}), {size})", "commit(c, p)"]
    return v.name(8 * size), [*body, NEXT]


def _lea(v: Variant) -> tuple[str, list[str]]:
    return v.name(8 * v.opsize), [f"set_reg(c, i.dst, operand_offset(c, i), {v.opsize})", NEXT]


def _load_dword(v: Variant) -> tuple[str, list[str]]:
    """MOVSXD with 16-bit operands: AMD's processors read 32 bits all the same, and keep 16."""
    lines, value = source_value(v, 1, 4)
    return v.name("dword", 8 * v.opsize, v.form), [_P, *lines, f"set_reg(c, i.dst, {value}, {v.opsize})", NEXT]


def _xchg(v: Variant) -> tuple[str, list[str]]:
    size = v.size(0)
    if v.memory:
        return v.name(8 * size, "m"), ["cdef u64 old", f"{_P} = modify_operand(c, i, {size})", *_CHECK, f"old = get(p, {size})",
                                       f"put(p, reg(c, i.src, {size}), {size})", "commit(c, p)",
                                       f"set_reg(c, i.src, old, {size})", NEXT]
    return v.name(8 * size, "r"), [f"cdef u64 old = reg(c, i.dst, {size})", f"set_reg(c, i.dst, reg(c, i.src, {size}), {size})",
                                   f"set_reg(c, i.src, old, {size})", NEXT]


def _xchg_ax(v: Variant) -> tuple[str, list[str]]:
    size = v.opsize
    return v.name(8 * size), [f"cdef u64 old = reg(c, i.dst, {size})",
                              f"set_reg(c, i.dst, reg(c, 0, {size}), {size})", f"set_reg(c, 0, old, {size})", NEXT]


def _xadd(v: Variant) -> tuple[str, list[str]]:
    size = v.size(0)
    if v.memory:
        return v.name(8 * size, "m"), ["cdef u64 old", f"{_P} = modify_operand(c, i, {size})", *_CHECK, f"old = get(p, {size})",
                                       f"put(p, do_add(c, old, reg(c, i.src, {size}), {size}), {size})", "commit(c, p)",
                                       f"set_reg(c, i.src, old, {size})", NEXT]
    return v.name(8 * size, "r"), [f"cdef u64 old = reg(c, i.dst, {size})",
                                   f"cdef u64 total = do_add(c, old, reg(c, i.src, {size}), {size})",
                                   f"set_reg(c, i.src, old, {size})", f"set_reg(c, i.dst, total, {size})", NEXT]


def _cmpxchg(v: Variant) -> tuple[str, list[str]]:
    size = v.size(0)
    if v.memory:
        return v.name(8 * size, "m"), ["cdef u64 old", f"{_P} = modify_operand(c, i, {size})", *_CHECK, f"old = get(p, {size})",
                                       f"do_cmp(c, reg(c, 0, {size}), old, {size})", "if c.flag_result == 0:",
                                       f"    put(p, reg(c, i.src, {size}), {size})", "commit(c, p)", "if c.flag_result != 0:",
                                       f"    set_reg(c, 0, old, {size})", NEXT]
    return v.name(8 * size, "r"), [f"cdef u64 old = reg(c, i.dst, {size})", f"do_cmp(c, reg(c, 0, {size}), old, {size})",
                                   "if c.flag_result == 0:", f"    set_reg(c, i.dst, reg(c, i.src, {size}), {size})", "else:",
                                   f"    set_reg(c, 0, old, {size})", NEXT]     # AMD leaves the destination, its upper half too


def _movbe(v: Variant) -> tuple[str, list[str]]:
    size = v.opsize
    if v.row.function == "movbe_load":
        return v.name(8 * size), [f"{_P} = read_operand(c, i, {size})", *_CHECK,
                                  f"set_reg(c, i.dst, swap_bytes(get(p, {size}), {size}), {size})", NEXT]
    return v.name(8 * size), [f"{_P} = write_operand(c, i, {size})", *_CHECK,
                              f"put(p, swap_bytes(reg(c, i.dst, {size}), {size}), {size})", "commit(c, p)", NEXT]


def _crc(v: Variant) -> tuple[str, list[str]]:
    source = v.size(1)
    lines, value = source_value(v, 1, source)
    target = 8 if v.opsize == 8 else 4
    return v.name(8 * target, 8 * source, v.form), [
        _P, *lines, f"set_reg(c, i.dst, crc32c(<u32>reg(c, i.dst, 4), {value}, {source}), {target})", NEXT]


def _scan(v: Variant) -> tuple[str, list[str]]:
    size = v.opsize
    lines, value = source_value(v, 1, size)
    return v.name(8 * size, v.form), [_P, *lines, f"do_{v.row.function}(c, i.dst, {value}, {size})", NEXT]


def _widen(v: Variant) -> tuple[str, list[str]]:
    size = v.opsize
    if v.row.function == "widen_ax":
        return v.name(8 * size), [f"set_reg(c, 0, <u64>sign_extend(reg(c, 0, {size // 2}), {size // 2}), {size})", NEXT]
    return v.name(8 * size), [f"set_reg(c, 16, <u64>(sign_extend(reg(c, 0, {size}), {size}) >> 63), {size})", NEXT]


def _cmov(v: Variant) -> tuple[str, list[str]]:
    size = v.opsize
    lines, value = source_value(v, 1, size)
    body = [_P, *lines] if lines else []
    return v.name(v.row.condition, 8 * size, v.form), [
        *body, f"if condition(c, {v.row.condition}):", f"    set_reg(c, i.dst, {value}, {size})",
        *(["else:", "    set_reg(c, i.dst, reg(c, i.dst, 4), 4)"] if size == 4 else []), NEXT]


def _setcc(v: Variant) -> tuple[str, list[str]]:
    value = f"condition(c, {v.row.condition})"
    if v.memory:
        return v.name(v.row.condition, "m"), [f"{_P} = write_operand(c, i, 1)", *_CHECK, f"put(p, {value}, 1)", "commit(c, p)",
                                              NEXT]
    return v.name(v.row.condition, "r"), [f"set_reg(c, i.dst, {value}, 1)", NEXT]


def _bits(v: Variant) -> tuple[str, list[str]]:
    """BT BTS BTR BTC: a register bit index addresses memory beyond the operand, an immediate one does not."""
    size = v.size(0)
    function = v.row.function
    immediate = v.row.operands[1].place == "I"
    index = "<u64>i.imm" if immediate else f"reg(c, i.src, {size})"
    if not v.memory:
        body = [f"cdef u64 old = reg(c, i.dst, {size})", f"cdef u64 bit = {index} & {8 * size - 1}"]
        body += ["set_cf(c, (old >> bit) & 1)"]
        if function != "bt":
            body += [f"set_reg(c, i.dst, do_{function}(old, bit), {size})"]
        return v.name(8 * size, v.form), [*body, NEXT]
    access = "read" if function == "bt" else "modify"
    offset = "operand_offset(c, i)"
    if not immediate:
        offset = (f"(operand_offset(c, i) + <u64>((sign_extend({index}, {size}) >> {(8 * size).bit_length() - 1}) * {size}))"
                  " & c.address_mask[i.flags & 3]")
    body = [_P, "cdef u64 old", f"cdef u64 bit = {index} & {8 * size - 1}", f"p = {access}_at(c, i.seg, {offset}, {size})", *_CHECK,
            f"old = get(p, {size})"]
    if function != "bt":
        body += [f"put(p, do_{function}(old, bit), {size})", "commit(c, p)"]
    return v.name(8 * size, v.form), [*body, "set_cf(c, (old >> bit) & 1)", NEXT]


def _double(v: Variant) -> tuple[str, list[str]]:
    size = v.size(0)
    _, count = source_value(v, 2, 1)
    call = "do_%s(c, {}, reg(c, i.src, %d), %s, %d)" % (v.row.function, size, count, size)
    if v.memory:
        return v.name(8 * size, v.form), [f"{_P} = modify_operand(c, i, {size})", *_CHECK,
                                          f"put(p, {call.format(f'get(p, {size})')}, {size})", "commit(c, p)", NEXT]
    return v.name(8 * size, v.form), [f"set_reg(c, i.dst, {call.format(f'reg(c, i.dst, {size})')}, {size})", NEXT]


def _stack(v: Variant) -> tuple[str, list[str]]:
    size = v.opsize
    immediate = v.row.operands[0].place == "I"
    name = v.name(8 * size, "i" if immediate else v.form)
    if v.row.function == "push_value":
        if immediate:
            lines, value = list[str](), "<u64>i.imm"
        else:
            lines, value = source_value(v, 0, size, "dst")
        head = [_P, *lines] if lines else []
        return name, [*head, f"if unlikely(push(c, {value}, {size})):", "    " + FAIL, NEXT]
    if v.memory:
        return name, [f"if unlikely(pop_memory(c, i, {size})):", "    " + FAIL, NEXT]
    return name, ["cdef u64 value", f"{_P} = stack_top(c, {size})", *_CHECK, f"value = get(p, {size})", f"drop(c, {size})",
                  f"set_reg(c, i.dst, value, {size})", NEXT]


def _sized_op(v: Variant) -> tuple[str, list[str]]:
    return v.name("op", 8 * v.opsize), [f"if unlikely({v.row.function}(c, i, {v.opsize})):", "    " + FAIL, NEXT]


SHAPES = {"shift": _shift, "muldiv": _muldiv, "imul3": _imul3, "load_dword": _load_dword, "moffs": _moffs, "lea": _lea, "xchg": _xchg,
          "xchg_ax": _xchg_ax, "xadd": _xadd, "cmpxchg": _cmpxchg, "movbe": _movbe, "crc": _crc, "scan": _scan,
          "widen": _widen, "cmov": _cmov, "setcc": _setcc, "bits": _bits, "double": _double, "stack": _stack,
          "sized_op": _sized_op}
