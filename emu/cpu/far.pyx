# Far transfers: JMP, CALL, RET through segments and gates; IRET; INT n (SDM 2 CALL, JMP, RET, IRET; SDM 3A 5.8).
#
# Each function finds c.rip at the next instruction, and changes nothing before all checks have passed.
from emu.base.bits cimport mask_of
from emu.base.types cimport u8, u16, u32, u64
from emu.cpu.access cimport (get, operand_offset, probe_as, read_as, read_at, read_system, set_fault, stack_ctx, stack_mask, write_as)
from emu.cpu.event cimport (EVENT_ICEBP, EVENT_SOFTWARE, check_new_stack, deliver_fault, new_stack, push_frame,
                            software_interrupt)
from emu.cpu.flags cimport all_flags, flag_of, load_arithmetic_flags
from emu.cpu.mode cimport canonical, update_mode
from emu.cpu.segment cimport *
from emu.cpu.state cimport *
from emu.cpu.task cimport TASK_CALL, TASK_IRET, TASK_JUMP, task_switch


cdef inline u64 stack_base(Cpu* c) noexcept nogil:
    return 0 if c.mode & MODE_CODE == MODE_64 else c.seg[SS].base


cdef inline bint misaligned(Cpu* c, u64 linear, int size) noexcept nogil:
    """Whether alignment is checked, and violated (SDM 3A 6.15, interrupt 17)."""
    return c.cpl == 3 and c.cr0 & CR0_AM and c.flags_system & F_AC and linear & (size - 1)


cdef int peek(Cpu* c, u64 depth, int size, u64* value) noexcept nogil:
    """Reads the stack `depth` bytes above its top, as the running privilege."""
    cdef u64 offset = (c.regs[RSP] + depth) & stack_mask(c)
    cdef Segment* ss = &c.seg[SS]
    cdef u64 last = offset + size - 1
    if c.mode & MODE_CODE == MODE_64:
        if not canonical(offset) or not canonical(last):
            return set_fault(c, SS_FAULT, True, 0)
        if misaligned(c, offset, size):
            return set_fault(c, AC, True, 0)
        return read_as(c, offset, size, stack_ctx(c, c.cpl), value)
    if not ss.attributes & A_CODE and ss.attributes & A_EXPAND_DOWN:
        if offset <= ss.limit or last > (<u64>0xFFFFFFFF if ss.attributes & A_B else <u64>0xFFFF):
            return set_fault(c, SS_FAULT, True, 0)
    elif last > ss.limit:
        return set_fault(c, SS_FAULT, True, 0)
    if misaligned(c, ss.base + offset, size):
        return set_fault(c, AC, True, 0)
    return read_as(c, (ss.base + offset) & <u64>0xFFFFFFFF, size, stack_ctx(c, c.cpl), value)


cdef inline void set_sp(Cpu* c, u64 value) noexcept nogil:
    """By the stack width in force now."""
    cdef u64 mask = stack_mask(c)
    if mask == <u64>0xFFFF:
        (<u16*>&c.regs[RSP])[0] = <u16>value
    else:
        c.regs[RSP] = value & mask


cdef int push_values(Cpu* c, const u64* values, int count, int size, u64* result) noexcept nogil:
    """Pushes on the present stack; *result is the new stack pointer, set by the caller when all is sure."""
    cdef int k, ctx
    cdef u64 top
    if c.mode & MODE_CODE != MODE_64:
        return push_frame(c, &c.seg[SS], c.regs[RSP], values, count, size, c.cpl, 0, result)
    top = c.regs[RSP] - count * size
    ctx = stack_ctx(c, c.cpl)
    if not canonical(top) or not canonical(c.regs[RSP] - 1):
        return set_fault(c, SS_FAULT, True, 0)
    if probe_as(c, c.regs[RSP] - size, size, ACCESS_WRITE, ctx) or probe_as(c, top, size, ACCESS_WRITE, ctx):
        return 1
    for k in range(count):
        if write_as(c, c.regs[RSP] - (k + 1) * size, size, ctx, values[k]):
            return 1
    result[0] = top
    return 0


cdef int check_code(Cpu* c, u32 selector, Segment* code, u64* descriptor) noexcept nogil:
    """A code segment as the direct target of JMP or CALL: privilege and presence."""
    if code.attributes & (A_S | A_CODE) != A_S | A_CODE:
        return set_fault(c, GP, True, selector & 0xFFFC)
    if c.efer & EFER_LMA and code.attributes & A_L and code.attributes & A_B:
        return set_fault(c, GP, True, selector & 0xFFFC)
    if code.attributes & A_CONFORMING:
        if dpl_of(code) > c.cpl:
            return set_fault(c, GP, True, selector & 0xFFFC)
    elif (selector & 3) > c.cpl or dpl_of(code) != c.cpl:
        return set_fault(c, GP, True, selector & 0xFFFC)
    if not code.attributes & A_P:
        return set_fault(c, NP, True, selector & 0xFFFC)
    return 0


cdef int check_target(Cpu* c, Segment* code, u64 offset) noexcept nogil:
    """The instruction pointer within the new code segment."""
    if c.efer & EFER_LMA and code.attributes & A_L:
        if not canonical(offset):
            return set_fault(c, GP, True, 0)
    elif offset > code.limit:
        return set_fault(c, GP, True, 0)
    return 0


cdef void enter_code(Cpu* c, Segment* code, u32 selector, u32 cpl, u64 offset) noexcept nogil:
    code.selector = <u16>((selector & 0xFFFC) | cpl)
    code.attributes |= 1
    c.seg[CS] = code[0]
    c.cpl = cpl
    c.rip = offset
    update_mode(c)


cdef int gate_target(Cpu* c, u32 gate_selector, u64 low, u32* selector, u64* offset, int* size, u32* count) noexcept nogil:
    """Takes a call gate apart: DPL and presence are checked."""
    cdef u64 high
    cdef u32 type = <u32>(low >> 40) & 0x1F
    cdef u32 dpl = <u32>(low >> 45) & 3
    cdef u64 base
    if dpl < c.cpl or dpl < (gate_selector & 3):
        return set_fault(c, GP, True, gate_selector & 0xFFFC)
    if not (low >> 47) & 1:
        return set_fault(c, NP, True, gate_selector & 0xFFFC)
    selector[0] = <u32>(low >> 16) & 0xFFFF
    offset[0] = (low & 0xFFFF) | ((low >> 32) & <u64>0xFFFF0000)
    count[0] = <u32>(low >> 32) & 31
    size[0] = 2 if type == 4 else 4
    if type == 4:
        offset[0] &= 0xFFFF
    if c.efer & EFER_LMA:
        base = c.seg[LDTR].base if gate_selector & 4 else c.gdtr.base
        if (gate_selector | 7) + 8 > (c.seg[LDTR].limit if gate_selector & 4 else c.gdtr.limit):
            return set_fault(c, GP, True, gate_selector & 0xFFFC)
        if read_system(c, base + (gate_selector & 0xFFF8) + 8, 8, &high):
            return 1
        if (high >> 40) & 0x1F:
            return set_fault(c, GP, True, gate_selector & 0xFFFC)
        offset[0] |= high << 32
        size[0] = 8
        count[0] = 0
    if not selector[0] & 0xFFFC:
        return set_fault(c, GP, True, 0)
    return 0


cdef int call_gate(Cpu* c, u32 gate_selector, u64 low, bint call) noexcept nogil:
    """JMP or CALL through a call gate, with the stack switch to an inner privilege."""
    cdef u32 selector, count, ss_selector, dpl
    cdef u64 offset, descriptor, esp, top, value
    cdef int size, k, ctx
    cdef Segment code, stack
    cdef u64[40] frame
    cdef int n
    if gate_target(c, gate_selector, low, &selector, &offset, &size, &count):
        return 1
    if read_descriptor(c, selector, GP, 0, &descriptor):
        return 1
    unpack(&code, selector, descriptor)
    dpl = dpl_of(&code)
    if code.attributes & (A_S | A_CODE) != A_S | A_CODE or dpl > c.cpl:
        return set_fault(c, GP, True, selector & 0xFFFC)
    if c.efer & EFER_LMA and code.attributes & (A_L | A_B) != A_L:
        return set_fault(c, GP, True, selector & 0xFFFC)
    if not call and not code.attributes & A_CONFORMING and dpl != c.cpl:
        return set_fault(c, GP, True, selector & 0xFFFC)
    if not code.attributes & A_P:
        return set_fault(c, NP, True, selector & 0xFFFC)
    if check_target(c, &code, offset):
        return 1
    if not call:
        if mark_accessed(c, selector, descriptor):
            return 1
        enter_code(c, &code, selector, c.cpl, offset)
        return 0
    if code.attributes & A_CONFORMING or dpl == c.cpl:
        frame[0] = c.seg[CS].selector
        frame[1] = c.rip
        if size == 8:
            top = c.regs[RSP] - 16
            ctx = stack_ctx(c, c.cpl)
            if probe_as(c, top, 8, ACCESS_WRITE, ctx) or probe_as(c, top + 8, 8, ACCESS_WRITE, ctx):
                return 1
            if mark_accessed(c, selector, descriptor):
                return 1
            write_as(c, top + 8, 8, ctx, frame[0])
            write_as(c, top, 8, ctx, frame[1])
            c.regs[RSP] = top
        else:
            if push_frame(c, &c.seg[SS], c.regs[RSP], frame, 2, size, c.cpl, 0, &top):
                return 1
            if mark_accessed(c, selector, descriptor):
                return 1
            set_sp(c, top)
        enter_code(c, &code, selector, c.cpl, offset)
        return 0
    # --- to an inner privilege
    if size == 8:
        if 4 + 8 * dpl + 7 > c.seg[TR].limit:
            return set_fault(c, TS, True, c.seg[TR].selector & 0xFFFC)
        if read_system(c, c.seg[TR].base + 4 + 8 * dpl, 8, &top):
            return 1
        if not canonical(top):
            return set_fault(c, SS_FAULT, True, 0)
        frame[0] = c.seg[SS].selector
        frame[1] = c.regs[RSP]
        frame[2] = c.seg[CS].selector
        frame[3] = c.rip
        ctx = stack_ctx(c, dpl)
        if probe_as(c, top - 8, 8, ACCESS_WRITE, ctx) or probe_as(c, top - 32, 8, ACCESS_WRITE, ctx):
            return 1
        if mark_accessed(c, selector, descriptor):
            return 1
        for k in range(4):
            if write_as(c, top - 8 * (k + 1), 8, ctx, frame[k]):
                return 1
        make_null(&c.seg[SS], dpl)
        c.seg[SS].attributes = <u16>(A_NULL | (dpl << 5))
        c.regs[RSP] = top - 32
        enter_code(c, &code, selector, dpl, offset)
        return 0
    if new_stack(c, dpl, 0, &ss_selector, &esp) or check_new_stack(c, ss_selector, dpl, 0, &stack):
        return 1
    frame[0] = c.seg[SS].selector
    frame[1] = c.regs[RSP]
    n = 2
    for k in range(<int>count):
        if peek(c, <u64>((<int>count - 1 - k) * size), size, &value):
            return 1
        frame[n] = value
        n += 1
    frame[n] = c.seg[CS].selector
    frame[n + 1] = c.rip
    n += 2
    if push_frame(c, &stack, esp, frame, n, size, dpl, ss_selector & 0xFFFC, &top):
        return 1
    if mark_accessed(c, selector, descriptor):
        return 1
    c.seg[SS] = stack
    if stack.attributes & A_B:
        c.regs[RSP] = top & <u64>0xFFFFFFFF
    else:
        (<u16*>&c.regs[RSP])[0] = <u16>top
    enter_code(c, &code, selector, dpl, offset)
    return 0


cdef int switch_task(Cpu* c, u32 selector, int how) noexcept nogil:
    """A task switch by an instruction; a fault of the new task is delivered here, since the instruction has happened."""
    cdef int result = task_switch(c, selector, how, False, 0, 0)
    if result == 2:
        deliver_fault(c)
        return 0
    return result


cdef int transfer(Cpu* c, u32 selector, u64 offset, int size, bint call) noexcept nogil:
    """JMP or CALL to selector:offset."""
    cdef u64 descriptor, top
    cdef u64[2] frame
    cdef Segment code
    cdef u32 type
    if not c.mode & MODE_PROTECTED:
        if offset > c.seg[CS].limit and not (offset <= 0xFFFF):
            return set_fault(c, GP, True, 0)
        if call:
            frame[0] = c.seg[CS].selector
            frame[1] = c.rip
            if push_values(c, frame, 2, size, &top):
                return 1
            set_sp(c, top)
        load_real(c, CS, selector)
        c.rip = offset
        update_mode(c)
        return 0
    if not selector & 0xFFFC:
        return set_fault(c, GP, True, 0)
    if read_descriptor(c, selector, GP, 0, &descriptor):
        return 1
    unpack(&code, selector, descriptor)
    if code.attributes & A_S:
        if check_code(c, selector, &code, &descriptor) or check_target(c, &code, offset):
            return 1
        if call:
            frame[0] = c.seg[CS].selector
            frame[1] = c.rip
            if push_values(c, frame, 2, size, &top):
                return 1
        if mark_accessed(c, selector, descriptor):
            return 1
        if call:
            set_sp(c, top)
        enter_code(c, &code, selector, c.cpl, offset)
        return 0
    type = code.attributes & 15
    if type == 12 or (type == 4 and not c.efer & EFER_LMA):
        return call_gate(c, selector, descriptor, call)
    if not c.efer & EFER_LMA and (type == 5 or type == 1 or type == 9):
        if dpl_of(&code) < c.cpl or dpl_of(&code) < (selector & 3):
            return set_fault(c, GP, True, selector & 0xFFFC)
        if not code.attributes & A_P:
            return set_fault(c, NP, True, selector & 0xFFFC)
        if type == 5:
            selector = <u32>(descriptor >> 16) & 0xFFFF
        return switch_task(c, selector, TASK_CALL if call else TASK_JUMP)
    return set_fault(c, GP, True, selector & 0xFFFC)


cdef int jmp_far(Cpu* c, Insn* i) noexcept nogil:
    return transfer(c, <u32>(i.imm >> 32) & 0xFFFF, <u64>i.imm & mask_of(i.opsize), i.opsize, False)


cdef int call_far(Cpu* c, Insn* i) noexcept nogil:
    return transfer(c, <u32>(i.imm >> 32) & 0xFFFF, <u64>i.imm & mask_of(i.opsize), i.opsize, True)


cdef int far_operand(Cpu* c, Insn* i, int size, u32* selector, u64* offset) noexcept nogil:
    """Two reads, each with its own checks: the offset, then the selector. AMD's processors know no 64-bit offsets here (APM 3)."""
    cdef u64 at = operand_offset(c, i)
    cdef u8* p = read_at(c, i.seg, at, size)
    if p == NULL:
        return 1
    offset[0] = get(p, size)
    p = read_at(c, i.seg, (at + <u64>size) & c.address_mask[i.flags & I_ASIZE], 2)
    if p == NULL:
        return 1
    selector[0] = <u32>get(p, 2)
    return 0


cdef int jmp_far_memory(Cpu* c, Insn* i) noexcept nogil:
    cdef u32 selector
    cdef u64 offset
    if far_operand(c, i, 4 if i.opsize == 8 else i.opsize, &selector, &offset):
        return 1
    return transfer(c, selector, offset, i.opsize, False)


cdef int call_far_memory(Cpu* c, Insn* i) noexcept nogil:
    cdef u32 selector
    cdef u64 offset
    if far_operand(c, i, 4 if i.opsize == 8 else i.opsize, &selector, &offset):
        return 1
    return transfer(c, selector, offset, i.opsize, True)


# --- returns -----------------------------------------------------------------------------------------------------

cdef int return_code(Cpu* c, u32 selector, Segment* code, u64* descriptor) noexcept nogil:
    """CS popped by RET or IRET."""
    cdef u32 rpl = selector & 3
    if not selector & 0xFFFC:
        return set_fault(c, GP, True, 0)
    if read_descriptor(c, selector, GP, 0, descriptor):
        return 1
    unpack(code, selector, descriptor[0])
    if code.attributes & (A_S | A_CODE) != A_S | A_CODE or rpl < c.cpl:
        return set_fault(c, GP, True, selector & 0xFFFC)
    if c.efer & EFER_LMA and code.attributes & A_L and code.attributes & A_B:
        return set_fault(c, GP, True, selector & 0xFFFC)
    if code.attributes & A_CONFORMING:
        if dpl_of(code) > rpl:
            return set_fault(c, GP, True, selector & 0xFFFC)
    elif dpl_of(code) != rpl:
        return set_fault(c, GP, True, selector & 0xFFFC)
    if not code.attributes & A_P:
        return set_fault(c, NP, True, selector & 0xFFFC)
    return 0


cdef int return_stack(Cpu* c, u32 selector, u32 rpl, Segment* code, Segment* out) noexcept nogil:
    """SS popped by a return to privilege `rpl`."""
    cdef u64 descriptor
    if not selector & 0xFFFC:
        if c.efer & EFER_LMA and code.attributes & A_L and rpl != 3 and (selector & 3) == rpl:
            make_null(out, selector)
            out.attributes = <u16>(A_NULL | (rpl << 5))
            return 0
        return set_fault(c, GP, True, 0)
    if read_descriptor(c, selector, GP, 0, &descriptor):
        return 1
    unpack(out, selector, descriptor)
    if (selector & 3) != rpl or dpl_of(out) != rpl or out.attributes & (A_S | A_CODE | A_RW) != A_S | A_RW:
        return set_fault(c, GP, True, selector & 0xFFFC)
    if not out.attributes & A_P:
        return set_fault(c, SS_FAULT, True, selector & 0xFFFC)
    if mark_accessed(c, selector, descriptor):
        return 1
    out.attributes |= 1
    return 0


cdef int ret_far(Cpu* c, Insn* i) noexcept nogil:
    cdef int size = i.opsize
    cdef u64 offset, value, esp, descriptor
    cdef u64 extra = <u64>i.imm & 0xFFFF
    cdef u32 selector, ss_selector, rpl
    cdef Segment code, stack
    if peek(c, size, size, &value) or peek(c, 0, size, &offset):
        return 1
    selector = <u32>value & 0xFFFF
    if not c.mode & MODE_PROTECTED:
        if offset > c.seg[CS].limit:
            return set_fault(c, GP, True, 0)
        set_sp(c, c.regs[RSP] + 2 * size + extra)
        load_real(c, CS, selector)
        c.rip = offset
        update_mode(c)
        return 0
    rpl = selector & 3
    if rpl != c.cpl and (peek(c, 3 * size + extra, size, &value) or peek(c, 2 * size + extra, size, &esp)):
        return 1
    if return_code(c, selector, &code, &descriptor) or check_target(c, &code, offset):
        return 1
    if rpl == c.cpl:
        if mark_accessed(c, selector, descriptor):
            return 1
        enter_code(c, &code, selector, rpl, offset)
        set_sp(c, c.regs[RSP] + 2 * size + extra)       # by the width of the stack where it returns to
        return 0
    ss_selector = <u32>value & 0xFFFF
    if return_stack(c, ss_selector, rpl, &code, &stack):
        return 1
    if mark_accessed(c, selector, descriptor):
        return 1
    c.seg[SS] = stack
    enter_code(c, &code, selector, rpl, offset)
    set_sp(c, esp + extra)
    drop_outer_segments(c)
    update_mode(c)
    return 0


cdef void load_flags(Cpu* c, u64 value, u64 changeable) noexcept nogil:
    """RFLAGS: the bits in `changeable` from `value`, the others stay."""
    cdef u64 flags = (all_flags(c) & ~changeable) | (value & changeable)
    load_arithmetic_flags(c, flags)
    c.flags_system = (flags & ~<u64>F_ARITH) | F_ONE


cdef u64 return_flags(Cpu* c, int size) noexcept nogil:
    """The flags that IRET may change at the present privilege (SDM 2 IRET)."""
    cdef u64 bits = F_ARITH | F_TF | F_DF | F_NT
    if size > 2:
        bits |= F_RF | F_AC | F_ID
    if c.cpl <= (c.flags_system >> 12) & 3:
        bits |= F_IF
    if c.cpl == 0:
        bits |= F_IOPL
        if size > 2:
            bits |= F_VIF | F_VIP
    return bits


cdef int iret_v86(Cpu* c, u64 offset, u32 selector, u64 flags) noexcept nogil:
    """From CPL 0 to virtual-8086 mode: nine dwords."""
    cdef u64[6] values
    cdef int k
    if offset > 0xFFFF:
        return set_fault(c, GP, True, 0)
    for k in range(6):                              # ESP SS ES DS FS GS
        if peek(c, 12 + 4 * k, 4, &values[k]):
            return 1
    load_flags(c, flags, F_ARITH | F_TF | F_DF | F_NT | F_RF | F_AC | F_ID | F_IF | F_IOPL | F_VIF | F_VIP | F_VM)
    c.cpl = 3
    load_real(c, CS, selector)
    load_real(c, SS, <u32>values[1] & 0xFFFF)
    load_real(c, ES, <u32>values[2] & 0xFFFF)
    load_real(c, DS, <u32>values[3] & 0xFFFF)
    load_real(c, FS, <u32>values[4] & 0xFFFF)
    load_real(c, GS, <u32>values[5] & 0xFFFF)
    c.rip = offset
    c.regs[RSP] = values[0]
    update_mode(c)
    return 0


cdef int iret(Cpu* c, Insn* i) noexcept nogil:
    cdef int size = i.opsize
    cdef u64 offset, value, flags, esp = 0, descriptor, link
    cdef u32 selector, ss_selector = 0, rpl, old_cpl = c.cpl
    cdef Segment code, stack
    cdef bint is_long = c.mode & MODE_CODE == MODE_64
    cdef bint outer
    cdef u64 changeable
    cdef bint virtual_if = False
    if c.mode & MODE_V86 and (c.flags_system & F_IOPL) != F_IOPL:
        if not c.cr4 & CR4_VME or size != 2:
            return set_fault(c, GP, True, 0)
        virtual_if = True
    if c.mode & MODE_PROTECTED and c.flags_system & F_NT:
        if c.efer & EFER_LMA:
            return set_fault(c, GP, True, 0)
        if read_system(c, c.seg[TR].base, 2, &link):
            return 1
        if switch_task(c, <u32>link, TASK_IRET):
            return 1
        c.nmi_blocked = 0
        return 0
    if peek(c, 2 * size, size, &flags) or peek(c, size, size, &value) or peek(c, 0, size, &offset):
        return 1
    selector = <u32>value & 0xFFFF
    if not c.mode & MODE_PROTECTED:
        if offset > c.seg[CS].limit:
            return set_fault(c, GP, True, 0)
        changeable = F_ARITH | F_TF | F_IF | F_DF | F_NT
        if virtual_if:                              # VME: IF of the image goes to VIF (SDM 3B 20.3.1)
            if flags & F_TF or (flags & F_IF and c.flags_system & F_VIP):
                return set_fault(c, GP, True, 0)
            changeable ^= F_IF | F_VIF
            flags = (flags & 0xFFFF) | (F_VIF if flags & F_IF else 0)
        if not c.mode & MODE_V86:
            changeable |= F_IOPL
        if size == 4:
            changeable |= F_RF | F_AC | F_ID
        set_sp(c, c.regs[RSP] + 3 * size)
        load_real(c, CS, selector)
        load_flags(c, flags, changeable)
        c.rip = offset
        c.nmi_blocked = 0
        update_mode(c)
        return 0
    if not is_long and size == 4 and flags & F_VM and c.cpl == 0 and not c.efer & EFER_LMA:
        if iret_v86(c, offset, selector, flags):
            return 1
        c.nmi_blocked = 0
        return 0
    if return_code(c, selector, &code, &descriptor):
        return 1
    rpl = selector & 3
    outer = rpl != c.cpl or is_long
    if check_target(c, &code, offset):
        return 1
    if outer:
        if peek(c, 3 * size, size, &esp) or peek(c, 4 * size, size, &value):
            return 1
        ss_selector = <u32>value & 0xFFFF
        if return_stack(c, ss_selector, rpl, &code, &stack):
            return 1
    if mark_accessed(c, selector, descriptor):
        return 1
    changeable = return_flags(c, size)
    if outer:
        c.seg[SS] = stack
    else:
        set_sp(c, c.regs[RSP] + 3 * size)
    load_flags(c, flags, changeable)
    enter_code(c, &code, selector, rpl, offset)
    if outer:
        set_sp(c, esp)
        if c.cpl != old_cpl:
            drop_outer_segments(c)
    c.nmi_blocked = 0
    update_mode(c)
    return 0


# --- software interrupts -----------------------------------------------------------------------------------------

cdef int redirect(Cpu* c, u32 vector) noexcept nogil:
    """VME: INT n of a virtual-8086 task through its own interrupt vector table (SDM 3B 20.3.3.4, methods 5 and 6)."""
    cdef u64 entry, top
    cdef u64[3] frame
    cdef bint direct = (c.flags_system & F_IOPL) == F_IOPL
    if read_system(c, 4 * vector, 4, &entry):
        return 1
    frame[0] = all_flags(c)
    frame[1] = c.seg[CS].selector
    frame[2] = c.rip
    if not direct:                                  # the task's IF is VIF, and it believes in IOPL 3
        frame[0] = (frame[0] & ~<u64>F_IF) | F_IOPL | (F_IF if frame[0] & F_VIF else 0)
    if push_values(c, frame, 3, 2, &top):
        return 1
    set_sp(c, top)
    c.flags_system &= ~<u64>((F_TF | F_RF | F_IF) if direct else (F_TF | F_RF | F_VIF))
    load_real(c, CS, <u32>(entry >> 16) & 0xFFFF)
    c.rip = entry & 0xFFFF
    update_mode(c)
    return 0


cdef int int_n(Cpu* c, Insn* i) noexcept nogil:
    cdef u32 vector = <u32>i.imm & 0xFF
    cdef u64 map_base, bits
    if c.mode & MODE_V86:
        if c.cr4 & CR4_VME:                         # the redirection bitmap: 32 bytes below the I/O permission map
            if c.seg[TR].limit < 103:
                return set_fault(c, GP, True, 0)
            if read_system(c, c.seg[TR].base + 102, 2, &map_base):
                return 1
            map_base = map_base + (vector >> 3) - 32
            if map_base > c.seg[TR].limit:
                return set_fault(c, GP, True, 0)
            if read_system(c, c.seg[TR].base + map_base, 1, &bits):
                return 1
            if not (bits >> (vector & 7)) & 1:
                return redirect(c, vector)
        if (c.flags_system & F_IOPL) != F_IOPL:
            return set_fault(c, GP, True, 0)
    return software_interrupt(c, <int>(i.imm & 0xFF), EVENT_SOFTWARE)


cdef int int_3(Cpu* c, Insn* i) noexcept nogil:
    return software_interrupt(c, BP, EVENT_SOFTWARE)


cdef int int_1(Cpu* c, Insn* i) noexcept nogil:
    c.dr[7] &= ~<u64>(1 << 13)
    return software_interrupt(c, DB, EVENT_ICEBP)


cdef int into(Cpu* c, Insn* i) noexcept nogil:
    if flag_of(c):
        return software_interrupt(c, OF, EVENT_SOFTWARE)
    return 0
