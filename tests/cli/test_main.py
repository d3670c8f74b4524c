# The command as a whole: verbs, help, messages, and the verbs about images.
import json

import pytest

from emu import __version__
from emu.cli import main as command
from emu.cli.completion import SHELLS
from emu.image.store import Store

from .support import emu


def run(capsys, *arguments):
    code = command.main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return Store()


def test_version_and_help(capsys):
    assert run(capsys, "--version") == (0, f"emu {__version__}\n", "")
    code, out, _ = run(capsys, "--help")
    assert code == 0 and all(verb in out for verb in command.VERBS)
    assert run(capsys)[0] == 2


@pytest.mark.parametrize("verb", sorted(command.VERBS))
def test_every_verb_helps(capsys, verb):
    code, out, _ = run(capsys, verb, "--help")
    assert code == 0 and f"emu {verb}" in out
    assert run(capsys, "help", verb)[1] == out


@pytest.mark.parametrize("verb", sorted(command.LATER_VERBS))
def test_verb_that_comes_later_is_refused_in_words(capsys, verb):
    code, out, error = run(capsys, verb)
    assert code == 2 and out == "" and error.startswith(f"emu: {verb}: ") and "not there yet" in error


@pytest.mark.parametrize("word, hint", [("rum", "run"), ("pul", "pull"), ("docter", "doctor"), ("snapshoot", "snapshot")])
def test_unknown_verb_names_the_nearest(capsys, word, hint):
    code, _, error = run(capsys, word)
    assert code == 2 and f"did you mean {hint}?" in error


@pytest.mark.parametrize("verb", sorted(set(command.VERBS) - {"run"}))
def test_unknown_option_is_refused_by_every_verb(capsys, verb):
    code, _, error = run(capsys, verb, "--nosuch")
    assert code == 2 and "--nosuch: no such option" in error


def test_images_and_rmi(capsys, store):
    store.write("mine", {"kernel": b"x" * (1 << 20)}, {"kind": "linux", "version": "6.1-1", "description": "a guest"})
    code, out, _ = run(capsys, "images")
    assert code == 0 and out.splitlines()[1].split() == ["mine", "6.1-1", "1.0", "MiB", "a", "guest"]
    assert json.loads(run(capsys, "images", "--json")[1])[0]["name"] == "mine"
    assert run(capsys, "rmi", "mine") == (0, "", "")
    assert store.names() == []
    code, _, error = run(capsys, "rmi", "mine")
    assert code == 3 and "mine" in error


def test_images_shows_a_broken_record(capsys, store):
    store.write("mine", {"kernel": b"x"}, {})
    (store.root / "names" / "mine.json").write_text("{")
    code, out, _ = run(capsys, "images")
    assert code == 0 and "unusable" in out


@pytest.mark.parametrize("arguments, code", [(["pull"], 2), (["pull", "nosuch"], 2), (["pull", "debian", "--sources"], 2), (["rmi"], 2),
                                             (["images", "x"], 2), (["completion"], 2), (["completion", "tcsh"], 2), (["disasm"], 2),
                                             (["disasm", "90", "--mode", "8"], 2), (["disasm", "90", "--at", "-1"], 2),
                                             (["disasm", "xyz"], 3), (["disasm", "9"], 3), (["disasm", "/"], 3),
                                             (["debug", "dif"], 2),
                                             (["debug", "diff", "--kernel", "/nosuch/vmlinuz", "--memory", "x"], 2)])
def test_wrong_usage_of_the_other_verbs(capsys, store, arguments, code):
    found, out, error = run(capsys, *arguments)
    assert (found, out) == (code, "") and error.startswith("emu: ")


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_names_verbs_and_options(capsys, shell):
    code, out, _ = run(capsys, "completion", shell)
    assert code == 0 and "disasm" in out and "memory" in out and "gdb" not in out


def test_doctor_tells_the_facts(capsys, store):
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert {"python", "core", "compiler", "apt", "memory", "store"} <= {line[8:].split()[0] for line in out.splitlines()}


def test_fault_of_this_program_is_one_line_and_code_1(capsys, monkeypatch, store):
    monkeypatch.setattr("emu.image.store.Store.names", lambda self: 1 // 0)
    code, _, error = run(capsys, "images")
    assert code == 1 and error.startswith("emu: internal fault: ZeroDivisionError") and "Traceback" not in error


def test_start_of_a_run_imports_nothing_heavy():
    import subprocess
    import sys

    from .support import ROOT, environment
    text = "import sys; from emu.cli.options import read_options; import emu.cli.run; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, cwd=ROOT, env=environment(), check=True)
    loaded = set(result.stdout.decode().split())
    assert not loaded & {"numpy", "capstone", "argparse", "dataclasses", "inspect", "subprocess", "tomllib", "json", "pathlib", "hashlib"}


def test_module_is_the_command():
    result = emu("--version")
    assert (result.returncode, result.stdout) == (0, f"emu {__version__}\n".encode())
