# Many machines on one host: who is admitted, who runs when, on which thread, and what each has used.
"""The hypervisor owns a declared part of the host (cores and memory) and as many machines as fit into it.

A worker thread for each core runs the machine that share.Queue picks, a quantum at a time, without the GIL. A machine that
waits for a timer or for input is in no queue and costs nothing until then; one that has used up its limit waits for its
next period.
"""
from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from emu.base.errors import EmuError, ResourceError, UsageError
from emu.base.sizes import as_memory
from emu.hypervisor.share import Client, Queue
from emu.hypervisor.spec import Cpu, Spec, read_cpu
from emu.machine.machine import Exit, Machine

OVERHEAD = 48 << 20          # bytes of the host that a machine may hold besides its memory: decoded code, TLBs, devices, buffers
OUTPUT_BYTES = 1 << 20       # of a serial line are kept where nobody takes them
LEAST_RUN = 20_000           # instructions; what is left of a period's quota below that is left for the next period
_GUESS = 0.2                 # instructions a nanosecond, before a machine has been measured


class Guest:
    """One machine of a hypervisor: its specification, its state and what it has used."""

    def __init__(self, hypervisor: Hypervisor, spec: Spec, machine: Machine) -> None:
        self.spec = spec
        self.machine = machine
        self.memory = as_memory("memory", spec.memory)
        self.exit: Exit | None = None
        self.output = bytearray()                    # of the serial line; the oldest bytes go first
        self.on_output: Callable[[bytes], Any] | None = None
        self.cpu = read_cpu(spec.cpu)
        self._hypervisor = hypervisor
        self.client = Client(spec.name, self.cpu.weight, self.cpu.floor, self.cpu.ceiling)
        self.host_cpu_ns = 0
        self.throttled_ns = 0
        self.quanta = 0
        self.is_paused = False
        self._input: list[bytes] = []
        self._wake_at = 0                            # host time at which it gets ready again; 0: none is set
        self._throttled_since = 0
        self._period_start = 0
        self._period_used = 0
        self._speed = _GUESS                         # instructions a nanosecond of host CPU

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def state(self) -> str:
        """stopped, paused, throttled, running, ready or idle."""
        if self.exit is not None:
            return "stopped"
        if self.is_paused:
            return "paused"
        if self._throttled_since:
            return "throttled"
        return "running" if self.client.running else "ready" if self.client.ready else "idle"

    def send(self, data: bytes | str) -> None:
        """Types into its serial line."""
        self._hypervisor._enter(self, data.encode() if isinstance(data, str) else bytes(data))

    def pause(self) -> None:
        """It runs no more until `resume`; a quantum that has begun is finished first."""
        self._hypervisor._pause(self, True)

    def resume(self) -> None:
        """Takes `pause` back."""
        self._hypervisor._pause(self, False)

    def set_cpu(self, cpu: Cpu) -> None:
        """Gives it another share, reservation or limit from now on; ResourceError where the host has not as much."""
        self._hypervisor._set_cpu(self, cpu)

    @property
    def usage(self) -> dict[str, Any]:
        """instructions, virtual_ns, host_cpu_ns, throttled_ns, quanta, and the counters of the machine."""
        return {**self.machine.stats(), "host_cpu_ns": self.host_cpu_ns, "throttled_ns": self.throttled_ns,
                "quanta": self.quanta}

    # --- for the worker that runs it

    def quantum(self, now: int) -> int:
        """Instructions of the next run: less than a quantum where its quota ends earlier; 0 if it has none left."""
        count = self.client.quantum
        if self.cpu.quota is not None:
            if now - self._period_start >= self.cpu.quota.period_ns:
                periods = (now - self._period_start) // self.cpu.quota.period_ns
                self._period_start += periods * self.cpu.quota.period_ns
                # what was used above the quota is paid from this one; what was left over is lost
                self._period_used = max(0, self._period_used - periods * self.cpu.quota.amount)
            left = self.cpu.quota.amount - self._period_used
            count = min(count, int(left * self._speed) if self.cpu.quota.unit == "ns" else left)
            if left <= 0 or (count < LEAST_RUN and self.cpu.quota.amount > left):
                return 0
        return max(count, 1)

    def charge(self, instructions: int, cpu_ns: int) -> None:
        """What a run has used."""
        self.host_cpu_ns += cpu_ns
        self.quanta += 1
        if instructions > LEAST_RUN // 2 and cpu_ns > 0:
            self._speed += (instructions / cpu_ns - self._speed) / 4
        if self.cpu.quota is not None:
            self._period_used += cpu_ns if self.cpu.quota.unit == "ns" else instructions

    def next_period(self) -> int:
        return self._period_start + self.cpu.quota.period_ns if self.cpu.quota is not None else 0

    def keep(self, data: bytes) -> None:
        if data and self.on_output is not None:
            self.on_output(data)
        elif data:
            self.output += data
            del self.output[:-OUTPUT_BYTES]


class Hypervisor:
    """The machines of one host.

    memory: bytes (or a text) that all machines together may hold, with OVERHEAD for each; the host's by default. cores: host
    threads that run them; all that this process may use by default. overcommit: admit more memory than that.
    """

    def __init__(self, memory: int | str | None = None, cores: int | None = None, overcommit: bool = False) -> None:
        usable = len(os.sched_getaffinity(0))
        self.memory = _host_memory() if memory is None else as_memory("memory", memory)
        self.cores = usable if cores is None else cores
        if not 1 <= self.cores <= 4096:
            raise UsageError("cores", str(cores), "from 1 to 4096")
        self.overcommit = overcommit
        self.guests: dict[str, Guest] = {}
        self._queue = Queue(self.cores)
        lock = threading.RLock()
        self._changed = threading.Condition(lock)        # there is something for a worker to do
        self._ended = threading.Condition(lock)          # a machine has stopped
        self._timers: list[tuple[int, int, Guest]] = []
        self._number = itertools.count()
        self._of: dict[Client, Guest] = {}
        self._workers: list[threading.Thread] = []
        self._ending = False
        self._gone = {"instructions": 0, "host_cpu_ns": 0, "throttled_ns": 0, "quanta": 0}

    # --- who is admitted

    @property
    def memory_reserved(self) -> int:
        """Bytes that the admitted machines may hold at most."""
        return sum(guest.memory + OVERHEAD for guest in self.guests.values())

    @property
    def cores_reserved(self) -> float:
        return sum(guest.cpu.floor for guest in self.guests.values())

    def check(self, spec: Spec) -> Spec:
        """`spec`, with a name; UsageError where it cannot be, ResourceError where this host has no room for it."""
        spec = spec if spec.name else spec._replace(name=self._free_name())
        if spec.name in self.guests:
            raise UsageError("name", repr(spec.name), "another machine has it", "choose another name")
        needed = as_memory("memory", spec.memory) + OVERHEAD
        if not self.overcommit and self.memory_reserved + needed > self.memory:
            raise ResourceError(spec.name, f"needs {needed >> 20} MiB of memory ({OVERHEAD >> 20} of them are overhead)",
                                f"of {self.memory >> 20} MiB, {self.memory_reserved >> 20} are given away",
                                "less memory, fewer machines, or overcommit")
        self._check_floor(spec.name, read_cpu(spec.cpu).floor, self.cores_reserved)
        return spec

    def add(self, spec: Spec) -> Guest:
        """Admits a machine and makes it ready to run; see `check` for what is refused."""
        with self._changed:
            spec = self.check(spec)
            machine = Machine(kernel=spec.kernel, image=spec.image, initrd=spec.initrd, append=spec.append, memory=spec.memory,
                              cpu=spec.model, cpus=spec.cpus, seed=spec.seed, clock=spec.clock,
                              budget=read_cpu(spec.cpu).budget, on_triple_fault=spec.on_triple_fault, no_reboot=spec.no_reboot)
            guest = Guest(self, spec, machine)
            self.guests[spec.name] = guest
            self._of[guest.client] = guest
            guest._period_start = time.monotonic_ns()
            self._ready(guest)
            return guest

    def remove(self, guest: Guest) -> None:
        """Ends a machine and gives its part of the host back; what it has used stays in the total."""
        with self._changed:
            self._queue.sleep(guest.client)
            guest.is_paused = True
            while guest.client.running:
                guest.machine.request_stop()
                self._ended.wait(0.01)
            for name in self._gone:
                self._gone[name] += guest.usage[name]
            del self.guests[guest.name], self._of[guest.client]
            guest.machine.close()

    def all_stopped(self) -> bool:
        """Whether no machine will run again."""
        return all(guest.exit is not None for guest in self.guests.values())

    @property
    def usage(self) -> dict[str, int]:
        """The sum of what all machines have used, those that were removed as well."""
        with self._changed:
            each = [guest.usage for guest in self.guests.values()]
            return {name: gone + sum(usage[name] for usage in each) for name, gone in self._gone.items()}

    # --- running

    def start(self) -> None:
        """Starts the workers; machines run from now on, until `stop`."""
        self._ending = False
        for number in range(len(self._workers), self.cores):
            self._workers.append(threading.Thread(target=self._work, name=f"emu-core{number}", daemon=True))
            self._workers[-1].start()

    def stop(self) -> None:
        """Ends the workers, each after its quantum."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()
        self._workers = []

    def run(self, until: Callable[[], bool] | None = None, timeout: float | None = None) -> bool:
        """Runs the machines until `until()` holds (by default: all have stopped), or for `timeout` seconds of host time; gives
        whether it held. Ctrl-C ends it within a tenth of a second."""
        until = until or self.all_stopped
        end = None if timeout is None else time.monotonic() + timeout
        self.start()
        try:
            with self._changed:
                while not until():
                    left = None if end is None else end - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    self._ended.wait(0.01 if left is None else min(left, 0.01))
            return True
        finally:
            self.stop()

    def close(self) -> None:
        """Ends all machines."""
        self.stop()
        for guest in list(self.guests.values()):
            self.remove(guest)

    def __enter__(self) -> Hypervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- behind it; the lock is held in all of these but _work

    def _check_floor(self, name: str, floor: float, others: float) -> None:
        if others + floor > self.cores:
            raise ResourceError(name, f"reserves {floor:.0%} of a core", f"{others:.0%} of {self.cores:.0%} are reserved already",
                                "a smaller reservation")

    def _free_name(self) -> str:
        return next(name for name in (f"machine{k}" for k in itertools.count(1)) if name not in self.guests)

    def _ready(self, guest: Guest) -> None:
        if guest.exit is None and not guest.is_paused and not guest.client.ready and not guest.client.running:
            if guest._throttled_since:
                guest.throttled_ns += time.monotonic_ns() - guest._throttled_since
                guest._throttled_since = 0
            guest._wake_at = 0
            self._queue.wake(guest.client)
            self._changed.notify()

    def _sleep(self, guest: Guest, until: int) -> None:
        """Takes it out of the queue until host time `until` (0: until something happens to it)."""
        self._queue.sleep(guest.client)
        guest._wake_at = until
        if until:
            heapq.heappush(self._timers, (until, next(self._number), guest))
            if self._timers[0][2] is guest:
                self._changed.notify()               # whoever waits for a later one waits too long

    def _enter(self, guest: Guest, data: bytes) -> None:
        with self._changed:
            guest._input.append(data)
            if not guest._throttled_since:
                self._ready(guest)

    def _pause(self, guest: Guest, on: bool) -> None:
        with self._changed:
            guest.is_paused = on
            if on:
                self._queue.sleep(guest.client)
            else:
                self._ready(guest)

    def _set_cpu(self, guest: Guest, cpu: Cpu) -> None:
        with self._changed:
            allotted = read_cpu(cpu)
            self._check_floor(guest.name, allotted.floor, self.cores_reserved - guest.cpu.floor)
            guest.cpu = allotted
            guest.spec = guest.spec._replace(cpu=cpu)
            guest.machine.budget = allotted.budget
            client = guest.client
            client.weight, client.floor, client.ceiling = allotted.weight, allotted.floor, allotted.ceiling
            self._queue.changed()
            if guest._throttled_since:
                self._ready(guest)

    def _next(self) -> tuple[Guest, int] | None:
        """A guest to run and for how many instructions; whoever has none left of its period waits for the next."""
        now = time.monotonic_ns()
        while self._timers and self._timers[0][0] <= now:
            at, _, guest = heapq.heappop(self._timers)
            if guest._wake_at == at:
                self._ready(guest)
        while True:
            client = self._queue.pick()
            if client is None:
                return None
            guest = self._of[client]
            count = guest.quantum(now)
            if count:
                return guest, count
            self._queue.done(client, 0)
            guest._throttled_since = now
            self._sleep(guest, guest.next_period())

    def _work(self) -> None:
        """What a worker thread does: one core of the host."""
        while True:
            with self._changed:
                chosen = None
                while not self._ending and (chosen := self._next()) is None:
                    wait = (self._timers[0][0] - time.monotonic_ns()) / 1e9 if self._timers else None
                    self._changed.wait(None if wait is None else max(wait, 0))
                if chosen is None:
                    return
                guest, count = chosen
                typed, guest._input = guest._input, []
            self._run(guest, count, typed)

    def _run(self, guest: Guest, count: int, typed: list[bytes]) -> None:
        machine = guest.machine
        before, started = machine.retired, time.thread_time_ns()
        rest: list[bytes] = []
        ended: Exit | None = None
        try:
            for data in typed:
                taken = 0 if rest else machine.serial.send(data)
                if taken < len(data):
                    rest.append(data[taken:])
            ended = machine.run_slice(instructions=count)
            guest.keep(machine.serial.read())
        except EmuError as error:
            ended = Exit("error", error.code, str(error), machine.retired, machine.virtual_ns)
        except Exception as error:                   # one machine's fault is not the others'
            ended = Exit("internal fault", 1, f"{type(error).__name__}: {error}", machine.retired, machine.virtual_ns)
        retired = machine.retired - before
        guest.charge(retired, time.thread_time_ns() - started)
        with self._changed:
            self._queue.done(guest.client, retired)
            guest._input[:0] = rest
            if ended is not None:
                guest.exit = ended
                self._queue.sleep(guest.client)
                self._ended.notify_all()
            elif guest.is_paused:
                self._queue.sleep(guest.client)
            elif machine.idle_ns and not guest._input:
                self._sleep(guest, time.monotonic_ns() + machine.idle_ns if machine.idle_ns > 0 else 0)


def _host_memory() -> int:
    """Bytes of memory of this host."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
