# `emu run`: builds the machine that the options describe and carries bytes between its serial line and this terminal.
import os
import select
import signal
import sys
import time

from ..base.errors import ImageError, UsageError
from .main import INTERRUPTED, complain
from .options import RunOptions, help_text, read_options
from ..base.sizes import read_memory
from .terminal import HELP, HELP_TEXT, QUIT, EscapeKeys, RawTerminal

DEFAULT_MEMORY = 256 << 20
PANIC_CODE, TIMEOUT_CODE = 12, 124
_SLICE_NS = 20_000_000
_INPUT_BYTES = 4096
_WINDOW_BYTES = 65536  # how much of the output an --expect is held against
_PANIC_MARKS = (b"Kernel panic - not syncing", b"panic: ")  # Linux; xv6 and the BSDs
_EMBEDDED = os.path.join(os.path.dirname(os.path.dirname(__file__)), "data", "teach.elf")


def run_command(arguments: list[str]) -> int:
    """Runs `emu run` with these arguments; returns the exit code."""
    options = read_options(arguments)
    if options.help:
        print(help_text())
        return 0
    interrupts = Interrupts()  # first of all: a signal while the machine is built is answered, too
    try:
        script = Script(options.script)
        with _machine(options) as machine:
            if options.record is not None:
                machine.record(options.record)
            return _run(machine, options, script, interrupts)
    finally:
        interrupts.close()


# What a machine brings with it when it comes from a snapshot.
_OF_A_MACHINE = ("--bios", "--debugcon", "--initrd", "--append", "--disk", "--memory", "--cpus", "--cpu", "--seed", "--device",
                 "--on-triple-fault", "--no-reboot")


def _machine(options: RunOptions):
    """The machine to run: built anew, or as a snapshot has it."""
    if options.image is not None and is_snapshot_file(options.image):
        for name in _OF_A_MACHINE:
            if name in options.given:
                raise UsageError(name, "cannot be given with a snapshot", "the machine is in the snapshot", "leave it out")
        from ..machine.snapshot import Snapshot
        return Snapshot.load(options.image).fork(clock=_clock(options), budget=options.budget)
    from ..machine.machine import Machine
    return Machine(**_machine_arguments(options))


def is_snapshot_file(path: str) -> bool:
    """Whether `path` is a file that begins as a snapshot does."""
    try:
        with open(path, "rb") as file:
            from ..boot.identify import is_snapshot
            return is_snapshot(file.read(16))
    except OSError:
        return False


def _clock(options: RunOptions) -> str:
    return options.clock or ("host" if options.serial == "stdio" and _is_terminal(0) else "virtual")


def _machine_arguments(options: RunOptions) -> dict:
    """The arguments of Machine that `options` stand for."""
    image, kernel, initrd, append, memory = options.image, options.kernel, options.initrd, options.append, options.memory
    if image is None and kernel is None and options.bios is None and not options.disks:
        image = _EMBEDDED
        if append is None and not options.script and not _is_terminal(0):
            append = "batch"          # nobody will type: the guest shows what it can, and powers off
    elif image is not None and not os.path.exists(image):
        record = _find_pulled(image)
        kernel, initrd = str(record["kernel"]), options.initrd or str(record["initrd"])
        append = record["append"] if append is None else append
        memory = read_memory("memory", record["memory"]) if memory is None else memory
        image = None
    for name, path in (("--kernel", kernel), ("--initrd", initrd), ("--bios", options.bios),
                       *(("--disk", path) for path, *_ in options.disks)):
        if path is not None and not os.path.exists(path):
            raise ImageError(path, "no such file", name)
        if path is not None and not os.access(path, os.R_OK):
            raise ImageError(path, "cannot be read: permission denied", name)
    if image is None and kernel is None and options.bios is None:
        image = options.disks[0][0]
    clock = _clock(options)
    for limits in (*(disk[2] for disk in options.disks), *(nic.limits for nic in options.nets)):
        if limits is not None and limits.clock == "host" and clock == "virtual":
            raise UsageError("clock=host", "a limit in the host's time, but the machine's time is virtual", mend="give --clock host")
    return {"image": image, "kernel": kernel, "initrd": initrd, "append": append or "",
            "memory": DEFAULT_MEMORY if memory is None else memory, "cpu": options.cpu, "cpus": options.cpus, "clock": clock,
            "seed": options.seed, "budget": options.budget, "on_triple_fault": options.on_triple_fault, "no_reboot": options.no_reboot,
            "bios": options.bios, "debug_exit": options.debug_exit, "debug_ports": tuple(options.debug_consoles),
            "net": tuple(options.nets), "balloon": options.balloon,
            "disks": tuple((_open_disk(path, commit), limits) for path, commit, limits in options.disks)}


def _open_disk(path: str, commit: bool):
    """The disk image `path`; without `commit` its file is never written."""
    from ..devices.backend.disk import DiskBackend
    if os.path.isdir(path):
        raise ImageError(path, "a directory", "--disk")
    with open(path, "rb") as file:
        if file.read(4) == b"QFI\xfb":
            raise ImageError(path, "a qcow2 image", "only raw disk images can be read so far", f"qemu-img convert -O raw {path} disk.raw")
    return DiskBackend.open_raw(path, commit=commit)


def _find_pulled(name: str) -> dict:
    """The stored guest `name`, with paths for its parts. ImageError if there is none."""
    from ..image.store import Store, is_name
    store = Store()
    record = store.read(name)
    if record is None:
        from ..image.recipe import recipe_names
        known = is_name(name) and name in recipe_names()
        raise ImageError(name, "not pulled yet" if known else "no such file, and no such name among what was pulled",
                         mend=f"emu pull {name}" if known else "emu images lists what there is")
    found = {role: store.path(name, digest) for role, digest in record["blobs"].items()}
    if record.get("kind") != "linux" or not {"kernel", "initrd"} <= found.keys():
        raise ImageError(name, "holds nothing that can be booted", mend=f"emu pull {name}")
    return {**found, "append": str(record.get("append", "")), "memory": str(record.get("memory", "256M"))}


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:
        return False


class Interrupts:
    """SIGINT, SIGTERM and SIGHUP, kept for the loop to see; `descriptor` becomes readable, so that a wait ends at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.came = False
        self.machine = None
        self.descriptor, self._write_end = os.pipe()
        os.set_blocking(self.descriptor, False)
        os.set_blocking(self._write_end, False)
        self._old_wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self._old = [(number, signal.signal(number, self._note)) for number in self.SIGNALS]

    def _note(self, number: int, frame: object) -> None:
        self.came = True
        if self.machine is None:
            raise KeyboardInterrupt
        self.machine.request_stop()

    def close(self) -> None:
        """Gives the signals back."""
        self.machine = None
        for number, handler in self._old:
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_wakeup)
        os.close(self.descriptor)
        os.close(self._write_end)


class Script:
    """What --expect and --send ask for, in their order."""

    def __init__(self, steps: list[tuple[str, bytes]]) -> None:
        self._steps = steps
        self._patterns: dict = {}
        self._done = 0
        self._window = b""
        for kind, data in steps:
            if kind == "expect":
                import re
                try:
                    self._patterns[data] = re.compile(data)
                except re.error as error:
                    raise UsageError("--expect", f"{data.decode(errors='replace')!r} is no regular expression: {error}") from None
        self._ends_run = bool(steps) and steps[-1][0] == "expect"

    @property
    def waiting(self) -> str:
        """The regular expression that is waited for; "" if none is."""
        return self._steps[self._done][1].decode(errors="replace") if self._done < len(self._steps) else ""

    @property
    def matched(self) -> bool:
        """Whether the run has reached what was expected."""
        return self._ends_run and self._done == len(self._steps)

    def feed(self, output: bytes) -> bytes:
        """Takes what the guest has sent; gives what is to be typed now."""
        typed = b""
        self._window += output
        while self._done < len(self._steps):
            kind, data = self._steps[self._done]
            if kind == "send":
                typed += data
            else:
                found = self._patterns[data].search(self._window)
                if found is None:
                    break
                self._window = self._window[found.end():]
            self._done += 1
        self._window = self._window[-_WINDOW_BYTES:] if self._done < len(self._steps) else b""
        return typed


class Output:
    """Where the output of a serial line or debug console goes: standard output, a file, or nowhere. `option` asked for it."""

    def __init__(self, where: str, option: str) -> None:
        self._descriptor = -1
        self._is_own = where.startswith("file:")
        if where == "stdio":
            self._descriptor = 1
        elif self._is_own:
            path = where[len("file:"):]
            try:
                self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            except OSError as error:
                raise UsageError(option, f"{path} cannot be written: {error.strerror}") from None

    def write(self, data: bytes) -> None:
        """Writes all of `data`."""
        while data and self._descriptor >= 0:
            try:
                data = data[os.write(self._descriptor, data):]
            except BlockingIOError:
                select.select([], [self._descriptor], [])

    def close(self) -> None:
        """Closes the file, if it is one."""
        if self._is_own:
            os.close(self._descriptor)


class SerialInput:
    """What is typed for the guest: from standard input and from the script, kept until the guest takes it."""

    def __init__(self, enabled: bool, keys: EscapeKeys | None) -> None:
        self.pending = b""
        self.open = enabled
        self._keys = keys

    def read(self) -> list[str]:
        """Reads what standard input has; returns the Ctrl-A keys among it."""
        try:
            data = os.read(0, _INPUT_BYTES)
        except OSError:  # closed, or a terminal that has gone
            data = b""
        if not data:
            self.open = False  # the end of the input is not the end of the run
            return []
        asked: list[str] = []
        if self._keys is not None:
            data, asked = self._keys.feed(data)
        self.pending += data
        return asked

    def pass_on(self, serial) -> None:
        """Gives the guest as much as it takes."""
        if self.pending:
            self.pending = self.pending[serial.send(self.pending):]

    @property
    def wanted(self) -> bool:
        """Whether more is to be read: what waits already is bounded."""
        return self.open and len(self.pending) < _INPUT_BYTES


def _run(machine, options: RunOptions, script: Script, interrupts: Interrupts) -> int:
    output = Output(options.serial, "--serial")
    consoles = {}
    raw = RawTerminal(0) if options.serial == "stdio" and _is_terminal(0) else None
    started = time.monotonic_ns()
    try:
        for port, where in options.debug_consoles.items():
            consoles[port] = Output(where, "isa-debugcon")
        interrupts.machine = machine
        if raw is None:
            ending = _carry(machine, options, script, interrupts, output, consoles, None)
        else:
            with raw:
                ending = _carry(machine, options, script, interrupts, output, consoles, raw)
    finally:
        interrupts.machine = None
        output.close()
        for console in consoles.values():
            console.close()
    if options.snapshot is not None:
        machine.snapshot().save(options.snapshot)
    _report(machine, options, ending, time.monotonic_ns() - started)
    return ending[1]


def _carry(machine, options: RunOptions, script: Script, interrupts: Interrupts, output: Output,
           consoles: dict[int, Output], raw: RawTerminal | None) -> tuple[str, int, str]:
    """The loop of a run: a slice of the guest, its output, our input. Returns why it ended: words, exit code, message."""
    typed = SerialInput(options.serial == "stdio", EscapeKeys() if raw is not None else None)
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    tail = b""
    typed.pending += script.feed(b"")
    idle_ns = 0
    while True:
        wait = 0.0 if idle_ns == 0 else None if idle_ns < 0 else idle_ns / 1e9
        if deadline is not None:
            left = max(0.0, deadline - time.monotonic())
            wait = left if wait is None else min(wait, left)
        watched = [interrupts.descriptor] + ([0] if typed.wanted else [])
        if idle_ns:
            watched += machine.descriptors()
        ready = select.select(watched, [], [], wait)[0]
        if 0 in ready:
            asked = typed.read()
            if QUIT in asked:
                return "quit", 0, ""
            if asked and raw is not None:
                raw.say(HELP_TEXT if HELP in asked else "\nemu: the monitor is not there yet\n")
        if interrupts.came:
            return "interrupted", INTERRUPTED, ""
        typed.pass_on(machine.serial)
        ended = machine.run_slice(_SLICE_NS)
        for port, console in consoles.items():
            console.write(machine.debug_ports[port].read())
        sent = machine.serial.read()
        if sent:
            output.write(sent)
            typed.pending += script.feed(sent)
            if script.matched:
                return "matched", 0, ""
            if options.panic == "exit":
                tail = (tail + sent)[-_WINDOW_BYTES:]
                if any(mark in tail for mark in _PANIC_MARKS):
                    return "kernel panic", PANIC_CODE, "the console shows a kernel panic"
        if ended is not None:
            message = ended.message
            if script.waiting and ended.code == 0:
                message = f"the run ended ({ended.reason}) before --expect {script.waiting!r} matched"
            return ended.reason, ended.code, message
        if interrupts.came:
            return "interrupted", INTERRUPTED, ""
        if deadline is not None and time.monotonic() >= deadline:
            waiting = f" (still waiting for --expect {script.waiting!r})" if script.waiting else ""
            return "timeout", TIMEOUT_CODE, f"{options.timeout:g} s of the host are over{waiting}"
        idle_ns = 0 if typed.pending and sent else machine.idle_ns


def _report(machine, options: RunOptions, ending: tuple[str, int, str], host_ns: int) -> None:
    """Tells on standard error how the run ended, as the options ask."""
    reason, code, message = ending
    counters = dict(machine.stats()) if options.stats or options.json else {}
    if counters:
        counters["host_ns"] = host_ns
        counters["mips"] = round(counters.get("instructions", 0) * 1000 / max(host_ns, 1), 1)
    if options.json:
        import json
        complain(json.dumps({"reason": reason, "code": code, "message": message, "stats": counters}))
        return
    if message:
        complain(f"emu: {message}")
    if options.stats == "json":
        import json
        complain(json.dumps(counters))
    elif options.stats:
        complain("\n".join(f"{name:<24}{value}" for name, value in counters.items()))
    sys.stderr.flush()
