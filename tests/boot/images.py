# Small synthetic images of every bootable kind, and a platform to boot them on.
import struct

from emu.boot.e820 import RESERVED, E820Entry, build_e820
from emu.boot.plan import BootPlan, CpuFacts, Module, Platform

MIB = 1 << 20
PENTIUM3 = CpuFacts(long_mode=False, name="pentium3")


def platform(megabytes=64, **options) -> Platform:
    ram = [(0, 0xA0000), (0xC0000, 0x40000), (MIB, (megabytes - 1) * MIB)] if megabytes > 1 else [(0, 0xA0000)]
    other = (E820Entry(0x9FC00, 0x400, RESERVED), E820Entry(0xC0000, 0x40000, RESERVED))
    return Platform(build_e820(ram, other), **options)


def bzimage(*, protocol=0x020F, setup_sectors=3, kernel=b"\x90" * 1600 + b"\xF4" * 16, xloadflags=1, preferred=0x1000000,
            init_bytes=0x100000, relocatable=1, initrd_last=0x7FFFFFFF, command_line_bytes=2047, loadflags=1) -> bytes:
    """A bzImage by the fields of Documentation/arch/x86/boot.rst."""
    kernel += bytes(-len(kernel) % 16)
    image = bytearray((setup_sectors + 1) * 512)
    image[0x1F1] = setup_sectors
    struct.pack_into("<I", image, 0x1F4, len(kernel) // 16)
    struct.pack_into("<HBB", image, 0x1FE, 0xAA55, 0xEB, 0x66)
    struct.pack_into("<4sH", image, 0x202, b"HdrS", protocol)
    image[0x211] = loadflags
    struct.pack_into("<I", image, 0x214, 0x100000)
    struct.pack_into("<I", image, 0x22C, initrd_last)
    struct.pack_into("<IBBHI", image, 0x230, 0x200000, relocatable, 21, xloadflags, command_line_bytes)
    struct.pack_into("<QI", image, 0x258, preferred, init_bytes)
    return bytes(image) + kernel


def elf(bits=32, *, segments=((0x100000, 0x100000, b"\xF4" * 64, 128),), entry=0x100000, machine=None, kind=2, notes=b"",
        extra_headers=(), prefix=b"") -> bytes:
    """An ELF executable of (virtual, physical, data, memory size) segments; `prefix` comes right after the headers."""
    machine = machine if machine is not None else {32: 3, 64: 62}[bits]
    header_bytes, entry_bytes = (52, 32) if bits == 32 else (64, 56)
    headers = [(1, *segment) for segment in segments] + ([(4, 0, 0, notes, len(notes))] if notes else []) + list(extra_headers)
    place = header_bytes + entry_bytes * len(headers) + len(prefix)
    table, body = b"", b""
    for number, virtual, physical, data, memory in headers:
        offset = place + len(body)
        if bits == 32:
            table += struct.pack("<IIIIIIII", number, offset, virtual, physical, len(data), memory, 7, 4)
        else:
            table += struct.pack("<IIQQQQQQ", number, 7, offset, virtual, physical, len(data), memory, 4)
        body += data
    ident = b"\x7fELF" + bytes((bits // 32, 1, 1)) + bytes(9)
    form = "<HHIIIIIHHHHHH" if bits == 32 else "<HHIQQQIHHHHHH"
    head = ident + struct.pack(form, kind, machine, 1, entry, header_bytes, 0, 0, header_bytes, entry_bytes, len(headers), 0, 0, 0)
    return head + table + prefix + body


def pvh_note(entry: int, size=4) -> bytes:
    other = struct.pack("<III4s4s", 4, 4, 6, b"Xen\0", b"gen\0")
    return other + struct.pack("<III4s", 4, size, 18, b"Xen\0") + entry.to_bytes(size, "little")


def multiboot1(flags=0, addresses=()) -> bytes:
    return struct.pack(f"<III{len(addresses)}I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, *addresses)


def multiboot1_flat(code=b"\xF4" * 100, load=0x100000, bss=0) -> bytes:
    header = multiboot1(0x10003, (load + 8, load, load + 40 + len(code), load + 40 + len(code) + bss, load + 40))
    return bytes(8) + header + code


def tag2(kind: int, body=b"", flags=0) -> bytes:
    return struct.pack("<HHI", kind, flags, 8 + len(body)) + body + bytes(-len(body) % 8)


def multiboot2(*tags: bytes, architecture=0) -> bytes:
    body = b"".join(tags) + tag2(0)
    length = 16 + len(body)
    return struct.pack("<IIII", 0xE85250D6, architecture, length, -(0xE85250D6 + architecture + length) & 0xFFFFFFFF) + body


def bootsector(code=b"\xF4") -> bytes:
    return code.ljust(510, b"\0") + b"\x55\xAA"


def every_image() -> dict[str, bytes]:
    """One of each bootable kind, by the kind of plan it gives."""
    prefix = bytes(-(52 + 32) % 8)
    return {
        "linux64": bzimage(),
        "linux32": bzimage(xloadflags=0),
        "elf32": elf(32),
        "elf64": elf(64),
        "pvh": elf(64, notes=pvh_note(0x100000)),
        "multiboot1": elf(32, prefix=multiboot1(3)),
        "multiboot1 flat": multiboot1_flat(),
        "multiboot2": elf(32, prefix=prefix + multiboot2(tag2(1, struct.pack("<II", 4, 6)))),
        "multiboot2 flat": multiboot2(tag2(2, struct.pack("<IIII", 0x100000, 0x100000, 0, 0)), tag2(3, struct.pack("<I", 0x100000))),
        "bootsector": bootsector(),
    }


def memory_of(plan: BootPlan) -> dict[int, bytes]:
    return dict(plan.writes)


def read(plan: BootPlan, address: int, length: int) -> bytes:
    """What memory holds at `address` once the plan is carried out."""
    found = bytearray(length)
    for base, data in plan.writes:
        for k in range(max(base, address), min(base + len(data), address + length)):
            found[k - address] = data[k - base]
    return bytes(found)


def read_text(plan: BootPlan, address: int) -> bytes:
    return read(plan, address, 4096).split(b"\0")[0]


def check_plan(plan: BootPlan, platform: Platform) -> None:
    """What holds of every plan: writes lie in usable RAM and never over each other; the entry is in what was loaded."""
    ranges = sorted([(base, base + len(data)) for base, data in plan.writes] + [(base, base + size) for base, size in plan.zeros])
    for (_, first_end), (second, _) in zip(ranges, ranges[1:]):
        assert first_end <= second
    usable = [(entry.base, entry.end) for entry in platform.e820 if entry.type == 1]
    for base, end in ranges:
        assert any(low <= base and end <= high for low, high in usable)
    assert plan.entry.rip < 1 << 32


INITRD = Module(b"0707010000" * 500)
