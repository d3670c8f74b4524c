# MultiProcessor tables: read back as a kernel does it (MP specification 1.4, chapter 4).
import struct

import pytest

from emu.boot.acpi import AcpiBoard, PciWindows
from emu.boot.mp import build_mp_tables

SIZES = {0: 20, 1: 8, 2: 8, 3: 8, 4: 8}          # of entries, by their first byte (table 4-3)


def board(cpus):
    return AcpiBoard(
        cpus=cpus, lapic_address=0xFEE00000, ioapic_address=0xFEC00000, ioapic_id=0, timer_gsi=2, sci=9, pm_event_port=0x600,
        pm_control_port=0x604, pm_timer_port=0x608, pm_timer_32bit=False, s5_sleep_type=0, reset_port=0xCF9, reset_value=6,
        hpet_address=None, hpet_id=0, pci=PciWindows((0xC0000000, 0xFEBFFFFF)), pci_gsi_base=16, pci_irqs=(10, 11, 10, 11), com_ports=())


def entries(data, base):
    """Every entry of the configuration table; both checksums and all lengths are checked on the way."""
    signature, where, paragraphs, revision, _ = struct.unpack_from("<4sIBBB", data)
    assert (signature, where, paragraphs, revision) == (b"_MP_", base + 16, 1, 4) and sum(data[:16]) % 256 == 0
    table = data[16:]
    name, length, revision = struct.unpack_from("<4sHB", table)
    assert (name, length, revision) == (b"PCMP", len(table), 4) and sum(table) % 256 == 0
    count, lapic = struct.unpack_from("<HI", table, 34)
    assert lapic == 0xFEE00000
    place, found = 44, []
    while place < length:
        size = SIZES[table[place]]
        found.append(table[place:place + size])
        place += size
    assert place == length and len(found) == count and [entry[0] for entry in found] == sorted(entry[0] for entry in found)
    return found


@pytest.mark.parametrize("cpus", [1, 4, 255])
def test_every_processor_is_listed_and_the_first_boots(cpus):
    found = entries(build_mp_tables(board(cpus), 0x686, 0x201, 0xF0000, 0x10000).data, 0xF0000)
    processors = [struct.unpack("<BBBBII", entry[:12]) for entry in found if entry[0] == 0]
    assert processors == [(0, k, 0x14, 3 if k == 0 else 1, 0x686, 0x201) for k in range(cpus)]


def test_interrupts_go_where_the_board_has_wired_them():
    found = entries(build_mp_tables(board(1), 0, 0, 0xF0010, 0x10000).data, 0xF0010)
    assert [entry[1:] for entry in found if entry[0] == 1] == [b"\0PCI   ", b"\1ISA   "]
    assert [struct.unpack("<BBBI", entry[1:]) for entry in found if entry[0] == 2] == [(0, 0x20, 1, 0xFEC00000)]
    wires = {(bus, irq): (kind, flags, apic, pin) for kind, flags, bus, irq, apic, pin in
             (struct.unpack("<BHBBBB", entry[1:]) for entry in found if entry[0] == 3)}
    assert wires[1, 0] == (0, 0, 0, 2) and wires[1, 4] == (0, 0, 0, 4) and wires[1, 9] == (0, 0xD, 0, 9) and (1, 2) not in wires
    assert wires[0, 3 << 2 | 1] == (0, 0, 0, 16 + 4) and len(wires) == 15 + 31 * 4
    assert [struct.unpack("<BHBBBB", entry[1:]) for entry in found if entry[0] == 4] == [(3, 0, 1, 0, 0, 0), (1, 0, 1, 0, 0xFF, 1)]


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(ValueError):
        build_mp_tables(board(255), 0, 0, 0xF0000, 1024)
    with pytest.raises(ValueError):
        build_mp_tables(board(1), 0, 0, 0xF0008, 0x10000)
