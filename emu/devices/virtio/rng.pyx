# virtio entropy device (VIRTIO 1.2, 5.4): its bytes come from the machine's seed, so that a run can be repeated.
import cython

from emu.base.clock cimport Clock
from emu.base.types cimport u32, u64
from emu.devices.pci.bus cimport PciBus
from emu.devices.virtio.pci cimport VirtioDevice, VirtioState
from emu.devices.virtio.queue cimport chain_write, queue_pop, queue_push
from emu.memory.space cimport PhysicalMemory

cdef enum:
    KIND_ENTROPY = 4
    CLASS_OTHER = 0x00FF00
    CHAIN_BYTES = 4096                   # at most, per request; the driver asks again
    CHAIN_WORDS = 512
    CHAINS = 16                          # at most, per piece of work
    LATENCY_NS = 1000


cdef struct RngState:
    VirtioState* virtio
    u64 word[4]                          # xoshiro256**


cdef inline u64 _rotate(u64 value, int count) noexcept nogil:
    return (value << count) | (value >> (64 - count))


cdef u64 _next(RngState* rng) noexcept nogil:
    """One step of xoshiro256** (Blackman and Vigna, public domain algorithm)."""
    cdef u64* s = &rng.word[0]
    cdef u64 result = _rotate(s[1] * 5, 7) * 9
    cdef u64 shifted = s[1] << 17
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= shifted
    s[3] = _rotate(s[3], 45)
    return result


cdef void _seed(RngState* rng, u64 seed) noexcept nogil:
    """Spreads the seed over the state by splitmix64, as xoshiro's authors advise; never all zeros."""
    cdef u64 value
    cdef int k
    for k in range(4):
        seed += <u64>0x9E3779B97F4A7C15
        value = seed
        value = (value ^ (value >> 30)) * <u64>0xBF58476D1CE4E5B9
        value = (value ^ (value >> 27)) * <u64>0x94D049BB133111EB
        rng.word[k] = value ^ (value >> 31)


cdef int _process(void* owner, int index) noexcept nogil:
    cdef RngState* rng = <RngState*>owner
    cdef VirtioState* virtio = rng.virtio
    cdef u64 buffer[CHAIN_WORDS]
    cdef u64 length
    cdef int _done, status, k
    for _done in range(CHAINS):
        status = queue_pop(&virtio.queue[index], virtio.space, &virtio.chain)
        if status <= 0:
            return status
        length = min(virtio.chain.writable_bytes, <u64>CHAIN_BYTES)
        for k in range(<int>((length + 7) // 8)):
            buffer[k] = _next(rng)
        if chain_write(&virtio.chain, virtio.space, 0, &buffer[0], length):
            return -1
        if queue_push(&virtio.queue[index], virtio.space, &virtio.chain, <u32>length):
            return -1
    return 1


@cython.final
cdef class VirtioRng(VirtioDevice):
    """An entropy source; `seed` (0..2**64-1) decides every byte it will ever give."""
    cdef RngState state

    def __init__(self, PciBus bus not None, int slot, PhysicalMemory memory not None, Clock clock not None, u64 seed=0):
        self.state.virtio = &self.virtio
        _seed(&self.state, seed)
        self.setup("virtio_rng", bus, slot, memory, clock, KIND_ENTROPY, CLASS_OTHER, 0, 1, 0, LATENCY_NS, _process, &self.state)
        self._cover(<u64>&self.state, sizeof(RngState))
        self._add("word", "u64", <u64>&self.state.word[0], 4)
