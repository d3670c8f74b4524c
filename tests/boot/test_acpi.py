# ACPI tables: checksums, links between tables, fields at the offsets of ACPI 6.4, chapter 5.
import struct

import pytest

from emu.boot.acpi import AcpiBoard, PciWindows, build_dsdt, build_tables

BOARD = AcpiBoard(
    cpus=2, lapic_address=0xFEE00000, ioapic_address=0xFEC00000, ioapic_id=7, timer_gsi=2, sci=9, pm_event_port=0x600,
    pm_control_port=0x604, pm_timer_port=0x608, pm_timer_32bit=False, s5_sleep_type=5, reset_port=0xCF9, reset_value=6,
    hpet_address=0xFED00000, hpet_id=0x8086A201, pci=PciWindows((0xC0000000, 0xFEBFFFFF), (1 << 36, (1 << 37) - 1)),
    pci_gsi_base=16, pci_irqs=(10, 11, 10, 11), com_ports=((0x3F8, 4), (0x2F8, 3)))
BASE, LIMIT = 0xE0000, 0x20000


def board(**changes):
    return BOARD._replace(**changes)


def tables_of(what=BOARD, base=BASE):
    """{signature: table} by walking from the RSDP through the XSDT, with every checksum looked at."""
    tables = build_tables(what, base, LIMIT)

    def at(address, length=None):
        place = address - base
        assert 0 <= place < len(tables.data)
        length = length or int.from_bytes(tables.data[place + 4:place + 8], "little")
        assert place + length <= len(tables.data)
        return tables.data[place:place + length]

    rsdp = at(tables.rsdp_address, 36)
    assert rsdp == tables.rsdp and rsdp[:8] == b"RSD PTR " and rsdp[15] == 2
    assert sum(rsdp[:20]) % 256 == 0 and sum(rsdp) % 256 == 0
    rsdt_address, length, xsdt_address = struct.unpack_from("<IIQ", rsdp, 16)
    assert length == 36
    rsdt, xsdt = at(rsdt_address), at(xsdt_address)
    found = {b"RSDT": rsdt, b"XSDT": xsdt}
    addresses = struct.unpack_from(f"<{(len(xsdt) - 36) // 8}Q", xsdt, 36)
    assert addresses == struct.unpack_from(f"<{(len(rsdt) - 36) // 4}I", rsdt, 36)
    for address in addresses:
        found[at(address)[:4]] = at(address)
    facs, dsdt = struct.unpack_from("<II", found[b"FACP"], 36)
    assert facs % 64 == 0
    found[b"FACS"], found[b"DSDT"] = at(facs), at(dsdt)
    for signature, table in found.items():
        assert table[:4] == signature
        if signature != b"FACS":                 # the one table without a checksum
            assert sum(table) % 256 == 0, signature
    return found


@pytest.mark.parametrize("what", [
    BOARD, board(cpus=1), board(cpus=64), board(pci=None), board(hpet_address=None), board(has_apic=False, hpet_address=None),
    board(com_ports=()), board(has_ps2=False, has_vga=True), board(pm_timer_32bit=True)])
@pytest.mark.parametrize("base", [BASE, 0xF0000, 0x7FF0000])
def test_tables_are_linked_and_summed(what, base):
    found = tables_of(what, base)
    assert (b"APIC" in found) == what.has_apic
    assert (b"HPET" in found) == (what.hpet_address is not None)


def test_fadt_fields():
    fadt = tables_of()[b"FACP"]
    assert (len(fadt), fadt[8], fadt[131]) == (276, 6, 4)
    word = {offset: int.from_bytes(fadt[offset:offset + 4], "little") for offset in range(36, 240, 4)}
    assert int.from_bytes(fadt[46:48], "little") == 9                    # SCI_INT
    assert (word[48], fadt[52], fadt[53]) == (0, 0, 0)                   # SMI_CMD: always in ACPI mode
    assert (word[56], word[64], word[76]) == (0x600, 0x604, 0x608)
    assert (fadt[88], fadt[89], fadt[91], fadt[92]) == (4, 2, 4, 0)
    assert struct.unpack_from("<HH", fadt, 96) == (0xFFF, 0xFFF)         # no C2, no C3
    assert fadt[108] == 0x32
    assert struct.unpack_from("<H", fadt, 109)[0] == 0b0111              # legacy devices, 8042, no VGA
    flags = word[112]
    assert flags >> 0 & 1 and flags >> 2 & 1 and flags >> 10 & 1 and not flags >> 8 & 1 and not flags >> 20 & 1
    assert fadt[116:129] == bytes((1, 8, 0, 1)) + (0xCF9).to_bytes(8, "little") + b"\x06"
    assert struct.unpack_from("<Q", fadt, 140)[0] == word[40]            # X_DSDT, DSDT
    for offset, bits, port in ((148, 32, 0x600), (172, 16, 0x604), (208, 32, 0x608)):
        space, width, _, _, address = struct.unpack_from("<BBBBQ", fadt, offset)
        assert (space, width, address) == (1, bits, port)


def test_fadt_flags_follow_the_board():
    fadt = tables_of(board(pm_timer_32bit=True, has_vga=True, has_ps2=False))[b"FACP"]
    assert fadt[113] & 1 and struct.unpack_from("<H", fadt, 109)[0] == 0b0001


def test_madt_lists_every_controller():
    madt = tables_of(board(cpus=3))[b"APIC"]
    assert struct.unpack_from("<II", madt, 36) == (0xFEE00000, 1)
    place, entries = 44, []
    while place < len(madt):
        kind, length = madt[place], madt[place + 1]
        entries.append((kind, madt[place + 2:place + length]))
        place += length
    assert place == len(madt)
    assert [body for kind, body in entries if kind == 0] == [bytes((k, k, 1, 0, 0, 0)) for k in range(3)]
    assert [struct.unpack("<BBII", body) for kind, body in entries if kind == 1] == [(7, 0, 0xFEC00000, 0)]
    assert [struct.unpack("<BBIH", body) for kind, body in entries if kind == 2] == [(0, 0, 2, 0), (0, 9, 9, 0xD)]
    assert [struct.unpack("<BHB", body) for kind, body in entries if kind == 4] == [(0xFF, 0, 1)]


def test_hpet_table():
    hpet = tables_of()[b"HPET"]
    assert struct.unpack_from("<IBBBBQB", hpet, 36) == (0x8086A201, 0, 64, 0, 0, 0xFED00000, 0)
    assert len(hpet) == 56


def test_interrupt_routing_covers_every_slot_and_pin_of_both_controllers():
    """Rows of _PRT (6.2.13): package of address, pin, source 0, interrupt."""
    dsdt = build_dsdt(BOARD)
    for slot in range(1, 32):
        for pin in range(4):
            address = b"\x0C" + (slot << 16 | 0xFFFF).to_bytes(4, "little")
            number = bytes((pin,)) if pin < 2 else bytes((0x0A, pin))
            for interrupt in (16 + (slot + pin) % 8, (10, 11, 10, 11)[(slot + pin) % 4]):
                assert dsdt.count(address + number + b"\0\x0A" + bytes((interrupt,))) == 1


def test_reserved_entry_covers_the_tables_in_whole_pages():
    tables = build_tables(BOARD, BASE, LIMIT)
    entry = tables.e820_entry
    assert entry.base == BASE and entry.size % 4096 == 0 and entry.size >= len(tables.data) > entry.size - 4096
    assert entry.type == 2


def test_tables_that_do_not_fit_or_lie_crooked_are_refused():
    with pytest.raises(ValueError):
        build_tables(BOARD, BASE, 4096)
    with pytest.raises(ValueError):
        build_tables(BOARD, BASE + 16, LIMIT)
