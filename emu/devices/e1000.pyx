# Intel 82540EM gigabit Ethernet controller over a NetPort: registers, EEPROM, PHY, descriptor rings, interrupts.
#
# Source: Intel, PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual, 317453-006 (sections in comments).
# Identity and subsystem are QEMU's. A write to a tail register only arms a timer: the work happens a short virtual time later,
# between two instructions, a bounded piece at a time. DEVIATES: no wake-up, no flow control, no IPsec, no Wake on LAN; statistics
# are those that drivers read to show them.
import cython

from libc.string cimport memcpy, memset

from emu.base.clock cimport Clock, NEVER, Timer, timer_arm, timer_cancel
from emu.base.errors import SnapshotError
from emu.base.state cimport StateFields
from emu.base.types cimport u8, u16, u32, u64
from emu.devices.backend.net.offload cimport (CHECK_DATA, CHECK_DATA_GOOD, CHECK_IP, CHECK_IP_GOOD, crc32, inspect,
                                              put_checksum, segment_tcp)
from emu.devices.backend.net.port cimport (NET_FRAME_BYTES, NET_FRAME_SMALLEST, NetPort, NetState, net_receive, net_send,
                                           net_waiting)
from emu.devices.pci.bus cimport (COMMAND_MASTER, PCI_COMMAND, PCI_INTERRUPT_PIN, PCI_SUBSYSTEM, PCI_SUBSYSTEM_VENDOR, PciBus,
                                  PciDevice, PciFunction, add_bar, set_config, set_intx)
from emu.devices.throttle cimport throttle_charge, throttle_reset, throttle_wait
from emu.memory.space cimport PhysicalMemory, dma_read, dma_write, region


# ---- interrupts (3.2.7, 13.4.17 to 13.4.22)

cdef void _update_interrupt(CardState* card) noexcept nogil:
    """Asserts the pin while an unmasked cause is there; two assertions are at least ITR apart."""
    if not card.register[ICR] & card.register[IMS]:
        set_intx(card.function, False)
    elif not card.function.intx:
        if card.clock.now_ns < card.quiet_until_ns:
            timer_arm(card.clock, &card.throttle, card.quiet_until_ns)
        else:
            card.quiet_until_ns = card.clock.now_ns + <u64>(card.register[ITR] & 0xFFFF) * ITR_UNIT_NS
            set_intx(card.function, True)


cdef void _cause(CardState* card, u32 causes) noexcept nogil:
    card.register[ICR] |= causes
    _update_interrupt(card)


cdef void _throttle_over(void* owner, u64 now_ns) noexcept nogil:
    _update_interrupt(<CardState*>owner)


cdef void _receive_delay_over(void* owner, u64 now_ns) noexcept nogil:
    cdef CardState* card = <CardState*>owner
    card.receive_limit_ns = NEVER
    _cause(card, CAUSE_RXT0)


cdef void _transmit_delay_over(void* owner, u64 now_ns) noexcept nogil:
    cdef CardState* card = <CardState*>owner
    card.transmit_limit_ns = NEVER
    _cause(card, CAUSE_TXDW)


cdef void _delayed(CardState* card, Timer* timer, u64* limit_ns, u32 delay, u32 limit) noexcept nogil:
    """Starts a delay anew; the absolute one, which starts with the first of several events, bounds it."""
    cdef u64 now = card.clock.now_ns
    cdef u64 deadline = now + <u64>(delay & 0xFFFF) * DELAY_UNIT_NS
    if limit_ns[0] == NEVER and limit & 0xFFFF:
        limit_ns[0] = now + <u64>(limit & 0xFFFF) * DELAY_UNIT_NS
    timer_arm(card.clock, timer, min(deadline, limit_ns[0]))


# ---- EEPROM (5.3, 5.6.1)

cdef void _write_eecd(CardState* card, u32 value) noexcept nogil:
    """The driver moves the EEPROM's wires itself: start bit, opcode 10 (read), six bits of address; sixteen bits come back."""
    cdef u32 before = card.register[EECD]
    card.register[EECD] = value & EECD_WRITABLE
    if not value & EECD_CS:
        card.eeprom_started = 0
        card.eeprom_outputs = 0
        card.eeprom_bits = 0
        return
    if not value & EECD_SK or before & EECD_SK:
        return                           # only a rising edge of the clock counts
    if card.eeprom_outputs:
        card.eeprom_outputs -= 1
        return
    if not card.eeprom_started:
        card.eeprom_started = (value & EECD_DI) != 0
        card.eeprom_bits = 0
        card.eeprom_shift = 0
        return
    card.eeprom_shift = (card.eeprom_shift << 1) | (1 if value & EECD_DI else 0)
    card.eeprom_bits += 1
    if card.eeprom_bits == 2 + EEPROM_ADDRESS_BITS:
        card.eeprom_bits = 0
        card.eeprom_started = 0
        if card.eeprom_shift >> EEPROM_ADDRESS_BITS & 3 == 2:
            card.eeprom_output = card.eeprom[card.eeprom_shift & (EEPROM_WORDS - 1)]
            card.eeprom_outputs = 17     # a zero goes before the sixteen


cdef u32 _read_eecd(CardState* card) noexcept nogil:
    cdef u32 value = card.register[EECD] | EECD_PRESENT
    cdef bint output = True              # ready, where nothing is being read
    if card.register[EECD] & EECD_REQUEST:
        value |= EECD_GRANT
    if card.eeprom_outputs:
        output = card.eeprom_outputs < 17 and card.eeprom_output >> (card.eeprom_outputs - 1) & 1
    return value | (EECD_DO if output else 0)


cdef void _write_eerd(CardState* card, u32 value) noexcept nogil:
    """13.4.4: reads a word at once."""
    cdef u32 place = value >> 8 & 0xFF
    if value & EERD_START:
        card.register[EERD] = (value & 0xFF00) | EERD_DONE
        if place < EEPROM_WORDS:
            card.register[EERD] |= <u32>card.eeprom[place] << 16
    else:
        card.register[EERD] = value & 0xFF00


# ---- PHY (13.4.7, 12)

cdef void _reset_phy(CardState* card) noexcept nogil:
    memset(&card.phy[0], 0, sizeof(card.phy))
    card.phy[0] = 0x1140                 # auto-negotiation on, full duplex, 1000 Mb/s
    card.phy[1] = 0x796D if card.net.link else 0x7949
    card.phy[2] = 0x0141                 # Marvell 88E1011
    card.phy[3] = 0x0C20
    card.phy[4] = 0x0DE1
    card.phy[5] = 0x41E0                 # the link partner: all of 10 and 100 Mb/s
    card.phy[6] = 0x0001
    card.phy[9] = 0x0E00
    card.phy[10] = 0x3C00                # and 1000 Mb/s
    card.phy[15] = 0x3000
    card.phy[16] = 0x0068
    card.phy[17] = 0xAC08 if card.net.link else 0x8000
    card.phy[20] = 0x0D60


cdef void _write_mdic(CardState* card, u32 value) noexcept nogil:
    cdef u32 number = value >> 16 & 0x1F
    cdef u16 data = <u16>value
    card.register[MDIC] = value & <u32>0x23FFFFFF | MDIC_READY
    if value >> 21 & 0x1F != 1 or value & MDIC_OPCODE not in (MDIC_READ, MDIC_WRITE):
        card.register[MDIC] |= MDIC_ERROR
    elif value & MDIC_OPCODE == MDIC_READ:
        card.register[MDIC] = (card.register[MDIC] & <u32>0xFFFF0000) | card.phy[number]
    elif number == 0:
        if data & 0x8000:
            _reset_phy(card)
        else:
            card.phy[0] = data & 0xFDFF  # restarting auto-negotiation is over at once
    elif number in (4, 9, 16, 18, 20, 24, 29, 30):
        card.phy[number] = data
    if value & MDIC_INTERRUPT:
        _cause(card, CAUSE_MDAC)


# ---- receiving (3.2)

cdef inline u32 _ring_size(u32 length) noexcept nogil:
    return (length & RING_MASK) // DESCRIPTOR_BYTES


cdef u32 _buffer_bytes(CardState* card) noexcept nogil:
    """RCTL.BSIZE and BSEX (13.4.22)."""
    cdef u32 bits = card.register[RCTL] >> 16 & 3
    if card.register[RCTL] & RCTL_BSEX:
        return <u32>(16384 >> (bits - 1)) if bits else 2048
    return 2048 >> bits


cdef u32 _receive_room(CardState* card) noexcept nogil:
    """How many descriptors the hardware owns: from the head to the tail (3.2.6)."""
    cdef u32 size = _ring_size(card.register[RDLEN])
    cdef u32 head = card.register[RDH]
    cdef u32 tail = card.register[RDT]
    if size == 0 or head >= size or tail >= size:
        return 0
    return tail - head if tail >= head else tail + size - head


cdef bint _is_wanted(CardState* card, const u8* frame) noexcept nogil:
    """The address filters (3.2.1)."""
    cdef u32 control = card.register[RCTL]
    cdef u32 low, high, bits
    cdef int k
    memcpy(&low, frame, 4)
    high = frame[4] | <u32>frame[5] << 8
    if control & RCTL_VFE and frame[12] == 0x81 and frame[13] == 0:
        bits = (<u32>frame[14] << 8 | frame[15]) & 0xFFF
        if not card.register[VFTA + (bits >> 5)] >> (bits & 31) & 1:
            return False
    if low == <u32>0xFFFFFFFF and high == 0xFFFF and control & RCTL_BAM:
        return True
    if control & (RCTL_MPE if frame[0] & 1 else RCTL_UPE):
        return True
    for k in range(16):
        if (card.register[RAL + 2 * k + 1] & <u32>RAH_AV and card.register[RAL + 2 * k] == low
                and card.register[RAL + 2 * k + 1] & 0xFFFF == high):
            return True
    if not frame[0] & 1:
        return False
    k = control >> 12 & 3                # 13.5.1: which twelve bits of the address select one of 4096
    bits = (high >> (4 - k if k < 3 else 0)) & 0xFFF
    return (card.register[MTA + (bits >> 5)] >> (bits & 31) & 1) != 0


cdef void _count(CardState* card, const u8* frame, u32 length, u32 good, u32 broadcast, u32 multicast, u32 octets,
                 u32 all_octets, u32 all_packets) noexcept nogil:
    """Statistics of a good frame of `length` bytes, its CRC included; they stick at their largest value (13.7)."""
    cdef u64 total
    cdef u32 counters[3]
    cdef u32 k
    counters[0] = good
    counters[1] = all_packets
    counters[2] = (broadcast if frame[1] == 0xFF and frame[0] == 0xFF else multicast) if frame[0] & 1 else good
    for k in range(3 if frame[0] & 1 else 2):
        if card.register[counters[k]] != <u32>0xFFFFFFFF:
            card.register[counters[k]] += 1
    counters[0] = octets
    counters[1] = all_octets
    for k in range(2):
        total = card.register[counters[k]] | <u64>card.register[counters[k] + 1] << 32
        total += length
        card.register[counters[k]] = <u32>total
        card.register[counters[k] + 1] = <u32>(total >> 32)


cdef void _check(CardState* card, u32 length, ReceiveDescriptor* last) noexcept nogil:
    """Receive checksum offload (3.2.9) of what lies in card.frame."""
    cdef u32 found
    if not card.register[RXCSUM] & (RXCSUM_IP | RXCSUM_DATA):
        last.status |= RX_IXSM
        return
    found = inspect(&card.frame[0], length)
    if found & CHECK_IP and card.register[RXCSUM] & RXCSUM_IP:
        last.status |= RX_IPCS
        last.errors |= 0 if found & CHECK_IP_GOOD else RX_IPE
    if found & CHECK_DATA and card.register[RXCSUM] & RXCSUM_DATA:
        last.status |= RX_TCPCS
        last.errors |= 0 if found & CHECK_DATA_GOOD else RX_TCPE


cdef int _store(CardState* card, u32 length) noexcept nogil:
    """Puts the frame in card.frame into the ring: 1 done, 0 the ring has no room for it."""
    cdef ReceiveDescriptor descriptor
    cdef ReceiveDescriptor last
    cdef u64 base = (card.register[RDBAL] & <u32>0xFFFFFFF0) | <u64>card.register[RDBAH] << 32
    cdef u32 size = _ring_size(card.register[RDLEN])
    cdef u32 buffer = _buffer_bytes(card)
    cdef u32 total = length
    cdef u32 done = 0
    cdef u32 part, crc, room
    memset(&last, 0, sizeof(ReceiveDescriptor))
    last.status = RX_DD | RX_EOP
    if not _exact(card):
        last.status |= RX_PIF
    _check(card, length, &last)
    if card.register[CTRL] & CTRL_VME and length >= 18 and card.frame[12] == 0x81 and card.frame[13] == 0:
        last.special = <u16>(card.frame[14] << 8 | card.frame[15])       # 3.2.3: the tag is taken out
        last.status |= RX_VP
        for part in range(12, length - 4):
            card.frame[part] = card.frame[part + 4]
        length -= 4
    while length < SMALLEST_SENT:        # what is shorter on our wires has lost only its padding
        card.frame[length] = 0
        length += 1
    total = length
    if not card.register[RCTL] & RCTL_SECRC:
        crc = crc32(&card.frame[0], length)
        memcpy(&card.frame[length], &crc, 4)
        total += 4
    if _receive_room(card) * buffer < total:
        return 0
    while done < total:
        part = min(total - done, buffer)
        if dma_read(card.space, base + <u64>card.register[RDH] * DESCRIPTOR_BYTES, &descriptor, DESCRIPTOR_BYTES):
            return 1                     # the ring is no memory: the frame is lost, as on a bus that nobody answers
        if descriptor.address:           # 3.2.6: null descriptors are skipped by the DMA
            dma_write(card.space, descriptor.address, &card.frame[done], part)
        done += part
        descriptor.length = <u16>part
        descriptor.checksum = 0
        descriptor.status = RX_DD if done < total else last.status
        descriptor.errors = 0 if done < total else last.errors
        descriptor.special = 0 if done < total else last.special
        dma_write(card.space, base + <u64>card.register[RDH] * DESCRIPTOR_BYTES, &descriptor, DESCRIPTOR_BYTES)
        card.register[RDH] += 1
        if card.register[RDH] >= size:
            card.register[RDH] = 0
    _count(card, &card.frame[0], length + 4, GPRC, BPRC, MPRC, GORCL, TORL, TPR)
    room = _receive_room(card)
    if room <= size >> (1 + (card.register[RCTL] >> 8 & 3)):
        _cause(card, CAUSE_RXDMT0)
    if card.register[RDTR] & 0xFFFF:
        _delayed(card, &card.receive_delay, &card.receive_limit_ns, card.register[RDTR], card.register[RADV])
    else:
        _cause(card, CAUSE_RXT0)
    return 1


cdef bint _exact(CardState* card) noexcept nogil:
    """Whether the frame passed an exact filter, not one of hashes (PIF)."""
    cdef u32 low
    cdef int k
    memcpy(&low, &card.frame[0], 4)
    for k in range(16):
        if (card.register[RAL + 2 * k + 1] & <u32>RAH_AV and card.register[RAL + 2 * k] == low
                and card.register[RAL + 2 * k + 1] & 0xFFFF == (card.frame[4] | <u32>card.frame[5] << 8)):
            return True
    return not card.frame[0] & 1 or (low == <u32>0xFFFFFFFF and card.frame[4] == 0xFF and card.frame[5] == 0xFF)


cdef u64 _receive(CardState* card) noexcept nogil:
    """Receives what has come; gives after how many ns there is more to do, NEVER: not before something happens."""
    cdef NetState* net = card.net
    cdef u64 wait
    cdef u32 length, tail
    cdef int _done
    if not card.register[RCTL] & RCTL_EN or not card.register[STATUS] & STATUS_LINK_UP:
        return NEVER
    for _done in range(FRAMES):
        length = net_waiting(net)
        if length == 0:
            return NEVER
        wait = throttle_wait(&net.receive, card.clock.now_ns)
        if wait:
            return wait
        tail = net.input_tail
        net_receive(net, &card.frame[0])
        if not _is_wanted(card, &card.frame[0]) or (length > LARGEST_SHORT and not card.register[RCTL] & RCTL_LPE):
            net.received_lost += 1
            continue
        if not _store(card, length):
            net.input_tail = tail        # it stays in the port until there are descriptors
            return NEVER
        throttle_charge(&net.receive, card.clock.now_ns, length)
    return MORE_WORK_NS


# ---- transmitting (3.3)

cdef void _emit(void* owner, const u8* frame, u32 length) noexcept nogil:
    cdef CardState* card = <CardState*>owner
    cdef u8 padded[SMALLEST_SENT]
    throttle_charge(&card.net.transmit, card.clock.now_ns, length)
    _count(card, frame, (length if length > SMALLEST_SENT else <u32>SMALLEST_SENT) + 4, GPTC, BPTC, MPTC, GOTCL, TOTL, TPT)
    if length < SMALLEST_SENT and card.register[TCTL] & TCTL_PSP:
        memset(&padded[0], 0, SMALLEST_SENT)
        memcpy(&padded[0], frame, length)
        net_send(card.net, &padded[0], SMALLEST_SENT)
    else:
        net_send(card.net, frame, length)


cdef void _put_options(CardState* card, Context* context) noexcept nogil:
    """Inserts the checksums that the first descriptor's POPTS asks for (3.3.7.2, 3.5.2)."""
    cdef u32 end
    if card.packet_options & TX_IXSM:
        end = context.ip_end + 1 if context.ip_end else card.packet_bytes
        put_checksum(&card.packet[0], card.packet_bytes, context.ip_start, end, context.ip_place)
    if card.packet_options & TX_TXSM:
        end = context.data_end + 1 if context.data_end else card.packet_bytes
        put_checksum(&card.packet[0], card.packet_bytes, context.data_start, end, context.data_place)


cdef bint _put_tag(CardState* card, u16 tag) noexcept nogil:
    """Inserts a VLAN tag (3.3.3.2, VLE)."""
    cdef u32 k
    if card.packet_bytes + 4 > PACKET_BYTES or card.packet_bytes < NET_FRAME_SMALLEST:
        return False
    k = card.packet_bytes
    while k > 12:
        k -= 1
        card.packet[k + 4] = card.packet[k]
    card.packet[12] = <u8>(card.register[VET] >> 8)
    card.packet[13] = <u8>card.register[VET]
    card.packet[14] = <u8>(tag >> 8)
    card.packet[15] = <u8>tag
    card.packet_bytes += 4
    return True


cdef void _send(CardState* card, TransmitDescriptor* last) noexcept nogil:
    """Sends the packet that is complete with the descriptor `last`."""
    cdef Context context = card.segment_context if last.lower & TX_IC else card.checksum_context
    cdef u32 headers, tag_bytes = 0
    cdef bint good
    if card.packet_too_long or card.packet_bytes < NET_FRAME_SMALLEST:
        card.net.sent_lost += 1
        return
    if not card.packet_is_data:
        if last.lower & TX_IC:           # 3.3.3.1: CSS and CSO are in the descriptor
            put_checksum(&card.packet[0], card.packet_bytes, last.upper >> 8 & 0xFF, card.packet_bytes, last.lower >> 16 & 0xFF)
    elif not last.lower & TX_IC:
        _put_options(card, &context)
    if last.lower & <u32>TX_VLE and card.register[CTRL] & CTRL_VME:
        if not _put_tag(card, <u16>(last.upper >> 16)):
            card.net.sent_lost += 1
            return
        tag_bytes = 4
    if card.packet_is_data and last.lower & TX_IC:
        headers = context.header_length + tag_bytes
        good = (headers + context.segment_size <= NET_FRAME_BYTES and headers < card.packet_bytes
                and segment_tcp(&card.packet[0], card.packet_bytes, headers, context.segment_size, context.ip_start + tag_bytes,
                                context.data_start + tag_bytes, &card.segment[0], _emit, card) == 0)
        if good and card.register[TSCTC] != <u32>0xFFFFFFFF:
            card.register[TSCTC] += 1
    else:
        good = card.packet_bytes <= NET_FRAME_BYTES
        if good:
            _emit(card, &card.packet[0], card.packet_bytes)
    if not good:
        card.net.sent_lost += 1


cdef void _gather(CardState* card, TransmitDescriptor* descriptor) noexcept nogil:
    """One descriptor's part of the packet."""
    cdef u32 length = descriptor.lower & 0xFFFF
    cdef bint is_data = (descriptor.lower & TX_DEXT) != 0
    if is_data:
        length = descriptor.lower & 0xFFFFF
    if card.packet_bytes == 0 and not card.packet_too_long:
        card.packet_is_data = is_data
        card.packet_options = <u8>(descriptor.upper >> 8) if is_data else 0
    if length > PACKET_BYTES - card.packet_bytes or dma_read(card.space, descriptor.address, &card.packet[card.packet_bytes], length):
        card.packet_too_long = 1
    else:
        card.packet_bytes += length
    if descriptor.lower & TX_EOP:
        _send(card, descriptor)
        card.packet_bytes = 0
        card.packet_too_long = 0


cdef u64 _transmit(CardState* card) noexcept nogil:
    """Works on the ring; gives after how many ns there is more to do, NEVER: not before the tail is written."""
    cdef TransmitDescriptor descriptor
    cdef Context* context
    cdef u64 base = (card.register[TDBAL] & <u32>0xFFFFFFF0) | <u64>card.register[TDBAH] << 32
    cdef u32 size = _ring_size(card.register[TDLEN])
    cdef u32 causes = 0
    cdef u64 wait, address
    cdef u64 more = MORE_WORK_NS
    cdef int _done
    for _done in range(DESCRIPTORS):
        if (not card.register[TCTL] & TCTL_EN or card.register[TDH] == card.register[TDT] or card.register[TDH] >= size
                or card.register[TDT] >= size):
            more = NEVER
            break
        if card.packet_bytes == 0:
            wait = throttle_wait(&card.net.transmit, card.clock.now_ns)
            if wait:
                more = wait
                break
        address = base + <u64>card.register[TDH] * DESCRIPTOR_BYTES
        if dma_read(card.space, address, &descriptor, DESCRIPTOR_BYTES):
            more = NEVER
            break
        if descriptor.lower & TX_DEXT and descriptor.lower & TX_TYPE == TX_TYPE_CONTEXT:
            context = &card.segment_context if descriptor.lower & TX_IC else &card.checksum_context
            memcpy(context, &descriptor, DESCRIPTOR_BYTES)
        else:
            _gather(card, &descriptor)
        if descriptor.lower & TX_RS:     # 3.3.3.3: only these are written back
            descriptor.upper |= TX_DD
            dma_write(card.space, address + 12, &descriptor.upper, 4)
            if descriptor.lower & <u32>TX_IDE and card.register[TIDV] & 0xFFFF:
                _delayed(card, &card.transmit_delay, &card.transmit_limit_ns, card.register[TIDV], card.register[TADV])
            else:
                causes |= CAUSE_TXDW
        card.register[TDH] += 1
        if card.register[TDH] >= size:
            card.register[TDH] = 0
        if card.register[TDH] == card.register[TDT]:
            causes |= CAUSE_TXQE
    if causes:
        _cause(card, causes)
    return more


# ---- work

cdef void _wake(CardState* card, u8 what) noexcept nogil:
    card.waiting |= what
    if card.work.deadline_ns > card.clock.now_ns + LATENCY_NS:
        timer_arm(card.clock, &card.work, card.clock.now_ns + LATENCY_NS)


cdef void _work(void* owner, u64 now_ns) noexcept nogil:
    cdef CardState* card = <CardState*>owner
    cdef u8 waiting = card.waiting
    cdef u64 wait, next_ns = NEVER
    if not card.function.config[PCI_COMMAND] & COMMAND_MASTER:
        return                           # it waits until the function may reach memory, see _config_written
    card.waiting = 0
    if waiting & WORK_TRANSMIT:
        wait = _transmit(card)
        if wait != NEVER:
            card.waiting |= WORK_TRANSMIT
            next_ns = wait
    if waiting & WORK_RECEIVE:
        wait = _receive(card)
        if wait != NEVER:
            card.waiting |= WORK_RECEIVE
            next_ns = min(next_ns, wait)
    if next_ns < NEVER - card.clock.now_ns:
        timer_arm(card.clock, &card.work, card.clock.now_ns + next_ns)


cdef void _config_written(void* owner, int offset, int size) noexcept nogil:
    cdef CardState* card = <CardState*>owner
    if card.waiting and card.work.deadline_ns == NEVER:
        _wake(card, 0)


cdef void _set_link(CardState* card) noexcept nogil:
    """The link is up when the cable is plugged in."""
    cdef u32 before = card.register[STATUS]
    card.register[STATUS] = STATUS_LINKED if card.net.link else STATUS_LINKED & ~STATUS_LINK_UP
    card.phy[1] = 0x796D if card.net.link else 0x7949
    card.phy[17] = 0xAC08 if card.net.link else 0x8000
    if before != card.register[STATUS]:
        _cause(card, CAUSE_LSC)


cdef void _ready(void* owner) noexcept nogil:
    """A frame has come, or the link has changed."""
    _set_link(<CardState*>owner)
    _wake(<CardState*>owner, WORK_RECEIVE)


# ---- registers

cdef void _reset(CardState* card) noexcept nogil:
    """CTRL.RST and power-on (14.3): registers as they begin, the address from the EEPROM."""
    memset(&card.register[0], 0, sizeof(card.register))
    card.register[CTRL] = 0x00000A09 & ~0x400        # FD, ASDE, speed 1000
    card.register[STATUS] = STATUS_LINKED if card.net.link else STATUS_LINKED & ~STATUS_LINK_UP
    card.register[PBA] = 0x00100030
    card.register[LEDCTL] = 0x07068302
    card.register[VET] = 0x8100
    card.register[TXCW] = 0
    memcpy(&card.register[RAL], &card.mac[0], 4)
    card.register[RAL + 1] = card.mac[4] | <u32>card.mac[5] << 8 | <u32>RAH_AV
    card.waiting = 0
    card.eeprom_started = 0
    card.eeprom_bits = 0
    card.eeprom_outputs = 0
    card.packet_bytes = 0
    card.packet_too_long = 0
    card.packet_is_data = 0
    card.packet_options = 0
    memset(&card.checksum_context, 0, sizeof(Context))
    memset(&card.segment_context, 0, sizeof(Context))
    card.quiet_until_ns = 0
    card.receive_limit_ns = NEVER
    card.transmit_limit_ns = NEVER
    timer_cancel(card.clock, &card.work)
    timer_cancel(card.clock, &card.throttle)
    timer_cancel(card.clock, &card.receive_delay)
    timer_cancel(card.clock, &card.transmit_delay)
    throttle_reset(&card.net.transmit)
    throttle_reset(&card.net.receive)
    set_intx(card.function, False)


cdef u32 _read_register(CardState* card, u32 index) noexcept nogil:
    cdef u32 value
    if index >= REGISTERS:
        return 0
    value = card.register[index]
    if index == EECD:
        return _read_eecd(card)
    if index == ICR:                     # 13.4.17: cleared by reading
        card.register[ICR] = 0
        _update_interrupt(card)
    elif STATISTICS <= index < STATISTICS_END:
        card.register[index] = 0         # 13.7: so are these; the octet counters by their upper half
        if index in (GORCL, GOTCL, TORL, TOTL):
            card.register[index] = value
        elif index in (GORCL + 1, GOTCL + 1, TORL + 1, TOTL + 1):
            card.register[index - 1] = 0
    elif index in (ICS, IMC):
        return 0
    return value


cdef void _write_register(CardState* card, u32 index, u32 value) noexcept nogil:
    if index == CTRL:
        if value & CTRL_RST:
            _reset(card)
            return
        if value & <u32>CTRL_PHY_RST:
            _reset_phy(card)
        card.register[CTRL] = value & ~(<u32>CTRL_PHY_RST | CTRL_RST)
    elif index == EECD:
        _write_eecd(card, value)
    elif index == EERD:
        _write_eerd(card, value)
    elif index == MDIC:
        _write_mdic(card, value)
    elif index == CTRL_EXT:
        card.register[index] = value & ~<u32>CTRL_EXT_EE_RST
    elif index == ICR:                   # writing ones clears, too
        card.register[ICR] &= ~value
        _update_interrupt(card)
    elif index == ICS:
        _cause(card, value & CAUSES)
    elif index == IMS:
        card.register[IMS] |= value & CAUSES
        _update_interrupt(card)
    elif index == IMC:
        card.register[IMS] &= ~value
        _update_interrupt(card)
    elif index in (RDLEN, TDLEN):
        card.register[index] = value & RING_MASK
    elif index in (RDH, TDH):
        card.register[index] = value & 0xFFFF
    elif index in (RDT, RCTL):
        card.register[index] = value & 0xFFFF if index == RDT else value
        _wake(card, WORK_RECEIVE)
    elif index in (TDT, TCTL):
        card.register[index] = value & 0xFFFF if index == TDT else value
        _wake(card, WORK_TRANSMIT)
    elif index == RDTR:
        card.register[index] = value & 0xFFFF
        if value & <u32>0x80000000 and card.receive_delay.deadline_ns != NEVER:      # 13.4.30: flush what is delayed
            timer_cancel(card.clock, &card.receive_delay)
            _receive_delay_over(card, card.clock.now_ns)
    elif (index in (FCAL, FCAH, FCT, VET, ITR, FCTTV, TXCW, TIPG, AIT, LEDCTL, PBA, FCRTL, FCRTH, RDBAL, RDBAH, RXDCTL, RADV, RSRPD,
                    TDBAL, TDBAH, TIDV, TXDCTL, TADV, RXCSUM, WUC, WUFC, MANC)
            or MTA <= index < RA_END or VFTA <= index < VFTA_END):
        card.register[index] = value


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    """Registers are 32 bits wide (13.2); a smaller read gets its part, a larger one two."""
    cdef CardState* card = <CardState*>owner
    cdef u64 value = _read_register(card, <u32>(offset >> 2))
    if size == 8:
        return value | <u64>_read_register(card, <u32>(offset >> 2) + 1) << 32
    return value >> (8 * (offset & 3))


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    """Writes smaller than a register are ignored, as are those that are not aligned."""
    cdef CardState* card = <CardState*>owner
    if offset & 3 or size < 4:
        return
    _write_register(card, <u32>(offset >> 2), <u32>value)
    if size == 8:
        _write_register(card, <u32>(offset >> 2) + 1, <u32>(value >> 32))


cdef u64 _read_port(void* owner, u64 offset, int size) noexcept nogil:
    """13.3: the register's address at 0, its data at 4."""
    cdef CardState* card = <CardState*>owner
    if size != 4:
        return 0
    if offset == 0:
        return card.io_address
    if offset == 4 and card.io_address < MEMORY_BYTES:
        return _read_register(card, card.io_address >> 2)
    return 0


cdef void _write_port(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef CardState* card = <CardState*>owner
    if size != 4:
        return
    if offset == 0:
        card.io_address = <u32>value
    elif offset == 4 and card.io_address < MEMORY_BYTES:
        _write_register(card, card.io_address >> 2, <u32>value)


@cython.final
cdef class E1000(PciDevice):
    """A gigabit network card (82540EM) at the end `port` of a cable; the port's address is in its EEPROM."""
    def __init__(self, PciBus bus not None, int slot, PhysicalMemory memory not None, Clock clock not None, NetPort port not None):
        cdef CardState* card = &self.state
        cdef PciFunction* function = &self.function
        self._port, self._memory, self._clock = port, memory, clock
        self.begin("e1000", bus, slot, 0, 0x8086, 0x100E, 0x020000, 3)
        set_config(function, PCI_SUBSYSTEM_VENDOR, 2, 0x1AF4)
        set_config(function, PCI_SUBSYSTEM, 2, 0x1100)
        set_config(function, PCI_INTERRUPT_PIN, 1, 1)
        card.function = function
        card.net = &port.state
        card.space = &memory.space
        card.clock = &clock.state
        memcpy(&card.mac[0], <const u8*>port.mac, 6)
        self._fill_eeprom()
        add_bar(function, 0, MEMORY_BYTES, False, False, False, _read, _write, card)
        add_bar(function, 1, PORTS, True, False, False, _read_port, _write_port, card)
        self.region = region("e1000", MEMORY_BYTES, _read, _write, card, self)
        self.ports = region("e1000 ports", PORTS, _read_port, _write_port, card, self)
        function.owner = card
        function.after_write = _config_written
        clock.attach(&card.work, _work, card, self)
        clock.attach(&card.throttle, _throttle_over, card, self)
        clock.attach(&card.receive_delay, _receive_delay_over, card, self)
        clock.attach(&card.transmit_delay, _transmit_delay_over, card, self)
        self._declare()
        self.plug()
        _reset(card)
        _reset_phy(card)
        port.attach(_ready, card, self)

    def _fill_eeprom(self):
        """5.6: address, identity and a checksum, with which all words add up to 0xBABA."""
        words = [0] * EEPROM_WORDS
        mac = self._port.mac
        for k in range(3):
            words[k] = mac[2 * k] | mac[2 * k + 1] << 8
        words[0x0A] = 0x4408             # initialisation control 1
        words[0x0B], words[0x0C] = 0x1100, 0x1AF4
        words[0x0D], words[0x0E] = 0x100E, 0x8086
        words[0x0F] = 0x8000             # initialisation control 2
        words[0x3F] = (0xBABA - sum(words)) & 0xFFFF
        for k in range(EEPROM_WORDS):
            self.state.eeprom[k] = words[k]

    def _declare(self):
        cdef CardState* card = &self.state
        for name, kind, address, count in (
                ("registers", "u32", <u64>&card.register[0], REGISTERS), ("phy", "u16", <u64>&card.phy[0], 32),
                ("io_address", "u32", <u64>&card.io_address, 1), ("waiting", "u8", <u64>&card.waiting, 1),
                ("eeprom_shift", "u32", <u64>&card.eeprom_shift, 1), ("eeprom_bits", "u8", <u64>&card.eeprom_bits, 1),
                ("eeprom_started", "u8", <u64>&card.eeprom_started, 1), ("eeprom_output", "u16", <u64>&card.eeprom_output, 1),
                ("eeprom_outputs", "u8", <u64>&card.eeprom_outputs, 1),
                ("checksum_context", "bytes", <u64>&card.checksum_context, DESCRIPTOR_BYTES),
                ("segment_context", "bytes", <u64>&card.segment_context, DESCRIPTOR_BYTES),
                ("packet", "bytes", <u64>&card.packet[0], PACKET_BYTES), ("packet_bytes", "u32", <u64>&card.packet_bytes, 1),
                ("packet_too_long", "u8", <u64>&card.packet_too_long, 1),
                ("packet_options", "u8", <u64>&card.packet_options, 1),
                ("packet_is_data", "u8", <u64>&card.packet_is_data, 1),
                ("work_ns", "u64", <u64>&card.work.deadline_ns, 1), ("throttle_ns", "u64", <u64>&card.throttle.deadline_ns, 1),
                ("quiet_until_ns", "u64", <u64>&card.quiet_until_ns, 1),
                ("receive_delay_ns", "u64", <u64>&card.receive_delay.deadline_ns, 1),
                ("receive_limit_ns", "u64", <u64>&card.receive_limit_ns, 1),
                ("transmit_delay_ns", "u64", <u64>&card.transmit_delay.deadline_ns, 1),
                ("transmit_limit_ns", "u64", <u64>&card.transmit_limit_ns, 1)):
            self._add(name, kind, address, count)

    def _add(self, str name, str kind, u64 address, int count):
        cdef StateFields fields = self.fields
        fields.add(name, kind, <void*>address, count)

    def _restored(self):
        cdef CardState* card = &self.state
        if card.packet_bytes > PACKET_BYTES:
            raise SnapshotError(f"{self.fields.component}.packet_bytes", str(card.packet_bytes), f"at most {PACKET_BYTES}")
        if card.eeprom_outputs > 17:
            raise SnapshotError(f"{self.fields.component}.eeprom_outputs", str(card.eeprom_outputs), "at most 17")
        PciDevice._restored(self)
        for deadline, timer in ((card.work.deadline_ns, 0), (card.throttle.deadline_ns, 1),
                                (card.receive_delay.deadline_ns, 2), (card.transmit_delay.deadline_ns, 3)):
            self._arm(timer, deadline)

    cdef void _arm(self, int which, u64 deadline) noexcept:
        cdef CardState* card = &self.state
        cdef Timer* timer = &card.work
        if which == 1:
            timer = &card.throttle
        elif which == 2:
            timer = &card.receive_delay
        elif which == 3:
            timer = &card.transmit_delay
        timer_arm(card.clock, timer, deadline)

    def reset(self):
        """Reset of the bus: the card as after power-on."""
        _reset(&self.state)
        _reset_phy(&self.state)
        self.state.io_address = 0
        PciDevice.reset(self)

    @property
    def port(self):
        """The end of the cable."""
        return self._port
