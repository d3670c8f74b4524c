# Delivery of exceptions and interrupts: gates, stack switches, double and triple faults (SDM 3A chapter 6).
from emu.base.types cimport u16, u32, u64
from emu.cpu.access cimport probe_as, read_system, set_fault, stack_ctx, write_as
from emu.cpu.flags cimport all_flags
from emu.cpu.mode cimport canonical, update_mode
from emu.cpu.segment cimport (A_B, A_CODE, A_CONFORMING, A_EXPAND_DOWN, A_L, A_NULL, A_P, A_RW, A_S, dpl_of, make_null,
                              mark_accessed, read_descriptor, load_real, unpack)
from emu.cpu.state cimport *
from emu.cpu.task cimport TASK_INTERRUPT, task_switch


cdef int new_stack(Cpu* c, u32 dpl, u32 ext, u32* ss, u64* esp) noexcept nogil:
    """SS and ESP for privilege `dpl` from the TSS (legacy modes)."""
    cdef u64 value
    cdef u32 kind = c.seg[TR].attributes & 15
    cdef u32 at
    if kind & 8:                                    # 32-bit TSS
        at = dpl * 8 + 4
        if at + 5 > c.seg[TR].limit:
            return set_fault(c, TS, True, (c.seg[TR].selector & 0xFFFC) | ext)
        if read_system(c, c.seg[TR].base + at, 4, esp):
            return 1
        if read_system(c, c.seg[TR].base + at + 4, 2, &value):
            return 1
    else:
        at = dpl * 4 + 2
        if at + 3 > c.seg[TR].limit:
            return set_fault(c, TS, True, (c.seg[TR].selector & 0xFFFC) | ext)
        if read_system(c, c.seg[TR].base + at, 2, esp):
            return 1
        if read_system(c, c.seg[TR].base + at + 2, 2, &value):
            return 1
    ss[0] = <u32>value
    return 0


cdef int check_new_stack(Cpu* c, u32 selector, u32 dpl, u32 ext, Segment* out) noexcept nogil:
    """The stack segment of an inner privilege: #TS(selector) where it does not fit, #SS where it is not present."""
    cdef u64 descriptor
    if not selector & 0xFFFC:
        return set_fault(c, TS, True, ext)
    if read_descriptor(c, selector, TS, ext, &descriptor):
        return 1
    unpack(out, selector, descriptor)
    if (selector & 3) != dpl or dpl_of(out) != dpl or out.attributes & (A_S | A_CODE | A_RW) != A_S | A_RW:
        return set_fault(c, TS, True, (selector & 0xFFFC) | ext)
    if not out.attributes & A_P:
        return set_fault(c, SS_FAULT, True, (selector & 0xFFFC) | ext)
    if mark_accessed(c, selector, descriptor):
        return 1
    out.attributes |= 1
    return 0


cdef inline bint outside(Segment* ss, u64 offset, int size) noexcept nogil:
    cdef u64 last = offset + size - 1
    cdef u64 top = <u64>0xFFFFFFFF if ss.attributes & A_B else <u64>0xFFFF
    if ss.attributes & A_EXPAND_DOWN:
        return offset <= ss.limit or last > top
    return last > ss.limit


cdef int push_frame(Cpu* c, Segment* ss, u64 top, const u64* values, int count, int size, u32 cpl, u32 error,
                    u64* result) noexcept nogil:
    """Pushes `count` values below `top` in a legacy-mode stack segment, as privilege `cpl`; all checked before any is written."""
    cdef u64 mask = <u64>0xFFFFFFFF if ss.attributes & A_B else <u64>0xFFFF
    cdef int k
    cdef u64 offset
    cdef int ctx = stack_ctx(c, cpl)
    for k in range(count):
        offset = (top - <u64>((k + 1) * size)) & mask
        if outside(ss, offset, size):
            return set_fault(c, SS_FAULT, True, error)
        if probe_as(c, (ss.base + offset) & <u64>0xFFFFFFFF, size, ACCESS_WRITE, ctx):
            return 1
    for k in range(count):
        offset = (top - <u64>((k + 1) * size)) & mask
        if write_as(c, (ss.base + offset) & <u64>0xFFFFFFFF, size, ctx, values[k]):
            return 1
    result[0] = (top - <u64>(count * size)) & mask
    return 0


cdef inline void set_sp(Cpu* c, Segment* ss, u64 value) noexcept nogil:
    if ss.attributes & A_B:
        c.regs[RSP] = value & <u64>0xFFFFFFFF
    else:
        (<u16*>&c.regs[RSP])[0] = <u16>value


cdef int deliver_real(Cpu* c, int vector) noexcept nogil:
    """Real mode: the interrupt vector table (SDM 3B 20.1.4)."""
    cdef u64 entry
    cdef u64[3] frame
    cdef u64 top
    if <u32>(4 * vector + 3) > c.idtr.limit:
        return set_fault(c, GP, True, 8 * vector + 2)
    if read_system(c, c.idtr.base + 4 * vector, 4, &entry):
        return 1
    frame[0] = all_flags(c)
    frame[1] = c.seg[CS].selector
    frame[2] = c.rip
    if push_frame(c, &c.seg[SS], c.regs[RSP], frame, 3, 2, 0, 0, &top):
        return 1
    set_sp(c, &c.seg[SS], top)
    c.flags_system &= ~<u64>(F_IF | F_TF | F_AC | F_RF)
    load_real(c, CS, <u32>(entry >> 16))
    c.rip = entry & 0xFFFF
    update_mode(c)
    return 0


cdef int gate_code(Cpu* c, u32 selector, u32 ext, Segment* code, u64* descriptor) noexcept nogil:
    """The code segment that a gate names: checks of type, privilege, presence."""
    if not selector & 0xFFFC:
        return set_fault(c, GP, True, ext)
    if read_descriptor(c, selector, GP, ext, descriptor):
        return 1
    unpack(code, selector, descriptor[0])
    if code.attributes & (A_S | A_CODE) != A_S | A_CODE or dpl_of(code) > c.cpl:
        return set_fault(c, GP, True, (selector & 0xFFFC) | ext)
    if not code.attributes & A_P:
        return set_fault(c, NP, True, (selector & 0xFFFC) | ext)
    return 0


cdef int deliver_legacy(Cpu* c, int vector, int kind, bint has_error, u32 error, u64 flags) noexcept nogil:
    """Protected and virtual-8086 mode."""
    cdef u32 ext = 0 if kind == EVENT_SOFTWARE else 1
    cdef u32 index = 8 * <u32>vector + 2
    cdef u64 gate, descriptor, esp, top
    cdef u32 type, selector, ss_selector, dpl
    cdef u64 offset
    cdef Segment code, stack
    cdef u64[16] frame
    cdef int n = 0, size, result
    cdef bint v86 = c.flags_system & F_VM != 0
    cdef bint inner
    cdef u64 old_flags
    if <u32>(8 * vector + 7) > c.idtr.limit:
        return set_fault(c, GP, True, index | ext)
    if read_system(c, c.idtr.base + 8 * vector, 8, &gate):
        return 1
    type = <u32>(gate >> 40) & 0x1F
    selector = <u32>(gate >> 16) & 0xFFFF
    if type != 5 and type != 6 and type != 7 and type != 14 and type != 15:
        return set_fault(c, GP, True, index | ext)
    if kind == EVENT_SOFTWARE and ((gate >> 45) & 3) < c.cpl:
        return set_fault(c, GP, True, index)
    if not (gate >> 47) & 1:
        return set_fault(c, NP, True, index | ext)
    if type == 5:
        old_flags = c.flags_system
        c.flags_system |= flags & F_RF                  # the TSS gets it, as a stack would
        result = task_switch(c, selector, TASK_INTERRUPT, has_error, error, ext)
        if result == 1:
            c.flags_system = old_flags
        return result
    size = 4 if type & 8 else 2
    offset = (gate & 0xFFFF) | ((gate >> 32) & <u64>0xFFFF0000)
    if size == 2:
        offset &= 0xFFFF
    if gate_code(c, selector, ext, &code, &descriptor):
        return 1
    dpl = dpl_of(&code)
    inner = not code.attributes & A_CONFORMING and dpl < c.cpl
    if v86 and (not inner or dpl != 0):
        return set_fault(c, GP, True, (selector & 0xFFFC) | ext)
    if offset > code.limit:
        return set_fault(c, GP, True, ext)
    if inner:
        if new_stack(c, dpl, ext, &ss_selector, &esp):
            return 1
        if check_new_stack(c, ss_selector, dpl, ext, &stack):
            return 1
        if v86:
            frame[0] = c.seg[GS].selector
            frame[1] = c.seg[FS].selector
            frame[2] = c.seg[DS].selector
            frame[3] = c.seg[ES].selector
            n = 4
        frame[n] = c.seg[SS].selector
        frame[n + 1] = c.regs[RSP]
        n += 2
    else:
        stack = c.seg[SS]
        esp = c.regs[RSP]
        dpl = c.cpl
    frame[n] = flags
    frame[n + 1] = c.seg[CS].selector
    frame[n + 2] = c.rip
    n += 3
    if has_error:
        frame[n] = error
        n += 1
    old_flags = c.flags_system
    c.flags_system &= ~<u64>F_VM
    if push_frame(c, &stack, esp, frame, n, size, dpl, ((ss_selector & 0xFFFC) if inner else 0) | ext, &top):
        c.flags_system = old_flags
        return 1
    if mark_accessed(c, selector, descriptor):
        c.flags_system = old_flags
        return 1
    if inner:
        c.seg[SS] = stack
        c.regs[RSP] = esp
        set_sp(c, &stack, top)
        if v86:
            make_null(&c.seg[GS], 0)
            make_null(&c.seg[FS], 0)
            make_null(&c.seg[DS], 0)
            make_null(&c.seg[ES], 0)
    else:
        set_sp(c, &stack, top)
    c.flags_system &= ~<u64>(F_TF | F_NT | F_RF | F_VM)
    if not type & 1:
        c.flags_system &= ~<u64>F_IF
    c.cpl = dpl
    code.selector = <u16>((selector & 0xFFFC) | dpl)
    code.attributes |= 1
    c.seg[CS] = code
    c.rip = offset
    update_mode(c)
    return 0


cdef int deliver_long(Cpu* c, int vector, int kind, bint has_error, u32 error, u64 flags) noexcept nogil:
    """Long mode: 16-byte gates, IST, always five or six 8-byte pushes (SDM 3A 6.14)."""
    cdef u32 ext = 0 if kind == EVENT_SOFTWARE else 1
    cdef u32 index = 8 * <u32>vector + 2
    cdef u64 low, high, descriptor, top, at
    cdef u32 type, selector, dpl, ist
    cdef u64 offset
    cdef Segment code
    cdef u64[6] frame
    cdef int n = 5, k, ctx
    cdef bint inner
    if <u32>(16 * vector + 15) > c.idtr.limit:
        return set_fault(c, GP, True, index | ext)
    if read_system(c, c.idtr.base + 16 * vector, 8, &low) or read_system(c, c.idtr.base + 16 * vector + 8, 8, &high):
        return 1
    type = <u32>(low >> 40) & 0x1F
    selector = <u32>(low >> 16) & 0xFFFF
    if type != 14 and type != 15:
        return set_fault(c, GP, True, index | ext)
    if kind == EVENT_SOFTWARE and ((low >> 45) & 3) < c.cpl:
        return set_fault(c, GP, True, index)
    if not (low >> 47) & 1:
        return set_fault(c, NP, True, index | ext)
    offset = (low & 0xFFFF) | ((low >> 32) & <u64>0xFFFF0000) | (high << 32)
    if gate_code(c, selector, ext, &code, &descriptor):
        return 1
    if code.attributes & (A_L | A_B) != A_L:
        return set_fault(c, GP, True, (selector & 0xFFFC) | ext)
    dpl = dpl_of(&code)
    inner = not code.attributes & A_CONFORMING and dpl < c.cpl
    if not inner:
        dpl = c.cpl
    ist = <u32>(low >> 32) & 7
    if inner or ist:
        at = 36 + 8 * (ist - 1) if ist else 4 + 8 * dpl
        if at + 7 > c.seg[TR].limit:
            return set_fault(c, TS, True, (c.seg[TR].selector & 0xFFFC) | ext)
        if read_system(c, c.seg[TR].base + at, 8, &top):
            return 1
    else:
        top = c.regs[RSP]
    if not canonical(top):
        return set_fault(c, SS_FAULT, True, ext)
    if not canonical(offset):
        return set_fault(c, GP, True, ext)
    top &= ~<u64>15
    frame[0] = c.seg[SS].selector
    frame[1] = c.regs[RSP]
    frame[2] = flags
    frame[3] = c.seg[CS].selector
    frame[4] = c.rip
    if has_error:
        frame[5] = error
        n = 6
    ctx = stack_ctx(c, dpl)
    if not canonical(top - 8 * n) or not canonical(top - 1):
        return set_fault(c, SS_FAULT, True, ext)
    if probe_as(c, top - 8, 8, ACCESS_WRITE, ctx) or probe_as(c, top - 8 * n, 8, ACCESS_WRITE, ctx):
        return 1
    for k in range(n):
        if write_as(c, top - 8 * (k + 1), 8, ctx, frame[k]):
            return 1
    if mark_accessed(c, selector, descriptor):
        return 1
    c.regs[RSP] = top - 8 * n
    if inner:
        make_null(&c.seg[SS], dpl)
        c.seg[SS].attributes = <u16>(A_NULL | (dpl << 5))
    c.flags_system &= ~<u64>(F_TF | F_NT | F_RF | F_VM)
    if not type & 1:
        c.flags_system &= ~<u64>F_IF
    c.cpl = dpl
    code.selector = <u16>((selector & 0xFFFC) | dpl)
    code.attributes |= 1
    c.seg[CS] = code
    c.rip = offset
    update_mode(c)
    return 0


cdef int deliver(Cpu* c, int vector, int kind, bint has_error, u32 error, u64 flags) noexcept nogil:
    """0, or 1 with the fault of the delivery itself set and nothing changed, or 2 with a fault of the task switched to."""
    if not c.cr0 & CR0_PE:
        return deliver_real(c, vector)
    if c.efer & EFER_LMA:
        return deliver_long(c, vector, kind, has_error, error, flags)
    return deliver_legacy(c, vector, kind, has_error, error, flags)


cdef inline bint contributory(int vector) noexcept nogil:
    return vector == DE or TS <= vector <= GP


cdef void note_fault(Cpu* c) noexcept nogil:
    """Keeps the chain of faults for the explanation of a triple fault."""
    if c.chain_length < 4:
        c.chain_vector[c.chain_length] = c.fault_vector
        c.chain_has_error[c.chain_length] = c.fault_has_error
        c.chain_error[c.chain_length] = c.fault_error
        c.chain_cr2[c.chain_length] = c.cr2
        c.chain_length += 1


cdef void deliver_fault(Cpu* c) noexcept nogil:
    """Delivers the fault in c.fault_*, and what comes of faults on the way (SDM 3A 6.15, #DF)."""
    cdef int vector = c.fault_vector
    cdef bint has_error = c.fault_has_error
    cdef u32 error = c.fault_error
    cdef u64 flags = all_flags(c)
    cdef int second, result
    c.chain_length = 0
    c.halted = 0
    c.shadow = 0
    note_fault(c)
    # faults (not traps) push RF set, so that an instruction breakpoint is not met twice (SDM 3B 18.3.1.1)
    if vector != DB and vector != BP and vector != OF and vector != NMI:
        flags |= F_RF
    elif vector == DB and c.debug_fault:
        flags |= F_RF
    if vector == DB:
        c.dr[7] &= ~<u64>(1 << 13)
    while True:
        if not c.cr0 & CR0_PE:
            has_error = False
        result = deliver(c, vector, EVENT_FAULT, has_error, error, flags)
        if result == 0:
            return
        if result == 2:
            flags = all_flags(c)
        second = c.fault_vector
        note_fault(c)
        if vector == DF:
            c.shutdown = 1
            return
        if (contributory(vector) and contributory(second)) or (vector == PF and (second == PF or contributory(second))):
            vector = DF
            has_error = True
            error = 0
        else:
            vector = second
            has_error = c.fault_has_error
            error = c.fault_error
        flags |= F_RF


cdef void deliver_interrupt(Cpu* c, int vector) noexcept nogil:
    """An external interrupt or NMI."""
    if vector == NMI:
        c.nmi_blocked = 1
    c.interrupts += 1
    if deliver(c, vector, EVENT_EXTERNAL, False, 0, all_flags(c)):
        deliver_fault(c)


cdef int software_interrupt(Cpu* c, int vector, int kind) noexcept nogil:
    """INT n and its kin: c.rip is the next instruction; 0, or 1 with the fault of the delivery set."""
    cdef int result = deliver(c, vector, kind, False, 0, all_flags(c))
    if result == 2:                                 # the task switch has happened: its fault is not the instruction's
        deliver_fault(c)
        return 0
    if result == 0:
        c.trap_dropped = 1
    return result
