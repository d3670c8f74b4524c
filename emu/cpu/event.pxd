# Delivery of exceptions and interrupts, and the way back (IRET).
from emu.base.types cimport u32, u64
from emu.cpu.state cimport Cpu, Insn, Segment

cdef enum:                       # where an event comes from
    EVENT_FAULT = 0              # an exception
    EVENT_EXTERNAL = 1           # INTR or NMI
    EVENT_SOFTWARE = 2           # INT n, INT3, INTO: the gate's DPL counts
    EVENT_ICEBP = 3              # INT1

cdef void deliver_fault(Cpu* c) noexcept nogil               # the one in c.fault_*; c.rip is what is pushed
cdef void deliver_interrupt(Cpu* c, int vector) noexcept nogil
cdef int software_interrupt(Cpu* c, int vector, int kind) noexcept nogil    # c.rip: the next instruction
# helpers that far transfers share
cdef int new_stack(Cpu* c, u32 dpl, u32 ext, u32* ss, u64* esp) noexcept nogil
cdef int check_new_stack(Cpu* c, u32 selector, u32 dpl, u32 ext, Segment* out) noexcept nogil
cdef int push_frame(Cpu* c, Segment* ss, u64 top, const u64* values, int count, int size, u32 cpl, u32 error, u64* result) noexcept nogil
