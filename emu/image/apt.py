# Getting Debian packages through apt without root: apt's own tools on a state of our own, the system's sources and keys.
#
# Trust is apt's: its index files are signed, every package is checked against them. Nothing is installed.
import os
import pathlib
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from ..base.errors import HostError, ImageError

Progress = Callable[[float, str], None]  # how much of a step is done, from 0 to 1; what the step is

_PERCENT = re.compile(rb"^dlstatus:[^:]*:([0-9.]+):")
_ERROR_LINES_SHOWN = 3

# `-c` is read after the system's own configuration, so its sources, keys and proxies stay. Hooks of the system are for
# the system's lists; of all index files only the package lists are of use here.
_CONFIGURATION = """\
#clear APT::Update;
#clear APT::Architectures;
#clear Acquire::IndexTargets;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "";
Dir::State "{state}";
Dir::State::lists "lists/";
Dir::State::status "{state}/status";
Dir::Cache "{state}";
Dir::Cache::archives "archives/";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Acquire::IndexTargets::deb::Packages {{
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
  flatMetaKey "Packages";
  ShortDescription "Packages";
  Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
  flatDescription "$(RELEASE) Packages";
  Optional "no";
}};
"""
_SOURCES = """\
Dir::Etc::sourcelist "{path}";
Dir::Etc::sourceparts "/dev/null";
"""


@dataclass(frozen=True)
class Package:
    """A package that apt offers: its name, version, architecture, SHA-256 and the packages it depends on."""

    name: str
    version: str
    architecture: str
    sha256: str
    depends: tuple[str, ...]


class Apt:
    """apt for one architecture.

    architecture: Debian's name of it, which need not be the host's; directory: where apt keeps its state (it may be deleted
    at any time); sources: a sources file (.list or .sources) to use in place of the system's.
    Raises HostError on a host without apt.
    """

    def __init__(self, architecture: str, directory: pathlib.Path, sources: str | None = None) -> None:
        for tool in ("apt-get", "apt-cache", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise HostError(tool, "not found on this host", "Debian's packages are fetched with apt",
                                "run this on Debian or Ubuntu, or give a kernel of your own: emu run --kernel F --initrd F")
        self.architecture = architecture
        self._state = directory / architecture
        self._configuration = self._state / "apt.conf"
        text = _CONFIGURATION.format(architecture=architecture, state=self._state)
        if sources is not None:
            if not os.path.isfile(sources):
                raise ImageError(sources, "no such file", "a sources file of apt")
            text += _SOURCES.format(path=os.path.abspath(sources))
        try:
            for part in ("lists/partial", "archives/partial"):
                (self._state / part).mkdir(parents=True, exist_ok=True)
            (self._state / "status").touch()
            self._configuration.write_text(text)
        except OSError as error:
            raise HostError(str(self._state), f"cannot be written: {error.strerror}", mend="free space or set XDG_CACHE_HOME") from None
        self._complaint = ""

    def update(self, progress: Progress) -> None:
        """Fetches the signed package lists. One source that fails is no error: what is missing then shows in `find`."""
        code, errors = self._run(["apt-get", "update"], progress, "package lists")
        self._complaint = errors if code else ""

    def find(self, name: str) -> Package:
        """The package `name` as apt would install it. HostError if apt offers none."""
        result = subprocess.run(self._command("apt-cache", "show", "--no-all-versions", name), capture_output=True, check=False)
        fields = _fields(result.stdout.decode(errors="replace"))
        if result.returncode or fields.get("Package") != name:
            raise HostError(name, f"apt on this host offers no such package for {self.architecture}", self._complaint,
                            "check the network and the sources of apt (they must be Debian's), or name some: --sources FILE")
        return Package(name, fields["Version"], fields["Architecture"], fields["SHA256"], tuple(_names(fields.get("Depends", ""))))

    def download(self, package: Package, progress: Progress) -> pathlib.Path:
        """Fetches the package file; apt checks it against its signed lists. HostError if it cannot be had."""
        directory = self._state / "archives"
        before = set(directory.glob("*.deb"))
        for old in before:
            old.unlink()
        target = f"{package.name}:{self.architecture}={package.version}"
        code, errors = self._run(["apt-get", "download", target], progress, package.name)
        files = list(directory.glob("*.deb"))
        if code or len(files) != 1:
            raise HostError(package.name, "could not be downloaded", errors, "check the network and the sources of apt")
        return files[0]

    def _command(self, tool: str, *arguments: str) -> list[str]:
        return [tool, "-c", str(self._configuration), "-q=2", *arguments]

    def _run(self, command: list[str], progress: Progress, text: str) -> tuple[int, str]:
        """Runs a command of apt, telling how far it is; returns its exit code and its last complaints."""
        read_end, write_end = os.pipe()
        command = self._command(*command)
        command[1:1] = ["-o", f"APT::Status-Fd={write_end}"]
        progress(0.0, text)
        with open(read_end, "rb") as status, open(self._state / "errors", "w+b") as errors:
            try:
                process = subprocess.Popen(command, cwd=self._state / "archives", pass_fds=[write_end], stdin=subprocess.DEVNULL,
                                           stdout=subprocess.DEVNULL, stderr=errors, env={**os.environ, "LC_ALL": "C"})
            finally:
                os.close(write_end)
            with process:
                try:
                    for line in status:
                        if found := _PERCENT.match(line):
                            progress(min(float(found[1]) / 100, 1.0), text)
                except BaseException:
                    process.terminate()
                    raise
            errors.seek(0)
            complaints = [line[3:].strip() for line in errors.read().decode(errors="replace").splitlines() if line.startswith("E: ")]
        progress(1.0, text)
        return process.returncode, "; ".join(complaints[:_ERROR_LINES_SHOWN])


def _fields(text: str) -> dict[str, str]:
    """The first paragraph of a control file as a dictionary. Source: deb822(5)."""
    fields: dict[str, str] = {}
    for line in text.partition("\n\n")[0].splitlines():
        if line[:1] not in (" ", "\t") and ":" in line:
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    return fields


def _names(depends: str) -> list[str]:
    """The package names in a Depends field, the first of each alternative."""
    return [part.split("|")[0].split("(")[0].split(":")[0].strip() for part in depends.split(",") if part.strip()]


def read_files(archive: pathlib.Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The regular files of a package for which `wanted(path)`; paths begin without "/" and without "./".

    Nothing is written to disk, so no path in the archive can do harm. ImageError if the archive is broken.
    """
    import tarfile

    found = {}
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as tar:
                for member in tar:
                    path = member.name.removeprefix("./").lstrip("/")
                    if member.isreg() and wanted(path):
                        file = tar.extractfile(member)
                        if file is not None:
                            found[path] = file.read()
            while process.stdout is not None and process.stdout.read(1 << 16):
                pass  # the padding after the end of the archive
        except (tarfile.TarError, EOFError) as error:
            raise ImageError(archive.name, f"not a Debian package that can be read: {error}") from None
    if process.returncode:
        raise ImageError(archive.name, "not a Debian package that can be read", mend="pull it again")
    return found
