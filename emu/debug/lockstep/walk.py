# The page walk in Python, without side effects: from a state's control registers and a way to read physical memory.
from collections.abc import Callable, Mapping

ReadPhysical = Callable[[int, int], bytes]

_CR0_PG, _CR4_PSE, _CR4_PAE, _EFER_LMA = 1 << 31, 1 << 4, 1 << 5, 1 << 10
_PRESENT, _LARGE = 1, 0x80


def walk(read: ReadPhysical, values: Mapping[str, int], linear: int) -> int | None:
    """The physical address of a linear one under these cr0, cr3, cr4, efer; None where no page is present (SDM 3A 4.3..4.5).

    Permissions are not checked: this is for looking. Five-level paging is not known here.
    """
    levels: tuple[int, ...]
    if not values["cr0"] & _CR0_PG:
        return linear & 0xFFFFFFFF
    if values["efer"] & _EFER_LMA:
        table, levels, size, bits = values["cr3"] & 0xFFFFFFFFFF000, (39, 30, 21, 12), 8, 9
    elif values["cr4"] & _CR4_PAE:
        linear &= 0xFFFFFFFF
        entry = int.from_bytes(read((values["cr3"] & 0xFFFFFFE0) + (linear >> 30) * 8, 8), "little")
        if not entry & _PRESENT:
            return None
        table, levels, size, bits = entry & 0xFFFFFFFFFF000, (21, 12), 8, 9
    else:
        linear &= 0xFFFFFFFF
        table, levels, size, bits = values["cr3"] & 0xFFFFF000, (22, 12), 4, 10
    for shift in levels:
        index = linear >> shift & (1 << bits) - 1
        data = read(table + index * size, size)
        if len(data) < size:
            return None
        entry = int.from_bytes(data, "little")
        if not entry & _PRESENT:
            return None
        if shift == 12 or (entry & _LARGE and shift < 39 and (size == 8 or values["cr4"] & _CR4_PSE)):
            frame = entry & 0xFFFFFFFFFF000 & ~((1 << shift) - 1)
            if size == 4 and shift == 22:
                frame |= (entry >> 13 & 0xFF) << 32             # PSE-36
            return frame | linear & (1 << shift) - 1
        table = entry & 0xFFFFFFFFFF000
    return None


def linear_rip(values: Mapping[str, int]) -> int:
    """The linear address of the next instruction: CS.base counts except in 64-bit mode."""
    if is_64_bit(values):
        return values["rip"]
    return (values["cs.base"] + values["rip"]) & 0xFFFFFFFF


def is_64_bit(values: Mapping[str, int]) -> bool:
    """CS.L under an active long mode."""
    return bool(values["cs.flags"] & 1 << 21 and values["efer"] & _EFER_LMA)


def code_bits(values: Mapping[str, int]) -> int:
    """16, 32 or 64: how the next instruction decodes."""
    if is_64_bit(values):
        return 64
    return 32 if values["cs.flags"] & 1 << 22 and values["cr0"] & 1 and not values["rflags"] & 1 << 17 else 16


def read_linear(read: ReadPhysical, values: Mapping[str, int], linear: int, size: int) -> bytes:
    """Up to `size` bytes at a linear address; fewer where a page is missing."""
    data = b""
    while len(data) < size:
        chunk = min(size - len(data), 4096 - (linear + len(data)) % 4096)
        physical = walk(read, values, linear + len(data))
        if physical is None:
            break
        piece = read(physical, chunk)
        data += piece
        if len(piece) < chunk:
            break
    return data
