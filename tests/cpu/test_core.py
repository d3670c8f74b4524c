# The core loop: it always comes back, whatever the guest does.
import gc
import signal

import pytest

from tests.cpu.system_bench import CODE, HANDLERS, IDT, KCODE, SystemBench, TSS, long_gate
from tests.tools.bench import Bench


def test_loop_whose_block_is_made_anew_empties_the_arena_and_goes_on():
    """The arena fills up with blocks that were invalidated; the branch that led to the one that empties it is gone with it."""
    bench = Bench(32)
    entry, target = CODE + 7, CODE + 0x40
    store = b"\xc6\x05" + (target + 3).to_bytes(4, "little") + b"\x90"              # MOV BYTE [target + 3], NOP
    leave = b"\x49\x0f\x85" + (target - (entry + 7)).to_bytes(4, "little") + b"\xf4"    # DEC ECX; JNZ target; HLT
    body = b"\x90" * 24 + b"\xe9" + (CODE - (target + 29)).to_bytes(4, "little", signed=True)
    code = store + leave
    bench.memory.physical[CODE:CODE + len(code)] = code
    bench.memory.physical[target:target + len(body)] = body
    bench.cpu.set_register("rcx", 80_000)
    bench.cpu.set_register("rip", entry)
    bench.cpu.after_load()
    assert bench.cpu.run(10_000_000) == "dead"
    assert bench.cpu.registers["rcx"] == 0 and bench.cpu.retired == 80_000 * 2 + 79_999 * 26 + 1
    assert bench.cpu.processors.counters["blocks"] > 80_000


def test_handler_that_cannot_be_fetched_lets_the_run_return():
    """#UD and #PF get a fresh stack each time (IST), and their handler is not mapped: no instruction retires."""
    bench = SystemBench(64)
    bench.write(TSS + 36, (0x30000).to_bytes(8, "little"))
    for vector in (6, 14):
        bench.write(IDT + 16 * vector, long_gate(KCODE, 0x40000000, 0x8E, ist=1))
    before = bench.clock.now_ns
    assert bench.go(b"\x0f\x0b") == "target"
    assert bench.cpu.retired == 0 and bench.cpu.last_fault[0] == 14
    bench.cpu.run(1000)
    assert bench.clock.now_ns > before                                   # and timers go on


def test_signal_handler_that_raises_ends_a_run():
    class Alarm(Exception):
        pass

    def ring(number, frame):
        raise Alarm

    bench = Bench(64)
    bench.memory.physical[CODE:CODE + 2] = b"\xeb\xfe"                   # JMP to itself
    bench.cpu.set_register("rip", CODE)
    bench.cpu.after_load()
    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Alarm):
            bench.cpu.run(1 << 60)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert bench.cpu.registers["rip"] == CODE and bench.cpu.retired > 0


def test_run_goes_to_the_very_instruction_count_however_far():
    bench = Bench(64)
    bench.memory.physical[CODE:CODE + 5] = b"\x48\xff\xc0\xeb\xfb"       # INC RAX; JMP back
    bench.cpu.set_register("rip", CODE)
    bench.cpu.after_load()
    assert bench.cpu.run(3_000_001) == "target"
    assert bench.cpu.retired == 3_000_001 and bench.cpu.registers["rax"] == 1_500_001


def test_handlers_are_where_the_bench_says():
    """The bench that the tests above stand on: #UD goes to its handler where that is mapped."""
    bench = SystemBench(64)
    assert bench.go(b"\x0f\x0b") == "dead" and bench.vector == 6 and HANDLERS < bench.cpu.rip


def test_cpu_that_dies_after_its_memory_leaves_it_alone():
    """In a ring of garbage the collector may take the memory first. AddressSanitizer (tools/debug.py) sees a touch of it."""
    for _ in range(20):
        bench = Bench(32)
        ring = [bench.cpu.intr, bench.memory, bench.cpu]
        ring.append(ring)
        bench.cpu.keep(ring)
        del bench, ring
        gc.collect()
