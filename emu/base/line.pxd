# A wire: all that a device knows of whoever listens to its output (an interrupt line, a reset line, A20).
from emu.base.types cimport u64

ctypedef void (*line_fn)(void* owner, int number, int level) noexcept nogil


cdef struct Line:
    line_fn set             # NULL: not connected
    void* owner
    int number
    int level               # last level driven


cdef inline void drive(Line* line, int level) noexcept nogil:
    """Drives the wire to `level` (0 or 1); the listener is called on a change only."""
    if line.level != level:
        line.level = level
        if line.set != NULL:
            line.set(line.owner, line.number, level)


cdef inline void pulse(Line* line) noexcept nogil:
    """A rising and a falling edge."""
    drive(line, 1)
    drive(line, 0)


cdef class LineInput:
    """The end of a wire that listens; `keep` holds the listener alive."""
    cdef line_fn set
    cdef void* owner
    cdef int number
    cdef object keep


cdef class LineOutput:
    """The end of a wire that drives; owned by a device, connected by the board."""
    cdef Line* line
    cdef object keep
    cdef object peer
    cpdef connect(self, LineInput listener)


cdef LineInput line_input(line_fn set, void* owner, int number, object keep)
cdef LineOutput line_output(Line* line, object keep)
