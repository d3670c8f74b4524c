# Where interrupt wires meet: each goes to the 8259As, the I/O APIC or both; wires that share a number are ORed.
from emu.base.line cimport Line, LineInput
from emu.base.types cimport u32

cdef enum:
    ROUTER_GSIS = 24
    ROUTER_SOURCES = 32


cdef struct RouterState:
    u32 asserted[ROUTER_GSIS]        # one bit a source
    int sources[ROUTER_GSIS]         # wires handed out so far
    Line pic[16]
    Line ioapic[ROUTER_GSIS]         # by global system interrupt


cdef class IrqRouter:
    cdef RouterState state
    cdef readonly object fields
    cdef list _outputs
    cdef LineInput _new(self, int gsi)
