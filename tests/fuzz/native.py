# Long sequences of random user code, run by the host's processor and by ours; where they part is narrowed down to one instruction.
"""A sequence is 20 to 48 instructions in one of three code sizes, made from the rows of the table (memory operands in the pages of the
oracle, now and then elsewhere), with raw bytes and mutations among them. All state is compared at its end, or at its fault.

What is not compared, and why, is in NOT_RUN and in `excuse`."""
from __future__ import annotations

import random
from collections import Counter

import numpy as np
from iced_x86 import CpuidFeature, Decoder, Formatter, FormatterSyntax

from emu.cpu.decode import decode
from emu.debug.native import differences, host_features, parts
from emu.debug.native.cases import CODE, DATA, FLAGS, base_of, new_cases
from emu.debug.native.guest import EmulatedCpu
from emu.isa.features import FEATURE_NUMBERS

from tests.fuzz.code import Encoder, ROWS, legal_rows, mutate

BATCH = 1024
POOL = 3000                      # instructions of a mode, made anew for each round
WIDTH = 512
U64 = np.uint64
FLAG_BITS = {"o": 0x800, "s": 0x80, "z": 0x40, "a": 0x10, "p": 4, "c": 1}
ARITHMETIC = 0x8D5
# Rows that sequences leave out.
NOT_RUN = {
    "syscall": "calls the host's kernel", "sysenter": "calls the host's kernel", "int": "may call the host's kernel",
    "int1": "the kernel cannot tell it from a step", "cpuid": "tells who the processor is", "rdtsc": "time", "rdtscp": "time",
    "rdrand": "chance", "rdseed": "chance", "rdpid": "which processor", "xgetbv": "the host's state components",
    "sgdt": "the kernel answers for the processor", "sidt": "the kernel answers for the processor",
    "sldt": "the kernel answers for the processor", "str": "the kernel answers for the processor",
    "smsw": "the kernel answers for the processor",
    "fnsave": "AMD's XRSTOR leaves the x87 pointers alone", "fnstenv": "AMD's XRSTOR leaves the x87 pointers alone",
    "fxsave": "MXCSR_MASK", "fxrstor": "MXCSR_MASK", "xsave": "the host's state components", "xsaveopt": "the host's state components",
    "xrstor": "the host's state components", "rdpkru": "the kernel's keys", "wrpkru": "the kernel's keys",
    "fsin": "within 1 ulp only", "fcos": "within 1 ulp only", "fsincos": "within 1 ulp only", "fptan": "within 1 ulp only",
    "fpatan": "within 1 ulp only", "f2xm1": "within 1 ulp only", "fyl2x": "within 1 ulp only", "fyl2xp1": "within 1 ulp only",
    "rcpps": "each vendor's own approximation", "rcpss": "each vendor's own approximation", "rsqrtps": "each vendor's own approximation",
    "rsqrtss": "each vendor's own approximation"}
# What shows a program that it is single-stepped on the host, or holds its trap back.
TRACE_SHOWS = ("pushf", "popf", "iret", "lss", "int3", "into", "int1")
# What mostly faults, or leaves the sequence.
ENDERS = ("in", "out", "ins", "insb", "insw", "insd", "outs", "outsb", "outsw", "outsd", "hlt", "int3", "into",
          "bound", "ud0", "ud1", "ud2",
          "ret", "bt", "btc", "ldmxcsr", "btr", "bts")
SYSTEM_CALLS = (b"\x0f\x05", b"\x0f\x34", b"\xcd\x80")


def has_system_call(code: bytes) -> bool:
    """Whether any two bytes, wherever execution may come in, call the host's kernel."""
    return any(call in code for call in SYSTEM_CALLS)


class Pool:
    """Pieces of code of one mode: an instruction, or a few where it needs registers that are fit for it."""

    def __init__(self, rng: random.Random, mode: int, features) -> None:
        self.rng, self.mode, self.features = rng, mode, features
        self.rows = legal_rows(mode, True, lambda row: row.mnemonic.split("/")[0] in NOT_RUN or (
            row.cpuid and FEATURE_NUMBERS[row.cpuid] not in features))
        base = base_of(mode)
        self.address = lambda: DATA - base + (rng.randrange(8192) if rng.random() < 0.01 else 16 * rng.randrange(480))
        self.encoder = Encoder(rng, mode, self.address, 0.03)
        self.wild = Encoder(rng, mode, None, 0.2)
        self.enders = [row for row in self.rows if row.topic == "system" or row.mnemonic.split("/")[0] in ENDERS]
        self.others = [row for row in self.rows if row not in self.enders]
        self.pieces = [self.piece() for _ in range(POOL)]

    def load(self, register: int, value: int) -> bytes:
        """MOV of an immediate to a register (0..7), of 32 bits."""
        return (b"\x66" if self.mode == 16 else b"") + bytes((0xB8 | register,)) + (value & 0xFFFFFFFF).to_bytes(4, "little")

    def piece(self) -> bytes:
        rng = self.rng
        draw = rng.random()
        if draw < 0.003:
            return rng.randbytes(rng.randrange(1, 12))
        row = rng.choice(self.enders if rng.random() < 0.003 else self.others)
        code = (self.wild if draw < 0.01 else self.encoder).instruction(row)
        if draw < 0.013:
            return mutate(rng, code)
        if any(operand.place == "J" for operand in row.operands):
            return self.branch(row, code)
        name = row.mnemonic.split("/")[0]
        before = after = b""
        if row.topic == "string" or name.startswith(("maskmov", "xlat")):
            before = self.load(6, self.address()) + self.load(7, self.address()) + self.load(3, self.address())
            if rng.random() < 0.9:
                before += self.load(1, rng.randrange(6))
        elif name in ("push", "pop", "call", "ret", "enter", "leave", "pusha", "popa", "pushf", "popf", "retf"):
            before = self.load(4, DATA - base_of(self.mode) + 512 + 8 * rng.randrange(800)) + self.load(5, self.address())
        elif name in ("div", "idiv"):
            before = self.load(2, 0) + self.load(0, rng.getrandbits(7))
        if row.undefined:
            after = b"\x3c" + rng.randbytes(1)               # CMP AL, Ib: defines all flags again
        return before + code + after

    def branch(self, row, code: bytes) -> bytes:
        """A branch over an instruction, or back over one."""
        rng = self.rng
        found = decode(code, self.mode, self.features)
        if not found:
            return code
        over = self.encoder.instruction(rng.choice(self.others))
        forward = rng.random() < 0.7
        width = 1 if row.operands[0].kind == "b" else 2 if found.opsize == 2 else 4
        distance = len(over) if forward else -len(over) - len(code)
        code = code[:-width] + (distance & (1 << 8 * width) - 1).to_bytes(width, "little")
        return (code + over if forward else over + code) + b"\x3c" + rng.randbytes(1)

    def sequence(self) -> tuple[bytes, int]:
        """Code, and the number of its instructions to run."""
        rng = self.rng
        while True:
            wanted = rng.randrange(20, 49)
            code = b"".join(rng.choice(self.pieces) for _ in range(wanted))[:WIDTH - 16]
            if not has_system_call(code):
                return code, wanted


def states(rng: random.Random, cases: np.ndarray, mode: int, numbers: np.random.Generator) -> None:
    """Random registers, flags, x87, MMX and SSE state."""
    count = len(cases)
    base = base_of(mode)
    regs = numbers.integers(0, 1 << 64, (count, 16), U64)
    regs >>= numbers.integers(0, 64, (count, 16), U64)
    kind = numbers.integers(0, 8, (count, 16))
    regs = np.where(kind == 0, U64(DATA - base) + numbers.integers(0, 8192, (count, 16), U64), regs)
    regs = np.where(kind == 1, ~regs, regs)
    regs = np.where(kind == 2, U64(1) << (regs & U64(63)), regs)
    regs[:, 4] = U64(DATA - base + 512) + U64(8) * numbers.integers(0, 800, count, U64)
    if mode != 64:
        regs[:, :8] &= U64(0xFFFFFFFF)
        regs[:, 8:] = 0
    cases["regs"] = regs
    cases["rflags"] = U64(FLAGS) | (numbers.integers(0, 1 << 12, count, U64) & U64(ARITHMETIC)) | np.where(
        numbers.integers(0, 16, count) == 0, 0x400, 0).astype(U64)
    fx = cases["fx"]
    fx[:, 32:416] = numbers.integers(0, 256, (count, 384), np.uint8)
    words = fx[:, 32:160].view("<u2").reshape(count, 8, 8)
    words[:, :, 5:] = 0
    near = numbers.integers(0, 4, (count, 8)) != 0                # exponents near 1, integer bit set
    words[:, :, 4] = np.where(near, 0x3FFF + numbers.integers(-40, 40, (count, 8)), words[:, :, 4]).astype("<u2")
    words[:, :, 3] = np.where(near, words[:, :, 3] | 0x8000, words[:, :, 3])
    fx[:, 4] = numbers.integers(0, 256, count)                   # tags
    fx[:, 0] = np.where(numbers.integers(0, 8, count) == 0, numbers.integers(0, 64, count), 0x3F) | 0x40
    fx[:, 1] = numbers.integers(0, 16, count)
    fx[:, 3] = numbers.integers(0, 8, count) << 3                # TOP
    fx[:, 24] = np.where(numbers.integers(0, 4, count) == 0, 0xC0, 0x80)
    fx[:, 25] = 0x1F | numbers.integers(0, 4, count) << 5 | np.where(numbers.integers(0, 4, count) == 0, 0x80, 0)
    single = numbers.integers(0, 3, count) == 0                  # plain numbers in some vectors
    floats = fx[:, 160:416].view("<f4")
    floats[single] = numbers.normal(0, 1000, (int(single.sum()), 64)).astype("<f4")


class Native:
    """Both processors, and what has been found."""

    def __init__(self) -> None:
        from emu.debug.native.host import NativeCpu
        self.features = host_features()
        self.host = NativeCpu()
        self.guest = EmulatedCpu(self.features)
        self.names = {number: name for name, number in FEATURE_NUMBERS.items()}
        self.done = Counter()
        self.excused: Counter = Counter()
        self.failures: list[str] = []

    def round(self, seed: str, batches: int = 8) -> int:
        """A few batches of one mode; gives the number of instructions that were compared. Raises AssertionError."""
        rng = random.Random(seed)
        mode = rng.choice((64, 64, 32, 16))
        pool = Pool(rng, mode, self.features)
        numbers = np.random.default_rng(rng.getrandbits(64))
        before = self.done["instructions"]
        for _ in range(batches):
            cases, codes = new_cases(BATCH, mode), np.full((BATCH, WIDTH), 0xCC, np.uint8)
            states(rng, cases, mode, numbers)
            for place in range(BATCH):
                code, steps = pool.sequence()
                codes[place, :len(code)] = np.frombuffer(code, np.uint8)
                cases["code_length"][place], cases["steps"][place] = len(code), steps
                at = rng.choice((0, 0, 4096 - rng.randrange(len(code))))
                cases["code_at"][place], cases["rip"][place] = at, CODE + at - base_of(mode)
            template = numbers.integers(0, 256, 8192, np.uint8)
            self.compare(mode, cases, codes, template)
        return self.done["instructions"] - before

    @staticmethod
    def differ(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
        """Where results differ: (n,) bool. The x87's pointers are out: AMD's FXRSTOR between two steps of the host leaves them."""
        ours["fx"][:, 6:24] = theirs["fx"][:, 6:24] = 0
        different = np.zeros(len(ours), bool)
        for found in parts(ours, theirs).values():
            different |= found
        return different

    def compare(self, mode: int, cases: np.ndarray, codes: np.ndarray, template: np.ndarray) -> None:
        theirs = self.host.run(cases, codes, template)
        ours = self.guest.run(cases, codes, template, traced=False)
        self.done["sequences"] += len(cases)
        self.done["instructions"] += int(theirs["steps"].sum())
        self.done["whole"] += int((theirs["steps"] >= 20).sum())
        for place in np.flatnonzero(self.differ(ours, theirs)):
            self.narrow(mode, cases[place:place + 1], codes[place:place + 1], template)

    def narrow(self, mode: int, case: np.ndarray, code: np.ndarray, template: np.ndarray) -> None:
        """Finds the first instruction behind which the two differ; excuses it or tells it."""
        count = int(case["steps"][0])
        cases, codes = np.repeat(case, count, 0), np.repeat(code, count, 0)
        cases["steps"] = np.arange(1, count + 1)
        theirs = self.host.run(cases, codes, template)
        for traced in (False, True):
            ours = self.guest.run(cases, codes, template, traced=traced)
            different = self.differ(ours, theirs)
            if not different.any():
                shown = traced and self.shows_trace(mode, case[0], code[0].tobytes(), theirs)
                self.excused["shows that the host single-steps it" if shown else "NOT REPEATABLE"] += 1
                if not shown:
                    length = int(case["code_length"][0])
                    self.failures.append(f"{mode}-bit: {code[0].tobytes()[:length].hex()}  differs only through blocks")
                return
        place = int(np.flatnonzero(different)[0])
        rip = int(theirs["rip"][place - 1] if place else case["rip"][0])
        data = self.bytes_at(mode, case[0], code[0].tobytes(), rip)
        reason = self.excuse(mode, data, {name for name, found in parts(ours, theirs).items() if found[place]},
                             ours[place], theirs[place])
        if reason:
            self.excused[reason] += 1
            return
        decoder = Decoder(mode, data, ip=rip)
        text = Formatter(FormatterSyntax.NASM).format(decoder.decode()) if data else "?"
        state = (theirs[place - 1] if place else case[0])
        registers = " ".join(f"{int(value):x}" for value in state["regs"])
        self.failures.append(
            f"{mode}-bit, instruction {place + 1}, {rip:#x}: {data.hex()}  {text}\n"
            f"  before: rflags {int(state['rflags']):x} regs {registers}\n  "
            + "\n  ".join(differences(ours[place], theirs[place])))

    @staticmethod
    def bytes_at(mode: int, case, code: bytes, rip: int) -> bytes:
        start = rip - (CODE - base_of(mode)) - int(case["code_at"])
        return code[start:start + 15] if 0 <= start < WIDTH else b""

    def shows_trace(self, mode: int, case, code: bytes, theirs: np.ndarray) -> bool:
        """Whether any instruction that ran stores the trap flag or holds a trap back."""
        for rip in (int(case["rip"]), *(int(value) for value in theirs["rip"])):
            found = decode(self.bytes_at(mode, case, code, rip) or b"\xcc", mode, self.features)
            row = ROWS[found.row] if found else None
            if row is not None and (row.mnemonic.split("/")[0] in TRACE_SHOWS or (row.mnemonic in ("mov", "pop") and any(
                    operand.place == "S" or operand.kind == "SS" for operand in row.operands))):
                return True
        return False

    def excuse(self, mode: int, data: bytes, which: set[str], ours, theirs) -> str:
        """Why a difference behind the instruction `data` is none; "" where it is one."""
        if not data:
            return ""
        if has_system_call(data):
            return "a system call"
        found = decode(data, mode, self.features)
        row = ROWS[found.row] if found else None
        name = row.mnemonic.split("/")[0] if row else ""
        if name in NOT_RUN:
            return NOT_RUN[name]
        if name in ("shld", "shrd") and found.opsize == 2:
            return "undefined where the count is above 16"
        if row is not None and which == {"rflags"}:
            undefined = sum(FLAG_BITS[letter] for letter in row.undefined)
            if not (int(ours["rflags"]) ^ int(theirs["rflags"])) & ARITHMETIC & ~undefined:
                return "undefined flags"
        wanted = {FEATURE_TEXT[feature] for feature in Decoder(mode, data).decode().cpuid_features()}
        mine = {self.names[number] for number in self.features}
        if wanted & NEWER and not wanted & mine:
            return "newer than the model"
        return ""


FEATURE_TEXT = {getattr(CpuidFeature, name): name for name in dir(CpuidFeature) if name.isupper()}
# iced-x86's names of features that hosts have and the model has not.
NEWER = {"AVX", "AVX2", "FMA", "F16C", "BMI1", "BMI2", "AES", "PCLMULQDQ", "SHA", "ADX", "LZCNT", "VAES", "VPCLMULQDQ", "GFNI", "AVX512F",
         "AVX512VL", "AVX512BW", "AVX512DQ", "AVX512CD", "AVX512_IFMA", "AVX512_VBMI", "AVX512_VBMI2", "AVX512_VNNI", "AVX512_BITALG",
         "AVX512_VPOPCNTDQ", "AVX512_BF16", "SSE4A", "CLZERO", "MONITORX", "WBNOINVD", "CLWB", "XSAVEC", "XSAVES", "CET_SS", "CET_IBT",
         "MCOMMIT", "RDPRU", "INVLPGB", "SNP", "VMX", "SVM", "TBM", "XOP", "FMA4", "LWP", "D3NOW", "D3NOWEXT"}


def run_round(seed: str, native: Native) -> int:
    count = native.round(seed)
    if native.failures:
        raise AssertionError(f"{len(native.failures)} sequences differ; the first:\n  " + "\n  ".join(native.failures[:4]))
    return count
