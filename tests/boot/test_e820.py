# The memory map: what is reserved is cut out of RAM.
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.boot.e820 import (
    RESERVED,
    USABLE,
    E820Entry,
    build_e820,
    lower_bytes,
    upper_bytes,
)

MIB = 1 << 20


def test_map_of_a_pc():
    entries = build_e820([(0, 0xA0000), (0xC0000, 0x40000), (MIB, 255 * MIB), (1 << 32, 1 << 30)],
                         [E820Entry(0xC0000, 0x40000, RESERVED), E820Entry(0x9FC00, 0x400, RESERVED)])
    assert [(entry.base, entry.size, entry.type) for entry in entries] == [
        (0, 0x9FC00, 1), (0x9FC00, 0x400, 2), (0xC0000, 0x40000, 2), (MIB, 255 * MIB, 1), (1 << 32, 1 << 30, 1)]
    assert lower_bytes(entries) == 0x9FC00 and upper_bytes(entries) == 255 * MIB


def test_overlapping_reservations_are_refused():
    with pytest.raises(ValueError):
        build_e820([(0, MIB)], [E820Entry(0, 10, RESERVED), E820Entry(9, 10, RESERVED)])


def test_upper_memory_ends_at_the_first_gap():
    entries = build_e820([(0, 0x80000), (MIB, MIB), (3 * MIB, MIB)])
    assert upper_bytes(entries) == MIB and lower_bytes(entries) == 0x80000
    assert upper_bytes(build_e820([(0, 4096)])) == 0 and lower_bytes(()) == 0


@given(st.integers(1, 99), st.integers(0, 40), st.integers(1, 60), st.integers(0, 40), st.integers(0, 60))
def test_every_byte_has_one_kind(ram_size, gap, second, base, size):
    """The model: a kind for each address, RAM first, then what is reserved over it."""
    ram = [(0, ram_size), (ram_size + gap + 1, second)]
    model = {}
    for start, length in ram:
        model.update(dict.fromkeys(range(start, start + length), USABLE))
    model.update(dict.fromkeys(range(base, base + size), RESERVED))
    seen = {}
    for entry in build_e820(ram, [E820Entry(base, size, RESERVED)]):
        for place in range(entry.base, entry.end):
            assert place not in seen
            seen[place] = entry.type
    assert seen == model
