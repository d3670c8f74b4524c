# The archive writer, read back by the description of the format in Linux's buffer-format.rst.
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.errors import InternalError
from emu.image.cpio import Tree


def read(archive: bytes) -> list[tuple[str, int, bytes, tuple[int, int]]]:
    """Entries as (path, mode, data, device), in their order, without the trailer."""
    found, at = [], 0
    while True:
        assert archive[at:at + 6] == b"070701" and at % 4 == 0
        fields = [int(archive[at + 6 + 8 * n:at + 14 + 8 * n], 16) for n in range(13)]
        _, mode, user, group, _, time, size, _, _, major, minor, name_size, check = fields
        assert (user, group, time, check) == (0, 0, 0, 0)
        name = archive[at + 110:at + 110 + name_size]
        assert name[-1:] == b"\0"
        start = at + 110 + name_size + (-(110 + name_size) % 4)
        if name == b"TRAILER!!!\0":
            assert set(archive[start:]) <= {0}
            return found
        found.append((name[:-1].decode(), mode, archive[start:start + size], (major, minor)))
        at = start + size + (-size % 4)


def test_archive_holds_every_kind_of_entry():
    tree = Tree()
    tree.file("bin/busybox", b"\x7fELF", 0o755)
    tree.link("bin/sh", "busybox")
    tree.character_device("dev/console", 5, 1)
    tree.directory("tmp", 0o1777)
    assert read(tree.archive()) == [
        ("bin", stat.S_IFDIR | 0o755, b"", (0, 0)),
        ("bin/busybox", stat.S_IFREG | 0o755, b"\x7fELF", (0, 0)),
        ("bin/sh", stat.S_IFLNK | 0o777, b"busybox", (0, 0)),
        ("dev", stat.S_IFDIR | 0o755, b"", (0, 0)),
        ("dev/console", stat.S_IFCHR | 0o600, b"", (5, 1)),
        ("tmp", stat.S_IFDIR | 0o1777, b"", (0, 0)),
    ]


names = st.text("abcxyz", min_size=1, max_size=9)


@given(st.dictionaries(st.lists(names, min_size=1, max_size=3).map("/".join), st.binary(max_size=40), max_size=8), st.randoms())
def test_archive_does_not_depend_on_the_order_of_making(files, random):
    # A path that is both a file and a parent cannot be in a file system.
    files = {path: data for path, data in files.items() if not any(other.startswith(path + "/") for other in files)}
    first, second = Tree(), Tree()
    shuffled = list(files)
    random.shuffle(shuffled)
    for path in files:
        first.file(path, files[path])
    for path in shuffled:
        second.file(path, files[path])
    assert first.archive() == second.archive()
    assert {path: data for path, mode, data, _ in read(first.archive()) if stat.S_ISREG(mode)} == files


def test_parent_stands_before_what_is_in_it():
    tree = Tree()
    tree.file("a/b/c", b"")
    assert [path for path, *_ in read(tree.archive())] == ["a", "a/b", "a/b/c"]


@pytest.mark.parametrize("path", ["../x", "a/../../x", "", "/"])
def test_path_that_leaves_the_archive_is_refused(path):
    with pytest.raises(InternalError):
        Tree().file(path, b"")
