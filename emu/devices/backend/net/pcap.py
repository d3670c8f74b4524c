# Captures of frames for tshark and its kin: pcap files with nanoseconds.
#
# Source: draft-ietf-opsawg-pcap (the magic number that says nanoseconds; link type 1 is Ethernet).
import os
import struct

from emu.base.errors import ImageError

_MAGIC_NS = 0xA1B23C4D
_LINK_ETHERNET = 1
_SNAP_BYTES = 65535


class Capture:
    """A pcap file of the frames at one card; the file's times are `start_seconds` (Unix) plus the machine's virtual time.

    Raises ImageError where the file cannot be made. A frame is written once virtual time has come to it, so that the file is in
    the order of time, and the file is whole after each `write_until`. Where the disk is full the capture ends (`error` says so).
    """

    def __init__(self, path: str, start_seconds: int = 0) -> None:
        self._start_ns = start_seconds * 10 ** 9
        self._pending: list[tuple[int, int, bytes]] = []
        self._count = 0
        self.error = ""
        try:
            self._file = open(path, "wb", buffering=0)
        except OSError as error:
            raise ImageError(path, error.strerror or str(error), "a file for captured frames") from None
        self._path = os.fspath(path)
        self._write(struct.pack("<IHHiIII", _MAGIC_NS, 2, 4, 0, 0, _SNAP_BYTES, _LINK_ETHERNET))

    def add(self, when_ns: int, frame: bytes) -> None:
        """A frame that passes at virtual time `when_ns`."""
        self._pending.append((when_ns, self._count, frame))
        self._count += 1

    def write_until(self, now_ns: int) -> None:
        """Writes the frames up to virtual time `now_ns`."""
        if not self._pending:
            return
        self._pending.sort()
        ready = [entry for entry in self._pending if entry[0] <= now_ns]
        del self._pending[:len(ready)]
        self._write(b"".join(self._record(when_ns, frame) for when_ns, _, frame in ready))

    def close(self, now_ns: int) -> None:
        """Writes what has passed, and closes the file; frames whose time has not come never passed."""
        if not self._file.closed:
            self.write_until(now_ns)
            self._file.close()

    def _record(self, when_ns: int, frame: bytes) -> bytes:
        seconds, nanoseconds = divmod(self._start_ns + when_ns, 10 ** 9)
        return struct.pack("<IIII", seconds & 0xFFFFFFFF, nanoseconds, len(frame), len(frame)) + frame

    def _write(self, data: bytes) -> None:
        if self.error:
            return
        try:
            while data:
                data = data[self._file.write(data):]
        except OSError as error:
            self.error = f"{self._path}: {error.strerror}"
