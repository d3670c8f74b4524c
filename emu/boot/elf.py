# ELF images: parsing, and booting them directly (PVH where they carry its note, else at their entry point).
#
# Source: the System V ABI (ELF-32/64 object file format) and Xen's docs/misc/pvh.pandoc and
# public/arch-x86/hvm/start_info.h for PVH.
import struct
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

ELF_MAGIC = b"\x7fELF"
EM_386, EM_X86_64 = 3, 62
ET_EXEC = 2
TYPE_NAMES = {0: "no type", 1: "a relocatable object", 3: "a shared object or position-independent program", 4: "a core dump"}
MACHINE_NAMES = {2: "SPARC", 8: "MIPS", 20: "PowerPC", 21: "64-bit PowerPC", 22: "S390", 40: "Arm", 183: "64-bit Arm",
                 243: "RISC-V", 258: "LoongArch"}
PT_LOAD, PT_INTERP, PT_NOTE = 1, 3, 4
MOST_PROGRAM_HEADERS = 128
XEN_ELFNOTE_PHYS32_ENTRY = 18
START_INFO_MAGIC = 0x336EC578
STACK_BYTES = 4096


class ElfSegment(NamedTuple):
    """One program header."""

    type: int
    offset: int
    virtual: int
    physical: int
    file_bytes: int
    memory_bytes: int
    align: int


class Elf(NamedTuple):
    """The parts of an ELF header that loaders use."""

    bits: int
    machine: int
    type: int
    entry: int
    segments: tuple[ElfSegment, ...]


def is_elf(data: bytes) -> bool:
    return bytes(data[:4]) == ELF_MAGIC


def parse_elf(name: str, data: bytes) -> Elf:
    """The headers of the ELF image `data`; ImageError where they are truncated or contradict themselves."""

    def corrupt(value: str) -> ImageError:
        return ImageError(name, value, "an ELF image", "get or build it again")

    if not is_elf(data) or len(data) < 20:
        raise corrupt("truncated in its ELF header" if is_elf(data) else "no ELF header")
    if data[5] != 1 or data[4] not in (1, 2):
        raise corrupt(f"an ELF header of class {data[4]} and byte order {data[5]}")
    bits = 32 * data[4]
    kind, machine = struct.unpack_from("<HH", data, 16)
    if machine not in (EM_386, EM_X86_64):
        raise ImageError(name, f"an ELF image for {MACHINE_NAMES.get(machine, f'machine {machine}')}", "one for x86",
                         "build it for i386 or x86-64")
    if len(data) < (52 if bits == 32 else 64):
        raise corrupt("truncated in its ELF header")
    entry, table, _, _, _, size, count = struct.unpack_from("<IIIIHHH" if bits == 32 else "<QQQIHHH", data, 24)
    form = "<IIIIIIII" if bits == 32 else "<IIQQQQQQ"
    if count > MOST_PROGRAM_HEADERS:
        raise corrupt(f"{count} program headers")
    if count and size < struct.calcsize(form):
        raise corrupt(f"program headers of {size} bytes")
    if count and table + size * count > len(data):
        raise corrupt(f"truncated in its program headers, at {len(data)} bytes")
    segments = []
    for number in range(count):
        fields = struct.unpack_from(form, data, table + number * size)
        if bits == 32:
            type_, offset, virtual, physical, file_bytes, memory_bytes, _, align = fields
        else:
            type_, _, offset, virtual, physical, file_bytes, memory_bytes, align = fields
        segment = ElfSegment(type_, offset, virtual, physical, file_bytes, memory_bytes, align)
        if type_ == PT_LOAD:
            if file_bytes > memory_bytes:
                raise corrupt(f"segment {number} is larger in the file than in memory")
            if offset + file_bytes > len(data):
                raise corrupt(f"truncated: segment {number} ends at {offset + file_bytes}, the file at {len(data)}")
        segments.append(segment)
    return Elf(bits, machine, kind, entry, tuple(segments))


def find_pvh_entry(elf: Elf, data: bytes) -> int | None:
    """The 32-bit entry point that the PVH note of `elf` names, None where it has no such note."""
    for segment in elf.segments:
        if segment.type != PT_NOTE or segment.offset + segment.file_bytes > len(data):
            continue
        notes = data[segment.offset:segment.offset + segment.file_bytes]
        align = 8 if segment.align == 8 else 4
        place = 0
        while place + 12 <= len(notes):
            name_bytes, value_bytes, kind = struct.unpack_from("<III", notes, place)
            value_place = -(-(place + 12 + name_bytes) // align) * align
            owner = notes[place + 12:place + 12 + name_bytes]
            value = notes[value_place:value_place + value_bytes]
            if kind == XEN_ELFNOTE_PHYS32_ENTRY and owner.rstrip(b"\0") == b"Xen" and len(value) == value_bytes in (4, 8):
                return int.from_bytes(value, "little")
            place = -(-(value_place + value_bytes) // align) * align
    return None


def load_segments(layout: Layout, elf: Elf, data: bytes) -> int:
    """Claims and writes every PT_LOAD segment at its physical address; gives the first address after them all."""
    end = 0
    for segment in elf.segments:
        if segment.type == PT_LOAD and segment.memory_bytes:
            layout.load(segment.physical, data[segment.offset:segment.offset + segment.file_bytes], segment.memory_bytes)
            end = max(end, segment.physical + segment.memory_bytes)
    if end == 0:
        raise ImageError(layout.name, "nothing in it is to be loaded", "an ELF image with PT_LOAD segments", "link it as a kernel")
    return end


def physical_entry(layout: Layout, elf: Elf) -> int:
    """The entry point as a physical address (kernels are often linked high and loaded low)."""
    loaded = [segment for segment in elf.segments if segment.type == PT_LOAD and segment.memory_bytes]
    for segment in loaded:
        if segment.virtual <= elf.entry < segment.virtual + segment.memory_bytes:
            return elf.entry - segment.virtual + segment.physical
    for segment in loaded:
        if segment.physical <= elf.entry < segment.physical + segment.memory_bytes:
            return elf.entry
    raise ImageError(layout.name, f"its entry point {elf.entry:#x} is in no segment", "an entry point within the kernel",
                     "check ENTRY() of its linker script")


def check_is_kernel(name: str, elf: Elf) -> None:
    """Refuses what is no program for a bare machine."""
    if elf.type != ET_EXEC:
        raise ImageError(name, f"{TYPE_NAMES.get(elf.type, f'ELF type {elf.type}')}, not a kernel", "an ELF executable",
                         "link it with fixed addresses (-no-pie, a linker script)")
    if any(segment.type == PT_INTERP for segment in elf.segments):
        raise ImageError(name, "a program for an operating system (it asks for a dynamic linker), not a kernel",
                         "a kernel", "link it with -static -nostdlib and a linker script")


def load_elf(name: str, data: bytes, platform: Platform) -> BootPlan:
    """The plan that boots the ELF image `data`.

    With a PVH note: in 32-bit protected mode with ebx = hvm_start_info. Without one: at the entry point of the file, ELF32
    in the same state, ELF64 in 64-bit mode with the first 4 GiB mapped to themselves and rdi = hvm_start_info.
    """
    elf = parse_elf(name, data)
    check_is_kernel(name, elf)
    pvh_entry = find_pvh_entry(elf, data)
    in_long_mode = elf.bits == 64 and pvh_entry is None
    if elf.machine == EM_X86_64 and not platform.cpu.long_mode:
        raise BootError(name, f"a 64-bit kernel, and {platform.cpu.name} has no long mode",
                        mend="choose another --cpu (v1, v2), or a 32-bit kernel")
    layout = Layout(name, platform.e820)
    end = load_segments(layout, elf, data)
    start_info = _put_start_info(layout, platform, end)
    gdt = layout.put(flat_gdt(in_long_mode), what="the GDT")
    stack = layout.reserve(STACK_BYTES, 4096, what="the first stack") + STACK_BYTES
    if not in_long_mode:
        entry = pvh_entry if pvh_entry is not None else physical_entry(layout, elf)
        if entry >= 1 << 32:
            raise ImageError(name, f"its entry point {entry:#x} lies above 4 GiB", "a 32-bit address")
        kind = "elf32" if pvh_entry is None else "pvh"
        return layout.finish(kind, protected_entry(entry, stack, {"rbx": start_info}, gdt))
    entry = physical_entry(layout, elf)
    if entry >= 1 << 32:
        raise ImageError(name, f"its entry point {entry:#x} lies above 4 GiB", "an address in the first 4 GiB")
    tables = layout.reserve(PAGE_TABLES_BYTES, 4096, what="page tables")
    layout.write(tables, identity_page_tables(tables))
    return layout.finish("elf64", long_entry(entry, stack, {"rdi": start_info}, gdt, tables))


def _put_start_info(layout: Layout, platform: Platform, kernel_end: int) -> int:
    """hvm_start_info, version 1, with all it points to."""
    modules = b""
    for module in platform.modules:
        place = layout.put_module(module, kernel_end)
        command_line = layout.put(module.command_line + b"\0", what="a module's command line")
        modules += struct.pack("<QQQQ", place, len(module.data), command_line, 0)
    memory_map = b"".join(struct.pack("<QQII", entry.base, entry.size, entry.type, 0) for entry in platform.e820)
    modules_place = layout.put(modules, what="the list of modules") if modules else 0
    map_place = layout.put(memory_map, what="the memory map")
    command_line = layout.put(platform.command_line + b"\0", what="the command line")
    return layout.put(struct.pack("<IIIIQQQQII", START_INFO_MAGIC, 1, 0, len(platform.modules), modules_place, command_line,
                                  platform.rsdp_address, map_place, len(platform.e820), 0), what="hvm_start_info")
