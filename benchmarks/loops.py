# The boot sectors: built with GNU as and ld when they are needed; how many instructions a turn of each loop has.
import pathlib
import shutil
import subprocess

from emu.base.errors import HostError

SOURCES = pathlib.Path(__file__).parent
LOOPS = {"mix": 0, "alu": 1, "call": 2, "tlb": 3}
PER_TURN = {"mix": 18, "alu": 16, "call": 15, "tlb": 8}         # tlb: one more in 4033 turns, left out
SECTOR = 512


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise HostError(name, "not found", "the benchmarks assemble their guests", "install binutils")
    return path


def build(directory: pathlib.Path, source: str, name: str, keep_elf: bool = False, **symbols: int) -> pathlib.Path:
    """Assembles a boot sector into `directory`/`name`.img; with keep_elf also `name`.elf, which has its symbols."""
    object_file, image = directory / f"{name}.o", directory / f"{name}.img"
    defined = [word for key, value in symbols.items() for word in ("--defsym", f"{key}={value}")]
    link = [_tool("ld"), "-m", "elf_x86_64", "-Ttext", "0x7c00"]
    subprocess.run([_tool("as"), "--64", *defined, "-o", str(object_file), str(SOURCES / source)], check=True)
    subprocess.run([*link, "--oformat", "binary", "-o", str(image), str(object_file)], check=True)
    if keep_elf:
        subprocess.run([*link, "-o", str(image.with_suffix(".elf")), str(object_file)], check=True)
    assert image.stat().st_size == SECTOR
    return image


def build_loop(directory: pathlib.Path, loop: str, long: bool, turns: int, keep_elf: bool = False) -> pathlib.Path:
    """The boot sector of one loop (a name in LOOPS), in 32-bit or long mode, with so many turns."""
    return build(directory, "loops.S", f"{loop}{64 if long else 32}-{turns}", keep_elf, LONG=int(long), LOOP=LOOPS[loop], TURNS=turns)
