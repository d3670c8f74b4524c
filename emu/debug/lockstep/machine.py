# Our processor as a follower: RAM and a CPU, no device, so that whatever the outside gives can be told apart and taken from QEMU.
from collections.abc import Mapping

from emu.debug.lockstep.follow import GENERAL, SEGMENTS

# Names of log.py -> names of Cpu.registers where they differ; the rest are the same.
_TABLES = {"gdt.base": "gdtr.base", "gdt.limit": "gdtr.limit", "idt.base": "idtr.base", "idt.limit": "idtr.limit"}
_PLAIN = (*GENERAL, "rip", "rflags", "cr0", "cr2", "cr3", "cr4", "efer", "dr0", "dr1", "dr2", "dr3", "dr6", "dr7",
          "fcw", "fsw", "ftw", "mxcsr", *(f"fpr{n}" for n in range(8)), *(f"xmm{n}" for n in range(16)))


class MachineFollower:
    """Drives a CPU by its registers, one instruction at a time.

    cpu: has `registers` (a dict), `set_registers(dict)`, `step()` (one instruction, or the delivery of its exception; it ends a
    HLT) and `interrupt(vector)`; memory: its PhysicalMemory, with no device mapped.
    """

    def __init__(self, cpu, memory) -> None:
        self._cpu = cpu
        self._memory = memory
        self._loaded: dict[str, int] = {}

    def load(self, values: Mapping[str, int]) -> None:
        changed = {}
        for name in _PLAIN:
            if name in values:
                changed[name] = values[name]
        for name, ours in _TABLES.items():
            if name in values:
                changed[ours] = values[name]
        for segment in SEGMENTS:
            if segment in values:
                flags = values[segment + ".flags"]
                ours = "ldtr" if segment == "ldt" else segment
                changed[ours] = values[segment]
                changed[ours + ".base"] = values[segment + ".base"]
                changed[ours + ".limit"] = values[segment + ".limit"]
                changed[ours + ".attributes"] = flags >> 8 & 0xFF | (flags >> 20 & 0xF) << 8
        self._cpu.set_registers(changed)

    def registers(self) -> dict[str, int]:
        ours = self._cpu.registers
        values = {name: ours[name] for name in _PLAIN}
        for name, own in _TABLES.items():
            values[name] = ours[own]
        for segment in SEGMENTS:
            own = "ldtr" if segment == "ldt" else segment
            values[segment] = ours[own]
            values[segment + ".base"] = ours[own + ".base"]
            values[segment + ".limit"] = ours[own + ".limit"]
            attributes = ours[own + ".attributes"]
            values[segment + ".flags"] = (attributes & 0xFF) << 8 | (attributes >> 8 & 0xF) << 20
        return values

    def step(self) -> None:
        self._cpu.step()

    def interrupt(self, vector: int) -> None:
        self._cpu.interrupt(vector)

    def read_physical(self, address: int, size: int) -> bytes:
        return read_ram(self._memory, address, size)

    def outside(self) -> int:
        return self._memory.dropped


def read_ram(memory, address: int, size: int) -> bytes:
    """Up to `size` bytes of RAM at a physical address; fewer where the RAM ends."""
    for base, length in memory.ram_ranges:
        if base <= address < base + length:
            data = bytes(memory.physical[address:min(address + size, base + length)])
            return data if len(data) == size else data + read_ram(memory, address + len(data), size - len(data))
    return b""


def fill_ram(memory, image: bytes) -> None:
    """Puts `image`, the physical memory from 0 up, into all RAM there is."""
    for base, length in memory.ram_ranges:
        piece = image[base:base + length]
        if piece:
            memory.physical[base:base + len(piece)] = piece
