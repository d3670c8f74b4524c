# From a row of the instruction table to bytes: every operand form, in every mode, with prefixes that leave it what it is.
"""`forms` lists the operand forms of a row in a mode; `encode` makes one instruction of a form, and says where its memory operand gets
its address from, so that a state can be made in which it lies where it is wanted."""
from __future__ import annotations

import random
from dataclasses import dataclass

from emu.isa.rows import Row

SEGMENT_PREFIXES = (0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)
DEFAULT_SIZE = {64: 4, 32: 4, 16: 2}
IMMEDIATE_EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
BASES_16 = ((3, 6), (3, 7), (5, 6), (5, 7), (6, None), (7, None), (5, None), (3, None))


@dataclass(frozen=True)
class Form:
    """An operand form: memory or register, and the operand size where the row has handlers by size (else 0)."""

    memory: bool
    opsize: int


@dataclass
class Encoded:
    """code; where the memory operand is (None: none): base and index (register numbers or None), scale, displacement, address size,
    segment (0..5); fixed: its address is in the code already; immediate: as unsigned bytes."""

    code: bytes
    memory: bool = False
    base: int | None = None
    index: int | None = None
    scale: int = 1
    displacement: int = 0
    address_size: int = 8
    segment: int = 3
    fixed: bool = False
    repeats: bool = False
    immediate: bytes = b""


def forms(row: Row, mode: int) -> list[Form]:
    """The operand forms of a row that are legal in a mode (64, 32, 16)."""
    words = row.attributes
    if mode == 64 and "i64" in words or mode != 64 and "o64" in words:
        return []
    default = DEFAULT_SIZE[mode]
    if mode == 64 and ("d64" in words or "f64" in words):
        default = 8
    sizes = {default}
    if row.prefix not in ("NP", "66") and "f64" not in words:
        sizes.add(2 if default != 2 else 4)
    if mode == 64:
        sizes.add(8)
    for name, size in (("os16", 2), ("os32", 4), ("os64", 8)):
        if name in words:
            sizes &= {size}
    if "w1" in words:
        sizes &= {8}
    if "w0" in words:
        sizes -= {8}
    if not sizes:
        return []
    if row.sizes == (0,):
        sizes = {0}
    places = [memory for memory in (False, True) if (row.takes_memory if memory else row.takes_register)]
    return [Form(memory, size) for memory in places for size in sorted(sizes)]


def _number(rng: random.Random, size: int) -> bytes:
    """An immediate of `size` bytes."""
    value = rng.choice(IMMEDIATE_EDGES) if rng.random() < 0.5 else rng.getrandbits(8 * size)
    if rng.random() < 0.2:
        value = -value
    return (value & (1 << 8 * size) - 1).to_bytes(size, "little")


def _address(rng: random.Random, mode: int, out: Encoded, target: int) -> tuple[int, int, bytes]:
    """(mod, rm, SIB and displacement) of a random memory operand; the rest goes to `out`. target: an offset for those without base."""
    mod = rng.choice((0, 0, 1, 1, 2))
    if out.address_size == 2:
        rm = rng.randrange(8)
        base, index = BASES_16[rm]
        size = mod
        if mod == 0 and rm == 6:
            base, size = None, 2
        out.base, out.index = base, index
        default = 2 if base == 5 else 3
        tail = b""
    else:
        rm = rng.randrange(8)
        size = (0, 1, 4)[mod]
        tail = b""
        if rm == 4:
            index, base = rng.randrange(16 if mode == 64 else 8), rng.randrange(16 if mode == 64 else 8)
            scale = rng.randrange(4)
            out.base = base
            out.index = None if index == 4 else index
            out.scale = 1 << scale
            if base & 7 == 5 and mod == 0:
                out.base, size = None, 4
            if out.index is not None and out.index == out.base:
                return _address(rng, mode, out, target)
            tail = bytes([scale << 6 | (index & 7) << 3 | base & 7])
            default = 2 if out.base in (4, 5) else 3
            rm |= (index & 8) << 2 | (base & 8) << 1            # bits 5 and 4: REX.X and REX.B
        elif rm == 5 and mod == 0:
            out.base, size, default = None, 4, 3
            out.index = None
            if mode == 64:
                out.base = 16                                   # RIP
        else:
            if mode == 64 and rng.random() < 0.5:
                rm |= 16
            out.base, out.index = rm & 7 | (rm & 16) >> 1, None
            default = 2 if out.base in (4, 5) else 3
    if out.segment < 0:
        out.segment = default
    if size == 1:
        out.displacement = rng.choice((0, 1, -1, 127, -128, rng.randrange(-128, 128)))
    elif size:
        limit = 1 << 8 * size - 1
        out.displacement = rng.choice((0, 1, -1, limit - 1, -limit, rng.randrange(-limit, limit), rng.randrange(-256, 256)))
    if out.base is None and out.index is None or out.base == 16:
        out.displacement = target
        out.fixed = True
    return mod, rm, tail + (out.displacement & (1 << 8 * size) - 1).to_bytes(size, "little") if size else tail


def encode(rng: random.Random, row: Row, mode: int, form: Form, target: int, at: int = 0) -> Encoded:
    """A random instruction. target: linear address of the memory operand where the code itself holds it, and `at` that of the code
    (both as offsets in their segments, for RIP-relative and absolute operands)."""
    words = row.attributes
    out = Encoded(b"", memory=form.memory, address_size={64: 8, 32: 4, 16: 2}[mode])
    default = 8 if mode == 64 and ("d64" in words or "f64" in words) else DEFAULT_SIZE[mode]
    opsize = form.opsize
    wide = narrow = False
    if opsize == 0:
        if "w1" in words:
            wide = True
        elif mode == 64 and "w0" not in words and not words & {"os16", "os32"} and rng.random() < 0.2:
            wide = True
        if words & {"os16", "os32", "os64"}:
            opsize = 2 if "os16" in words else 4 if "os32" in words else 8
    if opsize and opsize != default:
        wide, narrow = opsize == 8, opsize == (4 if mode == 16 else 2)
    elif opsize == 8 and mode == 64 and "f64" not in words and rng.random() < 0.3:
        wide = True
    elif form.opsize == 0 and row.prefix in ("", "NFx", "F2", "F3") and not wide and not opsize and rng.random() < 0.1:
        narrow = True                                           # 66 without effect
    if "w0" in words:
        wide = False
    # --- prefixes
    prefixes = []
    if narrow:
        prefixes.append(0x66)
    if rng.random() < 0.08:
        prefixes.append(0x67)
        out.address_size = {64: 4, 32: 2, 16: 4}[mode]
    out.segment = -1
    if rng.random() < 0.12:
        prefix = rng.choice(SEGMENT_PREFIXES)
        prefixes.append(prefix)
        if prefix >= 0x64 or mode != 64:
            out.segment = prefix & 7 if prefix >= 0x64 else prefix >> 3 & 3
        if mode == 64 and rng.random() < 0.3:
            prefixes.insert(0, rng.choice((0x26, 0x2E, 0x36, 0x3E)))
    if "lock" in words and form.memory and rng.random() < 0.2:
        prefixes.append(0xF0)
    if "rep" in words and rng.random() < 0.5:
        prefixes.append(rng.choice((0xF2, 0xF3)))
        out.repeats = True
    rng.shuffle(prefixes)
    if row.prefix in ("66", "F3", "F2"):
        prefixes.insert(rng.randrange(len(prefixes) + 1), int(row.prefix, 16))
    if prefixes and rng.random() < 0.05:
        prefixes.insert(0, prefixes[-1])                        # twice the same
    # --- ModRM
    count = 16 if mode == 64 else 8
    rex = 8 if wide else 0
    tail = b""
    opcode = row.opcode
    if row.modrm:
        if row.fixed is not None:
            tail = bytes([row.fixed])
        else:
            reg = row.digit if row.digit is not None else rng.randrange(count)
            for operand in row.operands:
                if operand.place == "S":
                    reg = rng.choice((0, 2, 3, 4, 5) if operand is row.operands[0] else range(6))
                elif operand.place == "C":
                    reg = rng.choice((0, 2, 3, 4, 8) if mode == 64 else (0, 2, 3, 4))
                elif operand.place == "D":
                    reg = rng.randrange(8)
            if form.memory:
                mod, rm, more = _address(rng, mode, out, target)
                rex |= (rm & 32) >> 4 | (rm & 16) >> 4
            else:
                mod, rm, more = 3, rng.randrange(count), b""
                rex |= rm >> 3
                if "anymod" in words and rng.random() < 0.3:
                    mod = rng.randrange(4)
            rex |= (reg & 8) >> 1
            tail = bytes([mod << 6 | (reg & 7) << 3 | rm & 7]) + more
    elif any(operand.place == "Z" for operand in row.operands) and mode == 64 and "b0" not in words and rng.random() < 0.5:
        rex |= 1
    if out.segment < 0:
        out.segment = 3
    if mode == 64 and not rex and rng.random() < 0.15:
        rex = 0x40
    if "b0" in words:
        rex &= ~1
    # --- immediates
    size = opsize or default
    immediate = b""
    for operand in row.operands:
        kind = operand.place + operand.kind
        if kind in ("Ib", "Ibs", "Jb"):
            immediate += _number(rng, 1)
        elif kind == "Iw":
            immediate += _number(rng, 2)
        elif kind == "Id":
            immediate += _number(rng, 4)
        elif kind in ("Iz", "Jz"):
            immediate += _number(rng, 2 if size == 2 else 4)
        elif kind == "Iv":
            immediate += _number(rng, size)
        elif operand.place == "O":
            immediate += (target & (1 << 8 * out.address_size) - 1).to_bytes(out.address_size, "little")
            out.fixed = out.memory = True
        elif operand.place == "A":
            immediate += _number(rng, 2 if size == 2 else 4) + _number(rng, 2)
    out.immediate = immediate
    head = bytes(prefixes) + (bytes([0x40 | rex]) if rex else b"")
    head += {0: b"", 1: b"\x0F", 2: b"\x0F\x38", 3: b"\x0F\x3A"}[row.map] + bytes([opcode])
    out.code = head + tail + immediate
    if out.base == 16:
        displacement = target - at - len(out.code) & 0xFFFFFFFF
        out.code = head + tail[:-4] + displacement.to_bytes(4, "little") + immediate
    return out
