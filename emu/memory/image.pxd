# A machine's RAM at one moment, never changed: pages in memory files that any number of machines map copy-on-write.
from emu.base.types cimport u8, u64


cdef class MemoryFile:
    """A file in memory (memfd), closed with its owner."""
    cdef readonly int fd


cdef class RamImage:
    cdef readonly u64 pages
    cdef readonly tuple extents          # (first page, number, MemoryFile, first page in it), sorted, without gaps
    cdef readonly tuple history          # of the images this one grew from: (token, runs changed since), oldest first
    cdef readonly object token           # stands for this image in the history of later ones
    cdef u8* _view
    cdef u8* view(self) except NULL
    cdef int map_private(self, u8* at) except -1
    cdef int map_runs(self, u8* at, list runs) except -1


cdef RamImage first_image(MemoryFile file, u64 pages)
