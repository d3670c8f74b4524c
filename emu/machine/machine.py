# One machine: build, boot, run, reset, and why a run ended.
from __future__ import annotations

import select
import time
from typing import Any, NamedTuple

from emu.base.errors import EmuError, UsageError
from emu.base.sizes import as_count, as_memory
from emu.base.state import StateImage
from emu.board.pc import Pc, PcOptions
from emu.boot.identify import read_image
from emu.boot.load import load
from emu.boot.plan import CpuFacts, Module, Platform
from emu.boot.rom import load_rom, rom_places
from emu.cpu.models import resolve_cpu
from emu.devices.backend.char import INPUT_BYTES
from emu.machine.inputs import Inputs
from emu.machine.network import Nic, choose_mac, plug_in, read_nic
from emu.machine.snapshot import MachineConfig, Snapshot, components

GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{k}" for k in range(8, 16)))
SEGMENT_ORDER = ("es", "cs", "ss", "ds", "fs", "gs", "", "", "ldtr", "tr")
# A fixed time of day, so that two runs are the same: 2024-01-01 00:00:00 UTC.
START_SECONDS = 1704067200
SLICE_INSTRUCTIONS = 1 << 20
MAX_CPUS = 255               # as many as there are APIC IDs of 8 bits


def explain():
    """The module of explanations: loaded when something is to be explained, so that a start takes no longer."""
    import emu.machine.explain
    return emu.machine.explain


class Exit(NamedTuple):
    """Why a machine stopped: `reason` in words, `code` of the command line, `message` for the user (may be empty)."""

    reason: str
    code: int
    message: str
    instructions: int
    virtual_ns: int


class Serial:
    """A serial line, console or debug console as the host sees it; what is typed enters the machine as an input, at a time of
    its own."""

    def __init__(self, backend, inputs: Inputs, channel: str) -> None:
        self._backend = backend
        self._inputs = inputs
        self._channel = channel
        inputs.channel(channel, backend.feed)

    def read(self) -> bytes:
        """What the guest has sent since the last call."""
        return self._backend.take()

    def send(self, data: bytes) -> int:
        """Types `data`; gives how many bytes were taken (the rest is to be sent later)."""
        room = INPUT_BYTES - self._backend.waiting - sum(len(waiting) for waiting in self._inputs.waiting(self._channel))
        taken = bytes(data[:max(room, 0)])
        if taken:
            self._inputs.enter(self._channel, taken)
        return len(taken)


class Keyboard:
    """The keyboard: keys by their names (emu.devices.ps2.KEYS)."""

    def __init__(self, controller, inputs: Inputs) -> None:
        self._inputs = inputs
        inputs.channel("keyboard", lambda data: controller.press(data[1:].decode(), data[:1] == b"+"))

    def press(self, key: str, down: bool = True) -> None:
        """Presses a key, or lets it go."""
        from emu.devices.ps2 import KEYS
        if key not in KEYS and key not in ("print_screen", "pause"):
            raise UsageError("key", repr(key), "the name of a key", "see emu.devices.ps2.KEYS")
        self._inputs.enter("keyboard", (b"+" if down else b"-") + key.encode())


class Machine:
    """An emulated PC.

    `cpu` are its processors, `memory.physical` its memory, `serial` and `console` its lines, `keyboard` its keys.

    kernel, image, initrd: paths. memory: bytes, or a text such as "256M". cpu: a model with `,+feature,-feature`. clock:
    "virtual" (idle time is skipped) or "host" (idle time is waited for). seed: of everything random. budget: instructions it
    may retire in all, a number or a text such as "5G". on_triple_fault: report, reset or stop. bios: path of a ROM image that
    is mapped below 1 MiB and below 4 GiB and entered as after power-on, in place of a kernel or image. debug_ports: ports of
    debug consoles (isa-debugcon); what the guest has written to one is read from `debug_ports[port]`. cpus: 1..255
    processors, all of that model; `machine.cpu[k]` is one. disks: DiskBackends, or (DiskBackend, Limits). net: "none", a text
    such as "user,forward=8080:80" (see emu.machine.network), a Nic, or several of them. balloon: whether there is a virtio
    balloon (`board.balloon`). Raises EmuError subclasses for what cannot be.

    Where a card is on the host's network, idle time is waited for while a connection is open or a forward listened to.
    """

    def __init__(self, kernel=None, image=None, initrd=None, append="", disks=(), memory=256 << 20, cpu="v2",
                 clock="virtual", seed=0, budget=None, on_triple_fault="report", debug_exit=None, no_reboot=False,
                 start_seconds=START_SECONDS, bios=None, debug_ports=(), cpus=1, net="none", balloon=False) -> None:
        if clock not in ("virtual", "host"):
            raise UsageError("clock", repr(clock), "virtual or host")
        memory = as_memory("memory", memory)
        path = bios if bios is not None else kernel if kernel is not None else image
        if path is None:
            raise UsageError("machine", "nothing to boot", "a kernel, an image or a bios")
        if bios is not None and (kernel, image, initrd) != (None, None, None):
            raise UsageError("bios", "beside a kernel, an image or an initrd", "firmware boots from disks")
        data = read_image(path)
        modules = (Module(read_image(initrd), b"", str(initrd)),) if initrd is not None else ()
        files = {"kernel": kernel, "image": image, "initrd": initrd, "bios": bios}
        self.sources = {role: str(file) for role, file in files.items() if file is not None}
        rom = tuple(rom_places(str(path), data)) if bios is not None else ()
        nics = _nics(net)
        places = tuple((address, len(content)) for address, content in rom)
        self._assemble(MachineConfig(memory, cpu, clock, seed, as_count("budget", budget), on_triple_fault, debug_exit, no_reboot,
                                     start_seconds, append, cpus, places, tuple(debug_ports)), tuple(disks), rom, (), nics, balloon)
        # a reset boots it again; the files themselves are let go
        self.plan = load_rom(self.model.signature) if rom else self._plan(str(path), data, modules)
        try:
            for nic, port in zip(nics, self.board.network):
                self.cables.append(plug_in(nic, port, start_seconds))
        except BaseException:
            self.close()
            raise
        self.boot()

    def _assemble(self, config: MachineConfig, disks: tuple, rom: tuple, tables: tuple, nics: tuple[Nic, ...] = (),
                  balloon: bool = False) -> None:
        """The parts, wired, before anything runs. tables: what another machine of this configuration has as `tables`."""
        self.config = config
        self.model = resolve_cpu(config.cpu)
        if not 1 <= config.cpus <= MAX_CPUS:
            raise UsageError("cpus", str(config.cpus), f"1 to {MAX_CPUS}")
        if config.cpus > 1 and not self.model.has_apic:
            raise UsageError("cpus", f"{config.cpus} processors of model {config.cpu}",
                             "one: it has no local APIC to start others with", "choose the model pentium3, v1 or v2")
        self.clock_mode = config.clock
        self.budget = config.budget
        self.on_triple_fault = config.on_triple_fault
        self.no_reboot = config.no_reboot
        self.disks = tuple(disk[0] if isinstance(disk, tuple) else disk for disk in disks)
        cards = tuple((nic.model, choose_mac(nic, number), nic.limits) for number, nic in enumerate(nics))
        self._unsaved = "network cards" if nics else "a balloon" if balloon else ""
        if any(isinstance(disk, tuple) and disk[1] is not None for disk in disks):
            self._unsaved = "disks with limits"
        self.board = Pc(PcOptions(config.memory, self.model, config.seed, config.start_seconds, config.debug_exit, disks, rom,
                                  config.debug_ports, config.cpus, tables, cards, balloon))
        self.tables = self.board.acpi, self.board.e820
        self.cpu = self.board.cpus
        self.memory = self.board.memory
        self.inputs = Inputs(self.board.clock, self._latest)
        self.serial = Serial(self.board.serial[0], self.inputs, "serial")
        self.console = Serial(self.board.console, self.inputs, "console")
        self.debug_ports = {port: Serial(backend, self.inputs, f"debug {port:#x}")
                            for port, backend in self.board.debug_consoles.items()}
        self.keyboard = Keyboard(self.board.ps2, self.inputs)
        self.state_image = StateImage(components(self))
        self.recorder: Any = None
        self._slice = SLICE_INSTRUCTIONS
        self._idle_since: int | None = None
        self.idle_ns = 0
        self._is_paced = config.clock == "host"              # whether idle time passes as the host's does
        self.cables: list = []
        self.host_cpu_ns = 0
        self.exit: Exit | None = None

    @classmethod
    def from_snapshot(cls, snapshot: Snapshot, config: MachineConfig) -> Machine:
        """A new machine in the state of `snapshot`; see Snapshot.fork."""
        machine = cls.__new__(cls)
        rom = tuple((address, bytes(length)) for address, length in config.rom)      # its bytes lie with the RAM
        machine._assemble(config, tuple(disk.backend.share() for disk in snapshot.disks), rom, snapshot.tables)
        machine.plan = snapshot.plan
        machine.sources = {}
        snapshot.put_into(machine)
        return machine

    def _plan(self, name, data, modules):
        board = self.board
        platform = Platform(board.e820, CpuFacts(self.model.has_long_mode, self.model.name), self.config.append.encode(),
                            modules, board.acpi.rsdp_address, board.acpi.rsdp, self.config.seed)
        return load(name, data, platform)

    def boot(self) -> None:
        """Power-on or reset: what firmware would do, then the entry of the image."""
        board, entry = self.board, self.plan.entry
        board.reset()
        physical = board.memory.physical
        firmware = self.plan.kind == "rom"                   # what it finds is the bare board
        if not firmware:
            for tables in (board.acpi, board.mp):
                if tables is not None:
                    physical[tables.base:tables.base + len(tables.data)] = tables.data
        for base, length in self.plan.zeros:
            physical.clear(base, length)
        for address, data in self.plan.writes:
            physical[address:address + len(data)] = data
        cpu = board.cpus[0]
        for name in GENERAL:
            cpu.set_register(name, entry.registers.get(name, 0))
        cpu.set_register("rsp", entry.rsp)
        for number, name in enumerate(SEGMENT_ORDER):
            if name:
                segment = entry.segments[name]
                attributes = segment.attributes & 0xFF | segment.attributes >> 12 << 8
                cpu.set_segment(number, segment.selector, segment.base, segment.limit, attributes)
        cpu.set_system(cr0=entry.cr0, cr3=entry.cr3, cr4=entry.cr4, efer=entry.efer, gdt_base=entry.gdt_base,
                       gdt_limit=entry.gdt_limit, idt_base=entry.idt_base, idt_limit=entry.idt_limit)
        if not firmware:
            for each in board.cpus:
                each.set_memory_types(0xC0000000, 0x40000000)    # the PCI window and all above it, below 4 GiB
        cpu.set_register("rflags", entry.rflags)
        cpu.set_register("rip", entry.rip)
        cpu.after_load()

    @property
    def retired(self) -> int:
        """Instructions retired so far, by all CPUs."""
        return self.board.processors.retired

    @property
    def virtual_ns(self) -> int:
        return self.board.clock.now_ns

    def _end(self, reason: str, code: int, message: str = "") -> Exit:
        self.exit = Exit(reason, code, message, self.retired, self.virtual_ns)
        return self.exit

    # ---- states

    def snapshot(self) -> Snapshot:
        """The whole state as it is now, to be forked, gone back to, or saved to a file; the machine can run on.

        A machine and its snapshot have the same future, bit for bit. Raises UsageError where a disk's file is written."""
        self._refuse_unsaved("snapshot")
        self._catch_up()
        self.settle()
        if self.recorder is not None:
            self.recorder.snapshot_taken(self)
        return Snapshot.take(self)

    def _refuse_unsaved(self, what: str) -> None:
        if self._unsaved:
            raise UsageError(what, f"of a machine with {self._unsaved}", "a saved machine's configuration does not hold them yet")

    def settle(self) -> None:
        """Delivers what is due now, without a further instruction: where a run is cut makes no difference then."""
        if self.exit is None:
            self.board.processors.run(self.retired, False)

    def forget_translations(self) -> None:
        """Empties the TLBs of all CPUs, as taking a snapshot does."""
        for cpu in self.cpu:
            cpu.forget_translations()

    def fork(self, count: int = 1) -> list[Machine]:
        """`count` copies that go on from here, by themselves; memory is shared until somebody writes to it."""
        snapshot = self.snapshot()
        return [snapshot.fork() for _ in range(count)]

    def reset_to(self, snapshot: Snapshot) -> None:
        """Goes back to `snapshot`, of this machine or of one that is built alike; at the cost of what was written since."""
        if self.recorder is not None:
            raise UsageError("reset", "of a machine whose inputs are being recorded", mend="end the recording first")
        self.inputs.clear()
        self.exit = None
        self._idle_since = None
        self.idle_ns = 0
        snapshot.put_into(self)

    def record(self, path: str, checkpoint: int = 1 << 30) -> None:
        """Begins to write everything that enters this machine to the file `path`, from which `emu replay` runs it again.

        checkpoint: after so many instructions each the hashes of all parts are noted. Ends with `close`."""
        from emu.machine.replay import Recorder
        self._refuse_unsaved("record")
        if self.recorder is not None:
            raise UsageError("record", "is on already")
        self.recorder = Recorder(self, str(path), checkpoint)

    def request_stop(self) -> None:
        """Makes run_slice return soon; safe from a signal handler or another thread."""
        self.board.processors.request_stop()

    def run_slice(self, host_ns: int = 20_000_000, instructions: int | None = None) -> Exit | None:
        """Runs for about `host_ns` of host time, or for `instructions`; an Exit when the machine has stopped for good, else None.

        After None, `idle_ns` says how long nothing will happen by itself (0: it is busy; -1: until input comes)."""
        if self.exit is not None:
            return self.exit
        processors = self.board.processors
        self._catch_up()
        self.idle_ns = 0
        if self.cables:
            self._exchange()
        target = processors.retired + (self._slice if instructions is None else instructions)
        if self.budget is not None:
            target = min(target, self.budget)
        before, started, used = processors.retired, time.monotonic_ns(), time.thread_time_ns()
        reason = processors.run(target, not self._is_paced)
        self.host_cpu_ns += time.thread_time_ns() - used
        took, ran = time.monotonic_ns() - started, processors.retired - before
        # with virtual time the slices are the same in every run, so that input enters at the same instruction
        if instructions is None and self.clock_mode == "host" and ran > 100_000 and took > 0:
            self._slice = max(100_000, min(ran * host_ns // took, 1 << 26))
        return self._after(reason)

    def _latest(self) -> int:
        self._catch_up()
        return self.board.processors.latest_ns

    def _catch_up(self) -> None:
        """Lets the host's time that was waited for pass in the machine, where its clock is the host's."""
        if self._idle_since is not None:
            waited = time.monotonic_ns() - self._idle_since
            due = self.idle_ns if self.idle_ns >= 0 else waited
            if self._is_paced:
                self.board.processors.wait(min(waited, due))
            self._idle_since = None

    def _exchange(self) -> None:
        """Carries frames over the cables; with virtual time, waits for the host only while something may come from there."""
        for cable in self.cables:
            cable.exchange()
        self._is_paced = self.clock_mode == "host" or any(cable.is_active for cable in self.cables)

    def run_window(self, until_ns: int) -> Exit | None:
        """Runs until virtual time `until_ns` exactly, waiting for nothing; an Exit when the machine has stopped before that.

        What was sent lies in its ports then (`board.network`): machines that run in windows of a switch's latency, with the
        switch's `exchange` in between, see each other's frames at the same instants in every run.
        """
        alarm = self.board.alarm
        if self.exit is None and until_ns > self.virtual_ns:
            alarm.set(until_ns)
            while self.exit is None and alarm.is_set:
                target = self.retired + SLICE_INSTRUCTIONS
                self._after(self.board.processors.run(target if self.budget is None else min(target, self.budget), True))
            alarm.set(None)
            self.idle_ns, self._idle_since = 0, None
        return self.exit

    def _after(self, reason: str) -> Exit | None:
        if self.inputs.error is not None:
            raise self.inputs.error
        if self.recorder is not None:
            self.recorder.after_slice(self)
        wanted = self.board.requests.take()
        if self.board.debug_exit is not None and "debug exit" in wanted:
            return self._end("debug exit", self.board.debug_exit.exit_code)
        if "power off" in wanted:
            return self._end("power off", 0)
        if "reset" in wanted or reason == "reset":
            return self._reset()
        if reason == "shutdown":
            if self.on_triple_fault == "reset":
                return self._reset()
            if self.on_triple_fault == "stop":
                return self._end("triple fault", 11)
            return self._end(*explain().explain_shutdown(self))
        if reason == "dead":
            return self._end("dead halt", 13, explain().explain_dead_halt(self))
        if reason == "unsupported":
            return self._end("not emulated", 4, explain().explain_unsupported(self))
        if self.budget is not None and self.retired >= self.budget:
            return self._end("budget", 14, f"the budget of {self.budget} instructions is used up")
        if reason == "idle":
            deadline = self.board.clock.next_deadline_ns
            self.idle_ns = max(0, deadline - self.virtual_ns) if deadline is not None else -1
            self._idle_since = time.monotonic_ns()
        return None

    def _reset(self) -> Exit | None:
        if self.no_reboot:
            return self._end("reboot", 0)
        self.boot()
        return None

    def step(self, count: int = 1) -> None:
        """Retires exactly `count` instructions."""
        goal = self.retired + count
        while self.retired < goal:
            reason = self.board.processors.run(goal, True)
            ended = None if reason == "target" else self._after(reason)
            if ended is not None:
                raise EmuError("machine", f"stopped: {ended.reason}")

    def run(self, until=None, budget=None) -> Exit | None:
        """Runs until it stops, the serial output matches the regular expression `until`, or `budget` more instructions."""
        import re
        pattern = re.compile(until.encode() if isinstance(until, str) else until) if until is not None else None
        text = b""
        more = as_count("budget", budget)
        goal = None if more is None else self.retired + more
        while True:
            ended = self.run_slice()
            text = text[-65536:] + self.serial.read()
            if pattern is not None and pattern.search(text):
                return Exit("matched", 0, "", self.retired, self.virtual_ns)
            if ended is not None:
                return ended
            if (self.idle_ns < 0 and not self._is_paced) or (goal is not None and self.retired >= goal):
                return None
            if self.idle_ns:
                select.select(self.descriptors(), [], [], self.idle_ns / 1e9 if self.idle_ns > 0 else None)

    def stats(self) -> dict:
        """Counters of the run so far."""
        counters = [cpu.counters for cpu in self.cpu]
        return {"instructions": self.retired, "virtual_ns": self.virtual_ns, "idle_ns": sum(cpu.idle_ns for cpu in self.cpu),
                **{name: sum(each[name] for each in counters) for name in counters[0]}, **self.board.processors.counters}

    def descriptors(self) -> list[int]:
        """What to wait for besides `idle_ns`: each becomes readable when the next slice has something to do."""
        return [cable.watch() for cable in self.cables if cable.is_active]

    @property
    def usage(self) -> dict[str, Any]:
        """What it has used: instructions, virtual_ns, host_cpu_ns; pages of memory that are its own and that it shares with
        its snapshots and forks; bytes and operations by device."""
        runs = self.memory.data_runs()
        own = self.memory.dirty_runs() if self.memory.image is not None else runs
        private, held = (sum(count for _, count in each) for each in (own, runs))
        devices = {port.name: port.usage for port in self.board.network}
        devices.update((f"disk{number}", disk.usage) for number, disk in enumerate(self.board.disks))
        if self.board.balloon is not None:
            devices["balloon"] = self.board.balloon.usage
        return {"instructions": self.retired, "virtual_ns": self.virtual_ns, "host_cpu_ns": self.host_cpu_ns,
                "pages_private": private, "pages_shared": held - private,
                "serial_bytes": self.board.serial[0].total, "disks": [disk.usage for disk in self.disks],
                "devices": devices}

    def close(self) -> None:
        """Ends the machine, and the recording of its inputs; cables are pulled, captures and sockets closed."""
        for cable in self.cables:
            cable.close()
        self.cables = []
        if self.recorder is not None:
            recorder, self.recorder = self.recorder, None
            recorder.close(self)

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _nics(net) -> tuple[Nic, ...]:
    """The cards that the argument `net` of Machine stands for."""
    found = []
    for wanted in (net,) if isinstance(net, (str, Nic)) else net:
        nic = read_nic("net", wanted) if isinstance(wanted, str) else wanted
        if nic is not None:
            found.append(nic)
    return tuple(found)
