# The state of the processor after RESET, INIT and SIPI (SDM 3A table 9-1, 8.4; APM 2 table 14-1).
from libc.string cimport memset

from emu.base.types cimport u64
from emu.cpu.access cimport flush_tlb
from emu.cpu.mode cimport update_mode
from emu.cpu.state cimport *


cdef void init_cpu(Cpu* c) noexcept nogil:
    """INIT: x87, vector registers, MTRRs and the other MSRs stay, and so do CR0.CD and NW; it waits for a SIPI then."""
    cdef int k
    memset(c.regs, 0, sizeof(c.regs))
    c.regs[RDX] = 0x600
    c.flag_result = 1
    c.flag_carries = 0
    c.flag_adjust = 0
    c.flags_system = F_ONE
    c.rip = 0xFFF0
    for k in range(SEGMENTS):
        c.seg[k].selector = 0
        c.seg[k].base = 0
        c.seg[k].limit = 0xFFFF
        c.seg[k].attributes = 0x93
    c.seg[CS].selector = 0xF000
    c.seg[CS].base = <u64>0xFFFF0000
    c.seg[CS].attributes = 0x9B
    c.seg[LDTR].attributes = 0x82
    c.seg[TR].attributes = 0x8B
    c.gdtr.base = 0
    c.gdtr.limit = 0xFFFF
    c.idtr.base = 0
    c.idtr.limit = 0xFFFF
    c.cr0 = (c.cr0 & (CR0_CD | CR0_NW)) | CR0_ET
    c.cr2 = 0
    c.cr3 = 0
    c.cr4 = 0
    c.cr8 = 0
    c.efer = 0
    c.cpl = 0
    memset(c.dr, 0, sizeof(c.dr))
    c.dr[6] = <u64>0xFFFF0FF0
    c.dr[7] = 0x400
    c.nmi = c.nmi_blocked = c.init = c.halted = c.shadow = c.shadow_debug = 0
    c.debug_trap = c.shutdown = 0
    c.wait_sipi = 1
    c.link_slot = NULL
    flush_tlb(c, True)
    update_mode(c)


cdef void start_cpu(Cpu* c) noexcept nogil:
    """A SIPI: real mode, from the page that its vector names (SDM 3A 8.4.3)."""
    c.seg[CS].selector = <u16>(c.sipi << 8)
    c.seg[CS].base = <u64>c.sipi << 12
    c.rip = 0
    c.sipi = -1
    c.wait_sipi = 0
    update_mode(c)


cdef void reset_cpu(Cpu* c) noexcept nogil:
    """RESET: everything architectural is set; counters, time, caches of decoded code and what surrounds the CPU stay.

    The first CPU of a machine runs then, the others wait for a SIPI."""
    c.address_mask[0] = ~<u64>0
    c.address_mask[1] = 0xFFFF
    c.address_mask[2] = <u64>0xFFFFFFFF
    c.address_mask[3] = <u64>0xFFFFFFFF
    c.cr0 = CR0_CD | CR0_NW
    c.xcr0 = 1
    c.pkru = 0
    c.mxcsr = 0x1F80
    memset(c.xmm, 0, sizeof(c.xmm))
    memset(&c.fpu, 0, sizeof(c.fpu))
    c.fpu.control = 0x40
    c.fpu.valid = 0xFF                       # the tag word is 5555h: all zeros
    c.star = c.lstar = c.cstar = c.sfmask = c.kernel_gs_base = 0
    c.sysenter_cs = c.sysenter_esp = c.sysenter_eip = 0
    c.pat = <u64>0x0007040600070406
    c.tsc_aux = 0
    c.misc_enable = 1
    c.mtrr_def_type = 0
    memset(c.mtrr_fixed, 0, sizeof(c.mtrr_fixed))
    memset(c.mtrr_variable, 0, sizeof(c.mtrr_variable))
    c.intr = 0
    c.sipi = -1
    c.space.a20_mask = ~<u64>0
    init_cpu(c)
    c.wait_sipi = c.number != 0
