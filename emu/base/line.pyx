# Wires between devices, as Python objects for the board's wiring lists.


cdef class LineInput:
    pass


cdef class LineOutput:
    cpdef connect(self, LineInput listener):
        """Connects this output to `listener`; a wire has one listener (fan-out is the board's)."""
        if self.peer is not None:
            raise ValueError("this line is connected already")
        self.line.set = listener.set
        self.line.owner = listener.owner
        self.line.number = listener.number
        self.peer = listener


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
