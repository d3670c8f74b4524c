# The local APIC against the SDM, volume 3A, chapter 11.
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import MemoryFace, PortFace, listen
from emu.base.clock import Clock
from emu.base.errors import SnapshotError
from emu.base.line import python_listener
from emu.devices.apic_bus import ApicBus
from emu.devices.lapic import Lapic
from emu.devices.pic import Pic

ID, VERSION, TPR, PPR, EOI, LDR, DFR, SVR = 0x20, 0x30, 0x80, 0xA0, 0xB0, 0xD0, 0xE0, 0xF0
ISR, TMR, IRR, ESR, ICR, ICR_HIGH = 0x100, 0x180, 0x200, 0x280, 0x300, 0x310
LVT_TIMER, LVT_THERMAL, LVT_PERFORMANCE, LVT_LINT0, LVT_LINT1, LVT_ERROR = range(0x320, 0x380, 0x10)
INITIAL, CURRENT, DIVIDE = 0x380, 0x390, 0x3E0
MASKED, LEVEL, REMOTE_IRR, PERIODIC, TSC_DEADLINE = 0x10000, 0x8000, 0x4000, 0x20000, 0x40000
FIXED, LOWEST, SMI, NMI, INIT, STARTUP, EXTINT = 0, 0x100, 0x200, 0x400, 0x500, 0x600, 0x700
LOGICAL, ASSERT = 0x800, 0x4000
SELF, ALL, OTHERS = 0x40000, 0x80000, 0xC0000
DIVIDE_BY_1 = 0xB
BASE = 0xFEE00000
BSP, X2APIC, ENABLED = 0x100, 0x400, 0x800
MSR_DEADLINE = 0x6E0


class Cpu:
    def __init__(self, board, number, apic_id):
        self.board, self.number = board, number
        self.apic = Lapic(board.clock, board.bus, apic_id)
        self.nmi, self.init = listen(self.apic.nmi), listen(self.apic.init)
        self.startup = []
        self.apic.startup.connect(python_listener(self.startup.append))

    def read(self, offset, size=4):
        self.board.bus.current = self.number
        return self.board.face.read(offset, size)

    def write(self, offset, value, size=4):
        self.board.bus.current = self.number
        self.board.face.write(offset, value, size)

    def send(self, low, destination=0):
        self.write(ICR_HIGH, destination << 24)
        self.write(ICR, low)

    @property
    def asks(self):
        return bool(self.apic.intr.level)

    def take(self):
        assert self.asks
        return self.apic.acknowledge()

    def vectors(self, base):
        return [32 * k + bit for k in range(8) for bit in range(32) if self.read(base + 16 * k) >> bit & 1]


class Board:
    def __init__(self, ids=(0,), enabled=True):
        self.clock = Clock()
        self.bus = ApicBus()
        self.face = MemoryFace(self.bus.region)
        self.cpu = [Cpu(self, number, apic_id) for number, apic_id in enumerate(ids)]
        if enabled:
            for cpu in self.cpu:
                cpu.write(SVR, 0x1FF)

    def wait(self, ns):
        self.clock.advance(self.clock.now_ns + ns)


@pytest.fixture
def cpu():
    return Board().cpu[0]


# ---- reset, registers

def test_reset_values():
    board = Board(ids=(0, 5), enabled=False)
    first, second = board.cpu
    assert first.apic.base == BASE | ENABLED | BSP
    assert second.apic.base == BASE | ENABLED
    assert (first.read(ID), second.read(ID)) == (0, 5 << 24)
    assert first.read(VERSION) & 0xFF00FF == 0x050014
    assert first.read(SVR) == 0xFF
    assert (first.read(DFR), first.read(LDR), first.read(TPR)) == (0xFFFFFFFF, 0, 0)
    assert [first.read(LVT_TIMER + 16 * k) for k in range(6)] == [MASKED] * 6


def test_reserved_bits_do_not_stick(cpu):
    for k, bits in enumerate((0x700FF, 0x107FF, 0x107FF, 0x1A7FF, 0x1A7FF, 0x100FF)):
        cpu.write(LVT_TIMER + 16 * k, 0xFFFFFFFF)
        assert cpu.read(LVT_TIMER + 16 * k) == bits
    cpu.write(TPR, 0x1FF)
    cpu.write(DIVIDE, 0xFF)
    cpu.write(LDR, 0xFFFFFFFF)
    cpu.write(DFR, 0)
    assert (cpu.read(TPR), cpu.read(DIVIDE), cpu.read(LDR), cpu.read(DFR)) == (0xFF, 0xB, 0xFF000000, 0x0FFFFFFF)


def test_parts_of_registers_can_be_read_and_holes_are_0(cpu):
    assert cpu.read(VERSION + 2, 1) == 0x05
    assert cpu.read(VERSION, 8) == 0x01050014
    assert cpu.read(VERSION + 4) == 0
    cpu.write(TPR, 0x20, 2)
    assert cpu.read(TPR) == 0


def test_register_that_is_not_there_is_an_error(cpu):
    cpu.write(LVT_ERROR, 0x55)
    cpu.read(0x40)
    assert cpu.read(ESR) == 0                            # only a write makes it seen
    cpu.write(ESR, 0)
    assert cpu.read(ESR) == 0x80
    assert cpu.take() == 0x55
    cpu.write(ESR, 0)
    assert cpu.read(ESR) == 0


def test_local_vectors_are_masked_while_disabled_by_software(cpu):
    cpu.write(LVT_TIMER, 0x40)
    cpu.write(SVR, 0xFF)
    assert cpu.read(LVT_TIMER) == MASKED | 0x40
    cpu.write(LVT_TIMER, 0x41)
    assert cpu.read(LVT_TIMER) == MASKED | 0x41
    cpu.write(SVR, 0x1FF)
    cpu.write(LVT_TIMER, 0x41)
    assert cpu.read(LVT_TIMER) == 0x41


# ---- priorities

def test_higher_vector_first_lower_class_waits(cpu):
    for vector in (0x31, 0x45, 0x42):
        cpu.send(SELF | vector)
    assert cpu.vectors(IRR) == [0x31, 0x42, 0x45]
    assert cpu.take() == 0x45
    assert cpu.read(PPR) == 0x40
    assert not cpu.asks                                 # 0x42 is of the same class
    assert cpu.vectors(ISR) == [0x45]
    cpu.send(SELF | 0x50)
    assert cpu.take() == 0x50
    cpu.write(EOI, 0)
    assert not cpu.asks
    cpu.write(EOI, 0)
    assert cpu.take() == 0x42
    cpu.write(EOI, 0)
    assert cpu.take() == 0x31
    cpu.write(EOI, 0)
    assert cpu.vectors(ISR) == cpu.vectors(IRR) == []


def test_task_priority_holds_back_its_class_and_below(cpu):
    cpu.write(TPR, 0x40)
    cpu.send(SELF | 0x4F)
    assert not cpu.asks
    cpu.write(TPR, 0x3F)
    assert cpu.asks
    cpu.apic.task_priority = 15
    assert (cpu.read(TPR), cpu.asks) == (0xF0, False)
    cpu.apic.task_priority = 0
    assert cpu.take() == 0x4F
    assert cpu.read(PPR) == 0x40
    cpu.write(TPR, 0x45)
    assert cpu.read(PPR) == 0x45
    assert cpu.apic.task_priority == 4


@given(st.integers(0, 255), st.sets(st.integers(16, 255)), st.sets(st.integers(16, 255)))
def test_processor_priority_and_choice_follow_the_manual(tpr, served, requested):
    cpu = Board().cpu[0]
    values = cpu.apic.fields.get()

    def words(vectors):
        return tuple(sum(1 << v % 32 for v in vectors if v // 32 == k) for k in range(8))

    cpu.apic.fields.set({**values, "isr": words(served), "irr": words(requested)})
    cpu.write(TPR, tpr)
    highest = max(served, default=0)
    priority = tpr if tpr >> 4 >= highest >> 4 else highest & 0xF0
    assert cpu.read(PPR) == priority
    best = max(requested, default=0)
    assert cpu.asks == (best >> 4 > priority >> 4)
    assert cpu.apic.acknowledge() == (best if best >> 4 > priority >> 4 else 0xFF)


def test_acknowledge_of_withdrawn_interrupt_gives_spurious_vector(cpu):
    cpu.write(SVR, 0x1EF)
    cpu.send(SELF | 0x30)
    cpu.write(TPR, 0xF0)
    assert cpu.apic.acknowledge() == 0xEF
    assert cpu.vectors(ISR) == []


def test_fixed_interrupts_are_not_taken_while_disabled_by_software(cpu):
    cpu.send(SELF | 0x60)
    cpu.write(SVR, 0xFF)
    cpu.send(SELF | 0x70)
    assert cpu.vectors(IRR) == [0x60]                   # what is held already stays


# ---- timer: 1 GHz

@pytest.mark.parametrize("code, divisor", [(0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128), (11, 1)])
def test_one_shot_with_every_divisor(code, divisor):
    board = Board()
    cpu = board.cpu[0]
    cpu.write(DIVIDE, code)
    cpu.write(LVT_TIMER, 0x40)
    cpu.write(INITIAL, 5000)
    assert cpu.read(CURRENT) == 5000
    board.wait(1000 * divisor)
    assert cpu.read(CURRENT) == 4000
    board.wait(4000 * divisor - 1)
    assert (cpu.read(CURRENT), cpu.asks) == (1, False)
    board.wait(1)
    assert (cpu.read(CURRENT), cpu.take()) == (0, 0x40)
    cpu.write(EOI, 0)
    board.wait(10**9)
    assert not cpu.asks


def test_periodic_timer_keeps_its_phase():
    board = Board()
    cpu = board.cpu[0]
    cpu.write(DIVIDE, DIVIDE_BY_1)
    cpu.write(LVT_TIMER, PERIODIC | 0x40)
    cpu.write(INITIAL, 10_000)
    for _ in range(5):
        board.wait(9_999)
        assert not cpu.asks
        board.wait(1)
        assert cpu.take() == 0x40
        assert cpu.read(CURRENT) == 10_000
        cpu.write(EOI, 0)
    board.wait(25_000)
    assert cpu.read(CURRENT) == 5_000
    cpu.write(INITIAL, 0)
    assert cpu.read(CURRENT) == 0
    cpu.take()
    cpu.write(EOI, 0)
    board.wait(10**6)
    assert not cpu.asks


def test_shortest_period_is_a_microsecond():
    board = Board()
    cpu = board.cpu[0]
    cpu.write(DIVIDE, DIVIDE_BY_1)
    cpu.write(LVT_TIMER, PERIODIC | 0x40)
    cpu.write(INITIAL, 1)
    count = 0
    for _ in range(10_000):
        board.wait(10)
        if cpu.asks:
            count += 1
            cpu.take()
            cpu.write(EOI, 0)
    assert count == 100


def test_masked_timer_counts_without_interrupt():
    board = Board()
    cpu = board.cpu[0]
    cpu.write(DIVIDE, 3)
    cpu.write(INITIAL, 0xFFFFFFFF)                      # how Linux calibrates
    board.wait(16 * 625_000)
    assert cpu.read(CURRENT) == 0xFFFFFFFF - 625_000
    board.wait(16 * 0xFFFFFFFF)
    assert not cpu.asks


def test_change_of_divisor_goes_on_from_the_count():
    board = Board()
    cpu = board.cpu[0]
    cpu.write(DIVIDE, DIVIDE_BY_1)
    cpu.write(LVT_TIMER, 0x40)
    cpu.write(INITIAL, 100_000)
    board.wait(60_000)
    cpu.write(DIVIDE, 0)
    assert cpu.read(CURRENT) == 40_000
    board.wait(79_999)
    assert not cpu.asks
    board.wait(1)
    assert cpu.asks


def test_tsc_deadline():
    board = Board()
    cpu = board.cpu[0]
    assert cpu.apic.write_msr(MSR_DEADLINE, 5_000)      # ignored in another mode
    assert cpu.apic.read_msr(MSR_DEADLINE) == 0
    cpu.write(LVT_TIMER, TSC_DEADLINE | 0x40)
    assert cpu.apic.write_msr(MSR_DEADLINE, 5_000)
    assert cpu.apic.read_msr(MSR_DEADLINE) == 5_000
    cpu.write(INITIAL, 77)
    assert (cpu.read(INITIAL), cpu.read(CURRENT)) == (0, 0)
    board.clock.advance(4_999)
    assert not cpu.asks
    board.clock.advance(5_000)
    assert cpu.take() == 0x40
    assert cpu.apic.read_msr(MSR_DEADLINE) == 0
    cpu.write(EOI, 0)
    cpu.apic.write_msr(MSR_DEADLINE, 4_000)             # in the past: now
    assert cpu.take() == 0x40
    cpu.write(EOI, 0)
    cpu.apic.write_msr(MSR_DEADLINE, 9_000)
    cpu.apic.write_msr(MSR_DEADLINE, 0)
    board.clock.advance(10_000)
    assert not cpu.asks
    cpu.apic.write_msr(MSR_DEADLINE, 20_000)
    cpu.write(LVT_TIMER, 0x40)                          # the change of mode disarms
    board.clock.advance(30_000)
    assert not cpu.asks


def test_timer_vector_below_16_is_an_error():
    board = Board()
    cpu = board.cpu[0]
    cpu.write(LVT_TIMER, 0x0F)
    cpu.write(INITIAL, 1000)
    board.wait(10_000)
    cpu.write(ESR, 0)
    assert (cpu.read(ESR), cpu.asks) == (0x40, False)


# ---- messages between processors

def flat(board):
    for number, cpu in enumerate(board.cpu):
        cpu.write(LDR, 1 << 24 + number)
    return board


def who(board, vector=0x77):
    return [n for n, cpu in enumerate(board.cpu) if vector in cpu.vectors(IRR)]


@pytest.mark.parametrize("low, destination, expected", [
    (0, 4, [1]), (0, 9, []), (0, 0xFF, [0, 1, 2, 3]),
    (LOGICAL, 0x05, [0, 2]), (LOGICAL, 0xFF, [0, 1, 2, 3]), (LOGICAL, 0x80, []),
    (SELF, 0, [2]), (ALL, 0, [0, 1, 2, 3]), (OTHERS, 0, [0, 1, 3]), (LOWEST | LOGICAL, 0x0A, [1])])
def test_destinations(low, destination, expected):
    board = flat(Board(ids=(0, 4, 5, 6)))
    board.cpu[2].send(low | 0x77, destination)
    assert who(board) == expected


@pytest.mark.parametrize("destination, expected", [(0x11, [0]), (0x13, [0, 1]), (0x21, [2]), (0xF1, [0, 2]), (0x31, []), (0x12, [1])])
def test_cluster_model(destination, expected):
    board = Board(ids=(0, 1, 2))
    for cpu, ldr in zip(board.cpu, (0x11, 0x12, 0x21)):
        cpu.write(DFR, 0x0FFFFFFF)
        cpu.write(LDR, ldr << 24)
    board.cpu[0].send(LOGICAL | 0x77, destination)
    assert who(board) == expected


def test_lowest_priority_goes_to_the_idlest_that_is_enabled():
    board = flat(Board(ids=(0, 1, 2)))
    board.cpu[0].write(TPR, 0x50)
    board.cpu[1].write(TPR, 0x30)
    board.cpu[2].write(SVR, 0xFF)
    board.cpu[0].send(LOGICAL | LOWEST | 0x77, 0x07)
    assert who(board) == [1]


def test_nmi_init_and_startup_reach_their_wires():
    board = Board(ids=(0, 1))
    first, second = board.cpu
    second.write(TPR, 0x30)
    first.send(NMI, 1)
    first.send(INIT | ASSERT | LEVEL, 1)
    first.send(INIT | LEVEL, 1)                         # de-assert: nothing
    first.send(STARTUP | 0x9A, 1)
    first.send(STARTUP | 0x9A, 1)
    assert (second.nmi, second.init, second.startup) == ([1, 0], [1, 0], [0x9A, 0x9A])
    assert (first.nmi, first.init, first.startup) == ([], [], [])
    assert (second.read(TPR), second.read(SVR), second.read(ID)) == (0, 0xFF, 1 << 24)     # INIT spares the ID
    assert second.apic.base == BASE | ENABLED


def test_init_to_all_but_self_as_linux_starts_processors():
    board = Board(ids=(0, 1, 2))
    board.cpu[0].send(OTHERS | INIT | ASSERT | LEVEL)
    assert [cpu.init for cpu in board.cpu] == [[], [1, 0], [1, 0]]


def test_illegal_vector_is_not_sent(cpu):
    cpu.send(SELF | 0x0F)
    cpu.write(ESR, 0)
    assert cpu.read(ESR) == 0x20
    assert cpu.vectors(IRR) == []


def test_command_register_reads_back_without_status(cpu):
    cpu.send(SELF | ASSERT | 0x1000 | 0x30, 0xAB)
    assert (cpu.read(ICR), cpu.read(ICR_HIGH)) == (SELF | ASSERT | 0x30, 0xAB << 24)


@pytest.mark.parametrize("address, data, expected", [
    (0xFEE04000, 0x0077, [1]), (0xFEEFF000, 0x0077, [0, 1]), (0xFEE0200C, 0x0177, [1]), (0xFEE03004, 0x0077, [0, 1]),
    (0xFEE03004, 0x0477, []), (0xFED04000, 0x0077, [])])
def test_message_signalled_interrupts(address, data, expected):
    board = flat(Board(ids=(0, 4)))
    board.bus.signal(address, data)
    assert who(board) == expected


def test_message_with_level_trigger_sets_tmr(cpu):
    cpu.board.bus.signal(0xFEE00000, 0xC077)
    assert cpu.vectors(TMR) == [0x77]
    cpu.send(SELF | 0x77)
    assert cpu.vectors(TMR) == []


# ---- LINT0, LINT1, the 8259A behind them

def with_pic(**how):
    board = Board(**how)
    board.pic = Pic()
    board.cpu[0].apic.connect_pic(board.pic)
    master = PortFace(board.pic.master)
    for offset, value in ((0, 0x11), (1, 0x20), (1, 4), (1, 1)):
        master.write(offset, value)
    return board


def test_virtual_wire_passes_8259_interrupts():
    board = with_pic()
    cpu = board.cpu[0]
    board.pic.input(1).drive(1)
    assert not cpu.asks                                 # LINT0 is masked after reset
    cpu.write(LVT_LINT0, EXTINT)
    assert cpu.take() == 0x21
    assert not cpu.asks
    assert cpu.vectors(ISR) == []


def test_local_interrupt_goes_before_the_8259():
    board = with_pic()
    cpu = board.cpu[0]
    cpu.write(LVT_LINT0, EXTINT)
    board.pic.input(1).drive(1)
    cpu.send(SELF | 0x40)
    assert [cpu.take(), cpu.take()] == [0x40, 0x21]


def test_task_priority_does_not_hold_back_the_8259():
    board = with_pic()
    cpu = board.cpu[0]
    cpu.write(TPR, 0xFF)
    cpu.write(LVT_LINT0, EXTINT)
    board.pic.input(1).drive(1)
    assert cpu.take() == 0x21


def test_set_virtual_wire_is_what_firmware_leaves():
    board = with_pic(enabled=False)
    cpu = board.cpu[0]
    cpu.apic.set_virtual_wire()
    assert (cpu.read(SVR), cpu.read(LVT_LINT0), cpu.read(LVT_LINT1)) == (0x1FF, 0x700, 0x400)
    board.pic.input(7).drive(1)
    assert cpu.take() == 0x27


def test_apic_that_is_off_is_a_wire_from_the_8259():
    board = with_pic(enabled=False)
    cpu = board.cpu[0]
    assert cpu.apic.write_base(BASE | BSP)
    board.pic.input(1).drive(1)
    assert cpu.take() == 0x21
    cpu.apic.lint1.drive(1)
    assert cpu.nmi == [1, 0]
    assert cpu.read(VERSION) == 0xFFFFFFFF


def test_fixed_edge_on_lint0_as_linux_tries_it():
    board = with_pic()
    cpu = board.cpu[0]
    cpu.write(LVT_LINT0, 0x31)
    for _ in range(3):                                  # the 8254's OUT falls: so does the 8259A's INT
        board.pic.input(0).drive(1)
        assert cpu.take() == 0x31
        cpu.write(EOI, 0)
        board.pic.input(0).drive(0)


def test_level_triggered_lint0_asks_again_after_eoi(cpu):
    cpu.write(LVT_LINT0, LEVEL | 0x31)
    cpu.apic.lint0.drive(1)
    assert cpu.read(LVT_LINT0) == LEVEL | REMOTE_IRR | 0x31
    assert cpu.take() == 0x31
    assert cpu.vectors(TMR) == [0x31]
    cpu.write(EOI, 0)
    assert cpu.take() == 0x31
    cpu.apic.lint0.drive(0)
    cpu.write(EOI, 0)
    assert (cpu.asks, cpu.read(LVT_LINT0)) == (False, LEVEL | 0x31)


def test_nmi_on_lint1_is_an_edge(cpu):
    cpu.apic.lint1.drive(1)
    cpu.apic.lint1.drive(0)
    assert cpu.nmi == []
    cpu.write(LVT_LINT1, NMI)
    cpu.apic.lint1.drive(1)
    cpu.apic.lint1.drive(1)
    assert cpu.nmi == [1, 0]


# ---- IA32_APIC_BASE and x2APIC mode

def test_base_register_transitions():
    apic = Board().cpu[0].apic
    assert not apic.write_base(BASE | BSP | X2APIC)                     # EXTD without EN
    assert apic.write_base(BASE | BSP | ENABLED | X2APIC)
    assert not apic.write_base(BASE | BSP | ENABLED)                    # x2APIC -> xAPIC
    assert apic.write_base(BASE | BSP)
    assert not apic.write_base(BASE | BSP | ENABLED | X2APIC)           # off -> x2APIC
    assert apic.write_base(BASE | BSP | ENABLED)
    for reserved in (1, 0x200, 1 << 52, 1 << 63):
        assert not apic.write_base(BASE | BSP | ENABLED | reserved)
    assert apic.base == BASE | BSP | ENABLED


def test_switching_off_resets_the_apic(cpu):
    cpu.write(LVT_TIMER, 0x40)
    cpu.send(SELF | 0x60)
    cpu.apic.write_base(BASE | BSP)
    assert not cpu.asks
    cpu.apic.write_base(BASE | BSP | ENABLED)
    assert (cpu.read(SVR), cpu.read(LVT_TIMER), cpu.vectors(IRR)) == (0xFF, MASKED, [])


@pytest.fixture
def x2():
    board = Board(ids=(0, 0x23))
    for cpu in board.cpu:
        assert cpu.apic.write_base(cpu.apic.base | X2APIC)
    return board


def test_x2apic_registers(x2):
    apic = x2.cpu[1].apic
    assert apic.read_msr(0x802) == 0x23
    assert apic.read_msr(0x80D) == 2 << 16 | 1 << 3
    assert apic.read_msr(0x803) & 0xFF == 0x14
    assert apic.write_msr(0x808, 0x20) and apic.read_msr(0x808) == 0x20
    assert apic.write_msr(0x832, 0x40) and apic.read_msr(0x832) == 0x40
    assert apic.write_msr(0x83E, DIVIDE_BY_1) and apic.write_msr(0x838, 5000) and apic.read_msr(0x839) == 5000
    assert x2.cpu[1].read(VERSION) == 0xFFFFFFFF        # no memory window


@pytest.mark.parametrize("index", [0x800, 0x801, 0x804, 0x809, 0x80B, 0x80C, 0x80E, 0x829, 0x82F, 0x831, 0x83A, 0x83F, 0x840, 0x8FF])
def test_x2apic_reads_that_fault(x2, index):
    assert x2.cpu[0].apic.read_msr(index) is None


@pytest.mark.parametrize("index, value", [
    (0x802, 0), (0x803, 0), (0x80A, 0), (0x80D, 0), (0x80E, 0), (0x810, 0), (0x818, 0), (0x820, 0), (0x831, 0), (0x839, 0),
    (0x82F, 0), (0x840, 0), (0x80B, 1), (0x828, 1), (0x808, 0x100), (0x80F, 0x400), (0x832, 0x80000), (0x83E, 4), (0x838, 1 << 32),
    (0x830, 0x2000), (0x830, 0x10000), (0x830, 0x100000), (0x83F, 0x100)])
def test_x2apic_writes_that_fault(x2, index, value):
    assert not x2.cpu[0].apic.write_msr(index, value)


def test_x2apic_msrs_fault_in_xapic_mode(cpu):
    assert cpu.apic.read_msr(0x802) is None
    assert not cpu.apic.write_msr(0x808, 0)


def vectors_of(apic):
    return [32 * k + bit for k in range(8) for bit in range(32) if apic.read_msr(0x820 + k) >> bit & 1]


@pytest.mark.parametrize("command, expected", [
    (0x23 << 32 | 0x77, [1]), (0xFFFFFFFF << 32 | 0x77, [0, 1]), (0x00020008 << 32 | LOGICAL | 0x77, [1]),
    (0x00000001 << 32 | LOGICAL | 0x77, [0]), (0x00020001 << 32 | LOGICAL | 0x77, []), (OTHERS | 0x77, [1])])
def test_x2apic_destinations(x2, command, expected):
    assert x2.cpu[0].apic.write_msr(0x830, command)
    assert [n for n, cpu in enumerate(x2.cpu) if 0x77 in vectors_of(cpu.apic)] == expected
    assert x2.cpu[0].apic.read_msr(0x830) == command


def test_x2apic_self_ipi_and_eoi(x2):
    cpu = x2.cpu[1]
    assert cpu.apic.write_msr(0x83F, 0x88)
    assert cpu.take() == 0x88
    assert cpu.apic.write_msr(0x80B, 0)
    assert vectors_of(cpu.apic) == []
    assert cpu.apic.write_msr(0x83F, 3)
    assert cpu.apic.write_msr(0x828, 0) and cpu.apic.read_msr(0x828) == 0x20


# ---- hostile sequences, saved state

@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(("mmio", "msr", "base", "lint", "take", "wait", "signal")),
                          st.integers(0, 0x3F), st.integers(0, 2**32 - 1)), max_size=50))
def test_any_sequence_keeps_state_valid(steps):
    board = Board(ids=(0, 1))
    for what, number, value in steps:
        cpu = board.cpu[value & 1]
        if what == "mmio":
            cpu.write(number << 4, value)
            cpu.read(number << 4)
        elif what == "msr":
            cpu.apic.write_msr(0x800 + number, value)
            cpu.apic.read_msr(0x800 + number)
            cpu.apic.write_msr(MSR_DEADLINE, value)
        elif what == "base":
            cpu.apic.write_base(BASE | (value & 0xC00))
        elif what == "lint":
            (cpu.apic.lint0 if number & 1 else cpu.apic.lint1).drive(number >> 1 & 1)
        elif what == "take":
            assert 0 <= cpu.apic.acknowledge() <= 255
        elif what == "wait":
            board.wait(value & 0xFFFF)
        else:
            board.bus.signal(0xFEE00000 | number << 12, value)
        for each in board.cpu:
            each.apic.fields.set(each.apic.fields.get())


def test_restored_timer_fires_at_the_same_time():
    board = Board()
    cpu = board.cpu[0]
    cpu.write(DIVIDE, DIVIDE_BY_1)
    cpu.write(LVT_TIMER, PERIODIC | 0x40)
    cpu.write(INITIAL, 12_345)
    board.wait(20_000)
    other = Board()
    other.clock.fields.set(board.clock.fields.get())
    other.cpu[0].apic.fields.set(cpu.apic.fields.get())
    for each in (board, other):
        each.cpu[0].take()
        each.cpu[0].write(EOI, 0)
        each.clock.advance(2 * 12_345 - 1)
        assert not each.cpu[0].asks
        each.clock.advance(2 * 12_345)
        assert each.cpu[0].asks
    assert other.cpu[0].apic.fields.get() == cpu.apic.fields.get()


@pytest.mark.parametrize("name, value", [
    ("base", 1), ("base", BASE | X2APIC), ("id", 256), ("tpr", 256), ("svr", 0x400), ("divide", 4), ("intr", 2), ("lint", (2, 0)),
    ("isr", (1,) + (0,) * 7), ("irr", (0x8000,) + (0,) * 7), ("lvt", (0x80000,) + (0,) * 5), ("lvt", (REMOTE_IRR,) + (0,) * 5)])
def test_impossible_state_is_refused(name, value):
    apic = Board().cpu[0].apic
    before = apic.fields.get()
    with pytest.raises(SnapshotError):
        apic.fields.set({**before, name: value})
    assert apic.fields.get() == before


def test_current_cpu_is_checked():
    board = Board(ids=(0, 1))
    for wrong in (-1, 2):
        with pytest.raises(ValueError):
            board.bus.current = wrong
        with pytest.raises(SnapshotError):
            board.bus.fields.set({"current": wrong})


def test_identifiers_are_checked():
    board = Board()
    for wrong in (-1, 255):
        with pytest.raises(ValueError):
            Lapic(board.clock, board.bus, wrong)
