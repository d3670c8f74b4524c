# Snapshots, forks and resets of a booted Linux, with QEMU's savevm and loadvm of the same guest beside them.
import argparse
import functools
import heapq
import json
import os
import pathlib
import shlex
import socket
import statistics
import subprocess
import time
from collections.abc import Callable

from benchmarks.peers import Run

LONGEST = 120
CHILDREN = 500
RESETS = 200
DIRTY_PAGES = 20


def _booted(options: argparse.Namespace):
    """Our machine at its marker, and settled."""
    from emu.machine.machine import Machine
    machine = Machine(kernel=options.kernel, initrd=options.initrd, append=options.append, memory=options.memory)
    machine.run(until=options.marker)
    for _ in range(200):
        machine.run_slice()
    machine.serial.read()
    return machine


def _ms(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _private_kib() -> int:
    lines = pathlib.Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _fork_times(machine, rounds: int) -> list[float]:
    """From the call to the first instruction of the child; between two, the parent writes 100 pages."""
    times = []
    for number in range(rounds):
        times.append(_ms(lambda: machine.fork()[0].step(1)))
        for page in range(100):
            machine.memory.physical[(16 << 20) + page * 12288:(16 << 20) + page * 12288 + 1] = bytes((number + 1,))
    return times


def _reset_times(machine) -> list[float]:
    """Microseconds of going back over 20 pages that were written."""
    snapshot = machine.snapshot()
    machine.reset_to(snapshot)                   # the first time the image is mapped to be read
    times = []
    for number in range(RESETS):
        for page in range(DIRTY_PAGES):
            place = (32 << 20) + page * 40960
            machine.memory.physical[place:place + 1] = bytes((number & 255,))
        times.append(_ms(lambda: machine.reset_to(snapshot)) * 1000)
    return times


def _idle_children(snapshot, seconds: float) -> tuple[float, float]:
    """(private KiB of each, host CPU in percent of a core of all) of idle copies that follow the host's clock."""
    before = _private_kib()
    children = [snapshot.fork(clock="host") for _ in range(CHILDREN)]
    due = [(0.0, number) for number in range(CHILDREN)]
    heapq.heapify(due)

    def serve(until: float) -> None:
        while (now := time.monotonic()) < until:
            at, number = due[0]
            if at > now:
                time.sleep(min(at, until) - now)
                continue
            child = children[number]
            child.run_slice()
            child.serial.read()
            wait = child.idle_ns / 1e9 if child.idle_ns >= 0 else 3600.0
            heapq.heapreplace(due, (time.monotonic() + wait, number))

    serve(time.monotonic() + 15)
    used, started = time.process_time(), time.monotonic()
    serve(started + seconds)
    percent = (time.process_time() - used) / (time.monotonic() - started) * 100
    return (_private_kib() - before) / CHILDREN, percent


def measure_ours(options: argparse.Namespace, directory: pathlib.Path) -> dict[str, list[float]]:
    """Everything that is measured of ours, by the names of the rows."""
    from emu.machine.snapshot import Snapshot
    machine = _booted(options)
    found: dict[str, list[float]] = {"fork, first of a fresh boot": _fork_times(machine, 1)}
    found["fork to first instruction"] = _fork_times(machine, options.rounds * 2)
    found["reset, 20 dirty pages"] = _reset_times(machine)
    machine = _booted(options)
    snapshot = machine.snapshot()
    path = str(directory / "state")
    found["save"] = [_ms(lambda: snapshot.save(path)) for _ in range(options.rounds)]
    found["size"] = [os.path.getsize(path) / 2**20]

    def restore() -> None:
        loaded[0] = Snapshot.load(path)
        loaded[0].fork().step(1)
    loaded = [snapshot]
    found["restore to first instruction"] = [_ms(restore) for _ in range(options.rounds)]
    for pages in (100, 1000):
        for page in range(pages):
            machine.memory.physical[(16 << 20) + page * 8192:(16 << 20) + page * 8192 + 8] = os.urandom(8)
        later = machine.snapshot()
        name = f"incremental save, {pages} pages"
        found[name] = [_ms(functools.partial(later.save, path + ".next", snapshot)) for _ in range(options.rounds)]
    private, percent = _idle_children(loaded[0], options.idle_seconds)
    found["idle child: private memory"], found[f"{CHILDREN} idle children: CPU"] = [private], [percent]
    return found


UNITS = {"reset, 20 dirty pages": "us", "size": "MiB", "idle child: private memory": "KiB", f"{CHILDREN} idle children: CPU": "% of a core"}


class _Monitor:
    """QEMU's machine protocol, as far as it is needed."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(LONGEST)
        self._socket.connect(path)
        self._file = self._socket.makefile("rw")
        self._file.readline()
        self.call("qmp_capabilities")

    def call(self, command: str, **arguments: object) -> object:
        """Runs a command; gives its answer."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            if "error" in answer:
                raise RuntimeError(f"qemu: {answer['error']}")
            if "return" in answer:
                return answer["return"]

    def monitor(self, line: str) -> None:
        """Runs a command of the human monitor, which says nothing where all is well."""
        said = self.call("human-monitor-command", **{"command-line": line})
        if said:
            raise RuntimeError(f"qemu: {line}: {said}")


def measure_qemu(command: str, options: argparse.Namespace, directory: pathlib.Path) -> dict[str, list[float]]:
    """savevm and loadvm of the same guest."""
    disk, place = directory / "states.qcow2", directory / "monitor"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "1G"], check=True)
    line = [*shlex.split(command), "-accel", "tcg", "-display", "none", "-serial", "stdio", "-nic", "none", "-m", options.memory,
            "-kernel", options.kernel, "-initrd", options.initrd, "-append", options.append,
            "-drive", f"if=virtio,format=qcow2,file={disk}", "-qmp", f"unix:{place},server=on,wait=off"]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    assert process.stdout is not None and process.stdin is not None
    reader = os.dup(process.stdout.fileno())
    process.stdout.close()
    run = Run(process, reader, time.monotonic(), process.stdin.close)
    try:
        if run.wait_for(options.marker.encode(), LONGEST) is None:
            raise RuntimeError("qemu: the marker did not come")
        time.sleep(1)
        monitor = _Monitor(str(place))
        found: dict[str, list[float]] = {"save": [], "restore to first instruction": []}
        for _ in range(options.rounds):
            found["save"].append(_ms(lambda: monitor.monitor("savevm one")))
            found["restore to first instruction"].append(_ms(lambda: monitor.monitor("loadvm one")))
        return found
    finally:
        run.stop()


def measure_states(peers, options: argparse.Namespace, directory: pathlib.Path, show: Callable[[dict], None]) -> list[dict]:
    """The rows of the table."""
    names = {peer.name for peer in peers}
    values = {"emu": measure_ours(options, directory)} if "emu" in names else {}
    if "qemu" in names:
        values["qemu"] = measure_qemu(options.qemu, options, directory)
    rows = []
    for name in dict.fromkeys(name for found in values.values() for name in found):
        rows.append({"name": name, "unit": UNITS.get(name, "ms"), "more_is_better": False,
                     "values": {peer: found.get(name, []) for peer, found in values.items()}})
        show(rows[-1])
        if len(data := rows[-1]["values"].get("emu", [])) > 1:
            rows[-1]["emu_best"] = min(data)
            rows[-1]["emu_95_percent"] = statistics.quantiles(data, n=20)[-1]
    return rows
