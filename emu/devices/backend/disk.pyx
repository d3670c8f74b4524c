# A disk's bytes: a base (raw file, or anything that reads and writes at offsets) and a copy-on-write overlay in memory.
#
# Image formats (qcow2, ...) join as another base: three functions through DiskBackend.set_base.
import os

import cython

from libc.errno cimport EINTR, errno
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from emu.base.errors import ImageError, ResourceError, SnapshotError, UsageError
from emu.base.types cimport u8, u64

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int fd, void* data, size_t length, long long offset)
    ssize_t pwrite(int fd, const void* data, size_t length, long long offset)
    int fdatasync(int fd)
    int close(int fd)

cdef u8* ZERO_CLUSTER = <u8*>1           # a cluster of zeros that costs nothing; never dereferenced
cdef u8[CLUSTER_BYTES] ZEROS

DEFAULT_OVERLAY_BYTES = 4 << 30
LARGEST_DISK_BYTES = 1 << 44


# ---- a raw file as base

cdef int _file_read(void* owner, u64 offset, void* data, u64 length) noexcept nogil:
    cdef ssize_t count
    while length:
        count = pread((<DiskState*>owner).fd, data, length, <long long>offset)
        if count < 0 and errno == EINTR:
            continue
        if count <= 0:                   # an error, or the file has shrunk behind our back
            return -1
        data = <u8*>data + count
        offset += <u64>count
        length -= <u64>count
    return 0


cdef int _file_write(void* owner, u64 offset, const void* data, u64 length) noexcept nogil:
    cdef ssize_t count
    while length:
        count = pwrite((<DiskState*>owner).fd, data, length, <long long>offset)
        if count < 0 and errno == EINTR:
            continue
        if count <= 0:
            return -1
        data = <const u8*>data + count
        offset += <u64>count
        length -= <u64>count
    return 0


cdef int _file_flush(void* owner) noexcept nogil:
    return fdatasync((<DiskState*>owner).fd)


# ---- base and overlay

cdef int _base_read(DiskState* disk, u64 offset, u8* data, u64 length) noexcept nogil:
    """Reads the base; beyond its end (the last sector's padding) and in a blank one there are zeros."""
    cdef u64 there = 0
    if disk.read != NULL and offset < disk.base_bytes:
        there = min(length, disk.base_bytes - offset)
        if disk.read(disk.owner, offset, data, there):
            return -1
    memset(data + there, 0, length - there)
    return 0


cdef u8** _cluster(DiskState* disk, u64 offset, bint create) noexcept nogil:
    """The place of the cluster that holds `offset`; NULL where it has none (or no memory is left)."""
    cdef u64 number = offset // CLUSTER_BYTES
    cdef u8*** leaf = &disk.overlay[number // LEAF_CLUSTERS]
    if leaf[0] == NULL:
        if not create:
            return NULL
        leaf[0] = <u8**>calloc(LEAF_CLUSTERS, sizeof(u8*))
        if leaf[0] == NULL:
            return NULL
    return &leaf[0][number % LEAF_CLUSTERS]


cdef bint _in_range(DiskState* disk, u64 offset, u64 length) noexcept nogil:
    return offset <= disk.bytes and length <= disk.bytes - offset


cdef int disk_read(DiskState* disk, u64 offset, void* data, u64 length) noexcept nogil:
    """Reads [offset, offset + length)."""
    cdef u8* target = <u8*>data
    cdef u8** place
    cdef u64 chunk
    if not _in_range(disk, offset, length):
        return -1
    disk.reads += 1
    disk.read_bytes += length
    if disk.overlay == NULL:
        return _base_read(disk, offset, target, length)
    while length:
        chunk = min(length, CLUSTER_BYTES - offset % CLUSTER_BYTES)
        place = _cluster(disk, offset, False)
        if place == NULL or place[0] == NULL:
            if _base_read(disk, offset, target, chunk):
                return -1
        elif place[0] == ZERO_CLUSTER:
            memset(target, 0, chunk)
        else:
            memcpy(target, place[0] + offset % CLUSTER_BYTES, chunk)
        target += chunk
        offset += chunk
        length -= chunk
    return 0


cdef int _overlay_write(DiskState* disk, u64 offset, const u8* data, u64 length) noexcept nogil:
    """Writes within one cluster."""
    cdef u64 within = offset % CLUSTER_BYTES
    cdef u8** place = _cluster(disk, offset, True)
    cdef u8* fresh
    if place == NULL:
        return -1
    if place[0] == NULL or place[0] == ZERO_CLUSTER:
        if disk.overlay_bytes + CLUSTER_BYTES > disk.overlay_limit_bytes:
            return -1
        fresh = <u8*>malloc(CLUSTER_BYTES)
        if fresh == NULL:
            return -1
        if place[0] == ZERO_CLUSTER:
            memset(fresh, 0, CLUSTER_BYTES)
        elif length < CLUSTER_BYTES and _base_read(disk, offset - within, fresh, CLUSTER_BYTES):
            free(fresh)
            return -1
        place[0] = fresh
        disk.overlay_bytes += CLUSTER_BYTES
    memcpy(place[0] + within, data, length)
    return 0


cdef int disk_write(DiskState* disk, u64 offset, const void* data, u64 length) noexcept nogil:
    """Writes [offset, offset + length)."""
    cdef const u8* source = <const u8*>data
    cdef u64 chunk
    if disk.readonly or not _in_range(disk, offset, length):
        return -1
    disk.writes += 1
    disk.written_bytes += length
    if disk.through:                     # the padding of the last sector is not the file's: it is dropped
        if offset >= disk.base_bytes:
            return 0
        return disk.write(disk.owner, offset, source, min(length, disk.base_bytes - offset))
    while length:
        chunk = min(length, CLUSTER_BYTES - offset % CLUSTER_BYTES)
        if _overlay_write(disk, offset, source, chunk):
            return -1
        source += chunk
        offset += chunk
        length -= chunk
    return 0


cdef int disk_zero(DiskState* disk, u64 offset, u64 length) noexcept nogil:
    """Makes [offset, offset + length) zeros; whole clusters of the overlay give their memory back."""
    cdef u64 chunk
    cdef u8** place
    if disk.readonly or not _in_range(disk, offset, length):
        return -1
    while length:
        chunk = min(length, CLUSTER_BYTES - offset % CLUSTER_BYTES)
        if disk.through or chunk < CLUSTER_BYTES:
            if disk_write(disk, offset, &ZEROS[0], chunk):
                return -1
        else:
            place = _cluster(disk, offset, True)
            if place == NULL:
                return -1
            if place[0] != NULL and place[0] != ZERO_CLUSTER:
                free(place[0])
                disk.overlay_bytes -= CLUSTER_BYTES
            place[0] = ZERO_CLUSTER
        offset += chunk
        length -= chunk
    return 0


cdef int disk_flush(DiskState* disk) noexcept nogil:
    """Makes what was written durable; nothing to do for an overlay."""
    if disk.through and disk.flush != NULL:
        return 0 if disk.flush(disk.owner) == 0 else -1
    return 0


cdef void _drop_overlay(DiskState* disk) noexcept nogil:
    cdef u64 k, n
    if disk.overlay == NULL:
        return
    for k in range(disk.leaves):
        if disk.overlay[k] != NULL:
            for n in range(LEAF_CLUSTERS):
                if disk.overlay[k][n] != ZERO_CLUSTER:
                    free(disk.overlay[k][n])
            free(disk.overlay[k])
            disk.overlay[k] = NULL
    disk.overlay_bytes = 0


@cython.final
cdef class DiskBackend:
    """The bytes of one disk: made by `open_raw` or `blank`.

    Writes stay in an overlay in memory (of at most `overlay_limit` bytes; writes fail beyond), unless `commit`, when
    they go to the file. Capacity is the base's size rounded up to 512 bytes.
    """

    def __cinit__(self):
        self.state.fd = -1

    def __dealloc__(self):
        _drop_overlay(&self.state)
        free(self.state.overlay)
        if self.state.fd >= 0:
            close(self.state.fd)

    @staticmethod
    def open_raw(path, bint commit=False, bint readonly=False, overlay_limit=DEFAULT_OVERLAY_BYTES):
        """A disk over the raw image file `path`; raises ImageError where it cannot be used."""
        cdef DiskBackend disk = DiskBackend.__new__(DiskBackend)
        if commit and readonly:
            raise UsageError("disk", str(path), "either commit or readonly", "leave one of them out")
        try:
            disk.state.fd = os.open(path, (os.O_RDWR if commit else os.O_RDONLY) | os.O_CLOEXEC)
            size = os.lseek(disk.state.fd, 0, os.SEEK_END)
        except OSError as error:
            raise ImageError(path, error.strerror or str(error), "a raw disk image", "check the name and its permissions") from None
        if not 0 < size <= LARGEST_DISK_BYTES:
            raise ImageError(path, f"{size} bytes", f"a raw disk image of 1 byte to {LARGEST_DISK_BYTES >> 40} TiB")
        disk.name = os.path.basename(os.fspath(path))
        disk.set_base(size, _file_read, _file_write, _file_flush, &disk.state, None)
        disk._prepare(commit, readonly, overlay_limit)
        return disk

    @staticmethod
    def blank(size, overlay_limit=DEFAULT_OVERLAY_BYTES):
        """A disk of `size` bytes of zeros that lives in memory only."""
        cdef DiskBackend disk = DiskBackend.__new__(DiskBackend)
        if not 0 < size <= LARGEST_DISK_BYTES:
            raise UsageError("disk", f"{size} bytes", f"a size of 1 byte to {LARGEST_DISK_BYTES >> 40} TiB")
        disk.name = "blank"
        disk.set_base(size, NULL, NULL, NULL, NULL, None)
        disk._prepare(False, False, overlay_limit)
        return disk

    cdef int set_base(self, u64 size, disk_read_fn read, disk_write_fn write, disk_flush_fn flush, void* owner,
                      object base) except -1:
        """Gives the disk its base of `size` bytes; `base` keeps `owner` alive. Image formats join here."""
        self.state.base_bytes = size
        self.state.bytes = (size + SECTOR_BYTES - 1) // SECTOR_BYTES * SECTOR_BYTES
        self.state.read = read
        self.state.write = write
        self.state.flush = flush
        self.state.owner = owner
        self._base = base
        return 0

    def _prepare(self, bint commit, bint readonly, overlay_limit):
        cdef DiskState* disk = &self.state
        disk.through = commit
        disk.readonly = readonly
        if not commit and not readonly:
            disk.leaves = disk.bytes // (CLUSTER_BYTES * LEAF_CLUSTERS) + 1
            disk.overlay_limit_bytes = overlay_limit
            disk.overlay = <u8***>calloc(disk.leaves, sizeof(u8**))
            if disk.overlay == NULL:
                raise ResourceError("disk", f"{disk.bytes} bytes", "the host has no memory for the overlay's index")

    @property
    def bytes(self):
        """Capacity in bytes, a multiple of 512."""
        return self.state.bytes

    @property
    def readonly(self):
        """Whether writes are refused."""
        return bool(self.state.readonly)

    @property
    def overlay_bytes(self):
        """Memory that the overlay's clusters take, in bytes."""
        return self.state.overlay_bytes

    @property
    def usage(self):
        """Operations and bytes since power-on, as a dict."""
        return {"reads": self.state.reads, "read_bytes": self.state.read_bytes,
                "writes": self.state.writes, "written_bytes": self.state.written_bytes}

    def read(self, u64 offset, u64 length):
        """Bytes [offset, offset + length), the overlay included; raises ImageError for an I/O error or a bad range."""
        data = bytearray(length if _in_range(&self.state, offset, length) else 0)
        cdef u8[::1] view
        if not data:
            if length:
                raise ImageError(self.name, f"{length} bytes at {offset}", f"a range within {self.state.bytes} bytes")
            return b""
        view = data
        if disk_read(&self.state, offset, &view[0], length):
            raise ImageError(self.name, f"{length} bytes at {offset}", "the host cannot read them")
        return bytes(data)

    def write(self, u64 offset, bytes data not None):
        """Writes as the guest does; raises ImageError for an I/O error, a bad range or a readonly disk."""
        if disk_write(&self.state, offset, <const u8*>data, len(data)):
            raise ImageError(self.name, f"{len(data)} bytes at {offset}", "not writable there, or the overlay is full")

    def zero(self, u64 offset, u64 length):
        """Zeroes as the guest does; raises ImageError as `write`."""
        if disk_zero(&self.state, offset, length):
            raise ImageError(self.name, f"{length} bytes at {offset}", "not writable there, or the overlay is full")

    def flush(self):
        """Makes committed writes durable; raises ImageError where the host cannot."""
        if disk_flush(&self.state):
            raise ImageError(self.name, "flush", "the host cannot make it durable")

    def clusters(self):
        """What the overlay holds, for snapshots: yields (offset, bytes) in order, bytes None for a cluster of zeros."""
        cdef u64 k, n
        if self.state.overlay == NULL:
            return
        for k in range(self.state.leaves):
            if self.state.overlay[k] == NULL:
                continue
            for n in range(LEAF_CLUSTERS):
                if self.state.overlay[k][n] != NULL:
                    data = None
                    if self.state.overlay[k][n] != ZERO_CLUSTER:
                        data = (<const u8*>self.state.overlay[k][n])[:CLUSTER_BYTES]
                    yield (k * LEAF_CLUSTERS + n) * CLUSTER_BYTES, data

    def set_clusters(self, clusters):
        """Replaces the overlay by what `clusters()` gave; raises SnapshotError where it does not fit this disk."""
        cdef u8** place
        clusters = list(clusters)
        for offset, data in clusters:
            if (self.state.overlay == NULL or offset % CLUSTER_BYTES or not 0 <= offset < self.state.bytes
                    or (data is not None and len(data) != CLUSTER_BYTES)):
                raise SnapshotError(self.name, f"a cluster at {offset}", "whole clusters within a disk that has an overlay")
        _drop_overlay(&self.state)
        for offset, data in clusters:
            place = _cluster(&self.state, offset, True)
            if place == NULL:
                raise ResourceError(self.name, "overlay", "the host has no memory")
            if place[0] != NULL:
                raise SnapshotError(self.name, f"a cluster at {offset}", "each cluster once")
            if data is None:
                place[0] = ZERO_CLUSTER
            elif _overlay_write(&self.state, offset, <const u8*><bytes>data, CLUSTER_BYTES):
                raise ResourceError(self.name, "overlay", "more clusters than the overlay may hold")
