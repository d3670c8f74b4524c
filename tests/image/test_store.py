# The store of guest images: what is written is read back, what was changed is noticed, nothing unused stays.
import hashlib
import json

import pytest

from emu.base.errors import HostError, ImageError, UsageError
from emu.image.store import Store, cache_directory, data_directory, is_name


def blobs_on_disk(store):
    return {path.name for path in (store.root / "blobs" / "sha256").iterdir()}


def test_write_then_read_gives_the_same_record_and_content(tmp_path):
    store = Store(tmp_path)
    written = store.write("debian", {"kernel": b"one", "initrd": b"two"}, {"append": "a b"})
    assert store.read("debian") == written
    assert written["append"] == "a b" and written["bytes"] == 6
    assert written["blobs"]["kernel"] == "sha256:" + hashlib.sha256(b"one").hexdigest()
    assert store.path("debian", written["blobs"]["initrd"]).read_bytes() == b"two"
    assert store.names() == ["debian"]


def test_read_of_unknown_name_is_none(tmp_path):
    store = Store(tmp_path / "nothing")
    assert store.read("x") is None and store.names() == [] and store.remove("x") is False
    assert not (tmp_path / "nothing").exists()


def test_write_again_replaces_and_drops_what_no_name_refers_to(tmp_path):
    store = Store(tmp_path)
    store.write("a", {"kernel": b"one"}, {})
    store.write("a", {"kernel": b"three"}, {})
    assert blobs_on_disk(store) == {hashlib.sha256(b"three").hexdigest()}


def test_remove_keeps_what_another_name_shares(tmp_path):
    store = Store(tmp_path)
    store.write("a", {"kernel": b"shared", "initrd": b"mine"}, {})
    record = store.write("b", {"kernel": b"shared"}, {})
    assert store.remove("a") is True
    assert store.path("b", record["blobs"]["kernel"]).read_bytes() == b"shared"
    assert blobs_on_disk(store) == {hashlib.sha256(b"shared").hexdigest()}


def test_changed_blob_is_refused_and_mended_by_writing_again(tmp_path):
    store = Store(tmp_path)
    record = store.write("a", {"kernel": b"content"}, {})
    path = store.path("a", record["blobs"]["kernel"])
    path.write_bytes(b"Content")
    with pytest.raises(ImageError, match="changed after it was stored"):
        store.path("a", record["blobs"]["kernel"])
    store.write("a", {"kernel": b"content"}, {})
    assert store.path("a", record["blobs"]["kernel"]).read_bytes() == b"content"


@pytest.mark.parametrize("digest", ["sha256:../../../etc/passwd", "md5:00", "sha256:" + "G" * 64, 7, None, "sha256:" + "0" * 64])
def test_digest_that_is_none_or_missing_is_refused(tmp_path, digest):
    with pytest.raises(ImageError):
        Store(tmp_path).path("a", digest)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"blobs": 3}', "\xff"])
def test_broken_record_is_refused_and_can_be_removed(tmp_path, text):
    store = Store(tmp_path)
    store.write("a", {"kernel": b"x"}, {})
    (tmp_path / "names" / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(ImageError):
        store.read("a")
    assert store.remove("a") and store.names() == []


def test_leftovers_of_a_crash_are_deleted_and_never_read(tmp_path):
    store = Store(tmp_path)
    store.write("a", {"kernel": b"x"}, {})
    left = tmp_path / "names" / ".new-b.json"
    left.write_text("{")
    assert store.names() == ["a"]
    store.write("a", {"kernel": b"y"}, {})
    assert not left.exists()


@pytest.mark.parametrize("name, good", [("debian-i386", True), ("a.b_c-9", True), ("", False), ("../x", False), ("-a", False),
                                        (".a", False), ("A", False), ("a/b", False), ("a" * 64, True), ("a" * 65, False)])
def test_name_is_judged_by_its_letters(tmp_path, name, good):
    assert is_name(name) is good
    if not good:
        with pytest.raises(UsageError):
            Store(tmp_path).write(name, {}, {})


def test_store_that_cannot_be_written_is_a_host_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="cannot be written"):
        Store(tmp_path / "file" / "store").write("a", {}, {})


def test_directories_follow_xdg_and_ignore_relative_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert data_directory() == tmp_path / "emu"
    assert cache_directory() == tmp_path / "home" / ".cache" / "emu"


def test_record_is_plain_json(tmp_path):
    Store(tmp_path).write("a", {"kernel": b"x"}, {"memory": "256M"})
    assert json.loads((tmp_path / "names" / "a.json").read_text())["memory"] == "256M"
