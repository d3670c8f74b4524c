# The AML encoder against bytes that iasl made of the same ASL, and against the grammar of ACPI 6.4, chapter 20.
import pytest

from emu.boot import aml
from emu.boot.aml import integer

# What is in ASL below, compiled with `iasl -oa` (version 20200925); the table's header of 36 bytes is left out.
ASL = r"""
    Name (\_S5, Package (0x04) { 5, Zero, One, 0x1234 })
    Name (\PICM, Zero)
    Method (\_PIC, 1) { Store (Arg0, \PICM) }
    Name (BIG1, 0x12345678)
    Name (BIG2, 0x123456789ABCDEF0)
    Scope (\_SB)
    {
        Device (C000) { Name (_HID, "ACPI0007") Name (_UID, 300) }
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A03"))
            Name (_CRS, ResourceTemplate () {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0xFF, 0, 0x100)
                IO (Decode16, 0xCF8, 0xCF8, 1, 8)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0xD00, 0xFFFF, 0, 0xF300)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                             0, 0xC0000000, 0xFEBFFFFF, 0, 0x3EC00000)
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                             0, 0x800000000, 0xFFFFFFFFF, 0, 0x800000000)
            })
            Name (PRTA, Package () { Package () { 0x1FFFF, Zero, Zero, 17 } })
            Name (PRTP, Package () { Package () { 0x1FFFF, Zero, Zero, 11 } })
            Method (_PRT, 0) { If (\PICM) { Return (PRTA) } Return (PRTP) }
            Device (COM1)
            {
                Name (_HID, EisaId ("PNP0501"))
                Name (_CRS, ResourceTemplate () { IO (Decode16, 0x3F8, 0x3F8, 1, 8) IRQNoFlags () {4} })
            }
        }
        Device (HPET)
        {
            Name (_HID, EisaId ("PNP0103"))
            Name (_CRS, ResourceTemplate () { Memory32Fixed (ReadWrite, 0xFED00000, 0x400) })
        }
    }
    Scope (\_SB.PCI0) { Name (XYZ, One) }
    Scope (\_SB.PCI0.COM1) { Name (XYZ, 2) }
"""
COMPILED = bytes.fromhex("""
085c5f53355f1209040a0500010b3412085c5049434d00140e5c5f5049430170685c5049434d08424947310c7856341208424947320ef0de
bc9a785634121042145c5f53425f5b821c43303030085f4849440d414350493030303700085f5549440b2c015b82430f50434930085f4849
440c41d00a03085f4352531146070a72880d00020c0000000000ff00000000014701f80cf80c0108880d00010c030000000dffff000000f3
871700000c0100000000000000c0ffffbffe000000000000c03e8a2b00000c0100000000000000000000000008000000ffffffff0f000000
0000000000000000000000000800000079000850525441120e01120b040cffff010000000a110850525450120e01120b040cffff01000000
0a0b14175f50525400a00b5c5049434da450525441a4505254505b8225434f4d31085f4849440c41d00501085f43525311100a0d4701f803
f803010822100079005b822648504554085f4849440c41d00103085f43525311110a0e860900010000d0fe00040000790010115c2e5f5342
5f504349300858595a5f0110175c2f035f53425f50434930434f4d310858595a5f0a02
""")


def test_encoder_makes_the_bytes_that_iasl_makes():
    def routing(gsi):
        return aml.package(aml.package(integer(0x1FFFF), integer(0), integer(0), integer(gsi)))

    five = aml.package(integer(5), integer(0), integer(1), integer(0x1234))
    windows = aml.resources(
        aml.window(aml.BUS, 0, 0xFF, 2), aml.io_ports(0xCF8, 8), aml.window(aml.IO, 0xD00, 0xFFFF, 2),
        aml.window(aml.MEMORY, 0xC0000000, 0xFEBFFFFF, 4), aml.window(aml.MEMORY, 0x800000000, 0xFFFFFFFFF, 8))
    serial = aml.device("COM1", aml.name("_HID", aml.eisa_id("PNP0501")), aml.name(
        "_CRS", aml.resources(aml.io_ports(0x3F8, 8), aml.irq(4))))
    made = b"".join((
        aml.name("\\_S5", five), aml.name("\\PICM", integer(0)),
        aml.method("\\_PIC", 1, aml.store(aml.argument(0), "\\PICM")),
        aml.name("BIG1", integer(0x12345678)), aml.name("BIG2", integer(0x123456789ABCDEF0)),
        aml.scope(
            "\\_SB",
            aml.device("C000", aml.name("_HID", aml.string("ACPI0007")), aml.name("_UID", integer(300))),
            aml.device("PCI0", aml.name("_HID", aml.eisa_id("PNP0A03")), aml.name("_CRS", windows),
                       aml.name("PRTA", routing(17)), aml.name("PRTP", routing(11)),
                       aml.method("_PRT", 0, aml.when(aml.path("\\PICM"), aml.give(aml.path("PRTA"))), aml.give(aml.path("PRTP"))),
                       serial),
            aml.device("HPET", aml.name("_HID", aml.eisa_id("PNP0103")), aml.name(
                "_CRS", aml.resources(aml.memory32_fixed(0xFED00000, 0x400))))),
        aml.scope("\\_SB.PCI0", aml.name("XYZ", integer(1))), aml.scope("\\_SB.PCI0.COM1", aml.name("XYZ", integer(2)))))
    assert made == COMPILED


@pytest.mark.parametrize("body_bytes", [0, 62, 63, 64, 4093, 4094, 4095, 4096, 0xFFFFC, 0xFFFFD, 0x100000])
def test_package_length_counts_itself(body_bytes):
    """20.2.4: bits 7:6 of the first byte tell how many follow; it holds bits 3:0 then, or 5:0 where it is alone."""
    encoded = aml.encode_length(bytes(body_bytes))
    extra = encoded[0] >> 6
    assert len(encoded) == 1 + extra
    value = encoded[0] & 0x3F if extra == 0 else encoded[0] & 0xF | int.from_bytes(encoded[1:], "little") << 4
    assert value == body_bytes + len(encoded)
    assert encoded[0] & 0x30 == 0 or extra == 0


def test_what_cannot_be_encoded_is_refused():
    for act in (lambda: aml.encode_length(bytes(1 << 28)), lambda: integer(1 << 64), lambda: aml.path("TOOLONG")):
        with pytest.raises(ValueError):
            act()
