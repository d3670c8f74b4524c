# Hardware task switch: by JMP, CALL, INT through a task gate, IRET. Expectations: SDM 3A chapter 7.
import struct

import pytest

from tests.cpu.system_bench import (CODE, GDT, HLT, IDT, KCODE, KDATA, TASK, TASK2, TSS, TSS2, UCODE, UDATA, USER_CODE,
                                    USER_STACK, SystemBench, descriptor, gate)

NEW_CODE, NEW_STACK = 0x14000, 0x34000
BUSY = 2
NT, TF = 1 << 14, 1 << 8


def tss32(eip: int = NEW_CODE, eflags: int = 2, esp: int = NEW_STACK, cs: int = KCODE, ss: int = KDATA, ds: int = KDATA, ldt: int = 0,
          trap: int = 0, eax: int = 0xAAAA) -> bytes:
    registers = struct.pack("<8I", eax, 2, 3, 4, esp, 6, 7, 8)
    return (bytes(0x1C) + struct.pack("<3I", 0, eip, eflags) + registers + struct.pack("<6I", ds, cs, ss, ds, ds, ds)
            + struct.pack("<IHH", ldt, trap, 0x68))


@pytest.fixture
def bench() -> SystemBench:
    bench = SystemBench(32)
    bench.write(TSS2, tss32())
    bench.write(NEW_CODE, HLT)
    return bench


def far(opcode: int, selector: int) -> bytes:
    return bytes([opcode]) + struct.pack("<IH", 0, selector)


def access(bench: SystemBench, selector: int) -> int:
    return bench.read(GDT + selector + 5, 1)


def in_new_task(bench: SystemBench) -> bool:
    return bench.cpu.registers["rip"] == NEW_CODE + 1


def test_jump_saves_and_loads_everything(bench):
    bench.go(far(0xEA, TASK2), rflags=0x203, rax=0x1234, rdi=0x77)
    assert in_new_task(bench)
    registers = bench.cpu.registers
    assert (registers["rax"], registers["rcx"], registers["rsp"], registers["rdi"]) == (0xAAAA, 2, NEW_STACK, 8)
    assert registers["cs"] == KCODE and registers["rflags"] == 2
    assert registers["cr0"] & 8                                  # TS
    assert bench.read(TSS + 0x20) == CODE + 7
    assert bench.read(TSS + 0x24) == 0x203
    assert bench.read(TSS + 0x28) == 0x1234
    assert bench.read(TSS + 0x44) == 0x77
    assert bench.read(TSS + 0x4C, 2) == KCODE
    assert not access(bench, TASK) & BUSY
    assert access(bench, TASK2) & BUSY


def test_call_nests_and_iret_returns(bench):
    bench.write(NEW_CODE, b"\xcf")
    bench.write(CODE + 7, b"\x90")
    bench.go(far(0x9A, TASK2), rax=0x99)
    assert bench.cpu.registers["rip"] == CODE + 8
    assert bench.cpu.registers["rax"] == 0x99
    assert bench.read(TSS2, 2) == TASK
    assert bench.cpu.registers["rflags"] & NT == 0
    assert bench.read(TSS2 + 0x24) & NT == 0                     # IRET clears NT in the task it leaves
    assert access(bench, TASK) & BUSY
    assert not access(bench, TASK2) & BUSY


def test_call_sets_nested_flag_and_both_are_busy(bench):
    bench.go(far(0x9A, TASK2))
    assert in_new_task(bench)
    assert bench.cpu.registers["rflags"] == 2 | NT
    assert access(bench, TASK) & BUSY and access(bench, TASK2) & BUSY


def test_task_gate_pushes_the_error_code_in_the_new_task(bench):
    bench.write(IDT + 8 * 13, gate(TASK2, 0, 0x85))
    bench.go(b"\x8e\xd8", rax=0x68)                              # mov ds, ax: an empty descriptor
    assert in_new_task(bench)
    assert bench.stack(1) == [0x68]
    assert bench.read(TSS + 0x20) == CODE                        # the instruction that faulted
    assert bench.read(TSS + 0x24) & 1 << 16                      # RF


def test_jump_to_a_busy_task_gives_general_protection(bench):
    bench.write(GDT + TASK2, descriptor(TSS2, 0xFFF, 0x8B))
    bench.go(far(0xEA, TASK2))
    assert bench.vector == 13
    assert bench.stack(2) == [TASK2, CODE]


def test_short_task_state_segment_gives_invalid_tss(bench):
    bench.write(GDT + TASK2, descriptor(TSS2, 0x66, 0x89))
    bench.go(far(0xEA, TASK2))
    assert bench.vector == 10
    assert bench.stack(2) == [TASK2, CODE]
    assert access(bench, TASK) & BUSY                            # nothing has changed


def test_iret_to_a_task_that_is_not_busy_gives_invalid_tss(bench):
    bench.write(TSS, TASK2.to_bytes(2, "little"))
    bench.go(b"\xcf", rflags=2 | NT)
    assert bench.vector == 10
    assert bench.stack(2) == [TASK2, CODE]


def test_bad_code_segment_faults_in_the_new_task(bench):
    bench.write(TSS2, tss32(cs=KDATA))
    bench.write(IDT + 8 * 10, gate(0x48, 0, 0x85))               # a third task looks at it
    bench.write(GDT + 0x48, descriptor(0x54000, 0xFFF, 0x89))
    bench.write(0x54000, tss32(eip=NEW_CODE, esp=0x33000))
    bench.go(far(0xEA, TASK2))
    assert in_new_task(bench)
    assert bench.stack(1) == [KDATA]
    assert bench.read(0x54000, 2) == TASK2                       # it was the new task that was interrupted
    assert bench.read(TSS2 + 0x20) == NEW_CODE


def test_absent_data_segment_gives_not_present_in_the_new_task(bench):
    bench.write(GDT + 0x48, descriptor(0, 0xFFFFF, 0x13, 0xC))
    bench.write(TSS2, tss32(ds=0x48))
    bench.go(far(0xEA, TASK2))
    assert bench.vector == 11
    assert bench.stack(2) == [0x48, NEW_CODE]


def test_trap_bit_gives_a_debug_exception_before_the_first_instruction(bench):
    bench.write(TSS2, tss32(trap=1))
    bench.go(far(0xEA, TASK2))
    assert bench.vector == 1
    assert bench.stack(1) == [NEW_CODE]


def test_task_of_user_privilege(bench):
    bench.write(TSS2, tss32(eip=USER_CODE, cs=UCODE, ss=UDATA, ds=UDATA, esp=USER_STACK))
    bench.write(TSS2 + 4, struct.pack("<IH", 0x35000, KDATA))
    bench.write(USER_CODE, b"\xcd\x20")
    bench.go(far(0xEA, TASK2))
    assert bench.vector == 32
    assert bench.stack(5) == [USER_CODE + 2, UCODE, 2, USER_STACK, UDATA]


def test_jump_to_a_16_bit_task(bench):
    bench.write(GDT + 0x48, descriptor(0x54000, 0x2B, 0x81))
    bench.write(NEW_CODE, b"\x90")
    bench.write(0x9000, HLT)
    state = struct.pack("<10H", 0x9000, 2, 0x11, 0x12, 0x13, 0x14, 0x7000, 0x16, 0x17, 0x18) + struct.pack("<5H", KDATA, KCODE, KDATA,
                                                                                                           KDATA, 0)
    bench.write(0x54000 + 0x0E, state)
    bench.go(far(0xEA, 0x48))
    assert bench.cpu.registers["rip"] == 0x9001
    names = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi")
    assert [bench.cpu.registers[name] for name in names] == [0xFFFF0000 | value for value in (0x11, 0x12, 0x13, 0x14, 0x7000,
                                                                                              0x16, 0x17, 0x18)]


def test_task_in_virtual_8086_mode(bench):
    bench.write(TSS2, tss32(eip=0x20, eflags=0x23002, cs=0x1800, ss=0x3800, ds=0x1900, esp=0x100))
    bench.write(TSS2 + 4, struct.pack("<IH", 0x35000, KDATA))
    bench.write(0x18020, b"\xcd\x20")
    bench.go(far(0xEA, TASK2))
    assert bench.vector == 32
    assert bench.stack(7) == [0x22, 0x1800, 0x23002, 0x100, 0x3800, 0x1900, 0x1900]
