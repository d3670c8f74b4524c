# Recipes: how a guest that is pulled by name is put together, and doing so. The recipes themselves are emu/data/guests/*.toml.
import datetime
import pathlib
import re
import tomllib
from dataclasses import dataclass

from ..base.errors import ImageError, UsageError
from . import apt, cpio, modules
from .store import Store, cache_directory

_RECIPES = pathlib.Path(__file__).resolve().parent.parent / "data" / "guests"
_MODULE_PATH = re.compile(r"(?:usr/)?lib/modules/[^/]+/(kernel/.+\.ko)$")
_BUILTIN_PATH = re.compile(r"(?:usr/)?lib/modules/[^/]+/modules\.builtin$")
_KERNEL_PATH = re.compile(r"boot/vmlinuz-([^/]+)$")


@dataclass(frozen=True)
class Recipe:
    """What a recipe file says.

    architecture: Debian's name; kernel_package: a package whose vmlinuz is taken, or that depends on such a one;
    busybox_package: whose bin/busybox is the user land; modules: kernel modules for the initramfs; files: path in the
    initramfs by file beside the recipes; append: kernel command line; memory: size of RAM as --memory takes it.
    """

    name: str
    description: str
    architecture: str
    kernel_package: str
    busybox_package: str
    modules: list[str]
    append: str
    memory: str


def recipe_names() -> list[str]:
    """The names that can be pulled, sorted."""
    return sorted(path.stem for path in _RECIPES.glob("*.toml"))


def read_recipe(name: str) -> Recipe:
    """The recipe `name`. UsageError if there is none."""
    if name not in recipe_names():
        raise UsageError(name, "no recipe of that name", "known: " + ", ".join(recipe_names()))
    return Recipe(name=name, **tomllib.loads((_RECIPES / f"{name}.toml").read_text()))


def pull(name: str, store: Store, progress: apt.Progress, sources: str | None = None) -> dict:
    """Fetches and builds the guest `name` and stores it under that name.

    sources: a sources file of apt in place of the system's. Returns the stored record.
    """
    recipe = read_recipe(name)
    debian = apt.Apt(recipe.architecture, cache_directory() / "apt", sources)
    debian.update(progress)
    kernel_package = _real_kernel(debian, recipe.kernel_package)
    kernel_files = apt.read_files(debian.download(kernel_package, progress), _is_of_kernel)
    busybox_package = debian.find(recipe.busybox_package)
    busybox_files = apt.read_files(debian.download(busybox_package, progress), lambda path: path.endswith("bin/busybox"))
    if len(busybox_files) != 1:
        raise ImageError(busybox_package.name, f"holds {len(busybox_files)} files bin/busybox", "one is needed")
    progress(0.0, "initramfs")
    release, kernel = _kernel(kernel_package.name, kernel_files)
    initrd = build_initramfs(recipe, release, next(iter(busybox_files.values())), kernel_files)
    progress(1.0, "initramfs")
    packages = [{"name": package.name, "version": package.version, "architecture": package.architecture, "sha256": package.sha256}
                for package in (kernel_package, busybox_package)]
    facts = {"kind": "linux", "description": recipe.description, "architecture": recipe.architecture, "append": recipe.append,
             "memory": recipe.memory, "packages": packages, "version": kernel_package.version, "release": release,
             "pulled": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")}
    return store.write(name, {"kernel": kernel, "initrd": initrd}, facts)


def build_initramfs(recipe: Recipe, release: str, busybox: bytes, kernel_files: dict[str, bytes]) -> bytes:
    """The initramfs: busybox, the start-up files beside the recipes, the modules that the recipe asks for.

    release: the kernel's `uname -r`; kernel_files: files of the kernel package. The same input gives the same bytes.
    """
    tree = cpio.Tree()
    for path in ("proc", "sys", "dev", "run", "tmp", "root", "mnt"):
        tree.directory(path, 0o1777 if path == "tmp" else 0o755)
    tree.character_device("dev/console", 5, 1)
    tree.file("bin/busybox", busybox, 0o755)
    tree.link("bin/sh", "busybox")
    tree.link("init", "bin/init")
    tree.link("bin/init", "busybox")
    tree.file("etc/hostname", recipe.name.encode() + b"\n")
    for source in sorted((_RECIPES / "initramfs").iterdir()):
        data = source.read_bytes()
        tree.file(f"etc/{source.name}", data, 0o755 if data.startswith(b"#!") else 0o644)
    files = {found[1]: data for path, data in kernel_files.items() if (found := _MODULE_PATH.match(path))}
    builtin = {modules.module_name(line) for path, data in kernel_files.items() if _BUILTIN_PATH.match(path)
               for line in data.decode("ascii", "replace").splitlines()}
    chosen, dependencies, aliases = modules.choose(files, recipe.modules, builtin)
    for path, data in chosen.items():
        tree.file(f"lib/modules/{release}/{path}", data)
    tree.file(f"lib/modules/{release}/modules.dep", dependencies)
    tree.file(f"lib/modules/{release}/modules.alias", aliases)
    return tree.archive()


def _is_of_kernel(path: str) -> bool:
    return any(pattern.match(path) for pattern in (_KERNEL_PATH, _MODULE_PATH, _BUILTIN_PATH))


def _real_kernel(debian: apt.Apt, name: str) -> apt.Package:
    """The package that holds the kernel: a metapackage depends on the one of today."""
    package = debian.find(name)
    for depends in package.depends:
        if depends.startswith("linux-image-"):
            return debian.find(depends)
    return package


def _kernel(package: str, files: dict[str, bytes]) -> tuple[str, bytes]:
    found = [(match[1], data) for path, data in files.items() if (match := _KERNEL_PATH.match(path))]
    if len(found) != 1:
        raise ImageError(package, f"holds {len(found)} kernels", "one file boot/vmlinuz-* is needed")
    return found[0]
