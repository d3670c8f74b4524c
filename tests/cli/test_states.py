# `emu snapshot`, `restore`, `fork`, `replay`, and what `emu run` does with states.
import json

import pytest

from .support import ECHO, ENDLESS, PRINT_A, boot_sector, emu


@pytest.fixture
def echo(tmp_path):
    """A snapshot of a guest that echoes, after it has echoed once."""
    sector = boot_sector(tmp_path / "sector.bin", ECHO)
    state = str(tmp_path / "state")
    result = emu("run", sector, "--memory", "2M", "--send", "one", "--expect", "one", "--snapshot", state)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"one", b"")
    return state


def test_run_goes_on_from_a_snapshot(echo):
    for verb in ("run", "restore"):
        result = emu(verb, echo, "--send", "two", "--expect", "two", "--timeout", "30")
        assert (result.returncode, result.stdout) == (0, b"two")


def test_snapshot_tells_what_a_file_holds(echo):
    facts = json.loads(emu("snapshot", echo, "--json").stdout)
    assert facts["memory"] == 2 << 20 and facts["instructions"] > 0 and facts["pages"] > 0
    assert b"identity" in emu("snapshot", echo).stdout


def test_fork_runs_copies(echo):
    result = emu("fork", echo, "3", "--budget", "100k", "--send", "copy {}")
    lines = result.stdout.decode().splitlines()
    assert result.returncode == 0 and len(lines) == 3
    assert [line.rsplit("\t", 1)[1] for line in lines] == ["copy 0", "copy 1", "copy 2"]


def test_options_of_the_machine_do_not_go_with_a_snapshot(echo):
    result = emu("run", echo, "--memory", "64M")
    assert result.returncode == 2 and b"--memory" in result.stderr


def test_damaged_snapshot_ends_with_code_21(echo, tmp_path):
    with open(echo, "r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes((byte[0] ^ 1,)))
    for verb in ("run", "restore", "snapshot"):
        result = emu(verb, echo)
        assert result.returncode == 21 and b"damaged" in result.stderr and b"Traceback" not in result.stderr
    assert emu("restore", str(tmp_path / "sector.bin")).returncode == 21
    assert emu("snapshot", str(tmp_path / "nothing")).returncode == 21


def test_record_and_replay(tmp_path):
    sector, log = boot_sector(tmp_path / "sector.bin", ECHO), str(tmp_path / "log")
    result = emu("run", sector, "--record", log, "--send", "typed", "--expect", "typed")
    assert (result.returncode, result.stdout) == (0, b"typed")
    result = emu("replay", log)
    assert result.returncode == 0 and result.stdout == b"typed" and b"1 inputs" in result.stderr
    facts = json.loads(emu("replay", log, "--quiet", "--json").stderr)
    assert facts["whole"] and len(facts["ram"]) == 64
    boot_sector(tmp_path / "sector.bin", PRINT_A + ENDLESS)
    assert emu("replay", log).returncode == 3
    text = (tmp_path / "log").read_text()
    (tmp_path / "log").write_text(text.replace("typed".encode().hex(), "tiped".encode().hex()))
    assert emu("replay", log).returncode == 21


def test_wrong_usage_is_named():
    for arguments in (("snapshot",), ("fork", "x"), ("replay",), ("restore",), ("replay", "--wrong", "x"), ("fork", "x", "none")):
        result = emu(*arguments)
        assert result.returncode == 2 and result.stderr.startswith(b"emu: ")
