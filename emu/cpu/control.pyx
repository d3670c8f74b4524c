# Control and debug registers, descriptor-table registers, flags, fast system calls, time and random numbers.
#
# Functions of the `end` shape find c.rip at the next instruction; all give 0, or 1 with the fault set, nothing changed.
from emu.base.types cimport u8, u16, u32, u64
from emu.cpu.access cimport (commit, drop, flush_page, flush_tlb, get, operand_offset, push, put, read_operand, read_system, reg,
                             retired_before, run_alone, set_fault, set_reg, stack_top, write_operand, write_system)
from emu.cpu.cpuid cimport has_feature, read_cpuid
from emu.cpu.far cimport far_operand
from emu.cpu.flags cimport all_flags, load_arithmetic_flags
from emu.cpu.gen.features cimport *
from emu.cpu.mode cimport canonical, update_mode
from emu.cpu.segment cimport *
from emu.cpu.state cimport *


cdef enum:
    DR6_BD = 1 << 13             # a debug register was used while DR7.GD was set
    DR6_BS = 1 << 14             # single step


cdef inline int gp0(Cpu* c) noexcept nogil:
    return set_fault(c, GP, True, 0)


cdef inline int undefined(Cpu* c) noexcept nogil:
    return set_fault(c, UD, False, 0)


cdef int ud(Cpu* c, Insn* i) noexcept nogil:
    return undefined(c)


cdef int cpl0(Cpu* c) noexcept nogil:
    """The check of privileged instructions."""
    return gp0(c) if c.cpl != 0 else 0


cdef inline int umip(Cpu* c) noexcept nogil:
    """SGDT SIDT SLDT SMSW STR with CR4.UMIP."""
    return gp0(c) if c.cr4 & CR4_UMIP and c.cpl != 0 else 0


# --- control registers (SDM 3A 2.5) -------------------------------------------------------------------------------

cdef u64 valid_cr4(Cpu* c) noexcept nogil:
    cdef u64 bits = 0
    if has_feature(c, FEATURE_VME):
        bits |= CR4_VME | CR4_PVI
    if has_feature(c, FEATURE_TSC):
        bits |= CR4_TSD
    if has_feature(c, FEATURE_DE):
        bits |= CR4_DE
    if has_feature(c, FEATURE_PSE):
        bits |= CR4_PSE
    if has_feature(c, FEATURE_PAE):
        bits |= CR4_PAE
    if has_feature(c, FEATURE_MCE):
        bits |= CR4_MCE
    if has_feature(c, FEATURE_PGE):
        bits |= CR4_PGE
    if has_feature(c, FEATURE_FXSR):
        bits |= CR4_OSFXSR | CR4_PCE
    if has_feature(c, FEATURE_SSE):
        bits |= CR4_OSXMMEXCPT
    if has_feature(c, FEATURE_UMIP):
        bits |= CR4_UMIP
    if has_feature(c, FEATURE_FSGSBASE):
        bits |= CR4_FSGSBASE
    if has_feature(c, FEATURE_PCID):
        bits |= CR4_PCIDE
    if has_feature(c, FEATURE_XSAVE):
        bits |= CR4_OSXSAVE
    if has_feature(c, FEATURE_SMEP):
        bits |= CR4_SMEP
    if has_feature(c, FEATURE_SMAP):
        bits |= CR4_SMAP
    if has_feature(c, FEATURE_PKU):
        bits |= CR4_PKE
    return bits


cdef int load_pdptes(Cpu* c, u64 cr3) noexcept nogil:
    """PAE: the four entries are read, and checked, when CR3 is loaded (SDM 3A 4.4.1)."""
    cdef u64[4] entries
    cdef int k
    cdef u64 saved_cr0 = c.cr0
    c.cr0 &= ~CR0_PG                              # physical addresses
    for k in range(4):
        read_system(c, (cr3 & <u64>0xFFFFFFE0) + 8 * k, 8, &entries[k])
    c.cr0 = saved_cr0
    for k in range(4):
        if entries[k] & 1 and entries[k] & (<u64>0x1E6 | (~<u64>0 << c.physical_bits)):
            return gp0(c)
    for k in range(4):
        c.pdpte[k] = entries[k]
    return 0


cdef int set_cr0(Cpu* c, u64 value) noexcept nogil:
    cdef u64 changed
    value = (value & ~<u64>0x1FFAFFC0) | CR0_ET
    if value >> 32:
        return gp0(c)
    if value & CR0_PG and not value & CR0_PE or value & CR0_NW and not value & CR0_CD:
        return gp0(c)
    changed = value ^ c.cr0
    if changed & CR0_PG:
        if value & CR0_PG:
            if c.efer & EFER_LME:
                if not c.cr4 & CR4_PAE or c.seg[CS].attributes & A_L or not c.seg[TR].attributes & 8:     # 16-bit TSS
                    return gp0(c)
            elif c.cr4 & CR4_PAE and load_pdptes(c, c.cr3):
                return 1
        elif c.mode & MODE_CODE == MODE_64 or c.cr4 & CR4_PCIDE:
            return gp0(c)
    elif value & CR0_PG and c.cr4 & CR4_PAE and not c.efer & EFER_LMA and changed & (CR0_CD | CR0_NW):
        if load_pdptes(c, c.cr3):
            return 1
    c.cr0 = value
    if changed & CR0_PG:
        if value & CR0_PG and c.efer & EFER_LME:
            c.efer |= EFER_LMA
        elif not value & CR0_PG:
            c.efer &= ~<u64>EFER_LMA
    if changed & (CR0_PG | CR0_WP | CR0_PE):
        flush_tlb(c, True)
    if changed & CR0_PE and not value & CR0_PE:
        c.cpl = 0
    update_mode(c)
    return 0


cdef int set_cr3(Cpu* c, u64 value) noexcept nogil:
    if c.efer & EFER_LMA:
        if c.cr4 & CR4_PCIDE:
            value &= ~(<u64>1 << 63)              # "do not flush": a hint that may be left unused
        if value & (~<u64>0 << c.physical_bits):
            return gp0(c)
    elif c.cr4 & CR4_PAE and c.cr0 & CR0_PG:
        if load_pdptes(c, value):
            return 1
    c.cr3 = value
    flush_tlb(c, False)
    return 0


cdef int set_cr4(Cpu* c, u64 value) noexcept nogil:
    cdef u64 changed = value ^ c.cr4
    if value & ~valid_cr4(c):
        return gp0(c)
    if c.efer & EFER_LMA and not value & CR4_PAE:
        return gp0(c)
    if changed & CR4_PCIDE and value & CR4_PCIDE and (not c.efer & EFER_LMA or c.cr3 & 0xFFF):
        return gp0(c)
    if c.cr0 & CR0_PG and not c.efer & EFER_LMA and value & CR4_PAE and changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP):
        if load_pdptes(c, c.cr3):
            return 1
    c.cr4 = value
    if changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PCIDE | CR4_PKE):
        flush_tlb(c, True)
    update_mode(c)
    return 0


cdef int mov_from_cr(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 value
    if cpl0(c):
        return 1
    if i.src == 0:
        value = c.cr0
    elif i.src == 2:
        value = c.cr2
    elif i.src == 3:
        value = c.cr3
    elif i.src == 4 and has_feature(c, FEATURE_CPUID):
        value = c.cr4
    elif i.src == 8:
        value = c.port.tpr_read(c.port.apic_owner) if c.port.tpr_read != NULL else c.cr8
    else:
        return undefined(c)
    set_reg(c, i.dst, value, 8 if c.mode & MODE_CODE == MODE_64 else 4)
    return 0


cdef int mov_to_cr(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 value = reg(c, i.src, 8 if c.mode & MODE_CODE == MODE_64 else 4)
    if cpl0(c):
        return 1
    if i.dst == 0:
        return set_cr0(c, value)
    if i.dst == 2:
        c.cr2 = value
        return 0
    if i.dst == 3:
        return set_cr3(c, value)
    if i.dst == 4 and has_feature(c, FEATURE_CPUID):
        return set_cr4(c, value)
    if i.dst == 8:
        if value & ~<u64>15:
            return gp0(c)
        c.cr8 = value
        if c.port.tpr_write != NULL:
            c.port.tpr_write(c.port.apic_owner, value)
        return 0
    return undefined(c)


cdef int clts(Cpu* c, Insn* i) noexcept nogil:
    if cpl0(c):
        return 1
    c.cr0 &= ~<u64>CR0_TS
    return 0


cdef int lmsw(Cpu* c, u64 value) noexcept nogil:
    """Bits 3:0 of CR0; PE can be set, not cleared."""
    if cpl0(c):
        return 1
    return set_cr0(c, (c.cr0 & ~<u64>14) | (value & 15))


cdef int lmsw_r(Cpu* c, Insn* i) noexcept nogil:
    return lmsw(c, reg(c, i.dst, 2))


cdef int lmsw_m(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p
    if cpl0(c):
        return 1
    p = read_operand(c, i, 2)
    return 1 if p == NULL else lmsw(c, get(p, 2))


cdef int store_word(Cpu* c, Insn* i, u64 value) noexcept nogil:
    cdef u8* p = write_operand(c, i, 2)
    if p == NULL:
        return 1
    put(p, value, 2)
    commit(c, p)
    return 0


cdef int smsw_r(Cpu* c, Insn* i) noexcept nogil:
    if umip(c):
        return 1
    set_reg(c, i.dst, c.cr0, i.opsize)
    return 0


cdef int smsw_m(Cpu* c, Insn* i) noexcept nogil:
    return 1 if umip(c) else store_word(c, i, c.cr0)


# --- debug registers (SDM 3B 18.2) ---------------------------------------------------------------------------------

cdef int debug_number(Cpu* c, int number, int* place) noexcept nogil:
    if cpl0(c):
        return 1
    if number == 4 or number == 5:
        if c.cr4 & CR4_DE:
            return undefined(c)
        number += 2
    if number > 7:
        return undefined(c)
    if c.dr[7] & (1 << 13):                       # general detect
        c.dr[6] = (c.dr[6] & ~<u64>15) | DR6_BD
        c.debug_fault = 1
        return set_fault(c, DB, False, 0)
    place[0] = number
    return 0


cdef int mov_from_dr(Cpu* c, Insn* i) noexcept nogil:
    cdef int number
    if debug_number(c, i.src, &number):
        return 1
    set_reg(c, i.dst, c.dr[number], 8 if c.mode & MODE_CODE == MODE_64 else 4)
    return 0


cdef int mov_to_dr(Cpu* c, Insn* i) noexcept nogil:
    cdef int number
    cdef u64 value = reg(c, i.src, 8 if c.mode & MODE_CODE == MODE_64 else 4)
    if debug_number(c, i.dst, &number):
        return 1
    if number >= 6 and value >> 32:
        return gp0(c)
    if number == 6:
        value = (value & <u64>0xE00F) | <u64>0xFFFF0FF0
    elif number == 7:
        value = (value & <u64>0xFFFF23FF) | 0x400
    c.dr[number] = value
    update_mode(c)
    return 0


# --- translations --------------------------------------------------------------------------------------------------

cdef int invlpg(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 linear
    if cpl0(c):
        return 1
    linear = operand_offset(c, i) + c.segment_base[i.seg & 7]
    flush_page(c, linear if c.mode & MODE_CODE == MODE_64 else linear & <u64>0xFFFFFFFF)
    return 0


cdef int invpcid(Cpu* c, Insn* i) noexcept nogil:
    """Every type drops everything, which is allowed; the operand is checked as SDM 2 says."""
    cdef u64 type = reg(c, i.dst, 8 if c.mode & MODE_CODE == MODE_64 else 4)
    cdef u8* p
    cdef u64 low, high
    if cpl0(c):
        return 1
    p = read_operand(c, i, 16)
    if p == NULL:
        return 1
    low = get(p, 8)
    high = get(p + 8, 8)
    if type > 3 or low >> 12 or (type == 0 and not canonical(high)) or (type < 2 and low and not c.cr4 & CR4_PCIDE):
        return gp0(c)
    flush_tlb(c, True)
    return 0


cdef int privileged(Cpu* c, Insn* i) noexcept nogil:
    return cpl0(c)


# --- descriptor tables -----------------------------------------------------------------------------------------------

cdef int store_table(Cpu* c, Insn* i, DescriptorTable* table) noexcept nogil:
    cdef u8* p
    cdef int size = 8 if c.mode & MODE_CODE == MODE_64 else 4
    if umip(c):
        return 1
    p = write_operand(c, i, 2 + size)
    if p == NULL:
        return 1
    put(p, table.limit, 2)
    put(p + 2, table.base, size)
    commit(c, p)
    return 0


cdef int load_table(Cpu* c, Insn* i, DescriptorTable* table) noexcept nogil:
    cdef u8* p
    cdef u64 base
    cdef int size = 8 if c.mode & MODE_CODE == MODE_64 else 4
    if cpl0(c):
        return 1
    p = read_operand(c, i, 2 + size)
    if p == NULL:
        return 1
    base = get(p + 2, size)
    if size == 4 and i.opsize == 2:
        base &= 0xFFFFFF
    if size == 8 and not canonical(base):
        return gp0(c)
    table.limit = <u32>get(p, 2)
    table.base = base
    return 0


cdef int sgdt(Cpu* c, Insn* i) noexcept nogil:
    return store_table(c, i, &c.gdtr)


cdef int sidt(Cpu* c, Insn* i) noexcept nogil:
    return store_table(c, i, &c.idtr)


cdef int lgdt(Cpu* c, Insn* i) noexcept nogil:
    return load_table(c, i, &c.gdtr)


cdef int lidt(Cpu* c, Insn* i) noexcept nogil:
    return load_table(c, i, &c.idtr)


cdef int sldt_r(Cpu* c, Insn* i) noexcept nogil:
    if umip(c):
        return 1
    set_reg(c, i.dst, c.seg[LDTR].selector, i.opsize)
    return 0


cdef int sldt_m(Cpu* c, Insn* i) noexcept nogil:
    return 1 if umip(c) else store_word(c, i, c.seg[LDTR].selector)


cdef int str_r(Cpu* c, Insn* i) noexcept nogil:
    if umip(c):
        return 1
    set_reg(c, i.dst, c.seg[TR].selector, i.opsize)
    return 0


cdef int str_m(Cpu* c, Insn* i) noexcept nogil:
    return 1 if umip(c) else store_word(c, i, c.seg[TR].selector)


cdef int load_system(Cpu* c, u32 selector, bint task) noexcept nogil:
    """LLDT and LTR; in long mode the descriptor has 16 bytes."""
    cdef u64 low, high = 0
    cdef Segment loaded
    cdef u32 kind
    if cpl0(c):
        return 1
    if not selector & 0xFFFC:
        if task:
            return gp0(c)
        make_null(&c.seg[LDTR], selector)
        return 0
    if selector & 4:
        return set_fault(c, GP, True, selector & 0xFFFC)
    if read_descriptor(c, selector, GP, 0, &low):
        return 1
    unpack(&loaded, selector, low)
    kind = loaded.attributes & 31
    if (task and kind != 9 and (kind != 1 or c.efer & EFER_LMA)) or (not task and kind != 2):
        return set_fault(c, GP, True, selector & 0xFFFC)
    if not loaded.attributes & A_P:
        return set_fault(c, NP, True, selector & 0xFFFC)
    if c.efer & EFER_LMA:
        if (selector | 7) + 8 > c.gdtr.limit:
            return set_fault(c, GP, True, selector & 0xFFFC)
        if read_system(c, c.gdtr.base + (selector & 0xFFF8) + 8, 8, &high):
            return 1
        if (high >> 40) & 0x1F:
            return set_fault(c, GP, True, selector & 0xFFFC)
        loaded.base |= high << 32
        if not canonical(loaded.base):
            return set_fault(c, GP, True, selector & 0xFFFC)
    if task:
        if write_system(c, c.gdtr.base + (selector & 0xFFF8) + 5, 1, ((low >> 40) & 0xFF) | 2):
            return 1
        loaded.attributes |= 2
        c.seg[TR] = loaded
    else:
        c.seg[LDTR] = loaded
    return 0


cdef int lldt_r(Cpu* c, Insn* i) noexcept nogil:
    return load_system(c, <u32>reg(c, i.dst, 2), False)


cdef int lldt_m(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p
    if cpl0(c):
        return 1
    p = read_operand(c, i, 2)
    return 1 if p == NULL else load_system(c, <u32>get(p, 2), False)


cdef int ltr_r(Cpu* c, Insn* i) noexcept nogil:
    return load_system(c, <u32>reg(c, i.dst, 2), True)


cdef int ltr_m(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p
    if cpl0(c):
        return 1
    p = read_operand(c, i, 2)
    return 1 if p == NULL else load_system(c, <u32>get(p, 2), True)


# --- segment registers -----------------------------------------------------------------------------------------------

cdef int mov_from_sreg_r(Cpu* c, Insn* i) noexcept nogil:
    if i.src > GS:
        return undefined(c)
    set_reg(c, i.dst, c.seg[i.src].selector, i.opsize)
    return 0


cdef int mov_from_sreg_m(Cpu* c, Insn* i) noexcept nogil:
    """A row whose first operand is memory only has its register operand in dst."""
    if i.dst > GS:
        return undefined(c)
    return store_word(c, i, c.seg[i.dst].selector)


cdef int set_sreg(Cpu* c, int number, u32 selector) noexcept nogil:
    """A load of SS holds interrupts and debug traps back for one instruction (SDM 3A 6.8.3)."""
    if load_segment(c, number, selector):
        return 1
    if number == SS:
        c.shadow = 1
        c.shadow_debug = 1
    return 0


cdef int mov_to_sreg_r(Cpu* c, Insn* i) noexcept nogil:
    if i.dst > GS or i.dst == CS:
        return undefined(c)
    return set_sreg(c, i.dst, <u32>reg(c, i.src, 2))


cdef int mov_to_sreg_m(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p
    if i.dst > GS or i.dst == CS:
        return undefined(c)
    p = read_operand(c, i, 2)
    return 1 if p == NULL else set_sreg(c, i.dst, <u32>get(p, 2))


cdef int push_sreg(Cpu* c, Insn* i) noexcept nogil:
    """Intel's processors write the low 16 bits only; the slot has the operand size."""
    return push(c, c.seg[i.dst].selector, i.opsize)


cdef int pop_sreg(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p = stack_top(c, i.opsize)
    cdef u64 old = c.regs[RSP]
    cdef u32 selector
    if p == NULL:
        return 1
    selector = <u32>get(p, 2)
    drop(c, i.opsize)                             # by the old stack's width, also where SS changes
    if set_sreg(c, i.dst, selector):
        c.regs[RSP] = old
        return 1
    return 0


cdef int load_far_pointer(Cpu* c, Insn* i) noexcept nogil:
    """AMD's processors know no 64-bit offsets here (APM 3 LFS). LSS holds nothing back, unlike MOV SS."""
    cdef int size = 4 if i.opsize == 8 else i.opsize
    cdef u32 selector
    cdef u64 offset
    if far_operand(c, i, size, &selector, &offset) or load_segment(c, i.src, selector):
        return 1
    set_reg(c, i.dst, offset, size)
    return 0


# --- flags -----------------------------------------------------------------------------------------------------------

cdef inline u32 iopl(Cpu* c) noexcept nogil:
    return <u32>(c.flags_system >> 12) & 3


cdef inline bint virtual_interrupts(Cpu* c) noexcept nogil:
    """Whether CLI and STI act on VIF: VME in virtual-8086 mode, PVI in protected mode, CPL 3, IOPL < 3 (SDM 3B 20.3, 20.4)."""
    return c.cpl == 3 and iopl(c) < 3 and c.cr4 & (CR4_VME if c.flags_system & F_VM else CR4_PVI) != 0


cdef int pushf(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 flags = all_flags(c) & ~<u64>(F_VM | F_RF)
    if c.mode & MODE_V86 and iopl(c) != 3:
        if not c.cr4 & CR4_VME or i.opsize != 2:
            return gp0(c)
        flags = (flags & ~<u64>F_IF) | F_IOPL | (F_IF if flags & F_VIF else 0)
    return push(c, flags, i.opsize)


cdef int popf(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p
    cdef u64 value, bits, flags
    cdef bint virtual_if = False
    if c.mode & MODE_V86 and iopl(c) != 3:
        if not c.cr4 & CR4_VME or i.opsize != 2:
            return gp0(c)
        virtual_if = True
    p = stack_top(c, i.opsize)
    if p == NULL:
        return 1
    value = get(p, i.opsize)
    bits = F_ARITH | F_TF | F_DF | F_NT | F_RF          # RF is clear afterwards, whatever was popped
    if i.opsize > 2:
        bits |= F_AC | F_ID
    if virtual_if:
        if value & F_TF or (value & F_IF and c.flags_system & F_VIP):
            return gp0(c)
        bits |= F_VIF
        value |= F_VIF if value & F_IF else 0
    elif not c.cr0 & CR0_PE or c.cpl <= iopl(c):
        bits |= F_IF
        if c.cpl == 0:
            bits |= F_IOPL
    value &= ~<u64>F_RF
    drop(c, i.opsize)
    flags = (all_flags(c) & ~bits) | (value & bits)
    load_arithmetic_flags(c, flags)
    c.flags_system = (flags & ~<u64>F_ARITH) | F_ONE
    update_mode(c)
    return 0


cdef int cli(Cpu* c, Insn* i) noexcept nogil:
    if c.cr0 & CR0_PE and c.cpl > iopl(c):
        if not virtual_interrupts(c):
            return gp0(c)
        c.flags_system &= ~<u64>F_VIF
        return 0
    c.flags_system &= ~<u64>F_IF
    return 0


cdef int sti(Cpu* c, Insn* i) noexcept nogil:
    """Interrupts are held back until after the next instruction, where they were off."""
    if c.cr0 & CR0_PE and c.cpl > iopl(c):
        if not virtual_interrupts(c) or c.flags_system & F_VIP:
            return gp0(c)
        c.flags_system |= F_VIF
        return 0
    if not c.flags_system & F_IF:
        c.shadow = 1
    c.flags_system |= F_IF
    return 0


cdef int hlt(Cpu* c, Insn* i) noexcept nogil:
    if cpl0(c):
        return 1
    c.halted = 1
    return 0


cdef int stac(Cpu* c, Insn* i) noexcept nogil:
    if c.cpl != 0:
        return undefined(c)
    c.flags_system |= F_AC
    update_mode(c)
    return 0


cdef int clac(Cpu* c, Insn* i) noexcept nogil:
    if c.cpl != 0:
        return undefined(c)
    c.flags_system &= ~<u64>F_AC
    update_mode(c)
    return 0


# --- fast system calls (SDM 2 SYSCALL, SYSENTER; APM 3) ----------------------------------------------------------------

cdef void flat_code(Cpu* c, u32 selector, u32 cpl, bint is_long) noexcept nogil:
    cdef Segment* s = &c.seg[CS]
    s.selector = <u16>((selector & 0xFFFC) | cpl)
    s.base = 0
    s.limit = <u32>0xFFFFFFFF
    s.attributes = <u16>(0x9B | (cpl << 5) | A_G | (A_L if is_long else A_B))


cdef void flat_stack(Cpu* c, u32 selector, u32 cpl) noexcept nogil:
    cdef Segment* s = &c.seg[SS]
    s.selector = <u16>((selector & 0xFFFC) | cpl)
    s.base = 0
    s.limit = <u32>0xFFFFFFFF
    s.attributes = <u16>(0x93 | (cpl << 5) | A_G | A_B)


cdef int syscall(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 flags
    if not c.efer & EFER_SCE:
        return undefined(c)
    flags = all_flags(c) & ~<u64>F_RF
    if c.efer & EFER_LMA:
        c.regs[RCX] = c.rip
        c.regs[11] = flags
        c.rip = c.lstar if c.mode & MODE_CODE == MODE_64 else c.cstar
        flags &= ~c.sfmask
        c.trap_dropped = 1                           # what SFMASK leaves of TF counts at once
        c.debug_trap = DR6_BS if flags & F_TF else 0
        load_arithmetic_flags(c, flags)
        c.flags_system = (flags & ~<u64>(F_ARITH | F_RF)) | F_ONE
        flat_code(c, <u32>(c.star >> 32) & 0xFFFF, 0, True)
    else:
        c.regs[RCX] = c.rip
        c.rip = c.star & <u64>0xFFFFFFFF
        c.flags_system &= ~<u64>(F_VM | F_IF | F_RF)
        flat_code(c, <u32>(c.star >> 32) & 0xFFFF, 0, False)
    flat_stack(c, (<u32>(c.star >> 32) & 0xFFFF) + 8, 0)
    c.cpl = 0
    update_mode(c)
    return 0


cdef int sysret(Cpu* c, Insn* i) noexcept nogil:
    cdef u32 selector = <u32>(c.star >> 48) & 0xFFFF
    cdef u64 flags
    if not c.efer & EFER_SCE:
        return undefined(c)
    if not c.mode & MODE_PROTECTED or cpl0(c):
        return gp0(c)
    if c.efer & EFER_LMA:
        if i.opsize == 8:
            if not canonical(c.regs[RCX]):
                return gp0(c)
            c.rip = c.regs[RCX]
            flat_code(c, selector + 16, 3, True)
        else:
            c.rip = c.regs[RCX] & <u64>0xFFFFFFFF
            flat_code(c, selector, 3, False)
        flags = (c.regs[11] & <u64>0x3C7FD7) | F_ONE
        c.trap_dropped = 1                           # the TF that it loads counts at once, before the next instruction
        c.debug_trap = DR6_BS if flags & F_TF else 0
        load_arithmetic_flags(c, flags)
        c.flags_system = (flags & ~<u64>F_ARITH) | F_ONE
    else:
        c.rip = c.regs[RCX] & <u64>0xFFFFFFFF
        c.flags_system |= F_IF
        flat_code(c, selector, 3, False)
    flat_stack(c, selector + 8, 3)
    c.cpl = 3
    update_mode(c)
    return 0


cdef int sysenter(Cpu* c, Insn* i) noexcept nogil:
    cdef bint is_long = c.efer & EFER_LMA != 0
    if not c.cr0 & CR0_PE or not c.sysenter_cs & 0xFFFC:
        return gp0(c)
    c.flags_system &= ~<u64>(F_VM | F_IF | F_RF)
    flat_code(c, <u32>c.sysenter_cs & 0xFFFC, 0, is_long)
    flat_stack(c, (<u32>c.sysenter_cs & 0xFFFC) + 8, 0)
    c.cpl = 0
    c.regs[RSP] = c.sysenter_esp if is_long else c.sysenter_esp & <u64>0xFFFFFFFF
    c.rip = c.sysenter_eip if is_long else c.sysenter_eip & <u64>0xFFFFFFFF
    update_mode(c)
    return 0


cdef int sysexit(Cpu* c, Insn* i) noexcept nogil:
    cdef u32 selector = <u32>c.sysenter_cs & 0xFFFC
    if not c.mode & MODE_PROTECTED or not selector or cpl0(c):
        return gp0(c)
    if i.opsize == 8:
        if not canonical(c.regs[RCX]) or not canonical(c.regs[RDX]):
            return gp0(c)
        c.rip = c.regs[RDX]
        c.regs[RSP] = c.regs[RCX]
        flat_code(c, selector + 32, 3, True)
        flat_stack(c, selector + 40, 3)
    else:
        c.rip = c.regs[RDX] & <u64>0xFFFFFFFF
        c.regs[RSP] = c.regs[RCX] & <u64>0xFFFFFFFF
        flat_code(c, selector + 16, 3, False)
        flat_stack(c, selector + 24, 3)
    c.cpl = 3
    update_mode(c)
    return 0


cdef int swapgs(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 base = c.seg[GS].base
    if cpl0(c):
        return 1
    c.seg[GS].base = c.kernel_gs_base
    c.kernel_gs_base = base
    c.segment_base[GS] = c.seg[GS].base
    return 0


cdef int read_base(Cpu* c, Insn* i, int segment) noexcept nogil:
    if not c.cr4 & CR4_FSGSBASE:
        return undefined(c)
    set_reg(c, i.dst, c.seg[segment].base, 8 if i.opsize == 8 else 4)
    return 0


cdef int write_base(Cpu* c, Insn* i, int segment) noexcept nogil:
    cdef u64 value = reg(c, i.dst, 8 if i.opsize == 8 else 4)
    if not c.cr4 & CR4_FSGSBASE:
        return undefined(c)
    if not canonical(value):
        return gp0(c)
    c.seg[segment].base = value
    c.segment_base[segment] = value
    return 0


cdef int rdfsbase(Cpu* c, Insn* i) noexcept nogil:
    return read_base(c, i, FS)


cdef int rdgsbase(Cpu* c, Insn* i) noexcept nogil:
    return read_base(c, i, GS)


cdef int wrfsbase(Cpu* c, Insn* i) noexcept nogil:
    return write_base(c, i, FS)


cdef int wrgsbase(Cpu* c, Insn* i) noexcept nogil:
    return write_base(c, i, GS)


cdef int rdpid(Cpu* c, Insn* i) noexcept nogil:
    set_reg(c, i.dst, c.tsc_aux & <u64>0xFFFFFFFF, 8)
    return 0


cdef int rdpkru(Cpu* c, Insn* i) noexcept nogil:
    if not c.cr4 & CR4_PKE:
        return undefined(c)
    if c.regs[RCX] & <u64>0xFFFFFFFF:
        return gp0(c)
    c.regs[RAX] = c.pkru
    c.regs[RDX] = 0
    return 0


cdef int wrpkru(Cpu* c, Insn* i) noexcept nogil:
    if not c.cr4 & CR4_PKE:
        return undefined(c)
    if (c.regs[RCX] | c.regs[RDX]) & <u64>0xFFFFFFFF:
        return gp0(c)
    c.pkru = <u32>c.regs[RAX]
    flush_tlb(c, True)
    return 0


cdef u64 valid_xcr0(Cpu* c) noexcept nogil:
    return 3 | (<u64>1 << 9 if has_feature(c, FEATURE_PKU) else 0)


cdef int xgetbv(Cpu* c, Insn* i) noexcept nogil:
    if not c.cr4 & CR4_OSXSAVE:
        return undefined(c)
    if c.regs[RCX] & <u64>0xFFFFFFFF:
        return gp0(c)
    c.regs[RAX] = c.xcr0 & <u64>0xFFFFFFFF
    c.regs[RDX] = c.xcr0 >> 32
    return 0


cdef int xsetbv(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 value = (c.regs[RDX] << 32) | (c.regs[RAX] & <u64>0xFFFFFFFF)
    if not c.cr4 & CR4_OSXSAVE:
        return undefined(c)
    if cpl0(c):
        return 1
    if c.regs[RCX] & <u64>0xFFFFFFFF or not value & 1 or value & ~valid_xcr0(c):
        return gp0(c)
    c.xcr0 = value
    return 0


# --- time and random numbers -------------------------------------------------------------------------------------------

cdef int rdtsc(Cpu* c, Insn* i) noexcept nogil:
    """1 GHz: a tick is a nanosecond of virtual time, exact to the instruction."""
    cdef u64 value = retired_before(c, i) + c.idle_ns
    if c.cr4 & CR4_TSD and c.cpl != 0:
        return gp0(c)
    if value > c.horizon_ns:                     # no CPU may read an earlier time after this
        return run_alone(c)
    value += c.tsc_offset
    c.regs[RAX] = value & <u64>0xFFFFFFFF
    c.regs[RDX] = value >> 32
    return 0


cdef int rdtscp(Cpu* c, Insn* i) noexcept nogil:
    if rdtsc(c, i):
        return 1
    c.regs[RCX] = c.tsc_aux & <u64>0xFFFFFFFF
    return 0


cdef inline u64 rotate(u64 value, int count) noexcept nogil:
    return (value << count) | (value >> (64 - count))


cdef int rdrand(Cpu* c, Insn* i) noexcept nogil:
    """RDRAND and RDSEED: xoshiro256** (Blackman, Vigna 2018) from the machine's seed; always succeeds."""
    cdef u64* s = c.random_state
    cdef u64 value = rotate(s[1] * 5, 7) * 9
    cdef u64 t = s[1] << 17
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= t
    s[3] = rotate(s[3], 45)
    set_reg(c, i.dst, value, i.opsize)
    load_arithmetic_flags(c, F_CF)
    return 0


cdef int cpuid(Cpu* c, Insn* i) noexcept nogil:
    cdef u32[4] values
    read_cpuid(c, <u32>c.regs[RAX], <u32>c.regs[RCX], values)
    c.regs[RAX] = values[0]
    c.regs[RBX] = values[1]
    c.regs[RCX] = values[2]
    c.regs[RDX] = values[3]
    return 0
