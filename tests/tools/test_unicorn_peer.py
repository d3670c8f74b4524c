# The Unicorn peer itself: known instructions give known results in every mode.
import pytest

from tests.tools.unicorn_peer import run


@pytest.mark.parametrize("mode", [16, 32, 64])
def test_add_in_every_mode_gives_sum_and_flags(mode):
    state = run(b"\x00\xc8", mode, {"rax": 0x7F, "rcx": 1}, address=0x1000)         # add al, cl
    assert state.registers["rax"] == 0x80
    assert state.registers["rflags"] & 0x8D5 == 0x890                               # OF SF AF
    assert state.registers["rip"] == 0x1002 and state.fault == -1


def test_store_is_seen_in_memory_and_list():
    state = run(b"\x48\x89\x07", 64, {"rax": 0x1122334455667788, "rdi": 0x5008}, {0x5000: bytes(32)})
    assert state.memory[0x5000][8:16] == bytes.fromhex("8877665544332211")
    assert state.written == [(0x5008, 8)]


def test_divide_by_zero_reports_vector_0():
    assert run(b"\xf7\xf1", 32, {"rax": 1}).fault == 0


def test_invalid_opcode_reports_vector_6():
    assert run(b"\x0f\x0b", 64).fault == 6


def test_access_outside_reports_vector_14():
    assert run(b"\x8b\x07", 64, {"rdi": 0x9000000}).fault == 14


def test_x87_and_xmm_values_are_read_back():
    state = run(b"\xd9\xe8\x66\x0f\x6f\xca", 64, {"xmm2": 1 << 100 | 7})            # fld1; movdqa xmm1, xmm2
    assert state.registers["fpr7"] == 0x3FFF8000000000000000
    assert state.registers["xmm1"] == 1 << 100 | 7
    assert state.registers["fsw"] >> 11 & 7 == 7
