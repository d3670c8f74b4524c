# Builds the guest of smp_guest.S: one of its tests, for so many CPUs.
import pathlib
import subprocess

SOURCE = pathlib.Path(__file__).with_name("smp_guest.S")
TESTS = {"count": 1, "modify": 2, "interrupt": 3, "restart": 4, "stamps": 5, "fair": 6, "ticks": 7, "fault": 8}


def build_guest(directory: pathlib.Path, test: str, cpus: int) -> str:
    """The path of a multiboot ELF file in `directory`."""
    kernel = directory / f"{test}{cpus}.elf"
    made = kernel.with_suffix(".o")
    subprocess.run(["as", "--32", "--defsym", f"TEST={TESTS[test]}", "--defsym", f"CPUS={cpus}", "-o", str(made), str(SOURCE)],
                   check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext", "0x110000", "-o", str(kernel), str(made)], check=True)
    return str(kernel)
