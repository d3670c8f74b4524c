# `emu debug`: tools that look into a guest; each is found by the word after it.
from collections.abc import Callable

from ..base.errors import UsageError
from .main import nearest, no_options


def debug_command(arguments: list[str]) -> int:
    """Runs `emu debug TOOL ...`."""
    if not arguments or arguments[0] in ("--help", "-h"):
        print("usage: emu debug TOOL ...\n\n" + "\n".join(f"  {name:<8}{text}" for name, (text, _) in TOOLS.items()))
        return 0 if arguments else 2
    no_options(arguments[:1], "debug", "TOOL ...")
    if arguments[0] not in TOOLS:
        raise UsageError(arguments[0], "no such tool", nearest(arguments[0], list(TOOLS)), "emu debug --help lists them")
    return TOOLS[arguments[0]][1](arguments[1:])


def _diff(arguments: list[str]) -> int:
    from ..cpu.models import resolve_cpu
    from ..debug.lockstep.machine import MachineFollower
    from ..debug.lockstep.run import main
    return main(arguments, lambda image, msrs, cpu: MachineFollower(image, msrs, resolve_cpu(cpu).features))


TOOLS: dict[str, tuple[str, Callable[[list[str]], int]]] = {
    "diff": ("runs a guest beside QEMU and names the first instruction where registers differ", _diff),
}
