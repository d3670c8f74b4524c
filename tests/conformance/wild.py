# Bytes of any kind against the host: #UD exactly where the host raises it, and the same length where it does not.
from __future__ import annotations

import random
from collections import Counter

import numpy as np
from iced_x86 import Code, CpuidFeature, Decoder, DecoderOptions, Mnemonic

from emu.debug.native.cases import CODE, DATA, base_of, new_cases
from emu.isa.rows import Row
from tests.conformance.encode import encode, forms

WIDTH = 20
PREFIXES = (0x66, 0x67, 0xF0, 0xF2, 0xF3, 0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65)
# What the models have, in iced's words; an instruction that needs anything else may be there on the host and not in a model.
KNOWN = frozenset(getattr(CpuidFeature, name) for name in (
    "INTEL8086 INTEL8086_ONLY INTEL186 INTEL286 INTEL386 INTEL486 X64 FPU FPU287 FPU387 MMX SSE SSE2 SSE3 SSSE3 SSE4_1 SSE4_2 CMOV CX8 "
    "CMPXCHG16B MOVBE POPCNT XSAVE XSAVEOPT RDRAND RDSEED FSGSBASE FXSR CLFSH CLFLUSHOPT RDTSCP RDPID CPUID MULTIBYTENOP PAUSE PREFETCHW "
    "SMAP INVPCID MSR TSC SYSCALL SEP").split())
# Never run: calls of the host's kernel or hypervisor, waiting, and what its kernel answers for the processor.
NEVER = frozenset(getattr(Mnemonic, name) for name in (
    "SYSCALL SYSENTER VMCALL VMMCALL MONITORX MWAITX MONITOR MWAIT CLZERO RDPRU INT1 SGDT SIDT SLDT STR SMSW").split())
CALLS = (b"\x0f\x05", b"\x0f\x34", b"\xcd\x80", b"\x0f\x01\xc1", b"\x0f\x01\xd9")


def wild_code(rng: random.Random, mode: int, rows: list[Row]) -> bytes:
    """Random bytes; random opcodes behind random prefixes; rows with prefixes that need not fit; too long ones."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.randbytes(15)
    prefixes = bytes(rng.choice(PREFIXES) for _ in range(rng.choice((0, 0, 1, 1, 2, 3))))
    if kind <= 3:
        rex = bytes([0x40 | rng.randrange(16)]) if mode == 64 and rng.random() < 0.4 else b""
        opcode = rng.choice((b"", b"\x0f", b"\x0f", b"\x0f\x38", b"\x0f\x3a"))
        return (prefixes + rex + opcode + rng.randbytes(12))[:15]
    while True:
        row = rng.choice(rows)
        if found := forms(row, mode):
            code = encode(rng, row, mode, rng.choice(found), DATA - base_of(mode), CODE - base_of(mode)).code
            break
    if kind <= 6:
        return (prefixes + code)[:15] if rng.random() < 0.8 else (b"\xf0" + code)[:15]
    padding = bytes(rng.choice((0x66, 0x26, 0x2E, 0x36, 0x3E)) for _ in range(max(0, rng.randrange(14, 18) - len(code))))
    return (padding + code)[:17]


def is_comparable(code: bytes, mode: int) -> bool:
    """Whether host and model can be held against each other here."""
    if any(call in code for call in CALLS):
        return False
    if b"\xf0" in code and b"\x0f\x00" in code:             # DEVIATES: Zen 3 takes LOCK with VERW, where all manuals say #UD
        return False
    code += b"\xcc" * 15
    found = Decoder(mode, code[:15], options=DecoderOptions.AMD | DecoderOptions.FORCE_RESERVED_NOP).decode()
    if found.code == Code.INVALID:
        plain = Decoder(mode, code[:15]).decode()            # what only other vendors have, or AMD once had
        return plain.code == Code.INVALID or frozenset(plain.cpuid_features()) <= KNOWN
    return found.mnemonic not in NEVER and frozenset(found.cpuid_features()) <= KNOWN


def run(host, guest, rows: list[Row], seed: int, count: int, mode: int) -> tuple[Counter, list[tuple[bytes, str]]]:
    """(counts by outcome of the host, disagreements: code and what)."""
    rng = random.Random(f"{seed} {mode}")
    numbers = np.random.default_rng(seed)
    wrong: list[tuple[bytes, str]] = []
    counts: Counter = Counter()
    done = 0
    while done < count:
        codes_of = [code for code in (wild_code(rng, mode, rows) for _ in range(min(4096, count - done))) if is_comparable(code, mode)]
        cases, codes = new_cases(len(codes_of), mode), np.full((len(codes_of), WIDTH), 0xCC, np.uint8)
        for place, code in enumerate(codes_of):
            codes[place, :len(code)] = np.frombuffer(code, np.uint8)
            cases["code_length"][place] = len(code)
        cases["regs"] = DATA - base_of(mode) + 64 * numbers.integers(16, 100, (len(cases), 16))
        if mode != 64:
            cases["regs"][:, 8:] = 0
        data = np.zeros(8192, np.uint8)
        theirs = host.run(cases, codes, data)
        ours = guest.run(cases, codes, data)
        counts.update(theirs["vector"].tolist())
        unlike = (ours["vector"] == 6) != (theirs["vector"] == 6)
        unlike |= (ours["vector"] == 1) & (theirs["vector"] == 1) & (ours["rip"] != theirs["rip"])
        for place in np.flatnonzero(unlike):
            wrong.append((codes_of[place], f"#{ours['vector'][place]} at {ours['rip'][place]:x}, host #{theirs['vector'][place]} "
                                           f"at {theirs['rip'][place]:x}"))
        done += 4096
    return counts, wrong
