# The benchmarks' boot sectors: a turn has as many instructions as loops.py says (Unicorn counts), and a sector is bootable.
import shutil
import subprocess
import time

import pytest
import unicorn
import unicorn.x86_const as x86

from benchmarks.loops import LOOPS, PER_TURN, build, build_loop
from benchmarks.peers import Qemu

REGISTERS = {"esi": x86.UC_X86_REG_ESI, "ebp": x86.UC_X86_REG_EBP, "ecx": x86.UC_X86_REG_ECX, "esp": x86.UC_X86_REG_ESP}


def symbols(elf):
    lines = subprocess.run(["nm", str(elf)], capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: int(value, 16) for value, _, name in (line.split() for line in lines)}


def count(image, long, turns):
    names = symbols(image.with_suffix(".elf"))
    engine = unicorn.Uc(unicorn.UC_ARCH_X86, unicorn.UC_MODE_64 if long else unicorn.UC_MODE_32)
    engine.mem_map(0, 32 << 20)
    engine.mem_write(0x7C00, image.read_bytes())
    for name, value in (("esi", 0x100000), ("ebp", turns), ("ecx", 12345), ("esp", 0x7000)):
        engine.reg_write(REGISTERS[name], value)
    seen = 0

    def step(*_):
        nonlocal seen
        seen += 1

    engine.hook_add(unicorn.UC_HOOK_CODE, step)
    engine.emu_start(names["turn"], names["finished"])
    return seen


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("loop", LOOPS)
def test_turn_has_the_stated_instructions(loop, long, tmp_path):
    image = build_loop(tmp_path, loop, long, 300, keep_elf=True)
    skipped = {"call": 1}.get(loop, 0)                  # the jump over the functions, once
    assert count(image, long, 300) == 300 * PER_TURN[loop] + skipped


def test_sectors_are_bootable(tmp_path):
    for image in (build(tmp_path, "first.S", "first"), build_loop(tmp_path, "tlb", True, 5)):
        data = image.read_bytes()
        assert len(data) == 512 and data[510:] == b"\x55\xaa"


if shutil.which("qemu-system-x86_64"):
    def test_loop_on_qemu_sends_its_two_bytes_in_order(tmp_path):
        run = Qemu().boot_sector(build_loop(tmp_path, "call", True, 1000))
        try:
            began, ended = run.wait_for(b"S", 60), run.wait_for(b"E", 60)
            assert run.started < began <= ended <= time.monotonic()
            assert run.output == b"SE"
        finally:
            run.stop()
