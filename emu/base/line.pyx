# Wires between devices, as Python objects for the board's wiring lists.


cdef class LineInput:
    def drive(self, int level):
        """Tells the listener that the wire is at `level` now (what a device written in Python, or a test, calls)."""
        self.set(self.owner, self.number, level)


cdef class LineOutput:
    cpdef connect(self, LineInput listener):
        """Connects this output to `listener`; a wire has one listener (fan-out is the board's)."""
        if self.peer is not None:
            raise ValueError("this line is connected already")
        self.line.set = listener.set
        self.line.owner = listener.owner
        self.line.number = listener.number
        self.peer = listener

    @property
    def level(self):
        """The level that was driven last, 0 or 1."""
        return self.line.level


cdef LineInput line_input(line_fn set, void* owner, int number, object keep):
    cdef LineInput end = LineInput.__new__(LineInput)
    end.set = set
    end.owner = owner
    end.number = number
    end.keep = keep
    return end


cdef LineOutput line_output(Line* line, object keep):
    cdef LineOutput end = LineOutput.__new__(LineOutput)
    end.line = line
    end.keep = keep
    return end


cdef void _tell(void* owner, int number, int level) noexcept with gil:
    (<object>owner)(level)


def python_listener(callback):
    """A LineInput that calls `callback(level)` at every change, with the GIL; an exception in it is printed and dropped."""
    return line_input(_tell, <void*>callback, 0, callback)
