# Reads QEMU's `-singlestep -d exec,cpu,fpu,int,nochain` log as a stream of processor states. Text only, no process.
"""One dump of registers comes before every instruction. The values are kept in a dict with our names:

rax..r15, rip, rflags, cr0 cr2 cr3 cr4 efer, dr0..dr3 dr6 dr7, es cs ss ds fs gs ldt tr (each with .base, .limit and .flags: the
descriptor's second word as QEMU shows it), gdt.base gdt.limit idt.base idt.limit, fcw fsw ftw (one bit a register, 1 = in use), mxcsr,
fpr0..fpr7 (physical order, 80 bits), xmm0..xmm15, cpl.
"""
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

INSTRUCTION = "instruction"      # the state before the instruction at rip
HARDWARE = "hardware"            # the state in which QEMU takes the external interrupt `vector`

_RECORD = b"Trace "
_STOPPED = b"Stopped execution of TB chain before"
_PAIR = re.compile(rb"([A-Z][A-Z0-9]*) *=([0-9a-f]+)")
_SEGMENT = re.compile(rb"(ES|CS|SS|DS|FS|GS|LDT|TR) *=([0-9a-f]{4}) ([0-9a-f]+) ([0-9a-f]{8}) ([0-9a-f]{8})")
_TABLE = re.compile(rb"([GI]DT)= +([0-9a-f]+) ([0-9a-f]{8})")
_FPR = re.compile(rb"FPR(\d)=([0-9a-f]{16}) ([0-9a-f]{4})")
_XMM = re.compile(rb"XMM(\d\d)=([0-9a-f]{16}) ([0-9a-f]{16})")
_EVENT = re.compile(rb" *\d+: v=([0-9a-f]+) e=([0-9a-f]+) i=([01])")
_HARDWARE = re.compile(rb"Servicing hardware INT=0x([0-9a-f]+)")
_SEGMENTS = (b"ES ", b"CS ", b"SS ", b"DS ", b"FS ", b"GS ", b"LDT", b"TR ")

_NAMES = {b"RFL": "rflags", b"EFL": "rflags", b"EIP": "rip"}
for _name in ("AX", "BX", "CX", "DX", "SI", "DI", "BP", "SP"):
    _NAMES[b"E" + _name.encode()] = "r" + _name.lower()
_WANTED = re.compile(rb"R[A-Z0-9]+|E[ABCDSI][XIP]|E[BS]P|EFL|EFER|CR[0234]|DR[0-7]|F[CST]W|MXCSR|CPL")


@dataclass(slots=True)
class State:
    """One state of the processor in the log.

    values: the registers by name; wide: False where QEMU showed 32-bit registers only (the upper halves and r8..r15 are then those
    of the last 64-bit state); kind, vector: see INSTRUCTION and HARDWARE; exceptions: (vector, error code) of every exception or
    software interrupt that this instruction raised.
    """

    values: dict[str, int]
    wide: bool
    kind: str = INSTRUCTION
    vector: int = -1
    exceptions: tuple[tuple[int, int], ...] = ()


def parse_line(line: bytes) -> dict[str, int]:
    """The registers that one line of a dump shows; empty for a line that shows none."""
    start = line[:3]
    if start in _SEGMENTS:
        match = _SEGMENT.match(line)
        if match is None:
            return {}
        name = match[1].decode().lower()
        return {name: int(match[2], 16), name + ".base": int(match[3], 16), name + ".limit": int(match[4], 16),
                name + ".flags": int(match[5], 16)}
    if start in (b"GDT", b"IDT"):
        match = _TABLE.match(line)
        if match is None:
            return {}
        name = match[1].decode().lower()
        return {name + ".base": int(match[2], 16), name + ".limit": int(match[3], 16)}
    if start == b"FPR":
        return {f"fpr{int(m[1])}": int(m[3], 16) << 64 | int(m[2], 16) for m in _FPR.finditer(line)}
    if start == b"XMM":
        return {f"xmm{int(m[1])}": int(m[2], 16) << 64 | int(m[3], 16) for m in _XMM.finditer(line)}
    return {_NAMES.get(name) or name.decode().lower(): int(value, 16)
            for name, value in _PAIR.findall(line) if _WANTED.fullmatch(name)}


class Dump:
    """Turns the lines of a dump into values; remembers the last dump, since most lines do not change."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}
        self._lines: dict[bytes, bytes] = {}

    def update(self, lines: Iterable[bytes]) -> tuple[dict[str, int], bool]:
        """All values after these lines, and whether the general registers were shown with 64 bits."""
        last, values, wide = self._lines, self.values.copy(), False
        for line in lines:
            key = line[:line.find(b"=")]
            if key == b"RAX":
                wide = True
            if last.get(key) != line:
                last[key] = line
                values.update(parse_line(line))
        self.values = values
        return values, wide


def parse_registers(text: str) -> tuple[dict[str, int], bool]:
    """The values of one dump on its own, as the monitor's `info registers` prints it, and whether it is a 64-bit one."""
    return Dump().update(line.strip().encode() for line in text.splitlines())


def read_states(chunks: Iterable[bytes]) -> Iterator[State]:
    """The states of a log, in order, from pieces of its text. The last, perhaps unfinished record is dropped."""
    dump, rest = Dump(), b""
    pending: State | None = None
    for chunk in chunks:
        records = (rest + chunk).split(_RECORD)
        rest = records.pop()
        for number, record in enumerate(records):
            if number == 0 and not record.startswith(b"0:") and pending is None:
                continue                                        # what stood before the first record
            for state in _states_of(record, dump):
                if state is None:                               # announced, but not executed
                    pending = None
                    continue
                if pending is not None:
                    yield pending
                pending = state
    for state in _states_of(rest, dump) if rest.startswith(b"0:") and b"EFER=" in rest and rest.endswith(b"\n") else ():
        if state is None:
            pending = None
            continue
        if pending is not None:
            yield pending
        pending = state
    if pending is not None:
        yield pending


def _states_of(record: bytes, dump: Dump) -> Iterator[State | None]:
    """The states in the text from one `Trace` line to the next; None: the one before was announced but not executed."""
    lines = record.split(b"\n")
    if b"v=" not in record and b"Servicing" not in record:
        values, wide = dump.update(lines[1:])
        yield State(values, wide)
        if _STOPPED in record:
            yield None
        return
    # Rare: the instruction is followed by events, each with a dump of its own.
    sections: list[tuple[bytes, list[bytes]]] = [(lines[0], [])]
    hardware = -1
    stopped = False
    for line in lines[1:]:
        if line.startswith(_STOPPED):
            stopped = True
        elif (match := _HARDWARE.match(line)) is not None:
            hardware = int(match[1], 16)
        elif _EVENT.match(line) is not None:
            sections.append((line, []))
        else:
            sections[-1][1].append(line)
    values, wide = dump.update(sections[0][1])
    first = State(values, wide)
    later: list[State] = []
    for head, body in sections[1:]:
        event = _EVENT.match(head)
        assert event is not None                                # only such lines begin a section
        vector, error = int(event[1], 16), int(event[2], 16)
        values, wide = dump.update(body)
        if vector == hardware:
            later.append(State(values, wide, HARDWARE, vector))
            hardware = -1
        elif later:
            later[-1].exceptions += ((vector, error),)
        else:
            first.exceptions += ((vector, error),)
    yield first
    if stopped:
        yield None
    yield from later
