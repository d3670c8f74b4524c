# What network cards compute for their drivers: Internet checksums (RFC 1071), TCP segmentation, CRC-32 (IEEE 802.3, 3.2.9).
from libc.string cimport memcpy

from emu.base.types cimport u8, u16, u32, u64

cdef enum:
    ETHERNET_BYTES = 14
    TYPE_IPV4 = 0x0800
    TYPE_IPV6 = 0x86DD
    TYPE_VLAN = 0x8100
    PROTOCOL_TCP = 6
    PROTOCOL_UDP = 17
    TCP_FIN = 0x01
    TCP_PUSH = 0x08
    TCP_REDUCED = 0x80                   # CWR

cdef u32[256] CRC_TABLE


cdef void _fill_table():
    cdef u32 value, byte
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = (value >> 1) ^ (<u32>0xEDB88320 if value & 1 else 0)
        CRC_TABLE[byte] = value


_fill_table()


cdef inline u32 _big(const u8* data, int size) noexcept nogil:
    cdef u32 value = 0
    cdef int k
    for k in range(size):
        value = value << 8 | data[k]
    return value


cdef inline void _put_big(u8* data, u32 value, int size) noexcept nogil:
    cdef int k
    for k in range(size):
        data[k] = <u8>(value >> (8 * (size - 1 - k)))


cdef u32 crc32(const u8* data, u32 length) noexcept nogil:
    """The frame check sequence; its least significant byte goes first."""
    cdef u32 value = <u32>0xFFFFFFFF
    cdef u32 k
    for k in range(length):
        value = CRC_TABLE[(value ^ data[k]) & 0xFF] ^ (value >> 8)
    return ~value


cdef u64 sum_words(const u8* data, u32 length) noexcept nogil:
    cdef u64 total = 0
    cdef u32 word
    cdef u16 half = 0
    while length >= 4:                   # carries of 32-bit words fold into 16 bits alike (RFC 1071, 2)
        memcpy(&word, data, 4)
        total += word
        data += 4
        length -= 4
    if length >= 2:
        memcpy(&half, data, 2)
        total += half
        data += 2
        length -= 2
    if length:
        total += data[0]
    return total


cdef u16 fold(u64 words) noexcept nogil:
    while words >> 16:
        words = (words & 0xFFFF) + (words >> 16)
    return <u16>~words


cdef bint put_checksum(u8* frame, u32 length, u32 start, u32 end, u32 place) noexcept nogil:
    """Puts at `place` the checksum of bytes start..end (exclusive; of what lies there already, too); False where that cannot be.

    A sum of zero is sent as ones, since zero says "none" in UDP (RFC 768), and means the same elsewhere.
    """
    cdef u16 value
    if end > length or start >= end or place + 2 > length:
        return False
    value = fold(sum_words(frame + start, end - start))
    if value == 0:
        value = 0xFFFF
    memcpy(frame + place, &value, 2)
    return True


cdef u32 _network(const u8* frame, u32 length, u32* kind) noexcept nogil:
    """Where the network header begins, and what it is; 0: nowhere."""
    cdef u32 at = 12
    if length < ETHERNET_BYTES:
        return 0
    kind[0] = _big(frame + at, 2)
    if kind[0] == TYPE_VLAN:
        at += 4
        if length < ETHERNET_BYTES + 4:
            return 0
        kind[0] = _big(frame + at, 2)
    return at + 2


cdef u64 _pseudo_header(const u8* network, bint is_version_6, u8 protocol, u32 length) noexcept nogil:
    """Its sum (RFC 793, 3.1; RFC 8200, 8.1): addresses, protocol and length of the datagram."""
    cdef u8 tail[8]
    _put_big(&tail[0], length, 4)
    _put_big(&tail[4], protocol, 4)
    return sum_words(&tail[0], 8) + (sum_words(network + 8, 32) if is_version_6 else sum_words(network + 12, 8))


cdef u32 inspect(const u8* frame, u32 length) noexcept nogil:
    """What the checksums of a received frame are worth. Fragments and extension headers are not looked into."""
    cdef u32 kind = 0
    cdef u32 found = 0
    cdef u32 at = _network(frame, length, &kind)
    cdef u32 header, total
    cdef u8 protocol
    cdef bint is_version_6 = kind == TYPE_IPV6
    if at == 0:
        return 0
    if kind == TYPE_IPV4:
        if length < at + 20:
            return 0
        header = (frame[at] & 0x0F) * 4
        total = _big(frame + at + 2, 2)
        if frame[at] >> 4 != 4 or header < 20 or total < header or at + total > length:
            return 0
        found = CHECK_IP | (CHECK_IP_GOOD if fold(sum_words(frame + at, header)) == 0 else 0)
        if _big(frame + at + 6, 2) & 0x3FFF:
            return found                 # a fragment
        protocol = frame[at + 9]
        total -= header
    elif is_version_6:
        if length < at + 40 or frame[at] >> 4 != 6:
            return 0
        header = 40
        total = _big(frame + at + 4, 2)
        protocol = frame[at + 6]
        if at + header + total > length:
            return 0
    else:
        return 0
    if protocol == PROTOCOL_TCP and total >= 20:
        found |= CHECK_TCP
    elif protocol != PROTOCOL_UDP or total < 8 or _big(frame + at + header + 6, 2) == 0:
        return found                     # UDP without a checksum is one of the others
    found |= CHECK_DATA
    if fold(_pseudo_header(frame + at, is_version_6, protocol, total) + sum_words(frame + at + header, total)) == 0:
        found |= CHECK_DATA_GOOD
    return found


cdef int segment_tcp(u8* frame, u32 length, u32 headers, u32 maximum, u32 network, u32 transport, u8* scratch, segment_fn emit,
                     void* owner) noexcept nogil:
    """Cuts a TCP datagram into frames with `maximum` bytes of data each; 0, or -1 where the frame is not what it should be.

    headers: bytes before the data; network and transport: where the IP and TCP headers begin. `scratch` has room for headers +
    maximum bytes. Lengths, identification, sequence number, flags and checksums are each segment's own.
    """
    cdef bint is_version_6
    cdef u32 data, done, sequence, identification = 0
    cdef u32 part
    cdef u8 flags
    if (maximum == 0 or headers >= length or network < ETHERNET_BYTES or network + 20 > transport or transport + 20 > headers
            or headers < transport + (frame[transport + 12] >> 4) * 4):
        return -1
    is_version_6 = frame[network] >> 4 == 6
    if not is_version_6 and frame[network] >> 4 != 4 or is_version_6 and network + 40 > transport:
        return -1
    data = length - headers
    sequence = _big(frame + transport + 4, 4)
    flags = frame[transport + 13]
    identification = _big(frame + network + 4, 2)
    memcpy(scratch, frame, headers)
    done = 0
    while done < data:
        part = data - done if data - done < maximum else maximum
        memcpy(scratch + headers, frame + headers + done, part)
        if is_version_6:
            _put_big(scratch + network + 4, headers + part - network - 40, 2)
        else:
            _put_big(scratch + network + 2, headers + part - network, 2)
            _put_big(scratch + network + 4, identification, 2)
            _put_big(scratch + network + 10, 0, 2)
            put_checksum(scratch, headers, network, transport, network + 10)
            identification += 1
        _put_big(scratch + transport + 4, sequence + done, 4)
        scratch[transport + 13] = flags
        if done:
            scratch[transport + 13] &= 0xFF ^ TCP_REDUCED        # RFC 3168, 6.1.2: once
        if done + part < data:
            scratch[transport + 13] &= 0xFF ^ (TCP_FIN | TCP_PUSH)
        _put_big(scratch + transport + 16, 0, 2)
        _put_big(scratch + transport + 16, _swap(fold(
            _pseudo_header(scratch + network, is_version_6, PROTOCOL_TCP, headers + part - transport)
            + sum_words(scratch + transport, headers + part - transport))), 2)
        emit(owner, scratch, headers + part)
        done += part
    return 0


cdef inline u16 _swap(u16 value) noexcept nogil:
    return <u16>(value >> 8 | value << 8)
