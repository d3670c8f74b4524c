# Machines with several CPUs, by a guest of ours (smp_guest.S): start, messages, shared memory and code, time; determinism.
import pytest

from emu.base.errors import UsageError
from emu.machine.machine import Machine

from .processors_guest import build_guest

SUCCESS = (1 << 1) | 1           # of isa-debug-exit


def make(tmp_path, test, cpus, **options):
    return Machine(image=build_guest(tmp_path, test, cpus), memory=16 << 20, cpus=cpus, debug_exit=(0xF4, 1), **options)


def said(machine):
    return machine.debug_ports[0xE9].read().decode()


def run(machine, instructions=300_000_000):
    """Runs to the end: (exit, what it said)."""
    text = ""
    while machine.retired < instructions:
        ended = machine.run_slice()
        text += said(machine)
        if ended is not None:
            return ended, text
    raise AssertionError(f"no end; said {text!r}, " + ", ".join(f"cpu{k} {cpu.rip:#x}" for k, cpu in enumerate(machine.cpu)))


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 8, 32])
def test_locked_and_guarded_increments_of_all_cpus_are_all_there(tmp_path, cpus):
    ended, text = run(make(tmp_path, "count", cpus))
    assert (ended.code, text) == (SUCCESS, f"{2000 * cpus:08x} {500 * cpus:08x} .")


@pytest.mark.parametrize("cpus", [2, 4])
def test_code_patched_by_one_cpu_is_what_the_others_run(tmp_path, cpus):
    ended, text = run(make(tmp_path, "modify", cpus))
    assert (ended.code, text) == (SUCCESS, ".")


@pytest.mark.parametrize("model", ["pentium3", "v2"])
@pytest.mark.parametrize("cpus", [2, 4, 7])
def test_messages_reach_whom_they_name_and_wake_them(tmp_path, cpus, model):
    ended, text = run(make(tmp_path, "interrupt", cpus, cpu=model))
    assert (ended.code, text) == (SUCCESS, ".")


@pytest.mark.parametrize("cpus", [2, 4])
def test_init_and_startup_restart_a_cpu_that_is_halted_or_runs(tmp_path, cpus):
    ended, text = run(make(tmp_path, "restart", cpus))
    assert (ended.code, text) == (SUCCESS, ".")


@pytest.mark.parametrize("cpus", [2, 4])
def test_time_stamps_never_go_back_from_cpu_to_cpu(tmp_path, cpus):
    ended, text = run(make(tmp_path, "stamps", cpus))
    assert (ended.code, text) == (SUCCESS, ".")


def test_contended_lock_goes_to_everyone(tmp_path):
    ended, text = run(make(tmp_path, "fair", 4))
    shares = [int(word, 16) for word in text.split()[:4]]
    assert ended.code == SUCCESS and min(shares) > 100 and max(shares) < 3 * min(shares), shares


def test_each_cpu_has_its_own_timer_and_all_of_them_run_in_one_time(tmp_path):
    machine = make(tmp_path, "ticks", 4)
    ended, text = run(machine)
    assert (ended.code, text) == (SUCCESS, f"{80:08x} .")
    assert 1_000_000 <= ended.virtual_ns < 1_100_000        # 20 ticks of 50 us, side by side


def test_triple_fault_names_the_cpu(tmp_path):
    ended, _ = run(make(tmp_path, "fault", 3))
    assert ended.code == 11 and "on CPU 1 of 3" in ended.message


@pytest.mark.parametrize("test", ["count", "stamps", "interrupt", "ticks"])
def test_run_in_odd_slices_is_the_run_at_once(tmp_path, test):
    machines = [make(tmp_path, test, 4, seed=3) for _ in range(2)]
    at_once, text = run(machines[0])
    step, said_in_slices = 1, ""
    while machines[1].exit is None:
        before = machines[1].retired
        reason = machines[1].board.processors.run(before + step)
        assert reason != "target" or machines[1].retired == before + step
        machines[1]._after(reason)
        said_in_slices += said(machines[1])
        step = step * 5 % 1009
    assert machines[1].exit == at_once and said_in_slices == text
    assert [cpu.fields.get() for cpu in machines[0].cpu] == [cpu.fields.get() for cpu in machines[1].cpu]
    assert [part.fields.get() for part in machines[0].board.lapics] == [part.fields.get() for part in machines[1].board.lapics]


@pytest.mark.parametrize("budget", [1, 12_345, 20_001])
def test_budget_holds_for_all_cpus_together(tmp_path, budget):
    machine = make(tmp_path, "count", 4, budget=budget)
    ended, _ = run(machine)
    assert (ended.reason, ended.instructions, sum(cpu.retired for cpu in machine.cpu)) == ("budget", budget, budget)


def test_reset_puts_every_cpu_back(tmp_path):
    machine = make(tmp_path, "count", 4)
    first = run(machine)
    machine.exit = None
    machine.boot()
    assert [cpu.halted for cpu in machine.cpu] == [False] * 4
    assert run(machine)[1] == first[1]


def test_number_of_cpus_is_checked(tmp_path):
    image = build_guest(tmp_path, "count", 1)
    for cpus, model in ((0, "v2"), (256, "v2"), (2, "486"), (2, "v2,-apic")):
        with pytest.raises(UsageError):
            Machine(image=image, cpus=cpus, cpu=model)
    assert len(Machine(image=image, memory=16 << 20, cpus=255).cpu) == 255
