# virtio console device (VIRTIO 1.2, 5.3), one port: queue 0 to the guest, queue 1 from it.
import cython

from libc.string cimport memcpy

from emu.base.clock cimport Clock
from emu.base.types cimport u8, u16, u32, u64
from emu.devices.backend.char cimport CHAR_BURST_BYTES, CharBackend, CharState, char_available, char_get, char_put
from emu.devices.pci.bus cimport PciBus
from emu.devices.virtio.pci cimport VirtioDevice, VirtioState, virtio_config_changed, virtio_wake
from emu.devices.virtio.queue cimport chain_read, chain_write, queue_pop, queue_push, queue_unpop
from emu.memory.space cimport PhysicalMemory

cdef enum:
    KIND_CONSOLE = 3
    CLASS_COMMUNICATION = 0x078000
    FEATURE_SIZE = 0
    FEATURE_EMERGENCY_WRITE = 2
    CONFIG_COLUMNS = 0
    CONFIG_ROWS = 2
    CONFIG_PORTS = 4
    CONFIG_EMERGENCY_WRITE = 8
    CONFIG_BYTES = 12
    RECEIVE = 0
    TRANSMIT = 1
    PIECE_BYTES = 1024
    CHAINS = 256                         # at most, per piece of work
    LATENCY_NS = 1000


cdef struct ConsoleState:
    VirtioState* virtio
    CharState* char
    u64 transmitted                      # bytes of the chain on top of the transmit queue that have gone out already


cdef int _receive(ConsoleState* console) noexcept nogil:
    """Fills the driver's buffers with the input that waits."""
    cdef VirtioState* virtio = console.virtio
    cdef u8 piece[PIECE_BYTES]
    cdef u64 length, written
    cdef int status
    while char_available(console.char):
        status = queue_pop(&virtio.queue[RECEIVE], virtio.space, &virtio.chain)
        if status <= 0:
            return status
        written = 0
        while char_available(console.char) and written < virtio.chain.writable_bytes:
            length = 0
            while length < PIECE_BYTES and written + length < virtio.chain.writable_bytes and char_available(console.char):
                piece[length] = <u8>char_get(console.char)
                length += 1
            if chain_write(&virtio.chain, virtio.space, written, &piece[0], length):
                return -1
            written += length
        if queue_push(&virtio.queue[RECEIVE], virtio.space, &virtio.chain, <u32>written):
            return -1
        if written == 0:
            return -1                    # 5.3.6: a receive buffer that cannot be written; it would be taken forever
    return 0


cdef int _transmit(ConsoleState* console) noexcept nogil:
    """Sends the driver's buffers, at most CHAR_BURST_BYTES at a time."""
    cdef VirtioState* virtio = console.virtio
    cdef u8 piece[PIECE_BYTES]
    cdef u64 budget = CHAR_BURST_BYTES
    cdef u64 length, k
    cdef int _done, status
    for _done in range(CHAINS):
        status = queue_pop(&virtio.queue[TRANSMIT], virtio.space, &virtio.chain)
        if status <= 0:
            return status
        while console.transmitted < virtio.chain.readable_bytes:
            length = min(virtio.chain.readable_bytes - console.transmitted, min(budget, <u64>PIECE_BYTES))
            if length == 0:
                queue_unpop(&virtio.queue[TRANSMIT])
                return 1
            if chain_read(&virtio.chain, virtio.space, console.transmitted, &piece[0], length):
                return -1
            for k in range(length):
                char_put(console.char, piece[k])
            console.transmitted += length
            budget -= length
        console.transmitted = 0
        if queue_push(&virtio.queue[TRANSMIT], virtio.space, &virtio.chain, 0):
            return -1
    return 1


cdef int _process(void* owner, int index) noexcept nogil:
    return _receive(<ConsoleState*>owner) if index == RECEIVE else _transmit(<ConsoleState*>owner)


cdef void _input_ready(void* owner) noexcept nogil:
    virtio_wake((<ConsoleState*>owner).virtio, RECEIVE)


cdef void _device_reset(void* owner) noexcept nogil:
    (<ConsoleState*>owner).transmitted = 0


cdef void _config_written(void* owner, int offset, int size, u64 value) noexcept nogil:
    if offset == CONFIG_EMERGENCY_WRITE:
        char_put((<ConsoleState*>owner).char, <u8>value)


@cython.final
cdef class VirtioConsole(VirtioDevice):
    """A console of one port over `backend`, whose input this device reads; `columns` x `rows` is the size of its screen."""
    cdef ConsoleState state
    cdef CharBackend _backend

    def __init__(self, PciBus bus not None, int slot, PhysicalMemory memory not None, Clock clock not None,
                 CharBackend backend not None, int columns=80, int rows=25):
        self._backend = backend
        self.state.virtio = &self.virtio
        self.state.char = &backend.state
        self.virtio.device_reset = _device_reset
        self.virtio.config_written = _config_written
        self.virtio.config[CONFIG_PORTS] = 1
        self.setup("virtio_console", bus, slot, memory, clock, KIND_CONSOLE, CLASS_COMMUNICATION,
                   1 << FEATURE_SIZE | 1 << FEATURE_EMERGENCY_WRITE, 2, CONFIG_BYTES, LATENCY_NS, _process, &self.state)
        self._cover(<u64>&self.state, sizeof(ConsoleState))
        self._add("transmitted", "u64", <u64>&self.state.transmitted)
        backend.attach(_input_ready, &self.state, self)
        self.resize(columns, rows)

    def resize(self, int columns, int rows):
        """The screen has this size now; the driver is told."""
        cdef u16 size[2]
        if not (0 < columns < 65536 and 0 < rows < 65536):
            raise ValueError(f"a screen of {columns} x {rows} characters cannot be")
        size[0] = <u16>columns
        size[1] = <u16>rows
        memcpy(&self.virtio.config[CONFIG_COLUMNS], &size[0], 4)
        virtio_config_changed(&self.virtio)
