# Model-specific registers (SDM 4; APM 2 appendix A). One that is not here raises #GP(0), as on hardware.
from emu.base.types cimport u32, u64
from emu.cpu.access cimport flush_tlb, set_fault
from emu.cpu.cpuid cimport has_feature, is_amd
from emu.cpu.gen.features cimport *
from emu.cpu.mode cimport canonical, update_mode
from emu.cpu.state cimport *

cdef enum:
    TIME_STAMP_COUNTER = 0x10
    PLATFORM_ID = 0x17
    APIC_BASE = 0x1B
    TSC_ADJUST = 0x3B
    BIOS_UPDATE_TRIGGER = 0x79
    BIOS_SIGN_ID = 0x8B
    MTRR_CAP = 0xFE
    SYSENTER_CS = 0x174
    SYSENTER_ESP = 0x175
    SYSENTER_EIP = 0x176
    MCG_CAP = 0x179
    MCG_STATUS = 0x17A
    MISC_ENABLE = 0x1A0
    MTRR_FIX16K_80000 = 0x258
    MTRR_FIX16K_A0000 = 0x259
    MTRR_FIX4K = 0x268
    TSC_DEADLINE = 0x6E0
    X2APIC_FIRST = 0x800
    X2APIC_LAST = 0x8FF
    SHIFT_4K = 3

cdef u32 EFER = 0xC0000080
cdef u32 STAR = 0xC0000081
cdef u32 LSTAR = 0xC0000082
cdef u32 CSTAR = 0xC0000083
cdef u32 SFMASK = 0xC0000084
cdef u32 FS_BASE = 0xC0000100
cdef u32 GS_BASE = 0xC0000101
cdef u32 KERNEL_GS_BASE = 0xC0000102
cdef u32 TSC_AUX = 0xC0000103
cdef u32 AMD_PERF_FIRST = 0xC0010000      # four event selectors, four counters
cdef u32 AMD_PERF_LAST = 0xC0010007
cdef u32 AMD_SYSCFG = 0xC0010010
cdef u32 AMD_HWCR = 0xC0010015
cdef u32 AMD_TOP_MEM = 0xC001001A
cdef u32 AMD_TOP_MEM2 = 0xC001001D
cdef u32 AMD_NB_CFG = 0xC001001F
cdef u32 AMD_PATCH_LOADER = 0xC0010020
cdef u32 AMD_INT_PENDING = 0xC0010055
cdef u32 AMD_TSEG_BASE = 0xC0010112
cdef u32 AMD_OSVW_LENGTH = 0xC0010140
cdef u32 AMD_OSVW_STATUS = 0xC0010141
cdef u32 AMD_DE_CFG = 0xC0011029


cdef inline bint memory_type(u64 type) noexcept nogil:
    """Types that MTRRs take: UC, WC, WT, WP, WB."""
    return type == 0 or type == 1 or type == 4 or type == 5 or type == 6


cdef bint all_types(u64 value, bint pat) noexcept nogil:
    """Every byte is a memory type; PAT also knows UC- (7)."""
    cdef int k
    cdef u64 type
    for k in range(8):
        type = (value >> (8 * k)) & 0xFF
        if not memory_type(type) and not (pat and type == 7):
            return False
    return True


cdef inline bint legacy_counter(u32 index) noexcept nogil:
    """The performance counters that every AMD64 processor has (APM 2 13.2.1).

    DEVIATES: they count nothing, read as 0 and drop what is written, by which Linux sees that it has none."""
    return AMD_PERF_FIRST <= index <= AMD_PERF_LAST


cdef int fixed_range(u32 index) noexcept nogil:
    """The place of a fixed-range MTRR, or -1."""
    if index == MSR_MTRR_FIXED:
        return 0
    if index == MTRR_FIX16K_80000 or index == MTRR_FIX16K_A0000:
        return 1 + <int>(index - MTRR_FIX16K_80000)
    if MTRR_FIX4K <= index < MTRR_FIX4K + 8:
        return SHIFT_4K + <int>(index - MTRR_FIX4K)
    return -1


cdef bint holds_memory_type(u32 index) noexcept nogil:
    return (MSR_MTRR_VARIABLE <= index < MSR_MTRR_VARIABLE + 16 or fixed_range(index) >= 0 or index == MSR_MTRR_DEF_TYPE
            or index == MSR_PAT)


cdef bint valid_memory_type(Cpu* c, u32 index, u64 value) noexcept nogil:
    if index == MSR_PAT:
        return all_types(value, True)
    if index == MSR_MTRR_DEF_TYPE:
        return not value & ~<u64>0xCFF and memory_type(value & 0xFF)
    if fixed_range(index) >= 0:
        return all_types(value, False)
    if value & (~<u64>0 << c.physical_bits):
        return False
    return not value & 0x7FF if index & 1 else not value & 0xF00 and memory_type(value & 0xFF)


cdef bint is_present(Cpu* c, u32 index) noexcept nogil:
    """Whether the CPU model has the feature that the register belongs to."""
    if index == TIME_STAMP_COUNTER:
        return has_feature(c, FEATURE_TSC)
    if index == TSC_ADJUST:
        return has_feature(c, FEATURE_TSC_ADJUST)
    if index == APIC_BASE:
        return has_feature(c, FEATURE_APIC)
    if index == TSC_DEADLINE:
        return has_feature(c, FEATURE_TSC_DEADLINE)
    if X2APIC_FIRST <= index <= X2APIC_LAST:
        return has_feature(c, FEATURE_X2APIC)
    if SYSENTER_CS <= index <= SYSENTER_EIP:
        return has_feature(c, FEATURE_SEP)
    if index == MSR_PAT:
        return has_feature(c, FEATURE_PAT)
    if index == MTRR_CAP or MSR_MTRR_VARIABLE <= index < MSR_MTRR_VARIABLE + 16 or index == MSR_MTRR_DEF_TYPE or fixed_range(index) >= 0:
        return has_feature(c, FEATURE_MTRR)
    if index == MCG_CAP or index == MCG_STATUS:
        return has_feature(c, FEATURE_MCA)
    if index == EFER:
        return has_feature(c, FEATURE_SYSCALL) or has_feature(c, FEATURE_NX)
    if index == STAR:
        return has_feature(c, FEATURE_SYSCALL)
    if LSTAR <= index <= SFMASK or FS_BASE <= index <= KERNEL_GS_BASE:
        return has_feature(c, FEATURE_LM)
    if index == TSC_AUX:
        return has_feature(c, FEATURE_RDTSCP) or has_feature(c, FEATURE_RDPID)
    if index >> 16 == 0xC001:
        return is_amd(c)
    if index == PLATFORM_ID or index == MISC_ENABLE:
        return not is_amd(c)
    return True


cdef int read_msr(Cpu* c, u32 index, u64* value) noexcept nogil:
    """0 and the value, or -1 where there is no such register."""
    cdef int place
    value[0] = 0
    if not is_present(c, index):
        return -1
    if index == TIME_STAMP_COUNTER:
        value[0] = c.clock.now_ns + c.tsc_offset
    elif index == TSC_ADJUST:
        value[0] = c.tsc_offset
    elif index == APIC_BASE:
        if c.port.apic_base_read == NULL:
            return -1
        value[0] = c.port.apic_base_read(c.port.apic_owner)
    elif index == TSC_DEADLINE or X2APIC_FIRST <= index <= X2APIC_LAST:
        if c.port.apic_msr_read == NULL:
            return -1
        return c.port.apic_msr_read(c.port.apic_owner, index, value)
    elif index == SYSENTER_CS:
        value[0] = c.sysenter_cs
    elif index == SYSENTER_ESP:
        value[0] = c.sysenter_esp
    elif index == SYSENTER_EIP:
        value[0] = c.sysenter_eip
    elif index == MISC_ENABLE:
        value[0] = c.misc_enable
    elif index == MTRR_CAP:
        value[0] = 0x508                          # eight variable ranges, fixed ranges, write combining
    elif MSR_MTRR_VARIABLE <= index < MSR_MTRR_VARIABLE + 16:
        value[0] = c.mtrr_variable[index - MSR_MTRR_VARIABLE]
    elif fixed_range(index) >= 0:
        place = fixed_range(index)
        value[0] = c.mtrr_fixed[place]
    elif index == MSR_MTRR_DEF_TYPE:
        value[0] = c.mtrr_def_type
    elif index == MSR_PAT:
        value[0] = c.pat
    elif index == EFER:
        value[0] = c.efer
    elif index == STAR:
        value[0] = c.star
    elif index == LSTAR:
        value[0] = c.lstar
    elif index == CSTAR:
        value[0] = c.cstar
    elif index == SFMASK:
        value[0] = c.sfmask
    elif index == FS_BASE:
        value[0] = c.seg[FS].base
    elif index == GS_BASE:
        value[0] = c.seg[GS].base
    elif index == KERNEL_GS_BASE:
        value[0] = c.kernel_gs_base
    elif index == TSC_AUX:
        value[0] = c.tsc_aux
    elif index == BIOS_SIGN_ID:
        value[0] = 0x1000065 if is_amd(c) else <u64>1 << 32
    elif index == AMD_HWCR:
        value[0] = <u64>1 << 24                   # TscFreqSel: the TSC counts at the P0 frequency
    elif index == AMD_OSVW_LENGTH:
        if not has_feature(c, FEATURE_OSVW):
            return -1
        value[0] = 0
    elif index == AMD_OSVW_STATUS:
        if not has_feature(c, FEATURE_OSVW):
            return -1
    elif index == AMD_DE_CFG:
        value[0] = 2                              # LFENCE is serialising
    elif not (index == PLATFORM_ID or index == MCG_CAP or index == MCG_STATUS
              or index == AMD_SYSCFG or index == AMD_TOP_MEM or index == AMD_TOP_MEM2 or index == AMD_NB_CFG
              or index == AMD_INT_PENDING or index == AMD_TSEG_BASE or legacy_counter(index)):
        return -1
    return 0


cdef int write_efer(Cpu* c, u64 value) noexcept nogil:
    cdef u64 valid = 0
    if has_feature(c, FEATURE_SYSCALL):
        valid |= EFER_SCE
    if has_feature(c, FEATURE_LM):
        valid |= EFER_LME | EFER_LMA
    if has_feature(c, FEATURE_NX):
        valid |= EFER_NXE
    if value & ~valid or ((value ^ c.efer) & EFER_LME and c.cr0 & CR0_PG):
        return -1
    value = (value & ~<u64>EFER_LMA) | (c.efer & EFER_LMA)
    if (value ^ c.efer) & EFER_NXE:
        flush_tlb(c, True)
    c.efer = value
    update_mode(c)
    return 0


cdef int write_msr(Cpu* c, u32 index, u64 value) noexcept nogil:
    """0, or -1: #GP(0)."""
    if not is_present(c, index):
        return -1
    if index == TIME_STAMP_COUNTER:
        c.tsc_offset = value - c.clock.now_ns
    elif index == TSC_ADJUST:
        c.tsc_offset = value
    elif index == APIC_BASE:
        if c.port.apic_base_write == NULL:
            return -1
        return c.port.apic_base_write(c.port.apic_owner, value)
    elif index == TSC_DEADLINE or X2APIC_FIRST <= index <= X2APIC_LAST:
        if c.port.apic_msr_write == NULL:
            return -1
        return c.port.apic_msr_write(c.port.apic_owner, index, value)
    elif index == SYSENTER_CS:
        c.sysenter_cs = value & <u64>0xFFFFFFFF
    elif index == SYSENTER_ESP or index == SYSENTER_EIP:
        if not canonical(value):
            return -1
        if index == SYSENTER_ESP:
            c.sysenter_esp = value
        else:
            c.sysenter_eip = value
    elif index == MISC_ENABLE:
        c.misc_enable = value
    elif holds_memory_type(index):
        if not valid_memory_type(c, index, value):
            return -1
        if index == MSR_MTRR_DEF_TYPE:
            c.mtrr_def_type = value
        elif index == MSR_PAT:
            c.pat = value
        elif index < MSR_MTRR_FIXED:
            c.mtrr_variable[index - MSR_MTRR_VARIABLE] = value
        else:
            c.mtrr_fixed[fixed_range(index)] = value
    elif index == EFER:
        return write_efer(c, value)
    elif index == STAR:
        c.star = value
    elif index == LSTAR or index == CSTAR or index == KERNEL_GS_BASE or index == FS_BASE or index == GS_BASE:
        if not canonical(value):
            return -1
        if index == LSTAR:
            c.lstar = value
        elif index == CSTAR:
            c.cstar = value
        elif index == KERNEL_GS_BASE:
            c.kernel_gs_base = value
        elif index == FS_BASE:
            c.seg[FS].base = value
            c.segment_base[FS] = value
        else:
            c.seg[GS].base = value
            c.segment_base[GS] = value
    elif index == SFMASK:
        c.sfmask = value & <u64>0xFFFFFFFF
    elif index == TSC_AUX:
        if value >> 32:
            return -1
        c.tsc_aux = value
    elif not (index == BIOS_UPDATE_TRIGGER or index == BIOS_SIGN_ID or index == MCG_STATUS or index == AMD_HWCR
              or index == AMD_SYSCFG or index == AMD_NB_CFG or index == AMD_PATCH_LOADER or index == AMD_INT_PENDING
              or index == AMD_DE_CFG or legacy_counter(index)):
        return -1
    return 0


cdef int rdmsr(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 value
    if c.cpl != 0 or read_msr(c, <u32>c.regs[RCX], &value):
        return set_fault(c, GP, True, 0)
    c.regs[RAX] = value & <u64>0xFFFFFFFF
    c.regs[RDX] = value >> 32
    return 0


cdef int wrmsr(Cpu* c, Insn* i) noexcept nogil:
    if c.cpl != 0 or write_msr(c, <u32>c.regs[RCX], (c.regs[RDX] << 32) | (c.regs[RAX] & <u64>0xFFFFFFFF)):
        return set_fault(c, GP, True, 0)
    return 0
