# Random states that favour the edges, whole arrays at a time: registers, flags, FXSAVE images, memory, places of operands.
from __future__ import annotations

import numpy as np

from emu.debug.native.cases import CODE, DATA, END, READ_ONLY, WINDOW

U64 = np.uint64
WIDTHS = (8, 16, 32, 64)
INTEGER_EDGES = np.array(sorted({value & (1 << 64) - 1 for width in WIDTHS for value in (
    (1 << width - 1) - 2, (1 << width - 1) - 1, 1 << width - 1, (1 << width - 1) + 1, (1 << width) - 2, (1 << width) - 1,
    -(1 << width - 1))}
    | {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 0x99, 0x9A, 0xA5A5A5A5A5A5A5A5, 0x0123456789ABCDEF}), U64)
SELECTORS = np.array((0, 3, 0x2B, 0x23, 0x33, 0x28, 0x2A, 0x20, 0x30, 0x10, 0x18, 0x08, 0x07, 0x0F, 0x17, 0x1F, 0x27, 0x2F, 0x37, 0x3F,
                      0x47, 0x4F, 0x57, 0x0E, 0x0C, 0x5F, 0x80, 0xFFFF), U64)
F32 = np.array((0, 1 << 31, 0x3F800000, 0xBF800000, 1, 0x80000001, 0x7FFFFF, 0x800000, 0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000,
                0x7FC00000, 0xFFC12345, 0x7F800001, 0xFFA00000, 0x4F000000, 0xCF000000, 0x4EFFFFFF, 0x3F000000, 0x3FC00000, 0x40200000,
                0xBF000000, 0x3EFFFFFF, 0x5F000000, 0xDF000000, 0x4B000001, 0x00800001, 0x34000000, 0x40000000), np.uint32)
F64 = np.array((0, 1 << 63, 0x3FF0000000000000, 0xBFF0000000000000, 1, (1 << 63) | 1, 0xFFFFFFFFFFFFF, 0x10000000000000,
                0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000, 0xFFF8123456789ABC, 0x7FF0000000000001,
                0xFFF4000000000000, 0x41E0000000000000, 0xC1E0000000000000, 0x41DFFFFFFFC00000, 0x43E0000000000000, 0xC3E0000000000000,
                0x3FE0000000000000, 0x3FF8000000000000, 0x4004000000000000, 0x380FFFFFFFFFFFFF, 0x47EFFFFFF0000000, 0x36A0000000000000,
                0x4340000000000001, 0x4000000000000000), U64)
BYTES = np.array((0, 0x7F, 0x80, 0xFF, 1, 0x40, 0x55), np.uint8)
F80_EXPONENTS = np.array((0, 1, 0x3FFF, 0x3FFE, 0x4000, 0x3FFF + 31, 0x3FFF + 62, 0x3FFF + 63, 0x3FFF + 64, 0x3FFF - 63, 0x7FFE, 0x7FFF,
                          0x3C01, 0x43FE, 0x3F81, 0x407E, 0x3BCD, 0x3F6A), np.uint16)
F80_SIGNIFICANDS = np.array((0, 1, 1 << 63, (1 << 63) | 1, (1 << 64) - 1, 0xC000000000000000, 0x4000000000000000, 0x3FFFFFFFFFFFFFFF,
                             0x8000000000000400, 0xFFFFFFFFFFFFFC00, 0x8000008000000000, 0xFFFFFF8000000000, 0xC90FDAA22168C235,
                             0xBFFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF), U64)


def integers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """64-bit values: half of them edges of some width, some small, the rest random."""
    plain = rng.integers(0, 1 << 64, shape, U64, endpoint=False)
    kind = rng.integers(0, 8, shape)
    plain = np.where(kind == 0, rng.integers(0, 70, shape, U64), plain)
    plain = np.where(kind == 1, plain & U64(0xFFFFFFFF), plain)
    return np.where(kind >= 4, rng.choice(INTEGER_EDGES, shape), plain)


def vectors(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 16) uint8: integers, single and double numbers, edges of each."""
    out = rng.integers(0, 256, (count, 16)).astype(np.uint8)
    kind = rng.integers(0, 8, count)
    single = rng.choice(F32, (count, 4)).view(np.uint8).reshape(count, 16)
    double = rng.choice(F64, (count, 2)).view(np.uint8).reshape(count, 16)
    near = (rng.uniform(0.5, 9, (count, 4)) * rng.choice((1, -1), (count, 4))).astype(np.float32).view(np.uint8).reshape(count, 16)
    near_double = (rng.uniform(0.5, 9e9, (count, 2)) * rng.choice((1, -1), (count, 2))).view(np.uint8).reshape(count, 16)
    whole = integers(rng, (count, 2)).view(np.uint8).reshape(count, 16)
    edges = rng.choice(BYTES, (count, 16))
    for number, values in enumerate((single, double, near, near_double, whole, edges)):
        out = np.where((kind == number)[:, None], values, out)
    return np.ascontiguousarray(out)


def images(rng: np.random.Generator, count: int) -> np.ndarray:
    """FXSAVE images (count, 512): x87 registers of every kind, tags, pending and unmasked exceptions, MXCSR."""
    out = np.zeros((count, 512), np.uint8)
    word = np.full(count, 0x37F, np.uint16)
    odd = rng.integers(0, 3, count)
    word = np.where(odd == 0, rng.choice(np.array((0x7F, 0x27F, 0x37F), np.uint16), count) | rng.integers(0, 4, count, np.uint16) << 10,
                    word)
    word = np.where(odd == 1, (rng.integers(0, 0x40, count, np.uint16) | 0x40 | rng.choice(np.array((0, 2, 3), np.uint16), count) << 8
                               | rng.integers(0, 4, count, np.uint16) << 10), word).astype(np.uint16)
    status = rng.integers(0, 8, count, np.uint16) << 11
    status |= np.where(rng.integers(0, 2, count) == 0, rng.integers(0, 0x80, count, np.uint16), 0).astype(np.uint16)
    status |= rng.integers(0, 2, count, np.uint16) * np.uint16(0x4700)
    status |= np.where((status & ~word & 0x3F) != 0, 0x8080, 0).astype(np.uint16)
    valid = np.where(rng.integers(0, 3, count) == 0, rng.integers(0, 256, count), 0xFF).astype(np.uint8)
    mxcsr = np.full(count, 0x1F80, np.uint32)
    mxcsr |= np.where(rng.integers(0, 2, count) == 0,
                      rng.integers(0, 4, count, np.uint32) << 13 | rng.integers(0, 2, count, np.uint32) << 15
                      | rng.integers(0, 2, count, np.uint32) << 6 | rng.integers(0, 64, count, np.uint32), 0).astype(np.uint32)
    mxcsr &= ~np.where(rng.integers(0, 5, count) == 0, rng.integers(0, 64, count, np.uint32) << 7, 0).astype(np.uint32)
    for at, values in ((0, word), (2, status), (4, valid), (24, mxcsr)):
        size = values.dtype.itemsize
        out[:, at:at + size] = values.reshape(-1, 1).view(np.uint8)
    place = 8 * count
    exponent = rng.integers(0, 0x8000, place, np.uint16)
    exponent = np.where(rng.integers(0, 2, place) == 0, rng.choice(F80_EXPONENTS, place), exponent)
    exponent = np.where(rng.integers(0, 3, place) == 0, rng.integers(0x3FF0, 0x4010, place, np.uint16), exponent)
    significand = rng.integers(0, 1 << 64, place, U64, endpoint=False)
    significand = np.where(rng.integers(0, 12, place) != 0, significand | U64(1 << 63), significand)
    significand = np.where(rng.integers(0, 3, place) == 0, rng.choice(F80_SIGNIFICANDS, place), significand)
    exponent = (exponent | rng.integers(0, 2, place, np.uint16) << 15).astype(np.uint16)
    registers = np.zeros((place, 16), np.uint8)
    registers[:, :8] = significand.reshape(-1, 1).view(np.uint8)
    registers[:, 8:10] = exponent.reshape(-1, 1).view(np.uint8)
    out[:, 32:160] = registers.reshape(count, 128)
    out[:, 160:416] = vectors(rng, 16 * count).reshape(count, 256)
    return out


def template(rng: np.random.Generator, pool: np.ndarray) -> np.ndarray:
    """The data pages: edges of all kinds, and FXSAVE and XSAVE images at places with 64-byte alignment."""
    out = vectors(rng, 512).reshape(8192)
    for at in (0, 1024, 4096 - 256, 5120, 6144):
        out[at:at + 512] = pool[rng.integers(len(pool))]
        out[at + 464:at + 512] = 0
        header = out[at + 512:at + 576]
        if at % 2048 == 1024:
            header[:] = 0
            header[0] = rng.integers(0, 4)
            if rng.integers(0, 3) == 0:
                header[15], header[8] = 0x80, rng.integers(0, 4)
        elif rng.integers(0, 2) == 0:
            header[:] = 0
            header[0] = rng.integers(0, 4)
    return out


def places(rng: np.random.Generator, count: int, mode: int, size: int) -> np.ndarray:
    """Linear addresses for operands of about `size` bytes: aligned, unaligned, across pages, read-only, absent, not canonical."""
    kind = rng.integers(0, 100, count)
    inside = rng.integers(0, 8192 - 64, count)
    back = rng.integers(0, size + 1, count)
    out = DATA + (inside & ~63)
    out = np.where(kind < 40, DATA + inside, out)
    out = np.where(kind < 22, DATA + 0x1000 - back, out)
    out = np.where(kind < 14, READ_ONLY - back, out)
    out = np.where(kind < 10, READ_ONLY + (inside & 4095), out)
    out = np.where(kind < 8, END - back, out)
    out = np.where(kind < 6, DATA - back, out)
    out = np.where(kind < 5, CODE + (inside & 4095), out).astype(U64)
    if mode == 64:
        far = np.array((1 << 47, 1 << 63, 0xFFFF7FFFFFFFFFFF, 0x7FFFFFFFEFF8, 0x1234567812345678, 8), U64) - back[:, None].astype(U64)
        return np.where(kind < 4, far[np.arange(count), rng.integers(0, 6, count)], out)
    if mode == 32:
        return np.where(kind < 3, U64(1 << 32) - back.astype(U64), out)
    anywhere = U64(WINDOW) + rng.integers(0, 0x10000, count, U64)
    return np.where(kind < 4, U64(WINDOW + 0x10000) - back.astype(U64), np.where(kind < 6, anywhere, out))
