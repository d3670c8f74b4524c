# A boot sector, entered as a BIOS enters it: 16-bit real mode at 0000:7C00 with the boot drive in DL.
#
# DEVIATES: until the firmware runs there are no BIOS services: each software interrupt answers "not supported" (carry
# set, AH = 86h), each hardware interrupt returns at once.
from emu.base.errors import ImageError
from emu.boot.layout import Layout
from emu.boot.plan import (
    CR0_ET,
    REAL_CODE,
    REAL_DATA,
    BootPlan,
    Entry,
    Platform,
    Segment,
)

SECTOR_BYTES = 512
LOAD_ADDRESS = 0x7C00
SIGNATURE = b"\x55\xAA"
FIRST_HARD_DISK = 0x80
HANDLERS = 0x500                     # just after the BIOS data area
# push bp; mov bp, sp; or byte [bp+6], 1; pop bp; mov ah, 86h; iret
NOT_SUPPORTED = bytes.fromhex("55 89e5 804e0601 5d b486 cf")
RETURN = b"\xCF"                     # iret
HARDWARE_VECTORS = frozenset((*range(0x10), *range(0x70, 0x78)))


def has_boot_signature(data: bytes) -> bool:
    return len(data) >= SECTOR_BYTES and bytes(data[510:512]) == SIGNATURE


def load_bootsector(name: str, data: bytes, platform: Platform, drive: int = FIRST_HARD_DISK) -> BootPlan:
    """The plan that enters the first 512 bytes of `data`; `drive` is the BIOS number of the disk they came from."""
    if not has_boot_signature(data):
        raise ImageError(name, "no boot sector", "512 bytes that end in 55 AA", "make the disk bootable")
    layout = Layout(name, platform.e820)
    vectors = b"".join((HANDLERS if vector in HARDWARE_VECTORS else HANDLERS + len(RETURN)).to_bytes(4, "little")
                       for vector in range(256))
    layout.load(0, vectors, what="the interrupt vectors")
    layout.load(HANDLERS, RETURN + NOT_SUPPORTED, what="the interrupt handlers")
    layout.load(LOAD_ADDRESS, bytes(data[:SECTOR_BYTES]), what="the boot sector")
    segment = Segment(0, 0, 0xFFFF, REAL_DATA)
    segments = {"cs": Segment(0, 0, 0xFFFF, REAL_CODE), **dict.fromkeys(("ds", "es", "fs", "gs", "ss"), segment),
                "tr": Segment(0, 0, 0xFFFF, 0x008B), "ldtr": Segment(0, 0, 0xFFFF, 0x0082)}
    entry = Entry("real", LOAD_ADDRESS, LOAD_ADDRESS, {"rdx": drive}, segments, CR0_ET, gdt_limit=0xFFFF, idt_limit=0x3FF)
    return layout.finish("bootsector", entry)
