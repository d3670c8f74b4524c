# The terminal: the Ctrl-A keys, and that raw mode is undone however a run ends.
import os
import pty
import select
import signal
import subprocess
import termios

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.cli.terminal import HELP, MONITOR, QUIT, EscapeKeys

from .support import COMMAND, ECHO, HALT_DEAD, PRINT_A, boot_sector, environment


@pytest.mark.parametrize("data, guest, asked", [
    (b"abc", b"abc", []), (b"a\x01xb", b"ab", [QUIT]), (b"\x01\x01", b"\x01", []), (b"\x01h\x01c", b"", [HELP, MONITOR]),
    (b"\x01zq", b"q", []), (b"\x03\x04", b"\x03\x04", []),
])
def test_keys_after_ctrl_a(data, guest, asked):
    assert EscapeKeys().feed(data) == (guest, asked)


@given(st.lists(st.sampled_from(b"\x01xXhca\x03"), max_size=20), st.integers(1, 5))
def test_keys_may_be_split_anywhere(data, size):
    data = bytes(data)
    keys, guest, asked = EscapeKeys(), b"", []
    for at in range(0, len(data), size):
        part = keys.feed(data[at:at + size])
        guest, asked = guest + part[0], asked + part[1]
    assert (guest, asked) == EscapeKeys().feed(data)


class Session:
    """A run of the command on a terminal of its own."""

    def __init__(self, *arguments):
        self.master, self.slave = pty.openpty()
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen([*COMMAND, "run", *arguments], stdin=self.slave, stdout=self.slave, stderr=self.slave,
                                        env=environment(), start_new_session=True)
        self.seen = b""

    def wait_for(self, text):
        while text not in self.seen:
            assert select.select([self.master], [], [], 20)[0], self.seen
            self.seen += os.read(self.master, 4096)

    def type(self, data):
        os.write(self.master, data)

    def end(self):
        """The exit code, once the terminal is as it was."""
        code = self.process.wait(20)
        while select.select([self.master], [], [], 0.05)[0]:
            self.seen += os.read(self.master, 4096)
        return code

    def is_raw(self):
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def is_as_before(self):
        return termios.tcgetattr(self.slave) == self.before


@pytest.fixture
def session(tmp_path):
    made = []

    def start(code, *more):
        made.append(Session(boot_sector(tmp_path / "sector.bin", code), *more))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        os.close(one.master)
        os.close(one.slave)


def test_terminal_is_raw_while_the_guest_runs_and_ctrl_a_x_ends_it(session):
    run = session(PRINT_A + ECHO)
    run.wait_for(b"A")
    assert run.is_raw()
    run.type(b"\x03\x1a\x01\x01")  # Ctrl-C, Ctrl-Z and a literal Ctrl-A are the guest's
    run.wait_for(b"A\x03\x1a\x01")
    run.type(b"\x01x")
    assert run.end() == 0 and run.is_as_before()


def test_ctrl_a_h_helps_and_ctrl_a_c_says_that_it_is_not_there(session):
    run = session(PRINT_A + ECHO)
    run.wait_for(b"A")
    run.type(b"\x01h")
    run.wait_for(b"Ctrl-A X")
    run.type(b"\x01c")
    run.wait_for(b"monitor is not there yet")
    run.type(b"z")
    run.wait_for(b"z")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_terminal_is_given_back_after_a_signal(session, number):
    run = session(PRINT_A + ECHO)
    run.wait_for(b"A")
    run.process.send_signal(number)
    assert run.end() == 130 and run.is_as_before()


def test_terminal_is_given_back_after_a_kill(session):
    run = session(PRINT_A + ECHO)
    run.wait_for(b"A")
    assert run.is_raw()
    run.process.kill()
    run.process.wait()
    for _ in range(200):
        if run.is_as_before():
            break
        select.select([], [], [], 0.05)
    assert run.is_as_before()


def test_terminal_is_given_back_when_the_guest_dies(session):
    run = session(PRINT_A + HALT_DEAD)
    assert run.end() == 13 and run.is_as_before()
    assert b"dead halt" in run.seen


def test_terminal_is_given_back_after_the_timeout(session):
    run = session(ECHO, "--timeout", "0.2")
    assert run.end() == 124 and run.is_as_before()


def test_terminal_is_untouched_by_wrong_usage(session):
    run = session(ECHO, "--nosuch")
    assert run.end() == 2 and run.is_as_before()
