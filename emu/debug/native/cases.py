# The form of a case and of its result, and the address space that a case runs in: the same on the host and in the emulator.
"""A case is a state, some bytes of code and a number of steps; both sides run it at privilege 3 in the same address space.

  CODE      two pages that can be read and executed (not written); the bytes of a case lie at its `code_at`, all else is CCh
  DATA      two pages that can be read and written: `template` (8192 bytes, for a whole batch) with the case's `patch` over it
  READ_ONLY one page behind them, bytes (7 n + 3) mod 256
  the pages around these are not there.

Selectors: 33h 64-bit code, 23h and 2Bh flat 32-bit code and data (base 0), and the LDT of `LDT`. 16-bit code runs in LDT_CODE16 and
LDT_DATA16, whose base is WINDOW. A step is one instruction, or one iteration of a REP: what the single-step trap tells apart. A case of
one step whose `finish` is BREAKPOINT runs on the host without that trap, up to the INT3 behind its code (three times as fast; for what
neither branches nor
repeats); the result is the same.

A result's `fx` is an FXSAVE image (64-bit form) without MXCSR_MASK; the pointers of the last x87 instruction are 0 in it unless an unmasked
x87 exception waits (status word ES), as AMD's processors store it. `steps`: those done before what `vector` tells.

A result's `vector` is 1 after all steps were done (single-step trap), else the exception's (`error` 0 where it has none; `cr2` only
for 14), -1 where the instruction killed or hung the process of the host, -2 where the emulator lacks it. Registers are those that the
exception's frame would show. `lines` has a bit for each 64-byte line of DATA that changed, `memory_hash` depends on those lines."""
from __future__ import annotations

import numpy as np

WINDOW = 0x10000000
CODE = WINDOW + 0x1000
CODE_BYTES = 0x2000
DATA = WINDOW + 0x5000
DATA_BYTES = 0x2000
READ_ONLY = WINDOW + 0x7000
END = WINDOW + 0x8000

ES, CS, SS, DS, FS, GS = range(6)
STEP, BREAKPOINT = range(2)      # `finish`
USER_CODE64, USER_CODE32, USER_DATA = 0x33, 0x23, 0x2B

# LDT entries: base, limit (in bytes, or pages where the last letter is G), and letters: c code, r readable code, w writable data,
# e expand-down, f conforming, 3 32-bit, n not present.
LDT = (
    (WINDOW, 0xFFFF, "cr"),                       # 07: LDT_CODE16
    (WINDOW, 0xFFFF, "w"),                        # 0F: LDT_DATA16
    (DATA, 0xFFF, "w3"),                          # 17: a page of data
    (0, 0xFFFFF, "3G"),                           # 1F: read-only data, 4 GiB
    (WINDOW, 0x5FFF, "we"),                       # 27: expand-down, 16-bit: 6000h..FFFFh
    (0, 0xFFFFF, "c3G"),                          # 2F: code that cannot be read
    (0, 0xFFFFF, "w3Gn"),                         # 37: data, not present
    (0, (DATA >> 12) - 1, "we3G"),                # 3F: expand-down, 32-bit: from DATA up
    (0, 0xFFFFF, "crf3Gn"),                       # 47: conforming code, not present (Linux allows no other)
    (WINDOW, 0x57FF, "w3"),                       # 4F: ends in the middle of the first page of data
)
LDT_CODE16, LDT_DATA16 = 0x07, 0x0F


def ldt_descriptor(entry: tuple[int, int, str]) -> int:
    """The descriptor (SDM 3A figure 3-8), privilege 3, accessed, of an entry of LDT."""
    base, limit, letters = entry
    if "c" in letters:
        kind = 9 | ("r" in letters) << 1 | ("f" in letters) << 2
    else:
        kind = 1 | ("w" in letters) << 1 | ("e" in letters) << 2
    access = kind | 0x70 | ("n" not in letters) << 7
    flags = ("3" in letters) << 2 | ("G" in letters) << 3
    return (limit & 0xFFFF | (base & 0xFFFFFF) << 16 | access << 40 | (limit >> 16) << 48 | flags << 52 | (base >> 24) << 56)


def ldt_user_desc(entry: tuple[int, int, str]) -> tuple[int, int, int]:
    """(base, limit, flags) of Linux' struct user_desc for modify_ldt. Source: asm/ldt.h."""
    base, limit, letters = entry
    contents = 2 if "c" in letters else 0
    contents |= 1 if "e" in letters or "f" in letters else 0
    weak = "r" not in letters if "c" in letters else "w" not in letters
    return base, limit, ("3" in letters) | contents << 1 | weak << 3 | ("G" in letters) << 4 | ("n" in letters) << 5


# The GDT of a 64-bit Linux, as far as programs can see it by LAR, LSL and far transfers. Source: arch/x86/include/asm/segment.h.
GDT = {0x08: 0x00CF9B000000FFFF, 0x10: 0x00AF9B000000FFFF, 0x18: 0x00CF93000000FFFF, 0x20: 0x00CFFB000000FFFF,
       0x28: 0x00CFF3000000FFFF, 0x30: 0x00AFFB000000FFFF}

CASE = np.dtype([("regs", "<u8", 16), ("rip", "<u8"), ("rflags", "<u8"), ("fs_base", "<u8"), ("gs_base", "<u8"), ("selectors", "<u2", 6),
                 ("code_length", "<u2"), ("steps", "<u2"), ("code_at", "<u4"), ("patch_at", "<u4"), ("patch_length", "<u2"),
                 ("finish", "<u2"), ("spare", "<u2", 2), ("patch", "u1", 64), ("fx", "u1", 512)])
RESULT = np.dtype([("regs", "<u8", 16), ("rip", "<u8"), ("rflags", "<u8"), ("fs_base", "<u8"), ("gs_base", "<u8"), ("cr2", "<u8"),
                   ("memory_hash", "<u8"), ("lines", "<u8", 2), ("selectors", "<u2", 6), ("vector", "<i2"), ("steps", "<u2"),
                   ("error", "<u4"), ("spare", "<u4"), ("fx", "u1", 512)])
FLAGS = 0x202                    # RFLAGS of a program: bit 1 and IF
INITIAL_FX = bytes.fromhex("7f03") + bytes(22) + bytes.fromhex("801f0000") + bytes(484)
_SELECTORS = {64: (USER_DATA, USER_CODE64, USER_DATA, USER_DATA, 0, 0), 32: (USER_DATA, USER_CODE32, *[USER_DATA] * 4),
              16: (LDT_DATA16, LDT_CODE16, *[LDT_DATA16] * 4)}


def base_of(mode: int) -> int:
    """Base of the segments that `new_cases` gives in a mode: linear addresses minus it are offsets."""
    return WINDOW if mode == 16 else 0


def new_cases(count: int, mode: int) -> np.ndarray:
    """`count` cases of mode 64, 32 or 16: registers 0, rsp in the middle of DATA, FPU and SSE as after FNINIT, one step, rip at the
    start of CODE."""
    cases = np.zeros(count, CASE)
    cases["selectors"] = _SELECTORS[mode]
    if mode == 16:
        cases["fs_base"] = cases["gs_base"] = WINDOW
    cases["rip"] = CODE - base_of(mode)
    cases["regs"][:, 4] = DATA + 0x1000 - base_of(mode)
    cases["code_at"] = 0
    cases["rflags"] = FLAGS
    cases["steps"] = 1
    cases["fx"] = np.frombuffer(INITIAL_FX, np.uint8)
    return cases


def place_code(cases: np.ndarray, codes: np.ndarray, place: int, code: bytes, linear: int = CODE, mode: int = 64) -> None:
    """Puts `code` at a linear address of CODE and rip there, in the case number `place`."""
    cases[place]["code_at"] = linear - CODE
    cases[place]["code_length"] = len(code)
    cases[place]["rip"] = linear - base_of(mode)
    codes[place, :len(code)] = np.frombuffer(code, np.uint8)
