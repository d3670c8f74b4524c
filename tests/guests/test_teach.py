# The embedded teaching guest: the shipped image is built from these sources, loaders can read it, and it runs on a peer.
import hashlib
import pathlib
import re
import shutil
import struct
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "guests" / "teach"
SHIPPED = ROOT / "emu" / "data" / "teach.elf"
STAMP = re.compile(rb"Built from sources ([0-9a-f]{16}) by gcc ([^\n]+)\.\n")
QEMU = shutil.which("qemu-system-x86_64")


def sources_digest():
    names = re.search(r"^SOURCES := (.*)$", (SOURCES / "Makefile").read_text(), re.M)[1]
    files = re.search(r"^C_FILES := (.*)$", (SOURCES / "Makefile").read_text(), re.M)[1]
    paths = sorted(names.replace("$(C_FILES)", files).split())
    return hashlib.sha256(b"".join((SOURCES / path).read_bytes() for path in paths)).hexdigest()[:16]


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    copy = tmp_path_factory.mktemp("teach") / "sources"
    shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("build"))
    made = subprocess.run(["make", "-C", str(copy)], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert "warning" not in made.stderr
    return (copy / "build" / "teach.elf").read_bytes()


def headers(image):
    assert image[:7] == b"\x7fELF\x01\x01\x01"              # 32-bit, little-endian
    kind, machine, _, entry, offset = struct.unpack_from("<HHIII", image, 16)
    size, count = struct.unpack_from("<HH", image, 42)
    assert (kind, machine, size) == (2, 3, 32)              # an executable for the 80386
    return entry, [struct.unpack_from("<8I", image, offset + 32 * i) for i in range(count)]


def test_shipped_image_is_of_these_sources():
    assert STAMP.search(SHIPPED.read_bytes())[1].decode() == sources_digest()


def test_rebuilt_image_with_the_same_compiler_has_the_same_bytes(rebuilt):
    shipped = SHIPPED.read_bytes()
    stamp = STAMP.search(rebuilt)
    assert stamp[1].decode() == sources_digest()
    assert len(rebuilt) < 32 * 1024
    # Another compiler may choose other instructions; the layout that loaders see stays.
    if stamp[2] == STAMP.search(shipped)[2]:
        assert rebuilt == shipped
    else:
        assert [(p[0], p[3]) for p in headers(rebuilt)[1]] == [(p[0], p[3]) for p in headers(shipped)[1]]


def test_shipped_image_has_multiboot_header_and_pvh_note():
    image = SHIPPED.read_bytes()
    entry, segments = headers(image)
    at = image.index(struct.pack("<I", 0x1BADB002))
    magic, flags, checksum = struct.unpack_from("<III", image, at)
    assert at < 8192 and at % 4 == 0                        # Multiboot 1 specification 3.1
    assert (magic + flags + checksum) & 0xFFFFFFFF == 0 and not flags & 0x10000
    loads = [p for p in segments if p[0] == 1]
    assert any(p[3] <= entry < p[3] + p[4] for p in loads)
    for _, offset, _, physical, file_size, memory_size, _, _ in loads:
        assert offset + file_size <= len(image) and file_size <= memory_size
        assert 0x100000 <= physical and physical + memory_size <= 0x400000
    note = next(p for p in segments if p[0] == 4)
    assert struct.unpack_from("<III", image, note[1]) == (4, 4, 18) and image[note[1] + 12:note[1] + 16] == b"Xen\0"
    pvh_entry, = struct.unpack_from("<I", image, note[1] + 16)
    assert any(p[3] <= pvh_entry < p[3] + p[4] for p in loads) and pvh_entry != entry


def without_multiboot(tmp_path):
    image = bytearray(SHIPPED.read_bytes())
    image[image.index(struct.pack("<I", 0x1BADB002))] = 0
    path = tmp_path / "pvh.elf"
    path.write_bytes(image)
    return path


# QEMU is the oracle for what a loader and a PC do; the suite runs it where it is installed.
if QEMU:
    @pytest.mark.parametrize("by", ["multiboot", "PVH"])
    def test_batch_on_qemu_shows_and_powers_off(by, tmp_path):
        path = SHIPPED if by == "multiboot" else without_multiboot(tmp_path)
        done = subprocess.run([QEMU, "-kernel", str(path), "-append", "console batch", "-m", "64", "-display", "none",
                               "-serial", "stdio", "-monitor", "none", "-no-reboot"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert f"as the {by} loader describes" in done.stdout
        assert "Usable: 65023 KiB" in done.stdout
        counted = re.search(r"(\d+) timer interrupts so far, 100 a second.*\n((?: +\d+)+)\n", done.stdout)
        numbers = [int(counted[1]), *map(int, counted[2].split())]
        assert numbers == sorted(set(numbers)) and numbers[-1] >= numbers[0] + 10       # a slow host may merge two ticks
        assert done.stdout.rstrip().endswith("teach> poweroff")
