# CPU models and CPUID. Places of feature bits: SDM 2A CPUID, APM 3 appendix E; flag names of /proc/cpuinfo.
import pytest

from emu.base.clock import Clock
from emu.base.errors import UsageError
from emu.cpu.core import Core, Processors
from emu.cpu.models import MODELS, resolve_cpu
from emu.isa.features import BITS, FEATURES, NEEDS
from emu.isa.generate import load_rows
from emu.memory.ports import Ports
from emu.memory.space import PhysicalMemory


def cpuid(text: str, leaf: int, subleaf: int = 0, number: int = 0, cpus: int = 1) -> tuple:
    """EAX, EBX, ECX, EDX of a leaf, from real mode, on CPU `number` of `cpus`."""
    model = resolve_cpu(text)
    memory, clock = PhysicalMemory(1 << 20), Clock()
    processors = Processors(memory, clock)
    all_cpus = [Core(memory, Ports(), clock, features=model.features, processors=processors, model=model.number,
                     physical_bits=model.physical_bits) for _ in range(cpus)]
    cpu = all_cpus[number]
    for other in all_cpus:
        other.set_system(waits=other is not cpu)
    memory.physical[0x1000:0x1002] = b"\x0f\xa2"
    cpu.set_segment(1, 0, 0, 0xFFFF, 0x9B)
    for name, value in {"rip": 0x1000, "rax": leaf, "rcx": subleaf}.items():
        cpu.set_register(name, value)
    cpu.after_load()
    assert cpu.run(1) == "target"
    return tuple(cpu.registers[name] for name in ("rax", "rbx", "rcx", "rdx"))


@pytest.mark.parametrize("name,vendor", [("486", b"GenuineIntel"), ("pentium3", b"GenuineIntel"), ("v1", b"AuthenticAMD"),
                                         ("v2", b"AuthenticAMD")])
def test_vendor(name, vendor):
    _, ebx, ecx, edx = cpuid(name, 0)
    assert b"".join(value.to_bytes(4, "little") for value in (ebx, edx, ecx)) == vendor


def test_family_and_model():
    assert cpuid("486", 1)[0] >> 8 & 15 == 4
    eax = cpuid("pentium3", 1)[0]
    assert (eax >> 8 & 15, eax >> 4 & 15) == (6, 8)


# psABI micro-architecture levels: v1 and v2
V1_EDX = {"fpu": 0, "cx8": 8, "cmov": 15, "mmx": 23, "fxsr": 24, "sse": 25, "sse2": 26}
V2_ECX = {"sse3": 0, "ssse3": 9, "cx16": 13, "sse4.1": 19, "sse4.2": 20, "popcnt": 23}


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_levels_of_the_abi(name):
    _, _, ecx, edx = cpuid(name, 1)
    assert all(edx >> bit & 1 for bit in V1_EDX.values())
    assert all((ecx >> bit & 1) == (name == "v2") for bit in V2_ECX.values())
    _, _, ecx, edx = cpuid(name, 0x80000001)
    assert edx >> 29 & 1 and edx >> 11 & 1
    assert (ecx & 1) == (name == "v2")


def test_old_models_have_no_long_mode():
    for name in ("486", "pentium3"):
        assert cpuid(name, 0x80000001) == (0, 0, 0, 0)
    _, _, _, edx = cpuid("486", 1)
    assert edx == 1


def test_brand():
    text = b"".join(value.to_bytes(4, "little") for leaf in (2, 3, 4) for value in cpuid("v2", 0x80000000 + leaf))
    assert text.rstrip(b"\0") == b"emu x86-64-v2"


def test_features_can_be_taken_and_given():
    assert cpuid("v2,-sse4.2", 1)[2] >> 20 & 1 == 0
    assert cpuid("v1,+rdrand", 1)[2] >> 30 & 1
    assert "SSE42" not in resolve_cpu("v2,-ssse3").names            # it needs what was taken
    assert "XSAVE" in resolve_cpu("v1,+xsaveopt").names


@pytest.mark.parametrize("text,near", [("v3", "v2"), ("pentium", "pentium3"), ("v2,+sse43", "sse4"), ("v2,-rdrnd", "rdrand"),
                                       ("v2,avx", "+"), ("486,+lm", "v1")])
def test_wrong_names_are_refused_with_what_is_near(text, near):
    with pytest.raises(UsageError) as caught:
        resolve_cpu(text)
    assert near in str(caught.value)


def test_every_feature_of_a_model_is_consistent():
    for model in MODELS:
        for name in model.names:
            assert name in FEATURES
            assert all(needed in model.names for needed in NEEDS.get(name, ())), (model.name, name)


def test_no_two_features_share_a_bit():
    for bits in BITS.values():
        assert len(set(bits.values())) == len(bits)


def test_instruction_sets_that_are_claimed_have_rows():
    """A bit for instructions is shown only where the table has instructions under it."""
    gated = {row.cpuid for row in load_rows()}
    for name in ("MMX", "SSE", "SSE2", "SSE3", "SSSE3", "SSE41", "SSE42", "CX8", "CX16", "CMOV", "POPCNT", "MOVBE", "RDRAND", "RDSEED",
                 "XSAVE", "XSAVEOPT", "FSGSBASE", "RDTSCP", "RDPID", "PKU", "SYSCALL", "SEP", "CLFLUSHOPT", "INVPCID", "FXSR", "TSC",
                 "MSR", "CLFSH", "PREFETCHW"):
        assert name in gated, name


def test_leaf_d_describes_the_area():
    eax, ebx, ecx, _ = cpuid("v2", 0xD)
    assert eax == 0x203
    size, offset = cpuid("v2", 0xD, 9)[:2]
    assert (size, offset) == (8, 576)
    assert ecx == offset + size
    assert ebx == 576


def test_leaves_beyond_the_last_are_zero():
    assert cpuid("v2", 0x17) == (0, 0, 0, 0)
    assert cpuid("v2", 0x80000030) == (0, 0, 0, 0)


def test_legacy_performance_counters_are_amds_and_count_nothing():
    for text, there in (("v2", True), ("v1", True), ("pentium3", False)):        # APM 2 13.2.1: C001_0000H to C001_0007H
        model = resolve_cpu(text)
        for index in (0xC0010000, 0xC0010007, 0xC0010008):
            memory = PhysicalMemory(1 << 20)
            cpu = Core(memory, Ports(), Clock(), features=model.features, model=model.number, physical_bits=model.physical_bits)
            memory.physical[0x1000:0x1004] = b"\x0f\x30\x0f\x32"              # wrmsr; rdmsr
            memory.physical[0x34:0x38] = b"\0\x20\0\0"                        # #GP: 0000:2000, where HLT is
            memory.physical[0x2000] = 0xF4
            cpu.set_segment(1, 0, 0, 0xFFFF, 0x9B)
            for name, value in {"rip": 0x1000, "rax": 0xFFFF, "rdx": 7, "rcx": index, "rsp": 0x800}.items():
                cpu.set_register(name, value)
            cpu.after_load()
            cpu.run(3)
            good = there and index < 0xC0010008
            assert (cpu.registers["rip"] < 0x2000, cpu.registers["rax"]) == (good, 0 if good else 0xFFFF)


@pytest.mark.parametrize("cpus, bits", [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (255, 8)])
def test_cpus_of_the_64_bit_models_are_cores_of_one_package(cpus, bits):
    """APM 3 appendix E.5: leaf 1 EBX 23:16 and EDX 28, 8000_0001 ECX 1 (CmpLegacy), 8000_0008 ECX; SDM 2A, leaf 0BH."""
    last = cpus - 1
    _, ebx, _, edx = cpuid("v2", 1, number=last, cpus=cpus)
    assert (ebx >> 24, ebx >> 16 & 0xFF, edx >> 28 & 1) == (last, cpus, int(cpus > 1))
    assert cpuid("v2", 0x80000001, number=last, cpus=cpus)[2] >> 1 & 1 == int(cpus > 1)
    assert cpuid("v2", 0x80000008, number=last, cpus=cpus)[2] == (cpus - 1 | bits << 12)
    assert cpuid("v2", 0xB, 0, number=last, cpus=cpus) == (0, 1, 0x100, last)
    assert cpuid("v2", 0xB, 1, number=last, cpus=cpus) == (bits, cpus, 0x201, last)
    assert cpuid("v2", 0xB, 2, number=last, cpus=cpus) == (0, 0, 2, last)


def test_each_pentium_3_is_a_package_of_its_own():
    for number in (0, 1):
        _, ebx, _, edx = cpuid("pentium3", 1, number=number, cpus=2)
        assert (ebx >> 24, ebx >> 16 & 0xFF, edx >> 28 & 1) == (number, 1, 0)
