# The 16550A against its datasheet (PC16550D) and against what drivers probe for.
import pytest
from bench import listen
from hypothesis import given
from hypothesis import strategies as st

from emu.base.clock import Clock
from emu.base.errors import SnapshotError
from emu.devices.backend.char import CharBackend
from emu.devices.uart import Uart

RBR = THR = DLL = 0
IER = DLM = 1
IIR = FCR = 2
LCR, MCR, LSR, MSR, SCR = 3, 4, 5, 6, 7
CHARACTER_NS = 86806             # 8N1 at 115200 bit/s


class Port:
    def __init__(self, fifos=False):
        self.clock = Clock()
        self.backend = CharBackend()
        self.uart = Uart(self.clock, self.backend)
        self.out(LCR, 0x83)
        self.out(DLL, 1)
        self.out(DLM, 0)
        self.out(LCR, 0x03)
        if fifos:
            self.out(FCR, 0x01)

    def out(self, register, value):
        self.uart.write(register, 1, value)

    def inp(self, register):
        return self.uart.read(register)

    def wait(self, characters):
        self.clock.advance(self.clock.now_ns + int(characters * CHARACTER_NS))

    def receive(self, data):
        assert self.backend.feed(data) == len(data)
        self.wait(len(data) + 0.01)


def test_reset_registers_are_the_datasheets():
    port = Port()
    port.uart.reset()
    assert [port.inp(register) for register in (IER, IIR, LCR, MCR, LSR)] == [0, 1, 0, 0, 0x60]


def test_transmit_bytes_arrive_in_order():
    port = Port()
    for byte in b"hello":
        assert port.inp(LSR) & 0x20
        port.out(THR, byte)
    assert port.backend.take() == b"hello"
    assert port.backend.take() == b""


def test_receive_byte_takes_its_character_time():
    port = Port()
    port.backend.feed(b"a")
    port.wait(0.9)
    assert not port.inp(LSR) & 1
    port.wait(0.2)
    assert port.inp(LSR) & 1
    assert port.inp(RBR) == ord("a")
    assert not port.inp(LSR) & 1


def test_receive_slow_divisor_is_no_slower_than_115200():
    port = Port()
    port.out(LCR, 0x83)
    port.out(DLM, 0x09)
    port.out(LCR, 0x03)
    port.receive(b"z")
    assert port.inp(RBR) == ord("z")


@given(st.binary(max_size=4096))
def test_receive_any_input_without_loss(data):
    port = Port(fifos=True)
    port.backend.feed(data)
    got = bytearray()
    while len(got) < len(data):
        port.wait(5.01)
        assert port.inp(LSR) & 1
        while port.inp(LSR) & 1:
            got.append(port.inp(RBR))
    assert bytes(got) == data
    assert port.inp(LSR) == 0x60


def test_receive_full_fifo_holds_the_rest_back():
    port = Port(fifos=True)
    port.receive(bytes(range(40)))
    assert port.backend.waiting == 40 - 16
    assert not port.inp(LSR) & 2


@pytest.mark.parametrize("setting, level", [(0x01, 1), (0x41, 4), (0x81, 8), (0xC1, 14)])
def test_trigger_level_raises_the_interrupt(setting, level):
    port = Port()
    port.out(FCR, setting)
    port.out(IER, 1)
    port.backend.feed(bytes(level))
    port.wait(level - 0.5)
    assert (port.uart.irq.level, port.inp(IIR)) == (0, 0xC1)
    port.wait(1)
    assert (port.uart.irq.level, port.inp(IIR)) == (1, 0xC4)
    port.inp(RBR)
    assert port.uart.irq.level == 0


def test_timeout_comes_after_four_characters_and_goes_with_a_read():
    port = Port()
    port.out(FCR, 0xC1)
    port.out(IER, 1)
    port.receive(b"ab")
    port.wait(3.9)
    assert port.uart.irq.level == 0
    port.wait(0.2)
    assert (port.uart.irq.level, port.inp(IIR)) == (1, 0xCC)
    assert port.inp(IIR) == 0xCC                 # reading IIR does not clear it
    assert port.inp(RBR) == ord("a")
    assert (port.uart.irq.level, port.inp(IIR)) == (0, 0xC1)
    port.wait(4.1)
    assert port.inp(IIR) == 0xCC                 # the other byte is still there
    port.inp(RBR)
    port.wait(10)
    assert port.uart.irq.level == 0


def test_thre_interrupt_clears_by_iir_and_comes_back_on_enable():
    """The THRE test of Linux's 8250 driver: without re-assertion it falls back to polling."""
    port = Port()
    port.out(IER, 2)
    assert port.uart.irq.level == 1
    assert port.inp(IIR) == 2
    assert (port.uart.irq.level, port.inp(IIR)) == (0, 1)
    port.out(IER, 0)
    port.out(IER, 2)
    assert port.inp(IIR) == 2
    port.out(THR, 0x41)
    assert port.inp(IIR) == 2
    assert port.inp(IIR) == 1


def test_transmitted_byte_is_an_edge_for_the_interrupt_controller():
    port = Port()
    levels = listen(port.uart.irq)
    port.out(IER, 2)
    port.out(THR, 0x41)
    port.out(THR, 0x42)
    assert levels == [1, 0, 1, 0, 1]


def test_thre_interrupt_iir_of_higher_source_leaves_it_pending():
    port = Port()
    port.out(IER, 3)
    port.receive(b"x")
    assert port.inp(IIR) == 4
    assert port.inp(IIR) == 4
    port.inp(RBR)
    assert port.inp(IIR) == 2
    assert port.inp(IIR) == 1


def test_line_status_interrupt_has_the_highest_priority():
    port = Port(fifos=True)
    port.out(IER, 0x0F)
    port.uart.send_break()
    port.wait(1.1)
    port.uart.set_modem_inputs(0)
    assert port.inp(IIR) == 0xC6
    assert port.inp(LSR) == 0x60 | 0x80 | 0x10 | 1
    assert port.inp(IIR) == 0xC4
    assert port.inp(RBR) == 0
    assert port.inp(IIR) == 0xC2
    assert port.inp(IIR) == 0xC0
    assert port.inp(MSR) == 0x0B
    assert port.inp(IIR) == 0xC1
    assert port.uart.irq.level == 0


def test_break_inside_fifo_shows_in_bit_7_first():
    port = Port(fifos=True)
    port.receive(b"a")
    port.uart.send_break()
    port.wait(1.1)
    assert port.inp(LSR) == 0x60 | 0x80 | 1
    port.inp(RBR)
    assert port.inp(LSR) == 0x60 | 0x80 | 0x10 | 1
    assert port.inp(LSR) == 0x60 | 1


def test_loopback_modem_lines_pass_linux_probe():
    port = Port()
    port.inp(MSR)
    port.out(MCR, 0x1A)                          # LOOP | OUT2 | RTS
    assert port.inp(MSR) & 0xF0 == 0x90
    for mcr, msr in ((0x11, 0x20), (0x12, 0x10), (0x14, 0x40), (0x18, 0x80)):
        port.out(MCR, mcr)
        assert port.inp(MSR) & 0xF0 == msr
    port.out(MCR, 0x10)
    assert port.inp(MSR) & 0x0F == 0x08          # only DCD went away
    port.out(MCR, 0x14)
    assert port.inp(MSR) & 0x0F == 0             # RI: the leading edge does not count
    port.out(MCR, 0x10)
    assert port.inp(MSR) & 0x0F == 0x04


def test_loopback_bytes_come_back_and_overrun():
    port = Port(fifos=True)
    port.out(MCR, 0x10)
    for byte in range(256):                      # how drivers measure the FIFO
        port.out(THR, byte)
    assert port.inp(LSR) & 2
    got = []
    while port.inp(LSR) & 1:
        got.append(port.inp(RBR))
    assert got == list(range(16))
    assert port.backend.take() == b""


def test_loopback_without_fifos_overwrites():
    port = Port()
    port.out(MCR, 0x10)
    port.out(THR, 1)
    port.out(THR, 2)
    assert port.inp(LSR) & 3 == 3
    assert port.inp(RBR) == 2
    assert not port.inp(LSR) & 1


def test_autoconfig_probe_finds_a_16550a():
    """The register games of Linux's autoconfig(), each with the answer of a 16550A."""
    port = Port()
    port.out(IER, 0)
    assert port.inp(IER) & 0x0F == 0
    port.out(IER, 0xFF)
    assert port.inp(IER) == 0x0F                 # bits 7:4 are always 0
    port.out(IER, 0)
    port.out(LCR, 0xBF)
    port.out(FCR, 0)
    port.out(LCR, 0)
    port.out(FCR, 1)
    assert port.inp(IIR) >> 6 == 3
    port.out(LCR, 0x80)
    assert port.inp(IIR) != 0                    # no EFR there
    port.out(LCR, 0xBF)
    assert port.inp(IIR) != 0
    port.out(LCR, 0)
    port.out(FCR, 0x21)
    assert port.inp(IIR) & 0xE0 == 0xC0          # no 64-byte FIFO
    port.out(LCR, 0x80)
    port.out(FCR, 0x21)
    assert port.inp(IIR) & 0xE0 == 0xC0
    port.out(FCR, 0)
    assert port.inp(IIR) >> 6 == 0


def test_divisor_latch_and_scratch():
    port = Port()
    port.out(LCR, 0x80)
    port.out(DLL, 0x34)
    port.out(DLM, 0x12)
    assert (port.inp(DLL), port.inp(DLM)) == (0x34, 0x12)
    port.out(LCR, 0x03)
    assert port.inp(IER) == 0
    port.out(SCR, 0xA5)
    assert port.inp(SCR) == 0xA5
    assert port.backend.take() == b""


def test_fifo_switch_clears_received_bytes():
    port = Port(fifos=True)
    port.receive(b"abc")
    port.out(FCR, 0x00)
    assert not port.inp(LSR) & 1
    port.receive(b"d")
    port.out(FCR, 0x03)
    assert not port.inp(LSR) & 1


def test_wide_access_is_taken_apart():
    port = Port()
    port.uart.write(LCR, 2, 0x0B80)
    assert (port.inp(LCR), port.inp(MCR)) == (0x80, 0x0B)
    assert port.uart.read(LCR, 2) == 0x0B80


def test_output_full_line_goes_up_and_down():
    port = Port()
    for _ in range((1 << 16) - 1):
        port.out(THR, 0x2E)
    assert not port.backend.output_full
    port.out(THR, 0x2E)
    assert port.backend.output_full
    assert port.backend.take() == b"." * (1 << 16)
    assert not port.backend.output_full
    assert port.backend.lost == 0


def test_state_round_trip_keeps_timers():
    port = Port(fifos=True)
    port.out(IER, 1)
    port.receive(b"ab")
    port.backend.feed(b"c")
    other = Port()
    other.clock.fields.set(port.clock.fields.get())
    other.backend.fields.set(port.backend.fields.get())
    other.uart.fields.set(port.uart.fields.get())
    assert other.uart.fields.get() == port.uart.fields.get()
    for one in (port, other):
        one.wait(1.1)
    assert [other.inp(RBR) for _ in range(3)] == [port.inp(RBR) for _ in range(3)] == list(b"abc")


def test_state_bad_fifo_is_refused():
    port = Port()
    before = port.uart.fields.get()
    for name in ("received_start", "received_count"):
        with pytest.raises(SnapshotError):
            port.uart.fields.set(before | {name: 17})
    assert port.uart.fields.get() == before


@given(st.lists(st.tuples(st.integers(0, 7), st.booleans(), st.integers(0, 255), st.integers(0, 3)), max_size=200))
def test_any_register_traffic_keeps_the_state_valid(steps):
    port = Port()
    for register, is_write, value, pause in steps:
        port.backend.feed(b"ab"[:pause])
        port.wait(pause)
        if is_write:
            port.out(register, value)
        else:
            port.inp(register)
        assert port.uart.irq.level == (port.uart.fields.get()["irq_level"])
    port.uart.fields.set(port.uart.fields.get())
