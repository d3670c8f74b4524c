# Pairs of floating-point operands where implementations go wrong: edges, ties, cancellation, results at the limits of the exponent.
"""All are arrays of `count` numbers, made by a numpy Generator. Formats: f32, f64 (encodings in uint64), f80 (significand, word)."""
from __future__ import annotations

import numpy as np

U64 = np.uint64
F32, F64, F80 = (8, 23), (11, 52), (15, 63)
INTEGERS = np.array(sorted({value & (1 << 64) - 1 for width in (8, 16, 32, 64) for value in (
    (1 << width - 1) - 2, (1 << width - 1) - 1, 1 << width - 1, (1 << width - 1) + 1, (1 << width) - 2, (1 << width) - 1,
    -(1 << width - 1))}
    | {0, 1, 2, 3, 0x18D, 0xA5A5A5A5A5A5A5A5, 0x0123456789ABCDEF, (1 << 53) + 1, (1 << 24) + 1, (1 << 54) - 1, (1 << 25) - 1}), U64)


def random_u64(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 1 << 64, count, U64)


def choose(rng: np.random.Generator, count: int, share: float, yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    return np.where(rng.random(count) < share, yes, no)


def fractions(rng: np.random.Generator, count: int, bits: int) -> np.ndarray:
    """`bits` bits below the integer bit: random, short, of all ones from some place on, edges."""
    ones = U64((1 << bits) - 1)
    plain = random_u64(rng, count) & ones
    places = rng.integers(0, bits, count).astype(U64)
    out = choose(rng, count, 0.4, plain & ~(ones >> places), plain)
    out = choose(rng, count, 0.1, ones ^ (ones >> places), out)
    out = choose(rng, count, 0.1, ones >> places, out)
    out = choose(rng, count, 0.1, (U64(1) << places) & ones, out)
    half = 1 << bits - 1
    edges = [0, 0, 1, 2, half, half - 1, half + 1, int(ones), int(ones) - 1]
    if bits == 63:                           # halves of the last places of results rounded to 24 and 53 bits
        edges += [0x400, 0x3FF, 0x401, 0x7FFFFFFFFFFFFC00, 0x7FFFFFFFFFFFF800, 0x8000000000, 0x7FFFFF8000000000, 0x7FFFFF0000000000,
                  0x490FDAA22168C235, 0x490FDAA22168C234]
    if bits == 52:
        edges += [0x10000000, 0x0FFFFFFF, 0x10000001, 0xFFFFFF0000000, 0xFFFFFE0000000, 0xFFFFFF0000000 - 1]
    return choose(rng, count, 0.3, rng.choice(np.array(edges, U64), count), out)


def pack(sign: np.ndarray, exponent: np.ndarray, fraction: np.ndarray, form: tuple[int, int]) -> np.ndarray:
    exponent = np.clip(exponent, 0, (1 << form[0]) - 1).astype(U64)
    return sign.astype(U64) << U64(sum(form)) | exponent << U64(form[1]) | fraction


def exponents(rng: np.random.Generator, count: int, form: tuple[int, int]) -> np.ndarray:
    """Biased exponents (int64)."""
    top = (1 << form[0]) - 1
    bias = top >> 1
    edges = np.array([0, 0, 1, 2, bias - 1, bias, bias + 1, bias + form[1], bias + 15, bias + 31, bias + 63, bias + 62, top - 1, top, top,
                      bias - form[1], bias + form[1] + 1])
    out = choose(rng, count, 0.4, rng.integers(bias - 10, bias + 11, count), rng.integers(0, top + 1, count))
    return choose(rng, count, 0.45, rng.choice(edges, count), out)


def pairs(rng: np.random.Generator, count: int, form: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """Signs, exponents (biased, int64, beyond the limits too) and fractions of two operands that stand in a relation to each other."""
    top = (1 << form[0]) - 1
    bias, ones = top >> 1, U64((1 << form[1]) - 1)
    sa, sb = rng.integers(0, 2, count), rng.integers(0, 2, count)
    ea, eb = exponents(rng, count, form), exponents(rng, count, form)
    fa, fb = fractions(rng, count, form[1]), fractions(rng, count, form[1])
    kind = rng.integers(0, 10, count)
    close = rng.integers(-3, 4, count)
    eb = np.where(kind == 0, ea + (close // 3), eb)                                     # nearly equal
    fb = np.where(kind == 0, (fa.astype(np.int64) + close).astype(U64) & ones, fb)
    limit = rng.choice(np.array([top, top, 0, 0, 1, -form[1] // 2, -form[1], 1 - form[1]]), count)
    spread = rng.integers(1, top, count)
    ea = np.where((kind == 1) | (kind == 2), spread, ea)
    eb = np.where(kind == 1, limit + bias - spread + close, eb)                         # the product at a limit
    eb = np.where(kind == 2, spread + bias - limit + close, eb)                         # the quotient at a limit
    eb = np.where(kind == 3, ea - form[1] - 1 + close, eb)                              # ties of sums
    eb = np.where(kind == 4, ea - rng.integers(0, form[1] + 3, count), eb)
    eb = np.where(kind == 5, ea, eb)
    return sa, ea, fa, sb, eb, fb


def inside(exponent: np.ndarray, form: tuple[int, int]) -> np.ndarray:
    return np.clip(exponent, 0, (1 << form[0]) - 1)


def ieee_pairs(rng: np.random.Generator, count: int, form: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Encodings of f32 or f64 pairs (uint64)."""
    sa, ea, fa, sb, eb, fb = pairs(rng, count, form)
    return pack(sa, ea, fa, form), pack(sb, eb, fb, form)


def to_f80(rng: np.random.Generator, sign: np.ndarray, exponent: np.ndarray, fraction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = len(sign)
    exponent = inside(exponent, F80)
    bit = np.where(exponent == 0, rng.integers(0, 6, count) == 0, rng.integers(0, 24, count) != 0)
    return fraction | bit.astype(U64) << U64(63), (sign << 15 | exponent).astype(np.uint16)


def f80_pairs(rng: np.random.Generator, count: int) -> tuple[np.ndarray, ...]:
    """(significand, word) of two operands; unnormals, pseudo-denormals, pseudo-infinities among them; some fit f64 or f32."""
    sa, ea, fa, sb, eb, fb = pairs(rng, count, F80)
    for fewer in (11, 40):
        short = rng.random(count) < 0.1
        fa, fb = (np.where(short, fraction & ~U64((1 << fewer) - 1), fraction) for fraction in (fa, fb))
    for form in (F32, F64):                  # at the limits of what is stored to memory
        near = rng.random(count) < 0.08
        narrow = exponents(rng, count, form) - (1 << form[0] - 1) + (1 << 14) + rng.integers(-form[1] - 3, 4, count)
        ea = np.where(near, narrow, ea)
    return (*to_f80(rng, sa, ea, fa), *to_f80(rng, sb, eb, fb))


def halves(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """f80 numbers at and beside halves of integers and at the limits of integers of 16, 32 and 64 bits."""
    exponent = choose(rng, count, 0.4, rng.choice(np.array([14, 15, 16, 30, 31, 32, 62, 63, 64, 23, 52, 24, 53]), count),
                      rng.integers(-3, 66, count))
    fraction = fractions(rng, count, 63)
    place = np.clip(62 - exponent, 0, 62).astype(U64)                                   # of the bit that is worth a half
    cut = fraction & ~((U64(1) << place) - U64(1))
    kind = rng.integers(0, 5, count)
    fraction = np.where(kind < 3, cut, fraction)
    fraction = np.where(kind == 1, cut | U64(1), fraction)
    fraction = np.where(kind == 2, cut - (cut != 0).astype(U64), fraction) & U64((1 << 63) - 1)
    return fraction | U64(1 << 63), (rng.integers(0, 2, count) << 15 | (exponent + 16383)).astype(np.uint16)


def narrow(significand: np.ndarray, word: np.ndarray, form: tuple[int, int]) -> np.ndarray:
    """Encodings in f32 or f64 of f80 numbers, cut off."""
    exponent = (word & 0x7FFF).astype(np.int64) - 16383 + (1 << form[0] - 1) - 1
    return pack(word >> 15, exponent, (significand & U64((1 << 63) - 1)) >> U64(63 - form[1]), form)


def integers(rng: np.random.Generator, count: int) -> np.ndarray:
    """64-bit values: edges of all widths, and of every length."""
    shifted = random_u64(rng, count) >> rng.integers(0, 64, count).astype(U64)
    shifted = choose(rng, count, 0.3, U64(0) - shifted, shifted)
    return choose(rng, count, 0.4, rng.choice(INTEGERS, count), shifted)


def decimals(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 10) bytes: packed decimals, one in sixteen with digits above 9."""
    digits = rng.integers(0, 10, (count, 18))
    digits[:, 17:] *= rng.integers(0, 2, (count, 1))
    digits = np.where(np.arange(18) < rng.integers(0, 19, (count, 1)), digits, np.where(rng.integers(0, 2, (count, 1)) == 0, 0, 9))
    digits = np.where(rng.integers(0, 16, (count, 1)) == 0, rng.integers(0, 16, (count, 18)), digits)
    out = np.zeros((count, 10), np.uint8)
    out[:, :9] = digits[:, 0::2] | digits[:, 1::2] << 4
    out[:, 9] = choose(rng, count, 0.8, rng.choice(np.array([0, 0x80]), count), rng.integers(0, 256, count))
    return out


class Pool:
    """Numbers made in large numbers at once and drawn from many times; made anew when each was drawn some four times."""

    SIZE = 1 << 15
    MAKERS = {"f32": lambda rng, n: ieee_pairs(rng, n, F32), "f64": lambda rng, n: ieee_pairs(rng, n, F64), "f80": f80_pairs,
              "halves": halves, "integers": lambda rng, n: (integers(rng, n),)}

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.made: dict[str, tuple[np.ndarray, ...]] = {}
        self.left: dict[str, int] = {}

    def take(self, kind: str, count: int) -> tuple[np.ndarray, ...]:
        """Arrays of `count`, as the function of the module that makes `kind` gives them."""
        if self.left.get(kind, 0) < count:
            self.made[kind] = self.MAKERS[kind](self.rng, self.SIZE)
            self.left[kind] = 4 * self.SIZE
        self.left[kind] -= count
        place = self.rng.integers(0, self.SIZE, count)
        return tuple(array[place] for array in self.made[kind])
