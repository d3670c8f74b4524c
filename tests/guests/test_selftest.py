# The self-test images: every case passes under emu, and QEMU and Bochs agree but for the differences that are listed with their reason.
import fnmatch
import os
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCES = ROOT / "guests" / "selftest"
IMAGES = (32, 64)
LINE = re.compile(r"(ok  |FAIL|skip) ([^:]*): (.*?)(?: \| expected: (.*))?$")
EXIT_PORT = "isa-debug-exit,iobase=0xf4,iosize=4"
PASSED, FAILED = 1, 3                # (v << 1) | 1 of what the guest writes: 0 or 1
BOCHS_CONFIGURATION = """
megs: 64
cpu: model=ryzen, ips=50000000, ignore_bad_msrs=0, reset_on_triple_fault=0
romimage: file=/usr/share/bochs/BIOS-bochs-legacy
vgaromimage: file={folder}/vga.rom
ata0-master: type=disk, path={folder}/disk.img, mode=flat, cylinders=1, heads=16, spt=63
boot: disk
com1: enabled=1, mode=file, dev={folder}/serial
clock: sync=none, time0=1
display_library: rfb, options="timeout=0"
log: {folder}/log
debugger_log: -
panic: action=fatal
error: action=report
info: action=ignore
sound: driver=dummy
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    build = tmp_path_factory.mktemp("selftest")
    made = subprocess.run(["make", "-C", str(SOURCES), f"BUILD={build}"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return {bits: build / f"selftest{bits}.img" for bits in IMAGES}


def parse(text):
    """{case: (ok | FAIL | skip, observed, expected)}; the last line must be the summary."""
    lines = text.replace("\r", "").splitlines()
    assert lines and re.fullmatch(r"selftest\d\d: \d+ cases, \d+ failed, \d+ skipped", lines[-1]), "\n".join(lines[-5:])
    results = {}
    for line in lines[:-1]:
        found = LINE.fullmatch(line)
        assert found, line
        state, case, observed, expected = found.groups()
        assert case not in results, f"two cases are named {case}"
        results[case] = (state.strip(), observed, expected if expected is not None else observed)
    return results


def run_emu(image, folder):
    command = [sys.executable, "-m", "emu.cli", "run", str(image), "--memory", "64M", "--device", EXIT_PORT, "--timeout", "300"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=ROOT, timeout=400)
    assert done.returncode in (PASSED, FAILED), done.stdout[-1000:] + done.stderr
    return done.stdout


def run_qemu(image, folder):
    command = ["qemu-system-x86_64", "-cpu", "max", "-icount", "shift=0", "-m", "64", "-kernel", str(image), "-display", "none",
               "-serial", "stdio", "-monitor", "none", "-no-reboot", "-device", EXIT_PORT]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=400)
    assert done.returncode in (PASSED, FAILED), done.stdout[-1000:] + done.stderr
    return done.stdout


def run_bochs(image, folder):
    (folder / "disk.img").write_bytes(image.read_bytes())
    (folder / "vga.rom").write_bytes(bytes(32768))           # nothing is shown: no video BIOS
    (folder / "bochsrc").write_text(BOCHS_CONFIGURATION.format(folder=folder))
    # Debian's Bochs has the debugger built in: "c" starts the machine. The guest ends it through its shutdown port.
    done = subprocess.run(["bochs", "-q", "-f", str(folder / "bochsrc")], input="c\n", capture_output=True, text=True, timeout=400,
                          errors="replace", env={**os.environ, "HOME": str(folder)})
    serial = folder / "serial"
    assert serial.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    return serial.read_text()


RUNNERS = {"emu": run_emu, "qemu": run_qemu, "bochs": run_bochs}
PEERS = [peer for peer in RUNNERS if peer != "emu"]


@pytest.fixture(scope="module")
def results(images, tmp_path_factory):
    """results(peer, bits): what each case gave; each run is made once."""
    made = {}

    def get(peer, bits):
        if (peer, bits) not in made:
            made[peer, bits] = parse(RUNNERS[peer](images[bits], tmp_path_factory.mktemp(f"{peer}{bits}")))
        return made[peer, bits]
    return get


def listed(peer, bits):
    """The differences of a peer: (patterns, result)."""
    entries = tomllib.loads((SOURCES / "differences.toml").read_text())["difference"]
    found = []
    for entry in entries:
        assert entry["section"] and entry["why"] and entry["peer"] in PEERS
        patterns = [entry["cases"]] if isinstance(entry["cases"], str) else entry["cases"]
        if entry["peer"] == peer and entry.get("image", bits) == bits:
            found.append((patterns, entry["result"], "image" in entry))
    return found


@pytest.mark.parametrize("bits", IMAGES)
def test_every_case_passes_under_emu(results, bits):
    got = results("emu", bits)
    assert len(got) > 150
    assert {case: result for case, result in got.items() if result[0] != "ok"} == {}


@pytest.mark.parametrize("peer", PEERS)
@pytest.mark.parametrize("bits", IMAGES)
def test_peer_gives_the_same_but_for_the_listed_differences(results, peer, bits):
    ours, theirs = results("emu", bits), results(peer, bits)
    assert set(ours) == set(theirs)
    expected = {case: observed for case, (_, observed, _) in ours.items()}
    wrong = []
    for patterns, result, _ in listed(peer, bits):
        for pattern in patterns:
            for case in fnmatch.filter(expected, pattern):
                if theirs[case][0] == "skip":
                    continue
                if theirs[case][1] == ours[case][1]:
                    wrong.append(f"{case}: listed as a difference, but gives {theirs[case][1]} as expected")
                expected[case] = result
    for case, (state, observed, _) in theirs.items():
        if state != "skip" and observed != expected[case]:
            wrong.append(f"{case}: {observed} where {expected[case]} is expected")
    assert wrong == []


@pytest.mark.parametrize("peer", PEERS)
def test_every_listed_pattern_names_a_case(results, peer):
    cases = {bits: set(results("emu", bits)) for bits in IMAGES}
    for bits in IMAGES:
        for patterns, _, own in listed(peer, bits):
            for pattern in patterns:
                where = cases[bits] if own else set().union(*cases.values())
                assert fnmatch.filter(where, pattern), pattern
