# Snapshots, forks and resets of machines: same future, nothing forgotten, nothing shared that is written.
import random

import pytest

from emu.base.errors import SnapshotError, UsageError
from emu.devices.backend.disk import DiskBackend
from emu.machine.machine import Machine
from emu.machine.snapshot import Snapshot, components, keyed
from tests.machine.guests import TEACH, advance, fingerprint, sector_machine


@pytest.fixture
def machine():
    """The embedded guest, at its prompt."""
    machine = Machine(image=TEACH, memory=32 << 20)
    advance(machine, 3_000_000)
    return machine


def test_copy_has_the_same_future_to_the_bit(machine):
    snapshot = machine.snapshot()
    child = snapshot.fork()
    assert fingerprint(child) == fingerprint(machine)
    for line in (b"help\n", b"about\n"):
        sent = []
        for each in (machine, child):
            each.serial.send(line)
            sent.append(advance(each, 2_000_000))
        assert sent[0] == sent[1] and line[:-1] in sent[0]
        assert fingerprint(child) == fingerprint(machine)


def test_snapshot_stays_what_it_was_whoever_writes(machine):
    snapshot = machine.snapshot()
    before = fingerprint(snapshot.fork())
    one, two = snapshot.fork(), snapshot.fork()
    machine.memory.physical[0x5000:0x5004] = b"boss"
    one.memory.physical[0x5000:0x5004] = b"kid1"
    assert two.memory.physical[0x5000:0x5004] not in (b"boss", b"kid1")
    advance(machine, 1_000_000)
    advance(one, 1_000_000)
    assert fingerprint(two) == before == fingerprint(snapshot.fork())
    assert (machine.memory.physical[0x5000:0x5004], one.memory.physical[0x5000:0x5004]) == (b"boss", b"kid1")


def test_every_generation_of_forks_goes_on_alike(machine):
    rng = random.Random(4)
    reference = machine.snapshot().fork()
    current = machine
    for generation in range(5):
        current = current.fork()[0]
        step = rng.randrange(1000, 400_000)
        reference.snapshot()                     # empties its TLBs too
        for each in (reference, current):
            each.serial.send(b"help\n"[:generation + 1])
            each.step(step)
        assert fingerprint(current) == fingerprint(reference)
    assert len(current.memory.image.history) >= 1


def test_reset_goes_back_whatever_was_done(machine):
    snapshot = machine.snapshot()
    before = fingerprint(machine)
    for _ in range(3):
        machine.serial.send(b"help\n")
        advance(machine, 500_000)
        machine.memory.physical[0x9000:0x9010] = bytes(range(16))
        assert fingerprint(machine) != before
        machine.reset_to(snapshot)
        assert fingerprint(machine) == before
    fresh = snapshot.fork()
    for each in (machine, fresh):
        each.serial.send(b"about\n")
        advance(each, 1_000_000)
    assert fingerprint(machine) == fingerprint(fresh)


def test_reset_to_an_older_and_to_a_younger_snapshot(machine):
    older = machine.snapshot()
    first = fingerprint(machine)
    machine.serial.send(b"help\n")
    advance(machine, 700_000)
    younger = machine.snapshot()
    second = fingerprint(machine)
    for snapshot, expected in ((older, first), (younger, second), (older, first)):
        advance(machine, 200_000)
        machine.reset_to(snapshot)
        assert fingerprint(machine) == expected


def test_reset_forgets_code_that_was_written_over(tmp_path):
    # the guest overwrites an instruction that it runs; after the reset the old one must run again
    # mov dx, 0x3f8; L: mov al, 'A'; out dx, al; mov byte [L + 1], 'B'; jmp L
    machine = sector_machine(tmp_path, "baf803" "b041" "ee" "c606047c42" "ebf6")
    machine.step(1)
    snapshot = machine.snapshot()
    for _ in range(3):
        machine.step(30)
        assert machine.serial.read().startswith(b"ABBB")
        machine.reset_to(snapshot)


def test_many_scattered_writes_make_one_flat_image():
    machine = Machine(image=TEACH, memory=32 << 20)
    image = machine.snapshot().image
    for page in range(0, 4096, 3):
        machine.memory.physical[0x100000 + page * 4096:0x100000 + page * 4096 + 2] = page.to_bytes(2, "little")
    later = machine.snapshot()
    assert len(later.image.extents) == 1 and later.image.history[-1][0] is image.token
    child = later.fork()
    assert fingerprint(child) == fingerprint(machine)
    assert child.memory.physical[0x100000 + 3 * 4096:0x100000 + 3 * 4096 + 2] == b"\x03\0"


def test_disks_are_forked_and_reset_with_the_machine(tmp_path):
    disk = DiskBackend.blank(1 << 20)
    machine = Machine(image=TEACH, memory=16 << 20, disks=(disk,))
    disk.write(8192, b"before")
    snapshot = machine.snapshot()
    child = snapshot.fork()
    disk.write(8192, b"parent")
    child.disks[0].write(8192, b"child!")
    child.disks[0].zero(0, 4096)
    assert (disk.read(8192, 6), child.disks[0].read(8192, 6)) == (b"parent", b"child!")
    assert snapshot.fork().disks[0].read(8192, 6) == b"before"
    machine.reset_to(snapshot)
    assert disk.read(8192, 6) == b"before"


def test_disk_whose_file_is_written_cannot_be_part_of_a_snapshot(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(bytes(8192))
    machine = Machine(image=TEACH, memory=16 << 20, disks=(DiskBackend.open_raw(str(path), commit=True),))
    with pytest.raises(UsageError):
        machine.snapshot()


def test_reset_to_the_snapshot_of_another_kind_of_machine_is_refused(machine):
    other = Machine(image=TEACH, memory=32 << 20, cpu="486")
    with pytest.raises(SnapshotError):
        machine.reset_to(other.snapshot())


def test_idle_parent_is_not_changed_by_its_children(machine):
    children = machine.fork(3)
    before = machine.memory.digest()
    for number, child in enumerate(children):
        child.serial.send(b"help\n" * (number + 1))
        advance(child, 1_000_000)
    assert machine.memory.digest() == before
    assert len({child.memory.digest() for child in children}) > 1


# ---- nothing is forgotten

def busy(machine):
    """A machine that has been used at every corner that is reached from outside."""
    machine.serial.send(b"help\nabout\n")
    machine.keyboard.press("a")
    advance(machine, 1_234_567)
    return machine


def test_values_by_name_are_what_the_components_say(machine):
    busy(machine)
    snapshot = machine.snapshot()
    assert snapshot.values() == {name: fields.get() for name, fields in keyed(components(machine)).items()}


def test_everything_that_changes_is_declared_or_named_as_derived(machine):
    """The memory of every component's struct, before and after a restore of its fields: what differs is named."""
    parts = components(machine)
    assert len(parts) >= 25
    busy(machine)
    snapshot = machine.snapshot()
    before = [fields.covered() for fields in parts]
    advance(machine, 3_000_000)
    machine.serial.send(b"x" * 50)
    machine.keyboard.press("b")
    advance(machine, 100_000)
    machine.reset_to(snapshot)
    forgotten = set()
    for fields, spans in zip(parts, before, strict=True):
        assert spans, f"{fields.component} covers no memory"
        for (address, old), (_, new) in zip(spans, fields.covered(), strict=True):
            forgotten |= {(fields.component, offset) for offset in range(len(old))
                          if old[offset] != new[offset] and fields.name_at(address + offset) is None}
    assert not forgotten


def test_restored_values_are_checked_as_a_guests_writes(machine):
    snapshot = machine.snapshot()
    good = machine.cpu[0].fields.get()
    for field, value in (("cr0", 1 << 31), ("cr4", 1 << 63), ("efer", 1 << 10), ("efer", 1 << 30), ("cr8", 16), ("xcr0", 0), ("cpl", 4),
                         ("cs_attributes", 0x7000), ("gs_base", 1 << 60), ("lstar", 1 << 50), ("mxcsr", 1 << 20),
                         ("pat", 0x0202020202020202), ("sipi", 300), ("halted", 2), ("chain_length", 5), ("retired", 1 << 63),
                         ("flags_system", 0),
                         ("debug_trap", 1 << 20), ("mtrr_def_type", 3), ("random_state", (0, 0, 0, 0)), ("gdt_limit", 1 << 20),
                         ("cr3", 1 << 52)):
        with pytest.raises(SnapshotError) as caught:
            machine.cpu[0].fields.set({**good, field: value})
        assert "cpu0" in str(caught.value)
        assert machine.cpu[0].fields.get() == good
    assert isinstance(snapshot, Snapshot)
