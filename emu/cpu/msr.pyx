# Model-specific registers (SDM 4; AMD's: APM 2 appendix A). One that is not here gives #GP(0).
from emu.base.types cimport i64, u8, u32, u64
from emu.cpu.access cimport flush_tlb, run_alone, set_fault
from emu.cpu.cpuid cimport has_feature, is_amd
from emu.cpu.gen.features cimport *
from emu.cpu.mode cimport update_mode
from emu.cpu.state cimport *

cdef enum:
    MSR_TSC = 0x10
    MSR_PLATFORM_ID = 0x17
    MSR_APIC_BASE = 0x1B
    MSR_TSC_ADJUST = 0x3B
    MSR_BIOS_UPDATE = 0x79
    MSR_BIOS_SIGN_ID = 0x8B
    MSR_MTRR_CAP = 0xFE
    MSR_SYSENTER_CS = 0x174
    MSR_SYSENTER_ESP = 0x175
    MSR_SYSENTER_EIP = 0x176
    MSR_MCG_CAP = 0x179
    MSR_MCG_STATUS = 0x17A
    MSR_MCG_CTL = 0x17B
    MSR_MISC_ENABLE = 0x1A0
    MSR_DEBUGCTL = 0x1D9
    MSR_MTRR_VARIABLE = 0x200
    MSR_MTRR_VARIABLE_END = 0x20F
    MSR_PAT = 0x277
    MSR_MTRR_DEF_TYPE = 0x2FF
    MSR_TSC_DEADLINE = 0x6E0
    MSR_X2APIC = 0x800
    MSR_X2APIC_END = 0x8FF
    # places in Cpu.msr_plain[]
    PLAIN_HWCR = 0
    PLAIN_SYSCFG = 1
    PLAIN_NB_CFG = 2
    PLAIN_TOP_MEM = 3
    PLAIN_TOP_MEM2 = 4
    PLAIN_INT_PENDING = 5
    PLAIN_DE_CFG = 6
    PLAIN_LS_CFG = 7
    PLAIN_MCG_STATUS = 8
cdef u32 MSR_EFER = <u32>0xC0000080
cdef u32 MSR_STAR = <u32>0xC0000081
cdef u32 MSR_LSTAR = <u32>0xC0000082
cdef u32 MSR_CSTAR = <u32>0xC0000083
cdef u32 MSR_SFMASK = <u32>0xC0000084
cdef u32 MSR_FS_BASE = <u32>0xC0000100
cdef u32 MSR_GS_BASE = <u32>0xC0000101
cdef u32 MSR_KERNEL_GS_BASE = <u32>0xC0000102
cdef u32 MSR_TSC_AUX = <u32>0xC0000103
cdef u32 MSR_OSVW_LENGTH = <u32>0xC0010140
cdef u32 MSR_OSVW_STATUS = <u32>0xC0010141
cdef u64 HWCR_TSC_FREQUENCY_SELECT = 1 << 24     # the TSC counts at the P0 frequency; read-only
# IA32_MISC_ENABLE: fast strings, no BTS, no PEBS
cdef u64 MISC_ENABLE_WRITABLE = 1
cdef u64 MISC_ENABLE_FIXED = (1 << 11) | (1 << 12)


cdef struct PlainMsr:            # storage without an effect of its own
    u32 index
    u32 place
    u64 writable                 # other bits read as they are and may be written only as they are read
    bint amd                     # AMD's; else machine check's

cdef enum:
    PLAIN_MSRS = 9
cdef PlainMsr[PLAIN_MSRS] plain_msrs


cdef void set_plain(int k, u32 index, u32 place, u64 writable, bint amd) noexcept:
    plain_msrs[k].index = index
    plain_msrs[k].place = place
    plain_msrs[k].writable = writable
    plain_msrs[k].amd = amd


set_plain(0, <u32>0xC0010015, PLAIN_HWCR, <u64>0xFEFFFFFF, True)
set_plain(1, <u32>0xC0010010, PLAIN_SYSCFG, 0x7C0000, True)
set_plain(2, <u32>0xC001001F, PLAIN_NB_CFG, ~<u64>0, True)
set_plain(3, <u32>0xC001001A, PLAIN_TOP_MEM, <u64>0x000FFFFFFF800000, True)
set_plain(4, <u32>0xC001001D, PLAIN_TOP_MEM2, <u64>0x000FFFFFFF800000, True)
set_plain(5, <u32>0xC0010055, PLAIN_INT_PENDING, <u64>0x1FFFFFFF, True)
set_plain(6, <u32>0xC0011029, PLAIN_DE_CFG, ~<u64>0, True)
set_plain(7, <u32>0xC0011020, PLAIN_LS_CFG, ~<u64>0, True)
set_plain(8, MSR_MCG_STATUS, PLAIN_MCG_STATUS, 0, False)


cdef inline bint canonical(u64 linear) noexcept nogil:
    return (<i64>(linear << 16) >> 16) == <i64>linear


cdef inline int general_protection(Cpu* c) noexcept nogil:
    return set_fault(c, GP, True, 0)


cdef PlainMsr* find_plain(Cpu* c, u32 index) noexcept nogil:
    cdef int k
    for k in range(PLAIN_MSRS):
        if plain_msrs[k].index == index and (is_amd(c) if plain_msrs[k].amd else has_feature(c, FEATURE_MCA)):
            return &plain_msrs[k]
    return NULL


cdef int fixed_mtrr(u32 index) noexcept nogil:
    """The place of a fixed-range MTRR in mtrr_fixed[], or -1."""
    if index == 0x250:
        return 0
    if index == 0x258 or index == 0x259:
        return <int>index - 0x258 + 1
    if 0x268 <= index <= 0x26F:
        return <int>index - 0x268 + 3
    return -1


cdef inline bint memory_type(u64 value, bint pat) noexcept nogil:
    """Whether a byte is a legal type: UC, WC, WT, WP, WB; UC- in the PAT only (SDM 3A 11.11.2.1, 11.12.2)."""
    return value == 0 or value == 1 or value == 4 or value == 5 or value == 6 or (pat and value == 7)


cdef bint memory_types(u64 value, bint pat) noexcept nogil:
    cdef int k
    for k in range(8):
        if not memory_type((value >> (8 * k)) & 0xFF, pat):
            return False
    return True


cdef inline u64 time_stamp(Cpu* c) noexcept nogil:
    """1 GHz: a tick is a nanosecond of virtual time; exact where the instruction runs alone."""
    return c.clock.now_ns + c.tsc_offset


cdef int read_apic(Cpu* c, u32 index, u64* value) noexcept nogil:
    if c.port.apic_msr_read == NULL:
        return general_protection(c)
    if not c.single:
        return run_alone(c)
    if c.port.apic_msr_read(c.port.apic_owner, index, value):
        return general_protection(c)
    return 0


cdef int read_msr(Cpu* c, u32 index, u64* value) noexcept nogil:
    cdef int k
    cdef PlainMsr* plain
    if index == MSR_TSC and has_feature(c, FEATURE_TSC):
        if not c.single:
            return run_alone(c)
        value[0] = time_stamp(c)
    elif index == MSR_PLATFORM_ID or index == MSR_DEBUGCTL:
        value[0] = 0
    elif index == MSR_APIC_BASE and has_feature(c, FEATURE_APIC) and c.port.apic_base_read != NULL:
        value[0] = c.port.apic_base_read(c.port.apic_owner)
    elif index == MSR_TSC_ADJUST and has_feature(c, FEATURE_TSC_ADJUST):
        value[0] = c.tsc_offset
    elif index == MSR_BIOS_SIGN_ID:
        value[0] = 0x01000065 if is_amd(c) else <u64>1 << 32
    elif index == MSR_MTRR_CAP and has_feature(c, FEATURE_MTRR):
        value[0] = 0x508                         # 8 variable ranges, fixed ones, write-combining
    elif MSR_SYSENTER_CS <= index <= MSR_SYSENTER_EIP and has_feature(c, FEATURE_SEP):
        value[0] = (c.sysenter_cs if index == MSR_SYSENTER_CS else
                    c.sysenter_esp if index == MSR_SYSENTER_ESP else c.sysenter_eip)
    elif index == MSR_MCG_CAP and has_feature(c, FEATURE_MCA):
        value[0] = 0                             # no banks
    elif index == MSR_MISC_ENABLE:
        value[0] = c.misc_enable | MISC_ENABLE_FIXED
    elif MSR_MTRR_VARIABLE <= index <= MSR_MTRR_VARIABLE_END and has_feature(c, FEATURE_MTRR):
        value[0] = c.mtrr_variable[index - MSR_MTRR_VARIABLE]
    elif fixed_mtrr(index) >= 0 and has_feature(c, FEATURE_MTRR):
        value[0] = c.mtrr_fixed[fixed_mtrr(index)]
    elif index == MSR_MTRR_DEF_TYPE and has_feature(c, FEATURE_MTRR):
        value[0] = c.mtrr_def_type
    elif index == MSR_PAT and has_feature(c, FEATURE_PAT):
        value[0] = c.pat
    elif (MSR_X2APIC <= index <= MSR_X2APIC_END and has_feature(c, FEATURE_X2APIC)) or (
            index == MSR_TSC_DEADLINE and has_feature(c, FEATURE_TSC_DEADLINE)):
        return read_apic(c, index, value)
    elif index == MSR_EFER and (has_feature(c, FEATURE_SYSCALL) or has_feature(c, FEATURE_NX)):
        value[0] = c.efer
    elif index == MSR_STAR and has_feature(c, FEATURE_SYSCALL):
        value[0] = c.star
    elif index == MSR_TSC_AUX and (has_feature(c, FEATURE_RDTSCP) or has_feature(c, FEATURE_RDPID)):
        value[0] = c.tsc_aux
    elif has_feature(c, FEATURE_LM) and index == MSR_LSTAR:
        value[0] = c.lstar
    elif has_feature(c, FEATURE_LM) and index == MSR_CSTAR:
        value[0] = c.cstar
    elif has_feature(c, FEATURE_LM) and index == MSR_SFMASK:
        value[0] = c.sfmask
    elif has_feature(c, FEATURE_LM) and index == MSR_FS_BASE:
        value[0] = c.seg[FS].base
    elif has_feature(c, FEATURE_LM) and index == MSR_GS_BASE:
        value[0] = c.seg[GS].base
    elif has_feature(c, FEATURE_LM) and index == MSR_KERNEL_GS_BASE:
        value[0] = c.kernel_gs_base
    elif index == MSR_OSVW_LENGTH and has_feature(c, FEATURE_OSVW):
        value[0] = 5                             # errata 0..4 are known about, and none applies
    elif index == MSR_OSVW_STATUS and has_feature(c, FEATURE_OSVW):
        value[0] = 0
    else:
        plain = find_plain(c, index)
        if plain == NULL:
            return general_protection(c)
        value[0] = c.msr_plain[plain.place]
        if plain.place == PLAIN_HWCR:
            value[0] |= HWCR_TSC_FREQUENCY_SELECT
    return 0


cdef int write_efer(Cpu* c, u64 value) noexcept nogil:
    cdef u64 allowed = EFER_LMA
    if has_feature(c, FEATURE_SYSCALL):
        allowed |= EFER_SCE
    if has_feature(c, FEATURE_LM):
        allowed |= EFER_LME
    if has_feature(c, FEATURE_NX):
        allowed |= EFER_NXE
    if value & ~allowed or (c.cr0 & CR0_PG and (value ^ c.efer) & EFER_LME):
        return general_protection(c)
    value = (value & ~<u64>EFER_LMA) | (c.efer & EFER_LMA)       # LMA follows CR0.PG alone
    if (value ^ c.efer) & EFER_NXE:
        flush_tlb(c, True)
    c.efer = value
    update_mode(c)
    return 0


cdef int write_apic(Cpu* c, u32 index, u64 value) noexcept nogil:
    if c.port.apic_msr_write == NULL:
        return general_protection(c)
    if not c.single:
        return run_alone(c)
    if c.port.apic_msr_write(c.port.apic_owner, index, value):
        return general_protection(c)
    return 0


cdef int write_variable_mtrr(Cpu* c, u32 index, u64 value) noexcept nogil:
    """IA32_MTRR_PHYSBASEn (even): type, base; PHYSMASKn (odd): valid, mask (SDM 3A 11.11.2.3)."""
    cdef u64 allowed = ((<u64>1 << c.physical_bits) - 1) & ~<u64>0xFFF
    if index & 1:
        if value & ~(allowed | 0x800):
            return general_protection(c)
    elif value & ~(allowed | 0xFF) or not memory_type(value & 0xFF, False):
        return general_protection(c)
    c.mtrr_variable[index - MSR_MTRR_VARIABLE] = value
    return 0


cdef int write_address(Cpu* c, u64* where, u64 value) noexcept nogil:
    """A register that holds a linear address: it must be canonical."""
    if not canonical(value):
        return general_protection(c)
    where[0] = value
    return 0


cdef int write_msr(Cpu* c, u32 index, u64 value) noexcept nogil:
    cdef PlainMsr* plain
    cdef u64 base
    if index == MSR_TSC and has_feature(c, FEATURE_TSC):
        if not c.single:
            return run_alone(c)
        c.tsc_offset = value - c.clock.now_ns
    elif index == MSR_APIC_BASE and has_feature(c, FEATURE_APIC) and c.port.apic_base_write != NULL:
        if not c.single:
            return run_alone(c)
        if c.port.apic_base_write(c.port.apic_owner, value):
            return general_protection(c)
        flush_tlb(c, True)                       # the page of its registers may have moved
    elif index == MSR_TSC_ADJUST and has_feature(c, FEATURE_TSC_ADJUST):
        c.tsc_offset = value
    elif index == MSR_BIOS_SIGN_ID or index == MSR_BIOS_UPDATE or index == <u32>0xC0010020:
        return 0                                 # no microcode to load: an update changes nothing
    elif index == MSR_DEBUGCTL:
        return general_protection(c) if value & ~<u64>0x3 else 0    # branch trace and record: nothing is recorded
    elif MSR_SYSENTER_CS <= index <= MSR_SYSENTER_EIP and has_feature(c, FEATURE_SEP):
        if index == MSR_SYSENTER_CS:
            c.sysenter_cs = value & <u64>0xFFFFFFFF
        else:
            return write_address(c, &c.sysenter_esp if index == MSR_SYSENTER_ESP else &c.sysenter_eip, value)
    elif index == MSR_MISC_ENABLE:
        c.misc_enable = value & MISC_ENABLE_WRITABLE
    elif MSR_MTRR_VARIABLE <= index <= MSR_MTRR_VARIABLE_END and has_feature(c, FEATURE_MTRR):
        return write_variable_mtrr(c, index, value)
    elif fixed_mtrr(index) >= 0 and has_feature(c, FEATURE_MTRR):
        if not memory_types(value, False):
            return general_protection(c)
        c.mtrr_fixed[fixed_mtrr(index)] = value
    elif index == MSR_MTRR_DEF_TYPE and has_feature(c, FEATURE_MTRR):
        if value & ~<u64>0xCFF or not memory_type(value & 0xFF, False):
            return general_protection(c)
        c.mtrr_def_type = value
    elif index == MSR_PAT and has_feature(c, FEATURE_PAT):
        if not memory_types(value, True):
            return general_protection(c)
        c.pat = value
    elif (MSR_X2APIC <= index <= MSR_X2APIC_END and has_feature(c, FEATURE_X2APIC)) or (
            index == MSR_TSC_DEADLINE and has_feature(c, FEATURE_TSC_DEADLINE)):
        return write_apic(c, index, value)
    elif index == MSR_EFER and (has_feature(c, FEATURE_SYSCALL) or has_feature(c, FEATURE_NX)):
        return write_efer(c, value)
    elif index == MSR_STAR and has_feature(c, FEATURE_SYSCALL):
        c.star = value
    elif index == MSR_TSC_AUX and (has_feature(c, FEATURE_RDTSCP) or has_feature(c, FEATURE_RDPID)):
        if value >> 32:
            return general_protection(c)
        c.tsc_aux = value
    elif has_feature(c, FEATURE_LM) and index == MSR_LSTAR:
        return write_address(c, &c.lstar, value)
    elif has_feature(c, FEATURE_LM) and index == MSR_CSTAR:
        return write_address(c, &c.cstar, value)
    elif has_feature(c, FEATURE_LM) and index == MSR_SFMASK:
        if value >> 32:
            return general_protection(c)
        c.sfmask = value
    elif has_feature(c, FEATURE_LM) and index == MSR_KERNEL_GS_BASE:
        return write_address(c, &c.kernel_gs_base, value)
    elif has_feature(c, FEATURE_LM) and (index == MSR_FS_BASE or index == MSR_GS_BASE):
        if write_address(c, &c.seg[FS if index == MSR_FS_BASE else GS].base, value):
            return 1
        update_mode(c)
    elif (index == MSR_OSVW_LENGTH or index == MSR_OSVW_STATUS) and has_feature(c, FEATURE_OSVW):
        return 0
    else:
        plain = find_plain(c, index)
        if plain == NULL:
            return general_protection(c)
        base = c.msr_plain[plain.place]
        c.msr_plain[plain.place] = (base & ~plain.writable) | (value & plain.writable)
    return 0


cdef int rdmsr(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 value = 0
    if c.cpl:
        return general_protection(c)
    if read_msr(c, <u32>c.regs[RCX], &value):
        return 1
    c.regs[RAX] = value & <u64>0xFFFFFFFF
    c.regs[RDX] = value >> 32
    return 0


cdef int wrmsr(Cpu* c, Insn* i) noexcept nogil:
    if c.cpl:
        return general_protection(c)
    return write_msr(c, <u32>c.regs[RCX], (c.regs[RDX] << 32) | <u32>c.regs[RAX])
