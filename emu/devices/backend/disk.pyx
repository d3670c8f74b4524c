# A disk's bytes: a base (raw file, or anything that reads and writes at offsets) and a copy-on-write overlay in memory.
#
# Image formats (qcow2, ...) join as another base: three functions through DiskBackend.set_base.
import os

import cython

from libc.errno cimport EINTR, errno
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memset

from emu.base.errors import HostError, ImageError, ResourceError, SnapshotError, UsageError
from emu.base.types cimport u8, u64

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int fd, void* data, size_t length, long long offset)
    ssize_t pwrite(int fd, const void* data, size_t length, long long offset)
    int fdatasync(int fd)
    int close(int fd)

cdef extern from *:
    """
    #define emu_share(count) __atomic_add_fetch(count, 1, __ATOMIC_RELAXED)
    #define emu_unshare(count) __atomic_sub_fetch(count, 1, __ATOMIC_ACQ_REL)
    #define emu_sharers(count) __atomic_load_n(count, __ATOMIC_ACQUIRE)
    """
    int share "emu_share"(int* count) noexcept nogil
    int unshare "emu_unshare"(int* count) noexcept nogil         # how many are left
    int sharers "emu_sharers"(int* count) noexcept nogil

cdef Cluster* ZERO_CLUSTER = <Cluster*>1           # a cluster of zeros that costs nothing; never dereferenced
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


# ---- overlays

cdef Overlay* _new_overlay(u64 leaves) noexcept nogil:
    cdef Overlay* overlay = <Overlay*>calloc(1, sizeof(Overlay))
    if overlay == NULL:
        return NULL
    overlay.leaf = <Leaf**>calloc(leaves, sizeof(Leaf*))
    if overlay.leaf == NULL:
        free(overlay)
        return NULL
    overlay.references = 1
    overlay.leaves = leaves
    return overlay


cdef void _drop_cluster(Cluster* cluster) noexcept nogil:
    if cluster != NULL and cluster != ZERO_CLUSTER and unshare(&cluster.references) == 0:
        free(cluster)


cdef void _drop_leaf(Leaf* leaf) noexcept nogil:
    cdef int n
    if leaf != NULL and unshare(&leaf.references) == 0:
        for n in range(LEAF_CLUSTERS):
            _drop_cluster(leaf.cluster[n])
        free(leaf)


cdef void _drop_overlay(Overlay* overlay) noexcept nogil:
    cdef u64 k
    if overlay != NULL and unshare(&overlay.references) == 0:
        for k in range(overlay.leaves):
            _drop_leaf(overlay.leaf[k])
        free(overlay.leaf)
        free(overlay)


cdef Overlay* _own_overlay(DiskState* disk) noexcept nogil:
    """The disk's overlay, its own alone; NULL where no memory is left."""
    cdef Overlay* shared = disk.overlay
    cdef Overlay* own
    cdef u64 k
    if sharers(&shared.references) == 1:
        return shared
    own = _new_overlay(shared.leaves)
    if own == NULL:
        return NULL
    own.bytes = shared.bytes
    for k in range(shared.leaves):
        own.leaf[k] = shared.leaf[k]
        if own.leaf[k] != NULL:
            share(&own.leaf[k].references)
    disk.overlay = own
    _drop_overlay(shared)
    return own


cdef Leaf* _own_leaf(Overlay* overlay, u64 number) noexcept nogil:
    """A leaf of an overlay that is the caller's own, the leaf likewise; NULL where no memory is left."""
    cdef Leaf* shared = overlay.leaf[number]
    cdef Leaf* own
    cdef int n
    if shared != NULL and sharers(&shared.references) == 1:
        return shared
    own = <Leaf*>calloc(1, sizeof(Leaf))
    if own == NULL:
        return NULL
    own.references = 1
    if shared != NULL:
        for n in range(LEAF_CLUSTERS):
            own.cluster[n] = shared.cluster[n]
            if own.cluster[n] != NULL and own.cluster[n] != ZERO_CLUSTER:
                share(&own.cluster[n].references)
        _drop_leaf(shared)
    overlay.leaf[number] = own
    return own


cdef Cluster* _find_cluster(Overlay* overlay, u64 offset) noexcept nogil:
    """The cluster that holds `offset`, to be read; NULL where it is untouched."""
    cdef u64 number = offset // CLUSTER_BYTES
    cdef Leaf* leaf = overlay.leaf[number // LEAF_CLUSTERS]
    return leaf.cluster[number % LEAF_CLUSTERS] if leaf != NULL else NULL


cdef Cluster** _own_place(DiskState* disk, u64 offset) noexcept nogil:
    """The place of the cluster that holds `offset`, to be changed; NULL where no memory is left."""
    cdef u64 number = offset // CLUSTER_BYTES
    cdef Overlay* overlay = _own_overlay(disk)
    cdef Leaf* leaf = _own_leaf(overlay, number // LEAF_CLUSTERS) if overlay != NULL else NULL
    return &leaf.cluster[number % LEAF_CLUSTERS] if leaf != NULL else NULL


cdef bint _in_range(DiskState* disk, u64 offset, u64 length) noexcept nogil:
    return offset <= disk.bytes and length <= disk.bytes - offset


cdef int disk_read(DiskState* disk, u64 offset, void* data, u64 length) noexcept nogil:
    """Reads [offset, offset + length)."""
    cdef u8* target = <u8*>data
    cdef Cluster* cluster
    cdef u64 chunk
    if not _in_range(disk, offset, length):
        return -1
    disk.reads += 1
    disk.read_bytes += length
    if disk.overlay == NULL:
        return _base_read(disk, offset, target, length)
    while length:
        chunk = min(length, CLUSTER_BYTES - offset % CLUSTER_BYTES)
        cluster = _find_cluster(disk.overlay, offset)
        if cluster == NULL:
            if _base_read(disk, offset, target, chunk):
                return -1
        elif cluster == ZERO_CLUSTER:
            memset(target, 0, chunk)
        else:
            memcpy(target, &cluster.data[offset % CLUSTER_BYTES], chunk)
        target += chunk
        offset += chunk
        length -= chunk
    return 0


cdef int _overlay_write(DiskState* disk, u64 offset, const u8* data, u64 length) noexcept nogil:
    """Writes within one cluster."""
    cdef u64 within = offset % CLUSTER_BYTES
    cdef Cluster** place = _own_place(disk, offset)
    cdef Cluster* old
    cdef Cluster* fresh
    if place == NULL:
        return -1
    old = place[0]
    if old == NULL or old == ZERO_CLUSTER or sharers(&old.references) > 1:
        if (old == NULL or old == ZERO_CLUSTER) and disk.overlay.bytes + CLUSTER_BYTES > disk.overlay_limit_bytes:
            return -1
        fresh = <Cluster*>malloc(sizeof(Cluster))
        if fresh == NULL:
            return -1
        fresh.references = 1
        if old == ZERO_CLUSTER:
            memset(&fresh.data[0], 0, CLUSTER_BYTES)
        elif old != NULL:
            memcpy(&fresh.data[0], &old.data[0], CLUSTER_BYTES)
        elif length < CLUSTER_BYTES and _base_read(disk, offset - within, &fresh.data[0], CLUSTER_BYTES):
            free(fresh)
            return -1
        if old == NULL or old == ZERO_CLUSTER:
            disk.overlay.bytes += CLUSTER_BYTES
        else:
            _drop_cluster(old)
        place[0] = fresh
    memcpy(&place[0].data[within], data, length)
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
    cdef Cluster** place
    if disk.readonly or not _in_range(disk, offset, length):
        return -1
    while length:
        chunk = min(length, CLUSTER_BYTES - offset % CLUSTER_BYTES)
        if disk.through or chunk < CLUSTER_BYTES:
            if disk_write(disk, offset, &ZEROS[0], chunk):
                return -1
        else:
            place = _own_place(disk, offset)
            if place == NULL:
                return -1
            if place[0] != NULL and place[0] != ZERO_CLUSTER:
                _drop_cluster(place[0])
                disk.overlay.bytes -= CLUSTER_BYTES
            place[0] = ZERO_CLUSTER
        offset += chunk
        length -= chunk
    return 0


cdef int disk_flush(DiskState* disk) noexcept nogil:
    """Makes what was written durable; nothing to do for an overlay."""
    if disk.through and disk.flush != NULL:
        return 0 if disk.flush(disk.owner) == 0 else -1
    return 0


@cython.final
cdef class DiskImage:
    """What was written to a disk up to one moment; made by DiskBackend.freeze, or from `clusters` of the same form."""

    def __dealloc__(self):
        _drop_overlay(self.overlay)

    def clusters(self):
        """What it holds: yields (offset, bytes) in order, bytes None for a cluster of zeros."""
        cdef u64 k, n
        cdef Cluster* cluster
        if self.overlay == NULL:
            return
        for k in range(self.overlay.leaves):
            for n in range(LEAF_CLUSTERS if self.overlay.leaf[k] != NULL else 0):
                cluster = self.overlay.leaf[k].cluster[n]
                if cluster != NULL:
                    data = None if cluster == ZERO_CLUSTER else (<const u8*>&cluster.data[0])[:CLUSTER_BYTES]
                    yield (k * LEAF_CLUSTERS + n) * CLUSTER_BYTES, data


@cython.final
cdef class DiskBackend:
    """The bytes of one disk: made by `open_raw` or `blank`.

    Writes stay in an overlay in memory (of at most `overlay_limit` bytes; writes fail beyond), unless `commit`, when
    they go to the file. Capacity is the base's size rounded up to 512 bytes.
    """

    def __cinit__(self):
        self.state.fd = -1

    def __dealloc__(self):
        _drop_overlay(self.state.overlay)
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
        disk.path = os.fspath(path)
        disk.name = os.path.basename(disk.path)
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
        disk.path = ""
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
            disk.overlay_limit_bytes = overlay_limit
            disk.overlay = _new_overlay(disk.bytes // (CLUSTER_BYTES * LEAF_CLUSTERS) + 1)
            if disk.overlay == NULL:
                raise ResourceError("disk", f"{disk.bytes} bytes", "the host has no memory for the overlay's index")

    @property
    def bytes(self):
        """Capacity in bytes, a multiple of 512."""
        return self.state.bytes

    @property
    def base_bytes(self):
        """Bytes of the base, which need not be a multiple of 512."""
        return self.state.base_bytes

    @property
    def readonly(self):
        """Whether writes are refused."""
        return bool(self.state.readonly)

    @property
    def overlay_bytes(self):
        """Memory that the overlay's clusters take, in bytes."""
        return self.state.overlay.bytes if self.state.overlay != NULL else 0

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

    @property
    def committed(self):
        """Whether writes go to the file, and so can be part of no snapshot."""
        return bool(self.state.through)

    def share(self):
        """Another disk over the same base, with an empty overlay of its own; HostError where the host refuses."""
        cdef DiskBackend other = DiskBackend.__new__(DiskBackend)
        if self.state.through:
            raise UsageError(self.name, "a disk whose file is written", "one that can be copied", "open it without commit")
        other.name = self.name
        other.path = self.path
        other.set_base(self.state.base_bytes, self.state.read, self.state.write, self.state.flush, self.state.owner, self._base)
        if self.state.fd >= 0:
            try:
                other.state.fd = os.dup(self.state.fd)
            except OSError as error:
                raise HostError(self.name, error.strerror or str(error)) from None
            other.state.owner = &other.state
        other._prepare(False, self.state.readonly, self.state.overlay_limit_bytes)
        return other

    def fingerprint(self):
        """A hash by which the same base is known again: of its size and of 64 places of it (a whole disk would take minutes)."""
        cdef u8[CLUSTER_BYTES] data
        cdef u64 length = min(<u64>CLUSTER_BYTES, self.state.bytes)
        import hashlib
        digest = hashlib.sha256(str(self.state.base_bytes).encode())
        for k in range(64):
            if _base_read(&self.state, (self.state.bytes - length) * k // 63, data, length):
                raise ImageError(self.name, "cannot be read", "a disk image")
            digest.update((<u8*>data)[:length])
        return digest.hexdigest()

    def freeze(self):
        """What was written so far, as an image that never changes; costs nothing."""
        cdef DiskImage image = DiskImage.__new__(DiskImage)
        image.capacity = self.state.bytes
        if self.state.overlay != NULL:
            share(&self.state.overlay.references)
            image.overlay = self.state.overlay
        return image

    def adopt(self, DiskImage image not None):
        """What was written becomes what `image` holds; SnapshotError where that is of another disk."""
        cdef Overlay* old = self.state.overlay
        if image.capacity != self.state.bytes or (image.overlay == NULL) != (old == NULL):
            raise SnapshotError(self.name, f"an image of {image.capacity} bytes", f"of this disk, which has {self.state.bytes}")
        if image.overlay != old:
            share(&image.overlay.references)
            self.state.overlay = image.overlay
            _drop_overlay(old)

    def image_of(self, clusters):
        """An image for this disk of what DiskImage.clusters gave; raises SnapshotError where it does not fit."""
        cdef DiskBackend maker = DiskBackend.__new__(DiskBackend)
        maker.name = self.name
        maker.set_base(self.state.bytes, NULL, NULL, NULL, NULL, None)
        if self.state.overlay != NULL:
            maker._prepare(False, False, self.state.overlay_limit_bytes)
        previous = -1
        for offset, data in clusters:
            if (maker.state.overlay == NULL or offset % CLUSTER_BYTES or not previous < offset < self.state.bytes
                    or (data is not None and len(data) != CLUSTER_BYTES)):
                raise SnapshotError(self.name, f"a cluster at {offset}", "whole clusters, in order, within a disk that has an overlay")
            previous = offset
            maker._set_cluster(offset, data)
        return maker.freeze()

    def _set_cluster(self, u64 offset, data):
        cdef Cluster** place
        if data is not None:
            if _overlay_write(&self.state, offset, <const u8*><bytes>data, CLUSTER_BYTES):
                raise ResourceError(self.name, "overlay", "more clusters than the overlay may hold")
            return
        place = _own_place(&self.state, offset)
        if place == NULL:
            raise ResourceError(self.name, "overlay", "the host has no memory")
        place[0] = ZERO_CLUSTER
