# What Python callers give a Machine: sizes and counts as numbers or as texts.
import pathlib

import pytest

import emu
from emu.base.errors import UsageError

TEACH = pathlib.Path(emu.__file__).parent / "data" / "teach.elf"


def test_sizes_and_counts_may_be_texts():
    with emu.Machine(kernel=TEACH, memory="32M", budget="1M") as machine:
        assert max(entry.end for entry in machine.board.e820 if entry.end < 1 << 31) == 32 << 20
        ended = machine.run()
        assert (ended.reason, machine.retired) == ("budget", 1_000_000)
    with emu.Machine(kernel=TEACH, memory=32 << 20, budget=1_000_000) as machine:
        assert machine.run() == ended


@pytest.mark.parametrize("arguments", [{"memory": "9999T"}, {"memory": 0}, {"memory": "much"}, {"memory": (32 << 20) + 1}, {"budget": "0"},
                                       {"budget": -1}, {"budget": "1.5X"}])
def test_impossible_sizes_are_refused(arguments):
    with pytest.raises(UsageError):
        emu.Machine(kernel=TEACH, **arguments)
