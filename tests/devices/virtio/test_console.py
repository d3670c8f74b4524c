# virtio console against VIRTIO 1.2, 5.3.
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.devices.backend.char import CharBackend
from emu.devices.virtio.console import VirtioConsole

from virtio_driver import DEVICE, ISR, VERSION_1, Board

BUFFER = 0x200000


def make_board(**options):
    backend = CharBackend()
    board = Board(lambda bus, slot, memory, clock: VirtioConsole(bus, slot, memory, clock, backend, **options))
    return board, backend


def test_output_goes_to_the_backend():
    board, backend = make_board()
    _, transmit = board.start()
    board.memory.physical[BUFFER:BUFFER + 11] = b"hello world"
    assert transmit.run([(BUFFER, 6, False), (BUFFER + 6, 5, False)]) == 0
    assert backend.take() == b"hello world"


def test_large_output_goes_out_in_pieces():
    board, backend = make_board()
    _, transmit = board.start()
    data = bytes(k * 7 & 0xFF for k in range(200000))
    board.memory.physical[BUFFER:BUFFER + len(data)] = data
    transmit.offer(transmit.chain([(BUFFER, len(data), False)]))
    got = b""
    for _ in range(20):
        board.wait(500)
        assert not backend.lost
        piece = backend.take()
        assert len(piece) <= 1 << 16
        got += piece
    assert got == data
    assert transmit.take() == [(0, 0)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=8), st.integers(1, 100))
def test_input_fills_the_drivers_buffers(pieces, length):
    board, backend = make_board()
    receive, _ = board.start()
    got = b""
    for piece in pieces:
        backend.feed(piece)
        while backend.waiting:
            receive.offer(receive.chain([(BUFFER, length, True)]))
            board.wait()
            for _, count in receive.take():
                got += board.memory.physical[BUFFER:BUFFER + count]
    assert got == b"".join(pieces)


def test_input_comes_when_a_buffer_was_there_before():
    board, backend = make_board()
    receive, _ = board.start()
    receive.offer(receive.chain([(BUFFER, 10, True)]))
    board.wait()
    assert receive.take() == []
    backend.feed(b"x")
    board.wait()
    assert receive.take() == [(0, 1)]
    assert board.memory.physical[BUFFER] == ord("x")


def test_unwritable_receive_buffer_needs_a_reset():
    board, backend = make_board()
    receive, _ = board.start()
    backend.feed(b"x")
    receive.offer(receive.chain([(BUFFER, 10, False)]))
    board.wait()
    assert board.device.status & 0x40


def test_size_and_emergency_write():
    board, backend = make_board(columns=100, rows=40)
    assert board.get(DEVICE, 4) == 40 << 16 | 100
    assert board.get(DEVICE + 4, 4) == 1
    board.put(DEVICE + 8, 4, ord("!"))
    board.put(DEVICE, 4, 0)
    assert backend.take() == b"!"
    assert board.get(DEVICE, 4) == 40 << 16 | 100


def test_resize_tells_the_driver():
    board, _ = make_board()
    board.start(VERSION_1 | 1)
    before = board.get(21, 1)
    board.device.resize(132, 50)
    assert board.get(ISR, 1) == 2
    assert board.get(21, 1) != before
    assert board.get(DEVICE, 2) == 132
