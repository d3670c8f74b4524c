# One CPU with a little memory, for tests that run a few instructions in a chosen mode.
from emu.base.clock import Clock
from emu.cpu.core import Core
from emu.isa.features import FEATURE_NUMBERS
from emu.memory.ports import Ports
from emu.memory.space import PhysicalMemory

CODE = 0x10000
DATA = 0x20000          # two pages of data around 0x21000
STACK = 0x30000
TABLES = 0x40000
REGISTERS = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")


class Bench:
    """A flat 16-bit (real), 32-bit (protected) or 64-bit (long, identity-mapped) machine without devices."""

    def __init__(self, bits: int, features=None, memory: int = 1 << 20) -> None:
        self.bits = bits
        self.memory = PhysicalMemory(memory)
        self.ports = Ports()
        self.clock = Clock()
        self.cpu = Core(self.memory, self.ports, self.clock, features=tuple(FEATURE_NUMBERS.values()) if features is None else features)
        self.enter()

    def enter(self) -> None:
        cpu = self.cpu
        cpu.reset()
        if self.bits == 64:
            self.memory.physical[TABLES:TABLES + 8] = (TABLES + 0x1000 | 7).to_bytes(8, "little")
            self.memory.physical[TABLES + 0x1000:TABLES + 0x1008] = (TABLES + 0x2000 | 7).to_bytes(8, "little")
            self.memory.physical[TABLES + 0x2000:TABLES + 0x2008] = (0x87).to_bytes(8, "little")
            cpu.set_system(cr0=0x80000013, cr3=TABLES, cr4=0x620, efer=0xD01)
        elif self.bits == 32:
            cpu.set_system(cr0=0x13, cr4=0x600)
        else:
            cpu.set_system(cr0=0x12, cr4=0x600)
        for number in range(6):
            if self.bits == 16:
                cpu.set_segment(number, 0, 0, 0xFFFF, 0x9B if number == 1 else 0x93)
            else:
                code = 0xA9B if self.bits == 64 else 0xC9B
                cpu.set_segment(number, 8 if number == 1 else 16, 0, 0xFFFFFFFF, code if number == 1 else 0xC93)
        cpu.after_load()

    def run(self, code: bytes, registers: dict, rflags: int = 2, count: int = 1, at: int = CODE):
        """Runs `count` instructions; gives (registers with rip and rflags, fault or None)."""
        cpu = self.cpu
        self.memory.physical[at:at + len(code)] = code
        for name, value in registers.items():
            cpu.set_register(name, value)
        cpu.set_register("rflags", rflags)
        cpu.set_register("rip", at)
        reason = cpu.run(cpu.retired + count)
        fault = cpu.last_fault if reason == "shutdown" else None
        return cpu.registers, fault
