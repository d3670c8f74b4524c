# Two other disassemblers, capstone and iced-x86, brought to one form with ours, so that their answers can be compared.
"""The form: Shown(length, mnemonic, operands), each operand a text: a register `rax`, `st(1)`; a number `0x1f` (unsigned, all of the
operation's bits); memory `8 fs:rax+rcx*4+0x10` (bytes or 0, segment where a prefix chose it, and the address, its displacement cut
to the address size); a far pointer `0x10:0x1234`."""
import re
from dataclasses import dataclass

import capstone
import iced_x86
from iced_x86 import DecoderOptions, OpKind, Register

from emu.cpu.decode import decode
from emu.cpu.disassemble import format_instruction

ADDRESS = 0x10203040
ADDRESS_16 = 0x3040
BITS = {"byte": 1, "word": 2, "dword": 4, "fword": 6, "qword": 8, "tbyte": 10, "xmmword": 16}

# Reserved hint NOPs stand for what came later (CET, MPX); TZCNT, LZCNT, WBNOINVD are BSF, BSR, WBINVD on a CPU without them.
ICED_OPTIONS = (DecoderOptions.AMD | DecoderOptions.FORCE_RESERVED_NOP | DecoderOptions.NO_MPFX_0FBC | DecoderOptions.NO_MPFX_0FBD
                | DecoderOptions.NO_WBNOINVD)


@dataclass(frozen=True)
class Shown:
    length: int
    mnemonic: str
    operands: tuple[str, ...]


def start(mode: int) -> int:
    return ADDRESS_16 if mode == 16 else ADDRESS


def _memory(text: str, mode: int) -> str:
    """One form for `qword ptr fs:[rax + rcx*4 - 8]`."""
    found = re.fullmatch(r"(?:far )?(?:(\w+) ptr )?(?:(\w\w):)?\[(.*)\]", text)
    if found is None:
        return text
    size = BITS.get(found[1], 0)
    registers, displacement = [], 0
    for sign, term in re.findall(r"([+-]?)\s*([^\s+-]+)", found[3]):
        if term[0].isdigit():
            displacement += -int(term, 0) if sign == "-" else int(term, 0)
        else:
            registers.append(term.removesuffix("*1"))
    return memory_text(size, found[2] or "", registers, displacement, mode)


def memory_text(size: int, segment: str, registers: list[str], displacement: int, mode: int) -> str:
    width = 64
    if registers:
        name = registers[0].split("*")[0]
        width = 16 if name in ("bx", "bp", "si", "di") else 32 if name[0] == "e" or name[-1] == "d" else 64
    elif mode != 64 or 0 <= displacement < 1 << 32:
        width = 32
    return f"{size} {segment}:{'+'.join(registers)}+{displacement & (1 << width) - 1:#x}"


def operand_text(text: str, mode: int) -> str:
    if "[" in text:
        return _memory(text, mode)
    if re.fullmatch(r"-?(0x[0-9a-f]+|\d+)", text):
        return f"{int(text, 0):#x}"
    if ":" in text:
        return ":".join(f"{int(part, 0):#x}" for part in text.split(":"))
    return text


def ours(data: bytes, mode: int, features=None) -> Shown | None:
    found = decode(data, mode, features)
    if not found:
        return None
    text = format_instruction(found, mode, start(mode))
    words = text.split(" ")
    while words[0] in ("lock", "rep", "repe", "repne"):
        words.pop(0)
    operands = " ".join(words[1:])
    return Shown(found.length, words[0], tuple(operand_text(part, mode) for part in operands.split(", ") if part))


_formatter = iced_x86.Formatter(iced_x86.FormatterSyntax.INTEL)


def _register(number: int) -> str:
    name = _formatter.format_register(number)
    name = {"st0": "st(0)"}.get(name, name)
    if re.fullmatch(r"r\d+l", name):
        name = name[:-1] + "b"
    return re.sub(r"^st(\d)$", r"st(\1)", name)


_IMMEDIATES = {OpKind.IMMEDIATE8: 8, OpKind.IMMEDIATE8_2ND: 8, OpKind.IMMEDIATE16: 16, OpKind.IMMEDIATE32: 32, OpKind.IMMEDIATE64: 64,
               OpKind.IMMEDIATE8TO16: 16, OpKind.IMMEDIATE8TO32: 32, OpKind.IMMEDIATE8TO64: 64, OpKind.IMMEDIATE32TO64: 64}
_STRING_SOURCES = {OpKind.MEMORY_SEG_SI: "si", OpKind.MEMORY_SEG_ESI: "esi", OpKind.MEMORY_SEG_RSI: "rsi"}
_STRING_TARGETS = {OpKind.MEMORY_ESDI: "di", OpKind.MEMORY_ESEDI: "edi", OpKind.MEMORY_ESRDI: "rdi"}
_HIDDEN = {OpKind.MEMORY_SEG_DI, OpKind.MEMORY_SEG_EDI, OpKind.MEMORY_SEG_RDI}


def iced(data: bytes, mode: int, options: int = ICED_OPTIONS):
    """(Shown or None, the Instruction)."""
    instruction = iced_x86.Decoder(mode, data, options=options, ip=start(mode)).decode()
    if instruction.code == iced_x86.Code.INVALID:
        return None, instruction
    size = iced_x86.MemorySizeExt.size(instruction.memory_size)
    segment = _formatter.format_register(instruction.segment_prefix) if instruction.segment_prefix != Register.NONE else ""
    if mode == 64 and segment not in ("fs", "gs"):
        segment = ""
    operands = []
    for place in range(instruction.op_count):
        kind = instruction.op_kind(place)
        if kind == OpKind.REGISTER:
            operands.append(_register(instruction.op_register(place)))
        elif kind in _IMMEDIATES:
            operands.append(f"{instruction.immediate(place) & (1 << _IMMEDIATES[kind]) - 1:#x}")
        elif kind in (OpKind.NEAR_BRANCH16, OpKind.NEAR_BRANCH32, OpKind.NEAR_BRANCH64):
            operands.append(f"{instruction.near_branch_target:#x}")
        elif kind in (OpKind.FAR_BRANCH16, OpKind.FAR_BRANCH32):
            offset = instruction.far_branch16 if kind == OpKind.FAR_BRANCH16 else instruction.far_branch32
            operands.append(f"{instruction.far_branch_selector:#x}:{offset:#x}")
        elif kind in _STRING_SOURCES:
            operands.append(memory_text(size, segment, [_STRING_SOURCES[kind]], 0, mode))
        elif kind in _STRING_TARGETS:
            operands.append(memory_text(size, "" if mode == 64 else "es", [_STRING_TARGETS[kind]], 0, mode))
        elif kind == OpKind.MEMORY:
            registers = []
            displacement = instruction.memory_displacement
            if instruction.memory_base in (Register.RIP, Register.EIP):
                registers.append(_register(instruction.memory_base))
                displacement -= instruction.next_ip
            elif instruction.memory_base != Register.NONE:
                registers.append(_register(instruction.memory_base))
            if instruction.memory_index != Register.NONE:
                scale = instruction.memory_index_scale
                registers.append(_register(instruction.memory_index) + (f"*{scale}" if scale > 1 else ""))
            operands.append(memory_text(size, segment, registers, displacement, mode))
        else:
            assert kind in _HIDDEN, kind
    mnemonic = _formatter.format_mnemonic(instruction, iced_x86.FormatMnemonicOptions.NO_PREFIXES)
    if instruction.mnemonic == iced_x86.Mnemonic.RETF:
        mnemonic = "retf"
    return Shown(instruction.len, mnemonic.split(" ")[0], tuple(operands)), instruction


_capstones = {mode: capstone.Cs(capstone.CS_ARCH_X86, flag)
              for mode, flag in ((16, capstone.CS_MODE_16), (32, capstone.CS_MODE_32), (64, capstone.CS_MODE_64))}


def capstone_shown(data: bytes, mode: int) -> Shown | None:
    found = next(_capstones[mode].disasm_lite(data, start(mode), 1), None)
    if found is None:
        return None
    _, length, mnemonic, operands = found
    words = mnemonic.split(" ")
    return Shown(length, words[-1], tuple(operand_text(part, mode) for part in operands.split(", ") if part))


# Names of the same instruction: ours (or a peer's) -> one for all. Sources: SDM 2 appendix A; the assemblers' habits.
ALIASES = {
    "sal": "shl", "wait": "fwait", "xlatb": "xlat", "retfq": "retf", "pushal": "pushad", "popal": "popad",
    "pushaw": "pusha", "popaw": "popa", "fcom2": "fcom", "fcomp3": "fcomp", "fcomp5": "fcomp", "fxch4": "fxch", "fxch7": "fxch",
    "fstp1": "fstp", "fstpnce": "fstp", "fstp8": "fstp", "fstp9": "fstp", "fdisi8087_nop": "fndisi", "feni8087_nop": "fneni",
    "fsetpm287_nop": "fnsetpm", "ljmp": "jmp", "lcall": "call", "movabs": "mov", "iretw": "iret", "fsetpm": "fnsetpm",
    "fdisi": "fndisi", "feni": "fneni", "fcompi": "fcomip", "fucompi": "fucomip",
}
_CMP = re.compile(r"cmp(?:eq|lt|le|unord|neq|nlt|nle|ord)(ps|pd|ss|sd)")
# Registers whose width a name does not tell: what is stored or read is as wide whatever REX.W or 66 say.
_ONE_WIDTH = ("lldt", "ltr", "verr", "verw", "lmsw", "arpl", "pextrw", "pextrb", "pinsrw", "pinsrb", "pmovmskb", "movmskps", "movmskpd",
              "extractps", "sldt", "str", "smsw", "mov_sreg", "lar", "lsl")
_WIDTHS = {narrow: wide for number, wide in enumerate(("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"))
           for narrow in (wide, "e" + wide[1:], wide[1:])} | {f"r{n}{w}": f"r{n}" for n in range(8, 16) for w in ("", "d", "w")}
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")


def plain(shown: Shown) -> tuple:
    """(length, name, operands) without what the three spell differently: aliases, operands that a name implies, sizes of what has
    no size, the width of registers of which a fixed part is used."""
    name, operands = ALIASES.get(shown.mnemonic, shown.mnemonic), list(shown.operands)
    if name.startswith("pcmpestr"):
        name = name.removesuffix("64")
    if match := _CMP.fullmatch(name):
        name = "cmp" + match[1]
    if name[0] == "f" and len(operands) == 2 and operands[0] == "st(0)":
        operands.pop(0)
    if name[0] == "f" and len(operands) == 2 and operands[1] == "st(0)":
        operands.pop()
    if operands[2:] == ["xmm0"]:
        operands.pop()
    if name == "xchg" and operands in ([], ["ax", "ax"], ["eax", "eax"], ["rax", "rax"]):
        name, operands = "nop", []
    if name in ("nop", "xlat", "ud0", "ud1"):
        operands = operands[:1] if name == "nop" else []
    if name in _ONE_WIDTH or (name == "mov" and any(operand in _SEGMENTS for operand in operands)):
        operands = [_WIDTHS.get(operand, operand) for operand in operands]
    return shown.length, name, tuple(operands)


def same(mine: Shown | None, other: Shown | None) -> bool:
    if mine is None or other is None:
        return mine is other
    left, right = plain(mine), plain(other)
    if left == right:
        return True
    bare = [[re.sub(r"^\d+ ", "", operand) for operand in side[2]] for side in (left, right)]
    sizeless = any(operand.startswith("0 ") for side in (left, right) for operand in side[2])
    return left[:2] == right[:2] and sizeless and bare[0] == bare[1]
