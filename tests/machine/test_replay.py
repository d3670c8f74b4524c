# Recorded runs are run again to the same bit, or what differs is named; logs are whole or refused.
import json
import zlib

import pytest

from emu.base.errors import DivergedError, EmuError, ImageError, ResourceError, SnapshotError
from emu.machine.inputs import Inputs
from emu.base.clock import Clock
from emu.machine.machine import Machine
from emu.machine.replay import read_log, replay
from tests.machine.guests import TEACH, advance, sector_machine


def record(path, work, checkpoint=1_000_000, **options):
    """Records what `work(machine)` does to the embedded guest; gives RAM's hash at the end and what was sent."""
    sent = []
    with Machine(image=TEACH, memory=16 << 20, **options) as machine:
        machine.record(str(path), checkpoint)
        sent.append(work(machine))
        machine.close()
        return machine.memory.digest(), b"".join(sent)


def typing(machine):
    sent = advance(machine, 2_000_000)
    for line in (b"help\n", b"about\n", b"nonsense\n"):
        machine.serial.send(line)
        sent += advance(machine, 1_500_000)
    machine.keyboard.press("a")
    machine.console.send(b"into the void")
    return sent + advance(machine, 777_777)


def test_replay_is_the_same_run(tmp_path):
    log = tmp_path / "log"
    ram, sent = record(log, typing)
    again = bytearray()
    done = replay(str(log), again.extend)
    assert done.ram == ram and done.whole and done.inputs == 5 and done.checkpoints >= 3
    assert bytes(again) == sent and b"nonsense" in sent


def test_replay_of_a_run_with_the_hosts_clock(tmp_path):
    def work(machine):
        sent = b""
        for number in range(40):
            machine.run_slice(1_000_000)
            if number % 10 == 5:
                machine.serial.send(b"help\n")
            sent += machine.serial.read()
        return sent
    log = tmp_path / "log"
    ram, sent = record(log, work, clock="host")
    again = bytearray()
    assert replay(str(log), again.extend).ram == ram and bytes(again) == sent


def test_slices_of_the_host_make_no_difference(tmp_path):
    hashes = set()
    for size in (1 << 20, 77_777, 4_001):
        machine = Machine(image=TEACH, memory=16 << 20)
        machine._slice = size
        for line, at in ((b"help\n", 3_000_000), (b"about\n", 5_000_001)):
            machine.inputs.enter("serial", line, at)
        done = []
        machine.inputs.channel("end", lambda data, machine=machine, done=done: done.append((machine.retired, machine.memory.digest())))
        machine.inputs.enter("end", b"", 9_000_000)
        while not done:
            machine.run_slice()
            machine.serial.read()
        hashes.update(done)
    assert len(hashes) == 1


def test_snapshots_in_a_recorded_run_are_part_of_it(tmp_path):
    def work(machine):
        advance(machine, 1_234_567)
        machine.snapshot()
        machine.serial.send(b"help\n")
        machine.snapshot()
        machine.snapshot()
        advance(machine, 1_000_000)
        children = machine.fork(2)
        children[0].serial.send(b"about\n")
        advance(children[0], 100_000)
        return advance(machine, 500_000)
    log = tmp_path / "log"
    ram, _ = record(log, work)
    assert replay(str(log)).ram == ram


def test_recording_can_begin_in_the_middle(tmp_path):
    machine = Machine(image=TEACH, memory=16 << 20)
    advance(machine, 2_000_000)
    machine.record(str(tmp_path / "log"))
    machine.serial.send(b"help\n")
    advance(machine, 1_000_000)
    machine.close()
    done = replay(str(tmp_path / "log"))
    assert done.ram == machine.memory.digest() and done.instructions == machine.retired
    (tmp_path / "log.start").unlink()
    with pytest.raises(SnapshotError):
        replay(str(tmp_path / "log"))


def test_run_that_ends_by_itself_is_replayed_to_its_end(tmp_path):
    for name, code, options in (("exit", "baf803b041ee" "ba0105b005ee" "ebfe", {"debug_exit": (0x501, 2)}),
                                ("dead", "baf803b041ee" "faf4", {}), ("budget", "ebfe", {"budget": 12_345})):
        with sector_machine(tmp_path, code, **options) as machine:
            machine.record(str(tmp_path / name))
            while machine.run_slice() is None:
                pass
            machine.close()
        done = replay(str(tmp_path / name))
        assert done.instructions == machine.retired and done.ram == machine.memory.digest()


def lines_of(log):
    return [json.loads(line[9:]) for line in log.read_text().splitlines()]


def write(log, lines):
    texts = [json.dumps(line) for line in lines]
    log.write_text("".join(f"{zlib.crc32(text.encode()):08x} {text}\n" for text in texts))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    log = tmp_path_factory.mktemp("replay") / "log"
    record(log, typing)
    return lines_of(log)


def test_divergence_is_found_at_the_first_checkpoint_and_named(recorded, tmp_path):
    log = tmp_path / "log"
    lines = [dict(line) for line in recorded]
    first = next(k for k, line in enumerate(lines) if line.get("data") == b"help\n".hex())
    lines[first] = {**lines[first], "data": b"hulp\n".hex()}
    write(log, lines)
    with pytest.raises(DivergedError) as caught:
        replay(str(log))
    after = next(line for line in lines[first:] if line.get("channel") == "checkpoint")
    assert f"checkpoint at instruction {after['instructions']}" in str(caught.value) and caught.value.code == 20
    assert "RAM" in str(caught.value) and "cpu0" in str(caught.value)


def test_inputs_in_another_order_diverge(recorded, tmp_path):
    log = tmp_path / "log"
    lines = [dict(line) for line in recorded]
    one, two = (next(line for line in lines if line.get("data") == data.hex()) for data in (b"help\n", b"about\n"))
    one["data"], two["data"] = two["data"], one["data"]
    write(log, lines)
    with pytest.raises(DivergedError):
        replay(str(log))


def test_log_whose_writer_was_killed_is_good_up_to_there(recorded, tmp_path):
    log = tmp_path / "log"
    write(log, recorded[:-3])
    text = log.read_text()
    log.write_text(text + "12345678 {\"at\":")
    done = replay(str(log))
    assert not done.whole and done.inputs >= 2


@pytest.mark.parametrize("change", [
    lambda head: head.update({"emu log": 2}), lambda head: head["machine"].update(memory="x"), lambda head: head["machine"].pop("cpu"),
    lambda head: head.pop("machine"), lambda head: head["files"].clear(), lambda head: head["files"]["image"].update(sha256="00"),
    lambda head: head["files"]["image"].update(path="/nowhere"), lambda head: head.update(start={"file": "x", "identity": ""}),
    lambda head: head.update(disks=[{"path": "/nowhere", "bytes": 5, "readonly": False, "fingerprint": ""}]),
    lambda head: head["machine"].update(memory=1 << 20), lambda head: head["machine"].update(seed="no")])
def test_log_of_another_machine_is_refused(recorded, tmp_path, change):
    log = tmp_path / "log"
    lines = json.loads(json.dumps(recorded))
    change(lines[0])
    write(log, lines)
    with pytest.raises(EmuError) as caught:
        replay(str(log))
    assert caught.value.code in (2, 3, 20, 21)


def test_damaged_lines_are_named(recorded, tmp_path):
    log = tmp_path / "log"
    write(log, recorded)
    good = log.read_bytes()
    for place in range(0, len(good) - 1, 37):
        log.write_bytes(good[:place] + bytes((good[place] ^ 4,)) + good[place + 1:])
        with pytest.raises(SnapshotError):
            read_log(str(log))
    for data in (b"", b"no log\n", b"\xff\xfe\n\n"):
        log.write_bytes(data)
        with pytest.raises(SnapshotError):
            read_log(str(log))


def test_changed_image_is_named(tmp_path):
    machine = sector_machine(tmp_path, "ebfe")
    machine.record(str(tmp_path / "log"))
    machine.step(1000)
    machine.close()
    replay(str(tmp_path / "log"))
    (tmp_path / "sector.bin").write_bytes(bytes.fromhex("90ebfe").ljust(510, b"\0") + b"\x55\xaa")
    with pytest.raises(ImageError) as caught:
        replay(str(tmp_path / "log"))
    assert "sector.bin" in str(caught.value)


def test_log_that_cannot_be_written(tmp_path):
    machine = sector_machine(tmp_path, "ebfe")
    with pytest.raises(ResourceError):
        machine.record(str(tmp_path / "nowhere" / "log"))


def test_inputs_enter_in_order_at_their_times():
    clock = Clock()
    seen = []
    inputs = Inputs(clock)
    inputs.channel("a", lambda data: seen.append((clock.now_ns, data)))
    inputs.enter("a", 1, 50)
    inputs.enter("a", 2, 20)
    inputs.enter("a", 3, 50)
    assert inputs.waiting("a") == [2, 1, 3]
    clock.advance(30)
    assert inputs.enter("a", 4) == 50
    clock.advance(100)
    assert seen == [(20, 2), (50, 1), (50, 3), (50, 4)]
    with pytest.raises(ValueError):
        inputs.enter("a", 5, 100)
    with pytest.raises(KeyError):
        inputs.enter("b", 5)
    inputs.channel("bad", lambda data: 1 // 0)
    inputs.enter("bad", 0)
    clock.advance(200)
    assert isinstance(inputs.error, ZeroDivisionError)
