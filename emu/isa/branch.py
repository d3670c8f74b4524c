# Near jumps, calls, returns, loops.
"""Rows of the near branches; far ones are in system.py. In 64-bit mode their operand size is 64 bits, and 16 with a 66 prefix,
as AMD's processors have it (APM 3, near branches); Intel's ignore the prefix there."""

IMPORTS = """
from emu.cpu.access cimport drop, probe_push, rip_of, set_fault, stack_top
from emu.cpu.branch cimport branch_fall, branch_taken, cut_rip, goto_rip
from emu.cpu.flags cimport condition, flag_zf
from emu.cpu.state cimport GP, I_REP, I_REPNE, RIP_SLOT
"""

TABLE = """
70+cc | j Jb | jcc jcc | d64 sized r=oszpc
0F 80+cc | j Jz | jcc jcc | d64 r=oszpc
EB | jmp Jb | jmp jmp | d64 sized
E9 | jmp Jz | jmp jmp | d64
E8 | call Jz | call call | d64
FF /4 | jmp Ev | jmp_indirect jmp_indirect | d64
FF /2 | call Ev | call_indirect call_indirect | d64
C3 | ret | ret ret | d64 sized
C2 | ret Iw | ret ret | d64 sized
E0 | loopne Jb | loop loopne | d64 sized r=z
E1 | loope Jb | loop loope | d64 sized r=z
E2 | loop Jb | loop loop | d64 sized
E3 | jcxz Jb | loop jcxz | d64 sized
"""

from emu.isa.shapes import FAIL, Variant, source_value  # noqa: E402

_CANONICAL = ["if unlikely(<i64>(target << 16) >> 16 != <i64>target):", "    set_fault(c, GP, True, 0)", "    " + FAIL]


def _canonical(size: int, pushes: bool = False) -> list[str]:
    """The check of `target`; with `pushes` the stack's fault comes first."""
    lines = _CANONICAL if size == 8 else ["if unlikely(target > c.cs_limit):", "    set_fault(c, GP, True, 0)", "    " + FAIL]
    return [lines[0], f"    if probe_push(c, {size}):", "        " + FAIL, *lines[1:]] if pushes else lines


def _direct_target(size: int, pushes: bool = False) -> list[str]:
    """Only an unlinked branch can leave the segment or the canonical range; a linked one stays in its page."""
    return ["if unlikely(not i.flags & 32):", f"    target = cut_rip(c.regs[RIP_SLOT] + <u64>i.imm, {size})",
            *("    " + line for line in _canonical(size, pushes))]


def _jcc(v: Variant) -> tuple[str, list[str]]:
    size = v.opsize
    return v.name(v.row.condition, 8 * size), [
        "cdef u64 target", f"if condition(c, {v.row.condition}):", *("    " + line for line in _direct_target(size)),
        f"    return branch_taken(c, i, {size})", "return branch_fall(c, i)"]


def _jmp(v: Variant) -> tuple[str, list[str]]:
    return v.name(8 * v.opsize), ["cdef u64 target", *_direct_target(v.opsize), f"return branch_taken(c, i, {v.opsize})"]


def _call(v: Variant) -> tuple[str, list[str]]:
    size = v.opsize
    return v.name(8 * size), ["cdef u64 target", *_direct_target(size, True),
                              f"if unlikely(push(c, rip_after(c, i), {size})):", "    " + FAIL,
                              f"return branch_taken(c, i, {size})"]


def _indirect(v: Variant) -> tuple[str, list[str]]:
    size = v.opsize
    lines, value = source_value(v, 0, size, "dst")
    pushes = v.row.function == "call_indirect"
    body = ["cdef u8* p", "cdef u64 target", *lines, f"target = {value}", *_canonical(size, pushes)]
    if pushes:
        body += [f"if unlikely(push(c, rip_after(c, i), {size})):", "    " + FAIL]
    return v.name(8 * size, v.form), [*body, "return goto_rip(c, target)"]


def _ret(v: Variant) -> tuple[str, list[str]]:
    size = v.opsize
    extra = f"{size} + <u64>i.imm" if v.row.operands else f"{size}"
    return v.name(8 * size, v.form), [f"cdef u8* p = stack_top(c, {size})", "cdef u64 target", "if unlikely(p == NULL):",
                                      "    " + FAIL, f"target = get(p, {size})", *_canonical(size), f"drop(c, {extra})",
                                      "return goto_rip(c, target)"]


def _loop(v: Variant) -> tuple[str, list[str]]:
    """LOOP and JCXZ count in CX, ECX or RCX by address size. F2 and F3 say which ZF LOOPcc goes on with, as AMD's processors have it."""
    name = v.row.function
    size = v.opsize
    test = {"loop": "count != 0", "loope": "count != 0 and flag_zf(c) != (i.flags & I_REPNE != 0)",
            "loopne": "count != 0 and flag_zf(c) == (i.flags & I_REP != 0)", "jcxz": "count == 0"}[name]
    body = ["cdef u64 target", "cdef u64 mask = c.address_mask[i.flags & 3]",
            f"cdef u64 count = (c.regs[1]{'' if name == 'jcxz' else ' - 1'}) & mask", f"cdef bint taken = {test}", "if taken:",
            *("    " + line for line in _direct_target(size))]
    if name != "jcxz":
        body += ["if mask == <u64>0xFFFF:", "    set_reg(c, 8, count, 2)", "else:", "    c.regs[1] = count"]
    return v.name(8 * size), [*body, "if taken:", f"    return branch_taken(c, i, {size})", "return branch_fall(c, i)"]


SHAPES = {"jcc": _jcc, "jmp": _jmp, "call": _call, "jmp_indirect": _indirect, "call_indirect": _indirect, "ret": _ret,
          "loop": _loop}
ENDS = set(SHAPES)
