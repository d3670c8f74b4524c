# Random code: instructions made from the rows of the instruction table, raw bytes, and mutations of both.
from __future__ import annotations

import random

from emu.isa.generate import load_rows
from emu.isa.rows import MAPS, Row

ROWS = load_rows()
MAP_BYTES = {number: bytes.fromhex(text.replace(" ", "")) for text, number in MAPS.items()}
MANDATORY = {"66": b"\x66", "F3": b"\xf3", "F2": b"\xf2"}
NAMED = {"S": (0, 1, 2, 3, 4, 5), "C": (0, 2, 3, 4), "D": tuple(range(8))}     # segment, control and debug registers that there are
SEGMENT_PREFIXES = (0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)


class Encoder:
    """Encodes rows for code of `bits` (16, 32, 64), every choice taken from `rng`.

    absolute: None, or a function that gives an address: then memory operands are addressed without registers.
    odd: how often (0..1) prefixes are put before an instruction that it does not need."""

    def __init__(self, rng: random.Random, bits: int, absolute=None, odd: float = 0.1) -> None:
        self.rng, self.bits, self.absolute, self.odd = rng, bits, absolute, odd

    def instruction(self, row: Row) -> bytes:
        """One instruction of this row; legal where the row is (besides what odd prefixes do)."""
        rng, bits = self.rng, self.bits
        prefixes = bytearray()
        attributes = row.attributes
        small = rng.random() < 0.25                          # an operand size prefix
        if "os16" in attributes:
            small = bits != 16
        elif "os32" in attributes:
            small = bits == 16
        elif "os64" in attributes:
            small = False
        if row.prefix in ("NP", "66"):
            small = row.prefix == "66"
        if small:
            prefixes.append(0x66)
        if row.prefix in ("F2", "F3"):
            prefixes += MANDATORY[row.prefix]
        elif row.topic == "string" and rng.random() < 0.4:
            prefixes.append(rng.choice((0xF2, 0xF3)))
        short_address = rng.random() < self.odd and (self.absolute is None or bits == 64)
        if short_address:
            prefixes.append(0x67)
        if rng.random() < self.odd:
            prefixes.append(rng.choice(SEGMENT_PREFIXES if self.absolute is None else SEGMENT_PREFIXES[:4]))
        memory = row.takes_memory and (not row.takes_register or rng.random() < 0.5)
        if memory and "lock" in attributes and rng.random() < 0.2:
            prefixes.append(0xF0)
        elif rng.random() < self.odd / 50:
            prefixes.append(rng.choice((0xF0, 0xF2, 0xF3)))
        rng.shuffle(prefixes)
        rex = 0
        if bits == 64 and (rng.random() < 0.6 or "w1" in attributes):
            rex = 0x40 | rng.getrandbits(4)
            if "w1" in attributes or "os64" in attributes:
                rex |= 8
            elif "w0" in attributes or "os32" in attributes or "os16" in attributes:
                rex &= ~8
            if "b0" in attributes:
                rex &= ~1
            if any(operand.place in "SCD" for operand in row.operands):
                rex &= ~4
        if bits == 64:
            size = 8 if "f64" in attributes or rex & 8 else 2 if small and row.prefix != "66" else 8 if "d64" in attributes else 4
            address = 4 if short_address else 8
        else:
            size = 2 if (bits == 16) != (small and row.prefix != "66") else 4
            address = 2 if (bits == 16) != short_address else 4
        body = bytearray(prefixes)
        if rex:
            body.append(rex)
        body += MAP_BYTES[row.map]
        body.append(row.opcode)
        if row.modrm:
            if row.fixed is not None:
                body.append(row.fixed)
            else:
                reg = rng.getrandbits(3) if row.digit is None else row.digit
                for place, operand in enumerate(row.operands):
                    if operand.place in NAMED:
                        reg = rng.choice([number for number in NAMED[operand.place] if place or operand.place != "S" or number != 1])
                body += self.memory(reg, address) if memory else bytes((0xC0 | reg << 3 | rng.getrandbits(3),))
        for operand in row.operands:
            body += self.immediate(operand, size, address)
        return bytes(body)

    def memory(self, reg: int, address: int) -> bytes:
        """ModRM, SIB and displacement of a memory operand."""
        rng = self.rng
        if self.absolute is not None:
            place = self.absolute()
            if address == 2:
                return bytes((reg << 3 | 6,)) + (place & 0xFFFF).to_bytes(2, "little")
            if self.bits == 64:
                return bytes((reg << 3 | 4, 0x25)) + place.to_bytes(4, "little")
            return bytes((reg << 3 | 5,)) + place.to_bytes(4, "little")
        mod, rm = rng.randrange(3), rng.getrandbits(3)
        body = bytes((mod << 6 | reg << 3 | rm,))
        if address == 2:
            length = 2 if mod == 2 or (mod == 0 and rm == 6) else mod
        else:
            length = (0, 1, 4)[mod]
            if rm == 4:
                sib = rng.getrandbits(8)
                body += bytes((sib,))
                length = 4 if mod == 0 and sib & 7 == 5 else length
            elif rm == 5 and mod == 0:
                length = 4
        near = rng.choice((rng.getrandbits(7), rng.getrandbits(12), rng.getrandbits(31), -rng.getrandbits(12)))
        return body + (near & (1 << 8 * length) - 1).to_bytes(length, "little")

    def immediate(self, operand, size: int, address: int) -> bytes:
        rng = self.rng
        length = {"I": {"b": 1, "bs": 1, "w": 2, "d": 4, "z": min(size, 4), "v": size}, "J": {"b": 1, "z": min(size, 4)},
                  "A": {"p": size + 2}}.get(operand.place, {}).get(operand.kind, 0)
        if operand.place == "J" and self.bits == 64 and operand.kind == "z":
            length = 4 if size != 2 else 2
        if operand.place == "O":
            place = rng.getrandbits(16) if self.absolute is None else self.absolute()
            return (place & (1 << 8 * address) - 1).to_bytes(address, "little")
        if not length:
            return b""
        if operand.place == "J":
            return (rng.randrange(-64, 96) & (1 << 8 * length) - 1).to_bytes(length, "little")
        value = rng.choice((rng.getrandbits(8 * length), rng.getrandbits(4), 0, 1, -1, 1 << 8 * length - 1))
        return (value & (1 << 8 * length) - 1).to_bytes(length, "little")


def legal_rows(bits: int, protected: bool = True, unless=lambda row: False) -> list[Row]:
    """The rows that are an instruction in code of `bits`."""
    return [row for row in ROWS if not ("i64" in row.attributes and bits == 64 or "o64" in row.attributes and bits != 64
                                        or "os64" in row.attributes and bits != 64
                                        or "pe" in row.attributes and not protected or unless(row))]


def mutate(rng: random.Random, code: bytes) -> bytes:
    """The same bytes with a few changes: bits turned, bytes put in, taken out, or copied."""
    data = bytearray(code)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(4)
        if kind == 0 and data:
            data[at] ^= 1 << rng.getrandbits(3)
        elif kind == 1:
            data[at:at] = rng.randbytes(rng.randrange(1, 4))
        elif kind == 2:
            del data[at:at + rng.randrange(1, 4)]
        else:
            end = at + rng.randrange(1, 16)
            other = rng.randrange(len(data)) if data else 0
            data[other:other] = data[at:end]
    return bytes(data[:len(code)])


class Writer:
    """Writes random code; its instructions come from a stock, which is made once for each code size (making one is slow)."""

    def __init__(self, rng: random.Random, stock: int = 500) -> None:
        self.rng, self.stock = rng, stock
        self.instructions: dict[tuple[int, bool], list[bytes]] = {}

    def code(self, bits: int, protected: bool, length: int) -> bytes:
        """About `length` bytes: mostly instructions of the table, some raw bytes, some mutated."""
        rng = self.rng
        if (bits, protected) not in self.instructions:
            encoder, rows = Encoder(rng, bits), legal_rows(bits, protected)
            self.instructions[bits, protected] = [encoder.instruction(rng.choice(rows)) for _ in range(self.stock)]
        stock = self.instructions[bits, protected]
        body = bytearray()
        odd = rng.choice((0.0, 0.02, 0.2, 1.0))
        while len(body) < length:
            body += rng.randbytes(rng.randrange(1, 16)) if rng.random() < odd else rng.choice(stock)
        return mutate(rng, bytes(body)) if rng.random() < 0.2 else bytes(body)
