# The native oracle: the same cases run by the host's processor and by ours, and what differs. cases.py is the place to begin.
"""emu.debug.native: instructions held against the processor that this runs on (x86-64 Linux).

  from emu.debug.native import compare, differences, host_features
  from emu.debug.native.cases import new_cases, place_code, CODE
  from emu.debug.native.guest import EmulatedCpu          # ours, everywhere
  from emu.debug.native.host import NativeCpu             # ImportError where the host is not x86-64 Linux

  cases, codes = new_cases(n, 64), numpy.zeros((n, 16), numpy.uint8)
  place_code(cases, codes, 0, bytes.fromhex("4801d8"))    # add rax, rbx; fill cases["regs"], cases["fx"], cases["patch"] ...
  ours = EmulatedCpu(host_features()).run(cases, codes, template)
  theirs = NativeCpu().run(cases, codes, template)
  compare(ours, theirs)                                   # (n,) bool: where they differ
"""
from __future__ import annotations

import functools

import numpy as np

from emu.cpu.models import MODELS
from emu.isa.features import FEATURE_NUMBERS

ARITHMETIC = 0x8D5               # OF SF ZF AF PF CF
# What programs can see of RFLAGS; TF is the single step's own, IF, IOPL and their like stay as they are.
VISIBLE_FLAGS = 0x0025CED5 & ~0x100
# /proc/cpuinfo's names of features that a program notices, where they are others than ours.
_LINUX_NAMES = {"SSE3": "pni", "SSE41": "sse4_1", "SSE42": "sse4_2", "LAHF": "lahf_lm", "CLFSH": "clflush", "PREFETCHW": "3dnowprefetch",
                "FXSR": "fxsr", "CX16": "cx16", "PKU": "ospke", "NOPL": "nopl"}
_ASKED = ("MMX", "FXSR", "SSE", "SSE2", "SSE3", "SSSE3", "SSE41", "SSE42", "CX8", "CX16", "CMOV", "MOVBE", "POPCNT", "XSAVE", "RDRAND",
          "RDSEED", "RDTSCP", "LAHF", "FSGSBASE", "PKU", "CLFSH", "CLFLUSHOPT", "CLWB", "RDPID", "XSAVEOPT", "XSAVEC", "NOPL", "PREFETCHW",
          "ABM", "BMI1", "BMI2", "ADX", "AES", "SHA", "MMXEXT", "UMIP", "XSAVEERPTR")


@functools.cache
def host_flags() -> frozenset[str]:
    """The names of features in /proc/cpuinfo (empty where there is none)."""
    try:
        with open("/proc/cpuinfo") as file:
            return frozenset(next((line.split(":")[1] for line in file if line.startswith("flags")), "").split())
    except OSError:
        return frozenset()


def host_features(model: str = "v2") -> tuple[int, ...]:
    """The features of `model` without those that the host's programs cannot use: what both sides have."""
    names = next(entry for entry in MODELS if entry.name == model).names
    missing = {name for name in _ASKED if _LINUX_NAMES.get(name, name.lower()) not in host_flags()}
    return tuple(sorted(FEATURE_NUMBERS[name] for name in names - missing))


def compare(ours: np.ndarray, theirs: np.ndarray, flags: np.ndarray | int = VISIBLE_FLAGS) -> np.ndarray:
    """Where two arrays of results differ, in anything: (n,) bool. flags: the bits of RFLAGS that are compared (for all, or each)."""
    different = np.zeros(len(ours), bool)
    for found in parts(ours, theirs, flags).values():
        different |= found
    return different


def parts(ours: np.ndarray, theirs: np.ndarray, flags: np.ndarray | int = VISIBLE_FLAGS) -> dict[str, np.ndarray]:
    """What differs: name of a part -> (n,) bool."""
    found = {name: ours[name] != theirs[name] for name in ("rip", "vector", "cr2", "memory_hash", "fs_base", "gs_base", "steps")}
    for name in ("regs", "lines", "fx"):
        found[name] = (ours[name] != theirs[name]).any(axis=1)
    # a null selector is 0 after IRET, whatever its RPL was: the way out of the host's kernel
    found["selectors"] = (np.where(ours["selectors"] < 4, 0, ours["selectors"])
                          != np.where(theirs["selectors"] < 4, 0, theirs["selectors"])).any(axis=1)
    found["rflags"] = ((ours["rflags"] ^ theirs["rflags"]) & np.asarray(flags, np.uint64)) != 0
    # Linux tells programs that every page above theirs is there (arch/x86/mm/fault.c): the P bit is its word, not the processor's
    ignored = np.where((theirs["vector"] == 14) & (theirs["cr2"] >= np.uint64(0x7FFFFFFFF000)), 1, 0).astype(np.uint32)
    found["error"] = (ours["error"] | ignored) != (theirs["error"] | ignored)
    return found


_NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))


def differences(ours: np.void, theirs: np.void) -> list[str]:
    """What differs in two results, a line each: what, ours, theirs."""
    lines = []
    for name in ("vector", "error", "cr2", "rip", "rflags", "fs_base", "gs_base", "steps", "memory_hash"):
        if ours[name] != theirs[name]:
            lines.append(f"{name}: {int(ours[name]):#x}, host {int(theirs[name]):#x}")
    for k, name in enumerate(_NAMES):
        if ours["regs"][k] != theirs["regs"][k]:
            lines.append(f"{name}: {int(ours['regs'][k]):#x}, host {int(theirs['regs'][k]):#x}")
    for k, name in enumerate(("es", "cs", "ss", "ds", "fs", "gs")):
        if ours["selectors"][k] != theirs["selectors"][k]:
            lines.append(f"{name}: {int(ours['selectors'][k]):#x}, host {int(theirs['selectors'][k]):#x}")
    if (ours["lines"] != theirs["lines"]).any():
        lines.append(f"lines of data written: {[hex(int(n)) for n in ours['lines']]}, host {[hex(int(n)) for n in theirs['lines']]}")
    for first, last, name in ((0, 2, "fcw"), (2, 4, "fsw"), (4, 5, "ftw"), (6, 8, "fop"), (8, 16, "fip"), (16, 24, "fdp"),
                              (24, 28, "mxcsr"), *((32 + 16 * k, 42 + 16 * k, f"st{k}") for k in range(8)),
                              *((160 + 16 * k, 176 + 16 * k, f"xmm{k}") for k in range(16))):
        if (ours["fx"][first:last] != theirs["fx"][first:last]).any():
            lines.append(f"{name}: {bytes(ours['fx'][first:last][::-1]).hex()}, host {bytes(theirs['fx'][first:last][::-1]).hex()}")
    return lines
