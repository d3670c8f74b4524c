# ACPI tables: RSDP, RSDT, XSDT, FADT, FACS, DSDT, MADT and HPET, built from what a board says of itself.
#
# Source: ACPI 6.4, chapter 5 (tables) and 6 (devices); IA-PC HPET 1.0a, 3.2.4.
import struct
from typing import NamedTuple

from emu.boot import aml
from emu.boot.e820 import RESERVED, E820Entry

OEM_ID = b"EMU   "
OEM_TABLE_ID = b"EMUBOARD"
CREATOR_ID = b"EMU "
SYSTEM_MEMORY, SYSTEM_IO = 0, 1
PCI_SLOTS = 32

# FADT flags (5.2.9, table 5.10)
WBINVD, PROC_C1, SLP_BUTTON, FIX_RTC, TMR_VAL_EXT, RESET_REG_SUP = 1 << 0, 1 << 2, 1 << 5, 1 << 6, 1 << 8, 1 << 10
# IA-PC boot architecture flags (5.2.9.3)
LEGACY_DEVICES, HAS_8042, VGA_NOT_PRESENT, CMOS_RTC_NOT_PRESENT = 1 << 0, 1 << 1, 1 << 2, 1 << 5
NO_C2, NO_C3 = 0xFFF, 0xFFF          # latencies that say: no such state

ACTIVE_HIGH_LEVEL = 0xD              # MPS INTI flags: polarity 01, trigger mode 11
CONFORMS = 0x0


class PciWindows(NamedTuple):
    """What the PCI host bridge hands on: (first, last) addresses of memory below and above 4 GiB."""

    memory32: tuple[int, int]
    memory64: tuple[int, int] | None = None


class AcpiBoard(NamedTuple):
    """What the tables say of a board; every address and number is the board's.

    `pci_irqs`: the four ISA interrupts that INTA..INTD of slot 0 are wired to at the PIC. Slot s, pin p (0 is INTA)
    raises `pci_irqs[(s + p) % 4]` there, and global interrupt `pci_gsi_base + (s + p) % 8` at the IOAPIC.
    `com_ports`: (port, interrupt) of each serial line. `hpet_id` is the low half of the HPET's capability register.
    """

    cpus: int
    lapic_address: int
    ioapic_address: int
    ioapic_id: int
    timer_gsi: int                   # of ISA interrupt 0
    sci: int                         # ISA interrupt and GSI of the SCI, level, active high
    pm_event_port: int               # PM1a event block, 4 bytes
    pm_control_port: int             # PM1a control block, 2 bytes
    pm_timer_port: int               # 4 bytes
    pm_timer_32bit: bool
    s5_sleep_type: int               # SLP_TYP that powers off
    reset_port: int
    reset_value: int
    hpet_address: int | None
    hpet_id: int
    pci: PciWindows | None
    pci_gsi_base: int
    pci_irqs: tuple[int, int, int, int]
    com_ports: tuple[tuple[int, int], ...]
    has_apic: bool = True
    has_ps2: bool = True
    has_vga: bool = False
    rtc_century: int = 0x32          # index in CMOS


class AcpiTables(NamedTuple):
    """`data` belongs at physical address `base`; the RSDP is the first thing in it."""

    base: int
    data: bytes

    @property
    def rsdp_address(self) -> int:
        return self.base

    @property
    def rsdp(self) -> bytes:
        return self.data[:36]

    @property
    def e820_entry(self) -> E820Entry:
        """The whole pages that are to be reserved."""
        end = self.base + len(self.data)
        return E820Entry(self.base & ~0xFFF, (end + 0xFFF & ~0xFFF) - (self.base & ~0xFFF), RESERVED)


def build_tables(board: AcpiBoard, base: int, limit: int) -> AcpiTables:
    """The tables of `board` for physical address `base` (a multiple of 64; kernels search 0xE0000..0xFFFFF in steps of 16).

    Raises ValueError where they do not fit in `limit` bytes.
    """
    if base % 64:
        raise ValueError(f"{base:#x} is no multiple of 64")
    image = bytearray(64)                    # the RSDP's place; it is built last

    def add(table: bytes) -> int:
        image.extend(bytes(-len(image) % 64))
        address = base + len(image)
        image.extend(table)
        return address

    facs = add(struct.pack("<4sIIIIIQB", b"FACS", 64, 0, 0, 0, 0, 0, 2).ljust(64, b"\0"))
    dsdt = add(build_table(b"DSDT", 2, build_dsdt(board)))
    tables = [add(build_table(b"FACP", 6, _fadt(board, facs, dsdt)))]
    if board.has_apic:
        tables.append(add(build_table(b"APIC", 5, _madt(board))))
    if board.hpet_address is not None:
        tables.append(add(build_table(b"HPET", 1, _hpet(board))))
    rsdt = add(build_table(b"RSDT", 1, b"".join(table.to_bytes(4, "little") for table in tables)))
    xsdt = add(build_table(b"XSDT", 1, b"".join(table.to_bytes(8, "little") for table in tables)))
    if len(image) > limit:
        raise ValueError(f"ACPI tables of {len(image)} bytes, room for {limit}")
    rsdp = bytearray(struct.pack("<8sB6sBIIQB3x", b"RSD PTR ", 0, OEM_ID, 2, rsdt, 36, xsdt, 0))
    rsdp[8] = -sum(rsdp[:20]) & 0xFF
    rsdp[32] = -sum(rsdp) & 0xFF
    image[:36] = rsdp
    return AcpiTables(base, bytes(image))


def build_table(signature: bytes, revision: int, body: bytes) -> bytes:
    """A system description table: the header of 5.2.6, then `body`."""
    table = bytearray(struct.pack("<4sIBB6s8sI4sI", signature, 36 + len(body), revision, 0, OEM_ID, OEM_TABLE_ID, 1, CREATOR_ID, 1))
    table += body
    table[9] = -sum(table) & 0xFF
    return bytes(table)


def _address(space: int, bits: int, access: int, address: int) -> bytes:
    """A generic address structure (5.2.3.2); `access` 1..3 is byte, word, dword."""
    return struct.pack("<BBBBQ", space, bits, 0, access, address)


NO_ADDRESS = bytes(12)


def _fadt(board: AcpiBoard, facs: int, dsdt: int) -> bytes:
    flags = WBINVD | PROC_C1 | SLP_BUTTON | FIX_RTC | RESET_REG_SUP | (TMR_VAL_EXT if board.pm_timer_32bit else 0)
    boot = LEGACY_DEVICES | (HAS_8042 if board.has_ps2 else 0) | (0 if board.has_vga else VGA_NOT_PRESENT)
    body = struct.pack("<IIBBHIBBBB", facs, dsdt, 0, 0, board.sci, 0, 0, 0, 0, 0)     # no SMI: always in ACPI mode
    body += struct.pack("<IIIIIIII", board.pm_event_port, 0, board.pm_control_port, 0, 0, board.pm_timer_port, 0, 0)
    body += struct.pack("<BBBBBBBB", 4, 2, 0, 4, 0, 0, 0, 0)                          # lengths of these; no GPE, no _CST
    body += struct.pack("<HHHHBBBBB", NO_C2, NO_C3, 0, 0, 0, 0, 0, 0, board.rtc_century)
    body += struct.pack("<HBI", boot, 0, flags)
    body += _address(SYSTEM_IO, 8, 1, board.reset_port) + bytes((board.reset_value,))
    body += struct.pack("<HBQQ", 0, 4, 0, dsdt)                                       # Arm flags, minor revision, X_FACS, X_DSDT
    body += _address(SYSTEM_IO, 32, 2, board.pm_event_port) + NO_ADDRESS
    body += _address(SYSTEM_IO, 16, 2, board.pm_control_port) + NO_ADDRESS + NO_ADDRESS
    body += _address(SYSTEM_IO, 32, 3, board.pm_timer_port) + NO_ADDRESS * 2
    body += NO_ADDRESS * 2 + bytes(8)                                                 # sleep registers, hypervisor identity
    assert len(body) == 276 - 36
    return body


def _madt(board: AcpiBoard) -> bytes:
    body = struct.pack("<II", board.lapic_address, 1)                                 # 1: there is an 8259 pair too
    for cpu in range(board.cpus):
        body += struct.pack("<BBBBI", 0, 8, cpu, cpu, 1)
    body += struct.pack("<BBBBII", 1, 12, board.ioapic_id, 0, board.ioapic_address, 0)
    body += struct.pack("<BBBBIH", 2, 10, 0, 0, board.timer_gsi, CONFORMS)
    body += struct.pack("<BBBBIH", 2, 10, 0, board.sci, board.sci, ACTIVE_HIGH_LEVEL)
    return body + struct.pack("<BBBHB", 4, 6, 0xFF, CONFORMS, 1)                      # NMI: LINT1 of every CPU


def _hpet(board: AcpiBoard) -> bytes:
    assert board.hpet_address is not None
    return struct.pack("<I", board.hpet_id) + _address(SYSTEM_MEMORY, 64, 0, board.hpet_address) + struct.pack("<BHB", 0, 0, 0)


# ---- DSDT

def build_dsdt(board: AcpiBoard) -> bytes:
    """The AML of the DSDT: sleep state 5, the processors, and the devices that no bus can find."""
    zero = aml.integer(0)
    terms = aml.name("\\_S5", aml.package(aml.integer(board.s5_sleep_type), zero, zero, zero))
    terms += aml.name("\\PICM", zero) + aml.method("\\_PIC", 1, aml.store(aml.argument(0), "\\PICM"))
    devices = [_processor(number) for number in range(board.cpus)]
    if board.hpet_address is not None:
        devices.append(aml.device("HPET", aml.name("_HID", aml.eisa_id("PNP0103")), aml.name("_UID", zero), aml.name(
            "_CRS", aml.resources(aml.memory32_fixed(board.hpet_address, 0x400)))))
    if board.pci is None:
        devices += _isa_devices(board)
    else:
        devices.append(_pci_root(board, board.pci))
    return terms + aml.scope("\\_SB", *devices)


def _processor(number: int) -> bytes:
    return aml.device(f"C{number:03X}", aml.name("_HID", aml.string("ACPI0007")), aml.name("_UID", aml.integer(number)))


def _isa_devices(board: AcpiBoard) -> list[bytes]:
    """The devices of a PC that no bus can find."""
    def isa(where: str, identity: str, *descriptors: bytes, uid: int = 0) -> bytes:
        return aml.device(where, aml.name("_HID", aml.eisa_id(identity)), aml.name("_UID", aml.integer(uid)),
                          aml.name("_CRS", aml.resources(*descriptors)))

    devices = [isa("RTC", "PNP0B00", aml.io_ports(0x70, 2), aml.irq(8))]
    if board.has_ps2:
        devices.append(isa("KBD", "PNP0303", aml.io_ports(0x60, 1), aml.io_ports(0x64, 1), aml.irq(1)))
        devices.append(isa("MOU", "PNP0F13", aml.irq(12)))
    for number, (port, irq) in enumerate(board.com_ports, start=1):
        devices.append(isa(f"COM{number}", "PNP0501", aml.io_ports(port, 8), aml.irq(irq), uid=number))
    return devices


def _pci_root(board: AcpiBoard, windows: PciWindows) -> bytes:
    """The host bridge: its windows, the routing of its slots' interrupt pins, and the ISA devices behind it."""
    zero = aml.integer(0)
    descriptors = [
        aml.window(aml.BUS, 0, 0xFF, 2), aml.io_ports(0xCF8, 8),
        aml.window(aml.IO, 0, 0xCF7, 2), aml.window(aml.IO, 0xD00, 0xFFFF, 2),
        aml.window(aml.MEMORY, 0xA0000, 0xBFFFF, 4), aml.window(aml.MEMORY, *windows.memory32, 4)]
    if windows.memory64 is not None:
        descriptors.append(aml.window(aml.MEMORY, *windows.memory64, 8))

    def routing(of_pin: list[int]) -> bytes:
        rows = []
        for slot in range(1, PCI_SLOTS):
            for pin in range(4):
                rows.append(aml.package(aml.integer(slot << 16 | 0xFFFF), aml.integer(pin), zero,
                                        aml.integer(of_pin[(slot + pin) % len(of_pin)])))
        return aml.package(*rows)

    return aml.device(
        "PCI0", aml.name("_HID", aml.eisa_id("PNP0A03")), aml.name("_UID", zero),
        aml.name("_BBN", zero), aml.name("_CRS", aml.resources(*descriptors)),
        aml.name("PRTP", routing(list(board.pci_irqs))),
        aml.name("PRTA", routing([board.pci_gsi_base + number for number in range(8)])),
        aml.method("_PRT", 0, aml.when(aml.path("\\PICM"), aml.give(aml.path("PRTA"))), aml.give(aml.path("PRTP"))),
        *_isa_devices(board))
