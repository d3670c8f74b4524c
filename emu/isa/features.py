# CPU features: their names, their numbers, where CPUID shows them, and what each needs.
"""A feature's number is its place in FEATURES; rows of the instruction table name it (cpuid=NAME), Cpu.features[] has
its bit. Features that the emulator lacks are not in the list, so that CPUID cannot claim them."""
from __future__ import annotations

FEATURES = (
    "ALWAYS", "FPU", "VME", "DE", "PSE", "TSC", "MSR", "PAE", "MCE", "CX8", "APIC", "SEP", "MTRR", "PGE", "MCA", "CMOV",
    "PAT", "PSE36", "CLFSH", "MMX", "FXSR", "SSE", "SSE2", "SSE3", "SSSE3", "CX16", "SSE41", "SSE42", "MOVBE",
    "POPCNT", "XSAVE", "RDRAND", "RDSEED", "SYSCALL", "NX", "RDTSCP", "LM", "LAHF", "FSGSBASE", "SMEP", "SMAP", "UMIP",
    "PKU", "PCID", "INVPCID", "CLFLUSHOPT", "CLWB", "MONITOR", "PAGE1GB", "X2APIC", "TSC_DEADLINE", "RDPID", "XSAVEOPT",
    "XSAVEC", "CPUID", "I486", "PREFETCHW", "NOPL", "WBNOINVD", "ABM", "BMI1", "BMI2", "ADX", "AES", "PCLMUL", "SHA",
    "HYPERVISOR", "CR8_LEGACY", "OSVW", "INVARIANT_TSC", "MMXEXT", "XGETBV1", "TSC_ADJUST", "XSAVEERPTR",
)
FEATURE_NUMBERS = {name: number for number, name in enumerate(FEATURES)}

# The words of CPUID that hold feature bits: (leaf, subleaf, register). Source: SDM 2A CPUID, APM 3 appendix E.
WORDS = ("1.edx", "1.ecx", "7.ebx", "7.ecx", "7.edx", "d1.eax", "80000001.edx", "80000001.ecx", "80000007.edx",
         "80000008.ebx")
BITS = {
    "1.edx": {"FPU": 0, "VME": 1, "DE": 2, "PSE": 3, "TSC": 4, "MSR": 5, "PAE": 6, "MCE": 7, "CX8": 8, "APIC": 9, "SEP": 11,
              "MTRR": 12, "PGE": 13, "MCA": 14, "CMOV": 15, "PAT": 16, "PSE36": 17, "CLFSH": 19, "MMX": 23, "FXSR": 24,
              "SSE": 25, "SSE2": 26},
    "1.ecx": {"SSE3": 0, "PCLMUL": 1, "MONITOR": 3, "SSSE3": 9, "CX16": 13, "PCID": 17, "SSE41": 19, "SSE42": 20,
              "X2APIC": 21, "MOVBE": 22, "POPCNT": 23, "TSC_DEADLINE": 24, "AES": 25, "XSAVE": 26, "RDRAND": 30,
              "HYPERVISOR": 31},
    "7.ebx": {"FSGSBASE": 0, "TSC_ADJUST": 1, "BMI1": 3, "SMEP": 7, "BMI2": 8, "INVPCID": 10, "RDSEED": 18, "ADX": 19,
              "SMAP": 20, "CLFLUSHOPT": 23, "CLWB": 24, "SHA": 29},
    "7.ecx": {"UMIP": 2, "PKU": 3, "RDPID": 22},
    "d1.eax": {"XSAVEOPT": 0, "XSAVEC": 1, "XGETBV1": 2},
    "80000001.edx": {"SYSCALL": 11, "NX": 20, "MMXEXT": 22, "PAGE1GB": 26, "RDTSCP": 27, "LM": 29},
    "80000001.ecx": {"LAHF": 0, "CR8_LEGACY": 4, "ABM": 5, "PREFETCHW": 8, "OSVW": 9},
    "80000007.edx": {"INVARIANT_TSC": 8},
    "80000008.ebx": {"XSAVEERPTR": 2, "WBNOINVD": 9},
}
# What a feature cannot be without.
NEEDS = {
    "FXSR": ("FPU",), "XSAVEERPTR": ("FXSR",), "MMX": ("FPU",), "SSE": ("FXSR",), "SSE2": ("SSE",), "SSE3": ("SSE2",), "SSSE3": ("SSE3",),
    "SSE41": ("SSSE3",), "SSE42": ("SSE41",), "XSAVE": ("FXSR",), "XSAVEOPT": ("XSAVE",), "XSAVEC": ("XSAVE",),
    "XGETBV1": ("XSAVE",), "PKU": ("XSAVE", "LM"), "LM": ("PAE", "SSE2", "SYSCALL", "MSR", "PGE"), "PAGE1GB": ("LM",),
    "X2APIC": ("APIC", "MSR"), "TSC_DEADLINE": ("APIC", "TSC", "MSR"), "PCID": ("LM",), "INVPCID": ("PCID",),
    "CX16": ("CX8", "LM"), "FSGSBASE": ("LM",), "SYSCALL": ("MSR",), "SEP": ("MSR",), "RDTSCP": ("TSC", "MSR"), "RDPID": ("MSR",),
    "MTRR": ("MSR",), "PAT": ("MTRR",), "MCA": ("MCE", "MSR"), "PSE36": ("PSE",), "NX": ("PAE", "MSR"), "APIC": ("MSR",),
    "INVARIANT_TSC": ("TSC",), "OSVW": ("MSR",), "CR8_LEGACY": ("LM",), "TSC_ADJUST": ("TSC", "MSR"), "MMXEXT": ("MMX",),
    "LAHF": ("LM",), "SMEP": ("PAE",), "SMAP": ("PAE",), "UMIP": ("CPUID",), "TSC": ("CPUID",), "MSR": ("CPUID",),
}
# Names that people use for the same thing (Linux, QEMU).
ALIASES = {"PNI": "SSE3", "SSE4_1": "SSE41", "SSE4_2": "SSE42", "LAHF_LM": "LAHF", "PDPE1GB": "PAGE1GB", "CLFLUSH": "CLFSH",
           "INVTSC": "INVARIANT_TSC", "CMPXCHG16B": "CX16", "CMPXCHG8B": "CX8", "3DNOWPREFETCH": "PREFETCHW", "RDGSBASE": "FSGSBASE",
           "PCLMULQDQ": "PCLMUL", "LZCNT": "ABM"}
