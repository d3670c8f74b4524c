# The 64 Ki I/O ports.
from emu.base.types cimport u8, u16, u32, u64
from emu.memory.space cimport Region, read_fn, write_fn

cdef enum:
    MAX_PORT_REGIONS = 96


cdef struct PortRange:
    u32 base
    u32 size
    read_fn read
    write_fn write
    void* owner


cdef struct PortSpace:
    int count
    PortRange range[MAX_PORT_REGIONS]
    u32 slow_end                 # an access to a port below this takes `wait_ns` of virtual time (the ISA bus)
    u32 wait_ns
    u8 index[65536]              # 0: nobody; else 1 + place in range[]


# An access that no single device covers is split into bytes; ports where nobody answers read as ones.
cdef u32 port_read(PortSpace* ports, u32 port, int size) noexcept nogil
cdef void port_write(PortSpace* ports, u32 port, int size, u32 value) noexcept nogil

# Maps and unmaps ports while the machine runs (PCI BARs); as space_map and space_unmap.
cdef int port_map(PortSpace* ports, u64 base, u64 size, read_fn read, write_fn write, void* owner) noexcept nogil
cdef int port_unmap(PortSpace* ports, u64 base, void* owner) noexcept nogil


cdef class Ports:
    """Owner of the I/O port space; `map(base, region)` and `unmap(base)` are the board's."""
    cdef PortSpace space
    cdef list _keep
