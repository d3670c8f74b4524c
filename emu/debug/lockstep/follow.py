# The comparison: states of the master one after another, our processor beside it, differences named. No process, no log format.
import collections
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import capstone

from emu.debug.lockstep.log import HARDWARE, State
from emu.debug.lockstep.walk import code_bits, linear_rip, read_linear

TAIL = 16                        # instructions shown before a difference
REPEAT_LIMIT = 1 << 24           # steps of one repeated string instruction, at most

GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
           "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "ldt", "tr")
NARROW = set(GENERAL[:8]) | {"rip", "rflags", "cr0", "cr2", "cr3", "cr4", "gdt.base", "idt.base"} | {s + ".base" for s in SEGMENTS}
SEGMENT_FLAGS = 0x00F0FE00       # the attributes but the accessed bit, which QEMU sets in memory only; it keeps limit bits between them
TASK_BUSY = 0x200                # likewise of TR
RFLAGS_COMPARED = 0x3F7FD5 & ~0x10000       # RF: QEMU does not clear it after every instruction (it acts on faults only)

# What an instruction of the outside gives may differ: we take QEMU's result and go on.
OUTSIDE = {"in", "insb", "insw", "insd", "cpuid", "rdtsc", "rdtscp", "rdmsr", "rdpmc", "rdrand", "rdseed", "hlt", "mwait", "xgetbv"}

_CF, _PF, _AF, _ZF, _SF, _OF = 0x1, 0x4, 0x10, 0x40, 0x80, 0x800
# Flags that the manual leaves undefined (SDM 2, "Flags Affected"); hardware, QEMU and we may each do as we like.
UNDEFINED = {
    **dict.fromkeys(("and", "or", "xor", "test"), _AF),
    **dict.fromkeys(("shl", "sal", "shr", "sar", "shld", "shrd"), _AF | _OF | _CF),
    **dict.fromkeys(("rol", "ror", "rcl", "rcr"), _OF),
    **dict.fromkeys(("mul", "imul"), _SF | _ZF | _AF | _PF),
    **dict.fromkeys(("div", "idiv"), _CF | _OF | _SF | _ZF | _AF | _PF),
    **dict.fromkeys(("bsf", "bsr"), _CF | _OF | _SF | _AF | _PF),
    **dict.fromkeys(("bt", "bts", "btr", "btc"), _OF | _SF | _AF | _PF),
    **dict.fromkeys(("lzcnt", "tzcnt"), _CF | _OF | _SF | _AF | _PF),     # a processor without them executes BSR, BSF
    **dict.fromkeys(("aaa", "aas"), _OF | _SF | _ZF | _PF),
    **dict.fromkeys(("aad", "aam"), _OF | _AF | _CF),
    **dict.fromkeys(("daa", "das"), _OF),
}


class Follower(Protocol):
    """Our side: one processor with RAM and nothing else. Register names are those of log.py."""

    def load(self, values: Mapping[str, int]) -> None:
        """Takes over the registers given, and leaves the others; a halted processor runs again."""

    def registers(self) -> dict[str, int]:
        """All registers now."""

    def step(self) -> None:
        """Executes the next instruction, or delivers the exception it raises; never takes an external interrupt."""

    def interrupt(self, vector: int) -> None:
        """Takes an external interrupt now."""

    def read_physical(self, address: int, size: int) -> bytes:
        """RAM; fewer bytes where there is none."""

    def outside(self) -> int:
        """How many accesses to physical addresses without RAM there have been: a count that grows."""

    def remark(self) -> str:
        """What else there is to say of the last step (not emulated, shut down, the fault it raised), or nothing."""


@dataclass(slots=True)
class Difference:
    """The first sign of one disagreement, with all that is needed to look at it."""

    number: int                                       # how many instructions were compared before
    before: State
    after: State
    names: dict[str, tuple[int, int]]                 # register -> (ours, QEMU's)
    code: bytes
    tail: list[tuple[int, int, bytes]]                # (linear rip, bits, code) of the instructions before, oldest first
    remark: str = ""                                  # what our side has to say


@dataclass(slots=True)
class Report:
    """What a run of `follow` found."""

    instructions: int = 0
    interrupts: int = 0
    exceptions: int = 0
    adopted: collections.Counter[str] = field(default_factory=collections.Counter)    # mnemonic -> results taken from QEMU
    undefined: collections.Counter[str] = field(default_factory=collections.Counter)  # mnemonic -> undefined flags differed
    differences: list[Difference] = field(default_factory=list)                       # the first at each address
    repeated: collections.Counter[int] = field(default_factory=collections.Counter)   # linear rip -> differences there
    last: State | None = None                         # the state at which both stand


_disassemblers: dict[int, capstone.Cs] = {}


def disassemble(code: bytes, linear: int, bits: int) -> tuple[str, str]:
    """Mnemonic (prefixes left out) and text of the first instruction in `code`."""
    if bits not in _disassemblers:
        mode = {16: capstone.CS_MODE_16, 32: capstone.CS_MODE_32, 64: capstone.CS_MODE_64}[bits]
        _disassemblers[bits] = capstone.Cs(capstone.CS_ARCH_X86, mode)
    for _, _, mnemonic, operands in _disassemblers[bits].disasm_lite(code, linear, 1):
        words = [w for w in mnemonic.split() if w not in ("rep", "repe", "repne", "repz", "repnz", "lock", "notrack", "bnd")]
        return (words or [mnemonic])[0], f"{mnemonic} {operands}".strip()
    return "?", "? " + code.hex(" ")


def normal(values: Mapping[str, int], wide: bool) -> dict[str, int]:
    """The registers as they are compared: what is not architectural, or not shown in this mode, taken out."""
    result = dict(values)
    result.pop("cpl", None)
    result.pop("cs.limit" if wide else "", None)
    result["rflags"] &= RFLAGS_COMPARED
    for segment in SEGMENTS:
        result[segment + ".flags"] &= SEGMENT_FLAGS
        null = segment != "tr" and values[segment] & 0xFFFC == 0 and values["cr0"] & 1 and not values["rflags"] & 1 << 17
        if null or wide and segment in ("es", "ss", "ds"):
            result.pop(segment + ".flags")                      # null, or not looked at in 64-bit mode
            result.pop(segment + ".limit", None)
            if segment not in ("fs", "gs"):
                result.pop(segment + ".base")
    result["tr.flags"] &= ~TASK_BUSY
    for number in range(8):
        if not values["ftw"] >> number & 1:
            result.pop(f"fpr{number}", None)                    # empty: what it held before is nobody's business
    if not wide:
        for name in NARROW & result.keys():
            result[name] &= 0xFFFFFFFF
        for number in range(8, 16):
            result.pop(f"r{number}", None)
            result.pop(f"xmm{number}", None)
    return result


def compare(ours: Mapping[str, int], theirs: Mapping[str, int], wide: bool) -> dict[str, tuple[int, int]]:
    """The registers that differ: name -> (ours, theirs)."""
    if ours == theirs:
        return {}
    mine, other = normal(ours, wide), normal(theirs, wide)
    return {name: (mine[name], value) for name, value in other.items() if name in mine and mine[name] != value}


def follow(states: Iterator[State], follower: Follower, keep_going: bool = True, limit: int = 20,
           progress: Callable[[Report], None] | None = None) -> Report:
    """Lets `follower` execute what the master executed, and compares after every instruction.

    The follower must stand at the first state (registers and memory). After a difference QEMU's registers are taken over, so that
    each difference is a fault of one instruction; with keep_going False the first one ends the run, else `limit` of them do.
    Interrupts are taken where QEMU took them.
    """
    report = Report()
    tail: collections.deque[State] = collections.deque(maxlen=TAIL)
    states = iter(states)
    before = next(states, None)
    if before is None:
        return report
    follower.load(before.values)
    ended = False
    while not ended:
        after = next(states, None)
        if after is None:
            break
        outside = follower.outside()
        if before.kind == HARDWARE:
            report.interrupts += 1
            follower.interrupt(before.vector)
        else:
            follower.step()
            report.instructions += 1
        ours = follower.registers()
        if before.kind != HARDWARE and (after.values["rip"] == before.values["rip"] or ours["rip"] == before.values["rip"]) \
                and _is_repeated(follower, before):
            # QEMU logs every turn of a repeated string instruction, and one more that finds the count at zero.
            while after.values["rip"] == before.values["rip"] and after.kind != HARDWARE:
                following = next(states, None)
                if following is None:
                    ended = True
                    break
                after = following
            turns = 0
            while ours["rip"] == before.values["rip"] != after.values["rip"] and turns < REPEAT_LIMIT:
                follower.step()
                ours = follower.registers()
                turns += 1
            if after.kind == HARDWARE and after.values["rip"] == before.values["rip"]:
                follower.load(after.values)                     # interrupted half-way: ours may have done more turns
                ours = follower.registers()
            if ended:
                return report                                   # in the middle of one: nothing to stand at
        report.exceptions += len(before.exceptions)
        names = compare(ours, after.values, after.wide)
        if names and before.exceptions and after.kind != HARDWARE and ours["rip"] != after.values["rip"]:
            # A step may deliver an exception and execute the handler's first instruction as well.
            following = next(states, None)
            if following is not None and not compare(ours, following.values, following.wide):
                tail.append(before)
                before, after, names = after, following, {}
                report.instructions += 1
            elif following is not None:
                states = _chain(following, states)
        if names:
            _judge(report, follower, before, after, names, outside, tail)
            if report.differences and (not keep_going or len(report.differences) >= limit):
                break
            follower.load(after.values)
        tail.append(before)
        before = after
        if progress is not None and report.instructions % 4096 == 0:
            progress(report)
    report.last = before
    return report


def _chain(first: State, rest: Iterator[State]) -> Iterator[State]:
    yield first
    yield from rest


def _code(follower: Follower, state: State) -> bytes:
    return read_linear(follower.read_physical, state.values, linear_rip(state.values), 15)


def _is_repeated(follower: Follower, state: State) -> bool:
    code = _code(follower, state)
    if not any(byte in (0xF2, 0xF3) for byte in code[:4]):
        return False
    mnemonic, _ = disassemble(code, 0, code_bits(state.values))
    return mnemonic[:4] in ("movs", "cmps", "stos", "lods", "scas") or mnemonic[:3] in ("ins", "out")


def _judge(report: Report, follower: Follower, before: State, after: State, names: dict[str, tuple[int, int]], outside: int,
           tail: collections.deque[State]) -> None:
    """Decides whether a mismatch is a difference worth telling, and counts it where it belongs."""
    code = _code(follower, before)
    mnemonic, _ = disassemble(code, linear_rip(before.values), code_bits(before.values))
    if before.kind != HARDWARE:
        if mnemonic in OUTSIDE:
            report.adopted[mnemonic] += 1
            return
        if follower.outside() != outside:
            report.adopted["memory of a device"] += 1
            return
        if names.keys() == {"rflags"} and not (names["rflags"][0] ^ names["rflags"][1]) & ~UNDEFINED.get(mnemonic, 0):
            report.undefined[mnemonic] += 1
            return
    linear = linear_rip(before.values)
    report.repeated[linear] += 1
    if report.repeated[linear] > 1:
        return
    report.differences.append(Difference(
        report.instructions, before, after, names, code,
        [(linear_rip(state.values), code_bits(state.values), _code(follower, state)) for state in tail], follower.remark()))


def describe(difference: Difference, symbol: Callable[[int], str] = lambda linear: "") -> str:
    """A difference in lines for a person: where, which instruction, which registers, what came before."""
    before, after = difference.before, difference.after
    linear, bits = linear_rip(before.values), code_bits(before.values)
    lines = [f"difference after {difference.number} instructions, at {linear:#x}{symbol(linear)}:"]
    for address, tail_bits, code in difference.tail:
        lines.append(f"      {address:016x}  {disassemble(code, address, tail_bits)[1]}{symbol(address)}")
    text = disassemble(difference.code, linear, bits)[1]
    if before.kind == HARDWARE:
        text = f"external interrupt {before.vector:#x}, before: {text}"
    lines.append(f"   -> {linear:016x}  {text}    [{difference.code.hex(' ')}]")
    if difference.remark:
        lines.append(f"      ours: {difference.remark}")
    for vector, error in before.exceptions:
        lines.append(f"      QEMU raised exception {vector} with error code {error:#x}")
    lines.append(f"      {'register':<10} {'before':>18} {'ours':>18} {'QEMU':>18}")
    for name, (ours, theirs) in difference.names.items():
        lines.append(f"      {name:<10} {before.values.get(name, 0):18x} {ours:18x} {theirs:18x}")
        if name == "rflags":
            lines.append(f"      {'':<10} differing bits: {_flag_names(ours ^ theirs)}")
    shown = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi") + (tuple(f"r{n}" for n in range(8, 16)) if before.wide else ())
    for start in range(0, len(shown), 4):
        lines.append("      " + "  ".join(f"{name:<3} {before.values.get(name, 0):016x}" for name in shown[start:start + 4]))
    lines.append("      before: rflags {rflags:x} cr0 {cr0:x} cr2 {cr2:x} cr3 {cr3:x} cr4 {cr4:x} efer {efer:x} cs {cs:x} ss {ss:x}"
                 .format(**before.values))
    lines.append(f"      QEMU goes on at {linear_rip(after.values):#x}{symbol(linear_rip(after.values))}")
    return "\n".join(lines)


def _flag_names(bits: int) -> str:
    names = {0: "CF", 2: "PF", 4: "AF", 6: "ZF", 7: "SF", 8: "TF", 9: "IF", 10: "DF", 11: "OF", 14: "NT", 16: "RF", 17: "VM",
             18: "AC", 21: "ID"}
    return " ".join(names.get(bit, f"bit {bit}") for bit in range(22) if bits >> bit & 1)


@dataclass(slots=True)
class MemoryDifference:
    """Eight bytes of RAM that differ."""

    physical: int
    ours: int
    theirs: int

    @property
    def accessed_or_dirty_only(self) -> bool:
        """Both look like the same page table entry but for its accessed and dirty bits."""
        return (self.ours ^ self.theirs) & ~0x0000006000000060 == 0 and bool(self.ours & 1)


def compare_memory(ours: Callable[[int, int], bytes], theirs: memoryview, skip: tuple[range, ...] = (range(0xA0000, 0x100000),),
                   limit: int = 64) -> list[MemoryDifference]:
    """The first `limit` words of RAM that differ; `skip` names physical ranges that are not RAM for the guest."""
    found: list[MemoryDifference] = []
    block = 1 << 16
    for base in range(0, len(theirs), block):
        if any(base in r for r in skip):
            continue
        mine, other = ours(base, block), bytes(theirs[base:base + block])
        if mine == other:
            continue
        for offset in range(0, len(other), 8):
            if mine[offset:offset + 8] != other[offset:offset + 8]:
                found.append(MemoryDifference(base + offset, int.from_bytes(mine[offset:offset + 8], "little"),
                                              int.from_bytes(other[offset:offset + 8], "little")))
                if len(found) == limit:
                    return found
    return found
