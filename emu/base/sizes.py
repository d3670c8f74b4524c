# Reading the numbers that users type: sizes in bytes, counts, seconds.
from emu.base.errors import UsageError

_BINARY = {"": 1 << 20, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_DECIMAL = {"": 1, "K": 10 ** 3, "M": 10 ** 6, "G": 10 ** 9, "T": 10 ** 12}
_MEMORY_MIN = 1 << 20
_MEMORY_MAX = 1 << 40  # 40 bits of physical address
_SEED_MAX = (1 << 64) - 1


def read_memory(option: str, text: str) -> int:
    """A size of memory in bytes: 256M, 1G, 1.5G; a plain number is in MiB, as with QEMU's -m."""
    value = _scaled(option, text, _BINARY, "a size such as 256M or 1G")
    if not _MEMORY_MIN <= value <= _MEMORY_MAX:
        raise UsageError(option, f"{text} of memory cannot be", "from 1M to 1T", f"{option} 256M")
    if value % 4096:
        raise UsageError(option, f"{text} is no whole number of 4 KiB pages", mend=f"{option} 256M")
    return value


def read_count(option: str, text: str) -> int:
    """A count of at least 1: 5000, 200M, 1.5G; the letters are powers of 1000."""
    value = _scaled(option, text, _DECIMAL, "a number such as 5000, 200M or 2G")
    if value < 1:
        raise UsageError(option, f"{text} is too small", "at least 1")
    return value


def as_memory(name: str, value: int | str) -> int:
    """Bytes of memory from a Python argument: a number of bytes, or a text as `read_memory` takes it."""
    return read_memory(name, value if isinstance(value, str) else f"{value}B")


def as_count(name: str, value: int | str | None) -> int | None:
    """A count from a Python argument: a number, a text as `read_count` takes it, or None."""
    return None if value is None else read_count(name, str(value))


def read_seconds(option: str, text: str) -> float:
    """A duration in seconds, more than 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise UsageError(option, f"{text!r} is no duration", "seconds, more than 0")
    return value


def read_integer(option: str, text: str, low: int = 0, high: int = _SEED_MAX) -> int:
    """A whole number, decimal or 0x..., from `low` to `high`."""
    try:
        value = int(text, 0)
    except ValueError:
        raise UsageError(option, f"{text!r} is no whole number") from None
    if not low <= value <= high:
        raise UsageError(option, f"{text} is out of range", f"from {low} to {high:#x}")
    return value


def _scaled(option: str, text: str, factors: dict[str, int], expected: str) -> int:
    digits, letter = text, ""
    if text and text[-1].upper() in factors:
        digits, letter = text[:-1], text[-1].upper()
    whole, _, fraction = digits.partition(".")
    if not (whole.isascii() and whole.isdigit()) or not ("." not in digits or (fraction.isascii() and fraction.isdigit())):
        raise UsageError(option, f"{text!r} is no number", expected)
    if len(digits) > 20:
        raise UsageError(option, f"{text} is too large", expected)
    scaled = int(whole + fraction) * factors[letter]
    return scaled // 10 ** len(fraction)
