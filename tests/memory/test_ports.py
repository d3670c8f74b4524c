# The I/O ports: who answers, how an access that spans owners is split.
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.memory.ports import Ports
from emu.memory.space import PythonRegion


def recorder(size, value=0, name="device"):
    log = []

    def read(offset, width):
        log.append(("read", offset, width))
        return value

    return PythonRegion(name, size, read, lambda offset, width, data: log.append(("write", offset, width, data))), log


@pytest.mark.parametrize("port", [0, 0x80, 0xFFFE, 0xFFFF])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_ports_nobody_owns_read_as_ones(port, size):
    ports = Ports()
    ports.write(port, size, 0)
    assert ports.read(port, size) == (1 << 8 * size) - 1


def test_access_within_one_owner_is_passed_whole():
    ports = Ports()
    region, log = recorder(8, 0xAABBCCDD)
    ports.map(0xCF8, region)
    assert ports.read(0xCFC, 4) == 0xAABBCCDD
    assert ports.read(0xCFE, 2) == 0xCCDD
    ports.write(0xCF9, 2, 0x12345)
    assert log == [("read", 4, 4), ("read", 6, 2), ("write", 1, 2, 0x2345)]


def test_access_over_two_owners_is_split_into_bytes():
    ports = Ports()
    low, low_log = recorder(1, 0x11)
    high, high_log = recorder(1, 0x22)
    ports.map(0x60, low)
    ports.map(0x61, high)
    assert ports.read(0x60, 4) == 0xFFFF2211
    assert ports.read(0x5F, 2) == 0x11FF
    ports.write(0x60, 4, 0x44332211)
    assert low_log == [("read", 0, 1), ("read", 0, 1), ("write", 0, 1, 0x11)]
    assert high_log == [("read", 0, 1), ("write", 0, 1, 0x22)]


@pytest.mark.parametrize("base, size", [(0x60, 1), (0x5F, 2), (0x61, 4), (0x64, 1), (0x50, 0x20), (0xFFFF, 2), (0x70, 0), (0, 0x10001)])
def test_ports_that_are_taken_or_do_not_exist_are_refused(base, size):
    ports = Ports()
    ports.map(0x60, recorder(5)[0])
    with pytest.raises(ValueError):
        ports.map(base, recorder(size)[0])
    assert ports.ranges == ((0x60, 5),)


def test_unmapped_region_is_gone_and_its_place_is_used_again():
    ports = Ports()
    for base in range(0, 96 * 4, 4):
        ports.map(base, recorder(4, base)[0])
    with pytest.raises(ValueError):
        ports.map(0x1000, recorder(4)[0])
    ports.unmap(0x60)
    assert ports.read(0x60, 1) == 0xFF
    ports.map(0x1000, recorder(4, 0x77)[0])
    assert (ports.read(0x1000, 1), ports.read(0x60, 1), ports.read(0x64, 1)) == (0x77, 0xFF, 0x64)
    with pytest.raises(ValueError):
        ports.unmap(0x60)


@pytest.mark.parametrize("port, size", [(0x10000, 1), (0, 3), (0, 8)])
def test_accesses_no_cpu_makes_are_refused(port, size):
    with pytest.raises(ValueError):
        Ports().read(port, size)
    with pytest.raises(ValueError):
        Ports().write(port, size, 0)


@given(st.lists(st.tuples(st.integers(0xFFC0, 0xFFFF), st.integers(1, 9)), max_size=12))
@settings(deadline=None)
def test_every_byte_reads_from_its_owner(wanted):
    """The model: an array of owners, a region placed only where all of its ports exist and are free."""
    ports = Ports()
    owner = {}
    for number, (base, size) in enumerate(wanted, start=1):
        cells = range(base, base + size)
        region, _ = recorder(size, 0x0101010101010101 * number)
        if cells[-1] > 0xFFFF or any(cell in owner for cell in cells):
            with pytest.raises(ValueError):
                ports.map(base, region)
        else:
            ports.map(base, region)
            owner.update(dict.fromkeys(cells, number))
    for port in range(0xFFB8, 0x10000):
        for size in (1, 2, 4):
            expected = bytes(owner.get(port + k, 0xFF) for k in range(size))
            assert ports.read(port, size).to_bytes(size, "little") == expected
