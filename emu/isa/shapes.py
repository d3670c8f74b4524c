# The shapes of handlers: how the operands of a row are fetched and stored around its function in cpu/semantics.
"""Each shape is a function of a Variant and gives (name, body lines). Functions they call, with u64 values and the
size in bytes as a constant:

  alu F      destination = F(c, destination, source, size)                    ADD, AND, IMUL, SHL ...
  cmp F      F(c, destination, source, size)                                  CMP, TEST
  unary F    operand = F(c, operand, size)                                    INC, NEG, BSWAP
  load F     register = F(c, source, size of source, size)                    MOV, MOVZX, MOVSX
  store      memory or register = register or immediate                       MOV
  op F       F(c, i) -> 0, or 1 with a fault set; on with the next instruction
  end F      the same at the end of a block: c.rip is the next instruction already, F may change it
  nop       nothing
  pause     PAUSE
  body ...   the topic's own
"""
from __future__ import annotations

from dataclasses import dataclass

from emu.isa.rows import Operand, Row


@dataclass(frozen=True)
class Variant:
    """One handler wanted: a row, in register or memory form, for one operand size (0: any)."""

    row: Row
    memory: bool
    opsize: int

    def size(self, place: int) -> int:
        """Size in bytes of operand number `place`."""
        return self.row.operands[place].size(self.opsize or 4)

    @property
    def rm_size(self) -> int:
        """Size in bytes of the operand in ModRM.rm; 0 where there is none."""
        return 0 if self.row.rm is None else self.row.rm.size(self.opsize)

    @property
    def form(self) -> str:
        """A letter for each operand: r, m, i(mmediate), c(l), 1."""
        letters = ""
        for operand in self.row.operands:
            if operand.is_rm:
                letters += "m" if self.memory else "r"
            elif operand.place == "I":
                letters += "i"
            elif operand.kind == "1":
                letters += "1"
            elif operand.kind == "CL":
                letters += "c"
            else:
                letters += "r"
        return letters

    def name(self, *parts: object) -> str:
        return "_".join(str(part) for part in (self.row.function, *parts) if part != "")


FAIL = "return leave(c, i)"
NEXT = "return next_insn(c, i)"


def source_value(variant: Variant, place: int, size: int, slot: str = "src") -> tuple[list[str], str]:
    """Lines that fetch operand `place`, and the expression of its value."""
    operand: Operand = variant.row.operands[place]
    if operand.kind == "1":
        return [], "<u64>1"
    if operand.kind == "CL":
        return [], "reg(c, 8, 1)"
    if operand.place == "I":
        return [], f"(<u64>i.imm & mask_of({size}))"
    if operand.is_rm and variant.memory:
        return [f"p = read_operand(c, i, {size})", "if unlikely(p == NULL):", "    " + FAIL], f"get(p, {size})"
    return [], f"reg(c, i.{slot}, {size})"


def alu(variant: Variant) -> tuple[str, list[str]]:
    size = variant.size(0)
    name = variant.name(8 * size, variant.form)
    lines, value = source_value(variant, len(variant.row.operands) - 1, size)
    function = variant.row.function
    if variant.memory and variant.row.operands[0].is_rm:
        return name, ["cdef u8* p = modify_operand(c, i, %d)" % size, "if unlikely(p == NULL):", "    " + FAIL,
                      f"put(p, {function}(c, get(p, {size}), {value}, {size}), {size})", "commit(c, p)", NEXT]
    head = ["cdef u8* p"] if lines else []
    return name, [*head, *lines, f"set_reg(c, i.dst, {function}(c, reg(c, i.dst, {size}), {value}, {size}), {size})", NEXT]


def cmp(variant: Variant) -> tuple[str, list[str]]:
    size = variant.size(0)
    name = variant.name(8 * size, variant.form)
    function = variant.row.function
    if variant.memory and variant.row.operands[0].is_rm:
        lines, left = source_value(variant, 0, size)
        _, right = source_value(variant, 1, size)
        return name, ["cdef u8* p", *lines, f"{function}(c, {left}, {right}, {size})", NEXT]
    lines, right = source_value(variant, 1, size)
    head = ["cdef u8* p"] if lines else []
    return name, [*head, *lines, f"{function}(c, reg(c, i.dst, {size}), {right}, {size})", NEXT]


def unary(variant: Variant) -> tuple[str, list[str]]:
    size = variant.size(0)
    name = variant.name(8 * size, variant.form)
    function = variant.row.function
    if variant.memory:
        return name, ["cdef u8* p = modify_operand(c, i, %d)" % size, "if unlikely(p == NULL):", "    " + FAIL,
                      f"put(p, {function}(c, get(p, {size}), {size}), {size})", "commit(c, p)", NEXT]
    return name, [f"set_reg(c, i.dst, {function}(c, reg(c, i.dst, {size}), {size}), {size})", NEXT]


def load(variant: Variant) -> tuple[str, list[str]]:
    size, source = variant.size(0), variant.size(1)
    name = variant.name(8 * size, 8 * source, variant.form)
    lines, value = source_value(variant, 1, source)
    head = ["cdef u8* p"] if lines else []
    return name, [*head, *lines, f"set_reg(c, i.dst, {variant.row.function}(c, {value}, {source}, {size}), {size})", NEXT]


def store(variant: Variant) -> tuple[str, list[str]]:
    size = variant.size(0)
    name = variant.name(8 * size, variant.form)
    lines, value = source_value(variant, 1, size)
    if variant.memory:
        return name, ["cdef u8* p = write_operand(c, i, %d)" % size, "if unlikely(p == NULL):", "    " + FAIL,
                      f"put(p, {value}, {size})", "commit(c, p)", NEXT]
    return name, [f"set_reg(c, i.dst, {value}, {size})", NEXT]


def op(variant: Variant) -> tuple[str, list[str]]:
    return variant.name("op"), [f"if unlikely({variant.row.function}(c, i)):", "    " + FAIL, NEXT]


def end(variant: Variant) -> tuple[str, list[str]]:
    return variant.name("end"), ["c.rip = rip_after(c, i) & c.rip_mask",
                                 f"if unlikely({variant.row.function}(c, i)):", "    " + FAIL, "return RC_NEXT"]


def pause(variant: Variant) -> tuple[str, list[str]]:
    """Beside other CPUs it waits, so that one that spins for another costs little; the block ends, since time has jumped."""
    return "pause", ["if unlikely(c.pause_ns != 0):", "    c.idle_ns += c.pause_ns", "    c.budget += i.left - 1",
                     "    c.rip = rip_after(c, i) & c.rip_mask", "    return RC_NEXT", NEXT]


def nop(variant: Variant) -> tuple[str, list[str]]:
    return "do_nothing", [NEXT]


SHAPES = {"nop": nop, "pause": pause, "alu": alu, "cmp": cmp, "unary": unary, "load": load, "store": store, "op": op, "end": end}
# Shapes after which the block ends; a topic adds its own to ENDS.
ENDS = {"end"}
