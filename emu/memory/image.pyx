# A machine's RAM at one moment, never changed: pages in memory files that any number of machines map copy-on-write.
#
# A machine starts on a memory file of its own, mapped shared. Freezing makes that file an image; the machine goes on on
# a private view of it, as its forks do. The next freeze puts the pages that were written since into a small file of
# their own: an image is a list of extents. One of too many extents is copied into a single file (docs/adr/0008).
import os

from libc.errno cimport EINTR, errno
from libc.string cimport memcpy, strerror

from emu.base.errors import HostError, ResourceError
from emu.base.types cimport u8, u64

cdef extern from "<sys/mman.h>" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void* address, size_t length)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_SHARED, MAP_FIXED, MAP_NORESERVE, MAP_ANONYMOUS
    void* MAP_FAILED

cdef extern from "<unistd.h>" nogil:
    ssize_t pwrite(int fd, const void* data, size_t length, long offset)

cdef extern from "<fcntl.h>" nogil:
    int fallocate(int fd, int mode, long offset, long length)
    int FALLOC_FL_PUNCH_HOLE, FALLOC_FL_KEEP_SIZE

cdef extern from *:
    """
    #include <string.h>
    static int emu_page_is_zero(const unsigned char* page)
    { return page[0] == 0 && memcmp(page, page + 1, 4095) == 0; }
    """
    bint page_is_zero "emu_page_is_zero"(const u8* page) noexcept nogil

cdef enum:
    PAGE = 4096
MOST_EXTENTS = 1024              # more of them are copied into one file
MOST_HISTORY = 64


cdef class MemoryFile:
    """A file in memory (memfd) of `size` bytes; its pages cost nothing until they are written."""

    def __cinit__(self, u64 size):
        self.fd = -1
        try:
            self.fd = os.memfd_create("guest memory", os.MFD_CLOEXEC)
            os.ftruncate(self.fd, size)
        except OSError as error:
            raise ResourceError("memory", f"{size} bytes", f"the host refuses: {error.strerror}", "use less memory") from None

    def __dealloc__(self):
        if self.fd >= 0:
            os.close(self.fd)

    def copy_from(self, u64 page, u64 address, u64 count):
        """Puts `count` pages that lie at a host address into the file, from `page` on; ResourceError where the host has no memory."""
        cdef u64 offset = page * PAGE
        cdef u64 left = count * PAGE
        cdef ssize_t done
        while left:
            with nogil:
                done = pwrite(self.fd, <const void*>address, left, <long>offset)
            if done < 0 and errno == EINTR:
                continue
            if done <= 0:
                raise ResourceError("memory", f"{count} pages", f"the host refuses: {strerror(errno).decode()}", "use less memory")
            address += <u64>done
            offset += <u64>done
            left -= <u64>done

    def fill(self, runs, bytes data not None):
        """Puts `data` into the pages of `runs`, one after the other."""
        cdef u64 first, count
        cdef u64 at = 0
        if sum(count for _, count in runs) * PAGE != len(data):
            raise ValueError("data of another length")
        for first, count in runs:
            self.copy_from(first, <u64><const u8*>data + at, count)
            at += count * PAGE

    def clear(self, u64 page, u64 count):
        """Makes `count` pages from `page` on zeros, which cost nothing."""
        if fallocate(self.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, <long>(page * PAGE), <long>(count * PAGE)):
            raise HostError("memory", f"{count} pages cannot be cleared", strerror(errno).decode())

    def data_runs(self, u64 first, u64 end):
        """The pages [first, end) that hold data: yields (first page, number)."""
        cdef u64 at = first * PAGE
        while at < end * PAGE:
            try:
                start = os.lseek(self.fd, at, os.SEEK_DATA)
            except OSError:                      # ENXIO: nothing more
                return
            if start >= end * PAGE:
                return
            stop = min(os.lseek(self.fd, start, os.SEEK_HOLE), end * PAGE)
            first = start // PAGE
            yield first, (stop + PAGE - 1) // PAGE - first
            at = stop


cdef RamImage first_image(MemoryFile file, u64 pages):
    """The image that a whole file is."""
    return _image(pages, ((0, pages, file, 0),), ())


cdef RamImage _image(u64 pages, tuple extents, tuple history):
    cdef RamImage image = RamImage.__new__(RamImage)
    image.pages = pages
    image.extents = extents
    image.history = history[max(0, len(history) - MOST_HISTORY):]
    image.token = object()
    return image


def new_image(pages):
    """An empty file for `pages` pages, and the image that it is: whoever asks fills the file before it shows the image."""
    cdef MemoryFile file = MemoryFile(pages * PAGE)
    return file, first_image(file, pages)


def merge_runs(runs):
    """Runs (first, number), in any order, as sorted runs that neither touch nor overlap."""
    merged = []
    start = end = -1
    for first, count in sorted(runs):
        if first > end:
            if end >= 0:
                merged.append((start, end - start))
            start = first
        end = max(end, first + count)
    if end >= 0:
        merged.append((start, end - start))
    return merged


cdef class RamImage:
    """`pages` pages of 4 KiB at one moment; made by PhysicalMemory.freeze and by whoever loads a snapshot."""

    def __dealloc__(self):
        if self._view != NULL:
            munmap(self._view, self.pages * PAGE)

    cdef u8* view(self) except NULL:
        """All pages, to be read only; mapped at the first call."""
        cdef u8* at
        if self._view == NULL:
            at = <u8*>mmap(NULL, self.pages * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
            if at == MAP_FAILED:
                raise HostError("memory", f"a view of {self.pages} pages", strerror(errno).decode())
            try:
                self._map(<u64>at, PROT_READ, MAP_SHARED, self.extents)
            except HostError:
                munmap(at, self.pages * PAGE)
                raise
            self._view = at
        return self._view

    def _map(self, u64 at, int protection, int kind, extents):
        cdef u64 first, count, place
        cdef MemoryFile file
        for first, count, file, place in extents:
            if mmap(<void*>(at + first * PAGE), count * PAGE, protection, kind | MAP_FIXED | MAP_NORESERVE, file.fd,
                    <long>(place * PAGE)) == MAP_FAILED:
                raise HostError("memory", f"a mapping of {count} pages", strerror(errno).decode(), "raise vm.max_map_count")

    cdef int map_private(self, u8* at) except -1:
        """Maps all pages copy-on-write at `at`, in place of what is there."""
        self._map(<u64>at, PROT_READ | PROT_WRITE, MAP_PRIVATE, self.extents)
        return 0

    cdef int map_runs(self, u8* at, list runs) except -1:
        """Maps some runs of pages so."""
        self._map(<u64>at, PROT_READ | PROT_WRITE, MAP_PRIVATE, self._cut(runs))
        return 0

    def _cut(self, runs):
        """The parts of the extents that lie within runs (sorted, apart)."""
        found = []
        k = 0
        for first, count in runs:
            end = first + count
            while k and self.extents[k][0] > first:
                k -= 1
            while self.extents[k][0] + self.extents[k][1] <= first:
                k += 1
            while first < end:
                start, number, file, place = self.extents[k]
                part = min(end, start + number) - first
                found.append((first, part, file, place + first - start))
                first += part
                if first < end:
                    k += 1
        return found

    def overlaid(self, runs, u64 base):
        """The image with `runs` (sorted, apart) replaced by what lies at the host address `base` of page 0."""
        cdef MemoryFile file
        cdef u64 first, count, place = 0
        total = sum(count for _, count in runs)
        if len(self.extents) + 2 * len(runs) > MOST_EXTENTS:
            return self._flat(runs, base)
        file = MemoryFile(total * PAGE)
        gaps = []
        at = 0
        for first, count in runs:
            if first > at:
                gaps.append((at, first - at))
            at = first + count
        if at < self.pages:
            gaps.append((at, self.pages - at))
        extents = self._cut(gaps)
        for first, count in runs:
            file.copy_from(place, base + first * PAGE, count)
            extents.append((first, count, file, place))
            place += count
        extents.sort(key=lambda extent: extent[0])
        return _image(self.pages, tuple(extents), self.history + ((self.token, runs),))

    def _flat(self, runs, u64 source):
        """The same in one file."""
        cdef MemoryFile file = MemoryFile(self.pages * PAGE)
        cdef u64 first, count
        for first, count in merge_runs([*self.data_runs(), *runs]):
            file.copy_from(first, source + first * PAGE, count)
        return _image(self.pages, ((0, self.pages, file, 0),), self.history + ((self.token, runs),))

    def data_runs(self):
        """The pages that may hold something else than zeros: a list of (first page, number), sorted."""
        found = []
        for first, count, file, place in self.extents:
            found += [(first + start - place, number) for start, number in file.data_runs(place, place + count)]
        return merge_runs(found)

    def changed_since(self, token):
        """The pages that may differ from the earlier image with that token, as `data_runs`; None where it is not known."""
        if token is self.token:
            return []
        for k, (earlier, _) in enumerate(self.history):
            if earlier is token:
                return merge_runs([run for _, runs in self.history[k:] for run in runs])
        return None

    def read(self, u64 first, u64 count):
        """The bytes of pages [first, first + count), as a memoryview that is valid as long as the image."""
        if first + count > self.pages:
            raise ValueError(f"pages {first}..{first + count} of {self.pages}")
        return memoryview(<u8[:count * PAGE]>(self.view() + first * PAGE))

    def pack(self, runs):
        """The pages of `runs` that are not all zeros: (their runs, their bytes one after the other)."""
        cdef u8* view = self.view()
        cdef u64 page, first, count, total = 0
        cdef u64 at = 0
        for first, count in runs:
            total += count
        data = bytearray(total * PAGE)
        flags = bytearray(total)                 # whether a page is not zeros, by its place in `runs`
        cdef u8[::1] out = data
        cdef u8[::1] kept = flags
        total = 0
        for first, count in runs:
            with nogil:
                for page in range(count):
                    if not page_is_zero(view + (first + page) * PAGE):
                        memcpy(&out[at], view + (first + page) * PAGE, PAGE)
                        kept[total + page] = 1
                        at += PAGE
            total += count
        found = []
        place = 0
        for first, count in runs:
            end = place + count
            while (start := flags.find(1, place, end)) >= 0:
                stop = flags.find(0, start, end)
                stop = end if stop < 0 else stop
                found.append((first + start - (end - count), stop - start))
                place = stop
            place = end
        del out
        return found, memoryview(data)[:at]


def digest_pages(u64 base, runs):
    """SHA-256 of pages whose number 0 lies at a host address: of the runs of those in `runs` that are not all zeros, each
    with its number and length."""
    cdef u64 first, count, page, start
    import hashlib                               # here: a start takes no longer for it
    import struct
    found = hashlib.sha256()
    for first, count in runs:
        start = first
        for page in range(first, first + count + 1):
            if page == first + count or page_is_zero(<const u8*>base + page * PAGE):
                if page > start:
                    found.update(struct.pack("<QQ", start, page - start))
                    found.update(<u8[:(page - start) * PAGE]>(<u8*>base + start * PAGE))
                start = page + 1
    return found.hexdigest()
