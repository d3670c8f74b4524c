# What device tests share: a bus with one region on it, and a listener on a wire.
from emu.base.line import python_listener
from emu.memory.ports import Ports
from emu.memory.space import PhysicalMemory

WINDOW = 0xFEC00000


class PortFace:
    """One region as the CPU reaches it through I/O ports: `read(offset, size=1)`, `write(offset, value, size=1)`."""

    def __init__(self, region):
        self.ports = Ports()
        self.ports.map(0x100, region)

    def read(self, offset, size=1):
        return self.ports.read(0x100 + offset, size)

    def write(self, offset, value, size=1):
        self.ports.write(0x100 + offset, size, value)


class MemoryFace:
    """One region as the CPU reaches it through memory: `read(offset, size=4)`, `write(offset, value, size=4)`."""

    def __init__(self, region):
        self.memory = PhysicalMemory(1 << 20)
        self.memory.map(WINDOW, region)

    def read(self, offset, size=4):
        return self.memory.read(WINDOW + offset, size)

    def write(self, offset, value, size=4):
        self.memory.write(WINDOW + offset, size, value)


def listen(output):
    """Every level that `output` takes from now on, as a list that grows."""
    levels = []
    output.connect(python_listener(levels.append))
    return levels
