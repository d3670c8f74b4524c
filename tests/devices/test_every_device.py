# What holds for every device: its state can be saved, restored and saved again, and what was restored goes on alike.
import functools
import importlib
import pkgutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import emu.devices
from bench import MemoryFace
from emu.base.clock import Clock
from emu.base.errors import SnapshotError
from emu.base.line import LineInput
from emu.base.state import StateFields
from emu.devices.apic_bus import ApicBus
from emu.devices.backend.char import CharBackend
from emu.devices.backend.disk import DiskBackend
from emu.devices.backend.net.port import NetPort
from emu.devices.pci.bus import PciBus
from emu.memory.ports import Ports
from emu.memory.space import PhysicalMemory, Region

KINDS = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8}


class Parts:
    """What a device may need to be built; each part is made when it is asked for."""

    @functools.cached_property
    def clock(self):
        return Clock()

    @functools.cached_property
    def apic_bus(self):
        return ApicBus()

    @functools.cached_property
    def memory(self):
        return PhysicalMemory(1 << 20)

    @functools.cached_property
    def pci(self):
        return PciBus(self.memory, Ports())

    @functools.cached_property
    def stream(self):
        return CharBackend()

    @functools.cached_property
    def cable(self):
        return NetPort(self.clock)

    @functools.cached_property
    def disk(self):
        return DiskBackend.blank(1 << 20)

    @property
    def made(self):
        """The parts that declare state, in a fixed order."""
        return [part for _, part in sorted(vars(self).items()) if hasattr(part, "fields")]


# How each device is made. A device that is not here fails the first test below.
DEVICES = {
    "acpi_pm.AcpiPm": lambda make, parts: make(parts.clock),
    "apic_bus.ApicBus": lambda make, parts: parts.apic_bus,
    "debug_exit.DebugExit": lambda make, parts: make(),
    "debug_port.DebugPort": lambda make, parts: make(parts.stream),
    "e1000.E1000": lambda make, parts: make(parts.pci, 4, parts.memory, parts.clock, parts.cable),
    "fw_cfg.FwCfg": lambda make, parts: make({0: b"QEMU", 5: b"\1\0"}),
    "hpet.Hpet": lambda make, parts: make(parts.clock),
    "ioapic.Ioapic": lambda make, parts: make(parts.apic_bus),
    "irq_router.IrqRouter": lambda make, parts: make(),
    "lapic.Lapic": lambda make, parts: make(parts.clock, parts.apic_bus, 3),
    "pci.bus.HostBridge": lambda make, parts: make(parts.pci),
    "pci.bus.IsaBridge": lambda make, parts: make(parts.pci),
    "pci.bus.PciBus": lambda make, parts: parts.pci,
    "pic.Pic": lambda make, parts: make(),
    "pit.Pit": lambda make, parts: make(parts.clock),
    "ps2.KeyboardController": lambda make, parts: make(parts.clock),
    "rtc.Rtc": lambda make, parts: make(parts.clock, 1_700_000_000),
    "uart.Uart": lambda make, parts: make(parts.clock, parts.stream),
    "virtio.balloon.VirtioBalloon": lambda make, parts: make(parts.pci, 4, parts.memory, parts.clock),
    "virtio.block.VirtioBlock": lambda make, parts: make(parts.pci, 4, parts.memory, parts.clock, parts.disk),
    "virtio.console.VirtioConsole": lambda make, parts: make(parts.pci, 4, parts.memory, parts.clock, parts.stream),
    "virtio.net.VirtioNet": lambda make, parts: make(parts.pci, 4, parts.memory, parts.clock, parts.cable),
    "virtio.rng.VirtioRng": lambda make, parts: make(parts.pci, 4, parts.memory, parts.clock),
}


def device_classes():
    """Every class in emu.devices that declares state and can be reset, but for those that others derive from."""
    found = {}
    for module in pkgutil.walk_packages(emu.devices.__path__, "emu.devices."):
        if module.ispkg:
            continue
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, type) and value.__module__ == module.name and hasattr(value, "fields") and hasattr(value, "reset"):
                found[f"{module.name.removeprefix('emu.devices.')}.{value.__name__}"] = value
    return {name: value for name, value in found.items() if not value.__subclasses__()}


CLASSES = device_classes()
KNOWN = sorted(CLASSES.keys() & DEVICES.keys())


class Bench:
    def __init__(self, name):
        self.parts = Parts()
        self.parts.clock.advance(0)
        self.device = DEVICES[name](CLASSES[name], self.parts)
        owners = [self.device, *(part for part in self.parts.made if part is not self.device)]
        ends = [getattr(owner, attribute) for owner in owners for attribute in dir(owner) if not attribute.startswith("_")]
        self.faces = [(MemoryFace(end), end.size) for end in ends if isinstance(end, Region)]
        self.wires = [end for end in ends if isinstance(end, LineInput)]

    def do(self, step):
        """One access, wire or wait; what was seen."""
        where, offset, size, value, wait = step
        seen = None
        if self.faces:
            face, length = self.faces[where % len(self.faces)]
            offset = offset % length & ~(size - 1)
            size = min(size, length - offset)
            size = 1 << size.bit_length() - 1
            face.write(offset, value & (1 << 8 * size) - 1, size)
            seen = face.read(offset, size)
        if self.wires and value & 1:
            self.wires[where % len(self.wires)].drive(value >> 1 & 1)
        self.parts.clock.advance(self.parts.clock.now_ns + wait)
        return seen

    def save(self):
        return [part.fields.get() for part in (*self.parts.made, self.device)]

    def restore(self, saved):
        for part, values in zip((*self.parts.made, self.device), saved, strict=True):
            part.fields.set(values)


STEPS = st.lists(st.tuples(st.integers(0, 7), st.one_of(st.integers(0, 0x40), st.integers(0, 0x3FF)), st.sampled_from([1, 2, 4, 8]),
                           st.one_of(st.integers(0, 255), st.integers(0, 2**64 - 1)), st.integers(0, 10**5)), max_size=25)


def test_every_device_is_known_here():
    assert sorted(CLASSES.keys() - DEVICES.keys()) == []


@pytest.mark.parametrize("name", KNOWN)
def test_fields_are_declared_with_a_name(name):
    fields = Bench(name).device.fields
    assert isinstance(fields, StateFields) and fields.component
    assert tuple(name for name, _, _ in fields.layout) == tuple(fields.get())


@pytest.mark.parametrize("name", KNOWN)
@settings(deadline=None, max_examples=20)
@given(before=STEPS, after=STEPS)
def test_restored_device_is_the_same_and_goes_on_alike(name, before, after):
    first, second = Bench(name), Bench(name)
    for step in before:
        first.do(step)
    saved = first.save()
    second.restore(saved)
    assert second.save() == saved
    for step in after:
        assert first.do(step) == second.do(step)
    assert first.save() == second.save()


@pytest.mark.parametrize("name", KNOWN)
@settings(deadline=None, max_examples=30)
@given(before=STEPS, data=st.data(), after=STEPS)
def test_altered_state_is_refused_whole_or_harmless(name, before, data, after):
    bench = Bench(name)
    for step in before:
        bench.do(step)
    saved = bench.device.fields.get()
    altered = dict(saved)
    layout = bench.device.fields.layout
    for field, kind, count in data.draw(st.lists(st.sampled_from(layout), max_size=3) if layout else st.just([])):
        if kind == "bytes":
            altered[field] = data.draw(st.binary(min_size=count, max_size=count))
            continue
        bits = 8 * KINDS[kind]
        low, high = (0, 2 ** bits - 1) if kind[0] == "u" else (-2 ** (bits - 1), 2 ** (bits - 1) - 1)
        values = tuple(data.draw(st.one_of(st.integers(low, min(high, 300)), st.integers(low, high))) for _ in range(count))
        altered[field] = values if count > 1 else values[0]
    try:
        bench.device.fields.set(altered)
    except SnapshotError:
        assert bench.device.fields.get() == saved
    else:
        assert bench.device.fields.get() == altered
    for step in after:
        bench.do(step)


@pytest.mark.parametrize("name", KNOWN)
@settings(deadline=None, max_examples=10)
@given(steps=STEPS)
def test_reset_twice_is_reset_once(name, steps):
    bench = Bench(name)
    for step in steps:
        bench.do(step)
    bench.device.reset()
    once = bench.device.fields.get()
    bench.device.reset()
    assert bench.device.fields.get() == once
