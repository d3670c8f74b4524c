# Delivery of exceptions and interrupts, and IRET. Expected frames and error codes: SDM 3A chapter 6, SDM 2A INT n, IRET.
import pytest

from tests.cpu.system_bench import (CODE, GDT, HANDLERS, HLT, IDT, INNER_STACK, KCODE, KDATA, STACK, TSS, UCODE, UDATA, USER_CODE,
                                    USER_STACK, SystemBench, descriptor, gate, long_gate)

INT_32 = b"\xcd\x20"
UD2 = b"\x0f\x0b"
RF, IF, TF = 1 << 16, 1 << 9, 1 << 8


def error_code(bench: SystemBench) -> int:
    return bench.stack(1, 8 if bench.bits == 64 else 4)[0]


def test_software_interrupt_same_privilege_pushes_three():
    bench = SystemBench(32)
    bench.go(INT_32, rflags=0x202)
    assert bench.vector == 32
    assert bench.stack(3) == [CODE + 2, KCODE, 0x202]
    assert bench.cpu.registers["rsp"] == STACK - 12
    assert bench.cpu.registers["rflags"] & IF == 0


def test_trap_gate_keeps_interrupts_on():
    bench = SystemBench(32)
    bench.write(IDT + 8 * 32, gate(KCODE, HANDLERS + 16 * 32, 0xEF))
    assert bench.go(INT_32, rflags=0x202) == "idle"
    assert bench.cpu.registers["rflags"] & IF


def test_sixteen_bit_gate_pushes_words():
    bench = SystemBench(32)
    bench.write(0x8000, HLT)
    bench.write(IDT + 8 * 32, gate(KCODE, 0x8000, 0xE6))
    bench.go(INT_32)
    assert bench.cpu.registers["rip"] == 0x8001
    assert bench.stack(3, 2) == [(CODE + 2) & 0xFFFF, KCODE, 2]


def test_interrupt_from_user_switches_stack():
    bench = SystemBench(32)
    bench.user()
    bench.go(INT_32, rsp=USER_STACK, rip=USER_CODE, rflags=0x202)
    assert bench.vector == 32
    assert bench.stack(5) == [USER_CODE + 2, UCODE, 0x202, USER_STACK, UDATA]
    assert bench.cpu.registers["rsp"] == INNER_STACK - 20
    assert bench.cpu.registers["ss"] == KDATA
    assert bench.cpu.registers["cpl"] == 0


@pytest.mark.parametrize("bits", [32, 64])
def test_fault_pushes_rf_and_rip_of_the_instruction(bits):
    bench = SystemBench(bits)
    size = bits // 8
    bench.go(b"\x90" + UD2)
    assert bench.vector == 6
    rip, cs, flags = bench.stack(3, size)
    assert (rip, cs, flags) == (CODE + 1, KCODE, 2 | RF)


def test_software_interrupt_through_privileged_gate_gives_general_protection():
    bench = SystemBench(32)
    bench.user()
    bench.go(b"\xcd\x06", rsp=USER_STACK, rip=USER_CODE)
    assert bench.vector == 13
    assert error_code(bench) == 6 * 8 + 2
    assert bench.stack(2)[1] == USER_CODE


def test_absent_gate_gives_not_present():
    bench = SystemBench(32)
    bench.write(IDT + 8 * 32, gate(KCODE, HANDLERS, 0x6E))
    bench.go(INT_32)
    assert bench.vector == 11
    assert error_code(bench) == 32 * 8 + 2


def test_exception_through_absent_gate_sets_ext():
    bench = SystemBench(32)
    bench.write(IDT + 8 * 6, gate(KCODE, HANDLERS, 0x0E))
    bench.go(UD2)
    assert bench.vector == 11
    assert error_code(bench) == 6 * 8 + 2 + 1


def test_interrupt_beyond_table_gives_general_protection():
    bench = SystemBench(32)
    bench.cpu.set_system(idt_limit=33 * 8 - 2)
    bench.go(INT_32)
    assert bench.vector == 13
    assert error_code(bench) == 32 * 8 + 2


def test_contributory_twice_gives_double_fault():
    bench = SystemBench(32)
    bench.write(IDT + 8 * 13, gate(KCODE, HANDLERS, 0x0E))
    bench.go(b"\xcd\x21", rip=CODE)                       # a good one, to be sure of the set-up
    assert bench.vector == 33
    bench.write(IDT + 8 * 33, gate(0x40, HANDLERS, 0xEE))  # names an empty descriptor: #GP, whose gate is absent: #NP
    bench.go(b"\xcd\x21")
    assert bench.vector == 8
    assert error_code(bench) == 0


def test_fault_during_double_fault_shuts_down():
    bench = SystemBench(32)
    for vector in (8, 11, 13):
        bench.write(IDT + 8 * vector, gate(KCODE, HANDLERS, 0x0E))
    bench.write(IDT + 8 * 33, gate(0x40, HANDLERS, 0xEE))
    assert bench.go(b"\xcd\x21") == "shutdown"


@pytest.mark.parametrize("bits", [32, 64])
def test_iret_returns_to_user(bits):
    bench = SystemBench(bits)
    size = bits // 8
    frame = [USER_CODE, UCODE, 0x202, USER_STACK, UDATA]
    bench.write(STACK, b"".join(value.to_bytes(size, "little") for value in frame))
    bench.write(USER_CODE, INT_32)
    bench.go(b"\xcf" if bits == 32 else b"\x48\xcf")
    assert bench.vector == 32
    assert bench.stack(5, size) == [USER_CODE + 2, UCODE, 0x202, USER_STACK, UDATA]


def test_iret_to_user_empties_kernel_data_segments():
    bench = SystemBench(32)
    frame = [USER_CODE, UCODE, 2, USER_STACK, UDATA]
    bench.write(STACK, b"".join(value.to_bytes(4, "little") for value in frame))
    bench.write(USER_CODE, b"\x8c\xd8\xcd\x20")            # mov eax, ds; int 32
    bench.go(b"\xcf", rax=0x55)
    assert bench.vector == 32
    assert bench.cpu.registers["rax"] == 0


def test_iret_with_wrong_code_selector_changes_nothing():
    bench = SystemBench(32)
    bench.write(STACK, b"".join(value.to_bytes(4, "little") for value in (CODE, KDATA, 2)))
    bench.go(b"\xcf")
    assert bench.vector == 13
    assert error_code(bench) == KDATA
    assert bench.stack(2)[1] == CODE
    assert bench.cpu.registers["rsp"] == STACK - 16


def test_user_cannot_change_iopl_and_if_by_iret():
    bench = SystemBench(32)
    bench.user()
    bench.write(USER_STACK, b"".join(value.to_bytes(4, "little") for value in (USER_CODE + 0x100, UCODE, 0x3202)))
    bench.write(USER_CODE + 0x100, INT_32)
    bench.go(b"\xcf", rsp=USER_STACK, rip=USER_CODE, rflags=2)
    assert bench.vector == 32
    assert bench.stack(3)[2] == 2


def test_long_mode_frame_is_aligned_and_has_the_old_stack():
    bench = SystemBench(64)
    bench.go(INT_32, rsp=STACK - 3)
    assert bench.vector == 32
    assert bench.cpu.registers["rsp"] == ((STACK - 3) & ~15) - 40
    assert bench.stack(5, 8) == [CODE + 2, KCODE, 2, STACK - 3, KDATA]


def test_long_mode_interrupt_stack_table():
    bench = SystemBench(64)
    bench.write(TSS + 36 + 8, (0x3A000).to_bytes(8, "little"))
    bench.write(IDT + 16 * 32, long_gate(KCODE, HANDLERS + 16 * 32, 0x8E, 2))
    bench.go(INT_32)
    assert bench.vector == 32
    assert bench.cpu.registers["rsp"] == 0x3A000 - 40


def test_long_mode_user_to_kernel_loads_a_null_stack_segment():
    bench = SystemBench(64)
    bench.user()
    bench.go(INT_32, rsp=USER_STACK, rip=USER_CODE)
    assert bench.vector == 32
    assert bench.cpu.registers["ss"] == 0
    assert bench.stack(5, 8) == [USER_CODE + 2, UCODE, 2, USER_STACK, UDATA]


def test_long_mode_gate_to_compatibility_code_gives_general_protection():
    bench = SystemBench(64)
    bench.write(GDT + 0x48, descriptor(0, 0xFFFFF, 0x9B, 0xC))
    bench.write(IDT + 16 * 32, long_gate(0x48, HANDLERS, 0x8E))
    bench.go(INT_32)
    assert bench.vector == 13
    assert error_code(bench) == 0x48


def test_real_mode_interrupt_and_return():
    bench = SystemBench(32)
    bench.bits = 16
    super(SystemBench, bench).enter()
    bench.cpu.set_system(idt_base=0, idt_limit=0x3FF)
    bench.write(4 * 0x21, (0x0500).to_bytes(2, "little") + (0x0100).to_bytes(2, "little"))      # 0100:0500
    bench.write(0x1500, b"\x40\xcf")                                                              # inc ax; iret
    bench.go(b"\xcd\x21\x40", rip=0x2000, rsp=0x3000, rax=5, rflags=0x202, steps=4)
    assert bench.cpu.registers["rax"] == 7
    assert bench.cpu.registers["rsp"] == 0x3000
    assert bench.cpu.registers["cs"] == 0
    assert [bench.read(0x3000 - 6 + 2 * k, 2) for k in range(3)] == [0x2002, 0, 0x202]


def test_single_step_traps_after_the_instruction_and_not_after_int():
    bench = SystemBench(32)
    bench.go(b"\x90\x90", rflags=2 | TF)
    assert bench.vector == 1
    assert bench.stack(3) == [CODE + 1, KCODE, 2 | TF]
    bench = SystemBench(32)
    bench.go(INT_32, rflags=2 | TF)
    assert bench.vector == 32
    assert bench.stack(3)[2] == 2 | TF


def test_stack_segment_load_holds_the_debug_trap_back():
    bench = SystemBench(32)
    bench.go(b"\x8e\xd0\x40\x90", rflags=2 | TF, rax=KDATA)        # mov ss, ax; inc eax; nop
    assert bench.vector == 1
    assert bench.stack(1) == [CODE + 3]


def test_stack_fault_of_a_push_beyond_the_limit():
    bench = SystemBench(32)
    bench.write(GDT + 0x48, descriptor(0, 0x2FFFF, 0x93, 0x4))
    bench.write(TSS + 8, KDATA.to_bytes(2, "little"))
    bench.write(IDT + 8 * 12, gate(KCODE, HANDLERS + 16 * 12, 0x8E))
    bench.cpu.set_segment(2, 0x48, 0, 0x2FFFF, 0x493)
    assert bench.go(b"\x50", rsp=0x40000) == "shutdown"       # its own handler finds no stack: #SS, #DF, shutdown


def test_user_page_fault_code_and_cr2():
    bench = SystemBench(64)
    bench.go(b"\x8b\x04\x25\x00\x00\x20\x00")                  # mov eax, [0x200000]: not mapped
    assert bench.vector == 14
    assert error_code(bench) == 0
    assert bench.cpu.registers["cr2"] == 0x200000
    assert bench.stack(2, 8)[1] == CODE


def test_v86_task_is_left_by_an_interrupt_and_entered_by_iret():
    bench = SystemBench(32)
    frame = [0x100, 0x1800, 0x20002 | 0x3000, 0x200, 0x3800, 0x11, 0x22, 0x33, 0x44]      # EIP CS EFLAGS ESP SS ES DS FS GS
    bench.write(STACK, b"".join(value.to_bytes(4, "little") for value in frame))
    bench.write(0x18100, b"\x8c\xd8\xcd\x20")                  # mov ax, ds; int 32
    bench.go(b"\xcf", rax=0)
    assert bench.vector == 32
    assert bench.cpu.registers["rax"] == 0x22
    assert bench.stack(9) == [0x104, 0x1800, 0x23002, 0x200, 0x3800, 0x11, 0x22, 0x33, 0x44]
    assert bench.cpu.registers["ds"] == 0
    assert bench.cpu.registers["rflags"] & 1 << 17 == 0


def test_v86_int_with_low_iopl_gives_general_protection():
    bench = SystemBench(32)
    frame = [0x100, 0x1800, 0x20002, 0x200, 0x3800, 0, 0, 0, 0]
    bench.write(STACK, b"".join(value.to_bytes(4, "little") for value in frame))
    bench.write(0x18100, b"\xcd\x20")
    bench.go(b"\xcf")
    assert bench.vector == 13
    assert error_code(bench) == 0


def test_v86_int_is_redirected_with_vme():
    bench = SystemBench(32)
    bench.cpu.set_system(cr4=0x601)
    bench.write(TSS + 102, (0x88).to_bytes(2, "little"))       # redirection bitmap at 0x68: all zeros
    frame = [0x100, 0x1800, 0x20002 | 1 << 19, 0x200, 0x3800, 0, 0, 0, 0]
    bench.write(STACK, b"".join(value.to_bytes(4, "little") for value in frame))
    bench.write(4 * 0x21, (0x0040).to_bytes(2, "little") + (0x1900).to_bytes(2, "little"))
    bench.write(0x18100, b"\xcd\x21")
    bench.write(0x19040, b"\xf4")                              # HLT at CPL 3: #GP, which shows where we came
    bench.go(b"\xcf")
    assert bench.vector == 13
    assert bench.stack(4)[1:3] == [0x40, 0x1900]
    assert bench.stack(4)[3] & (1 << 19 | 1 << 17) == 1 << 17  # VIF is off in the handler
    assert [bench.read(0x38000 + 0x200 - 6 + 2 * k, 2) for k in range(3)] == [0x102, 0x1800, 0x3202]


def test_v86_sti_sets_the_virtual_flag_with_vme():
    bench = SystemBench(32)
    bench.cpu.set_system(cr4=0x601)
    frame = [0x100, 0x1800, 0x20002, 0x200, 0x3800, 0, 0, 0, 0]
    bench.write(STACK, b"".join(value.to_bytes(4, "little") for value in frame))
    bench.write(0x18100, b"\xfb\x9c\xf4")                      # sti; pushf; hlt
    bench.go(b"\xcf")
    assert bench.vector == 13
    assert bench.stack(4)[3] & (1 << 19 | IF) == 1 << 19
    assert bench.read(0x38000 + 0x1FE, 2) == 0x3202
