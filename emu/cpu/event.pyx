from emu.cpu.state cimport Cpu
cdef void deliver_fault(Cpu* c) noexcept nogil:
    c.shutdown = 1
cdef void deliver_interrupt(Cpu* c, int vector) noexcept nogil:
    c.shutdown = 1
