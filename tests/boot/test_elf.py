# ELF and PVH: headers, notes, where segments go, and how the kernel is entered.
import struct

import images
import pytest

from emu.base.errors import BootError, ImageError
from emu.boot.elf import find_pvh_entry, load_elf, parse_elf
from emu.boot.plan import Module


@pytest.mark.parametrize("bits, mode, cr0", [(32, "protected32", 0x11), (64, "long64", 0x80000011)])
def test_plain_elf_is_entered_in_the_mode_of_its_class(bits, mode, cr0):
    plan = load_elf("k", images.elf(bits), images.platform())
    assert (plan.kind, plan.entry.mode, plan.entry.cr0, plan.entry.rip) == (f"elf{bits}", mode, cr0, 0x100000)
    assert (0x100000, b"\xF4" * 64) in plan.writes and (0x100040, 64) in plan.zeros
    assert plan.entry.rsp % 16 == 0
    images.check_plan(plan, images.platform())


def test_kernel_linked_high_and_loaded_low_is_entered_low():
    image = images.elf(64, segments=((0xFFFFFFFF80000000, 0x200000, b"\x90" * 32, 32),), entry=0xFFFFFFFF80000010)
    assert load_elf("k", image, images.platform()).entry.rip == 0x200010


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("size", [4, 8])
def test_pvh_note_is_found_among_others_and_wins_over_the_entry_point(bits, size):
    image = images.elf(bits, notes=images.pvh_note(0x100020, size))
    assert find_pvh_entry(parse_elf("k", image), image) == 0x100020
    plan = load_elf("k", image, images.platform())
    assert (plan.kind, plan.entry.mode, plan.entry.rip) == ("pvh", "protected32", 0x100020)


@pytest.mark.parametrize("notes", [b"\0" * 12, b"\xFF" * 64, images.pvh_note(1)[:-2], images.pvh_note(1)[:25],
                                   images.pvh_note(1).replace(b"Xen\0", b"GNU\0")])
def test_damaged_or_foreign_notes_are_passed_over(notes):
    image = images.elf(32, notes=notes)
    assert find_pvh_entry(parse_elf("k", image), image) is None


def test_start_info_names_everything():
    machine = images.platform(command_line=b"a b", rsdp_address=0xE0000, modules=(Module(b"one" * 2000, b"first"), Module(b"two")))
    plan = load_elf("k", images.elf(64, notes=images.pvh_note(0x100000)), machine)
    info = images.read(plan, plan.entry.registers["rbx"], 56)
    magic, version, flags, count, modules, line, rsdp, memory_map, entries, reserved = struct.unpack("<IIIIQQQQII", info)
    assert (magic, version, flags, count, rsdp, entries, reserved) == (0x336EC578, 1, 0, 2, 0xE0000, len(machine.e820), 0)
    assert images.read_text(plan, line) == b"a b"
    for number, module in enumerate(machine.modules):
        place, size, text, zero = struct.unpack("<QQQQ", images.read(plan, modules + 32 * number, 32))
        assert images.read(plan, place, size) == module.data and place % 4096 == 0 and zero == 0
        assert images.read_text(plan, text) == module.command_line
    for number, entry in enumerate(machine.e820):
        assert struct.unpack("<QQII", images.read(plan, memory_map + 24 * number, 24)) == (entry.base, entry.size, entry.type, 0)


def test_64bit_kernel_on_a_cpu_without_long_mode_is_refused():
    for image in (images.elf(64), images.elf(64, notes=images.pvh_note(0x100000))):
        with pytest.raises(BootError):
            load_elf("k", image, images.platform(cpu=images.PENTIUM3))
    assert load_elf("k", images.elf(32), images.platform(cpu=images.PENTIUM3)).kind == "elf32"


@pytest.mark.parametrize("base, memory", [(0x100000, 1 << 40), (0xFFFFFFFF, 64), (0xB8000, 64), (0x9FBF0, 64), (64 << 20, 16),
                                          ((64 << 20) - 8, 16)])
def test_segment_where_no_memory_is_is_a_boot_error(base, memory):
    image = images.elf(64, segments=((base, base, b"\xF4" * 8, memory),), entry=base)
    with pytest.raises(BootError) as caught:
        load_elf("k", image, images.platform())
    assert "--memory" in caught.value.mend


@pytest.mark.parametrize("image, says", [
    (images.elf(32)[:10], "truncated"), (images.elf(32)[:40], "truncated"), (images.elf(32)[:60], "truncated"),
    (images.elf(64)[:63], "truncated"), (images.elf(64)[:-1], "truncated"),
    (images.elf(32, machine=40), "Arm"), (images.elf(64, machine=183), "64-bit Arm"), (images.elf(64, machine=243), "RISC-V"),
    (images.elf(32, kind=1), "relocatable"), (images.elf(64, kind=3), "shared object"), (images.elf(64, kind=4), "core dump"),
    (images.elf(32, segments=()), "nothing in it"), (images.elf(32, entry=0x99), "entry point"),
    (images.elf(64, extra_headers=((3, 0, 0, b"/lib/ld.so\0", 11),)), "dynamic linker"),
    (images.elf(32, segments=((0x100000, 0x100000, b"a" * 64, 64), (0x100020, 0x100020, b"b" * 64, 64))), "over each other"),
    (images.elf(32, segments=((0x100000, 0x100000, b"a" * 64, 32),)), "larger in the file"),
    (images.elf(32, segments=((0x100000, 0x100000, b"", 1),) * 200), "200 program headers"),
    (images.elf(64, notes=images.pvh_note(1 << 40, 8)), "above 4 GiB"),
    (b"\x7fELF\x02\x02" + bytes(60), "byte order"), (b"\x7fELF" + bytes(100), "class 0"), (b"\x7fELF", "truncated")])
def test_damaged_or_wrong_image_says_what_is_wrong(image, says):
    with pytest.raises(ImageError) as caught:
        load_elf("k", image, images.platform())
    assert says in str(caught.value)
