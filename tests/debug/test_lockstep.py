# Lockstep: the log reader on QEMU's text, the comparison with scripted sides, and the whole against a real QEMU where there is one.
import pathlib
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.base.errors import EmuError
from emu.debug.lockstep import follow as f
from emu.debug.lockstep.log import HARDWARE, State, parse_registers, read_states
from emu.debug.lockstep.run import Symbols, entry_of, size_of
from emu.debug.lockstep.walk import code_bits, linear_rip, walk

# One record as QEMU 7.2 prints it in 64-bit mode (the numbers are made up, the columns are QEMU's).
RECORD = """\
Trace 0: 0x7fdab0000100 [0000000000000000/{rip:016x}/00c0c2b0/ff000201]
RAX={rax:016x} RBX=0000000000000001 RCX=0000000000000002 RDX=0000000000000003
RSI=0000000000000004 RDI=0000000000000005 RBP=0000000000000006 RSP=ffffffff80209fb8
R8 =0000000000000008 R9 =0000000000000009 R10=000000000000000a R11=000000000000000b
R12=000000000000000c R13=000000000000000d R14=000000000000000e R15=000000000000000f
RIP={rip:016x} RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =0010 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
CS =0008 0000000000000000 ffffffff 00af9b00 DPL=0 CS64 [-RA]
SS =0010 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
DS =0010 0000000000000000 ffffffff 00cf9300 DPL=0 DS   [-WA]
FS =0000 0000000000000000 00000000 00000000
GS =0000 ffff888012345000 00000000 00000000
LDT=0000 0000000000000000 0000ffff 00008200 DPL=0 LDT
TR =0020 ffffffff8020c000 00000067 00008b00 DPL=0 TSS64-busy
GDT=     ffffffff8020b000 0000002f
IDT=     ffffffff8020b100 000002ff
CR0=80050033 CR2=000000dead000000 CR3=0000000000101000 CR4=000000a0
DR0=0000000000000000 DR1=0000000000000000 DR2=0000000000000000 DR3=0000000000000000
DR6=00000000ffff0ff0 DR7=0000000000000400
CCS=0000000000000000 CCD=0000000000000000 CCO=EFLAGS
EFER=0000000000000d00
FCW=037f FSW=3800 [ST=7] FTW=80 MXCSR=00001f80
FPR0=0000000000000000 0000 FPR1=0000000000000000 0000
FPR2=0000000000000000 0000 FPR3=0000000000000000 0000
FPR4=0000000000000000 0000 FPR5=0000000000000000 0000
FPR6=0000000000000000 0000 FPR7=8000000000000000 3fff
XMM00=0000000000000001 0000000000000002 XMM01=0000000000000000 0000000000000000
"""
STOPPED = "Stopped execution of TB chain before 0x7fdab0000100 [ffffffff80200000] \n"
INTERRUPT = ("Servicing hardware INT=0x20\n"
             "     0: v=20 e=0000 i=0 cpl=0 IP=0008:ffffffff80200004 pc=ffffffff80200004 SP=0010:0 env->regs[R_EAX]=0\n")
EXCEPTION = "check_exception old: 0xffffffff new 0xe\n     1: v=0e e=0002 i=0 cpl=0 IP=0008:0 pc=0 SP=0010:0 CR2=000000dead000000\n"


def record(rip, rax=0):
    return RECORD.format(rip=rip, rax=rax)


def body(rip, rax=0):
    return record(rip, rax).split("\n", 1)[1]


def states_of(text, size=1 << 20):
    data = text.encode()
    return list(read_states(data[at:at + size] for at in range(0, len(data), size)))


def test_read_states_names_every_register_of_a_dump():
    state, = states_of(record(0x1000, 7))
    values = state.values
    assert state.wide and state.kind == "instruction"
    assert values["rax"] == 7 and values["r8"] == 8 and values["r15"] == 15 and values["rip"] == 0x1000 and values["rflags"] == 0x246
    assert values["gs.base"] == 0xFFFF888012345000 and values["cs.flags"] == 0xAF9B00 and values["tr.limit"] == 0x67
    assert values["gdt.limit"] == 0x2F and values["idt.base"] == 0xFFFFFFFF8020B100
    assert values["cr2"] == 0xDEAD000000 and values["efer"] == 0xD00 and values["dr6"] == 0xFFFF0FF0
    assert values["ftw"] == 0x80 and values["fsw"] == 0x3800 and values["fpr7"] == 0x3FFF8000000000000000
    assert values["xmm0"] == 1 << 64 | 2


@pytest.mark.parametrize("size", [1, 7, 100, 4096])
def test_read_states_in_pieces_gives_the_same(size):
    text = record(0x1000) + record(0x1002, 5) + record(0x1004)
    assert [(s.values["rip"], s.values["rax"]) for s in states_of(text, size)] == [(0x1000, 0), (0x1002, 5), (0x1004, 0)]


def test_read_states_drops_what_was_announced_but_not_executed():
    text = record(0x1000) + STOPPED + record(0x1000) + record(0x1002)
    assert [s.values["rip"] for s in states_of(text)] == [0x1000, 0x1002]


def test_read_states_value_that_comes_back_is_seen():
    values = [5, 0xF << 60, 5, 0xF << 60]
    assert [s.values["rax"] for s in states_of("".join(record(0x1000, value) for value in values))] == values


def test_read_states_tells_interrupts_and_exceptions_apart():
    text = record(0x1000) + EXCEPTION + body(0x1000) + record(0x9000) + record(0x9002) + INTERRUPT + body(0x9004) + record(0x8000)
    states = states_of(text)
    assert [(s.values["rip"], s.kind, s.vector) for s in states] == [
        (0x1000, "instruction", -1), (0x9000, "instruction", -1), (0x9002, "instruction", -1),
        (0x9004, HARDWARE, 0x20), (0x8000, "instruction", -1)]
    assert states[0].exceptions == ((14, 2),)


@given(st.binary(max_size=400), st.integers(0, 2000))
def test_read_states_of_any_text_ends_without_error(noise, cut):
    text = (record(0x1000) + INTERRUPT + body(0x1002)).encode()
    list(read_states([text[:cut] + noise + text[cut:], noise]))


def test_parse_registers_of_a_32_bit_dump_is_not_wide():
    values, wide = parse_registers("EAX=00000001 EBX=00000002 ECX=00000003 EDX=00000004\n"
                                   "EIP=0000fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1")
    assert not wide and values["rax"] == 1 and values["rip"] == 0xFFF0 and values["rflags"] == 2


# --- the comparison, with scripted sides

BASE = parse_registers(body(0x1000))[0]


def at(rip, **values):
    return State({**BASE, "rip": rip, **values}, True)


class Script:
    """A follower whose every step goes to the next of the given states; memory holds the code at its linear address."""

    def __init__(self, steps, code=b"", outside=()):
        self.steps, self.now, self.code, self.seen, self.taken = list(steps), {}, code, 0, []
        self.outside_steps = set(outside)

    def load(self, values):
        self.now = dict(values)

    def registers(self):
        return dict(self.now)

    def step(self):
        change = self.steps.pop(0)
        self.now.update(change)
        self.seen += change.get("rip", 0) in self.outside_steps

    def interrupt(self, vector):
        self.taken.append(vector)
        self.step()

    def read_physical(self, address, size):
        return (self.code + bytes(64))[max(address - 0x1000, 0):][:size]

    def outside(self):
        return self.seen

    def remark(self):
        return "said"


def flat(*states):
    """The same states with paging off, so that code is found at its linear address."""
    for state in states:
        state.values["cr0"] &= ~(1 << 31)
    return iter(states)


def test_follow_equal_sides_finds_nothing():
    report = f.follow(flat(at(0x1000), at(0x1001, rax=1), at(0x1002)), Script([{"rip": 0x1001, "rax": 1}, {"rip": 0x1002, "rax": 0}]))
    assert (report.instructions, report.differences, report.last.values["rip"]) == (2, [], 0x1002)


def test_follow_difference_names_register_and_goes_on_with_the_masters_value():
    script = Script([{"rip": 0x1001, "rbx": 9}, {"rip": 0x1002}], b"\x90\x90\x90")
    report = f.follow(flat(at(0x1000), at(0x1001, rbx=8), at(0x1002, rbx=8)), script)
    found, = report.differences
    assert found.names == {"rbx": (9, 8)} and found.number == 1 and script.now["rbx"] == 8
    text = f.describe(found, lambda linear: " <start>")
    assert "nop" in text and "rbx" in text and "0x1000 <start>" in text and "ours: said" in text


def test_follow_first_only_stops_at_the_first():
    report = f.follow(flat(at(0x1000), at(0x1001), at(0x1002)), Script([{"rip": 5}, {"rip": 6}]), keep_going=False)
    assert report.instructions == 1 and len(report.differences) == 1


def test_follow_same_address_twice_is_told_once_and_counted():
    report = f.follow(flat(at(0x1000), at(0x1000, rbx=8), at(0x1000, rbx=9)), Script([{"rbx": 5}, {"rbx": 6}]))
    assert len(report.differences) == 1 and report.repeated[0x1000] == 2


@pytest.mark.parametrize("code,mnemonic", [(b"\x0f\x31", "rdtsc"), (b"\x0f\xa2", "cpuid"), (b"\xec", "in"), (b"\x0f\x32", "rdmsr")])
def test_follow_input_from_outside_is_taken_over(code, mnemonic):
    report = f.follow(flat(at(0x1000), at(0x1002, rax=5)), Script([{"rip": 0x1002, "rax": 6}], code))
    assert report.differences == [] and report.adopted == {mnemonic: 1}


def test_follow_access_without_ram_is_taken_over():
    report = f.follow(flat(at(0x1000), at(0x1002, rax=5)), Script([{"rip": 0x1002, "rax": 6}], b"\x8b\x00", {0x1002}))
    assert report.differences == [] and report.adopted == {"memory of a device": 1}


def test_follow_undefined_flag_is_no_difference_but_a_defined_one_is():
    def run(flags):
        return f.follow(flat(at(0x1000), at(0x1003)), Script([{"rip": 0x1003, "rflags": flags}], b"\x48\x21\xc0"))     # and rax, rax
    assert run(0x246 ^ 0x10).undefined == {"and": 1} and run(0x246 ^ 0x10).differences == []
    assert run(0x246 ^ 0x40).differences[0].names == {"rflags": (0x204, 0x244)}           # bit 1 is always 1


def test_follow_hardware_interrupt_is_taken_where_the_master_took_it():
    states = flat(at(0x1000), State({**BASE, "rip": 0x1001}, True, HARDWARE, 0x30), at(0x5000))
    script = Script([{"rip": 0x1001}, {"rip": 0x5000}])
    report = f.follow(states, script)
    assert script.taken == [0x30] and report.interrupts == 1 and report.differences == []


def test_follow_repeated_string_instruction_done_at_once_or_turn_by_turn_is_equal():
    def states():
        return flat(at(0x1000, rcx=2), at(0x1000, rcx=1), at(0x1000, rcx=0), at(0x1003, rcx=0), at(0x1004, rcx=0))
    code = b"\xf3\x48\xab\x90\x90"
    at_once = f.follow(states(), Script([{"rip": 0x1003, "rcx": 0}, {"rip": 0x1004}], code))
    by_turn = f.follow(states(), Script([{"rcx": 1}, {"rip": 0x1003, "rcx": 0}, {"rip": 0x1004}], code))
    assert at_once.differences == [] and by_turn.differences == []
    assert at_once.last.values["rip"] == by_turn.last.values["rip"] == 0x1004


def test_follow_exception_delivered_with_or_without_the_handlers_first_instruction_is_equal():
    def states():
        first = at(0x1000)
        first.exceptions = ((6, 0),)
        return flat(first, at(0x5000), at(0x5001), at(0x5002))
    with_it = f.follow(states(), Script([{"rip": 0x5001}, {"rip": 0x5002}]))
    without = f.follow(states(), Script([{"rip": 0x5000}, {"rip": 0x5001}, {"rip": 0x5002}]))
    assert with_it.differences == [] and without.differences == [] and with_it.instructions == without.instructions == 3


def test_compare_narrow_state_looks_at_the_lower_halves_only():
    ours, theirs = dict(BASE, rax=0x1_00000005, r8=1), dict(BASE, rax=5)
    assert f.compare(ours, theirs, False) == {}
    assert set(f.compare(ours, theirs, True)) == {"rax", "r8"}


def test_compare_empty_fpu_register_does_not_matter():
    assert f.compare(dict(BASE, fpr0=1), BASE, True) == {}
    assert f.compare(dict(BASE, fpr7=1), BASE, True) == {"fpr7": (1, 0x3FFF8000000000000000)}


def test_compare_memory_tells_words_and_page_table_marks():
    theirs = bytearray(1 << 20)
    ours = bytearray(theirs)
    ours[0x2000:0x2008], theirs[0x2000:0x2008] = (0x5023).to_bytes(8, "little"), (0x5063).to_bytes(8, "little")
    ours[0x3008] = 1
    ours[0xB8000] = 7                                               # video memory is not RAM
    first, second = f.compare_memory(lambda a, n: bytes(ours[a:a + n]), memoryview(theirs))
    assert (first.physical, first.accessed_or_dirty_only) == (0x2000, True)
    assert (second.physical, second.ours, second.accessed_or_dirty_only) == (0x3008, 1, False)


# --- page walk and small parts

def tables(entries):
    memory = bytearray(1 << 16)
    for address, value, size in entries:
        memory[address:address + size] = value.to_bytes(size, "little")
    return lambda address, size: bytes(memory[address:address + size])


def test_walk_four_levels_and_large_page():
    read = tables([(0x1000 + 511 * 8, 0x2003, 8), (0x2000 + 510 * 8, 0x3003, 8), (0x3000 + 8, 0x4003, 8), (0x3000 + 16, 0x400083, 8),
                   (0x4000 + 5 * 8, 0x8000000000205163, 8)])
    values = {"cr0": 1 << 31, "cr3": 0x1000, "cr4": 0x20, "efer": 0xD00}
    assert walk(read, values, 0xFFFFFFFF80205123) == 0x205123
    assert walk(read, values, 0xFFFFFFFF80412345) == 0x412345
    assert walk(read, values, 0xFFFFFFFF80206000) is None


def test_walk_pae_and_32_bit():
    read = tables([(0x1020, 0x2001, 8), (0x2000 + 3 * 8, 0x3003, 8), (0x3000, 0x9000 | 3, 8), (0x4000 + 768 * 4, 0x5003, 4),
                   (0x5004, 0xA003, 4), (0x4000 + 4, 0xC00083, 4)])
    assert walk(read, {"cr0": 1 << 31, "cr3": 0x1020, "cr4": 0x20, "efer": 0}, 0x600010) == 0x9010
    legacy = {"cr0": 1 << 31, "cr3": 0x4000, "cr4": 0x10, "efer": 0}
    assert walk(read, legacy, 0xC0001234) == 0xA234
    assert walk(read, legacy, 0x00712345) == 0xF12345
    assert walk(read, {**legacy, "cr0": 0}, 0x1234) == 0x1234


@pytest.mark.parametrize("flags,efer,cr0,bits,linear", [
    (0x00AF9B00, 0x500, 0x80000001, 64, 0x50), (0x00CF9B00, 0, 1, 32, 0x1050), (0x00009B00, 0, 0, 16, 0x1050),
    (0x00CF9B00, 0x500, 0x80000001, 32, 0x1050)])
def test_code_bits_and_linear_rip_follow_the_mode(flags, efer, cr0, bits, linear):
    values = {"cs.flags": flags, "efer": efer, "cr0": cr0, "rflags": 2, "cs.base": 0x1000, "rip": 0x50}
    assert (code_bits(values), linear_rip(values)) == (bits, linear)


def test_sizes_entries_and_symbols(tmp_path):
    assert size_of("64M") == 64 << 20 and size_of("4096") == 4096
    with pytest.raises(EmuError):
        size_of("many")
    with pytest.raises(EmuError):
        entry_of(str(tmp_path / "missing"))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(EmuError):
        entry_of(str(tmp_path / "text"))
    (tmp_path / "map").write_text("ffffffff81000000 T _stext\nffffffff81000100 t later\n")
    symbols = Symbols(str(tmp_path / "map"))
    assert symbols.at(0xFFFFFFFF81000104) == " <later+0x4>" and symbols.address("_stext") == 0xFFFFFFFF81000000
    assert symbols.at(5) == ""


# --- the whole, where QEMU is installed

GUEST = """
        .long 0x1BADB002, 0, -0x1BADB002
        .globl _start
_start: movl $5, %ecx
        xorl %eax, %eax
1:      addl %ecx, %eax
        loop 1b
        movl $0x104000, %edi
        movl $6, %ecx
        cld
        rep stosl
        imull $3, %eax, %ebx
        bswap %ebx
        cpuid
        movl $0x104000, %esi
        lodsl
2:      jmp 2b
"""


@pytest.fixture(scope="module")
def guest(tmp_path_factory):
    base = tmp_path_factory.mktemp("guest")
    (base / "g.S").write_text(GUEST)
    subprocess.run(["gcc", "-m32", "-c", "-o", str(base / "g.o"), str(base / "g.S")], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-n", "-Ttext=0x100000", "-o", str(base / "g.elf"), str(base / "g.o")], check=True)
    return base / "g.elf"


if shutil.which("qemu-system-x86_64"):
    @pytest.fixture(scope="module")
    def logged(guest):
        from emu.debug.lockstep.qemu import Qemu
        with Qemu(["-kernel", str(guest)], 8 << 20) as qemu:
            qemu.run_to(entry_of(str(guest)))
            msrs, before = qemu.read_msrs(), qemu.registers()[0]
            states = list(qemu.states(200))
            return msrs, before, states, bytes(qemu.ram[0x104000:0x104018]), pathlib.Path(qemu._directory.name), qemu.registers

    def test_qemu_states_are_those_of_the_guest(logged):
        msrs, before, states, stored, directory, _ = logged
        assert msrs[0x277] == 0x0007040600070406                    # IA32_PAT after reset (SDM 3A 12.12.4)
        assert states[0].values == before                           # asking for MSRs left no trace
        assert states[0].values["rip"] == 0x10000C
        sums = [s.values["rax"] for s in states if s.values["rip"] == 0x100015]
        assert sums[:5] == [5, 9, 12, 14, 15]
        assert stored == (15).to_bytes(4, "little") * 6
        assert not directory.exists()

    def test_our_core_goes_the_way_of_qemu(guest):
        from emu.cpu.models import resolve_cpu
        from emu.debug.lockstep.machine import MachineFollower
        from emu.debug.lockstep.qemu import Qemu
        with Qemu(["-kernel", str(guest)], 8 << 20) as qemu:
            qemu.run_to(entry_of(str(guest)))
            follower = MachineFollower(qemu.physical(), qemu.read_msrs(), resolve_cpu("v2").features)
            report = f.follow(qemu.states(60), follower)
            assert report.differences == [] and report.instructions > 30 and not report.adopted.keys() - {"cpuid"}
            assert report.last.values["rip"] == qemu.registers()[0]["rip"]
            assert f.compare_memory(follower.read_physical, qemu.ram) == []
            assert bytes(qemu.ram[0x104000:0x104004]) == (15).to_bytes(4, "little")
