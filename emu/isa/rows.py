# What a row of the instruction table is, and the reader of the tables; the rows themselves stand in the topic files.
"""The one table of instructions.

A topic file (integer.py, system.py, x87.py, sse.py ...) has

  TABLE    text, one row a line:   encoding | instruction | shape function args | attributes
  IMPORTS  the cimport lines that its generated handlers need
  SHAPES   (optional) shapes of its own: name -> function(Variant) -> (handler name, list of body lines)

encoding      [NP|NFx|66|F3|F2] opcode bytes [+r|+cc] [/r | /0../7 | =C1]
              NP: none of 66, F2, F3 allowed. NFx: neither F2 nor F3. 66, F3, F2: mandatory prefix (F2/F3 win over 66, which may then still
              set the operand size). None of them: any prefix is accepted (66 = operand size).
              +r: eight opcodes, register in the low three bits. +cc: sixteen opcodes, a condition in the low four.
              /r: a ModRM byte. /digit: ModRM.reg is fixed. =XX: the whole ModRM byte is fixed.
instruction   mnemonic operands. Operands are those of SDM 2 appendix A: a letter for the place, letters for the type.
              Places  E: ModRM.rm, general register or memory.  G: ModRM.reg, general register.  M: memory only.
              R: ModRM.rm, general register only.  Z: register in the opcode.  S C D: segment, control, debug register
              in ModRM.reg.  V: xmm in ModRM.reg.  W: xmm or memory.  U: xmm in ModRM.rm only.  P: mmx in ModRM.reg.
              Q: mmx or memory.  N: mmx in ModRM.rm only.  I: immediate.  J: relative branch.  O: moffs.  A: far
              pointer.  X Y: string operands.  Fixed: AL CL AX DX rAX 1 ES CS SS DS FS GS ST0 STi (st in ModRM.rm).
              Types   b w d q: 1 2 4 8 bytes.  bs: 1, sign-extended to the operand size.  v: operand size.
              z: operand size, immediate of at most 4 bytes.
              y: 4, or 8 with REX.W.  dq ps pd x: 16.  ss sd: 4, 8.  t: 10.  p: far pointer.  None: no size.
              A mnemonic `cbw/cwde/cdqe` names the three operand sizes.
shape         how the handler is put together (shapes.py tells each), and the function in cpu/semantics that it calls.
attributes    i64: #UD in 64-bit mode.  o64: 64-bit mode only.  d64: operand size is 64 by default in 64-bit mode (66
              gives 16).  f64: always 64 in 64-bit mode.  os16 os32 os64: only with that operand size.  w0 w1: only
              with that REX.W.  b0: only without REX.B.  lock: LOCK allowed (memory form).  pe: #UD in real and virtual-8086 mode.
              cpuid=NAME: #UD, or the next row that fits, where the CPU model lacks it.
              sized: handlers by operand size though no operand names it.  rep: ends the block where F2 or F3 is there.
              anymod: ModRM.mod is not looked at, rm is a register.
              r= w= u=: flags read, written, left undefined (letters of "oszapc" and "d" for DF, "i").

The rows of an opcode are tried in the order of the table; the first that fits is the instruction.

Handlers see (Insn): `dst` the first register operand, `src` the second: a byte offset in regs[] for general registers,
a plain number else; a memory operand fills base, index, scale, disp, seg and no register place (so in `ADD Eb,Gb` with
memory, Gb is still `src`, and in `ADD Gb,Eb`, Gb is `dst`). Immediates are sign-extended in `imm` (Iw: zero-extended;
Iw,Ib: Iw | Ib << 16; A: offset | selector << 32). `opsize` is the operand size in bytes, `aux` the condition of +cc.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field

MAPS = {"": 0, "0F": 1, "0F 38": 2, "0F 3A": 3}
TYPE_SIZES = {"b": 1, "bs": 1, "w": 2, "d": 4, "q": 8, "dq": 16, "ps": 16, "pd": 16, "x": 16, "ss": 4, "sd": 8, "t": 10}
FIXED = ("AL", "CL", "AX", "DX", "rAX", "1", "ES", "CS", "SS", "DS", "FS", "GS", "ST0", "STi", "XMM0", "AH", "3")
PLACES = "EGMRZSCDVWUPQNIJOAXY"


@dataclass(frozen=True)
class Operand:
    """One operand: place letter (or "=" for a fixed one, named by `kind`) and type letters."""

    place: str
    kind: str

    @property
    def is_rm(self) -> bool:
        return self.place in "EMRWUQN" or self.kind == "STi"

    def size(self, opsize: int) -> int:
        """Size in bytes under the operand size `opsize`; 0 where the type has none."""
        if self.kind in ("v", "z"):
            return opsize
        if self.kind == "y":
            return max(opsize, 4)
        if self.kind == "rAX":
            return opsize
        if self.kind in ("AL", "CL", "AH"):
            return 1
        if self.kind in ("AX", "DX"):
            return 2
        return TYPE_SIZES.get(self.kind, 0)


@dataclass
class Row:
    """One encoding of one instruction. `number` is its place in the whole table."""

    topic: str
    map: int
    opcode: int
    prefix: str
    digit: int | None
    modrm: bool
    fixed: int | None
    mnemonic: str
    operands: tuple[Operand, ...]
    shape: str
    function: str
    args: tuple[str, ...]
    attributes: frozenset[str]
    cpuid: str
    reads: str
    writes: str
    undefined: str
    condition: int | None
    source: str
    number: int = 0
    handlers: dict = field(default_factory=dict)

    @property
    def rm(self) -> Operand | None:
        return next((o for o in self.operands if o.is_rm), None)

    @property
    def takes_register(self) -> bool:
        """Whether ModRM.mod = 3 is legal."""
        return self.rm is None or self.rm.place in "ERWUQN" or self.rm.kind == "STi"

    @property
    def takes_memory(self) -> bool:
        if not self.modrm or self.fixed is not None or (self.rm is not None and self.rm.kind == "STi"):
            return False
        return self.rm is not None and self.rm.place in "EMWQ"

    @property
    def sizes(self) -> tuple[int, ...]:
        """The operand sizes for which handlers of their own exist (0: one handler for all)."""
        if any(o.kind in ("v", "z", "y", "rAX") for o in self.operands) or "sized" in self.attributes:
            return (2, 4, 8)
        return (0,)


def _operand(text: str) -> Operand:
    if text in FIXED:
        return Operand("=", text)
    if text[0] in PLACES and (text[1:] in TYPE_SIZES or text[1:] in ("", "v", "z", "y", "p", "a", "s", "pi", "pq")):
        return Operand(text[0], text[1:])
    raise ValueError(f"unknown operand {text}")


def _parse_line(topic: str, line: str) -> list[Row]:
    columns = [column.strip() for column in line.split("|")]
    if len(columns) != 4:
        raise ValueError(f"{topic}: four columns wanted: {line}")
    encoding, instruction, shape, attributes = columns
    tokens = encoding.split()
    prefix = ""
    if tokens[0] in ("NP", "NFx", "66", "F3", "F2") and len(tokens) > 1 and re.match(r"[0-9A-F]{2}", tokens[1]):
        prefix = tokens.pop(0)
    digit = fixed = None
    modrm = False
    spread = 1
    condition_row = False
    opcode_bytes = []
    for token in tokens:
        if match := re.fullmatch(r"([0-9A-F]{2})(\+r|\+cc)?", token):
            opcode_bytes.append(match[1])
            if match[2]:
                spread = 8 if match[2] == "+r" else 16
                condition_row = match[2] == "+cc"
        elif match := re.fullmatch(r"/([r0-7])", token):
            modrm = True
            digit = None if match[1] == "r" else int(match[1])
        elif match := re.fullmatch(r"=([0-9A-F]{2})", token):
            modrm = True
            fixed = int(match[1], 16)
        else:
            raise ValueError(f"{topic}: {token} in {line}")
    opcode = int(opcode_bytes.pop(), 16)
    opcode_map = MAPS[" ".join(opcode_bytes)]
    mnemonic, _, operand_text = instruction.partition(" ")
    operands = tuple(_operand(text.strip()) for text in operand_text.split(",") if text.strip())
    shape_words = shape.split()
    flags = {"r": "", "w": "", "u": "", "cpuid": ""}
    plain = set()
    for word in attributes.split():
        key, equals, value = word.partition("=")
        if equals and key in flags:
            flags[key] = value
        elif word in ("i64", "o64", "d64", "f64", "os16", "os32", "os64", "w0", "w1", "b0", "lock", "pe", "sized", "rep", "anymod"):
            plain.add(word)
        else:
            raise ValueError(f"{topic}: attribute {word} in {line}")
    return [Row(topic, opcode_map, opcode + step, prefix, digit, modrm, fixed, mnemonic, operands, shape_words[0],
                shape_words[1] if len(shape_words) > 1 else "", tuple(shape_words[2:]), frozenset(plain),
                flags["cpuid"], flags["r"], flags["w"], flags["u"], step if condition_row else None, line)
            for step in range(spread)]


def parse_table(topic: str, text: str) -> list[Row]:
    """The rows of one topic's TABLE; ValueError names a line that is wrong."""
    rows: list[Row] = []
    for line in text.splitlines():
        line = line.partition("#")[0].strip()
        if line:
            rows.extend(_parse_line(topic, line))
    return rows
