# Plain words for why a guest could not go on: triple faults, dead halts, instructions that are not there.
from __future__ import annotations

from ..cpu.disassemble import disassemble

VECTORS = {0: "#DE divide error", 1: "#DB debug", 2: "NMI", 3: "#BP breakpoint", 4: "#OF overflow", 5: "#BR bound range",
           6: "#UD invalid opcode", 7: "#NM no coprocessor", 8: "#DF double fault", 10: "#TS invalid TSS",
           11: "#NP segment not present", 12: "#SS stack fault", 13: "#GP general protection", 14: "#PF page fault",
           16: "#MF x87 error", 17: "#AC alignment check", 18: "#MC machine check", 19: "#XM SIMD error"}


def _current(machine):
    """The CPU that ran last."""
    return machine.cpu[machine.board.processors.current]


def _name(machine) -> str:
    """Which CPU it was, where there are several."""
    return f" on CPU {_current(machine).number} of {len(machine.cpu)}" if len(machine.cpu) > 1 else ""


def _at(machine) -> str:
    cpu = _current(machine)
    data = cpu.code_bytes(16)
    _, shown, text = next(disassemble(data, cpu.code_bits, cpu.rip), (0, b"", "(no memory there)"))
    return f"rip {cpu.rip:#x}: {shown.hex(' ')}  {text}"


def _registers(machine) -> str:
    r = _current(machine).registers
    names = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", *(f"r{k}" for k in range(8, 16)))
    lines = ["  " + "  ".join(f"{name:>3} {r[name]:016x}" for name in names[k:k + 4]) for k in range(0, 16, 4)]
    lines.append(f"  cr0 {r['cr0']:x}  cr2 {r['cr2']:x}  cr3 {r['cr3']:x}  cr4 {r['cr4']:x}  efer {r['efer']:x}  "
                 f"cs {r['cs']:x}  ss {r['ss']:x}  cpl {r['cpl']}  rflags {r['rflags']:x}")
    return "\n".join(lines)


def explain_shutdown(machine) -> tuple[str, int, str]:
    """(reason, exit code, message) of a triple fault."""
    cpu = _current(machine)
    lines = [f"triple fault{_name(machine)}: an exception could not be delivered, and neither could the double fault after it",
             "  " + _at(machine)]
    for vector, error, cr2 in cpu.fault_chain:
        text = VECTORS.get(vector, f"vector {vector}")
        if error is not None:
            text += f", error code {error:#x}"
        if vector == 14:
            text += f", address {cr2:#x}"
        lines.append("  " + text)
    lines.append(_registers(machine))
    return "triple fault", 11, "\n".join(lines)


def explain_dead_halt(machine) -> str:
    """HLT with interrupts off and nothing that could wake it."""
    whom = "this CPU" if len(machine.cpu) == 1 else "any CPU"
    return f"dead halt: HLT with interrupts off, no timer armed: nothing can wake {whom}\n  {_at(machine)}\n{_registers(machine)}"


def explain_unsupported(machine) -> str:
    """Names what is not emulated."""
    return f"not emulated{_name(machine)}: {_current(machine).unsupported}\n  {_at(machine)}\n{_registers(machine)}"
