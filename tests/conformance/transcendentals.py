# The transcendental instructions against exact values, their flags against the host; RCP* and RSQRT* against their bound.
"""    python -m tests.conformance.transcendentals [--cases N] [--seed S]

N arguments an instruction (20,000), spread over the four rounding modes. A result must be the exact value rounded once (so it is within
half a unit in the last place, one with directed rounding), with C1 to match."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from emu.debug.native import host_features
from emu.debug.native.cases import new_cases
from emu.debug.native.guest import EmulatedCpu
from tests.conformance import exact, operands, straight
from tests.conformance.exact import Number
from tests.conformance.floating import put, put_x87

U64 = np.uint64
ONE = 0x3FFF
CODES = {"f2xm1": 0xF0, "fyl2x": 0xF1, "fptan": 0xF2, "fpatan": 0xF3, "fyl2xp1": 0xF9, "fsincos": 0xFB, "fsin": 0xFE, "fcos": 0xFF}
# The true values, of ST0 and ST1: those of the registers that are ST1 (where there are two) and ST0 afterwards.
VALUES: dict[str, Callable[[Number, Number], tuple[Number, ...]]] = {
    "f2xm1": lambda a, b: (exact.power_minus_one(a),), "fyl2x": lambda a, b: (exact.times(exact.logarithm(a), b),),
    "fptan": lambda a, b: (exact.tangent(a),), "fpatan": lambda a, b: (exact.arctangent(b, a),),
    "fyl2xp1": lambda a, b: (exact.times(exact.logarithm_plus_one(a), b),), "fsincos": lambda a, b: (exact.sine(a), exact.cosine(a)),
    "fsin": lambda a, b: (exact.sine(a),), "fcos": lambda a, b: (exact.cosine(a),)}
RESULTS = {"fptan": (1,), "fsincos": (1, 0)}                  # where they are; else ST0
FAR = 16445                                                   # exponents go down to it, denormals included


# ---- arguments --------------------------------------------------------------------------------------------------------------
@cache
def near_quarters() -> tuple[tuple[int, int], ...]:
    """(significand, exponent) of f80 numbers that lie nearest to multiples of pi/2: convergents of 2^(e-63) / (pi/2)."""
    found = []
    for exponent in range(63):
        top, bottom = 1 << 600 + exponent - 63 + 1, exact.pi(600)
        before, now = 0, 1                   # denominators
        before, now = 1, 0
        while bottom and now < 1 << 64:
            quotient = top // bottom
            top, bottom = bottom, top % bottom
            before, now = now, quotient * now + before
            if 0 < now < 1 << 64:
                scale = (1 << 64) - 1 >> now.bit_length()
                found.append((now * max(scale.bit_length() and 1 << 64 - now.bit_length(), 1), exponent))
    return tuple((m, e) for m, e in found if m >> 63 == 1)


def spread(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    """A significand and an exponent from `low` to `high`; below the normal range it is a denormal."""
    exponent = int(rng.integers(low, high + 1))
    significand = int(operands.fractions(rng, 1, 63)[0]) | 1 << 63
    if exponent < -16382:
        significand >>= min(-16382 - exponent, 63)
        exponent = -16383
    return significand, exponent + 16383


def angle(rng: np.random.Generator) -> tuple[int, int]:
    kind = int(rng.integers(0, 6))
    if kind == 0:
        significand, exponent = near_quarters()[int(rng.integers(0, len(near_quarters())))]
        return min(max(significand + int(rng.integers(-1, 2)), 1 << 63), (1 << 64) - 1), exponent + 16383
    if kind == 1:                            # the number next to a multiple of pi/2
        multiple = int(rng.integers(1, 1 << int(rng.integers(1, 62))))
        value = multiple * exact.pi(200)
        shift = value.bit_length() - 64
        return min((value >> shift) + int(rng.integers(-1, 3)), (1 << 64) - 1), shift - 201 + 63 + 16383
    return spread(rng, *((-FAR, 62), (-4, 4), (-40, 62), (-70, 0))[kind - 2])


def arguments(rng: np.random.Generator, name: str) -> tuple[int, int, int, int]:
    """(significand, word) of ST0 and of ST1: finite, not zero, inside what the manual allows."""
    a, b = (0, 0), spread(rng, -FAR, 16383)
    negative = int(rng.integers(0, 2)) << 15
    if name == "f2xm1":
        a = spread(rng, *((-FAR, -1), (-70, -1), (-3, -1))[int(rng.integers(0, 3))])
    elif name in ("fyl2x", "fyl2xp1"):
        kind = int(rng.integers(0, 4))
        if rng.random() < 0.8:
            b = spread(rng, -80, 80)
        if name == "fyl2x":
            negative = 0
            a = spread(rng, -FAR, 16383) if kind == 0 else spread(rng, -2, 2)
            if kind == 2:                    # about 1
                away = int(rng.integers(1, 1 << int(rng.integers(1, 62))))
                a = ((1 << 63) + away, ONE) if rng.random() < 0.5 else ((1 << 64) - away, ONE - 1)
            elif kind == 3:
                a = 1 << 63, int(rng.integers(1, 0x7FFF))
        else:
            a = spread(rng, *((-FAR, -3), (-70, -3), (-4, -2), (-64, -60))[kind])
            limit = 0x95F61998 if negative else 0xD413CCCF       # 1 - sqrt(1/2) and sqrt(2) - 1, of exponent -2
            if a[1] == ONE - 2 and a[0] >> 32 >= limit:
                a = a[0], a[1] - 1
    elif name == "fpatan":
        a, b = spread(rng, -FAR, 16383), spread(rng, -FAR, 16383)
        if rng.random() < 0.7:
            b = spread(rng, (a[1] & 0x7FFF) - 16383 - 70, (a[1] & 0x7FFF) - 16383 + 70)
        b = (b[0], min(b[1], 0x7FFE))
    else:
        a = angle(rng)
    return a[0], a[1] | negative, b[0], b[1] | int(rng.integers(0, 2)) << 15


# ---- runs ---------------------------------------------------------------------------------------------------------------------
@dataclass
class Outcome:
    """Of one instruction: cases, how far results were at most (units in the last place, for each rounding mode), what was wrong."""

    cases: int = 0
    most: list[float] = field(default_factory=lambda: [0.0] * 4)
    wrong: list[str] = field(default_factory=list)


def emulate(cases: np.ndarray, code: bytes, guest: EmulatedCpu | None = None) -> np.ndarray:
    guest = guest or EmulatedCpu(host_features())
    cases["code_length"] = len(code)
    return guest.run(cases, np.tile(np.frombuffer(code, np.uint8), (len(cases), 1)), np.zeros(8192, np.uint8), traced=False)


def states(given: list[tuple[int, int, int, int]], roundings: np.ndarray) -> np.ndarray:
    cases = new_cases(len(given), 64)
    fx = cases["fx"]
    put(fx, 0, (0x37F | roundings << 10).astype(np.uint16))
    fx[:, 4] = 3
    for at, kind, values in ((32, U64, 0), (40, np.uint16, 1), (48, U64, 2), (56, np.uint16, 3)):
        put(fx, at, np.array([row[values] for row in given], kind))
    return cases


def check(name: str, rng: np.random.Generator, count: int) -> Outcome:
    """Results of `name` for `count` arguments against exact ones."""
    given = [arguments(rng, name) for _ in range(count)]
    roundings = rng.integers(0, 4, count)
    results = emulate(states(given, roundings), bytes([0xD9, CODES[name]]))
    out = Outcome(count)
    status = results["fx"][:, 2].astype(int) | results["fx"][:, 3].astype(int) << 8
    for k, (significand, word, other, other_word) in enumerate(given):
        values = VALUES[name](exact.number(significand, word), exact.number(other, other_word))
        ups = []
        for value, place in zip(values, RESULTS.get(name, (0,))):
            raw = bytes(results["fx"][k, 32 + 16 * place:42 + 16 * place])
            got, got_word = int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")
            power = abs(value[0]).bit_length() - 1 - value[1]
            if value[0] == 0 or power > 16383 or power < -16446:
                continue                     # overflow, underflow to nothing: `compare_with_host` looks at them
            negative = value[0] < 0
            direction = (0, 2 if negative else 1, 1 if negative else 2, 1)[roundings[k]]
            mantissa, exponent, up = exact.round_f80(value, direction)
            off = exact.units_off(value, got, got_word)
            out.most[roundings[k]] = max(out.most[roundings[k]], off)
            ups.append(up)
            if (got, got_word) != (mantissa, exponent | negative << 15):
                out.wrong.append(f"{name} rounding {roundings[k]} ST0 {word:04x} {significand:016x} ST1 {other_word:04x} {other:016x}: "
                                 f"{got_word:04x} {got:016x}, exactly {exponent | negative << 15:04x} {mantissa:016x}, {off:.6f} units off")
        if ups and (status[k] >> 9 & 1) != ups[-1]:
            out.wrong.append(f"{name} rounding {roundings[k]} ST0 {word:04x} {significand:016x} ST1 {other_word:04x} {other:016x}: C1 is "
                             f"{status[k] >> 9 & 1}")
    return out


def compare_with_host(name: str, rng: np.random.Generator, count: int) -> tuple[int, float, list[str]]:
    """(cases, largest distance of finite results from the host's in units, what differs in flags, stack and special results)."""
    cases = new_cases(count, 64)
    fx = cases["fx"]
    put_x87(rng, fx, 0.02)
    one, word_one, two, word_two = operands.f80_pairs(rng, count)
    allowed = [arguments(rng, name) for _ in range(count)]
    some = rng.integers(0, 2, count) == 0
    for k, values in enumerate((one, word_one, two, word_two)):
        values[some] = np.array([row[k] for row in allowed], values.dtype)[some]
    for place in range(8):
        significand, word, *_ = operands.f80_pairs(rng, count)
        put(fx, 32 + 16 * place, significand)
        put(fx, 40 + 16 * place, word)
    for place, significand, word in ((0, one, word_one), (1, two, word_two)):
        put(fx, 32 + 16 * place, significand)
        put(fx, 40 + 16 * place, word)
    code = bytes([0xD9, CODES[name]])
    if name in ("fptan", "fsincos"):
        top = fx[:, 3].astype(int) >> 3 & 7
        fx[:, 4] &= np.where(rng.integers(0, 5, count) > 0, ~(1 << (top - 1 & 7)), 255).astype(np.uint8)
    theirs = straight.run(cases, code, np.zeros(8192, np.uint8))
    ours = emulate(cases, code)
    exponent = (word_one & 0x7FFF).astype(int)
    defined = np.ones(count, bool)
    if name == "f2xm1":                      # beyond 1 the result is undefined (SDM 2A F2XM1)
        defined = (exponent < ONE) | ((exponent == ONE) & (one == U64(1 << 63))) | (exponent == 0x7FFF)
    elif name == "fyl2xp1":
        defined = (exponent < ONE - 2) | (exponent == 0x7FFF)
    reduced = (exponent > ONE - 2) & (name in ("fsin", "fcos", "fsincos", "fptan"))
    lines, most = [], 0.0
    for k in np.flatnonzero(defined):
        a, b = ours[k], theirs[k]
        sa, sb = (int.from_bytes(bytes(image["fx"][2:4]), "little") & ~0x4300 for image in (a, b))
        what = [] if sa == sb else [f"fsw {sa:04x}, host {sb:04x}"]
        for field_, first, last in (("ftw", 4, 5), ("others", 64, 160), ("fcw", 0, 2)):
            if bytes(a["fx"][first:last]) != bytes(b["fx"][first:last]):
                what.append(field_)
        if a["vector"] != b["vector"]:
            what.append(f"vector {a['vector']}, host {b['vector']}")
        for place in (0, 1):
            x, y = (bytes(image["fx"][32 + 16 * place:42 + 16 * place]) for image in (a, b))
            if x != y:
                xm, xw, ym, yw = (int.from_bytes(part, "little") for part in (x[:8], x[8:], y[:8], y[8:]))
                special = 0x7FFF in (xw & 0x7FFF, yw & 0x7FFF) or not xm or not ym
                distance = abs(((xw & 0x7FFF) << 63) + (xm & (1 << 63) - 1) - ((yw & 0x7FFF) << 63) - (ym & (1 << 63) - 1))
                if reduced[k] and 0x7FFF not in (xw & 0x7FFF, yw & 0x7FFF):
                    continue                 # AMD's processors reduce angles by a pi of 66 bits
                if special or (xw ^ yw) >> 15 or distance > 4:
                    what.append(f"st{place} {xw:04x} {xm:016x}, host {yw:04x} {ym:016x}")
                else:
                    most = max(most, float(distance))
        if what:
            control, status = (int.from_bytes(bytes(fx[k, at:at + 2]), "little") for at in (0, 2))
            lines.append(f"{name} fcw {control:04x} fsw {status:04x} tags {fx[k, 4]:02x} ST0 {word_one[k]:04x} {one[k]:016x}"
                         f" ST1 {word_two[k]:04x} {two[k]:016x}: " + "; ".join(what))
    return int(defined.sum()), most, lines


# ---- approximations -------------------------------------------------------------------------------------------------------------
def approximate(opcode: int, words: np.ndarray) -> np.ndarray:
    """RCPPS (53h) or RSQRTPS (52h) of f32 encodings, a multiple of four."""
    cases = new_cases(len(words) // 4, 64)
    cases["fx"][:, 176:192] = words.astype("<u4").view(np.uint8).reshape(-1, 16)
    results = emulate(cases, bytes([0x0F, opcode, 0xC1]))
    assert (results["vector"] == 1).all()
    return np.ascontiguousarray(results["fx"][:, 160:176]).view("<u4").reshape(-1)


def worst_approximation(opcode: int, step: int = 1) -> float:
    """The largest relative error, times 2^12, over every step-th number in [1, 4); all others have the same fractions."""
    fractions = np.arange(0, 1 << 24, 4 * step, np.uint32)
    words = (np.uint32(0x3F800000) + (fractions[:, None] + np.arange(4, dtype=np.uint32)[None, :])).reshape(-1)
    x = words.view(np.float32).astype(np.float64)
    given = approximate(opcode, words).view(np.float32).astype(np.float64)
    return float(np.abs(given * x - 1 if opcode == 0x53 else given * np.sqrt(x) - 1).max() * 4096)


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.transcendentals")
    parser.add_argument("--cases", type=int, default=20_000, help="for each instruction")
    parser.add_argument("--seed", type=int, default=int(np.random.SeedSequence().entropy or 0) % (1 << 32))
    options = parser.parse_args(given)
    print(f"seed {options.seed}", flush=True)
    wrong = 0
    for name in CODES:
        rng = np.random.default_rng([options.seed, CODES[name]])
        out = check(name, rng, options.cases)
        print(f"{name:8} {out.cases} cases, units off at most: "
              + ", ".join(f"{word} {most:.6f}" for word, most in zip(("nearest", "down", "up", "zero"), out.most)), flush=True)
        lines = out.wrong
        if straight.AMD:
            count, most, more = compare_with_host(name, rng, options.cases)
            print(f"         {count} cases beside the host: at most {most:.0f} units apart, {len(more)} disagreements in flags or specials")
            lines = lines + more
        for line in lines[:8]:
            print("    " + line)
        wrong += len(lines)
    for name, opcode in (("rcpps", 0x53), ("rsqrtps", 0x52)):
        most = worst_approximation(opcode)
        print(f"{name:8} 16777216 cases, relative error at most {most:.4f} * 2^-12")
        wrong += most > 1.5
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
