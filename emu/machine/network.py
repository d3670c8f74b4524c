# What a machine's network cards are connected to: reading what users ask for, and carrying frames between two slices.
from __future__ import annotations

from typing import NamedTuple

from emu.base.errors import UsageError
from emu.devices.throttle import Limits

MODELS = {"virtio": "virtio", "virtio-net-pci": "virtio", "e1000": "e1000"}
FORM = ("none, user[,forward=HOSTPORT:GUESTPORT] or switch=NAME, with [,model=virtio|e1000][,mac=M][,pcap=FILE]"
        "[,bps=N][,iops=N][,burst=N][,iops_burst=N]")
_SUFFIXES = {"k": 10 ** 3, "m": 10 ** 6, "g": 10 ** 9}


class Nic(NamedTuple):
    """One network card and its cable. kind: "user" or "switch"; switch: its name; forwards: (host port, guest port, is_udp);
    model: "virtio" or "e1000"; mac: text, or "" for one of the far end's choice; pcap: file for the frames, or ""."""

    kind: str
    switch: str = ""
    forwards: tuple[tuple[int, int, bool], ...] = ()
    model: str = "virtio"
    mac: str = ""
    pcap: str = ""
    limits: Limits = Limits()


def read_nic(subject: str, text: str) -> Nic | None:
    """The card that e.g. "user,forward=8080:80" describes; None for "none". Raises UsageError about `subject`."""
    first, *parts = text.split(",")
    if text == "none":
        return None
    kind, _, name = first.partition("=")
    if kind not in ("user", "switch") or (kind == "user" and "=" in first) or (kind == "switch" and not name):
        raise UsageError(subject, f"unknown kind {first!r}", FORM)
    values: dict = {"kind": kind, "switch": name}
    forwards: list[tuple[int, int, bool]] = []
    limits: dict = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key in ("forward", "hostfwd") and kind == "user":
            forwards.append(_forward(subject, part, value))
        elif key == "model" and value in MODELS:
            values["model"] = MODELS[value]
        elif key == "mac":
            from emu.devices.backend.net.port import read_mac
            read_mac(subject, value)
            values["mac"] = value
        elif key == "pcap" and value:
            values["pcap"] = value
        elif not take_limit(subject, key, value, limits):
            raise UsageError(subject, f"unknown part {part!r}", FORM)
    values["forwards"] = tuple(forwards)
    nic = Nic(**values, limits=Limits(**limits))
    nic.limits.check(subject)
    return nic


def take_limit(subject: str, key: str, value: str, limits: dict) -> bool:
    """Whether `key` is a limit; its value, as 10M or 500, goes into `limits`. The letters are powers of 1000."""
    if key == "clock":
        limits[key] = value
    elif key in ("bps", "iops", "burst", "iops_burst"):
        digits, factor = (value[:-1], _SUFFIXES[value[-1].lower()]) if value[-1:].lower() in _SUFFIXES else (value, 1)
        if not (digits.isascii() and digits.isdigit() and len(digits) < 12) or int(digits) == 0:
            raise UsageError(subject, f"{key}={value} is no number", "such as 500 or 10M")
        limits[key] = int(digits) * factor
    else:
        return False
    return True


def _forward(subject: str, part: str, value: str) -> tuple[int, int, bool]:
    """HOST:GUEST, or QEMU's tcp:[127.0.0.1]:HOST-[10.0.2.15]:GUEST; udp: before it makes it one of UDP."""
    protocol, _, rest = value.partition(":")
    is_udp = protocol == "udp"
    if protocol not in ("tcp", "udp"):
        rest = value
    if "-" in rest:
        host, _, guest = rest.partition("-")
        host_address, _, host = host.rpartition(":")
        guest_address, _, guest = guest.rpartition(":")
        if host_address not in ("", "127.0.0.1") or guest_address not in ("", "10.0.2.15"):
            raise UsageError(subject, f"{part} cannot be", "forwards go from 127.0.0.1 to 10.0.2.15")
    else:
        host, _, guest = rest.partition(":")
    ports = []
    for digits in (host, guest):
        if not (digits.isascii() and digits.isdigit() and len(digits) < 6 and 0 < int(digits) < 65536):
            raise UsageError(subject, f"{part}: {digits!r} is no port", "forward=HOSTPORT:GUESTPORT, each from 1 to 65535")
        ports.append(int(digits))
    return ports[0], ports[1], is_udp


class Cable:
    """A card's `port` and what is at the far end of its cable: `far` takes frames by `inject` and gives them by `take`."""

    def __init__(self, port, far, capture=None) -> None:
        self.port, self.far, self.capture = port, far, capture
        self._backlog: list[bytes] = []

    def exchange(self) -> None:
        """Carries what waits at both ends; called between two slices."""
        port, far = self.port, self.far
        for _, frame in port.take():
            far.inject(frame)
        far.exchange()
        waiting = self._backlog + far.take()
        room = True
        while waiting and room:
            room = port.inject(waiting[0])
            if room:
                del waiting[0]
        self._backlog = waiting
        if self.capture is not None:
            self.capture.write_until(port.now_ns)

    @property
    def is_active(self) -> bool:
        """Whether frames may come from the host's world, which has a time of its own."""
        return self.far.is_active

    def watch(self) -> int:
        """A descriptor that becomes readable when `exchange` is wanted."""
        return self.far.watch()

    def close(self) -> None:
        """Lets go of what belongs to the cable."""
        self.far.close()
        if self.capture is not None:
            self.capture.close(self.port.now_ns)


class SwitchedCable:
    """A card's `port` at a `switch`, which carries the frames of all its ports at once."""

    is_active = False

    def __init__(self, port, switch, capture=None) -> None:
        self.port, self.switch, self.capture = port, switch, capture
        switch.connect(port)

    def exchange(self) -> None:
        """Carries what waits at every port of the switch, unless somebody does that who runs all the machines."""
        if not self.switch.is_synchronised:
            self.switch.exchange()
        if self.capture is not None:
            self.capture.write_until(self.port.now_ns)

    def close(self) -> None:
        """Pulls the cable."""
        self.switch.disconnect(self.port)
        if self.capture is not None:
            self.capture.close(self.port.now_ns)


def plug_in(nic: Nic, port, start_seconds: int):
    """The cable that `nic` asks for at `port`. Raises EmuError subclasses where it cannot be had."""
    capture = None
    if nic.pcap:
        from emu.devices.backend.net.pcap import Capture
        capture = Capture(nic.pcap, start_seconds)
        port.capture = capture.add
    try:
        if nic.kind == "switch":
            from emu.devices.backend.net.switch import find_switch
            return SwitchedCable(port, find_switch(nic.switch), capture)
        from emu.devices.backend.net.nat import UserNetwork
        return Cable(port, UserNetwork(nic.forwards), capture)
    except BaseException:
        if capture is not None:
            capture.close(0)
        raise


def choose_mac(nic: Nic, number: int) -> str:
    """The address of card `number` of a machine: its own, or one that no other card at the same switch has."""
    if nic.mac:
        return nic.mac
    if nic.kind == "switch":
        from emu.devices.backend.net.switch import find_switch
        return find_switch(nic.switch).next_mac()
    return f"52:54:00:12:34:{0x56 + number:02x}"
