# Random states of a machine: descriptor tables, gates, task states, page tables, segments and registers, sound and garbage.
from __future__ import annotations

import random

from tests.fuzz.code import Writer

RAM = 4 << 20
# Where things lie in guest-physical memory; all of it is random besides.
GDT, IDT, LDT, TSS, TABLES, STACKS, CODE, SCRATCH = 0x8000, 0x9000, 0xB000, 0xC000, 0x10000, 0x30000, 0x40000, 0x60000
HANDLERS, ROM = 0x50000, 0xFFFF0000
MODES = ("real", "v86", "protected 16", "protected 32", "compatibility", "long")
MMIO = (0xFEE00000, 0xFEC00000, 0xFED00000, 0xFEC00010, 0xFEE00300, 0xFED00100, 0xA0000, 0xC0000000, 0xFFFFF000, RAM - 4)
EDGES = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFF, 0x1000, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x100000000,
         0x7FFFFFFFFFFF, 0x800000000000, 0xFFFF800000000000, 1 << 63, (1 << 64) - 1)
CR0_PE, CR0_PG, CR4_PAE, CR4_PSE = 1, 1 << 31, 1 << 5, 1 << 4
KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA, TASK, OTHER_TASK, LOCAL = 0x08, 0x10, 0x1B, 0x23, 0x28, 0x38, 0x48
FIRST_RANDOM = 0x58


def descriptor(base: int, limit: int, access: int, flags: int) -> int:
    """Eight bytes of a descriptor as a number: access is bits 47:40, flags bits 55:52 (SDM 3A figure 3-8)."""
    return (limit & 0xFFFF | (base & 0xFFFFFF) << 16 | access << 40 | (limit >> 16 & 15) << 48 | flags << 52 | (base >> 24 & 0xFF) << 56)


class State:
    """One random state; `put(memory)` and `enter(cpu)` bring it into a machine."""

    def __init__(self, rng: random.Random, writer: Writer, has_long: bool, features_cr4: int) -> None:
        self.rng, self.writer = rng, writer
        self.mode = rng.choice(MODES if has_long else MODES[:4])
        self.is_long = self.mode in ("long", "compatibility")
        self.bits = {"real": 16, "v86": 16, "protected 16": 16, "protected 32": 32, "long": 64}.get(self.mode) or rng.choice((16, 32))
        self.cpl = 3 if self.mode == "v86" else 0 if self.mode == "real" else rng.choice((0, 0, 0, 3, 3, 1, 2))
        self.paging = self.is_long or (self.mode != "real" and rng.random() < 0.6)
        self.pae = self.is_long or rng.random() < 0.5
        self.cr4 = rng.choice((0, 0x600, rng.getrandbits(23))) & features_cr4 & ~CR4_PAE
        if self.paging and self.pae and features_cr4 & CR4_PAE:
            self.cr4 |= CR4_PAE
        else:
            self.pae = False
        if not self.is_long:
            self.cr4 &= ~(1 << 17)                                       # PCIDE is of long mode
        self.cr0 = 0x10 | rng.choice((0, 0x20, 0x10000, rng.getrandbits(32) & 0x7005002E))
        self.cr0 |= (CR0_PE if self.mode != "real" else 0) | (CR0_PG if self.paging else 0)
        self.memory: dict[int, bytes] = {}
        self.fill()

    def number(self) -> int:
        """A number as guests and attackers like them."""
        rng = self.rng
        kind = rng.randrange(8)
        if kind == 0:
            return rng.choice(EDGES)
        if kind == 1:
            return rng.choice(MMIO) + rng.choice((0, rng.randrange(4096)))
        if kind == 2:
            return rng.getrandbits(rng.choice((4, 8, 16, 32, 64)))
        if kind == 3:
            return -rng.getrandbits(12) & (1 << 64) - 1
        if kind == 4:
            return rng.choice((0x20, 0x40, 0x60, 0x64, 0x70, 0x3F8, 0xCF8, 0xCFC, 0xCF9, 0x600, 0x92, 0x4D0, 0xC000)) + rng.randrange(4)
        return rng.choice((SCRATCH, SCRATCH, CODE, STACKS, TABLES, GDT, IDT, TSS)) + rng.getrandbits(12)

    # --- memory
    def fill(self) -> None:
        rng, memory = self.rng, self.memory
        memory[SCRATCH] = b"".join(self.number().to_bytes(8, "little") for _ in range(1024))
        for place, length in ((CODE, 4096), (CODE + 0x1000, 2048), (HANDLERS, 4096)):
            memory[place] = self.writer.code(self.bits, self.mode not in ("real", "v86"), length)
        memory[GDT] = b"".join(value.to_bytes(8, "little") for value in self.descriptors())
        memory[LDT] = b"".join(self.any_descriptor().to_bytes(8, "little") for _ in range(32))
        memory[TSS] = self.task() + self.task()
        memory[IDT] = b"".join(self.gate(vector) for vector in range(256))
        if self.mode == "real":
            memory[0] = b"".join((HANDLERS % 16 + rng.getrandbits(11) | (HANDLERS >> 4) << 16).to_bytes(4, "little")
                                 if rng.random() < 0.9 else rng.randbytes(4) for _ in range(256))
        if self.paging:
            self.tables()

    def any_descriptor(self) -> int:
        rng = self.rng
        if rng.random() < 0.3:
            return rng.getrandbits(64)
        access = rng.choice((0x92, 0x93, 0x9A, 0x9B, 0xF2, 0xFA, 0x9E, 0xFE, 0x96, 0x89, 0x8B, 0x81, 0x82, 0x8C, 0xEC, 0x85, 0xE5, 0x84,
                             0x12))
        if access & 0x1F in (0x0C, 0x04, 0x05):                             # a gate
            offset = rng.choice((CODE, HANDLERS)) + rng.getrandbits(11)
            return self.gate_bytes(rng.choice((KERNEL_CODE, USER_CODE, TASK, OTHER_TASK)), offset, access, rng.getrandbits(5))
        return descriptor(rng.choice((0, 0, SCRATCH, TSS, LDT)), rng.choice((0xFFFFF, 0xFFFF, 0xFFF, 0x67, rng.getrandbits(20))),
                          access, rng.getrandbits(4))

    def descriptors(self) -> list[int]:
        """The GDT: what a system has, then anything."""
        code = {16: 0x0, 32: 0xC, 64: 0xA}[self.bits]
        data = 0xC if self.bits != 16 else 0x0
        limit = 0xFFFF if self.bits == 16 else 0xFFFFF
        wide = self.is_long
        kernel = 0xA if wide else code                                      # a handler runs in 64-bit mode
        values = [0, descriptor(0, limit if not wide else 0xFFFFF, 0x9A, kernel), descriptor(0, limit, 0x92, data),
                  descriptor(0, limit, 0xFA, code), descriptor(0, limit, 0xF2, data), descriptor(TSS, 0x1FF, 0x8B, 0), 0,
                  descriptor(TSS + 0x200, 0x1FF, 0x89, 0), 0, descriptor(LDT, 0xFF, 0x82, 0), 0]
        values += [self.any_descriptor() for _ in range(21)]
        if self.rng.random() < 0.3:
            values[self.rng.randrange(1, len(values))] = self.any_descriptor()
        return values

    def gate_bytes(self, selector: int, offset: int, access: int, count: int = 0) -> int:
        return offset & 0xFFFF | selector << 16 | count << 32 | access << 40 | (offset >> 16 & 0xFFFF) << 48

    def gate(self, vector: int) -> bytes:
        """One entry of the IDT."""
        rng = self.rng
        length = 16 if self.is_long else 8
        if rng.random() < 0.08:
            return rng.randbytes(length)
        access = rng.choice((0x8E, 0x8E, 0x8F, 0xEE, 0xEF, 0x86, 0xE7, 0x85 if not self.is_long else 0x8E))
        selector = rng.choice((OTHER_TASK, TASK)) if access & 0x1F == 5 else KERNEL_CODE
        offset = HANDLERS + rng.getrandbits(11) if rng.random() < 0.95 else rng.getrandbits(32)
        value = self.gate_bytes(selector, offset, access, rng.choice((0, 0, 0, rng.getrandbits(3))) if self.is_long else 0)
        return value.to_bytes(8, "little") + bytes(length - 8)

    def task(self) -> bytes:
        """0x200 bytes of a task state segment: stacks that are there, the rest random, now and then all of it."""
        rng = self.rng
        data = bytearray(rng.randbytes(0x200))
        if self.is_long:
            for at in (4, 12, 20, *range(36, 92, 8)):
                data[at:at + 8] = (STACKS + rng.randrange(16, 0xFF0)).to_bytes(8, "little")
        else:
            for level in range(3):
                data[4 + 8 * level:12 + 8 * level] = (STACKS + rng.randrange(64, 0xFF0) | KERNEL_DATA + level << 32).to_bytes(8, "little")
            data[28:104] = b"".join(value.to_bytes(4, "little") for value in (
                TABLES, CODE + rng.getrandbits(9), rng.getrandbits(18), *(self.number() & 0xFFFFFFFF for _ in range(8)), KERNEL_DATA,
                KERNEL_CODE, KERNEL_DATA, KERNEL_DATA, KERNEL_DATA, KERNEL_DATA, LOCAL, rng.getrandbits(1) | rng.getrandbits(8) << 16))
        return bytes(data) if rng.random() < 0.9 else rng.randbytes(0x200)

    def entry(self, frame: int, wide: bool) -> int:
        """A page-table entry: mostly of `frame`, present and writable."""
        rng = self.rng
        draw = rng.random()
        if draw < 0.03:
            return rng.getrandbits(64 if wide else 32)
        if draw < 0.06:
            frame = rng.choice(MMIO)
        elif draw < 0.1:
            frame = rng.choice((TABLES, CODE, GDT, SCRATCH, rng.randrange(RAM)))
        flags = 7 if rng.random() < 0.9 else rng.getrandbits(9) & ~0x80
        if wide and rng.random() < 0.03:
            flags |= 1 << 63
        return frame & ~0xFFF | flags

    def tables(self) -> None:
        """Page tables at TABLES that map the first 4 MiB to themselves, more or less, and devices at the top of 4 GiB."""
        rng, memory, wide = self.rng, self.memory, self.pae
        size, fan = (8, 512) if wide else (4, 1024)
        page = lambda number: TABLES + 0x1000 * number
        pack = lambda values: b"".join((value & (1 << 8 * size) - 1).to_bytes(size, "little") for value in values)
        low = [self.entry(number << 12, wide) for number in range(1024)]
        directory = [0] * fan
        if wide:
            memory[page(4)], memory[page(5)] = pack(low[:512]), pack(low[512:])
            directory[0], directory[1] = page(4) | 7, page(5) | 7
        else:
            memory[page(4)] = pack(low)
            directory[0] = page(4) | 7
        for _ in range(4):
            directory[rng.randrange(2, fan)] = self.entry(rng.choice((0, 0x200000, 0x400000, 0x800000)), wide) | rng.choice((0, 0x80))
        directory[rng.randrange(fan)] = page(rng.randrange(6)) | 7              # tables that are their own memory
        top = list(directory)
        top[-10 if wide else -5] = (0xFEE00000 if wide else 0xFEC00000) | 0x83     # 0xFEC00000 .. as one large page
        memory[page(2)] = pack(directory)
        memory[page(3)] = pack(top)
        if not wide:
            top[:4] = directory[:4]
            memory[page(0)] = pack(top)
            return
        pointers = [page(2), page(rng.choice((2, 3))), page(2), page(3)]
        if self.is_long:
            memory[page(1)] = pack([pointer | 7 for pointer in pointers] + [self.entry(page(rng.randrange(6)), True) for _ in range(508)])
            memory[page(0)] = pack([page(1) | 7] + [rng.choice((0, page(rng.randrange(6)) | 7)) for _ in range(510)] + [page(1) | 7])
        else:
            memory[page(0)] = pack([pointer | 1 for pointer in pointers])

    # --- registers
    def segment(self, number: int) -> tuple[int, int, int, int]:
        """Selector, base, limit, attributes (as Core.set_segment) of a segment register."""
        rng, cpl = self.rng, self.cpl
        if self.mode in ("real", "v86"):
            selector = {1: CODE >> 4, 2: STACKS >> 4}.get(number, rng.choice((SCRATCH >> 4, rng.getrandbits(16))))
            if self.mode == "v86":
                return selector, selector << 4, 0xFFFF, 0xF3
            return selector, selector << 4, rng.choice((0xFFFF, 0xFFFF, 0xFFFFFFFF)), 0x9B if number == 1 else 0x93
        wide = 0x400 if self.bits != 16 else 0
        limit = 0xFFFFFFFF if self.bits != 16 else 0xFFFF
        base = 0 if self.bits != 16 else (CODE if number == 1 else STACKS if number == 2 else SCRATCH)
        level = cpl << 5
        selector = (KERNEL_CODE if cpl == 0 else USER_CODE - 3 | cpl) if number == 1 else (KERNEL_DATA if cpl == 0 else USER_DATA - 3 | cpl)
        if number == 1:
            return selector, base, limit, 0x9B | level | (0x200 if self.bits == 64 else wide) | (0x800 if limit > 0xFFFFF else 0)
        attributes = 0x93 | level | wide | (0x800 if limit > 0xFFFFF else 0)
        if number != 2 and rng.random() < 0.15:
            attributes, base, limit = rng.choice((
                (attributes | 4, base, 0xFFF), (attributes & ~2, base, limit), (attributes, SCRATCH, 0xFFF), (0x8000, 0, 0),
                (attributes, self.number() & 0xFFFFFFFF, limit)))
        return selector, base, limit, attributes

    def put(self, physical) -> None:
        for place, data in self.memory.items():
            physical[place:place + len(data)] = data

    def enter(self, cpu) -> None:
        rng = self.rng
        efer = (0x501 if self.is_long else 0) | rng.choice((0, 1, 0x800, 0x801))
        cpu.set_system(cr0=self.cr0, cr2=self.number(), cr3=TABLES, cr4=self.cr4, efer=efer if self.is_long or self.pae else 0,
                       cpl=self.cpl, halted=0, gdt_base=GDT, idt_base=0 if self.mode == "real" else IDT,
                       gdt_limit=rng.choice((0xFF, 0xFF, 0xFF, 0x57, rng.getrandbits(16))),
                       idt_limit=rng.choice((0xFFF, 0xFFF, 0xFFF, rng.getrandbits(16))))
        if self.pae and not self.is_long:
            pointers = self.memory.get(TABLES, bytes(32))
            cpu.set_system(pdpte=[int.from_bytes(pointers[8 * k:8 * k + 8], "little") for k in range(4)])
        for number in range(6):
            cpu.set_segment(number, *self.segment(number))
        cpu.set_segment(8, LOCAL, LDT, 0xFF, 0x82)
        cpu.set_segment(9, TASK, TSS, 0x1FF, 0x8B)
        for name in ("rax", "rcx", "rdx", "rbx", "rbp", "rsi", "rdi", *(f"r{k}" for k in range(8, 16))):
            cpu.set_register(name, self.number() & ((1 << 64) - 1 if self.bits == 64 else 0xFFFFFFFF))
        cpu.set_register("rsp", STACKS + 0x800 + rng.getrandbits(10) if self.bits != 16 else 0x800 + rng.getrandbits(10))
        for number in range(16):
            cpu.set_register(f"xmm{number}", rng.getrandbits(128))
        flags = 2 | rng.getrandbits(12) & 0xCD5 | rng.choice((0, 0x200)) | rng.choice((0, 0, 0, 0x100, 0x40000, 0x4000))
        cpu.set_register("rflags", flags | rng.getrandbits(2) << 12 | (0x20000 if self.mode == "v86" else 0))
        cpu.set_register("rip", (CODE if self.bits != 16 or self.mode == "compatibility" and self.bits == 32 else 0) + rng.getrandbits(10))
        cpu.after_load()
