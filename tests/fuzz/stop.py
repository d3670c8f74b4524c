# Guests that try not to be stopped: how long each takes to answer the host's signal, and what it does to the host's memory.
"""Every guest is a piece of assembly (gcc's `as`) for 32-bit protected mode on a whole PC, with its own IDT; it runs for a while, then a
signal comes, and the time until the run has ended is taken. Printed as a table; the slowest answer is held against LIMIT_MS."""
from __future__ import annotations

import pathlib
import signal
import subprocess
import tempfile
import time

from emu.board.pc import Pc, PcOptions
from emu.cpu.models import resolve_cpu

from tests.cpu.system_bench import descriptor, gate

LIMIT_MS = 100
RUN_SECONDS = 0.3
CODE, GDT, IDT, HANDLERS, TSS, STACK, TABLES = 0x10000, 0x8000, 0x9000, 0x20000, 0xC000, 0x40000, 0x100000

# name -> (assembly, what handlers do: "iret", "ret" (IRET after an EOI), "fault" (not there), "trap" (a trap gate, no EOI))
GUESTS = {
    "loop": ("l: jmp l", "iret"),
    "rep movsb over itself": ("mov $0x200001,%edi; mov $0x200000,%esi; mov $0xF00000,%ecx; cld; l: rep movsb; jmp l", "iret"),
    "rep movsb backwards": ("std; l: mov $0x300000,%edi; mov $0x280000,%esi; mov $0x80000,%ecx; rep movsb; jmp l", "iret"),
    "rep lodsb, 4 GiB": ("l: mov $0xFFFFFFFF,%ecx; rep lodsb; jmp l", "iret"),
    "rep scasb in MMIO": ("l: mov $0xFEE00000,%edi; mov $0xFFFFFFFF,%ecx; repne scasb; jmp l", "iret"),
    "rep outsb to the serial line": ("mov $0x3F8,%dx; l: mov $0xFFFFFF,%ecx; mov $0x10000,%esi; rep outsb; jmp l", "iret"),
    "rep outsb to the debug console": ("mov $0xE9,%dx; l: mov $0xFFFFFF,%ecx; mov $0x10000,%esi; rep outsb; jmp l", "iret"),
    "rep insb from the clock": ("mov $0x71,%dx; l: mov $0xFFFFFF,%ecx; mov $0x10000,%edi; add $0x100000,%edi; rep insb; jmp l", "iret"),
    "alarm at no time of the day": ("mov $1,%al; out %al,$0x70; mov $0x77,%al; out %al,$0x71; mov $11,%al; out %al,$0x70; mov $0x22,%al;"
                                    "l: out %al,$0x71; jmp l", "iret"),
    "code that overwrites itself": ("l: incl m+1; m: mov $0,%eax; jmp l", "iret"),
    "code in every page": ("mov $0x200000,%esi; l: movw $0xE7FF,(%esi); lea n,%edi; jmp *%esi;"
                           "n: add $4096,%esi; cmp $0xF00000,%esi; jb l; mov $0x200000,%esi; jmp l", "iret"),
    "CR3 loaded again and again": ("mov $0x100000,%edi; xor %eax,%eax; l: mov %eax,%cr3; mov (%edi),%ebx; jmp l", "iret"),
    "paging on and off": ("mov $0x100000,%eax; mov %eax,%cr3; mov %cr0,%eax; l: xor $0x80000000,%eax; mov %eax,%cr0; jmp l", "iret"),
    "page tables that are their own": ("mov $0x100000,%eax; mov %eax,%cr3; mov %cr0,%eax; or $0x80000000,%eax; mov %eax,%cr0;"
                                       "mov $0x400000,%esi; l: mov (%esi),%ebx; add $0x1000,%esi; jnz l; jmp l", "iret"),
    "transcendental functions": ("fninit; fldpi; l: fsin; fptan; fpatan; fldl2e; fyl2xp1; f2xm1; fbstp 0x30000; fldpi; jmp l", "iret"),
    "FXSAVE across pages": ("mov $0x600,%eax; mov %eax,%cr4; l: fxsave 0x30FF0; fxrstor 0x30FF0; jmp l", "iret"),
    "#UD for ever": ("ud2", "iret"),
    "a handler that is not there": ("ud2", "fault"),
    "#PF while delivering #PF": ("mov $0x100000,%eax; mov %eax,%cr3; mov %cr0,%eax; or $0x80000000,%eax; mov %eax,%cr0;"
                                 "mov $0x80000000,%esp; push %eax", "iret"),
    "8254, count 1": ("mov $0x34,%al; out %al,$0x43; mov $1,%al; out %al,$0x40; mov $0,%al; out %al,$0x40; call pic; sti;"
                      "l: jmp l", "ret"),
    "local APIC timer, count 1": ("movl $0x1FF,0xFEE000F0; movl $0x20040,0xFEE00320; movl $0xB,0xFEE003E0; movl $1,0xFEE00380; sti;"
                                  "l: jmp l", "ret"),
    "HPET, period 1": ("movl $1,0xFED00010; movl $0x284C,0xFED00100; movl $1,0xFED00108; movl $1,0xFED00108;"
                       "movl $0x2A4E,0xFED00120; movl $1,0xFED00128; movl $1,0xFED00128; sti; l: hlt; jmp l", "ret"),
    "RTC, 8 kHz": ("mov $0xA,%al; out %al,$0x70; mov $0x23,%al; out %al,$0x71; mov $0xB,%al; out %al,$0x70; mov $0x72,%al; out %al,$0x71;"
                   "call pic; sti; l: mov $0xC,%al; out %al,$0x70; in $0x71,%al; hlt; jmp l", "ret"),
    "level-triggered interrupt that stays": ("mov $0xFE,%al; mov $0x4D0,%dx; out %al,%dx; mov $1,%al; out %al,%dx; call pic;"
                                             "mov $0x34,%al; out %al,$0x43; mov $2,%al; out %al,$0x40; out %al,$0x40; sti; l: jmp l",
                                             "trap"),
    "IPIs to oneself": ("movl $0x1FF,0xFEE000F0; sti; l: movl $0x44040,0xFEE00300; jmp l", "ret"),
    "NMIs to oneself": ("movl $0x1FF,0xFEE000F0; l: movl $0x44400,0xFEE00300; jmp l", "iret"),
    "execution in MMIO": ("jmp 0xFED000F0", "iret"),
    "execution where nothing is": ("mov $0xD0000000,%eax; jmp *%eax", "iret"),
    "single step": ("pushf; orl $0x100,(%esp); popf; l: jmp l", "iret"),
    "task switches": ("ltr_: ljmp $0x28,$0; jmp ltr_", "iret"),
    "every PCI register": ("xor %ebx,%ebx; l: mov %ebx,%eax; or $0x80000000,%eax; mov $0xCF8,%dx; out %eax,%dx; mov $0xCFC,%dx;"
                           "mov $0xFFFFFFFF,%eax; out %eax,%dx; xor %eax,%eax; out %eax,%dx; add $4,%ebx; and $0xFFFF,%ebx; jmp l", "iret"),
    "A20 to and fro": ("l: in $0x92,%al; xor $2,%al; and $0xFE,%al; out %al,$0x92; jmp l", "iret"),
    "keyboard controller": ("l: mov $0xD1,%al; out %al,$0x64; mov $0xDF,%al; out %al,$0x60; mov $0xD2,%al; out %al,$0x64; out %al,$0x60;"
                            "jmp l", "iret"),
    "HLT with every timer idle": ("sti; l: hlt; jmp l", "ret"),
}
PIC = """
pic: mov $0x11,%al; out %al,$0x20; out %al,$0xA0; mov $0x20,%al; out %al,$0x21; mov $0x28,%al; out %al,$0xA1
     mov $4,%al; out %al,$0x21; mov $2,%al; out %al,$0xA1; mov $3,%al; out %al,$0x21; out %al,$0xA1
     mov $0,%al; out %al,$0x21; out %al,$0xA1; ret
"""
HANDLER = {"iret": b"\xcf", "trap": b"\xcf", "fault": b"\xcf",
           "ret": bytes.fromhex("50 b020 e620 e6a0 31c0 a3b000e0fe 58 cf".replace(" ", ""))}       # EOI to the 8259As and the local APIC


def assemble(text: str) -> bytes:
    """Machine code of 32-bit assembly that lies at CODE."""
    with tempfile.TemporaryDirectory() as folder:
        source, made, flat = (pathlib.Path(folder) / name for name in ("a.s", "a.o", "a.bin"))
        source.write_text(text + "\n" + PIC)
        subprocess.run(["as", "--32", "-o", made, source], check=True)
        subprocess.run(["ld", "-m", "elf_i386", "-Ttext", hex(CODE), "-e", "0", "--oformat", "binary", "-o", flat, made], check=True)
        return flat.read_bytes()


def build(name: str) -> Pc:
    """The PC with the guest in it, ready to run."""
    text, kind = GUESTS[name]
    board = Pc(PcOptions(16 << 20, resolve_cpu("v2")))
    board.reset()
    put = board.memory.physical
    code = assemble(text)
    put[CODE:CODE + len(code)] = code
    table = bytes(8) + descriptor(0, 0xFFFFF, 0x9B, 0xC) + descriptor(0, 0xFFFFF, 0x93, 0xC)
    table += descriptor(TSS, 0xFFF, 0x8B) + bytes(8) + descriptor(TSS + 0x100, 0xFFF, 0x89)
    put[GDT:GDT + len(table)] = table
    target = 0xE0000000 if kind == "fault" else HANDLERS
    put[IDT:IDT + 2048] = gate(0x08, target, 0x8F if kind == "trap" else 0x8E) * 256
    put[HANDLERS:HANDLERS + len(HANDLER[kind])] = HANDLER[kind]
    task = bytearray(104)
    for at, value in ((4, STACK), (8, 0x10), (28, TABLES), (32, CODE), (36, 2), (56, STACK), (72, 0x10), (76, 8), (80, 0x10), (84, 0x10),
                      (88, 0x10), (92, 0x10)):
        task[at:at + 4] = value.to_bytes(4, "little")
    put[TSS:TSS + 104] = put[TSS + 0x100:TSS + 0x168] = bytes(task)
    entries = b"".join((4096 * k | 7).to_bytes(4, "little") for k in range(1024))
    put[TABLES + 0x1000:TABLES + 0x2000] = entries
    directory = (TABLES + 0x1000 | 7).to_bytes(4, "little") + (TABLES | 7).to_bytes(4, "little") * 1023
    put[TABLES:TABLES + 0x1000] = directory
    cpu = board.cpus[0]
    cpu.set_system(cr0=0x13, cr4=0, gdt_base=GDT, gdt_limit=0x2F, idt_base=IDT, idt_limit=0x7FF)
    for number in range(6):
        cpu.set_segment(number, 0x08 if number == 1 else 0x10, 0, 0xFFFFFFFF, 0xC9B if number == 1 else 0xC93)
    cpu.set_segment(9, 0x18, TSS, 0xFFF, 0x8B)
    cpu.set_register("rsp", STACK)
    cpu.set_register("rip", CODE)
    cpu.after_load()
    return board


class Stop(Exception):
    """What the signal raises."""


def measure(name: str, drain: bool = False, seconds: float = RUN_SECONDS) -> tuple[float, int, str]:
    """Runs a guest until the signal has ended it: (milliseconds from the signal to the end, instructions, last reason).

    drain: somebody reads what it sends; else nobody does, as if the host's end were stuck."""
    board = build(name)
    cpu = board.cpus[0]

    def ring(number, frame):
        raise Stop

    before = signal.signal(signal.SIGALRM, ring)
    reason = ""
    try:
        due = time.monotonic() + seconds
        signal.setitimer(signal.ITIMER_REAL, seconds)
        while True:
            reason = cpu.run(cpu.retired + (1 << 26), True)
            board.requests.take()
            if drain:
                for backend in (*board.serial, *board.debug_consoles.values(), board.console):
                    backend.take()
            if reason in ("shutdown", "dead", "unsupported", "reset"):
                cpu.set_system(halted=0)
                cpu.set_register("rip", CODE)
                cpu.after_load()
    except Stop:
        return 1000 * (time.monotonic() - due), cpu.retired, reason
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def main() -> int:
    worst = 0.0
    print(f"{'guest':<42}{'answer':>10}{'instructions':>14}")
    for name in GUESTS:
        answer, instructions, _ = measure(name)
        worst = max(worst, answer)
        print(f"{name:<42}{answer:>8.1f} ms{instructions:>14}", flush=True)
    print(f"slowest answer {worst:.1f} ms, {'within' if worst <= LIMIT_MS else 'ABOVE'} {LIMIT_MS} ms")
    return 0 if worst <= LIMIT_MS else 1
