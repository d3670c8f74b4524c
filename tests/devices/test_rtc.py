# The MC146818 against its datasheet, and its calendar against Python's.
import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import PortFace, listen
from emu.base.clock import Clock
from emu.base.errors import SnapshotError
from emu.devices.rtc import Rtc

SECOND = 10**9
START = 1_700_000_000
A, B, C, D = 10, 11, 12, 13
CENTURY = 0x32
SET, PIE, AIE, UIE, BINARY, H24 = 0x80, 0x40, 0x20, 0x10, 0x04, 0x02
IRQF, PF, AF, UF = 0x80, 0x40, 0x20, 0x10
UTC = datetime.timezone.utc


class Board:
    def __init__(self, start=START):
        self.clock = Clock()
        self.rtc = Rtc(self.clock, start)
        self.face = PortFace(self.rtc.region)

    def read(self, index):
        self.face.write(0, index)
        return self.face.read(1)

    def write(self, index, value):
        self.face.write(0, index)
        self.face.write(1, value)

    def wait(self, ns):
        self.clock.advance(self.clock.now_ns + ns)

    def number(self, index):
        value = self.read(index)
        return value if self.read(B) & BINARY else (value >> 4) * 10 + (value & 15)

    def date(self):
        hour = self.read(4)
        if self.read(B) & H24:
            hour = self.number(4)
        else:
            plain = hour & 0x7F
            plain = plain if self.read(B) & BINARY else (plain >> 4) * 10 + (plain & 15)
            hour = plain % 12 + (12 if hour & 0x80 else 0)
        return datetime.datetime(self.number(CENTURY) * 100 + self.number(9), self.number(8), self.number(7), hour,
                                 self.number(2), self.number(0), tzinfo=UTC)


def date_of(seconds):
    return datetime.datetime(1970, 1, 1, tzinfo=UTC) + datetime.timedelta(seconds=seconds)


@given(st.integers(0, 253402300799), st.sampled_from([H24, H24 | BINARY, 0, BINARY]))
def test_time_is_that_of_the_calendar_in_every_format(seconds, style):
    board = Board()
    board.write(B, style)
    board.rtc.set_time(seconds)
    assert board.date() == date_of(seconds)
    assert board.number(6) == date_of(seconds).isoweekday() % 7 + 1


@settings(deadline=None)
@given(st.integers(0, 253402300799 - 10**9), st.integers(0, 10**9))
def test_time_goes_on_through_months_years_and_centuries(seconds, later):
    board = Board(seconds)
    board.wait(later * SECOND)
    assert board.date() == date_of(seconds + later)
    assert board.number(6) == date_of(seconds + later).isoweekday() % 7 + 1


def test_time_after_1999_carries_into_the_century():
    board = Board(int(datetime.datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp()))
    board.wait(SECOND)
    assert (board.read(CENTURY), board.read(9), board.read(8), board.read(7), board.read(4)) == (0x20, 0, 1, 1, 0)


def test_times_out_of_the_calendar_are_refused():
    with pytest.raises(ValueError):
        Rtc(Clock(), 253402300800)


def test_bcd_24_hours_is_the_default():
    board = Board(int(datetime.datetime(2023, 11, 14, 22, 13, 59, tzinfo=UTC).timestamp()))
    assert [board.read(n) for n in (0, 2, 4, 7, 8, 9, CENTURY)] == [0x59, 0x13, 0x22, 0x14, 0x11, 0x23, 0x20]
    assert (board.read(A) & 0x7F, board.read(B), board.read(D)) == (0x26, 0x02, 0x80)


def test_update_in_progress_is_set_2228_us_before_the_second():
    board = Board()
    seconds = board.read(0)
    board.clock.advance(SECOND - 2_228_001)
    assert not board.read(A) & 0x80
    board.wait(1)
    assert board.read(A) & 0x80
    board.clock.advance(SECOND - 1)
    assert board.read(A) & 0x80
    assert board.read(0) == seconds
    board.clock.advance(SECOND)
    assert not board.read(A) & 0x80
    assert board.read(0) != seconds


def test_set_holds_the_time_and_lets_it_be_written():
    board = Board()
    board.write(B, H24 | SET | UIE)
    assert board.read(B) == H24 | SET                   # SET clears UIE
    for index, value in ((0, 0x58), (2, 0x59), (4, 0x23), (7, 0x28), (8, 0x02), (9, 0x24), (CENTURY, 0x20)):
        board.write(index, value)
    board.wait(5 * SECOND)
    assert not board.read(A) & 0x80
    assert board.read(0) == 0x58
    assert board.read(C) == PF                          # no update cycle, no flag but the divider's
    board.write(B, H24)
    board.wait(2 * SECOND)
    assert board.date() == datetime.datetime(2024, 2, 29, tzinfo=UTC)


def test_first_update_comes_half_a_second_after_divider_reset():
    board = Board()
    board.write(A, 0x70)
    board.wait(10 * SECOND)
    assert board.date() == date_of(START)
    board.write(A, 0x26)
    board.wait(SECOND // 2 - 1)
    assert board.date() == date_of(START)
    board.wait(1)
    assert board.date() == date_of(START + 1)


@pytest.mark.parametrize("rate, frequency", [(1, 256), (2, 128), (3, 8192), (6, 1024), (10, 64), (15, 2)])
def test_periodic_interrupt_has_its_rate(rate, frequency):
    board = Board()
    levels = listen(board.rtc.output)
    board.write(A, 0x20 | rate)
    board.write(B, H24 | PIE)
    count = 0
    while board.clock.now_ns < SECOND:
        board.wait(50_000)
        if board.rtc.output.level:
            assert board.read(C) == IRQF | PF | (UF if board.clock.now_ns >= SECOND else 0)
            count += 1
    assert count == frequency
    assert levels == [1, 0] * frequency


def test_periodic_ticks_fall_on_the_second():
    board = Board()
    board.write(A, 0x2F)
    board.write(B, H24 | PIE)
    board.clock.advance(SECOND // 2 - 1)
    assert board.rtc.output.level == 0
    board.clock.advance(SECOND // 2)
    assert board.rtc.output.level == 1


def test_unacknowledged_periodic_interrupt_stays_one():
    board = Board()
    levels = listen(board.rtc.output)
    board.write(A, 0x23)
    board.write(B, H24 | PIE)
    board.wait(10 * SECOND)
    assert levels == [1]


def test_update_interrupt_comes_every_second():
    board = Board()
    levels = listen(board.rtc.output)
    board.write(B, H24 | UIE)
    for second in range(1, 5):
        board.clock.advance(second * SECOND - 1)
        assert board.rtc.output.level == 0
        board.clock.advance(second * SECOND)
        assert board.rtc.output.level == 1
        assert board.read(C) == IRQF | UF | PF          # the divider's tap has set PF meanwhile
    assert levels == [1, 0] * 4


@pytest.mark.parametrize("style", [H24, 0, H24 | BINARY, BINARY])
def test_alarm_comes_at_its_time(style):
    board = Board()
    board.write(B, style)
    board.rtc.set_time(int(datetime.datetime(2024, 1, 1, 22, 59, 50, tzinfo=UTC).timestamp()))

    def form(value):
        return value if style & BINARY else value // 10 * 16 + value % 10

    hour = form(23) if style & H24 else form(11) | 0x80
    for index, value in ((1, form(0)), (3, form(0)), (5, hour)):
        board.write(index, value)
    board.write(B, style | AIE)
    board.wait(10 * SECOND - 1)
    assert board.rtc.output.level == 0
    board.wait(1)
    assert board.rtc.output.level == 1
    assert board.read(C) & (IRQF | AF) == IRQF | AF
    board.wait(24 * 3600 * SECOND - 1)
    assert board.rtc.output.level == 0
    board.wait(1)
    assert board.rtc.output.level == 1


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 86399), st.tuples(*[st.one_of(st.just(0xC0), st.integers(0, 59))] * 3))
def test_alarm_distance_agrees_with_a_search(second, alarm):
    board = Board()
    board.write(B, H24 | BINARY)
    board.rtc.set_time(START // 86400 * 86400 + second)
    for index, value in zip((5, 3, 1), alarm):
        board.write(index, value)
    board.write(B, H24 | BINARY | AIE)
    expected = next((k for k in range(1, 86401)
                     if all(want == 0xC0 or want == have for want, have in zip(alarm, (
                         (second + k) // 3600 % 24, (second + k) // 60 % 60, (second + k) % 60)))), None)
    deadline = board.rtc.fields.get()["deadline_ns"]
    assert deadline == (2**64 - 1 if expected is None else expected * SECOND)


def test_alarm_passed_while_nobody_looked_is_flagged():
    board = Board(START // 3600 * 3600)
    board.write(1, 0)
    board.write(3, 0x30)
    board.write(5, 0xFF)
    board.read(C)
    board.wait(1799 * SECOND)
    assert not board.read(C) & AF
    board.wait(2 * SECOND)
    assert board.read(C) & AF


def test_flags_without_enables_raise_no_interrupt():
    board = Board()
    levels = listen(board.rtc.output)
    board.wait(3 * SECOND)
    assert board.read(C) == UF | PF
    assert board.read(C) == 0
    assert levels == []


def test_enabling_an_interrupt_whose_flag_stands_asks_at_once():
    board = Board()
    board.wait(2 * SECOND)
    board.read(0)
    board.write(B, H24 | UIE)
    assert board.rtc.output.level == 1


def test_reset_pin_spares_time_and_ram():
    board = Board()
    board.write(0x40, 0x5A)
    board.write(B, H24 | UIE | PIE | AIE)
    board.wait(SECOND)
    board.rtc.reset()
    assert board.rtc.output.level == 0
    assert (board.read(B), board.read(C), board.read(0x40)) == (H24, 0, 0x5A)
    assert board.date() == date_of(START + 1)


def test_user_ram_for_board_and_guest():
    board = Board()
    board.rtc.write_nvram(0x10, 0xAB)
    assert board.read(0x10) == 0xAB
    board.write(0x80 | 0x7F, 0xCD)                      # bit 7 of the index is the NMI mask
    assert board.rtc.read_nvram(0x7F) == 0xCD
    for index in (0x0D, 0x80):
        with pytest.raises(ValueError):
            board.rtc.write_nvram(index, 0)
    assert board.face.read(0) == 0xFF
    board.write(D, 0)
    board.write(C, 0xFF)
    assert (board.read(D), board.read(C)) == (0x80, 0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 13), st.integers(0, 255), st.integers(0, 3 * SECOND)), max_size=40))
def test_any_writes_keep_state_valid_and_time_going(steps):
    board = Board()
    for index, value, wait in steps:
        board.write(index, value)
        board.wait(wait)
        board.read(index)
        board.rtc.fields.set(board.rtc.fields.get())


def test_restored_clock_goes_on_at_the_same_time():
    board = Board()
    board.write(B, H24 | PIE | UIE)
    board.wait(1_234_567_890)
    board.read(C)
    other = Board(0)
    other.clock.fields.set(board.clock.fields.get())
    other.rtc.fields.set(board.rtc.fields.get())
    for each in (board, other):
        each.levels = listen(each.rtc.output)
        each.wait(5 * SECOND)
        each.read(C)
    assert board.levels == other.levels == [1, 0]
    assert board.rtc.fields.get() == other.rtc.fields.get()


@pytest.mark.parametrize("place, value", [(A, 0x80), (C, 0x80), (D, 0)])
def test_impossible_state_is_refused(place, value):
    rtc = Board().rtc
    before = rtc.fields.get()
    ram = bytearray(before["ram"])
    ram[place] = value
    with pytest.raises(SnapshotError):
        rtc.fields.set({**before, "ram": bytes(ram)})
    with pytest.raises(SnapshotError):
        rtc.fields.set({**before, "index": 128})
    assert rtc.fields.get() == before
