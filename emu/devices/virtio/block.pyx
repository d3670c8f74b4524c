# virtio block device (VIRTIO 1.2, 5.2) over a DiskBackend.
import cython

from libc.string cimport memcpy, memset

from emu.base.clock cimport Clock
from emu.base.errors import UsageError
from emu.base.types cimport u8, u16, u32, u64
from emu.devices.backend.disk cimport DiskBackend, DiskState, SECTOR_BYTES, disk_flush, disk_read, disk_write, disk_zero
from emu.devices.pci.bus cimport PciBus
from emu.devices.throttle cimport (ThrottleState, throttle_charge, throttle_declare, throttle_reset, throttle_set, throttle_usage,
                                   throttle_wait)
from emu.devices.throttle import Limits
from emu.devices.virtio.pci cimport PROCESS_LATER, VirtioDevice, VirtioState
from emu.devices.virtio.queue cimport Chain, chain_read, chain_write, queue_pop, queue_push, queue_unpop
from emu.memory.space cimport PhysicalMemory, Space, dma_pointer, dma_read, dma_write

cdef enum:
    KIND_BLOCK = 2
    CLASS_STORAGE = 0x010000
    FEATURE_SIZE_MAX = 1
    FEATURE_SEG_MAX = 2
    FEATURE_READONLY = 5
    FEATURE_BLOCK_SIZE = 6
    FEATURE_FLUSH = 9
    FEATURE_DISCARD = 13
    FEATURE_WRITE_ZEROES = 14
    # Requests (5.2.6)
    REQUEST_READ = 0
    REQUEST_WRITE = 1
    REQUEST_FLUSH = 4
    REQUEST_GET_ID = 8
    REQUEST_DISCARD = 11
    REQUEST_WRITE_ZEROES = 13
    HEADER_BYTES = 16
    IDENTITY_BYTES = 20
    STATUS_OK = 0
    STATUS_ERROR = 1
    STATUS_UNSUPPORTED = 2
    # Limits that the driver is told, so that one piece of work stays short
    SEGMENT_BYTES = 65536
    SEGMENTS = 126
    TRANSFER_BYTES = SEGMENT_BYTES * SEGMENTS
    ZERO_SECTORS = 16384                 # 8 MiB
    PIECE_BYTES = 1 << 20                # a piece of work ends after this much
    CHAINS = 256
    BOUNCE_BYTES = 4096
    CONFIG_BYTES = 60
    LATENCY_NS = 5000


cdef packed struct Config:               # 5.2.4
    u64 capacity                         # in sectors of 512 bytes
    u32 size_max
    u32 seg_max
    u16 cylinders
    u8 heads
    u8 sectors
    u32 blk_size
    u8 physical_block_exp
    u8 alignment_offset
    u16 min_io_size
    u32 opt_io_size
    u8 writeback
    u8 unused0
    u16 num_queues
    u32 max_discard_sectors
    u32 max_discard_seg
    u32 discard_sector_alignment
    u32 max_write_zeroes_sectors
    u32 max_write_zeroes_seg
    u8 write_zeroes_may_unmap
    u8 unused1[3]


cdef packed struct Header:
    u32 kind
    u32 reserved
    u64 sector


cdef packed struct ZeroRange:
    u64 sector
    u32 sectors
    u32 flags                            # bit 0: unmap


cdef struct BlockState:
    VirtioState* virtio
    DiskState* disk
    ThrottleState throttle
    u8 identity[IDENTITY_BYTES]


cdef int _move(BlockState* block, u64 offset, u64 address, u64 length, bint to_guest) noexcept nogil:
    """Moves disk bytes to or from guest memory: 0, 1 for a disk error, -1 where the address is not memory."""
    cdef Space* space = block.virtio.space
    cdef u8* host = dma_pointer(space, address, length, to_guest)
    cdef u8 bounce[BOUNCE_BYTES]
    cdef u64 chunk
    if host != NULL:
        if to_guest:
            return 1 if disk_read(block.disk, offset, host, length) else 0
        return 1 if disk_write(block.disk, offset, host, length) else 0
    while length:                        # memory in several parts, or none
        chunk = min(length, <u64>BOUNCE_BYTES)
        if to_guest:
            if disk_read(block.disk, offset, &bounce[0], chunk):
                return 1
            if dma_write(space, address, &bounce[0], chunk):
                return -1
        else:
            if dma_read(space, address, &bounce[0], chunk):
                return -1
            if disk_write(block.disk, offset, &bounce[0], chunk):
                return 1
        offset += chunk
        address += chunk
        length -= chunk
    return 0


cdef int _transfer(BlockState* block, u64 sector, u64 length, bint to_guest) noexcept nogil:
    """Reads or writes `length` bytes through the data segments: 0, 1 for a disk error, -1 for a bad chain."""
    cdef Chain* chain = &block.virtio.chain
    cdef int k = chain.readable if to_guest else 0
    cdef u64 skip = 0 if to_guest else HEADER_BYTES
    cdef u64 offset, part
    cdef int status
    if (length % SECTOR_BYTES or length > TRANSFER_BYTES or sector > block.disk.bytes // SECTOR_BYTES
            or length > block.disk.bytes - sector * SECTOR_BYTES):
        return 1
    offset = sector * SECTOR_BYTES
    while length:
        part = chain.segment[k].length
        if skip >= part:
            skip -= part
        else:
            part = min(part - skip, length)
            status = _move(block, offset, chain.segment[k].address + skip, part, to_guest)
            if status:
                return status
            offset += part
            length -= part
            skip = 0
        k += 1
    return 0


cdef int _zero(BlockState* block, u64 length, bint is_discard) noexcept nogil:
    """Discards or zeroes the one range that follows the header: a status, or -1 for a bad chain."""
    cdef ZeroRange asked
    cdef u64 sectors = block.disk.bytes // SECTOR_BYTES
    if length != sizeof(ZeroRange):      # max_discard_seg and max_write_zeroes_seg are 1
        return STATUS_UNSUPPORTED if length else STATUS_ERROR
    if chain_read(&block.virtio.chain, block.virtio.space, HEADER_BYTES, &asked, sizeof(ZeroRange)):
        return -1
    if asked.flags & ~<u32>1 or (is_discard and asked.flags):
        return STATUS_UNSUPPORTED        # 5.2.6.2
    if asked.sectors > ZERO_SECTORS or asked.sector > sectors or asked.sectors > sectors - asked.sector:
        return STATUS_ERROR
    return STATUS_ERROR if disk_zero(block.disk, asked.sector * SECTOR_BYTES, <u64>asked.sectors * SECTOR_BYTES) else STATUS_OK


cdef int _serve(BlockState* block, u64* moved, u32* written) noexcept nogil:
    """Serves the request in the chain: a status, or -1 for a bad chain."""
    cdef Chain* chain = &block.virtio.chain
    cdef Header header
    cdef u64 incoming, outgoing
    cdef int status
    if chain.readable_bytes < HEADER_BYTES or chain.writable_bytes < 1:
        return -1
    if chain_read(chain, block.virtio.space, 0, &header, HEADER_BYTES):
        return -1
    outgoing = chain.readable_bytes - HEADER_BYTES
    incoming = chain.writable_bytes - 1
    if header.kind == REQUEST_READ:
        status = _transfer(block, header.sector, incoming, True)
        moved[0] += incoming
        written[0] = <u32>incoming if status == 0 else 0
        return status
    if header.kind == REQUEST_WRITE:
        moved[0] += outgoing
        return STATUS_ERROR if block.disk.readonly else _transfer(block, header.sector, outgoing, False)
    if header.kind == REQUEST_FLUSH:
        return STATUS_ERROR if disk_flush(block.disk) else STATUS_OK
    if header.kind == REQUEST_GET_ID:
        if incoming < IDENTITY_BYTES:
            return STATUS_ERROR
        written[0] = IDENTITY_BYTES
        return -1 if chain_write(chain, block.virtio.space, 0, &block.identity[0], IDENTITY_BYTES) else STATUS_OK
    if (header.kind == REQUEST_DISCARD or header.kind == REQUEST_WRITE_ZEROES) and not block.disk.readonly:
        moved[0] += PIECE_BYTES // 4
        return _zero(block, outgoing, header.kind == REQUEST_DISCARD)
    return STATUS_UNSUPPORTED


cdef int _process(void* owner, int index) noexcept nogil:
    cdef BlockState* block = <BlockState*>owner
    cdef VirtioState* virtio = block.virtio
    cdef u64 moved = 0
    cdef u64 before, wait
    cdef u32 written
    cdef u8 answer
    cdef int _done, status
    for _done in range(CHAINS):
        status = queue_pop(&virtio.queue[index], virtio.space, &virtio.chain)
        if status <= 0:
            return status
        wait = throttle_wait(&block.throttle, virtio.clock.now_ns)
        if wait:
            queue_unpop(&virtio.queue[index])
            virtio.later_ns = wait
            return PROCESS_LATER
        written = 0
        before = block.disk.read_bytes + block.disk.written_bytes
        status = _serve(block, &moved, &written)
        if status < 0:
            return -1
        throttle_charge(&block.throttle, virtio.clock.now_ns, block.disk.read_bytes + block.disk.written_bytes - before)
        answer = <u8>status
        if chain_write(&virtio.chain, virtio.space, virtio.chain.writable_bytes - 1, &answer, 1):
            return -1
        if queue_push(&virtio.queue[index], virtio.space, &virtio.chain, written + 1):
            return -1
        if moved >= PIECE_BYTES:
            return 1
    return 1


cdef void _device_reset(void* owner) noexcept nogil:
    throttle_reset(&(<BlockState*>owner).throttle)


@cython.final
cdef class VirtioBlock(VirtioDevice):
    """A disk over `backend`; `identity` (at most 20 ASCII characters) is what the driver sees as its serial number.

    limits: how many bytes and requests a second it serves (emu.devices.throttle.Limits)."""
    cdef BlockState state
    cdef DiskBackend _backend

    def __init__(self, PciBus bus not None, int slot, PhysicalMemory memory not None, Clock clock not None,
                 DiskBackend backend not None, str identity="emu", limits=None):
        cdef BlockState* block = &self.state
        cdef Config config
        cdef bytes name
        if not identity.isascii() or len(identity) > IDENTITY_BYTES:
            raise UsageError("disk", repr(identity), f"a serial number of at most {IDENTITY_BYTES} ASCII characters")
        name = identity.encode()
        memcpy(&block.identity[0], <const u8*>name, len(name))
        limits = limits or Limits()
        limits.check("disk")
        throttle_set(&block.throttle, limits, clock.state.now_ns)
        self._backend = backend
        self.virtio.device_reset = _device_reset
        block.virtio = &self.virtio
        block.disk = &backend.state
        memset(&config, 0, sizeof(Config))
        config.capacity = backend.state.bytes // SECTOR_BYTES
        config.size_max = SEGMENT_BYTES
        config.seg_max = SEGMENTS
        config.blk_size = SECTOR_BYTES
        config.num_queues = 1
        features = 1 << FEATURE_SIZE_MAX | 1 << FEATURE_SEG_MAX | 1 << FEATURE_BLOCK_SIZE | 1 << FEATURE_FLUSH
        if backend.state.readonly:
            features |= 1 << FEATURE_READONLY
        else:
            features |= 1 << FEATURE_DISCARD | 1 << FEATURE_WRITE_ZEROES
            config.max_discard_sectors = ZERO_SECTORS
            config.max_discard_seg = 1
            config.discard_sector_alignment = 1
            config.max_write_zeroes_sectors = ZERO_SECTORS
            config.max_write_zeroes_seg = 1
            config.write_zeroes_may_unmap = 1
        memcpy(&self.virtio.config[0], &config, sizeof(Config))
        self.setup("virtio_block", bus, slot, memory, clock, KIND_BLOCK, CLASS_STORAGE, features, 1, CONFIG_BYTES,
                   LATENCY_NS, _process, block)
        throttle_declare(&block.throttle, self.fields, "")

    @property
    def usage(self):
        """Bytes and requests since power-on, and how long the limits made requests wait, as a dict."""
        return {**throttle_usage(&self.state.throttle), **self._backend.usage}

    @property
    def backend(self):
        """The disk's bytes."""
        return self._backend
