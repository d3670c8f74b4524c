# Kernel modules for an initramfs: which ones a chosen set needs, and the two tables that modprobe reads.
#
# Source: modules.dep(5); the .modinfo section of a module holds NUL-terminated "key=value" strings (linux/moduleinfo).
import posixpath

from ..base.errors import ImageError


def module_name(path: str) -> str:
    """The name of a module file: the kernel takes - and _ for the same."""
    return posixpath.basename(path).removesuffix(".ko").replace("-", "_")


def information(data: bytes, key: str) -> list[str]:
    """All values of `key` in the module `data`, in their order."""
    found = []
    mark = b"\0" + key.encode() + b"="
    at = data.find(mark)
    while at >= 0:
        end = data.find(b"\0", at + 1)
        if end < 0:
            break
        found.append(data[at + len(mark):end].decode("ascii", "replace"))
        at = data.find(mark, end)
    return found


def choose(modules: dict[str, bytes], wanted: list[str], builtin: set[str]) -> tuple[dict[str, bytes], bytes, bytes]:
    """The modules of `wanted` with all that they depend on.

    modules: content by path relative to /lib/modules/VERSION; wanted: module names; builtin: names that the kernel has
    inside. Returns the chosen files, modules.dep and modules.alias. ImageError if a wanted one is not there.
    """
    by_name = {module_name(path): path for path in modules}
    needs: dict[str, list[str]] = {}

    def take(name: str, asked_by: str) -> None:
        if name in needs or name in builtin:
            return
        if name not in by_name:
            raise ImageError(name, f"the kernel package has no such module, which {asked_by} needs")
        depends = information(modules[by_name[name]], "depends")
        needs[name] = [part.replace("-", "_") for part in ",".join(depends).split(",") if part]
        for part in needs[name]:
            take(part, name)

    for name in wanted:
        take(name.replace("-", "_"), "the recipe")

    def closure(name: str, order: list[str], entered: set[str]) -> list[str]:
        entered.add(name)
        for part in needs[name]:
            if part in needs and part not in entered:
                closure(part, order, entered)
                order.append(part)
        return order

    chosen = sorted(needs, key=by_name.__getitem__)
    lines = []
    for name in chosen:
        last_first = reversed(closure(name, [], set()))  # modprobe loads a line of modules.dep from its end
        lines.append(f"{by_name[name]}: {' '.join(by_name[part] for part in last_first)}".rstrip() + "\n")
    dependencies = "".join(lines)
    aliases = "".join(f"alias {alias} {name}\n" for name in chosen for alias in information(modules[by_name[name]], "alias"))
    return {by_name[name]: modules[by_name[name]] for name in chosen}, dependencies.encode(), aliases.encode()
