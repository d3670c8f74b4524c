# QEMU as the master: one process with a gdb stub (to stop it where we want), a QMP socket (its monitor) and a log through a FIFO.
import ctypes
import json
import mmap
import os
import pathlib
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator

from emu.base.errors import HostError, InternalError, UsageError
from emu.debug.lockstep.log import State, parse_registers, read_states

LOG_ITEMS = "exec,cpu,fpu,int,nochain"
# What the dump does not show and a kernel sets early: read by letting the guest's processor execute RDMSR.
MSRS = (0x174, 0x175, 0x176, 0x277, 0xC0000081, 0xC0000082, 0xC0000083, 0xC0000084, 0xC0000102, 0xC0000103)


class Gdb:
    """The few packets of gdb's remote serial protocol that are needed (GDB manual, appendix E)."""

    def __init__(self, path: str) -> None:
        self._socket = _connect(path)
        self._buffer = b""

    def close(self) -> None:
        self._socket.close()

    def _receive(self, timeout: float | None) -> str:
        self._socket.settimeout(timeout)
        while True:
            start = self._buffer.find(b"$")
            end = self._buffer.find(b"#", start)
            if 0 <= start < end and len(self._buffer) >= end + 3:
                packet = self._buffer[start + 1:end]
                self._buffer = self._buffer[end + 3:]
                self._socket.sendall(b"+")
                return packet.decode("latin-1")
            data = self._socket.recv(65536)
            if not data:
                raise HostError("QEMU", "its gdb stub closed the connection", "the guest may have powered off")
            self._buffer += data

    def _send(self, packet: str) -> None:
        data = packet.encode("latin-1")
        self._socket.sendall(b"$" + data + b"#" + b"%02x" % (sum(data) & 0xFF))

    def command(self, packet: str) -> str:
        """Sends a packet and returns the answer."""
        self._send(packet)
        return self._receive(30)

    def resume(self) -> None:
        """Lets the guest run; `wait` sees it stop."""
        self._send("c")

    def interrupt(self) -> None:
        """Stops a running guest; `wait` sees it."""
        self._socket.sendall(b"\x03")

    def wait(self, timeout: float | None) -> bool:
        """True once the guest has stopped, False if it has not after `timeout` seconds."""
        try:
            answer = self._receive(timeout)
        except TimeoutError:
            return False
        if answer[:1] in "WX":
            raise HostError("QEMU", "the guest has ended")
        return True

    def read_register(self, number: int, size: int = 8) -> int:
        return int.from_bytes(bytes.fromhex(self.command(f"p{number:x}"))[:size], "little")

    def write_register(self, number: int, value: int, size: int = 8) -> None:
        self.command(f"P{number:x}={value.to_bytes(size, 'little').hex()}")

    def read_memory(self, linear: int, size: int) -> bytes:
        answer = self.command(f"m{linear:x},{size:x}")
        if answer[:1] == "E":
            raise HostError("QEMU", f"cannot read {size} bytes at {linear:#x}", "no page is mapped there at this point",
                            "begin at another point (--from)")
        return bytes.fromhex(answer)

    def write_memory(self, linear: int, data: bytes) -> None:
        self.command(f"M{linear:x},{len(data):x}:{data.hex()}")


def _die_with_parent() -> None:
    """prctl(PR_SET_PDEATHSIG, SIGKILL): a QEMU does not outlive whoever started it, even one that was killed."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _connect(path: str, patience: float = 20) -> socket.socket:
    end = time.monotonic() + patience
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            return connection
        except OSError as error:
            connection.close()
            if time.monotonic() > end:
                raise HostError("QEMU", f"no connection to {pathlib.Path(path).name}", str(error)) from error
            time.sleep(0.02)


class Qemu:
    """A QEMU with one processor, stopped before its first instruction.

    arguments: what names the guest (`-kernel F -append S ...`); ram_bytes: a multiple of 1 MiB, below 3 GiB; cpu: a QEMU model
    without AVX (the dump shows xmm registers only). The clock is that of ours: one instruction is one nanosecond (-icount).
    `ram` is the guest's memory itself, shared. Use as a context manager. Raises HostError where QEMU is missing or does not start.
    """

    def __init__(self, arguments: list[str], ram_bytes: int, cpu: str = "qemu64", binary: str = "qemu-system-x86_64") -> None:
        found = shutil.which(binary)
        if found is None:
            raise HostError(binary, "not found", "lockstep needs QEMU as the other side", "install qemu-system-x86")
        if not 0 < ram_bytes < 3 << 30 or ram_bytes % (1 << 20):
            raise UsageError("memory", str(ram_bytes), "a multiple of 1 MiB below 3 GiB")
        self._directory = tempfile.TemporaryDirectory(prefix="emu-lockstep-")
        base = pathlib.Path(self._directory.name)
        self._ram_path = pathlib.Path("/dev/shm" if os.access("/dev/shm", os.W_OK) else base) / f"{base.name}-ram"
        self._fifo = str(base / "log")
        os.mkfifo(self._fifo)
        command = [found, "-S", "-machine", "pc,smm=off,memory-backend=ram", "-accel", "tcg,thread=single", "-cpu", cpu,
                   "-icount", "shift=0,sleep=off", "-m", f"{ram_bytes >> 20}M",
                   "-object", f"memory-backend-file,id=ram,size={ram_bytes},mem-path={self._ram_path},share=on",
                   "-gdb", f"unix:{base}/gdb,server=on,wait=off", "-qmp", f"unix:{base}/qmp,server=on,wait=off",
                   "-display", "none", "-monitor", "none", "-serial", f"file:{base}/serial", "-no-reboot", "-no-shutdown", "-nodefaults",
                   *arguments]
        self._errors = open(base / "errors", "w+b")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._errors, stderr=self._errors,
                                         preexec_fn=_die_with_parent)
        self._serial = base / "serial"
        self._map: mmap.mmap | None = None
        try:
            self._qmp = _connect(f"{base}/qmp")
            self._qmp_file = self._qmp.makefile("rwb")
            self._qmp_file.readline()
            self._execute("qmp_capabilities")
            self.gdb = Gdb(f"{base}/gdb")
            self.gdb.command("qSupported:xmlRegisters=i386")
            self.gdb.command("?")
            self._number = self._register_numbers()
            with open(self._ram_path, "r+b") as file:
                self._map = mmap.mmap(file.fileno(), ram_bytes)
            self._ram_path.unlink()                             # both sides have it open: nothing is left, however we end
        except (OSError, ValueError, HostError) as error:
            said = self._said()
            self.close()
            raise HostError("QEMU", "did not start", said or str(error)) from error
        self.ram = memoryview(self._map)

    def __enter__(self) -> "Qemu":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process and removes what it left."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._errors.close()
        for name in ("gdb", "_qmp"):
            if hasattr(self, name):
                getattr(self, name).close()
        if self._map is not None:
            self.ram.release()
            self._map.close()
        self._ram_path.unlink(missing_ok=True)
        self._directory.cleanup()

    def _said(self) -> str:
        self._errors.flush()
        self._errors.seek(0)
        return self._errors.read(2000).decode(errors="replace").strip()

    def _execute(self, command: str, **arguments: object) -> object:
        self._qmp_file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._qmp_file.flush()
        while True:
            line = self._qmp_file.readline()
            if not line:
                raise HostError("QEMU", "has ended", self._said())
            answer = json.loads(line)
            if "error" in answer:
                raise HostError("QEMU", answer["error"].get("desc", "refused"), command)
            if "return" in answer:
                return answer["return"]

    def _wait_for_event(self, name: str) -> None:
        while line := self._qmp_file.readline():
            if json.loads(line).get("event") == name:
                return
        raise HostError("QEMU", "has ended", self._said())

    def monitor(self, line: str) -> str:
        """Gives a line to QEMU's human monitor and returns what it prints."""
        return str(self._execute("human-monitor-command", **{"command-line": line}))

    def _register_numbers(self) -> dict[str, int]:
        """The numbers of the registers in this QEMU's gdb target description."""
        import xml.etree.ElementTree
        text, offset = "", 0
        files = ["target.xml"]
        numbers: dict[str, int] = {}
        following = 0
        while files:
            name, text, offset = files.pop(0), "", 0
            while True:
                answer = self.gdb.command(f"qXfer:features:read:{name}:{offset:x},800")
                text += answer[1:]
                offset += len(answer) - 1
                if answer[:1] != "m":
                    break
            for element in xml.etree.ElementTree.fromstring(text.replace("xi:include", "include")).iter():
                if element.tag == "include":
                    files.append(element.get("href", ""))
                elif element.tag == "reg":
                    following = int(element.get("regnum", following))
                    numbers[element.get("name", "")] = following
                    following += 1
        if not {"rax", "rcx", "rdx", "rip"} <= numbers.keys():
            raise InternalError("QEMU's gdb stub", "names no rip", "an x86-64 target")
        return numbers

    @property
    def serial_output(self) -> bytes:
        """All that the guest has sent on its serial line so far."""
        return self._serial.read_bytes() if self._serial.exists() else b""

    def run_to(self, linear: int, timeout: float = 120) -> None:
        """Runs at full speed until the instruction at this linear address is next."""
        self.gdb.command(f"Z1,{linear:x},1")
        self.gdb.resume()
        if not self.gdb.wait(timeout):
            self._stop()
            raise HostError("QEMU", f"did not reach {linear:#x} in {timeout:g} s", f"it is at {self.registers()[0]['rip']:#x}")
        self.gdb.command(f"z1,{linear:x},1")

    def run_until_output(self, text: bytes, timeout: float = 300) -> None:
        """Runs at full speed until the serial output contains `text`."""
        self.gdb.resume()
        end = time.monotonic() + timeout
        while text not in self.serial_output:
            if time.monotonic() > end:
                raise HostError("QEMU", f"did not print {text!r} in {timeout:g} s")
            time.sleep(0.02)
        self._stop()

    def physical(self) -> bytes:
        """The guest's memory as its processor sees it: RAM, with the firmware's ROM and shadow below 1 MiB; zeros for VGA memory."""
        path = pathlib.Path(self._directory.name) / "low"
        self.monitor(f'pmemsave 0xc0000 0x40000 "{path}"')
        memory = bytearray(self.ram)
        memory[0xA0000:0xC0000] = bytes(0x20000)
        memory[0xC0000:0x100000] = path.read_bytes()
        return bytes(memory)

    def run_for(self, seconds: float) -> None:
        """Runs at full speed for some host time."""
        self.gdb.resume()
        time.sleep(seconds)
        self._stop()

    def _stop(self) -> None:
        self.gdb.interrupt()
        self.gdb.wait(60)

    def registers(self) -> tuple[dict[str, int], bool]:
        """All registers of the stopped guest (names: log.py), and whether it is in 64-bit mode."""
        return parse_registers(self.monitor("info registers"))

    def read_msrs(self, indices: tuple[int, ...] = MSRS) -> dict[int, int]:
        """Model-specific registers of the stopped guest: RDMSR is written over the next instruction, stepped, and taken back.

        Empty outside ring 0, where the guest may not read them.
        """
        values, _ = self.registers()
        if values["cpl"] != 0:
            return {}
        number, found = self._number, {}
        linear = self._linear_rip(values)
        kept = {name: self.gdb.read_register(number[name]) for name in ("rax", "rcx", "rdx", "rip")}
        code = self.gdb.read_memory(linear, 2)
        self.gdb.command("Qqemu.sstep=7")                       # ENABLE | NOIRQ | NOTIMER
        self.gdb.write_memory(linear, b"\x0f\x32")
        for index in indices:
            self.gdb.write_register(number["rcx"], index)
            self.gdb.write_register(number["rip"], kept["rip"])
            self.gdb.command("s")
            if self.gdb.read_register(number["rip"]) & 0xFFFFFFFF == kept["rip"] + 2 & 0xFFFFFFFF:
                found[index] = (self.gdb.read_register(number["rdx"]) & 0xFFFFFFFF) << 32 \
                    | self.gdb.read_register(number["rax"]) & 0xFFFFFFFF
        self.gdb.write_memory(linear, code)
        for name, value in kept.items():
            self.gdb.write_register(number[name], value)
        return found

    @staticmethod
    def _linear_rip(values: dict[str, int]) -> int:
        return values["rip"] if values["cs.flags"] & 1 << 21 else (values["cs.base"] + values["rip"]) & 0xFFFFFFFF

    def states(self, instructions: int) -> Generator[State, None, None]:
        """Lets the guest run one instruction at a time and yields every state; stops it after about `instructions`.

        All states that QEMU went through are yielded, so that after the last one the guest stands exactly there, and `ram`
        can be compared.
        """
        chunks: queue.Queue[bytes | None] = queue.Queue(64)
        reader = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reader, True)

        self.monitor("singlestep on")
        self.monitor(f"logfile {self._fifo}")
        self.monitor(f"log {LOG_ITEMS}")

        def drain() -> None:
            while data := os.read(reader, 1 << 20):
                chunks.put(data)
            chunks.put(None)

        def watch() -> None:
            self._wait_for_event("STOP")                        # stopped by us, or because the guest powered off or reset
            self.gdb.wait(0.5)
            self.monitor("log none")
            self.monitor("logfile /dev/null")                   # this closes the FIFO: the reader sees its end
            self.monitor("singlestep off")

        threads = [threading.Thread(target=work, daemon=True) for work in (drain, watch)]
        for thread in threads:
            thread.start()
        self.gdb.resume()
        count, state, last, counter = 0, None, -1, 0
        try:
            for state in read_states(iter(chunks.get, None)):
                again = state.values["rip"] == last and state.values["rcx"] != counter
                last, counter = state.values["rip"], state.values["rcx"]
                if not again:                                   # all turns of a string instruction count once
                    count += 1
                    if count == instructions:
                        self.gdb.interrupt()
                yield state
            threads[1].join()
            values, wide = self.registers()                     # where the guest stands, after the last instruction logged
            if state is None or values != state.values:
                yield State(values, wide)
        finally:
            if count < instructions:
                self.gdb.interrupt()
            while threads[0].is_alive():                        # whoever stopped early leaves the rest unread
                try:
                    chunks.get(timeout=0.05)
                except queue.Empty:
                    pass
            threads[1].join()
            os.close(reader)
