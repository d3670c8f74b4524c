# What holds for every file of ours: it says what it is, it is of a size to be read, it names no machine of the makers.
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMENT = {".py": ('#', '"""'), ".pyx": ('#', '"""'), ".pxd": ('#', '"""'), ".toml": ("#",), ".S": ("#", "//", "/*"), ".c": ("//", "/*"),
           ".h": ("//", "/*"), ".ld": ("/*",)}
LINES_MAX = 1000
# Put together here, so that this file is not its own finding.
FORBIDDEN = re.compile("|".join(("deb" + r"\.debian\.org", "py" + r"pi\.org", r"(?<![\w.])/" + "work/", r"(?<![\w.])/" + "root/")))


def tracked() -> list[pathlib.Path]:
    """The files of the repository; those on disk where this is no repository."""
    result = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if result.returncode == 0 and result.stdout:
        return [path for name in result.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]
    return [path for folder in ("emu", "tests", "guests", "benchmarks", "tools") for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.suffix in COMMENT and "gen" not in path.parts]


FILES = tracked()


@pytest.mark.parametrize("suffix", sorted(COMMENT))
def test_file_first_line_says_what_lives_there(suffix):
    wrong = []
    for path in FILES:
        if path.suffix == suffix:
            lines = path.read_text().splitlines()
            if lines and not lines[0].startswith(COMMENT[suffix]):
                wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


def test_source_file_is_of_a_size_to_be_read():
    assert [str(path.relative_to(ROOT)) for path in FILES if path.suffix in (".py", ".pyx", ".pxd")
            and len(path.read_text().splitlines()) > LINES_MAX] == []


def test_file_names_no_machine_of_the_makers():
    wrong = []
    for path in FILES:
        data = path.read_bytes()
        if b"\0" not in data:
            wrong += [f"{path.relative_to(ROOT)}: {found[0]}" for found in FORBIDDEN.finditer(data.decode("utf-8", "replace"))]
    assert wrong == []
