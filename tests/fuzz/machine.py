# Random guests on a whole PC: random states and code, random accesses to ports and registers, hostile virtio rings.
from __future__ import annotations

import hashlib
import random
import struct

from emu.board.pc import Pc, PcOptions
from emu.cpu.invariants import broken_invariants
from emu.cpu.models import resolve_cpu
from emu.devices.backend.disk import DiskBackend

from tests.fuzz.code import Writer
from tests.fuzz.state import CODE, HANDLERS, MMIO, RAM, ROM, SCRATCH, State

MODELS = ("v2", "v2", "v2", "v1", "pentium3", "486")
PORTS = (*range(0x20, 0x22), *range(0xA0, 0xA2), 0x4D0, 0x4D1, *range(0x40, 0x44), 0x61, 0x60, 0x64, 0x70, 0x71, 0x92, *range(0x3F8, 0x400),
         *range(0x2F8, 0x300), 0xE9, 0x402, 0x501, *range(0x600, 0x610), *range(0xCF8, 0xD00), *range(0xC000, 0xC080))
VIRTIO_BAR = 4
MOST_CALLS = 20                  # of Core.run that retire nothing


class Failure(Exception):
    """What must never be: told with the case that shows it."""


class Guest:
    """One PC for a few cases; everything in it follows from `seed`."""

    def __init__(self, seed: str, stride: int = 1 << 20) -> None:
        self.rng = rng = random.Random(seed)
        self.writer = Writer(rng)
        self.stride = stride                                 # instructions that one call of Core.run is asked for at most
        self.comparable = True                               # idle jumps are counted by the call: a machine that only waits is not
        self.model = resolve_cpu(rng.choice(MODELS))
        disk = DiskBackend.blank(1 << 20, overlay_limit=1 << 19)
        cpus = rng.choice((1, 1, 2, 3)) if self.model.has_apic else 1
        self.board = Pc(PcOptions(RAM, self.model, rng.getrandbits(32), 0, (0x501, 2), (disk,), cpus=cpus))
        self.board.memory.add_rom(ROM, rng.randbytes(0x10000))
        self.cpu = self.board.cpus[0]
        self.processors = self.board.processors
        self.physical = self.board.memory.physical
        names = self.model.names
        self.cr4 = 0x7FF if "PAE" in names else 0x10 if "PSE" in names else 0
        self.cr4 |= 0x800 if "UMIP" in names else 0
        self.cr4 |= 0x770000 if "SMEP" in names else 0
        self.cr4 &= ~0x600 if "SSE" not in names else ~0
        self.board.reset()

    def case(self, instructions: int) -> str:
        """One random state, run for at most `instructions`; gives the reasons why it stopped."""
        rng, board, cpu = self.rng, self.board, self.cpu
        state = State(rng, self.writer, self.model.has_long_mode, self.cr4)
        state.put(self.physical)
        state.enter(cpu)
        for other in board.cpus[1:]:
            if rng.random() < 0.5:
                other.startup.drive(rng.choice((CODE, CODE + 0x1000, HANDLERS)) >> 12)
        if rng.random() < 0.7:
            self.poke(rng.randrange(60))
        if rng.random() < 0.5:
            self.rings()
        if rng.random() < 0.3:
            board.serial[0].feed(rng.randbytes(rng.randrange(200)))
            board.console.feed(rng.randbytes(rng.randrange(200)))
        said = []
        left = instructions
        while left > 0:
            piece = min(left, rng.choice((1, 7, 100, 1000, 5000)))
            reason, stuck = self.run(piece, rng.random() < 0.8)
            self.drain()
            left -= piece
            if stuck:
                self.comparable = False
                break
            if reason != "target":
                said.append(reason)
                if rng.random() < 0.3:
                    break
                if reason in ("shutdown", "reset"):
                    board.reset()
                state.enter(cpu)
            if rng.random() < 0.1:
                self.poke(rng.randrange(8))
        broken = [text for each in board.cpus for text in broken_invariants(each)]
        if broken:
            raise Failure(f"mode {state.mode}: " + "; ".join(broken[:5]))
        return " ".join(said)

    def run(self, piece: int, jump: bool) -> tuple[str, bool]:
        """Retires `piece` instructions, `stride` at a time: the reason of the end, and whether it was stuck at an instruction."""
        processors = self.processors
        goal = processors.retired + piece
        calls = 0
        while processors.retired < goal:
            before = processors.retired
            wanted = min(self.stride, goal - before)
            reason = processors.run(before + wanted, jump)
            if processors.retired - before > wanted:
                raise Failure(f"{processors.retired - before} instructions retired where {wanted} were asked for")
            if reason == "stop":
                self.board.requests.take()
            elif reason != "target":
                return reason, False
            calls = calls + 1 if processors.retired == before else 0
            if calls > MOST_CALLS:
                return reason, True
        return "target", False

    def digest(self) -> dict:
        """All that a guest can see of the machine."""
        state = {part.fields.component: part.fields.get() for part in self.board.devices if hasattr(part, "fields")}
        ram = hashlib.blake2b()
        for base, length in self.board.memory.ram_ranges:
            ram.update(self.physical[base:base + length])
        return {**state, **{f"registers of {cpu.number}": cpu.registers for cpu in self.board.cpus}, "ram": ram.hexdigest()}

    def drain(self) -> None:
        """What a machine does between two slices."""
        board = self.board
        board.requests.take()
        for backend in (*board.serial, *board.debug_consoles.values(), board.console):
            backend.take()

    def poke(self, count: int) -> None:
        """Accesses to ports and registers as a guest could make them; time goes on between them."""
        rng, board = self.rng, self.board
        bases = [base for base, length in board.ports.ranges]
        windows = [0xFEE00000, 0xFEC00000, 0xFED00000, *(base for card in board.cards for base, _ in card.bars.values())]
        for _ in range(count):
            value = rng.choice((rng.getrandbits(32), rng.getrandbits(8), 0, 0xFFFFFFFF, 1))
            draw = rng.randrange(10)
            size = rng.choice((1, 2, 4))
            if draw < 3:
                port = rng.choice(PORTS) if rng.random() < 0.8 else min(rng.choice(bases) + rng.getrandbits(4), 0xFFFF)
                if not 0xCF8 <= port < 0xCFC or rng.random() < 0.1:
                    board.ports.write(port, size, value & (1 << 8 * size) - 1)
            elif draw < 5:
                board.ports.read(rng.choice(PORTS), size)
            elif draw < 6:
                board.ports.write(0xCF8, 4, 0x80000000 | rng.randrange(8) << 11 | rng.getrandbits(6) << 2)
                board.ports.write(0xCFC + rng.randrange(4), size, value & (1 << 8 * size) - 1)
            elif draw < 9:
                size = rng.choice((1, 2, 4, 8))
                place = rng.choice(windows) + rng.choice((rng.getrandbits(8) & ~3, rng.getrandbits(10) & ~15, rng.getrandbits(14)))
                place = min(place & ~(size - 1), (1 << 40) - 8)
                if draw < 8:
                    board.memory.write(place, size, (value | value << 32) & (1 << 8 * size) - 1)
                else:
                    board.memory.read(place, size)
            else:
                board.clock.advance(board.clock.now_ns + rng.getrandbits(rng.choice((4, 12, 20))))
                board.processors.wait(0)                 # the CPU is at the time of the devices
        self.drain()

    def rings(self) -> None:
        """Drives a virtio device as a hostile driver would: queues anywhere, descriptors that lie, notifications at any time."""
        rng, board = self.rng, self.board
        card = rng.choice([card for card in board.cards if hasattr(card, "status")])
        if VIRTIO_BAR not in card.bars:                      # an earlier poke has moved it away
            board.reset()
        bar = card.bars[VIRTIO_BAR][0]
        slot = board.cards.index(card)
        board.ports.write(0xCF8, 4, 0x80000000 | slot << 11 | 4)
        board.ports.write(0xCFC, 2, rng.choice((7, 7, 7, rng.getrandbits(11))))
        put = lambda offset, size, value: board.memory.write(bar + offset, size, value)
        for status in (0, 1, 3):
            put(20, 1, status)
        for half in range(2):
            put(8, 4, half)
            put(12, 4, rng.choice((0xFFFFFFFF, 1 if half else 0x30000000, rng.getrandbits(32))))
        put(20, 1, 0x0B)
        for queue in range(rng.randrange(1, 4)):
            base = SCRATCH + 0x8000 * (queue + 1)
            size = rng.choice((1, 2, 8, 256, rng.getrandbits(9)))
            places = [base, base + 0x2000, base + 0x4000]
            if rng.random() < 0.2:
                places[rng.randrange(3)] = rng.choice((rng.getrandbits(64), RAM - 2, 0xFEE00000, 0xFFFFFFFFFFFFFFFF, CODE, 0x9FFF8, ROM))
            put(22, 2, queue)
            put(24, 2, size)
            put(26, 2, rng.choice((0xFFFF, 0, queue + 1, rng.getrandbits(16))))
            for offset, place in zip((32, 40, 48), places):
                put(offset, 4, place & 0xFFFFFFFF)
                put(offset + 4, 4, place >> 32)
            put(28, 2, 1)
            table = b"".join(self.descriptor(base, size) for _ in range(256))
            self.physical[base:base + 4096] = table
            index = rng.choice((1, size & 0xFFFF, rng.getrandbits(16), rng.getrandbits(4)))
            available = struct.pack("<HH", rng.getrandbits(1), index) + b"".join(
                struct.pack("<H", rng.randrange(max(size, 1)) if rng.random() < 0.98 else rng.getrandbits(16)) for _ in range(258))
            self.physical[base + 0x2000:base + 0x2000 + len(available)] = available
            # headers of block requests, where the first descriptors point
            for place in range(base + 0x5000, base + 0x5800, 16):
                self.physical[place:place + 16] = struct.pack("<IIQ", rng.choice((0, 1, 4, 8, 11, 13, rng.getrandbits(5))), 0,
                                                              rng.choice((rng.getrandbits(11), rng.getrandbits(64))))
        put(20, 1, 0x0F)
        for _ in range(rng.randrange(1, 6)):
            put(0x3000 + 4 * rng.randrange(4), 2, rng.getrandbits(2))
            board.clock.advance(board.clock.now_ns + rng.choice((1000, 10_000, 200_000)))
            self.drain()
        board.processors.wait(0)                 # the CPU is at the time of the devices

    def descriptor(self, base: int, size: int) -> bytes:
        rng = self.rng
        address = rng.choice((base + 0x5000 + 16 * rng.getrandbits(7), base + rng.getrandbits(15), rng.randrange(RAM), CODE, HANDLERS,
                              rng.choice(MMIO), rng.getrandbits(64)))
        length = rng.choice((16, 16, 1, 512, 4096, rng.getrandbits(12), rng.getrandbits(32), 0))
        flags = rng.choice((0, 1, 1, 2, 3, 3, 4, rng.getrandbits(16)))
        following = rng.randrange(max(size, 1)) if rng.random() < 0.9 else rng.getrandbits(16)
        return struct.pack("<QIHH", address, length, flags, following)


def run_round(seed: str, cases: int = 12, instructions: int = 3000, only: int | None = None) -> int:
    """One PC and `cases` states on it; gives the number of instructions. Raises Failure. only: stop behind this case."""
    guest = Guest(seed)
    for number in range(cases):
        try:
            guest.case(instructions)
        except Failure as failure:
            raise Failure(f"round {seed}, case {number}: {failure}") from None
        if number == only:
            break
    return guest.processors.retired


def run_twins(seed: str, cases: int = 4, instructions: int = 1500) -> int:
    """The same guests through blocks and one instruction at a time: the same state after each. Raises Failure."""
    whole, single = Guest(seed), Guest(seed, 1)
    for number in range(cases):
        for guest in (whole, single):
            guest.case(instructions)
        if not (whole.comparable and single.comparable):
            break
        one, other = whole.digest(), single.digest()
        if one != other:
            different = [f"{name}.{key}: {value!r} and {other[name][key]!r}" if isinstance(values, dict) else name
                         for name, values in one.items() if values != other[name]
                         for key, value in (values.items() if isinstance(values, dict) else [("", "")])
                         if not isinstance(values, dict) or value != other[name][key]]
            raise Failure(f"round {seed}, case {number}: blocks and single instructions part: " + "; ".join(different)[:2000])
    return whole.processors.retired
