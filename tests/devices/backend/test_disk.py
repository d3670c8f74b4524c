# Disk bytes: base, overlay, commit, limits.
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base.errors import EmuError, ImageError, SnapshotError, UsageError
from emu.devices.backend.disk import DiskBackend

SIZE = 40 * 1024 + 100               # not a multiple of 512


def image(tmp_path, size=SIZE):
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(k * 31 & 0xFF for k in range(size)))
    return path


steps = st.lists(st.tuples(st.sampled_from(("write", "zero", "read")), st.integers(0, SIZE + 600), st.integers(0, 10000)),
                 max_size=25)


@settings(max_examples=60, deadline=None)
@given(steps=steps, commit=st.booleans())
def test_disk_behaves_as_an_array_of_bytes(tmp_path_factory, steps, commit):
    path = image(tmp_path_factory.mktemp("disk"))
    original = path.read_bytes()
    disk = DiskBackend.open_raw(path, commit=commit)
    capacity = (SIZE + 511) // 512 * 512
    assert disk.bytes == capacity
    model = bytearray(original.ljust(capacity, b"\0"))
    for kind, offset, length in steps:
        data = bytes((offset + k) & 0xFF for k in range(length))
        fits = offset + length <= capacity
        if kind == "read":
            if fits:
                assert disk.read(offset, length) == bytes(model[offset:offset + length])
            elif length:
                with pytest.raises(ImageError):
                    disk.read(offset, length)
        elif not fits:
            with pytest.raises(ImageError):
                disk.write(offset, data) if kind == "write" else disk.zero(offset, length)
        else:
            if kind == "write":
                disk.write(offset, data)
            else:
                disk.zero(offset, length)
                data = bytes(length)
            model[offset:offset + length] = data
            if commit:                                   # the last sector's padding is not the file's
                model[SIZE:] = bytes(capacity - SIZE)
    assert disk.read(0, capacity) == bytes(model)
    disk.flush()
    assert path.read_bytes() == (bytes(model[:SIZE]) if commit else original)


@settings(max_examples=30, deadline=None)
@given(steps=steps)
def test_overlay_moves_to_another_disk(tmp_path_factory, steps):
    path = image(tmp_path_factory.mktemp("disk"))
    disk, other = DiskBackend.open_raw(path), DiskBackend.open_raw(path)
    other.write(0, b"\xFF" * 9000)
    for kind, offset, length in steps:
        if offset + length <= disk.bytes:
            disk.write(offset, b"w" * length) if kind == "write" else disk.zero(offset, length)
    frozen = disk.freeze()
    other.adopt(other.image_of(frozen.clusters()))
    assert other.read(0, disk.bytes) == disk.read(0, disk.bytes)
    assert list(other.freeze().clusters()) == list(frozen.clusters())
    assert other.overlay_bytes == disk.overlay_bytes


def test_overlay_limit_makes_writes_fail_and_zeroes_give_memory_back():
    disk = DiskBackend.blank(1 << 20, overlay_limit=8192)
    disk.write(0, b"a" * 8192)
    with pytest.raises(ImageError):
        disk.write(16384, b"b")
    disk.zero(0, 4096)
    assert disk.overlay_bytes == 4096
    disk.write(16384, b"b")
    assert disk.read(16383, 3) == b"\0b\0"


def test_large_blank_disk_costs_nothing():
    disk = DiskBackend.blank(1 << 40)
    disk.write((1 << 40) - 1, b"z")
    assert disk.read((1 << 40) - 2, 2) == b"\0z"
    assert disk.overlay_bytes == 4096


def test_file_that_shrinks_is_an_error_not_a_hang(tmp_path):
    path = image(tmp_path)
    disk = DiskBackend.open_raw(path)
    path.write_bytes(b"")
    with pytest.raises(ImageError):
        disk.read(0, 512)


def test_unusable_files_are_named(tmp_path):
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    for path in (tmp_path / "missing", empty, tmp_path):
        with pytest.raises(ImageError) as caught:
            DiskBackend.open_raw(path)
        assert str(path) in str(caught.value)
    with pytest.raises(UsageError):
        DiskBackend.blank(0)
    with pytest.raises(UsageError):
        DiskBackend.open_raw(image(tmp_path), commit=True, readonly=True)


def test_bad_clusters_are_refused():
    disk = DiskBackend.blank(1 << 20)
    for bad in ([(1, None)], [(1 << 20, None)], [(0, b"short")], [(-4096, None)], [(0, None), (0, None)]):
        with pytest.raises(SnapshotError):
            disk.image_of(bad)


def test_usage_counts_operations():
    disk = DiskBackend.blank(4096)
    disk.write(0, b"abc")
    disk.read(0, 10)
    assert disk.usage == {"reads": 1, "read_bytes": 10, "writes": 1, "written_bytes": 3}
    assert issubclass(ImageError, EmuError)


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(["write", "zero", "freeze", "adopt", "share"]), st.integers(0, 60000), st.integers(0, 9000),
                                st.integers(0, 7)), max_size=40))
def test_frozen_images_and_shared_disks_never_change_one_another(steps):
    disks, expected, frozen = [DiskBackend.blank(65536)], [bytearray(65536)], []
    for kind, offset, length, which in steps:
        k = which % len(disks)
        length = min(length, 65536 - offset)
        if kind == "write":
            data = bytes([which + 1]) * length
            disks[k].write(offset, data)
            expected[k][offset:offset + length] = data
        elif kind == "zero":
            disks[k].zero(offset, length)
            expected[k][offset:offset + length] = bytes(length)
        elif kind == "freeze":
            frozen.append((disks[k].freeze(), bytes(expected[k])))
        elif kind == "share" and len(disks) < 4:
            disks.append(disks[k].share())
            expected.append(bytearray(65536))
        elif kind == "adopt" and frozen:
            image, content = frozen[which % len(frozen)]
            disks[k].adopt(image)
            expected[k] = bytearray(content)
        assert [disk.read(0, 65536) for disk in disks] == expected
    for image, content in frozen:
        disks[0].adopt(image)
        assert disks[0].read(0, 65536) == content
