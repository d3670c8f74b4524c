# virtio block against VIRTIO 1.2, 5.2.
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base.errors import UsageError
from emu.devices.backend.disk import DiskBackend
from emu.devices.throttle import Limits
from emu.devices.virtio.block import VirtioBlock

from virtio_driver import DEVICE, VERSION_1, INDIRECT_FEATURE, Board

HEADER, STATUS, BUFFER = 0x200000, 0x201000, 0x300000
READ, WRITE, FLUSH, GET_ID, DISCARD, WRITE_ZEROES = 0, 1, 4, 8, 11, 13
OK, ERROR, UNSUPPORTED = 0, 1, 2
SECTORS = 256


class Disk:
    def __init__(self, backend=None, **options):
        self.backend = backend or DiskBackend.blank(SECTORS * 512)
        self.board = Board(lambda bus, slot, memory, clock: VirtioBlock(bus, slot, memory, clock, self.backend, **options))
        self.memory = self.board.memory.physical
        self.queue, = self.board.start(VERSION_1 | INDIRECT_FEATURE, size=16)

    def request(self, kind, sector, segments, indirect=False):
        """One request; segments are (address, length, writable). Returns (status, used length)."""
        self.memory[HEADER:HEADER + 16] = struct.pack("<IIQ", kind, 0, sector)
        self.memory[STATUS] = 0xEE
        used = self.queue.run([(HEADER, 16, False), *segments, (STATUS, 1, True)], indirect=indirect)
        return self.memory[STATUS], used

    def write(self, sector, data):
        self.memory[BUFFER:BUFFER + len(data)] = data
        return self.request(WRITE, sector, [(BUFFER, len(data), False)])

    def read(self, sector, length):
        status, used = self.request(READ, sector, [(BUFFER, length, True)])
        assert (status, used) == (OK, length + 1)
        return self.memory[BUFFER:BUFFER + length]


def test_configuration_tells_the_truth():
    disk = Disk()
    assert disk.board.get(DEVICE, 8) == SECTORS
    assert disk.board.get(DEVICE + 20, 4) == 512
    assert disk.board.device.read(0) == 0x10421AF4
    assert disk.board.device.read(8) >> 8 == 0x010000
    disk.board.put(0, 4, 0)
    assert disk.board.get(4, 4) & 0xFFFFFFF == 1 << 1 | 1 << 2 | 1 << 6 | 1 << 9 | 1 << 13 | 1 << 14


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, SECTORS - 8), st.integers(1, 8), st.integers(0, 255), st.booleans()), max_size=12))
def test_reads_give_what_was_written(steps):
    disk = Disk()
    model = bytearray(SECTORS * 512)
    for sector, count, value, zero in steps:
        start, end = sector * 512, (sector + count) * 512
        if zero:
            disk.memory[BUFFER:BUFFER + 16] = struct.pack("<QII", sector, count, 1)
            assert disk.request(WRITE_ZEROES, 0, [(BUFFER, 16, False)])[0] == OK
            model[start:end] = bytes(end - start)
        else:
            data = bytes((value + k) & 0xFF for k in range(end - start))
            assert disk.write(sector, data) == (OK, 1)
            model[start:end] = data
        assert disk.read(max(0, sector - 4), 16 * 512 if sector < SECTORS - 12 else 512) == bytes(
            model[max(0, sector - 4) * 512:][:16 * 512 if sector < SECTORS - 12 else 512])
    assert disk.backend.read(0, SECTORS * 512) == bytes(model)


@pytest.mark.parametrize("indirect", [False, True])
def test_scattered_segments(indirect):
    disk = Disk()
    data = bytes(range(256)) * 4
    disk.memory[BUFFER:BUFFER + 100] = data[:100]
    disk.memory[BUFFER + 1000:BUFFER + 1924] = data[100:]
    assert disk.request(WRITE, 7, [(BUFFER, 100, False), (BUFFER + 1000, 924, False)], indirect)[0] == OK
    assert disk.backend.read(7 * 512, 1024) == data
    segments = [(BUFFER + 0x1000, 1, True), (BUFFER + 0x2000, 1000, True), (BUFFER + 0x3000, 23, True)]
    assert disk.request(READ, 7, segments, indirect) == (OK, 1025)
    got = b"".join(disk.memory[address:address + length] for address, length, _ in segments)
    assert got == data


def test_status_may_share_the_last_segment():
    disk = Disk()
    disk.backend.write(0, b"\x55" * 512)
    disk.memory[HEADER:HEADER + 16] = struct.pack("<IIQ", READ, 0, 0)
    assert disk.queue.run([(HEADER, 16, False), (BUFFER, 513, True)]) == 513
    assert disk.memory[BUFFER:BUFFER + 513] == b"\x55" * 512 + b"\x00"


def test_header_may_share_the_first_segment():
    disk = Disk()
    disk.memory[BUFFER:BUFFER + 528] = struct.pack("<IIQ", WRITE, 0, 3) + b"\x77" * 512
    assert disk.queue.run([(BUFFER, 528, False), (STATUS, 1, True)]) == 1
    assert disk.memory[STATUS] == OK
    assert disk.backend.read(3 * 512, 512) == b"\x77" * 512


@pytest.mark.parametrize("sector, length", [(SECTORS, 512), (SECTORS - 1, 1024), (2**64 - 1, 512), (2**55, 512),
                                            (0, 100), (0, 513)])
def test_out_of_range_or_uneven_is_an_error(sector, length):
    disk = Disk()
    assert disk.request(READ, sector, [(BUFFER, length, True)])[0] == ERROR
    assert disk.request(WRITE, sector, [(BUFFER, length, False)])[0] == ERROR
    assert disk.board.device.status == 0x0F


def test_transfer_beyond_the_announced_limits_is_an_error():
    disk = Disk(DiskBackend.blank(64 << 20))
    assert disk.request(READ, 0, [(BUFFER, 16 << 20, True)])[0] == ERROR


def test_identity_flush_and_unknown_requests():
    disk = Disk(identity="serial-7")
    assert disk.request(GET_ID, 0, [(BUFFER, 20, True)]) == (OK, 21)
    assert disk.memory[BUFFER:BUFFER + 20] == b"serial-7".ljust(20, b"\0")
    assert disk.request(GET_ID, 0, [(BUFFER, 19, True)])[0] == ERROR
    assert disk.request(FLUSH, 0, [])[0] == OK
    assert disk.request(99, 0, [])[0] == UNSUPPORTED


def test_identity_too_long_is_refused():
    with pytest.raises(UsageError):
        Disk(identity="x" * 21)


@pytest.mark.parametrize("sector, count, flags, status", [
    (0, 8, 0, OK), (0, 16385, 0, ERROR), (SECTORS, 1, 0, ERROR), (2**63, 1, 0, ERROR), (0, 1, 2, UNSUPPORTED),
    (0, 1, 1, UNSUPPORTED)])
def test_discard_ranges_are_checked(sector, count, flags, status):
    disk = Disk()
    disk.memory[BUFFER:BUFFER + 16] = struct.pack("<QII", sector, count, flags)
    assert disk.request(DISCARD, 0, [(BUFFER, 16, False)])[0] == status


def test_readonly_disk_refuses_writes(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(b"\x11" * 4096)
    disk = Disk(DiskBackend.open_raw(path, readonly=True))
    disk.board.put(0, 4, 0)
    assert disk.board.get(4, 4) & (1 << 5 | 1 << 13 | 1 << 14) == 1 << 5
    assert disk.write(0, bytes(512))[0] == ERROR
    disk.memory[BUFFER:BUFFER + 16] = struct.pack("<QII", 0, 1, 0)
    assert disk.request(WRITE_ZEROES, 0, [(BUFFER, 16, False)])[0] == UNSUPPORTED
    assert disk.read(0, 4096) == b"\x11" * 4096


@pytest.mark.parametrize("segments", [
    [(HEADER, 15, False), (STATUS, 1, True)], [(HEADER, 16, False)], [(STATUS, 1, True)],
    [(HEADER, 16, False), (0xF0000000, 512, True), (STATUS, 1, True)],
    [(HEADER, 16, False), (BUFFER, 512, True), (0xF0000000, 1, True)]])
def test_malformed_request_needs_a_reset(segments):
    disk = Disk()
    disk.memory[HEADER:HEADER + 16] = struct.pack("<IIQ", READ, 0, 0)
    disk.queue.offer(disk.queue.chain(segments))
    disk.board.wait()
    assert disk.board.device.status & 0x40


def test_buffer_across_two_pieces_of_memory_is_bounced():
    disk = Disk()
    disk.board.memory.add_ram(0xD0000000, 0x1000)
    disk.board.memory.add_ram(0xD0001000, 0x1000)
    data = bytes(range(256)) * 4
    disk.backend.write(0, data)
    assert disk.request(READ, 0, [(0xD0000E00, 1024, True)])[0] == OK
    assert disk.memory[0xD0000E00:0xD0001200] == data
    assert disk.request(WRITE, 4, [(0xD0000E00, 1024, False)])[0] == OK
    assert disk.backend.read(2048, 1024) == data


@pytest.mark.parametrize("limits, gap_ns", [(Limits(bps=1_000_000, burst=4096), 4_096_000), (Limits(iops=500, iops_burst=1), 2_000_000)])
def test_limit_makes_requests_complete_later_by_the_nanosecond(limits, gap_ns):
    disk = Disk(limits=limits)
    start, times = disk.board.clock.now_ns, []
    for number in range(6):
        disk.memory[HEADER + 16 * number:HEADER + 16 * number + 16] = struct.pack("<IIQ", READ, 0, 0)
        disk.memory[disk.queue.indirect + 48 * number:disk.queue.indirect + 48 * number + 48] = (
            struct.pack("<QIHH", HEADER + 16 * number, 16, 1, 1) + struct.pack("<QIHH", BUFFER, 4096, 3, 2)
            + struct.pack("<QIHH", STATUS + number, 1, 2, 0))
        disk.queue.descriptor(number, disk.queue.indirect + 48 * number, 48, 4)
        disk.queue.offer(number)
    while len(times) < 6:
        disk.board.clock.advance(disk.board.clock.next_deadline_ns)
        times += [disk.board.clock.now_ns - start] * len(disk.queue.take())
    gaps = [after - before for before, after in zip(times[1:], times[2:])]
    assert all(abs(gap - gap_ns) <= 1 for gap in gaps)
    usage = disk.board.device.usage
    assert (usage["bytes"], usage["operations"]) == (6 * 4096, 6) and usage["throttled_ns"] == times[-1] - times[0]
