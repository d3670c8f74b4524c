# The memory map that firmware gives to a kernel (INT 15h, AX=E820h; ACPI 6.4, 15.1).
from collections.abc import Iterable
from typing import NamedTuple

USABLE = 1
RESERVED = 2
ACPI_RECLAIMABLE = 3
ACPI_NVS = 4

HIGH_BASE = 0x100000
FOUR_GIB = 1 << 32


class E820Entry(NamedTuple):
    """`size` bytes from physical address `base`, of one of the types above."""

    base: int
    size: int
    type: int = USABLE

    @property
    def end(self) -> int:
        return self.base + self.size


def build_e820(ram: Iterable[tuple[int, int]], other: Iterable[E820Entry] = ()) -> tuple[E820Entry, ...]:
    """The map of a machine: `ram` as (base, bytes), with `other` (reserved, ACPI) cut out of it; sorted, no overlaps.

    Raises ValueError where entries of `other` overlap each other.
    """
    taken = sorted((entry for entry in other if entry.size > 0), key=lambda entry: entry.base)
    for first, second in zip(taken, taken[1:]):
        if first.end > second.base:
            raise ValueError(f"{first} and {second} overlap")
    entries = list(taken)
    for base, size in ram:
        end = base + size
        for entry in taken:
            if entry.end <= base or entry.base >= end:
                continue
            if entry.base > base:
                entries.append(E820Entry(base, entry.base - base))
            base = min(entry.end, end)
        if base < end:
            entries.append(E820Entry(base, end - base))
    return tuple(sorted(entries, key=lambda entry: entry.base))


def usable(entries: Iterable[E820Entry]) -> list[E820Entry]:
    """The usable entries, in order of address."""
    return sorted((entry for entry in entries if entry.type == USABLE), key=lambda entry: entry.base)


def upper_bytes(entries: Iterable[E820Entry]) -> int:
    """How much usable memory lies from 1 MiB up without a gap (what multiboot calls upper memory)."""
    end = HIGH_BASE
    for entry in usable(entries):
        if entry.base <= end < entry.end:
            end = entry.end
    return end - HIGH_BASE


def lower_bytes(entries: Iterable[E820Entry]) -> int:
    """How much usable memory lies from address 0 up without a gap, below 640 KiB (multiboot's lower memory)."""
    end = 0
    for entry in usable(entries):
        if entry.base <= end < entry.end:
            end = entry.end
    return min(end, 640 << 10)
