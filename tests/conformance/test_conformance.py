# A short part of the conformance runs (make conformance has the long one), and the smallest cases of what they have found.
import importlib.util

import numpy as np
import pytest

from emu.debug.native import host_features
from emu.debug.native.cases import CODE, DATA, FLAGS, READ_ONLY, base_of, new_cases, place_code
from emu.debug.native.guest import EmulatedCpu
from emu.isa.generate import load_rows
from tests.conformance.encode import encode, forms
from tests.conformance.found import FOUND

HOST = importlib.util.find_spec("emu.debug.native.host") is not None
NAMES = {name: k for k, name in enumerate(("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"))}
PLACES = {"CODE": CODE, "DATA": DATA, "READ_ONLY": READ_ONLY}


def found_case(entry):
    """(cases, codes) of an entry of FOUND."""
    mode = entry.mode
    cases, codes = new_cases(1, mode), np.full((1, 32), 0xCC, np.uint8)
    place_code(cases, codes, 0, bytes.fromhex(entry.code), mode=mode)
    cases["rflags"] = FLAGS | entry.flags
    for name, value in entry.state.items():
        if name in NAMES:
            cases["regs"][0, NAMES[name]] = value & (1 << 64) - 1
        elif name == "patch":
            cases["patch_at"], cases["patch_length"] = value[0], len(value[1])
            cases["patch"][0, :len(value[1])] = np.frombuffer(value[1], np.uint8)
        elif name == "selectors":
            for place, selector in value.items():
                cases["selectors"][0, place] = selector
        else:
            cases[name] = value & (1 << 64) - 1
    return cases, codes


def check(entry, result):
    seen = {}
    for name in entry.after:
        if name in NAMES:
            seen[name] = int(result["regs"][NAMES[name]])
        elif name == "arithmetic":
            seen[name] = int(result["rflags"]) & 0x8D5
        elif name == "offset":
            seen[name] = int(result["rip"]) + base_of(entry.mode) - CODE
        elif name == "written":
            seen[name] = bool(result["lines"].any())
        else:
            seen[name] = int(result[name])
    assert seen == entry.after


@pytest.fixture(scope="module")
def guest():
    return EmulatedCpu(host_features())


@pytest.mark.parametrize("entry", FOUND, ids=lambda entry: entry.name)
def test_case_that_was_found_is_right(guest, entry):
    cases, codes = found_case(entry)
    check(entry, guest.run(cases, codes, np.zeros(8192, np.uint8), traced=entry.traced)[0])


def test_every_row_has_a_form_in_some_mode_and_can_be_encoded():
    import random
    rng = random.Random(1)
    without = []
    for row in load_rows():
        found = [(mode, form) for mode in (64, 32, 16) for form in forms(row, mode)]
        if not found or not all(encode(rng, row, mode, form, DATA - base_of(mode)).code for mode, form in found):
            without.append(row.source)
    assert without == []


if HOST:
    from emu.debug.native.host import NativeCpu
    from tests.conformance import wild
    from tests.conformance.run import Conformance, all_triples, sweep, table

    @pytest.mark.parametrize("entry", FOUND, ids=lambda entry: entry.name)
    def test_case_that_was_found_is_what_the_host_does(entry, host):
        cases, codes = found_case(entry)
        check(entry, host.run(cases, codes, np.zeros(8192, np.uint8))[0])

    @pytest.fixture(scope="module")
    def host():
        return NativeCpu()

    def test_rows_in_every_form_and_mode_agree_with_the_host():
        conformance = Conformance(seed=1)
        rows = conformance.generator.rows
        mine = {row.number for row in rows if row.topic != "x87"}          # tests/cpu has the x87's own
        sweep(conformance, 1, block=8, rows=mine)
        report = conformance.report
        print(table(conformance))
        wrong = [(found.row.source, found.mode, found.code.hex(), found.what) for number in report.wrong
                 for found in report.findings[number][:1]]
        assert wrong == []
        triples = [triple for triple in all_triples(rows) if triple[0].number in mine]
        covered = sum(1 for row, mode, form in triples if report.cases[row.number, mode, form])
        assert covered >= 0.95 * len(triples)

    @pytest.mark.parametrize("mode", (64, 32, 16))
    def test_random_bytes_raise_ud_exactly_where_the_host_does(host, guest, mode):
        counts, wrong = wild.run(host, guest, load_rows(), seed=1, count=8192, mode=mode)
        assert wrong == []
        assert counts[6] > 1000 and counts[1] > 1000
