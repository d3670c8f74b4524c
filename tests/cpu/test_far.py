# Far jumps, calls and returns, call gates; loading segment registers; LAR LSL VERR VERW ARPL. SDM 2A, 3A chapter 5.
import struct

import pytest

from tests.cpu.system_bench import (CODE, FREE, GDT, HLT, INNER_STACK, KCODE, KDATA, STACK, UCODE, UDATA, USER_CODE, USER_STACK,
                                    SystemBench, descriptor, gate)

TARGET = 0x14000
ZF = 1 << 6


def far(opcode: int, offset: int, selector: int) -> bytes:
    return bytes([opcode]) + struct.pack("<IH", offset, selector)


@pytest.fixture
def bench() -> SystemBench:
    bench = SystemBench(32)
    bench.write(TARGET, HLT)
    return bench


def fault(bench: SystemBench) -> tuple:
    return bench.vector, bench.stack(1, bench.bits // 8)[0]


def test_far_call_and_return(bench):
    bench.write(TARGET, b"\xcb")
    bench.write(CODE + 7, b"\x40")
    assert bench.go(far(0x9A, TARGET, KCODE) + b"\x40", rax=1) == "dead"
    assert bench.cpu.registers["rax"] == 2
    assert bench.cpu.registers["rsp"] == STACK
    assert [bench.read(STACK - 8), bench.read(STACK - 4, 2)] == [CODE + 7, KCODE]


@pytest.mark.parametrize("selector,vector,code", [(0, 13, 0), (KDATA, 13, KDATA), (UCODE, 13, UCODE & ~3), (0x100, 13, 0x100),
                                                  (FREE, 13, FREE)])
def test_far_jump_to_what_is_no_code(bench, selector, vector, code):
    bench.go(far(0xEA, TARGET, selector))
    assert fault(bench) == (vector, code)


def test_far_jump_to_absent_code(bench):
    bench.write(GDT + FREE, descriptor(0, 0xFFFFF, 0x1B, 0xC))
    bench.go(far(0xEA, TARGET, FREE))
    assert fault(bench) == (11, FREE)


def test_far_jump_beyond_the_limit(bench):
    bench.write(GDT + FREE, descriptor(0, 0xFFF, 0x9B, 0x4))
    bench.go(far(0xEA, 0x1000, FREE))
    assert fault(bench) == (13, 0)


def test_user_may_jump_to_conforming_code_and_keeps_its_privilege(bench):
    bench.user()
    bench.write(GDT + FREE, descriptor(0, 0xFFFFF, 0x9E, 0xC))
    bench.write(TARGET, b"\xcd\x20")
    bench.go(far(0xEA, TARGET, FREE), rsp=USER_STACK, rip=USER_CODE)
    assert bench.vector == 32
    assert bench.stack(2)[1] == FREE | 3
    assert bench.read(GDT + FREE + 5, 1) == 0x9F                 # accessed


def test_call_gate_to_inner_privilege_copies_parameters(bench):
    bench.user()
    bench.write(GDT + FREE, gate(KCODE, TARGET, 0xEC, 2))
    bench.go(b"\x68\x22\x00\x00\x00\x68\x11\x00\x00\x00" + far(0x9A, 0, FREE | 3), rsp=USER_STACK, rip=USER_CODE)
    assert bench.cpu.registers["rip"] == TARGET + 1
    assert bench.cpu.registers["cpl"] == 0
    assert bench.stack(6) == [USER_CODE + 17, UCODE, 0x11, 0x22, USER_STACK - 8, UDATA]
    assert bench.cpu.registers["rsp"] == INNER_STACK - 24


def test_return_to_outer_privilege_drops_parameters_of_both_stacks(bench):
    bench.user()
    bench.write(GDT + FREE, gate(KCODE, TARGET, 0xEC, 1))
    bench.write(TARGET, b"\xca\x04\x00")
    bench.go(b"\x68\x11\x00\x00\x00" + far(0x9A, 0, FREE | 3) + b"\xcd\x20", rsp=USER_STACK, rip=USER_CODE)
    assert bench.vector == 32
    assert bench.stack(5) == [USER_CODE + 14, UCODE, 2, USER_STACK, UDATA]


def test_call_gate_of_kernel_is_closed_to_user(bench):
    bench.user()
    bench.write(GDT + FREE, gate(KCODE, TARGET, 0x8C))
    bench.go(far(0x9A, 0, FREE | 3), rsp=USER_STACK, rip=USER_CODE)
    assert fault(bench) == (13, FREE)


def test_jump_through_call_gate_cannot_gain_privilege(bench):
    bench.user()
    bench.write(GDT + FREE, gate(KCODE, TARGET, 0xEC))
    bench.go(far(0xEA, 0, FREE | 3), rsp=USER_STACK, rip=USER_CODE)
    assert fault(bench) == (13, KCODE)


def test_call_gate_with_a_bad_inner_stack(bench):
    bench.user()
    bench.write(GDT + FREE, gate(KCODE, TARGET, 0xEC))
    bench.cpu.set_system(idt_limit=0xFFF)
    bench.write(0x52008, UDATA.to_bytes(2, "little"))            # SS0 of the TSS: privilege 3
    assert bench.go(far(0x9A, 0, FREE | 3), rsp=USER_STACK, rip=USER_CODE) == "shutdown"
    assert bench.cpu.last_fault[0] == 10


@pytest.mark.parametrize("selector,expected", [(0, None), (KDATA, None), (UDATA, None), (KCODE, None), (0x100, (13, 0x100)),
                                               (FREE, (13, FREE))])
def test_load_of_a_data_segment(bench, selector, expected):
    bench.go(b"\x8e\xd8", rax=selector)
    assert (None if bench.vector is None else fault(bench)) == expected


def test_user_cannot_load_kernel_data(bench):
    bench.user()
    bench.go(b"\x8e\xc0", rsp=USER_STACK, rip=USER_CODE, rax=KDATA)
    assert fault(bench) == (13, KDATA)


@pytest.mark.parametrize("selector,expected", [(0, (13, 0)), (KCODE, (13, KCODE)), (UDATA, (13, UDATA & ~3))])
def test_load_of_a_wrong_stack_segment(bench, selector, expected):
    bench.go(b"\x8e\xd0", rax=selector)
    assert fault(bench) == expected


def test_load_of_an_absent_stack_segment(bench):
    bench.write(GDT + FREE, descriptor(0, 0xFFFFF, 0x13, 0xC))
    bench.go(b"\x8e\xd0", rax=FREE)
    assert fault(bench) == (12, FREE)


def test_use_of_a_null_segment_faults(bench):
    bench.go(b"\x8e\xd8\xa1\x00\x00\x02\x00", rax=0)              # mov ds, ax; mov eax, [0x20000]
    assert fault(bench) == (13, 0)
    assert bench.stack(2)[1] == CODE + 2


def test_expand_down_limits(bench):
    bench.write(GDT + FREE, descriptor(0, 0x20FFF, 0x97, 0x4))
    bench.write(0x21000, b"\x78\x56\x34\x12")
    assert bench.go(b"\x8e\xd8\xa1\x00\x10\x02\x00", rax=FREE) == "dead"
    assert bench.cpu.registers["rax"] == 0x12345678
    bench = SystemBench(32)
    bench.write(GDT + FREE, descriptor(0, 0x20FFF, 0x97, 0x4))
    bench.go(b"\x8e\xd8\xa1\xff\x0f\x02\x00", rax=FREE)
    assert bench.vector == 13


@pytest.mark.parametrize("access,kind,valid", [(0x9B, "code", True), (0x92, "data", True), (0x89, "tss", True), (0x82, "ldt", True),
                                               (0x8C, "gate", True), (0x85, "task gate", True), (0x8E, "interrupt gate", False),
                                               (0x8F, "trap gate", False), (0x80, "reserved", False)])
def test_lar_by_type(bench, access, kind, valid):
    bench.write(GDT + FREE, descriptor(0x12345678, 0xABCDE, access, 0xC))
    bench.go(b"\x0f\x02\xd8", rax=FREE, rbx=0x1111)
    assert bool(bench.cpu.registers["rflags"] & ZF) == valid
    assert bench.cpu.registers["rbx"] == (access << 8 | 0xCA << 16 if valid else 0x1111)    # AMD's give bits 19:16 too


@pytest.mark.parametrize("access,flags,limit", [(0x92, 0x4, 0xABCDE), (0x92, 0xC, 0xABCDEFFF), (0x89, 0, 0xABCDE), (0x8C, 0, None),
                                                (0x85, 0, None)])
def test_lsl_by_type(bench, access, flags, limit):
    bench.write(GDT + FREE, descriptor(0, 0xABCDE, access, flags))
    bench.go(b"\x0f\x03\xd8", rax=FREE, rbx=0x1111)
    assert bool(bench.cpu.registers["rflags"] & ZF) == (limit is not None)
    assert bench.cpu.registers["rbx"] == (0x1111 if limit is None else limit)


@pytest.mark.parametrize("access,readable,writable", [(0x92, True, True), (0x90, True, False), (0x9A, True, False),
                                                      (0x98, False, False), (0x89, False, False)])
def test_verr_and_verw(bench, access, readable, writable):
    bench.write(GDT + FREE, descriptor(0, 0xFFFFF, access, 0xC))
    bench.go(b"\x0f\x00\xe0", rax=FREE)
    assert bool(bench.cpu.registers["rflags"] & ZF) == readable
    bench.go(b"\x0f\x00\xe8", rax=FREE)
    assert bool(bench.cpu.registers["rflags"] & ZF) == writable


def test_verify_of_kernel_segment_by_user_fails(bench):
    bench.user()
    bench.write(USER_CODE + 3, b"\xcd\x20")
    bench.go(b"\x0f\x00\xe0\xcd\x20", rsp=USER_STACK, rip=USER_CODE, rax=KDATA, rflags=2 | ZF)
    assert bench.vector == 32
    assert bench.stack(3)[2] & ZF == 0


@pytest.mark.parametrize("left,right,result,zf", [(0x10, 0x23, 0x13, True), (0x13, 0x20, 0x13, False), (0x11, 0x21, 0x11, False)])
def test_arpl(bench, left, right, result, zf):
    bench.go(b"\x63\xd8", rax=left, rbx=right)
    assert bench.cpu.registers["rax"] == result
    assert bool(bench.cpu.registers["rflags"] & ZF) == zf


@pytest.mark.parametrize("left,right,result,zf", [(0x10, 0x23, 0x13, True), (0x13, 0x20, 0x13, False), (0x11, 0x21, 0x11, False)])
def test_arpl_of_memory(bench, left, right, result, zf):
    bench.write(0x20000, left.to_bytes(4, "little"))
    bench.go(b"\x66\x63\x1d\x00\x00\x02\x00", rbx=right, rax=3)                # arpl [0x20000], bx
    assert bench.read(0x20000) == result
    assert bool(bench.cpu.registers["rflags"] & ZF) == zf


def test_arpl_writes_only_what_changes(bench):
    # Measured on an AMD of family 19H in a read-only data segment: no fault where the operand stays, else #GP(0).
    bench.cpu.set_segment(3, KDATA, 0, 0xFFFFFFFF, 0xC91)
    bench.write(0x20000, b"\x13\0")
    bench.go(b"\x63\x1d\x00\x00\x02\x00", rbx=0x22)
    assert bench.vector is None and not bench.cpu.registers["rflags"] & ZF
    bench.cpu.set_segment(3, KDATA, 0, 0xFFFFFFFF, 0xC91)
    bench.write(0x20000, b"\x10\0")
    bench.go(b"\x63\x1d\x00\x00\x02\x00", rbx=0x22)
    assert fault(bench) == (13, 0) and bench.read(0x20000, 2) == 0x10


def test_segment_registers_are_stored_in_memory_as_16_bits(bench):
    for number in range(6):
        bench.cpu.set_segment(number, 0x40 + 8 * number, 0, 0xFFFFFFFF, 0xC9B if number == 1 else 0xC93)
    bench.write(0x20000, b"\xff" * 24)
    bench.go(b"".join(bytes([0x8C, 0x05 | number << 3]) + (0x20000 + 4 * number).to_bytes(4, "little") for number in range(6)))
    assert [bench.read(0x20000 + 4 * number) for number in range(6)] == [0xFFFF0040 + 8 * number for number in range(6)]


@pytest.mark.parametrize("prefix, pushed", [(b"", 0xABC1FFF6), (b"\x66", 0xFFF6)])
def test_enter_on_a_16_bit_stack_takes_the_frame_from_all_of_esp(bench, prefix, pushed):
    # SDM 2A ENTER: FrameTemp is ESP, not SP; test386 holds an 80386 to it.
    size = 2 if prefix else 4
    top = 0x10000 - 10 + size
    bench.cpu.set_segment(2, KDATA, 0x40000, 0xFFFF, 0x93)
    bench.go(prefix + b"\xc8\x08\x00\x01", rsp=0xABC10000 + top, rbp=0xABC11234)
    assert bench.cpu.registers["rbp"] == 0xABC1FFF6
    assert bench.read(0x40000 + 0xFFF6, size) == 0xABC11234 & (1 << 8 * size) - 1
    assert bench.read(0x40000 + 0xFFF6 - size, size) == pushed
    assert bench.cpu.registers["rsp"] == 0xABC1FFF6 - size - 8


def test_long_mode_call_gate_pushes_quadwords():
    bench = SystemBench(64)
    bench.user()
    bench.write(TARGET, HLT)
    bench.write(GDT + FREE, gate(KCODE, TARGET, 0xEC) + bytes(8))
    bench.write(0x20000, bytes(4) + (FREE | 3).to_bytes(2, "little"))
    bench.go(b"\xff\x1c\x25\x00\x00\x02\x00", rsp=USER_STACK, rip=USER_CODE)        # call far [0x20000]
    assert bench.cpu.registers["rip"] == TARGET + 1
    assert bench.stack(4, 8) == [USER_CODE + 7, UCODE, USER_STACK, UDATA]
    assert bench.cpu.registers["rsp"] == INNER_STACK - 32
    assert bench.cpu.registers["ss"] == 0


def test_long_mode_to_compatibility_mode_and_back():
    bench = SystemBench(64)
    bench.write(GDT + FREE, descriptor(0, 0xFFFFF, 0x9B, 0xC))
    bench.write(TARGET, b"\x40" + far(0xEA, TARGET + 0x100, KCODE))                  # inc eax (a REX prefix in 64-bit mode)
    bench.write(TARGET + 0x100, b"\x48\xff\xc0\xf4")                                   # inc rax
    bench.write(0x20000, struct.pack("<IH", TARGET, FREE))
    bench.go(b"\xff\x2c\x25\x00\x00\x02\x00", rax=0xFFFFFFFE)
    assert bench.cpu.registers["rip"] == TARGET + 0x104
    assert bench.cpu.registers["rax"] == 0x100000000
