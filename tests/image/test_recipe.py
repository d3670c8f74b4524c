# Pulling a guest through apt from a repository made here, so that no network is needed: the recipe, the initramfs, the errors.
import hashlib
import pathlib
import subprocess

import pytest

from emu.base.errors import EmuError, HostError, ImageError, UsageError
from emu.image import apt
from emu.image.recipe import build_initramfs, pull, read_recipe, recipe_names
from emu.image.store import Store

from .test_cpio import read
from .test_modules import module

MODULES = "virtio_pci virtio_rng virtio_blk virtio_console virtio_net virtio_balloon e1000 ext4".split()


def nothing(fraction, text):
    pass


def make_package(repository: pathlib.Path, name: str, files: dict[str, bytes], depends: str = "") -> str:
    """Builds a package with dpkg-deb; gives its paragraph for the index. Source: deb(5), deb-control(5)."""
    root = repository / "build" / name
    control = f"Package: {name}\nVersion: 1.0-1\nArchitecture: amd64\nMaintainer: T <t@example.invalid>\nDescription: test\n"
    if depends:
        control += f"Depends: {depends}\n"
    for path, data in {**files, "DEBIAN/control": control.encode()}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    package = repository / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", root, package], check=True, capture_output=True)
    data = package.read_bytes()
    return f"{control}Filename: ./{name}.deb\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n"


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A sources file that names a repository with a kernel, its metapackage and busybox."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    repository = tmp_path / "repository"
    repository.mkdir()
    kernel = {"boot/vmlinuz-6.1.0-9": b"kernel", "boot/config-6.1.0-9": b"x",
              "lib/modules/6.1.0-9/modules.builtin": b"kernel/fs/ext4/ext4.ko\n"}
    for name in MODULES[:-1]:
        kernel[f"lib/modules/6.1.0-9/kernel/drivers/{name}.ko"] = module("", f"pci:{name}*")
    index = make_package(repository, "linux-image-cloud-amd64", {}, "linux-image-6.1.0-9-cloud-amd64 (= 1.0-1)")
    index += make_package(repository, "linux-image-6.1.0-9-cloud-amd64", kernel)
    index += make_package(repository, "busybox-static", {"bin/busybox": b"\x7fELF busybox", "usr/share/doc/x": b""})
    (repository / "Packages").write_text(index)
    path = tmp_path / "test.list"
    path.write_text(f"deb [trusted=yes] file:{repository} ./\n")
    return str(path)


def test_pull_stores_kernel_initramfs_and_what_they_came_from(sources, tmp_path):
    store = Store()
    record = pull("debian", store, nothing, sources)
    assert record == store.read("debian")
    assert store.path("debian", record["blobs"]["kernel"]).read_bytes() == b"kernel"
    assert (record["release"], record["version"], record["append"]) == ("6.1.0-9", "1.0-1", "console=ttyS0")
    assert [package["name"] for package in record["packages"]] == ["linux-image-6.1.0-9-cloud-amd64", "busybox-static"]
    deb = (tmp_path / "repository" / "busybox-static.deb").read_bytes()
    assert record["packages"][1]["sha256"] == hashlib.sha256(deb).hexdigest()
    entries = {path: data for path, _, data, _ in read(store.path("debian", record["blobs"]["initrd"]).read_bytes())}
    assert entries["bin/busybox"] == b"\x7fELF busybox" and entries["init"] == b"bin/init"
    assert entries["lib/modules/6.1.0-9/kernel/drivers/virtio_pci.ko"] == module("", "pci:virtio_pci*")
    assert b"alias pci:virtio_rng* virtio_rng\n" in entries["lib/modules/6.1.0-9/modules.alias"]


def test_pull_twice_gives_the_same_bytes(sources):
    store = Store()
    first = pull("debian", store, nothing, sources)
    assert pull("debian", store, nothing, sources)["blobs"] == first["blobs"]


def test_package_changed_on_its_way_is_refused_by_apt(sources, tmp_path):
    package = tmp_path / "repository" / "busybox-static.deb"
    data = bytearray(package.read_bytes())
    data[-1] ^= 1
    package.write_bytes(data)
    with pytest.raises(HostError, match="busybox-static: could not be downloaded"):
        pull("debian", Store(), nothing, sources)
    assert Store().names() == []


def test_package_that_apt_does_not_offer_is_named(sources):
    with pytest.raises(HostError, match="linux-image-amd64: apt on this host offers no such package for amd64"):
        pull("debian-amd64", Store(), nothing, sources)


def test_sources_file_that_is_not_there_is_refused(sources):
    with pytest.raises(ImageError, match="no such file"):
        pull("debian", Store(), nothing, sources + "x")


def test_host_without_apt_gets_a_plain_message(sources, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(HostError, match="apt-get: not found on this host"):
        pull("debian", Store(), nothing, sources)


def test_unknown_recipe_names_the_known_ones():
    with pytest.raises(UsageError, match="debian, debian-amd64, debian-i386"):
        read_recipe("../debian")


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_can_be_read_and_has_its_modules(name):
    recipe = read_recipe(name)
    assert recipe.architecture in ("amd64", "i386") and recipe.memory == "256M"
    files = {f"lib/modules/6/kernel/{part}.ko": module("") for part in recipe.modules}
    entries = read(build_initramfs(recipe, "6", b"busybox", files))
    modes = {path: mode & 0o777 for path, mode, _, _ in entries}
    assert modes["etc/rcS"] == 0o755 and modes["etc/inittab"] == 0o644


@pytest.mark.parametrize("data", [b"", b"!<arch>\n", b"garbage" * 100])
def test_broken_package_is_refused(tmp_path, data):
    path = tmp_path / "x.deb"
    path.write_bytes(data)
    with pytest.raises(EmuError, match="not a Debian package"):
        apt.read_files(path, lambda path: True)
