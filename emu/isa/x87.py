# x87 floating point: rows D8 to DF and 9B, with the aliases that processors execute without naming them.
"""Rows of the x87 unit. Shapes (operands are i.dst and i.src, numbers of the register stack):

  fp_take TYPE F [ARGS $ ARGS]    F(unit, ARGS with the memory operand, read as TYPE, for $)
  fp_give TYPE F [ARGS]           if F(unit, ARGS, &value of TYPE): the memory operand = value, SIZE bytes
  fp_stack F [ARGS]               F(unit, ARGS)
  fp_compare F [ARGS]             ZF, PF, CF = F(unit, ARGS)
Instructions that fit none of them are functions of cpu/semantics/x87_unit (op).
"""

IMPORTS = """
from emu.cpu.flags cimport condition
from emu.cpu.semantics.x87 cimport *
from emu.cpu.semantics.x87_unit cimport *
from emu.cpu.softfloat_x87 cimport (OPERATION_ADD, OPERATION_DIV, OPERATION_DIVR, OPERATION_MUL, OPERATION_SUB, OPERATION_SUBR)
"""

_OPERATIONS = (("add", 0), ("mul", 1), ("com", 2), ("comp", 3), ("sub", 4), ("subr", 5), ("div", 6), ("divr", 7))


def _memory_arithmetic() -> str:
    """D8, DA, DC, DE with memory: ST0 = ST0 op m32, m32int, m64, m16int."""
    lines = []
    for opcode, letter, kind, value, operand in (("D8", "", "f32", "u32", "Md"), ("DA", "i", "integer", "i32", "Md"),
                                                 ("DC", "", "f64", "u64", "Mq"), ("DE", "i", "integer", "i16", "Mw")):
        for name, digit in _OPERATIONS:
            if name.startswith("com"):
                action = f"fp_take {value} x87_compare_{kind} $ {name == 'comp'}"
            else:
                action = f"fp_take {value} x87_arithmetic_{kind} OPERATION_{name.upper()} $"
            lines.append(f"{opcode} /{digit} | f{letter}{name} {operand} | {action} | cpuid=FPU")
    return "\n".join(lines)


def _register_arithmetic() -> str:
    """D8, DC, DE with registers; in DC and DE, SUB and SUBR, DIV and DIVR stand in each other's places."""
    lines = []
    for name, digit in _OPERATIONS:
        if name.startswith("com"):
            continue
        operation = f"OPERATION_{name.upper()}"
        other = digit ^ 1 if digit & 4 else digit
        lines.append(f"D8 /{digit} | f{name} ST0,STi | fp_stack x87_arithmetic_register {operation} 0 i.src False | cpuid=FPU")
        lines.append(f"DC /{other} | f{name} STi,ST0 | fp_stack x87_arithmetic_register {operation} i.dst 0 False | cpuid=FPU")
        lines.append(f"DE /{other} | f{name}p STi,ST0 | fp_stack x87_arithmetic_register {operation} i.dst 0 True | cpuid=FPU")
    return "\n".join(lines)


def _conditional_moves() -> str:
    return "\n".join(f"{opcode} /{digit} | fcmov{name} ST0,STi | fp_stack x87_move_if i.src condition(c,{code}) | cpuid=CMOV"
                     for opcode, digit, name, code in (
                         ("DA", 0, "b", 2), ("DA", 1, "e", 4), ("DA", 2, "be", 6), ("DA", 3, "u", 10),
                         ("DB", 0, "nb", 3), ("DB", 1, "ne", 5), ("DB", 2, "nbe", 7), ("DB", 3, "nu", 11)))


def _constants() -> str:
    return "\n".join(f"D9 ={0xE8 + which:02X} | {name} | fp_stack x87_load_constant {which} | cpuid=FPU"
                     for which, name in enumerate(("fld1", "fldl2t", "fldl2e", "fldpi", "fldlg2", "fldln2", "fldz")))


TABLE = _memory_arithmetic() + "\n" + _register_arithmetic() + "\n" + _conditional_moves() + "\n" + _constants() + """
9B | wait | op fwait | cpuid=FPU
D8 /2 | fcom STi | fp_stack x87_compare_register i.dst False 0 | cpuid=FPU
DC /2 | fcom2 STi | fp_stack x87_compare_register i.dst False 0 | cpuid=FPU
D8 /3 | fcomp STi | fp_stack x87_compare_register i.dst False 1 | cpuid=FPU
DC /3 | fcomp3 STi | fp_stack x87_compare_register i.dst False 1 | cpuid=FPU
DE /2 | fcomp5 STi | fp_stack x87_compare_register i.dst False 1 | cpuid=FPU
DE =D9 | fcompp | fp_stack x87_compare_register 1 False 2 | cpuid=FPU

D9 /0 | fld Md | fp_take u32 x87_load_f32 $ | cpuid=FPU
D9 /2 | fst Md | fp_give u32 x87_store_f32 False | cpuid=FPU
D9 /3 | fstp Md | fp_give u32 x87_store_f32 True | cpuid=FPU
D9 /4 | fldenv M | op fldenv | cpuid=FPU
D9 /5 | fldcw Mw | op fldcw | cpuid=FPU
D9 /6 | fnstenv M | op fnstenv | cpuid=FPU
D9 /7 | fnstcw Mw | op fnstcw | cpuid=FPU
D9 /0 | fld STi | fp_stack x87_load_register i.dst | cpuid=FPU
D9 /1 | fxch STi | fp_stack x87_exchange i.dst | cpuid=FPU
D9 =D0 | fnop | op fnop | cpuid=FPU
D9 /3 | fstp1 STi | fp_stack x87_store_unchecked i.dst | cpuid=FPU
D9 =E0 | fchs | fp_stack x87_change_sign | cpuid=FPU
D9 =E1 | fabs | fp_stack x87_absolute | cpuid=FPU
D9 =E4 | ftst | fp_stack x87_test | cpuid=FPU
D9 =E5 | fxam | fp_stack x87_examine | cpuid=FPU
D9 =F0 | f2xm1 | fp_stack x87_2xm1 | cpuid=FPU
D9 =F1 | fyl2x | fp_stack x87_log2 False | cpuid=FPU
D9 =F2 | fptan | fp_stack x87_tan | cpuid=FPU
D9 =F3 | fpatan | fp_stack x87_atan | cpuid=FPU
D9 =F4 | fxtract | fp_stack x87_extract | cpuid=FPU
D9 =F5 | fprem1 | fp_stack x87_remainder True | cpuid=FPU
D9 =F6 | fdecstp | fp_stack x87_turn -1 | cpuid=FPU
D9 =F7 | fincstp | fp_stack x87_turn 1 | cpuid=FPU
D9 =F8 | fprem | fp_stack x87_remainder False | cpuid=FPU
D9 =F9 | fyl2xp1 | fp_stack x87_log2 True | cpuid=FPU
D9 =FA | fsqrt | fp_stack x87_sqrt | cpuid=FPU
D9 =FB | fsincos | fp_stack x87_sincos | cpuid=FPU
D9 =FC | frndint | fp_stack x87_round | cpuid=FPU
D9 =FD | fscale | fp_stack x87_scale | cpuid=FPU
D9 =FE | fsin | fp_stack x87_sin | cpuid=FPU
D9 =FF | fcos | fp_stack x87_cos | cpuid=FPU

DA =E9 | fucompp | fp_stack x87_compare_register 1 True 2 | cpuid=FPU

DB /0 | fild Md | fp_take i32 x87_load_integer $ | cpuid=FPU
DB /1 | fisttp Md | fp_give u32 x87_store_integer 4 True True | cpuid=SSE3
DB /2 | fist Md | fp_give u32 x87_store_integer 4 False False | cpuid=FPU
DB /3 | fistp Md | fp_give u32 x87_store_integer 4 False True | cpuid=FPU
DB /5 | fld Mt | op fld_m80 | cpuid=FPU
DB /7 | fstp Mt | op fstp_m80 | cpuid=FPU
DB =E0 | feni8087_nop | op fnop_quiet | cpuid=FPU
DB =E1 | fdisi8087_nop | op fnop_quiet | cpuid=FPU
DB =E2 | fnclex | op fnclex | cpuid=FPU
DB =E3 | fninit | op fninit | cpuid=FPU
DB =E4 | fsetpm287_nop | op fnop_quiet | cpuid=FPU
DB /5 | fucomi ST0,STi | fp_compare x87_compare_flags i.src True False | cpuid=CMOV
DB /6 | fcomi ST0,STi | fp_compare x87_compare_flags i.src False False | cpuid=CMOV

DD /0 | fld Mq | fp_take u64 x87_load_f64 $ | cpuid=FPU
DD /1 | fisttp Mq | fp_give u64 x87_store_integer 8 True True | cpuid=SSE3
DD /2 | fst Mq | fp_give u64 x87_store_f64 False | cpuid=FPU
DD /3 | fstp Mq | fp_give u64 x87_store_f64 True | cpuid=FPU
DD /4 | frstor M | op frstor | cpuid=FPU
DD /6 | fnsave M | op fnsave | cpuid=FPU
DD /7 | fnstsw Mw | op fnstsw | cpuid=FPU
DD /0 | ffree STi | fp_stack x87_free i.dst False | cpuid=FPU
DD /1 | fxch4 STi | fp_stack x87_exchange i.dst | cpuid=FPU
DD /2 | fst STi | fp_stack x87_store_register i.dst False | cpuid=FPU
DD /3 | fstp STi | fp_stack x87_store_register i.dst True | cpuid=FPU
DD /4 | fucom STi | fp_stack x87_compare_register i.dst True 0 | cpuid=FPU
DD /5 | fucomp STi | fp_stack x87_compare_register i.dst True 1 | cpuid=FPU

DF /0 | fild Mw | fp_take i16 x87_load_integer $ | cpuid=FPU
DF /1 | fisttp Mw | fp_give u16 x87_store_integer 2 True True | cpuid=SSE3
DF /2 | fist Mw | fp_give u16 x87_store_integer 2 False False | cpuid=FPU
DF /3 | fistp Mw | fp_give u16 x87_store_integer 2 False True | cpuid=FPU
DF /4 | fbld Mt | op fbld | cpuid=FPU
DF /5 | fild Mq | fp_take i64 x87_load_integer $ | cpuid=FPU
DF /6 | fbstp Mt | op fbstp | cpuid=FPU
DF /7 | fistp Mq | fp_give u64 x87_store_integer 8 False True | cpuid=FPU
DF /0 | ffreep STi | fp_stack x87_free i.dst True | cpuid=FPU
DF /1 | fxch7 STi | fp_stack x87_exchange i.dst | cpuid=FPU
DF /2 | fstp8 STi | fp_stack x87_store_register i.dst True | cpuid=FPU
DF /3 | fstp9 STi | fp_stack x87_store_register i.dst True | cpuid=FPU
DF =E0 | fnstsw AX | op fnstsw_ax | cpuid=FPU
DF /5 | fucomip ST0,STi | fp_compare x87_compare_flags i.src True True | cpuid=CMOV
DF /6 | fcomip ST0,STi | fp_compare x87_compare_flags i.src False True | cpuid=CMOV
"""

from emu.isa.shapes import FAIL, NEXT, Variant  # noqa: E402

_ENTER = ["if unlikely(fpu_enter(c)):", "    " + FAIL]
_SIZES = {"u16": 2, "i16": 2, "u32": 4, "i32": 4, "u64": 8, "i64": 8}


def _name(v: Variant) -> str:
    words = "_".join(v.row.args).replace("OPERATION_", "").replace("$", "").replace("-", "minus_").replace("condition", "if")
    return "do_" + v.row.function + "_" + "".join(letter if letter.isalnum() else "_" for letter in words)


def _call(v: Variant) -> str:
    return f"{v.row.function}({', '.join(['&c.fpu', *v.row.args])})"


def _take(v: Variant) -> tuple[str, list[str]]:
    kind, function, *words = v.row.function, v.row.args[0], *v.row.args[1:]
    value = f"<{kind}>get(p, {_SIZES[kind]})"
    words = [value if word == "$" else word for word in words]
    return f"do_{function}_{_name(v)}", [
        "cdef u8* p", *_ENTER, f"p = read_operand(c, i, {_SIZES[kind]})", "if unlikely(p == NULL):", "    " + FAIL,
        f"{function}({', '.join(['&c.fpu', *words])})", "fpu_note_operand(c, i)", NEXT]


def _give(v: Variant) -> tuple[str, list[str]]:
    kind, function, *words = v.row.function, v.row.args[0], *v.row.args[1:]
    size = _SIZES[kind]
    out = "u64" if function == "x87_store_integer" else kind
    return f"do_{function}_{_name(v)}", [
        "cdef u8* p", f"cdef {out} value = 0", *_ENTER, f"p = write_operand(c, i, {size})", "if unlikely(p == NULL):",
        "    " + FAIL,
        f"if {function}({', '.join(['&c.fpu', *words, '&value'])}):", f"    put(p, value, {size})", "    commit(c, p)",
        "fpu_note_operand(c, i)", NEXT]


def _stack(v: Variant) -> tuple[str, list[str]]:
    return _name(v), [*_ENTER, _call(v), "fpu_note(c, i)", NEXT]


def _compare(v: Variant) -> tuple[str, list[str]]:
    return _name(v), [*_ENTER, f"set_compare_flags(c, {_call(v)})", "fpu_note(c, i)", NEXT]


SHAPES = {"fp_take": _take, "fp_give": _give, "fp_stack": _stack, "fp_compare": _compare}
