# The I/O APIC against the 82093AA datasheet, with a local APIC to take what it sends.
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import MemoryFace, listen
from emu.base.clock import Clock
from emu.base.errors import SnapshotError
from emu.devices.apic_bus import ApicBus
from emu.devices.ioapic import Ioapic
from emu.devices.lapic import Lapic

SELECT, WINDOW, EOI = 0x00, 0x10, 0x40
LOWEST, NMI, LOGICAL, REMOTE_IRR, LEVEL, LOW, MASKED = 0x100, 0x400, 0x800, 0x4000, 0x8000, 0x2000, 0x10000


class Board:
    def __init__(self, ids=(0,)):
        self.clock = Clock()
        self.bus = ApicBus()
        self.ioapic = Ioapic(self.bus)
        self.apics = [Lapic(self.clock, self.bus, number) for number in ids]
        self.face = MemoryFace(self.ioapic.region)
        self.window = MemoryFace(self.bus.region)
        self.pins = [self.ioapic.input(pin) for pin in range(24)]
        for number in range(len(ids)):
            self.bus.current = number
            self.window.write(0xF0, 0x1FF)
        self.bus.current = 0

    def read(self, index):
        self.face.write(SELECT, index)
        return self.face.read(WINDOW)

    def write(self, index, value):
        self.face.write(SELECT, index)
        self.face.write(WINDOW, value)

    def route(self, pin, low, destination=0):
        self.write(0x11 + 2 * pin, destination << 24)
        self.write(0x10 + 2 * pin, low)

    def low(self, pin):
        return self.read(0x10 + 2 * pin)

    def pulse(self, pin):
        self.pins[pin].drive(1)
        self.pins[pin].drive(0)

    def take(self, number=0):
        assert self.apics[number].intr.level
        return self.apics[number].acknowledge()

    def eoi(self, number=0):
        self.bus.current = number
        self.window.write(0xB0, 0)

    @property
    def asks(self):
        return [number for number, apic in enumerate(self.apics) if apic.intr.level]


def test_registers_after_reset():
    board = Board()
    assert board.read(0) == 0
    assert board.read(1) == 0x00170020
    assert [board.low(pin) for pin in range(24)] == [MASKED] * 24
    assert [board.read(0x11 + 2 * pin) for pin in range(24)] == [0] * 24


def test_identifier_has_four_bits():
    board = Board()
    board.write(0, 0xFFFFFFFF)
    assert (board.read(0), board.read(2)) == (0x0F000000, 0x0F000000)
    board.write(1, 0)
    assert board.read(1) == 0x00170020


def test_entry_keeps_its_writable_bits_only():
    board = Board()
    board.write(0x10, 0xFFFFFFFF)
    board.write(0x11, 0xFFFFFFFF)
    assert (board.read(0x10), board.read(0x11)) == (0x1AFFF, 0xFF000000)


@pytest.mark.parametrize("index", [3, 0x0F, 0x40, 0xFF])
def test_registers_that_are_not_there_read_as_0(index):
    board = Board()
    board.write(index, 0xFFFFFFFF)
    assert board.read(index) == 0


def test_select_reads_back_and_takes_bytes():
    board = Board()
    board.face.write(SELECT, 0x12, 1)
    assert board.face.read(SELECT) == 0x12
    assert board.face.read(0x20) == 0


@pytest.mark.parametrize("pin", range(24))
def test_edge_sends_its_vector_once(pin):
    board = Board()
    board.route(pin, 0x30 + pin)
    board.pins[pin].drive(1)
    assert board.take() == 0x30 + pin
    board.eoi()
    assert board.asks == []
    board.pins[pin].drive(0)
    board.pins[pin].drive(1)
    assert board.take() == 0x30 + pin
    assert board.low(pin) == 0x30 + pin


def test_edge_at_masked_pin_is_lost():
    board = Board()
    board.route(2, MASKED | 0x30)
    board.pins[2].drive(1)
    board.route(2, 0x30)
    assert board.asks == []


def test_level_asks_until_it_falls():
    board = Board()
    board.route(16, LEVEL | LOW | 0x41)
    board.pins[16].drive(1)
    assert board.low(16) == LEVEL | LOW | REMOTE_IRR | 0x41
    assert board.take() == 0x41
    assert board.asks == []
    board.eoi()
    assert board.take() == 0x41
    board.pins[16].drive(0)
    board.eoi()
    assert (board.asks, board.low(16)) == ([], LEVEL | LOW | 0x41)


def test_level_that_is_unmasked_while_asserted_asks():
    board = Board()
    board.route(10, MASKED | LEVEL | 0x41)
    board.pins[10].drive(1)
    assert board.asks == []
    board.write(0x10 + 2 * 10, LEVEL | 0x41)
    assert board.take() == 0x41


def test_level_nobody_takes_is_not_in_service():
    board = Board()
    board.route(10, LEVEL | 0x41, destination=7)
    board.pins[10].drive(1)
    assert board.low(10) == LEVEL | 0x41
    board.route(10, LEVEL | 0x41, destination=0)
    assert board.take() == 0x41


def test_eoi_reaches_only_pins_of_that_vector():
    board = Board()
    board.route(16, LEVEL | 0x41)
    board.route(17, LEVEL | 0x51)
    board.pins[16].drive(1)
    board.pins[17].drive(1)
    assert board.take() == 0x51
    board.pins[17].drive(0)
    board.eoi()
    assert (board.low(16) & REMOTE_IRR, board.low(17) & REMOTE_IRR) == (REMOTE_IRR, 0)


def test_pins_sharing_a_vector_all_get_the_eoi():
    board = Board()
    for pin in (16, 17):
        board.route(pin, LEVEL | 0x41)
        board.pins[pin].drive(1)
    board.take()
    board.pins[16].drive(0)
    board.eoi()
    assert board.take() == 0x41
    assert (board.low(16) & REMOTE_IRR, board.low(17) & REMOTE_IRR) == (0, REMOTE_IRR)


def test_edge_interrupt_makes_no_eoi_broadcast():
    board = Board()
    board.route(16, LEVEL | 0x41)
    board.pins[16].drive(1)
    board.take()
    board.window.write(0x310, 0)
    board.window.write(0x300, 0x51)                     # an edge-triggered IPI over it
    board.take()
    board.eoi()
    assert board.low(16) & REMOTE_IRR


def test_suppressed_broadcast_leaves_the_eoi_register():
    board = Board()
    board.window.write(0xF0, 0x11FF)
    board.route(16, LEVEL | 0x41)
    board.pins[16].drive(1)
    board.take()
    board.eoi()
    assert board.low(16) & REMOTE_IRR
    board.face.write(EOI, 0x42)
    assert board.low(16) & REMOTE_IRR
    board.face.write(EOI, 0x41)
    assert board.take() == 0x41                         # it is still asserted


def test_switch_to_edge_clears_remote_irr_as_kernels_rely_on():
    board = Board()
    board.route(16, LEVEL | 0x41)
    board.pins[16].drive(1)
    board.pins[16].drive(0)
    board.write(0x10 + 2 * 16, MASKED | 0x41)
    board.write(0x10 + 2 * 16, LEVEL | 0x41)
    assert board.low(16) == LEVEL | 0x41


@pytest.mark.parametrize("low, destination, expected", [
    (0x41, 1, [1]), (0x41, 0xFF, [0, 1, 2]), (LOGICAL | 0x41, 0x05, [0, 2]), (LOGICAL | LOWEST | 0x41, 0x06, [1]), (0x41, 9, [])])
def test_destinations(low, destination, expected):
    board = Board(ids=(0, 1, 2))
    for number in range(3):
        board.bus.current = number
        board.window.write(0xD0, 1 << 24 + number)
    board.route(5, low, destination)
    board.pulse(5)
    assert board.asks == expected


def test_nmi_delivery():
    board = Board()
    levels = listen(board.apics[0].nmi)
    board.route(23, NMI | 0x41)
    board.pulse(23)
    assert (levels, board.asks) == ([1, 0], [])


@given(st.lists(st.one_of(
    st.tuples(st.just("register"), st.integers(0, 0x45), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("pin"), st.integers(0, 23), st.integers(0, 1)),
    st.tuples(st.just("raw"), st.integers(0, 0xFF8), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("take"), st.just(0), st.just(0))), max_size=60))
def test_any_sequence_keeps_state_valid_and_levels_served(steps):
    board = Board()
    for what, number, value in steps:
        if what == "register":
            board.write(number, value)
        elif what == "raw":
            board.face.write(number, value)
            board.face.read(number)
        elif what == "pin":
            board.pins[number].drive(value)
        else:
            board.apics[0].acknowledge()
            board.eoi()
        values = board.ioapic.fields.get()
        board.ioapic.fields.set(values)
        for entry in values["entry"]:
            if entry & REMOTE_IRR:
                assert entry & LEVEL


@pytest.mark.parametrize("name, value", [("id", 16), ("levels", 1 << 24),
                                         ("entry", (1 << 12,) + (0,) * 23), ("entry", (1 << 32,) + (0,) * 23)])
def test_impossible_state_is_refused(name, value):
    ioapic = Board().ioapic
    before = ioapic.fields.get()
    with pytest.raises(SnapshotError):
        ioapic.fields.set({**before, name: value})
    assert ioapic.fields.get() == before


def test_pins_that_are_not_there_are_refused():
    for pin in (-1, 24):
        with pytest.raises(ValueError):
            Board().ioapic.input(pin)
