# Images whose headers lie, booted on a machine: refused with an error that says so, or run like any other guest.
from __future__ import annotations

import pathlib
import random
import tempfile

from emu.base.errors import EmuError, InternalError
from emu.cpu.invariants import broken_invariants
from emu.machine.machine import Machine

from tests.boot.images import every_image

EDGES = (0, 1, 2, 7, 0x7F, 0xFF, 0x1000, 0x7FFF, 0xFFFF, 0x10000, 0x9FFFF, 0xA0000, 0xFFFFF, 0x100000, 0x7FFFFFFF, 0x80000000,
         0xBFFFFFFF, 0xC0000000, 0xFEE00000, 0xFFFFFFFF, 0x100000000, (1 << 52) - 1, 1 << 63, (1 << 64) - 1)
IMAGES = every_image()
MOST_SLICES = 50


def spoil(rng: random.Random, data: bytes) -> bytes:
    """The image with a few numbers of its headers replaced, now and then cut or made longer."""
    image = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        size = rng.choice((1, 2, 4, 8))
        at = rng.randrange(min(len(image), rng.choice((64, 256, 800)))) & ~(size - 1 if rng.random() < 0.8 else 0)
        value = rng.choice(EDGES) if rng.random() < 0.7 else rng.getrandbits(64)
        image[at:at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    if rng.random() < 0.15:
        del image[rng.randrange(len(image)):]
    elif rng.random() < 0.1:
        image += rng.randbytes(rng.randrange(1, 5000))
    return bytes(image)


def run_round(seed: str, count: int = 10) -> int:
    """Boots `count` images; gives how many were not refused. Anything but an EmuError that a user can cause goes through."""
    rng = random.Random(seed)
    booted = 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            name = rng.choice(sorted(IMAGES))
            path = pathlib.Path(folder) / f"image{number}"
            path.write_bytes(spoil(rng, IMAGES[name]))
            initrd = None
            if rng.random() < 0.3:
                initrd = pathlib.Path(folder) / "initrd"
                initrd.write_bytes(rng.randbytes(rng.choice((1, 4096, 70000))))
            try:
                machine = Machine(kernel=path, initrd=initrd, append="a" * rng.choice((0, 10, 3000)),
                                  memory=rng.choice((1, 2, 16, 64)) << 20,
                                  cpu=rng.choice(("v2", "pentium3", "486")), budget=20_000, on_triple_fault=rng.choice(("stop", "reset")))
            except InternalError:
                raise
            except EmuError:
                continue
            booted += 1
            with machine:
                for _ in range(MOST_SLICES):
                    if machine.run_slice() is not None or machine.idle_ns < 0:
                        break
                    machine.serial.read()
                broken = broken_invariants(machine.cpu[0])
                assert not broken, (name, broken[:5])
    return booted
