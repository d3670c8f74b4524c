# The native oracle itself: known instructions give known results on the host, and the same in the emulator.
import importlib.util

import numpy as np
import pytest

from emu.base.errors import UsageError
from emu.debug.native import compare, differences, host_features, parts
from emu.debug.native.cases import CODE, DATA, FLAGS, LDT, READ_ONLY, base_of, ldt_descriptor, new_cases, place_code
from emu.debug.native.guest import EmulatedCpu

HOST = importlib.util.find_spec("emu.debug.native.host") is not None
TEMPLATE = (np.arange(8192) * 37 % 251).astype(np.uint8)

# mode, code, rax, vector, error, what else must hold of the result
KNOWN = {
    "add": (64, "4801d8", 5, 1, 0, lambda r: r["regs"][0] == 12 and r["rip"] == CODE + 3),
    "add_32": (32, "01d8", 5, 1, 0, lambda r: r["regs"][0] == 12 and r["rip"] == CODE + 2),
    "add_16": (16, "01d8", 0xFFFF, 1, 0, lambda r: r["regs"][0] == 6 and r["rip"] == 0x1002 and r["rflags"] & 1),
    "divide_by_zero": (64, "f7f1", 5, 0, 0, lambda r: r["rip"] == CODE),
    "breakpoint": (64, "cc", 0, 3, 0, lambda r: r["rip"] == CODE + 1),
    "no_such_instruction": (64, "0f0b", 0, 6, 0, lambda r: r["rip"] == CODE),
    "bound": (16, "62060050", 0, 5, 0, lambda r: r["rip"] == 0x1000),
    "halt": (64, "f4", 0, 13, 0, lambda r: r["rip"] == CODE),
    "interrupt": (32, "cd21", 0, 13, 0x10A, lambda r: r["rip"] == CODE),
    "selector": (64, "8ed8", 0x1234, 13, 0x1234, lambda r: True),
    "segment_absent": (32, "8ed8", 0x37, 11, 0x34, lambda r: True),
    "not_canonical": (64, "8b00", 1 << 63, 13, 0, lambda r: True),
    "write_read_only": (64, "8800", READ_ONLY, 14, 7, lambda r: r["cr2"] == READ_ONLY),
    "read_nothing": (32, "8b00", READ_ONLY + 0xFFE, 14, 4, lambda r: r["cr2"] == READ_ONLY + 0x1000),
    "fetch_data": (64, "ffe0", DATA, 14, 0x15, lambda r: r["cr2"] == DATA and r["steps"] == 1),
    "store": (64, "8918", DATA + 62, 1, 0, lambda r: list(r["lines"]) == [3, 0]),
    "push_16": (16, "50", 0, 1, 0, lambda r: r["regs"][4] == 0x5FFE),
    "fxsave": (64, "0fae00", DATA + 4096, 1, 0, lambda r: r["lines"][1] == 127),
    "far_jump": (32, "ea003000103300", 0, 1, 0, lambda r: r["rip"] == 0x10003000 and r["selectors"][1] == 0x33),
    "one": (64, "d9e8", 0, 1, 0, lambda r: bytes(r["fx"][32:42]).hex() == "0000000000000080ff3f"),
    "alignment": (64, "8b00", DATA + 1, 17, 0, lambda r: True),
    "repeat": (64, "f3aa", 0, 1, 0, lambda r: r["rip"] == CODE and r["regs"][1] == 2),
}


def case_of(name):
    mode, code, rax, *_ = KNOWN[name]
    cases, codes = new_cases(1, mode), np.zeros((1, 16), np.uint8)
    place_code(cases, codes, 0, bytes.fromhex(code), mode=mode)
    cases["regs"][0, [0, 3, 7]] = (rax, 7, DATA - base_of(mode))
    cases["regs"][0, 1] = 3 if name == "repeat" else 0
    cases["rflags"] = FLAGS | (1 << 18 if name == "alignment" else 0)
    cases["steps"] = 2 if name == "fetch_data" else 1
    return cases, codes


def check(name, result):
    _, _, _, vector, error, holds = KNOWN[name]
    assert (int(result["vector"]), int(result["error"])) == (vector, error)
    assert holds(result)


@pytest.fixture(scope="module")
def guest():
    return EmulatedCpu(host_features())


@pytest.mark.parametrize("name", KNOWN)
def test_known_instruction_in_emulator_gives_known_result(guest, name):
    cases, codes = case_of(name)
    check(name, guest.run(cases, codes, TEMPLATE)[0])
    check(name, guest.run(cases, codes, TEMPLATE, traced=False)[0])


def test_data_are_as_they_were_for_the_next_case(guest):
    cases, codes = (np.concatenate([part, part]) for part in case_of("store"))
    cases["patch_at"], cases["patch_length"] = (60, 0), (8, 0)
    results, memory = guest.run(cases, codes, TEMPLATE, memory=True)
    assert bytes(memory[0][60:68]) == bytes(2) + b"\7\0\0\0" + bytes(2)
    assert bytes(memory[1][66:]) == bytes(TEMPLATE[66:]) and bytes(memory[1][62:66]) == b"\7\0\0\0"


def test_difference_is_found_and_named(guest):
    cases, codes = (np.concatenate([part, part]) for part in case_of("add"))
    cases["regs"][1, 0] += 1
    results = guest.run(cases, codes, TEMPLATE)
    assert list(compare(results, results[[0, 0]])) == [False, True]
    assert parts(results, results[[0, 0]])["regs"][1]
    assert differences(results[1], results[0])[-1] == "rax: 0xd, host 0xc"


def test_descriptor_of_16_bit_code_is_as_the_manual_packs_it():
    assert ldt_descriptor(LDT[0]) == 0x1000FB000000FFFF


if HOST:
    from emu.debug.native.host import NativeCpu

    @pytest.fixture(scope="module")
    def host():
        return NativeCpu()

    @pytest.mark.parametrize("name", KNOWN)
    def test_known_instruction_on_host_gives_known_result(host, guest, name):
        cases, codes = case_of(name)
        result = host.run(cases, codes, TEMPLATE)
        check(name, result[0])
        found = differences(guest.run(cases, codes, TEMPLATE)[0], result[0])
        assert [line for line in found if name != "fxsave" or not line.startswith("memory_hash")] == []    # MXCSR_MASK is the model's own

    def test_memory_of_host_and_emulator_after_a_store_is_the_same(host, guest):
        cases, codes = case_of("fxsave")
        _, theirs = host.run(cases, codes, TEMPLATE, memory=True)
        _, ours = guest.run(cases, codes, TEMPLATE, memory=True)
        theirs[0][4096 + 28:4096 + 32] = ours[0][4096 + 28:4096 + 32]       # MXCSR_MASK
        assert theirs[0].tobytes() == ours[0].tobytes()

    def test_sequence_stops_at_its_last_step_and_at_a_fault(host, guest):
        cases, codes = new_cases(2, 64), np.zeros((2, 64), np.uint8)
        for place, code in enumerate(("ffc0" * 20, "ffc0" * 9 + "0f0b")):
            place_code(cases, codes, place, bytes.fromhex(code))
        cases["steps"] = 20
        results = host.run(cases, codes, TEMPLATE)
        assert list(results["regs"][:, 0]) == [20, 9] and list(results["vector"]) == [1, 6] and list(results["steps"]) == [20, 9]
        assert not compare(guest.run(cases, codes, TEMPLATE), results).any()
        assert not compare(guest.run(cases, codes, TEMPLATE, traced=False), results)[0]

    def test_case_outside_its_memory_is_refused(host):
        cases, codes = case_of("add")
        cases["code_at"] = 8190
        with pytest.raises(UsageError):
            host.run(cases, codes, TEMPLATE)

    def test_more_cases_than_a_batch_and_all_flags(host, guest):
        cases, codes = (np.repeat(part, 3000, 0) for part in case_of("add"))
        number = np.arange(3000)
        cases["rflags"] = FLAGS | (number % 2) * (1 << 14) | (number % 3 == 0) * (1 << 21) | (number % 5 == 0) * (1 << 10)
        cases["regs"][:, 0] = np.arange(3000)
        results = host.run(cases, codes, TEMPLATE)
        assert (results["regs"][:, 0] == np.arange(3000) + 7).all()
        assert not compare(guest.run(cases, codes, TEMPLATE), results).any()
