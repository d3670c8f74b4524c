# Control and debug registers, descriptor-table registers, cache and TLB instructions, XCR0 (SDM 3A 2.5, 4.1, 9.9).
#
# Functions that end a block find c.rip at the next instruction. Each gives 0, or 1 with the fault set and nothing changed.
from emu.base.bits cimport mask_of
from emu.base.types cimport i64, u8, u16, u32, u64
from emu.cpu.access cimport (commit, flush_page, flush_tlb, get, operand_offset, put, read_at, read_operand, reg, run_alone,
                             set_fault, set_reg, write_at, write_operand)
from emu.cpu.cpuid cimport has_feature, xcr0_mask
from emu.cpu.gen.features cimport *
from emu.cpu.mode cimport update_mode
from emu.cpu.state cimport *
from emu.memory.space cimport space_read

cdef enum:
    DR7_GD = 1 << 13
    DR6_BD = 1 << 13
cdef u64 CR3_NOFLUSH = <u64>1 << 63
cdef u64 DR6_FIXED = <u64>0xFFFF0FF0
cdef u64 DR6_WRITABLE = 0xE00F
cdef u64 DR7_FIXED = 0x400
cdef u64 DR7_WRITABLE = <u64>0xFFFF23FF


cdef inline bint canonical(u64 linear) noexcept nogil:
    return (<i64>(linear << 16) >> 16) == <i64>linear


cdef inline int general_protection(Cpu* c) noexcept nogil:
    return set_fault(c, GP, True, 0)


cdef inline bint is_long(Cpu* c) noexcept nogil:
    return c.efer & EFER_LMA != 0


# --- control registers -------------------------------------------------------------------------------------------

cdef int read_pdptes(Cpu* c, u64 cr3, u64* entries) noexcept nogil:
    """The four page-directory-pointer-table entries of PAE paging; reserved bits give #GP(0) (SDM 3A 4.4.1)."""
    cdef u64 reserved = 0x1E6 | (~<u64>0 << c.physical_bits)
    cdef int k
    for k in range(4):
        entries[k] = space_read(c.space, ((cr3 & <u64>0xFFFFFFE0) + 8 * k) & c.space.a20_mask, 8)
        if entries[k] & 1 and entries[k] & reserved:
            return general_protection(c)
    return 0


cdef inline bint uses_pdptes(Cpu* c, u64 cr0, u64 cr4) noexcept nogil:
    return cr0 & CR0_PG != 0 and cr4 & CR4_PAE != 0 and not c.efer & EFER_LME


cdef inline void set_pdptes(Cpu* c, const u64* entries) noexcept nogil:
    cdef int k
    for k in range(4):
        c.pdpte[k] = entries[k]


cdef int write_cr0(Cpu* c, u64 value) noexcept nogil:
    """MOV CR0, LMSW, with the transitions into and out of long mode (SDM 3A 9.8.5)."""
    cdef u64[4] entries
    cdef bint load = False
    cdef u64 changed
    if value >> 32:
        return general_protection(c)
    value = (value & <u64>0xE005003F) | CR0_ET
    if value & CR0_PG and not value & CR0_PE or value & CR0_NW and not value & CR0_CD:
        return general_protection(c)
    changed = value ^ c.cr0
    if changed & CR0_PG:
        if value & CR0_PG:
            if c.efer & EFER_LME and (not c.cr4 & CR4_PAE or c.seg[CS].attributes & 0x200
                                      or (c.seg[TR].attributes & 0x8000 == 0 and c.seg[TR].attributes & 15 <= 3)):
                return general_protection(c)
        elif c.mode & MODE_CODE == MODE_64 or c.cr4 & CR4_PCIDE:
            return general_protection(c)
    if uses_pdptes(c, value, c.cr4) and changed & (CR0_PG | CR0_CD | CR0_NW):
        if read_pdptes(c, c.cr3, entries):
            return 1
        load = True
    if load:
        set_pdptes(c, entries)
    c.cr0 = value
    if c.efer & EFER_LME:
        c.efer = c.efer | EFER_LMA if value & CR0_PG else c.efer & ~<u64>EFER_LMA
    if changed & (CR0_PG | CR0_WP | CR0_PE):
        flush_tlb(c, True)
    update_mode(c)
    return 0


cdef int write_cr3(Cpu* c, u64 value) noexcept nogil:
    """MOV CR3. Translations of every address space are dropped even where bit 63 would let them live: never wrong, since
    software cannot tell a flush from an eviction (SDM 3A 4.10.2.1)."""
    cdef u64[4] entries
    if is_long(c):
        if c.cr4 & CR4_PCIDE:
            value &= ~CR3_NOFLUSH
        if value >> c.physical_bits:
            return general_protection(c)
    elif uses_pdptes(c, c.cr0, c.cr4):
        if read_pdptes(c, value, entries):
            return 1
        set_pdptes(c, entries)
    c.cr3 = value
    flush_tlb(c, False)
    return 0


cdef u64 cr4_mask(Cpu* c) noexcept nogil:
    """The bits of CR4 that this CPU has."""
    cdef u64 mask = 0
    if has_feature(c, FEATURE_VME):
        mask |= CR4_VME | CR4_PVI
    if has_feature(c, FEATURE_TSC):
        mask |= CR4_TSD
    if has_feature(c, FEATURE_DE):
        mask |= CR4_DE
    if has_feature(c, FEATURE_PSE):
        mask |= CR4_PSE
    if has_feature(c, FEATURE_PAE):
        mask |= CR4_PAE
    if has_feature(c, FEATURE_MCE):
        mask |= CR4_MCE
    if has_feature(c, FEATURE_PGE):
        mask |= CR4_PGE
    if has_feature(c, FEATURE_MMX):
        mask |= CR4_PCE
    if has_feature(c, FEATURE_FXSR):
        mask |= CR4_OSFXSR
    if has_feature(c, FEATURE_SSE):
        mask |= CR4_OSXMMEXCPT
    if has_feature(c, FEATURE_UMIP):
        mask |= CR4_UMIP
    if has_feature(c, FEATURE_FSGSBASE):
        mask |= CR4_FSGSBASE
    if has_feature(c, FEATURE_PCID):
        mask |= CR4_PCIDE
    if has_feature(c, FEATURE_XSAVE):
        mask |= CR4_OSXSAVE
    if has_feature(c, FEATURE_SMEP):
        mask |= CR4_SMEP
    if has_feature(c, FEATURE_SMAP):
        mask |= CR4_SMAP
    if has_feature(c, FEATURE_PKU):
        mask |= CR4_PKE
    return mask


cdef int write_cr4(Cpu* c, u64 value) noexcept nogil:
    cdef u64 changed = value ^ c.cr4
    cdef u64[4] entries
    if value & ~cr4_mask(c):
        return general_protection(c)
    if is_long(c) and not value & CR4_PAE:
        return general_protection(c)
    if changed & value & CR4_PCIDE and (not is_long(c) or c.cr3 & 0xFFF):
        return general_protection(c)
    if uses_pdptes(c, c.cr0, value) and changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP):
        if read_pdptes(c, c.cr3, entries):
            return 1
        set_pdptes(c, entries)
    c.cr4 = value
    if changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE):
        flush_tlb(c, True)
    update_mode(c)
    return 0


cdef inline int register_size(Cpu* c) noexcept nogil:
    """Moves of control and debug registers are 64 bits wide in 64-bit mode, 32 elsewhere, whatever the prefixes."""
    return 8 if c.mode & MODE_CODE == MODE_64 else 4


cdef int mov_from_cr(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 value
    cdef int number = i.src
    if number != 0 and number != 2 and number != 3 and number != 4 and number != 8:
        return set_fault(c, UD, False, 0)
    if number == 4 and not has_feature(c, FEATURE_CPUID):
        return set_fault(c, UD, False, 0)
    if c.cpl:
        return general_protection(c)
    if number == 0:
        value = c.cr0
    elif number == 2:
        value = c.cr2
    elif number == 3:
        value = c.cr3
    elif number == 4:
        value = c.cr4
    elif c.port.tpr_read != NULL:
        value = c.port.tpr_read(c.port.apic_owner)
    else:
        value = c.cr8
    set_reg(c, i.dst, value, register_size(c))
    return 0


cdef int mov_to_cr(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 value = reg(c, i.src, register_size(c))
    cdef int number = i.dst
    if number != 0 and number != 2 and number != 3 and number != 4 and number != 8:
        return set_fault(c, UD, False, 0)
    if c.cpl:
        return general_protection(c)
    if number == 0:
        return write_cr0(c, value)
    if number == 2:
        c.cr2 = value
        return 0
    if number == 3:
        return write_cr3(c, value)
    if number == 4:
        return write_cr4(c, value)
    if value > 15:
        return general_protection(c)
    if not c.single:
        return run_alone(c)                      # the APIC may find an interrupt that is now let through
    c.cr8 = value
    if c.port.tpr_write != NULL:
        c.port.tpr_write(c.port.apic_owner, value)
    return 0


cdef int clts(Cpu* c, Insn* i) noexcept nogil:
    if c.cpl:
        return general_protection(c)
    c.cr0 &= ~<u64>CR0_TS
    update_mode(c)
    return 0


cdef inline int load_status_word(Cpu* c, u64 value) noexcept nogil:
    """LMSW: PE can be set, never cleared."""
    if c.cpl:
        return general_protection(c)
    return write_cr0(c, (c.cr0 & ~<u64>0xE) | (value & 0xF))


cdef int lmsw_register(Cpu* c, Insn* i) noexcept nogil:
    return load_status_word(c, reg(c, i.dst, 2))


cdef int lmsw_memory(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p
    if c.cpl:
        return general_protection(c)
    p = read_operand(c, i, 2)
    if p == NULL:
        return 1
    return load_status_word(c, get(p, 2))


cdef inline bint hidden(Cpu* c) noexcept nogil:
    """UMIP: SGDT, SIDT, SLDT, STR, SMSW outside of CPL 0 give #GP(0)."""
    return c.cpl != 0 and c.cr4 & CR4_UMIP != 0


cdef int smsw_register(Cpu* c, Insn* i) noexcept nogil:
    if hidden(c):
        return general_protection(c)
    set_reg(c, i.dst, c.cr0, i.opsize)
    return 0


cdef int smsw_memory(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p
    if hidden(c):
        return general_protection(c)
    p = write_operand(c, i, 2)
    if p == NULL:
        return 1
    put(p, c.cr0, 2)
    commit(c, p)
    return 0


# --- debug registers (SDM 3B 18.2) -------------------------------------------------------------------------------

cdef int check_debug(Cpu* c, int* number) noexcept nogil:
    """DR4 and DR5 stand for DR6 and DR7 unless CR4.DE; GD turns any access into #DB."""
    if number[0] > 7 or (c.cr4 & CR4_DE and number[0] & 6 == 4):
        return set_fault(c, UD, False, 0)
    if number[0] & 6 == 4:
        number[0] += 2
    if c.cpl:
        return general_protection(c)
    if c.dr[7] & DR7_GD:
        c.dr[6] |= DR6_BD
        c.dr[7] &= ~<u64>DR7_GD
        return set_fault(c, DB, False, 0)
    return 0


cdef int mov_from_dr(Cpu* c, Insn* i) noexcept nogil:
    cdef int number = i.src
    if check_debug(c, &number):
        return 1
    set_reg(c, i.dst, c.dr[number], register_size(c))
    return 0


cdef int mov_to_dr(Cpu* c, Insn* i) noexcept nogil:
    cdef int number = i.dst
    cdef u64 value = reg(c, i.src, register_size(c))
    if check_debug(c, &number):
        return 1
    if number >= 6 and value >> 32:
        return general_protection(c)
    if number == 6:
        value = (value & DR6_WRITABLE) | DR6_FIXED
    elif number == 7:
        value = (value & DR7_WRITABLE) | DR7_FIXED
    c.dr[number] = value
    update_mode(c)
    return 0


# --- descriptor-table registers ----------------------------------------------------------------------------------

cdef int load_table(Cpu* c, Insn* i, DescriptorTable* table) noexcept nogil:
    """LGDT, LIDT: a 16-bit limit, then a base of 24, 32 or 64 bits."""
    cdef bint wide = c.mode & MODE_CODE == MODE_64
    cdef int size = 8 if wide else 4
    cdef u64 offset = operand_offset(c, i)
    cdef u64 limit, base
    cdef u8* p
    if c.cpl:
        return general_protection(c)
    p = read_at(c, i.seg, offset, 2)
    if p == NULL:
        return 1
    limit = get(p, 2)
    p = read_at(c, i.seg, (offset + 2) & c.address_mask[i.flags & I_ASIZE], size)
    if p == NULL:
        return 1
    base = get(p, size)
    if wide:
        if not canonical(base):
            return general_protection(c)
    elif i.opsize == 2:
        base &= 0xFFFFFF
    table.limit = <u32>limit
    table.base = base
    return 0


cdef int store_table(Cpu* c, Insn* i, DescriptorTable* table) noexcept nogil:
    """SGDT, SIDT: the whole base is stored whatever the operand size, as processors do since the 386."""
    cdef int size = 8 if c.mode & MODE_CODE == MODE_64 else 4
    cdef u64 offset = operand_offset(c, i)
    cdef u64 second = (offset + 2) & c.address_mask[i.flags & I_ASIZE]
    cdef u8* p
    if hidden(c):
        return general_protection(c)
    if write_at(c, i.seg, second, size) == NULL:     # both parts are checked before either is stored
        return 1
    p = write_at(c, i.seg, offset, 2)
    if p == NULL:
        return 1
    put(p, table.limit, 2)
    commit(c, p)
    p = write_at(c, i.seg, second, size)
    if p == NULL:
        return 1
    put(p, table.base, size)
    commit(c, p)
    return 0


cdef int lgdt(Cpu* c, Insn* i) noexcept nogil:
    return load_table(c, i, &c.gdtr)


cdef int lidt(Cpu* c, Insn* i) noexcept nogil:
    return load_table(c, i, &c.idtr)


cdef int sgdt(Cpu* c, Insn* i) noexcept nogil:
    return store_table(c, i, &c.gdtr)


cdef int sidt(Cpu* c, Insn* i) noexcept nogil:
    return store_table(c, i, &c.idtr)


# --- caches and TLB ----------------------------------------------------------------------------------------------

cdef int invlpg(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 linear = operand_offset(c, i) + c.segment_base[i.seg & 7]
    if c.cpl:
        return general_protection(c)
    if c.mode & MODE_CODE != MODE_64:
        linear &= <u64>0xFFFFFFFF
    if canonical(linear):
        flush_page(c, linear)
    return 0


cdef int invpcid(Cpu* c, Insn* i) noexcept nogil:
    """INVPCID (SDM 2A). The TLB holds one address space: every type but a single page drops all of it."""
    cdef u64 type = reg(c, i.dst, register_size(c))
    cdef u64 pcid, linear
    cdef u8* p
    if c.cpl:
        return general_protection(c)
    if type > 3:
        return general_protection(c)
    p = read_operand(c, i, 16)
    if p == NULL:
        return 1
    pcid = get(p, 8)
    linear = get(p + 8, 8)
    if pcid >> 12 or (type <= 1 and pcid and not c.cr4 & CR4_PCIDE) or (type == 0 and not canonical(linear)):
        return general_protection(c)
    if type == 0:
        flush_page(c, linear)
    else:
        flush_tlb(c, type == 2)
    return 0


cdef int flush_caches(Cpu* c, Insn* i) noexcept nogil:
    """INVD, WBINVD: there are no caches to lose anything in."""
    if c.cpl:
        return general_protection(c)
    return 0


# --- XCR0, PKRU --------------------------------------------------------------------------------------------------

cdef int xgetbv(Cpu* c, Insn* i) noexcept nogil:
    cdef u32 number = <u32>c.regs[RCX]
    if not c.cr4 & CR4_OSXSAVE:
        return set_fault(c, UD, False, 0)
    if number != 0:
        return general_protection(c)
    c.regs[RAX] = c.xcr0 & <u64>0xFFFFFFFF
    c.regs[RDX] = c.xcr0 >> 32
    return 0


cdef int xsetbv(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 value = (c.regs[RDX] << 32) | <u32>c.regs[RAX]
    if not c.cr4 & CR4_OSXSAVE:
        return set_fault(c, UD, False, 0)
    if c.cpl or <u32>c.regs[RCX] != 0 or value & ~xcr0_mask(c) or not value & 1:
        return general_protection(c)
    c.xcr0 = value
    return 0


cdef int rdpkru(Cpu* c, Insn* i) noexcept nogil:
    if not c.cr4 & CR4_PKE:
        return set_fault(c, UD, False, 0)
    if <u32>c.regs[RCX] != 0:
        return general_protection(c)
    c.regs[RAX] = c.pkru
    c.regs[RDX] = 0
    return 0


cdef int wrpkru(Cpu* c, Insn* i) noexcept nogil:
    if not c.cr4 & CR4_PKE:
        return set_fault(c, UD, False, 0)
    if <u32>c.regs[RCX] != 0 or <u32>c.regs[RDX] != 0:
        return general_protection(c)
    if c.pkru != <u32>c.regs[RAX]:
        c.pkru = <u32>c.regs[RAX]
        flush_tlb(c, True)                       # the TLB holds what the keys allowed
    return 0


cdef int hlt(Cpu* c, Insn* i) noexcept nogil:
    if c.cpl:
        return general_protection(c)
    c.halted = 1
    return 0
