# CPU features: their names, their numbers, and which CPU model has which.

FEATURES = (
    "ALWAYS", "FPU", "VME", "DE", "PSE", "TSC", "MSR", "PAE", "MCE", "CX8", "APIC", "SEP", "MTRR", "PGE", "MCA", "CMOV",
    "PAT", "PSE36", "CLFSH", "MMX", "FXSR", "SSE", "SSE2", "SSE3", "SSSE3", "CX16", "SSE41", "SSE42", "MOVBE",
    "POPCNT", "XSAVE", "RDRAND", "RDSEED", "SYSCALL", "NX", "RDTSCP", "LM", "LAHF", "FSGSBASE", "SMEP", "SMAP", "UMIP",
    "PKU", "PCID", "INVPCID", "CLFLUSHOPT", "CLWB", "MONITOR", "PAGE1GB", "X2APIC", "TSC_DEADLINE", "RDPID", "XSAVEOPT",
    "XSAVEC", "CPUID", "I486", "PREFETCHW", "NOPL", "WBNOINVD", "ABM", "BMI1", "BMI2", "ADX", "AES", "PCLMUL", "SHA",
)
FEATURE_NUMBERS = {name: number for number, name in enumerate(FEATURES)}
