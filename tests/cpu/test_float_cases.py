# Smallest cases of what the host's processor showed to be wrong: x87 and SSE instructions with the state before and after.
import numpy as np
import pytest

from emu.debug.native import compare, differences, host_features
from emu.debug.native.cases import DATA, new_cases
from emu.debug.native.guest import EmulatedCpu
from tests.conformance import straight

ONE, TWO = "0000000000000080ff3f", "00000000000000800040"

# name -> code, what of the FXSAVE image is other than after FNINIT before (offset: hex), and what it holds afterwards. The registers of
# the image begin with ST0.
CASES = {
    "fstp_alias_of_an_empty_register_only_pops": ("d9d9", {4: "02", 48: TWO}, {2: "0008", 4: "02", 32: TWO}),
    "fcomi_leaves_c1": ("dbf1", {2: "0002", 4: "03", 32: ONE, 48: TWO}, {2: "0002"}),
    "fcomi_clears_c1_at_a_stack_fault": ("dbf1", {2: "0002", 4: "01", 32: ONE}, {2: "4100"}),
    "fyl2x_of_a_power_of_two_tells_a_precision_exception": ("d9f1", {4: "03", 32: TWO, 48: TWO}, {2: "2008", 32: TWO}),
    "fyl2x_of_a_power_of_two_tells_an_underflow": ("d9f1", {4: "03", 32: TWO, 48: "0f" + "00" * 9}, {2: "3208", 32: "0f" + "00" * 9}),
    "fxsave_has_no_pointers_without_a_waiting_exception": ("90", {4: "01", 6: "2301", 8: "4433221100"}, {6: "0000", 8: "0000000000"}),
    "fxrstor64_takes_48_bits_of_pointers": ("90", {0: "4000", 2: "8180", 8: "3412000000807700"}, {8: "341200000080ffff"}),
    "simd_exception_of_cvtps2pi_leaves_the_mmx_state": ("0f2dc1", {2: "0028", 24: "0000", 176: "ffffff7f"}, {2: "0000", 4: "ff"}),
}
# The same without the host, whose result may differ in the last place.
OWN = {
    "f2xm1_of_one_tells_a_precision_exception": ("d9f0", {4: "01", 32: ONE}, {2: "2000", 32: ONE}),
    "fptan_of_a_small_angle_is_a_little_more": ("d9f2", {0: "7f0b", 4: "01", 32: "245b2917dccef5ecbd3f"},
                                                {48: "255b2917dccef5ecbd3f", 2: "203a"}),
}


def run(name, table, cpu):
    code, before, _ = table[name]
    code = bytes.fromhex(code)
    cases = new_cases(1, 64)
    for at, text in before.items():
        data = bytes.fromhex(text)
        cases["fx"][0, at:at + len(data)] = np.frombuffer(data, np.uint8)
    cases["code_length"] = len(code)
    cases["regs"][:, 3] = DATA
    return cpu.run(cases, np.frombuffer(code, np.uint8).reshape(1, -1), np.zeros(8192, np.uint8))


@pytest.fixture(scope="module")
def guest():
    return EmulatedCpu(host_features())


@pytest.mark.parametrize("name", [*CASES, *OWN])
def test_defect(guest, name):
    table = CASES if name in CASES else OWN
    image = run(name, table, guest)[0]["fx"]
    for at, text in table[name][2].items():
        assert bytes(image[at:at + len(text) // 2]).hex() == text


if straight.AMD:
    @pytest.mark.parametrize("name", CASES)
    def test_host_agrees(guest, name):
        from emu.debug.native.host import NativeCpu
        ours, theirs = run(name, CASES, guest), run(name, CASES, NativeCpu())
        assert not compare(ours, theirs).any(), differences(ours[0], theirs[0])
