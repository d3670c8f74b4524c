# The files of snapshots: whole or refused, old or new, whatever happens to them.
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time

import pytest

from emu.base.errors import EmuError, ResourceError, SnapshotError, UsageError
from emu.devices.backend.disk import DiskBackend
from emu.machine import snapshot_file
from emu.machine.machine import Machine
from emu.machine.snapshot import Snapshot
from tests.cli.support import ROOT, environment
from tests.machine.guests import TEACH, advance, fingerprint, sector_machine


@pytest.fixture
def machine():
    machine = Machine(image=TEACH, memory=16 << 20, disks=(DiskBackend.blank(1 << 20),))
    advance(machine, 2_000_000)
    machine.disks[0].write(5000, b"written")
    machine.disks[0].zero(65536, 8192)
    return machine


def test_loaded_snapshot_has_the_same_future(machine, tmp_path):
    path = str(tmp_path / "state")
    snapshot = machine.snapshot()
    identity = snapshot.save(path)
    loaded = Snapshot.load(path)
    child = loaded.fork()
    assert loaded.identity == identity and loaded.position == snapshot.position
    assert fingerprint(child) == fingerprint(machine)
    for each in (machine, child):
        each.serial.send(b"help\n")
        advance(each, 2_000_000)
    assert fingerprint(child) == fingerprint(machine)
    assert child.disks[0].read(5000, 7) == b"written"


def test_guest_of_a_loaded_snapshot_can_reboot(tmp_path):
    machine = sector_machine(tmp_path, "baf803b041ee" "b0feba6400ee" "ebfe")     # prints A; resets through port 0x64
    machine.step(3)
    path = str(tmp_path / "state")
    machine.snapshot().save(path)
    child = Snapshot.load(path).fork()
    sent = b""
    while len(sent) < 3:
        assert child.run_slice() is None
        sent += child.serial.read()
    assert set(sent) == {ord("A")}


def test_saved_twice_is_the_same_file(machine, tmp_path):
    snapshot = machine.snapshot()
    snapshot.save(str(tmp_path / "one"))
    Snapshot.load(str(tmp_path / "one")).save(str(tmp_path / "two"))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_incremental_snapshot_holds_what_changed(machine, tmp_path):
    first = machine.snapshot()
    first.save(str(tmp_path / "first"))
    machine.memory.physical[0x300000:0x303000] = os.urandom(0x3000)
    machine.memory.physical[0x400000:0x401000] = bytes(4096)
    advance(machine, 100_000)
    second = machine.snapshot()
    second.save(str(tmp_path / "second"), first)
    machine.memory.physical.clear(0x300000, 0x2000)
    third = machine.snapshot()
    third.save(str(tmp_path / "third"), second)
    assert (tmp_path / "third").stat().st_size < (tmp_path / "first").stat().st_size / 4
    expected = fingerprint(machine)
    assert fingerprint(Snapshot.load(str(tmp_path / "third")).fork()) == expected
    assert fingerprint(Snapshot.load(str(tmp_path / "second")).fork()) == fingerprint(second.fork())
    with pytest.raises(UsageError):
        third.save(str(tmp_path / "other"), Machine(image=TEACH, memory=16 << 20).snapshot())
    with pytest.raises(UsageError):
        third.save(str(tmp_path / "first"), first)
    os.rename(tmp_path / "first", tmp_path / "away")
    with pytest.raises(SnapshotError):
        Snapshot.load(str(tmp_path / "third"))
    Machine(image=TEACH, memory=16 << 20, disks=(DiskBackend.blank(1 << 20),)).snapshot().save(str(tmp_path / "first"))
    with pytest.raises(SnapshotError) as caught:
        Snapshot.load(str(tmp_path / "third"))
    assert "parent" in str(caught.value)


def small_file(tmp_path):
    machine = sector_machine(tmp_path, "baf803b041ee" "ebfe")
    machine.step(10)
    path = tmp_path / "small"
    machine.snapshot().save(str(path))
    return path


def test_every_single_flip_of_a_bit_is_found(tmp_path):
    path = small_file(tmp_path)
    good = path.read_bytes()
    rng = random.Random(11)
    size = len(good)
    places = [*range(16), *range(size - 56, size), *(rng.randrange(size) for _ in range(10_000))]
    with open(path, "r+b", buffering=0) as file:
        for place in places:
            os.pwrite(file.fileno(), bytes((good[place] ^ 1 << rng.randrange(8),)), place)
            with pytest.raises(SnapshotError):
                snapshot_file.load(str(path))
            os.pwrite(file.fileno(), good[place:place + 1], place)
    Snapshot.load(str(path)).fork()


def test_every_truncation_is_found(tmp_path):
    path = small_file(tmp_path)
    good = path.read_bytes()
    for length in [*range(0, 100), *range(100, len(good), len(good) // 150), len(good) - 1]:
        path.write_bytes(good[:length])
        with pytest.raises(SnapshotError):
            Snapshot.load(str(path))
    path.write_bytes(good + b"\0")
    with pytest.raises(SnapshotError):
        Snapshot.load(str(path))


def forge(path, change):
    """Writes the file anew with another manifest, with right checksums: what only validation can refuse."""
    data = path.read_bytes()
    place, length, _, end = snapshot_file._TRAILER.unpack(data[-snapshot_file._TRAILER.size:])
    manifest = json.loads(data[place:place + length])
    change(manifest)
    text = json.dumps(manifest).encode()
    digest = snapshot_file.hashlib.sha256(text).digest()
    path.write_bytes(data[:place] + text + snapshot_file._TRAILER.pack(place, len(text), digest, end))


def put(*keys):
    *path, last, value = keys

    def change(manifest):
        for key in path:
            manifest = manifest[key]
        manifest[last] = value
    return change


@pytest.mark.parametrize("change", [
    put("ram", "pages", 1 << 60), put("ram", "pages", 0), put("ram", "pages", 17), put("ram", "pages", "x"),
    put("ram", "chunks", 0, "runs", [[0, 1 << 40]]), put("ram", "chunks", 0, "runs", [[-1, 2]]), put("ram", "chunks", 0, "size", 0),
    put("ram", "chunks", 0, "at", 1 << 63), put("ram", "chunks", [1, 2]), put("ram", "zeros", [[0, 1 << 50]]), put("ram", None),
    put("machine", "memory", 1 << 62), put("machine", "memory", 12345), put("machine", "cpu", "z80"), put("machine", "cpu", 7),
    put("machine", {}), put("machine", "cpus", 10_000), put("position", "instructions", -1), put("position", "instructions", 77),
    put("state", "size", 3), put("state", None), put("disks", [{}]), put("disks", [None]), put("boot", None), put("boot", "entry", {}),
    put("boot", "entry", "segments", {"cs": [1]}), put("boot", "writes", 0, "length", 1 << 60),
    put("parent", {"file": "../x", "identity": ""}), put("parent", {"file": "small", "identity": "00"}), put("parent", 5)])
def test_manifest_that_cannot_be_is_refused(tmp_path, change):
    path = small_file(tmp_path)
    forge(path, change)
    with pytest.raises(EmuError) as caught:
        Snapshot.load(str(path)).fork()
    assert caught.value.code in (2, 21)


def test_newer_version_is_named(tmp_path):
    path = small_file(tmp_path)
    data = bytearray(path.read_bytes())
    data[12] = 9
    path.write_bytes(data)
    with pytest.raises(SnapshotError) as caught:
        Snapshot.load(str(path))
    assert "format 9" in str(caught.value) and caught.value.code == 21


def test_disk_that_changed_is_refused(tmp_path):
    base = tmp_path / "base"
    base.write_bytes(b"a" * 65536)
    machine = Machine(image=TEACH, memory=16 << 20, disks=(DiskBackend.open_raw(str(base)),))
    machine.snapshot().save(str(tmp_path / "state"))
    Snapshot.load(str(tmp_path / "state")).fork()
    base.write_bytes(b"a" * 65535 + b"b")
    with pytest.raises(SnapshotError) as caught:
        Snapshot.load(str(tmp_path / "state"))
    assert str(base) in str(caught.value)
    base.unlink()
    with pytest.raises(SnapshotError):
        Snapshot.load(str(tmp_path / "state"))


def test_full_disk_is_an_error_and_leaves_nothing(machine, tmp_path):
    old = small_file(tmp_path).read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limit[1]))       # EFBIG: the same way out as ENOSPC
    try:
        with pytest.raises(ResourceError) as caught:
            machine.snapshot().save(str(tmp_path / "small"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    assert "cannot be written" in str(caught.value)
    assert (tmp_path / "small").read_bytes() == old
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["sector.bin", "small"]
    with pytest.raises(ResourceError):
        machine.snapshot().save(str(tmp_path / "nowhere" / "state"))


def test_kill_at_any_moment_leaves_the_old_or_the_new_state(tmp_path):
    program = ("import sys\nfrom emu.machine.machine import Machine\n"
               f"m = Machine(image={TEACH!r}, memory=16 << 20)\n"
               "number = 0\nprint(flush=True)\n"
               "while True:\n    number += 1\n    m.memory.physical[0x500000:0x500008] = number.to_bytes(8, 'little')\n"
               f"    m.snapshot().save({str(tmp_path / 'state')!r})\n    print(number, flush=True)\n")
    rng = random.Random(2)
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment(), cwd=ROOT, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.readline()                # one is written
        time.sleep(rng.random() * 0.2)
        process.kill()
        done = [int(line) for line in process.stdout.read().split()]
        process.wait()
        state = Snapshot.load(str(tmp_path / "state")).fork()
        number = int.from_bytes(state.memory.physical[0x500000:0x500008], "little")
        assert number in {(done or [1])[-1], (done or [1])[-1] + 1}
    assert {entry.name for entry in tmp_path.iterdir()} <= {"state", "state.partial"}
    Machine(image=TEACH, memory=16 << 20).snapshot().save(str(tmp_path / "state"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["state"]
