# The I/O APIC: 24 pins, each with a redirection entry.
# Source: Intel 82093AA datasheet (order 290566); EOI register: Intel ICH9 datasheet, 13.5.
from emu.base.types cimport u8, u32, u64
from emu.devices.apic_bus cimport ApicBus, ApicBusState
from emu.memory.space cimport Region

cdef enum:
    IOAPIC_PINS = 24


cdef struct IoapicState:
    u8 index                         # IOREGSEL
    u32 id                           # bits 3:0
    u32 levels                       # of the pins now, 1: asserted
    u64 entry[IOAPIC_PINS]           # the redirection table
    ApicBusState* bus


cdef void ioapic_set_input(void* owner, int pin, int level) noexcept nogil


cdef class Ioapic:
    cdef IoapicState state
    cdef ApicBus _bus
    cdef readonly object fields
    cdef readonly Region region
