# What enters a machine from outside, at a virtual time of its own.
from emu.base.clock cimport Clock, ClockState, Timer


cdef class Inputs:
    cdef Timer timer
    cdef ClockState* clock
    cdef Clock _clock
    cdef list _queue
    cdef dict _channels
    cdef object _latest
    cdef public object on_entered
    cdef public object error
    cdef int _arm(self) except -1
    cdef int _enter_due(self) except -1
