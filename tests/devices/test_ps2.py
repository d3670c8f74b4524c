# The 8042 with keyboard and mouse, against IBM's PS/2 reference and what drivers do.
import pytest
from bench import listen
from hypothesis import given
from hypothesis import strategies as st

from emu.base.clock import Clock
from emu.base.errors import SnapshotError, UsageError
from emu.devices.ps2 import KEYS, KeyboardController

DATA, COMMAND, SYSTEM = 0x60, 0x64, 0x92


class Port:
    def __init__(self):
        self.clock = Clock()
        self.controller = KeyboardController(self.clock)

    def command(self, command, *parameters):
        self.controller.write(COMMAND, 1, command)
        for parameter in parameters:
            self.data(parameter)

    def data(self, value):
        self.controller.write(DATA, 1, value)

    def status(self):
        return self.controller.read(COMMAND)

    def answers(self):
        """All bytes that come, polling as a driver does."""
        got = []
        for _ in range(100):
            self.clock.advance(self.clock.now_ns + 25000)
            if not self.status() & 1:
                return got
            got.append(self.controller.read(DATA))
        raise AssertionError("the controller never falls silent")

    def keyboard(self, *values):
        got = []
        for value in values:
            self.data(value)
            got += self.answers()
        return got

    def mouse(self, *values):
        got = []
        for value in values:
            self.command(0xD4, value)
            got += self.answers()
        return got

    def level(self, name):
        return self.controller.fields.get()[name + "_level"]


def test_self_and_interface_tests_pass():
    port = Port()
    for command, answer in ((0xAA, 0x55), (0xAB, 0x00), (0xA9, 0x00), (0xC0, 0x80)):
        port.command(command)
        assert port.status() & 1
        assert port.controller.read(DATA) == answer
        assert not port.status() & 1


def test_reset_state_is_what_a_bios_leaves():
    port = Port()
    port.command(0x20)
    assert port.answers() == [0x65]
    assert port.status() & 0x14 == 0x14


def test_config_byte_and_ram_read_back():
    port = Port()
    port.command(0x60, 0x43)
    port.command(0x65, 0x99)
    port.command(0x20)
    assert port.answers() == [0x43]
    port.command(0x25)
    assert port.answers() == [0x99]


def test_enable_and_disable_commands_change_the_config_byte():
    port = Port()
    for command, config in ((0xAD, 0x75), (0xA8, 0x55), (0xA7, 0x75), (0xAE, 0x65)):
        port.command(command)
        port.command(0x20)
        assert port.answers() == [config]


def test_aux_loop_marks_the_byte_as_the_mouses():
    port = Port()
    port.command(0x60, 0x47)
    keyboard, mouse = listen(port.controller.keyboard_irq), listen(port.controller.mouse_irq)
    port.command(0xD3, 0x5A)
    assert port.status() & 0x21 == 0x21
    assert (keyboard, mouse) == ([], [1])        # Linux finds IRQ 12 by this
    assert port.controller.read(DATA) == 0x5A
    port.command(0xD2, 0x5A)
    assert port.status() & 0x21 == 0x01


def test_key_press_is_translated_and_raises_irq_1():
    port = Port()
    assert port.controller.press("a")
    assert port.controller.press("a", False)
    assert port.level("keyboard_irq") == 0
    port.clock.advance(25000)
    assert port.level("keyboard_irq") == 1
    assert port.controller.read(DATA) == 0x1E
    assert port.level("keyboard_irq") == 0       # falls between two bytes: an edge each
    port.clock.advance(50000)
    assert port.level("keyboard_irq") == 1
    assert port.controller.read(DATA) == 0x9E


@pytest.mark.parametrize("key, set_1, set_2", [
    ("esc", [0x01], [0x76]), ("enter", [0x1C], [0x5A]), ("f7", [0x41], [0x83]), ("left", [0xE0, 0x4B], [0xE0, 0x6B]),
    ("delete", [0xE0, 0x53], [0xE0, 0x71]), ("control_right", [0xE0, 0x1D], [0xE0, 0x14]), ("keypad_plus", [0x4E], [0x79]),
    ("print_screen", [0xE0, 0x2A, 0xE0, 0x37], [0xE0, 0x12, 0xE0, 0x7C]),
    ("pause", [0xE1, 0x1D, 0x45, 0xE1, 0x9D, 0xC5], [0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77]),
])
def test_scancodes_are_the_published_ones(key, set_1, set_2):
    port = Port()
    port.controller.press(key)
    assert port.answers() == set_1
    port.command(0x60, 0x25)                     # translation off
    port.controller.press(key)
    assert port.answers() == set_2
    assert port.keyboard(0xF0, 1) == [0xFA, 0xFA]
    port.controller.press(key)
    assert port.answers() == set_1


def test_every_key_is_the_same_translated_and_in_set_1():
    port = Port()
    raw = Port()
    raw.command(0x60, 0x25)
    raw.keyboard(0xF0, 1)
    for key in KEYS:
        for down in (True, False):
            assert port.controller.press(key, down)
            assert raw.controller.press(key, down)
            assert port.answers() == raw.answers() != []


def test_unknown_key_is_refused():
    with pytest.raises(UsageError):
        Port().controller.press("any")


def test_keyboard_commands_answer_as_documented():
    port = Port()
    port.command(0x60, 0x25)
    assert port.keyboard(0xFF) == [0xFA, 0xAA]
    assert port.keyboard(0xF2) == [0xFA, 0xAB, 0x83]
    assert port.keyboard(0xEE) == [0xEE]
    assert port.keyboard(0xFE) == [0xEE]
    assert port.keyboard(0xED, 0x05) == [0xFA, 0xFA]
    assert port.controller.leds == 5
    assert port.keyboard(0xF3, 0x20) == [0xFA, 0xFA]
    assert port.keyboard(0xF0, 0) == [0xFA, 0xFA, 2]
    assert port.keyboard(0xF0, 3) == [0xFA, 0xFE]
    assert port.keyboard(0xE7) == [0xFE]
    assert port.keyboard(0xF5) == [0xFA]
    assert not port.controller.press("a")
    assert port.keyboard(0xF4) == [0xFA]
    assert port.controller.press("a")


def test_keyboard_identity_is_translated():
    assert Port().keyboard(0xF2) == [0xFA, 0xAB, 0x41]


def test_command_answer_does_not_lose_the_key_in_the_buffer():
    port = Port()
    port.controller.press("a")
    port.clock.advance(25000)
    port.command(0x20)
    assert port.controller.read(DATA) == 0x65
    assert port.answers() == [0x1E]


def test_command_to_keyboard_with_a_key_unread_keeps_the_acknowledge():
    port = Port()
    port.controller.press("a")
    port.clock.advance(25000)
    port.data(0xF4)
    assert port.answers() == [0x1E, 0xFA]


def test_disabled_keyboard_keeps_its_keys():
    port = Port()
    port.command(0xAD)
    port.controller.press("b")
    assert port.answers() == []
    port.command(0xAE)
    assert port.answers() == [0x30]


def test_full_queue_refuses_keys_and_still_answers():
    port = Port()
    while port.controller.press("left"):
        pass
    assert port.keyboard(0xFF)[-2:] == [0xFA, 0xAA]


def test_mouse_reset_identify_and_status():
    port = Port()
    assert port.mouse(0xFF) == [0xFA, 0xAA, 0x00]
    assert port.mouse(0xF2) == [0xFA, 0x00]
    assert port.mouse(0xE9) == [0xFA, 0x00, 0x02, 100]
    assert port.mouse(0xE8, 3, 0xE7, 0xF4, 0xE9) == [0xFA] * 5 + [0x30, 3, 100]
    assert port.mouse(0xE1) == [0xFE]


def test_mouse_packets_and_irq_12():
    port = Port()
    port.command(0x60, 0x47)
    port.mouse(0xF4)
    port.controller.move(5, -3, buttons=1)
    port.clock.advance(port.clock.now_ns + 25000)
    assert (port.level("mouse_irq"), port.level("keyboard_irq")) == (1, 0)
    assert port.status() & 0x21 == 0x21
    assert port.answers() == [0x29, 5, 0xFD]
    port.controller.move(-300, 0)
    assert port.answers() == [0x19, 0x01, 0, 0x19, 0xD3, 0]


def test_mouse_wheel_after_the_knock():
    port = Port()
    assert port.mouse(0xF3, 200, 0xF3, 100, 0xF3, 80, 0xF2) == [0xFA] * 7 + [3]
    port.mouse(0xF4)
    port.controller.move(wheel=-1)
    assert port.answers() == [0x08, 0, 0, 0xFF]


def test_mouse_remote_and_wrap_mode():
    port = Port()
    port.mouse(0xF0)
    port.controller.move(1, 1)
    assert port.answers() == []
    assert port.mouse(0xEB) == [0xFA, 0x08, 1, 1]
    assert port.mouse(0xEE, 0x12, 0xF4, 0xEC) == [0xFA, 0x12, 0xF4, 0xFA]


def test_a20_through_every_gate():
    port = Port()
    assert port.level("a20") == 1
    port.command(0xD1, 0xDD)
    assert port.level("a20") == 0
    assert not port.controller.read(SYSTEM) & 2
    port.controller.write(SYSTEM, 1, 2)
    assert port.level("a20") == 1
    port.command(0xD0)
    assert port.answers()[0] & 3 == 3
    port.command(0xDD)
    assert port.level("a20") == 0
    port.command(0xDF)
    assert port.level("a20") == 1


def test_reset_through_every_way():
    port = Port()
    levels = listen(port.controller.reset_request)
    port.command(0xFE)                           # what Linux does
    assert levels == [1, 0]
    port.command(0xFF)                           # pulses nothing
    port.command(0xD1, 0xFE)
    assert levels == [1, 0] * 2
    port.controller.write(SYSTEM, 1, 3)
    port.controller.write(SYSTEM, 1, 3)          # a rising edge counts
    assert levels == [1, 0] * 3


def test_every_byte_is_an_edge_for_the_interrupt_controller():
    port = Port()
    levels = listen(port.controller.keyboard_irq)
    port.controller.press("left")
    assert port.answers() == [0xE0, 0x4B]
    assert levels == [1, 0, 1, 0]


def test_bad_state_is_refused():
    port = Port()
    before = port.controller.fields.get()
    for name, value in (("keyboard_count", 65), ("keyboard_start", 64), ("mouse_count", 255), ("source", 1), ("source", 3),
                        ("keyboard_set", 3), ("a20_level", 2)):
        with pytest.raises(SnapshotError):
            port.controller.fields.set(before | {name: value})
    assert port.controller.fields.get() == before


def test_state_round_trip_keeps_a_byte_in_flight():
    port, other = Port(), Port()
    port.controller.press("x")
    other.clock.fields.set(port.clock.fields.get())
    other.controller.fields.set(port.controller.fields.get())
    assert other.answers() == [0x2D]


@given(st.lists(st.tuples(st.sampled_from((DATA, COMMAND, SYSTEM)), st.integers(0, 2), st.integers(0, 255)), max_size=150))
def test_any_traffic_keeps_the_state_valid(steps):
    port = Port()
    for offset, kind, value in steps:
        if kind == 0:
            port.controller.read(offset)
        elif kind == 1:
            port.controller.write(offset, 1, value)
        else:
            port.controller.press(sorted(KEYS)[value % len(KEYS)], bool(value & 1))
            port.controller.move(value - 128, value, value % 7, value)
        port.clock.advance(port.clock.now_ns + 11000)
    port.controller.fields.set(port.controller.fields.get())
