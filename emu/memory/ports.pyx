# The 64 Ki I/O ports.
import cython

from libc.string cimport memset

from emu.base.bits cimport mask_of
from emu.base.types cimport u32, u64
from emu.memory.space cimport Region, read_fn, write_fn


cdef inline PortRange* _find(PortSpace* ports, u32 port) noexcept nogil:
    if port > 0xFFFF or ports.index[port] == 0:
        return NULL
    return &ports.range[ports.index[port] - 1]


cdef u32 port_read(PortSpace* ports, u32 port, int size) noexcept nogil:
    cdef PortRange* found = _find(ports, port)
    cdef u32 value = 0
    cdef int k
    if found != NULL and port - found.base + <u32>size <= found.size:
        return <u32>(found.read(found.owner, port - found.base, size) & mask_of(size))
    if size == 1:
        return 0xFF
    for k in range(size):
        value |= port_read(ports, port + <u32>k, 1) << (8 * k)
    return value


cdef void port_write(PortSpace* ports, u32 port, int size, u32 value) noexcept nogil:
    cdef PortRange* found = _find(ports, port)
    cdef int k
    if found != NULL and port - found.base + <u32>size <= found.size:
        found.write(found.owner, port - found.base, size, value & mask_of(size))
    elif size > 1:
        for k in range(size):
            port_write(ports, port + <u32>k, 1, (value >> (8 * k)) & 0xFF)


cdef int port_map(PortSpace* ports, u64 base, u64 size, read_fn read, write_fn write, void* owner) noexcept nogil:
    cdef u64 port
    cdef int place = 0
    if size == 0 or size > 0x10000 or base > 0x10000 - size:
        return -1
    for port in range(base, base + size):
        if ports.index[port]:
            return -1
    while place < ports.count and ports.range[place].size:      # the place of one that was unmapped, if any
        place += 1
    if place == MAX_PORT_REGIONS:
        return -1
    if place == ports.count:
        ports.count += 1
    ports.range[place].base = <u32>base
    ports.range[place].size = <u32>size
    ports.range[place].read = read
    ports.range[place].write = write
    ports.range[place].owner = owner
    memset(&ports.index[base], place + 1, size)
    return 0


cdef int port_unmap(PortSpace* ports, u64 base, void* owner) noexcept nogil:
    cdef PortRange* found = _find(ports, <u32>base) if base <= 0xFFFF else NULL
    if found == NULL or found.base != base or found.owner != owner:
        return -1
    memset(&ports.index[base], 0, found.size)
    found.size = 0
    return 0


@cython.final
cdef class Ports:
    """The I/O port space of one machine; a port where nobody answers reads as ones."""

    def __cinit__(self):
        self._keep = []

    def set_wait(self, u32 end, u32 wait_ns):
        """Makes every access to a port below `end` take `wait_ns` of virtual time, as on the ISA bus."""
        self.space.slow_end = end
        self.space.wait_ns = wait_ns

    def map(self, u64 base, Region region not None):
        """Gives the region the ports from `base` up; ValueError where they are taken."""
        if port_map(&self.space, base, region.size, region.read, region.write, region.owner):
            raise ValueError(f"{region.name} at port {base:#x}, {region.size} ports, lies over something else, or is one too many")
        self._keep.append((base, region))

    def unmap(self, u64 base):
        """Takes away the region at `base`; ValueError where `map` put none there."""
        cdef Region region
        for entry in self._keep:
            if entry[0] == base:
                region = entry[1]
                port_unmap(&self.space, base, region.owner)
                self._keep.remove(entry)
                return
        raise ValueError(f"no region is mapped at port {base:#x}")

    def read(self, u64 port, int size):
        """What a CPU reads: `size` 1, 2 or 4 bytes at `port`."""
        self._check(port, size)
        return port_read(&self.space, port, size)

    def write(self, u64 port, int size, u32 value):
        """What a CPU writes: `size` 1, 2 or 4 bytes at `port`."""
        self._check(port, size)
        port_write(&self.space, port, size, value)

    def _check(self, port, size):
        if port > 0xFFFF or size not in (1, 2, 4):
            raise ValueError(f"{size} bytes at port {port:#x} is no access")

    @property
    def ranges(self):
        """Who is where: a tuple of (base, number of ports), in order."""
        return tuple(sorted((self.space.range[k].base, self.space.range[k].size)
                            for k in range(self.space.count) if self.space.range[k].size))

    @property
    def address(self):
        """The address of the C struct `PortSpace`, for native harnesses."""
        return <u64>&self.space
