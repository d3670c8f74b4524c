# Conformance runs: cases from the instruction table, run by the host's processor and by ours, compared, counted.
from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from emu.cpu.decode import decode
from emu.debug.native import VISIBLE_FLAGS, differences, host_features, parts
from emu.debug.native.cases import BREAKPOINT, CODE, DATA, LDT, base_of, new_cases
from emu.debug.native.guest import EmulatedCpu
from emu.isa.features import FEATURE_NUMBERS
from emu.isa.generate import load_rows, load_topics
from emu.isa.rows import Row
from emu.isa.shapes import ENDS
from tests.conformance import rules
from tests.conformance.encode import Encoded, Form, encode, forms
from tests.conformance.states import SELECTORS, U64, images, integers, places, template, vectors

WIDTH = 16
POOL = 4096
DATA_SELECTORS = {32: (0x2B, 0x2B, 0x17, 0x1F, 0x3F, 0x4F, 0x23), 16: (0x0F, 0x0F, 0x0F, 0x27, 0x4F, 0x1F, 0x07, 0x17)}
BASES = {0x2B: 0, 0x23: 0, **{8 * k + 7: entry[0] for k, entry in enumerate(LDT)}}
AREA_ROWS = ("fxsave", "xsave", "xsaveopt", "xsavec")        # MXCSR_MASK in memory is the model's
STACKED = {"push", "pop", "pushf/pushfd/pushfq", "popf/popfd/popfq", "call", "ret", "enter", "leave", "pusha/pushad", "popa/popad",
           "iret/iretd/iretq", "retf/retf/retfq"}


@dataclass
class Finding:
    row: Row
    mode: int
    traced: bool
    code: bytes
    what: list[str]
    case: np.void
    template: np.ndarray


@dataclass
class Report:
    """Counts of a run."""

    cases: Counter = field(default_factory=Counter)              # (row number, mode, form) -> cases
    wrong: Counter = field(default_factory=Counter)              # row number -> disagreements
    findings: dict = field(default_factory=lambda: defaultdict(list))
    missing: dict = field(default_factory=dict)                  # (row number, mode, form) -> reason
    faults: Counter = field(default_factory=Counter)             # vector -> cases


def all_triples(rows: list[Row]) -> list[tuple[Row, int, Form]]:
    return [(row, mode, form) for row in rows for mode in (64, 32, 16) for form in forms(row, mode)]


class Generator:
    """Makes blocks of cases of one encoding each. seed: decides all."""

    def __init__(self, seed: int, features: tuple[int, ...]) -> None:
        self.random = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        self.features = features
        self.rows = load_rows()
        self.ends = {name: ENDS | set(getattr(module, "ENDS", ())) for name, module in load_topics().items()}
        self.pool = images(self.rng, POOL)
        self.values = integers(self.rng, (POOL, 16))
        self.patches = vectors(self.rng, 4 * POOL).reshape(POOL, 64)

    def renew(self) -> None:
        self.pool = images(self.rng, POOL)
        self.values = integers(self.rng, (POOL, 16))
        self.patches = vectors(self.rng, 4 * POOL).reshape(POOL, 64)

    def is_traced(self, row: Row, found: Encoded) -> bool:
        """Whether it must be single-stepped: it may branch, repeat, or show the trap flag."""
        return (row.shape in self.ends[row.topic] or row.topic == "branch" or found.repeats or row.mnemonic.startswith(("pushf", "int"))
                or self.random.random() < 0.03)

    def encoded(self, row: Row, mode: int, form: Form, code_at: int) -> Encoded | None:
        """An encoding that the decoder takes for this very row; None where there is none."""
        base = base_of(mode)
        for _ in range(20):
            target = int(places(self.rng, 1, mode, 8)[0]) - base
            if self.random.random() < 0.8:
                target = DATA + self.random.randrange(0, 8128) - base
            found = encode(self.random, row, mode, form, target, code_at - base)
            if row.mnemonic == "int" and found.immediate == b"\x80":
                continue
            if len(found.code) > 15:
                continue
            decoding = decode(found.code + bytes(15), mode, self.features)
            if decoding and decoding.row == row.number and decoding.length == len(found.code):
                return found
        return None

    def block(self, row: Row, mode: int, form: Form, count: int) -> tuple[np.ndarray, np.ndarray, bool] | None:
        """(cases, codes, traced) of one encoding; None where the row cannot be encoded."""
        rng, base = self.rng, base_of(mode)
        code_at = CODE + 0x100 if self.random.random() < 0.7 else CODE + self.random.randrange(0, 0x1F00)
        if self.random.random() < 0.1:
            code_at = CODE + 0x1000 - self.random.randrange(1, 8)
        found = self.encoded(row, mode, form, code_at)
        if found is None:
            return None
        traced = self.is_traced(row, found)
        cases = new_cases(count, mode)
        codes = np.full((count, WIDTH), 0xCC, np.uint8)
        codes[:, :len(found.code)] = np.frombuffer(found.code, np.uint8)
        cases["code_length"] = len(found.code)
        cases["code_at"] = code_at - CODE
        cases["rip"] = code_at - base
        cases["finish"] = 0 if traced else BREAKPOINT
        regs = self.values[rng.integers(0, POOL, count)]
        if row.modrm and self.random.random() < 0.3:
            regs = np.where(rng.integers(0, 16, (count, 16)) == 0, np.roll(regs, 1, axis=1), regs)
        cases["fx"] = self.pool[rng.integers(0, POOL, count)]
        if row.topic != "x87" or self.random.random() < 0.3:            # else too few get past a waiting exception
            quiet = rng.integers(0, 8, count) != 0
            cases["fx"][quiet, 3] &= 0x7F
            cases["fx"][quiet, 2] &= 0x7F
            cases["fx"][quiet, 0] |= 0x3F
        cases["rflags"] = self.flags(count)
        selectors = cases["selectors"]
        if mode != 64 and self.random.random() < 0.15:
            selectors[:, self.random.choice((0, 3, 4, 5))] = self.random.choice(DATA_SELECTORS[mode])
        bases = np.zeros((count, 6), U64)
        if mode == 64:
            for name, place in (("fs_base", 4), ("gs_base", 5)):
                bases[:, place] = U64(self.random.choice((0, DATA, 0x1000, 1 << 46, (1 << 64) - 0x1000, 0xFFFF800000000000)))
                cases[name] = bases[:, place]
        else:
            for place in range(6):
                bases[:, place] = BASES.get(int(selectors[0, place]), 0)
            cases["fs_base"], cases["gs_base"] = bases[:, 4], bases[:, 5]
        self.implicit(row, mode, cases, regs, bases)
        size = max((operand.size(form.opsize or 8) for operand in row.operands), default=8) or 8
        targets = places(rng, count, mode, size)
        if row.mnemonic.startswith(("fx", "xs", "xr")) and self.random.random() < 0.9:
            targets = U64(DATA) + rng.choice(np.array((0, 1024, 5120, 6144, 4096 - 256, 1040), U64), count)
        if found.memory and not found.fixed:
            self.aim(found, regs, targets, bases[:, found.segment])
        elif found.fixed:
            targets[:] = U64(DATA) + rng.integers(0, 8128, count, U64) if self.random.random() < 0.5 else targets
        if mode != 64:
            regs[:, :8] &= U64(0xFFFFFFFF)
        regs[:, 8:] = regs[:, 8:] if mode == 64 else 0
        cases["regs"] = regs
        inside = (targets >= DATA) & (targets < DATA + 8192 - 64) & (rng.integers(0, 4, count) != 0)
        if row.mnemonic.startswith(("fx", "xs", "xr")) or row.mnemonic in ("frstor", "fldenv"):
            inside &= rng.integers(0, 8, count) == 0
        cases["patch_at"] = np.where(inside, targets - U64(DATA), 0)
        cases["patch_length"] = np.where(inside, rng.choice(np.array((8, 16, 32, 64)), count), 0)
        cases["patch"] = self.patches[rng.integers(0, POOL, count)]
        self.stack_contents(row, mode, cases, found, targets)
        return cases, codes, traced

    def flags(self, count: int) -> np.ndarray:
        rng = self.rng
        flags = U64(0x202) | (rng.integers(0, 1 << 12, count, U64) & U64(0x8D5))
        flags |= np.where(rng.integers(0, 8, count) == 0, 1 << 10, 0).astype(U64)
        flags |= np.where(rng.integers(0, 40, count) == 0, 1 << 18, 0).astype(U64)
        flags |= np.where(rng.integers(0, 40, count) == 0, 1 << 14, 0).astype(U64)
        return flags | np.where(rng.integers(0, 40, count) == 0, 1 << 21, 0).astype(U64)

    def aim(self, found: Encoded, regs: np.ndarray, targets: np.ndarray, bases: np.ndarray) -> None:
        """Sets the base (or index) register so that the operand lies at `targets`."""
        mask = U64((1 << 8 * found.address_size) - 1)
        wanted = targets - bases - U64(found.displacement & (1 << 64) - 1)
        if found.base is None:
            if found.index is None or found.scale != 1:
                return
            place = found.index
        else:
            place = found.base
            if found.index is not None:
                if self.random.random() < 0.7:
                    regs[:, found.index] = self.rng.integers(0, 256, len(regs), U64)
                wanted = wanted - regs[:, found.index] * U64(found.scale)
        regs[:, place] = regs[:, place] & ~mask | wanted & mask

    def implicit(self, row: Row, mode: int, cases: np.ndarray, regs: np.ndarray, bases: np.ndarray) -> None:
        """Registers that instructions use without naming them: rsp, rsi, rdi, rbx, rbp, counts."""
        rng, count = self.rng, len(regs)
        wild = self.random.random() < 0.05
        mask = U64(0xFFFF if mode == 16 else 0xFFFFFFFF if mode == 32 else (1 << 64) - 1)
        if not wild:
            for place, segment in ((4, 2), (5, 2), (6, 3), (7, 0), (3, 3)):
                if place in (4, 5) or row.topic == "string" or row.mnemonic in ("maskmovq", "maskmovdqu", "xlatb"):
                    aimed = places(rng, count, mode, 8) - bases[:, segment]
                    if place in (4, 5) and self.random.random() < 0.9:
                        aimed = U64(DATA) + (rng.integers(256, 8192 - 600, count, U64) & U64(~7 & 0xFFFF)) - bases[:, segment]
                    regs[:, place] = regs[:, place] & ~mask | aimed & mask
            if mode == 16:
                regs[:, 4] &= U64(0xFFFF)
        if row.topic == "string" and self.random.random() < 0.9:
            regs[:, 1] = rng.integers(0, 5, count, U64)
        if any(operand.place == "S" for operand in row.operands) or row.mnemonic in ("lar", "lsl", "verr", "verw", "arpl"):
            picked = rng.integers(0, 4, count) != 0
            for place in range(16):
                if place not in (4, 5) or self.random.random() < 0.2:
                    regs[:, place] = np.where(picked, regs[:, place] & ~U64(0xFFFF) | rng.choice(SELECTORS, count), regs[:, place])
        if row.mnemonic == "xgetbv":                        # 1 is the host's, where it has XGETBV1
            regs[:, 1] = np.where(regs[:, 1] & U64(0xFFFFFFFF) == 1, 0, regs[:, 1])
        if row.mnemonic.startswith(("xsave", "xrstor")):
            regs[:, 0] = rng.integers(0, 4, count, U64)
            regs[:, 2] = 0

    def stack_contents(self, row: Row, mode: int, cases: np.ndarray, found: Encoded, targets: np.ndarray) -> None:
        """What far pointers, return addresses and frames in memory hold."""
        rng, count = self.rng, len(cases)
        name = row.mnemonic.split("/")[0]
        far = name in ("jmp", "call", "les", "lds", "lss", "lfs", "lgs") and found.memory or name in ("lar", "lsl", "verr", "verw")
        stacked = name in ("ret", "retf", "iret", "pop", "popf", "popa") and not found.memory or name in ("retf", "iret")
        if not far and not stacked or self.random.random() < 0.1:
            if name == "mov" and any(operand.place == "S" for operand in row.operands):
                cases["patch"].view("<u2")[:, 0] = rng.choice(SELECTORS, count)
            return
        base = U64(base_of(mode))
        if stacked:
            targets = cases["regs"][:, 4] + (base if mode == 16 else U64(0))
        inside = (targets >= DATA) & (targets < DATA + 8192 - 64)
        cases["patch_at"] = np.where(inside, targets - U64(DATA), 0)
        cases["patch_length"] = np.where(inside, 64, 0)
        patch = cases["patch"]
        size = self.random.choice((2, 4, 8))
        fields = patch.view(f"<u{size}")
        kind = fields.dtype
        into_code = (U64(CODE) + rng.integers(0, 8192, count, U64) - base).astype(kind)
        fields[:, 0] = np.where(rng.integers(0, 8, count) == 0, fields[:, 0], into_code)
        near = rng.choice(SELECTORS, count)
        own = np.where(rng.integers(0, 3, count) == 0, near, cases["selectors"][:, 1].astype(U64))
        if name in ("lar", "lsl", "verr", "verw"):
            patch.view("<u2")[:, 0] = near
        elif name == "pop":
            fields[:, 0] = near.astype(kind)
        elif name in ("popf",):
            fields[:, 0] = rng.integers(0, 1 << 22, count, U64).astype(kind)
        elif name in ("les", "lds", "lss", "lfs", "lgs"):
            pointer = patch.view("u1")
            pointer[:, size:size + 2] = near.astype("<u2").reshape(-1, 1).view(np.uint8)
        elif name in ("jmp", "call"):
            patch[:, size:size + 2] = own.astype("<u2").reshape(-1, 1).view(np.uint8)
        elif name in ("retf", "iret"):
            fields[:, 1] = own.astype(kind)
            if name == "iret":
                fields[:, 2] = (U64(0x202) | rng.integers(0, 1 << 22, count, U64) & U64(0x244CD5)).astype(kind)
                fields[:, 3] = (U64(DATA) + rng.integers(0, 8192, count, U64) - base).astype(kind)
                stack = np.where(rng.integers(0, 4, count) == 0, near, cases["selectors"][:, 2].astype(U64))
                fields[:, 4] = stack.astype(kind)


class Conformance:
    """The two processors, a generator, and what was found. seed: of all that is random."""

    def __init__(self, seed: int = 1, batch: int = 4096) -> None:
        from emu.debug.native.host import NativeCpu
        self.features = host_features()
        self.host = NativeCpu()
        self.guest = EmulatedCpu(self.features)
        self.generator = Generator(seed, self.features)
        self.report = Report()
        self.batch = batch
        self.waiting: list = []
        self.held = 0

    def reason(self, row: Row) -> str | None:
        """Why a row is not run, or None."""
        name = row.mnemonic.split("/")[0]
        if row.cpuid and FEATURE_NUMBERS[row.cpuid] not in self.features:
            return f"the host (or the model) has no {row.cpuid}"
        return rules.NOT_RUN.get(name)

    def add(self, row: Row, mode: int, form: Form, count: int) -> None:
        reason = self.reason(row) or (None if mode != 16 or self.host.has_ldt else "the host's kernel refuses 16-bit segments")
        block = None if reason else self.generator.block(row, mode, form, count)
        if block is None:
            self.report.missing[row.number, mode, form] = reason or "an earlier row of the opcode takes all its encodings"
            return
        self.waiting.append((row, mode, form, *block))
        self.held += count
        if self.held >= self.batch:
            self.flush()

    def flush(self) -> None:
        """Runs and compares what waits."""
        for traced in (False, True):
            blocks = [block for block in self.waiting if block[5] == traced]
            if blocks:
                self.run(blocks, traced)
        self.waiting, self.held = [], 0

    def run(self, blocks: list, traced: bool) -> None:
        cases = np.concatenate([block[3] for block in blocks])
        codes = np.concatenate([block[4] for block in blocks])
        data = template(self.generator.rng, self.generator.pool)
        theirs = self.host.run(cases, codes, data)
        ours = self.guest.run(cases, codes, data, traced=traced)
        start = 0
        for row, mode, form, *_ in blocks:
            end = start + len(_[0])
            self.judge(row, mode, form, traced, cases[start:end], codes[start:end], data, ours[start:end], theirs[start:end])
            start = end

    def judge(self, row: Row, mode: int, form: Form, traced: bool, cases: np.ndarray, codes: np.ndarray, data: np.ndarray,
              ours: np.ndarray, theirs: np.ndarray) -> None:
        report = self.report
        self.excuse(row, cases, codes, data, traced, ours, theirs)
        bits = VISIBLE_FLAGS & ~rules.undefined_flags(row)
        different = np.zeros(len(ours), bool)
        for found in parts(ours, theirs, np.where(theirs["vector"] == 1, bits, VISIBLE_FLAGS).astype(U64)).values():
            different |= found
        report.cases[row.number, mode, form] += len(cases)
        report.faults.update(theirs["vector"].tolist())
        if different.any():
            report.wrong[row.number] += int(different.sum())
            for place in np.flatnonzero(different)[:2]:
                if len(report.findings[row.number]) < 6:
                    code = bytes(codes[place][:cases[place]["code_length"]])
                    report.findings[row.number].append(Finding(row, mode, traced, code, differences(ours[place], theirs[place]),
                                                               cases[place].copy(), data))

    def excuse(self, row: Row, cases: np.ndarray, codes: np.ndarray, data: np.ndarray, traced: bool, ours: np.ndarray,
               theirs: np.ndarray) -> None:
        """Takes out of both results what is the host's own (rules.py)."""
        name = row.mnemonic.split("/")[0]
        done = theirs["vector"] == 1
        for place in rules.HOST_VALUES.get(name, ()):
            ours["regs"][done, place] = theirs["regs"][done, place] = 0
        if name in rules.RANDOM_VALUES:
            changed = (ours["regs"] != theirs["regs"]) & done[:, None]
            ours["regs"][changed] = theirs["regs"][changed] = 0
        for part in (ours, theirs):                                     # Linux' way to 16-bit stacks loses the upper half of rsp
            part["regs"][theirs["selectors"][:, 2] & 4 != 0, 4] &= U64(0xFFFFFFFF)
        if name == "call" and row.topic == "system":                    # DEVIATES: the host has pushed before it looks at the target
            faulted = theirs["vector"] == 13
            for part in ("memory_hash", "lines"):
                ours[part][faulted] = theirs[part][faulted]
        lost = theirs["vector"] == -1
        ours[lost] = theirs[lost]
        if name in rules.APPROXIMATE:
            rules.excuse_approximation(ours, theirs)
        if name in ("xsave", "xsaveopt", "xsavec", "xrstor"):
            wider = cases["regs"][:, 0] & U64(0xFFFFFFFC) != 0          # components that the host has and the model lacks
            ours[wider] = theirs[wider]
        if name in AREA_ROWS and not (ours["memory_hash"] == theirs["memory_hash"]).all():
            _, native = self.host.run(cases, codes, data, memory=True)
            _, guest = self.guest.run(cases, codes, data, traced=traced, memory=True)
            rules.excuse_area(row, cases, native, guest)
            same = (native == guest).all(axis=1)
            ours["memory_hash"][same] = theirs["memory_hash"][same] = 0


def sweep(conformance: Conformance, cases: int, block: int = 32, rows: set[int] | None = None) -> None:
    """About `cases` cases, evenly over all triples (of `rows`), in rounds."""
    triples = [triple for triple in all_triples(conformance.generator.rows) if rows is None or triple[0].number in rows]
    done = 0
    while done < cases:
        for row, mode, form in triples:
            conformance.add(row, mode, form, block)
        conformance.flush()
        done += block * len(triples)
        conformance.generator.renew()


def table(conformance: Conformance) -> str:
    """The table of counts, and what is not covered."""
    report = conformance.report
    rows = conformance.generator.rows
    triples = [(row.number, mode, form) for row, mode, form in all_triples(rows)]
    covered = [triple for triple in triples if report.cases[triple]]
    covered_rows = {number for number, _, _ in covered}
    lines = [f"rows {len(rows)}, covered {len(covered_rows)}",
             f"forms (row, memory or register, operand size) {len({(n, f) for n, _, f in triples})}, "
             f"covered {len({(n, f) for n, _, f in covered})}",
             f"(row, mode, form) {len(triples)}, covered {len(covered)} ({100 * len(covered) / len(triples):.1f} %)",
             f"cases {sum(report.cases.values())}, disagreements {sum(report.wrong.values())}"]
    by_mode = Counter()
    for (_, mode, _), count in report.cases.items():
        by_mode[mode] += count
    lines.append("by mode: " + ", ".join(f"{mode}-bit {by_mode[mode]}" for mode in (64, 32, 16)))
    named = {1: "done", -1: "killed the host's process (not compared)"}
    lines.append("by outcome: " + ", ".join(f"{named.get(vector, f'#{vector}')} {count}"
                                            for vector, count in sorted(report.faults.items())))
    reasons = defaultdict(list)
    for triple in triples:
        if not report.cases[triple]:
            reasons[report.missing.get(triple, "not run")].append(rows[triple[0]].mnemonic)
    for reason, names in sorted(reasons.items()):
        lines.append(f"not covered, {len(names)} triples: {', '.join(sorted(set(names)))}: {reason}")
    return "\n".join(lines)
