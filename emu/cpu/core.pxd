# The owners of the state of CPUs.
from emu.base.line cimport LineInput, line_fn
from emu.cpu.state cimport Cpu, Crew
from emu.memory.space cimport PhysicalMemory


cdef class Processors:
    cdef Crew crew
    cdef readonly object fields
    cdef PhysicalMemory _memory          # itself, not in a list: the collector may have emptied that when __dealloc__ runs
    cdef list _keep
    cdef Cpu* add(self) except NULL


cdef class Core:
    cdef Cpu* c
    cdef readonly Processors processors
    cdef readonly object fields
    cdef list _keep
    cdef LineInput _input(self, line_fn fn)
