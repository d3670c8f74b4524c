# A disk's bytes: a base (raw file, or anything that reads and writes at offsets) and a copy-on-write overlay in memory.
from emu.base.types cimport u8, u64

cdef enum:
    SECTOR_BYTES = 512
    CLUSTER_BYTES = 4096                 # unit of the overlay
    LEAF_CLUSTERS = 512

# A base transfers [offset, offset + length), which lies within its size: 0, or -1 for an I/O error.
ctypedef int (*disk_read_fn)(void* owner, u64 offset, void* data, u64 length) noexcept nogil
ctypedef int (*disk_write_fn)(void* owner, u64 offset, const void* data, u64 length) noexcept nogil
ctypedef int (*disk_flush_fn)(void* owner) noexcept nogil


cdef struct Cluster:
    int references                       # of leaves
    u8 data[CLUSTER_BYTES]


cdef struct Leaf:
    int references                       # of overlays
    Cluster* cluster[LEAF_CLUSTERS]      # NULL untouched, ZERO_CLUSTER, or bytes


# What was written over a base. Overlays, their leaves and clusters are shared between disks and images of disks, and
# copied by whoever writes to one that is not its own alone.
cdef struct Overlay:
    int references
    u64 leaves
    u64 bytes                            # of its clusters
    Leaf** leaf


cdef struct DiskState:
    u64 bytes                            # capacity, a multiple of 512: the base's size rounded up
    u64 base_bytes
    bint readonly
    bint through                         # writes reach the base; else they stay in the overlay
    disk_read_fn read                    # NULL: a blank base
    disk_write_fn write
    disk_flush_fn flush
    void* owner
    int fd                               # of a raw file
    Overlay* overlay                     # NULL: readonly, or `through`
    u64 overlay_limit_bytes              # writes fail beyond it
    u64 reads                            # operations and bytes since power-on
    u64 read_bytes
    u64 writes
    u64 written_bytes


# All three: 0, or -1 for an I/O error (out of range included).
cdef int disk_read(DiskState* disk, u64 offset, void* data, u64 length) noexcept nogil
cdef int disk_write(DiskState* disk, u64 offset, const void* data, u64 length) noexcept nogil
cdef int disk_zero(DiskState* disk, u64 offset, u64 length) noexcept nogil
cdef int disk_flush(DiskState* disk) noexcept nogil


cdef class DiskImage:
    """A disk's overlay at one moment, never changed."""
    cdef Overlay* overlay
    cdef u64 capacity


cdef class DiskBackend:
    cdef DiskState state
    cdef object _base
    cdef readonly str name
    cdef readonly str path               # of a raw file; "" for a blank disk
    cdef int set_base(self, u64 size, disk_read_fn read, disk_write_fn write, disk_flush_fn flush, void* owner,
                      object base) except -1
