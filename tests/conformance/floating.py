# x87, MMX and SSE instructions over states that favour the edges: the host's processor and ours, compared in everything.
"""    python -m tests.conformance.floating [--cases N] [--seed S] [ROW ...]

N cases a row (100,000), in blocks of one encoding each; ROW: parts of the names of rows. All random numbers come of the seed. Not compared:
what RULES names. Instructions that read or write images of the unit's state, and those in other modes, are in images.py."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from emu.debug.native import differences, host_features, parts
from emu.debug.native.cases import DATA, new_cases
from emu.debug.native.guest import EmulatedCpu
from emu.isa.features import FEATURE_NUMBERS
from emu.isa.generate import load_rows
from emu.isa.rows import Row
from tests.conformance import operands, straight
from tests.conformance.operands import Pool

U64 = np.uint64
PATCH = 256                      # where the memory operand lies
BLOCK = 2048
TRANSCENDENTAL = ("f2xm1", "fyl2x", "fptan", "fpatan", "fyl2xp1", "fsincos", "fsin", "fcos")
APPROXIMATE = ("rcpps", "rcpss", "rsqrtps", "rsqrtss")
IMAGES = ("fldenv", "fnstenv", "frstor", "fnsave", "fxsave", "fxrstor", "xsave", "xsaveopt", "xsavec", "xrstor")
STATEFUL = ("clflush", "clwb", "clflushopt", "fldcw", "ldmxcsr")    # not in sequences: what they load from memory is seldom legal
# rows that are not run here, and why
LEFT_OUT = {**dict.fromkeys(TRANSCENDENTAL, "transcendentals.py: processors differ in the last bits"),
            **dict.fromkeys(APPROXIMATE, "transcendentals.py: processors differ"),
            **dict.fromkeys(IMAGES, "images.py")}


@dataclass
class Finding:
    """A case that differs. `code`, what differs (ours, host), and the case itself."""

    row: Row
    code: bytes
    lines: list[str]
    case: np.void


@dataclass
class Report:
    cases: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, row: Row, code: bytes, cases: np.ndarray, ours: np.ndarray, theirs: np.ndarray, different: np.ndarray) -> None:
        name = name_of(row)
        self.cases[name] = self.cases.get(name, 0) + len(cases)
        if different.any():
            if not self.wrong.get(name):
                first = int(np.flatnonzero(different)[0])
                self.findings.append(Finding(row, code, differences(ours[first], theirs[first]), cases[first]))
            self.wrong[name] = self.wrong.get(name, 0) + int(different.sum())


def name_of(row: Row) -> str:
    return row.source.split("|")[0].strip() + " | " + row.source.split("|")[1].strip()


def floating_rows() -> list[Row]:
    """The rows that are run here; beside other makers' processors than AMD's only those that touch nothing but SSE."""
    rows = [row for row in load_rows() if row.topic in ("x87", "sse") and row.mnemonic.split("/")[0] not in LEFT_OUT]
    if straight.AMD:
        return rows
    return [row for row in rows if row.topic == "sse" and not any(operand.place in "PQN" for operand in row.operands)]


# ---- encodings ------------------------------------------------------------------------------------------------------------
def encode(rng: np.random.Generator, row: Row, memory: bool, turn: int) -> tuple[bytes, int, int]:
    """(code, ModRM.reg, ModRM.rm) of a row. The memory operand is [rbx]; `turn` walks through all immediates."""
    register, rm = int(rng.integers(0, 8)), int(rng.integers(0, 8))
    if rng.random() < 0.1:
        rm = register
    general = [operand.place in "GER" for operand in row.operands]
    if any(general):                         # neither rsp nor the addresses, rbx and rdi
        register, rm = (place if place not in (3, 4, 7) else 6 for place in (register, rm))
    if row.digit is not None:
        register = row.digit
    extension = 0x48 if "w1" in row.attributes else 0
    wide = row.topic == "sse" and not any(operand.place in "PQN" for operand in row.operands) and row.mnemonic != "maskmovdqu"
    if wide and rng.random() < 0.2:          # xmm8 to xmm15, r8 to r15
        extension |= 0x44 if row.digit is None else 0x40
        extension |= 0 if memory else 1
    if memory:
        tail = bytes([register << 3 | 3])
        rm = 3
    elif row.fixed is not None:
        tail = bytes([row.fixed])
        rm = row.fixed & 7
    elif row.modrm:
        tail = bytes([0xC0 | register << 3 | rm])
    else:
        tail = b""
    if any(operand.place == "I" for operand in row.operands):
        tail += bytes([turn & 255])
    code = {"66": b"\x66", "F3": b"\xF3", "F2": b"\xF2"}.get(row.prefix, b"") + (bytes([extension]) if extension else b"")
    code += (b"", b"\x0F", b"\x0F\x38", b"\x0F\x3A")[row.map] + bytes([row.opcode]) + tail
    return code, register + (8 if extension & 4 else 0), rm + (8 if extension & 1 else 0)


# ---- states ---------------------------------------------------------------------------------------------------------------
def put(fx: np.ndarray, at: int, values: np.ndarray) -> None:
    size = values.dtype.itemsize
    fx[:, at:at + size] = np.ascontiguousarray(values).reshape(-1, 1).view(np.uint8)


def put_x87(rng: np.random.Generator, fx: np.ndarray, waiting: float) -> None:
    """Control, status and tags: all modes, sticky flags, empty registers; `waiting`: the share with an exception that waits."""
    count = len(fx)
    masks = np.where(rng.integers(0, 3, count) > 0, 0x3F, rng.integers(0, 64, count))
    precision = rng.choice(np.array([3, 3, 3, 2, 2, 0, 0, 1]), count)
    control = masks | 0x40 | rng.integers(0, 4, count) << 10 | precision << 8 | (rng.integers(0, 8, count) == 0) << 12
    flags = np.where(rng.integers(0, 2, count) == 0, rng.integers(0, 128, count), 0)
    flags = np.where(rng.random(count) < waiting, flags, flags & (masks | 0x40))
    status = flags | rng.integers(0, 8, count) << 11 | rng.choice(np.array([0, 0x4700, 0x200, 0x4500, 0x400]), count)
    status |= np.where(flags & ~masks & 0x3F, 0x8080, 0)
    tags = np.where(rng.integers(0, 5, count) > 0, 0xFF, rng.integers(0, 256, count))
    put(fx, 0, control.astype(np.uint16))
    put(fx, 2, status.astype(np.uint16))
    put(fx, 4, tags.astype(np.uint16))


def put_mxcsr(rng: np.random.Generator, fx: np.ndarray) -> None:
    count = len(fx)
    masks = np.where(rng.integers(0, 4, count) > 0, 0x3F, rng.integers(0, 64, count)) << 7
    modes = rng.integers(0, 4, count) << 13 | np.where(rng.integers(0, 4, count) == 0, 0x40, 0)
    modes |= np.where(rng.integers(0, 4, count) == 0, 0x8000, 0) | np.where(rng.integers(0, 2, count) == 0, rng.integers(0, 64, count), 0)
    put(fx, 24, (masks | modes).astype(np.uint32))


def lanes(pair: tuple[np.ndarray, np.ndarray], count: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays (count, 16) uint8 of lanes of `size` bytes."""
    a, b = (values.astype(f"<u{size}").view(np.uint8).reshape(count, 16) for values in pair)
    return a, b


def vector_pair(pool: Pool, count: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Destination and source of a vector instruction. kind: f32, f64, integers, whole32 and whole64 (numbers beside integers), text."""
    rng = pool.rng
    if kind in ("f32", "f64"):
        size = 4 if kind == "f32" else 8
        return lanes(pool.take(kind, count * 16 // size), count, size)
    if kind == "text":                       # few letters, zeros among them, so that strings meet
        letters = np.array([0, 1, 0x41, 0x42, 0x7F, 0x80, 0xFF], np.uint8)
        a, b = rng.choice(letters, (count, 16)), rng.choice(letters, (count, 16))
        some = (rng.integers(0, 3, count) == 0)[:, None]
        b = np.where(some, np.where(rng.integers(0, 6, (count, 16)) == 0, b, np.roll(a, 1, axis=1)), b)
        plain = rng.integers(1, 256, (count, 16)).astype(np.uint8)
        return np.where((rng.integers(0, 4, count) == 0)[:, None], plain, a), b
    if kind in ("whole32", "whole64"):
        form = operands.F32 if kind == "whole32" else operands.F64
        size = 4 if kind == "whole32" else 8
        numbers = [operands.narrow(*pool.take("halves", count * 16 // size), form) for _ in range(2)]
        edges = pool.take("f32" if size == 4 else "f64", count * 16 // size)
        some = rng.integers(0, 4, count * 16 // size) == 0
        return lanes((np.where(some, edges[0], numbers[0]), np.where(some, edges[1], numbers[1])), count, size)
    a, b = (pool.take("integers", 2 * count)[0].view(np.uint8).reshape(count, 16) for _ in range(2))
    bytes_ = rng.choice(np.array([0, 1, 0x7F, 0x80, 0x81, 0xFF, 0x40], np.uint8), (count, 16))
    a = np.where((rng.integers(0, 3, count) == 0)[:, None], bytes_, a)
    b = np.where((rng.integers(0, 4, count) == 0)[:, None], np.roll(bytes_, 3, axis=1), b)
    small = np.zeros((count, 16), np.uint8)
    small[:, 0] = rng.integers(0, 70, count)             # counts of shifts, control of shuffles
    b = np.where((rng.integers(0, 6, count) == 0)[:, None], small, b)
    return a, np.where((rng.integers(0, 8, count) == 0)[:, None], a, b)


def kind_of(row: Row) -> str:
    """What the lanes of a vector instruction hold."""
    name = row.mnemonic
    if name.startswith("pcmp") and "str" in name:
        return "text"
    if name.startswith("cvt"):
        source = name.split("2")[0].removeprefix("cvtt").removeprefix("cvt")
        if source in ("ps", "ss"):
            return "f32" if "2pd" in name or "2sd" in name else "whole32"
        return ("f64" if name.endswith(("2ps", "2ss")) else "whole64") if source in ("pd", "sd") else "integers"
    if name.startswith("round"):
        return "whole32" if name.endswith("s") and name[-2] in "ps" and name.endswith(("ps", "ss")) else "whole64"
    if row.shape in ("float", "compare") or name in ("dpps", "dppd"):
        return "f64" if name.endswith(("pd", "sd")) else "f32"
    return "integers"


def vector_block(pool: Pool, row: Row, count: int, memory: bool, turn: int) -> tuple[np.ndarray, bytes]:
    rng = pool.rng
    code, register, rm = encode(rng, row, memory, turn)
    cases = new_cases(count, 64)
    fx = cases["fx"]
    fx[:, 160:416] = operands.random_u64(rng, 32 * count).view(np.uint8).reshape(count, 256)
    put_mxcsr(rng, fx)
    mmx = any(operand.place in "PQN" for operand in row.operands) or row.mnemonic == "emms"
    put_x87(rng, fx, 0.05 if mmx else 0)
    a, b = vector_pair(pool, count, kind_of(row))
    for place in range(8):
        put(fx, 32 + 16 * place, operands.random_u64(rng, count))
        put(fx, 40 + 16 * place, rng.integers(0, 1 << 16, count).astype(np.uint16))
    cases["regs"] = pool.take("integers", 16 * count)[0].reshape(count, 16)
    cases["rflags"] |= rng.integers(0, 1 << 12, count).astype(U64) & U64(0x8D5)
    if row.mnemonic.startswith("pcmpe"):     # lengths
        for place in (0, 2):
            short = rng.integers(-20, 21, count)
            cases["regs"][:, place] = np.where(rng.integers(0, 8, count) > 0, short.astype(U64), cases["regs"][:, place])
    store = row.operands and row.operands[0].place in "EWQM" and row.shape == "forms"
    destination, source = (rm, register) if store else (register, rm)
    if mmx and row.operands and row.operands[0].place in "PQN" and not memory:
        top = fx[:, 3].astype(int) >> 3 & 7              # MMi is a physical register, the image begins with ST0
        for number, values in ((destination, a), (source, b)):
            for place in range(8):
                here = (number - top & 7) == place
                fx[here, 32 + 16 * place:40 + 16 * place] = values[here, :8]
    elif mmx:
        for place in range(8):
            fx[:, 32 + 16 * place:40 + 16 * place] = a[:, :8]
    fx[:, 160 + 16 * destination:176 + 16 * destination] = a
    fx[:, 160 + 16 * source:176 + 16 * source] = b
    place_operand(rng, cases, b, 15 / 16)
    if row.mnemonic.startswith("maskmov"):
        cases["regs"][:, 7] = U64(DATA + PATCH) + rng.integers(0, 16, count).astype(U64)
    if row.mnemonic == "ldmxcsr":
        values = rng.integers(0, 1 << 16, count) | np.where(rng.integers(0, 4, count) == 0, 1 << rng.integers(18, 32, count), 0)
        cases["patch"][:, :4] = values.astype(np.uint32).reshape(-1, 1).view(np.uint8)
    return cases, code


def place_operand(rng: np.random.Generator, cases: np.ndarray, values: np.ndarray, aligned: float) -> None:
    """rbx points to `values` in memory."""
    count = len(cases)
    shift = np.where(rng.random(count) < aligned, 0, rng.integers(0, 16, count))
    cases["patch_at"] = PATCH + shift
    cases["patch_length"] = 64
    cases["patch"] = operands.random_u64(rng, 8 * count).view(np.uint8).reshape(count, 64)
    cases["patch"][:, :values.shape[1]] = values
    cases["regs"][:, 3] = U64(DATA + PATCH) + shift.astype(U64)


def x87_pair(pool: Pool, count: int, row: Row) -> tuple[np.ndarray, ...]:
    """(significand, word) of ST0 and of the other operand."""
    rng, name = pool.rng, row.mnemonic
    one, word_one, two, word_two = pool.take("f80", count)
    if name.startswith(("fist", "frndint", "fbst", "fst", "fisttp")):
        near, word_near = pool.take("halves", count)
        some = rng.integers(0, 2, count) == 0
        one, word_one = np.where(some, near, one), np.where(some, word_near, word_one)
    elif name == "fscale":
        near, word_near = pool.take("halves", count)
        shift = np.where(rng.integers(0, 2, count) == 0, rng.integers(-3, 18, count), 14)
        word_near = (word_near & 0x8000) | (16383 + shift).astype(np.uint16)
        some = rng.integers(0, 4, count) > 0
        two, word_two = np.where(some, near, two), np.where(some, word_near, word_two)
    elif name.startswith("fprem"):
        gap = np.where(rng.integers(0, 3, count) > 0, rng.integers(-3, 68, count), rng.integers(-3, 3000, count))
        lower = np.clip((word_one & 0x7FFF).astype(int) - gap, 0, 0x7FFE)
        some = rng.integers(0, 4, count) > 0
        word_two = np.where(some, (word_two & 0x8000) | lower, word_two).astype(np.uint16)
        two = np.where(some, two | U64(1 << 63), two)
    return one, word_one, two, word_two


def x87_memory(pool: Pool, count: int, row: Row, one: np.ndarray, word: np.ndarray, two: np.ndarray, word_two: np.ndarray) -> np.ndarray:
    """(count, n) bytes: the memory operand, often near ST0 (which is changed to stand in a relation to it)."""
    rng = pool.rng
    kind = row.args[0] if row.shape == "fp_take" else row.function
    name = row.mnemonic
    if name == "fbld":
        return operands.decimals(rng, count)
    if name.startswith("fi"):
        return pool.take("integers", count)[0].view(np.uint8).reshape(count, 8)
    if kind.endswith(("f32", "f64")):
        form = operands.F32 if kind.endswith("f32") else operands.F64
        a, b = pool.take(kind[-3:], count)
        some = rng.integers(0, 2, count) == 0
        exponent = (a >> U64(form[1])) & U64((1 << form[0]) - 1)
        wide = (exponent.astype(np.int64) - (1 << form[0] - 1) + 1 + 16383).astype(U64)
        usable = some & (exponent != 0) & (exponent != (1 << form[0]) - 1)
        one[:] = np.where(usable, U64(1 << 63) | (a << U64(63 - form[1])) & U64((1 << 63) - 1), one)
        word[:] = np.where(usable, (a >> U64(sum(form))) << U64(15) | wide, word.astype(U64)).astype(np.uint16)
        return b.astype("<u4" if form is operands.F32 else "<u8").view(np.uint8).reshape(count, -1)
    if name == "fldcw":
        return rng.integers(0, 1 << 16, count).astype("<u2").view(np.uint8).reshape(count, 2)
    out = np.zeros((count, 10), np.uint8)
    out[:, :8] = two.reshape(-1, 1).view(np.uint8)
    out[:, 8:] = word_two.reshape(-1, 1).view(np.uint8)
    return out


def x87_block(pool: Pool, row: Row, count: int, memory: bool, turn: int) -> tuple[np.ndarray, bytes]:
    rng = pool.rng
    code, _, rm = encode(rng, row, memory, turn)
    cases = new_cases(count, 64)
    fx = cases["fx"]
    put_x87(rng, fx, 0.03)
    if row.mnemonic in ("fld", "fild", "fbld", "fxtract") or row.function == "x87_load_constant" or "load_constant" in row.source:
        top = fx[:, 3].astype(int) >> 3 & 7
        room = rng.integers(0, 5, count) > 0
        fx[:, 4] = np.where(room, fx[:, 4] & ~(1 << (top - 1 & 7)), fx[:, 4])
    cases["regs"] = pool.take("integers", 16 * count)[0].reshape(count, 16)
    cases["rflags"] |= rng.integers(0, 1 << 12, count).astype(U64) & U64(0x8D5)
    one, word_one, two, word_two = x87_pair(pool, count, row)
    stored = x87_memory(pool, count, row, one, word_one, two, word_two) if memory else np.zeros((count, 1), np.uint8)
    significand, word, *_ = pool.take("f80", 8 * count)
    for place in range(8):
        put(fx, 32 + 16 * place, significand[place::8])
        put(fx, 40 + 16 * place, word[place::8])
    other = rm if row.fixed is None and not memory else 1
    for place, significand, word in ((other, two, word_two), (0, one, word_one)):
        put(fx, 32 + 16 * place, significand)
        put(fx, 40 + 16 * place, word)
    if rng.random() < 0.5:
        fx[:, 32:160] = fx[rng.permutation(count), 32:160]
    place_operand(rng, cases, stored, 0.5)
    return cases, code


def blocks(pool: Pool, row: Row, count: int) -> Iterator[tuple[np.ndarray, bytes]]:
    """Cases of `row`, `count` in all, one encoding after the other."""
    make = x87_block if row.topic == "x87" else vector_block
    immediate = any(operand.place == "I" for operand in row.operands)
    size = max(16, min(BLOCK, count // 64)) if immediate else max(32, min(BLOCK, count // 8))
    turn = int(pool.rng.integers(0, 256))
    while count > 0:
        memory = row.takes_memory and (not row.takes_register or turn & 1 == 1)
        yield make(pool, row, min(size, count), memory, turn if not immediate else turn * 37 + (turn >> 8))
        turn += 1
        count -= size


# ---- the comparison ---------------------------------------------------------------------------------------------------------
class Floating:
    """Both processors. seed: of all that is random."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.features = host_features()
        self.guest = EmulatedCpu(self.features)
        self.template = np.random.default_rng(seed).integers(0, 256, 8192).astype(np.uint8)
        self.pool = Pool(np.random.default_rng(seed))
        self.report = Report()
        self.sequences = 0

    def can_run(self, row: Row) -> bool:
        return not row.cpuid or FEATURE_NUMBERS[row.cpuid] in self.features

    def run(self, row: Row, count: int) -> None:
        for cases, code in blocks(self.pool, row, count):
            theirs = straight.run(cases, code, self.template)
            ours = self.emulate(cases, code)
            found = parts(ours, theirs)
            different = np.zeros(len(cases), bool)
            for name in found:
                different |= found[name]
            self.report.add(row, code, cases, ours, theirs, different)

    def run_sequence(self, rows: list[Row], length: int, count: int) -> list[str]:
        """`length` instructions one after the other, the same for `count` states; what differs, if anything."""
        rng = self.pool.rng
        code, last = b"", rows[0]
        for _ in range(length):
            last = rows[int(rng.integers(0, len(rows)))]
            memory = last.takes_memory and (not last.takes_register or rng.random() < 0.5)
            code += encode(rng, last, memory, int(rng.integers(0, 256)))[0]
        cases, _ = x87_block(self.pool, next(row for row in rows if row.mnemonic == "fadd"), count, True, 0)
        cases["regs"][:, 3] = DATA + PATCH
        cases["patch_at"] = PATCH
        cases["regs"][:, 7] = DATA + PATCH + 16
        for place in range(8):
            a, b = self.pool.take("f32" if place & 1 else "f64", 2 * count)
            put(cases["fx"], 160 + 32 * place, a[:count])
            put(cases["fx"], 168 + 32 * place, a[count:])
            put(cases["fx"], 176 + 32 * place, b[:count])
            put(cases["fx"], 184 + 32 * place, b[count:])
        put_mxcsr(rng, cases["fx"])
        cases["steps"] = length
        theirs = straight.run(cases, code, self.template)
        ours = self.emulate(cases, code)
        theirs["steps"] = ours["steps"]
        different = np.zeros(count, bool)
        for found in parts(ours, theirs).values():
            different |= found
        self.sequences += count
        return [f"{code.hex()}: " + "; ".join(differences(ours[k], theirs[k])) for k in np.flatnonzero(different)[:1]]

    def emulate(self, cases: np.ndarray, code: bytes) -> np.ndarray:
        codes = np.tile(np.frombuffer(code, np.uint8), (len(cases), 1))
        cases["code_length"] = len(code)
        return self.guest.run(cases, codes, self.template, traced=False)


def describe(finding: Finding) -> str:
    """One disagreement, with what is needed to see it again."""
    fx = finding.case["fx"]
    words = [f"{name_of(finding.row)}: {finding.code.hex()}", *(f"    {line}" for line in finding.lines)]
    control, status, tags = (int.from_bytes(bytes(fx[at:at + 2]), "little") for at in (0, 2, 4))
    words.append(f"    before: fcw {control:04x} fsw {status:04x} ftw {tags:02x} mxcsr {int.from_bytes(bytes(fx[24:28]), 'little'):04x}"
                 f" memory {bytes(finding.case['patch'][:16][::-1]).hex()}")
    if finding.row.topic == "x87":
        words.append("    " + " ".join(bytes(fx[32 + 16 * k:42 + 16 * k][::-1]).hex() for k in range(8)))
    else:
        words.append("    " + " ".join(bytes(fx[160 + 16 * k:176 + 16 * k][::-1]).hex() for k in range(8)))
    return "\n".join(words)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.floating", description=__doc__.splitlines()[2])
    parser.add_argument("--cases", type=int, default=100_000, help="for each row")
    parser.add_argument("--seed", type=int, default=int(np.random.SeedSequence().entropy or 0) % (1 << 32))
    parser.add_argument("rows", nargs="*", help="parts of the names of rows; none: all")
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    floating = Floating(given.seed)
    rows = [row for row in floating_rows() if floating.can_run(row)]
    rows = [row for row in rows if not given.rows or any(word in name_of(row) for word in given.rows)]
    for row in rows:
        floating.run(row, given.cases)
    mixed = [row for row in rows if row.mnemonic not in STATEFUL]
    lines = [line for _ in range(given.cases // 1000) if straight.AMD and not given.rows
             for line in floating.run_sequence(mixed, 20, 1000)]
    print("\n".join(lines[:5]), f"{floating.sequences} sequences of 20 instructions, disagreements in {len(lines)} codes", sep="\n")
    report = floating.report
    for finding in report.findings:
        print(describe(finding))
    for name, wrong in report.wrong.items():
        print(f"{wrong:8} of {report.cases[name]:9} {name}")
    print(f"rows {len(rows)}, cases {sum(report.cases.values())}, disagreements {sum(report.wrong.values())}")
    return 1 if report.wrong or lines else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
