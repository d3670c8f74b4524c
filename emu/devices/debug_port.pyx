# The debug console at port 0xE9 (Bochs, QEMU) or 0x402 (firmware): a byte written is a byte printed.
import cython

from emu.base.types cimport u8, u64
from emu.devices.backend.char cimport CharBackend, CharState, char_put
from emu.memory.space cimport Region, region

READBACK = 0xE9                  # what a read gives, at whichever port: guests tell by it that the console is there


cdef struct DebugPortState:
    u8 readback
    CharState* char


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    return (<DebugPortState*>owner).readback


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    char_put((<DebugPortState*>owner).char, <u8>value)


@cython.final
cdef class DebugPort:
    """A debug console of one port; bytes go to `backend`. It has no state but what it has printed."""
    cdef DebugPortState state
    cdef CharBackend _backend
    cdef readonly Region region

    def __init__(self, CharBackend backend not None):
        self._backend = backend
        self.state.readback = READBACK
        self.state.char = &backend.state
        self.region = region("debug port", 1, _read, _write, &self.state, self)

    def read(self, u64 offset, int size=1):
        """What a read at the port gives."""
        return _read(&self.state, offset, size)

    def write(self, u64 offset, int size, u64 value):
        """A write at the port."""
        _write(&self.state, offset, size, value)
