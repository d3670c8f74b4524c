# fw_cfg: items by key, read byte by byte (QEMU's docs/specs/fw_cfg).
import pytest

from bench import PortFace
from emu.devices.fw_cfg import CPUS, ID, RAM_SIZE, SIGNATURE, FwCfg, describe_machine


def read_item(face, key, count):
    face.write(0, key, 2)
    return bytes(face.read(1) for _ in range(count))


@pytest.fixture
def face():
    return PortFace(FwCfg(describe_machine(0x1_8000_0000, 3)).region)


def test_signature_is_selected_after_reset(face):
    assert bytes(face.read(1) for _ in range(4)) == b"QEMU"


def test_items_tell_memory_and_processors(face):
    assert read_item(face, SIGNATURE, 4) == b"QEMU"
    assert read_item(face, ID, 4) == b"\x01\0\0\0"                    # no DMA interface
    assert int.from_bytes(read_item(face, RAM_SIZE, 8), "little") == 0x1_8000_0000
    assert int.from_bytes(read_item(face, CPUS, 2), "little") == 3


@pytest.mark.parametrize("key", [0x10, 0x3F, 0x40, 0x8000, 0xFFFF])
def test_item_that_is_not_there_reads_as_zeros(face, key):
    assert read_item(face, key, 9) == bytes(9)


def test_bytes_behind_the_end_are_zeros_and_writes_change_nothing(face):
    assert read_item(face, CPUS, 2) == b"\x03\0"
    face.write(1, 0x77)
    face.write(0, 0x01)
    assert bytes(face.read(1) for _ in range(3)) == bytes(3)
    assert read_item(face, CPUS, 4) == b"\x03\0\0\0"


def test_selecting_again_begins_anew(face):
    read_item(face, SIGNATURE, 2)
    assert read_item(face, SIGNATURE, 4) == b"QEMU"


def test_key_out_of_range_is_refused():
    with pytest.raises(ValueError):
        FwCfg({0x40: b""})
