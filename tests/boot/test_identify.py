# What a file is, by its content; what a user is told of one that cannot be booted.
import bz2
import gzip
import lzma
import os

import images
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base.errors import BootError, ImageError
from emu.boot.identify import BOOTABLE, MEDIA, identify, read_image
from emu.boot.load import load

ISO = bytes(32769) + b"CD001" + bytes(2048)


@pytest.mark.parametrize("data, kind", [
    (images.bzimage(), "bzimage"), (images.elf(32), "elf32"), (images.elf(64), "elf64"),
    (images.elf(64, notes=images.pvh_note(1)), "pvh"), (images.elf(32, prefix=images.multiboot1()), "multiboot1"),
    (images.multiboot1_flat(), "multiboot1"), (images.multiboot2(), "multiboot2"),
    (images.bootsector(), "disk"), (images.bootsector() + bytes(100000), "disk"), (ISO, "iso9660"),
    (images.bootsector() + bytes(32768 + 1 - 512) + b"CD001", "iso9660"), (b"QFI\xfb" + bytes(600), "qcow2"),
    (gzip.compress(b"x" * 99), "gzip"), (lzma.compress(b"x" * 99), "xz"), (bz2.compress(b"x" * 99), "bzip2"),
    (b"\x28\xb5\x2f\xfd\x04\x58" + bytes(9), "zstd"), (b"\x04\x22\x4d\x18\x64\x40", "lz4"), (b"\x02\x21\x4c\x18aa", "lz4"),
    (b"070701" + b"0" * 104, "cpio"), (b"MZ" + bytes(600), "pe"), (b"#!/bin/sh\necho hi\n", "text"),
    ("grüße\n".encode(), "text"), (("a" * 511 + "ü" * 9).encode(), "text"), (b"", "empty"), (bytes(600), "unknown"),
    (b"\x80\x81", "unknown"), (b"\x7fELF", "elf32"), (images.bootsector()[:511], "unknown")])
def test_kind_is_found_by_content(data, kind):
    assert identify(data).kind == kind


@pytest.mark.parametrize("data, says", [
    (gzip.compress(b"x"), "first bytes 1f 8b 08: a gzip file"), (lzma.compress(b"x"), "an xz file"), (b"", "empty"),
    (b"hello\n", "a text file"), (ISO, "ISO 9660"), (b"\x01\x02\x03\x04", "first bytes 01 02 03: of no known kind"),
    (b"QFI\xfb" + bytes(600), "qcow2")])
def test_what_cannot_be_booted_is_an_image_error_with_a_mend(data, says):
    with pytest.raises(ImageError) as caught:
        load("vmlinuz", data, images.platform())
    assert str(caught.value).startswith("vmlinuz: ") and says in str(caught.value)
    assert caught.value.mend and caught.value.code == 3


@pytest.mark.parametrize("name", images.every_image())
def test_every_bootable_kind_is_loaded(name):
    data = images.every_image()[name]
    assert identify(data).kind in BOOTABLE
    plan = load(name, data, images.platform(modules=(images.INITRD,), command_line=b"quiet"))
    assert plan.kind == name.split()[0]
    images.check_plan(plan, images.platform())
    assert load(name, data, images.platform(modules=(images.INITRD,), command_line=b"quiet")) == plan


@pytest.mark.parametrize("name", images.every_image())
@pytest.mark.parametrize("megabytes", [1, 2])
def test_machine_of_little_memory_gets_a_plan_or_a_boot_error(name, megabytes):
    machine = images.platform(megabytes, modules=(images.INITRD,))
    try:
        images.check_plan(load(name, images.every_image()[name], machine), machine)
    except BootError as error:
        assert error.mend


def load_or_refuse(data):
    """A plan that holds what every plan must, or one of the two errors: nothing else may come of any bytes."""
    machine = images.platform(modules=(images.INITRD,))
    assert identify(data).kind in BOOTABLE | MEDIA | {"gzip", "xz", "zstd", "lz4", "bzip2", "cpio", "pe", "text", "empty", "unknown"}
    try:
        plan = load("image", data, machine)
    except (ImageError, BootError) as error:
        assert error.subject in ("image", "initrd") and str(error)
    else:
        images.check_plan(plan, machine)


@given(st.sampled_from(sorted(images.every_image())), st.data())
@settings(deadline=None, max_examples=150)
def test_truncated_images_are_loaded_or_refused(name, data):
    image = images.every_image()[name]
    load_or_refuse(image[:data.draw(st.integers(0, len(image)))])


@given(st.sampled_from(sorted(images.every_image())), st.data())
@settings(deadline=None, max_examples=400)
def test_mutated_images_are_loaded_or_refused(name, data):
    image = bytearray(images.every_image()[name])
    headers = 0x270 if name.startswith("linux") else 200
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, min(headers, len(image)) - 1))
        edges = st.sampled_from((b"\0", b"\xFF", b"\xFF\xFF\xFF\xFF", b"\0\0\0\x80", b"\1\0\0\0"))
        value = data.draw(edges | st.binary(min_size=1, max_size=8))
        image[place:place + len(value)] = value
    load_or_refuse(bytes(image))


@given(st.sampled_from(("linux", "elf", "multiboot1", "multiboot2")), st.binary(max_size=300))
@settings(deadline=None, max_examples=150)
def test_random_bytes_after_a_magic_are_loaded_or_refused(kind, tail):
    head = {"linux": images.bzimage()[:0x206], "elf": b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3E\0",
            "multiboot1": images.multiboot1(0x10003), "multiboot2": images.multiboot2()[:16]}[kind]
    load_or_refuse(head + tail)


@pytest.mark.parametrize("make, says", [
    (lambda path: None, "no such file"), (lambda path: path.mkdir(), "a directory")])
def test_file_that_cannot_be_read_is_an_image_error(tmp_path, make, says):
    path = tmp_path / "bzImage"
    make(path)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert says in str(caught.value) and caught.value.subject == str(path)


def test_file_is_read_whole_and_not_beyond_its_limit(tmp_path):
    path = tmp_path / "image"
    path.write_bytes(bytes(range(256)))
    assert read_image(path) == bytes(range(256)) == read_image(str(path), 256)
    with pytest.raises(ImageError):
        read_image(path, 255)
    with pytest.raises(ImageError):
        read_image("/dev/zero")
    with pytest.raises(ImageError):
        read_image("a\0b")


def test_pipe_is_read(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"abc")
    os.close(writer)
    try:
        assert read_image(f"/dev/fd/{reader}") == b"abc"
    finally:
        os.close(reader)
