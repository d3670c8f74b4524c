# Elementary functions of f80 numbers in integers of several hundred bits: what the transcendental instructions are held against.
"""A number is a pair (m, e): m * 2^e, exactly. Results come as (v, p): v * 2^-p, with an error below 2^-200 of the value."""
from __future__ import annotations

import functools
from math import isqrt

Number = tuple[int, int]
BITS = 330                       # of a result; what is lost on the way costs some 20
TINY = -120                      # of arguments below 2^TINY, only the first term of a series counts, and on which side of it the value lies


def number(significand: int, word: int) -> Number:
    """Of an f80 encoding that is finite."""
    exponent = max(word & 0x7FFF, 1)
    return (-significand if word >> 15 else significand), exponent - 16383 - 63


def magnitude(a: Number) -> int:
    """The exponent: 2^magnitude <= |a| < 2^(magnitude + 1)."""
    return abs(a[0]).bit_length() - 1 + a[1]


def fixed(a: Number, p: int) -> int:
    return a[0] << p + a[1] if p + a[1] >= 0 else a[0] >> -(p + a[1])


def _arctangent_of_reciprocal(n: int, p: int) -> int:
    term, total, k = (1 << p) // n, 0, 1
    while term:
        total += term // k if k & 2 == 0 else -(term // k)
        term //= n * n
        k += 2
    return total


@functools.cache
def pi(p: int) -> int:
    """Machin's formula."""
    return 4 * (4 * _arctangent_of_reciprocal(5, p + 32) - _arctangent_of_reciprocal(239, p + 32)) >> 32


@functools.cache
def ln2(p: int) -> int:
    term, total, k = (2 << p + 32) // 3, 0, 1
    while term:
        total += term // k
        term //= 9
        k += 2
    return total >> 32


def _sine_and_cosine(r: int, p: int) -> tuple[int, int]:
    """Of |r| < 1."""
    square = r * r >> p
    sine = term = r
    k = 1
    while term:
        term = -(term * square >> p) // ((k + 1) * (k + 2))
        sine += term
        k += 2
        if -2 < term < 2:
            break
    cosine = term = 1 << p
    k = 0
    while True:
        term = -(term * square >> p) // ((k + 1) * (k + 2))
        cosine += term
        k += 2
        if -2 < term < 2:
            return sine, cosine


def _angle(a: Number) -> tuple[int, int, int, int]:
    """(sine, cosine, p, quadrant) of what is left of `a` after the nearest multiple of pi/2."""
    p = BITS + 200 if magnitude(a) >= -1 else BITS - 4 * magnitude(a)
    x = fixed(a, p)
    if magnitude(a) < -1:
        return (*_sine_and_cosine(x, p), p, 0)
    half = pi(p + 64)
    wide = x << 65
    quadrant = (wide + (half >> 1)) // half
    return (*_sine_and_cosine((wide - quadrant * half) >> 65, p), p, quadrant & 3)


def _beside(a: Number, by: int) -> Number:
    """`a` with a magnitude that is larger (by = 1) or smaller (-1) by next to nothing."""
    return (a[0] << 400) + (by if a[0] > 0 else -by), 400 - a[1]


def sine(a: Number) -> Number:
    if magnitude(a) < TINY:
        return _beside(a, -1)
    s, c, p, quadrant = _angle(a)
    return (s, c, -s, -c)[quadrant], p


def cosine(a: Number) -> Number:
    if magnitude(a) < TINY:
        return _beside((1, 0), -1)
    s, c, p, quadrant = _angle(a)
    return (c, -s, -c, s)[quadrant], p


def tangent(a: Number) -> Number:
    if magnitude(a) < TINY:
        return _beside(a, 1)
    s, c, p, quadrant = _angle(a)
    if quadrant & 1:
        s, c = -c, s
    return (s << p) // c, p


def arctangent(y: Number, x: Number) -> Number:
    """Of y/x, in the quadrant of the point (x, y); neither is zero."""
    steep = magnitude(y) > magnitude(x) or (magnitude(y) == magnitude(x) and fixed(y, 20000) ** 2 > fixed(x, 20000) ** 2)
    top, bottom = (x, y) if steep else (y, x)
    small = magnitude(top) - magnitude(bottom)
    p = BITS + (100 if steep or x[0] < 0 else max(0, -small) * (1 if small < TINY else 4))
    shift = p + top[1] - bottom[1]
    t = (abs(top[0]) << shift) // abs(bottom[0]) if shift >= 0 else abs(top[0]) // (abs(bottom[0]) << -shift)
    if small < TINY and not steep and x[0] > 0:              # a little below t
        return ((t << 100) - 1) * (1 if y[0] > 0 else -1), p + 100
    halvings = 8 if small > -8 else 0
    for _ in range(halvings):
        t = (t << p) // ((1 << p) + isqrt((1 << 2 * p) + t * t))
    square = t * t >> p
    total, term, k = 0, t, 1
    while term:
        total += term // k if k & 2 == 0 else -(term // k)
        term = term * square >> p
        k += 2
    angle = total << halvings
    if steep:
        angle = (pi(p) >> 1) - angle
    if x[0] < 0:
        angle = pi(p) - angle
    return (-angle if y[0] < 0 else angle), p


def power_minus_one(a: Number) -> Number:
    """2^a - 1, |a| <= 1, not zero."""
    if magnitude(a) < 2 * TINY:
        return a[0] * ln2(BITS), BITS - a[1]
    p = BITS - 2 * min(magnitude(a), 0)
    y = fixed(a, p) * ln2(p) >> p
    y >>= 8
    total = term = y
    k = 2
    while True:
        term = (term * y >> p) // k
        if -2 < term < 2:
            break
        total += term
        k += 1
    for _ in range(8):
        total = (total * total >> p) + 2 * total
    return total, p


def _artanh(top: int, bottom: int, p: int) -> int:
    z = (top << p) // bottom
    square = z * z >> p
    total, term, k = 0, z, 1
    while term not in (0, -1):
        total += term // k
        term = term * square >> p
        k += 2
    return total


def logarithm(a: Number) -> Number:
    """log2 of a > 0, not 1."""
    m, power = a[0], magnitude(a)
    scale = m.bit_length() - 1
    if m * m > 2 << 2 * scale:
        power, scale = power + 1, scale + 1
    p = BITS + 80
    value = 2 * _artanh(m - (1 << scale), m + (1 << scale), p) if m != 1 << scale else 0
    return (value << p) // ln2(p) + (power << p), p


def logarithm_plus_one(a: Number) -> Number:
    """log2(1 + a), a > -1, not zero."""
    if magnitude(a) >= -2:
        top, e = a if a[1] <= 0 else (a[0] << a[1], 0)
        return logarithm((top + (1 << -e), e))
    if magnitude(a) < 2 * TINY:
        return (a[0] << 2 * BITS) // ln2(BITS), BITS - a[1]
    p = BITS - 2 * magnitude(a)
    x = fixed(a, p)
    return (2 * _artanh(x, (2 << p) + x, p) << p) // ln2(p), p


def times(value: Number, b: Number) -> Number:
    """A result times a number."""
    return (value[0] * b[0] << b[1], value[1]) if b[1] >= 0 else (value[0] * b[0], value[1] - b[1])


def round_f80(value: Number, rounding: int) -> tuple[int, int, int]:
    """(significand, biased exponent, 1 where the magnitude became larger) of |value|, which lies in the exponent's range; rounding: 0
    nearest, 1 to smaller magnitudes, 2 to larger ones."""
    v, p = abs(value[0]), value[1]
    exponent = max(v.bit_length() - 1 - p, -16382)
    shift = p + exponent - 63
    kept = v >> shift if shift >= 0 else v << -shift
    lost = v - (kept << shift) if shift > 0 else 0
    half = 1 << max(shift, 1) - 1
    up = lost and (rounding == 2 or rounding == 0 and (lost > half or lost == half and kept & 1))
    kept += 1 if up else 0
    if kept >> 64:
        kept, exponent = kept >> 1, exponent + 1
    return kept, (exponent + 16383 if kept >> 63 else 0), 1 if up else 0


def units_off(value: Number, significand: int, word: int) -> float:
    """How far an f80 result is from the true value, in units of its last place."""
    m, e = number(significand, word)
    v, p = value
    shift = min(e, -p)
    distance = abs((m << e - shift) - (v << -p - shift))
    unit = max((v.bit_length() if v >= 0 else (-v).bit_length()) - 1 - p, -16382) - 63 - shift
    return float((distance << 40) >> unit) / (1 << 40) if unit >= 0 else float(distance << -unit)
