# The MultiProcessor tables, for kernels that do not read ACPI: the floating pointer and the configuration table behind it.
#
# Source: Intel MultiProcessor Specification 1.4, chapter 4.
import struct
from typing import NamedTuple

from emu.boot.acpi import ACTIVE_HIGH_LEVEL, CONFORMS, PCI_SLOTS, AcpiBoard

PROCESSOR, BUS, IOAPIC, IO_INTERRUPT, LOCAL_INTERRUPT = range(5)     # types of entries (4.3)
INT, NMI, _, EXTINT = range(4)                                       # types of interrupts (table 4-11)
ENABLED, BOOTS = 1, 2                                                # CPU flags (table 4-5)
PCI_BUS, ISA_BUS = 0, 1
EVERYONE = 0xFF
LAPIC_VERSION, IOAPIC_VERSION = 0x14, 0x20


class MpTables(NamedTuple):
    """`data` belongs at physical address `base`; the floating pointer is the first thing in it."""

    base: int
    data: bytes


def build_mp_tables(board: AcpiBoard, signature: int, features: int, base: int, limit: int) -> MpTables:
    """The tables of `board` for physical address `base` (a multiple of 16 in 0xF0000..0xFFFFF, where kernels search).

    signature, features: EAX and EDX of CPUID leaf 1. Raises ValueError where they do not fit in `limit` bytes.
    """
    if base % 16:
        raise ValueError(f"{base:#x} is no multiple of 16")
    entries = [struct.pack("<BBBBII8x", PROCESSOR, cpu, LAPIC_VERSION, ENABLED | (BOOTS if cpu == 0 else 0), signature, features)
               for cpu in range(board.cpus)]
    entries.append(struct.pack("<BB6s", BUS, PCI_BUS, b"PCI   "))
    entries.append(struct.pack("<BB6s", BUS, ISA_BUS, b"ISA   "))
    entries.append(struct.pack("<BBBBI", IOAPIC, board.ioapic_id, IOAPIC_VERSION, ENABLED, board.ioapic_address))
    for irq in range(16):
        if irq != 2:                             # the second 8259's place at the first
            flags = ACTIVE_HIGH_LEVEL if irq == board.sci else CONFORMS
            entries.append(_wire(IO_INTERRUPT, INT, flags, ISA_BUS, irq, board.ioapic_id, board.timer_gsi if irq == 0 else irq))
    for slot in range(1, PCI_SLOTS):
        for pin in range(4):
            entries.append(_wire(IO_INTERRUPT, INT, CONFORMS, PCI_BUS, slot << 2 | pin, board.ioapic_id,
                                 board.pci_gsi_base + (slot + pin) % 8))
    entries.append(_wire(LOCAL_INTERRUPT, EXTINT, CONFORMS, ISA_BUS, 0, 0, 0))
    entries.append(_wire(LOCAL_INTERRUPT, NMI, CONFORMS, ISA_BUS, 0, EVERYONE, 1))
    body = b"".join(entries)
    table = bytearray(struct.pack("<4sHBB8s12sIHHIHBB", b"PCMP", 44 + len(body), 4, 0, b"EMU     ", b"EMUBOARD    ", 0, 0,
                                  len(entries), board.lapic_address, 0, 0, 0)) + body
    table[7] = -sum(table) & 0xFF
    pointer = bytearray(struct.pack("<4sIBBB5x", b"_MP_", base + 16, 1, 4, 0))       # no default configuration, no IMCR
    pointer[10] = -sum(pointer) & 0xFF
    if len(pointer) + len(table) > limit:
        raise ValueError(f"MP tables of {len(pointer) + len(table)} bytes, room for {limit}")
    return MpTables(base, bytes(pointer + table))


def _wire(entry: int, kind: int, flags: int, bus: int, irq: int, apic: int, pin: int) -> bytes:
    """Interrupt `irq` of a bus goes to a pin of an APIC (4.3.4, 4.3.5)."""
    return struct.pack("<BBHBBBB", entry, kind, flags, bus, irq, apic, pin)
