# A CPU with descriptor tables, gates and a task: for tests of segmentation, events and tasks.
"""Memory of the bench: code of CPL 0 at 0x10000, of CPL 3 at 0x18000, stacks at 0x30000 (CPL 0), 0x38000 (CPL 3) and 0x3C000
(of the TSS), GDT at 0x50000, IDT at 0x51000, TSSs from 0x52000, handlers of vector v at 0x60000 + 16 * v (each is HLT)."""
from tests.tools.bench import Bench

CODE, USER_CODE, STACK, USER_STACK, INNER_STACK = 0x10000, 0x18000, 0x30000, 0x38000, 0x3C000
GDT, IDT, TSS, TSS2, HANDLERS = 0x50000, 0x51000, 0x52000, 0x53000, 0x60000
# selectors
KCODE, KDATA, UCODE, UDATA, TASK, TASK2, FREE = 0x08, 0x10, 0x1B, 0x23, 0x28, 0x38, 0x48
HLT = b"\xf4"


def descriptor(base: int, limit: int, access: int, flags: int = 0) -> bytes:
    """Eight bytes of a descriptor: access is bits 47:40, flags bits 55:52 (SDM 3A figure 3-8)."""
    value = (limit & 0xFFFF) | (base & 0xFFFFFF) << 16 | access << 40 | (limit >> 16 & 15) << 48 | flags << 52 | (base >> 24) << 56
    return value.to_bytes(8, "little")


def gate(selector: int, offset: int, access: int, count: int = 0) -> bytes:
    """Eight bytes of a call, interrupt, trap or task gate (SDM 3A figures 5-8, 6-2)."""
    value = (offset & 0xFFFF) | selector << 16 | count << 32 | access << 40 | (offset >> 16 & 0xFFFF) << 48
    return value.to_bytes(8, "little")


def long_gate(selector: int, offset: int, access: int, ist: int = 0) -> bytes:
    return gate(selector, offset, access, ist) + (offset >> 32).to_bytes(8, "little")


class SystemBench(Bench):
    """Protected mode (bits = 32) or long mode (64) with everything that privilege needs."""

    def enter(self) -> None:
        super().enter()
        cpu, write = self.cpu, self.write
        wide = self.bits == 64
        code_flags = 0xA if wide else 0xC
        write(GDT, bytes(8) + descriptor(0, 0xFFFFF, 0x9B, code_flags) + descriptor(0, 0xFFFFF, 0x93, 0xC)
              + descriptor(0, 0xFFFFF, 0xFB, code_flags) + descriptor(0, 0xFFFFF, 0xF3, 0xC)
              + descriptor(TSS, 0xFFF, 0x8B) + bytes(8) + (bytes(8) if wide else descriptor(TSS2, 0xFFF, 0x89)) + bytes(64))
        for vector in range(64):
            handler = HANDLERS + 16 * vector
            write(handler, HLT)
            if wide:
                write(IDT + 16 * vector, long_gate(KCODE, handler, 0xEE if vector >= 32 else 0x8E))
            else:
                write(IDT + 8 * vector, gate(KCODE, handler, 0xEE if vector >= 32 else 0x8E))
        if wide:
            write(TSS + 4, INNER_STACK.to_bytes(8, "little"))
        else:
            write(TSS + 4, INNER_STACK.to_bytes(4, "little") + KDATA.to_bytes(2, "little"))
        write(TSS + 102, (0x68).to_bytes(2, "little"))
        cpu.set_system(gdt_base=GDT, gdt_limit=0xFF, idt_base=IDT, idt_limit=0xFFF, cpl=0)
        cpu.set_segment(9, TASK, TSS, 0xFFF, 0x8B)
        cpu.set_segment(8, 0, 0, 0, 0x8000)
        for number in range(6):
            cpu.set_segment(number, KCODE if number == 1 else KDATA, 0, 0xFFFFFFFF,
                            (0x29B if wide else 0xC9B) | 0x800 if number == 1 else 0xC93)
        cpu.after_load()

    def user(self) -> None:
        """To CPL 3."""
        wide = self.bits == 64
        self.cpu.set_system(cpl=3)
        for number in range(6):
            self.cpu.set_segment(number, UCODE if number == 1 else UDATA, 0, 0xFFFFFFFF,
                                 (0x2FB if wide else 0xCFB) | 0x800 if number == 1 else 0xCF3)
        self.cpu.after_load()

    def write(self, address: int, data: bytes) -> None:
        self.memory.physical[address:address + len(data)] = data

    def read(self, address: int, size: int = 4) -> int:
        return int.from_bytes(bytes(self.memory.physical[address:address + size]), "little")

    def stack(self, count: int, size: int = 4, base: int = 0) -> list[int]:
        """The topmost values of the stack."""
        top = base + self.cpu.registers["rsp"]
        return [self.read(top + k * size, size) for k in range(count)]

    def go(self, code: bytes, rsp: int = STACK, rip: int = CODE, rflags: int = 2, steps: int = 50, **registers: int) -> str:
        """Runs `code` (a HLT is put behind it) until the CPU halts or stops; gives the reason."""
        self.write(rip, code + HLT)
        for name, value in registers.items():
            self.cpu.set_register(name, value)
        self.cpu.set_register("rsp", rsp)
        self.cpu.set_register("rflags", rflags)
        self.cpu.set_register("rip", rip)
        self.cpu.set_system(halted=0)
        self.cpu.after_load()
        return self.cpu.run(self.cpu.retired + steps)

    @property
    def vector(self) -> int | None:
        """The vector whose handler halted the CPU; None where it was another HLT."""
        place = self.cpu.registers["rip"] - 1 - HANDLERS
        return place // 16 if place >= 0 and place % 16 == 0 and place // 16 < 64 else None
