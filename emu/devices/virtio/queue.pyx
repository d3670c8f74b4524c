# Split virtqueues: taking descriptor chains from a guest's ring, and giving them back.
#
# Source: Virtual I/O Device (VIRTIO) 1.2, 2.7 (sections in comments). All that is in guest memory is hostile: every
# index, length, flag and address is checked, a chain has at most QUEUE_MAXIMUM segments, and whatever is wrong gives -1,
# upon which the transport sets DEVICE_NEEDS_RESET.
from emu.base.types cimport u8, u16, u32, u64
from emu.memory.space cimport Space, dma_read, dma_write

cdef enum:
    DESCRIPTOR_BYTES = 16
    DESCRIPTOR_NEXT = 1
    DESCRIPTOR_WRITE = 2
    DESCRIPTOR_INDIRECT = 4
    NO_INTERRUPT = 1


cdef packed struct Descriptor:
    u64 address
    u32 length
    u16 flags
    u16 next


cdef packed struct UsedElement:
    u32 identity
    u32 length


cdef void queue_reset(VirtQueue* queue) noexcept nogil:
    """As after a device reset; `maximum` stays."""
    queue.size = queue.maximum
    queue.vector = 0xFFFF
    queue.enabled = 0
    queue.indirect = 0
    queue.event_index = 0
    queue.descriptors = 0
    queue.driver = 0
    queue.device = 0
    queue.next_available = 0
    queue.next_used = 0
    queue.signalled = 0


cdef int queue_pop(VirtQueue* queue, Space* space, Chain* chain) noexcept nogil:
    """Takes the next available chain: 1 where there is one, 0 where there is none, -1 where the ring is bad."""
    cdef u16 index
    cdef u16 head
    if dma_read(space, queue.driver + 2, &index, 2):
        return -1
    if index == queue.next_available:
        # 2.7.10: with event indices the device says at which index it wants to be told again
        if queue.event_index and dma_write(space, queue.device + 4 + 8 * <u64>queue.size, &queue.next_available, 2):
            return -1
        return 0
    if <u16>(index - queue.next_available) > queue.size:
        return -1
    if dma_read(space, queue.driver + 4 + 2 * <u64>(queue.next_available & (queue.size - 1)), &head, 2) or head >= queue.size:
        return -1
    chain.head = head
    if _walk(queue, space, chain):
        return -1
    queue.next_available += 1
    return 1


cdef int _walk(VirtQueue* queue, Space* space, Chain* chain) noexcept nogil:
    """Gathers the segments of the chain at chain.head (2.7.5)."""
    cdef Descriptor descriptor
    cdef u64 table = queue.descriptors
    cdef u32 entries = queue.size
    cdef u32 index = chain.head
    cdef bint is_indirect = False
    chain.count = 0
    chain.readable = 0
    chain.readable_bytes = 0
    chain.writable_bytes = 0
    while True:
        if index >= entries or dma_read(space, table + <u64>DESCRIPTOR_BYTES * index, &descriptor, DESCRIPTOR_BYTES):
            return -1
        if descriptor.flags & DESCRIPTOR_INDIRECT:
            # 2.7.5.3: once, at the end of the chain, never nested
            if (is_indirect or not queue.indirect or descriptor.flags & DESCRIPTOR_NEXT or descriptor.length == 0
                    or descriptor.length % DESCRIPTOR_BYTES):
                return -1
            is_indirect = True
            table = descriptor.address
            entries = descriptor.length // DESCRIPTOR_BYTES
            index = 0
            continue
        if chain.count == QUEUE_MAXIMUM or descriptor.address + descriptor.length < descriptor.address:
            return -1
        if descriptor.flags & DESCRIPTOR_WRITE:
            chain.writable_bytes += descriptor.length
        else:
            if chain.count != chain.readable:
                return -1                    # 2.7.4.2: what the device may read comes first
            chain.readable += 1
            chain.readable_bytes += descriptor.length
        chain.segment[chain.count].address = descriptor.address
        chain.segment[chain.count].length = descriptor.length
        chain.count += 1
        if chain.readable_bytes + chain.writable_bytes > <u64>0x100000000:
            return -1                        # 2.7.5: at most 2**32 bytes in all
        if not descriptor.flags & DESCRIPTOR_NEXT:
            return 0
        index = descriptor.next


cdef void queue_unpop(VirtQueue* queue) noexcept nogil:
    """Puts the chain that was popped last back, to be popped again later."""
    queue.next_available -= 1


cdef int queue_push(VirtQueue* queue, Space* space, Chain* chain, u32 written) noexcept nogil:
    """Gives a chain back with the number of bytes written to it; -1 where the used ring is not memory."""
    cdef UsedElement element
    cdef u16 next_used = queue.next_used + 1
    element.identity = chain.head
    element.length = written
    if dma_write(space, queue.device + 4 + 8 * <u64>(queue.next_used & (queue.size - 1)), &element, 8):
        return -1
    if dma_write(space, queue.device + 2, &next_used, 2):
        return -1
    queue.next_used = next_used
    return 0


cdef int queue_should_signal(VirtQueue* queue, Space* space) noexcept nogil:
    """Whether the driver wants an interrupt for what was pushed since the last one (2.7.7, 2.7.10); -1: bad ring."""
    cdef u16 value
    cdef u16 before = queue.signalled
    if queue.next_used == before:
        return 0
    if not queue.event_index:
        if dma_read(space, queue.driver, &value, 2):
            return -1
        queue.signalled = queue.next_used
        return 0 if value & NO_INTERRUPT else 1
    if dma_read(space, queue.driver + 4 + 2 * <u64>queue.size, &value, 2):
        return -1
    queue.signalled = queue.next_used
    return 1 if <u16>(queue.next_used - value - 1) < <u16>(queue.next_used - before) else 0


cdef int _transfer(Chain* chain, Space* space, int first, int end, u64 offset, u8* data, u64 length, bint write) noexcept nogil:
    cdef u64 chunk
    cdef int k = first
    cdef int status
    while length:
        if k == end:
            return -1
        if offset >= chain.segment[k].length:
            offset -= chain.segment[k].length
            k += 1
            continue
        chunk = chain.segment[k].length - offset
        if chunk > length:
            chunk = length
        if write:
            status = dma_write(space, chain.segment[k].address + offset, data, chunk)
        else:
            status = dma_read(space, chain.segment[k].address + offset, data, chunk)
        if status:
            return -1
        data += chunk
        length -= chunk
        offset += chunk
    return 0


cdef int chain_read(Chain* chain, Space* space, u64 offset, void* data, u64 length) noexcept nogil:
    """Copies from the readable part of a chain; -1 where it is shorter, or not memory."""
    return _transfer(chain, space, 0, chain.readable, offset, <u8*>data, length, False)


cdef int chain_write(Chain* chain, Space* space, u64 offset, const void* data, u64 length) noexcept nogil:
    """Copies to the writable part of a chain; -1 where it is shorter, or not memory."""
    return _transfer(chain, space, chain.readable, chain.count, offset, <u8*>data, length, True)
