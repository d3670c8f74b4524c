# `emu disasm`: bytes from files, standard input and digits; spellings from the SDM's opcode tables.
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.cli.main import main
from emu.cpu.disassemble import BAD, disassemble

from .support import emu


def lines(capsys, *arguments):
    assert main(["disasm", *arguments]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_digits_in_every_form_are_the_same(capsys):
    expected = [["401000", "48", "89", "d8", "mov", "rax,", "rbx"], ["401003", "c3", "ret"]]
    for words in (["4889d8c3"], ["48 89 d8 c3"], ["48", "89", "d8", "c3"], ["0x48,0x89,0xd8,0xc3"]):
        assert lines(capsys, *words, "--at", "0x401000") == expected


@pytest.mark.parametrize("mode, text", [("16", ["b8", "34", "12", "mov", "ax,", "0x1234"]), ("32", ["b8", "34", "12", "90", "90", "mov"])])
def test_mode_decides_the_operand_size(capsys, mode, text):
    assert lines(capsys, "b834129090", "--mode", mode)[0][1:len(text) + 1] == text


def test_file_is_read_as_bytes(capsys, tmp_path):
    (tmp_path / "x").write_bytes(b"\x90\xf4")
    assert [line[-1] for line in lines(capsys, str(tmp_path / "x"))] == ["nop", "hlt"]


def test_standard_input_is_read():
    result = emu("disasm", "-", "--mode=32", data=b"\x60")
    assert result.returncode == 0 and result.stdout.split()[-1] == b"pushad"


def test_illegal_bytes_are_bad_and_what_follows_is_read(capsys):
    assert [line[-1] for line in lines(capsys, "06 90", "--mode", "64")] == [BAD, "nop"]  # PUSH ES is not there in 64-bit mode


@given(st.binary(max_size=80), st.sampled_from([16, 32, 64]), st.integers(0, (1 << 64) - 1))
def test_any_bytes_are_shown_whole_and_in_order(data, mode, address):
    found = list(disassemble(data, mode, address))
    assert b"".join(part for _, part, _ in found) == data
    at = address
    for where, part, text in found:
        assert where == at % (1 << mode) and text and part
        at += len(part)
