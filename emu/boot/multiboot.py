# Multiboot 1 and 2: ELF kernels and flat ones (whose header gives the addresses), with modules and memory map.
#
# Source: the Multiboot Specification 0.6.96 and the Multiboot2 Specification 2.0.
import struct
from typing import NamedTuple

from emu.base.errors import BootError, ImageError
from emu.boot.e820 import lower_bytes, upper_bytes
from emu.boot.elf import (
    EM_X86_64,
    Elf,
    is_elf,
    load_segments,
    parse_elf,
    physical_entry,
)
from emu.boot.layout import Layout
from emu.boot.plan import BootPlan, Platform, flat_gdt, protected_entry

LOADER_NAME = b"emu\0"

MAGIC1, SEARCH1 = 0x1BADB002, 8192
BOOT_MAGIC1 = 0x2BADB002
KNOWN_NEEDS1 = 0x7                   # page-aligned modules, memory information, video mode
HAS_ADDRESSES = 1 << 16
INFO1_MEMORY, INFO1_COMMAND_LINE, INFO1_MODULES, INFO1_MAP, INFO1_LOADER = 1 << 0, 1 << 2, 1 << 3, 1 << 6, 1 << 9

MAGIC2, SEARCH2 = 0xE85250D6, 32768
BOOT_MAGIC2 = 0x36D76289
(TAG_END, TAG_REQUEST, TAG_ADDRESS, TAG_ENTRY, TAG_CONSOLE, TAG_FRAMEBUFFER, TAG_ALIGN, TAG_EFI_SERVICES, TAG_EFI32,
 TAG_EFI64, TAG_RELOCATABLE) = range(11)
INFO2_COMMAND_LINE, INFO2_LOADER, INFO2_MODULE, INFO2_MEMORY, INFO2_MAP = 1, 2, 3, 4, 6
INFO2_OLD_RSDP, INFO2_NEW_RSDP = 14, 15
LAST_KNOWN_INFO2 = 21


class Addresses(NamedTuple):
    """The fields of a header that stand in for an ELF header; 0 for `load_end` is the end of the file."""

    header: int
    load: int
    load_end: int
    bss_end: int


class Header(NamedTuple):
    """A multiboot header: `version` 1 or 2, `offset` in the file, and what it asks for."""

    version: int
    offset: int
    needs: int = 0                   # version 1: its flags
    addresses: Addresses | None = None
    entry: int | None = None


def find_header(data: bytes) -> tuple[int, int] | None:
    """(version, offset in the file) of the multiboot header of `data`, version 2 if it has both; None where it has none."""
    for version, magic, search, align in ((2, MAGIC2, SEARCH2, 8), (1, MAGIC1, SEARCH1, 4)):
        head = bytes(data[:search])
        pattern = magic.to_bytes(4, "little")
        place = head.find(pattern)
        while place >= 0:
            words = 16 if version == 2 else 12
            if place % align == 0 and place + words <= len(head):
                if sum(struct.unpack_from(f"<{words // 4}I", head, place)) & 0xFFFFFFFF == 0:
                    return version, place
            place = head.find(pattern, place + 1)
    return None


def parse_header(name: str, data: bytes) -> Header:
    """The multiboot header of `data`; ImageError where there is none, or it asks for what cannot be given."""
    found = find_header(data)
    if found is None:
        raise ImageError(name, "no multiboot header", "one in the first 8 KiB (version 1) or 32 KiB (version 2)",
                         "put the header's section first in the linker script")
    version, offset = found
    return _parse1(name, data, offset) if version == 1 else _parse2(name, data, offset)


def _parse1(name: str, data: bytes, offset: int) -> Header:
    flags = int.from_bytes(data[offset + 4:offset + 8], "little")
    unknown = flags & 0xFFFF & ~KNOWN_NEEDS1
    if unknown:
        raise ImageError(name, f"its multiboot header requires features {unknown:#x}", "features 0x7 of Multiboot 0.6.96")
    if not flags & HAS_ADDRESSES:
        return Header(1, offset, flags)
    if len(data) < offset + 32:
        raise ImageError(name, "truncated in its multiboot header")
    header, load, load_end, bss_end, entry = struct.unpack_from("<IIIII", data, offset + 12)
    return Header(1, offset, flags, Addresses(header, load, load_end, bss_end), entry)


def _parse2(name: str, data: bytes, offset: int) -> Header:
    _, architecture, length, _ = struct.unpack_from("<IIII", data, offset)
    if architecture != 0:
        raise ImageError(name, f"a multiboot 2 kernel for architecture {architecture}", "0, i386")
    if length < 16 or offset + length > min(len(data), SEARCH2):
        raise ImageError(name, f"a multiboot 2 header of {length} bytes", f"all of it in the first {SEARCH2} bytes of the file")
    addresses, entry = None, None
    place, end = offset + 16, offset + length
    while place + 8 <= end:
        kind, flags, size = struct.unpack_from("<HHI", data, place)
        optional = bool(flags & 1)
        if kind == TAG_END:
            break
        if size < 8 or place + size > end:
            raise ImageError(name, f"a multiboot 2 tag of {size} bytes that runs over the header's end")
        if kind == TAG_ADDRESS and size >= 24:
            addresses = Addresses(*struct.unpack_from("<IIII", data, place + 8))
        elif kind == TAG_ENTRY and size >= 12:
            entry = int.from_bytes(data[place + 8:place + 12], "little")
        elif kind == TAG_REQUEST:
            asked = struct.unpack_from(f"<{(size - 8) // 4}I", data, place + 8)
            if not optional and any(info > LAST_KNOWN_INFO2 for info in asked):
                raise ImageError(name, f"requires multiboot 2 information {max(asked)}", f"0..{LAST_KNOWN_INFO2}")
        elif kind in (TAG_ADDRESS, TAG_ENTRY) or kind > TAG_RELOCATABLE and not optional:
            raise ImageError(name, f"requires multiboot 2 tag {kind} of {size} bytes", "tags of Multiboot 2.0")
        place += (size + 7) & ~7
    if addresses is not None and entry is None:
        raise ImageError(name, "a multiboot 2 address tag without an entry address tag")
    return Header(2, offset, 0, addresses, entry)


def load_multiboot(name: str, data: bytes, platform: Platform) -> BootPlan:
    """The plan that boots the multiboot kernel `data`: 32-bit protected mode, eax = magic, ebx = the information."""
    header = parse_header(name, data)
    layout = Layout(name, platform.e820)
    # Version 1 says that flag 16 overrides an ELF header; version 2 says the same of its address tag.
    if header.addresses is not None:
        entry, end = header.entry, _load_flat(layout, header, data)
    elif is_elf(data):
        elf = parse_elf(name, data)
        _check_cpu(name, elf, platform)
        end = load_segments(layout, elf, data)
        entry = header.entry if header.entry is not None else physical_entry(layout, elf)
    else:
        raise ImageError(name, "a multiboot header without addresses, in a file that is no ELF image", "an ELF image",
                         "set flag 16 of the header and fill its addresses, or link an ELF image")
    if entry is None or entry >= 1 << 32:
        raise ImageError(name, "its entry point lies above 4 GiB", "a 32-bit address")
    modules = [(layout.put_module(module, end), len(module.data), module.command_line) for module in platform.modules]
    build = _information1 if header.version == 1 else _information2
    information = build(layout, platform, modules)
    gdt = layout.put(flat_gdt(False), what="the GDT")
    registers = {"rax": BOOT_MAGIC1 if header.version == 1 else BOOT_MAGIC2, "rbx": information}
    return layout.finish(f"multiboot{header.version}", protected_entry(entry, 0, registers, gdt))


def _check_cpu(name: str, elf: Elf, platform: Platform) -> None:
    if elf.machine == EM_X86_64 and not platform.cpu.long_mode:
        raise BootError(name, f"a 64-bit kernel, and {platform.cpu.name} has no long mode",
                        mend="choose another --cpu (v1, v2), or a 32-bit kernel")


def _load_flat(layout: Layout, header: Header, data: bytes) -> int:
    """Loads by the header's addresses; gives the first address after the kernel."""
    at = header.addresses
    assert at is not None
    start = header.offset - (at.header - at.load)
    if at.load > at.header or start < 0:
        raise ImageError(layout.name, f"its multiboot header says it lies at {at.header:#x}, loaded from {at.load:#x}",
                         "addresses that fit the file", "check the header's addresses")
    length = at.load_end - at.load if at.load_end else len(data) - start
    if length <= 0 or start + length > len(data):
        raise ImageError(layout.name, f"truncated: its multiboot header asks for {length} bytes from {start}, the file has {len(data)}",
                         "addresses that fit the file", "build or get it again")
    memory = max(length, at.bss_end - at.load) if at.bss_end else length
    layout.load(at.load, data[start:start + length], memory)
    return at.load + memory


def _information1(layout: Layout, platform: Platform, modules: list[tuple[int, int, bytes]]) -> int:
    entries = b""
    for place, size, line in modules:
        entries += struct.pack("<IIII", place, place + size, layout.put(line + b"\0", what="a module's command line"), 0)
    module_list = layout.put(entries, what="the list of modules") if entries else 0
    memory_map = b"".join(struct.pack("<IQQI", 20, entry.base, entry.size, entry.type) for entry in platform.e820)
    map_place = layout.put(memory_map, what="the memory map")
    command_line = layout.put(platform.command_line + b"\0", what="the command line")
    loader = layout.put(LOADER_NAME, what="the loader's name")
    flags = INFO1_MEMORY | INFO1_COMMAND_LINE | INFO1_MODULES | INFO1_MAP | INFO1_LOADER
    information = bytearray(120)
    struct.pack_into("<III", information, 0, flags, lower_bytes(platform.e820) >> 10,
                     min(upper_bytes(platform.e820) >> 10, 0xFFFFFFFF))
    struct.pack_into("<III", information, 16, command_line, len(modules), module_list)
    struct.pack_into("<II", information, 44, len(memory_map), map_place)
    struct.pack_into("<I", information, 64, loader)
    return layout.put(bytes(information), what="the multiboot information")


def _information2(layout: Layout, platform: Platform, modules: list[tuple[int, int, bytes]]) -> int:
    def tag(kind: int, body: bytes) -> bytes:
        return struct.pack("<II", kind, 8 + len(body)) + body + bytes(-len(body) % 8)

    tags = tag(INFO2_COMMAND_LINE, platform.command_line + b"\0") + tag(INFO2_LOADER, LOADER_NAME)
    for place, size, line in modules:
        tags += tag(INFO2_MODULE, struct.pack("<II", place, place + size) + line + b"\0")
    tags += tag(INFO2_MEMORY, struct.pack("<II", lower_bytes(platform.e820) >> 10,
                                          min(upper_bytes(platform.e820) >> 10, 0xFFFFFFFF)))
    entries = b"".join(struct.pack("<QQII", entry.base, entry.size, entry.type, 0) for entry in platform.e820)
    tags += tag(INFO2_MAP, struct.pack("<II", 24, 0) + entries)
    if len(platform.rsdp) >= 36:
        tags += tag(INFO2_NEW_RSDP, platform.rsdp[:36])
    if len(platform.rsdp) >= 20:
        tags += tag(INFO2_OLD_RSDP, platform.rsdp[:20])
    tags += tag(TAG_END, b"")
    return layout.put(struct.pack("<II", 8 + len(tags), 0) + tags, 8, what="the multiboot information")
