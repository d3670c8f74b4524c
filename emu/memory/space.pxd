# Guest-physical address space: RAM, ROM and MMIO regions; dirty log, code marks, DMA.
from emu.base.types cimport u8, u16, u32, u64
from emu.memory.image cimport RamImage

cdef enum:
    PAGE_SIZE = 4096
    MAX_SLOTS = 32
    MAX_REGIONS = 64

# What an access to a region calls: `offset` from the region's base, `size` 1, 2, 4 or 8 bytes, little-endian value.
ctypedef u64 (*read_fn)(void* owner, u64 offset, int size) noexcept nogil
ctypedef void (*write_fn)(void* owner, u64 offset, int size, u64 value) noexcept nogil
# Told after bytes [physical, physical + length) of a page with code marks have changed.
ctypedef void (*code_fn)(void* owner, u64 physical, u64 length) noexcept nogil


cdef class Region:
    """What a device offers to a bus (ports or MMIO): its callbacks and its length; the board gives it an address."""
    cdef read_fn read
    cdef write_fn write
    cdef void* owner
    cdef readonly u64 size
    cdef readonly str name
    cdef object keep


cdef Region region(str name, u64 size, read_fn read, write_fn write, void* owner, object keep)


cdef struct Slot:                # host-backed: RAM or ROM
    u64 base
    u64 size
    u8* host
    u64 first_page               # index of its first page in dirty[] and code_lines[]; ROM has its own pages there too
    bint readonly                # ROM: guest stores are dropped


cdef struct Mmio:
    u64 base
    u64 size
    read_fn read
    write_fn write
    void* owner


cdef struct Space:
    int slots                    # sorted by base, never overlapping
    Slot slot[MAX_SLOTS]
    int regions
    Mmio region[MAX_REGIONS]
    u64 a20_mask                 # all ones, or bit 20 clear: applied by the CPU to every physical address
    u8* dirty                    # one byte a page: 1 = written since the log was cleared
    u64* code_lines              # one word a page: bit n = the 64-byte line n holds decoded code
    u64 pages
    int dma_depth                # > 0 while a device runs: DMA into MMIO is refused
    code_fn code_written[8]      # one per CPU
    void* code_owner[8]
    int code_owners
    u64 dropped                  # accesses that no one answered (reads give all ones)


cdef Slot* find_slot(Space* space, u64 physical) noexcept nogil            # NULL: not host-backed
cdef u8* ram_pointer(Space* space, u64 physical) noexcept nogil            # host byte of a RAM or ROM address, else NULL
cdef u64 page_index(Slot* slot, u64 physical) noexcept nogil
cdef u64 space_read(Space* space, u64 physical, int size) noexcept nogil   # RAM, ROM or MMIO; never crosses a page
cdef void space_write(Space* space, u64 physical, int size, u64 value) noexcept nogil   # sets dirty, calls code_written
# DMA by a device: RAM and ROM only; 0, or -1 where any byte is not host-backed (nothing is transferred then)
cdef int dma_read(Space* space, u64 physical, void* data, u64 length) noexcept nogil
cdef int dma_write(Space* space, u64 physical, const void* data, u64 length) noexcept nogil
cdef u8* dma_pointer(Space* space, u64 physical, u64 length, bint write) noexcept nogil   # contiguous, or NULL; write: marks dirty now
# Makes RAM read as zeros and gives its whole pages back to the host (a balloon's pages); -1 where not all of it is RAM.
cdef int dma_discard(Space* space, u64 physical, u64 length) noexcept nogil


# Maps and unmaps MMIO while the machine runs (PCI BARs, programmed by the guest): 0, or -1 where [base, base + size) is
# empty, wraps, lies (partly) over RAM, ROM or another region, or no place is left: the region is then invisible.
# The caller keeps `owner` alive. space_unmap: 0, or -1 where `owner` has no region at `base`.
cdef int space_map(Space* space, u64 base, u64 size, read_fn read, write_fn write, void* owner) noexcept nogil
cdef int space_unmap(Space* space, u64 base, void* owner) noexcept nogil


cdef class Mapping:
    """Anonymous host memory of zeros, unmapped with its owner; pages never touched cost nothing."""
    cdef u8* data
    cdef u64 size


cdef class PhysicalBytes


cdef class PhysicalMemory:
    """Owner of a machine's physical address space (Python face: slices of bytes, adding RAM, ROM and regions)."""
    cdef Space space
    cdef readonly u64 ram_bytes
    cdef list _keep
    cdef u8* _ram                    # all pages: RAM, then what the board has added (ROM, other RAM), in order of page_index
    cdef u64 _board_pages            # pages of ROM and RAM that the board has added
    cdef object _file                # the file of `_ram` where that is mapped shared; None: a private view of `image`
    cdef readonly RamImage image     # what the dirty log counts from; None: RAM of zeros
    cdef bint _frozen                # `_ram` still shows `_file` shared, though it belongs to `image` now
    cdef readonly object fields
    cdef readonly PhysicalBytes physical
    cdef int _insert(self, u64 base, u64 size, u8* host, u64 first_page, bint readonly) except -1
    cdef u8* _add(self, u64 base, u64 size, bint readonly) except NULL
    cdef int own(self) except -1
    cdef u64 _used_pages(self) noexcept nogil
    cdef int _map(self, RamImage image) except -1
    cdef void restore_pages(self) noexcept nogil
    cdef void _restore_eight(self, u64 page, u64 end) noexcept nogil


cdef class PhysicalBytes:
    """RAM and ROM by physical address, as slices of bytes."""
    cdef PhysicalMemory _memory
    cdef u64 _low_bytes
    cdef tuple _range(self, object key)
