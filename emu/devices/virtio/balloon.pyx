# virtio memory balloon (VIRTIO 1.2, 5.5): pages that the guest does not need go back to the host.
#
# Queue 0 inflates, queue 1 deflates, queue 2 takes reports of free pages; the queues that the specification has between them
# belong to features that are not offered, and drivers number the queues that are there. A page that was given away reads as zeros
# until it is written again, which needs nothing but host memory: what the guest may hold is not this device's to enforce.
import cython

from libc.string cimport memcpy, memset

from emu.base.clock cimport Clock
from emu.base.errors import UsageError
from emu.base.types cimport u32, u64
from emu.devices.pci.bus cimport PciBus
from emu.devices.virtio.pci cimport VirtioDevice, VirtioState, virtio_config_changed
from emu.devices.virtio.queue cimport chain_read, queue_pop, queue_push
from emu.memory.space cimport PAGE_SIZE, PhysicalMemory, dma_discard

cdef enum:
    KIND_BALLOON = 5
    CLASS_OTHER = 0x00FF00
    FEATURE_DEFLATE_ON_OOM = 2
    FEATURE_REPORTING = 5
    CONFIG_WANTED = 0                    # num_pages: what the host asks for
    CONFIG_ACTUAL = 4                    # what the driver says it has given
    CONFIG_BYTES = 8
    INFLATE = 0
    DEFLATE = 1
    REPORT = 2
    PAGES = 1024                         # of 4 KiB (5.5.6), read at a time
    CHAINS = 64                          # at most, per piece of work
    PIECE_BYTES = 64 << 20               # a piece of work ends after giving back so much
    LATENCY_NS = 5000


cdef struct BalloonState:
    VirtioState* virtio
    u64 inflated_pages                   # since power-on
    u64 deflated_pages
    u64 reported_pages


cdef int _inflate(BalloonState* balloon, u64* budget) noexcept nogil:
    """Gives back the pages whose numbers the chain holds: 0, or -1 for a bad chain. Numbers that are no RAM are ignored."""
    cdef VirtioState* virtio = balloon.virtio
    cdef u32 numbers[PAGES]
    cdef u64 length, k, left, run
    left = virtio.chain.readable_bytes & ~<u64>3
    if left > PAGES * 4 * 64:
        return -1                        # no driver sends 64 Ki pages at once
    length = 0
    while length < left:
        run = min(left - length, <u64>(PAGES * 4))
        if chain_read(&virtio.chain, virtio.space, length, &numbers[0], run):
            return -1
        for k in range(run // 4):
            if dma_discard(virtio.space, <u64>numbers[k] * PAGE_SIZE, PAGE_SIZE) == 0:
                balloon.inflated_pages += 1
        length += run
    budget[0] += left // 4 * PAGE_SIZE
    return 0


cdef int _report(BalloonState* balloon, u64* budget) noexcept nogil:
    """Gives back the pages that the chain's writable part lies in (5.5.6.7): 0, or -1 for what is no RAM."""
    cdef VirtioState* virtio = balloon.virtio
    cdef u64 first, end
    cdef int k
    for k in range(virtio.chain.readable, virtio.chain.count):
        first = (virtio.chain.segment[k].address + PAGE_SIZE - 1) & ~<u64>(PAGE_SIZE - 1)
        end = (virtio.chain.segment[k].address + virtio.chain.segment[k].length) & ~<u64>(PAGE_SIZE - 1)
        if first >= end:
            continue
        if dma_discard(virtio.space, first, end - first):
            return -1
        balloon.reported_pages += (end - first) // PAGE_SIZE
        budget[0] += end - first
    return 0


cdef int _process(void* owner, int index) noexcept nogil:
    cdef BalloonState* balloon = <BalloonState*>owner
    cdef VirtioState* virtio = balloon.virtio
    cdef u64 moved = 0
    cdef int _done, status
    for _done in range(CHAINS):
        status = queue_pop(&virtio.queue[index], virtio.space, &virtio.chain)
        if status <= 0:
            return status
        if index == INFLATE:
            status = _inflate(balloon, &moved)
        elif index == DEFLATE:
            status = 0                   # the pages are there again as soon as they are touched
            balloon.deflated_pages += virtio.chain.readable_bytes // 4
        else:
            status = _report(balloon, &moved)
        if status or queue_push(&virtio.queue[index], virtio.space, &virtio.chain, 0):
            return -1
        if moved >= PIECE_BYTES:
            return 1
    return 1


cdef void _device_reset(void* owner) noexcept nogil:
    memset(&(<BalloonState*>owner).virtio.config[CONFIG_ACTUAL], 0, 4)


cdef void _config_written(void* owner, int offset, int size, u64 value) noexcept nogil:
    """5.5.6: the driver writes `actual` after each step."""
    cdef VirtioState* virtio = (<BalloonState*>owner).virtio
    cdef u32 actual = <u32>value
    if offset == CONFIG_ACTUAL and size == 4:
        memcpy(&virtio.config[CONFIG_ACTUAL], &actual, 4)


@cython.final
cdef class VirtioBalloon(VirtioDevice):
    """A memory balloon: `target_pages` is what the host would like to have, `actual_pages` what the driver has given."""
    cdef BalloonState state

    def __init__(self, PciBus bus not None, int slot, PhysicalMemory memory not None, Clock clock not None):
        cdef BalloonState* balloon = &self.state
        balloon.virtio = &self.virtio
        self.virtio.config_written = _config_written
        self.virtio.device_reset = _device_reset
        self.setup("virtio_balloon", bus, slot, memory, clock, KIND_BALLOON, CLASS_OTHER,
                   1 << FEATURE_DEFLATE_ON_OOM | 1 << FEATURE_REPORTING, 3, CONFIG_BYTES, LATENCY_NS, _process, balloon)
        self._add("inflated_pages", "u64", <u64>&balloon.inflated_pages)
        self._add("deflated_pages", "u64", <u64>&balloon.deflated_pages)
        self._add("reported_pages", "u64", <u64>&balloon.reported_pages)

    @property
    def target_pages(self):
        """How many pages of 4 KiB the host asks for; the driver is told of a change."""
        cdef u32 wanted
        memcpy(&wanted, &self.virtio.config[CONFIG_WANTED], 4)
        return wanted

    @target_pages.setter
    def target_pages(self, pages):
        cdef u32 wanted
        if not 0 <= pages <= self._memory.ram_bytes // PAGE_SIZE:
            raise UsageError("balloon", f"{pages} pages", f"from 0 to the {self._memory.ram_bytes // PAGE_SIZE} of the machine")
        wanted = pages
        memcpy(&self.virtio.config[CONFIG_WANTED], &wanted, 4)
        virtio_config_changed(&self.virtio)

    @property
    def actual_pages(self):
        """How many pages the driver says that it has given."""
        cdef u32 actual
        memcpy(&actual, &self.virtio.config[CONFIG_ACTUAL], 4)
        return actual

    @property
    def usage(self):
        """Pages given, taken back and reported as free since power-on, as the guest told (repetitions included)."""
        return {"inflated_pages": self.state.inflated_pages, "deflated_pages": self.state.deflated_pages,
                "reported_pages": self.state.reported_pages}
