# A virtio driver in Python, as VIRTIO 1.2 tells a driver to behave, over guest memory and the device's BAR.
import struct

from emu.base.clock import Clock
from emu.devices.pci.bus import HostBridge, PciBus
from emu.memory.ports import Ports
from emu.memory.space import PhysicalMemory

MIB = 1 << 20
BAR = 0xE0000000
COMMON, ISR, DEVICE, NOTIFY = 0, 0x1000, 0x2000, 0x3000
NEXT, WRITE, INDIRECT = 1, 2, 4
VERSION_1, EVENT_INDEX, INDIRECT_FEATURE = 1 << 32, 1 << 29, 1 << 28


class Board:
    """A bus with one virtio device, made by `make(bus, slot, memory, clock)`."""

    def __init__(self, make):
        self.clock = Clock()
        self.memory = PhysicalMemory(64 * MIB)
        self.ports = Ports()
        self.bus = PciBus(self.memory, self.ports)
        self.ports.map(0xCF8, self.bus.region)
        HostBridge(self.bus)
        self.device = make(self.bus, 3, self.memory, self.clock)
        self.bus.assign_resources(BAR, 0xFEB00000, 0xC000, 0x10000)
        self.bar = self.device.bars[4][0]
        self.msix = self.device.bars[1][0]

    def get(self, offset, size):
        return self.memory.read(self.bar + offset, size)

    def put(self, offset, size, value):
        self.memory.write(self.bar + offset, size, value)

    def wait(self, ns=1_000_000):
        self.clock.advance(self.clock.now_ns + ns)

    def start(self, features=VERSION_1, size=8, vectors=False):
        """Initialises the device (3.1.1) and all its queues; returns them."""
        self.put(COMMON + 20, 1, 0)
        assert self.get(COMMON + 20, 1) == 0
        self.put(COMMON + 20, 1, 1)
        self.put(COMMON + 20, 1, 3)
        for half in range(2):
            self.put(COMMON + 8, 4, half)
            self.put(COMMON + 12, 4, features >> (32 * half) & 0xFFFFFFFF)
        self.put(COMMON + 20, 1, 0x0B)
        assert self.get(COMMON + 20, 1) == 0x0B
        queues = [Queue(self, number, size, features, vectors) for number in range(self.get(COMMON + 18, 2))]
        self.put(COMMON + 20, 1, 0x0F)
        return queues


class Queue:
    def __init__(self, board, number, size, features, vectors):
        self.board, self.number, self.size, self.features = board, number, size, features
        base = 0x100000 + number * 0x10000
        self.table, self.available, self.used, self.indirect = base, base + 0x2000, base + 0x4000, base + 0x8000
        self.index = self.taken = 0
        board.memory.physical[base:base + 0x10000] = bytes(0x10000)
        board.put(22, 2, number)
        board.put(24, 2, size)
        assert board.get(24, 2) == size
        if vectors:
            board.put(26, 2, number + 1)
            assert board.get(26, 2) == number + 1
        for offset, address in ((32, self.table), (40, self.available), (48, self.used)):
            board.put(offset, 4, address)
            board.put(offset + 4, 4, 0)
        board.put(28, 2, 1)

    def descriptor(self, place, address, length, flags=0, following=0, table=None):
        start = (self.table if table is None else table) + 16 * place
        self.board.memory.physical[start:start + 16] = struct.pack("<QIHH", address, length, flags, following)

    def chain(self, segments, first=0, indirect=False):
        """Writes a chain of (address, length, writable) and returns its head."""
        table = self.indirect if indirect else None
        base = 0 if indirect else first
        for k, (address, length, writable) in enumerate(segments):
            last = k == len(segments) - 1
            self.descriptor(base + k, address, length, (WRITE if writable else 0) | (0 if last else NEXT),
                            0 if last else base + k + 1, table)
        if indirect:
            self.descriptor(first, self.indirect, 16 * len(segments), INDIRECT)
        return first

    def offer(self, head, notify=True):
        memory = self.board.memory.physical
        place = self.available + 4 + 2 * (self.index % self.size)
        memory[place:place + 2] = struct.pack("<H", head)
        self.index += 1
        memory[self.available + 2:self.available + 4] = struct.pack("<H", self.index & 0xFFFF)
        if notify:
            self.board.put(NOTIFY + 4 * self.number, 2, self.number)

    def take(self):
        """The used elements since the last call, as (head, length)."""
        memory = self.board.memory.physical
        end = struct.unpack("<H", memory[self.used + 2:self.used + 4])[0]
        got = []
        while self.taken != end:
            place = self.used + 4 + 8 * (self.taken % self.size)
            got.append(struct.unpack("<II", memory[place:place + 8]))
            self.taken = (self.taken + 1) & 0xFFFF
        return got

    def run(self, segments, **options):
        """Offers one chain, waits, and returns the length it was used with."""
        self.offer(self.chain(segments, **options))
        self.board.wait()
        (head, length), = self.take()
        assert head == options.get("first", 0)
        return length
