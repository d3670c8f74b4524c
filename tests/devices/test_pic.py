# The 8259A pair against its datasheet (Intel 231468).
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import PortFace
from emu.base.errors import SnapshotError
from emu.devices.pic import Pic

EOI = 0x20
READ_IRR, READ_ISR = 0x0A, 0x0B
POLL = 0x0C
SPECIAL_MASK, NO_SPECIAL_MASK = 0x68, 0x48


class Pair:
    def __init__(self, icw1=0x11, master_icw4=0x01, slave_icw4=0x01):
        self.pic = Pic()
        self.master = PortFace(self.pic.master)
        self.slave = PortFace(self.pic.slave)
        self.elcr = PortFace(self.pic.elcr)
        self.inputs = {n: self.pic.input(n) for n in range(16) if n != 2}
        for chip, base, cascade, icw4 in ((self.master, 0x20, 4, master_icw4), (self.slave, 0x28, 2, slave_icw4)):
            chip.write(0, icw1)
            chip.write(1, base)
            chip.write(1, cascade)
            if icw1 & 1:
                chip.write(1, icw4)

    def up(self, *numbers):
        for number in numbers:
            self.inputs[number].drive(1)

    def down(self, *numbers):
        for number in numbers:
            self.inputs[number].drive(0)

    @property
    def asks(self):
        return bool(self.pic.output.level)

    def take(self):
        assert self.asks
        return self.pic.acknowledge()

    def irr(self, chip="master"):
        getattr(self, chip).write(0, READ_IRR)
        return getattr(self, chip).read(0)

    def isr(self, chip="master"):
        getattr(self, chip).write(0, READ_ISR)
        return getattr(self, chip).read(0)


def test_before_initialization_nothing_is_requested():
    pic = Pic()
    pic.input(1).drive(1)
    assert pic.output.level == 0


def test_mask_register_can_be_probed_before_initialization():
    pic = Pic()
    master = PortFace(pic.master)
    master.write(1, 0xFB)
    assert master.read(1) == 0xFB


@pytest.mark.parametrize("number", [n for n in range(16) if n != 2])
def test_request_gives_its_vector_and_is_in_service_until_eoi(number):
    pair = Pair()
    pair.up(number)
    assert pair.take() == 0x20 + number
    assert not pair.asks
    assert pair.isr() == (1 << number if number < 8 else 4)
    assert pair.isr("slave") == (0 if number < 8 else 1 << number - 8)
    if number >= 8:
        pair.slave.write(0, EOI)
    pair.master.write(0, EOI)
    assert pair.isr() == pair.isr("slave") == 0
    assert not pair.asks                                # an edge counts once


def test_edge_request_is_lost_when_input_falls_before_acknowledge():
    pair = Pair()
    pair.up(3)
    pair.down(3)
    assert not pair.asks
    assert pair.pic.acknowledge() == 0x27               # default IR7
    assert pair.isr() == 0


def test_spurious_slave_request_leaves_cascade_in_service():
    pair = Pair()
    # The slave's request is withdrawn between the master's decision and the slave's: IRQ 15, no bit in the slave's ISR.
    pair.up(12)
    values = pair.pic.fields.get()
    values["slave_irr"] = 0
    pair.pic.fields.set(values)
    assert pair.take() == 0x2F
    assert pair.isr("slave") == 0
    assert pair.isr() == 4


def test_fully_nested_higher_interrupts_lower_waits():
    pair = Pair()
    pair.up(4)
    assert pair.take() == 0x24
    pair.up(6)
    assert not pair.asks
    pair.up(1)
    assert pair.take() == 0x21
    pair.master.write(0, EOI)                           # non-specific: the highest in service
    assert pair.isr() == 1 << 4
    assert not pair.asks
    pair.master.write(0, EOI)
    assert pair.take() == 0x26


def test_master_priority_order_has_slave_at_ir2():
    pair = Pair()
    pair.up(0, 1, 3, 4, 5, 6, 7, *range(8, 16))
    order = []
    while pair.asks:
        vector = pair.take()
        order.append(vector - 0x20)
        if vector >= 0x28:
            pair.slave.write(0, EOI)
        pair.master.write(0, EOI)
    assert order == [0, 1, *range(8, 16), 3, 4, 5, 6, 7]


def test_mask_holds_request_back_but_keeps_it():
    pair = Pair()
    pair.master.write(1, 0x08)
    pair.up(3)
    assert not pair.asks
    assert pair.irr() == 0x08
    pair.master.write(1, 0)
    assert pair.take() == 0x23
    assert pair.irr() == 0


def test_specific_eoi_ends_only_its_level():
    pair = Pair()
    pair.up(4)
    pair.take()
    pair.up(1)
    pair.take()
    pair.master.write(0, 0x60 | 4)
    assert pair.isr() == 1 << 1


def test_rotate_on_non_specific_eoi_makes_level_lowest():
    # Datasheet, figure of automatic rotation: IR4 in service, then IR5 is the highest.
    pair = Pair()
    pair.up(4, 6)
    assert pair.take() == 0x24
    pair.master.write(0, 0xA0)
    pair.up(5, 0)
    assert [pair.take(), pair.master.write(0, EOI), pair.take(), pair.master.write(0, EOI), pair.take()] == [
        0x25, None, 0x26, None, 0x20]


def test_set_priority_rotates_the_order():
    pair = Pair()
    pair.master.write(0, 0xC0 | 5)                      # IR5 lowest, IR6 highest
    pair.up(0, 5, 6, 7)
    order = []
    while pair.asks:
        order.append(pair.take() - 0x20)
        pair.master.write(0, EOI)
    assert order == [6, 7, 0, 5]


def test_rotate_on_specific_eoi():
    pair = Pair()
    pair.up(2 + 1)
    pair.take()
    pair.master.write(0, 0xE0 | 3)
    pair.up(0, 4)
    assert pair.take() == 0x24
    assert pair.isr() == 1 << 4


def test_automatic_eoi_leaves_nothing_in_service():
    pair = Pair(master_icw4=3)
    pair.up(3, 4)
    assert pair.take() == 0x23
    assert pair.isr() == 0
    assert pair.take() == 0x24


def test_automatic_eoi_in_slave_gives_the_next_request_an_edge():
    pair = Pair(master_icw4=3, slave_icw4=3)
    pair.up(9, 10)
    assert [pair.take(), pair.take()] == [0x29, 0x2A]
    assert not pair.asks


def test_rotate_in_automatic_eoi_mode():
    pair = Pair(master_icw4=3)
    pair.master.write(0, 0x80)
    pair.up(0)
    assert pair.take() == 0x20
    pair.down(0)
    pair.up(0, 1)
    assert [pair.take(), pair.take()] == [0x21, 0x20]
    pair.master.write(0, 0x00)
    pair.down(0, 1)
    pair.up(0, 1)
    assert pair.take() == 0x21                          # IR0 stays where the rotation left it: lowest


def test_special_mask_lets_lower_levels_through():
    pair = Pair()
    pair.up(3)
    pair.take()
    pair.up(5)
    assert not pair.asks
    pair.master.write(1, 1 << 3)
    assert not pair.asks
    pair.master.write(0, SPECIAL_MASK)
    assert pair.take() == 0x25
    pair.master.write(0, EOI)                           # does not clear the level that is masked
    assert pair.isr() == 1 << 3
    pair.master.write(0, NO_SPECIAL_MASK)
    pair.master.write(0, EOI)
    assert pair.isr() == 0


def test_special_fully_nested_takes_higher_request_of_the_slave():
    for icw4, expected in ((0x01, False), (0x11, True)):
        pair = Pair(master_icw4=icw4)
        pair.up(12)
        assert pair.take() == 0x2C
        pair.up(9)
        assert pair.asks == expected
        if expected:
            assert pair.take() == 0x29


def test_poll_acknowledges_and_tells_the_level():
    pair = Pair()
    pair.master.write(0, POLL)
    assert pair.master.read(0) & 0x80 == 0
    pair.up(5)
    pair.master.write(0, POLL)
    assert pair.master.read(0) == 0x85
    assert pair.isr() == 1 << 5
    assert not pair.asks
    pair.up(11)
    pair.slave.write(0, POLL)
    assert pair.slave.read(0) == 0x83
    assert pair.isr("slave") == 1 << 3
    assert not pair.asks


def test_level_triggered_by_elcr_asks_as_long_as_high():
    pair = Pair()
    pair.elcr.write(1, 0x0C)                            # IRQ 10, 11
    pair.up(11)
    assert pair.take() == 0x2B
    pair.slave.write(0, EOI)
    pair.master.write(0, EOI)
    assert pair.take() == 0x2B
    pair.down(11)
    pair.slave.write(0, EOI)
    pair.master.write(0, EOI)
    assert not pair.asks


def test_elcr_has_only_the_bits_of_the_chipset():
    pair = Pair()
    pair.elcr.write(0, 0xFFFF, 2)
    assert pair.elcr.read(0, 2) == 0xDEF8
    assert pair.master.read(0) == 0


def test_level_triggered_by_icw1():
    pair = Pair(icw1=0x19)
    pair.up(4)
    assert pair.take() == 0x24
    pair.master.write(0, EOI)
    assert pair.take() == 0x24


def test_icw1_clears_mask_and_edges():
    pair = Pair()
    pair.up(5)
    pair.master.write(1, 0xFF)
    pair.master.write(0, 0x11)
    pair.master.write(1, 0x40)
    pair.master.write(1, 0x04)
    assert not pair.asks
    pair.master.write(1, 0x01)
    assert pair.master.read(1) == 0
    assert not pair.asks                                # an edge is needed anew
    pair.down(5)
    pair.up(5)
    assert pair.take() == 0x45


def test_icw_without_icw3_and_icw4():
    pair = Pair()
    pair.master.write(0, 0x12)                          # single, no ICW4
    pair.master.write(1, 0x57)
    pair.master.write(1, 0xF0)                          # this is OCW1 already
    assert pair.master.read(1) == 0xF0
    pair.up(3)
    assert pair.take() == 0x53


def test_register_choice_stays_until_changed():
    pair = Pair()
    pair.up(1)
    pair.take()
    pair.master.write(0, READ_ISR)
    pair.master.write(0, SPECIAL_MASK)
    assert pair.master.read(0) == 2
    assert pair.master.read(0) == 2


@given(st.lists(st.tuples(st.sampled_from(("master", "slave", "elcr", "read", "wire", "take")),
                          st.integers(0, 15), st.integers(0, 255)), max_size=60))
def test_any_sequence_keeps_state_valid_and_output_consistent(steps):
    pair = Pair()
    for what, number, value in steps:
        if what == "wire":
            if number != 2:
                pair.inputs[number].drive(value & 1)
        elif what == "read":
            pair.master.read(number & 1), pair.slave.read(number & 1)
        elif what == "take":
            asked = pair.asks
            vector = pair.pic.acknowledge()
            assert 0 <= vector <= 0xFF
            if not asked:
                assert vector & 7 == 7
        else:
            getattr(pair, what).write(number & 1, value)
        values = pair.pic.fields.get()
        pair.pic.fields.set(values)
        if pair.asks:
            assert values["master_irr"] & ~values["master_imr"]


@pytest.mark.parametrize("name, value", [("master_lowest", 8), ("slave_expected", 1), ("slave_expected", 5),
                                         ("master_vector_base", 0x21), ("master_level_triggered", 1), ("output", 2)])
def test_impossible_state_is_refused(name, value):
    pic = Pair().pic
    before = pic.fields.get()
    with pytest.raises(SnapshotError):
        pic.fields.set({**before, name: value})
    assert pic.fields.get() == before


def test_wires_that_are_not_there_are_refused():
    for number in (-1, 2, 16):
        with pytest.raises(ValueError):
            Pic().input(number)
