# A short part of the fuzzers, always the same one; the long runs are commands (`make hostile`, tests/fuzz/__main__.py).
import random

import pytest

from tests.fuzz import decoder, images, machine, stop
from tests.fuzz.__main__ import resident_pages
from tests.fuzz.code import Encoder, legal_rows


@pytest.mark.parametrize("number", range(12))
def test_random_guests_leave_everything_whole(number):
    assert machine.run_round(f"test:{number}", cases=8, instructions=2000) > 0


@pytest.mark.parametrize("number", range(6))
def test_guests_do_the_same_through_blocks_and_instruction_by_instruction(number):
    assert machine.run_twins(f"test:{number}", cases=3, instructions=1000) > 0


@pytest.mark.parametrize("number", range(6))
def test_images_whose_headers_lie_are_refused_or_run(number):
    assert images.run_round(f"test:{number}") >= 0


@pytest.mark.parametrize("number", range(3))
def test_decoder_agrees_with_iced_on_random_bytes(number):
    assert decoder.run_round(f"test:{number}", 1000) == 1000


def test_same_seed_gives_the_same_guest():
    assert machine.run_round("test:same", cases=3) == machine.run_round("test:same", cases=3)


@pytest.mark.parametrize("bits", (16, 32, 64))
def test_encoder_makes_instructions_of_the_rows_that_it_is_given(bits):
    from emu.cpu.decode import decode
    rng = random.Random(bits)
    encoder = Encoder(rng, bits, odd=0.0)
    wrong = [row.source for row in legal_rows(bits) for code in (encoder.instruction(row),)
             if not (found := decode(code, bits)) or found.length != len(code)]
    assert wrong == []


@pytest.mark.parametrize("name", stop.GUESTS)
def test_guest_that_does_not_want_to_be_stopped_is_stopped(name):
    """The signal's handler is reached: that is all that is asked here; how soon is what `python -m tests.fuzz stop` measures."""
    stop.measure(name, seconds=0.02)


def test_console_flood_that_nobody_reads_takes_no_memory_of_the_host():
    stop.measure("rep outsb to the serial line", seconds=0.05)
    before = resident_pages()
    for name in ("rep outsb to the serial line", "rep outsb to the debug console"):
        stop.measure(name, seconds=0.3)
    assert resident_pages() - before < (8 << 20) // 4096
