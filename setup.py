"""Builds the extension modules; what is generated from emu/isa/ is made anew first. See pyproject.toml for the rest."""
import os
import pathlib
import platform
import sys
import sysconfig
import warnings

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = pathlib.Path(__file__).resolve().parent
DEBUG = os.environ.get("EMU_DEBUG") == "1"           # assertions (emu/base/check.pxd) and gcc's checks of undefined behaviour
SANITIZE = os.environ.get("EMU_SANITIZE") == "1"     # besides, AddressSanitizer: Python is then to be run with libasan preloaded
JOBS = int(os.environ.get("EMU_JOBS", "2"))

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": DEBUG,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": DEBUG,
    "overflowcheck": False,
    "embedsignature": True,
}
# Chained handlers need sibling calls in every build; hot helpers must be inlined wherever they stand.
FLAGS = ["-O2", "-foptimize-sibling-calls", "-fno-strict-aliasing", "-fwrapv", "-ffp-contract=off",
         "-fno-semantic-interposition", "-fvisibility=hidden", "-fno-stack-protector", "-fcf-protection=none",
         "-fno-plt", "-w"]
LINK_FLAGS = []
if DEBUG:
    # What gcc can check and our code never means to do. Not among them: alignment (guest memory has none).
    CHECKS = ["-fsanitize=bounds,shift-exponent,integer-divide-by-zero,float-cast-overflow,null,bool,return,unreachable"]
    CHECKS += ["-fsanitize=address"] if SANITIZE else []
    FLAGS = ["-O1", "-g1", "-DEMU_DEBUG=1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all", *CHECKS, *FLAGS[1:]]
    LINK_FLAGS = CHECKS
HANDLER_FLAGS = ["-DCYTHON_INLINE=inline __attribute__((always_inline))", "-fno-asynchronous-unwind-tables"]


# Modules that only some hosts can have: the native oracle needs an x86-64 processor under Linux, and low memory that
# AddressSanitizer has for itself.
NATIVE = platform.machine() in ("x86_64", "AMD64") and sys.platform == "linux" and not (DEBUG and SANITIZE)
ELSEWHERE_ABSENT = () if NATIVE else ("emu/debug/native/host.pyx",)


def extensions():
    found = []
    for path in sorted((ROOT / "emu").rglob("*.pyx")):
        relative = path.relative_to(ROOT)
        if relative.as_posix() in ELSEWHERE_ABSENT:
            continue
        name = ".".join(relative.with_suffix("").parts)
        flags = FLAGS + (HANDLER_FLAGS if "gen" in relative.parts else [])
        found.append(Extension(name, [str(relative)], extra_compile_args=flags, extra_link_args=LINK_FLAGS, include_dirs=["."],
                               depends=[str(header) for header in sorted(relative.parent.glob("*.h"))]))
    return found


def generate():
    sys.path.insert(0, str(ROOT))
    generator = ROOT / "emu" / "isa" / "generate.py"
    if generator.exists():
        from emu.isa.generate import write_generated
        write_generated(ROOT / "emu" / "cpu" / "gen")


def settings_changed():
    """Whether what holds for every module (flags, directives, compilers' versions) is other than at the last build."""
    settings = repr((sys.version, Cython.__version__, DEBUG, DIRECTIVES, FLAGS, HANDLER_FLAGS))
    path = ROOT / "build" / "settings"
    if path.exists() and path.read_text() == settings:
        return False
    path.parent.mkdir(exist_ok=True)
    path.write_text(settings)
    return True


class BuildInPlace(build_ext):
    """An editable install takes what `build_ext --inplace` has built; by itself it would compile everything anew elsewhere."""

    def finalize_options(self):
        super().finalize_options()
        if self.editable_mode:
            ending = f"{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
            self.build_lib, self.build_temp = f"build/lib.{ending}", f"build/temp.{ending}"


warnings.filterwarnings("ignore", "Support for .*is still .beta")  # setuptools about its own section of pyproject.toml
os.chdir(ROOT)
generate()
changed = settings_changed()
setup(cmdclass={"build_ext": BuildInPlace},
      ext_modules=cythonize(extensions(), compiler_directives=DIRECTIVES, nthreads=JOBS, force=changed, show_all_warnings=False),
      options={"build_ext": {"parallel": JOBS, "force": changed}})
