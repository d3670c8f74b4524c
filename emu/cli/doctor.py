# `emu doctor`: what this host offers, what is missing and how to get it.
import os
import platform
import shutil
import sys

from .. import __version__
from .main import no_options

_THP = "/sys/kernel/mm/transparent_hugepage/enabled"


def doctor_command(arguments: list[str]) -> int:
    """Runs `emu doctor`. Returns 0 if guests can be run, 1 if something needed for that is missing."""
    no_options(arguments, "doctor", "", ("--help", "-h"))
    if arguments:
        print("usage: emu doctor")
        return 0
    good = True
    for needed, subject, text, mend in _facts():
        ok = not mend
        good = good and (ok or not needed)
        print(f"{'ok' if ok else 'MISSING' if needed else 'absent':<8}{subject:<14}{text}")
        if mend:
            print(f"{'':<8}{'':<14}mend: {mend}")
    return 0 if good else 1


def _facts():
    """(needed to run guests?, subject, what was found, how to mend it or "")."""
    from ..image.store import data_directory
    yield True, "emu", f"{__version__}, {os.path.dirname(os.path.dirname(__file__))}", ""
    old = sys.version_info < (3, 11)
    yield True, "python", f"{platform.python_version()}, {sys.executable}", "Python 3.11 or newer" if old else ""
    yield False, "host", f"{platform.machine()}, Linux {platform.release()}, {len(os.sched_getaffinity(0))} processors", ""
    yield _core()
    yield _tool("compiler", "gcc", "to build from source: apt-get install gcc python3-dev")
    yield _tool("apt", "apt-get", "emu pull needs Debian's or Ubuntu's apt; a kernel of your own: --kernel")
    yield _tool("dpkg", "dpkg-deb", "emu pull needs it: apt-get install dpkg")
    for tool in ("qemu-system-x86_64", "bochs"):
        yield _tool("peer", tool, f"only to compare with: apt-get install {'bochs' if tool == 'bochs' else 'qemu-system-x86'}")
    yield _slirp()
    memory = _field("/proc/meminfo", "MemAvailable")
    yield False, "memory", f"{memory} available" if memory else "unknown", ""
    try:
        with open(_THP) as file:
            yield False, "huge pages", file.read().strip(), ""
    except OSError:
        yield False, "huge pages", "not told by this host", ""
    store = data_directory()
    place = store
    while not place.exists():
        place = place.parent
    mend = "" if os.access(place, os.W_OK) else "set XDG_DATA_HOME to a directory of yours"
    free = shutil.disk_usage(place).free >> 20
    yield False, "store", f"{store}, {free} MiB free", mend


def _core() -> tuple[bool, str, str, str]:
    try:
        from ..machine import machine
    except ImportError as error:
        return True, "core", f"cannot be loaded: {error}", "build it: make build"
    return True, "core", os.path.dirname(machine.__file__), ""


def _slirp() -> tuple[bool, str, str, str]:
    from ..base.errors import NetworkError
    try:
        from ..devices.backend.net.nat import library_version
        return False, "libslirp", f"{library_version()}, for --net user", ""
    except ImportError:
        return False, "libslirp", "unknown: the core cannot be loaded", ""
    except NetworkError as error:
        return False, "libslirp", "not found: no --net user", error.mend


def _tool(subject: str, name: str, mend: str) -> tuple[bool, str, str, str]:
    path = shutil.which(name)
    return False, subject, path or f"{name} not found", "" if path else mend


def _field(path: str, name: str) -> str:
    try:
        with open(path) as file:
            for line in file:
                if line.startswith(name + ":"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return ""
