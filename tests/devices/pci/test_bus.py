# PCI bus: configuration mechanism 1, BARs, interrupt wires, MSI-X; against PCI Local Bus 3.0 and the bridges' datasheets.
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base.clock import Clock
from emu.base.errors import SnapshotError
from emu.base.line import python_listener
from emu.base.pci_routing import intx_gsi, intx_net
from emu.devices.pci.bus import HostBridge, IsaBridge, PciBus
from emu.devices.virtio.rng import VirtioRng
from emu.memory.ports import Ports
from emu.memory.space import PhysicalMemory

MIB = 1 << 20


class Board:
    def __init__(self, slots=(3,)):
        self.clock = Clock()
        self.memory = PhysicalMemory(16 * MIB)
        self.ports = Ports()
        self.bus = PciBus(self.memory, self.ports)
        self.ports.map(0xCF8, self.bus.region)
        self.host = HostBridge(self.bus)
        self.isa = IsaBridge(self.bus)
        self.rngs = [VirtioRng(self.bus, slot, self.memory, self.clock) for slot in slots]

    def address(self, slot, register, function=0):
        self.ports.write(0xCF8, 4, 0x80000000 | slot << 11 | function << 8 | register & 0xFC)

    def inp(self, slot, register, size=4):
        self.address(slot, register)
        return self.ports.read(0xCFC + register % 4, size)

    def out(self, slot, register, size, value):
        self.address(slot, register)
        self.ports.write(0xCFC + register % 4, size, value)


def levels(bus):
    return [bus.intx(k).level for k in range(8)], [bus.isa_irq(k).level for k in range(16)]


def test_linux_type_1_probe():
    board = Board()
    board.ports.write(0xCFB, 1, 1)
    old = board.ports.read(0xCF8, 4)
    board.ports.write(0xCF8, 4, 0x80000000)
    assert board.ports.read(0xCF8, 4) == 0x80000000
    board.ports.write(0xCF8, 4, old)
    assert board.inp(0, 0x0A, 2) == 0x0600


def test_bridges_have_their_identity():
    board = Board()
    assert board.inp(0, 0) == 0x12378086
    assert board.inp(1, 0) == 0x70008086
    assert board.inp(1, 0x0A, 2) == 0x0601
    assert board.inp(1, 0x0E, 1) == 0


def test_absent_functions_and_disabled_address_read_as_ones():
    board = Board()
    assert board.inp(9, 0) == 0xFFFFFFFF
    board.ports.write(0xCF8, 4, 0x80010000)              # bus 1
    assert board.ports.read(0xCFC, 4) == 0xFFFFFFFF
    board.ports.write(0xCF8, 4, 0)
    assert board.ports.read(0xCFC, 2) == 0xFFFF


def test_data_port_takes_bytes_and_words():
    board = Board()
    board.out(0, 0x59, 1, 0x30)
    board.out(0, 0x5A, 2, 0x3333)
    assert board.inp(0, 0x58) == 0x33333000
    assert board.inp(0, 0x5B, 1) == 0x33


def test_identity_is_read_only():
    board = Board()
    board.out(3, 0, 4, 0)
    board.out(3, 8, 4, 0)
    assert board.inp(3, 0) == 0x10441AF4
    assert board.inp(3, 8) == 0x00FF0001


@pytest.mark.parametrize("register, size", [(0x14, 0x1000), (0x20, 0x4000)])
def test_bar_sizing(register, size):
    board = Board()
    flags = board.inp(3, register) & 0xF
    board.out(3, register, 4, 0xFFFFFFFF)
    assert board.inp(3, register) == (-size & 0xFFFFFFFF) | flags
    if flags & 4:
        board.out(3, register + 4, 4, 0xFFFFFFFF)
        assert board.inp(3, register + 4) == 0xFFFFFFFF


def test_unimplemented_bar_reads_zero():
    board = Board()
    board.out(3, 0x10, 4, 0xFFFFFFFF)
    assert board.inp(3, 0x10) == 0


def test_bar_appears_and_moves_with_registers():
    board = Board()
    rng = board.rngs[0]
    board.out(3, 0x20, 4, 0xE0000000)
    assert rng.bars == {}
    board.out(3, 0x04, 2, 2)
    assert rng.bars == {4: (0xE0000000, 0x4000)}
    assert board.memory.read(0xE0000000 + 18, 2) == 1        # num_queues
    board.out(3, 0x20, 4, 0xE0008000)
    assert rng.bars == {4: (0xE0008000, 0x4000)}
    assert board.memory.read(0xE0000000 + 18, 2) == 0xFFFF
    assert board.memory.read(0xE0008000 + 18, 2) == 1
    board.out(3, 0x24, 4, 0x10)
    assert board.memory.read(0x10E0008000 + 18, 2) == 1
    board.out(3, 0x04, 2, 0)
    assert rng.bars == {}


def test_bar_over_ram_or_another_bar_is_invisible():
    board = Board(slots=(3, 4))
    for slot in (3, 4):
        board.out(slot, 0x20, 4, 0xE0000000)
        board.out(slot, 0x04, 2, 2)
    assert [rng.bars for rng in board.rngs] == [{4: (0xE0000000, 0x4000)}, {}]
    board.out(3, 0x20, 4, 0x00100000)
    assert [rng.bars for rng in board.rngs] == [{}, {4: (0xE0000000, 0x4000)}]


def test_assign_resources_places_and_routes_all():
    board = Board(slots=(2, 3, 31))
    board.bus.assign_resources(0xE0000000, 0xFEB00000, 0xC000, 0x10000)
    ranges = [place for rng in board.rngs for place in rng.bars.values()]
    assert len(ranges) == 6
    ends = sorted(ranges)
    assert all(base % size == 0 for base, size in ranges)
    assert all(a[0] + a[1] <= b[0] for a, b in zip(ends, ends[1:]))
    assert [board.inp(slot, 0x3C, 2) for slot in (2, 3, 31)] == [0x010A, 0x010B, 0x010B]
    assert board.inp(1, 0x60) == 0x0B0A0B0A


def test_assign_resources_without_room_is_refused():
    with pytest.raises(ValueError):
        Board().bus.assign_resources(0xE0000000, 0xE0002000, 0xC000, 0x10000)


def test_routing_formula_spreads_neighbours():
    assert [intx_gsi(slot, 0) for slot in range(9)] == [16, 17, 18, 19, 20, 21, 22, 23, 16]
    assert [intx_net(3, pin) for pin in range(4)] == [3, 4, 5, 6]


def test_intx_reaches_its_wire_and_its_irq():
    """A virtio interrupt is the simplest way to have a pin asserted: the ISR register, by a configuration change."""
    board = Board(slots=(6,))
    rng = board.rngs[0]
    board.bus.assign_resources(0xE0000000, 0xFEB00000, 0xC000, 0x10000)
    rng.fields.set(rng.fields.get() | {"isr": 1, "intx": 1})
    board.out(6, 0x3C, 1, 5)                             # any write works the wires out anew
    intx, isa = levels(board.bus)
    assert intx == [int(k == 6) for k in range(8)]
    assert isa == [int(k == 10) for k in range(16)]
    board.out(1, 0x62, 1, 0x80)                          # PIRQ C not routed any more
    assert levels(board.bus) == ([int(k == 6) for k in range(8)], [0] * 16)
    board.out(6, 0x04, 2, 0x407)                         # INTx off
    assert levels(board.bus) == ([0] * 8, [0] * 16)


def test_pirq_never_routes_to_a_system_interrupt():
    board = Board(slots=(6,))
    rng = board.rngs[0]
    rng.fields.set(rng.fields.get() | {"isr": 1, "intx": 1})
    for irq in range(16):
        board.out(1, 0x62, 1, irq)
        assert levels(board.bus)[1][irq] == int(irq in (3, 4, 5, 6, 7, 9, 10, 11, 12, 14, 15))


def test_reset_control_register_keeps_its_bits():
    board = Board()
    board.ports.write(0xCF9, 1, 0xF2)
    assert board.ports.read(0xCF9, 1) == 0x02
    assert board.ports.read(0xCF8, 4) == 0


def test_reset_control_pulses_on_the_rising_edge():
    board = Board()
    levels = []
    board.bus.reset_request.connect(python_listener(levels.append))
    board.ports.write(0xCF9, 1, 0x02)
    assert levels == []
    board.ports.write(0xCF9, 1, 0x06)
    board.ports.write(0xCF9, 1, 0x06)
    assert levels == [1, 0]
    board.ports.write(0xCF9, 1, 0x02)
    board.ports.write(0xCF9, 1, 0x0E)
    assert levels == [1, 0] * 2


def test_capability_list_is_a_chain():
    board = Board()
    assert board.inp(3, 0x06, 2) & 0x10
    place, seen = board.inp(3, 0x34, 1), []
    while place:
        seen.append(board.inp(3, place, 1))
        place = board.inp(3, place + 1, 1)
        assert len(seen) < 20
    assert seen == [0x11, 9, 9, 9, 9]                    # no device configuration: entropy has none


def test_state_with_changed_identity_is_refused():
    rng = Board().rngs[0]
    before = rng.fields.get()
    for offset in (0, 0x0B, 0x3D):
        config = bytearray(before["config"])
        config[offset] ^= 0x20
        with pytest.raises(SnapshotError):
            rng.fields.set(before | {"config": bytes(config)})
    assert rng.fields.get() == before


def test_restored_bars_are_mapped():
    board, other = Board(), Board()
    board.bus.assign_resources(0xE0000000, 0xFEB00000, 0xC000, 0x10000)
    other.rngs[0].fields.set(board.rngs[0].fields.get())
    assert other.rngs[0].bars == board.rngs[0].bars != {}
    other.rngs[0].reset()
    assert other.rngs[0].bars == {}
    assert other.rngs[0].fields.get() == Board().rngs[0].fields.get()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 255), st.sampled_from((1, 2, 4)), st.integers(0, 0xFFFFFFFF)),
                max_size=60))
def test_any_configuration_traffic_keeps_bars_apart(steps):
    board = Board(slots=(2, 3))
    for slot, register, size, value in steps:
        board.out(slot, register, size, value)
        board.inp(slot, register ^ 4, size)
    for device in board.bus.devices:
        device.fields.set(device.fields.get())
    bars = sorted(place for device in board.bus.devices for place in device.bars.values())
    assert all(a[0] + a[1] <= b[0] for a, b in zip(bars, bars[1:]))
