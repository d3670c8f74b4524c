# Random bytes through the decoder and the disassembler: no crash, every byte shown once, lengths that do not depend on what follows.
from __future__ import annotations

import random

from emu.cpu.decode import decode
from emu.cpu.disassemble import disassemble

from tests.cpu.test_decode import MAPS, PREFIXES, difference
from tests.fuzz.code import Writer

FEATURES = (None, (), (1, 2, 3))


def run_round(seed: str, count: int = 2000) -> int:
    """Random bytes in every mode; gives how many instructions were compared. Raises AssertionError."""
    rng = random.Random(seed)
    writer = Writer(rng, 100)
    for _ in range(count):
        mode = rng.choice((16, 32, 64))
        rex = bytes((rng.randrange(0x40, 0x50),)) if mode == 64 and rng.random() < 0.4 else b""
        data = (rng.choice(PREFIXES) + rex + rng.choice(MAPS) + rng.randbytes(15))[:15] if rng.random() < 0.8 else rng.randbytes(15)
        said = difference(data, mode)
        assert said is None, said
        check_lengths(data, mode, rng.choice(FEATURES))
    for _ in range(count // 50):
        mode = rng.choice((16, 32, 64))
        data = writer.code(mode, True, rng.randrange(1, 400)) if rng.random() < 0.5 else rng.randbytes(rng.randrange(400))
        address = rng.getrandbits(64)
        at = 0
        for where, shown, text in disassemble(data, mode, address):
            assert where == address + at & (1 << mode) - 1 and shown == data[at:at + len(shown)] and text, (data.hex(), mode, at)
            at += len(shown)
        assert at == len(data), (data.hex(), mode)
    return count


def check_lengths(data: bytes, mode: int, features) -> None:
    """What the first bytes say is the same whatever follows them; before the instruction's end it asks for more."""
    whole = decode(data, mode, features)
    for end in range(len(data)):
        part = decode(data[:end], mode, features)
        if whole is None or whole == 0:                      # bad: from some byte on; unfinished: as far as it goes
            assert not part, (data.hex(), mode, end)
            assert whole is None or part == 0, (data.hex(), mode, end)
        elif end < whole.length:
            assert part == 0, (data.hex(), mode, end)
        else:
            assert part == whole, (data.hex(), mode, end)
