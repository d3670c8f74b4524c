# The user's terminal while a guest has it: raw mode that is always undone, and the Ctrl-A keys.
import contextlib
import os
import signal
import sys
import termios

CTRL_A = 1
QUIT, HELP, MONITOR = "quit", "help", "monitor"
HELP_TEXT = """
Ctrl-A X       end the run
Ctrl-A C       monitor (not there yet)
Ctrl-A H       this text
Ctrl-A Ctrl-A  send Ctrl-A to the guest
"""
_KEYS = {ord("x"): QUIT, ord("X"): QUIT, ord("h"): HELP, ord("H"): HELP, ord("?"): HELP, ord("c"): MONITOR, ord("C"): MONITOR}


class EscapeKeys:
    """Takes the Ctrl-A keys out of what is typed; they may be split over any number of reads."""

    def __init__(self) -> None:
        self._pending = False

    def feed(self, data: bytes) -> tuple[bytes, list[str]]:
        """What is for the guest, and which of QUIT, HELP, MONITOR were asked for. Unknown keys after Ctrl-A are dropped."""
        out = bytearray()
        asked = []
        for byte in data:
            if self._pending:
                self._pending = False
                if byte == CTRL_A:
                    out.append(byte)
                elif byte in _KEYS:
                    asked.append(_KEYS[byte])
            elif byte == CTRL_A:
                self._pending = True
            else:
                out.append(byte)
        return bytes(out), asked


class RawTerminal:
    """Raw mode on `descriptor` within a `with`; undone at its end, and by a small guardian process if this one is killed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._saved: list = []
        self._guardian = 0
        self._alive = -1

    def __enter__(self) -> "RawTerminal":
        self._saved = termios.tcgetattr(self._descriptor)
        self._start_guardian()
        raw = termios.tcgetattr(self._descriptor)
        # What cfmakeraw does (termios(3)), but a read gives what is there.
        raw[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
                    | termios.ICRNL | termios.IXON)
        raw[1] &= ~termios.OPOST
        raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._descriptor, termios.TCSANOW, raw)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(termios.error):  # the terminal itself may have gone
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)
        if self._guardian:
            with contextlib.suppress(OSError):
                os.write(self._alive, b".")
            os.close(self._alive)
            os.waitpid(self._guardian, 0)

    def say(self, text: str) -> None:
        """A message of the program while the terminal is raw."""
        sys.stderr.write(text.replace("\n", "\r\n"))
        sys.stderr.flush()

    def _start_guardian(self) -> None:
        """Forks the process that mends the terminal when this one ends without a word (SIGKILL, a crash)."""
        read_end, self._alive = os.pipe()
        try:
            self._guardian = os.fork()
        except OSError:
            os.close(read_end)
            os.close(self._alive)
            return
        if self._guardian:
            os.close(read_end)
            return
        try:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTTOU, signal.SIGTSTP):
                signal.signal(number, signal.SIG_IGN)
            for descriptor in os.listdir("/proc/self/fd"):
                if int(descriptor) not in (self._descriptor, read_end):
                    with contextlib.suppress(OSError):
                        os.close(int(descriptor))
            if not os.read(read_end, 1):
                termios.tcsetattr(self._descriptor, termios.TCSANOW, self._saved)
        finally:
            os._exit(0)
