# Choosing kernel modules: dependencies, what is built in, and the tables in the form of modules.dep(5).
import pytest

from emu.base.errors import ImageError
from emu.image.modules import choose, information, module_name


def module(depends: str, *aliases: str) -> bytes:
    return (b"\x7fELF\0license=GPL\0" + b"".join(b"alias=" + alias.encode() + b"\0" for alias in aliases)
            + b"depends=" + depends.encode() + b"\0name=x\0")


MODULES = {"kernel/virtio.ko": module("virtio_ring"), "kernel/virtio_ring.ko": module(""),
           "kernel/virtio_pci.ko": module("virtio_ring,virtio", "pci:v00001AF4d*"), "kernel/virtio-rng.ko": module("virtio", "virtio:d4v*"),
           "kernel/other.ko": module("")}


def test_choose_takes_what_is_needed_and_no_more():
    files, dependencies, aliases = choose(MODULES, ["virtio_pci", "virtio_rng"], set())
    assert set(files) == set(MODULES) - {"kernel/other.ko"}
    assert aliases.decode().splitlines() == ["alias virtio:d4v* virtio_rng", "alias pci:v00001AF4d* virtio_pci"]
    assert len(dependencies.decode().splitlines()) == 4


def test_dependencies_loaded_from_the_end_of_a_line_need_nothing_unloaded():
    _, dependencies, _ = choose(MODULES, ["virtio_pci"], set())
    for line in dependencies.decode().splitlines():
        loaded = set()
        path, _, rest = line.partition(":")
        for part in [*reversed(rest.split()), path]:
            needs = [name for name in information(MODULES[part], "depends")[0].split(",") if name]
            assert {f"kernel/{name}.ko" for name in needs} <= loaded
            loaded.add(part)


def test_what_the_kernel_has_inside_is_not_looked_for():
    files, dependencies, _ = choose({"a.ko": module("ext4")}, ["a", "ext4"], {"ext4"})
    assert list(files) == ["a.ko"] and dependencies == b"a.ko:\n"


@pytest.mark.parametrize("wanted", ["absent", "a"])
def test_module_that_is_not_there_is_named(wanted):
    with pytest.raises(ImageError, match="absent"):
        choose({"a.ko": module("absent")}, [wanted], set())


def test_circle_of_dependencies_ends():
    files, _, _ = choose({"a.ko": module("b"), "b.ko": module("a")}, ["a"], set())
    assert set(files) == {"a.ko", "b.ko"}


def test_information_of_truncated_module_is_empty():
    assert information(b"\0depends=virtio", "depends") == []


def test_module_name_takes_dash_for_underscore():
    assert module_name("kernel/drivers/virtio-rng.ko") == "virtio_rng"
