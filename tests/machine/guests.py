# Small machines for tests, and how two of them are compared.
import hashlib
import pathlib

from emu.machine.machine import Machine
from emu.machine.replay import part_hashes

TEACH = str(pathlib.Path(__file__).resolve().parents[2] / "emu" / "data" / "teach.elf")


def sector_machine(tmp_path, code, **options):
    """A machine that runs a boot sector of `code` (hexadecimal), about to execute its first byte."""
    path = tmp_path / "sector.bin"
    path.write_bytes(bytes.fromhex(code).ljust(510, b"\0") + b"\x55\xaa")
    return Machine(image=str(path), memory=1 << 20, **options)


def advance(machine, instructions):
    """About so many instructions, or until the machine sleeps; gives what it sent."""
    goal = machine.retired + instructions
    sent = b""
    while machine.retired < goal:
        ended = machine.run_slice()
        sent += machine.serial.read()
        if ended is not None or machine.idle_ns < 0:
            break
    return sent


def fingerprint(machine):
    """All that a machine is: registers, devices, RAM, disks."""
    disks = [hashlib.sha256(disk.read(0, min(disk.bytes, 1 << 20))).hexdigest() for disk in machine.disks]
    return machine.retired, machine.virtual_ns, part_hashes(machine), machine.memory.digest(), disks
