# Vector state and faults: what an instruction may not do, areas in memory, approximations, page ends.
import random
import struct

import pytest

from emu.isa import sse
from emu.isa.features import FEATURE_NUMBERS
from emu.isa.rows import parse_table
from tests.tools.bench import CODE, DATA, TABLES, Bench

AREA = 0x28000
UD, NM, SS, GP, PF, MF, XM = 6, 7, 12, 13, 14, 16, 19
PAGE_END = 0x22000


@pytest.fixture
def guest():
    return Bench(64)


def fault_of(bench: Bench, code: str, registers: dict | None = None, count: int = 1):
    """The first fault of a run, or None."""
    _, fault = bench.run(bytes.fromhex(code), {"rbx": DATA, "rdi": DATA, **(registers or {})}, count=count)
    return bench.cpu.fault_chain[0] if fault else None


# one of each kind: register and memory forms of arithmetic, moves, conversions, floating point, strings
SSE_CODES = ("660ffcc1", "660ffc03", "0f28c1", "0f2803", "0f2903", "f30f1003", "660f6ec0", "660f7e03", "0f58c1", "f20f5803", "f30f2ac0",
             "f20f2cc1", "0f2ec1", "660f3a63c10c", "0fae13", "0fae1b", "660fd7c1", "0f50c1", "660f3a40c1ff", "f20ff003", "660ff7c1",
             "0f13 03", "660f3817c1", "0f53c1", "660f71d101", "660f3a14c001")
MMX_CODES = ("0ffcc1", "0ffc03", "0f6fc1", "0f7f03", "0f6ec0", "0f77", "0fd7c1", "0f71d101", "0fc4c001", "0f380003", "0ff7c1", "0fe703")


@pytest.mark.parametrize("code", SSE_CODES)
def test_sse_control_bits_decide(guest, code):
    for cr0, cr4, expected in ((0x80000017, 0x620, UD), (0x80000013, 0x420, UD), (0x8000001B, 0x620, NM), (0x8000001F, 0x620, UD)):
        guest.enter()
        guest.cpu.set_system(cr0=cr0, cr3=TABLES, cr4=cr4, efer=0xD01)
        guest.cpu.after_load()
        assert fault_of(guest, code) == (expected, None, 0)


@pytest.mark.parametrize("code", MMX_CODES)
def test_mmx_control_bits_decide(guest, code):
    for cr0, cr4, expected in ((0x80000017, 0x620, UD), (0x8000001B, 0x620, NM), (0x80000013, 0x20, None)):
        guest.enter()
        guest.cpu.set_system(cr0=cr0, cr3=TABLES, cr4=cr4, efer=0xD01)
        guest.cpu.after_load()
        fault = fault_of(guest, code)
        assert (fault and fault[0]) == expected


@pytest.mark.parametrize("code", MMX_CODES)
def test_mmx_waiting_x87_exception_is_taken_first(guest, code):
    image = struct.pack("<HHB", 0x37E, 0x8081, 0) + bytes(19) + struct.pack("<I", 0x1F80) + bytes(484)
    guest.memory.physical[AREA:AREA + 512] = image
    assert fault_of(guest, "490fae0f" + code, {"r15": AREA, "rbx": 1 << 40}, 2)[0] == MF


def test_movnti_and_fences_ignore_control_bits(guest):
    guest.cpu.set_system(cr0=0x8000001F, cr3=TABLES, cr4=0x20, efer=0xD01)
    guest.cpu.after_load()
    for code in ("0fc303", "0faee8", "0faef0", "0faef8", "0f1803", "0fae3b", "660fae3b", "660fae33"):
        assert fault_of(guest, code) is None


ROWS = parse_table("sse", sse.TABLE)
LOOSE = ("movups", "movupd", "movdqu", "lddqu", "pcmpestrm", "pcmpestri", "pcmpistrm", "pcmpistri")
SIXTEEN = [row for row in ROWS if row.takes_memory and row.rm.size(4) == 16]


def encode(row) -> bytes:
    prefix = {"66": b"\x66", "F3": b"\xF3", "F2": b"\xF2"}.get(row.prefix, b"")
    code = prefix + {1: b"\x0F", 2: b"\x0F\x38", 3: b"\x0F\x3A"}[row.map] + bytes([row.opcode, (row.digit or 0) << 3 | 3])
    return code + (b"\x01" if any(operand.place == "I" for operand in row.operands) else b"")


@pytest.mark.parametrize("row", SIXTEEN, ids=[row.source.split("|")[0].strip() for row in SIXTEEN])
def test_sixteen_byte_operand_alignment(guest, row):
    fault = fault_of(guest, encode(row).hex(), {"rbx": DATA + 8})
    assert fault == (None if row.mnemonic in LOOSE else (GP, 0, 0))
    guest.enter()
    assert fault_of(guest, encode(row).hex(), {"rbx": DATA + 16}) is None


SMALL = [row for row in ROWS if row.takes_memory and 0 < row.rm.size(4) < 16 and row.shape != "nop" and "w1" not in row.attributes]


@pytest.mark.parametrize("row", SMALL, ids=[row.source.split("|")[0].strip() + " " + row.mnemonic for row in SMALL])
def test_operand_reads_no_byte_too_many(row):
    """The page behind the operand is not there; one byte more of it faults."""
    bench = Bench(64)
    map_4k_pages(bench)
    size = row.rm.size(4)
    bench.memory.physical[PAGE_END - 16:PAGE_END] = bytes(16)
    assert fault_of(bench, encode(row).hex(), {"rbx": PAGE_END - size}) is None
    fault = fault_of(bench, encode(row).hex(), {"rbx": PAGE_END - size + 1})
    if size > 1:
        assert fault[0] == PF and fault[2] == PAGE_END
    elif row.shape != "nop":
        assert fault[0] == PF


def map_4k_pages(bench: Bench) -> None:
    """The first 2 MiB in small pages, without the one at PAGE_END."""
    table = TABLES + 0x3000
    entries = [page << 12 | 7 for page in range(512)]
    entries[PAGE_END >> 12] = 0
    bench.memory.physical[table:table + 4096] = struct.pack("<512Q", *entries)
    bench.memory.physical[TABLES + 0x2000:TABLES + 0x2008] = struct.pack("<Q", table | 7)
    bench.cpu.after_load()


def test_masked_store_touches_only_chosen_bytes(guest):
    """The bytes of a half of 8 are checked as one, chosen or not, as AMD's processors do it (tests/conformance)."""
    map_4k_pages(guest)
    guest.memory.physical[PAGE_END - 32:PAGE_END] = bytes(32)
    mask = int.from_bytes(bytes([0x80, 0, 0xFF, 0x7F] + [0] * 12), "little")
    guest.cpu.set_register("xmm1", mask)
    guest.cpu.set_register("xmm0", int.from_bytes(bytes(range(1, 17)), "little"))
    assert fault_of(guest, "660ff7c1", {"rdi": PAGE_END - 16}) is None
    assert bytes(guest.memory.physical[PAGE_END - 16:PAGE_END]) == bytes([1, 0, 3]) + bytes(13)
    for chosen, at in ((mask, PAGE_END - 4), ((1 << 128) - 1, PAGE_END - 4), (mask, PAGE_END - 8)):
        guest.cpu.set_register("xmm1", chosen)
        fault = fault_of(guest, "660ff7c1", {"rdi": at})
        assert fault[0] == PF and fault[2] == PAGE_END
        assert bytes(guest.memory.physical[PAGE_END - 16:PAGE_END]) == bytes([1, 0, 3]) + bytes(13)


def test_unmasked_exception_without_osxmmexcpt_is_undefined_opcode(guest):
    guest.memory.physical[DATA:DATA + 4] = struct.pack("<I", 0)
    guest.cpu.set_register("xmm0", 0x7F800001)
    assert fault_of(guest, "0fae13f30f58c0", count=2)[0] == XM
    guest.enter()
    guest.cpu.set_system(cr0=0x80000013, cr3=TABLES, cr4=0x220, efer=0xD01)
    guest.cpu.after_load()
    guest.cpu.set_register("xmm0", 0x7F800001)
    assert fault_of(guest, "0fae13f30f58c0", count=2)[0] == UD


def test_mxcsr_reserved_bits_fault(guest):
    guest.memory.physical[DATA:DATA + 4] = struct.pack("<I", 0x10000)
    assert fault_of(guest, "0fae13") == (GP, 0, 0)
    guest.enter()
    guest.memory.physical[AREA:AREA + 512] = bytes(24) + struct.pack("<I", 0x10000) + b"\xFF" * 484
    assert fault_of(guest, "0fae0b", {"rbx": AREA}) == (GP, 0, 0)
    assert guest.cpu.registers["xmm0"] == 0


# --- approximations --------------------------------------------------------------------------------------------------

def single(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def approximate(guest, opcode: str, operand: int) -> int:
    guest.cpu.set_register("xmm1", operand)
    guest.cpu.set_register("xmm0", 0)
    assert fault_of(guest, f"f30f{opcode}c1") is None
    return guest.cpu.registers["xmm0"]


@pytest.mark.parametrize("opcode, exact", (("53", lambda x: 1 / x), ("52", lambda x: x ** -0.5)), ids=("rcp", "rsqrt"))
def test_approximation_relative_error(guest, opcode, exact):
    """SDM 1 11.6.4 and SDM 2B RCPSS, RSQRTSS: at most 1.5 * 2^-12."""
    rng = random.Random(opcode)
    for _ in range(2000):
        bits = rng.randrange(1, 252) << 23 | rng.choice((0, 1, 0x7FFFFF, rng.randrange(1 << 23)))
        value = single(approximate(guest, opcode, bits))
        assert abs(value / exact(single(bits)) - 1) <= 1.5 * 2 ** -12


@pytest.mark.parametrize("operand, reciprocal, root", (
    (0, 0x7F800000, 0x7F800000), (1 << 31, 0xFF800000, 0xFF800000), (1, 0x7F800000, 0x7F800000), (0x80000001, 0xFF800000, 0xFF800000),
    (0x7F800000, 0, 0), (0xFF800000, 0x80000000, 0xFFC00000), (0x7F800001, 0x7FC00001, 0x7FC00001), (0xFFC12345, 0xFFC12345, 0xFFC12345),
    (0x7F7FFFFF, 0, None), (0xBF800000, 0xBF800000, 0xFFC00000), (0x3F800000, 0x3F800000, 0x3F800000),
    (0x40800000, 0x3E800000, 0x3F000000)))
def test_approximation_special_values(guest, operand, reciprocal, root):
    assert approximate(guest, "53", operand) == reciprocal
    if root is not None:
        assert approximate(guest, "52", operand) == root
    assert guest.cpu.registers["mxcsr"] == 0x1F80


# --- FXSAVE and XSAVE ------------------------------------------------------------------------------------------------

def legacy(seed: int, mxcsr: int = 0x1F80) -> bytes:
    rng = random.Random(seed)
    # an unmasked exception waits: else the pointers would not be stored
    head = struct.pack("<HHBBHQQII", 0x37E, 0x9881, 0xA5, 0, 0x123, 0x334455667788, 0x99AABBCC, mxcsr, 0xFFFF)
    return head + b"".join(rng.randbytes(10) + bytes(6) for _ in range(8)) + rng.randbytes(256) + bytes(96)


@pytest.mark.parametrize("bits, registers, rex", ((64, 16, "48"), (32, 8, "")))
def test_fxsave_gives_back_what_fxrstor_took(bits, registers, rex):
    bench = Bench(bits)
    before = legacy(1, 0x9FC0)
    bench.memory.physical[AREA:AREA + 512] = before
    bench.memory.physical[AREA + 512:AREA + 1024] = b"\xEE" * 512
    assert fault_of(bench, f"{rex}0fae0b {rex}0fae8300020000", {"rbx": AREA}, 2) is None
    after = bytes(bench.memory.physical[AREA + 512:AREA + 1024])
    end = 160 + 16 * registers
    assert after[32:end] == before[32:end] and after[24:32] == before[24:32] and after[:8] == before[:8]
    assert after[end:] == b"\xEE" * (512 - end)
    if bits == 64:
        assert after[:24] == before[:24]


@pytest.mark.parametrize("code", ("480fae03", "480fae23"))
def test_pointers_without_a_waiting_exception_are_stored_only_by_models_that_always_do(code):
    """CPUID 80000008H EBX bit 2: APM 3 E.4.7; without it SDM 1 table 10-2."""
    for without in (False, True):
        bench = Bench(64, tuple(number for name, number in FEATURE_NUMBERS.items() if not (without and name == "XSAVEERPTR")))
        bench.cpu.set_system(cr0=0x80000013, cr3=TABLES, cr4=0x40620, efer=0xD01)
        bench.cpu.after_load()
        bench.memory.physical[AREA:AREA + 576] = bytes(576)
        assert fault_of(bench, "dbe3d9e8" + code, {"rbx": AREA, "rax": 3, "rdx": 0}, 3) is None        # fninit; fld1
        assert struct.unpack("<HQQ", area(bench)[6:24]) == ((0x1E8, CODE + 2, 0) if without else (0, 0, 0))


@pytest.mark.parametrize("code", ("0fae03", "0fae0b"))
def test_fxsave_faults(guest, code):
    assert fault_of(guest, code, {"rbx": DATA + 8}) == (GP, 0, 0)
    for cr0 in (0x8000001B, 0x80000017):
        guest.enter()
        guest.cpu.set_system(cr0=cr0, cr3=TABLES, cr4=0x620, efer=0xD01)
        guest.cpu.after_load()
        assert fault_of(guest, code, {"rbx": DATA + 8})[0] == NM


def test_fxsave_over_page_end_that_faults_writes_nothing(guest):
    map_4k_pages(guest)
    start = PAGE_END - 256
    guest.memory.physical[start:PAGE_END] = b"\xEE" * 256
    fault = fault_of(guest, "0fae03", {"rbx": start})
    assert fault[0] == PF and fault[2] == start + 511        # AMD's processors begin with the last byte (tests/conformance)
    assert bytes(guest.memory.physical[start:PAGE_END]) == b"\xEE" * 256


def xsave_guest(xcr0: int = 3) -> Bench:
    bench = Bench(64)
    bench.cpu.set_system(cr0=0x80000013, cr3=TABLES, cr4=0x40620, efer=0xD01)
    bench.cpu.after_load()
    assert fault_of(bench, "0f01d1", {"rax": xcr0, "rdx": 0, "rcx": 0}) is None
    return bench


def area(bench: Bench, size: int = 640) -> bytes:
    return bytes(bench.memory.physical[AREA:AREA + size])


def load_state(bench: Bench) -> bytes:
    bench.memory.physical[DATA:DATA + 512] = legacy(2, 0x1FA0)
    assert fault_of(bench, "480fae0b") is None
    return legacy(2, 0x1FA0)


@pytest.mark.parametrize("mask", (0, 1, 2, 3, (1 << 64) - 1))
def test_xsave_stores_the_components_asked_for(mask):
    bench = xsave_guest()
    state = load_state(bench)
    bench.memory.physical[AREA:AREA + 640] = b"\xEE" * 512 + struct.pack("<Q", 0) + b"\xEE" * 120
    assert fault_of(bench, "480fae23", {"rbx": AREA, "rax": mask & 0xFFFFFFFF, "rdx": mask >> 32}) is None
    image = area(bench)
    assert image[:24] == (state[:24] if mask & 1 else b"\xEE" * 24)
    assert image[32:160] == (state[32:160] if mask & 1 else b"\xEE" * 128)
    assert image[24:32] == (state[24:32] if mask & 2 else b"\xEE" * 8)
    assert image[160:416] == (state[160:416] if mask & 2 else b"\xEE" * 256)
    assert struct.unpack("<Q", image[512:520])[0] == mask & 3
    assert image[416:512] == b"\xEE" * 96 and image[520:] == b"\xEE" * 120


def test_xsave_keeps_bits_that_were_not_asked_for():
    bench = xsave_guest()
    bench.memory.physical[AREA:AREA + 640] = bytes(512) + struct.pack("<Q", 0x2FF) + bytes(120)
    assert fault_of(bench, "480fae23", {"rbx": AREA, "rax": 2, "rdx": 0}) is None
    assert struct.unpack("<Q", area(bench)[512:520])[0] == 0x2FD


def test_xsaveopt_leaves_initial_components_alone():
    bench = xsave_guest()
    bench.memory.physical[AREA:AREA + 640] = b"\xEE" * 512 + bytes(128)
    bench.cpu.set_register("xmm3", 5)
    assert fault_of(bench, "dbe3 480fae33", {"rbx": AREA, "rax": 3, "rdx": 0}, 2) is None
    image = area(bench)
    assert struct.unpack("<Q", image[512:520])[0] == 3 or image[:24] == b"\xEE" * 24
    assert image[208:224] == (5).to_bytes(16, "little")


def test_xsavec_writes_the_compacted_header():
    bench = xsave_guest()
    bench.memory.physical[AREA:AREA + 640] = b"\xEE" * 640
    bench.cpu.set_register("xmm3", 5)
    assert fault_of(bench, "480fc723", {"rbx": AREA, "rax": 2, "rdx": 0}) is None
    image = area(bench)
    assert struct.unpack("<QQ", image[512:528]) == (2, 1 << 63 | 2)
    assert image[528:] == b"\xEE" * 112 and image[:24] == b"\xEE" * 24 and image[208:224] == (5).to_bytes(16, "little")


@pytest.mark.parametrize("compact", (False, True))
@pytest.mark.parametrize("present", (0, 1, 2, 3))
def test_xrstor_restores_or_initialises(compact, present):
    bench = xsave_guest()
    load_state(bench)
    wanted = legacy(3, 0x5F80)
    header = struct.pack("<QQ", present, (1 << 63 | 3) if compact else 0) + bytes(48)
    bench.memory.physical[AREA:AREA + 576] = wanted + header
    assert fault_of(bench, "480fae2b 480fae8300040000", {"rbx": AREA, "rax": 3, "rdx": 0}, 2) is None
    after = bytes(bench.memory.physical[AREA + 1024:AREA + 1536])
    assert after[160:416] == (wanted[160:416] if present & 2 else bytes(256))
    assert after[32:160] == (wanted[32:160] if present & 1 else bytes(128))
    assert after[:24] == (wanted[:24] if present & 1 else struct.pack("<HHH", 0x37F, 0, 0) + bytes(18))
    loaded = present & 2 if compact else True
    assert struct.unpack("<I", after[24:28])[0] == (0x5F80 if loaded else 0x1F80)


@pytest.mark.parametrize("offset, value", ((512, 4), (520, 1), (528, 1), (520, 1 << 63 | 4), (24, 1 << 16)))
def test_xrstor_refuses_a_bad_area(offset, value):
    bench = xsave_guest()
    image = bytearray(576)
    image[24:28] = struct.pack("<I", 0x1F80)
    image[offset:offset + 8] = struct.pack("<Q", value)
    bench.memory.physical[AREA:AREA + 576] = bytes(image)
    bench.cpu.set_register("xmm0", 77)
    assert fault_of(bench, "480fae2b", {"rbx": AREA, "rax": 3, "rdx": 0}) == (GP, 0, 0)
    assert bench.cpu.registers["xmm0"] == 77


@pytest.mark.parametrize("code", ("0fae23", "0fae2b", "0fae33", "0fc723"))
def test_xsave_faults(code):
    bench = xsave_guest()
    assert fault_of(bench, code, {"rbx": AREA + 32, "rax": 3, "rdx": 0}) == (GP, 0, 0)
    bench = Bench(64)
    assert fault_of(bench, code, {"rbx": AREA + 32}) == (UD, None, 0)
    bench.enter()
    bench.cpu.set_system(cr0=0x8000001B, cr3=TABLES, cr4=0x40620, efer=0xD01)
    bench.cpu.after_load()
    assert fault_of(bench, code, {"rbx": AREA + 32}) == (NM, None, 0)


@pytest.mark.parametrize("save", ("480fae23", "480fae33", "480fc723"))
def test_protection_keys_survive(save):
    """XCR0 bit 9; the component lies right behind the header in both formats, as CPUID leaf 0DH says."""
    bench = Bench(64)
    bench.cpu.set_system(cr0=0x80000013, cr3=TABLES, cr4=0x440620, efer=0xD01)
    bench.cpu.after_load()
    assert fault_of(bench, "0f01d1", {"rax": 0x203, "rdx": 0, "rcx": 0}) is None
    assert fault_of(bench, "0f01ef", {"rax": 0x54321230, "rdx": 0, "rcx": 0}) is None
    place = 576
    bench.memory.physical[AREA:AREA + 640] = bytes(640)
    assert fault_of(bench, save, {"rbx": AREA, "rax": 0x200, "rdx": 0}) is None
    assert struct.unpack("<I", area(bench)[place:place + 4])[0] == 0x54321230
    assert fault_of(bench, "0f01ef", {"rax": 0, "rdx": 0, "rcx": 0}) is None
    assert fault_of(bench, "480fae2b 0f01ee", {"rbx": AREA, "rax": 0x200, "rdx": 0, "rcx": 0}, 2) is None
    assert bench.cpu.registers["rax"] == 0x54321230
