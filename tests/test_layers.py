# The rule of the layers, over import and cimport alike: a module imports only what stands left of it (docs/ARCHITECTURE.md).
import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
ORDER = (("base",), ("memory", "isa"), ("cpu", "devices"), ("boot", "image"), ("board",), ("machine",), ("debug", "hypervisor"),
         ("fuzz",), ("cli", "web"))
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
FORBIDDEN = {"devices": {"isa", "cpu"}, "boot": {"cpu", "devices"}, "image": {"cpu", "devices"}}
STATEMENT = re.compile(r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+c?import[ \t]+([^#\n]*)|c?import[ \t]+([^#\n]*))", re.MULTILINE)


def imports_of_python(text: str) -> str:
    """Only the import statements of a Python source: rows hold Cython text in strings, which is not theirs."""
    return "\n".join(ast.unparse(node) for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom)))


def imported_layers(text: str, package: list[str]) -> set[str]:
    """The layers that a source text imports; `package`: the dotted path of the package that it stands in, as a list."""
    found = set()
    for source, names, plain in STATEMENT.findall(text):
        modules = [source] if source else [part.split(" as ")[0].strip() for part in plain.split(",")]
        for module in modules:
            dots = len(module) - len(module.lstrip("."))
            parts = module.lstrip(".").split(".") if module.lstrip(".") else []
            if dots:
                parts = package[:len(package) - dots + 1] + parts
            if parts == ["emu"] and source:
                parts = ["emu", names.strip("( ").split(",")[0].split(" as ")[0].strip()]
            if parts[:1] == ["emu"] and len(parts) > 1 and parts[1] in RANK:
                found.add(parts[1])
    return found


def is_allowed(source: str, target: str) -> bool:
    return source == target or (RANK[target] < RANK[source] and target not in FORBIDDEN.get(source, set()))


SOURCES = sorted(path for pattern in ("*.py", "*.pyx", "*.pxd") for path in (ROOT / "emu").rglob(pattern)
                 if len(path.relative_to(ROOT).parts) > 2)


@pytest.mark.parametrize("layer", sorted({path.relative_to(ROOT).parts[1] for path in SOURCES}))
def test_layer_imports_only_what_stands_left(layer):
    assert layer in RANK
    wrong = []
    for path in SOURCES:
        parts = path.relative_to(ROOT).parts
        if parts[1] == layer:
            text = imports_of_python(path.read_text()) if path.suffix == ".py" else path.read_text()
            for target in sorted(imported_layers(text, list(parts[:-1]))):
                if not is_allowed(layer, target):
                    wrong.append(f"{'/'.join(parts)} imports {target}")
    assert wrong == []


@pytest.mark.parametrize("text, layers", [
    ("from emu.cpu.core cimport Cpu", {"cpu"}),
    ("import emu.memory.space", {"memory"}),
    ("cimport emu.isa.rows, emu.base.types as t", {"isa", "base"}),
    ("from ..board.pc import Pc", {"board"}),
    ("from . import apt", {"image"}),
    ("from emu cimport fuzz", {"fuzz"}),
    ("    from ..machine.machine import Machine", {"machine"}),
    ("# import emu.web\nimport os\nfrom libc.string cimport memcpy", set()),
])
def test_reader_of_imports_finds_every_form(text, layers):
    assert imported_layers(text, ["emu", "image"]) == layers


def test_import_in_a_string_of_a_python_file_is_none():
    text = imports_of_python('ROWS = """\nfrom emu.cpu.core cimport Cpu\n"""\ndef f():\n    from ..board import pc\n')
    assert imported_layers(text, ["emu", "isa"]) == {"board"}


@pytest.mark.parametrize("source, target, allowed", [
    ("cpu", "isa", True), ("isa", "memory", False), ("devices", "isa", False), ("devices", "memory", True), ("boot", "cpu", False),
    ("board", "cpu", True), ("base", "memory", False), ("cli", "machine", True), ("machine", "cli", False), ("boot", "image", False),
])
def test_rule_decides_as_architecture_says(source, target, allowed):
    assert is_allowed(source, target) is allowed
