# Who runs next: weighted fair queueing of CPU among clients on several cores, with floors and ceilings.
"""The arithmetic of the scheduler, without machines, threads or clocks.

The unit is the retired instruction. Every client has a rate, the part of one core that is its due: in proportion to its
weight, not below its floor (reservation), not above its ceiling (limit), never above one core, since one machine runs on
one host thread at a time. A client whose rate is a whole core owns it: what it retires is its own. The others share the
cores that are left: n instructions that one of them retires are everybody's due in proportion to the rates, and

    lag = due - received

is what the scheduler keeps near zero. The next client is the one that may run (lag >= 0) and whose next quantum the ideal,
infinitely fine sharing would finish first (earliest eligible virtual deadline first: Stoica, Abdel-Wahab 1995). The quantum of
a client is proportional to its rate, so |lag| stays below QUANTUM, and a light client is served about as exactly as
a heavy one.

A client that waits has no rate and gains nothing. Its lag waits with it, cut to one quantum either way: that is all the credit
it can have when it wakes. The sum of all lags is zero: who leaves with credit leaves the debt to the others, by their rates.
"""
from __future__ import annotations

from collections.abc import Iterable

QUANTUM = 1 << 20            # instructions of a client that owns a core; a few milliseconds
SMALLEST_QUANTUM = 1 << 16   # below that the switching costs more than it brings
WEIGHT_MIN, WEIGHT_MAX, WEIGHT_DEFAULT = 1, 10000, 100     # cgroup v2 cpu.weight


class Client:
    """One that wants CPU. weight: 1..10000; floor and ceiling: parts of a core, 0 <= floor <= ceiling <= 1."""

    __slots__ = ("ceiling", "floor", "lag", "name", "rate", "ready", "received", "running", "weight")

    def __init__(self, name: str, weight: int = WEIGHT_DEFAULT, floor: float = 0.0, ceiling: float = 1.0) -> None:
        self.name = name
        self.weight = weight
        self.floor = floor
        self.ceiling = ceiling
        self.received = 0        # instructions, ever
        self.lag = 0.0           # instructions that are due and were not received
        self.rate = 0.0          # part of a core; 0 while it is not ready
        self.ready = False
        self.running = False

    @property
    def owns_core(self) -> bool:
        return self.rate >= 1.0

    @property
    def shares(self) -> bool:
        """Whether its lag is one of those that add up to zero."""
        return 0.0 < self.rate < 1.0

    @property
    def quantum(self) -> int:
        """Instructions that it runs before the next choice."""
        return max(SMALLEST_QUANTUM, int(QUANTUM * self.rate))


def rates(clients: Iterable[Client], cores: float) -> list[float]:
    """The rates of clients that are all ready: weight * x, within floor and ceiling, with the x that gives out all cores.

    Floors are kept even where their sum is above the cores (admission sees to it that it is not)."""
    wanting = list(clients)
    if sum(client.ceiling for client in wanting) <= cores:
        return [client.ceiling for client in wanting]
    # Where a client enters and leaves its proportional stretch, x = floor / weight and x = ceiling / weight: between two such
    # points the sum of the rates is a straight line of x, so one walk over the points finds the place.
    points = sorted([(client.floor / client.weight, client.weight) for client in wanting]
                    + [(client.ceiling / client.weight, -client.weight) for client in wanting])
    given, slope, x = sum(client.floor for client in wanting), 0, 0.0
    for at, change in points:
        if given + slope * (at - x) >= cores:
            break
        given += slope * (at - x)
        x, slope = at, slope + change
    if slope > 0:
        x += max(0.0, cores - given) / slope
    return [min(max(client.weight * x, client.floor), client.ceiling) for client in wanting]


class Queue:
    """The clients of one host with `cores` cores."""

    def __init__(self, cores: float) -> None:
        self.cores = cores
        self.clients: list[Client] = []      # those that are ready
        self._stale = False                  # the rates are of another set of clients

    def wake(self, client: Client) -> None:
        """`client` wants to run from now on."""
        if not client.ready:
            client.ready = True
            self.clients.append(client)
            self._stale = True

    def sleep(self, client: Client) -> None:
        """`client` waits, is held back, or is gone."""
        if client.ready:
            client.ready = False
            self.clients.remove(client)
            quantum = client.quantum
            if client.shares:
                self._spread(client.lag)
            client.lag = min(max(client.lag, -quantum), quantum)
            client.rate = 0.0
            self._stale = True

    def changed(self) -> None:
        """Weights, floors, ceilings or the number of cores were set anew."""
        self._stale = True

    def pick(self) -> Client | None:
        """The client to run next, marked as running; None where all that are ready run already."""
        if self._stale:
            self._share_anew()
        best: Client | None = None
        best_key = (True, 0.0)
        for client in self.clients:
            if client.running or client.rate <= 0.0:
                continue
            key = (client.shares and client.lag < 0, (client.quantum - client.lag) / client.rate)
            if best is None or key < best_key:
                best, best_key = client, key
        if best is not None:
            best.running = True
        return best

    def done(self, client: Client, instructions: int) -> None:
        """`client`, which was picked, has retired `instructions` and runs no more."""
        client.running = False
        client.received += instructions
        if self._stale:
            self._share_anew()
        if client.shares:
            client.lag -= instructions
            self._spread(instructions)

    def _spread(self, instructions: float) -> None:
        """Gives `instructions` as due to all who share cores, by their rates."""
        sharing = [client for client in self.clients if client.shares]
        whole = sum(client.rate for client in sharing)
        if whole > 0:
            for client in sharing:
                client.lag += instructions * client.rate / whole

    def _share_anew(self) -> None:
        self._stale = False
        shared = [client.shares for client in self.clients]
        for client, rate in zip(self.clients, rates(self.clients, self.cores)):
            client.rate = rate
        come = [client for client, before in zip(self.clients, shared) if client.shares and not before]
        gone = [client for client, before in zip(self.clients, shared) if before and not client.shares]
        self._spread(sum(client.lag for client in gone) - sum(client.lag for client in come))
        for client in gone:
            client.lag = 0.0
