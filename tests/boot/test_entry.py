# The state in which kernels are entered, carried out by Unicorn: GDT, page tables and handlers must really work.
import images
import pytest
from unicorn import UC_ARCH_X86, UC_HOOK_INSN, UC_MODE_16, UC_MODE_32, UC_MODE_64, Uc
from unicorn.x86_const import (
    UC_X86_INS_OUT,
    UC_X86_REG_AX,
    UC_X86_REG_CR0,
    UC_X86_REG_CR3,
    UC_X86_REG_CR4,
    UC_X86_REG_CS,
    UC_X86_REG_DS,
    UC_X86_REG_EAX,
    UC_X86_REG_EBX,
    UC_X86_REG_EDX,
    UC_X86_REG_EFLAGS,
    UC_X86_REG_ES,
    UC_X86_REG_ESP,
    UC_X86_REG_GDTR,
    UC_X86_REG_IDTR,
    UC_X86_REG_MSR,
    UC_X86_REG_RDI,
    UC_X86_REG_RSI,
    UC_X86_REG_RSP,
    UC_X86_REG_SP,
    UC_X86_REG_SS,
)

from emu.boot.load import load

RAM_BYTES = 64 << 20
NAMES = {"rax": UC_X86_REG_EAX, "rbx": UC_X86_REG_EBX, "rdx": UC_X86_REG_EDX, "rsi": UC_X86_REG_RSI, "rdi": UC_X86_REG_RDI}
EFER = 0xC0000080


def prepare(plan, mode):
    """Unicorn with the plan's memory and state; selectors are loaded through the plan's own GDT."""
    machine = Uc(UC_ARCH_X86, mode)
    machine.mem_map(0, RAM_BYTES)
    for base, data in plan.writes:
        machine.mem_write(base, data)
    entry = plan.entry
    if entry.mode != "real":
        machine.reg_write(UC_X86_REG_GDTR, (0, entry.gdt_base, entry.gdt_limit, 0))
        machine.reg_write(UC_X86_REG_CR4, entry.cr4)
        machine.reg_write(UC_X86_REG_CR3, entry.cr3)
        if entry.efer:
            machine.reg_write(UC_X86_REG_MSR, (EFER, entry.efer))
        machine.reg_write(UC_X86_REG_CR0, entry.cr0)
        for name, register in (("cs", UC_X86_REG_CS), ("ds", UC_X86_REG_DS), ("es", UC_X86_REG_ES), ("ss", UC_X86_REG_SS)):
            machine.reg_write(register, entry.segments[name].selector)
    else:
        machine.reg_write(UC_X86_REG_IDTR, (0, entry.idt_base, entry.idt_limit, 0))
        machine.reg_write(UC_X86_REG_SP, entry.rsp)
    for name, value in entry.registers.items():
        machine.reg_write(NAMES[name], value)
    return machine


def run(plan, mode, length, code_at):
    machine = prepare(plan, mode)
    machine.emu_start(plan.entry.rip, code_at + length)
    return machine


@pytest.mark.parametrize("bits, mode", [(32, UC_MODE_32), (64, UC_MODE_64)])
def test_selectors_of_the_gdt_can_be_loaded_again_and_memory_is_flat(bits, mode):
    # mov ax, 18h; mov ds, ax; mov ss, ax; push 10h; push 100020h; far return; there: mov dword [300000h], 12345678h; hlt
    code = bytes.fromhex("66b81800 8ed8 8ed0 6a10 68 20001000" + ("cb" if bits == 32 else "48cb")).ljust(0x20, b"\x90")
    code += bytes.fromhex(("c705" if bits == 32 else "c70425") + "00003000 78563412 f4")
    plan = load("k", images.elf(bits, segments=((0x100000, 0x100000, code, len(code) + 4096),)), images.platform())
    machine = prepare(plan, mode)
    machine.reg_write(UC_X86_REG_RSP if bits == 64 else UC_X86_REG_ESP, plan.entry.rsp)
    machine.emu_start(plan.entry.rip, 0x100000 + len(code) - 1)
    assert machine.mem_read(0x300000, 4) == bytes.fromhex("78563412")
    assert machine.reg_read(UC_X86_REG_CS) == 0x10 and machine.reg_read(UC_X86_REG_SS) == 0x18


def test_linux_in_long_mode_finds_its_parameters_through_the_page_tables():
    # at the 64-bit entry: mov eax, [rsi + 202h]; mov [2000000h], eax; hlt
    kernel = bytes(0x200) + bytes.fromhex("8b86 02020000 890425 00000002 f4")
    plan = load("k", images.bzimage(kernel=kernel), images.platform())
    machine = run(plan, UC_MODE_64, len(kernel) - 1, 0x1000000)
    assert machine.mem_read(0x2000000, 4) == b"HdrS"


def walk(plan, linear):
    """The 4-level walk of SDM 3A 4.5, over the plan's own tables."""
    table = plan.entry.cr3
    for shift in (39, 30, 21, 12):
        value = int.from_bytes(images.read(plan, table + 8 * (linear >> shift & 511), 8), "little")
        assert value & 3 == 3, hex(linear)
        if shift == 21:
            assert value & 0x80 and value & 0x1FF000 == 0
            return (value & 0xFFFFFFE00000) | linear & 0x1FFFFF
        assert value & 0x80 == 0
        table = value & 0xFFFFFFFFF000


@pytest.mark.parametrize("name", ["linux64", "elf64"])
def test_the_first_four_gib_are_mapped_to_themselves(name):
    plan = load(name, images.every_image()[name], images.platform())
    for linear in (0, 0x1FFFFF, 0x200000, 0x3FFFFFFF, 0x40000000, 0xBFFFFFFF, 0xFEE00000, 0xFFFFFFFF, plan.entry.rip):
        assert walk(plan, linear) == linear


def test_boot_sector_begins_as_after_a_bios():
    plan = load("disk", images.bootsector(b"\xF4") + bytes(1 << 20), images.platform())
    entry = plan.entry
    assert (entry.mode, entry.rip, entry.registers, entry.cr0 & 0x80000001) == ("real", 0x7C00, {"rdx": 0x80}, 0)
    assert entry.segments["cs"].selector == entry.segments["cs"].base == 0
    assert images.read(plan, 0x7C00, 512) == images.bootsector(b"\xF4")
    assert all(base + len(data) <= 0x7E00 for base, data in plan.writes)


def test_bios_service_answers_not_supported_and_returns():
    # clc; mov ah, 0Eh; int 10h; jnc $; out 80h, al; hlt
    plan = load("disk", images.bootsector(bytes.fromhex("f8 b40e cd10 73fe e680 f4")), images.platform())
    machine = prepare(plan, UC_MODE_16)
    seen = []
    machine.hook_add(UC_HOOK_INSN, lambda uc, port, size, value, data: seen.append(port), None, 1, 0, UC_X86_INS_OUT)
    deliver_by_vector_table(machine)
    machine.emu_start(0x7C00, 0x7C00 + 9, count=100)
    assert seen == [0x80] and machine.reg_read(UC_X86_REG_AX) >> 8 == 0x86
    assert machine.reg_read(UC_X86_REG_SP) == 0x7C00


def test_hardware_interrupt_returns_at_once_with_all_as_it_was():
    # stc; mov ah, 12h; int 8; jc +2; jmp $; out 80h, al; hlt
    plan = load("disk", images.bootsector(bytes.fromhex("f9 b412 cd08 7202 ebfe e680 f4")), images.platform())
    machine = prepare(plan, UC_MODE_16)
    seen = []
    machine.hook_add(UC_HOOK_INSN, lambda uc, port, size, value, data: seen.append(port), None, 1, 0, UC_X86_INS_OUT)
    deliver_by_vector_table(machine)
    machine.emu_start(0x7C00, 0x7C00 + 11, count=100)
    assert seen == [0x80] and machine.reg_read(UC_X86_REG_AX) >> 8 == 0x12
    assert machine.reg_read(UC_X86_REG_EFLAGS) & 1


def deliver_by_vector_table(machine):
    """Unicorn hands interrupts to a hook: this one does what SDM 2A, INT n, says of real-address mode."""
    from unicorn import UC_HOOK_INTR
    from unicorn.x86_const import UC_X86_REG_IP

    def interrupt(uc, vector, data):
        offset, segment = (int.from_bytes(uc.mem_read(4 * vector + k, 2), "little") for k in (0, 2))
        stack = uc.reg_read(UC_X86_REG_SP)
        frame = (uc.reg_read(UC_X86_REG_IP), 0, uc.reg_read(UC_X86_REG_EFLAGS) & 0xFFFF)
        uc.mem_write(stack - 6, b"".join(word.to_bytes(2, "little") for word in frame))
        uc.reg_write(UC_X86_REG_SP, stack - 6)
        assert segment == 0
        uc.reg_write(UC_X86_REG_IP, offset)

    machine.hook_add(UC_HOOK_INTR, interrupt)
