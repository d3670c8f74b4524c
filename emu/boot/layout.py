# Where things go in memory: claims of fixed places and free places found, never one over another.
from emu.base.errors import BootError, ImageError
from emu.boot.e820 import HIGH_BASE, E820Entry, usable
from emu.boot.plan import BootPlan, Entry, Module

# Below this lie the interrupt vectors, the BIOS data area and (by habit) the boot sector.
LOW_START = 0x8000


class Layout:
    """Collects the writes of one boot; `name` (of the kernel file) is the subject of its errors."""

    def __init__(self, name: str, e820: tuple[E820Entry, ...]) -> None:
        self.name = name
        self._usable = usable(e820)
        self._taken: list[tuple[int, int]] = []
        self._writes: list[tuple[int, bytes]] = []
        self._zeros: list[tuple[int, int]] = []

    def claim(self, base: int, size: int, what: str = "the kernel") -> None:
        """Takes [base, base + size) for good; BootError where that is not all usable RAM, ImageError where it is taken."""
        if size == 0:
            return
        end, place = base + size, base
        for entry in self._usable:
            if entry.base <= place < entry.end:
                place = entry.end
        if place < end:
            raise BootError(self.name, f"{what} goes to {base:#x}..{end - 1:#x}, where this machine has no usable memory",
                            f"usable: {self.describe()}", "give the machine more --memory, or link the kernel elsewhere")
        for taken_base, taken_end in self._taken:
            if base < taken_end and taken_base < end:
                raise ImageError(self.name, f"parts of it lie over each other at {max(base, taken_base):#x}",
                                 "each part to have addresses of its own", "check how the image was linked")
        self._taken.append((base, end))

    def describe(self) -> str:
        """The usable memory, for messages."""
        return ", ".join(f"{entry.base:#x}..{entry.end - 1:#x}" for entry in self._usable) or "none"

    def load(self, base: int, data: bytes, memory_size: int | None = None, what: str = "the kernel") -> None:
        """Claims `memory_size` bytes (by default what `data` needs) at `base`: `data`, then zeros."""
        size = len(data) if memory_size is None else memory_size
        self.claim(base, size, what)
        self.write(base, data)
        if size > len(data):
            self._zeros.append((base + len(data), size - len(data)))

    def write(self, base: int, data: bytes) -> None:
        """Bytes for a place that is claimed already."""
        if data:
            self._writes.append((base, bytes(data)))

    def place(self, size: int, align: int = 16, start: int = LOW_START, end: int = 1 << 32, highest: bool = False) -> int | None:
        """Takes a free place of `size` bytes within [start, end): the lowest, or the highest; None where there is none."""
        found = None
        for low, high in self._gaps():
            low, high = max(low, start), min(high, end)
            base = (high - size) // align * align if highest else (low + align - 1) // align * align
            if low <= base and base + size <= high:
                found = base
                if not highest:
                    break
        if found is not None:
            self._taken.append((found, found + size))
        return found

    def reserve(self, size: int, align: int = 16, start: int = LOW_START, end: int = 1 << 32, what: str = "boot data") -> int:
        """The lowest free address for `size` bytes, taken; BootError where there is no room."""
        base = self.place(size, align, start, end)
        if base is None:
            raise BootError(self.name, f"no room for {what}, {size} bytes", f"usable: {self.describe()}",
                            "give the machine more --memory")
        return base

    def put(self, data: bytes, align: int = 16, end: int = 1 << 32, what: str = "boot data") -> int:
        """Writes `data` to the lowest free address and gives it; BootError where there is no room."""
        base = self.reserve(len(data), align, end=end, what=what)
        self.write(base, data)
        return base

    def put_module(self, module: Module, kernel_end: int) -> int:
        """Writes a module to pages of its own after the kernel and gives the address; BootError where there is no room."""
        base = self.place(len(module.data), 4096, max(kernel_end, HIGH_BASE))
        if base is None:
            raise BootError(module.name, f"{len(module.data)} bytes do not fit in the machine's memory",
                            f"usable: {self.describe()}", "give the machine more --memory")
        self.write(base, module.data)
        return base

    def _gaps(self) -> list[tuple[int, int]]:
        gaps = []
        for entry in self._usable:
            low = entry.base
            for taken_base, taken_end in sorted(self._taken):
                if taken_end <= low or taken_base >= entry.end:
                    continue
                if taken_base > low:
                    gaps.append((low, taken_base))
                low = taken_end
            if low < entry.end:
                gaps.append((low, entry.end))
        return gaps

    def finish(self, kind: str, entry: Entry) -> BootPlan:
        return BootPlan(kind, entry, self._writes, self._zeros)
