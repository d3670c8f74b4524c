# virtio network device (VIRTIO 1.2, 5.1) over a NetPort: queue 0 to the guest, queue 1 from it.
import cython

from libc.string cimport memcpy, memset

from emu.base.clock cimport Clock
from emu.base.types cimport u8, u16, u32, u64
from emu.devices.backend.net.offload cimport CHECK_DATA_GOOD, inspect, put_checksum, segment_tcp
from emu.devices.backend.net.port cimport (NET_FRAME_BYTES, NET_FRAME_SMALLEST, NetPort, NetState, net_receive, net_send,
                                           net_waiting)
from emu.devices.pci.bus cimport PciBus
from emu.devices.throttle cimport throttle_charge, throttle_reset, throttle_wait
from emu.devices.virtio.pci cimport PROCESS_LATER, VirtioDevice, VirtioState, virtio_config_changed, virtio_wake
from emu.devices.virtio.queue cimport Chain, chain_read, chain_write, queue_pop, queue_push, queue_unpop
from emu.memory.space cimport PhysicalMemory, dma_write

cdef enum:
    KIND_NETWORK = 1
    CLASS_NETWORK = 0x020000
    FEATURE_CHECKSUM = 0                 # the driver leaves checksums to the device
    FEATURE_GUEST_CHECKSUM = 1           # the driver believes the device about checksums
    FEATURE_MAC = 5
    FEATURE_HOST_TSO4 = 11               # the device cuts TCP datagrams
    FEATURE_HOST_TSO6 = 12
    FEATURE_MERGEABLE = 15
    FEATURE_STATUS = 16
    CONFIG_MAC = 0
    CONFIG_STATUS = 6
    CONFIG_BYTES = 12                    # up to and with mtu, which is not offered
    LINK_UP = 1
    # 5.1.6, struct virtio_net_hdr
    HEADER_BYTES = 12
    NEEDS_CHECKSUM = 1
    DATA_VALID = 2
    GSO_NONE = 0
    GSO_TCPV4 = 1
    GSO_TCPV6 = 4
    RECEIVE = 0
    TRANSMIT = 1
    CHAINS = 64                          # at most, per piece of work
    BUFFERS = 64                         # at most, that one received frame is spread over
    PACKET_BYTES = 65536 + 64            # the longest datagram before it is cut, with its headers
    LATENCY_NS = 5000


cdef packed struct Header:
    u8 flags
    u8 gso_type
    u16 header_length
    u16 gso_size
    u16 checksum_start
    u16 checksum_offset
    u16 buffers


cdef struct CardState:
    VirtioState* virtio
    NetState* net
    u8 packet[PACKET_BYTES]              # empty between two calls, as `segment`
    u8 segment[NET_FRAME_BYTES]


# ---- to the guest

cdef bint _locate(Chain* chain, u64 offset, u64* address) noexcept nogil:
    """The address of byte `offset` of the writable part."""
    cdef int k
    for k in range(chain.readable, chain.count):
        if offset < chain.segment[k].length:
            address[0] = chain.segment[k].address + offset
            return True
        offset -= chain.segment[k].length
    return False


cdef int _deliver(CardState* card, u32 length) noexcept nogil:
    """Puts the frame that lies in card.packet after its header into the driver's buffers.

    1: done, 0: there are too few buffers now, 2: the frame fits in none (dropped), -1: the ring is bad.
    """
    cdef VirtioState* virtio = card.virtio
    cdef bint is_mergeable = (virtio.accepted >> FEATURE_MERGEABLE & 1) != 0
    cdef u32 total = HEADER_BYTES + length
    cdef u32 done = 0
    cdef u32 part
    cdef u64 places[2]
    cdef u16 heads[BUFFERS]
    cdef u32 lengths[BUFFERS]
    cdef u16 count = 0
    cdef int status, k, _undone
    while done < total:
        status = 0 if count == BUFFERS else queue_pop(&virtio.queue[RECEIVE], virtio.space, &virtio.chain)
        if status < 0:
            return -1
        if status == 0:
            for _undone in range(count):
                queue_unpop(&virtio.queue[RECEIVE])
            return 2 if count == BUFFERS else 0
        if count == 0:
            # 5.1.6.3: the header fits in the first buffer
            if not _locate(&virtio.chain, 10, &places[0]) or not _locate(&virtio.chain, 11, &places[1]):
                return -1
        elif virtio.chain.writable_bytes == 0:
            return -1
        part = <u32>min(virtio.chain.writable_bytes, <u64>(total - done))
        if part < total - done and not is_mergeable:
            queue_unpop(&virtio.queue[RECEIVE])
            return 2
        if chain_write(&virtio.chain, virtio.space, 0, &card.packet[done], part):
            return -1
        heads[count] = virtio.chain.head
        lengths[count] = part
        count += 1
        done += part
    for k in range(2):                   # now it is known over how many buffers it is spread
        if dma_write(virtio.space, places[k], (<u8*>&count) + k, 1):
            return -1
    for k in range(count):
        virtio.chain.head = heads[k]
        if queue_push(&virtio.queue[RECEIVE], virtio.space, &virtio.chain, lengths[k]):
            return -1
    return 1


cdef int _receive(CardState* card) noexcept nogil:
    cdef VirtioState* virtio = card.virtio
    cdef NetState* net = card.net
    cdef Header* header = <Header*>&card.packet[0]
    cdef u64 wait
    cdef u32 length, tail
    cdef int status, _done
    for _done in range(CHAINS):
        length = net_waiting(net)
        if length == 0:
            return 0
        wait = throttle_wait(&net.receive, virtio.clock.now_ns)
        if wait:
            virtio.later_ns = wait
            return PROCESS_LATER
        tail = net.input_tail
        net_receive(net, &card.packet[HEADER_BYTES])
        memset(header, 0, HEADER_BYTES)
        header.buffers = 1
        if virtio.accepted >> FEATURE_GUEST_CHECKSUM & 1 and inspect(&card.packet[HEADER_BYTES], length) & CHECK_DATA_GOOD:
            header.flags = DATA_VALID
        status = _deliver(card, length)
        if status <= 0:
            net.input_tail = tail        # it stays in the port until there are buffers
            return status
        if status == 1:
            throttle_charge(&net.receive, virtio.clock.now_ns, length)
        else:
            net.received_lost += 1
    return 1


# ---- from the guest

cdef void _emit(void* owner, const u8* frame, u32 length) noexcept nogil:
    cdef CardState* card = <CardState*>owner
    throttle_charge(&card.net.transmit, card.virtio.clock.now_ns, length)
    net_send(card.net, frame, length)


cdef bint _segment(CardState* card, Header* header, u32 length) noexcept nogil:
    """Cuts the datagram in card.packet as the header asks; False where it is not what the header says."""
    cdef u8* frame = &card.packet[0]
    cdef u32 transport = header.checksum_start
    cdef u32 network = 14
    cdef u32 headers
    cdef u8 version = 4 if header.gso_type == GSO_TCPV4 else 6
    if not card.virtio.accepted >> (FEATURE_HOST_TSO4 if version == 4 else FEATURE_HOST_TSO6) & 1:
        return False
    if transport + 20 > length:
        return False
    if frame[12] == 0x81 and frame[13] == 0:
        network += 4
    headers = transport + (frame[transport + 12] >> 4) * 4
    if frame[network] >> 4 != version or headers + header.gso_size > NET_FRAME_BYTES:
        return False
    return segment_tcp(frame, length, headers, header.gso_size, network, transport, &card.segment[0], _emit, card) == 0


cdef bint _send(CardState* card, Header* header, u32 length) noexcept nogil:
    """Sends what lies in card.packet; False where it is no frame, or not what the header says."""
    cdef u8* frame = &card.packet[0]
    if header.gso_type != GSO_NONE:
        return _segment(card, header, length)
    if not NET_FRAME_SMALLEST <= length <= NET_FRAME_BYTES:
        return False
    if header.flags & NEEDS_CHECKSUM:
        if not put_checksum(frame, length, header.checksum_start, length, <u32>header.checksum_start + header.checksum_offset):
            return False
    _emit(card, frame, length)
    return True


cdef int _transmit(CardState* card) noexcept nogil:
    cdef VirtioState* virtio = card.virtio
    cdef Header header
    cdef u64 length, wait
    cdef int status, _done
    for _done in range(CHAINS):
        status = queue_pop(&virtio.queue[TRANSMIT], virtio.space, &virtio.chain)
        if status <= 0:
            return status
        wait = throttle_wait(&card.net.transmit, virtio.clock.now_ns)
        if wait:
            queue_unpop(&virtio.queue[TRANSMIT])
            virtio.later_ns = wait
            return PROCESS_LATER
        if virtio.chain.readable_bytes < HEADER_BYTES or chain_read(&virtio.chain, virtio.space, 0, &header, HEADER_BYTES):
            return -1
        length = virtio.chain.readable_bytes - HEADER_BYTES
        if length > PACKET_BYTES:
            card.net.sent_lost += 1
        else:
            if chain_read(&virtio.chain, virtio.space, HEADER_BYTES, &card.packet[0], length):
                return -1
            if not _send(card, &header, <u32>length):
                card.net.sent_lost += 1
        if queue_push(&virtio.queue[TRANSMIT], virtio.space, &virtio.chain, 0):
            return -1
    return 1


cdef int _process(void* owner, int index) noexcept nogil:
    return _receive(<CardState*>owner) if index == RECEIVE else _transmit(<CardState*>owner)


cdef void _ready(void* owner) noexcept nogil:
    """A frame has come, or the link has changed."""
    cdef CardState* card = <CardState*>owner
    cdef u8 status = LINK_UP if card.net.link else 0
    if card.virtio.config[CONFIG_STATUS] != status:
        card.virtio.config[CONFIG_STATUS] = status
        virtio_config_changed(card.virtio)
    virtio_wake(card.virtio, RECEIVE)


cdef void _device_reset(void* owner) noexcept nogil:
    throttle_reset(&(<CardState*>owner).net.transmit)
    throttle_reset(&(<CardState*>owner).net.receive)


@cython.final
cdef class VirtioNet(VirtioDevice):
    """A network card at the end `port` of a cable; the port's address is its own. It receives every frame that comes."""
    cdef CardState state
    cdef NetPort _port

    def __init__(self, PciBus bus not None, int slot, PhysicalMemory memory not None, Clock clock not None, NetPort port not None):
        cdef CardState* card = &self.state
        self._port = port
        card.virtio = &self.virtio
        card.net = &port.state
        self.virtio.device_reset = _device_reset
        memcpy(&self.virtio.config[CONFIG_MAC], <const u8*>port.mac, 6)
        self.virtio.config[CONFIG_STATUS] = LINK_UP if port.state.link else 0
        features = (1 << FEATURE_CHECKSUM | 1 << FEATURE_GUEST_CHECKSUM | 1 << FEATURE_MAC | 1 << FEATURE_HOST_TSO4
                    | 1 << FEATURE_HOST_TSO6 | 1 << FEATURE_MERGEABLE | 1 << FEATURE_STATUS)
        self.setup("virtio_net", bus, slot, memory, clock, KIND_NETWORK, CLASS_NETWORK, features, 2, CONFIG_BYTES, LATENCY_NS,
                   _process, card)
        port.attach(_ready, card, self)

    @property
    def port(self):
        """The end of the cable."""
        return self._port
