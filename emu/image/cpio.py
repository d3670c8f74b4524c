# Writing a cpio archive of the "newc" kind, which Linux unpacks as its initramfs. Reading one is not here.
#
# Source: Documentation/driver-api/early-userspace/buffer-format.rst of Linux: a header of 6 magic characters and 13
# fields of 8 hexadecimal digits, the name with its NUL, the data; header+name and data each padded to 4 bytes.
import stat
from dataclasses import dataclass, field

from ..base.errors import InternalError

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


@dataclass
class Tree:
    """Files by path, from which an archive is made; parents are made as they are needed.

    The same content gives the same bytes: entries are sorted by path, times and owners are 0.
    """

    _entries: dict = field(default_factory=dict)

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Adds a directory (and its parents) with the permission bits `mode`."""
        self._add(path, stat.S_IFDIR | mode, b"", 0)

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Adds a regular file holding `data`."""
        self._add(path, stat.S_IFREG | mode, data, 0)

    def link(self, path: str, target: str) -> None:
        """Adds a symbolic link to `target`."""
        self._add(path, stat.S_IFLNK | 0o777, target.encode(), 0)

    def character_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Adds a character device node."""
        self._add(path, stat.S_IFCHR | mode, b"", major << 8 | minor)

    def _add(self, path: str, mode: int, data: bytes, device: int) -> None:
        path = path.strip("/")
        if not path or ".." in path.split("/"):
            raise InternalError("cpio", f"path {path!r} leaves the archive")
        parent = path.rpartition("/")[0]
        if parent and parent not in self._entries:
            self.directory(parent)
        self._entries[path] = (mode, data, device)

    def archive(self) -> bytes:
        """The archive as bytes, padded to 512 as cpio itself does."""
        parts = []
        for inode, path in enumerate(sorted(self._entries), 1):
            mode, data, device = self._entries[path]
            parts.append(_entry(inode, path, mode, data, device))
        parts.append(_entry(0, _TRAILER, 0, b"", 0))
        whole = b"".join(parts)
        return whole + bytes(-len(whole) % 512)


def _entry(inode: int, path: str, mode: int, data: bytes, device: int) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, len(data), 0, 0, device >> 8, device & 0xFF, len(name), 0)
    head = _MAGIC + b"".join(b"%08X" % value for value in fields) + name
    return head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4)
