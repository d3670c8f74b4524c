# x87, MMX and SSE held against the host's processor and exact values: the short part of floating.py, images.py and transcendentals.py.
"""EMU_CASES multiplies the cases (1); EMU_SEED chooses others than 1. The modules run alone, too, for as long as is wanted."""
import hashlib
import os
import random

import numpy as np
import pytest

from tests.conformance import straight, transcendentals
from tests.conformance.floating import STATEFUL, describe, floating_rows, name_of
from tests.conformance.transcendentals import CODES

SCALE = int(os.environ.get("EMU_CASES", "1"))
SEED = int(os.environ.get("EMU_SEED", "1"))
ROWS = floating_rows()


@pytest.mark.parametrize("name", CODES)
def test_transcendental_result_is_the_exact_value_rounded_once(name):
    out = transcendentals.check(name, np.random.default_rng([SEED, CODES[name]]), 300 * SCALE)
    assert out.wrong == []
    assert out.most[0] <= 0.5 and max(out.most) <= 1


@pytest.mark.parametrize("name, opcode", (("rcpps", 0x53), ("rsqrtps", 0x52)))
def test_approximation_is_within_its_bound(name, opcode):
    """SDM 2B RCPPS, RSQRTPS: a relative error of at most 1.5 * 2^-12."""
    assert transcendentals.worst_approximation(opcode, 64) <= 1.5


def test_results_that_processors_differ_in_are_the_same_on_every_host():
    numbers = random.Random(1)
    digest = hashlib.sha256()
    for name in CODES:
        given = [(numbers.getrandbits(63) | 1 << 63, numbers.randrange(0x3FC0, 0x3FFE), numbers.getrandbits(63) | 1 << 63,
                  numbers.randrange(0x3FC0, 0x4040)) for _ in range(200)]
        results = transcendentals.emulate(transcendentals.states(given, np.arange(200) % 4), bytes([0xD9, CODES[name]]))
        digest.update(results["fx"][:, :160].tobytes())
    for opcode in (0x52, 0x53):
        digest.update(transcendentals.approximate(opcode, np.array([numbers.getrandbits(32) for _ in range(800)], np.uint32)).tobytes())
    assert digest.hexdigest()[:16] == "4ecb08d8d9fa00e5"


if straight.NATIVE:
    from tests.conformance.floating import Floating

    @pytest.fixture(scope="module")
    def floating():
        return Floating(SEED)

    @pytest.mark.parametrize("row", [pytest.param(row, id=name_of(row)) for row in ROWS])
    def test_row_does_what_the_host_does(floating, row):
        if not floating.can_run(row):
            return
        floating.run(row, 800 * SCALE)
        found = [describe(finding) for finding in floating.report.findings if finding.row is row]
        assert found == []
        assert floating.report.cases[name_of(row)] >= 800 * SCALE


if straight.AMD:
    from tests.conformance.images import Images, encodings

    @pytest.fixture(scope="module")
    def images():
        return Images(SEED)

    @pytest.mark.parametrize("name", CODES)
    def test_transcendental_flags_and_special_results_are_the_hosts(name):
        _, most, lines = transcendentals.compare_with_host(name, np.random.default_rng([SEED, CODES[name], 1]), 1000 * SCALE)
        assert lines == [] and most <= 4

    @pytest.mark.parametrize("mode, encoding", [(mode, encoding) for mode in (64, 32, 16) for encoding in encodings(mode)])
    def test_state_in_memory_is_the_hosts(images, mode, encoding):
        if mode in images.modes():
            _, wrong, lines = images.run(encoding, mode, 128 * SCALE)
            assert wrong == 0, lines

    def test_sequence_of_instructions_does_what_the_host_does(floating):
        rows = [row for row in ROWS if floating.can_run(row) and row.mnemonic not in STATEFUL]
        assert [line for _ in range(30 * SCALE) for line in floating.run_sequence(rows, 20, 200)] == []
