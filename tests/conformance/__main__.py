# The conformance run: python -m tests.conformance [--cases N] [--wild N] [--seed N] [--rows NAME,...]
"""Runs cases of every row, operand form and mode on the host's processor and on ours, then random bytes, prints the table of counts and
each disagreement's smallest account; exit code 1 where there is any."""
from __future__ import annotations

import argparse
import random
import sys
import time

from emu.debug.native import host_features
from emu.debug.native.guest import EmulatedCpu
from emu.debug.native.host import NativeCpu
from tests.conformance import wild
from tests.conformance.run import Conformance, sweep, table


def number(text: str) -> int:
    """10M, 200k, 5."""
    return int(float(text[:-1]) * {"k": 1000, "M": 1000000}[text[-1]]) if text[-1] in "kM" else int(text)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--cases", type=number, default=number("10M"), help="about how many cases of the rows")
    parser.add_argument("--wild", type=number, default=number("1M"), help="how many pieces of random code a mode")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32), help="of all that is random")
    parser.add_argument("--rows", default="", help="mnemonics, with commas (all)")
    parser.add_argument("--topics", default="", help="topics of the table, with commas (all)")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    began = time.monotonic()
    conformance = Conformance(options.seed)
    names, topics = set(filter(None, options.rows.split(","))), set(filter(None, options.topics.split(",")))
    chosen = {row.number for row in conformance.generator.rows
              if (not names or names & set(row.mnemonic.split("/"))) and (not topics or row.topic in topics)}
    sweep(conformance, options.cases, block=32 if options.cases < 2000000 else 256, rows=chosen)
    print(table(conformance))
    report = conformance.report
    rows = conformance.generator.rows
    for place, count in sorted(report.wrong.items(), key=lambda item: -item[1]):
        print(f"DISAGREES {count} times: {rows[place].source}")
        for found in report.findings[place][:2]:
            print(f"    {found.mode}-bit {found.code.hex()}: {'; '.join(found.what)}")
    wrong = sum(report.wrong.values())
    if options.wild and not names:
        host, guest = NativeCpu(), EmulatedCpu(host_features())
        for mode in (64, 32, 16):
            counts, unlike = wild.run(host, guest, rows, options.seed, options.wild, mode)
            print(f"random bytes, {mode}-bit: {sum(counts.values())} cases, {counts[6]} of them #UD, {len(unlike)} disagreements")
            for code, what in unlike[:20]:
                print(f"    {code.hex()}: {what}")
            wrong += len(unlike)
    print(f"{time.monotonic() - began:.0f} s, {conformance.host.lost} processes lost")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
