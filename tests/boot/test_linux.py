# bzImage: what boot.rst and zero-page.rst of Linux say a boot loader leaves behind.
import struct

import images
import pytest

from emu.base.errors import BootError, ImageError
from emu.boot.e820 import E820Entry
from emu.boot.linux import load_linux, parse_header
from emu.boot.plan import Module


def params_of(plan):
    return images.read(plan, plan.entry.registers["rsi"], 4096)


def field(plan, offset, size):
    return int.from_bytes(params_of(plan)[offset:offset + size], "little")


def test_64bit_entry_lies_0x200_after_the_start_in_long_mode():
    plan = load_linux("k", images.bzimage(), images.platform())
    entry = plan.entry
    assert (plan.kind, entry.mode, entry.rip) == ("linux64", "long64", 0x1000200)
    assert entry.cr0 & 0x80000001 == 0x80000001 and entry.cr4 & 0x20 and entry.efer == 0x500
    assert entry.segments["cs"].selector == 0x10
    assert {entry.segments[name].selector for name in ("ds", "es", "ss")} == {0x18}
    assert entry.rflags & 0x200 == 0
    images.check_plan(plan, images.platform())


def test_32bit_entry_is_the_start_in_protected_mode_without_paging():
    plan = load_linux("k", images.bzimage(xloadflags=0), images.platform(cpu=images.PENTIUM3))
    entry = plan.entry
    assert (plan.kind, entry.mode, entry.rip, entry.cr0 & 0x80000001) == ("linux32", "protected32", 0x1000000, 1)
    assert set(entry.registers) == {"rsi"}           # ebp, edi and ebx must be zero
    images.check_plan(plan, images.platform())


def test_kernel_that_is_not_relocatable_goes_where_it_says():
    plan = load_linux("k", images.bzimage(xloadflags=0, relocatable=0), images.platform())
    assert plan.entry.rip == 0x100000


def test_setup_header_is_copied_and_completed():
    image = images.bzimage()
    plan = load_linux("k", image, images.platform(command_line=b"console=ttyS0", rsdp_address=0xE0000))
    params = params_of(plan)
    assert params[0x202:0x210] == image[0x202:0x210]
    assert params[:0x70] == bytes(0x70) and params[0x1EF] == 0       # the sentinel, and no text screen
    assert field(plan, 0x210, 1) == 0xFF
    assert field(plan, 0x070, 8) == 0xE0000
    assert images.read_text(plan, field(plan, 0x228, 4)) == b"console=ttyS0"
    assert params[0x202 + image[0x201]:0x2D0] == bytes(0x2D0 - 0x202 - image[0x201])


def test_memory_map_is_given_as_it_is():
    machine = images.platform()
    plan = load_linux("k", images.bzimage(), machine)
    count = field(plan, 0x1E8, 1)
    entries = [E820Entry(*struct.unpack_from("<QQI", params_of(plan), 0x2D0 + 20 * k)) for k in range(count)]
    assert tuple(entries) == machine.e820


@pytest.mark.parametrize("megabytes, last, expected_end", [
    (64, 0x7FFFFFFF, 64 << 20), (64, 0x2FFFFFF, 0x3000000), (4000, 0x37FFFFFF, 0x38000000)])
def test_initrd_lies_on_a_page_as_high_as_allowed(megabytes, last, expected_end):
    plan = load_linux("k", images.bzimage(initrd_last=last), images.platform(megabytes, modules=(images.INITRD,)))
    place, size = field(plan, 0x218, 4), field(plan, 0x21C, 4)
    assert size == len(images.INITRD.data) and images.read(plan, place, size) == images.INITRD.data
    assert place % 4096 == 0 and expected_end - 8192 < place + size <= expected_end


def test_several_initrds_follow_each_other_at_multiples_of_four():
    modules = (Module(b"abcde"), Module(b"xyz"))
    plan = load_linux("k", images.bzimage(), images.platform(modules=modules))
    assert images.read(plan, field(plan, 0x218, 4), field(plan, 0x21C, 4)) == b"abcde\0\0\0xyz"


def test_no_initrd_is_size_zero():
    plan = load_linux("k", images.bzimage(), images.platform())
    assert (field(plan, 0x218, 4), field(plan, 0x21C, 4)) == (0, 0)


def test_rng_seed_depends_on_the_seed_alone():
    def seed_of(seed):
        plan = load_linux("k", images.bzimage(), images.platform(seed=seed))
        following, kind, length = struct.unpack("<QII", images.read(plan, field(plan, 0x250, 8), 16))
        assert (following, kind, length) == (0, 9, 32)          # SETUP_RNG_SEED, the only one
        return images.read(plan, field(plan, 0x250, 8) + 16, length)

    assert seed_of(1) == seed_of(1) != seed_of(2) and len(set(seed_of(1))) > 16


def test_old_protocol_gets_no_setup_data_and_an_initrd_below_its_limit():
    image = images.bzimage(protocol=0x0204, xloadflags=0)
    plan = load_linux("k", image, images.platform(2000, modules=(images.INITRD,)))
    assert plan.entry.rip == 0x100000
    assert field(plan, 0x250, 8) == 0


@pytest.mark.parametrize("megabytes", [1, 2, 16, 17])
def test_machine_with_too_little_memory_says_how_much_is_needed(megabytes):
    with pytest.raises(BootError) as caught:
        load_linux("vmlinuz", images.bzimage(init_bytes=0x200000), images.platform(megabytes))
    assert "--memory 34M" in caught.value.mend and caught.value.subject == "vmlinuz"
    load_linux("vmlinuz", images.bzimage(init_bytes=0x200000), images.platform(34))


def test_initrd_larger_than_memory_is_refused():
    with pytest.raises(BootError) as caught:
        load_linux("k", images.bzimage(), images.platform(32, modules=(Module(bytes(20 << 20), name="big.gz"),)))
    assert caught.value.subject == "big.gz" and caught.value.code == 3


def test_64bit_kernel_on_a_cpu_without_long_mode_is_refused():
    with pytest.raises(BootError) as caught:
        load_linux("k", images.bzimage(), images.platform(cpu=images.PENTIUM3))
    assert "pentium3" in str(caught.value)


def test_command_line_that_is_too_long_is_refused():
    load_linux("k", images.bzimage(), images.platform(command_line=b"a" * 2047))
    with pytest.raises(BootError):
        load_linux("k", images.bzimage(), images.platform(command_line=b"a" * 2048))
    with pytest.raises(BootError):
        load_linux("k", images.bzimage(protocol=0x0204), images.platform(command_line=b"a" * 256))


@pytest.mark.parametrize("image", [
    images.bzimage()[:0x210], images.bzimage()[:0x267], images.bzimage()[:-1], images.bzimage()[:600],
    images.bzimage(kernel=b""), images.bzimage(loadflags=0), images.bzimage(protocol=0x0201),
    images.bzimage().replace(b"HdrS", b"HdrX"), b"", bytes(4096)])
def test_damaged_image_is_an_image_error(image):
    with pytest.raises(ImageError):
        parse_header("k", image)
