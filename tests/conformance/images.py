# Instructions that store and load the state of the x87 unit and of SSE, in 64-bit, 32-bit and 16-bit code: the host's processor and ours.
"""    python -m tests.conformance.images [--cases N] [--seed S]

N cases an encoding (2,000). Areas in memory are random images whose words of control, tags and header favour what is legal."""
from __future__ import annotations

import argparse
import sys

import numpy as np

from emu.debug.native import differences, host_features, host_flags, parts
from emu.debug.native.cases import DATA, base_of, new_cases
from emu.debug.native.guest import EmulatedCpu
from emu.isa.features import FEATURE_NUMBERS
from tests.conformance import operands
from tests.conformance.floating import put, put_mxcsr, put_x87

U64 = np.uint64
AREA = 1024                      # in DATA
GROUP = 64                       # cases over one template
# name -> code with the memory operand [rbx] (in 16-bit code [bx]); "66": with it too, "w": with REX.W too
FORMS = {"fldenv": ("d923", "66"), "fnstenv": ("d933", "66"), "frstor": ("dd23", "66"), "fnsave": ("dd33", "66"), "fxsave": ("0fae03", "w"),
         "fxrstor": ("0fae0b", "w"), "xsave": ("0fae23", "w"), "xrstor": ("0fae2b", "w"), "xsaveopt": ("0fae33", "w"),
         "xsavec": ("0fc723", "w"),
         "fnstcw": ("d93b", ""), "fldcw": ("d92b", ""), "fnstsw": ("dd3b", ""), "ldmxcsr": ("0fae13", ""), "stmxcsr": ("0fae1b", "")}
NEEDS = {"xsave": "XSAVE", "xrstor": "XSAVE", "xsaveopt": "XSAVEOPT", "xsavec": "XSAVEC"}


def encodings(mode: int) -> dict[str, tuple[str, bytes]]:
    """Name of an encoding -> (name of the instruction, code)."""
    found = {}
    for name, (text, more) in FORMS.items():
        code = bytes.fromhex(text)
        if mode == 16:
            code = code[:-1] + bytes([code[-1] | 4])
        found[name] = name, code
        if more == "66":
            found[name + " 66"] = name, b"\x66" + code
        elif more == "w" and mode == 64:
            found[name + "64"] = name, b"\x48" + code
    return found


def template(rng: np.random.Generator, name: str) -> np.ndarray:
    """8192 bytes with an image at AREA (and all else random)."""
    out = rng.integers(0, 256, 8192).astype(np.uint8)
    fx = np.zeros((1, 512), np.uint8)
    put_x87(rng, fx, 0.5)
    put_mxcsr(rng, fx)
    image = out[AREA:]
    if name in ("fxrstor", "xrstor"):
        image[:6], image[24:28] = fx[0, :6], fx[0, 24:28]
        image[28:32] = 0
    elif name in ("fldenv", "frstor"):
        image[0:2], image[4:6] = fx[0, 0:2], fx[0, 2:4]
        if rng.integers(0, 2):
            image[2:4] = fx[0, 2:4]
    significand, word, *_ = operands.f80_pairs(rng, 8)
    for place in range(8):
        image[32 + 16 * place:40 + 16 * place] = significand[place:place + 1].view(np.uint8)
        image[40 + 16 * place:42 + 16 * place] = word[place:place + 1].view(np.uint8)
    header = np.zeros(8, U64)
    header[0] = U64(rng.integers(0, 4))
    kind = int(rng.integers(0, 8))
    if kind == 0:
        header[0] |= U64(1) << U64(rng.choice([3, 10, 62, 63]))
    elif kind == 1:
        header[int(rng.integers(1, 8))] = U64(1) << U64(rng.integers(0, 63))
    elif kind in (2, 3):
        header[1] = U64(1 << 63 | int(rng.integers(0, 4)))
    image[512:576] = header.view(np.uint8)
    return out


def group(rng: np.random.Generator, name: str, code: bytes, mode: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    cases = new_cases(count, mode)
    fx = cases["fx"]
    put_x87(rng, fx, 0.3)
    put_mxcsr(rng, fx)
    put(fx, 6, rng.integers(0, 0x800, count).astype(np.uint16))
    for at in (8, 16):
        put(fx, at, operands.random_u64(rng, count) & U64(0x7FFFFFFFFFFF if rng.integers(0, 2) else 0xFFFFFFFF))
    one, word, *_ = operands.f80_pairs(rng, 8 * count)
    for place in range(8):
        put(fx, 32 + 16 * place, one[place::8])
        put(fx, 40 + 16 * place, word[place::8])
    fx[:, 160:416 if mode == 64 else 288] = rng.integers(0, 256, (count, 256 if mode == 64 else 128))
    if rng.integers(0, 4) == 0:
        fx[:, 160:416] = 0
    shift = np.where(rng.integers(0, 12, count) == 0, rng.choice(np.array([1, 8, 16, 32]), count), 0)
    cases["regs"][:, 3] = U64(DATA + AREA - base_of(mode)) + shift.astype(U64)
    cases["regs"][:, 0] = rng.choice(np.array([0, 1, 2, 3, 3, 3, 0xB, 0xFFFFF001]), count)
    cases["regs"][:, 2] = rng.choice(np.array([0, 0, 1 << 31, 1 << 30]), count)
    codes = np.tile(np.frombuffer(code, np.uint8), (count, 1))
    cases["code_length"] = len(code)
    return cases, codes


class Images:
    """Both processors. seed: of all that is random."""

    def __init__(self, seed: int) -> None:
        from emu.debug.native.host import NativeCpu
        self.rng = np.random.default_rng(seed)
        features = set(host_features())
        if "xsavec" in host_flags():
            features.add(FEATURE_NUMBERS["XSAVEC"])
        self.features = tuple(sorted(features))
        self.guest = EmulatedCpu(self.features)
        self.host = NativeCpu()

    def modes(self) -> tuple[int, ...]:
        return (64, 32, 16) if self.host.has_ldt else (64, 32)

    def run(self, encoding: str, mode: int, count: int) -> tuple[int, int, list[str]]:
        """(cases, disagreements, the first of them)."""
        name, code = encodings(mode)[encoding]
        if name in NEEDS and FEATURE_NUMBERS[NEEDS[name]] not in self.features:
            return 0, 0, []
        wrong, lines = 0, []
        for _ in range(-(-count // GROUP)):
            data = template(self.rng, name)
            cases, codes = group(self.rng, name, code, mode, GROUP)
            ours, memory = self.guest.run(cases, codes, data, memory=True)
            # An interrupt before XSAVE may let components in their initial state count as in use (SDM 1 13.6): such cases are tried again.
            for _ in range(3 if name.startswith("xsave") else 1):
                theirs, theirs_memory = self.host.run(cases, codes, data, memory=True)
                if name in ("fxsave", "xsave", "xsaveopt", "xsavec"):    # MXCSR_MASK: the host knows a bit more
                    for k, at in enumerate(cases["regs"][:, 3].astype(int) - DATA + base_of(mode)):
                        theirs_memory[k, at + 28:at + 32] = memory[k, at + 28:at + 32]
                different = (memory != theirs_memory).any(axis=1)
                for part, found in parts(ours, theirs).items():
                    if part not in ("memory_hash", "lines"):
                        different |= found
                if not different.any():
                    break
            wrong += int(different.sum())
            for k in np.flatnonzero(different)[:2 if len(lines) < 6 else 0]:
                places = np.flatnonzero(memory[k] != theirs_memory[k])
                said = [f"+{at - AREA}: {memory[k, at]:02x}, host {theirs_memory[k, at]:02x}" for at in places[:6]]
                said += [line for line in differences(ours[k], theirs[k]) if not line.startswith(("memory_hash", "lines"))]
                image = cases["fx"][k]
                lines.append(f"{encoding} in {mode}-bit code, rax {cases['regs'][k, 0]:#x}, fcw {bytes(image[1::-1]).hex()}"
                             f" fsw {bytes(image[3:1:-1]).hex()} tags {image[4]:02x}, area {bytes(data[AREA:AREA + 32]).hex()}"
                             f" header {bytes(data[AREA + 512:AREA + 536]).hex()}: " + "; ".join(said))
        return -(-count // GROUP) * GROUP, wrong, lines


def main(given: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.images")
    parser.add_argument("--cases", type=int, default=2000, help="for each encoding")
    parser.add_argument("--seed", type=int, default=int(np.random.SeedSequence().entropy or 0) % (1 << 32))
    options = parser.parse_args(given)
    print(f"seed {options.seed}", flush=True)
    images, total, bad = Images(options.seed), 0, 0
    for mode in images.modes():
        for encoding in encodings(mode):
            count, wrong, lines = images.run(encoding, mode, options.cases)
            total, bad = total + count, bad + wrong
            if wrong:
                print(f"{wrong:6} of {count:6} {encoding} in {mode}-bit code")
                for line in lines:
                    print("    " + line)
    print(f"cases {total}, disagreements {bad}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
