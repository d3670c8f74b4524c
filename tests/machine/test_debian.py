# Debian's unmodified kernels, booted: to the shell, with what they say of the machine, to power-off and to reboot.
import hashlib
import os
import re
import subprocess
import sys

import pytest

from emu.image.recipe import pull
from emu.image.store import Store
from emu.machine.machine import Machine
from emu.machine.replay import replay
from emu.machine.snapshot import Snapshot

PROMPT = r"/ # "
COMPLAINTS = re.compile(r"Firmware Bug|TSC calibration failed|ACPI (?:BIOS )?(?:Error|Warning)|APIC error|spurious|Oops|BUG:|Call Trace|"
                        r"unchecked MSR|invalid opcode|MP-BIOS bug|nobody cared|Marking TSC unstable|clocksource: timekeeping watchdog|"
                        r"rcu_\w+ detected|Measured \d+ cycles TSC warp|inconsistent|BIOS bug|not responding")


@pytest.fixture(scope="session")
def guests(tmp_path_factory):
    """A store of its own, or the user's where XDG_DATA_HOME says so; gives name -> (kernel, initrd)."""
    if "EMU_TEST_DATA" in os.environ:
        os.environ["XDG_DATA_HOME"] = os.environ["EMU_TEST_DATA"]
    else:
        os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))
    store = Store()

    def find(name):
        if store.read(name) is None:
            pull(name, store, lambda *progress: None)
        record = store.read(name)
        found = {role: store.path(name, digest) for role, digest in record["blobs"].items()}
        return str(found["kernel"]), str(found["initrd"])
    return find


class Session:
    """A guest at its console."""

    def __init__(self, files, **options):
        kernel, initrd = files
        self.machine = Machine(kernel=kernel, initrd=initrd, append="console=ttyS0", **options)
        self.text = ""

    def wait(self, pattern, start=None, instructions=12_000_000_000):
        """Runs until the output from `start` (now) on matches; gives that output."""
        end = self.machine.retired + instructions
        start = len(self.text) if start is None else start
        while True:
            ended = self.machine.run_slice()
            self.text += self.machine.serial.read().decode("latin1")
            if re.search(pattern, self.text[start:]):
                return self.text[start:]
            assert ended is None, f"{ended}\n{self.text[-3000:]}"
            assert self.machine.retired < end and self.machine.idle_ns == 0, f"no {pattern!r}\n{self.text[-3000:]}"

    def type(self, line):
        data = (line + "\n").encode()
        while data:
            data = data[self.machine.serial.send(data):]
            self.machine.run_slice()
            self.text += self.machine.serial.read().decode("latin1")

    def run(self, line):
        """The output of a command."""
        start = len(self.text)
        self.type(line + "; echo done=$?")
        return self.wait(r"done=\d+", start)

    def end(self):
        """Runs until the machine stops by itself."""
        while True:
            ended = self.machine.run_slice()
            self.text += self.machine.serial.read().decode("latin1")
            if ended is not None:
                return ended


@pytest.mark.parametrize("name, cpu", [("debian", "v2"), ("debian", "v1"), ("debian-i386", "pentium3"), ("debian-i386", "v2"),
                                       ("debian-amd64", "v2")])
def test_debian_boots_to_its_shell_without_complaints_and_powers_off(guests, name, cpu):
    session = Session(guests(name), cpu=cpu)
    text = session.wait(PROMPT)
    assert "BusyBox" in text
    complaints = [line for line in text.splitlines() if COMPLAINTS.search(line)]
    assert complaints == []
    assert "MemTotal" in session.run("cat /proc/meminfo")
    session.type("poweroff -f")
    ended = session.end()
    assert (ended.reason, ended.code) == ("power off", 0)


@pytest.mark.parametrize("name, cpu, cpus", [("debian", "v2", 4), ("debian-i386", "pentium3", 2)])
def test_debian_runs_on_every_cpu(guests, name, cpu, cpus):
    session = Session(guests(name), cpu=cpu, cpus=cpus)
    text = session.wait(PROMPT)
    assert f"smp: Brought up 1 node, {cpus} CPUs" in text
    assert [line for line in text.splitlines() if COMPLAINTS.search(line)] == []
    assert f"\n{cpus}\r" in session.run("nproc")
    data = b"".join(str(number).encode() + b"\n" for number in range(1, 20001))
    digest = hashlib.sha1(data).hexdigest()
    work = "; ".join(f"taskset {1 << k:x} sh -c 'seq 1 20000 | sha1sum' &" for k in range(cpus)).replace("&;", "&")
    assert session.run(f"{work} wait").count(digest) == cpus
    loc = re.search(r"LOC:((?:\s+\d+)+)", session.run("cat /proc/interrupts"))
    assert loc is not None and len(loc[1].split()) == cpus and "0" not in loc[1].split()
    assert [line for line in session.run("dmesg").splitlines() if COMPLAINTS.search(line)] == []
    session.type("reboot -f")
    session.wait(f"smp: Brought up 1 node, {cpus} CPUs")
    session.wait(PROMPT)
    session.type("poweroff -f")
    assert session.end().reason == "power off"


def test_debian_uses_the_devices_and_computes_right(guests, tmp_path):
    session = Session(guests("debian"))
    session.wait(PROMPT)
    interrupts = session.run("cat /proc/interrupts")
    assert re.search(r"LOC:\s+[1-9]", interrupts) and "IO-APIC" in interrupts and "virtio" in interrupts
    assert "tsc" in session.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource")
    assert "virtio_rng" in session.run("cat /sys/class/misc/hw_random/rng_current")
    data = b"".join(str(number).encode() + b"\n" for number in range(1, 2001))
    assert hashlib.sha1(data).hexdigest() in session.run("seq 1 2000 | sha1sum")
    before, after = re.findall(r"([\d.]+) [\d.]+\r", session.run("cat /proc/uptime; sleep 1; cat /proc/uptime"))
    assert 1.0 <= float(after) - float(before) < 1.1
    session.type("sleep 1000")
    session.machine.run_slice()
    session.machine.serial.send(b"\x03")
    session.wait(PROMPT)
    session.type("reboot -f")
    session.wait(r"Linux version")


def test_same_seed_gives_the_same_run_to_the_instruction_whatever_the_load(guests):
    kernel, initrd = guests("debian")
    program = ("import sys\nfrom emu.machine.machine import Machine\n"
               f"m = Machine(kernel={kernel!r}, initrd={initrd!r}, append='console=ttyS0', seed=7)\n"
               "t = b''\n"
               "while b'/ # ' not in t:\n    assert m.run_slice() is None\n    t += m.serial.read()\n"
               "m.serial.send(b'cat /proc/uptime; poweroff -f\\n')\n"
               "while m.run_slice() is None:\n    t += m.serial.read()\n"
               "import hashlib\n"
               "print(m.exit.instructions, m.exit.virtual_ns, hashlib.sha256(t + m.serial.read()).hexdigest())\n")
    quiet = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=600).stdout
    load = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=1200).stdout
    finally:
        for process in load:
            process.kill()
            process.wait()
    assert quiet == loaded and re.fullmatch(r"\d+ \d+ [0-9a-f]{64}\n", quiet)


def test_debian_is_recorded_forked_saved_and_replayed_to_the_same_ram(guests, tmp_path):
    session = Session(guests("debian"))
    machine = session.machine
    machine.record(str(tmp_path / "log"))
    session.wait(PROMPT)
    session.run("echo before > /tmp/file")
    snapshot = machine.snapshot()
    identity = snapshot.save(str(tmp_path / "state"))
    session.run("cat /tmp/file; echo after > /tmp/file; sync")
    machine.close()
    assert replay(str(tmp_path / "log")).ram == machine.memory.digest()
    loaded = Snapshot.load(str(tmp_path / "state"))
    assert loaded.identity == identity
    for child in (snapshot.fork(), loaded.fork()):
        other = Session.__new__(Session)
        other.machine, other.text = child, ""
        assert "before" in other.run("cat /tmp/file; echo after > /tmp/file; sync")
        child.run_slice(instructions=0)
    machine.reset_to(snapshot)
    assert machine.memory.digest() == loaded.fork().memory.digest()
