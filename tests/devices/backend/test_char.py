# The rings between a device and the host.
from hypothesis import given
from hypothesis import strategies as st

from emu.devices.backend.char import CharBackend
from emu.devices.debug_port import DebugPort


@given(st.lists(st.binary(max_size=5000), max_size=20))
def test_feed_accepts_at_most_one_ring(pieces):
    backend = CharBackend()
    room = 4096
    for piece in pieces:
        accepted = backend.feed(piece)
        assert accepted == min(room, len(piece))
        room -= accepted
    assert backend.waiting == 4096 - room


@given(st.lists(st.integers(0, 70000), max_size=8))
def test_take_gives_everything_put_in_order(counts):
    backend = CharBackend()
    port = DebugPort(backend)
    number = 0
    for count in counts:
        expected = bytearray()
        for _ in range(count):
            port.write(0, 1, number & 0xFF)
            expected.append(number & 0xFF)
            number += 1
        assert backend.take() == bytes(expected)
    assert backend.total == number
    assert backend.lost == 0


def test_untaken_output_is_bounded_and_counted():
    backend = CharBackend()
    port = DebugPort(backend)
    for _ in range((1 << 18) + 5):
        port.write(0, 1, 1)
    assert backend.output_full
    assert backend.lost == 5
    assert len(backend.take()) == 1 << 18
