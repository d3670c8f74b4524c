# What is this file? By its content, never by its name.
import os
import stat
from typing import NamedTuple

from emu.base.errors import ImageError

BOOTABLE = frozenset(("bzimage", "multiboot1", "multiboot2", "pvh", "elf32", "elf64", "disk"))
MEDIA = frozenset(("disk", "iso9660", "qcow2"))

SNAPSHOT_MAGIC = b"\x8eemu state\r\n"  # 12 bytes; the second character of a line's end dies where somebody "converts" text

# (offset, bytes, kind, what it is in words)
_MAGICS = (
    (0, SNAPSHOT_MAGIC, "snapshot", "a snapshot of a machine"),
    (0, b"\x1f\x8b", "gzip", "a gzip file"),
    (0, b"\xfd7zXZ\0", "xz", "an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "zstd", "a zstd file"),
    (0, b"\x04\x22\x4d\x18", "lz4", "an lz4 file"),
    (0, b"\x02\x21\x4c\x18", "lz4", "an lz4 file of the old form"),
    (0, b"BZh", "bzip2", "a bzip2 file"),
    (0, b"QFI\xfb", "qcow2", "a qcow2 disk image"),
    (0, b"070701", "cpio", "a cpio archive, as an uncompressed initramfs is"),
    (0, b"070702", "cpio", "a cpio archive, as an uncompressed initramfs is"),
    (32769, b"CD001", "iso9660", "an ISO 9660 image"),
)
_MENDS = {
    "snapshot": "give it alone: emu run FILE",
    "gzip": "gunzip it first, or give it as --initrd",
    "xz": "unpack it first (unxz), or give it as --initrd",
    "zstd": "unpack it first (unzstd), or give it as --initrd",
    "lz4": "unpack it first (unlz4), or give it as --initrd",
    "bzip2": "unpack it first (bunzip2), or give it as --initrd",
    "cpio": "give it as --initrd, and a kernel with --kernel",
    "iso9660": "give it as --cdrom",
    "qcow2": "give it as --disk",
    "disk": "give it as --disk",
    "text": "give the image that it belongs to",
    "empty": "get or build it again",
    "pe": "give a bzImage, an ELF or multiboot kernel or a disk image",
    "unknown": "give a bzImage, an ELF or multiboot kernel or a disk image",
}


class Identity(NamedTuple):
    """`kind`: one of BOOTABLE or MEDIA, or "gzip", "xz", "zstd", "lz4", "bzip2", "cpio", "pe", "text", "empty", "snapshot", "unknown";
    `description` says it in words."""

    kind: str
    description: str


def is_snapshot(data: bytes) -> bool:
    """Whether a file that begins so is a snapshot."""
    return data.startswith(SNAPSHOT_MAGIC)


def identify(data: bytes) -> Identity:
    """What `data` is: the whole file as bytes, or as anything whose slices are bytes (mmap)."""
    from emu.boot import multiboot
    from emu.boot.bootsector import has_boot_signature
    from emu.boot.elf import find_pvh_entry, is_elf, parse_elf
    from emu.boot.linux import is_bzimage
    if len(data) == 0:
        return Identity("empty", "an empty file")
    if is_bzimage(data):
        return Identity("bzimage", "a Linux bzImage")
    found = multiboot.find_header(data)
    if found is not None:
        return Identity(f"multiboot{found[0]}", f"a multiboot {found[0]} kernel")
    if is_elf(data):
        bits = 64 if data[4:5] == b"\x02" else 32
        try:
            if find_pvh_entry(parse_elf("", data), data) is not None:
                return Identity("pvh", f"an ELF{bits} kernel with a PVH entry point")
        except ImageError:
            pass                             # a damaged one is an ELF image still; its loader says what is wrong
        return Identity(f"elf{bits}", f"an ELF{bits} image")
    for offset, magic, kind, description in _MAGICS:
        if bytes(data[offset:offset + len(magic)]) == magic:
            return Identity(kind, description)
    if has_boot_signature(data):
        return Identity("disk", "a disk image with a boot sector")
    if bytes(data[:2]) == b"MZ":
        return Identity("pe", "a program for DOS, Windows or EFI")
    head = bytes(data[:512])
    if all(byte in b"\t\n\r\f" or byte >= 0x20 for byte in head) and _is_text(head):
        return Identity("text", "a text file")
    return Identity("unknown", "of no known kind")


def _is_text(head: bytes) -> bool:
    try:
        head.decode()
    except UnicodeDecodeError as error:
        return len(head) == 512 and error.start >= 509      # a character cut at the end of what was looked at
    return True


def refuse(name: str, data: bytes, identity: Identity) -> ImageError:
    """The error that says that `data` cannot be booted as it is, and how to mend that."""
    if identity.kind == "empty":
        return ImageError(name, "the file is empty", mend=_MENDS["empty"])
    first = bytes(data[:3]).hex(" ")
    return ImageError(name, f"not a bootable image (first bytes {first}: {identity.description})",
                      mend=_MENDS.get(identity.kind, _MENDS["unknown"]))


def read_image(path: str | os.PathLike[str], most_bytes: int = 1 << 32) -> bytes:
    """The content of the kernel or initrd file `path`; ImageError where it is missing, unreadable or no file."""
    name = str(path)
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
                raise ImageError(name, "not a regular file", mend="give the path of an image file")
            data = file.read(most_bytes + 1)
    except IsADirectoryError:
        raise ImageError(name, "a directory, not an image file", mend="give the path of a file in it") from None
    except FileNotFoundError:
        raise ImageError(name, "no such file", mend="check the path") from None
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "too little memory"
        raise ImageError(name, f"cannot be read: {reason}", mend="check the path and its permissions") from None
    if len(data) > most_bytes:
        raise ImageError(name, f"more than {most_bytes} bytes", "a kernel or an initrd", "give it as --disk")
    return data
