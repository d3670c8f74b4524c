# The state of a machine at one moment: taken, forked, gone back to; its file is in snapshot_file.py.
from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from emu.base.errors import SnapshotError, UsageError

if TYPE_CHECKING:
    from emu.base.state import StateFields
    from emu.boot.plan import BootPlan
    from emu.devices.backend.disk import DiskBackend, DiskImage
    from emu.machine.machine import Machine
    from emu.memory.image import RamImage


class MachineConfig(NamedTuple):
    """What a machine was built from, as data: the options of Machine but for files and disks."""

    memory: int
    cpu: str
    clock: str = "virtual"
    seed: int = 0
    budget: int | None = None
    on_triple_fault: str = "report"
    debug_exit: tuple[int, int] | None = None
    no_reboot: bool = False
    start_seconds: int = 0
    append: str = ""
    cpus: int = 1
    rom: tuple[tuple[int, int], ...] = ()        # (physical address, bytes); what is in it lies with the RAM
    debug_ports: tuple[int, ...] = ()


class Position(NamedTuple):
    """When: instructions retired by all CPUs, and virtual nanoseconds since power-on."""

    instructions: int
    virtual_ns: int


class SavedDisk(NamedTuple):
    """A disk of a snapshot: `backend` gives the base (its own overlay does not count), `image` what was written."""

    backend: DiskBackend
    image: DiskImage


def components(machine: Machine) -> list[StateFields]:
    """The declared state of every part of a machine, in a fixed order."""
    return [part.fields for part in machine.board.devices if hasattr(part, "fields")]


def keyed(fields: list[StateFields]) -> dict[str, StateFields]:
    """The same by names: those of the components, numbered where several are of one name (`uart`, `uart.1`)."""
    found: dict[str, StateFields] = {}
    for each in fields:
        name, number = each.component, 0
        while name in found:
            number += 1
            name = f"{each.component}.{number}"
        found[name] = each
    return found


class Snapshot:
    """The whole state of a machine at one moment; never changes. Made by Machine.snapshot and Snapshot.load.

    `position`: when it was taken. Pages of RAM and of disks' overlays are shared with the machine it came from and with
    all its forks, until one of them writes."""

    def __init__(self, config: MachineConfig, plan: BootPlan, position: Position, image: RamImage, disks: tuple[SavedDisk, ...],
                 tables: tuple, state: bytes | None, layout: tuple, values: dict[str, dict[str, Any]] | None = None) -> None:
        self.config = config
        self.plan = plan
        self.position = position
        self.image = image
        self.disks = disks
        self.tables = tables
        self.identity = ""               # of the file it was saved to or loaded from
        self.path = ""
        self._state = state              # as StateImage.capture gave it, of `layout`; None: `values` are to be checked first
        self._layout = layout
        self._values = values

    @classmethod
    def take(cls, machine: Machine) -> Snapshot:
        """The state of `machine`, which must be between two slices of a run."""
        for disk in machine.disks:
            if disk.committed:
                raise UsageError(disk.name, "a disk whose file is written", "only disks with an overlay can be part of a snapshot",
                                 "open it without commit")
        machine.forget_translations()
        image = machine.memory.freeze()
        disks = tuple(SavedDisk(disk, disk.freeze()) for disk in machine.disks)
        state = machine.state_image
        taken = cls(machine.config, machine.plan, Position(machine.retired, machine.virtual_ns), image, disks, machine.tables,
                    state.capture(), state.layout)
        return taken

    # ---- machines

    def fork(self, clock: str | None = None, budget: int | None = None) -> Machine:
        """A new machine in this state; clock, budget: others than the first machine's.

        Raises SnapshotError where a loaded state is not one that such a machine can be in."""
        from emu.machine.machine import Machine
        changes: dict[str, Any] = {name: value for name, value in (("clock", clock), ("budget", budget)) if value is not None}
        return Machine.from_snapshot(self, self.config._replace(**changes))

    def put_into(self, machine: Machine) -> None:
        """Makes `machine`, built alike, what this snapshot says; raises SnapshotError and leaves it unfit where that cannot be."""
        machine.memory.adopt(self.image)
        for disk, saved in zip(machine.disks, self.disks, strict=True):
            disk.adopt(saved.image)
        state = machine.state_image
        if self._state is None:
            self._state = self._check(machine)
            self._layout = state.layout
        elif state.layout is not self._layout and state.layout != self._layout:
            raise SnapshotError("snapshot", "of a machine that is built otherwise", "one with the same parts")
        state.restore(self._state)

    def _check(self, machine: Machine) -> bytes:
        """Sets the loaded values, each checked by its component; gives them as bytes for the next time."""
        assert self._values is not None
        fields = keyed(components(machine))
        if set(fields) != set(self._values):
            odd = sorted(set(fields) ^ set(self._values))
            raise SnapshotError("snapshot", f"other parts: {', '.join(odd)}", "the state of exactly the parts that this machine has")
        for name, each in fields.items():
            each.set(self._values[name])
        if machine.retired != self.position.instructions:
            raise SnapshotError("snapshot", f"{machine.retired} instructions retired", f"{self.position.instructions}, as its head says")
        self._values = None
        return machine.state_image.capture()

    def values(self) -> dict[str, dict[str, Any]]:
        """The declared state by names: {component: {field: int, tuple of int or bytes}}."""
        if self._values is not None:
            return self._values
        return decode_state(self._layout, self._state or b"")

    # ---- files

    def save(self, path: str, parent: Snapshot | None = None) -> str:
        """Writes the snapshot to the file `path`, which holds the old or the new state at any moment; gives its identity.

        `parent`: a saved snapshot that this machine passed through: only what changed since is written, and the file needs
        the parent's beside it. Raises UsageError where `parent` is none, ResourceError where the file cannot be written."""
        from emu.machine.snapshot_file import save
        return save(self, str(path), parent)

    @staticmethod
    def load(path: str) -> Snapshot:
        """Reads a snapshot's file (and its parents'), all of it checked. Raises SnapshotError."""
        from emu.machine.snapshot_file import load
        return load(str(path))


_SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "bytes": 1}


def decode_state(layout: tuple, data: bytes) -> dict[str, dict[str, Any]]:
    """What StateImage.capture gave, as values by names."""
    found: dict[str, dict[str, Any]] = {}
    at = 0
    for component, fields in layout:
        values: dict[str, Any] = {}
        for name, kind, count in fields:
            size = _SIZES[kind]
            raw = data[at:at + size * count]
            at += size * count
            if kind == "bytes":
                values[name] = raw
                continue
            items = tuple(int.from_bytes(raw[k:k + size], "little", signed=kind[0] == "i") for k in range(0, len(raw), size))
            values[name] = items[0] if count == 1 else items
        key, number = component, 0
        while key in found:
            number += 1
            key = f"{component}.{number}"
        found[key] = values
    return found
