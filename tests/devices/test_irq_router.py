# Wires of the interrupt router, and the ways in which kernels reach the 8254 through them.
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import MemoryFace, PortFace
from emu.base.clock import Clock
from emu.base.errors import SnapshotError
from emu.devices.apic_bus import ApicBus
from emu.devices.hpet import Hpet
from emu.devices.ioapic import Ioapic
from emu.devices.irq_router import IrqRouter
from emu.devices.lapic import Lapic
from emu.devices.pic import Pic
from emu.devices.pit import Pit
from emu.devices.rtc import Rtc


class Board:
    """Interrupt and time parts wired as a PC has them."""

    def __init__(self):
        self.clock = Clock()
        self.bus = ApicBus()
        self.apic = Lapic(self.clock, self.bus, 0)
        self.pic, self.ioapic = Pic(), Ioapic(self.bus)
        self.apic.connect_pic(self.pic)
        self.router = IrqRouter(self.pic, self.ioapic)
        self.pit, self.rtc, self.hpet = Pit(self.clock), Rtc(self.clock, 0), Hpet(self.clock)
        self.pit.output.connect(self.hpet.pit)
        self.rtc.output.connect(self.hpet.rtc)
        self.hpet.irq0.connect(self.router.isa(0))
        self.hpet.irq8.connect(self.router.isa(8))
        self.lapic_face, self.ioapic_face = MemoryFace(self.bus.region), MemoryFace(self.ioapic.region)
        self.hpet_face = MemoryFace(self.hpet.region)
        self.master, self.slave, self.counters = PortFace(self.pic.master), PortFace(self.pic.slave), PortFace(self.pit.counters)

    def start_pic(self, icw4=1):
        for face, base, cascade, last in ((self.master, 0x30, 4, icw4), (self.slave, 0x38, 2, 1)):
            for offset, value in ((0, 0x11), (1, base), (1, cascade), (1, last)):
                face.write(offset, value)

    def start_pit(self, count=11932):
        self.counters.write(3, 0x34)
        self.counters.write(0, count & 0xFF)
        self.counters.write(0, count >> 8)

    def route(self, pin, low):
        for index, value in ((0x11 + 2 * pin, 0), (0x10 + 2 * pin, low)):
            self.ioapic_face.write(0, index)
            self.ioapic_face.write(0x10, value)

    def vectors(self, ns, finish):
        """What an obedient CPU takes in `ns` nanoseconds, looking every 10 us."""
        taken = []
        for _ in range(ns // 10_000):
            self.clock.advance(self.clock.now_ns + 10_000)
            while self.apic.intr.level:
                vector = self.apic.acknowledge()
                taken.append(vector)
                finish(vector)
        return taken

    def eoi(self, vector):
        self.lapic_face.write(0xB0, 0)

    def pic_eoi(self, vector):
        if vector >= 0x38:
            self.slave.write(0, 0x20)
        self.master.write(0, 0x20)


def test_timer_through_ioapic_pin_2():
    """Linux timer_check(): pin 2, edge, with the 8259A in automatic EOI mode and masked."""
    board = Board()
    board.start_pic(icw4=3)
    board.master.write(1, 0xFF)
    board.start_pit()
    board.lapic_face.write(0xF0, 0x1FF)
    board.route(2, 0x30)
    assert board.vectors(101_000_000, board.eoi) == [0x30] * 10


def test_timer_through_virtual_wire_as_with_noapic():
    board = Board()
    board.start_pit()
    board.start_pic()
    board.lapic_face.write(0xF0, 0x1FF)
    board.lapic_face.write(0x350, 0x700)
    assert board.vectors(101_000_000, board.pic_eoi) == [0x30] * 10


def test_timer_with_lapic_off_as_with_nolapic():
    board = Board()
    board.start_pit()
    board.start_pic()
    board.apic.write_base(board.apic.base & ~0x800)
    assert board.vectors(101_000_000, board.pic_eoi) == [0x30] * 10


def test_timer_as_fixed_interrupt_at_lint0():
    """Linux's third try: LINT0 fixed, the 8259A in automatic EOI mode and never acknowledged."""
    board = Board()
    board.start_pit()
    board.start_pic(icw4=3)
    board.lapic_face.write(0xF0, 0x1FF)
    board.lapic_face.write(0x350, 0x41)
    assert board.vectors(101_000_000, board.eoi) == [0x41] * 10


@pytest.mark.parametrize("through_pic", [False, True])
def test_hpet_in_legacy_mode_takes_the_place_of_the_8254(through_pic):
    board = Board()
    board.start_pit()
    board.start_pic()
    board.lapic_face.write(0xF0, 0x1FF)
    if through_pic:
        board.lapic_face.write(0x350, 0x700)
    else:
        board.master.write(1, 0xFF)
        board.route(2, 0x30)
    board.hpet_face.write(0x10, 3)
    board.hpet_face.write(0x100, 0x14C)
    board.hpet_face.write(0x108, 400_000)               # 4 ms
    assert board.vectors(101_000_000, board.pic_eoi if through_pic else board.eoi) == [0x30] * 25


def test_rtc_reaches_irq_8():
    board = Board()
    board.start_pic()
    board.apic.set_virtual_wire()
    rtc = PortFace(board.rtc.region)
    rtc.write(0, 0x0B)
    rtc.write(1, 0x12)

    def finish(vector):
        rtc.write(0, 0x0C)
        rtc.read(1)
        board.pic_eoi(vector)

    assert board.vectors(3_000_000_000, finish) == [0x38] * 3


@pytest.mark.parametrize("irq", [n for n in range(16) if n != 2])
def test_isa_wires_reach_both_controllers(irq):
    pic, ioapic = Pic(), Ioapic(ApicBus())
    IrqRouter(pic, ioapic).isa(irq).drive(1)
    values = pic.fields.get()
    assert values["slave_inputs"] << 8 | values["master_inputs"] == 1 << irq
    assert ioapic.fields.get()["levels"] == 1 << (irq or 2)


@pytest.mark.parametrize("gsi", range(16, 24))
def test_pci_wires_reach_the_ioapic(gsi):
    pic, ioapic = Pic(), Ioapic(ApicBus())
    IrqRouter(pic, ioapic).pci(gsi).drive(1)
    assert ioapic.fields.get()["levels"] == 1 << gsi
    assert pic.fields.get()["master_inputs"] == 0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=30))
def test_wires_of_one_number_are_ored(steps):
    ioapic = Ioapic(ApicBus())
    router = IrqRouter(None, ioapic)
    wires, levels = [router.pci(17) for _ in range(4)], [0] * 4
    for wire, level in steps:
        wires[wire].drive(level)
        levels[wire] = level
        assert ioapic.fields.get()["levels"] == max(levels) << 17
        router.fields.set(router.fields.get())


def test_machine_with_8259s_only():
    pic = Pic()
    IrqRouter(pic).isa(4).drive(1)
    assert pic.fields.get()["master_inputs"] == 1 << 4


def test_numbers_that_are_not_there_are_refused():
    router = IrqRouter()
    for irq in (-1, 2, 16):
        with pytest.raises(ValueError):
            router.isa(irq)
    for gsi in (15, 24):
        with pytest.raises(ValueError):
            router.pci(gsi)
    for _ in range(32):
        router.isa(5)
    with pytest.raises(ValueError):
        router.isa(5)


def test_impossible_state_is_refused():
    router = IrqRouter()
    router.isa(5)
    before = router.fields.get()
    wrong = [0] * 24
    wrong[5] = 2
    for name, value in (("asserted", tuple(wrong)), ("pic3", 2), ("ioapic23", -1)):
        with pytest.raises(SnapshotError):
            router.fields.set({**before, name: value})
    assert router.fields.get() == before
