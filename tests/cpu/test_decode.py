# The decoder and the disassembler against iced-x86 and capstone: every row, in every mode and form, and random bytes.
"""iced-x86 is the witness for everything: length, legality, name, operands. capstone is one for lengths and names in 32- and 64-bit mode on
plain encodings: with a segment prefix that 64-bit mode ignores, with several prefixes, or in 16-bit mode (where it takes 66 for an
operand size though it selects the instruction) its answers differ from both manuals and from iced.

Where the two manuals differ, the classes are named here, with the side that the emulator takes."""
import random

import iced_x86
import pytest
from iced_x86 import DecoderOptions

from emu.cpu.decode import decode
from emu.cpu.disassemble import disassemble
from emu.isa.features import FEATURE_NUMBERS
from emu.isa.generate import load_rows

from .peers import ICED_OPTIONS, Shown, capstone_shown, iced, ours, plain, same

ROWS = load_rows()
MODES = (16, 32, 64)
MAP_BYTES = {0: b"", 1: b"\x0f", 2: b"\x0f\x38", 3: b"\x0f\x3a"}
PREFIX_BYTES = {"66": b"\x66", "F2": b"\xf2", "F3": b"\xf3"}
NAMES = {getattr(iced_x86.CpuidFeature, name): name for name in dir(iced_x86.CpuidFeature) if name[0].isupper()}

# What the CPU models have, in iced's names; an instruction that needs any other must be #UD.
HAVE = set("""
INTEL8086 INTEL8086_ONLY INTEL186 INTEL286 INTEL386 INTEL486 CPUID CMOV CX8 CMPXCHG16B CLFSH CLFLUSHOPT CLWB FPU FPU287 FPU387 FXSR MMX
SSE SSE2 SSE3 SSSE3 SSE4_1 SSE4_2 MOVBE POPCNT MSR TSC PAUSE MULTIBYTENOP PREFETCHW RDRAND RDSEED RDTSCP RDPID FSGSBASE SMAP PKU
INVPCID XSAVE XSAVEOPT XSAVEC SEP SYSCALL X64 INTEL286_ONLY INTEL386_486_ONLY
""".split())


def lacking(instruction) -> bool:
    return any(NAMES[feature] not in HAVE for feature in instruction.cpuid_features())


def difference(data: bytes, mode: int) -> str | None:
    """What ours and iced-x86 say differently of the instruction at the start of `data`; None where they agree."""
    mine = ours(data, mode)
    theirs, instruction = iced(data, mode)
    if same(mine, theirs):
        return None
    if mine is None:
        if lacking(instruction):
            return None                                       # not in our CPU models: #UD
        if theirs.mnemonic in ("rsm", "rdpmc"):
            return None                                       # RSM outside SMM is #UD; RDPMC: the models have no counters
        if instruction.code in RESERVED_NOP_0F0D and instruction.op0_kind == iced_x86.OpKind.REGISTER:
            return None                                       # 0F 0D with a register: #UD (APM 3, PREFETCH); a NOP on Intel's
    elif mine.mnemonic == "xchg" and theirs is not None and theirs.mnemonic == "pause":
        return None                                           # F3 with REX.B 90 is XCHG R8 (capstone, Unicorn), PAUSE to iced
    elif mine.mnemonic == "ud0":
        return None                                           # UD0: with ModRM on Intel's (SDM 2B UD), without on AMD's; #UD on both
    elif mine.mnemonic.startswith("prefetch"):                # hint space: a prefetch where it is one (SDM 2B PREFETCHh)
        if same(mine, iced(data, mode, ICED_OPTIONS & ~DecoderOptions.FORCE_RESERVED_NOP)[0]):
            return None
        if theirs is not None and mine.mnemonic == "prefetchw" and plain(mine)[0] == theirs.length:
            return None                                       # 0F 0D /0../7 are prefetches all (APM 3)
    elif mine.mnemonic in ("lss", "lfs", "lgs", "jmp", "call"):
        if same(mine, iced(data, mode, ICED_OPTIONS & ~DecoderOptions.AMD)[0]):
            return None                                       # 16:64 far pointers with REX.W: Intel's (SDM 2A CALL), not AMD's
    return f"{data[:15].hex()} mode {mode}: {mine} against {theirs}"


RESERVED_NOP_0F0D = {getattr(iced_x86.Code, name) for name in dir(iced_x86.Code)
                     if name.startswith("RESERVEDNOP_") and name.endswith("_0F0D")}


def encodings(row, mode: int, rng: random.Random):
    """Encodings of one row: every ModRM form that it allows, the prefixes that matter, random displacements and immediates."""
    tail = rng.randbytes(12)
    fields = [b""]
    if row.modrm:
        regs = [row.digit] if row.digit is not None else [0, rng.randrange(1, 8)]
        fields = [] if row.fixed is None else [bytes([row.fixed])]
        if row.fixed is None:
            for reg in regs:
                for mod, rm in ((0, 4), (0, 5), (0, 6), (0, rng.randrange(8)), (1, 4), (1, 5), (2, rng.randrange(8)), (3, 4),
                                (3, rng.randrange(8))):
                    fields.append(bytes([mod << 6 | reg << 3 | rm, rng.randrange(256)]))
    opcode = MAP_BYTES[row.map] + bytes([row.opcode])
    mandatory = PREFIX_BYTES.get(row.prefix, b"")
    rexes = [b""]
    if mode == 64:
        rexes += [bytes([rng.randrange(0x40, 0x48)]), bytes([rng.randrange(0x48, 0x50)])]
    for field in fields:
        for rex in rexes:
            for extra in (b"", rng.choice((b"\x66", b"\x67", b"\xf2", b"\xf3", b"\xf0", b"\x64", b"\x66\xf0", b"\x2e\x67"))):
                yield extra, (extra + mandatory + rex + opcode + field + tail)[:15]


@pytest.mark.parametrize("mode", MODES)
def test_every_row_in_every_form_reads_as_iced_has_it(mode):
    rng = random.Random(mode)
    wrong = [text for row in ROWS for _, data in encodings(row, mode, rng) if (text := difference(data, mode))]
    assert wrong == []


@pytest.mark.parametrize("mode", MODES)
def test_every_legal_row_is_reached(mode):
    """No row hides behind another one."""
    rng = random.Random(mode)
    reached = {found.row for row in ROWS for _, data in encodings(row, mode, rng) if (found := decode(data, mode))}
    unreachable = {"i64"} if mode == 64 else {"o64", "w1", "os64"}
    assert [row.source for row in ROWS if row.number not in reached and not row.attributes & unreachable
            and not (mode != 64 and row.mnemonic == "xchg" and row.opcode == 0x90)] == []     # 90 as XCHG needs REX.B


PREFIXES = (b"", b"", b"", b"", b"\x66", b"\xf2", b"\xf3", b"\x67", b"\x66\xf3", b"\xf0", b"\x64", b"\x2e", b"\xf3\x66", b"\x66\xf2",
            b"\xf2\xf3")
MAPS = (b"", b"", b"", b"\x0f", b"\x0f", b"\x0f", b"\x0f\x38", b"\x0f\x3a")


@pytest.mark.parametrize("mode", MODES)
def test_random_bytes_read_as_iced_has_them(mode):
    rng = random.Random(1000 + mode)
    wrong = []
    for _ in range(25000):
        rex = bytes([rng.randrange(0x40, 0x50)]) if mode == 64 and rng.random() < 0.4 else b""
        data = (rng.choice(PREFIXES) + rex + rng.choice(MAPS) + rng.randbytes(16))[:16]
        if text := difference(data, mode):
            wrong.append(text)
    assert wrong == []


@pytest.mark.parametrize("mode", MODES)
def test_raw_random_bytes_read_as_iced_has_them(mode):
    rng = random.Random(2000 + mode)
    assert [text for _ in range(10000) if (text := difference(rng.randbytes(16), mode))] == []


# Where capstone disagrees with iced-x86 and the manuals: our name of the instruction -> why.
CAPSTONE_DIFFERS = {
    **dict.fromkeys(("fcom2", "fcomp3", "fcomp5", "fxch4", "fxch7", "fstp8", "fstp9"),
                    "x87 aliases that processors execute (APM 3 A, table A-15)"),
    **dict.fromkeys(("lfence", "mfence", "sfence"), "the processor ignores ModRM.rm (SDM 2A LFENCE)"),
    "nop": "hint space 0F 18-1F: MPX and CET, or unknown to capstone; a NOP on a CPU without them (SDM 2B NOP)",
    "prefetchw": "0F 0D /0../7 are prefetches all (APM 3 PREFETCH)",
    "pause": "with REX.W: XCHG RAX,RAX to capstone",
    **dict.fromkeys(("ud0", "ud1"), "with ModRM (SDM 2B UD); #UD however long"),
}


@pytest.mark.parametrize("mode", (32, 64))
def test_every_row_without_prefixes_reads_as_capstone_has_it(mode):
    rng = random.Random(mode)
    wrong = []
    for row in ROWS:
        for extra, data in encodings(row, mode, rng):
            mine = None if extra else ours(data, mode)
            if mine is None or mine.mnemonic in CAPSTONE_DIFFERS:
                continue
            theirs = capstone_shown(data, mode)
            if theirs is None or plain(mine)[:2] != plain(theirs)[:2]:
                wrong.append((row.source, data.hex(), mine, theirs))
    assert wrong == []


@pytest.mark.parametrize("number", sorted(set(FEATURE_NUMBERS.values()) - {0}))
def test_rows_of_a_feature_are_illegal_without_it(number):
    """CPUID gating: without the feature an encoding is #UD, or another row that does not need it."""
    rng = random.Random(number)
    others = [other for other in FEATURE_NUMBERS.values() if other != number]
    name = next(name for name, value in FEATURE_NUMBERS.items() if value == number)
    for row in ROWS:
        if row.cpuid == name:
            for _, data in encodings(row, 64 if "i64" not in row.attributes else 32, rng):
                found = decode(data, 64 if "i64" not in row.attributes else 32, others)
                assert not found or ROWS[found.row].cpuid != name


@pytest.mark.parametrize("length, legal", [(14, True), (15, False), (20, False)])
def test_instruction_of_more_than_15_bytes_is_bad(length, legal):
    assert [text for _, _, text in disassemble(b"\x2e" * length + b"\x90", 32)][0] == ("nop" if legal else "(bad)")


@pytest.mark.parametrize("data, mode, why", [
    ("f001c8", 64, "LOCK with a register destination"), ("f08b00", 64, "LOCK with a load"), ("f03900", 64, "LOCK with CMP"),
    ("0f20c8", 64, "CR1"), ("0f20e8", 32, "CR5"), ("440f20c8", 64, "CR9"), ("440f21c0", 64, "DR8"), ("8ec8", 32, "MOV to CS"),
    ("8ef0", 32, "segment register 6"), ("8cf8", 32, "segment register 7"), ("8dc0", 32, "LEA of a register"), ("c5c0", 32, "VEX"),
    ("0fc7c8", 32, "CMPXCHG8B of a register"), ("660f77", 32, "EMMS with 66"), ("f30f38f000", 64, "MOVBE with F3"), ("fed0", 32, "FE /2"),
    ("ffff", 32, "FF /7"), ("8fc8", 32, "8F /1"), ("c6c800", 32, "C6 /1"), ("0f01c9", 64, "MWAIT without MONITOR"), ("06", 64, "PUSH ES"),
    ("9a0000000000", 64, "far CALL"), ("d9d1", 32, "D9 D1"), ("dbe5", 32, "FRSTPM"),
    ("0fb8c0", 64, "JMPE"), ("0f24c0", 32, "MOV from a test register"), ("d6", 64, "SALC"),
])
def test_reserved_encoding_is_bad(data, mode, why):
    assert decode(bytes.fromhex(data), mode) is None, why


@pytest.mark.parametrize("data, mode, protected, legal", [
    ("0f00d0", 16, False, False), ("0f00d0", 16, True, True), ("63c0", 16, False, False), ("63c0", 32, True, True),
    ("0f02c0", 16, False, False),
])
def test_instruction_of_protected_mode_is_bad_in_real_mode(data, mode, protected, legal):
    assert bool(decode(bytes.fromhex(data), mode, protected=protected)) is legal


@pytest.mark.parametrize("mode", MODES)
def test_every_cut_of_an_instruction_asks_for_more(mode):
    rng = random.Random(mode)
    for row in ROWS:
        for _, data in encodings(row, mode, rng):
            if found := decode(data, mode):
                assert [decode(data[:n], mode) for n in range(found.length)] == [0] * found.length, data.hex()
                break


TEXTS = [
    ("4889d8", 64, "mov rax, rbx"), ("f0014c9008", 64, "lock add dword ptr [rax + rdx*4 + 8], ecx"), ("90", 64, "nop"),
    ("4190", 64, "xchg r8d, eax"), ("f390", 64, "pause"), ("e8fbffffff", 64, "call 0x1000"),
    ("f3a4", 32, "rep movsb byte ptr es:[edi], byte ptr [esi]"),
    ("f2ae", 64, "repne scasb al, byte ptr [rdi]"), ("f3a6", 64, "repe cmpsb byte ptr [rsi], byte ptr [rdi]"),
    ("648b4010", 16, "mov ax, word ptr fs:[bx + si + 0x10]"),
    ("ff6d08", 32, "jmp far fword ptr [ebp + 8]"), ("ea34127856", 16, "jmp 0x5678:0x1234"), ("c8100002", 64, "enter 0x10, 2"),
    ("f00f20c0", 32, "mov eax, cr8"), ("440f20c0", 64, "mov rax, cr8"), ("8b0500000000", 64, "mov eax, dword ptr [rip]"),
    ("488b052a000000", 64, "mov rax, qword ptr [rip + 0x2a]"), ("83c0ff", 32, "add eax, 0xffffffff"),
    ("6aff", 64, "push 0xffffffffffffffff"),
    ("d8c1", 32, "fadd st(0), st(1)"), ("0f45c1", 32, "cmovne eax, ecx"), ("67e300", 64, "jecxz 0x1003"),
    ("480fae00", 64, "fxsave64 [rax]"),
    ("40b501", 64, "mov bpl, 1"), ("b501", 64, "mov ch, 1"), ("48b8efcdab8967452301", 64, "mov rax, 0x123456789abcdef"),
    ("eb", 64, "(cut short)"),
]


@pytest.mark.parametrize("data, mode, text", TEXTS)
def test_text_is_as_the_manual_writes_it(data, mode, text):
    assert [shown for _, _, shown in disassemble(bytes.fromhex(data), mode, 0x1000)] == [text]


def test_stream_goes_on_after_a_bad_byte():
    shown = list(disassemble(bytes.fromhex("90d6c3"), 64, 0x10))
    assert shown == [(0x10, b"\x90", "nop"), (0x11, b"\xd6", "(bad)"), (0x12, b"\xc3", "ret")]


def test_same_needs_the_same_operands():
    """The comparison itself can fail."""
    assert not same(Shown(2, "mov", ("eax", "ebx")), Shown(2, "mov", ("eax", "ecx")))
    assert not same(Shown(2, "mov", ("eax", "ebx")), None)
    assert same(Shown(2, "sal", ("eax", "0x1")), Shown(2, "shl", ("eax", "0x1")))
