# The log of everything that entered a machine, and the run that is made from it again.
#
# A log is text: a line has a CRC-32 and a JSON object. The first describes the machine; then come inputs, checkpoints and
# snapshots, each with the virtual time at which it entered (docs/adr/0009), and the end. A log whose writer was killed
# is good up to its last whole line.
from __future__ import annotations

import hashlib
import json
import os
import zlib
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from emu.base.errors import DivergedError, ImageError, ResourceError, SnapshotError
from emu.machine.snapshot import MachineConfig, Snapshot, components, keyed

if TYPE_CHECKING:
    from emu.machine.machine import Exit, Machine

FORMAT = 1
CHECKPOINT, STOP = "checkpoint", "stop"
SLICE = 1 << 20


def part_hashes(machine: Machine) -> dict[str, str]:
    """A short hash of the declared state of every part, by name."""
    return {name: hashlib.sha256(repr(fields.get()).encode()).hexdigest()[:16] for name, fields in keyed(components(machine)).items()}


def file_hash(path: str) -> str:
    """SHA-256 of a file; ImageError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ImageError(path, f"cannot be read: {error.strerror}") from None


class Recorder:
    """Writes the log of a machine; made by Machine.record."""

    def __init__(self, machine: Machine, path: str, checkpoint: int) -> None:
        self.path = path
        self._machine = machine
        self._every = checkpoint
        self._next = machine.retired + checkpoint
        start = None
        if machine.retired or not machine.sources:
            snapshot = machine.snapshot()
            start = {"file": os.path.basename(path) + ".start", "identity": snapshot.save(path + ".start")}
        try:
            self._file = open(path, "w", encoding="ascii")
        except OSError as error:
            raise ResourceError(path, f"cannot be written: {error.strerror}", mend="choose another place") from None
        files = {} if start else {role: {"path": os.path.abspath(file), "sha256": file_hash(file)}
                                  for role, file in machine.sources.items()}
        disks = [] if start else [{"path": os.path.abspath(disk.path), "bytes": disk.base_bytes, "readonly": disk.readonly,
                                   "fingerprint": disk.fingerprint()} for disk in machine.disks]
        self._line({"emu log": FORMAT, "machine": machine.config._asdict(), "files": files, "disks": disks, "start": start})
        machine.inputs.on_entered = self._entered
        if CHECKPOINT not in machine.inputs.channels:
            machine.inputs.channel(CHECKPOINT, lambda data: None)

    def _line(self, values: dict[str, Any]) -> None:
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        try:
            self._file.write(f"{zlib.crc32(text.encode()):08x} {text}\n")
            self._file.flush()
        except OSError as error:
            raise ResourceError(self.path, f"cannot be written: {error.strerror}", "what was logged so far is kept", "make room") from None

    def _entered(self, at_ns: int, channel: str, data: bytes) -> None:
        values: dict[str, Any] = {"at": at_ns, "instructions": self._machine.retired, "channel": channel, "data": data.hex()}
        if channel == CHECKPOINT:
            values["parts"] = part_hashes(self._machine)
            values["ram"] = self._machine.memory.digest()
        self._line(values)

    def after_slice(self, machine: Machine) -> None:
        """Asks for a checkpoint where it is time for one."""
        if machine.retired >= self._next:
            self._next = machine.retired + self._every
            machine.inputs.enter(CHECKPOINT, b"")

    def snapshot_taken(self, machine: Machine) -> None:
        """A snapshot empties the TLBs, so a replay has to as well, at the same place."""
        self._line({"at": machine.virtual_ns, "instructions": machine.retired, "channel": STOP, "data": ""})

    def close(self, machine: Machine) -> None:
        """Notes how it ended."""
        machine.inputs.on_entered = None
        ended = machine.exit
        if ended is None:
            machine.settle()
        self._line({"at": machine.virtual_ns, "instructions": machine.retired, "end": ended.reason if ended else "",
                    "parts": part_hashes(machine), "ram": machine.memory.digest()})
        self._file.close()


class Replayed(NamedTuple):
    """A replay that went as logged. ram: SHA-256 of the RAM at its end; whole: the log has an end."""

    instructions: int
    virtual_ns: int
    inputs: int
    checkpoints: int
    ram: str
    whole: bool


def read_log(path: str) -> list[dict[str, Any]]:
    """The lines of a log; SnapshotError where it is none, is damaged or of another version."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise SnapshotError(path, f"cannot be read: {error.strerror}", mend="check the name and its permissions") from None
    lines: list[dict[str, Any]] = []
    pieces = data.split(b"\n")
    for number, piece in enumerate(pieces[:-1], 1):   # what follows the last line's end was never finished
        try:
            if int(piece[:8], 16) != zlib.crc32(piece[9:]) or piece[8:9] != b" ":
                raise ValueError
            line = json.loads(piece[9:])
        except ValueError:
            what = "not a log" if number == 1 else f"line {number} is damaged"
            raise SnapshotError(path, what, "a log that `emu run --record` wrote", "use another copy") from None
        lines.append(line)
    if not lines or "emu log" not in lines[0]:
        raise SnapshotError(path, "not a log", "what `emu run --record` writes")
    if lines[0]["emu log"] != FORMAT:
        raise SnapshotError(path, f"a log of format {lines[0]['emu log']}", f"this program reads format {FORMAT}",
                            "use the version of emu that wrote it")
    return lines


def _build(path: str, head: dict[str, Any]) -> Machine:
    """The machine that a log begins with; an error where its files are others now."""
    from emu.devices.backend.disk import DiskBackend
    from emu.machine.machine import Machine
    if head["start"] is not None:
        place = os.path.join(os.path.dirname(path), os.path.basename(head["start"]["file"]))
        snapshot = Snapshot.load(place)
        if snapshot.identity != head["start"]["identity"]:
            raise SnapshotError(path, f"{place} is the start of another log", "the one that was written with it")
        return snapshot.fork()
    for role, entry in head["files"].items():
        if file_hash(entry["path"]) != entry["sha256"]:
            raise ImageError(entry["path"], f"is another {role} than the one this log is of", f"SHA-256 {entry['sha256']}",
                             "put the old file back, or record again")
    disks = []
    for entry in head["disks"]:
        disk = DiskBackend.open_raw(entry["path"], readonly=entry["readonly"]) if entry["path"] else DiskBackend.blank(entry["bytes"])
        if disk.base_bytes != entry["bytes"] or disk.fingerprint() != entry["fingerprint"]:
            raise ImageError(entry["path"], "is another disk than the one this log is of", mend="put the old file back, or record again")
        disks.append(disk)
    if set(head["machine"]) != set(MachineConfig._fields):
        raise KeyError("options")
    options = {**head["machine"], "clock": "virtual"}    # waits of the host's clock are in the times of the inputs
    rom = options.pop("rom")
    if bool(rom) != ("bios" in head["files"]):
        raise KeyError("rom")
    options["debug_exit"] = tuple(options["debug_exit"]) if options["debug_exit"] else None
    return Machine(**{role: entry["path"] for role, entry in head["files"].items()}, disks=disks, **options)


def replay(path: str, output: Callable[[bytes], object] = lambda data: None) -> Replayed:
    """Runs what the log `path` says, and compares; `output` is given what the guest sends on its serial line.

    Raises DivergedError at the first checkpoint that differs (or at the end), naming what differs; SnapshotError for a bad
    log, ImageError where a file of the machine is another one now."""
    lines = read_log(path)
    head = lines[0]
    try:
        machine = _build(path, head)
    except (KeyError, TypeError, ValueError) as error:
        raise SnapshotError(path, f"its head is damaged: {error}", "a log of a machine") from None
    with machine:
        return _Replay(path, machine, lines[1:], output).run()


class _Replay:
    def __init__(self, path: str, machine: Machine, lines: list[dict[str, Any]], output: Callable[[bytes], object]) -> None:
        self._path = path
        self._machine = machine
        self._lines = lines
        self._output = output
        self._stopped = False
        self._inputs = self._checkpoints = 0
        machine.inputs.channel(CHECKPOINT, self._checkpoint)
        machine.inputs.channel(STOP, self._stop)

    def _checkpoint(self, line: dict[str, Any]) -> None:
        self._compare(line, f"checkpoint at instruction {line['instructions']}")
        self._checkpoints += 1

    def _stop(self, line: dict[str, Any]) -> None:
        self._stopped = True
        if self._machine.retired >= line["instructions"]:
            self._machine.request_stop()

    def _compare(self, line: dict[str, Any], where: str) -> None:
        machine = self._machine
        parts = part_hashes(machine)
        odd = [name for name in sorted(set(parts) | set(line["parts"])) if parts.get(name) != line["parts"].get(name)]
        if machine.memory.digest() != line["ram"]:
            odd.append("RAM")
        if machine.retired != line["instructions"] or odd:
            count = f"{machine.retired} instructions retired, {line['instructions']} in the log"
            raise DivergedError(self._path, f"the run differs at the {where}", f"{', '.join(odd) or 'the position'} differ; {count}",
                                "the log is of another build of emu, or this is a fault of emu")

    def _advance(self, limit: int | None) -> Exit | None:
        """Runs to a stop and `limit` instructions (with several CPUs they go on a while at that time), or the machine's end."""
        machine = self._machine
        self._stopped = False
        before = None
        while True:
            ended = machine.run_slice(instructions=None if limit is None else min(SLICE, max(limit - machine.retired, 0)))
            self._output(machine.serial.read())
            machine.console.read()
            if ended is not None:
                return ended
            here = machine.retired, machine.virtual_ns
            if limit is not None and machine.retired >= limit and (self._stopped or here == before):
                return None
            before = here
            if machine.idle_ns < 0:
                raise DivergedError(self._path, "the machine sleeps for ever", "the log goes on", "this is a fault of emu")

    def run(self) -> Replayed:
        machine = self._machine
        try:
            for line in self._lines:
                if "end" in line:
                    return self._end(line)
                if line["channel"] == STOP:
                    self._reach(line)
                    machine.forget_translations()
                elif line["channel"] == CHECKPOINT:
                    machine.inputs.enter(CHECKPOINT, line, line["at"])
                else:
                    machine.inputs.enter(line["channel"], bytes.fromhex(line["data"]), line["at"])
                    self._inputs += 1
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotError(self._path, f"damaged: {type(error).__name__}: {error}", "a log of this machine") from None
        if self._lines:                          # its writer was killed: up to the last that entered
            self._reach(self._lines[-1])
        return self._replayed(False)

    def _reach(self, line: dict[str, Any]) -> None:
        """Runs to where the machine stood when something was done to it from outside."""
        machine = self._machine
        if line["at"] > machine.virtual_ns:
            machine.inputs.enter(STOP, line, line["at"])
            ended = self._advance(line["instructions"])
        else:
            ended = machine.exit
        if ended is not None:
            raise DivergedError(self._path, f"the machine stopped ({ended.reason}) after {ended.instructions} instructions",
                                "in the log it ran on", "this is a fault of emu")
        machine.settle()
        if line["instructions"] != machine.retired:
            raise DivergedError(self._path, f"the run differs before instruction {line['instructions']}",
                                f"{machine.retired} instructions retired at the same time", "this is a fault of emu")

    def _end(self, line: dict[str, Any]) -> Replayed:
        if not line["end"]:
            self._reach(line)
        else:
            ended = self._advance(None)
            if ended is None or ended.reason != line["end"]:
                raise DivergedError(self._path, "the run did not end as logged", f"{line['end']} in the log")
        self._compare(line, "end")
        return self._replayed(True)

    def _replayed(self, whole: bool) -> Replayed:
        machine = self._machine
        self._output(machine.serial.read())
        return Replayed(machine.retired, machine.virtual_ns, self._inputs, self._checkpoints, machine.memory.digest(), whole)
