# A layer-2 switch between machines of this process: it learns addresses, and delivers at instants of virtual time.
#
# A frame that a card sent at virtual time t is received by the others at t + latency_ns of their own time. Machines that run
# for windows of at most latency_ns between two calls of `exchange` therefore see each frame in time, in an order that depends on
# virtual times and on nothing else: whoever runs them (on one host thread or on many) only has to meet at the windows' ends.
import weakref

from emu.base.errors import UsageError

LATENCY_NS = 100_000
LEARNED_MOST = 4096                # addresses that are remembered
QUEUE_FRAMES = 1024                # that wait for one port with a full input ring
_BASE_MAC = 0x525400123500


class Switch:
    """A learning bridge (IEEE 802.1D, 7.8 and 7.9, without spanning tree). Ports are NetPorts, or what has their `take` and
    `inject`; a far end with `exchange` (a NAT) is asked for its frames, too, which count as sent at the windows' ends."""

    def __init__(self, name: str, latency_ns: int = LATENCY_NS) -> None:
        self.name, self.latency_ns = name, latency_ns
        self.lost = 0
        self.is_synchronised = False     # True: whoever runs the machines in windows calls `exchange` between them
        self._ports: list = []
        self._uplinks: list = []
        self._waiting: list[list[tuple[int, bytes]]] = []
        self._learned: dict[bytes, object] = {}
        self._cards = 0

    def next_mac(self) -> str:
        """An address that this switch has not given to another card."""
        self._cards += 1
        if self._cards > 0xFFFF:
            raise UsageError(f"switch {self.name}", "has given away all its addresses", mend="give mac= to the cards")
        address = _BASE_MAC + self._cards
        return ":".join(f"{byte:02x}" for byte in address.to_bytes(6, "big"))

    def connect(self, port) -> None:
        """Plugs in a machine's port. Ports are served in the order in which they were plugged in."""
        self._ports.append(port)
        self._waiting.append([])

    def connect_uplink(self, far) -> None:
        """Plugs in something that is no machine and has no virtual time, such as a UserNetwork for all of the switch."""
        self._uplinks.append(far)

    def disconnect(self, port) -> None:
        """Pulls a machine's cable; frames for it are lost."""
        number = next((k for k, known in enumerate(self._ports) if known is port), None)
        if number is not None:
            del self._ports[number], self._waiting[number]
            self._learned = {address: where for address, where in self._learned.items() if where is not port}

    @property
    def ports(self) -> tuple:
        """The machines' ports, in order."""
        return tuple(self._ports)

    @property
    def is_active(self) -> bool:
        """Whether an uplink may have something to say by itself."""
        return any(far.is_active for far in self._uplinks)

    def exchange(self) -> None:
        """Takes what every port has sent, and hands it to the ports that it is for, in order of time, then of port."""
        sent = [(when_ns, number, order, frame) for number, port in enumerate(self._ports)
                for order, (when_ns, frame) in enumerate(port.take())]
        for when_ns, number, _, frame in sorted(sent, key=lambda entry: entry[:3]):
            self._forward(frame, self._ports[number], when_ns + self.latency_ns)
        if self._uplinks:
            now_ns = max((port.now_ns for port in self._ports), default=0)
            for far in self._uplinks:
                far.exchange()
                for frame in far.take():
                    self._forward(frame, far, now_ns)
        for port, waiting in zip(self._ports, self._waiting):
            self._deliver(port, waiting)

    def _forward(self, frame: bytes, source, due_ns: int) -> None:
        target, sender = frame[:6], frame[6:12]
        if not sender[0] & 1:
            if sender not in self._learned and len(self._learned) >= LEARNED_MOST:
                del self._learned[next(iter(self._learned))]     # the one learned first
            self._learned[sender] = source
        known = None if target[0] & 1 else self._learned.get(target)
        for port, waiting in zip(self._ports, self._waiting):
            if port is source or (known is not None and port is not known):
                continue
            if len(waiting) < QUEUE_FRAMES:
                waiting.append((due_ns, frame))
            else:
                self.lost += 1
        for far in self._uplinks:
            if far is not source and (known is None or far is known):
                far.inject(frame)

    @staticmethod
    def _deliver(port, waiting: list[tuple[int, bytes]]) -> None:
        done = 0
        while done < len(waiting) and port.inject(waiting[done][1], waiting[done][0]):
            done += 1
        del waiting[:done]


_switches: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def find_switch(name: str) -> Switch:
    """The switch of this process by that name, made if there is none; it lives as long as something is connected to it."""
    switch = _switches.get(name)
    if switch is None:
        switch = _switches[name] = Switch(name)
    return switch
