# MXCSR, cache-line instructions, FXSAVE/FXRSTOR and the XSAVE family (SDM 1 chapters 10.5 and 13).
from libc.string cimport memcpy, memset

from emu.base.types cimport u8, u32, u64
from emu.cpu.access cimport (check_segment, commit, flush_tlb, operand_offset, probe_as, read_linear, read_operand, set_fault, stack_ctx,
                             write_linear, write_operand)
from emu.cpu.cpuid cimport has_feature
from emu.cpu.fpu cimport X87, x87_reset
from emu.cpu.gen.features cimport FEATURE_XSAVEERPTR
from emu.cpu.semantics.simd cimport sse_check
from emu.cpu.semantics.x87 cimport MXCSR_MASK, fxrstor_image, fxsave_image
from emu.cpu.state cimport (AC, ACCESS_READ, CR0_AM, CR0_EM, CR0_TS, CR4_OSXSAVE, F_AC, GP, MODE_64, MODE_CODE, NM, RAX, RDX, SEG_CHECKED,
                            UD, Cpu, Insn)

cdef enum:
    MXCSR_INITIAL = 0x1F80
    LEGACY_BYTES = 416           # of the 512, what processors write

cdef u64 COMPACT = <u64>1 << 63  # XCOMP_BV: the compacted format


cdef int ldmxcsr(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p
    if sse_check(c):
        return 1
    p = read_operand(c, i, 4)
    if p == NULL:
        return 1
    if (<u32*>p)[0] & ~<u32>MXCSR_MASK:
        return set_fault(c, GP, True, 0)
    c.mxcsr = (<u32*>p)[0]
    return 0


cdef int stmxcsr(Cpu* c, Insn* i) noexcept nogil:
    cdef u8* p
    if sse_check(c):
        return 1
    p = write_operand(c, i, 4)
    if p == NULL:
        return 1
    (<u32*>p)[0] = c.mxcsr
    commit(c, p)
    return 0


cdef int linear_of(Cpu* c, Insn* i, int size, bint write, u64* linear) noexcept nogil:
    """Linear address of the memory operand after the segment's checks."""
    linear[0] = operand_offset(c, i)
    if i.seg & SEG_CHECKED:
        return check_segment(c, i.seg & 7, linear[0], size, write, linear)
    linear[0] += c.segment_base[i.seg]
    return 0


cdef int flush_line(Cpu* c, Insn* i) noexcept nogil:
    """CLFLUSH, CLFLUSHOPT, CLWB: checked like a load of a byte (SDM 2A CLFLUSH); there is no cache to write back."""
    cdef u64 linear
    return 1 if linear_of(c, i, 1, False, &linear) else probe_as(c, linear, 1, ACCESS_READ, stack_ctx(c, c.cpl))


# --- areas in memory -------------------------------------------------------------------------------------------------

cdef int area(Cpu* c, Insn* i, int size, u64 alignment, bint write, u64* linear) noexcept nogil:
    """Alignment is looked at before the limit; in FXSAVE and FXRSTOR that of a doubleword is #AC where alignment is checked at all."""
    cdef u64 at = operand_offset(c, i) + c.segment_base[i.seg & 7]
    if at & (alignment - 1):
        if alignment == 16 and at & 3 and c.cpl == 3 and c.cr0 & CR0_AM and c.flags_system & F_AC:
            return set_fault(c, AC, True, 0)
        return set_fault(c, GP, True, 0)
    return linear_of(c, i, size, write, linear)


cdef int probe_area(Cpu* c, u64 linear, int size) noexcept nogil:
    """Whether all of it can be written, before a byte of it is."""
    cdef u64 at = linear
    # FXSAVE begins with the last byte; XSAVE with the first, then the last
    if size > 512 and write_linear(c, at, 1) == NULL or write_linear(c, linear + <u64>size - 1, 1) == NULL:
        return 1
    while at < linear + <u64>size:
        if write_linear(c, at, 1) == NULL:
            return 1
        at = (at | 0xFFF) + 1
    return 0


cdef int store_area(Cpu* c, u64 linear, const u8* data, int size) noexcept nogil:
    """Multiples of 8 bytes. Where a page turns out to need an access of its own (device memory, code), the instruction is
    run once more from its beginning: it stores the same bytes again."""
    cdef int k
    cdef u8* p
    for k in range(0, size, 8):
        p = write_linear(c, linear + <u64>k, 8)
        if p == NULL:
            return 1
        memcpy(p, data + k, 8)
        commit(c, p)
    return 0


cdef int load_area(Cpu* c, u64 linear, u8* data, int size) noexcept nogil:
    cdef int k
    cdef u8* p
    for k in range(0, size, 8):
        p = read_linear(c, linear + <u64>k, 8)
        if p == NULL:
            return 1
        memcpy(data + k, p, 8)
    return 0


cdef inline int visible_registers(Cpu* c) noexcept nogil:
    """XMM8 to XMM15 are neither saved nor restored outside 64-bit mode."""
    return 16 if c.mode & MODE_CODE == MODE_64 else 8


# --- FXSAVE, FXRSTOR -------------------------------------------------------------------------------------------------

cdef int fxsave(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 linear
    cdef u8[LEGACY_BYTES] image
    cdef int registers = visible_registers(c)
    if c.cr0 & (CR0_EM | CR0_TS):
        return set_fault(c, NM, False, 0)
    if area(c, i, 512, 16, True, &linear) or probe_area(c, linear, 512):
        return 1
    memset(image, 0, LEGACY_BYTES)
    fxsave_image(&c.fpu, &c.xmm[0].low, registers, c.mxcsr, image, i.opsize == 8, not has_feature(c, FEATURE_XSAVEERPTR))
    return store_area(c, linear, image, 160 + 16 * registers)


cdef int fxrstor(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 linear
    cdef u8[LEGACY_BYTES] image
    cdef int registers = visible_registers(c)
    if c.cr0 & (CR0_EM | CR0_TS):
        return set_fault(c, NM, False, 0)
    if area(c, i, 512, 16, False, &linear) or read_linear(c, linear + 511, 1) == NULL or load_area(c, linear, image, 160 + 16 * registers):
        return 1
    if not fxrstor_image(&c.fpu, &c.xmm[0].low, registers, &c.mxcsr, image, i.opsize == 8):
        return set_fault(c, GP, True, 0)
    return 0


# --- XSAVE, XSAVEOPT, XSAVEC, XRSTOR ---------------------------------------------------------------------------------

cdef int xsave_check(Cpu* c) noexcept nogil:
    if not c.cr4 & CR4_OSXSAVE:
        return set_fault(c, UD, False, 0)
    if c.cr0 & CR0_TS:
        return set_fault(c, NM, False, 0)
    return 0


cdef u64 requested(Cpu* c) noexcept nogil:
    """RFBM, the requested-feature bitmap."""
    return c.xcr0 & (<u64><u32>c.regs[RAX] | c.regs[RDX] << 32)


cdef u64 in_use(Cpu* c) noexcept nogil:
    """XINUSE: the components that are not in their initial state (SDM 1 13.6); exact here, so that it is the same on
    every run."""
    cdef X87 initial
    cdef u64 found = 0, bits = 0
    cdef int k
    memset(&initial, 0, sizeof(X87))
    x87_reset(&initial)
    if c.fpu.control != initial.control or c.fpu.status or c.fpu.valid or c.fpu.fop or c.fpu.fip or c.fpu.fdp or c.fpu.fcs or c.fpu.fds:
        found |= XSTATE_X87
    for k in range(8):
        if c.fpu.st[k].significand or c.fpu.st[k].sign_exponent:
            found |= XSTATE_X87
    for k in range(visible_registers(c)):
        bits |= c.xmm[k].low | c.xmm[k].high
    if bits:
        found |= XSTATE_SSE
    if c.pkru:
        found |= XSTATE_PKRU
    return found


cdef int save(Cpu* c, Insn* i, bint optimised, bint compact) noexcept nogil:
    cdef u64 linear, wanted, used, saved
    cdef u64[2] header
    cdef u8[LEGACY_BYTES] image
    cdef u64 pkru = c.pkru
    cdef int registers = visible_registers(c)
    cdef int pkru_at = XSAVE_EXTENDED if compact else XSAVE_PKRU
    if xsave_check(c):
        return 1
    wanted = requested(c)
    used = wanted & in_use(c)
    if compact and wanted & XSTATE_SSE and c.mxcsr != MXCSR_INITIAL:
        used |= XSTATE_SSE
    saved = used if optimised or compact else wanted
    if area(c, i, pkru_at + XSAVE_PKRU_BYTES if saved & XSTATE_PKRU else XSAVE_EXTENDED, 64, True, &linear):
        return 1
    if probe_area(c, linear, XSAVE_EXTENDED) or (saved & XSTATE_PKRU
                                                 and probe_area(c, linear + <u64>pkru_at, XSAVE_PKRU_BYTES)):
        return 1
    if compact:
        header[0] = used
        header[1] = wanted | COMPACT
    else:
        if load_area(c, linear + XSAVE_HEADER, <u8*>header, 8):
            return 1
        header[0] = (header[0] & ~wanted) | used
    memset(image, 0, LEGACY_BYTES)
    fxsave_image(&c.fpu, &c.xmm[0].low, registers, c.mxcsr, image, i.opsize == 8, not has_feature(c, FEATURE_XSAVEERPTR))
    if saved & XSTATE_X87 and (store_area(c, linear, image, 24) or store_area(c, linear + 32, image + 32, 128)):
        return 1
    if (saved if compact else wanted) & (XSTATE_SSE | XSTATE_AVX) and store_area(c, linear + 24, image + 24, 8):
        return 1
    if saved & XSTATE_SSE and store_area(c, linear + 160, image + 160, 16 * registers):
        return 1
    if saved & XSTATE_PKRU and store_area(c, linear + <u64>pkru_at, <const u8*>&pkru, 8):
        return 1
    return store_area(c, linear + XSAVE_HEADER, <const u8*>header, 16 if compact else 8)


cdef int xsave(Cpu* c, Insn* i) noexcept nogil:
    return save(c, i, False, False)


cdef int xsaveopt(Cpu* c, Insn* i) noexcept nogil:
    """Components in their initial state are not stored; what is unmodified since XRSTOR is stored all the same."""
    return save(c, i, True, False)


cdef int xsavec(Cpu* c, Insn* i) noexcept nogil:
    return save(c, i, True, True)


cdef int xrstor(Cpu* c, Insn* i) noexcept nogil:
    cdef u64 linear, wanted, present, reserved = 0
    cdef u64[8] header
    cdef u8[LEGACY_BYTES] image
    cdef u64 pkru = 0
    cdef u32 mxcsr
    cdef int k, registers = visible_registers(c)
    cdef bint compact, load_mxcsr
    if xsave_check(c) or area(c, i, XSAVE_EXTENDED, 64, False, &linear):
        return 1
    if read_linear(c, linear, 1) == NULL or load_area(c, linear + XSAVE_HEADER, <u8*>header, 64):
        return 1
    wanted = requested(c)
    compact = header[1] >> 63
    present = header[0]
    for k in range(2, 8):
        reserved |= header[k]
    if compact:
        if header[1] & ~(c.xcr0 | COMPACT) or present & ~header[1] or reserved:
            return set_fault(c, GP, True, 0)
    elif present & ~c.xcr0 or header[1] or header[2]:
        return set_fault(c, GP, True, 0)
    memset(image, 0, LEGACY_BYTES)
    # the standard format restores MXCSR whatever XSTATE_BV says (SDM 1 13.8.1)
    load_mxcsr = (wanted & present & XSTATE_SSE) if compact else wanted & (XSTATE_SSE | XSTATE_AVX)
    if (wanted & present & (XSTATE_X87 | XSTATE_SSE) or load_mxcsr) and load_area(c, linear, image, 160 + 16 * registers):
        return 1
    mxcsr = (<u32*>(image + 24))[0] if load_mxcsr else MXCSR_INITIAL
    if mxcsr & ~<u32>MXCSR_MASK:
        return set_fault(c, GP, True, 0)
    if wanted & present & XSTATE_PKRU and load_area(c, linear + (XSAVE_EXTENDED if compact else XSAVE_PKRU), <u8*>&pkru, 8):
        return 1
    # --- nothing can fault from here on
    if wanted & XSTATE_X87:
        if present & XSTATE_X87:
            fxrstor_image(&c.fpu, NULL, 0, &mxcsr, image, i.opsize == 8)
        else:
            memset(&c.fpu, 0, sizeof(X87))
            x87_reset(&c.fpu)
    if wanted & XSTATE_SSE:
        if present & XSTATE_SSE:
            memcpy(c.xmm, image + 160, 16 * registers)
        else:
            memset(c.xmm, 0, 16 * registers)
    if wanted & (XSTATE_SSE | XSTATE_AVX):
        c.mxcsr = mxcsr
    if wanted & XSTATE_PKRU:
        if c.pkru != <u32>pkru:
            flush_tlb(c, True)                   # entries hold what the old keys allowed
        c.pkru = <u32>pkru
    return 0
