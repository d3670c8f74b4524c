# The fuzzers as a command: rounds of random guests until the time is over; every failure names the seed that shows it again.
"""python -m tests.fuzz [machine|twins|images|native|decoder|stop] [--seed N] [--seconds S] [--total N] [--round R]

machine: random guests on a whole PC (machine.py); twins: the same through blocks and instruction by instruction; images: images
whose headers lie (images.py); native: sequences of user code against the host's processor (native.py); decoder: random bytes against
capstone and iced-x86 (decoder.py); stop: how long guests that do not want to be stopped take (stop.py).
--seconds: how long (60); --total: until so many instructions are done, however long; --seed: of everything (chosen by the time of
day, and printed); --round: this one only. Ends with 1 at the first failure.
"""
from __future__ import annotations

import argparse
import faulthandler
import gc
import sys
import time

HANG_SECONDS = 120               # a round takes less than a second; the debug build on a loaded host takes several
GROWTH_PAGES = 16384             # 64 MiB: caches of the allocator, not of guests


def resident_pages() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])


def carry(run_round, seed: int, seconds: float, wanted: int | None, only: int | None) -> int:
    """Runs rounds for `seconds`, or until `wanted` things are done; gives the exit code."""
    print(f"seed {seed}", flush=True)
    started = told = time.monotonic()
    number = only or 0
    total = 0
    warm = None
    while True:
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        with open("/proc/self/comm", "w") as file:           # so that even a dead process tells its round
            file.write(f"fuzz {number}")
        try:
            total += run_round(f"{seed}:{number}")
        except Exception as failure:
            print(f"FAILED in round {number}: {type(failure).__name__}: {failure}\n  again: --seed {seed} --round {number}", flush=True)
            return 1
        faulthandler.cancel_dump_traceback_later()
        number += 1
        gc.collect()                                         # a machine is a ring of parts: it goes when the collector comes
        now = time.monotonic()
        if warm is None and number >= (only or 0) + 50:
            warm = resident_pages()
        grown = 0 if warm is None else resident_pages() - warm
        if grown > GROWTH_PAGES:
            print(f"FAILED: the host's memory grew by {grown * 4096 >> 20} MiB in {number} rounds", flush=True)
            return 1
        over = only is not None or (now - started >= seconds if wanted is None else total >= wanted)
        if now - told > 30 or over:
            told = now
            print(f"{number} rounds, {total} done, {now - started:.0f} s, {grown * 4096 / 2 ** 20:+.1f} MiB", flush=True)
        if over:
            return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="machine", choices=("machine", "twins", "images", "native", "decoder", "stop"))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--total", type=int)
    parser.add_argument("--round", type=int)
    options = parser.parse_args()
    faulthandler.enable()
    if options.what == "stop":
        from tests.fuzz.stop import main as measure
        return measure()
    common = options.seed, options.seconds, options.total, options.round
    if options.what == "machine":
        from tests.fuzz.machine import run_round
        return carry(run_round, *common)
    if options.what == "twins":
        from tests.fuzz.machine import run_twins
        return carry(run_twins, *common)
    if options.what == "images":
        from tests.fuzz.images import run_round as boot_round
        return carry(boot_round, *common)
    if options.what == "native":
        from tests.fuzz import native
        both = native.Native()
        code = carry(lambda seed: native.run_round(seed, both), *common)
        print(f"{both.done['sequences']} sequences, {both.done['whole']} of at least 20 instructions; excused: {dict(both.excused)}")
        return code
    from tests.fuzz.decoder import run_round as decode_round
    return carry(decode_round, *common)


if __name__ == "__main__":
    sys.exit(main())
