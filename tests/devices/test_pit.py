# The 8254 against its datasheet (Intel 231164): the waveforms it prints, and a model that steps every clock.
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import PortFace, listen
from emu.base.clock import Clock
from emu.base.errors import SnapshotError
from emu.devices.pit import Pit

CONTROL = 3


def ns_of(tick):
    """The first nanosecond of a tick: 21 ticks take 17,600 ns."""
    return -(-tick * 17600 // 21)


class Board:
    def __init__(self):
        self.clock = Clock()
        self.pit = Pit(self.clock)
        self.counters = PortFace(self.pit.counters)
        self.speaker = PortFace(self.pit.speaker)
        self.tick = 0

    def at(self, tick):
        self.tick = tick
        self.clock.advance(ns_of(tick))

    def gate(self, level):
        self.speaker.write(0, level)

    def program(self, channel, mode, count, access=3, bcd=0):
        self.counters.write(CONTROL, channel << 6 | access << 4 | mode << 1 | bcd)
        if access & 1:
            self.counters.write(channel, count & 0xFF)
        if access & 2:
            self.counters.write(channel, count >> 8)

    def count(self, channel):
        self.counters.write(CONTROL, channel << 6)
        return self.counters.read(channel) | self.counters.read(channel) << 8

    def status(self, channel):
        self.counters.write(CONTROL, 0xE0 | 2 << channel)
        return self.counters.read(channel)

    def out(self, channel):
        return self.status(channel) >> 7

    def wave(self, channel, first, number):
        """(OUT, count) at `number` ticks from `first` on."""
        points = []
        for tick in range(first, first + number):
            self.at(tick)
            points.append((self.out(channel), self.count(channel)))
        return points


# ---- the datasheet's figures: control word and count written in tick 0, gate high unless said

def test_mode0_waveform():
    board = Board()
    board.program(0, 0, 4)
    assert board.out(0) == 0
    assert board.wave(0, 1, 7) == [(0, 4), (0, 3), (0, 2), (0, 1), (1, 0), (1, 0xFFFF), (1, 0xFFFE)]


def test_mode0_gate_low_holds_the_count():
    board = Board()
    board.gate(1)
    board.program(2, 0, 3)
    assert board.wave(2, 1, 2) == [(0, 3), (0, 2)]
    board.gate(0)
    assert board.wave(2, 3, 3) == [(0, 2)] * 3
    board.gate(1)
    assert board.wave(2, 6, 3) == [(0, 1), (1, 0), (1, 0xFFFF)]


def test_mode0_new_count_restarts_and_first_byte_stops():
    board = Board()
    board.program(0, 0, 0x0103)
    board.at(3)
    board.counters.write(0, 2)
    assert board.wave(0, 4, 2) == [(0, 0x0101)] * 2
    board.counters.write(0, 0)
    assert board.wave(0, 6, 3) == [(0, 2), (0, 1), (1, 0)]


def test_mode1_one_shot_and_retrigger():
    board = Board()
    board.program(2, 1, 3)
    board.at(4)
    assert board.out(2) == 1
    board.gate(1)
    assert board.wave(2, 5, 5) == [(0, 3), (0, 2), (0, 1), (1, 0), (1, 0xFFFF)]
    board.gate(0)
    board.gate(1)
    assert board.wave(2, 10, 2) == [(0, 3), (0, 2)]
    board.gate(0)
    board.gate(1)
    assert board.wave(2, 12, 4) == [(0, 3), (0, 2), (0, 1), (1, 0)]


def test_mode2_rate_generator():
    board = Board()
    board.program(0, 2, 3)
    assert board.wave(0, 1, 7) == [(1, 3), (1, 2), (0, 1), (1, 3), (1, 2), (0, 1), (1, 3)]


def test_mode2_new_count_waits_for_the_end_of_the_period():
    board = Board()
    board.program(0, 2, 4)
    board.at(2)
    board.counters.write(0, 5)
    board.counters.write(0, 0)
    assert board.status(0) & 0x40                       # null count
    assert board.wave(0, 3, 4) == [(1, 2), (0, 1), (1, 5), (1, 4)]
    assert not board.status(0) & 0x40


def test_mode2_gate_low_raises_out_and_high_reloads():
    board = Board()
    board.gate(1)
    board.program(2, 2, 3)
    board.at(3)
    assert board.out(2) == 0
    board.gate(0)
    assert board.wave(2, 3, 3) == [(1, 1)] * 3
    board.gate(1)
    assert board.wave(2, 6, 3) == [(1, 3), (1, 2), (0, 1)]


def test_mode3_even_count():
    board = Board()
    board.program(0, 3, 4)
    assert board.wave(0, 1, 8) == [(1, 4), (1, 2), (0, 4), (0, 2)] * 2


def test_mode3_odd_count():
    board = Board()
    board.program(0, 3, 5)
    assert board.wave(0, 1, 10) == [(1, 4), (1, 2), (1, 0), (0, 4), (0, 2)] * 2


def test_mode3_odd_count_is_loaded_even_while_the_gate_is_low():
    board = Board()
    board.program(2, 3, 5)
    assert board.wave(2, 1, 2) == [(1, 4), (1, 4)]


def test_mode4_software_strobe():
    board = Board()
    board.program(0, 4, 3)
    assert board.wave(0, 1, 6) == [(1, 3), (1, 2), (1, 1), (0, 0), (1, 0xFFFF), (1, 0xFFFE)]


def test_mode5_hardware_strobe():
    board = Board()
    board.program(2, 5, 3)
    board.at(4)
    board.gate(1)
    assert board.wave(2, 5, 5) == [(1, 3), (1, 2), (1, 1), (0, 0), (1, 0xFFFF)]


@pytest.mark.parametrize("mode", [6, 7])
def test_modes_6_and_7_are_2_and_3_and_read_back_as_written(mode):
    board = Board()
    board.program(0, mode, 4)
    assert board.status(0) & 0x3F == 0x30 | mode << 1
    board.at(3)
    assert board.count(0) == (2 if mode == 6 else 4)


def test_bcd_counts_in_tens():
    board = Board()
    board.program(0, 0, 0x1000, bcd=1)
    board.at(2)
    assert board.count(0) == 0x0999
    board.at(1001)
    assert (board.out(0), board.count(0)) == (1, 0)
    board.at(1002)
    assert board.count(0) == 0x9999


@pytest.mark.parametrize("bcd, largest", [(0, 0x10000), (1, 10000)])
def test_count_0_is_the_largest(bcd, largest):
    board = Board()
    board.program(0, 0, 0, bcd=bcd)
    board.at(largest)
    assert board.out(0) == 0
    board.at(largest + 1)
    assert board.out(0) == 1


def test_access_to_one_byte_of_the_count():
    board = Board()
    board.counters.write(CONTROL, 0x10)                 # low byte only
    board.counters.write(0, 0x40)
    board.at(1)
    assert [board.counters.read(0), board.counters.read(0)] == [0x40, 0x40]
    board.counters.write(CONTROL, 0x20)                 # high byte only
    board.counters.write(0, 0x12)
    board.at(2)
    assert board.counters.read(0) == 0x12


def test_unlatched_read_is_low_then_high():
    board = Board()
    board.program(0, 0, 0x1234)
    board.at(1)
    assert [board.counters.read(0), board.counters.read(0)] == [0x34, 0x12]


def test_latch_holds_first_value_until_read():
    board = Board()
    board.program(0, 0, 0x1000)
    board.at(1)
    board.counters.write(CONTROL, 0x00)
    board.at(100)
    board.counters.write(CONTROL, 0x00)                 # ignored
    assert board.counters.read(0) | board.counters.read(0) << 8 == 0x1000
    assert board.count(0) == 0x1000 - 99


def test_read_back_gives_status_before_count():
    board = Board()
    board.program(0, 2, 0x1000)
    board.program(1, 3, 0x2000)
    board.at(1)
    board.counters.write(CONTROL, 0xC6)                 # count and status of 0 and 1
    board.at(50)
    assert [board.counters.read(0) for _ in range(3)] == [0xB4, 0x00, 0x10]
    assert [board.counters.read(1) for _ in range(3)] == [0xB6, 0x00, 0x20]


def test_null_count_is_set_until_the_count_is_loaded():
    board = Board()
    board.counters.write(CONTROL, 0x30)
    assert board.status(0) & 0x40
    board.program(0, 0, 5)
    assert board.status(0) & 0x40
    board.at(1)
    assert not board.status(0) & 0x40


def test_control_register_cannot_be_read():
    assert Board().counters.read(CONTROL) == 0xFF


# ---- rates, port 0x61

def test_channel0_in_mode2_gives_1193181_edges_over_65536_a_second():
    board = Board()
    levels = listen(board.pit.output)
    board.program(0, 2, 11932)                          # 100 Hz, what Linux asks for at HZ = 100
    board.clock.advance(10**9)
    assert levels.count(0) == 1193181 // 11932
    levels.clear()
    board.program(0, 2, 0)
    board.clock.advance(2 * 10**9)
    assert levels.count(0) == 18                        # the PC's 18.2 Hz


def test_channel2_calibration_as_kernels_do_it():
    """Gate on, speaker off, mode 0, one 50 ms count; then OUT2 is polled at port 0x61."""
    board = Board()
    board.speaker.write(0, 1)
    board.program(2, 0, 59659)                          # 1193182 / 20
    start = board.clock.now_ns
    while not board.speaker.read(0) & 0x20:
        board.clock.advance(board.clock.now_ns + 100)
    assert abs(board.clock.now_ns - start - 50_000_000) < 1500


def test_port61_keeps_low_bits_and_toggles_refresh():
    board = Board()
    board.speaker.write(0, 0xFF)
    assert board.speaker.read(0) & 0xCF == 0x0F
    changes, last = 0, board.speaker.read(0) & 0x10
    for now in range(0, 1_000_000, 1000):
        board.clock.advance(now)
        level = board.speaker.read(0) & 0x10
        changes += level != last
        last = level
    assert abs(changes - 1_000_000 // 15085) <= 1


@pytest.mark.parametrize("mode", [2, 3])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_shortest_periods_make_at_most_one_event_a_tick(mode, count):
    board = Board()
    levels = listen(board.pit.output)
    board.program(0, mode, count)
    board.clock.advance(ns_of(1000))
    assert len(levels) <= 1001


def test_periods_nobody_saw_cost_nothing():
    board = Board()
    board.program(1, 2, 2)
    board.gate(1)
    board.program(2, 3, 7)
    board.clock.advance(10**18)
    tick = 10**18 * 21 // 17600
    assert board.count(1) == 2 - (tick - 1) % 2
    assert board.out(2) == int((tick - 1) % 7 < 4)


# ---- a model that goes clock by clock, written from the mode definitions

class Model:
    """Channel 2 of an 8254, one method call a CLK; writes of whole counts only."""

    def __init__(self):
        self.mode, self.out, self.element, self.gate = 0, 0, 0, 0
        self.register = None
        self.running = self.load = self.armed = self.loaded = self.odd = False

    def control(self, mode):
        self.mode, self.out = mode, int(mode != 0)
        self.register = None
        self.running = self.load = self.armed = self.loaded = False

    def write(self, count):
        self.register = count or 0x10000
        if self.mode == 0:
            self.out, self.running, self.armed = 0, False, False
        if self.mode in (0, 4) or (self.mode in (2, 3) and not self.loaded):
            self.load = True

    def set_gate(self, level):
        rose = level and not self.gate
        fell = self.gate and not level
        self.gate = level
        if rose and self.mode in (1, 2, 3, 5) and self.register is not None:
            self.load = True
        if fell and self.mode in (2, 3):
            self.out = 1

    def clk(self):
        if self.load:
            self.load, self.running, self.armed, self.loaded = False, True, True, True
            self.begin()
            if self.mode == 1:
                self.out = 0
            elif self.mode in (2, 3, 4):
                self.out = 1
            return
        if not self.running:
            return
        if self.mode in (4, 5) and self.out == 0 and (self.gate or self.mode == 5):
            self.out = 1
        if self.mode in (0, 2, 3, 4) and not self.gate:
            return
        if self.mode == 3:
            self.element -= 2
            if self.element == (-2 if self.odd and self.out else 0):
                self.out ^= 1
                self.begin()
        else:
            self.element -= 1
            if self.mode == 2:
                if self.element == 0:
                    self.out = 1
                    self.begin()
                elif self.element == 1:
                    self.out = 0
            elif self.element == 0 and self.armed:
                self.armed = False
                self.out = 0 if self.mode >= 4 else 1

    def begin(self):
        self.element = self.register
        self.odd = self.register % 2 == 1
        if self.mode == 3:
            self.element &= ~1


STEPS = st.lists(st.one_of(
    st.tuples(st.just("control"), st.integers(0, 5)),
    st.tuples(st.just("write"), st.one_of(st.integers(2, 12), st.just(0), st.integers(2, 0xFFFF))),
    st.tuples(st.just("gate"), st.integers(0, 1)),
    st.tuples(st.just("clocks"), st.integers(1, 40))), max_size=30)


@settings(max_examples=300, deadline=None)
@given(STEPS)
def test_any_sequence_agrees_with_stepping_every_clock(steps):
    board, model = Board(), Model()
    board.counters.write(CONTROL, 0xB0)
    model.control(0)
    for what, value in steps:
        if what == "control":
            board.counters.write(CONTROL, 0xB0 | value << 1)
            model.control(value)
        elif what == "write":
            board.counters.write(2, value & 0xFF)
            board.counters.write(2, value >> 8)
            model.write(value)
        elif what == "gate":
            board.gate(value)
            model.set_gate(value)
        else:
            for _ in range(value):
                board.at(board.tick + 1)
                model.clk()
                assert board.out(2) == model.out
                if model.loaded:
                    assert board.count(2) == model.element & 0xFFFF
        # A strobe of mode 4 that the gate cuts short ends at once here; the model ends it when the gate comes back.
        if model.mode == 4 and model.out == 0 and not model.gate:
            model.out = 1


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 255), st.integers(0, 10**6)), max_size=40))
def test_any_writes_keep_state_valid_and_time_going(steps):
    board = Board()
    for offset, value, wait in steps:
        if offset == 4:
            board.speaker.write(0, value)
        else:
            board.counters.write(offset, value)
            board.counters.read(offset)
        board.clock.advance(board.clock.now_ns + wait)
        board.pit.fields.set(board.pit.fields.get())


def test_restored_pit_goes_on_at_the_same_tick():
    board = Board()
    board.program(0, 2, 1000)
    board.at(1500)
    saved, now = board.pit.fields.get(), board.clock.fields.get()
    other = Board()
    other.clock.fields.set(now)
    other.pit.fields.set(saved)
    for each in (board, other):
        each.levels = listen(each.pit.output)
        each.clock.advance(ns_of(10_000))
    assert board.levels == other.levels != []
    assert board.pit.fields.get() == other.pit.fields.get()


@pytest.mark.parametrize("name, value", [("channel0_control", 0x40), ("channel0_control", 0x0F), ("channel1_value", 0x10001),
                                         ("channel2_gate", 2), ("channel2_count_latched", 3), ("speaker", 0x10), ("output", 5)])
def test_impossible_state_is_refused(name, value):
    pit = Board().pit
    before = pit.fields.get()
    with pytest.raises(SnapshotError):
        pit.fields.set({**before, name: value})
    assert pit.fields.get() == before
