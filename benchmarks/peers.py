# How each emulator is started on a boot sector or a kernel, and how its serial bytes are read as they come.
import os
import pathlib
import pty
import select
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable

BIOS_OF_BOCHS = ("/usr/share/bochs/BIOS-bochs-latest", "/usr/share/seabios/bios.bin")
VGABIOS_OF_BOCHS = ("/usr/share/bochs/VGABIOS-lgpl-latest", "/usr/share/seabios/vgabios-stdvga.bin")
FLOPPY_BYTES = 1440 * 1024


class Run:
    """A started emulator: its process, and its serial output with the time at which each piece came.

    reader: the file descriptor that serial output is read from.
    """

    def __init__(self, process: subprocess.Popen[bytes], reader: int, started: float, cleanup: Callable[[], None] = lambda: None) -> None:
        self.process, self.output, self.started, self._came = process, b"", started, started
        self._reader, self._cleanup = reader, cleanup
        os.set_blocking(reader, False)

    def wait_for(self, text: bytes, timeout: float) -> float | None:
        """When (time.monotonic) the output contained `text`, at the latest; None where it did not come."""
        if text in self.output:
            return self._came
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            ready, _, _ = select.select([self._reader], [], [], min(left, 1))
            if not ready:
                continue
            now = time.monotonic()
            try:
                data = os.read(self._reader, 1 << 16)
            except BlockingIOError:
                continue
            if not data:
                return None
            self.output, self._came = self.output + data, now
            if text in self.output:
                return now
        return None

    def stop(self) -> None:
        """Ends the process (all that it started) and removes its files."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        os.close(self._reader)
        self._cleanup()


def _piped(command: list[str]) -> Run:
    """Serial output on stdout; an open but silent stdin."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    assert process.stdin is not None and process.stdout is not None
    reader = os.dup(process.stdout.fileno())
    process.stdout.close()
    return Run(process, reader, started, process.stdin.close)


class Emu:
    """Ours. command: how `emu` is called."""

    name = "emu"

    def __init__(self, command: str) -> None:
        self._command = shlex.split(command)

    def available(self) -> bool:
        return shutil.which(self._command[0]) is not None and subprocess.run(
            [*self._command, "--version"], capture_output=True).returncode == 0

    def boot_sector(self, image: pathlib.Path) -> Run:
        return _piped([*self._command, "run", str(image), "--memory", "64M"])

    def kernel(self, kernel: str, initrd: str, append: str, memory: str, host_clock: bool) -> Run:
        return _piped([*self._command, "run", "--kernel", kernel, "--initrd", initrd, "--append", append, "--memory", memory]
                      + (["--clock", "host"] if host_clock else []))


class Qemu:
    """qemu-system-x86_64 with TCG."""

    name = "qemu"

    def __init__(self, command: str = "qemu-system-x86_64") -> None:
        self._command = [*shlex.split(command), "-accel", "tcg", "-display", "none", "-serial", "stdio", "-monitor", "none",
                         "-nic", "none", "-no-reboot"]

    def available(self) -> bool:
        return shutil.which(self._command[0]) is not None

    def boot_sector(self, image: pathlib.Path) -> Run:
        return _piped([*self._command, "-m", "64", "-drive", f"format=raw,file={image}"])

    def kernel(self, kernel: str, initrd: str, append: str, memory: str, host_clock: bool) -> Run:
        return _piped([*self._command, "-m", memory, "-kernel", kernel, "-initrd", initrd, "-append", append])


class Bochs:
    """Bochs with its text display on a terminal of its own; where it has its debugger compiled in, that is told to go on."""

    name = "bochs"

    def available(self) -> bool:
        return shutil.which("bochs") is not None and all(any(map(os.path.exists, names)) for names in (BIOS_OF_BOCHS, VGABIOS_OF_BOCHS))

    def boot_sector(self, image: pathlib.Path) -> Run:
        directory = tempfile.TemporaryDirectory(prefix="bench-bochs-")
        base = pathlib.Path(directory.name)
        (base / "floppy").write_bytes(image.read_bytes().ljust(FLOPPY_BYTES, b"\0"))
        os.mkfifo(base / "serial")
        bios, vgabios = (next(filter(os.path.exists, names)) for names in (BIOS_OF_BOCHS, VGABIOS_OF_BOCHS))
        (base / "bochsrc").write_text(f"""\
megs: 64
romimage: file={bios}
vgaromimage: file={vgabios}
boot: floppy
floppya: 1_44={base}/floppy, status=inserted
com1: enabled=1, mode=file, dev={base}/serial
clock: sync=none
cpu: count=1, ips=100000000
plugin_ctrl: speaker=0, gameport=0, parallel=0, iodebug=0
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
display_library: term
log: {base}/log
panic: action=fatal
""")
        reader = os.open(base / "serial", os.O_RDONLY | os.O_NONBLOCK)
        keep_open = os.open(base / "serial", os.O_WRONLY)       # so that reading waits, rather than ends, before Bochs opens it
        master, slave = pty.openpty()
        started = time.monotonic()
        process = subprocess.Popen(["bochs", "-q", "-f", str(base / "bochsrc")], stdin=slave, stdout=slave, stderr=slave,
                                   start_new_session=True, env={**os.environ, "TERM": "vt100"})
        os.close(slave)
        os.write(master, b"c\n")
        os.set_blocking(master, False)

        def cleanup() -> None:
            os.close(master)
            os.close(keep_open)
            directory.cleanup()

        return _Drained(process, reader, started, cleanup, master)


class _Drained(Run):
    """A run whose terminal must be read too, or the process would wait for it."""

    def __init__(self, process: subprocess.Popen[bytes], reader: int, started: float, cleanup: Callable[[], None], terminal: int) -> None:
        super().__init__(process, reader, started, cleanup)
        self._terminal = terminal

    def wait_for(self, text: bytes, timeout: float) -> float | None:
        if text in self.output:
            return self._came
        end = time.monotonic() + timeout
        while time.monotonic() < end and self.process.poll() is None:
            ready, _, _ = select.select([self._reader, self._terminal], [], [], 0.5)
            if self._terminal in ready:
                try:
                    os.read(self._terminal, 1 << 16)
                except OSError:
                    return None
            if self._reader in ready:
                found = super().wait_for(text, 0.001)
                if found is not None:
                    return found
        return None
