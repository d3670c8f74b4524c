# Linux bzImage: the 64-bit and the 32-bit boot protocol.
#
# Source: Documentation/arch/x86/boot.rst and zero-page.rst of Linux. The real-mode part of the kernel is not run: its
# questions to the BIOS are answered in boot_params.
from typing import NamedTuple

from emu.base.errors import BootError, ImageError
from emu.boot.layout import Layout
from emu.boot.plan import (
    PAGE_TABLES_BYTES,
    BootPlan,
    Platform,
    flat_gdt,
    identity_page_tables,
    long_entry,
    protected_entry,
)

HEADER_MAGIC = b"HdrS"
HEADER_START = 0x1F1
LOADED_HIGH = 1 << 0                 # of loadflags
XLF_KERNEL_64 = 1 << 0               # of xloadflags: there is a 64-bit entry point 0x200 after the start
SETUP_RNG_SEED = 9
UNDEFINED_LOADER = 0xFF
OLDEST_PROTOCOL = 0x0202             # the first with a pointer to the command line
E820_PLACES = 128

# Offsets in boot_params (the "zero page")
ACPI_RSDP_ADDRESS = 0x070
E820_COUNT = 0x1E8
E820_TABLE = 0x2D0
VIDEO_MODE = 0x1FA
TYPE_OF_LOADER = 0x210
CODE32_START = 0x214
RAMDISK_IMAGE = 0x218
RAMDISK_SIZE = 0x21C
COMMAND_LINE_POINTER = 0x228
SETUP_DATA = 0x250
BOOT_PARAMS_BYTES = 4096


class Header(NamedTuple):
    """What the setup header of a bzImage says; addresses physical, sizes in bytes."""

    protocol: int
    setup_bytes: int                 # of the file, before the protected-mode kernel
    kernel_bytes: int                # of the protected-mode kernel in the file
    header_end: int
    load_address: int                # where the kernel wants to be loaded and can run from
    memory_bytes: int                # from load_address on, until the kernel has read its memory map
    initrd_last: int                 # highest address that a byte of the initrd may have
    command_line_bytes: int          # without the terminator
    is_64bit: bool


def is_bzimage(data: bytes) -> bool:
    return bytes(data[0x202:0x206]) == HEADER_MAGIC


def parse_header(name: str, data: bytes) -> Header:
    """The setup header of `data`; ImageError where it is truncated, too old or contradicts itself."""

    def read(offset: int, size: int) -> int:
        return int.from_bytes(data[offset:offset + size], "little")

    def corrupt(value: str) -> ImageError:
        return ImageError(name, value, "a Linux bzImage", "get the kernel again")

    if len(data) < 0x268:
        raise corrupt(f"truncated in its setup header, at {len(data)} bytes")
    protocol = read(0x206, 2)
    if not is_bzimage(data) or read(0x1FE, 2) != 0xAA55:
        raise corrupt("no setup header")
    if protocol < OLDEST_PROTOCOL or not read(0x211, 1) & LOADED_HIGH:
        raise ImageError(name, f"boot protocol {protocol >> 8}.{protocol & 0xFF:02}, or a zImage that loads low",
                         "a bzImage of protocol 2.02 or later", "use a kernel of this century")
    header_end = 0x202 + read(0x201, 1)
    setup_bytes = ((read(HEADER_START, 1) or 4) + 1) * 512
    kernel_bytes = read(0x1F4, 4) * 16
    if protocol < 0x0204:
        kernel_bytes &= 0xFFFF * 16          # the upper half of syssize was not there yet
    if kernel_bytes == 0 or header_end > setup_bytes or not 0x22C <= header_end <= 0x290:
        raise corrupt("its setup header contradicts itself")
    if len(data) < setup_bytes + kernel_bytes:
        raise corrupt(f"truncated: {len(data)} bytes of {setup_bytes + kernel_bytes}")
    load_address = read(CODE32_START, 4) or 0x100000
    memory_bytes = kernel_bytes
    if protocol >= 0x020A:
        memory_bytes = max(kernel_bytes, read(0x260, 4))
        preferred = read(0x258, 8)
        if preferred and read(0x234, 1):      # relocatable: it would move itself there from any lower address
            load_address = preferred
    return Header(
        protocol, setup_bytes, kernel_bytes, header_end, load_address, memory_bytes,
        initrd_last=read(0x22C, 4) if protocol >= 0x0203 else 0x37FFFFFF,
        command_line_bytes=read(0x238, 4) if protocol >= 0x0206 else 255,
        is_64bit=protocol >= 0x020C and bool(read(0x236, 2) & XLF_KERNEL_64))


def load_linux(name: str, data: bytes, platform: Platform) -> BootPlan:
    """The plan that boots the bzImage `data`: by the 64-bit protocol where it has that entry, else by the 32-bit one."""
    header = parse_header(name, data)
    if header.is_64bit and not platform.cpu.long_mode:
        raise BootError(name, f"a 64-bit kernel, and {platform.cpu.name} has no long mode",
                        mend="choose another --cpu (v1, v2), or a 32-bit kernel")
    if len(platform.command_line) > header.command_line_bytes:
        raise BootError(name, f"the command line has {len(platform.command_line)} bytes",
                        f"this kernel takes {header.command_line_bytes}", "shorten --append")
    if len(platform.e820) > E820_PLACES:
        raise BootError(name, f"a memory map of {len(platform.e820)} entries", f"boot_params holds {E820_PLACES}")
    layout = Layout(name, platform.e820)
    _place_kernel(layout, header, data)
    initrd, initrd_bytes = _place_initrd(layout, header, platform)
    gdt = layout.put(flat_gdt(header.is_64bit), what="the GDT")
    command_line = layout.put(platform.command_line + b"\0", end=0xA0000, what="the command line")
    setup_data = _put_setup_data(layout, platform.seed) if header.protocol >= 0x0209 else 0

    params = bytearray(BOOT_PARAMS_BYTES)
    params[HEADER_START:header.header_end] = data[HEADER_START:header.header_end]

    def put(offset: int, size: int, value: int) -> None:
        params[offset:offset + size] = value.to_bytes(size, "little")

    put(ACPI_RSDP_ADDRESS, 8, platform.rsdp_address)
    put(VIDEO_MODE, 2, 0xFFFF)               # "normal"
    put(TYPE_OF_LOADER, 1, UNDEFINED_LOADER)
    put(CODE32_START, 4, header.load_address)
    put(RAMDISK_IMAGE, 4, initrd)
    put(RAMDISK_SIZE, 4, initrd_bytes)
    put(COMMAND_LINE_POINTER, 4, command_line)
    if setup_data:
        put(SETUP_DATA, 8, setup_data)
    put(E820_COUNT, 1, len(platform.e820))
    for number, entry in enumerate(platform.e820):
        put(E820_TABLE + 20 * number, 8, entry.base)
        put(E820_TABLE + 20 * number + 8, 8, entry.size)
        put(E820_TABLE + 20 * number + 16, 4, entry.type)
    boot_params = layout.put(bytes(params), 4096, end=0xA0000, what="boot_params")

    if not header.is_64bit:
        return layout.finish("linux32", protected_entry(header.load_address, 0, {"rsi": boot_params}, gdt))
    tables = layout.reserve(PAGE_TABLES_BYTES, 4096, end=0xA0000, what="page tables")
    layout.write(tables, identity_page_tables(tables))
    return layout.finish("linux64", long_entry(header.load_address + 0x200, 0, {"rsi": boot_params}, gdt, tables))


def _place_kernel(layout: Layout, header: Header, data: bytes) -> None:
    kernel = data[header.setup_bytes:header.setup_bytes + header.kernel_bytes]
    needed = f"it needs {header.memory_bytes >> 10} KiB from {header.load_address:#x} on to unpack itself"
    try:
        layout.claim(header.load_address, header.memory_bytes)
    except BootError:
        raise BootError(layout.name, "the machine has too little memory for this kernel",
                        f"{needed}; usable: {layout.describe()}",
                        f"--memory {(header.load_address + header.memory_bytes >> 20) + 16}M or more") from None
    layout.write(header.load_address, kernel)


def _place_initrd(layout: Layout, header: Header, platform: Platform) -> tuple[int, int]:
    """Puts the initrd (several are joined, as Linux reads archives that follow each other) as high as it may be."""
    initrd = b"".join(module.data + bytes(-len(module.data) % 4) for module in platform.modules[:-1])
    initrd += platform.modules[-1].data if platform.modules else b""
    if not initrd:
        return 0, 0
    end = min(header.initrd_last + 1, 1 << 32)
    place = layout.place(len(initrd), 4096, header.load_address + header.memory_bytes, end, highest=True)
    if place is None:
        raise BootError(platform.modules[0].name, f"{len(initrd)} bytes do not fit in the machine's memory",
                        f"between the kernel's end at {header.load_address + header.memory_bytes:#x} and {end:#x}; "
                        f"usable: {layout.describe()}", "give the machine more --memory")
    layout.write(place, initrd)
    return place, len(initrd)


def _put_setup_data(layout: Layout, seed: int) -> int:
    """A list of one: 32 bytes for the kernel's random number generator, a function of the machine's seed."""
    import hashlib          # here: a boot sector needs none of it
    random = hashlib.sha256(b"emu setup_data rng seed %d" % seed).digest()
    node = bytes(8) + SETUP_RNG_SEED.to_bytes(4, "little") + len(random).to_bytes(4, "little") + random
    return layout.put(node, end=0xA0000, what="setup_data")
