# The debug build: a copy of this checkout in build/debug with assertions and sanitizers on, and how to run it.
"""Use:  debug.py build            copies what has changed and builds it
      debug.py run ARGUMENTS...  runs this Python there, with the sanitizer's library loaded: run -m pytest, run -m emu.cli run ...

EMU_SANITIZE=0 leaves AddressSanitizer out (assertions and undefined behaviour are still checked).
"""
from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "debug"
ADDRESS = os.environ.get("EMU_SANITIZE", "1") == "1"


def copy_sources() -> None:
    """Brings the copy up to date; what has not changed keeps its time, so that only what has is compiled."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
    wanted = {name for name in names.stdout.split("\n") if name and (ROOT / name).is_file()}
    for name in sorted(wanted):
        source, target = ROOT / name, COPY / name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    known = COPY / "build" / "sources"
    for name in known.read_text().split("\n") if known.exists() else ():
        if name and name not in wanted:
            (COPY / name).unlink(missing_ok=True)
    known.parent.mkdir(exist_ok=True)
    known.write_text("\n".join(sorted(wanted)))


def environment() -> dict[str, str]:
    startup = COPY / "build" / "startup"
    settings = dict(os.environ, EMU_DEBUG="1", PYTHONPATH=str(startup), EMU_SANITIZE="1" if ADDRESS else "0",
                    UBSAN_OPTIONS="print_stacktrace=1",
                    ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:allocator_may_return_null=1:handle_abort=0")
    startup.mkdir(parents=True, exist_ok=True)
    # AddressSanitizer refuses libraries that are loaded so (github.com/google/sanitizers/issues/611); capstone asks for it
    (startup / "sitecustomize.py").write_text("import os\nos.RTLD_DEEPBIND = 0\n")
    return settings


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in ("build", "run"):
        print(__doc__, file=sys.stderr)
        return 2
    settings = environment()
    if sys.argv[1] == "build":
        copy_sources()
        return subprocess.run([sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=COPY, env=settings).returncode
    if ADDRESS:
        compiler = os.environ.get("CC", "gcc").split()
        library = subprocess.run([*compiler, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True).stdout.strip()
        settings["LD_PRELOAD"] = library
    os.chdir(COPY)
    os.execvpe(sys.executable, [sys.executable, *sys.argv[2:]], settings)


if __name__ == "__main__":
    sys.exit(main())
