# `emu pull`, `emu images`, `emu rmi`: what is in the store of guest images.
import os
import sys

from ..base.errors import ImageError, UsageError
from .main import no_options

_BAR_CELLS = 30
_PULL_USAGE = "NAME ... [--sources FILE]"


def pull_command(arguments: list[str]) -> int:
    """Runs `emu pull`."""
    from ..image.recipe import pull, read_recipe, recipe_names
    from ..image.store import Store
    names, sources = [], None
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word in ("--help", "-h"):
            print(f"usage: emu pull {_PULL_USAGE}\n\nnames: {', '.join(recipe_names())}\n"
                  "--sources FILE  a sources file of apt to use in place of the system's")
            return 0
        if word == "--sources" or word.startswith("--sources="):
            sources = word.partition("=")[2] or (rest.pop(0) if rest else "")
            if not sources:
                raise UsageError("--sources", "needs a value", "a sources file of apt")
            continue
        no_options([word], "pull", _PULL_USAGE, ("--sources",))
        names.append(word)
    if not names:
        raise UsageError("emu pull", "needs a name", "known: " + ", ".join(recipe_names()))
    for name in names:
        read_recipe(name)
    for name in names:
        with _Bar(name) as bar:
            record = pull(name, Store(), bar.show, sources)
        print(f"{name}: Linux {record['release']}, {record['version']}, {_mebibytes(record['bytes'])}")
    return 0


def images_command(arguments: list[str]) -> int:
    """Runs `emu images`."""
    from ..image.recipe import recipe_names
    from ..image.store import Store
    usage = "[--json]"
    no_options(arguments, "images", usage, ("--json", "--help", "-h"))
    if "--help" in arguments or "-h" in arguments:
        print(f"usage: emu images {usage}")
        return 0
    for word in arguments:
        if word != "--json":
            raise UsageError(word, "emu images takes no name")
    store = Store()
    rows = []
    for name in store.names():
        try:
            rows.append((name, store.read(name) or {}))
        except ImageError as error:
            rows.append((name, {"description": f"unusable: {error.value}"}))
    if "--json" in arguments:
        import json
        print(json.dumps([{"name": name, **record} for name, record in rows], indent=2, sort_keys=True))
        return 0
    if rows:
        print(f"{'NAME':<16}{'VERSION':<16}{'SIZE':>9}  DESCRIPTION")
    for name, record in rows:
        size = _mebibytes(record.get("bytes", 0)) if isinstance(record.get("bytes"), int) else ""
        print(f"{name:<16}{str(record.get('version', '')):<16}{size:>9}  {record.get('description', '')}")
    missing = [name for name in recipe_names() if name not in store.names()]
    if missing and sys.stderr.isatty():
        print(f"can be pulled: {', '.join(missing)}", file=sys.stderr)
    return 0


def rmi_command(arguments: list[str]) -> int:
    """Runs `emu rmi`."""
    from ..image.store import Store
    usage = "NAME ..."
    no_options(arguments, "rmi", usage, ("--help", "-h"))
    if "--help" in arguments or "-h" in arguments:
        print(f"usage: emu rmi {usage}")
        return 0
    if not arguments:
        raise UsageError("emu rmi", "needs a name", mend="emu images lists what there is")
    store = Store()
    missing = [name for name in arguments if not store.remove(name)]
    if missing:
        raise ImageError(", ".join(missing), "no such name among what was pulled", mend="emu images lists what there is")
    return 0


def _mebibytes(count: int) -> str:
    return f"{count / (1 << 20):.1f} MiB"


class _Bar:
    """A progress bar on standard error; nothing at all where that is no terminal."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown = sys.stderr.isatty()
        self._colour = self._shown and not os.environ.get("NO_COLOR")

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def show(self, fraction: float, text: str) -> None:
        """Shows that `fraction` (0 to 1) of the step `text` is done."""
        if not self._shown:
            return
        cells = int(fraction * _BAR_CELLS)
        bar = "#" * cells
        if self._colour:
            bar = f"\x1b[32m{bar}\x1b[0m"
        sys.stderr.write(f"\r\x1b[K{self._name} [{bar}{' ' * (_BAR_CELLS - cells)}] {fraction:4.0%} {text}")
        sys.stderr.flush()
