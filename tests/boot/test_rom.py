# Firmware ROMs: where they are seen, which cannot be, and the state of a processor after power-on.
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.errors import ImageError
from emu.boot.rom import MOST_BYTES, load_rom, rom_places


@given(st.integers(1, MOST_BYTES // 4096).map(lambda pages: pages * 4096))
def test_rom_ends_at_1_mib_and_at_4_gib(size):
    data = bytes(size - 16) + b"the first bytes!"
    (low, shown), (high, whole) = rom_places("rom", data)
    assert high + size == 1 << 32 and whole == data
    assert low + len(shown) == 1 << 20 and shown == data[-128 * 1024:]


@pytest.mark.parametrize("size", [0, 1, 512, 4095, 4097, 65535, 65536 + 512, MOST_BYTES + 4096, MOST_BYTES + 1])
def test_rom_of_a_size_that_cannot_be_is_an_image_error(size):
    with pytest.raises(ImageError) as caught:
        rom_places("firmware.bin", bytes(size))
    assert caught.value.code == 3 and caught.value.mend and "firmware.bin" in str(caught.value)


def test_entry_is_that_of_power_on():
    entry = load_rom(0x480).entry                  # SDM 3A table 9-1
    assert entry.segments["cs"].base + entry.rip == 0xFFFFFFF0 and entry.segments["cs"].selector == 0xF000
    assert (entry.cr0, entry.rflags, entry.registers) == (0x60000010, 2, {"rdx": 0x480})
    assert all(entry.segments[name][:3] == (0, 0, 0xFFFF) for name in ("ds", "es", "fs", "gs", "ss"))
