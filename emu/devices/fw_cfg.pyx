# The firmware configuration device: items of bytes by key, from which firmware and test kernels learn what the machine has.
# Source: QEMU's docs/specs/fw_cfg; its traditional interface (a selector and a data port), without DMA and without writing.
import cython

from emu.base.errors import SnapshotError
from emu.base.state cimport declare_state
from emu.base.types cimport u8, u16, u32, u64
from emu.memory.space cimport Region, region

SIGNATURE = 0x00                 # "QEMU"
ID = 0x01                        # bit 0: the traditional interface
UUID = 0x02
RAM_SIZE = 0x03                  # bytes, 8 bytes little-endian
NOGRAPHIC = 0x04
CPUS = 0x05                      # present at power-on, 2 bytes little-endian
MAX_CPUS = 0x0F
FILE_DIR = 0x19                  # a big-endian count of files, then their names

cdef enum:
    KEYS = 0x40
    DATA = 1                     # the offset of the data port


cdef struct FwCfgState:
    u16 selected
    u32 offset                   # of the next byte of the selected item
    u32 length[KEYS]
    const u8* data[KEYS]


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    cdef FwCfgState* state = <FwCfgState*>owner
    cdef u32 place = state.offset
    if offset != DATA or state.selected >= KEYS or place >= state.length[state.selected]:
        return 0
    state.offset += 1
    return state.data[state.selected][place]


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef FwCfgState* state = <FwCfgState*>owner
    if offset == 0 and size == 2:
        state.selected = <u16>value
        state.offset = 0


@cython.final
cdef class FwCfg:
    """fw_cfg with the `items` (bytes by key, key < 64); what is not there, or behind an item's end, reads as 0."""
    cdef FwCfgState state
    cdef dict _items
    cdef readonly object fields
    cdef readonly Region region

    def __init__(self, dict items not None):
        cdef bytes data
        self._items = {}
        for key, content in items.items():
            if not 0 <= key < KEYS:
                raise ValueError(f"key {key:#x}: 0..{KEYS - 1:#x} wanted")
            data = self._items[key] = bytes(content)
            self.state.length[<int>key] = <u32>len(data)
            self.state.data[<int>key] = data
        self.region = region("fw_cfg", 2, _read, _write, &self.state, self)
        fields = declare_state("fw_cfg", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        fields.add("selected", "u16", &self.state.selected)
        fields.add("offset", "u32", &self.state.offset)
        self.fields = fields

    def _validate(self):
        if self.state.selected < KEYS and self.state.offset > self.state.length[self.state.selected]:
            raise SnapshotError("fw_cfg.offset", str(self.state.offset), "a place in the selected item")

    def reset(self):
        """Selects the signature."""
        self.state.selected = 0
        self.state.offset = 0


def describe_machine(ram_bytes, cpus):
    """The items of a machine with `ram_bytes` of RAM and `cpus` processors."""
    count = cpus.to_bytes(2, "little")
    return {SIGNATURE: b"QEMU", ID: (1).to_bytes(4, "little"), UUID: bytes(16), RAM_SIZE: ram_bytes.to_bytes(8, "little"),
            NOGRAPHIC: (1).to_bytes(2, "little"), CPUS: count, MAX_CPUS: count, FILE_DIR: bytes(4)}
