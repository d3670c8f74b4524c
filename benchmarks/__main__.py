# `python -m benchmarks`: what is fast and how fast, beside QEMU TCG and Bochs on the same work, alternating in one run.
import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

from benchmarks.loops import LOOPS, PER_TURN, build, build_loop
from benchmarks.peers import Bochs, Emu, Qemu, Run
from benchmarks.states import measure_states
from emu.base.errors import EmuError

RESULTS = pathlib.Path(__file__).parent / "results"
PARTS = ("loops", "first", "boot", "idle", "states")
LONGEST = 120                    # seconds that anything may take


def loop_seconds(peer, image: pathlib.Path) -> float:
    """Time from the loop's first to its last byte."""
    run = peer.boot_sector(image)
    try:
        began = run.wait_for(b"S", LONGEST)
        ended = began and run.wait_for(b"E", LONGEST)
        if not began or not ended:
            raise RuntimeError(f"{peer.name}: the loop did not run to its end (serial output: {run.output[-200:]!r})")
        return ended - began
    finally:
        run.stop()


def measure_loops(peers, directory: pathlib.Path, rounds: int, seconds: float, only: list[str]) -> list[dict]:
    """MIPS of every loop in both modes. How many turns each peer makes is found first, so that each takes about `seconds`."""
    rows = []
    for long in (False, True):
        for loop in LOOPS:
            if only and loop not in only:
                continue
            turns = {}
            for peer in peers:
                count = 200_000
                while True:
                    took = loop_seconds(peer, build_loop(directory, loop, long, count))
                    if took > seconds / 8 or count > 500_000_000:
                        break
                    count *= 8
                turns[peer.name] = max(1, min(2_000_000_000, int(count * seconds / took)))
            rates = {peer.name: [] for peer in peers}
            for _ in range(rounds):
                for peer in peers:
                    count = turns[peer.name]
                    took = loop_seconds(peer, build_loop(directory, loop, long, count))
                    rates[peer.name].append(count * PER_TURN[loop] / took / 1e6)
            rows.append({"name": f"{loop}, {'long' if long else '32-bit'}", "unit": "MIPS", "more_is_better": True, "values": rates})
            show(rows[-1])
    return rows


def measure_first(peers, directory: pathlib.Path, rounds: int) -> list[dict]:
    """From process start to the first serial byte of a boot sector."""
    image = build(directory, "first.S", "first")
    times = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            run = peer.boot_sector(image)
            try:
                came = run.wait_for(b"!", LONGEST)
                if came is None:
                    raise RuntimeError(f"{peer.name}: no byte came")
                times[peer.name].append((came - run.started) * 1000)
            finally:
                run.stop()
    row = {"name": "start to first byte", "unit": "ms", "more_is_better": False, "values": times}
    show(row)
    return [row]


def _boot(peer, options: argparse.Namespace, host_clock: bool) -> tuple[Run, float]:
    run = peer.kernel(options.kernel, options.initrd, options.append, options.memory, host_clock)
    came = run.wait_for(options.marker.encode(), LONGEST)
    if came is None:
        tail = run.output[-400:].decode(errors="replace")
        run.stop()
        raise RuntimeError(f"{peer.name}: {options.marker!r} did not come; the last output was\n{tail}")
    return run, came - run.started


def measure_boot(peers, options: argparse.Namespace) -> list[dict]:
    """From process start to the marker of a Linux kernel."""
    times = {peer.name: [] for peer in peers}
    for _ in range(options.rounds):
        for peer in peers:
            run, took = _boot(peer, options, False)
            run.stop()
            times[peer.name].append(took)
    row = {"name": "Linux to its shell", "unit": "s", "more_is_better": False, "values": times}
    show(row)
    return [row]


def _process_tree(pid: int) -> list[int]:
    children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid] + [other for child in children for other in _process_tree(int(child))]


def _private_mib(pid: int) -> float:
    total = 0
    for process in _process_tree(pid):
        for line in pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_"):
                total += int(line.split()[1])
    return total / 1024


def _cpu_seconds(pid: int) -> float:
    ticks = 0
    for process in _process_tree(pid):
        fields = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure_idle(peers, options: argparse.Namespace) -> list[dict]:
    """Private memory and host CPU of a Linux that waits in its shell, some seconds after the marker."""
    memory, cpu = ({peer.name: [] for peer in peers} for _ in range(2))
    for peer in peers:
        run, _ = _boot(peer, options, True)
        try:
            run.wait_for(b"\0never", 3)                         # reads on while the guest settles
            before = _cpu_seconds(run.process.pid)
            run.wait_for(b"\0never", options.idle_seconds)
            cpu[peer.name].append((_cpu_seconds(run.process.pid) - before) / options.idle_seconds * 100)
            memory[peer.name].append(_private_mib(run.process.pid))
        finally:
            run.stop()
    rows = [{"name": "idle: private memory", "unit": "MiB", "more_is_better": False, "values": memory},
            {"name": "idle: host CPU", "unit": "% of a core", "more_is_better": False, "values": cpu}]
    for row in rows:
        show(row)
    return rows


def show(row: dict) -> None:
    """One line of the table: medians, and how they stand to ours."""
    medians = {name: statistics.median(values) for name, values in row["values"].items() if values}
    row["medians"] = medians
    cells = [f"{name} {value:9.1f}" for name, value in medians.items()]
    if ours := medians.get("emu"):
        row["emu_over"] = {name: ours / value for name, value in medians.items() if name != "emu" and value}
        cells += [f"emu/{name} {value:6.2f}" for name, value in row["emu_over"].items()]
    print(f"{row['name']:<22} {row['unit']:<12} " + "   ".join(cells), flush=True)


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("parts", nargs="*", help=f"which of {', '.join(PARTS)}; all by default (the last three: --kernel, --initrd)")
    options.add_argument("--emu", default=f"{sys.executable} -m emu.cli.main", help="how emu is called")
    options.add_argument("--qemu", default="qemu-system-x86_64")
    options.add_argument("--peers", default="emu,qemu,bochs", help="which to measure")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=1.0, help="about how long one run of a loop takes")
    options.add_argument("--loop", action="append", default=[], choices=list(LOOPS), help="only this loop (may be repeated)")
    options.add_argument("--kernel")
    options.add_argument("--initrd")
    options.add_argument("--append", default="console=ttyS0 panic=-1")
    options.add_argument("--memory", default="256M")
    options.add_argument("--marker", default="/ #", help="text on the serial line that ends a boot")
    options.add_argument("--idle-seconds", type=float, default=10.0)
    options.add_argument("--json", help="where the results go; default: a file in benchmarks/results/")
    return options


def main(arguments: list[str]) -> int:
    """Runs the command; 0, or the exit code of what went wrong."""
    options = parser().parse_args(arguments)
    if wrong := set(options.parts) - set(PARTS):
        print(f"benchmarks: {', '.join(sorted(wrong))}: unknown (one of {', '.join(PARTS)})", file=sys.stderr)
        return 2
    wanted = options.peers.split(",")
    peers = [peer for peer in (Emu(options.emu), Qemu(options.qemu), Bochs()) if peer.name in wanted]
    for peer in [peer for peer in peers if not peer.available()]:
        print(f"{peer.name} is not there: left out", file=sys.stderr)
        peers.remove(peer)
    parts = options.parts or [part for part in PARTS if part in ("loops", "first") or options.kernel]
    kernels = [peer for peer in peers if peer.name != "bochs"]  # Bochs has no way to take a kernel by itself
    if {"boot", "idle", "states"} & set(parts) and not (options.kernel and options.initrd):
        print("benchmarks: boot, idle and states need --kernel and --initrd", file=sys.stderr)
        return 2
    rows: list[dict] = []
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as directory:
            base = pathlib.Path(directory)
            if "loops" in parts:
                rows += measure_loops(peers, base, options.rounds, options.seconds, options.loop)
            if "first" in parts:
                rows += measure_first(peers, base, options.rounds)
            if "boot" in parts:
                rows += measure_boot(kernels, options)
            if "idle" in parts:
                rows += measure_idle(kernels, options)
            if "states" in parts:
                rows += measure_states(kernels, options, base, show)
    except EmuError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return error.code
    except (RuntimeError, subprocess.CalledProcessError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    now = datetime.datetime.now(datetime.UTC)
    path = pathlib.Path(options.json) if options.json else RESULTS / f"{now:%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"when": now.isoformat(timespec="seconds"), "command": ["python", "-m", "benchmarks", *arguments],
                                "host": {"machine": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()[0]},
                                "rows": rows}, indent=1) + "\n")
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
