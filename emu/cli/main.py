# The command `emu`: finds the verb, runs it, turns errors into messages and exit codes. Verbs are imported only when called,
# because the first byte of a boot sector has to be out 150 ms after the process began.
import os
import sys

from ..base.errors import EmuError, UsageError

VERBS = {
    "run": ("boot something on this terminal", "run"),
    "pull": ("fetch a guest by name", "images"),
    "images": ("list what was pulled", "images"),
    "rmi": ("delete what was pulled", "images"),
    "restore": ("go on from a snapshot", "states"),
    "snapshot": ("check a snapshot's file and show what it holds", "states"),
    "fork": ("run several copies of a snapshot", "states"),
    "replay": ("run again what was recorded, and compare", "states"),
    "disasm": ("disassemble bytes", "disasm"),
    "debug": ("tools that look into a guest", "debug"),
    "doctor": ("what this host offers, what is missing, how to get it", "doctor"),
    "completion": ("a completion script for bash, zsh or fish", "completion"),
}
_BACKGROUND = "machines in the background are not there yet"
_FLEETS = "fleets are not there yet"
_TOOLS = "this tool is not there yet"
LATER_VERBS = {
    "ps": _BACKGROUND, "logs": _BACKGROUND, "attach": _BACKGROUND, "stop": _BACKGROUND, "kill": _BACKGROUND, "rm": _BACKGROUND,
    "exec": _BACKGROUND, "pause": _BACKGROUND, "resume": _BACKGROUND, "events": _BACKGROUND, "top": _BACKGROUND,
    "stats": _BACKGROUND, "up": _FLEETS,
    "down": _FLEETS, "plan": _FLEETS, "demo": _FLEETS, "trace": _TOOLS, "inspect": _TOOLS,
    "build": "building images is not there yet", "push": "image registries are not there yet", "fuzz": _TOOLS,
}
INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line and returns its exit code (see the table in docs/ARCHITECTURE.md)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()
        return code
    except EmuError as error:
        complain(f"emu: {error}")
        return error.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone: nothing is left to say, and the flush at exit must not say it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except MemoryError:
        complain("emu: memory: the host has not enough of it\n  mend: a smaller --memory")
        return 15
    except Exception as error:
        if os.environ.get("EMU_TRACEBACK") == "1":
            raise
        complain(f"emu: internal fault: {type(error).__name__}: {error}\n  mend: please report it, with what EMU_TRACEBACK=1 shows")
        return 1


def entry() -> None:
    """The console command: `main`, then out at once, since the host takes back memory faster than Python does."""
    import gc
    gc.set_threshold(100_000)  # at the start nothing dies in circles, and looking for it costs a tenth of the time
    code = main()
    try:
        sys.stdout.flush()
    except OSError:
        code = code or 1
    os._exit(code)


def complain(text: str) -> None:
    """Prints a message of the program itself."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody listens


def _dispatch(arguments: list[str]) -> int:
    verb = arguments[0] if arguments else "--help"
    if verb in ("--help", "-h", "help"):
        if len(arguments) > 1 and arguments[1] in VERBS:
            return _dispatch([arguments[1], "--help"])
        print(_help())
        return 0 if arguments else 2
    if verb in ("--version", "-V"):
        from .. import __version__
        print(f"emu {__version__}")
        return 0
    if verb in VERBS:
        module = __import__(f"emu.cli.{VERBS[verb][1]}", fromlist=[""])
        return getattr(module, f"{verb}_command")(arguments[1:])
    if verb in LATER_VERBS:
        raise UsageError(verb, LATER_VERBS[verb])
    raise UsageError(verb, "no such command", nearest(verb, list(VERBS)) or nearest(verb, list(LATER_VERBS)), "emu --help lists them")


def nearest(word: str, known: list[str]) -> str:
    """A hint that names what is spelled most like `word`, or nothing."""
    import difflib
    found = difflib.get_close_matches(word, known, 1, 0.5)
    return f"did you mean {found[0]}?" if found else ""


def no_options(arguments: list[str], verb: str, usage: str, known: tuple[str, ...] = ()) -> None:
    """Refuses what begins like an option and is not one of `known`."""
    for argument in arguments:
        if argument.startswith("-") and argument != "-" and argument.partition("=")[0] not in known:
            raise UsageError(argument, "no such option", nearest(argument, list(known)), f"emu {verb} {usage}")


def _help() -> str:
    lines = ["emu - an x86 emulator in plain user space", "", "usage: emu COMMAND ...", ""]
    lines += [f"  {verb:<12}{text}" for verb, (text, _) in VERBS.items()]
    lines += ["", "emu run with nothing else boots the guest that is built in. emu COMMAND --help tells more."]
    return "\n".join(lines)
