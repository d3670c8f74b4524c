# ACPI fixed hardware against the specification (6.4, chapter 4.8).
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import PortFace, listen
from emu.base.clock import Clock
from emu.base.errors import SnapshotError
from emu.devices.acpi_pm import AcpiPm

STATUS, ENABLE, CONTROL, TIMER = 0, 2, 4, 8
TIMER_EVENT, GLOBAL_EVENT, BUTTON_EVENT = 0x001, 0x020, 0x100
HALF = 1 << 23


def ns_of(tick):
    """The first nanosecond of a tick of 315/88 MHz."""
    return -(-tick * 17600 // 63)


class Board:
    def __init__(self, *arguments):
        self.clock = Clock()
        self.pm = AcpiPm(self.clock, *arguments)
        self.face = PortFace(self.pm.region)


def test_timer_runs_at_3579545_hz_with_24_bits():
    board = Board()
    assert board.face.read(TIMER, 4) == 0
    board.clock.advance(10**9)
    assert board.face.read(TIMER, 4) == 3579545
    board.clock.advance(ns_of(1 << 24) - 1)
    assert board.face.read(TIMER, 4) == 0xFFFFFF
    board.clock.advance(ns_of(1 << 24))
    assert board.face.read(TIMER, 4) == 0
    board.clock.advance(ns_of((1 << 24) + 0x123456))
    assert [board.face.read(TIMER + k) for k in range(4)] == [0x56, 0x34, 0x12, 0]


def test_carry_of_the_highest_bit_sets_status():
    board = Board()
    board.clock.advance(ns_of(HALF) - 1)
    assert board.face.read(STATUS, 2) == 0
    board.clock.advance(ns_of(HALF))
    assert board.face.read(STATUS, 2) == TIMER_EVENT
    board.face.write(STATUS, TIMER_EVENT, 2)
    assert board.face.read(STATUS, 2) == 0
    board.clock.advance(ns_of(2 * HALF))
    assert board.face.read(STATUS, 2) == TIMER_EVENT


def test_carry_interrupts_when_enabled():
    board = Board()
    levels = listen(board.pm.sci)
    board.face.write(ENABLE, TIMER_EVENT, 2)
    for k in range(1, 5):
        board.clock.advance(ns_of(k * HALF) - 1)
        assert board.pm.sci.level == 0
        board.clock.advance(ns_of(k * HALF))
        assert board.pm.sci.level == 1
        board.face.write(STATUS, TIMER_EVENT, 2)
    assert levels == [1, 0] * 4


def test_power_button_asks_by_sci():
    board = Board()
    levels = listen(board.pm.sci)
    board.pm.press_power_button()
    assert (board.face.read(STATUS, 2), levels) == (BUTTON_EVENT, [])
    board.face.write(ENABLE, BUTTON_EVENT, 2)
    assert levels == [1]
    board.face.write(STATUS, TIMER_EVENT, 2)
    assert levels == [1]
    board.face.write(STATUS + 1, BUTTON_EVENT >> 8)
    assert levels == [1, 0]
    board.pm.power_button.drive(1)
    assert levels == [1, 0, 1]


def test_sci_follows_sci_en():
    board = Board()
    assert board.face.read(CONTROL, 2) == 1
    board.face.write(ENABLE, BUTTON_EVENT, 2)
    board.face.write(CONTROL, 0, 2)
    board.pm.press_power_button()
    assert board.pm.sci.level == 0
    board.face.write(CONTROL, 1, 2)
    assert board.pm.sci.level == 1


def test_unused_bits_do_not_stick():
    board = Board()
    board.face.write(ENABLE, 0xFFFF, 2)
    board.face.write(CONTROL, 0xDFFF, 2)
    rtc_event = 1 << 10                                  # ACPI 6.4, 4.8.3.1.2: RTC_EN
    assert board.face.read(ENABLE, 2) == TIMER_EVENT | GLOBAL_EVENT | BUTTON_EVENT | rtc_event
    assert board.face.read(CONTROL, 2) == 0x1C01
    assert board.face.read(6, 2) == 0


@pytest.mark.parametrize("offered", range(8))
def test_only_the_sleep_type_of_s5_switches_off(offered):
    for kind in range(8):
        board = Board(offered)
        levels = listen(board.pm.power_off)
        board.face.write(CONTROL, 1 | kind << 10, 2)
        assert levels == []
        board.face.write(CONTROL, 1 | kind << 10 | 0x2000, 2)
        assert levels == ([1] if kind == offered else [])
        assert board.face.read(CONTROL, 2) & 0x2000 == 0


def test_sleep_by_a_write_of_the_high_byte():
    board = Board()
    board.face.write(CONTROL + 1, (5 << 10 | 0x2000) >> 8)
    assert board.pm.power_off.level == 1


def test_reset_forgets_events():
    board = Board()
    board.face.write(ENABLE, BUTTON_EVENT, 2)
    board.pm.press_power_button()
    board.pm.reset()
    assert (board.face.read(STATUS, 2), board.face.read(ENABLE, 2), board.pm.sci.level) == (0, 0, 0)


@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 255), st.integers(0, 3 * 10**9)), max_size=30))
def test_any_writes_keep_state_valid(steps):
    board = Board()
    for offset, value, wait in steps:
        board.face.write(offset, value)
        board.face.read(offset & 8, 4)
        board.clock.advance(board.clock.now_ns + wait)
        board.pm.fields.set(board.pm.fields.get())
        status, enable = board.face.read(STATUS, 2), board.face.read(ENABLE, 2)
        assert board.pm.sci.level == int(bool(status & enable and board.face.read(CONTROL) & 1))


@pytest.mark.parametrize("name, value", [("status", 2), ("enable", 0x8000), ("control", 0x2000), ("sci", 2)])
def test_impossible_state_is_refused(name, value):
    pm = Board().pm
    before = pm.fields.get()
    with pytest.raises(SnapshotError):
        pm.fields.set({**before, name: value})
    assert pm.fields.get() == before


def test_sleep_type_is_checked():
    with pytest.raises(ValueError):
        AcpiPm(Clock(), 8)
