# virtio network card against VIRTIO 1.2, 5.1; frames are built and read by the RFCs in frames.py.
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base.errors import UsageError
from emu.devices.backend.net.port import NetPort
from emu.devices.throttle import Limits
from emu.devices.virtio.net import VirtioNet

from virtio_driver import DEVICE, ISR, VERSION_1, Board
from tests.tools.frames import BROADCAST, CARD, OTHER, check_tcp, ethernet, ipv4, ipv6, tcp, udp

BUFFER = 0x200000
CHECKSUM, GUEST_CHECKSUM, MAC, TSO4, TSO6, MERGEABLE, STATUS = 1 << 0, 1 << 1, 1 << 5, 1 << 11, 1 << 12, 1 << 15, 1 << 16
ALL = VERSION_1 | CHECKSUM | GUEST_CHECKSUM | MAC | TSO4 | TSO6 | MERGEABLE | STATUS
FRAME = ethernet(bytes(range(200)), kind=0x1234)


class Card:
    def __init__(self, features=ALL, size=8, **options):
        def make(bus, slot, memory, clock):
            self.port = NetPort(clock, **options)
            return VirtioNet(bus, slot, memory, clock, self.port)
        self.board = Board(make)
        self.memory = self.board.memory.physical
        self.receive, self.transmit = self.board.start(features, size)

    def send(self, frame, header=bytes(12), pieces=1):
        """The frames that leave when the driver sends one."""
        data = header + frame
        self.memory[BUFFER:BUFFER + len(data)] = data
        step = -(-len(data) // pieces)
        self.transmit.run([(BUFFER + at, min(step, len(data) - at), False) for at in range(0, len(data), step)])
        return [frame for _, frame in self.port.take()]

    def offer(self, lengths):
        for number, length in enumerate(lengths):
            self.receive.offer(self.receive.chain([(BUFFER + 0x10000 * number, length, True)], first=number))

    def got(self):
        """Received frames: (header fields, frame), gathered from their buffers."""
        found, used = [], self.receive.take()
        while used:
            head, length = used.pop(0)
            data = self.memory[BUFFER + 0x10000 * head:BUFFER + 0x10000 * head + length]
            header = struct.unpack("<BBHHHHH", data[:12])
            for _ in range(header[6] - 1):
                head, length = used.pop(0)
                data += self.memory[BUFFER + 0x10000 * head:BUFFER + 0x10000 * head + length]
            found.append((header, data[12:]))
        return found


def test_configuration_shows_address_and_link():
    card = Card()
    assert bytes(card.board.get(DEVICE + k, 1) for k in range(6)) == CARD
    assert card.board.get(DEVICE + 6, 2) == 1
    assert card.board.device.read(0) == 0x10411AF4
    card.port.link = False
    assert card.board.get(DEVICE + 6, 2) == 0
    assert card.board.get(ISR, 1) == 2


@pytest.mark.parametrize("pieces", [1, 3])
def test_frame_is_sent_as_it_is(pieces):
    card = Card()
    assert card.send(FRAME, pieces=pieces) == [FRAME]
    assert card.port.usage["transmitted"] == {"bytes": len(FRAME), "operations": 1, "throttled_ns": 0, "lost": 0}


def test_sent_frame_carries_its_virtual_time():
    card = Card()
    before = card.board.clock.now_ns
    card.transmit.offer(card.transmit.chain([(BUFFER, 12 + 60, False)]))
    card.board.wait(50_000)
    (when, _), = card.port.take()
    assert before < when < before + 50_000


def test_checksum_is_completed():
    card = Card()
    whole = ethernet(ipv4(udp(b"hello"), 17))
    bare = bytearray(whole)
    # what Linux leaves there: the sum of the pseudo header, not complemented
    total = sum(struct.unpack(">4H", whole[26:34])) + 17 + 13
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    bare[40:42] = struct.pack(">H", total)
    assert card.send(bytes(bare), struct.pack("<BBHHHHH", 1, 0, 0, 0, 34, 6, 0)) == [whole]


@pytest.mark.parametrize("start, offset", [(34, 40), (60000, 6), (34, 65535), (47, 0)])
def test_checksum_outside_the_frame_loses_it(start, offset):
    card = Card()
    frame = ethernet(ipv4(udp(b"hello"), 17))
    sent = card.send(frame, struct.pack("<BBHHHHH", 1, 0, 0, 0, start, offset, 0))
    assert sent == [] and card.port.usage["transmitted"]["lost"] == 1
    assert card.board.device.status == 0x0F


@pytest.mark.parametrize("version", [4, 6])
def test_segmentation(version):
    card = Card()
    data = bytes(k * 7 & 0xFF for k in range(5000))
    if version == 4:
        frame, headers, kind = ethernet(ipv4(tcp(data, flags=0x99, options=b"\1" * 12), 6)), 34 + 32, 1
    else:
        source, target = b"\xfe\x80" + bytes(13) + b"\1", b"\xfe\x80" + bytes(13) + b"\2"
        frame = ethernet(ipv6(tcp(data, source, target, flags=0x99, options=b"\1" * 12), 6), kind=0x86DD)
        headers, kind = 54 + 32, 4
    sent = [check_tcp(part) for part in card.send(frame, struct.pack("<BBHHHHH", 1, kind, headers, 1400, headers - 32, 16, 0))]
    assert [part[2] for part in sent] == [1000, 2400, 3800, 5200]
    assert [part[3] for part in sent] == [0x90, 0x10, 0x10, 0x19]        # CWR in the first only, FIN and PSH in the last only
    assert b"".join(part[4] for part in sent) == data
    if version == 4:
        assert [part[1] for part in sent] == [7, 8, 9, 10]


@pytest.mark.parametrize("header", [(1, 1, 66, 0, 34, 16), (1, 1, 66, 65000, 34, 16), (1, 1, 66, 1400, 60000, 16), (1, 4, 66, 1400, 34, 16),
                                    (1, 1, 66, 1400, 5, 16), (1, 3, 66, 1400, 34, 16)])
def test_segmentation_of_nonsense_loses_the_frame(header):
    card = Card()
    frame = ethernet(ipv4(tcp(bytes(3000)), 6))
    assert card.send(frame, struct.pack("<BBHHHHH", *header, 0)) == []
    assert card.board.device.status == 0x0F


def test_frame_too_short_or_too_long_is_lost():
    card = Card()
    assert card.send(bytes(13)) == [] and card.send(bytes(9300)) == []
    assert card.port.usage["transmitted"]["lost"] == 2


@pytest.mark.parametrize("segments", [[(BUFFER, 11, False)], [(0xF0000000, 100, False)], [(BUFFER, 12, False), (0xF0000000, 100, False)]])
def test_malformed_send_needs_a_reset(segments):
    card = Card()
    card.transmit.offer(card.transmit.chain(segments))
    card.board.wait()
    assert card.board.device.status & 0x40


def test_frame_is_received():
    card = Card()
    card.offer([2000])
    assert card.port.inject(FRAME)
    card.board.wait()
    assert card.got() == [((0, 0, 0, 0, 0, 0, 1), FRAME)]
    assert card.port.usage["received"]["bytes"] == len(FRAME)


def test_frame_is_received_when_it_is_due():
    card = Card()
    card.offer([2000])
    start = card.board.clock.now_ns
    card.port.inject(FRAME, start + 3_000_000)
    card.board.wait(2_990_000)
    assert card.got() == []
    card.board.wait(20_000)
    assert len(card.got()) == 1


@pytest.mark.parametrize("length", [12, 13, 64, 100])
def test_frame_is_spread_over_buffers(length):
    card = Card(size=32)
    card.offer([length] * 32)
    card.port.inject(FRAME)
    card.board.wait()
    (header, frame), = card.got()
    assert frame == FRAME and header[6] == -(-(len(FRAME) + 12) // length)


def test_frame_waits_for_buffers():
    card = Card()
    card.offer([100])
    card.port.inject(FRAME)
    card.board.wait()
    assert card.receive.take() == []
    for number in (1, 2):
        card.receive.offer(card.receive.chain([(BUFFER + 0x10000 * number, 100, True)], first=number))
    card.board.wait()
    (header, frame), = card.got()
    assert frame == FRAME and header[6] == 3


def test_without_mergeable_buffers_a_frame_that_does_not_fit_is_lost():
    card = Card(ALL & ~MERGEABLE)
    card.offer([100, 2000])
    card.port.inject(FRAME)
    card.port.inject(FRAME[:60])
    card.board.wait()
    assert card.got() == [((0, 0, 0, 0, 0, 0, 1), FRAME[:60])]
    assert card.port.usage["received"]["lost"] == 1


@pytest.mark.parametrize("segments", [[(BUFFER, 11, True)], [(BUFFER, 100, False)], [(0xF0000000, 2000, True)]])
def test_malformed_receive_buffer_needs_a_reset(segments):
    card = Card()
    card.receive.offer(card.receive.chain(segments))
    card.port.inject(FRAME)
    card.board.wait()
    assert card.board.device.status & 0x40


@pytest.mark.parametrize("data, good", [(ipv4(udp(b"abc"), 17), True), (ipv4(tcp(b"abcd"), 6), True),
                                        (ipv4(tcp(b"abcd")[:-1] + b"x", 6), False), (ipv4(b"abc" * 10, 1), False)])
def test_received_checksums_are_vouched_for_only_if_right(data, good):
    card = Card()
    card.offer([2000])
    card.port.inject(ethernet(data))
    card.board.wait()
    assert card.got()[0][0][0] == (2 if good else 0)


def test_port_refuses_what_finds_no_room_and_drops_what_is_no_frame():
    card = Card()
    count = 0
    while card.port.inject(bytes(1500)):
        count += 1
    assert count == (1 << 17) // 1512
    assert card.port.inject(b"short") and card.port.inject(bytes(9235))
    assert card.port.usage["received"]["lost"] == 2


def test_pulled_cable_loses_frames():
    card = Card()
    card.port.link = False
    assert card.send(FRAME) == []
    assert card.port.inject(FRAME)
    card.offer([2000])
    card.board.wait()
    assert card.got() == []


def test_bandwidth_is_exact_over_virtual_time():
    card = Card(limits=Limits(bps=1_000_000, burst=1000))
    times = []
    for number in range(8):
        card.transmit.offer(card.transmit.chain([(BUFFER, 12 + 1000, False)], first=number))
    for _ in range(100):
        card.board.wait(100_000)
        times += [when for when, _ in card.port.take()]
    # the first empties the bucket, each other one is owed until 1000 bytes have come: 1 ms at 1 MB/s
    gaps = [after - before for before, after in zip(times, times[1:])]
    assert len(times) == 8 and all(abs(gap - 1_000_000) <= 1 for gap in gaps[1:])
    assert gaps[0] <= 1_000_000 and card.port.usage["transmitted"]["throttled_ns"] > 6_000_000


def test_frames_a_second_are_limited_in_each_direction():
    card = Card(limits=Limits(iops=1000, iops_burst=1))
    card.offer([2000] * 8)
    for _ in range(8):
        card.port.inject(FRAME)
    start = card.board.clock.now_ns
    times = []
    for _ in range(100):
        card.board.wait(100_000)
        times += [card.board.clock.now_ns - start] * len(card.receive.take())
    # one empties the bucket, the next one is owed, each other one waits for the one before: 1 ms at 1000 a second
    assert len(times) == 8 and 6_000_000 <= times[-1] <= 6_200_000


def test_limited_card_is_restored_with_what_it_owes():
    card, other = (Card(limits=Limits(bps=1_000_000, burst=1000)) for _ in range(2))
    card.send(bytes(1000))
    other.board.clock.fields.set(card.board.clock.fields.get())
    other.port.fields.set(card.port.fields.get())
    other.board.device.fields.set(card.board.device.fields.get())
    other.memory[0x100000:0x120000] = card.memory[0x100000:0x120000]
    for one in (card, other):
        one.memory[BUFFER:BUFFER + 1012] = bytes(1012)
        one.transmit.index = 1
        one.transmit.offer(one.transmit.chain([(BUFFER, 1012, False)]))
        one.board.wait(5_000_000)
    assert card.port.take() == other.port.take() != []
    assert card.port.fields.get()["transmit_byte_debt"] == other.port.fields.get()["transmit_byte_debt"]


@pytest.mark.parametrize("limits", [Limits(bps=-1), Limits(burst=5), Limits(iops_burst=5), Limits(bps=10**11), Limits(clock="sun")])
def test_impossible_limits_are_refused(limits):
    with pytest.raises(UsageError):
        Card(limits=limits)


@pytest.mark.parametrize("mac", ["52:54:00:12:34", "01:00:5e:00:00:01", "00:00:00:00:00:00", "zz:54:00:12:34:56", "52540:0:12:34:56:"])
def test_impossible_address_is_refused(mac):
    with pytest.raises(UsageError):
        Card(mac=mac)


headers = st.tuples(st.integers(0, 255), st.integers(0, 255), *[st.one_of(st.integers(0, 100), st.integers(0, 65535))] * 5)


@settings(max_examples=200, deadline=None)
@given(header=headers, data=st.one_of(st.binary(max_size=200), st.sampled_from([ethernet(ipv4(tcp(bytes(3000)), 6)), bytes(65000)])),
       features=st.sampled_from([ALL, VERSION_1, VERSION_1 | CHECKSUM]))
def test_any_header_is_survived(header, data, features):
    card = Card(features)
    sent = card.send(data, struct.pack("<BBHHHHH", *header))
    assert all(14 <= len(frame) <= 9234 for frame in sent)
    assert card.board.device.status == 0x0F


@settings(max_examples=60, deadline=None)
@given(frames=st.lists(st.tuples(st.sampled_from([CARD, BROADCAST, OTHER]), st.binary(max_size=600), st.integers(0, 3_000_000)),
                       max_size=12), lengths=st.lists(st.integers(12, 400), min_size=1, max_size=32))
def test_what_is_received_was_injected_in_order(frames, lengths):
    card = Card(size=32)
    injected = [ethernet(data, target, kind=0x9999) for target, data, _ in frames]
    card.offer(lengths)
    for frame, (_, _, due) in zip(injected, frames):
        card.port.inject(frame, due)
    card.board.wait(10_000_000)
    got = [frame for _, frame in card.got()]
    assert got == injected[:len(got)]
    assert card.board.device.status == 0x0F
    card.port.fields.set(card.port.fields.get())
