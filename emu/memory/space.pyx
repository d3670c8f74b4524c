# Guest-physical address space: RAM, ROM and MMIO regions; dirty log, code marks, DMA.
import cython

from cpython.buffer cimport PyBuffer_FillInfo
from libc.errno cimport errno
from libc.string cimport memcpy, memmove, memset, strerror

from emu.base.bits cimport mask_of
from emu.base.check cimport GUARD_BYTES, check
from emu.base.errors import ResourceError, SnapshotError, UsageError
from emu.base.state cimport StateFields, declare_state
from emu.base.types cimport u8, u64
from emu.memory.image cimport MemoryFile, RamImage, first_image

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void* address, size_t length)
    int madvise(void* address, size_t length, int advice)
    int mprotect(void* address, size_t length, int protection)
    int PROT_NONE, PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_SHARED, MAP_FIXED, MAP_ANONYMOUS, MAP_NORESERVE, MADV_REMOVE
    void* MAP_FAILED

from emu.memory.image import digest_pages, merge_runs

# The PC's map: a window for video at 640 KiB, shadow RAM up to 1 MiB, a hole for devices below 4 GiB.
VIDEO_BASE = 0xA0000
SHADOW_BASE = 0xC0000
HIGH_BASE = 0x100000
HOLE_BASE = 0xC0000000
HOLE_END = 0x100000000
RAM_LIMIT = 1 << 40              # of the physical address bits that CPUs here report, RAM may use this much
BOARD_PAGES = 1 << 16            # pages of ROM and RAM that a board can add: 256 MiB


cdef class Mapping:
    def __dealloc__(self):
        if self.data != NULL:
            munmap(self.data - GUARD_BYTES, self.size + 2 * GUARD_BYTES)


cdef Mapping map_host(u64 size, str what, int fd):
    """`size` bytes from the host, in pages that cost nothing until they are touched: of the file `fd`, shared, or zeros
    where that is -1. Raises ResourceError."""
    cdef Mapping mapping = Mapping.__new__(Mapping)
    cdef void* data
    size = (size + PAGE_SIZE - 1) & ~<u64>(PAGE_SIZE - 1)
    data = mmap(NULL, size + 2 * GUARD_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if data == MAP_FAILED:
        raise ResourceError(what, f"{size} bytes", f"the host refuses: {strerror(errno).decode()}", "use less memory")
    if GUARD_BYTES:
        mprotect(data, GUARD_BYTES, PROT_NONE)
        data = <u8*>data + GUARD_BYTES
        mprotect(<u8*>data + size, GUARD_BYTES, PROT_NONE)
    if fd >= 0 and mmap(data, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED:
        raise ResourceError(what, f"{size} bytes", f"the host refuses: {strerror(errno).decode()}", "use less memory")
    mapping.data = <u8*>data
    mapping.size = size
    return mapping


# ---- lookup

cdef Slot* find_slot(Space* space, u64 physical) noexcept nogil:
    cdef int k
    for k in range(space.slots):
        if physical - space.slot[k].base < space.slot[k].size:
            return &space.slot[k]
    return NULL


cdef Mmio* _find_region(Space* space, u64 physical) noexcept nogil:
    cdef int low = 0
    cdef int high = space.regions
    cdef int middle
    while low < high:                            # sorted by base: the last whose base is not above `physical`
        middle = (low + high) >> 1
        if space.region[middle].base <= physical:
            low = middle + 1
        else:
            high = middle
    if low and physical - space.region[low - 1].base < space.region[low - 1].size:
        return &space.region[low - 1]
    return NULL


cdef u8* ram_pointer(Space* space, u64 physical) noexcept nogil:
    cdef Slot* slot = find_slot(space, physical)
    if slot == NULL:
        return NULL
    return slot.host + (physical - slot.base)


cdef u64 page_index(Slot* slot, u64 physical) noexcept nogil:
    return slot.first_page + (physical - slot.base) // PAGE_SIZE


# ---- accesses of a CPU

cdef u64 _mmio_read(Space* space, u64 physical, int size) noexcept nogil:
    cdef Mmio* region = _find_region(space, physical)
    cdef u64 value
    cdef int k
    if region == NULL or space.dma_depth > 0:
        space.dropped += 1
        return mask_of(size)
    if physical - region.base + <u64>size > region.size:     # hangs over the end: as a bus does it, byte by byte
        value = 0
        for k in range(size):
            value |= _mmio_read(space, physical + <u64>k, 1) << (8 * k)
        return value
    space.dma_depth += 1
    value = region.read(region.owner, physical - region.base, size) & mask_of(size)
    space.dma_depth -= 1
    return value


cdef void _mmio_write(Space* space, u64 physical, int size, u64 value) noexcept nogil:
    cdef Mmio* region = _find_region(space, physical)
    cdef int k
    if region == NULL or space.dma_depth > 0:
        space.dropped += 1
        return
    if physical - region.base + <u64>size > region.size:
        for k in range(size):
            _mmio_write(space, physical + <u64>k, 1, (value >> (8 * k)) & 0xFF)
        return
    space.dma_depth += 1
    region.write(region.owner, physical - region.base, size, value & mask_of(size))
    space.dma_depth -= 1


cdef u64 space_read(Space* space, u64 physical, int size) noexcept nogil:
    cdef Slot* slot = find_slot(space, physical)
    cdef u64 value = 0
    if slot == NULL:
        return _mmio_read(space, physical, size)
    check(0 < size <= 8 and physical - slot.base + <u64>size <= slot.size)
    memcpy(&value, slot.host + (physical - slot.base), size)
    return value


cdef void space_write(Space* space, u64 physical, int size, u64 value) noexcept nogil:
    cdef Slot* slot = find_slot(space, physical)
    if slot == NULL:
        _mmio_write(space, physical, size, value)
    elif not slot.readonly:
        check(0 < size <= 8 and physical - slot.base + <u64>size <= slot.size)
        memcpy(slot.host + (physical - slot.base), &value, size)
        _written(space, slot, physical, size)


cdef void _written(Space* space, Slot* slot, u64 physical, u64 length) noexcept nogil:
    """Marks [physical, physical + length) of one slot dirty and tells the CPUs of code lines in it, page by page."""
    cdef u64 chunk, page, first, last, lines
    cdef int k
    while length:
        chunk = PAGE_SIZE - (physical & (PAGE_SIZE - 1))
        if chunk > length:
            chunk = length
        page = page_index(slot, physical)
        check(page < space.pages)
        space.dirty[page] = 1
        if space.code_lines[page]:
            first = (physical & (PAGE_SIZE - 1)) >> 6
            last = ((physical + chunk - 1) & (PAGE_SIZE - 1)) >> 6
            lines = (<u64>0xFFFFFFFFFFFFFFFF << first) & (<u64>0xFFFFFFFFFFFFFFFF >> (63 - last))
            if space.code_lines[page] & lines:
                for k in range(space.code_owners):
                    space.code_written[k](space.code_owner[k], physical, chunk)
        physical += chunk
        length -= chunk


cdef bint _physical_of(Space* space, u64 page, u64* physical) noexcept nogil:
    cdef int k
    for k in range(space.slots):
        if page - space.slot[k].first_page < space.slot[k].size // PAGE_SIZE:
            physical[0] = space.slot[k].base + (page - space.slot[k].first_page) * PAGE_SIZE
            return True
    return False


cdef void _page_changed(Space* space, u64 page) noexcept nogil:
    """Tells the CPUs that all of a page may hold something else now."""
    cdef u64 physical
    cdef int k
    if _physical_of(space, page, &physical):
        for k in range(space.code_owners):
            space.code_written[k](space.code_owner[k], physical, PAGE_SIZE)


# ---- DMA

cdef bint _host_backed(Space* space, u64 physical, u64 length) noexcept nogil:
    cdef Slot* slot
    cdef u64 left
    while length:
        slot = find_slot(space, physical)
        if slot == NULL:
            return False
        left = slot.size - (physical - slot.base)
        if left >= length:
            return True
        physical += left
        length -= left
    return True


cdef int dma_read(Space* space, u64 physical, void* data, u64 length) noexcept nogil:
    cdef Slot* slot
    cdef u64 chunk
    if not _host_backed(space, physical, length):
        space.dropped += 1
        return -1
    while length:
        slot = find_slot(space, physical)
        chunk = slot.size - (physical - slot.base)
        if chunk > length:
            chunk = length
        memmove(data, slot.host + (physical - slot.base), chunk)
        data = <u8*>data + chunk
        physical += chunk
        length -= chunk
    return 0


cdef int dma_write(Space* space, u64 physical, const void* data, u64 length) noexcept nogil:
    return _store(space, physical, data, length, False)


cdef int _store(Space* space, u64 physical, const void* data, u64 length, bint into_rom) noexcept nogil:
    cdef Slot* slot
    cdef u64 chunk
    if not _host_backed(space, physical, length):
        space.dropped += 1
        return -1
    while length:
        slot = find_slot(space, physical)
        chunk = slot.size - (physical - slot.base)
        if chunk > length:
            chunk = length
        if into_rom or not slot.readonly:
            memmove(slot.host + (physical - slot.base), data, chunk)
            _written(space, slot, physical, chunk)
        data = <const u8*>data + chunk
        physical += chunk
        length -= chunk
    return 0


cdef void _clear_pages(u8* host, u64 length) noexcept nogil:
    """Zeros, without a write to pages that are zeros already."""
    cdef u64 k
    cdef u64 at = 0
    while at < length:
        for k in range(PAGE_SIZE // 8):
            if (<u64*>(host + at))[k]:
                memset(host + at, 0, PAGE_SIZE)
                break
        at += PAGE_SIZE


cdef void _clear(Space* space, u64 physical, u64 length) noexcept nogil:
    """Zeros, in host-backed memory; whole pages go back to the host where they are nobody else's."""
    cdef Slot* slot
    cdef u64 chunk
    cdef u8* host
    while length:
        slot = find_slot(space, physical)
        host = slot.host + (physical - slot.base)
        chunk = slot.size - (physical - slot.base)
        if chunk > length:
            chunk = length
        if physical & (PAGE_SIZE - 1) or chunk < PAGE_SIZE:
            if chunk > PAGE_SIZE - (physical & (PAGE_SIZE - 1)):
                chunk = PAGE_SIZE - (physical & (PAGE_SIZE - 1))
            memset(host, 0, chunk)
        else:
            chunk &= ~<u64>(PAGE_SIZE - 1)
            if madvise(host, chunk, MADV_REMOVE):       # refused for a private view, whose pages are read from an image
                _clear_pages(host, chunk)
        _written(space, slot, physical, chunk)
        physical += chunk
        length -= chunk


cdef int dma_discard(Space* space, u64 physical, u64 length) noexcept nogil:
    cdef int k
    if not _host_backed(space, physical, length):
        space.dropped += 1
        return -1
    for k in range(space.slots):
        if (space.slot[k].readonly and physical < space.slot[k].base + space.slot[k].size
                and space.slot[k].base < physical + length):
            space.dropped += 1
            return -1
    _clear(space, physical, length)
    return 0


cdef u8* dma_pointer(Space* space, u64 physical, u64 length, bint write) noexcept nogil:
    cdef Slot* slot = find_slot(space, physical)
    if slot == NULL or slot.size - (physical - slot.base) < length or (write and slot.readonly):
        space.dropped += 1
        return NULL
    if write:
        _written(space, slot, physical, length)
    return slot.host + (physical - slot.base)


# ---- mapping

cdef bint _is_free(Space* space, u64 base, u64 size) noexcept nogil:
    """Whether [base, base + size) is a range, and nothing lies in it."""
    cdef int k
    cdef u64 last = base + size - 1
    if size == 0 or last < base:
        return False
    for k in range(space.slots):
        if base <= space.slot[k].base + (space.slot[k].size - 1) and space.slot[k].base <= last:
            return False
    for k in range(space.regions):
        if base <= space.region[k].base + (space.region[k].size - 1) and space.region[k].base <= last:
            return False
    return True


cdef int space_map(Space* space, u64 base, u64 size, read_fn read, write_fn write, void* owner) noexcept nogil:
    cdef int place = space.regions
    if place == MAX_REGIONS or not _is_free(space, base, size):
        return -1
    while place > 0 and space.region[place - 1].base > base:
        space.region[place] = space.region[place - 1]
        place -= 1
    space.region[place].base = base
    space.region[place].size = size
    space.region[place].read = read
    space.region[place].write = write
    space.region[place].owner = owner
    space.regions += 1
    return 0


cdef int space_unmap(Space* space, u64 base, void* owner) noexcept nogil:
    cdef Mmio* region = _find_region(space, base)
    cdef int k
    if region == NULL or region.base != base or region.owner != owner:
        return -1
    space.regions -= 1
    for k in range(<int>(region - space.region), space.regions):
        space.region[k] = space.region[k + 1]
    return 0


# ---- what devices offer

cdef class Region:
    pass


cdef Region region(str name, u64 size, read_fn read, write_fn write, void* owner, object keep):
    """A region of `size` bytes; `keep` holds the owner of the callbacks alive."""
    cdef Region offer = Region.__new__(Region)
    offer.name = name
    offer.size = size
    offer.read = read
    offer.write = write
    offer.owner = owner
    offer.keep = keep
    return offer


@cython.final
cdef class PythonRegion(Region):
    """A region served by Python functions: `read(offset, size) -> int` and `write(offset, size, value)`.

    An exception of theirs is kept in `error` (the first one), reads give all ones then; whoever runs the machine
    looks at it. Source of the convention: `read_fn` and `write_fn`.
    """
    cdef object _read
    cdef object _write
    cdef public object error

    def __init__(self, str name, u64 size, read, write):
        self.name = name
        self.size = size
        self._read = read
        self._write = write
        self.read = _python_read
        self.write = _python_write
        self.owner = <void*>self


cdef u64 _python_read(void* owner, u64 offset, int size) noexcept with gil:
    cdef PythonRegion region = <PythonRegion>owner
    try:
        return int(region._read(offset, size)) & mask_of(size)
    except BaseException as error:
        if region.error is None:
            region.error = error
        return mask_of(size)


cdef void _python_write(void* owner, u64 offset, int size, u64 value) noexcept with gil:
    cdef PythonRegion region = <PythonRegion>owner
    try:
        region._write(offset, size, value)
    except BaseException as error:
        if region.error is None:
            region.error = error


# ---- the Python face

@cython.final
cdef class PhysicalMemory:
    """The physical address space of a machine with `ram_bytes` of RAM (a multiple of 4096).

    RAM lies at 0..640 KiB, 768 KiB..3 GiB and from 4 GiB up; untouched RAM costs nothing. Raises UsageError for an
    impossible size and ResourceError where the host gives no memory.
    """

    def __init__(self, ram_bytes):
        cdef Mapping ram, dirty, code_lines
        cdef StateFields fields
        cdef MemoryFile file
        if not 0 < ram_bytes <= RAM_LIMIT or ram_bytes % PAGE_SIZE:
            raise UsageError("memory", f"{ram_bytes} bytes", f"a multiple of {PAGE_SIZE} up to {RAM_LIMIT >> 30} GiB")
        self.ram_bytes = ram_bytes
        self._keep = []
        self.space.pages = self.ram_bytes // PAGE_SIZE + <u64>BOARD_PAGES
        self.space.a20_mask = <u64>0xFFFFFFFFFFFFFFFF
        file = MemoryFile(self.space.pages * PAGE_SIZE)
        ram = map_host(self.space.pages * PAGE_SIZE, "memory", file.fd)
        dirty = map_host(self.space.pages, "memory (dirty log)", -1)
        code_lines = map_host(self.space.pages * sizeof(u64), "memory (code marks)", -1)
        self._keep += [ram, dirty, code_lines]
        self._ram = ram.data
        self._file = file
        self.space.dirty = dirty.data
        self.space.code_lines = <u64*>code_lines.data
        low = min(ram_bytes, HOLE_BASE)
        for base, end in ((0, min(low, VIDEO_BASE)), (SHADOW_BASE, min(low, HIGH_BASE)), (HIGH_BASE, low)):
            if end > base:
                self._insert(base, end - base, ram.data + <u64>base, base // PAGE_SIZE, False)
        if ram_bytes > low:
            self._insert(HOLE_END, ram_bytes - low, ram.data + <u64>low, low // PAGE_SIZE, False)
        self.physical = PhysicalBytes.__new__(PhysicalBytes)
        self.physical._memory = self
        self.physical._low_bytes = low
        fields = declare_state("memory", self, self._check)
        fields.add("a20_mask", "u64", &self.space.a20_mask)
        fields.cover(&self.space, sizeof(Space))
        fields.derived("map", &self.space, <u64>&self.space.a20_mask - <u64>&self.space)
        fields.derived("logs and listeners", &self.space.dirty, <u64>&self.space + sizeof(Space) - <u64>&self.space.dirty)
        self.fields = fields

    def _check(self):
        if self.space.a20_mask | 1 << 20 != 0xFFFFFFFFFFFFFFFF:
            raise SnapshotError("memory.a20_mask", f"{self.space.a20_mask:#x}", "all ones, but for bit 20")

    # ---- images

    cdef u64 _used_pages(self) noexcept nogil:
        return self.ram_bytes // PAGE_SIZE + self._board_pages

    cdef int own(self) except -1:
        """To be called before anything is written: takes the memory off a file that an image has become."""
        if self._frozen:
            self.image.map_private(self._ram)
            self._frozen = False
        return 0

    def freeze(self):
        """All of RAM and ROM as it is now, as an image that never changes; costs no copy but of what changed since the last.

        The dirty log begins anew: whoever runs the CPUs empties their TLBs, so that stores reach it."""
        if self.image is None:
            self.image = first_image(self._file, self.space.pages)
            self._file = None
            self._frozen = True
        else:
            runs = self.dirty_runs()
            if runs:
                self.own()
                self.image = self.image.overlaid(runs, <u64>self._ram)
                if len(self.image.extents) == 1:
                    self.image.map_private(self._ram)
                else:
                    self.image.map_runs(self._ram, runs)
        memset(self.space.dirty, 0, self._used_pages())
        return self.image

    def adopt(self, RamImage image not None):
        """RAM and ROM become what `image` holds (of a memory of the same size); TLBs are to be emptied, as for `freeze`."""
        if image.pages != self.space.pages:
            raise ValueError(f"an image of {image.pages} pages for a memory of {self.space.pages}")
        if image is self.image:
            self.own()
            image.view()
            self.restore_pages()
            return
        self._map(image)

    cdef int _map(self, RamImage image) except -1:
        cdef u64 page
        image.map_private(self._ram)
        self._file = None
        self._frozen = False
        self.image = image
        memset(self.space.dirty, 0, self._used_pages())
        for page in range(self._used_pages()):
            if self.space.code_lines[page]:
                _page_changed(&self.space, page)
        return 0

    cdef void restore_pages(self) noexcept nogil:
        """Every page written since the image was taken is made what it was then; the image has been viewed before."""
        cdef u64 page = 0
        cdef u64 count = self._used_pages()
        cdef u8* dirty = self.space.dirty
        while page < count:
            if (<u64*>(dirty + page))[0]:
                self._restore_eight(page, min(page + 8, count))
            page += 8

    cdef void _restore_eight(self, u64 page, u64 end) noexcept nogil:
        while page < end:
            if self.space.dirty[page]:
                self.space.dirty[page] = 0
                memcpy(self._ram + page * PAGE_SIZE, self.image._view + page * PAGE_SIZE, PAGE_SIZE)
                if self.space.code_lines[page]:
                    _page_changed(&self.space, page)
            page += 1

    def dirty_runs(self):
        """The pages written since `image` (or since power-on), by their numbers in an image: a list of (first, number)."""
        cdef u64 page = 0
        cdef u64 count = self._used_pages()
        cdef u64 start
        cdef u8* dirty = self.space.dirty
        found = []
        while page < count:
            if not dirty[page]:
                page += 8 if page % 8 == 0 and (<u64*>(dirty + page))[0] == 0 else 1
                continue
            start = page
            while page < count and dirty[page]:
                page += 1
            found.append((start, page - start))
        return found

    def data_runs(self):
        """The pages that may hold something else than zeros, by their numbers in an image: a list of (first, number)."""
        if self.image is None:
            return merge_runs(self._file.data_runs(0, self.space.pages))
        return merge_runs([*self.image.data_runs(), *self.dirty_runs()])

    def digest(self):
        """SHA-256 of all RAM and ROM, the same for the same content."""
        return digest_pages(<u64>self._ram, self.data_runs())

    def address_of_page(self, u64 page):
        """The physical address of a page by its number in an image; None where it has none (behind the video window)."""
        cdef u64 physical
        return physical if _physical_of(&self.space, page, &physical) else None

    cdef int _insert(self, u64 base, u64 size, u8* host, u64 first_page, bint readonly) except -1:
        cdef Space* space = &self.space
        cdef int place = space.slots
        if place == MAX_SLOTS:
            raise ValueError(f"no slot is left for memory at {base:#x}")
        if not _is_free(space, base, size):
            raise ValueError(f"memory at {base:#x}, {size} bytes, lies over something else")
        while place > 0 and space.slot[place - 1].base > base:
            space.slot[place] = space.slot[place - 1]
            place -= 1
        space.slot[place] = Slot(base=base, size=size, host=host, first_page=first_page, readonly=readonly)
        space.slots += 1
        return 0

    cdef u8* _add(self, u64 base, u64 size, bint readonly) except NULL:
        cdef u8* data
        if base % PAGE_SIZE or size % PAGE_SIZE or size == 0:
            raise ValueError(f"memory at {base:#x}, {size} bytes, is not made of whole pages")
        if self._board_pages + size // PAGE_SIZE > <u64>BOARD_PAGES:
            raise ValueError(f"memory at {base:#x}, {size} bytes, is more than a board can add")
        data = self._ram + self._used_pages() * PAGE_SIZE
        self._insert(base, size, data, self._used_pages(), readonly)
        self._board_pages += size // PAGE_SIZE
        return data

    def add_rom(self, u64 base, bytes data, bint over_ram=False):
        """Adds ROM that holds `data` (whole pages) at `base`; guest stores to it are dropped. ValueError on overlap.

        over_ram: RAM that lies there is no overlap; it is gone for good."""
        cdef u8* host
        if over_ram and base % PAGE_SIZE == 0 and len(data) % PAGE_SIZE == 0:
            _hide_ram(self, base, len(data))
        host = self._add(base, len(data), True)
        memcpy(host, <const u8*>data, len(data))

    def add_ram(self, u64 base, u64 size):
        """Adds RAM besides the main one (video memory, a device's) at `base`; ValueError on overlap."""
        self._add(base, size, False)

    def map(self, u64 base, Region region not None):
        """Gives the region the addresses from `base` up; ValueError where they are taken."""
        if space_map(&self.space, base, region.size, region.read, region.write, region.owner):
            raise ValueError(f"{region.name} at {base:#x}, {region.size} bytes, lies over something else, or is one too many")
        self._keep.append((base, region))

    def unmap(self, u64 base):
        """Takes away the region at `base`; ValueError where `map` put none there."""
        cdef Region region
        for entry in self._keep:
            if isinstance(entry, tuple) and entry[0] == base:
                region = entry[1]
                space_unmap(&self.space, base, region.owner)
                self._keep.remove(entry)
                return
        raise ValueError(f"no region is mapped at {base:#x}")

    def read(self, u64 physical, int size):
        """What a CPU reads: `size` 1, 2, 4 or 8 bytes at `physical` within one page, MMIO included."""
        self._check_access(physical, size)
        return space_read(&self.space, physical, size)

    def write(self, u64 physical, int size, u64 value):
        """What a CPU writes: `size` 1, 2, 4 or 8 bytes at `physical` within one page, MMIO included."""
        self._check_access(physical, size)
        self.own()
        space_write(&self.space, physical, size, value)

    def _check_access(self, physical, size):
        if size not in (1, 2, 4, 8) or physical % PAGE_SIZE + size > PAGE_SIZE:
            raise ValueError(f"{size} bytes at {physical:#x} is no access")

    def dirty_pages(self):
        """The physical addresses of all pages written since `image` (or since power-on), in order."""
        pages = [self.address_of_page(page) for first, count in self.dirty_runs() for page in range(first, first + count)]
        return sorted(address for address in pages if address is not None)

    @property
    def ram_ranges(self):
        """RAM as a tuple of (base, size in bytes), in order of address; what boards added included, ROM not."""
        return tuple((self.space.slot[k].base, self.space.slot[k].size)
                     for k in range(self.space.slots) if not self.space.slot[k].readonly)

    @property
    def dropped(self):
        """How many accesses no one answered since power-on."""
        return self.space.dropped

    @property
    def address(self):
        """The address of the C struct `Space`, for native harnesses."""
        return <u64>&self.space


cdef int _hide_ram(PhysicalMemory memory, u64 base, u64 size) except -1:
    """Leaves of each RAM slot what lies outside [base, base + size)."""
    cdef Space* space = &memory.space
    cdef u64 end = base + size
    cdef Slot old
    cdef int k, after
    for k in reversed(range(space.slots)):
        old = space.slot[k]
        if old.readonly or base >= old.base + old.size or old.base >= end:
            continue
        space.slots -= 1
        for after in range(k, space.slots):
            space.slot[after] = space.slot[after + 1]
        if old.base < base:
            memory._insert(old.base, base - old.base, old.host, old.first_page, False)
        if end < old.base + old.size:
            memory._insert(end, old.base + old.size - end, old.host + (end - old.base),
                           old.first_page + (end - old.base) // PAGE_SIZE, False)
    return 0


@cython.final
cdef class PhysicalBytes:
    """RAM and ROM by physical address: `physical[a:b]` is bytes, `physical[a]` an int; both can be assigned.

    An assignment counts as a write (dirty log, code), reaches ROM too, and never a device. IndexError where an
    address is neither RAM nor ROM.
    """
    cdef tuple _range(self, object key):
        if isinstance(key, slice):
            if key.step not in (None, 1) or key.start is None or key.stop is None:
                raise IndexError("a slice of physical memory is physical[first:end]")
            first, end = key.start, key.stop
        else:
            first, end = key, key + 1
        if not 0 <= first <= end <= 1 << 64 or not _host_backed(&self._memory.space, first, end - first):
            raise IndexError(f"physical addresses {first:#x}..{end:#x} are not all RAM or ROM")
        return first, end - first

    def __getitem__(self, key):
        first, length = self._range(key)
        data = bytearray(length)
        cdef u8[::1] view
        if length:
            view = data
            dma_read(&self._memory.space, first, &view[0], length)
        return bytes(data) if isinstance(key, slice) else data[0]

    def __setitem__(self, key, value):
        self._memory.own()
        first, length = self._range(key)
        data = bytes(value) if isinstance(key, slice) else bytes((value,))
        if len(data) != length:
            raise ValueError(f"{len(data)} bytes do not fit in {length}")
        _store(&self._memory.space, first, <const u8*>data, length, True)

    def clear(self, first, length):
        """Makes `length` bytes from `first` on zero; whole pages cost nothing afterwards, as if never touched."""
        self._memory.own()
        first, length = self._range(slice(first, first + length))
        _clear(&self._memory.space, first, length)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self._memory._ram, self._low_bytes, True, flags)

    @property
    def array(self):
        """RAM below the hole as a read-only numpy array of bytes, live; the video window in it reads as zeros."""
        import numpy
        return numpy.frombuffer(self, dtype=numpy.uint8)
