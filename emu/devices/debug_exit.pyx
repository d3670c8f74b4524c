# isa-debug-exit: a guest writes a value to a port and the run ends with exit code (value << 1) | 1.
# Source: QEMU's device of this name; the same defaults (port 0x501, 2 ports) and the same code.
import cython

from emu.base.line cimport Line, LineOutput, drive, line_output
from emu.base.state cimport declare_state
from emu.base.types cimport u8, u32, u64
from emu.memory.space cimport Region, region

DEFAULT_BASE = 0x501
DEFAULT_SIZE = 2


cdef struct DebugExitState:
    u8 requested
    u32 value                    # of the first write since reset
    Line request


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    return 0


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef DebugExitState* state = <DebugExitState*>owner
    if not state.requested:
        state.requested = 1
        state.value = <u32>value
        drive(&state.request, 1)


@cython.final
cdef class DebugExit:
    """isa-debug-exit with `size` ports; the line `request` goes up at the first write and stays up until reset."""
    cdef DebugExitState state
    cdef readonly object fields
    cdef readonly Region region
    cdef readonly LineOutput request     # ends the run

    def __init__(self, u64 size=DEFAULT_SIZE):
        if not 1 <= size <= 4:
            raise ValueError(f"{size} ports: isa-debug-exit has 1 to 4")
        self.region = region("isa-debug-exit", size, _read, _write, &self.state, self)
        self.request = line_output(&self.state.request, self)
        fields = declare_state("isa-debug-exit", self)
        fields.cover(&self.state, sizeof(self.state))
        fields.add("requested", "u8", &self.state.requested)
        fields.add("value", "u32", &self.state.value)
        fields.add("request_level", "i32", &self.state.request.level)
        self.fields = fields

    def reset(self):
        """Forgets the request."""
        self.state.requested = 0
        self.state.value = 0
        drive(&self.state.request, 0)

    @property
    def exit_code(self):
        """(value << 1) | 1 of the first write, cut to the 8 bits of an exit code; None where none came."""
        return ((self.state.value << 1) | 1) & 0xFF if self.state.requested else None

    @property
    def value(self):
        """The value of the first write; None where none came."""
        return self.state.value if self.state.requested else None

    def read(self, u64 offset, int size=1):
        """What a read at the ports gives: 0."""
        return _read(&self.state, offset, size)

    def write(self, u64 offset, int size, u64 value):
        """A write at the ports."""
        _write(&self.state, offset, size, value)
