# What the tests of the command line share: running it as a process, and boot sectors written by hand.
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COMMAND = [sys.executable, "-m", "emu.cli"]
ENDLESS = "ebfe"  # jmp $
EXIT_PORT = "ba0105"  # mov dx, 0x501
# Encodings: SDM volume 2. COM1 is at 0x3F8; LSR (5) bit 0: a byte is there (16550D datasheet).
PRINT_A = "baf803b041ee"  # mov dx, 0x3f8; mov al, 'A'; out dx, al
ECHO = ("bafd03ec2401" "74f8" "baf803ec" "ee" "ebf1")  # wait for a byte, send it back, again
HALT_DEAD = "faf4"  # cli; hlt
TRIPLE = "0f011e1e7c" "cd03" "0000" + "00" * 40  # lidt [0x7c1e] (limit 0: nothing fits); int 3


def boot_sector(path: pathlib.Path, code: str) -> str:
    """Writes a boot sector that holds `code` (hexadecimal) and returns its path."""
    path.write_bytes(bytes.fromhex(code).ljust(510, b"\0") + b"\x55\xaa")
    return str(path)


def environment(**more: str) -> dict[str, str]:
    """The environment in which the command finds this checkout."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def emu(*arguments: str, data: bytes = b"", **more: str) -> subprocess.CompletedProcess:
    """Runs the command to its end."""
    return subprocess.run([*COMMAND, *arguments], input=data, capture_output=True, env=environment(**more), timeout=60, check=False)
