# String instructions and port I/O.
"""Rows of the string instructions. With a REP prefix each element counts as one retired instruction, and the block ends
(so that a long one can be left for events between two elements)."""

IMPORTS = """
from emu.cpu.semantics.string cimport *
"""

TABLE = """
A4 | movs Yb,Xb | string movs | rep
A5 | movs Yv,Xv | string movs | rep
AA | stos Yb,AL | string stos | rep
AB | stos Yv,rAX | string stos | rep
AC | lods AL,Xb | string lods | rep
AD | lods rAX,Xv | string lods | rep
A6 | cmps Xb,Yb | string cmps | rep w=oszapc
A7 | cmps Xv,Yv | string cmps | rep w=oszapc
AE | scas AL,Yb | string scas | rep w=oszapc
AF | scas rAX,Yv | string scas | rep w=oszapc
6C | ins Yb,DX | string ins | rep
6D | ins Yz,DX | string ins | rep
6E | outs DX,Xb | string outs | rep
6F | outs DX,Xz | string outs | rep
E4 | in AL,Ib | port port_in |
E5 | in rAX,Ib | port port_in |
EC | in AL,DX | port port_in |
ED | in rAX,DX | port port_in |
E6 | out Ib,AL | port port_out |
E7 | out Ib,rAX | port port_out |
EE | out DX,AL | port port_out |
EF | out DX,rAX | port port_out |
"""

from emu.isa.shapes import FAIL, NEXT, Variant  # noqa: E402


def _string(v: Variant) -> tuple[str, list[str]]:
    size = next((s for place in range(2) if (s := v.size(place)) and v.row.operands[place].kind != "DX"), 0)
    name = v.row.function
    if name in ("ins", "outs"):
        size = min(size, 4)
    return v.name(8 * size), [f"return {name}_any(c, i, {size})"]


def _port(v: Variant) -> tuple[str, list[str]]:
    size = min(max(v.size(place) for place in range(2) if v.row.operands[place].kind in ("AL", "rAX")), 4)
    immediate = any(o.place == "I" for o in v.row.operands)
    number = "<u32>i.imm & 0xFF" if immediate else "<u32>c.regs[2] & 0xFFFF"
    return v.name(8 * size, "i" if immediate else "r"), [f"if unlikely({v.row.function}(c, i, {number}, {size})):", "    " + FAIL,
                                                         NEXT]


SHAPES = {"string": _string, "port": _port}
