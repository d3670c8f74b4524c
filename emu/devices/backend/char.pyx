# A byte stream to and from the host: the rings behind a serial line, a debug port or a console.
import cython

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from emu.base.errors import SnapshotError
from emu.base.line cimport drive, line_output
from emu.base.state cimport declare_state
from emu.base.types cimport u8, u32, u64

INPUT_BYTES = CHAR_INPUT_BYTES


cdef void char_put(CharState* stream, u8 byte) noexcept nogil:
    """One byte of output."""
    cdef u32 used = stream.output_head - stream.output_tail
    stream.total += 1
    if used >= CHAR_OUTPUT_BYTES:
        stream.lost += 1
        return
    stream.output[stream.output_head & (CHAR_OUTPUT_BYTES - 1)] = byte
    stream.output_head += 1
    if used + 1 >= CHAR_FULL_BYTES and not stream.output_full:
        stream.output_full = 1
        drive(&stream.full, 1)


@cython.final
cdef class CharBackend:
    """The host's end of a byte stream: `take()` what the guest has sent, `feed(data)` what it shall receive.

    `take` and `feed` are called between two slices of a run, never during one. What is fed and not yet read by the
    guest is part of the machine's state; what was sent and not yet taken is not.
    """

    def __cinit__(self):
        self.state.output = <u8*>malloc(CHAR_OUTPUT_BYTES)
        if self.state.output == NULL:
            raise MemoryError()
        self.full = line_output(&self.state.full, self)
        fields = declare_state("char", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        fields.derived("output", &self.state.output, <u64>&self.state.input[0] - <u64>&self.state.output)
        fields.derived("output_full", &self.state.output_full, <u64>&self.state.total - <u64>&self.state.output_full)
        fields.add("input", "bytes", &self.state.input[0], CHAR_INPUT_BYTES)
        fields.add("input_head", "u32", &self.state.input_head)
        fields.add("input_tail", "u32", &self.state.input_tail)
        fields.add("total", "u64", &self.state.total)
        self.fields = fields

    def __dealloc__(self):
        free(self.state.output)

    def _validate(self):
        if char_available(&self.state) > CHAR_INPUT_BYTES:
            raise SnapshotError("char.input_head", str(self.state.input_head), "at most one ring ahead of input_tail")

    cdef int attach(self, char_ready_fn ready, void* owner, object device) except -1:
        """Makes `device` the one that is told of input; a stream has one device that reads."""
        if self.state.ready != NULL:
            raise ValueError("this character backend has a reader already")
        self.state.ready = ready
        self.state.ready_owner = owner
        self._device = device
        return 0

    def take(self):
        """All output since the last call, as bytes; takes the line `full` down."""
        cdef CharState* stream = &self.state
        cdef u32 used = stream.output_head - stream.output_tail
        cdef u32 start = stream.output_tail & (CHAR_OUTPUT_BYTES - 1)
        cdef u32 first = min(used, <u32>CHAR_OUTPUT_BYTES - start)
        if used == 0:
            return b""
        data = (<const u8*>stream.output + start)[:first] + (<const u8*>stream.output)[:used - first]
        stream.output_tail += used
        stream.output_full = 0
        drive(&stream.full, 0)
        return data

    def feed(self, data):
        """Gives input to the guest; returns how many bytes of `data` were accepted (the ring holds 4096)."""
        cdef CharState* stream = &self.state
        cdef u32 room = CHAR_INPUT_BYTES - char_available(stream)
        cdef bytes accepted = bytes(data[:room])
        cdef u32 start = stream.input_head & (CHAR_INPUT_BYTES - 1)
        cdef u32 first = min(<u32>len(accepted), <u32>CHAR_INPUT_BYTES - start)
        memcpy(&stream.input[start], <const u8*>accepted, first)
        memcpy(&stream.input[0], <const u8*>accepted + first, <u32>len(accepted) - first)
        stream.input_head += <u32>len(accepted)
        if accepted and stream.ready != NULL:
            stream.ready(stream.ready_owner)
        return len(accepted)

    @property
    def output_full(self):
        """Whether so much output waits that the machine should stop for `take`."""
        return bool(self.state.output_full)

    @property
    def waiting(self):
        """How many fed bytes the guest has not read yet."""
        return char_available(&self.state)

    @property
    def lost(self):
        """How many bytes of output found no room since power-on; 0 where output is taken in time."""
        return self.state.lost

    @property
    def total(self):
        """How many bytes the guest has sent since power-on."""
        return self.state.total
