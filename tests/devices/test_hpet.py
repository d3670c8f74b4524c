# The HPET against Intel's specification, revision 1.0a.
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import MemoryFace, listen
from emu.base.clock import Clock
from emu.base.errors import SnapshotError
from emu.base.line import python_listener
from emu.devices.hpet import Hpet

ID, CONFIG, STATUS, COUNTER = 0x000, 0x010, 0x020, 0x0F0
ENABLE, LEGACY = 1, 2
LEVEL, INTERRUPT, PERIODIC, PERIODIC_CAPABLE, WIDE_CAPABLE, SET_VALUE, NARROW = 0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x100
TICK = 10


def config_of(n):
    return 0x100 + 0x20 * n


def comparator_of(n):
    return 0x108 + 0x20 * n


class Board:
    def __init__(self):
        self.clock = Clock()
        self.hpet = Hpet(self.clock)
        self.face = MemoryFace(self.hpet.region)

    def read(self, offset, size=8):
        return self.face.read(offset, size)

    def write(self, offset, value, size=8):
        self.face.write(offset, value, size)

    def ticks(self, number):
        self.clock.advance(self.clock.now_ns + number * TICK)


def test_capabilities():
    board = Board()
    value = board.read(ID)
    assert value >> 32 == 10_000_000                    # femtoseconds a tick
    assert value & 0xFFFFFFFF == 0x8086A201
    assert board.read(ID + 4, 4) == 10_000_000
    board.write(ID, 0)
    assert board.read(ID) == value


def test_counter_runs_only_while_enabled():
    board = Board()
    board.ticks(100)
    assert board.read(COUNTER) == 0
    board.write(CONFIG, ENABLE)
    board.ticks(100)
    assert board.read(COUNTER) == 100
    board.write(CONFIG, 0)
    board.ticks(100)
    assert board.read(COUNTER) == 100
    board.write(COUNTER, 0x1_0000_0000 - 1)
    board.write(CONFIG, ENABLE)
    board.ticks(1)
    assert (board.read(COUNTER), board.read(COUNTER, 4), board.read(COUNTER + 4, 4)) == (1 << 32, 0, 1)


def test_halves_of_the_counter_are_written_apart():
    board = Board()
    board.write(COUNTER, 0x11111111, 4)
    board.write(COUNTER + 4, 0x22222222, 4)
    assert board.read(COUNTER) == 0x2222222211111111


def test_timer_capabilities_and_routes():
    board = Board()
    for n, routes in enumerate([0xF00000] * 3):
        assert board.read(config_of(n)) == routes << 32 | PERIODIC_CAPABLE | WIDE_CAPABLE
        for route in range(32):
            board.write(config_of(n), route << 9)
            assert board.read(config_of(n)) >> 9 & 31 == (route if routes >> route & 1 else 0)
        board.write(config_of(n), 0xC1FF)
        assert board.read(config_of(n)) & 0xFFFFFFFF == LEVEL | INTERRUPT | PERIODIC | SET_VALUE | NARROW | PERIODIC_CAPABLE | WIDE_CAPABLE
        assert board.read(comparator_of(n)) in (2**64 - 1, 2**32 - 1)
    assert board.read(config_of(3)) == board.read(0x3F8) == 0


@pytest.mark.parametrize("n, pin", [(0, 20), (1, 23), (2, 22)])
def test_one_shot_edge_pulses_its_pin(n, pin):
    board = Board()
    levels = listen(board.hpet.pins[pin])
    board.write(config_of(n), pin << 9 | INTERRUPT)
    board.write(comparator_of(n), 1000)
    board.write(CONFIG, ENABLE)
    board.clock.advance(9_999)
    assert levels == []
    board.clock.advance(10_000)
    assert levels == [1, 0]
    board.clock.advance(10**12)
    assert levels == [1, 0]
    assert board.read(STATUS) == 0


def test_level_stays_until_its_status_is_cleared():
    board = Board()
    levels = listen(board.hpet.pins[21])
    board.write(config_of(1), 21 << 9 | INTERRUPT | LEVEL)
    board.write(comparator_of(1), 50)
    board.write(CONFIG, ENABLE)
    board.ticks(60)
    assert (levels, board.read(STATUS)) == ([1], 2)
    board.write(STATUS, 1)
    assert board.read(STATUS) == 2
    board.write(STATUS, 2)
    assert (levels, board.read(STATUS)) == ([1, 0], 0)


def test_two_level_timers_share_a_pin():
    board = Board()
    levels = listen(board.hpet.pins[20])
    for n in (0, 1):
        board.write(config_of(n), 20 << 9 | INTERRUPT | LEVEL)
        board.write(comparator_of(n), 10 + n)
    board.write(CONFIG, ENABLE)
    board.ticks(20)
    board.write(STATUS, 1)
    assert levels == [1]
    board.write(STATUS, 2)
    assert levels == [1, 0]


def test_periodic_as_linux_sets_it_up():
    """hpet_set_periodic: value with SET_VALUE, then the period."""
    board = Board()
    board.write(CONFIG, ENABLE | LEGACY, 4)
    board.ticks(777)
    edges = []
    board.hpet.irq0.connect(listener(board, edges))
    now = board.read(COUNTER, 4)
    board.write(config_of(0), INTERRUPT | PERIODIC | SET_VALUE | NARROW, 4)
    board.write(comparator_of(0), now + 100_000, 4)
    assert not board.read(config_of(0)) & SET_VALUE
    board.write(comparator_of(0), 100_000, 4)
    for k in range(1, 6):
        board.clock.advance((777 + 100_000 * k) * TICK)
        assert edges == [(777 + 100_000 * j) * TICK for j in range(1, k + 1)]
    assert board.read(comparator_of(0), 4) == 777 + 600_000


def listener(board, edges):
    return python_listener(lambda level: edges.append(board.clock.now_ns) if level else None)


def test_value_alone_is_period_too():
    board = Board()
    edges = []
    board.hpet.pins[20].connect(listener(board, edges))
    board.write(config_of(0), 20 << 9 | INTERRUPT | PERIODIC | SET_VALUE)
    board.write(comparator_of(0), 500)
    board.write(CONFIG, ENABLE)
    board.ticks(1600)
    assert edges == [5_000, 10_000, 15_000]


def test_period_without_set_value_leaves_the_comparator():
    board = Board()
    edges = []
    board.hpet.pins[20].connect(listener(board, edges))
    board.write(config_of(0), 20 << 9 | INTERRUPT)
    board.write(comparator_of(0), 1_000)
    board.write(config_of(0), 20 << 9 | INTERRUPT | PERIODIC)
    board.write(comparator_of(0), 300)
    assert board.read(comparator_of(0)) == 1_000
    board.write(CONFIG, ENABLE)
    board.ticks(1_650)
    assert edges == [10_000, 13_000, 16_000]


def test_32_bit_comparator_matches_again_after_the_wrap():
    board = Board()
    edges = []
    board.hpet.pins[20].connect(listener(board, edges))
    board.write(COUNTER, 0xFFFFFF00)
    board.write(config_of(0), 20 << 9 | INTERRUPT | NARROW)
    board.write(comparator_of(0), 0x100)
    board.write(CONFIG, ENABLE)
    board.ticks(0x200 + (1 << 32))
    assert edges == [0x200 * TICK, (0x200 + (1 << 32)) * TICK]


def test_value_in_the_past_waits_for_the_wrap():
    board = Board()
    levels = listen(board.hpet.pins[20])
    board.write(CONFIG, ENABLE)
    board.ticks(1000)
    board.write(config_of(0), 20 << 9 | INTERRUPT)
    board.write(comparator_of(0), 999)
    board.ticks(10**9)
    assert levels == []


def test_shortest_period_is_a_microsecond():
    board = Board()
    levels = listen(board.hpet.pins[20])
    board.write(config_of(0), 20 << 9 | INTERRUPT | PERIODIC | SET_VALUE)
    board.write(comparator_of(0), 1)
    board.write(CONFIG, ENABLE)
    board.clock.advance(100_000)
    assert levels.count(1) in (100, 101)


def test_disabled_interrupt_does_not_reach_the_wire():
    board = Board()
    levels = listen(board.hpet.pins[20])
    board.write(config_of(0), 20 << 9 | LEVEL)
    board.write(comparator_of(0), 10)
    board.write(CONFIG, ENABLE)
    board.ticks(20)
    assert (levels, board.read(STATUS)) == ([], 1)
    board.write(config_of(0), 20 << 9 | LEVEL | INTERRUPT)
    assert levels == [1]


def test_legacy_replacement_shuts_out_pit_and_rtc():
    board = Board()
    irq0, irq8 = listen(board.hpet.irq0), listen(board.hpet.irq8)
    board.hpet.pit.drive(1)
    board.hpet.rtc.drive(1)
    assert (irq0, irq8) == ([1], [1])
    board.write(CONFIG, LEGACY)
    assert (irq0, irq8) == ([1, 0], [1, 0])
    board.hpet.pit.drive(0)
    board.hpet.pit.drive(1)
    assert irq0 == [1, 0]
    board.write(config_of(1), INTERRUPT)
    board.write(comparator_of(1), 10)
    board.write(CONFIG, LEGACY | ENABLE)
    board.ticks(10)
    assert (irq0, irq8) == ([1, 0], [1, 0, 1])
    board.write(CONFIG, ENABLE)
    assert (irq0, irq8) == ([1, 0, 1], [1, 0, 1])       # both are high again by themselves


def test_legacy_edge_lasts_until_the_next_match_so_that_an_8259_sees_it():
    board = Board()
    irq0 = listen(board.hpet.irq0)
    board.write(config_of(0), INTERRUPT | PERIODIC | SET_VALUE)
    board.write(comparator_of(0), 1000)
    board.write(CONFIG, LEGACY | ENABLE)
    board.ticks(1500)
    assert irq0 == [1]
    board.ticks(1000)
    assert irq0 == [1, 0, 1]
    board.write(CONFIG, LEGACY)
    assert irq0 == [1, 0, 1, 0]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 0x3FF), st.sampled_from([1, 2, 4, 8]), st.one_of(st.integers(0, 0x1FF), st.integers(0, 2**64 - 1)),
                          st.integers(0, 10**5)), max_size=50))
def test_any_writes_keep_state_valid_and_time_going(steps):
    board = Board()
    for offset, size, value, wait in steps:
        offset &= ~(size - 1)
        board.write(offset, value & (1 << 8 * size) - 1, size)
        board.read(offset, size)
        board.clock.advance(board.clock.now_ns + wait)
        board.hpet.fields.set(board.hpet.fields.get())


def test_restored_hpet_goes_on_at_the_same_tick():
    board = Board()
    board.write(config_of(2), 22 << 9 | INTERRUPT | PERIODIC | SET_VALUE)
    board.write(comparator_of(2), 700)
    board.write(CONFIG, ENABLE)
    board.ticks(1000)
    other = Board()
    other.clock.fields.set(board.clock.fields.get())
    other.hpet.fields.set(board.hpet.fields.get())
    runs = []
    for each in (board, other):
        edges = []
        each.hpet.pins[22].connect(listener(each, edges))
        each.ticks(5000)
        runs.append(edges)
    assert runs[0] == runs[1] == [14_000 + 7_000 * k for k in range(7)]
    assert board.hpet.fields.get() == other.hpet.fields.get()


@pytest.mark.parametrize("name, value", [("config", 4), ("status", 8), ("timer0_config", 1),
                                         ("timer0_config", 11 << 9), ("timer2_config", 24 << 9),
                                         ("timer1_edge", 2), ("legacy_inputs", (0, 2)), ("pin20", 2), ("legacy0", -1)])
def test_impossible_state_is_refused(name, value):
    hpet = Board().hpet
    before = hpet.fields.get()
    with pytest.raises(SnapshotError):
        hpet.fields.set({**before, name: value})
    assert hpet.fields.get() == before


def test_disabled_periodic_comparator_moves_on_without_a_timer():
    """2.3.9.2.2: the comparator is the last match plus the period, whether it interrupts or not; nobody sees it but a read."""
    board = Board()
    board.write(CONFIG, ENABLE)
    board.write(config_of(0), PERIODIC | SET_VALUE)
    board.write(comparator_of(0), 1000)
    assert board.clock.next_deadline_ns is None
    board.ticks(2500)
    assert board.read(comparator_of(0)) == 3000
    board.write(config_of(0), PERIODIC | INTERRUPT)
    assert board.clock.next_deadline_ns == 3000 * TICK
