# `emu snapshot`, `restore`, `fork`, `replay`: what is done with saved states and recorded runs.
import sys

from ..base.errors import UsageError
from .main import complain, no_options
from ..base.sizes import read_count, read_integer

MOST_COPIES = 10_000


def _wants_help(arguments: list[str], usage: str) -> bool:
    if arguments and arguments[0] in ("--help", "-h"):
        print(f"usage: emu {usage}")
        return True
    return False


def snapshot_command(arguments: list[str]) -> int:
    """Runs `emu snapshot`: checks every byte of the file."""
    usage = "snapshot FILE [--json]\n\nTo take one: emu run IMAGE ... --snapshot FILE; to go on from it: emu run FILE"
    if _wants_help(arguments, usage):
        return 0
    no_options(arguments, "snapshot", "FILE [--json]", ("--json",))
    files = [argument for argument in arguments if argument != "--json"]
    if len(files) != 1:
        raise UsageError("emu snapshot", "needs one file", "FILE [--json]")
    from ..machine.snapshot_file import describe
    facts = describe(files[0])
    if "--json" in arguments:
        import json
        print(json.dumps(facts))
    else:
        print("\n".join(f"{name:<20}{value}" for name, value in facts.items()))
    return 0


def restore_command(arguments: list[str]) -> int:
    """Runs `emu restore`: `emu run` of a snapshot, and of nothing else."""
    usage = "restore FILE [options of emu run]"
    if _wants_help(arguments, usage):
        return 0
    from .options import read_options
    from .run import is_snapshot_file, run_command
    image = read_options(arguments).image
    if image is None:
        raise UsageError("emu restore", "needs a snapshot", usage)
    if not is_snapshot_file(image):
        from ..machine.snapshot_file import describe
        describe(image)                          # says what is wrong with it
    return run_command(arguments)


def fork_command(arguments: list[str]) -> int:
    """Runs `emu fork`: copies of a snapshot, one after the other, each with what is typed into it; a line for each."""
    usage = "fork FILE COUNT [--budget N[k|M|G|T]] [--send TEXT] (TEXT: {} is the number of the copy)"
    if _wants_help(arguments, usage):
        return 0
    values = {"--budget": "", "--send": ""}
    words = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if name in values:
            if not equals and not rest:
                raise UsageError(name, "needs a value", usage)
            values[name] = value if equals else rest.pop(0)
            continue
        no_options([word], "fork", usage, tuple(values))
        words.append(word)
    if len(words) != 2:
        raise UsageError("emu fork", "needs a snapshot and a number", usage)
    count = read_integer("COUNT", words[1], 1, MOST_COPIES)
    from ..machine.snapshot import Snapshot
    from .options import unescape
    snapshot = Snapshot.load(words[0])
    more = read_count("--budget", values["--budget"]) if values["--budget"] else 100_000_000
    for number in range(count):
        with snapshot.fork(clock="virtual", budget=snapshot.position.instructions + more) as machine:
            typed = unescape("--send", values["--send"].replace("{}", str(number)))
            sent = b""
            while True:
                typed = typed[machine.serial.send(typed):]
                ended = machine.run_slice()
                sent += machine.serial.read()
                if ended is not None or machine.idle_ns < 0:
                    break
            usage_now = machine.usage
            last = sent.strip().rsplit(b"\n", 1)[-1].decode(errors="replace").strip()
            print(f"{number}\t{ended.reason if ended else 'asleep'}\t{machine.retired - snapshot.position.instructions} instructions\t"
                  f"{usage_now['pages_private']} pages of its own\t{last}", flush=True)
    return 0


def replay_command(arguments: list[str]) -> int:
    """Runs `emu replay`: exit code 20 where the run goes another way than its log."""
    usage = "replay LOG [--json] [--quiet]"
    if _wants_help(arguments, usage):
        return 0
    no_options(arguments, "replay", "LOG [--json] [--quiet]", ("--json", "--quiet"))
    logs = [argument for argument in arguments if argument not in ("--json", "--quiet")]
    if len(logs) != 1:
        raise UsageError("emu replay", "needs one log", usage)
    from ..machine.replay import replay

    def show(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    done = replay(logs[0], (lambda data: None) if "--quiet" in arguments else show)
    if "--json" in arguments:
        import json
        complain(json.dumps(done._asdict()))
    else:
        end = "" if done.whole else "; the log has no end: its writer was killed"
        complain(f"emu: replayed {done.instructions} instructions, {done.inputs} inputs; {done.checkpoints} checkpoints and the end are "
                 f"the same\n  RAM {done.ram}{end}")
    return 0
