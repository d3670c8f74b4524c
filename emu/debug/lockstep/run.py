# The command `emu debug diff`: where does our processor first go another way than QEMU's?
import argparse
import bisect
import contextlib
import pathlib
import struct
import sys
import time
from collections.abc import Callable

from emu.base.errors import ImageError, UsageError
from emu.debug.lockstep.follow import Follower, Report, compare_memory, describe, follow
from emu.debug.lockstep.log import State
from emu.debug.lockstep.qemu import Qemu

LINUX_ENTRY = 0x100000                           # of a bzImage's protected-mode code (Linux boot protocol, code32_start)

MEMORY_LIMIT = 32                                # words of RAM that are told

# Makes our side from RAM contents and MSRs: the lowest layer that can is given by the caller.
MakeFollower = Callable[[bytes, dict[int, int], str], Follower]


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="emu debug diff", description="Runs a guest under QEMU TCG, takes over its state at a chosen point, executes the same "
        "instructions here and names those whose results differ. Each difference is one instruction's fault: QEMU's registers "
        "are taken over after it.")
    options.add_argument("--kernel", required=True, help="bzImage, multiboot or PVH ELF: what QEMU's -kernel takes")
    options.add_argument("--initrd")
    options.add_argument("--append", default="")
    options.add_argument("--memory", default="64M", help="RAM of the guest (K, M, G); default 64M")
    options.add_argument("--cpu", default="qemu64", help="QEMU's model; one without AVX")
    options.add_argument("--our-cpu", default="v2", help="our model")
    options.add_argument("--from", dest="start", default="entry",
                         help="where to begin: entry (of the image; the default), a linear address, a symbol of --symbols, "
                         "output:TEXT (when the serial line has shown it), time:SECONDS (of host time at full speed)")
    options.add_argument("--instructions", type=int, default=1_000_000, help="how many to compare (per sample)")
    options.add_argument("--samples", type=int, default=1, help="begin anew this many times, ...")
    options.add_argument("--every", type=float, default=1.0, help="... letting QEMU run at full speed for so many seconds between")
    options.add_argument("--first", action="store_true", help="stop at the first difference")
    options.add_argument("--limit", type=int, default=20, help="stop after this many differences; default 20")
    options.add_argument("--symbols", help="a System.map: addresses are shown with names")
    options.add_argument("--qemu", default="qemu-system-x86_64")
    return options


def size_of(text: str) -> int:
    """Bytes of a size like 64M."""
    units = {"K": 10, "M": 20, "G": 30}
    digits, shift = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 0)
    if not digits.isdigit():
        raise UsageError("--memory", text, "a number with K, M or G behind it")
    return int(digits) << shift


def entry_of(path: str) -> int:
    """The linear address at which a kernel image is entered in protected mode."""
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise ImageError(path, "cannot be read", error.strerror or "") from error
    if data[:5] == b"\x7fELF\x01" and len(data) >= 52:
        return int(struct.unpack_from("<I", data, 24)[0])
    if data[0x202:0x206] == b"HdrS":
        return LINUX_ENTRY
    raise ImageError(path, "no entry known", "a bzImage or a 32-bit ELF", "give --from an address")


class Symbols:
    """Names of a System.map: `at(linear)` gives ` <name+offset>`, `address(name)` the opposite."""

    def __init__(self, path: str | None) -> None:
        self._names: list[tuple[int, str]] = []
        if path:
            for line in pathlib.Path(path).read_text().splitlines():
                parts = line.split()
                if len(parts) >= 3:
                    self._names.append((int(parts[0], 16), parts[2]))
        self._names.sort()
        self._addresses = [address for address, _ in self._names]

    def at(self, linear: int) -> str:
        place = bisect.bisect_right(self._addresses, linear) - 1
        if place < 0 or linear - self._addresses[place] > 1 << 20:
            return ""
        return f" <{self._names[place][1]}+{linear - self._addresses[place]:#x}>"

    def address(self, name: str) -> int | None:
        return next((address for address, other in self._names if other == name), None)


def go_to_start(qemu: Qemu, start: str, kernel: str, symbols: Symbols) -> None:
    """Brings QEMU to where the comparison begins."""
    if start.startswith("output:"):
        qemu.run_until_output(start[7:].encode())
    elif start.startswith("time:"):
        qemu.run_for(float(start[5:]))
    elif start == "entry":
        qemu.run_to(entry_of(kernel))
    else:
        address = symbols.address(start)
        if address is None:
            try:
                address = int(start, 16)
            except ValueError as error:
                raise UsageError("--from", start, "entry, a hexadecimal address, a symbol, output:TEXT or time:SECONDS") from error
        qemu.run_to(address)


def sample(qemu: Qemu, make_follower: MakeFollower, options: argparse.Namespace, symbols: Symbols) -> Report:
    """One comparison from where QEMU stands; prints what it finds."""
    values, wide = qemu.registers()
    print(f"from {values['rip']:#x}{symbols.at(values['rip'])}, {'64-bit' if wide else 'legacy or compatibility'} mode", flush=True)
    follower = make_follower(qemu.physical(), qemu.read_msrs(), options.our_cpu)
    shown = 0
    began = time.monotonic()

    def progress(report: Report) -> None:
        nonlocal shown
        for difference in report.differences[shown:]:
            print(describe(difference, symbols.at), flush=True)
        shown = len(report.differences)
        if sys.stderr.isatty():
            rate = report.instructions / (time.monotonic() - began)
            print(f"\r{report.instructions} instructions, {rate:.0f} a second", end="", file=sys.stderr, flush=True)

    first = State(values, wide)
    with contextlib.closing(qemu.states(options.instructions)) as states:
        report = follow(_from(first, states), follower, not options.first, options.limit, progress)
    progress(report)
    if report.last is not None:
        memory = compare_memory(follower.read_physical, qemu.ram, limit=MEMORY_LIMIT)
        marks = [word for word in memory if word.accessed_or_dirty_only]
        for word in memory:
            if not word.accessed_or_dirty_only:
                print(f"memory at {word.physical:#x}: ours {word.ours:016x}, QEMU {word.theirs:016x}")
        if marks:
            print(f"{len(marks)} words differ in accessed and dirty bits only, the first at {marks[0].physical:#x}")
    print(f"{report.instructions} instructions, {report.interrupts} interrupts, {report.exceptions} exceptions compared; "
          f"{sum(report.repeated.values())} differences at {len(report.differences)} addresses")
    for title, counts in (("taken from QEMU", report.adopted), ("undefined flags", report.undefined)):
        if counts:
            print(f"  {title}: " + ", ".join(f"{name} {count}" for name, count in counts.most_common()))
    sys.stdout.flush()
    return report


def _from(first: State, states):
    """`states`, with the state in which QEMU stood before them if the log does not begin with it."""
    beginning = True
    for state in states:
        if beginning and state.values["rip"] != first.values["rip"]:
            yield first
        beginning = False
        yield state


def main(arguments: list[str], make_follower: MakeFollower) -> int:
    """Runs the command; 0: no difference, 20: some. Raises EmuError where QEMU or a file is not usable."""
    options = parser().parse_args(arguments)
    symbols = Symbols(options.symbols)
    guest = ["-kernel", options.kernel, "-append", options.append] + (["-initrd", options.initrd] if options.initrd else [])
    differences = 0
    with Qemu(guest, size_of(options.memory), options.cpu, options.qemu) as qemu:
        go_to_start(qemu, options.start, options.kernel, symbols)
        for number in range(options.samples):
            if number:
                qemu.run_for(options.every)
            differences += len(sample(qemu, make_follower, options, symbols).differences)
            if differences and options.first:
                break
    return 20 if differences else 0
