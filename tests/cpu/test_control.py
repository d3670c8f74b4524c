# Control registers, debug registers, MSRs, flags, fast system calls. SDM 3A 2.5, 4.1, 9.8; SDM 4; SDM 2 of each instruction.
import struct

import pytest

from tests.cpu.system_bench import (CODE, GDT, HLT, KCODE, KDATA, STACK, TSS, UCODE, USER_CODE, USER_STACK, SystemBench,
                                    descriptor)

PE, MP, TS, NW, CD, PG = 1, 2, 8, 1 << 29, 1 << 30, 1 << 31
PAE, UMIP, FSGSBASE, PCIDE, OSXSAVE = 1 << 5, 1 << 11, 1 << 16, 1 << 17, 1 << 18
IF, IOPL3, TF, NT, AC, VIF = 1 << 9, 3 << 12, 1 << 8, 1 << 14, 1 << 18, 1 << 19
EFER, STAR, LSTAR, SFMASK, GS_BASE, KERNEL_GS_BASE = 0xC0000080, 0xC0000081, 0xC0000082, 0xC0000084, 0xC0000101, 0xC0000102
RDMSR, WRMSR = b"\x0f\x32", b"\x0f\x30"


def write_msr(bench: SystemBench, index: int, value: int) -> int | None:
    bench.go(WRMSR, rcx=index, rax=value & 0xFFFFFFFF, rdx=value >> 32)
    return bench.vector


def read_msr(bench: SystemBench, index: int) -> int | None:
    bench.go(RDMSR, rcx=index, rax=0x55, rdx=0x55)
    registers = bench.cpu.registers
    return registers["rax"] | registers["rdx"] << 32 if bench.vector is None else None


@pytest.mark.parametrize("value", [PE | NW, PG, PE | PG | NW])
def test_impossible_cr0_gives_general_protection_and_changes_nothing(value):
    bench = SystemBench(32)
    before = bench.cpu.registers["cr0"]
    bench.go(b"\x0f\x22\xc0", rax=value)
    assert bench.vector == 13
    assert bench.cpu.registers["cr0"] == before


def test_cr0_keeps_et_and_drops_reserved_bits():
    bench = SystemBench(32)
    bench.go(b"\x0f\x22\xc0", rax=PE | 0x1FFAFFC0)
    assert bench.cpu.registers["cr0"] == PE | 0x10


def test_high_half_of_cr0_is_reserved_in_long_mode():
    bench = SystemBench(64)
    bench.go(b"\x0f\x22\xc0", rax=bench.cpu.registers["cr0"] | 1 << 32)
    assert bench.vector == 13


def test_paging_cannot_be_left_in_64_bit_mode():
    bench = SystemBench(64)
    bench.go(b"\x0f\x22\xc0", rax=bench.cpu.registers["cr0"] & ~PG)
    assert bench.vector == 13


@pytest.mark.parametrize("value", [1 << 13, 1 << 12, 1 << 31])
def test_unknown_bits_of_cr4_are_refused(value):
    bench = SystemBench(32)
    bench.go(b"\x0f\x22\xe0", rax=value)
    assert bench.vector == 13


def test_pae_cannot_be_cleared_in_long_mode():
    bench = SystemBench(64)
    bench.go(b"\x0f\x22\xe0", rax=bench.cpu.registers["cr4"] & ~PAE)
    assert bench.vector == 13


@pytest.mark.parametrize("entry,vector", [(0x45001, None), (0x45003, 13), (0x45021, 13), (1 << 52 | 0x45001, 13), (0, None), (0x1E6, None)])
def test_pae_entries_are_checked_when_paging_begins(entry, vector):
    bench = SystemBench(32)
    bench.write(0x44000, struct.pack("<4Q", 0x45001, entry, 0, 0))
    bench.write(0x45000, struct.pack("<Q", 0x83))
    bench.go(b"\x0f\x22\xe0" b"\x0f\x22\xdb" b"\x0f\x22\xc1", rax=PAE, rbx=0x44000, rcx=PE | PG)
    assert bench.vector == vector


def test_long_mode_is_entered():
    bench = SystemBench(32)
    bench.write(0x44000, struct.pack("<Q", 0x45003))
    bench.write(0x45000, struct.pack("<Q", 0x46003))
    bench.write(0x46000, struct.pack("<Q", 0x83))
    bench.write(GDT + 0x48, descriptor(0, 0xFFFFF, 0x9B, 0xA))
    bench.write(0x14000, b"\x48\x89\xe3\xf4")                       # mov rbx, rsp
    code = (b"\x0f\x22\xe0" b"\x0f\x22\xdb" b"\xb9\x80\x00\x00\xc0" b"\xb8\x00\x01\x00\x00" b"\x31\xd2" + WRMSR
            + b"\xb8\x01\x00\x00\x80" b"\x0f\x22\xc0" b"\xea" + struct.pack("<IH", 0x14000, 0x48))
    bench.go(code, rax=PAE, rbx=0x44000)
    registers = bench.cpu.registers
    assert registers["rip"] == 0x14004
    assert registers["efer"] == 0x500
    assert registers["rbx"] == STACK


def test_cr_moves_are_privileged():
    for code in (b"\x0f\x20\xc0", b"\x0f\x22\xd8", b"\x0f\x21\xf8", b"\x0f\x06", b"\xf4", RDMSR, b"\x0f\x01\xd1", b"\x0f\x09"):
        bench = SystemBench(32)
        bench.user()
        bench.cpu.set_system(cr4=0x600 | OSXSAVE)
        bench.go(code, rsp=USER_STACK, rip=USER_CODE)
        assert bench.vector == 13, code.hex()


def test_lmsw_sets_but_never_clears_protection():
    bench = SystemBench(32)
    bench.go(b"\x0f\x01\xf0", rax=TS)                                 # lmsw ax
    assert bench.cpu.registers["cr0"] & 15 == PE | TS


def test_umip_hides_the_status_word_from_user():
    bench = SystemBench(32)
    bench.cpu.set_system(cr4=0x600 | UMIP)
    bench.user()
    bench.go(b"\x0f\x01\xe0", rsp=USER_STACK, rip=USER_CODE)
    assert bench.vector == 13


def test_debug_registers_keep_their_fixed_bits():
    bench = SystemBench(32)
    bench.go(b"\x0f\x23\xf0\x0f\x21\xf3", rax=0)                      # mov dr6, eax; mov ebx, dr6
    assert bench.cpu.registers["rbx"] == 0xFFFF0FF0
    bench.go(b"\x0f\x23\xf8\x0f\x21\xfb", rax=0)
    assert bench.cpu.registers["rbx"] == 0x400


def test_debug_register_4_is_undefined_with_debug_extensions():
    bench = SystemBench(32)
    bench.cpu.set_system(cr4=0x608)
    bench.go(b"\x0f\x21\xe0")
    assert bench.vector == 6


def test_general_detect_stops_access_to_debug_registers():
    bench = SystemBench(32)
    bench.go(b"\x0f\x23\xf8\x0f\x21\xc3", rax=1 << 13)                # mov dr7, eax; mov ebx, dr0
    assert bench.vector == 1
    assert bench.stack(1) == [CODE + 3]


def test_descriptor_tables_are_loaded_and_stored():
    bench = SystemBench(64)
    bench.write(0x20000, struct.pack("<HQ", 0x1FF, GDT))
    bench.go(b"\x0f\x01\x14\x25\x00\x00\x02\x00" b"\x0f\x01\x04\x25\x10\x00\x02\x00")      # lgdt [0x20000]; sgdt [0x20010]
    assert bench.read(0x20010, 10) == 0x1FF | GDT << 16


def test_unknown_msr_gives_general_protection():
    bench = SystemBench(64)
    assert read_msr(bench, 0x12345) is None
    assert write_msr(bench, 0x12345, 0) == 13


@pytest.mark.parametrize("index,value,accepted", [
    (0x277, 0x0007040600070406, True), (0x277, 0x02, False), (0x277, 0x08 << 56, False),
    (0x2FF, 0xC06, True), (0x2FF, 0x2, False), (0x2FF, 1 << 9, False), (0x200, 0x80000006, True), (0x200, 0x80000002, False),
    (0x201, 0xFF80000800, True), (0x201, 0x1, False), (0x201, 1 << 41, False), (0x250, 0x0606060606060606, True), (0x250, 0x7, False),
    (LSTAR, 0xFFFFFFFF81000000, True), (LSTAR, 1 << 47, False), (GS_BASE, 1 << 48, False), (EFER, 0x500 | 1 << 63, False)])
def test_msr_values_are_checked(index, value, accepted):
    bench = SystemBench(64)
    before = read_msr(bench, index)
    assert write_msr(bench, index, value) == (None if accepted else 13)
    assert read_msr(bench, index) == (value if accepted else before)


def test_long_mode_enable_cannot_change_under_paging():
    bench = SystemBench(64)
    assert write_msr(bench, EFER, 0) == 13


def test_syscall_and_sysret():
    bench = SystemBench(64)
    write_msr(bench, STAR, (0x13 << 48) | (KCODE << 32))              # user: 0x13 + 16 = 0x23, SS 0x1B
    write_msr(bench, LSTAR, 0x14000)
    write_msr(bench, SFMASK, 0x200)
    write_msr(bench, EFER, 0xD01)
    bench.write(0x14000, b"\x48\x0f\x07")
    bench.user()
    bench.go(b"\x0f\x05\xcd\x20", rsp=USER_STACK, rip=USER_CODE, rflags=0x203)
    assert bench.vector == 32
    assert bench.stack(5, 8) == [USER_CODE + 4, 0x23, 0x203, USER_STACK, 0x1B]
    assert bench.cpu.registers["rcx"] == USER_CODE + 2
    assert bench.cpu.registers["r11"] == 0x203


def test_syscall_enters_the_kernel_with_masked_flags():
    bench = SystemBench(64)
    write_msr(bench, STAR, (0x13 << 48) | (KCODE << 32))
    write_msr(bench, LSTAR, 0x14000)
    write_msr(bench, SFMASK, 0x201)
    write_msr(bench, EFER, 0xD01)
    bench.write(0x14000, HLT)
    bench.user()
    bench.go(b"\x0f\x05", rsp=USER_STACK, rip=USER_CODE, rflags=0x203)
    registers = bench.cpu.registers
    assert (registers["rip"], registers["cs"], registers["ss"], registers["rflags"]) == (0x14001, KCODE, KDATA, 2)
    assert registers["rsp"] == USER_STACK


@pytest.mark.parametrize("mask, where", [(0x100, USER_CODE + 2), (0, 0x14000)])
def test_single_step_of_syscall_and_sysret_follows_the_new_flags_at_once(mask, where):
    # What kvm-unit-tests' syscall.c tells: SYSCALL traps only where SFMASK leaves TF, SYSRET before the next instruction.
    bench = SystemBench(64)
    write_msr(bench, STAR, (0x13 << 48) | (KCODE << 32))
    write_msr(bench, LSTAR, 0x14000)
    write_msr(bench, SFMASK, mask)
    write_msr(bench, EFER, 0xD01)
    bench.write(0x14000, b"\x48\x0f\x07")
    bench.user()
    bench.go(b"\x0f\x05\x90", rsp=USER_STACK, rip=USER_CODE, rflags=0x102)
    assert bench.vector == 1
    assert bench.stack(1, 8) == [where]
    assert bench.cpu.registers["r11"] & TF


def test_debug_exception_replaces_the_breakpoint_bits_of_dr6():
    bench = SystemBench(32)                        # SDM 3B 17.2.3; what kvm-unit-tests' debug.c holds processors to
    code = b"\x0f\x23\xf1" + b"\x0f\x23\xd3" + b"\x0f\x23\xf8" + b"\x90"      # mov dr6, ecx; mov dr2, ebx; mov dr7, eax; nop
    bench.write(0x60010, b"\x0f\x21\xf2\xf4")    # the handler of #DB: mov edx, dr6; hlt
    bench.go(code, rax=0x420, rbx=CODE + 9, rcx=0x4002)
    assert bench.cpu.registers["rip"] == 0x60014
    assert bench.cpu.registers["rdx"] == 0xFFFF4FF4


def test_iret_to_user_mode_makes_kernel_segments_null_but_keeps_the_base_of_gs():
    bench = SystemBench(64)
    write_msr(bench, GS_BASE, 0x123456789)
    frame = b"".join(value.to_bytes(8, "little") for value in (USER_CODE, UCODE, 2, USER_STACK, 0x23))
    bench.write(STACK, frame)
    bench.write(USER_CODE, b"\xcd\x20")
    bench.go(b"\x48\xcf", rsp=STACK)
    assert bench.vector == 32
    assert bench.cpu.registers["gs"] == 0 and bench.cpu.registers["gs_base"] == 0x123456789


def test_syscall_without_sce_is_undefined():
    bench = SystemBench(64)
    write_msr(bench, EFER, 0xD00)
    bench.go(b"\x0f\x05")
    assert bench.vector == 6


def test_swapgs_exchanges_the_bases():
    bench = SystemBench(64)
    write_msr(bench, GS_BASE, 0x1000)
    write_msr(bench, KERNEL_GS_BASE, 0x20000)
    bench.write(0x20008, b"\x77")
    bench.go(b"\x0f\x01\xf8\x65\x8a\x04\x25\x08\x00\x00\x00")       # swapgs; mov al, gs:[8]
    assert bench.cpu.registers["rax"] & 0xFF == 0x77
    assert read_msr(bench, KERNEL_GS_BASE) == 0x1000


def test_fs_base_instructions_need_cr4():
    bench = SystemBench(64)
    bench.go(b"\xf3\x48\x0f\xae\xd0")                                 # wrfsbase rax
    assert bench.vector == 6
    bench.cpu.set_system(cr4=0x620 | FSGSBASE)
    bench.go(b"\xf3\x48\x0f\xae\xd0\xf3\x48\x0f\xae\xc3", rax=0x123456789)
    assert bench.cpu.registers["rbx"] == 0x123456789
    bench.go(b"\xf3\x48\x0f\xae\xd0", rax=1 << 47)
    assert bench.vector == 13


@pytest.mark.parametrize("cpl,iopl,popped,expected", [
    (0, 0, 0x3202 | NT | AC, 0x3202 | NT | AC), (3, 0, 0x3202, 0x2), (3, 3, 0x0202, 0x3202), (3, 3, 0x3002, 0x3002),
    (0, 0, 0x10002 | VIF, 0x2)])
def test_popf_by_privilege(cpl, iopl, popped, expected):
    bench = SystemBench(32)
    place, stack = (CODE, STACK) if cpl == 0 else (USER_CODE, USER_STACK)
    if cpl:
        bench.user()
    bench.write(stack, popped.to_bytes(4, "little"))
    bench.write(place, b"\x9d\xcd\x20")
    bench.go(b"\x9d\xcd\x20", rsp=stack, rip=place, rflags=2 | iopl << 12)
    assert bench.vector == 32
    assert bench.stack(3)[2] == expected


def test_cli_needs_iopl_or_virtual_interrupts():
    bench = SystemBench(32)
    bench.user()
    bench.go(b"\xfa", rsp=USER_STACK, rip=USER_CODE, rflags=IF | 2)
    assert bench.vector == 13
    bench = SystemBench(32)
    bench.user()
    bench.cpu.set_system(cr4=0x602)                                   # PVI
    bench.go(b"\xfa\xcd\x20", rsp=USER_STACK, rip=USER_CODE, rflags=IF | VIF | 2)
    assert bench.vector == 32
    assert bench.stack(3)[2] == IF | 2


def test_xcr0_is_checked():
    bench = SystemBench(64)
    bench.cpu.set_system(cr4=0x620 | OSXSAVE)
    for value, vector in ((3, None), (0x203, None), (2, 13), (7, 13)):
        bench.go(b"\x0f\x01\xd1", rcx=0, rax=value, rdx=0)
        assert bench.vector == vector, value
    bench.go(b"\x0f\x01\xd0", rcx=0)
    assert bench.cpu.registers["rax"] == 0x203


def test_time_stamp_counter_counts_instructions():
    bench = SystemBench(64)
    bench.go(b"\x0f\x31\x89\xc3\x90\x90\x90\x0f\x31")                # rdtsc; mov ebx, eax; nop * 3; rdtsc
    assert bench.cpu.registers["rax"] - bench.cpu.registers["rbx"] == 5


def test_io_permission_map():
    bench = SystemBench(32)
    bench.write(TSS + 0x68, bytes([0xFF] * 12 + [0xFE] + [0xFF] * 4))      # port 0x60 alone is allowed
    bench.user()
    bench.go(b"\xe4\x60\xcd\x20", rsp=USER_STACK, rip=USER_CODE)
    assert bench.vector == 32
    for code in (b"\xe4\x61", b"\x66\xe5\x60"):                       # the next port; a word that covers it
        bench = SystemBench(32)
        bench.write(TSS + 0x68, bytes([0xFF] * 12 + [0xFE] + [0xFF] * 4))
        bench.user()
        bench.go(code, rsp=USER_STACK, rip=USER_CODE)
        assert bench.vector == 13


def test_task_register_load_marks_busy_and_wants_an_available_task():
    bench = SystemBench(32)
    bench.go(b"\x0f\x00\xd8", rax=0x38)
    assert bench.vector is None
    assert bench.read(GDT + 0x3D, 1) == 0x8B
    bench.go(b"\x0f\x00\xd8", rax=0x38)
    assert (bench.vector, bench.stack(1)) == (13, [0x38])
