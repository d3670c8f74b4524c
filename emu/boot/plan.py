# What a loader gives back: bytes to write into memory and the state in which a CPU enters them. Plain data.
from typing import Literal, NamedTuple

from emu.boot.e820 import E820Entry

Mode = Literal["real", "protected32", "long64"]

CR0_PE = 1 << 0
CR0_ET = 1 << 4
CR0_PG = 1 << 31
CR4_PAE = 1 << 5
EFER_LME = 1 << 8
EFER_LMA = 1 << 10
RFLAGS_FIXED = 1 << 1


class Segment(NamedTuple):
    """A segment register with its hidden part.

    `limit` is in bytes, inclusive. `attributes` are bits 55:40 of the descriptor with 51:48 (the limit) zero: the
    access byte in 7:0, AVL, L, D/B and G in 15:12 (SDM 3A 3.4.5; the layout that VMCS and VMCB files use too).
    """

    selector: int
    base: int
    limit: int
    attributes: int


FLAT_CODE32 = 0xC09B            # present, ring 0, execute/read, accessed; D, G
FLAT_CODE64 = 0xA09B            # the same with L in place of D
FLAT_DATA = 0xC093              # present, ring 0, read/write, accessed; B, G
REAL_CODE = 0x009B
REAL_DATA = 0x0093
TSS32_BUSY = 0x008B
LDT = 0x0082


class Entry(NamedTuple):
    """How CPU 0 enters: everything not named here is as after reset.

    `registers` are the general registers by their 64-bit names (rax..r15 without rsp); those not named are 0.
    `segments` has cs, ds, es, fs, gs, ss, tr and ldtr. The IDT is empty (base 0, limit 0) but in real mode, where it is
    the interrupt vector table (base 0, limit 0x3FF).
    """

    mode: Mode
    rip: int
    rsp: int
    registers: dict[str, int]
    segments: dict[str, Segment]
    cr0: int
    cr3: int = 0
    cr4: int = 0
    efer: int = 0
    rflags: int = RFLAGS_FIXED
    gdt_base: int = 0
    gdt_limit: int = 0
    idt_base: int = 0
    idt_limit: int = 0


class BootPlan(NamedTuple):
    """What is to be done: `writes` (physical address, bytes), never overlapping; then enter as `entry` says.

    `zeros` (physical address, length) must read as zero at entry: fresh memory does, a machine that is booted again clears
    them. `kind` names the way: "linux64", "linux32", "pvh", "elf32", "elf64", "multiboot1", "multiboot2", "bootsector",
    "rom".
    """

    kind: str
    entry: Entry
    writes: list[tuple[int, bytes]]
    zeros: list[tuple[int, int]]


class Module(NamedTuple):
    """A file loaded beside the kernel (an initrd, a multiboot module); `name` is for messages."""

    data: bytes
    command_line: bytes = b""
    name: str = "initrd"


class CpuFacts(NamedTuple):
    """What loaders ask of a CPU."""

    long_mode: bool = True
    name: str = "this CPU"


class Platform(NamedTuple):
    """What loaders need to know of the machine: its memory map, CPU, command line, modules, ACPI root and seed."""

    e820: tuple[E820Entry, ...]
    cpu: CpuFacts = CpuFacts()
    command_line: bytes = b""
    modules: tuple[Module, ...] = ()
    rsdp_address: int = 0            # 0: no ACPI
    rsdp: bytes = b""                # the bytes at that address
    seed: int = 0


def protected_entry(eip: int, esp: int, registers: dict[str, int], gdt_base: int) -> Entry:
    """32-bit protected mode, flat segments, no paging; selectors 0x10 and 0x18 of the GDT of `flat_gdt`."""
    code = Segment(0x10, 0, 0xFFFFFFFF, FLAT_CODE32)
    return Entry("protected32", eip, esp, registers, _segments(code), CR0_PE | CR0_ET,
                 gdt_base=gdt_base, gdt_limit=len(flat_gdt(False)) - 1)


def long_entry(rip: int, rsp: int, registers: dict[str, int], gdt_base: int, cr3: int) -> Entry:
    """64-bit mode with the page tables at `cr3`; selectors 0x10 and 0x18 of the GDT of `flat_gdt`."""
    code = Segment(0x10, 0, 0xFFFFFFFF, FLAT_CODE64)
    return Entry("long64", rip, rsp, registers, _segments(code), CR0_PE | CR0_ET | CR0_PG, cr3, CR4_PAE,
                 EFER_LME | EFER_LMA, gdt_base=gdt_base, gdt_limit=len(flat_gdt(True)) - 1)


def _segments(code: Segment) -> dict[str, Segment]:
    data = Segment(0x18, 0, 0xFFFFFFFF, FLAT_DATA)
    return {"cs": code, **dict.fromkeys(("ds", "es", "fs", "gs", "ss"), data),
            "tr": Segment(0x20, 0, 0x67, TSS32_BUSY), "ldtr": Segment(0, 0, 0, LDT)}


def flat_gdt(long_mode: bool) -> bytes:
    """A GDT with flat code at 0x10, flat data at 0x18 (the selectors Linux asks for) and a TSS at 0x20."""
    code = _descriptor(0xFFFFF, FLAT_CODE64 if long_mode else FLAT_CODE32)
    data = _descriptor(0xFFFFF, FLAT_DATA)
    return bytes(16) + code + data + _descriptor(0x67, TSS32_BUSY) + bytes(8)


def _descriptor(limit: int, attributes: int) -> bytes:
    """A descriptor with base 0 (SDM 3A 3.4.5); `limit` in the units of its G bit."""
    return (limit & 0xFFFF | attributes << 40 | (limit >> 16) << 48).to_bytes(8, "little")


def identity_page_tables(base: int) -> bytes:
    """Page tables to be put at `base` that map the first 4 GiB to themselves, in pages of 2 MiB (SDM 3A 4.5)."""
    present_writable, page_size = 0x3, 0x80
    top = (base + 0x1000 | present_writable).to_bytes(8, "little").ljust(0x1000, b"\0")
    directories = b"".join((base + 0x2000 + k * 0x1000 | present_writable).to_bytes(8, "little") for k in range(4))
    pages = b"".join((k << 21 | present_writable | page_size).to_bytes(8, "little") for k in range(2048))
    return top + directories.ljust(0x1000, b"\0") + pages


PAGE_TABLES_BYTES = 6 * 0x1000
