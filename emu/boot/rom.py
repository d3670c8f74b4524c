# A firmware ROM: where its bytes are seen, and the state in which the processor enters it after power-on.
from emu.base.errors import ImageError
from emu.boot.plan import CR0_ET, REAL_CODE, REAL_DATA, BootPlan, Entry, Segment

TOP_OF_FIRST_MIB = 0x100000
TOP_OF_FOUR_GIB = 1 << 32
LOW_BYTES = 0x20000              # of the end of a larger ROM, what chipsets show below 1 MiB (82371SB, 4.1.10)
UNIT_BYTES = 0x1000
MOST_BYTES = 16 << 20            # what lies between the local APIC's page and 4 GiB
CR0_NW = 1 << 29
CR0_CD = 1 << 30


def rom_places(name: str, data: bytes) -> list[tuple[int, bytes]]:
    """(physical address, bytes) of each place at which the ROM `data` is seen; ImageError where it cannot be one.

    All of it ends at 4 GiB, where a processor fetches its first instruction; its last 128 KiB also end at 1 MiB."""
    size = len(data)
    if size == 0:
        raise ImageError(name, "the file is empty", "a firmware ROM", "get or build it again")
    if size > MOST_BYTES:
        raise ImageError(name, f"{size} bytes are too much for a firmware ROM", f"at most {MOST_BYTES >> 20} MiB",
                         "give a disk image as --disk and a kernel as --kernel")
    if size % UNIT_BYTES:
        raise ImageError(name, f"{size} bytes are no firmware ROM", f"a multiple of {UNIT_BYTES >> 10} KiB",
                         "fill it up in front: its last 16 bytes hold the first instruction")
    low = data[-LOW_BYTES:]
    return [(TOP_OF_FIRST_MIB - len(low), low), (TOP_OF_FOUR_GIB - size, data)]


def load_rom(signature: int) -> BootPlan:
    """The plan that enters the ROM as power-on does (SDM 3A table 9-1): nothing is written, the first instruction is the
    one at FFFFFFF0H, `signature` (CPUID 1 EAX) is in EDX."""
    data = Segment(0, 0, 0xFFFF, REAL_DATA)
    segments = {"cs": Segment(0xF000, 0xFFFF0000, 0xFFFF, REAL_CODE), **dict.fromkeys(("ds", "es", "fs", "gs", "ss"), data),
                "tr": Segment(0, 0, 0xFFFF, 0x008B), "ldtr": Segment(0, 0, 0xFFFF, 0x0082)}
    entry = Entry("real", 0xFFF0, 0, {"rdx": signature}, segments, CR0_ET | CR0_NW | CR0_CD, gdt_limit=0xFFFF, idt_limit=0xFFFF)
    return BootPlan("rom", entry, [], [])
