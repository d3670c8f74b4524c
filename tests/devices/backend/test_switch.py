# The switch and the captures: learning, times and order of delivery; the capture is read back by a parser of our own.
import struct

import pytest

from emu.base.clock import Clock
from emu.base.errors import ImageError
from emu.devices.backend.net.pcap import Capture
from emu.devices.backend.net.port import NetPort
from emu.devices.backend.net.switch import Switch, find_switch
from tests.tools.frames import BROADCAST, ethernet


class Port:
    """What a switch sees of a card: frames to take, and those that came, with their times."""

    def __init__(self, room=1 << 30):
        self.sent, self.came, self.room, self.now_ns = [], [], room, 0

    def take(self):
        sent, self.sent = self.sent, []
        return sent

    def inject(self, frame, due_ns=None):
        if len(self.came) >= self.room:
            return False
        self.came.append((due_ns, frame))
        return True


def address(number):
    return bytes((2, 0, 0, 0, 0, number))


def make(count, **options):
    switch = Switch("test", latency_ns=100)
    ports = [Port(**options) for _ in range(count)]
    for port in ports:
        switch.connect(port)
    return switch, ports


def test_unknown_and_group_addresses_are_flooded_and_known_ones_are_not():
    switch, ports = make(3)
    first, answer, group = (ethernet(b"", address(1), address(0)), ethernet(b"", address(0), address(1)),
                            ethernet(b"", BROADCAST, address(1)))
    ports[0].sent = [(10, first)]
    switch.exchange()
    assert [len(port.came) for port in ports] == [0, 1, 1]
    ports[1].sent = [(20, answer), (30, group)]
    switch.exchange()
    assert ports[0].came == [(120, answer), (130, group)]
    assert ports[2].came == [(110, first), (130, group)]


def test_frames_arrive_in_order_of_time_then_of_port():
    switch, ports = make(3)
    frames = {number: ethernet(bytes([number]), BROADCAST, address(number)) for number in range(3)}
    ports[1].sent = [(5, frames[1]), (9, frames[1])]
    ports[0].sent = [(5, frames[0]), (7, frames[0])]
    switch.exchange()
    assert ports[2].came == [(105, frames[0]), (105, frames[1]), (107, frames[0]), (109, frames[1])]


def test_station_that_moved_is_found_again():
    switch, ports = make(3)
    for number in (1, 2):
        ports[number].sent = [(0, ethernet(b"", BROADCAST, address(9)))]
        switch.exchange()
    ports[0].sent = [(0, ethernet(b"x", address(9), address(0)))]
    before = len(ports[1].came)
    switch.exchange()
    assert len(ports[1].came) == before and ports[2].came[-1][1].endswith(b"x")


def test_frames_for_a_full_port_wait_and_are_bounded():
    switch, ports = make(2, room=5)
    ports[0].sent = [(number, ethernet(bytes([number & 0xFF]), BROADCAST, address(0))) for number in range(2000)]
    switch.exchange()
    assert len(ports[1].came) == 5 and switch.lost == 2000 - 1024
    ports[1].room = 10
    switch.exchange()
    assert [due for due, _ in ports[1].came] == [100 + number for number in range(10)]


def test_table_of_addresses_is_bounded():
    switch, ports = make(2)
    ports[0].sent = [(0, ethernet(b"", BROADCAST, struct.pack(">HI", 0x0200, number))) for number in range(6000)]
    switch.exchange()
    assert len(switch._learned) == 4096


def test_pulled_cable_gets_nothing():
    switch, ports = make(2)
    ports[1].sent = [(0, ethernet(b"", BROADCAST, address(1)))]
    switch.exchange()
    switch.disconnect(ports[1])
    ports[0].sent = [(0, ethernet(b"", address(1), address(0)))]
    switch.exchange()
    assert ports[1].came == [] and switch.ports == (ports[0],)


def test_uplink_is_a_port_without_a_time():
    switch, ports = make(2)

    class Uplink(Port):
        is_active = False

        def exchange(self):
            pass

        def take(self):
            return [frame for _, frame in super().take()]
    uplink = Uplink()
    switch.connect_uplink(uplink)
    ports[0].sent = [(10, ethernet(b"", BROADCAST, address(0)))]
    ports[0].now_ns = 50
    uplink.sent = [(0, ethernet(b"u", address(0), address(7)))]
    switch.exchange()
    assert len(uplink.came) == 1 and ports[0].came == [(50, ethernet(b"u", address(0), address(7)))]
    ports[1].sent = [(10, ethernet(b"v", address(7), address(1)))]
    switch.exchange()
    assert uplink.came[-1][1].endswith(b"v") and len(ports[0].came) == 1


def test_switch_is_found_by_name_while_it_is_used():
    switch = find_switch("one")
    assert find_switch("one") is switch and find_switch("two") is not switch
    assert switch.next_mac() == "52:54:00:12:35:01" and switch.next_mac() == "52:54:00:12:35:02"
    del switch
    assert find_switch("one").next_mac() == "52:54:00:12:35:01"


def test_every_frame_that_enters_is_recorded():
    port, seen = NetPort(Clock()), []
    port.recorder = lambda frame, due_ns: seen.append((frame, due_ns))
    port.inject(ethernet(b"a"), 700)
    port.inject(b"no frame")
    assert seen == [(ethernet(b"a"), 700)]


def read_capture(path):
    """(time in ns, frame) of each record of a pcap file with nanoseconds."""
    data = path.read_bytes()
    assert struct.unpack("<IHHiIII", data[:24]) == (0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    at, found = 24, []
    while at < len(data):
        seconds, nanoseconds, kept, length = struct.unpack("<IIII", data[at:at + 16])
        assert kept == length and nanoseconds < 10 ** 9 and len(data) >= at + 16 + kept
        found.append((seconds * 10 ** 9 + nanoseconds, data[at + 16:at + 16 + kept]))
        at += 16 + kept
    return found


def test_capture_is_in_order_of_time_and_leaves_out_what_never_arrived(tmp_path):
    capture = Capture(str(tmp_path / "c"), 1000)
    frames = [ethernet(bytes([number])) for number in range(4)]
    for when, frame in zip((30, 10, 20, 99), frames):
        capture.add(when, frame)
    capture.write_until(20)
    assert read_capture(tmp_path / "c") == [(10 ** 12 + 10, frames[1]), (10 ** 12 + 20, frames[2])]
    capture.close(50)
    assert [frame for _, frame in read_capture(tmp_path / "c")] == [frames[1], frames[2], frames[0]]


def test_capture_that_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(ImageError) as caught:
        Capture(str(tmp_path / "no" / "such"))
    assert caught.value.code == 3
    full = Capture("/dev/full")
    full.add(0, ethernet(b""))
    full.close(1)
    assert "No space" in full.error
