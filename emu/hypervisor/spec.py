# What a machine is allotted, as its owner writes it: specifications, checked when they are made.
"""`Spec` says what a machine is made of, `Cpu` what it may have of the host's cores; texts are read as on the command line.

Shares are cgroup v2's cpu.weight (1..10000) or vSphere's low, normal and high (1 : 2 : 4). A reservation is a part of a core
that it gets whenever it wants it. A limit is either a part of a core, as cgroup v2's cpu.max ("50%": in every period at most
half of the period's time on a host core), or a speed in instructions a second ("200M/s"), which is exact on every host.
"""
from __future__ import annotations

from typing import Any, NamedTuple

from emu.base.errors import UsageError
from emu.base.sizes import as_count, read_count

SHARES = {"low": 50, "normal": 100, "high": 200}
WEIGHTS = (1, 10000)
PERIOD_MS = 100              # cgroup v2's default
PERIODS_MS = (1, 1000)       # and its range


class Quota(NamedTuple):
    """`amount` in every `period_ns` of host time; in: "ns" of a host core, or "instructions"."""

    amount: int
    unit: str
    period_ns: int


class Cpu(NamedTuple):
    """What a machine may have of the host's cores. See the module for shares, reservation and limit; budget: instructions
    in all its life; period_ms: of the limit."""

    shares: int | str = "normal"
    limit: str | None = None
    reservation: str = "0%"
    budget: int | str | None = None
    period_ms: int = PERIOD_MS


class Spec(NamedTuple):
    """A machine: what boots, its memory and CPUs, and what it may use. The rest as emu.Machine has it."""

    name: str = ""
    kernel: Any = None
    image: Any = None
    initrd: Any = None
    append: str = ""
    memory: int | str = "256M"
    model: str = "v2"
    cpus: int = 1
    seed: int = 0
    clock: str = "host"
    cpu: Cpu = Cpu()
    on_triple_fault: str = "report"
    no_reboot: bool = False


class Allotment(NamedTuple):
    """A Cpu, read: weight; floor and ceiling as parts of a core; quota, or None; budget in instructions, or None."""

    weight: int
    floor: float
    ceiling: float
    quota: Quota | None
    budget: int | None


def read_cpu(cpu: Cpu) -> Allotment:
    """What `cpu` says; UsageError where it cannot be."""
    weight = SHARES.get(str(cpu.shares).lower())
    if weight is None:
        try:
            weight = int(cpu.shares)
        except ValueError:
            weight = 0
        if not WEIGHTS[0] <= weight <= WEIGHTS[1]:
            raise UsageError("shares", repr(cpu.shares), f"{WEIGHTS[0]} to {WEIGHTS[1]}, or {', '.join(SHARES)}")
    floor = read_part("reservation", cpu.reservation)
    ceiling, quota = 1.0, None
    if not PERIODS_MS[0] <= cpu.period_ms <= PERIODS_MS[1]:
        raise UsageError("period_ms", str(cpu.period_ms), f"{PERIODS_MS[0]} to {PERIODS_MS[1]} milliseconds")
    period_ns = cpu.period_ms * 1_000_000
    if cpu.limit is not None and str(cpu.limit).endswith("/s"):
        quota = Quota(max(1, read_count("limit", str(cpu.limit)[:-2]) * cpu.period_ms // 1000), "instructions", period_ns)
    elif cpu.limit is not None:
        ceiling = read_part("limit", cpu.limit)
        if ceiling <= 0:
            raise UsageError("limit", str(cpu.limit), "more than nothing, else the machine never runs")
        quota = Quota(int(ceiling * period_ns), "ns", period_ns) if ceiling < 1 else None
    if floor > ceiling:
        raise UsageError("reservation", str(cpu.reservation), f"not above its limit, {cpu.limit}", "lower it, or raise the limit")
    return Allotment(weight, floor, ceiling, quota, as_count("budget", cpu.budget))


def read_part(name: str, value: str) -> float:
    """A part of one core, "0%" to "100%": a machine runs on one core at a time, whatever the number of its CPUs."""
    text = str(value)
    try:
        part = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        part = -1.0
    if not 0 <= part <= 1:
        raise UsageError(name, repr(value), "a part of one core, from 0% to 100%", f'{name}="25%"')
    return part
