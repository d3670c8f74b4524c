# The errors of this program: each says what, where, why and how to mend it. A guest can never cause InternalError.


class EmuError(Exception):
    """Base of all errors that are shown to a user.

    subject: what it is about (a file, an option, a component); value: what was found; expected: what was wanted
    or why it cannot be; mend: what the user can do. `code` is the exit code of the command line.
    """

    code = 1

    def __init__(self, subject: str, value: str, expected: str = "", mend: str = "") -> None:
        self.subject = str(subject)
        self.value = str(value)
        self.expected = str(expected)
        self.mend = str(mend)
        super().__init__(str(self))

    def __str__(self) -> str:
        text = f"{self.subject}: {self.value}"
        if self.expected:
            text += f" ({self.expected})"
        if self.mend:
            text += f"\n  mend: {self.mend}"
        return text


class UsageError(EmuError):
    """Wrong usage: an option or argument that cannot be."""

    code = 2


class ImageError(EmuError):
    """An image file is missing, truncated, corrupt or of an unknown kind."""

    code = 3


class BootError(EmuError):
    """A good image that cannot be booted on this machine (too little memory, a CPU that lacks a feature)."""

    code = 3


class UnsupportedError(EmuError):
    """The guest needs something that is not emulated."""

    code = 4


class ResourceError(EmuError):
    """A limit was hit."""

    code = 15


class SnapshotError(EmuError):
    """A state that is corrupt, of another machine or of another version."""

    code = 21


class DivergedError(EmuError):
    """A replay went another way than its log."""

    code = 20


class HostError(EmuError):
    """The host lacks or refuses something."""

    code = 1


class NetworkError(EmuError):
    """A network that cannot be had: a port that is taken, a library that is missing."""

    code = 3


class InternalError(EmuError):
    """A fault of this program."""

    code = 1
