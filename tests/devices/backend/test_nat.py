# The user-mode network with real sockets on the loopback: DHCP, ARP, ICMP, TCP and UDP in both directions.
import select
import socket
import struct
import time

import pytest

from emu.base.errors import NetworkError
from emu.devices.backend.net.nat import UserNetwork, library_version
from tests.tools.frames import BROADCAST, CARD, checksum, ethernet, ipv4, tcp, udp

GUEST, GATEWAY = b"\x0a\0\2\x0f", b"\x0a\0\2\2"


class Guest:
    """The near end of the cable: just enough of a network stack to be believed."""

    def __init__(self, **options):
        self.network = UserNetwork(**options)
        self.gateway_mac = b""

    def send(self, data, protocol, source=GUEST, target=GATEWAY):
        self.network.inject(ethernet(ipv4(data, protocol, source, target), self.gateway_mac or BROADCAST, CARD))

    def wait(self, wanted):
        """The first frame for which `wanted(frame)` is true; ARP requests are answered on the way."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.network.exchange()
            for frame in self.network.take():
                if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[38:42] == GUEST:
                    self.network.inject(frame[6:12] + CARD + frame[12:20] + b"\0\2" + CARD + GUEST + frame[22:32])
                elif wanted(frame):
                    return frame
            select.select([self.network.watch()], [], [], 1)
        raise AssertionError("no such frame within 20 s")

    def arp(self):
        self.network.inject(ethernet(struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) + CARD + GUEST + bytes(6) + GATEWAY, BROADCAST, CARD, 0x806))
        frame = self.wait(lambda frame: frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2")
        self.gateway_mac = frame[22:28]
        return frame


def is_protocol(protocol):
    return lambda frame: frame[12:14] == b"\x08\0" and frame[23] == protocol


def tcp_fields(frame):
    source, target, sequence, acknowledged, offset, flags = struct.unpack(">HHIIBB", frame[34:48])
    length = struct.unpack(">H", frame[16:18])[0]
    return source, target, sequence, acknowledged, flags, frame[34 + (offset >> 4) * 4:14 + length]


def segment(data, ports, sequence, acknowledged, flags):
    whole = bytearray(tcp(data, GUEST, GATEWAY, sequence, flags, ports=ports))
    whole[8:12] = struct.pack(">I", acknowledged)
    whole[16:18] = b"\0\0"
    value = checksum(GUEST + GATEWAY + struct.pack(">HH", 6, len(whole)) + bytes(whole))
    whole[16:18] = struct.pack(">H", value)
    return bytes(whole)


@pytest.fixture
def guest():
    guest = Guest()
    guest.arp()
    yield guest
    guest.network.close()


def test_library_tells_its_version():
    assert int(library_version().split(".")[0]) >= 4


def test_gateway_has_qemus_addresses(guest):
    assert guest.arp()[22:32] == b"\x52\x55" + GATEWAY + GATEWAY


def test_dhcp_gives_the_first_lease(guest):
    options = b"\x63\x82\x53\x63" + b"\x35\1\1" + b"\xff"
    request = struct.pack(">BBBBIHH16x", 1, 1, 6, 0, 0x1234, 0, 0) + CARD + bytes(10 + 64 + 128) + options
    guest.send(udp(request.ljust(300, b"\0"), bytes(4), b"\xff" * 4, (68, 67)), 17, bytes(4), b"\xff" * 4)
    frame = guest.wait(lambda frame: is_protocol(17)(frame) and frame[36:38] == b"\0\x44")
    reply = frame[42:]
    assert reply[16:20] == GUEST and b"\x03\x04" + GATEWAY in reply and b"\x06\x04\x0a\0\2\3" in reply


def test_gateway_answers_echo(guest):
    request = struct.pack(">BBHHH", 8, 0, 0, 7, 1) + b"ping" * 4
    guest.send(request[:2] + struct.pack(">H", checksum(request)) + request[4:], 1)
    frame = guest.wait(is_protocol(1))
    assert frame[34] == 0 and frame[38:42] == struct.pack(">HH", 7, 1) and frame[42:58] == b"ping" * 4


def test_udp_reaches_the_host_and_comes_back(guest):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        guest.send(udp(b"question", GUEST, GATEWAY, (5000, server.getsockname()[1])), 17)
        guest.network.exchange()
        data, peer = server.recvfrom(100)
        server.sendto(b"answer", peer)
        frame = guest.wait(lambda frame: is_protocol(17)(frame) and frame[36:38] == struct.pack(">H", 5000))
    assert data == b"question" and frame[42:48] == b"answer"


def test_tcp_reaches_the_host(guest):
    with socket.create_server(("127.0.0.1", 0)) as server:
        ports = (5001, server.getsockname()[1])
        guest.send(segment(b"", ports, 100, 0, 0x02), 6)
        _, _, sequence, acknowledged, flags, _ = tcp_fields(guest.wait(is_protocol(6)))
        assert flags == 0x12 and acknowledged == 101
        guest.send(segment(b"hello", ports, 101, sequence + 1, 0x18), 6)
        guest.network.exchange()
        connection, _ = server.accept()
        with connection:
            connection.settimeout(10)
            assert connection.recv(5) == b"hello"
            connection.sendall(b"world")
            frame = guest.wait(lambda frame: is_protocol(6)(frame) and tcp_fields(frame)[5])
            assert tcp_fields(frame)[5] == b"world"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def test_forwarded_port_reaches_the_guest():
    port = free_port()
    guest = Guest(forwards=((port, 80, False),))
    assert guest.network.is_active
    guest.arp()
    with socket.create_connection(("127.0.0.1", port), timeout=10):
        frame = guest.wait(is_protocol(6))
        assert tcp_fields(frame)[1] == 80 and tcp_fields(frame)[4] == 0x02 and frame[30:34] == GUEST
    guest.network.close()
    with socket.create_server(("127.0.0.1", port)):
        pass                                             # it was given back


def test_forward_is_listened_to_on_the_loopback_only():
    port = free_port()
    guest = Guest(forwards=((port, 80, False),))
    with open("/proc/net/tcp") as table:
        listening = [line.split()[1] for line in table if f":{port:04X} " in line and line.split()[3] == "0A"]
    guest.network.close()
    assert listening == [f"0100007F:{port:04X}"]


def test_taken_port_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(NetworkError, match="cannot be had") as caught:
            UserNetwork(forwards=((server.getsockname()[1], 80, False),))
    assert caught.value.code == 3


def test_idle_network_is_not_active_and_a_connection_makes_it_so(guest):
    assert not guest.network.is_active
    guest.send(udp(b"x", GUEST, GATEWAY, (5000, 9)), 17)
    assert guest.network.is_active


@pytest.mark.parametrize("length", [14, 15, 33, 34, 60, 1514, 9234])
def test_nonsense_is_survived(guest, length):
    for kind in (0x0800, 0x0806, 0x86DD, 0x8100):
        for fill in (0x00, 0x45, 0xFF):
            guest.network.inject(ethernet(bytes([fill]) * (length - 14), BROADCAST, CARD, kind))
    guest.network.exchange()
    assert guest.arp()[28:32] == GATEWAY


def test_closed_network_is_silent():
    network = UserNetwork()
    network.close()
    network.close()
    assert network.inject(ethernet(b"x")) and network.take() == [] and not network.is_active and network.watch() == -1
    network.exchange()
