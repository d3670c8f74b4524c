# What was pulled, on disk: blobs named by their SHA-256 and names that refer to them. Nothing here knows what a blob means.
#
# Layout, under $XDG_DATA_HOME/emu (else ~/.local/share/emu), the blob part as in the OCI image layout:
#     blobs/sha256/<64 hexadecimal digits>      content; the name is the promise, checked on every use
#     names/<name>.json                         what a name stands for
#     lock                                      held while something is added or removed
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib

from ..base.errors import HostError, ImageError, UsageError

_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
_NAME_LENGTH_MAX = 64
_DIGEST_PREFIX = "sha256:"


def data_directory() -> pathlib.Path:
    """The directory of the store. Source: XDG Base Directory Specification (a relative path there is to be ignored)."""
    return _xdg("XDG_DATA_HOME", ".local/share")


def cache_directory() -> pathlib.Path:
    """The directory for what can be made again at any time."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def _xdg(variable: str, default: str) -> pathlib.Path:
    base = os.environ.get(variable, "")
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), default)
    return pathlib.Path(base) / "emu"


def is_name(text: str) -> bool:
    """Whether `text` can be the name of an image: lower-case letters, digits and . _ -, beginning with a letter or digit."""
    return 0 < len(text) <= _NAME_LENGTH_MAX and text[0].isalnum() and _NAME_CHARACTERS.issuperset(text)


class Store:
    """The images of one user.

    root: the directory; made when first written to. Raises HostError where the host refuses a read or a write.
    """

    def __init__(self, root: pathlib.Path | None = None) -> None:
        self.root = pathlib.Path(root) if root is not None else data_directory()
        self._blobs = self.root / "blobs" / "sha256"
        self._names = self.root / "names"

    def names(self) -> list[str]:
        """All names, sorted."""
        if not self._names.is_dir():
            return []
        return sorted(path.stem for path in self._names.glob("*.json") if is_name(path.stem))

    def read(self, name: str) -> dict | None:
        """What `name` stands for, as it was given to `write`; None if there is no such name. ImageError if it is corrupt."""
        if not is_name(name):
            return None
        path = self._names / f"{name}.json"
        try:
            record = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ImageError(name, f"its record {path} cannot be read: {error}", mend=f"emu rmi {name}; emu pull {name}") from None
        if not isinstance(record, dict) or not isinstance(record.get("blobs"), dict):
            raise ImageError(name, f"its record {path} is not one of this program", mend=f"emu rmi {name}; emu pull {name}")
        return record

    def path(self, name: str, digest: str) -> pathlib.Path:
        """The file of a blob of `name`, after its content was checked against its digest. ImageError if it fails."""
        path = self._blob_path(digest)
        if path is None:
            raise ImageError(name, f"{digest!r} is not a SHA-256 digest", mend=f"emu rmi {name}; emu pull {name}")
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise ImageError(name, f"a part of it cannot be read: {error}", mend=f"emu pull {name}") from None
        if found != path.name:
            raise ImageError(name, f"{path} was changed after it was stored", "its SHA-256 is not its name", f"emu pull {name}")
        return path

    def write(self, name: str, blobs: dict[str, bytes], facts: dict) -> dict:
        """Stores `blobs` (content by role) and lets `name` stand for them and `facts`; an older meaning is replaced.

        Whoever reads at the same time sees the old meaning or the new one, never a mixture; so does one who comes after a
        crash in the middle. Returns the record.
        """
        if not is_name(name):
            raise UsageError(name, "cannot be the name of an image", "lower-case letters, digits and . _ -")
        with self._locked():
            record = dict(facts)
            record["blobs"] = {role: self._put(data) for role, data in blobs.items()}
            record["bytes"] = sum(len(data) for data in blobs.values())
            text = json.dumps(record, indent=2, sort_keys=True) + "\n"
            self._write_atomically(self._names / f"{name}.json", text.encode())
            self._collect()
        return record

    def remove(self, name: str) -> bool:
        """Forgets `name` and deletes blobs that no name refers to. False if there was no such name."""
        if not is_name(name) or not self._names.is_dir():
            return False
        with self._locked():
            try:
                (self._names / f"{name}.json").unlink()
            except FileNotFoundError:
                return False
            self._collect()
        return True

    def _blob_path(self, digest: object) -> pathlib.Path | None:
        if not isinstance(digest, str) or not digest.startswith(_DIGEST_PREFIX):
            return None
        name = digest[len(_DIGEST_PREFIX):]
        if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
            return None
        return self._blobs / name

    def _put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        self._write_atomically(self._blobs / name, data)
        return _DIGEST_PREFIX + name

    def _write_atomically(self, path: pathlib.Path, data: bytes) -> None:
        """Only with the lock held; what a crash leaves behind is deleted by the next _collect."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.parent / f".new-{path.name}"
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def _collect(self) -> None:
        """Deletes what no name refers to, and what an interrupted write left. Only with the lock held."""
        used: set[str] = set()
        for name in self.names():
            try:
                record = self.read(name)
            except ImageError:
                return  # what the broken record refers to is not known: keep everything
            if record is not None:
                used.update(str(digest)[len(_DIGEST_PREFIX):] for digest in record["blobs"].values())
        for directory in (self._blobs, self._names):
            if directory.is_dir():
                for path in directory.iterdir():
                    if path.name.startswith(".new-") or (directory is self._blobs and path.name not in used):
                        path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self):
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with open(self.root / "lock", "wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise HostError(str(self.root), f"cannot be written: {error.strerror}", mend="free space or set XDG_DATA_HOME") from None
