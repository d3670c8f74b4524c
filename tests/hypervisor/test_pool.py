# Many machines in one process: admission, exact budgets, limits, input, pauses, and sums that agree.
import pathlib
import threading

import pytest

import emu
from emu.base.errors import ResourceError, UsageError
from emu.hypervisor.pool import OVERHEAD, Hypervisor
from emu.hypervisor.spec import Cpu, Spec

TEACH = pathlib.Path(emu.__file__).parent / "data" / "teach.elf"
SPIN = bytes.fromhex("40 89c3 01d9 ebf9")        # inc ax; mov bx,ax; add cx,bx; jmp back: never ends, never waits
CRASH = bytes.fromhex("fa 0f011e0b7c 0f0b 0000 000000000000")    # cli; lidt [an empty table]; ud2


@pytest.fixture
def sector(tmp_path):
    def write(code):
        path = tmp_path / f"{code[:4].hex()}.bin"
        path.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa")
        return path
    return write


def spinner(sector, name="", **cpu):
    return Spec(name=name, image=sector(SPIN), memory="16M", cpu=Cpu(**cpu))


def test_budgets_are_exact_and_sums_agree(sector):
    with Hypervisor(memory="1G", cores=2) as hypervisor:
        budgets = [1, 999_983, 3_000_017, 5_000_011]
        guests = [hypervisor.add(spinner(sector, budget=budget)) for budget in budgets]
        assert hypervisor.run(timeout=60)
        assert [guest.usage["instructions"] for guest in guests] == budgets
        assert all(guest.exit.reason == "budget" and guest.state == "stopped" for guest in guests)
        assert hypervisor.usage["instructions"] == sum(budgets)
        hypervisor.remove(guests[2])
        assert hypervisor.usage["instructions"] == sum(budgets)
        assert hypervisor.usage["host_cpu_ns"] >= sum(guest.host_cpu_ns for guest in guests if guest is not guests[2])


def test_shares_divide_one_core(sector):
    with Hypervisor(memory="1G", cores=1) as hypervisor:
        light, heavy = hypervisor.add(spinner(sector, shares=100)), hypervisor.add(spinner(sector, shares=300))
        hypervisor.run(until=lambda: heavy.client.received > 60_000_000, timeout=60)
        assert heavy.client.received / light.client.received == pytest.approx(3, rel=0.05)
        heavy.set_cpu(Cpu(shares=100))
        before = light.client.received, heavy.client.received
        hypervisor.run(until=lambda: heavy.client.received > before[1] + 40_000_000, timeout=60)
        assert (heavy.client.received - before[1]) / (light.client.received - before[0]) == pytest.approx(1, rel=0.1)


def test_limit_in_instructions_holds_in_every_period(sector):
    with Hypervisor(memory="1G", cores=1) as hypervisor:
        guest = hypervisor.add(spinner(sector, limit="2M/s", period_ms=100))
        seen = []
        hypervisor.run(until=lambda: seen.append(guest.client.received) or len(seen) > 30, timeout=5)
        assert guest.throttled_ns > 0
        assert max(later - earlier for earlier, later in zip(seen, seen[1:])) <= 2 * 200_000   # two periods may touch an interval


def test_what_does_not_fit_is_not_admitted(sector):
    hypervisor = Hypervisor(memory=3 * ((16 << 20) + OVERHEAD), cores=2)
    for name in "abc":
        hypervisor.add(spinner(sector, name))
    with pytest.raises(ResourceError, match="of memory"):
        hypervisor.add(spinner(sector, "d"))
    with pytest.raises(UsageError, match="another machine has it"):
        hypervisor.add(spinner(sector, "a"))
    hypervisor.remove(hypervisor.guests["a"])
    hypervisor.add(spinner(sector, "d", reservation="100%"))
    hypervisor.guests["b"].set_cpu(Cpu(reservation="75%"))
    with pytest.raises(ResourceError, match="reserves 50%"):
        hypervisor.guests["c"].set_cpu(Cpu(reservation="50%"))
    assert Hypervisor(memory="16M", overcommit=True).add(spinner(sector)).name == "machine1"
    hypervisor.close()


@pytest.mark.parametrize("cpu", [Cpu(shares=0), Cpu(shares=10001), Cpu(shares="most"), Cpu(limit="0%"), Cpu(limit="101%"), Cpu(limit="x/s"),
                                 Cpu(limit="20%", reservation="30%"), Cpu(reservation="-1%"), Cpu(period_ms=0), Cpu(budget=0)])
def test_impossible_allotments_are_refused(cpu):
    with pytest.raises(UsageError):
        Hypervisor(memory="1G").check(Spec(kernel=TEACH, cpu=cpu))


def test_idle_machine_answers_input_and_ends_by_itself(sector):
    with Hypervisor(memory="1G", cores=2) as hypervisor:
        teach, busy = hypervisor.add(Spec("teach", kernel=TEACH)), hypervisor.add(spinner(sector))
        assert hypervisor.run(until=lambda: b"teach> " in teach.output, timeout=60)
        teach.send("poweroff\n")
        assert hypervisor.run(until=lambda: teach.exit is not None, timeout=60)
        assert (teach.exit.reason, busy.exit) == ("power off", None)


def test_paused_machine_retires_nothing(sector):
    with Hypervisor(memory="1G", cores=2) as hypervisor:
        paused, other = hypervisor.add(spinner(sector)), hypervisor.add(spinner(sector))
        paused.pause()
        hypervisor.run(until=lambda: other.client.received > 5_000_000, timeout=60)
        assert (paused.state, paused.client.received) == ("paused", 0)
        paused.resume()
        assert hypervisor.run(until=lambda: paused.client.received > 1_000_000, timeout=60)


def test_a_crash_is_the_affair_of_one_machine(sector):
    with Hypervisor(memory="1G", cores=2) as hypervisor:
        crash, other = hypervisor.add(Spec("crash", image=sector(CRASH), memory="16M")), hypervisor.add(spinner(sector, budget="2M"))
        assert hypervisor.run(timeout=60)
        assert (crash.exit.code, other.exit.reason) == (11, "budget")


def test_machines_run_as_if_alone(sector):
    """What a machine does depends on nobody beside it: the same instructions give the same time and bytes."""
    def output(beside):
        with Hypervisor(memory="2G", cores=2) as hypervisor:
            guest = hypervisor.add(Spec("teach", kernel=TEACH, clock="virtual", cpu=Cpu(budget="3M")))
            for _ in range(beside):
                hypervisor.add(spinner(sector, budget="5M"))
            assert hypervisor.run(timeout=60)
            return bytes(guest.output), guest.exit
    assert output(0) == output(3)


def test_machines_come_and_go_while_others_run(sector):
    with Hypervisor(memory="1G", cores=2) as hypervisor:
        first = hypervisor.add(spinner(sector))
        done = threading.Event()

        def visit():
            for _ in range(10):
                guest = hypervisor.add(spinner(sector, budget="100k"))
                while guest.exit is None:
                    done.wait(0.001)
                hypervisor.remove(guest)
            done.set()

        visitor = threading.Thread(target=visit)
        visitor.start()
        assert hypervisor.run(until=done.is_set, timeout=60)
        visitor.join()
        assert list(hypervisor.guests.values()) == [first]
        assert hypervisor.usage["instructions"] == 10 * 100_000 + first.usage["instructions"]
