# CPUID: what the CPU says about itself (SDM 2A CPUID; APM 3 appendix E). Feature bits come from Cpu.features[] alone.
from libc.string cimport memcpy, memset

from emu.base.types cimport u8, u32, u64
from emu.cpu.gen.features cimport (FEATURE_APIC, FEATURE_CLFSH, FEATURE_LM, FEATURE_PKU, FEATURE_SSE, FEATURE_X2APIC,
                                   FEATURE_XSAVE, FEATURE_XSAVEC)
from emu.cpu.semantics.sse_state cimport (XSAVE_EXTENDED, XSAVE_PKRU, XSAVE_PKRU_BYTES, XSTATE_PKRU, XSTATE_SSE, XSTATE_X87)
from emu.cpu.state cimport CR4_OSXSAVE, CR4_PKE, Cpu

from emu.cpu.models import MODELS
from emu.isa.features import BITS, FEATURE_NUMBERS, WORDS

cdef enum:
    W_1_EDX = 0                  # places in isa.features.WORDS
    W_1_ECX = 1
    W_7_EBX = 2
    W_7_ECX = 3
    W_7_EDX = 4
    W_D1_EAX = 5
    W_EXT_EDX = 6
    W_EXT_ECX = 7
    W_POWER_EDX = 8
    W_SIZES_EBX = 9
    MAX_MODELS = 8
    MAX_BITS = 128


cdef struct Identity:
    u32 vendor[3]                # EBX, EDX, ECX of leaf 0
    u32 signature
    u32 max_leaf
    u32 max_extended
    u32 brand[12]
    bint amd


cdef struct FeatureBit:
    u8 feature
    u8 word
    u8 bit

cdef Identity[MAX_MODELS] identities
cdef FeatureBit[MAX_BITS] feature_bits
cdef int feature_bit_count = 0


def _fill():
    global feature_bit_count
    cdef bytes vendor, brand
    for model in MODELS:
        vendor = model.vendor.encode()
        brand = model.brand.encode().ljust(48, b"\0")
        memcpy(identities[<int>model.number].vendor, <const char*>vendor, 12)
        memcpy(identities[<int>model.number].brand, <const char*>brand, 48)
        identities[<int>model.number].signature = model.signature
        identities[<int>model.number].max_leaf = model.max_leaf
        identities[<int>model.number].max_extended = model.max_extended
        identities[<int>model.number].amd = vendor == b"AuthenticAMD"
    for word, bits in BITS.items():
        for name, bit in bits.items():
            if feature_bit_count == MAX_BITS:
                raise ImportError("more CPUID bits than cpuid.pyx has room for")
            feature_bits[feature_bit_count].feature = FEATURE_NUMBERS[name]
            feature_bits[feature_bit_count].word = WORDS.index(word)
            feature_bits[feature_bit_count].bit = bit
            feature_bit_count += 1


_fill()


cdef u32 feature_word(Cpu* c, int word) noexcept nogil:
    cdef u32 value = 0
    cdef int k
    for k in range(feature_bit_count):
        if feature_bits[k].word == word and has_feature(c, feature_bits[k].feature):
            value |= <u32>1 << feature_bits[k].bit
    return value


cdef bint is_amd(Cpu* c) noexcept nogil:
    return identities[c.model & (MAX_MODELS - 1)].amd


cdef u64 xcr0_mask(Cpu* c) noexcept nogil:
    """The bits that XCR0 may have."""
    if not has_feature(c, FEATURE_XSAVE):
        return 0
    return XSTATE_X87 | (XSTATE_SSE if has_feature(c, FEATURE_SSE) else 0) | (XSTATE_PKRU if has_feature(c, FEATURE_PKU) else 0)


cdef u32 area_bytes(u64 components) noexcept nogil:
    """Bytes of an XSAVE area with these components, in the standard format."""
    return XSAVE_PKRU + XSAVE_PKRU_BYTES if components & XSTATE_PKRU else XSAVE_EXTENDED


cdef u32 package_cores(Cpu* c, Identity* id) noexcept nogil:
    """All CPUs are cores of one package where there are leaves to say so (AMD's models); else each is a package of its own."""
    return <u32>c.crew.count if id.amd else 1


cdef u32 core_bits(u32 cores) noexcept nogil:
    """Bits of an APIC ID that number the cores of a package."""
    cdef u32 bits = 0
    while (<u32>1 << bits) < cores:
        bits += 1
    return bits


cdef void basic_leaf(Cpu* c, Identity* id, u32 leaf, u32 subleaf, u32* out) noexcept nogil:
    cdef u64 mask
    cdef u32 cores = package_cores(c, id)
    if leaf == 0:
        out[0] = id.max_leaf
        out[1] = id.vendor[0]
        out[2] = id.vendor[2]
        out[3] = id.vendor[1]
    elif leaf == 1:
        out[0] = id.signature
        if has_feature(c, FEATURE_CLFSH):
            out[1] |= 8 << 8                     # lines of 64 bytes
        if has_feature(c, FEATURE_APIC):
            out[1] |= (cores << 16) | (c.number << 24)
        out[2] = feature_word(c, W_1_ECX) | (<u32>1 << 27 if c.cr4 & CR4_OSXSAVE else 0)
        out[3] = feature_word(c, W_1_EDX) | (<u32>1 << 28 if cores > 1 else 0)      # HTT: EBX 23:16 is valid
        if has_feature(c, FEATURE_APIC) and c.port.apic_base_read != NULL and not (
                c.port.apic_base_read(c.port.apic_owner) & 0x800):
            out[3] &= ~(<u32>1 << 9)             # switched off in IA32_APIC_BASE (SDM 3A 11.4.3)
    elif leaf == 2 and not id.amd:
        # a Pentium III's: 4 KB TLBs, 16 KB + 16 KB level 1, 256 KB level 2
        out[0] = 0x03020101
        out[3] = 0x0C040882
    elif leaf == 6:
        out[0] = 1 << 2                          # ARAT: the APIC timer never stops
    elif leaf == 7 and subleaf == 0:
        out[1] = feature_word(c, W_7_EBX)
        out[2] = feature_word(c, W_7_ECX) | (1 << 4 if c.cr4 & CR4_PKE else 0)
        out[3] = feature_word(c, W_7_EDX)
    elif leaf == 0xB and has_feature(c, FEATURE_X2APIC):
        # one thread a core; then the cores
        out[2] = subleaf & 0xFF
        if subleaf == 0:
            out[1] = 1
            out[2] |= 1 << 8
        elif subleaf == 1:
            out[0] = core_bits(cores)
            out[1] = cores
            out[2] |= 2 << 8
        out[3] = c.number
    elif leaf == 0xD and has_feature(c, FEATURE_XSAVE):
        mask = xcr0_mask(c)
        if subleaf == 0:
            out[0] = <u32>mask
            out[1] = area_bytes(c.xcr0)
            out[2] = area_bytes(mask)
        elif subleaf == 1:
            out[0] = feature_word(c, W_D1_EAX)
            if has_feature(c, FEATURE_XSAVEC):       # the compacted format
                out[1] = XSAVE_EXTENDED + (XSAVE_PKRU_BYTES if c.xcr0 & XSTATE_PKRU else 0)
        elif subleaf == 9 and mask & XSTATE_PKRU:
            out[0] = XSAVE_PKRU_BYTES
            out[1] = XSAVE_PKRU
    elif leaf == 0x15:
        out[0] = 1                               # TSC = 25 MHz crystal * 40 / 1
        out[1] = 40
        out[2] = 25000000
    elif leaf == 0x16:
        out[0] = 1000
        out[1] = 1000
        out[2] = 100


cdef void extended_leaf(Cpu* c, Identity* id, u32 leaf, u32* out) noexcept nogil:
    cdef int k
    cdef u32 cores = package_cores(c, id)
    if leaf == <u32>0x80000000:
        out[0] = id.max_extended
        out[1] = id.vendor[0]
        out[2] = id.vendor[2]
        out[3] = id.vendor[1]
    elif leaf == <u32>0x80000001:
        out[0] = id.signature
        out[2] = feature_word(c, W_EXT_ECX) | (1 << 1 if cores > 1 else 0)       # CmpLegacy: cores, not threads
        # AMD shows the bits of leaf 1 here again: 9:0, 17:12, 24:23
        out[3] = feature_word(c, W_EXT_EDX) | (feature_word(c, W_1_EDX) & 0x0183F3FF)
    elif leaf <= <u32>0x80000004:
        for k in range(4):
            out[k] = id.brand[4 * (leaf - <u32>0x80000002) + k]
    elif leaf == <u32>0x80000005:
        out[0] = <u32>0xFF08FF08                      # TLBs for 2 MB pages, then 4 KB pages
        out[1] = <u32>0xFF20FF20
        out[2] = 0x40020140                      # 64 KB level 1, 2-way, lines of 64 bytes
        out[3] = 0x40020140
    elif leaf == <u32>0x80000006:
        out[1] = 0x42004200                      # 512 entries, 4-way
        out[2] = 0x02008140                      # 512 KB level 2, 16-way
    elif leaf == <u32>0x80000007:
        out[3] = feature_word(c, W_POWER_EDX)
    elif leaf == <u32>0x80000008:
        out[0] = c.physical_bits | ((48 if has_feature(c, FEATURE_LM) else 32) << 8)
        out[1] = feature_word(c, W_SIZES_EBX)
        out[2] = (cores - 1) | core_bits(cores) << 12
    elif leaf == <u32>0x80000021:
        out[0] = (1 << 2) | (1 << 6)             # LFENCE serialises; a null selector clears the base


cdef void read_cpuid(Cpu* c, u32 leaf, u32 subleaf, u32* out) noexcept nogil:
    """EAX, EBX, ECX, EDX of a leaf into out[0..3]. Leaves beyond the last give zeros, as AMD's processors do."""
    cdef Identity* id = &identities[c.model & (MAX_MODELS - 1)]
    memset(out, 0, 16)
    if leaf >= <u32>0x80000000:
        if leaf <= id.max_extended:
            extended_leaf(c, id, leaf, out)
    elif leaf <= id.max_leaf:
        basic_leaf(c, id, leaf, subleaf, out)
