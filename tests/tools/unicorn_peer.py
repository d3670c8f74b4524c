# Unicorn as a second peer of the CPU: runs a few bytes of code from a given state and tells the state after it.
from collections.abc import Mapping
from dataclasses import dataclass, field

import unicorn
import unicorn.x86_const as x86

CODE = 0x100000                  # where the code lies, unless `run` is told otherwise
_PAGE = 0x1000

_MODES = {16: unicorn.UC_MODE_16, 32: unicorn.UC_MODE_32, 64: unicorn.UC_MODE_64}
_WIDE = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
_NARROW = {"rax": "eax", "rcx": "ecx", "rdx": "edx", "rbx": "ebx", "rsp": "esp", "rbp": "ebp", "rsi": "esi", "rdi": "edi"}


def _constant(name: str) -> int:
    return getattr(x86, "UC_X86_REG_" + name.upper())


def names(mode: int) -> dict[str, int]:
    """The registers that are set and read in a mode (16, 32, 64): our name -> Unicorn's number."""
    general = {name: _constant(name) for name in _WIDE} if mode == 64 else {name: _constant(low) for name, low in _NARROW.items()}
    general["rflags"] = x86.UC_X86_REG_EFLAGS
    general["mxcsr"] = x86.UC_X86_REG_MXCSR
    general |= {"fcw": x86.UC_X86_REG_FPCW, "fsw": x86.UC_X86_REG_FPSW, "ftw": x86.UC_X86_REG_FPTAG}
    general |= {f"xmm{n}": _constant(f"xmm{n}") for n in range(16 if mode == 64 else 8)}
    return general


@dataclass
class State:
    """What `run` found: registers by name (rax.., rip, rflags, xmm0.., fcw fsw ftw mxcsr; fpr0..fpr7 in physical order as 80-bit
    integers), the bytes of every region given, and `fault`: the vector of the exception it raised (-1: none; the registers are then
    those before the instruction that faulted)."""

    registers: dict[str, int]
    memory: dict[int, bytes]
    fault: int = -1
    written: list[tuple[int, int]] = field(default_factory=list)        # (address, size) of every store, in order


def run(code: bytes, mode: int = 64, registers: Mapping[str, int] | None = None, memory: Mapping[int, bytes] | None = None,
        address: int = CODE, count: int = 0) -> State:
    """Runs `code` at `address` in flat memory until its end (or for `count` instructions).

    mode: 16, 32 or 64; registers: those to set, the others are 0 (rflags 2, and the FPU as FNINIT leaves it); memory: address -> bytes,
    mapped readable and writable and read back. An access elsewhere is reported as fault 14. Code in 16-bit mode runs with all
    segment bases 0, and `address` must then be below 64 KiB.
    """
    engine = unicorn.Uc(unicorn.UC_ARCH_X86, _MODES[mode])
    regions = {address: code + b"\xf4", **(memory or {})}
    pages = {page for base, data in regions.items() for page in range(base // _PAGE, (base + len(data) - 1) // _PAGE + 1)}
    for page in pages:
        engine.mem_map(page * _PAGE, _PAGE)
    for base, data in regions.items():
        engine.mem_write(base, data)
    numbers = names(mode)
    for name, value in (registers or {}).items():
        if name.startswith("fpr"):
            engine.reg_write(x86.UC_X86_REG_FP0 + int(name[3:]), (value & (1 << 64) - 1, value >> 64))
        elif name != "rip":
            engine.reg_write(numbers[name], value)

    faults: list[int] = []
    written: list[tuple[int, int]] = []

    def on_interrupt(_: unicorn.Uc, vector: int, __: object) -> None:
        faults.append(vector)
        engine.emu_stop()

    def on_write(_: unicorn.Uc, __: int, base: int, size: int, ___: int, ____: object) -> None:
        written.append((base, size))

    engine.hook_add(unicorn.UC_HOOK_INTR, on_interrupt)
    engine.hook_add(unicorn.UC_HOOK_MEM_WRITE, on_write)
    fault = -1
    try:
        engine.emu_start(address, address + len(code), count=count)
    except unicorn.UcError as error:
        fault = 6 if error.errno == unicorn.UC_ERR_INSN_INVALID else 14
    if faults:
        fault = faults[0]
    found = {name: engine.reg_read(number) for name, number in numbers.items()}
    found["rip"] = engine.reg_read(x86.UC_X86_REG_RIP if mode == 64 else x86.UC_X86_REG_EIP)
    for number in range(8):
        mantissa, exponent = engine.reg_read(x86.UC_X86_REG_FP0 + number)
        found[f"fpr{number}"] = exponent << 64 | mantissa
    return State(found, {base: bytes(engine.mem_read(base, len(data))) for base, data in (memory or {}).items()}, fault, written)
