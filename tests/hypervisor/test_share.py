# The share of CPU that each client gets, against an ideal fluid that is computed another way.
import heapq

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.hypervisor.share import QUANTUM, Client, Queue, rates


def simulate(queue, cores, until, speeds=None):
    """Cores that run what the queue picks, each at its own speed; gives the greatest |lag| that was seen, in QUANTUM."""
    speeds = speeds or [1.0] * cores
    free = [(0.0, core) for core in range(cores)]
    heapq.heapify(free)
    busy, worst = [], 0.0
    while True:
        while free:
            at, core = heapq.heappop(free)
            client = queue.pick()
            if client is None:
                free.append((at, core))
                break
            quantum = client.quantum
            heapq.heappush(busy, (at + quantum / speeds[core], core, at, client, quantum))
        at, core, _, client, quantum = heapq.heappop(busy)
        if at > until:
            for started in [client] + [entry[3] for entry in busy]:
                queue.done(started, 0)
            return worst
        queue.done(client, quantum)
        halfway = {other.name: (at - since) * speeds[on] for _, on, since, other, _ in busy if other.shares}
        for other in queue.clients:
            if other.shares:
                part = other.rate / sum(each.rate for each in queue.clients if each.shares)
                lag = other.lag - halfway.get(other.name, 0.0) + part * sum(halfway.values())
                worst = max(worst, abs(lag) / QUANTUM)
        free = [(max(at, since), idle) for since, idle in free]
        heapq.heappush(free, (at, core))


def fluid(weights, floors, ceilings, cores):
    """Rates by bisection of the water level: what `rates` does by walking over its corners."""
    low, high = 0.0, 1.0
    for _ in range(200):
        level = (low + high) / 2
        total = sum(min(max(w * level, f), c) for w, f, c in zip(weights, floors, ceilings))
        low, high = (level, high) if total < cores else (low, level)
    return [min(max(w * high, f), c) for w, f, c in zip(weights, floors, ceilings)]


@given(st.lists(st.tuples(st.integers(1, 10000), st.floats(0, 0.25), st.floats(0.25, 1)), min_size=1, max_size=12), st.integers(3, 8))
def test_rates_are_those_of_the_fluid(wanted, cores):
    clients = [Client(str(k), *each) for k, each in enumerate(wanted)]
    expected = fluid(*zip(*wanted), cores)
    assert rates(clients, cores) == pytest.approx(expected, abs=1e-6)


def test_doubling_weights_on_two_cores():
    """The heaviest of 1:2:...:128 is due more than a core: it owns one, the others share the second by their weights."""
    queue = Queue(2)
    clients = [Client(str(k), 1 << k) for k in range(8)]
    for client in clients:
        queue.wake(client)
    simulate(queue, 2, 4000 * QUANTUM, [1.0, 0.9])
    shared = sum(client.received for client in clients[:7])
    for k in range(7):
        assert clients[k].received == pytest.approx(shared * (1 << k) / 127, rel=0.01)
    assert clients[7].owns_core


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=12), st.integers(1, 4))
def test_nobody_is_further_from_its_due_than_a_quantum(weights, cores):
    queue = Queue(cores)
    clients = [Client(str(k), weight) for k, weight in enumerate(weights)]
    for client in clients:
        queue.wake(client)
    worst = simulate(queue, cores, 300 * QUANTUM)
    assert worst <= 1.0
    assert sum(client.lag for client in clients if client.shares) == pytest.approx(0, abs=1.0)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_coming_and_going_brings_no_credit(data):
    """Whatever sleeps and wakes in between, the sum of the lags stays zero and no credit exceeds one quantum."""
    queue = Queue(2)
    clients = [Client(str(k), data.draw(st.integers(1, 100))) for k in range(6)]
    for client in clients:
        queue.wake(client)
    for _ in range(40):
        client = data.draw(st.sampled_from(clients))
        (queue.sleep if client.ready else queue.wake)(client)
        assert client.ready or abs(client.lag) <= QUANTUM
        for _ in range(3):
            picked = [queue.pick(), queue.pick()]
            for one in picked:
                if one is not None:
                    queue.done(one, data.draw(st.integers(1, one.quantum)))
        assert sum(one.lag for one in queue.clients if one.shares) == pytest.approx(0, abs=1e-3)


def test_a_sleeper_does_not_starve_the_others_when_it_wakes():
    queue = Queue(1)
    busy, sleeper = Client("busy"), Client("sleeper")
    queue.wake(busy)
    simulate(queue, 1, 1000 * QUANTUM)
    queue.wake(sleeper)
    before = busy.received
    simulate(queue, 1, 100 * QUANTUM)
    assert busy.received - before == pytest.approx(50 * QUANTUM, abs=2 * QUANTUM)
