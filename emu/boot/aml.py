# An encoder for the little AML that a DSDT needs: names, packages, methods, devices and resource descriptors.
#
# Source: ACPI 6.4, chapter 20 (AML grammar) and 6.4 (resource data types).


def encode_length(body: bytes) -> bytes:
    """PkgLength before `body`, which counts itself (20.2.4)."""
    if len(body) + 1 < 1 << 6:
        return bytes((len(body) + 1,))
    for extra in (1, 2, 3):
        length = len(body) + 1 + extra
        if length < 1 << 4 + 8 * extra:
            return bytes((extra << 6 | length & 0xF,)) + (length >> 4).to_bytes(extra, "little")
    raise ValueError(f"{len(body)} bytes are too many for a package")


def path(name: str) -> bytes:
    """A name: segments of up to four characters, separated by dots, from the root with a leading backslash."""
    root, rest = (b"\\", name[1:]) if name.startswith("\\") else (b"", name)
    segments = [segment.ljust(4, "_").encode("ascii") for segment in rest.split(".")] if rest else []
    if any(len(segment) != 4 for segment in segments):
        raise ValueError(f"{name}: a segment of a name has four characters")
    if not segments:
        return root + b"\0"
    if len(segments) == 1:
        return root + segments[0]
    if len(segments) == 2:
        return root + b"\x2E" + segments[0] + segments[1]
    return root + b"\x2F" + bytes((len(segments),)) + b"".join(segments)


def integer(value: int) -> bytes:
    """The shortest constant for `value`."""
    if value in (0, 1):
        return bytes((value,))
    for opcode, size in ((0x0A, 1), (0x0B, 2), (0x0C, 4), (0x0E, 8)):
        if value < 1 << 8 * size:
            return bytes((opcode,)) + value.to_bytes(size, "little")
    raise ValueError(f"{value} does not fit in 64 bits")


def string(text: str) -> bytes:
    return b"\x0D" + text.encode("ascii") + b"\0"


def eisa_id(name: str) -> bytes:
    """A compressed EISA identifier such as PNP0A03 (19.6.36)."""
    letters = [ord(letter) - 0x40 for letter in name[:3]]
    packed = letters[0] << 26 | letters[1] << 21 | letters[2] << 16 | int(name[3:], 16)
    return b"\x0C" + packed.to_bytes(4, "big")


def name(where: str, value: bytes) -> bytes:
    return b"\x08" + path(where) + value


def package(*elements: bytes) -> bytes:
    body = bytes((len(elements),)) + b"".join(elements)
    return b"\x12" + encode_length(body) + body


def buffer(data: bytes) -> bytes:
    body = integer(len(data)) + data
    return b"\x11" + encode_length(body) + body


def scope(where: str, *terms: bytes) -> bytes:
    body = path(where) + b"".join(terms)
    return b"\x10" + encode_length(body) + body


def device(where: str, *terms: bytes) -> bytes:
    body = path(where) + b"".join(terms)
    return b"\x5B\x82" + encode_length(body) + body


def method(where: str, arguments: int, *terms: bytes) -> bytes:
    body = path(where) + bytes((arguments,)) + b"".join(terms)
    return b"\x14" + encode_length(body) + body


def argument(number: int) -> bytes:
    return bytes((0x68 + number,))


def store(value: bytes, target: str) -> bytes:
    return b"\x70" + value + path(target)


def give(value: bytes) -> bytes:
    """Return (value)."""
    return b"\xA4" + value


def when(condition: bytes, *terms: bytes) -> bytes:
    """If (condition) { terms }"""
    body = condition + b"".join(terms)
    return b"\xA0" + encode_length(body) + body


# ---- resource descriptors (6.4)

def resources(*descriptors: bytes) -> bytes:
    """A resource template: the descriptors, an end tag and its checksum byte (0: not checked)."""
    return buffer(b"".join(descriptors) + b"\x79\0")


def io_ports(base: int, count: int) -> bytes:
    """Fixed ports, decoded in 16 bits (6.4.2.5)."""
    return b"\x47\x01" + base.to_bytes(2, "little") * 2 + bytes((1, count))


def irq(number: int) -> bytes:
    """An ISA interrupt: edge, active high, not shared (6.4.2.1)."""
    return b"\x22" + (1 << number).to_bytes(2, "little")


def memory32_fixed(base: int, size: int) -> bytes:
    """Memory of the device, read-write (6.4.3.4)."""
    return b"\x86\x09\0\x01" + base.to_bytes(4, "little") + size.to_bytes(4, "little")


MEMORY, IO, BUS = 0, 1, 2
_FIXED = 0x0C                        # both ends fixed, positive decode, the bridge produces it
_PRODUCED = {MEMORY: 0x01, IO: 0x03, BUS: 0x00}     # type flags: memory read-write, not cacheable; I/O the entire range


def window(kind: int, first: int, last: int, size: int) -> bytes:
    """An address space [first, last] that a bridge hands on, in fields of `size` 2, 4 or 8 bytes (6.4.3.5)."""
    tag = {2: 0x88, 4: 0x87, 8: 0x8A}[size]
    fields = (0, first, last, 0, last - first + 1)
    body = bytes((kind, _FIXED, _PRODUCED[kind])) + b"".join(field.to_bytes(size, "little") for field in fields)
    return bytes((tag,)) + len(body).to_bytes(2, "little") + body
