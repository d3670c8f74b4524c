# The host's processor without a signal for each case (straight.c, compiled when first used): for millions of cases of one instruction.
from __future__ import annotations

import ctypes
import functools
import pathlib
import platform
import subprocess
import sys
import tempfile

import numpy as np

from emu.debug.native.cases import RESULT

HERE = pathlib.Path(__file__).resolve().parent
NATIVE = platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux"


def is_amd() -> bool:
    """Whether the host's processor is AMD's: the x87 unit, MMX transitions and images of the state are held to no other (docs/adr/0006)."""
    return NATIVE and "AuthenticAMD" in pathlib.Path("/proc/cpuinfo").read_text()


AMD = is_amd()


@functools.cache
def library() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory(prefix="emu-straight-") as folder:
        path = pathlib.Path(folder) / "straight.so"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-I", str(HERE.parent.parent), "-o", str(path),
                        str(HERE / "straight.c")], check=True)
        return ctypes.CDLL(str(path))        # stays mapped


def run(cases: np.ndarray, code: bytes, template: np.ndarray) -> np.ndarray:
    """Results (of RESULT) of `code`, an instruction or several that neither branch nor use the stack, over 64-bit cases (of CASE) that
    begin at CODE; of the general registers only rbx and rdi may point into the data (`template`, 8192 bytes, patched by each case)."""
    cases, template = np.ascontiguousarray(cases), np.ascontiguousarray(template)
    results = np.zeros(len(cases), RESULT)
    given = [ctypes.c_void_p(array.ctypes.data) for array in (cases, results, template)]
    if library().straight_run(given[0], given[1], ctypes.c_long(len(cases)), code, len(code), given[2]):
        raise MemoryError("no page for the code of the host")
    return results
