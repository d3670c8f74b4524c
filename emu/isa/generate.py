# The generator: rows of the instruction table -> handlers in Cython and the packed tables of the decoder.
"""Writes emu/cpu/gen/: one handlers_<topic>.pyx a topic, tables.py (packed rows for the decoder) and names.py (for the
disassembler). Files are only touched where their content changes, so that a second build recompiles nothing."""
from __future__ import annotations

import importlib
import pathlib
import struct
from types import ModuleType

from emu.isa.features import FEATURE_NUMBERS
from emu.isa.rows import Operand, Row, parse_table
from emu.isa.shapes import ENDS, SHAPES, Variant

TOPICS = ("integer", "string", "branch", "system", "x87", "sse")
ROW_FORMAT = "<hbBBBBBBBBBBB6HH"       # see RowInfo in cpu/decode.pxd
FIXED_SLOTS = {"AL": 0, "AX": 0, "rAX": 0, "AH": 1, "CL": 8, "DX": 16, "ES": 0, "CS": 1, "SS": 2, "DS": 3, "FS": 4,
               "GS": 5, "ST0": 0, "XMM0": 0}
CLASS_GPR, CLASS_BYTE, CLASS_NUMBER, CLASS_NUMBER3 = 0, 8, 16, 24
PREFIXES = {"": 0, "NP": 1, "66": 2, "F3": 3, "F2": 4, "NFx": 5}
IMMEDIATES = {("I", "b"): 1, ("I", "bs"): 1, ("I", "w"): 2, ("I", "z"): 3, ("I", "v"): 4, ("J", "b"): 5, ("J", "z"): 6,
              ("O", "b"): 8, ("O", "v"): 8, ("A", "p"): 9, ("I", "d"): 10}


def load_topics() -> dict[str, ModuleType]:
    """The topic modules that exist, by name."""
    here = pathlib.Path(__file__).parent
    return {name: importlib.import_module(f"emu.isa.{name}") for name in TOPICS if (here / f"{name}.py").exists()}


def load_rows() -> list[Row]:
    """All rows, sorted by opcode map and opcode (stable), numbered."""
    rows: list[Row] = []
    for name, module in load_topics().items():
        rows.extend(parse_table(name, module.TABLE))
    rows.sort(key=lambda row: (row.map, row.opcode))
    for number, row in enumerate(rows):
        row.number = number
    return rows


def _place(operand: Operand) -> int:
    """The code of a register operand for the decoder; 0 where it is none."""
    if operand.place == "=":
        return 0x80 | FIXED_SLOTS[operand.kind] if operand.kind in FIXED_SLOTS else (
            2 | CLASS_NUMBER3 if operand.kind == "STi" else 0)
    kind = {"E": 2, "R": 2, "W": 2, "U": 2, "Q": 2, "N": 2, "G": 1, "S": 1, "C": 1, "D": 1, "V": 1, "P": 1,
            "Z": 3}.get(operand.place, 0)
    if not kind:
        return 0
    if operand.place in "EGRZ":
        return kind | (CLASS_BYTE if operand.kind == "b" else CLASS_GPR)
    return kind | (CLASS_NUMBER if operand.place in "CDVWU" else CLASS_NUMBER3)


def _pack(row: Row, numbers: dict[str, int], ends: bool) -> bytes:
    registers = [code for operand in row.operands if (code := _place(operand))]
    if row.rm is not None and row.rm.place == "M":
        registers = [code for operand in row.operands if operand.place != "M" and (code := _place(operand))]
    destination, source = (registers + [0, 0])[:2]
    immediates = [IMMEDIATES[(o.place, o.kind)] for o in row.operands if o.place in "IJOA"]
    immediate = 7 if immediates == [2, 1] else immediates[0] if immediates else 0
    attributes = row.attributes
    modrm = row.modrm | row.takes_register << 1 | row.takes_memory << 2
    rule = 1 if "d64" in attributes else 2 if "f64" in attributes else 0
    mask = sum(bit for bit, name in ((1, "os16"), (2, "os32"), (4, "os64")) if name in attributes) or 7
    bits = sum(1 << n for n, name in enumerate(("i64", "o64", "pe", "lock", "", "w0", "w1", "rep")) if name in attributes)
    bits |= ends << 4
    handlers = [numbers[row.handlers[(size, memory)]] if (size, memory) in row.handlers else 0
                for size in (2, 4, 8) for memory in (False, True)]
    special = ("anymod" in attributes) | ("b0" in attributes) << 5
    for place, operand in enumerate(row.operands):
        special |= {"S": 2 if place else 6, "C": 8, "D": 16}.get(operand.place, 0)
    feature = FEATURE_NUMBERS[row.cpuid] if row.cpuid else 0
    return struct.pack(ROW_FORMAT, -1 if row.fixed is None else row.fixed, -1 if row.digit is None else row.digit,
                       PREFIXES[row.prefix], modrm, rule, mask, bits, destination, source, immediate,
                       row.condition or 0, feature, special, *handlers, row.number)


def generate() -> dict[str, str]:
    """File name -> content."""
    modules = load_topics()
    rows = load_rows()
    bodies: dict[str, dict[str, list[str]]] = {name: {} for name in modules}
    owner: dict[str, str] = {}
    shapes = {name: {**SHAPES, **getattr(module, "SHAPES", {})} for name, module in modules.items()}
    ends = {name: ENDS | set(getattr(module, "ENDS", ())) for name, module in modules.items()}
    for row in rows:
        for size in row.sizes:
            for memory in (False, True):
                if not (row.takes_memory if memory else row.takes_register):
                    continue
                name, body = shapes[row.topic][row.shape](Variant(row, memory, size))
                if name in owner and bodies[owner[name]][name] != body:
                    raise ValueError(f"two handlers named {name}: {row.source}")
                if name not in owner:
                    owner[name] = row.topic
                    bodies[row.topic][name] = body
                for place in (2, 4, 8) if size == 0 else (size,):
                    row.handlers[(place, memory)] = name
    numbers = {name: 1 + place for place, name in enumerate(owner)}      # 0: raises #UD
    files = {"__init__.py": "# Generated.\n", "__init__.pxd": ""}
    for topic, handlers in bodies.items():
        text = [f"# Generated from emu/isa/{topic}.py: the handlers of this topic.",
                "from emu.base.bits cimport mask_of, unlikely", "from emu.base.types cimport i8, i16, i32, i64, u8, u16, u32, u64",
                "from emu.cpu.access cimport (commit, get, leave, modify_operand, next_insn, operand_offset, push, put,",
                "                            read_operand, reg, rip_after, set_reg, write_operand)",
                "from emu.cpu.decode cimport register_handler",
                "from emu.cpu.state cimport RC_NEXT, Cpu, Insn", modules[topic].IMPORTS.strip(), ""]
        for name, body in handlers.items():
            text += [f"cdef int {name}(Cpu* c, Insn* i) noexcept nogil:", *("    " + line for line in body), ""]
        text += [f"register_handler({numbers[name]}, {name})" for name in handlers]
        files[f"handlers_{topic}.pyx"] = "\n".join(text) + "\n"
    files["features.pxd"] = ("# Generated: numbers of the CPU features, bits of Cpu.features[].\ncdef enum:\n" + "".join(
        f"    FEATURE_{name} = {number}\n" for name, number in FEATURE_NUMBERS.items()))
    starts, place = [], 0
    for slot in range(4 * 256 + 1):
        while place < len(rows) and rows[place].map * 256 + rows[place].opcode < slot:
            place += 1
        starts.append(place)
    files["tables.py"] = ("# Generated: the packed instruction table.\n"
                          f"TOPICS = {tuple(bodies)!r}\n"
                          f"ROWS = {b''.join(_pack(row, numbers, row.shape in ends[row.topic]) for row in rows)!r}\n"
                          f"STARTS = {struct.pack(f'<{len(starts)}H', *starts)!r}\n"
                          f"HANDLERS = {1 + len(owner)}\n")
    files["names.py"] = ("# Generated: mnemonic, operands (place, type), condition, attributes, opcode of every row.\n"
                         "ROWS: tuple = (\n" + "".join(
                             f"    ({row.mnemonic!r}, {tuple((o.place, o.kind) for o in row.operands)!r}, "
                             f"{row.condition!r}, {tuple(sorted(row.attributes))!r}, {row.opcode}),\n" for row in rows)
                         + ")\n")
    return files


def write_generated(folder: pathlib.Path) -> None:
    """Brings `folder` up to date."""
    folder.mkdir(parents=True, exist_ok=True)
    files = generate()
    for name, text in files.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    for path in folder.glob("handlers_*.pyx"):
        if path.name not in files:
            path.unlink()
