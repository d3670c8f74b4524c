# The CPU models: which features each has, and how CPUID names it; and the reader of --cpu.
"""Models as data. A bit is there only where all that it promises is emulated; what a model shows besides (vendor,
family, caches) is chosen so that kernels take their plain paths: an AMD vendor (no Meltdown, so no page table
isolation), a family without errata."""
from __future__ import annotations

from typing import NamedTuple, NoReturn

from emu.base.errors import UsageError
from emu.isa.features import ALIASES, FEATURE_NUMBERS, NEEDS

_486 = "FPU I486 CPUID"
_PENTIUM3 = _486 + (" VME DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 MMX FXSR SSE NOPL HYPERVISOR")
_V1 = _486 + (" VME DE PSE TSC MSR PAE MCE CX8 APIC SEP MTRR PGE MCA CMOV PAT PSE36 CLFSH MMX MMXEXT FXSR XSAVEERPTR SSE SSE2 NOPL"
              " SYSCALL NX LM CR8_LEGACY OSVW INVARIANT_TSC RDTSCP PREFETCHW HYPERVISOR")
_V2 = _V1 + (" SSE3 SSSE3 SSE41 SSE42 POPCNT CX16 LAHF MOVBE RDRAND RDSEED XSAVE XSAVEOPT FSGSBASE SMEP SMAP UMIP PKU PCID INVPCID"
             " PAGE1GB X2APIC TSC_DEADLINE CLFLUSHOPT RDPID")


class CpuModel(NamedTuple):
    """One CPU model. names: its features; signature: CPUID 1 EAX; max_leaf, max_extended: CPUID 0 and 80000000H EAX
    (max_extended 0: no extended leaves); physical_bits: width of physical addresses."""

    name: str
    number: int
    vendor: str
    signature: int
    brand: str
    max_leaf: int
    max_extended: int
    physical_bits: int
    names: frozenset[str]

    @property
    def features(self) -> tuple[int, ...]:
        """Feature numbers, for Core."""
        return tuple(sorted(FEATURE_NUMBERS[name] for name in self.names))

    @property
    def has_apic(self) -> bool:
        return "APIC" in self.names

    @property
    def has_long_mode(self) -> bool:
        return "LM" in self.names


# Signatures: a 486DX4 (SDM 2A CPUID), a Pentium III "Coppermine", an AMD of family 11H (no errata that kernels work around).
MODELS = (
    CpuModel("486", 0, "GenuineIntel", 0x00000480, "", 1, 0, 32, frozenset(_486.split())),
    CpuModel("pentium3", 1, "GenuineIntel", 0x00000686, "", 2, 0, 36, frozenset(_PENTIUM3.split())),
    CpuModel("v1", 2, "AuthenticAMD", 0x00200F31, "emu x86-64-v1", 0x16, 0x80000021, 40, frozenset(_V1.split())),
    CpuModel("v2", 3, "AuthenticAMD", 0x00200F31, "emu x86-64-v2", 0x16, 0x80000021, 40, frozenset(_V2.split())),
)
NAMES = tuple(model.name for model in MODELS)
# Parts of every model that cannot be taken away, and bits that mean nothing to switch.
_FIXED = {"ALWAYS", "I486", "CPUID", "NOPL"}


def _known(word: str, wanted: str, known: list[str], what: str) -> NoReturn:
    import difflib          # here: a name that is known needs none of it
    close = difflib.get_close_matches(wanted.lower(), [name.lower() for name in known], 1, 0.4)
    raise UsageError("--cpu", f"no {what} is named {word!r}", "known are " + ", ".join(sorted(name.lower() for name in known)),
                     f"did you mean {close[0]!r}?" if close else f"choose one of the {what}s that are known")


def _feature(word: str) -> str:
    name = word.upper().replace("-", "_").replace(".", "")
    name = ALIASES.get(word.upper(), ALIASES.get(name, name))
    known = sorted(({name for model in MODELS for name in model.names}) - _FIXED)
    if name not in known:
        _known(word, name, known, "CPU feature")
    return name


def _add(names: set[str], feature: str) -> None:
    names.add(feature)
    for needed in NEEDS.get(feature, ()):
        if needed not in names:
            _add(names, needed)


def _remove(names: set[str], feature: str) -> None:
    names.discard(feature)
    for other in list(names):
        if other in names and feature in NEEDS.get(other, ()):
            _remove(names, other)


def resolve_cpu(text: str) -> CpuModel:
    """The model that `text` names: `MODEL[,+FEATURE|,-FEATURE]...`; UsageError with the nearest name where there is none.

    Adding a feature adds what it needs; removing one removes what needs it."""
    head, *changes = [word.strip() for word in text.split(",")]
    model = next((model for model in MODELS if model.name == head.lower()), None)
    if model is None:
        _known(head, head, list(NAMES), "CPU model")
    names = set(model.names)
    for change in changes:
        if change[:1] not in ("+", "-") or len(change) < 2:
            raise UsageError("--cpu", f"{change!r} in {text!r}", "wanted is +FEATURE or -FEATURE after the model",
                             "for example --cpu v2,-sse4.2")
        (_add if change[0] == "+" else _remove)(names, _feature(change[1:]))
    if "LM" in names and not model.has_long_mode:
        raise UsageError("--cpu", text, f"the model {model.name} has no long mode", "take v1 or v2 and remove features")
    return model._replace(names=frozenset(names))
