# Where the host cannot be the oracle, and which results are the host's own: every exception to "all is compared", with its reason.
from __future__ import annotations

import numpy as np

from emu.isa.rows import Row

# mnemonic (and operand, where it matters) -> why its rows are not run on the host
NOT_RUN = {
    "syscall": "a system call of the host's kernel (guests/selftest has it)",
    "sysenter": "a system call of the host's kernel (guests/selftest has it)",
    "int1": "a hypervisor under the host's kernel tells the address before it, not after it",
    "sgdt": "the host's kernel answers for the processor (UMIP)",
    "sidt": "the host's kernel answers for the processor (UMIP)",
    "sldt": "the host's kernel answers for the processor (UMIP)",
    "str": "the host's kernel answers for the processor (UMIP)",
    "smsw": "the host's kernel answers for the processor (UMIP)",
}
# mnemonic -> general registers whose new value is the host's own (time, identity, chance)
HOST_VALUES = {"rdtsc": (0, 2), "rdtscp": (0, 1, 2), "cpuid": (0, 1, 2, 3), "xgetbv": (0, 2)}
RANDOM_VALUES = ("rdrand", "rdseed", "rdpid")
# Each vendor has approximations of its own; the error that all of them keep to is 1.5 * 2**-12 (SDM 2B RCPPS, RSQRTPS).
APPROXIMATE = ("rcpps", "rcpss", "rsqrtps", "rsqrtss")
# Flags that the manuals leave undefined are compared all the same, but for these rows; ours are AMD's where a simple rule tells them.
UNRULED_FLAGS = ("mul", "imul", "div", "idiv", "bsf", "bsr", "aaa", "aas", "aad", "aam", "daa", "das")
FLAG_BITS = {"o": 0x800, "s": 0x80, "z": 0x40, "a": 0x10, "p": 4, "c": 1}


def undefined_flags(row: Row) -> int:
    """The bits of RFLAGS that are not compared after the row."""
    if row.mnemonic not in UNRULED_FLAGS:
        return 0
    return sum(FLAG_BITS[letter] for letter in row.undefined)


def excuse_approximation(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Takes the host's approximations for ours where both are within the error allowed of one another."""
    mine, other = (np.ascontiguousarray(part["fx"][:, 160:416]) for part in (ours, theirs))
    a, b = mine.view(np.float32), other.view(np.float32)
    with np.errstate(all="ignore"):
        near = (mine.view(np.uint32) != other.view(np.uint32)) & (np.abs(a - b) <= 3 * 2.0 ** -12 * np.abs(b))
    b[near] = a[near]
    theirs["fx"][:, 160:416] = other


def excuse_area(row: Row, cases: np.ndarray, native: np.ndarray, guest: np.ndarray) -> None:
    """Takes MXCSR_MASK out of the data pages after FXSAVE and XSAVE: the host has the bit for misaligned operands, the models do not."""
    for k in range(len(cases)):
        changed = np.flatnonzero(native[k] != guest[k])
        mask = [place for place in changed if native[k][place] == 2 and guest[k][place] == 0]
        if len(changed) == len(mask) == 1:
            guest[k][mask] = 2
