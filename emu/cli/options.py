# The options of `emu run`: one table for reading, help and completion. QEMU's one-dash spellings are names of the same rows.
from ..base.errors import UsageError
from ..base.sizes import read_count, read_integer, read_memory, read_seconds


class Option:
    """One option: its names, the name of its value ("" for none), what it is for; `later`: why it is refused today."""

    def __init__(self, names: tuple[str, ...], value: str, help: str, later: str = "") -> None:
        self.names, self.value, self.help, self.later = names, value, help, later


_LATER_STATES = "running in the background is not there yet"
OPTIONS = (
    Option(("--kernel", "-kernel"), "FILE", "kernel to boot (bzImage, ELF, multiboot)"),
    Option(("--initrd", "-initrd"), "FILE", "initial RAM disk for the kernel"),
    Option(("--append", "-append"), "TEXT", "kernel command line"),
    Option(("--bios", "-bios"), "FILE", "firmware ROM: ends at 1 MiB and at 4 GiB, entered as after power-on"),
    Option(("--disk", "-drive", "-hda", "-hdb"), "FILE[,OPTIONS]",
           "disk image; writes are forgotten at the end unless ,commit; ,bps=N ,iops=N limit bytes and requests a second"),
    Option(("--memory", "-m"), "SIZE", "RAM, as 256M or 1G (a plain number: MiB); 256M if not given"),
    Option(("--cpus", "-smp"), "N", "number of processors: 1 to 255 (1)"),
    Option(("--cpu", "-cpu"), "MODEL", "processor: 486, pentium3, v1, v2, with ,+feature ,-feature"),
    Option(("--machine", "-machine", "-M"), "KIND", "pc"),
    Option(("--serial", "-serial"), "WHERE", "first serial line: stdio, none, file:FILE"),
    Option(("--display", "-display"), "KIND", "none"),
    Option(("--net", "-nic", "-net"), "KIND[,OPTIONS]",
           "none, user[,forward=HOST:GUEST], switch=NAME; ,model=virtio|e1000 ,mac=M ,pcap=FILE ,bps=N ,iops=N"),
    Option(("--clock",), "KIND", "virtual: idle time is skipped, runs repeat exactly; host: idle time is waited for"),
    Option(("--seed",), "N", "of everything random in the machine (0)"),
    Option(("--budget",), "N[k|M|G|T]", "stop after exactly N instructions (exit 14)"),
    Option(("--timeout",), "SECONDS", "stop after so much time of the host (exit 124)"),
    Option(("--expect",), "REGEX", "succeed as soon as the serial output matches; may be given several times, in order"),
    Option(("--send",), "TEXT", "type TEXT (with \\n, \\r, \\t, \\xNN) once the --expect before it matched"),
    Option(("--panic",), "KIND", "exit: end with code 12 when the console shows a kernel panic; ignore"),
    Option(("--on-triple-fault",), "KIND", "report (default), reset, stop"),
    Option(("--device", "-device"), "isa-debug-exit[,iobase=N,iosize=N]",
           "a port through which the guest ends the run; or virtio-balloon;"
           " or isa-debugcon[,iobase=N][,chardev=WHERE]: a port whose bytes go"
           " where --serial could send them (0xe9, stdio)"),
    Option(("--debugcon", "-debugcon"), "WHERE", "the same as --device isa-debugcon,chardev=WHERE"),
    Option(("--no-reboot", "-no-reboot"), "", "end when the guest reboots"),
    Option(("--engine",), "KIND", "auto, interp"),
    Option(("--snapshot",), "FILE", "save the state at the end of the run; emu run FILE goes on from there"),
    Option(("--record",), "LOG", "write down all that enters the machine; emu replay LOG runs it again"),
    Option(("--stats",), "[=json]", "counters of the run on stderr at its end"),
    Option(("--json",), "", "how the run ended, as one line of JSON on stderr"),
    Option(("--nographic", "-nographic"), "", "as QEMU's; nothing else is done here anyway"),
    Option(("--monitor", "-monitor"), "none", "only none"),
    Option(("--help", "-h"), "", "this text"),
    Option(("--cdrom", "-cdrom"), "FILE", "", "CD-ROM drives are not there yet"),
    Option(("--floppy", "-fda", "-fdb"), "FILE", "", "floppy drives are not there yet"),
    Option(("--share",), "HOST:TAG", "", "shared directories are not there yet"),
    Option(("--gdb", "-gdb"), "[HOST:]PORT", "", "the gdb stub is not there yet"),
    Option(("-s",), "", "", "the gdb stub is not there yet"),
    Option(("--paused", "-S"), "", "", "starting paused comes with the gdb stub, which is not there yet"),
    Option(("--detach",), "", "", _LATER_STATES),
    Option(("--name", "-name"), "NAME", "", _LATER_STATES),
    Option(("-netdev",), "KIND", "", "give card and network in one: --net user[,model=e1000], as with QEMU's -nic"),
    Option(("-vga",), "KIND", "", "graphics are not there yet"),
    Option(("-enable-kvm",), "", "", "this program never uses KVM"),
    Option(("-accel",), "KIND", "", "this program has no accelerators; --engine chooses how code is run"),
)
BY_NAME = {name: option for option in OPTIONS for name in option.names}
_LATER_VALUES = {
    "--machine": ({"pc"}, {"microvm": "the microvm machine is not there yet"}),
    "--display": ({"none"}, {"text": "displays are not there yet", "web": "displays are not there yet",
                             "png": "displays are not there yet"}),
    "--engine": ({"auto", "interp"}, {"jit": "the translator is not there yet"}),
    "--clock": ({"virtual", "host"}, {}),
    "--panic": ({"exit", "ignore"}, {}),
    "--on-triple-fault": ({"report", "reset", "stop"}, {}),
    "--monitor": ({"none"}, {"stdio": "the monitor is not there yet"}),
}
_DEBUG_EXIT_PORT, _DEBUG_EXIT_PORTS, _DEBUG_CONSOLE_PORT = 0x501, 2, 0xE9  # QEMU's defaults


class RunOptions:
    """What the command line of `emu run` says. memory: bytes or None; script: ("expect" | "send", text) in their order;
    serial: "stdio", "none" or "file:..."; debug_exit: first port and number of ports; debug_consoles: as serial, by port;
    disks: (path, commit, limits); nets: emu.machine.network.Nic of each card;
    snapshot, record: where to write; given: the options (by their first names) that were there."""

    def __init__(self) -> None:
        self.image: str | None = None
        self.kernel: str | None = None
        self.bios: str | None = None
        self.initrd: str | None = None
        self.append: str | None = None
        self.disks: list[tuple] = []
        self.nets: list = []
        self.balloon = False
        self.memory: int | None = None
        self.cpu = "v2"
        self.cpus = 1
        self.serial = "stdio"
        self.clock: str | None = None
        self.seed = 0
        self.budget: int | None = None
        self.timeout: float | None = None
        self.script: list[tuple[str, bytes]] = []
        self.panic = "ignore"
        self.on_triple_fault = "report"
        self.debug_exit: tuple[int, int] | None = None
        self.debug_consoles: dict[int, str] = {}
        self.no_reboot = False
        self.snapshot: str | None = None
        self.record: str | None = None
        self.given: set[str] = set()
        self.stats = ""
        self.json = False
        self.help = False


def read_options(arguments: list[str]) -> RunOptions:
    """The options of one command line. UsageError for what is wrong or not there yet."""
    options = RunOptions()
    seen = options.given
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            if options.image is not None:
                raise UsageError(word, "a second image", f"{options.image} was given already")
            options.image = word
            continue
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        option = BY_NAME.get(name)
        if option is None:
            from .main import nearest
            raise UsageError(name, "no such option", nearest(name, list(BY_NAME)), "emu run --help lists them")
        if option.later:
            raise UsageError(name, option.later)
        if equals and not option.value:
            raise UsageError(name, "takes no value", f"{value!r} was given")
        if not equals and option.value and not option.value.startswith("["):
            if not rest:
                raise UsageError(name, "needs a value", option.value)
            value = rest.pop(0)
        first = option.names[0]
        if first in seen and first not in ("--disk", "--net", "--expect", "--send", "--nographic", "--device"):
            raise UsageError(name, "was given twice")
        seen.add(first)
        _apply(options, first, name, value)
    if options.image is not None and options.kernel is not None:
        raise UsageError(options.image, "an image beside --kernel", "only one can be booted")
    beside = options.image or options.kernel or options.initrd
    if options.bios is not None and beside is not None:
        raise UsageError("--bios", f"beside {beside}", "firmware boots from disks", f"--disk {beside}")
    for name, needed in (("--initrd", options.initrd), ("--append", options.append)):
        if needed is not None and options.kernel is None and options.image is None:
            raise UsageError(name, "needs a kernel", mend="give --kernel FILE or an image")
    return options


def _apply(options: RunOptions, first: str, name: str, value: str) -> None:
    if first in _LATER_VALUES:
        _check_choice(first, name, value)
    match first:
        case "--kernel" | "--initrd" | "--append" | "--cpu" | "--bios":
            setattr(options, first[2:], value)
        case "--clock" | "--panic" | "--snapshot" | "--record":
            setattr(options, first[2:], value)
        case "--on-triple-fault":
            options.on_triple_fault = value
        case "--no-reboot" | "--json" | "--help":
            setattr(options, first[2:].replace("-", "_"), True)
        case "--memory":
            options.memory = read_memory(name, value.removeprefix("size="))
        case "--cpus":
            options.cpus = read_integer(name, value.removeprefix("cpus="), 1, 255)
        case "--seed":
            options.seed = read_integer(name, value)
        case "--budget":
            options.budget = read_count(name, value)
        case "--timeout":
            options.timeout = read_seconds(name, value)
        case "--expect":
            options.script.append(("expect", value.encode()))
        case "--send":
            options.script.append(("send", unescape(name, value)))
        case "--serial":
            options.serial = _serial(name, value)
        case "--disk":
            options.disks.append(_disk(name, value))
        case "--net":
            from ..machine.network import read_nic
            nic = read_nic(name, value)
            if nic is not None:
                options.nets.append(nic)
        case "--device":
            _device(options, name, value)
        case "--debugcon":
            _device(options, name, f"isa-debugcon,chardev={value}")
        case "--stats":
            if value not in ("", "json"):
                raise UsageError(name, f"unknown form {value!r}", "json, or nothing")
            options.stats = value or "text"


def _check_choice(first: str, name: str, value: str) -> None:
    good, later = _LATER_VALUES[first]
    if value in good:
        return
    reason = later.get(value.partition(",")[0].partition(":")[0].partition("=")[0])
    if reason:
        raise UsageError(f"{name} {value}", reason)
    raise UsageError(name, f"unknown value {value!r}", ", ".join(sorted(good)))


def _serial(name: str, value: str) -> str:
    value = value.removeprefix("mon:")
    if value in ("stdio", "none") or (value.startswith("file:") and len(value) > 5):
        return value
    if value == "pty" or value.startswith(("unix:", "tcp:", "telnet:")):
        raise UsageError(f"{name} {value}", "this kind of serial line is not there yet", "stdio, none or file:FILE")
    raise UsageError(name, f"unknown value {value!r}", "stdio, none or file:FILE")


def _disk(name: str, value: str) -> tuple:
    path, commit = "", False
    limits: dict = {}
    for number, part in enumerate(value.split(",")):
        key, equals, text = part.partition("=")
        if number == 0 and not (equals and key in ("file", "format", "if")):
            path = part
        elif key == "file" and equals:
            path = text
        elif part in ("commit", "rw"):
            commit = True
        elif key == "format" and text == "raw" or key == "if" and text in ("virtio", "none", "ide"):
            continue
        else:
            from ..machine.network import take_limit
            if not (equals and take_limit(name, key, text, limits)):
                raise UsageError(name, f"unknown part {part!r}", "FILE[,commit][,format=raw][,if=virtio]"
                                 "[,bps=N][,iops=N][,burst=N][,iops_burst=N]")
    if not path:
        raise UsageError(name, "names no file", "FILE[,commit]")
    if not limits:
        return path, commit, None
    from ..devices.throttle import Limits
    checked = Limits(**limits)
    checked.check(name)
    return path, commit, checked


def _device(options: RunOptions, name: str, value: str) -> None:
    kind, *parts = value.split(",")
    if kind in ("virtio-balloon", "virtio-balloon-pci") and not parts:
        options.balloon = True
        return
    known = {"isa-debug-exit": ("iobase", "iosize"), "isa-debugcon": ("iobase", "chardev")}.get(kind)
    if known is None:
        raise UsageError(f"{name} {kind}", "this device is not there", "isa-debug-exit, isa-debugcon or virtio-balloon")
    given = {}
    for part in parts:
        key, _, text = part.partition("=")
        if key not in known:
            raise UsageError(f"{name} {kind}", f"unknown part {part!r}", f"{known[0]}=N, {known[1]}=...")
        given[key] = text
    if kind == "isa-debug-exit":
        if options.debug_exit is not None:
            raise UsageError(f"{name} {kind}", "was given twice")
        options.debug_exit = (read_integer(f"{name} iobase", given.get("iobase", str(_DEBUG_EXIT_PORT)), 0, 0xFFFF),
                              read_integer(f"{name} iosize", given.get("iosize", str(_DEBUG_EXIT_PORTS)), 1, 4))
        return
    port = read_integer(f"{name} iobase", given.get("iobase", str(_DEBUG_CONSOLE_PORT)), 0, 0xFFFF)
    if port in options.debug_consoles:
        raise UsageError(f"{name} {kind}", f"port {port:#x} was given twice")
    options.debug_consoles[port] = _serial(f"{name} chardev", given.get("chardev", "stdio"))


_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "e": b"\x1b", "0": b"\0", "\\": b"\\"}


def unescape(name: str, text: str) -> bytes:
    """The bytes that --send types: as given, with \\n, \\r, \\t, \\e, \\0, \\\\ and \\xNN."""
    out = bytearray()
    at = 0
    while at < len(text):
        if text[at] != "\\":
            out += text[at].encode("utf-8", "surrogateescape")
            at += 1
        elif text[at + 1:at + 2] in _ESCAPES and text[at + 1:at + 2]:
            out += _ESCAPES[text[at + 1]]
            at += 2
        elif text[at + 1:at + 2] == "x" and len(text) >= at + 4 and all(c in "0123456789abcdefABCDEF" for c in text[at + 2:at + 4]):
            out.append(int(text[at + 2:at + 4], 16))
            at += 4
        else:
            raise UsageError(name, f"unknown escape {text[at:at + 2]!r}", r"\n \r \t \e \0 \\ \xNN")
    return bytes(out)


def help_text() -> str:
    """The help of `emu run`."""
    lines = ["usage: emu run [IMAGE] [options]", "",
             "IMAGE: a file (kernel, disk image, boot sector), or a name that emu images lists; nothing: the built-in guest.", ""]
    for option in OPTIONS:
        if not option.later:
            gap = "" if option.value.startswith("[") or not option.value else " "
            head = ", ".join(option.names) + gap + option.value
            lines.append(f"  {head:<36}{option.help}" if len(head) < 35 else f"  {head}\n  {'':<36}{option.help}")
    lines += ["", "On a terminal: Ctrl-A X ends the run, Ctrl-A H helps."]
    return "\n".join(lines)
