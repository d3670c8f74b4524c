# Multiboot 1 and 2: headers, flat kernels, modules, and the information a kernel gets (by the two specifications).
import struct

import images
import pytest

from emu.base.errors import BootError, ImageError
from emu.boot.multiboot import find_header, load_multiboot
from emu.boot.plan import Module

RSDP = b"RSD PTR " + bytes(28)


def information1(plan):
    return images.read(plan, plan.entry.registers["rbx"], 120)


def tags(plan):
    """The tags of multiboot 2 information as a list of (type, body)."""
    base = plan.entry.registers["rbx"]
    total, reserved = struct.unpack("<II", images.read(plan, base, 8))
    data = images.read(plan, base, total)
    assert base % 8 == 0 and reserved == 0
    found, place = [], 8
    while place < total:
        kind, size = struct.unpack_from("<II", data, place)
        found.append((kind, data[place + 8:place + size]))
        place += (size + 7) & ~7
    assert found[-1] == (0, b"") and place == total
    return found


def test_version_1_is_entered_as_specified():
    plan = load_multiboot("k", images.every_image()["multiboot1"], images.platform())
    entry = plan.entry
    assert (plan.kind, entry.mode, entry.rip, entry.registers["rax"]) == ("multiboot1", "protected32", 0x100000, 0x2BADB002)
    assert entry.cr0 & 0x80000001 == 1 and entry.rflags & 0x20200 == 0
    for name in ("cs", "ds", "es", "fs", "gs", "ss"):
        assert (entry.segments[name].base, entry.segments[name].limit) == (0, 0xFFFFFFFF)
    images.check_plan(plan, images.platform())


def test_version_1_information():
    machine = images.platform(command_line=b"root=1", modules=(Module(b"M" * 5000, b"mod arg"), Module(b"N")))
    plan = load_multiboot("k", images.every_image()["multiboot1"], machine)
    info = information1(plan)
    flags, lower, upper = struct.unpack_from("<III", info)
    assert flags == 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9
    assert (lower, upper) == (639, 63 * 1024)
    line, count, place = struct.unpack_from("<III", info, 16)
    assert images.read_text(plan, line) == b"root=1" and count == 2
    for number, module in enumerate(machine.modules):
        start, end, text, zero = struct.unpack("<IIII", images.read(plan, place + 16 * number, 16))
        assert images.read(plan, start, end - start) == module.data and start % 4096 == 0 and zero == 0
        assert images.read_text(plan, text) == module.command_line
    length, place = struct.unpack_from("<II", info, 44)
    seen, at = [], place
    while at < place + length:
        size, base, extent, kind = struct.unpack("<IQQI", images.read(plan, at, 24))
        seen.append((base, extent, kind))
        at += size + 4                       # the size field does not count itself
    assert seen == [(entry.base, entry.size, entry.type) for entry in machine.e820]
    assert images.read_text(plan, struct.unpack_from("<I", info, 64)[0]) == b"emu"


def test_flat_kernel_is_loaded_by_its_header():
    code = bytes(range(1, 101))
    image = images.multiboot1_flat(code, 0x200000, bss=5000)
    plan = load_multiboot("k", image, images.platform())
    assert plan.entry.rip == 0x200000 + 40
    assert images.read(plan, 0x200000, len(image)) == image
    assert plan.zeros == [(0x200000 + len(image), 5000)]


@pytest.mark.parametrize("load, load_end, bss_end, loaded, memory", [
    (0x100000, 0, 0, 200, 200), (0x100000, 0x100064, 0, 100, 100), (0x100000, 0, 0x101000, 200, 0x1000),
    (0x100004, 0x100064, 0, 96, 96)])
def test_flat_kernel_lengths(load, load_end, bss_end, loaded, memory):
    """The header lies 8 bytes into the file, which is loaded from there less (header address - load address)."""
    header = images.multiboot1(0x10000, (0x100008, load, load_end, bss_end, load))
    image = (b"\x01" * 8 + header).ljust(200, b"\x02")
    plan = load_multiboot("k", image, images.platform())
    start = load - 0x100000
    place, data = plan.writes[0]
    assert (place, data) == (load, image[start:start + (loaded if load_end else 200 - start)])
    assert sum(size for _, size in plan.zeros) == memory - loaded


@pytest.mark.parametrize("addresses", [
    (0x100000, 0x100008, 0, 0, 0x100000), (0x100100, 0x100000, 0, 0, 0x100000), (0x100008, 0x100000, 0x100001 + 200, 0, 0x100000),
    (0x100008, 0x100000, 0xFFFFF, 0, 0x100000)])
def test_flat_kernel_whose_addresses_do_not_fit_is_refused(addresses):
    image = (bytes(8) + images.multiboot1(0x10000, addresses)).ljust(200, b"\x02")
    with pytest.raises(ImageError):
        load_multiboot("k", image, images.platform())


def test_version_2_information():
    machine = images.platform(command_line=b"x=1", modules=(Module(b"M" * 5000, b"mod arg"),), rsdp=RSDP, rsdp_address=0xE0000)
    plan = load_multiboot("k", images.every_image()["multiboot2"], machine)
    assert (plan.kind, plan.entry.registers["rax"], plan.entry.rip) == ("multiboot2", 0x36D76289, 0x100000)
    found = dict(tags(plan))
    assert found[1] == b"x=1\0" and found[2] == b"emu\0"
    start, end = struct.unpack_from("<II", found[3])
    assert images.read(plan, start, end - start) == b"M" * 5000 and found[3][8:] == b"mod arg\0"
    assert struct.unpack("<II", found[4]) == (639, 63 * 1024)
    size, version = struct.unpack_from("<II", found[6])
    assert (size, version) == (24, 0)
    assert [struct.unpack_from("<QQII", found[6], 8 + 24 * k) for k in range(len(machine.e820))] == [
        (entry.base, entry.size, entry.type, 0) for entry in machine.e820]
    assert found[14] == RSDP[:20] and found[15] == RSDP


def test_version_2_entry_address_tag_wins():
    prefix = bytes(-(52 + 32) % 8)
    image = images.elf(32, prefix=prefix + images.multiboot2(images.tag2(3, struct.pack("<I", 0x100010))))
    assert load_multiboot("k", image, images.platform()).entry.rip == 0x100010


def test_header_of_version_2_is_preferred():
    image = images.multiboot1(3).ljust(16, b"\0") + images.multiboot2()
    assert find_header(image) == (2, 16)


@pytest.mark.parametrize("image, expected", [
    (bytes(8188 - 12 + 4) + images.multiboot1(3), (1, 8180)), (bytes(8184) + images.multiboot1(3), None),
    (bytes(2) + images.multiboot1(3), None), (images.multiboot1(3)[:-1] + b"\0", None), (images.multiboot1(3)[:11], None),
    (bytes(32752) + images.multiboot2(), (2, 32752)), (bytes(32760) + images.multiboot2(), None),
    (bytes(4) + images.multiboot2(), None)])
def test_header_is_found_where_the_specifications_allow_it_only(image, expected):
    assert find_header(image) == expected


@pytest.mark.parametrize("image", [
    images.elf(32, prefix=images.multiboot1(0x8)), images.elf(32, prefix=images.multiboot1(0x4000)),
    images.multiboot1(3), images.multiboot1(0x10003, (0x100000,)),
    images.multiboot2(images.tag2(77, bytes(8))), images.multiboot2(images.tag2(1, struct.pack("<I", 99))),
    images.multiboot2(images.tag2(2, struct.pack("<IIII", 0x100000, 0x100000, 0, 0))), images.multiboot2(images.tag2(2, bytes(8))),
    images.multiboot2(architecture=4), images.multiboot2(images.tag2(1, bytes(64)))[:40], images.multiboot2()])
def test_header_that_asks_for_what_cannot_be_given_is_an_image_error(image):
    with pytest.raises(ImageError):
        load_multiboot("k", image, images.platform())


def test_optional_tags_are_passed_over():
    image = images.multiboot2(images.tag2(77, bytes(8), flags=1), images.tag2(2, struct.pack("<IIII", 0x100000, 0x100000, 0, 0)),
                              images.tag2(3, struct.pack("<I", 0x100000)), images.tag2(4, bytes(4)), images.tag2(6))
    assert load_multiboot("k", image, images.platform()).entry.rip == 0x100000


def test_module_larger_than_memory_is_refused():
    for image in (images.every_image()["multiboot1"], images.every_image()["multiboot2"]):
        with pytest.raises(BootError) as caught:
            load_multiboot("k", image, images.platform(8, modules=(Module(bytes(8 << 20), name="disk.img"),)))
        assert caught.value.subject == "disk.img"


def test_64bit_kernel_on_a_cpu_without_long_mode_is_refused():
    image = images.elf(64, prefix=images.multiboot1(3))
    assert load_multiboot("k", image, images.platform()).entry.mode == "protected32"
    with pytest.raises(BootError):
        load_multiboot("k", image, images.platform(cpu=images.PENTIUM3))
