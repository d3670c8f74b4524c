# The CPU's declared state, and how it is checked when it comes from outside (a snapshot's file).
#
# What is not saved follows from what is (mode, bases, contexts), or is scratch, or is a cache: TLBs and decoded blocks.
# Those are empty after a restore; a snapshot empties the TLBs of its source too, so that both have the same future
# (docs/adr/0008).
import functools

from emu.base.errors import SnapshotError
from emu.base.state cimport StateFields, declare_state
from emu.base.types cimport u32, u64
from emu.cpu.access cimport flush_tlb
from emu.cpu.control cimport valid_cr4, valid_xcr0
from emu.cpu.cpuid cimport has_feature
from emu.cpu.gen.features cimport *
from emu.cpu.mode cimport canonical, update_mode
from emu.cpu.msr cimport MSR_MTRR_DEF_TYPE, MSR_MTRR_FIXED, MSR_MTRR_VARIABLE, MSR_PAT, valid_memory_type
from emu.cpu.state cimport *

cdef enum:
    ATTRIBUTE_BITS = 0x8FFF      # of Segment.attributes
    MXCSR_BITS = 0xFFFF
    MOST_PENDING = 4             # places in the chain of faults

_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs", "", "", "ldtr", "tr")


cdef void forget_translations(Cpu* c) noexcept nogil:
    """Empties the TLBs; decoded blocks, which are found by physical address, stay."""
    flush_tlb(c, True)
    c.link_slot = NULL


cdef void restored(void* owner) noexcept nogil:
    cdef Cpu* c = <Cpu*>owner
    c.budget = 0
    forget_translations(c)
    update_mode(c)


cdef StateFields declare_cpu(Cpu* c, object core, object check):
    """The list of fields of one CPU."""
    cdef int k
    cdef StateFields f = declare_state(f"cpu{c.number}", core, check)
    f.cover(c, sizeof(Cpu))
    f.when_restored(restored, c)
    f.add("registers", "u64", c.regs, 16)
    f.add("flag_result", "i64", &c.flag_result)
    f.add("flag_carries", "u32", &c.flag_carries)
    f.add("flag_adjust", "u32", &c.flag_adjust)
    f.add("flags_system", "u64", &c.flags_system)
    f.add("rip", "u64", &c.rip)
    f.add("cpl", "u32", &c.cpl)
    f.add("retired", "u64", &c.slice_end)
    f.add("idle_ns", "u64", &c.idle_ns)
    for k, name in enumerate(_SEGMENTS):
        if name:
            f.add(name + "_base", "u64", &c.seg[k].base)
            f.add(name + "_limit", "u32", &c.seg[k].limit)
            f.add(name, "u16", &c.seg[k].selector)
            f.add(name + "_attributes", "u16", &c.seg[k].attributes)
    f.add("gdt_base", "u64", &c.gdtr.base)
    f.add("gdt_limit", "u32", &c.gdtr.limit)
    f.add("idt_base", "u64", &c.idtr.base)
    f.add("idt_limit", "u32", &c.idtr.limit)
    f.add("cr0", "u64", &c.cr0)
    f.add("cr2", "u64", &c.cr2)
    f.add("cr3", "u64", &c.cr3)
    f.add("cr4", "u64", &c.cr4)
    f.add("cr8", "u64", &c.cr8)
    f.add("xcr0", "u64", &c.xcr0)
    f.add("efer", "u64", &c.efer)
    f.add("dr", "u64", c.dr, 8)
    f.add("pdpte", "u64", c.pdpte, 4)
    f.add("pkru", "u32", &c.pkru)
    f.add("mxcsr", "u32", &c.mxcsr)
    f.add("xmm", "u64", c.xmm, 32)
    for k in range(8):
        f.add(f"x87_significand_{k}", "u64", &c.fpu.st[k].significand)
        f.add(f"x87_sign_exponent_{k}", "u16", &c.fpu.st[k].sign_exponent)
    f.add("x87_control", "u16", &c.fpu.control)
    f.add("x87_status", "u16", &c.fpu.status)
    f.add("x87_valid", "u16", &c.fpu.valid)
    f.add("x87_opcode", "u16", &c.fpu.fop)
    f.add("x87_code_selector", "u16", &c.fpu.fcs)
    f.add("x87_data_selector", "u16", &c.fpu.fds)
    f.add("x87_code_pointer", "u64", &c.fpu.fip)
    f.add("x87_data_pointer", "u64", &c.fpu.fdp)
    f.add("ferr", "i32", &c.ferr.level)
    f.add("star", "u64", &c.star)
    f.add("lstar", "u64", &c.lstar)
    f.add("cstar", "u64", &c.cstar)
    f.add("sfmask", "u64", &c.sfmask)
    f.add("kernel_gs_base", "u64", &c.kernel_gs_base)
    f.add("sysenter_cs", "u64", &c.sysenter_cs)
    f.add("sysenter_esp", "u64", &c.sysenter_esp)
    f.add("sysenter_eip", "u64", &c.sysenter_eip)
    f.add("pat", "u64", &c.pat)
    f.add("tsc_offset", "u64", &c.tsc_offset)
    f.add("tsc_aux", "u64", &c.tsc_aux)
    f.add("misc_enable", "u64", &c.misc_enable)
    f.add("mtrr_def_type", "u64", &c.mtrr_def_type)
    f.add("mtrr_fixed", "u64", c.mtrr_fixed, 11)
    f.add("mtrr_variable", "u64", c.mtrr_variable, 16)
    f.add("random_state", "u64", c.random_state, 4)
    f.add("intr", "i32", &c.intr)
    f.add("nmi", "i32", &c.nmi)
    f.add("nmi_blocked", "i32", &c.nmi_blocked)
    f.add("init", "i32", &c.init)
    f.add("sipi", "i32", &c.sipi)
    f.add("halted", "i32", &c.halted)
    f.add("wait_sipi", "i32", &c.wait_sipi)
    f.add("shadow", "i32", &c.shadow)
    f.add("shadow_debug", "i32", &c.shadow_debug)
    f.add("debug_trap", "i32", &c.debug_trap)
    f.add("shutdown", "i32", &c.shutdown)
    f.add("chain_length", "i32", &c.chain_length)
    f.add("chain_vector", "i32", c.chain_vector, 4)
    f.add("chain_has_error", "i32", c.chain_has_error, 4)
    f.add("chain_error", "u32", c.chain_error, 4)
    f.add("chain_cr2", "u64", c.chain_cr2, 4)
    # --- follows from the fields (update_mode, take_turn)
    f.derived("budget", &c.budget, sizeof(c.budget))
    f.derived("turn", &c.crew, <u64>&c.tlbs - <u64>&c.crew)
    f.derived("address_mask", c.address_mask, sizeof(c.address_mask))
    f.derived("segment_base", c.segment_base, sizeof(c.segment_base))
    f.derived("contexts", &c.tlb_read, <u64>&c.mode - <u64>&c.tlb_read)
    f.derived("mode", &c.mode, sizeof(c.mode))
    f.derived("stack_kind", &c.stack_kind, sizeof(c.stack_kind) + sizeof(c.ctx))
    # --- scratch of a run or an instruction
    f.derived("scratch_registers", &c.regs[ZERO_SLOT], (REG_SLOTS - ZERO_SLOT) * 8)
    f.derived("position", &c.at, <u64>&c.stack_kind - <u64>&c.at)
    f.derived("fault", &c.fault_vector, <u64>&c.intr - <u64>&c.fault_vector)
    f.derived("trap_dropped", &c.trap_dropped, sizeof(c.trap_dropped))
    f.derived("debug_fault", &c.debug_fault, sizeof(c.debug_fault))
    # --- the model, the wiring, the caches, statistics
    f.derived("model", c.features, <u64>&c.ferr.level - <u64>c.features)
    f.derived("caches", &c.tlbs, <u64>c + sizeof(Cpu) - <u64>&c.tlbs)
    return f


def _demand(number, bint good, name, value, expected):
    if not good:
        raise SnapshotError(f"cpu{number}.{name}", f"{value:#x}", expected)


cdef int check_cpu(Cpu* c) except -1:
    """Checks restored state as a guest's writes to the registers would be; then makes what follows from it."""
    cdef int k
    cdef u64 cr0_bits = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG
    cdef u64 efer_bits = ((EFER_SCE if has_feature(c, FEATURE_SYSCALL) else 0) | (EFER_NXE if has_feature(c, FEATURE_NX) else 0)
                          | (EFER_LME | EFER_LMA if has_feature(c, FEATURE_LM) else 0))
    cdef u64 above = ~<u64>0 << c.physical_bits
    cdef bint is_v86 = c.flags_system & F_VM != 0

    demand = functools.partial(_demand, c.number)
    demand(c.flags_system & (F_ARITH | F_ONE) == F_ONE and not c.flags_system >> 22 and not c.flags_system & 0x8028,
           "flags_system", c.flags_system, "bit 1, and no arithmetic or reserved flags")
    demand(not c.slice_end >> 62 and not c.idle_ns >> 62,
           "retired", c.slice_end, "counts that can be reached")
    demand(not c.cr0 & ~cr0_bits and c.cr0 & CR0_ET != 0, "cr0", c.cr0, "no reserved bits")
    demand(not (c.cr0 & CR0_PG and not c.cr0 & CR0_PE) and not (c.cr0 & CR0_NW and not c.cr0 & CR0_CD), "cr0", c.cr0,
           "PG only with PE, NW only with CD")
    demand(not c.cr4 & ~valid_cr4(c), "cr4", c.cr4, "bits that this CPU has")
    demand(not c.efer & ~efer_bits, "efer", c.efer, "bits that this CPU has")
    demand((c.efer & EFER_LMA != 0) == (c.efer & EFER_LME != 0 and c.cr0 & CR0_PG != 0), "efer", c.efer, "LMA where LME and CR0.PG are set")
    demand(not c.efer & EFER_LMA or c.cr4 & CR4_PAE != 0, "cr4", c.cr4, "PAE in long mode")
    demand(c.efer & EFER_LMA != 0 or not c.cr4 & CR4_PCIDE, "cr4", c.cr4, "PCIDE in long mode only")
    demand(not c.cr3 & above, "cr3", c.cr3, f"{c.physical_bits} bits")
    demand(c.cr8 <= 15, "cr8", c.cr8, "4 bits")
    demand(c.xcr0 & 1 and not c.xcr0 & ~valid_xcr0(c), "xcr0", c.xcr0, "bits that this CPU has, x87 among them")
    demand(not c.dr[6] >> 32 and not c.dr[7] >> 32, "dr", c.dr[6] | c.dr[7], "32 bits in DR6 and DR7")
    for k in range(4):
        demand(not c.pdpte[k] & 1 or not c.pdpte[k] & (<u64>0x1E6 | above), "pdpte", c.pdpte[k], "no reserved bits")
    demand(not c.mxcsr & ~<u32>MXCSR_BITS, "mxcsr", c.mxcsr, "no reserved bits")
    demand(c.cpl <= 3, "cpl", c.cpl, "0..3")
    demand(c.cr0 & CR0_PE != 0 or (c.cpl == 0 and not is_v86), "cpl", c.cpl, "0, and no VM flag, in real mode")
    demand(not is_v86 or (c.cpl == 3 and not c.efer & EFER_LMA), "cpl", c.cpl, "3 in virtual-8086 mode, never in long mode")
    for k, name in enumerate(_SEGMENTS):
        if name:
            demand(not c.seg[k].attributes & ~<u32>ATTRIBUTE_BITS, name + "_attributes", c.seg[k].attributes, "no reserved bits")
            demand(canonical(c.seg[k].base), name + "_base", c.seg[k].base, "a canonical address")
    demand(c.efer & EFER_LMA == 0 or c.seg[CS].attributes & 0x600 != 0x600, "cs_attributes", c.seg[CS].attributes, "L or D, not both")
    for name, base in (("gdt_base", c.gdtr.base), ("idt_base", c.idtr.base), ("lstar", c.lstar), ("cstar", c.cstar),
                       ("kernel_gs_base", c.kernel_gs_base), ("sysenter_esp", c.sysenter_esp), ("sysenter_eip", c.sysenter_eip)):
        demand(canonical(base), name, base, "a canonical address")
    demand(c.gdtr.limit <= 0xFFFF and c.idtr.limit <= 0xFFFF, "gdt_limit", c.gdtr.limit | c.idtr.limit, "16 bits")
    demand(not (c.sfmask | c.sysenter_cs | c.tsc_aux) >> 32, "sfmask", c.sfmask | c.sysenter_cs | c.tsc_aux,
           "32 bits in sfmask, sysenter_cs and tsc_aux")
    demand(valid_memory_type(c, MSR_PAT, c.pat), "pat", c.pat, "memory types")
    demand(valid_memory_type(c, MSR_MTRR_DEF_TYPE, c.mtrr_def_type), "mtrr_def_type", c.mtrr_def_type, "a memory type")
    for k in range(11):
        demand(valid_memory_type(c, MSR_MTRR_FIXED, c.mtrr_fixed[k]), "mtrr_fixed", c.mtrr_fixed[k], "memory types")
    for k in range(16):
        demand(valid_memory_type(c, MSR_MTRR_VARIABLE + k, c.mtrr_variable[k]), "mtrr_variable", c.mtrr_variable[k], "a range and its type")
    demand((c.random_state[0] | c.random_state[1] | c.random_state[2] | c.random_state[3]) != 0, "random_state", 0, "not all zeros")
    for name, value in (("intr", c.intr), ("nmi", c.nmi), ("nmi_blocked", c.nmi_blocked), ("init", c.init), ("halted", c.halted),
                        ("wait_sipi", c.wait_sipi), ("shadow", c.shadow), ("shadow_debug", c.shadow_debug),
                        ("shutdown", c.shutdown), ("ferr", c.ferr.level)):
        demand(value in (0, 1), name, value, "0 or 1")
    demand(-1 <= c.sipi <= 255, "sipi", c.sipi, "a vector, or -1")
    demand(not c.debug_trap & ~0xE00F, "debug_trap", c.debug_trap, "bits of DR6")
    demand(0 <= c.chain_length <= MOST_PENDING, "chain_length", c.chain_length, f"at most {MOST_PENDING}")
    for k in range(MOST_PENDING):
        demand(0 <= c.chain_vector[k] <= 255, "chain_vector", c.chain_vector[k], "a vector")
    restored(c)
    return 0
