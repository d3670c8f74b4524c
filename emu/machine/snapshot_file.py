# The file of a snapshot: compressed chunks, a manifest that names and checks them, and a trailer that checks the manifest.
#
# Layout: 16 bytes of head (magic, version), chunks one after the other, the manifest (JSON), 56 bytes of trailer (where
# the manifest lies, its SHA-256). Every byte is under a check, so that a changed one is found before anything is used
# (docs/adr/0008). A chunk is one zstd frame; the manifest has its place, size and SHA-256.
from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import zstandard

from emu.base.errors import EmuError, ImageError, ResourceError, SnapshotError, UsageError
from emu.boot.identify import SNAPSHOT_MAGIC, is_snapshot
from emu.boot.plan import BootPlan, Entry, Segment
from emu.devices.backend.disk import DiskBackend
from emu.machine.snapshot import MachineConfig, Position, SavedDisk, Snapshot
from emu.memory.image import merge_runs, new_image

VERSION = 1
_HEAD = struct.Struct("<12sI")
_TRAILER = struct.Struct("<QQ32s8s")
END = b"emu end\n"
PAGE = 4096
CHUNK_PAGES = 256                # 1 MiB: small enough to spread over threads, large enough to compress well
CLUSTER = 4096
LEVEL = 1
THREADS = min(4, os.cpu_count() or 1)
MOST_PAGES = (1 << 40) // PAGE + (1 << 16)
MOST_CHUNK = 256 << 20           # of the boot's files, which are stored whole
MOST_PARENTS = 1000
MOST_ROM = 16 << 20


# ---- writing

class _Writer:
    """A file in the making, under another name until it is whole."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.partial = path + ".partial"
        self.at = 0
        try:
            self.descriptor = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ResourceError(path, f"cannot be written: {error.strerror}", mend="choose another place") from None
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self.descriptor, 0)         # what a process that was killed has left
        except OSError:
            os.close(self.descriptor)
            raise ResourceError(path, "is being written by another process", mend="wait for it") from None

    def write(self, data) -> int:
        """Appends; gives where."""
        place = self.at
        view = memoryview(data)
        while view:
            done = os.write(self.descriptor, view)
            view = view[done:]
            self.at += done
        return place

    def chunk(self, frame: bytes, digest: str = "") -> dict[str, Any]:
        """Appends a chunk; gives what the manifest says of it. digest: its SHA-256, where that is known."""
        place = self.write(frame)
        return {"at": place, "size": len(frame), "sha256": digest or hashlib.sha256(frame).hexdigest()}

    def finish(self) -> None:
        """Makes the file durable, then visible under its name."""
        os.fsync(self.descriptor)
        os.rename(self.partial, self.path)
        os.close(self.descriptor)
        directory = os.open(os.path.dirname(os.path.abspath(self.path)), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def abandon(self) -> None:
        """Takes the unfinished file away."""
        try:
            os.unlink(self.partial)
        except OSError:
            pass                                 # it is gone already, or the directory is
        os.close(self.descriptor)


def compress(data) -> bytes:
    """One frame, with its content's checksum in it."""
    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, write_content_size=True).compress(data)


def save(snapshot: Snapshot, path: str, parent: Snapshot | None) -> str:
    """Writes the file; see Snapshot.save."""
    changed = None
    if parent is not None:
        changed = snapshot.image.changed_since(parent.image.token)
        if not parent.identity or changed is None:
            raise UsageError("parent", "is no saved snapshot that this machine passed through", "one that was",
                             "save the whole state, without a parent")
        if os.path.dirname(os.path.abspath(parent.path)) != os.path.dirname(os.path.abspath(path)):
            raise UsageError(path, "lies in another directory than its parent", parent.path, "save it beside the parent")
        if os.path.abspath(parent.path) == os.path.abspath(path):
            raise UsageError(path, "is the parent itself", mend="choose another name")
    writer = _Writer(path)
    try:
        identity = _write(writer, snapshot, parent, changed)
        writer.finish()
    except OSError as error:
        writer.abandon()
        raise ResourceError(path, f"cannot be written: {error.strerror}", "nothing of it is left",
                            "make room, or choose another place") from None
    except BaseException:
        writer.abandon()
        raise
    snapshot.identity, snapshot.path = identity, os.path.abspath(path)
    return identity


def _write(writer: _Writer, snapshot: Snapshot, parent: Snapshot | None, changed: list | None) -> str:
    writer.write(_HEAD.pack(SNAPSHOT_MAGIC, VERSION))
    manifest: dict[str, Any] = {
        "machine": snapshot.config._asdict(), "position": snapshot.position._asdict(),
        "parent": None if parent is None else {"file": os.path.basename(parent.path), "identity": parent.identity}}
    manifest["ram"] = _write_ram(writer, snapshot, changed)
    manifest["state"] = writer.chunk(compress(_dump({name: {field: _plain(value) for field, value in values.items()}
                                                      for name, values in snapshot.values().items()})))
    manifest["disks"] = [_write_disk(writer, disk) for disk in snapshot.disks]
    manifest["boot"] = _write_plan(writer, snapshot.plan) if parent is None else None
    data = _dump(manifest)
    place = writer.write(data)
    digest = hashlib.sha256(data).digest()
    writer.write(_TRAILER.pack(place, len(data), digest, END))
    return digest.hex()


def _dump(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else list(value) if isinstance(value, tuple) else value


def _split(runs: list[tuple[int, int]], most: int) -> list[list[tuple[int, int]]]:
    """Runs cut and grouped into parts of at most `most` pages."""
    parts: list[list[tuple[int, int]]] = []
    room = 0
    for first, count in runs:
        while count:
            if not room:
                parts.append([])
                room = most
            take = min(room, count)
            parts[-1].append((first, take))
            first, count, room = first + take, count - take, room - take
    return parts


def _write_ram(writer: _Writer, snapshot: Snapshot, changed: list | None) -> dict[str, Any]:
    image = snapshot.image
    image.read(0, 1)                             # the view is mapped before threads use it
    runs = image.data_runs() if changed is None else changed

    def pack(part):
        found, data = image.pack(part)
        frame = compress(data) if data else b""
        return found, frame, hashlib.sha256(frame).hexdigest()

    chunks = []
    kept: list[tuple[int, int]] = []
    with ThreadPoolExecutor(THREADS) as pool:
        for found, frame, digest in pool.map(pack, _split(runs, CHUNK_PAGES)):
            if found:
                chunks.append({"runs": found, **writer.chunk(frame, digest)})
                kept += found
    zeros = [] if changed is None else _without(changed, merge_runs(kept))
    return {"pages": image.pages, "chunks": chunks, "zeros": zeros}


def _without(runs: list[tuple[int, int]], taken: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The parts of `runs` that are not in `taken`, which lies within them; both sorted and apart."""
    left = []
    k = 0
    for first, count in runs:
        end = first + count
        while k < len(taken) and taken[k][0] < end:
            if taken[k][0] > first:
                left.append((first, taken[k][0] - first))
            first = taken[k][0] + taken[k][1]
            k += 1
        if first < end:
            left.append((first, end - first))
    return left


def _write_disk(writer: _Writer, disk: SavedDisk) -> dict[str, Any]:
    backend = disk.backend
    chunks, zeros, places, data = [], [], [], bytearray()
    for offset, content in disk.image.clusters():
        if content is None:
            zeros.append(offset)
            continue
        places.append(offset)
        data += content
        if len(places) == CHUNK_PAGES:
            chunks.append({"clusters": places, **writer.chunk(compress(bytes(data)))})
            places, data = [], bytearray()
    if places:
        chunks.append({"clusters": places, **writer.chunk(compress(bytes(data)))})
    return {"name": backend.name, "path": os.path.abspath(backend.path) if backend.path else "", "bytes": backend.base_bytes,
            "readonly": backend.readonly, "fingerprint": backend.fingerprint(), "chunks": chunks, "zeros": zeros}


def _write_plan(writer: _Writer, plan: BootPlan) -> dict[str, Any]:
    entry = plan.entry._asdict()
    entry["segments"] = {name: list(segment) for name, segment in plan.entry.segments.items()}
    return {"kind": plan.kind, "entry": entry, "zeros": plan.zeros,
            "writes": [{"address": address, "length": len(data), **writer.chunk(compress(bytes(data)))} for address, data in plan.writes]}


# ---- reading

class _Reader:
    """An open file whose manifest is known to be good."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise SnapshotError(path, f"cannot be read: {error.strerror}", mend="check the name and its permissions") from None
        try:
            self.manifest = self._read_manifest()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self.descriptor)

    def bad(self, what: str) -> SnapshotError:
        return SnapshotError(self.path, what, "a snapshot that is whole", "take it again, or fetch another copy")

    def _read(self, size: int, place: int) -> bytes:
        data = b""
        while len(data) < size:
            part = os.pread(self.descriptor, size - len(data), place + len(data))
            if not part:
                raise self.bad("truncated")
            data = data + part if data else part
        return data

    def _read_manifest(self) -> dict[str, Any]:
        size = os.fstat(self.descriptor).st_size
        head = os.pread(self.descriptor, _HEAD.size, 0)
        if not is_snapshot(head):
            raise SnapshotError(self.path, "not a snapshot", f"first bytes {head[:8].hex(' ')}")
        if size < _HEAD.size + _TRAILER.size:
            raise self.bad("truncated")
        version = _HEAD.unpack(head)[1]
        if version != VERSION:
            raise SnapshotError(self.path, f"a snapshot of format {version}", f"this program reads format {VERSION}",
                                "use the version of emu that wrote it")
        place, length, digest, end = _TRAILER.unpack(self._read(_TRAILER.size, size - _TRAILER.size))
        if end != END:
            raise self.bad("truncated, or its end is damaged")
        if place < _HEAD.size or place + length != size - _TRAILER.size:
            raise self.bad("damaged: its trailer points elsewhere")
        data = self._read(length, place)
        if hashlib.sha256(data).digest() != digest:
            raise self.bad("damaged: the checksum of its manifest is wrong")
        self.identity = digest.hex()
        self.manifest_at = place
        return json.loads(data)

    def chunk(self, entry: dict[str, Any], length: int) -> bytes:
        """The content of a chunk, which must be `length` bytes."""
        size, place = entry["size"], entry["at"]
        if not (0 < size and _HEAD.size <= place and place + size <= self.manifest_at and 0 <= length <= MOST_CHUNK):
            raise self.bad("damaged: a chunk lies outside of it")
        frame = self._read(size, place)
        if hashlib.sha256(frame).hexdigest() != entry["sha256"]:
            raise self.bad(f"damaged: the checksum of {size} bytes at {place} is wrong")
        if zstandard.frame_content_size(frame) != length:
            raise self.bad("damaged: a chunk is of another length")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=length)

    def check_places(self) -> None:
        """Every byte between head and manifest belongs to exactly one chunk."""
        manifest = self.manifest
        entries = [*manifest["ram"]["chunks"], manifest["state"], *(chunk for disk in manifest["disks"] for chunk in disk["chunks"]),
                   *(manifest["boot"]["writes"] if manifest["boot"] else ())]
        at = _HEAD.size
        for place, size in sorted((entry["at"], entry["size"]) for entry in entries):
            if place != at:
                raise self.bad("damaged: its chunks do not follow one another")
            at += size
        if at != self.manifest_at:
            raise self.bad("damaged: its chunks do not follow one another")


def load(path: str) -> Snapshot:
    """Reads and checks a file and its parents; see Snapshot.load."""
    readers: list[_Reader] = []
    try:
        try:
            readers.append(_Reader(path))
            while readers[-1].manifest["parent"] is not None:
                readers.append(_open_parent(readers[-1], len(readers)))
            return _build(readers)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError, zstandard.ZstdError) as error:
            raise SnapshotError(path, f"damaged: {type(error).__name__}: {error}"[:200], "a snapshot that is whole",
                                "take it again, or fetch another copy") from None
    finally:
        for reader in readers:
            reader.close()


def _open_parent(reader: _Reader, depth: int) -> _Reader:
    wanted = reader.manifest["parent"]
    name = wanted["file"]
    if depth > MOST_PARENTS or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise reader.bad("damaged: its parent has no proper name")
    parent = _Reader(os.path.join(os.path.dirname(reader.path), name))
    if parent.identity != wanted["identity"]:
        parent.close()
        raise SnapshotError(reader.path, f"its parent {name} is another snapshot", "the one it was taken from", "fetch that one")
    return parent


def _build(readers: list[_Reader]) -> Snapshot:
    for reader in readers:
        reader.check_places()
    newest = readers[0]
    manifest = newest.manifest
    config = _read_config(manifest["machine"])
    pages = manifest["ram"]["pages"]
    if not 0 < pages <= MOST_PAGES or any(reader.manifest["ram"]["pages"] != pages for reader in readers):
        raise newest.bad("damaged: no such size of RAM")
    file, image = new_image(pages)
    with ThreadPoolExecutor(THREADS) as pool:
        boot = pool.submit(_read_plan, readers[-1])      # beside the RAM: it is long, too
        for reader in reversed(readers):
            _read_ram(reader, file, pages, pool)
        state = json.loads(_whole(newest, manifest["state"]))
        values = {name: {field: _value(value) for field, value in fields.items()} for name, fields in state.items()}
        plan = boot.result()
        disks = tuple(_read_disk(newest, entry) for entry in manifest["disks"])
        # what of the parents is not used is checked all the same
        for reader in readers[1:]:
            _whole(reader, reader.manifest["state"])
    position = Position(*_integers(manifest["position"], ("instructions", "virtual_ns")))
    snapshot = Snapshot(config, plan, position, image, disks, (), None, (), values)
    snapshot.identity, snapshot.path = newest.identity, os.path.abspath(newest.path)
    return snapshot


def _whole(reader: _Reader, entry: dict[str, Any]) -> bytes:
    size = entry["size"]
    place = entry["at"]
    frame = reader._read(min(size, 32), place)
    return reader.chunk(entry, zstandard.frame_content_size(frame))


def _integers(values: dict[str, Any], names: tuple[str, ...]) -> list[int]:
    found = [values[name] for name in names]
    if any(type(value) is not int or value < 0 for value in found):
        raise ValueError("an integer is wanted")
    return found


def _value(value: Any) -> Any:
    return bytes.fromhex(value) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value


def _read_config(values: dict[str, Any]) -> MachineConfig:
    if set(values) != set(MachineConfig._fields):
        raise ValueError("options of another machine")
    if values["debug_exit"] is not None:
        values["debug_exit"] = tuple(values["debug_exit"])
    values["rom"] = tuple((address, length) for address, length in values["rom"])
    values["debug_ports"] = tuple(values["debug_ports"])
    if (any(type(number) is not int or not 0 <= number < 1 << 32 for place in values["rom"] for number in place)
            or any(length > MOST_ROM for _, length in values["rom"]) or len(values["rom"]) > 2):
        raise ValueError("ROM that cannot be")
    if any(type(port) is not int or not 0 <= port <= 0xFFFF for port in values["debug_ports"]) or len(values["debug_ports"]) > 64:
        raise ValueError("debug consoles that cannot be")
    config = MachineConfig(**values)
    for name, kind in (("memory", int), ("cpu", str), ("clock", str), ("seed", int), ("on_triple_fault", str), ("no_reboot", bool),
                       ("start_seconds", int), ("append", str), ("cpus", int)):
        if type(getattr(config, name)) is not kind:
            raise ValueError(f"{name} is no {kind.__name__}")
    if config.budget is not None and type(config.budget) is not int:
        raise ValueError("budget is no int")
    return config


def _read_runs(runs: Any, pages: int) -> list[tuple[int, int]]:
    found = []
    end = -1
    for first, count in runs:
        if type(first) is not int or type(count) is not int or first < max(end, 0) or count < 1 or first + count > pages:
            raise ValueError("runs of pages that cannot be")
        end = first + count
        found.append((first, count))
    return found


def _read_ram(reader: _Reader, file, pages: int, pool: ThreadPoolExecutor) -> None:
    ram = reader.manifest["ram"]

    def fill(entry):
        runs = _read_runs(entry["runs"], pages)
        total = sum(count for _, count in runs)
        if not 0 < total <= CHUNK_PAGES:
            raise ValueError("a chunk of too many pages")
        file.fill(runs, reader.chunk(entry, total * PAGE))

    for _ in pool.map(fill, ram["chunks"]):
        pass
    for first, count in _read_runs(ram["zeros"], pages):
        file.clear(first, count)


def _read_plan(reader: _Reader) -> BootPlan:
    boot = reader.manifest["boot"]
    entry = dict(boot["entry"])
    if set(entry) != set(Entry._fields) or entry["mode"] not in ("real", "protected32", "long64"):
        raise ValueError("an entry of another kind")
    entry["segments"] = {str(name): Segment(*_integers({str(k): v for k, v in enumerate(values)}, ("0", "1", "2", "3")))
                         for name, values in entry["segments"].items()}
    entry["registers"] = dict(zip(entry["registers"], _integers(entry["registers"], tuple(entry["registers"]))))
    _integers(entry, ("rip", "rsp", "cr0", "cr3", "cr4", "efer", "rflags", "gdt_base", "gdt_limit", "idt_base", "idt_limit"))
    writes = []
    for each in boot["writes"]:
        address, length = _integers(each, ("address", "length"))
        writes.append((address, reader.chunk(each, length)))
    zeros = [(address, length) for address, length in boot["zeros"]]
    return BootPlan(str(boot["kind"]), Entry(**entry), writes, zeros)


def _read_disk(reader: _Reader, entry: dict[str, Any]) -> SavedDisk:
    path, size = entry["path"], entry["bytes"]
    try:
        backend = DiskBackend.open_raw(path, readonly=entry["readonly"]) if path else DiskBackend.blank(size)
    except ImageError as error:
        raise SnapshotError(reader.path, f"its disk {path} is not there: {error.value}", mend="put the disk image where it was") from None
    if backend.base_bytes != size or backend.fingerprint() != entry["fingerprint"]:
        raise SnapshotError(reader.path, f"its disk {path} is another one now", "the same bytes as when it was taken",
                            "put the old disk image back")
    clusters: list[tuple[int, bytes | None]] = [(offset, None) for offset in entry["zeros"]]
    for chunk in entry["chunks"]:
        places = chunk["clusters"]
        if not 0 < len(places) <= CHUNK_PAGES:
            raise ValueError("a chunk of too many clusters")
        data = reader.chunk(chunk, len(places) * CLUSTER)
        clusters += [(offset, data[k * CLUSTER:(k + 1) * CLUSTER]) for k, offset in enumerate(places)]
    return SavedDisk(backend, backend.image_of(sorted(clusters, key=lambda each: each[0])))


def describe(path: str) -> dict[str, Any]:
    """What a snapshot's file holds, all of it checked; raises SnapshotError."""
    snapshot = load(path)
    try:
        size = os.path.getsize(path)
    except OSError as error:
        raise EmuError(path, f"cannot be read: {error.strerror}") from None
    return {"path": path, "bytes": size, "identity": snapshot.identity, **snapshot.config._asdict(), **snapshot.position._asdict(),
            "pages": sum(count for _, count in snapshot.image.data_runs()), "disks": [disk.backend.name for disk in snapshot.disks]}
