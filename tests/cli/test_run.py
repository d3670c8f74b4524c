# `emu run` as a process: boot sectors, exit codes, input and output, signals.
import json
import os
import signal
import subprocess

import pytest

from .support import (COMMAND, ECHO, ENDLESS, EXIT_PORT, HALT_DEAD, PRINT_A, TRIPLE, boot_sector, emu, environment)


@pytest.fixture
def sector(tmp_path):
    return lambda code: boot_sector(tmp_path / "sector.bin", code)


@pytest.mark.parametrize("value", [0, 1, 5, 0x3F])
def test_debug_exit_gives_the_code_of_qemu(sector, value):
    result = emu("run", sector(PRINT_A + EXIT_PORT + f"b0{value:02x}ee" + ENDLESS), "-device", "isa-debug-exit")
    assert (result.returncode, result.stdout) == (value << 1 | 1, b"A")


def test_dead_halt_is_explained_with_code_13(sector):
    result = emu("run", sector(PRINT_A + HALT_DEAD))
    assert result.returncode == 13 and result.stdout == b"A"
    assert b"emu: dead halt" in result.stderr and b"Traceback" not in result.stderr


def test_triple_fault_is_explained_with_code_11(sector):
    result = emu("run", sector(TRIPLE))
    assert result.returncode == 11 and b"triple fault" in result.stderr


def test_budget_stops_at_exactly_so_many(sector):
    result = emu("run", sector(ENDLESS), "--budget", "12345", "--json")
    report = json.loads(result.stderr)
    assert result.returncode == 14 and report["code"] == 14 and report["stats"]["instructions"] == 12345


def test_timeout_ends_with_code_124(sector):
    result = emu("run", sector(ENDLESS), "--timeout", "0.2")
    assert result.returncode == 124 and b"0.2 s" in result.stderr


def test_expect_ends_the_run_as_soon_as_it_matches(sector):
    assert emu("run", sector(PRINT_A + ENDLESS), "--expect", "[A-C]", "--timeout", "30").returncode == 0


def test_expect_that_does_not_come_is_named_at_the_timeout(sector):
    result = emu("run", sector(PRINT_A + ENDLESS), "--expect", "B", "--timeout", "0.2")
    assert result.returncode == 124 and b"--expect 'B'" in result.stderr


def test_expect_and_send_take_turns(sector):
    result = emu("run", sector(ECHO), "--send", "one", "--expect", "ne", "--send", r"two\n", "--expect", r"two\n", "--timeout", "30")
    assert (result.returncode, result.stdout) == (0, b"onetwo\n")


def test_piped_input_goes_to_the_guest_and_its_end_is_not_the_end(sector):
    text = bytes(range(1, 256)) + b"end"
    result = emu("run", sector(ECHO), "--expect", r"end$", "--timeout", "30", data=text)
    assert result.returncode == 0
    assert result.stdout == text


def test_serial_line_into_a_file(sector, tmp_path):
    result = emu("run", sector(PRINT_A + HALT_DEAD), "--serial", f"file:{tmp_path / 'out'}")
    assert (tmp_path / "out").read_bytes() == b"A" and result.stdout == b""


def test_serial_line_to_nowhere(sector):
    assert emu("run", sector(PRINT_A + HALT_DEAD), "--serial", "none").stdout == b""


def test_kernel_panic_ends_the_run_where_asked_for(sector):
    text = b"Kernel panic - not syncing: x"
    assert emu("run", sector(ECHO), "--panic", "exit", "--timeout", "30", data=text).returncode == 12
    assert emu("run", sector(ECHO), "--timeout", "0.3", data=text).returncode == 124


def test_stats_tell_the_instructions(sector):
    assert b"instructions" in emu("run", sector(ENDLESS), "--budget", "1000", "--stats").stderr
    result = emu("run", sector(ENDLESS), "--budget", "1000", "--stats=json")
    assert json.loads(result.stderr.splitlines()[-1])["instructions"] == 1000


def test_same_run_twice_gives_the_same_bytes_and_count(sector):
    runs = [emu("run", sector(ECHO), "--budget", "200k", "--json", "--seed", "7", data=b"hello") for _ in range(2)]
    counts = [json.loads(run.stderr)["stats"]["instructions"] for run in runs]
    assert runs[0].stdout == runs[1].stdout and counts[0] == counts[1] == 200_000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("code", [PRINT_A + ENDLESS, PRINT_A + "fbf4" + ENDLESS])
def test_signal_ends_a_busy_and_a_halted_run(sector, number, code):
    with subprocess.Popen([*COMMAND, "run", sector(code)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=environment()) as process:
        assert process.stdout.read(1) == b"A"
        process.send_signal(number)
        assert process.wait(20) == 130
        assert process.stderr.read() == b""


def test_reader_that_goes_away_ends_the_run_without_a_traceback(sector):
    with subprocess.Popen([*COMMAND, "run", sector("baf803b041ee" "ebfb")], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment()) as process:
        assert process.stdout.read(1) == b"A"
        process.stdout.close()
        assert process.wait(20) == 1
        assert b"Traceback" not in process.stderr.read()


def bad_files(tmp_path):
    kinds = {"empty": b"", "text": b"hello\n" * 99, "gzip": b"\x1f\x8b\x08" + bytes(99), "short": b"MZ" + bytes(20),
             "elf": b"\x7fELF\2\1\1"}
    for name, data in kinds.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "directory").mkdir()
    return [*kinds, "directory", "absent"]


def test_unusable_image_has_code_3_and_a_message(tmp_path):
    for name in bad_files(tmp_path):
        for arguments in ([str(tmp_path / name)], ["--kernel", str(tmp_path / name)]):
            result = emu("run", *arguments)
            assert result.returncode == 3, (name, arguments, result.stderr)
            assert result.stderr.startswith(b"emu: ") and b"Traceback" not in result.stderr


def test_disk_beside_a_kernel_and_as_what_is_booted(sector, tmp_path):
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(1 << 20))
    assert emu("run", sector(PRINT_A + HALT_DEAD), "--disk", str(disk)).returncode == 13
    assert emu("run", "--disk", sector(PRINT_A + HALT_DEAD)).stdout == b"A"
    disk.write_bytes(b"QFI\xfb" + bytes(508))
    result = emu("run", sector(HALT_DEAD), "--disk", str(disk))
    assert result.returncode == 3 and b"qcow2" in result.stderr
    result = emu("run", sector(HALT_DEAD), "--disk", str(tmp_path))
    assert result.returncode == 3 and result.stderr.startswith(b"emu: ")


def test_file_without_permission_is_code_3(tmp_path, sector):
    path = sector(ENDLESS)
    os.chmod(path, 0)
    if os.access(path, os.R_OK):  # the superuser may read everything: the message is of a directory then
        path = str(tmp_path)
    assert emu("run", path).returncode == 3


@pytest.mark.parametrize("arguments", [["--cpu", "v9"], ["--cpu", "v2,+nosuch"], ["--cpu", "v2,-sse9"], ["--memory", "0"],
                                       ["--expect", "("],
                                       ["--serial", "file:/nonexistent/x"], ["--memory", "9999T"], ["--nosuch"]])
def test_wrong_usage_has_code_2(sector, arguments):
    result = emu("run", sector(ENDLESS), *arguments)
    assert result.returncode == 2 and result.stderr.startswith(b"emu: ") and b"Traceback" not in result.stderr


def test_name_that_was_not_pulled_says_how(tmp_path):
    result = emu("run", "debian", XDG_DATA_HOME=str(tmp_path))
    assert result.returncode == 3 and b"emu pull debian" in result.stderr


def test_built_in_guest_prompts_and_powers_off():
    result = emu("run", "--expect", "> ", "--send", r"poweroff\n", "--timeout", "30")
    assert result.returncode == 0 and b"help" in result.stdout
