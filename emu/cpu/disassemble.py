# The disassembler: what the decoder found, written as Intel's manuals write it. It knows no encodings: those are the decoder's.
"""Text of instructions from the one table. Operands look as in `mov qword ptr fs:[rax + rcx*4 - 8], rdx`: numbers from 10 on are
hexadecimal, immediates unsigned at the size of the operation, branch targets are addresses, and `(bad)` stands exactly where the
processor raises #UD (or #GP for more than 15 bytes)."""
from __future__ import annotations

from collections.abc import Iterator

from emu.cpu.decode import Decoding, decode
from emu.cpu.gen.names import ROWS

BAD = "(bad)"
CUT = "(cut short)"
CONDITIONS = ("o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g")
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
_LEGACY = ("ax", "cx", "dx", "bx", "sp", "bp", "si", "di")
_HIGH = ("ah", "ch", "dh", "bh")
_SIZES = {1: "byte ptr ", 2: "word ptr ", 4: "dword ptr ", 6: "fword ptr ", 8: "qword ptr ", 10: "tbyte ptr ", 16: "xmmword ptr "}
_TYPES = {"b": 1, "bs": 1, "w": 2, "d": 4, "q": 8, "dq": 16, "ps": 16, "pd": 16, "x": 16, "ss": 4, "sd": 8, "t": 10}
_FIXED = {"AL": 0, "AX": 0, "rAX": 0, "CL": 1, "DX": 2}
_LOADED = ("ES", "SS", "DS", "FS", "GS")     # the third operand of LES and the like, which their name says already
_STRINGS = ("movs", "cmps", "stos", "lods", "scas", "ins", "outs")


def register(number: int, size: int, rex: int = 0) -> str:
    """The name of a general register; size in bytes. Without a REX prefix, byte registers 4..7 are AH CH DH BH."""
    if size == 1 and not rex and 4 <= number < 8:
        return _HIGH[number - 4]
    if number >= 8:
        return f"r{number}" + {1: "b", 2: "w", 4: "d", 8: ""}[size]
    name = _LEGACY[number]
    if size == 1:
        return name[0] + "l" if number < 4 else name + "l"
    return {2: "", 4: "e", 8: "r"}[size] + name


def _number(value: int) -> str:
    return str(value) if 0 <= value < 10 else f"{value:#x}"


def _cut(value: int, size: int) -> int:
    return value & ((1 << 8 * size) - 1)


class _Text:
    """The text of one instruction at `address`."""

    def __init__(self, found: Decoding, mode: int, address: int) -> None:
        self.found, self.mode, self.address = found, mode, address
        self.mnemonic, self.operands, self.condition, self.attributes, self.opcode = ROWS[found.row]

    def size(self, kind: str) -> int:
        """Bytes of an operand of type `kind`; 0 where it has no size."""
        opsize = self.found.opsize
        if kind == "v":
            return opsize
        if kind == "z":
            return min(opsize, 4) if self.is_port else opsize
        if kind == "y":
            return max(opsize, 4)
        if kind == "p":
            return opsize + 2
        if kind == "a":
            return 2 * opsize
        return _TYPES.get(kind, 0)

    @property
    def is_port(self) -> bool:
        return self.mnemonic in ("in", "out", "ins", "outs")

    def memory(self, kind: str) -> str:
        found = self.found
        parts = []
        if found.rip_relative:
            parts.append("eip" if found.address_size == 4 else "rip")
        if found.base is not None:
            parts.append(register(found.base, found.address_size))
        if found.index is not None:
            parts.append(register(found.index, found.address_size) + (f"*{found.scale}" if found.address_size > 2 else ""))
        text = " + ".join(parts)
        if not parts:
            text = _number(_cut(found.displacement, found.address_size))
        elif found.displacement:
            text += f" {'-' if found.displacement < 0 else '+'} {_number(abs(found.displacement))}"
        far = "far " if kind == "p" and self.mnemonic in ("jmp", "call") else ""
        return f"{far}{_SIZES.get(self.size(kind), '')}{self.segment()}[{text}]"

    def segment(self) -> str:
        return SEGMENTS[self.found.segment] + ":" if self.found.override else ""

    def string(self, place: str, kind: str) -> str:
        """X: the source, DS:rSI, whose segment may be overridden; Y: the destination, ES:rDI."""
        found = self.found
        segment = self.segment() if place == "X" else "es:" if self.mode != 64 else ""
        return f"{_SIZES[self.size(kind)]}{segment}[{register(6 if place == 'X' else 7, found.address_size)}]"

    def immediate(self, kind: str) -> str:
        """Unsigned, at the size of its type; a sign-extended one at the size of the operation."""
        size = self.found.opsize if kind in ("bs", "z", "v") else self.size(kind)
        value = self.found.immediate
        if (kind, self.mnemonic) == ("w", "enter"):
            return _number(_cut(value, 2))
        if (kind, self.mnemonic) == ("b", "enter"):
            return _number(_cut(value >> 16, 1))
        return _number(_cut(value, size))

    def target(self) -> str:
        found = self.found
        size = found.opsize if self.mode != 64 or found.opsize == 2 else 8
        return f"{_cut(self.address + found.length + found.immediate, size):#x}"

    def general(self, number: int, kind: str) -> str:
        return register(number, self.size(kind), self.found.rex)

    def fixed(self, kind: str) -> str:
        if kind in _FIXED:
            size = {"AL": 1, "CL": 1, "rAX": min(self.found.opsize, 4) if self.is_port else self.found.opsize}.get(kind, 2)
            return register(_FIXED[kind], size)
        return {"ST0": "st(0)", "STi": f"st({self.found.modrm & 7})"}.get(kind, kind.lower())

    def operand(self, place: str, kind: str) -> str:
        found = self.found
        reg = (found.modrm >> 3) & 7 | (found.rex & 4) << 1
        rm = found.modrm & 7 | (found.rex & 1) << 3
        if place == "=":
            return self.fixed(kind)
        if place in "EMWQ" and found.memory:
            return self.memory(kind)
        if place in "ER":
            return self.general(rm, kind)
        if place == "G":
            return self.general(reg, kind)
        if place == "Z":
            return self.general(self.opcode & 7 | (found.rex & 1) << 3, kind)
        if place == "S":
            return SEGMENTS[reg & 7]
        if place in "CD":
            return f"{place.lower()}r{8 if 0xF0 in found.prefixes else reg}"         # LOCK MOV CR0 is MOV CR8
        if place in "VWU":
            return f"xmm{reg if place == 'V' else rm}"
        if place in "PQN":
            return f"mm{(reg if place == 'P' else rm) & 7}"
        if place == "I":
            return self.immediate(kind)
        if place == "J":
            return self.target()
        if place == "O":
            return f"{_SIZES[self.size(kind)]}{self.segment()}[{_number(_cut(found.immediate, found.address_size))}]"
        if place == "A":
            return f"{_number(found.immediate >> 32 & 0xFFFF)}:{_number(found.immediate & 0xFFFFFFFF)}"
        return self.string(place, kind)

    def name(self) -> str:
        found = self.found
        if self.mnemonic == "jcxz":
            return {2: "jcxz", 4: "jecxz", 8: "jrcxz"}[found.address_size]
        names = self.mnemonic.split("/")
        if len(names) > 1:
            return names[{2: 0, 4: 1, 8: 2}[found.opsize]]
        if self.condition is not None:
            return self.mnemonic + CONDITIONS[self.condition]
        if self.mnemonic in _STRINGS:
            kind = next(kind for place, kind in self.operands if place in "XY")
            return self.mnemonic + {1: "b", 2: "w", 4: "d", 8: "q"}[self.size(kind)]
        return self.mnemonic

    def text(self) -> str:
        prefix = "lock " if 0xF0 in self.found.prefixes and self.found.memory else ""
        if self.mnemonic in _STRINGS:
            if 0xF2 in self.found.prefixes:
                prefix += "repne "
            elif 0xF3 in self.found.prefixes:
                prefix += "repe " if self.mnemonic in ("cmps", "scas") else "rep "
        name = self.name()
        shown = self.operands
        if len(shown) == 3 and shown[2][1] in _LOADED:
            shown = shown[:2]
        return f"{prefix}{name} {', '.join(self.operand(place, kind) for place, kind in shown)}".rstrip()


def format_instruction(found: Decoding, mode: int, address: int) -> str:
    """The text of a decoded instruction. mode: 16, 32 or 64; address: where it stands, for the targets of branches."""
    return _Text(found, mode, address).text()


def disassemble(data: bytes, mode: int, address: int = 0, features: object = None) -> Iterator[tuple[int, bytes, str]]:
    """Yields (address, bytes, text) of the instructions of `data` one after another.

    mode: 16, 32 or 64; address: of the first byte (addresses wrap at 2**mode); features: numbers of the CPU features there are (None:
    all that are known). After a bad byte it goes on at the next one; an instruction that the end of `data` cuts short is shown as such.
    """
    at = 0
    while at < len(data):
        found = decode(data[at:at + 16], mode, features)
        where = address + at & (1 << mode) - 1
        if found == 0:
            yield where, data[at:], CUT
            return
        length = 1 if found is None else found.length
        yield where, data[at:at + length], BAD if found is None else format_instruction(found, mode, where)
        at += length
