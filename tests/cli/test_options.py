# Reading the command line of `emu run`: sizes, QEMU's spellings, what is refused and how.
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.errors import EmuError, UsageError
from emu.cli.options import OPTIONS, help_text, read_options, unescape
from emu.base.sizes import read_count, read_integer, read_memory, read_seconds


@pytest.mark.parametrize("text, size", [("256M", 256 << 20), ("256", 256 << 20), ("1G", 1 << 30), ("1.5G", 3 << 29), ("2g", 2 << 30),
                                        ("65536K", 64 << 20), ("1T", 1 << 40), ("1048576B", 1 << 20)])
def test_memory_is_read_as_qemu_reads_it(text, size):
    assert read_memory("-m", text) == size


@pytest.mark.parametrize("text", ["0", "9999T", "-1", "", "M", "1.2.3G", "12Q", "1e9", "1M1", "4K", "0x10", "1.00001M", "９M", "9" * 40,
                                  "9" * 9999 + "M"])
def test_memory_that_cannot_be_is_refused(text):
    with pytest.raises(UsageError, match="--memory"):
        read_memory("--memory", text)


@pytest.mark.parametrize("text, count", [("5", 5), ("5k", 5000), ("1.5M", 1_500_000), ("2G", 2 * 10 ** 9), ("1T", 10 ** 12)])
def test_count_uses_powers_of_thousand(text, count):
    assert read_count("--budget", text) == count


@pytest.mark.parametrize("reader, text", [(read_count, "0"), (read_count, "x"), (read_seconds, "0"), (read_seconds, "nan"),
                                          (read_seconds, "-3"), (read_seconds, "inf"), (read_seconds, "x"), (read_integer, "-1"),
                                          (read_integer, "1" * 30), (read_integer, ""), (read_integer, "1.5")])
def test_number_that_cannot_be_is_refused(reader, text):
    with pytest.raises(UsageError):
        reader("--x", text)


def test_qemu_spellings_mean_the_same():
    ours = read_options("--kernel k --initrd i --append a --memory 64M --cpu v1 --serial stdio --no-reboot".split()
                        + ["--device", "isa-debug-exit,iobase=0xf4,iosize=4", "--disk", "d"])
    theirs = read_options("-kernel k -initrd i -append a -m 64 -cpu v1 -serial mon:stdio -no-reboot -nographic -smp 1 -M pc -nic none"
                          " -monitor none".split() + ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-drive",
                                                      "file=d,format=raw,if=virtio"])
    assert vars(ours) | {"given": None} == vars(theirs) | {"given": None}
    assert ours.debug_exit == (0xF4, 4) and ours.disks == [("d", False, None)] and ours.memory == 64 << 20


def test_debug_exit_has_the_defaults_of_qemu():
    assert read_options(["-device", "isa-debug-exit"]).debug_exit == (0x501, 2)


def test_debug_consoles_are_told_apart_by_port():
    options = read_options(["-debugcon", "file:a", "-device", "isa-debugcon,iobase=0x402,chardev=stdio", "-device", "isa-debug-exit",
                            "--device", "isa-debugcon,iobase=0x190,chardev=none"])
    assert options.debug_consoles == {0xE9: "file:a", 0x402: "stdio", 0x190: "none"} and options.debug_exit == (0x501, 2)


@pytest.mark.parametrize("arguments, what", [
    (["-debugcon", "stdio", "-device", "isa-debugcon"], "twice"), (["-device", "isa-debugcon,iosize=1"], "unknown part"),
    (["-device", "isa-debug-exit,chardev=none"], "unknown part"), (["-device", "isa-debugcon,iobase=0x10000"], "out of range"),
    (["-device", "isa-debug-exit", "-device", "isa-debug-exit"], "twice"), (["-device", "isa-debugcon,chardev=x"], "unknown value"),
    (["-bios", "x", "-kernel", "k"], "beside k"), (["-bios", "x", "k"], "beside k"), (["-bios", "x", "-append", "k"], "needs a kernel")])
def test_debug_consoles_and_firmware_that_cannot_be_are_refused(arguments, what):
    with pytest.raises(UsageError, match=what):
        read_options(arguments)


def test_value_may_follow_an_equals_sign():
    options = read_options(["--memory=1G", "--append=a=b c", "--kernel=k", "--stats=json", "--serial=file:x"])
    assert (options.memory, options.append, options.stats, options.serial) == (1 << 30, "a=b c", "json", "file:x")


def test_expect_and_send_keep_their_order():
    options = read_options(["--expect", "a", "--send", r"x\n", "--expect", "b"])
    assert options.script == [("expect", b"a"), ("send", b"x\n"), ("expect", b"b")]


@pytest.mark.parametrize("arguments", [["--disk", "d,commit"], ["--disk", "d,rw"], ["-drive", "file=d,rw"]])
def test_disk_is_committed_only_where_asked_for(arguments):
    assert read_options(arguments).disks == [("d", True, None)]


@pytest.mark.parametrize("arguments, what", [
    (["--gdb", "1234"], "gdb stub"), (["-s"], "gdb stub"), (["-S"], "paused"), (["--detach"], "background"),
    (["--engine", "jit"], "translator"), (["-netdev", "user,id=n"], "--net"),
    (["--share", "a:b"], "shared directories"), (["--display", "text"], "displays"), (["--display", "png:x"], "displays"),
    (["--display", "web"], "displays"), (["--machine", "microvm"], "microvm"), (["--serial", "pty"], "serial line"),
    (["--serial", "unix:/x"], "serial line"), (["--name", "x"], "background"),
    (["--cdrom", "x"], "CD-ROM"), (["--floppy", "x"], "floppy"), (["-enable-kvm"], "never uses KVM"),
    (["-device", "e1000"], "not there"), (["-monitor", "stdio"], "monitor"),
])
def test_option_whose_part_comes_later_is_refused_in_words(arguments, what):
    with pytest.raises(UsageError, match=what) as caught:
        read_options(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("arguments, hint", [(["--memroy", "1G"], "--memory"), (["-kernal", "k"], "-kernel"),
                                             (["--expct", "x"], "--expect")])
def test_unknown_option_names_the_nearest(arguments, hint):
    with pytest.raises(UsageError, match=f"did you mean {hint}"):
        read_options(arguments)


@pytest.mark.parametrize("arguments", [["a", "b"], ["--memory"], ["--no-reboot=1"], ["-m", "1G", "--memory", "1G"], ["--kernel", "k", "i"],
                                       ["--initrd", "i"], ["--append", "x"], ["--stats=xml"], ["--clock", "sun"], ["--serial", "file:"],
                                       ["--disk", ",commit"], ["--disk", "a,b"], ["-device", "isa-debug-exit,x=1"],
                                       ["-device", "isa-debug-exit,iobase=65536"], ["--cpus", "0"], ["--send", r"\q"], ["--send", "\\"],
                                       ["--send", r"\x4"], ["--on-triple-fault", "cry"], ["--machine", "q35"], ["--panic", "now"]])
def test_wrong_usage_is_refused(arguments):
    with pytest.raises(UsageError):
        read_options(arguments)


@given(st.lists(st.one_of(st.text(max_size=8), st.sampled_from([name for option in OPTIONS for name in option.names]),
                          st.sampled_from(["1", "pc", "none", "a=b", "1G", "isa-debug-exit", "file=x"])), max_size=6))
def test_any_words_are_read_or_refused(arguments):
    try:
        read_options(arguments)
    except EmuError as error:
        assert error.code == 2 and str(error)


def test_send_knows_the_usual_escapes():
    assert unescape("--send", r"a\n\r\t\e\0\\\x7fé") == b"a\n\r\t\x1b\0\\\x7f" + "é".encode()


def test_help_names_every_option_that_works():
    text = help_text()
    for option in OPTIONS:
        assert all((name in text) is not bool(option.later) for name in option.names if name.startswith("--"))


def test_cards_are_read_with_their_cables():
    options = read_options(["--net", "user,forward=8080:80,forward=udp:53:5353,model=e1000,mac=52:54:00:0:0:1,bps=10M,burst=1k",
                            "-nic", "switch=lan,pcap=f.pcap", "--net", "none"])
    first, second = options.nets
    assert (first.kind, first.model, first.mac) == ("user", "e1000", "52:54:00:0:0:1")
    assert first.forwards == ((8080, 80, False), (53, 5353, True)) and first.limits[:3] == (10 ** 7, 0, 1000)
    assert (second.kind, second.switch, second.model, second.pcap) == ("switch", "lan", "virtio", "f.pcap")


def test_cards_in_qemus_words_mean_the_same():
    assert (read_options(["-nic", "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:2222-:22"]).nets
            == read_options(["--net", "user,forward=2222:22"]).nets)


@pytest.mark.parametrize("value", ["", "users", "user=1", "switch", "switch=", "user,forward=80", "user,forward=0:80",
                                   "user,forward=80:65536",
                                   "user,forward=tcp:0.0.0.0:80-:80", "switch=a,forward=1:2", "user,model=ne2k", "user,mac=1",
                                   "user,mac=01:00:5e:00:00:01", "user,pcap=", "user,bps=0", "user,bps=x", "user,bps=1.5M",
                                   "user,burst=5", "user,clock=sun,bps=1", "user,bps=999999999999"])
def test_impossible_card_is_refused(value):
    with pytest.raises(UsageError) as caught:
        read_options(["--net", value])
    assert caught.value.code == 2


def test_limits_of_a_disk_are_read_and_checked():
    (path, commit, limits), = read_options(["--disk", "d,commit,bps=10M,iops=100,burst=2M"]).disks
    assert (path, commit, limits[:4]) == ("d", True, (10 ** 7, 100, 2 * 10 ** 6, 0))
    for part in ("bps=", "iops=-1", "burst=1M", "iops_burst=3"):
        with pytest.raises(UsageError):
            read_options(["--disk", f"d,{part}"])


def test_balloon_is_a_device():
    assert read_options(["--device", "virtio-balloon"]).balloon and read_options(["-device", "virtio-balloon-pci"]).balloon
