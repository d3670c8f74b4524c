# The host's x87 and SSE as an oracle (float_oracle.c, built at test time), and operands that favour the edges.
from __future__ import annotations

import ctypes
import functools
import pathlib
import platform
import subprocess
import tempfile

import numpy as np

HERE = pathlib.Path(__file__).parent
NATIVE = platform.machine() in ("x86_64", "AMD64")


@functools.cache
def library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="emu-float-oracle-") as folder:
        path = pathlib.Path(folder) / "oracle.so"
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-w", "-o", str(path), str(HERE / "float_oracle.c"), "-lquadmath"],
                       check=True)
        return ctypes.CDLL(str(path))        # stays mapped


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def native_x87(code: bytes, images: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images after, memory after, flags after) of the instruction `code` on the host."""
    count = len(images)
    after, memory, flags = np.zeros_like(images), memory.copy(), np.zeros(count, np.uint64)
    assert library().run_x87(code, len(code), ctypes.c_long(count), _pointer(images), _pointer(memory), _pointer(flags),
                             _pointer(after)) == 0
    return after, memory, flags


def native_sse(code: bytes, a: np.ndarray, b: np.ndarray, mxcsr: np.ndarray):
    """(xmm0, rax, flags, mxcsr) after the instruction `code` on the host."""
    count = len(a)
    xmm, general, flags = (np.zeros(count, np.uint64) for _ in range(3))
    after = np.zeros(count, np.uint32)
    assert library().run_sse(code, len(code), ctypes.c_long(count), _pointer(a), _pointer(b), _pointer(mxcsr), _pointer(xmm),
                             _pointer(general), _pointer(flags), _pointer(after)) == 0
    return xmm, general, flags, after


def floats(rng: np.random.Generator, count: int, exponent_bits: int, fraction_bits: int) -> np.ndarray:
    """Encodings of an IEEE format, half of them at an edge: zeros, denormals, ones, largest, infinities, NaNs."""
    top = (1 << exponent_bits) - 1
    bias = top >> 1
    exponents = np.array([0, 0, 1, 2, bias - 1, bias, bias, bias + 1, bias + 2, bias + fraction_bits, bias + 31, bias + 63,
                          bias - fraction_bits, top - 1, top, top, bias + 30, bias + 62], np.uint64)
    ones = (1 << fraction_bits) - 1
    fractions = np.array([0, 0, 1, 2, ones, ones - 1, ones >> 1, (ones >> 1) + 1, (ones >> 1) + 2, ones ^ 1 << 3], np.uint64)
    edge = rng.integers(0, 2, count).astype(bool)
    near = rng.integers(0, 3, count) == 0
    exponent = rng.integers(0, top + 1, count).astype(np.uint64)
    exponent = np.where(near, rng.integers(bias - 8, bias + 9, count).astype(np.uint64), exponent)
    exponent = np.where(edge, rng.choice(exponents, count), exponent)
    fraction = rng.integers(0, ones + 1, count).astype(np.uint64)
    # few significant bits, so that exact results and ties happen
    short = fraction & ~(np.uint64(ones) >> rng.integers(0, fraction_bits, count).astype(np.uint64))
    fraction = np.where(rng.integers(0, 3, count) == 0, short, fraction)
    fraction = np.where(rng.integers(0, 3, count) == 0, rng.choice(fractions, count), fraction)
    sign = rng.integers(0, 2, count).astype(np.uint64)
    return sign << np.uint64(exponent_bits + fraction_bits) | exponent << np.uint64(fraction_bits) | fraction


def extended(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(significands, sign and exponent words) of f80 numbers, unsupported encodings and pseudo-denormals among them."""
    encoded = floats(rng, count, 15, 48)
    word = (encoded >> np.uint64(48)).astype(np.uint16)
    fraction = encoded & np.uint64((1 << 48) - 1)
    low = np.where(rng.integers(0, 3, count) == 0, rng.integers(0, 1 << 15, count), 0).astype(np.uint64)
    ties = rng.choice([0x7FFF, 0x400, 0x3FF, 0x401, 1, 0x4000], count).astype(np.uint64)       # of results rounded to 53 bits
    low = np.where(rng.integers(0, 4, count) == 0, ties, low)
    significand = fraction << np.uint64(15) | low
    edges = np.array([0, 1, 1 << 62, (1 << 63) - 1, 0x3FFFFFFFFFFFFFFF, 0x4000000000000001, 0x7FFFFF0000000000,
                      0x7FFFFF8000000000, 0x7FFFFFFFFFFFF800, 0x7FFFFFFFFFFFFC00, 0x490FDAA22168C235], np.uint64)
    significand = np.where(rng.integers(0, 5, count) == 0, rng.choice(edges, count), significand)
    exponent = word & 0x7FFF
    integer = np.where(exponent == 0, rng.integers(0, 6, count) == 0, rng.integers(0, 24, count) != 0)
    return significand | integer.astype(np.uint64) << np.uint64(63), word


def images(rng: np.random.Generator, count: int, control: np.ndarray, empty: float = 0.0) -> np.ndarray:
    """108-byte FSAVE images with random registers; `empty`: the share of empty registers."""
    out = np.zeros((count, 108), np.uint8)
    status = (rng.integers(0, 8, count).astype(np.uint16) << 11) | (rng.integers(0, 2, count).astype(np.uint16) * 0x4700)
    tags = np.zeros(count, np.uint16)
    for place in range(8):
        hole = rng.random(count) < empty
        tags |= np.where(hole, 3 << (2 * place), 0).astype(np.uint16)
        significand, word = extended(rng, count)
        if place == 1:                       # often near ST0, so that cancellation and equality happen
            close = rng.integers(0, 4, count) == 0
            first = out[:, 28:36].copy().view(np.uint64).ravel()
            significand = np.where(close, first ^ rng.integers(0, 4, count).astype(np.uint64), significand)
            word = np.where(close, out[:, 36:38].copy().view(np.uint16).ravel() ^ (rng.integers(0, 2, count) << 15), word)
        at = 28 + 10 * place
        out[:, at:at + 8] = significand.reshape(-1, 1).view(np.uint8)
        out[:, at + 8:at + 10] = word.astype(np.uint16).reshape(-1, 1).view(np.uint8)
    out[:, 0:2] = control.astype(np.uint16).reshape(-1, 1).view(np.uint8)
    out[:, 4:6] = status.reshape(-1, 1).view(np.uint8)
    out[:, 8:10] = tags.reshape(-1, 1).view(np.uint8)
    return out


def quad_errors(function: int, a: np.ndarray, b: np.ndarray, results: np.ndarray) -> np.ndarray:
    """Distances of `results` from the true values, in units in the last place; all arrays (n, 16) bytes of f80 numbers."""
    errors = np.zeros(len(a))
    library().quad_errors(function, ctypes.c_long(len(a)), _pointer(a), _pointer(b), _pointer(results), _pointer(errors))
    return errors
