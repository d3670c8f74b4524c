# The debug console port and isa-debug-exit.
import pytest

from emu.devices.backend.char import CharBackend
from emu.devices.debug_exit import DEFAULT_BASE, DEFAULT_SIZE, DebugExit
from emu.devices.debug_port import DebugPort


def test_debug_port_prints_and_tells_that_it_is_there():
    backend = CharBackend()
    port = DebugPort(backend)
    for byte in b"Hi\n":
        port.write(0, 1, byte)
    assert backend.take() == b"Hi\n"
    assert port.read(0) == 0xE9


def test_debug_exit_defaults_are_qemus():
    assert (DEFAULT_BASE, DEFAULT_SIZE) == (0x501, 2)
    assert DebugExit().region.size == 2


@pytest.mark.parametrize("size", [1, 2, 4])
def test_debug_exit_code_is_twice_plus_one(size):
    device = DebugExit(4)
    assert device.exit_code is None
    device.write(0, size, 0x10)
    assert (device.value, device.exit_code) == (0x10, 0x21)
    assert device.fields.get()["request_level"] == 1


def test_debug_exit_first_write_counts_until_reset():
    device = DebugExit()
    device.write(0, 1, 0)
    device.write(0, 1, 7)
    assert device.exit_code == 1
    device.reset()
    assert device.exit_code is None
    assert device.fields.get()["request_level"] == 0
    assert device.read(0) == 0


def test_debug_exit_large_value_wraps_to_an_exit_code():
    device = DebugExit(4)
    device.write(0, 4, 0xFFFFFFFF)
    assert device.exit_code == 0xFF
