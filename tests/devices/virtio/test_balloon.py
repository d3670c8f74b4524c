# virtio balloon against VIRTIO 1.2, 5.5: pages go back, and what a hostile driver names is not believed.
import struct

import pytest

from emu.base.errors import UsageError
from emu.devices.virtio.balloon import VirtioBalloon

from virtio_driver import DEVICE, ISR, VERSION_1, Board

LIST, PAGES = 0x200000, 0x400000
REPORTING = 1 << 5


class Balloon:
    def __init__(self):
        self.board = Board(VirtioBalloon)
        self.memory = self.board.memory.physical
        self.inflate, self.deflate, self.report = self.board.start(VERSION_1 | REPORTING)
        self.memory[PAGES:PAGES + 0x8000] = b"\x5a" * 0x8000

    def give(self, numbers, queue=None):
        self.memory[LIST:LIST + 4 * len(numbers)] = struct.pack(f"<{len(numbers)}I", *numbers)
        return (queue or self.inflate).run([(LIST, 4 * len(numbers), False)])

    def zeros(self):
        return [page for page in range(8) if not any(self.memory[PAGES + 0x1000 * page:PAGES + 0x1000 * page + 0x1000])]


def test_inflated_pages_go_back_and_read_as_zeros():
    balloon = Balloon()
    assert balloon.give([PAGES >> 12, (PAGES >> 12) + 3]) == 0
    assert balloon.zeros() == [0, 3]
    dirty = {page for first, count in balloon.board.memory.dirty_runs() for page in range(first, first + count)}
    assert {PAGES >> 12, (PAGES >> 12) + 3} <= dirty
    assert balloon.board.device.usage == {"inflated_pages": 2, "deflated_pages": 0, "reported_pages": 0}
    balloon.give([PAGES >> 12], balloon.deflate)
    assert balloon.board.device.usage["deflated_pages"] == 1


def test_reported_pages_go_back_as_far_as_they_are_whole():
    balloon = Balloon()
    balloon.report.run([(PAGES + 0x800, 0x2800, True), (PAGES + 0x5000, 0x1000, True)])
    assert balloon.zeros() == [1, 2, 5] and balloon.board.device.usage["reported_pages"] == 3


def test_numbers_of_what_is_no_memory_are_ignored():
    balloon = Balloon()
    balloon.give([0xFFFFFFFF, 0xE0000, 0xA0, PAGES >> 12])
    assert balloon.zeros() == [0] and balloon.board.device.usage["inflated_pages"] == 1
    assert balloon.board.device.status == 0x0F


def test_rom_is_never_given_away():
    balloon = Balloon()
    balloon.board.memory.add_rom(0xFFFF0000, b"\x77" * 0x10000)
    balloon.give([0xFFFF0])
    assert balloon.memory[0xFFFF0000] == 0x77 and balloon.board.device.usage["inflated_pages"] == 0


@pytest.mark.parametrize("segments", [[(0xE0000000, 0x1000, True)], [(0xFFFFFFFFFFFFF000, 0x1000, True)],
                                      [(PAGES, 0x1000, True), (0x3FFF000, 0x2000, True)]])
def test_report_of_what_is_no_memory_needs_a_reset(segments):
    balloon = Balloon()
    balloon.report.offer(balloon.report.chain(segments))
    balloon.board.wait()
    assert balloon.board.device.status & 0x40


def test_inflating_more_than_any_driver_does_needs_a_reset():
    balloon = Balloon()
    balloon.inflate.offer(balloon.inflate.chain([(LIST, 0x100000, False)]))
    balloon.board.wait()
    assert balloon.board.device.status & 0x40


def test_target_is_told_and_actual_is_the_drivers():
    balloon = Balloon()
    balloon.board.device.target_pages = 1000
    assert balloon.board.get(ISR, 1) == 2 and balloon.board.get(DEVICE, 4) == 1000
    balloon.board.put(DEVICE + 4, 4, 900)
    balloon.board.put(DEVICE, 4, 5)
    assert (balloon.board.device.actual_pages, balloon.board.device.target_pages) == (900, 1000)
    for pages in (-1, (64 << 20) // 4096 + 1):
        with pytest.raises(UsageError):
            balloon.board.device.target_pages = pages
