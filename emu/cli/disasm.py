# `emu disasm`: shows bytes as instructions. The decoder and the spelling are not here.
import os
import sys

from ..base.errors import ImageError, UsageError
from .main import no_options
from ..base.sizes import read_integer

_USAGE = "FILE|-|HEX [--mode 16|32|64] [--at ADDRESS]"
_ADDRESS_MAX = (1 << 64) - 1


def disasm_command(arguments: list[str]) -> int:
    """Runs `emu disasm`."""
    values = {"--mode": "64", "--at": "0"}
    what = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("--help", "-h"):
            print(f"usage: emu disasm {_USAGE}\n\nHEX: digits, with or without spaces, as in \"48 89 d8\"")
            return 0
        name, equals, value = word.partition("=")
        if name in values:
            if not equals and not rest:
                raise UsageError(name, "needs a value", _USAGE)
            values[name] = value if equals else rest.pop(0)
            continue
        no_options([word], "disasm", _USAGE, tuple(values))
        what.append(word)
    if not what:
        raise UsageError("emu disasm", "needs bytes", _USAGE)
    if values["--mode"] not in ("16", "32", "64"):
        raise UsageError("--mode", f"unknown mode {values['--mode']!r}", "16, 32 or 64")
    address = read_integer("--at", values["--at"], 0, _ADDRESS_MAX)
    code = _read(what)
    from ..cpu.disassemble import disassemble
    for at, data, text in disassemble(code, int(values["--mode"]), address):
        print(f"{at:16x}  {data.hex(' '):<45}  {text}")
    return 0


def _read(what: list[str]) -> bytes:
    """The bytes that the words name: a file, standard input, or hexadecimal digits."""
    if what == ["-"]:
        return sys.stdin.buffer.read()
    if len(what) == 1 and os.path.exists(what[0]):
        try:
            with open(what[0], "rb") as file:
                return file.read()
        except OSError as error:
            raise ImageError(what[0], f"cannot be read: {error.strerror}") from None
    try:
        return bytes.fromhex("".join(what).replace("0x", "").replace(",", " "))
    except ValueError:
        raise ImageError(" ".join(what), "neither a file nor hexadecimal digits", mend='emu disasm "48 89 d8"') from None
