# Physical memory: where RAM is, what each kind of access does, and what is told to whom.
import gc

import native
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.base.errors import ResourceError, UsageError
from emu.memory.space import PhysicalMemory, PythonRegion

GIB = 1 << 30
MIB = 1 << 20


def recorder(size, value=0, name="device"):
    log = []

    def read(offset, width):
        log.append(("read", offset, width))
        return value >> (8 * offset) if value else 0

    region = PythonRegion(name, size, read, lambda offset, width, data: log.append(("write", offset, width, data)))
    return region, log


# ---- where RAM is

@pytest.mark.parametrize("ram_bytes, expected", [
    (4096, [(0, 4096)]),
    (0xA0000, [(0, 0xA0000)]),
    (0xB0000, [(0, 0xA0000)]),
    (1 * MIB, [(0, 0xA0000), (0xC0000, 0x40000)]),
    (256 * MIB, [(0, 0xA0000), (0xC0000, 0x40000), (MIB, 255 * MIB)]),
    (3 * GIB, [(0, 0xA0000), (0xC0000, 0x40000), (MIB, 3 * GIB - MIB)]),
    (4 * GIB, [(0, 0xA0000), (0xC0000, 0x40000), (MIB, 3 * GIB - MIB), (4 * GIB, GIB)]),
    (64 * GIB, [(0, 0xA0000), (0xC0000, 0x40000), (MIB, 3 * GIB - MIB), (4 * GIB, 61 * GIB)]),
])
def test_ram_of_any_size_leaves_the_video_window_and_the_hole(ram_bytes, expected):
    assert PhysicalMemory(ram_bytes).ram_ranges == tuple(expected)


@pytest.mark.parametrize("ram_bytes", [0, -4096, 1, 4097, 9999 << 40])
def test_impossible_sizes_are_usage_errors(ram_bytes):
    with pytest.raises(UsageError):
        PhysicalMemory(ram_bytes)


def test_host_that_refuses_memory_is_a_resource_error():
    import resource
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (64 * GIB, hard))
    try:
        with pytest.raises(ResourceError) as caught:
            PhysicalMemory(512 * GIB)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert "less memory" in caught.value.mend


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_untouched_ram_costs_nothing():
    before = resident_bytes()
    memories = [PhysicalMemory(64 * GIB) for _ in range(8)]
    for memory in memories:
        memory.physical[63 * GIB] = 1
    assert resident_bytes() - before < 64 * MIB


def test_first_and_last_bytes_of_every_range_are_apart():
    memory = PhysicalMemory(5 * GIB)
    places = [edge for base, size in memory.ram_ranges for edge in (base, base + size - 1)]
    for number, place in enumerate(places):
        memory.write(place, 1, number + 1)
    assert [memory.physical[place] for place in places] == list(range(1, len(places) + 1))


# ---- accesses

@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_ram_is_little_endian_at_any_alignment(size):
    memory = PhysicalMemory(MIB)
    value = 0x8877665544332211 & ((1 << 8 * size) - 1)
    memory.write(0x1003, size, value if size == 8 else value | 0xAA << 56)     # bits above the size are dropped
    assert memory.physical[0x1003:0x1003 + size] == value.to_bytes(size, "little")
    assert memory.read(0x1003, size) == value
    assert memory.physical[0x1003 + size] == 0 and memory.physical[0x1002] == 0


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_addresses_nobody_owns_read_as_ones_and_are_counted(size):
    memory = PhysicalMemory(MIB)
    assert memory.read(0xFE000000, size) == (1 << 8 * size) - 1
    memory.write(0xFE000000, size, 1)
    memory.read(2**64 - 8, size)
    assert memory.dropped == 3


def test_rom_keeps_its_bytes_against_stores_of_the_guest():
    memory = PhysicalMemory(MIB)
    memory.add_rom(0xFFFF0000, bytes(range(256)) * 256)
    memory.write(0xFFFF0010, 4, 0)
    assert native.dma_write_bytes(memory, 0xFFFF0010, b"\0\0\0\0") == 0
    assert not native.dma_pointer(memory.address, 0xFFFF0010, 4, 1)
    assert native.dma_pointer(memory.address, 0xFFFF0010, 4, 0)
    assert memory.read(0xFFFF0010, 4) == 0x13121110
    assert memory.dirty_pages() == []
    memory.physical[0xFFFF0010:0xFFFF0012] = b"\x90\x90"
    assert memory.read(0xFFFF0010, 4) == 0x13129090


@pytest.mark.parametrize("base, size, left", [
    (0xE0000, 0x20000, [(0, 0xA0000), (0xC0000, 0x20000), (MIB, MIB)]), (0xC0000, 0x40000, [(0, 0xA0000), (MIB, MIB)]),
    (0xF0000, 0x20000, [(0, 0xA0000), (0xC0000, 0x30000), (MIB + 0x10000, MIB - 0x10000)]),
    (0x2000, 0x1000, [(0, 0x2000), (0x3000, 0x9D000), (0xC0000, 0x40000), (MIB, MIB)])])
def test_rom_over_ram_hides_it_and_leaves_the_rest(base, size, left):
    memory = PhysicalMemory(2 * MIB)
    for address, length in left:
        memory.write(address, 1, 0x5A)
        memory.write(address + length - 1, 1, 0xA5)
    memory.freeze()
    memory.add_rom(base, b"\x33" * size, over_ram=True)
    assert memory.ram_ranges == tuple(left)
    assert memory.physical[base:base + size] == b"\x33" * size
    assert all(memory.read(address, 1) == 0x5A and memory.read(address + length - 1, 1) == 0xA5 for address, length in left)
    last = left[-1][0] + left[-1][1] - 1
    memory.write(last, 1, 0)
    memory.write(base, 1, 0)
    assert memory.read(base, 1) == 0x33 and memory.dirty_pages() == [last & ~4095]


def test_rom_over_a_device_is_refused_over_ram_or_not():
    memory = PhysicalMemory(MIB)
    memory.map(0xFEC00000, recorder(0x1000)[0])
    with pytest.raises(ValueError):
        memory.add_rom(0xFEC00000, bytes(4096), over_ram=True)


def test_ram_added_by_the_board_is_ram():
    memory = PhysicalMemory(MIB)
    memory.add_ram(0xA0000, 0x20000)
    memory.write(0xA0000, 2, 0x741)
    assert memory.physical[0xA0000:0xA0002] == b"A\x07"
    assert (0xA0000, 0x20000) in memory.ram_ranges
    assert memory.dirty_pages() == [0xA0000]


def test_mmio_sees_offset_and_size_as_the_cpu_gave_them():
    memory = PhysicalMemory(MIB)
    region, log = recorder(0x1000, 0x8877665544332211)
    memory.map(0xFEC00000, region)
    assert memory.read(0xFEC00001, 4) == 0x55443322
    assert memory.read(0xFEC00000, 8) == 0x8877665544332211
    memory.write(0xFEC00FFE, 2, 0xABCD)
    assert log == [("read", 1, 4), ("read", 0, 8), ("write", 0xFFE, 2, 0xABCD)]


def test_mmio_access_over_the_end_of_a_region_is_split_into_bytes():
    memory = PhysicalMemory(MIB)
    region, log = recorder(6, 0x665544332211)
    memory.map(0xFE000000, region)
    assert memory.read(0xFE000004, 4) == 0xFFFF6655
    memory.write(0xFE000004, 4, 0x44332211)
    assert log == [("read", 4, 1), ("read", 5, 1), ("write", 4, 1, 0x11), ("write", 5, 1, 0x22)]
    assert memory.dropped == 4


def test_mmio_from_within_a_device_is_refused():
    memory = PhysicalMemory(MIB)
    seen = []
    inner, log = recorder(16, 0x11)
    memory.map(0xFE000000, inner)
    outer = PythonRegion("outer", 16, lambda offset, size: memory.read(0xFE000000, 1),
                         lambda offset, size, value: seen.append(memory.write(0xFE000000, 1, value)))
    memory.map(0xFE001000, outer)
    assert memory.read(0xFE001000, 1) == 0xFF
    memory.write(0xFE001000, 1, 5)
    assert outer.error is None and log == [] and memory.dropped == 2
    assert memory.read(0xFE000000, 1) == 0x11


def test_exception_in_a_python_region_is_kept_and_reads_ones():
    memory = PhysicalMemory(MIB)

    def fail(*_):
        raise ArithmeticError("no")

    region = PythonRegion("broken", 4, fail, fail)
    memory.map(0xFE000000, region)
    assert memory.read(0xFE000000, 2) == 0xFFFF
    memory.write(0xFE000000, 2, 0)
    assert isinstance(region.error, ArithmeticError)


@pytest.mark.parametrize("physical, size", [(0xFFD, 4), (0, 3), (0, 0), (0, 16)])
def test_accesses_no_cpu_makes_are_refused(physical, size):
    memory = PhysicalMemory(MIB)
    with pytest.raises(ValueError):
        memory.read(physical, size)
    with pytest.raises(ValueError):
        memory.write(physical, size, 0)


# ---- wiring

@pytest.mark.parametrize("base, size", [
    (0, 16), (0x9FFFF, 2), (0xBFFFF, 2), (0xFEBFFFFF, 2), (0xFEC00FFF, 1), (0xFEC00FFF, 0x1000),
    (0xFEBFF000, 0x3000), (0xFFFF0000, 1), (2**64 - 1, 2), (0xE0000000, 0)])
def test_region_over_something_else_is_refused(base, size):
    memory = PhysicalMemory(MIB)
    memory.map(0xFEC00000, recorder(0x1000)[0])
    memory.add_rom(0xFFFF0000, bytes(0x10000))
    with pytest.raises(ValueError):
        memory.map(base, recorder(size)[0])


def test_neighbouring_regions_do_not_overlap():
    memory = PhysicalMemory(MIB)
    for base in (0xFEC00000, 0xFEC02000, 0xFEC01000, 0xA0000):
        memory.map(base, recorder(0x1000, base)[0])
    assert memory.read(0xFEC01000, 4) == 0xFEC01000
    memory.unmap(0xFEC01000)
    assert [memory.read(base, 4) for base in (0xFEC00000, 0xFEC01000, 0xFEC02000)] == [0xFEC00000, 2**32 - 1, 0xFEC02000]
    with pytest.raises(ValueError):
        memory.unmap(0xFEC01000)


@pytest.mark.parametrize("base, size", [(0xFFFF0001, 4096), (0xFFFF0000, 100), (0xFFFF0000, 0), (0, 4096), (0xFFFF0000, 1 << 29)])
def test_rom_that_does_not_fit_is_refused(base, size):
    with pytest.raises(ValueError):
        PhysicalMemory(MIB).add_rom(base, bytes(size))


def test_slots_and_regions_are_limited():
    memory = PhysicalMemory(MIB)
    with pytest.raises(ValueError):
        for number in range(100):
            memory.add_rom(0xF0000000 + number * 4096, bytes(4096))
    with pytest.raises(ValueError):
        for number in range(100):
            memory.map(0xE0000000 + number * 4096, recorder(4096)[0])
    assert native.struct_of(memory).slots == 32 and native.struct_of(memory).regions == 64


def test_guest_programmed_region_is_invisible_where_something_lies_and_moves():
    memory = PhysicalMemory(2 * MIB)
    read = native.READ_FN(lambda owner, offset, size: 0x5A)
    write = native.WRITE_FN(lambda owner, offset, size, value: None)
    place = memory.address
    for base, size in ((0, 4096), (0xFFFFF000, 0x2000), (2**64 - 4096, 8192), (0xFE000000, 0)):
        answer = native.space_map(place, base, size, read, write, 1)
        assert answer == (0 if base == 0xFFFFF000 else -1)
    assert native.space_map(place, 0xE0000000, 4096, read, write, 1) == 0
    assert native.space_map(place, 0xE0000000, 4096, read, write, 2) == -1
    assert native.space_unmap(place, 0xE0000000, 2) == -1
    assert native.space_unmap(place, 0xE0000004, 1) == -1
    assert memory.read(0xE0000FFF, 1) == 0x5A
    assert native.space_unmap(place, 0xE0000000, 1) == 0
    assert memory.read(0xE0000FFF, 1) == 0xFF


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40), st.integers(0, 6)), max_size=60))
@settings(deadline=None, max_examples=60)
def test_mapping_agrees_with_a_model(steps):
    """The model: a dict from address to owner, filled only where all of it is free."""
    memory = PhysicalMemory(4096)
    owners: dict[int, int] = {}
    mapped: dict[int, tuple[int, int]] = {}
    read = native.READ_FN(lambda owner, offset, size: owner)
    write = native.WRITE_FN(lambda owner, offset, size, value: None)
    for number, (is_map, base, size) in enumerate(steps, start=1):
        place = 0xE0000000 + base
        cells = range(place, place + size)
        if is_map:
            possible = size > 0 and not any(cell in owners for cell in cells) and len(mapped) < 64
            assert native.space_map(memory.address, place, size, read, write, number) == (0 if possible else -1)
            if possible:
                owners.update(dict.fromkeys(cells, number))
                mapped[place] = (number, size)
        elif place in mapped:
            owner, length = mapped.pop(place)
            assert native.space_unmap(memory.address, place, owner) == 0
            for cell in range(place, place + length):
                del owners[cell]
        else:
            assert native.space_unmap(memory.address, place, 1) == -1
    for cell in range(0xE0000000, 0xE0000000 + 50):
        assert native.space_read(memory.address, cell, 1) == owners.get(cell, 0xFF)


# ---- DMA, dirty log and code

def test_dma_crosses_slots_but_never_reaches_a_device_or_a_hole():
    memory = PhysicalMemory(2 * MIB)
    region, log = recorder(0x1000)
    memory.map(0xA0000, region)
    assert native.dma_write_bytes(memory, 0xFFFFC, b"abcdefgh") == 0
    assert memory.physical[0xFFFFC:0x100004] == b"abcdefgh"
    assert native.dma_read_bytes(memory, 0xFFFFC, 8) == b"abcdefgh"
    for physical in (0x9FFFC, 0xA0000, 2 * MIB - 4, 2**64 - 4, 0xC0000000):
        assert native.dma_write_bytes(memory, physical, b"ABCDEFGH") == -1
        assert native.dma_read_bytes(memory, physical, 8) is None
        assert not native.dma_pointer(memory.address, physical, 8, 1)
    assert native.dma_read(memory.address, 0, None, 2**64 - 1) == -1
    assert memory.physical[0x9FFFC:0xA0000] == bytes(4) and log == []


def test_dma_pointer_is_contiguous_memory_and_marks_pages():
    memory = PhysicalMemory(2 * MIB)
    assert native.dma_pointer(memory.address, 0x1FFF, 2, 0)
    assert memory.dirty_pages() == []
    place = native.dma_pointer(memory.address, 0x1FFF, 2, 1)
    native.ctypes.memmove(place, b"xy", 2)
    assert memory.physical[0x1FFF:0x2001] == b"xy"
    assert memory.dirty_pages() == [0x1000, 0x2000]


def test_every_way_of_writing_sets_the_dirty_log_once():
    memory = PhysicalMemory(5 * GIB)
    memory.write(0x1FFF, 1, 1)
    native.dma_write_bytes(memory, 0x4FFF, b"ab")
    memory.physical[0x9000:0x9001] = b"c"
    memory.physical[4 * GIB + 5] = 7
    memory.read(0x8000, 8)
    assert memory.dirty_pages() == [0x1000, 0x4000, 0x5000, 0x9000, 4 * GIB]
    memory.freeze()
    assert memory.dirty_pages() == []


@given(st.integers(0, 3 * 4096 - 1), st.integers(1, 9000), st.sets(st.integers(0, 255), max_size=20), st.booleans())
@settings(deadline=None, max_examples=100)
def test_code_is_told_of_exactly_the_pages_whose_marked_lines_changed(start, length, lines, by_dma):
    """Lines of 64 bytes, 64 to a page; what is told is the changed part of a page with a marked line in it."""
    memory = PhysicalMemory(64 * 4096)
    listener = native.CodeListener(memory)
    other = native.CodeListener(memory)
    for line in lines:
        listener.mark(line // 64, line % 64)
    if by_dma:
        native.dma_write_bytes(memory, start, bytes(length))
    else:
        memory.physical[start:start + length] = bytes(length)
    expected = []
    for page in range(64):
        first, end = max(start, page * 4096), min(start + length, page * 4096 + 4096)
        if first < end and any(first // 64 <= line <= (end - 1) // 64 for line in lines):
            expected.append((first, end - first))
    assert listener.told == expected == other.told


@pytest.mark.parametrize("offset, told", [(0x103F, False), (0x1040, True), (0x107F, True), (0x1080, False)])
def test_cpu_store_tells_of_its_own_line_only(offset, told):
    memory = PhysicalMemory(MIB)
    listener = native.CodeListener(memory)
    listener.mark(1, 1)
    memory.write(offset, 1, 0x90)
    assert listener.told == ([(offset, 1)] if told else [])


# ---- the Python face

def test_slices_and_single_bytes():
    memory = PhysicalMemory(MIB)
    memory.physical[0x100:0x104] = bytearray(b"\x01\x02\x03\x04")
    memory.physical[0x104] = 5
    assert memory.physical[0x100:0x106] == b"\x01\x02\x03\x04\x05\x00"
    assert memory.physical[0x102] == 3
    assert memory.physical[0x102:0x102] == b""


@pytest.mark.parametrize("key", [
    slice(0xA0000, 0xA0001), slice(0x9FFFF, 0xA0001), slice(-4, 4), slice(8, 4), slice(0, 8, 2), slice(None, 4),
    slice(0, None), 0xB8000, -1, 2**64])
def test_slices_of_what_is_not_memory_are_index_errors(key):
    memory = PhysicalMemory(MIB)
    with pytest.raises(IndexError):
        memory.physical[key]
    with pytest.raises(IndexError):
        memory.physical[key] = b"abcd" if isinstance(key, slice) else 1


def test_assignment_of_another_length_is_refused():
    memory = PhysicalMemory(MIB)
    with pytest.raises(ValueError):
        memory.physical[0:4] = b"abc"


@pytest.mark.parametrize("first, length", [
    (0x1000, 0x1000), (0x1001, 0xFFE), (0x1FFF, 2), (0x1FFF, 0x3002), (0xFF000, 0x3000), (0x1800, 0), (0x1234, 5)])
def test_clearing_makes_zeros_of_exactly_its_bytes(first, length):
    memory = PhysicalMemory(2 * MIB)
    listener = native.CodeListener(memory)
    low, size = (0xF0000, 0x20000) if first > 0x10000 else (0, 0x8000)
    memory.physical[low:low + size] = b"\xAA" * size
    memory.freeze()
    listener.mark(first // 4096, first % 4096 // 64)
    memory.physical.clear(first, length)
    expected = bytearray(b"\xAA" * size)
    expected[first - low:first - low + length] = bytes(length)
    assert memory.physical[low:low + size] == expected
    assert memory.dirty_pages() == (list(range(first & ~0xFFF, first + length, 4096)) if length else [])
    assert bool(listener.told) == bool(length)


def test_clearing_gives_whole_pages_back_to_the_host():
    memory = PhysicalMemory(64 * GIB)
    memory.physical[4 * GIB:4 * GIB + 32 * MIB] = b"\xAA" * (32 * MIB)
    before = resident_bytes()
    memory.physical.clear(4 * GIB, 8 * GIB)
    assert resident_bytes() < before - 16 * MIB
    with pytest.raises(IndexError):
        memory.physical.clear(0x9F000, 0x2000)


def test_array_is_a_live_read_only_view_that_keeps_memory_alive():
    memory = PhysicalMemory(MIB)
    array = memory.physical.array
    memory.write(0x200, 2, 0xBEEF)
    assert list(array[0x1FF:0x203]) == [0, 0xEF, 0xBE, 0] and array.shape == (MIB,)
    with pytest.raises(ValueError):
        array[0] = 1
    del memory
    gc.collect()
    assert array[0x201] == 0xBE


def test_memory_is_given_back():
    region, _ = recorder(16)
    with open("/proc/self/maps") as file:
        count = len(file.readlines())
    for _ in range(50):
        memory = PhysicalMemory(64 * GIB)
        memory.map(0xFE000000, region)
        memory.add_rom(0xFFFF0000, bytes(4096))
        del memory
    gc.collect()
    with open("/proc/self/maps") as file:
        assert len(file.readlines()) < count + 50
