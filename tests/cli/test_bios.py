# `emu run --bios`: a ROM of our own, entered at its reset vector; debug consoles; ROMs that cannot be.
import pytest

from emu.cpu.models import resolve_cpu
from emu.machine.machine import Machine

from .support import emu

# Encodings: SDM volume 2. At F000:0000 of a 64 KiB ROM; out al -> port 0x190, AX -> port 0xE9.
PROGRAM = bytes.fromhex(
    "ba9001" "b001" "ee"                # mov dx, 0x190; mov al, 1; out dx, al
    "b800f0" "8ed8"                     # mov ax, 0xf000; mov ds, ax
    "c606000855"                        # mov byte [0x800], 0x55: dropped
    "a00008" "e6e9"                     # mov al, [0x800]; out 0xe9, al: 'R'
    "31c0" "8ed8"                       # xor ax, ax; mov ds, ax
    "c60600084d" "a00008" "e6e9"        # RAM at 0x800 keeps 'M'
    "b0ff" "ee" "faf4")                 # mov al, 0xff; out dx, al; cli; hlt
START = bytes.fromhex("89d0" "e6e9" "ea000000f0")       # mov ax, dx; out 0xe9, al; jmp f000:0000


def rom(size=0x10000):
    image = bytearray(size)
    image[-0x10000:-0x10000 + len(PROGRAM)] = PROGRAM
    image[-0x10000 + 0x800] = ord("R")
    image[-16:-16 + len(START)] = START
    return bytes(image)


@pytest.mark.parametrize("size", [0x10000, 0x20000, 0x40000, 16 << 20])
def test_rom_runs_from_its_reset_vector_and_writes_to_consoles(size, tmp_path):
    (tmp_path / "rom").write_bytes(rom(size))
    result = emu("run", "--bios", str(tmp_path / "rom"), "--cpu", "486", "-debugcon", "stdio",
                 "--device", f"isa-debugcon,iobase=0x190,chardev=file:{tmp_path / 'post'}")
    assert result.returncode == 13 and b"dead halt" in result.stderr
    assert (tmp_path / "post").read_bytes() == b"\x01\xff"
    assert result.stdout == bytes([resolve_cpu("486").signature & 0xFF]) + b"RM"


def test_reset_enters_the_rom_again_with_memory_as_it_was(tmp_path):
    (tmp_path / "rom").write_bytes(rom())
    with Machine(bios=tmp_path / "rom", cpu="486", debug_ports=(0x190,)) as machine:
        assert machine.run().reason == "dead halt"
        assert machine.debug_ports[0x190].read() == b"\x01\xff" and machine.debug_ports[0xE9].read() == b"\x80RM"
        assert machine.memory.physical[0x800] == ord("M")
        machine.exit = None
        machine.boot()
        assert machine.memory.physical[0x800] == ord("M")
        assert machine.run().reason == "dead halt"
        assert machine.debug_ports[0x190].read() == b"\x01\xff"


@pytest.mark.parametrize("size", [0, 100, 65537, (16 << 20) + 65536])
def test_rom_of_a_wrong_size_ends_with_code_3(size, tmp_path):
    (tmp_path / "rom").write_bytes(bytes(size))
    result = emu("run", "--bios", str(tmp_path / "rom"))
    assert result.returncode == 3 and b"rom: " in result.stderr and b"mend: " in result.stderr and b"Traceback" not in result.stderr


def test_rom_that_is_not_there_ends_with_code_3(tmp_path):
    result = emu("run", "--bios", str(tmp_path / "none"))
    assert result.returncode == 3 and b"no such file" in result.stderr


@pytest.mark.parametrize("device", ["isa-debugcon,iobase=0x3f8", "isa-debug-exit,iobase=0x60", "isa-debug-exit,iobase=0xffff,iosize=4"])
def test_device_at_a_port_that_is_taken_ends_with_code_2(device):
    result = emu("run", "--device", device)
    assert result.returncode == 2 and b"is taken" in result.stderr
