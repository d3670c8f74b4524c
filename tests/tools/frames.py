# Frames for the tests of network cards, built and read here by the RFCs, independently of emu.
import struct
import zlib

BROADCAST = b"\xff" * 6
CARD = bytes.fromhex("525400123456")
OTHER = bytes.fromhex("525400abcdef")


def checksum(data):
    """RFC 1071, over big-endian 16-bit words."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def pseudo(source, target, protocol, length):
    if len(source) == 16:
        return source + target + struct.pack(">II", length, protocol)
    return source + target + struct.pack(">BBH", 0, protocol, length)


def ethernet(data, target=CARD, source=OTHER, kind=0x0800):
    return target + source + struct.pack(">H", kind) + data


def ipv4(data, protocol, source=b"\x0a\0\2\2", target=b"\x0a\0\2\x0f", identification=7):
    header = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(data), identification, 0x4000, 64, protocol, 0, source, target)
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + data


def ipv6(data, protocol, source=b"\xfe\x80" + bytes(13) + b"\1", target=b"\xfe\x80" + bytes(13) + b"\2"):
    return struct.pack(">IHBB", 6 << 28, len(data), protocol, 64) + source + target + data


def udp(data, source=b"\x0a\0\2\2", target=b"\x0a\0\2\x0f", ports=(1000, 2000)):
    head = struct.pack(">HHHH", *ports, 8 + len(data), 0)
    value = checksum(pseudo(source, target, 17, 8 + len(data)) + head + data) or 0xFFFF
    return head[:6] + struct.pack(">H", value) + data


def tcp(data, source=b"\x0a\0\2\2", target=b"\x0a\0\2\x0f", sequence=1000, flags=0x18, options=b"", ports=(1000, 2000)):
    head = struct.pack(">HHIIBBHHH", *ports, sequence, 99, (20 + len(options)) // 4 << 4, flags, 4096, 0, 0) + options
    value = checksum(pseudo(source, target, 6, len(head) + len(data)) + head + data)
    return head[:16] + struct.pack(">H", value) + head[18:] + data


def with_crc(frame):
    return frame + struct.pack("<I", zlib.crc32(frame))


def check_tcp(frame):
    """The facts of a TCP frame, its lengths and checksums verified: (version, identification, sequence, flags, data)."""
    at = 14
    if frame[at] >> 4 == 4:
        total = struct.unpack(">H", frame[at + 2:at + 4])[0]
        assert checksum(frame[at:at + 20]) == 0 and total == len(frame) - at
        source, target, start, version = frame[at + 12:at + 16], frame[at + 16:at + 20], at + 20, 4
        identification = struct.unpack(">H", frame[at + 4:at + 6])[0]
    else:
        assert struct.unpack(">H", frame[at + 4:at + 6])[0] == len(frame) - at - 40
        source, target, start, version, identification = frame[at + 8:at + 24], frame[at + 24:at + 40], at + 40, 6, None
    assert checksum(pseudo(source, target, 6, len(frame) - start) + frame[start:]) == 0
    sequence = struct.unpack(">I", frame[start + 4:start + 8])[0]
    return version, identification, sequence, frame[start + 13], frame[start + (frame[start + 12] >> 4) * 4:]
