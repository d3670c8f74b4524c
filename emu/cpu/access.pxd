# Memory operands and registers of the running instruction: the inlined fast paths, and the names of the slow ones.
#
# A read gives a host pointer that is good for `size` bytes, or NULL: then Cpu.rc says why and the handler returns
# leave(c, i). The pointer may be Cpu.bounce (page crossing, MMIO). A write or read-modify-write pointer may be too:
# after the bytes are in place the handler calls commit(c, p). All faults come before anything has changed.
from emu.base.bits cimport likely, unlikely
from emu.base.types cimport i64, u8, u16, u32, u64
from emu.cpu.state cimport (FLAT, I_ASIZE, RC_FAULT, RC_SINGLE, RIP_SLOT, RSP, SEG_CHECKED, SS, TLB_ENTRIES, Cpu, Insn,
                            TlbEntry)

# slow paths (access.pyx)
cdef u8* read_slow(Cpu* c, u64 linear, int size) noexcept nogil
cdef u8* write_slow(Cpu* c, u64 linear, int size) noexcept nogil        # translates and checks; may give bounce (not loaded)
cdef u8* modify_slow(Cpu* c, u64 linear, int size) noexcept nogil       # like write_slow, bounce holds the old value
cdef void commit_slow(Cpu* c) noexcept nogil                            # writes bounce back
# segment checks of operands that are not flat: 0, or 1 with the fault set; *linear gets the linear address
# supervisor accesses to descriptor tables and task state, whatever the CPL: 0, or 1 with the fault set
cdef int read_system(Cpu* c, u64 linear, int size, u64* value) noexcept nogil
cdef int write_system(Cpu* c, u64 linear, int size, u64 value) noexcept nogil
# the same under the rules of a context (CTX_*); all bytes are checked before any is touched
cdef int read_as(Cpu* c, u64 linear, int size, int ctx, u64* value) noexcept nogil
cdef int write_as(Cpu* c, u64 linear, int size, int ctx, u64 value) noexcept nogil
cdef int probe_as(Cpu* c, u64 linear, int size, int access, int ctx) noexcept nogil
cdef int stack_ctx(Cpu* c, u32 cpl) noexcept nogil
cdef int fetch_bytes(Cpu* c, u64 linear, u8* data, int length) noexcept nogil    # bytes got before a fault; -1: a fault at byte 0
cdef int fetch_page(Cpu* c, u64 linear, u64* page) noexcept nogil       # instruction TLB: 0, or 1 with the fault set
cdef int translate(Cpu* c, u64 linear, int access, int ctx, u64* physical, int* shift) noexcept nogil
cdef void flush_tlb(Cpu* c, bint global_too) noexcept nogil
cdef void flush_page(Cpu* c, u64 linear) noexcept nogil
cdef void forget_writable(Cpu* c, u8* host_page) noexcept nogil         # no more stores to this page without the slow path
cdef int probe_push(Cpu* c, int size) noexcept nogil            # whether a push would fault: 0, or 1 with the fault set
cdef void stack_fault(Cpu* c) noexcept nogil            # a fault of a push or pop: #SS where others have #GP
cdef int check_segment(Cpu* c, int segment, u64 offset, int size, bint write, u64* linear) noexcept nogil


cdef inline u64 reg(Cpu* c, int slot, int size) noexcept nogil:
    """Register at byte offset `slot` of regs[], zero-extended."""
    cdef u8* p = <u8*>c + slot
    if size == 1:
        return p[0]
    if size == 2:
        return (<u16*>p)[0]
    if size == 4:
        return (<u32*>p)[0]
    return (<u64*>p)[0]


cdef inline void set_reg(Cpu* c, int slot, u64 value, int size) noexcept nogil:
    """Writes a register; a 32-bit write clears the upper half, 8 and 16 bits leave the rest."""
    cdef u8* p = <u8*>c + slot
    if size == 1:
        p[0] = <u8>value
    elif size == 2:
        (<u16*>p)[0] = <u16>value
    elif size == 4:
        (<u64*>p)[0] = <u32>value
    else:
        (<u64*>p)[0] = value


cdef inline u64 get(const u8* p, int size) noexcept nogil:
    if size == 1:
        return p[0]
    if size == 2:
        return (<const u16*>p)[0]
    if size == 4:
        return (<const u32*>p)[0]
    return (<const u64*>p)[0]


cdef inline void put(u8* p, u64 value, int size) noexcept nogil:
    if size == 1:
        p[0] = <u8>value
    elif size == 2:
        (<u16*>p)[0] = <u16>value
    elif size == 4:
        (<u32*>p)[0] = <u32>value
    else:
        (<u64*>p)[0] = value


cdef inline int leave(Cpu* c, Insn* i) noexcept nogil:
    """Ends the run of a block at instruction `i`, which has not happened; Cpu.rc says why."""
    c.at = i
    return c.rc


cdef inline int set_fault(Cpu* c, int vector, bint has_error, u32 error) noexcept nogil:
    """Notes a fault in flight; gives 1, so that `return set_fault(...)` reads well."""
    c.fault_vector = vector
    c.fault_has_error = has_error
    c.fault_error = error
    c.rc = RC_FAULT
    return 1


cdef inline int run_alone(Cpu* c) noexcept nogil:
    """Asks for the instruction to be run again alone, at an exact instruction count."""
    c.rc = RC_SINGLE
    return 1


cdef inline u64 operand_offset(Cpu* c, Insn* i) noexcept nogil:
    """Effective address: offset in the segment."""
    return (((<u64*>(<u8*>c + i.base))[0] + ((<u64*>(<u8*>c + i.index))[0] << i.scale) + <u64><i64>i.disp)
            & c.address_mask[i.flags & I_ASIZE])


cdef inline u8* read_linear(Cpu* c, u64 linear, int size) noexcept nogil:
    cdef TlbEntry* e = &c.tlb_read[(linear >> 12) & (TLB_ENTRIES - 1)]
    cdef u64 d = linear - e.tag
    if likely(d <= <u64>(4096 - size)):
        return e.host + d
    return read_slow(c, linear, size)


cdef inline u8* write_linear(Cpu* c, u64 linear, int size) noexcept nogil:
    cdef TlbEntry* e = &c.tlb_write[(linear >> 12) & (TLB_ENTRIES - 1)]
    cdef u64 d = linear - e.tag
    if likely(d <= <u64>(4096 - size)):
        return e.host + d
    return write_slow(c, linear, size)


cdef inline u8* modify_linear(Cpu* c, u64 linear, int size) noexcept nogil:
    cdef TlbEntry* e = &c.tlb_write[(linear >> 12) & (TLB_ENTRIES - 1)]
    cdef u64 d = linear - e.tag
    if likely(d <= <u64>(4096 - size)):
        return e.host + d
    return modify_slow(c, linear, size)


cdef inline void commit(Cpu* c, u8* p) noexcept nogil:
    """Ends a write through `p`."""
    if unlikely(p == c.bounce):
        commit_slow(c)


cdef inline u8* read_at(Cpu* c, int seg, u64 offset, int size) noexcept nogil:
    """`seg` as in Insn.seg."""
    if unlikely(seg & SEG_CHECKED):
        if check_segment(c, seg & 7, offset, size, False, &c.bounce_linear):
            return NULL
        return read_linear(c, c.bounce_linear, size)
    return read_linear(c, offset + c.segment_base[seg], size)


cdef inline u8* write_at(Cpu* c, int seg, u64 offset, int size) noexcept nogil:
    if unlikely(seg & SEG_CHECKED):
        if check_segment(c, seg & 7, offset, size, True, &c.bounce_linear):
            return NULL
        return write_linear(c, c.bounce_linear, size)
    return write_linear(c, offset + c.segment_base[seg], size)


cdef inline u8* modify_at(Cpu* c, int seg, u64 offset, int size) noexcept nogil:
    if unlikely(seg & SEG_CHECKED):
        if check_segment(c, seg & 7, offset, size, True, &c.bounce_linear):
            return NULL
        return modify_linear(c, c.bounce_linear, size)
    return modify_linear(c, offset + c.segment_base[seg], size)


cdef inline u8* read_operand(Cpu* c, Insn* i, int size) noexcept nogil:
    """The memory operand, to be read."""
    return read_at(c, i.seg, operand_offset(c, i), size)


cdef inline u8* write_operand(Cpu* c, Insn* i, int size) noexcept nogil:
    """The memory operand, to be overwritten; commit(c, p) afterwards."""
    return write_at(c, i.seg, operand_offset(c, i), size)


cdef inline u8* modify_operand(Cpu* c, Insn* i, int size) noexcept nogil:
    """The memory operand, to be read and overwritten; commit(c, p) afterwards."""
    return modify_at(c, i.seg, operand_offset(c, i), size)


# --- stack -------------------------------------------------------------------------------------------------------

cdef inline u64 stack_mask(Cpu* c) noexcept nogil:
    if c.stack_kind == 0:
        return <u64>0xFFFFFFFFFFFFFFFF
    return <u64>0xFFFFFFFF if c.stack_kind == 1 or c.seg[SS].attributes & 0x400 else <u64>0xFFFF


cdef inline void set_stack_pointer(Cpu* c, u64 value) noexcept nogil:
    """RSP, ESP or SP, by the width of the stack."""
    cdef u64 mask = stack_mask(c)
    if mask == <u64>0xFFFF:
        (<u16*>&c.regs[RSP])[0] = <u16>value
    else:
        c.regs[RSP] = value & mask


cdef inline int stack_segment(Cpu* c) noexcept nogil:
    """SS as Insn.seg has it."""
    return FLAT if c.stack_kind != 2 else SS | SEG_CHECKED


cdef inline int push(Cpu* c, u64 value, int size) noexcept nogil:
    """Pushes; 0, or 1 with the fault set and nothing changed."""
    cdef u8* p
    cdef u64 top
    if likely(c.stack_kind == 0):
        top = c.regs[RSP] - size
        p = write_linear(c, top, size)
        if unlikely(p == NULL):
            stack_fault(c)
            return 1
        put(p, value, size)
        commit(c, p)
        c.regs[RSP] = top
        return 0
    top = (c.regs[RSP] - size) & stack_mask(c)
    p = write_at(c, stack_segment(c), top, size)
    if unlikely(p == NULL):
        stack_fault(c)
        return 1
    put(p, value, size)
    commit(c, p)
    set_stack_pointer(c, top)
    return 0


cdef inline u8* stack_top(Cpu* c, int size) noexcept nogil:
    """What POP would read, without moving the stack pointer; NULL with the fault set."""
    cdef u8* p
    if likely(c.stack_kind == 0):
        p = read_linear(c, c.regs[RSP], size)
    else:
        p = read_at(c, stack_segment(c), c.regs[RSP] & stack_mask(c), size)
    if unlikely(p == NULL):
        stack_fault(c)
    return p


cdef inline void drop(Cpu* c, u64 bytes) noexcept nogil:
    """Moves the stack pointer up."""
    if likely(c.stack_kind == 0):
        c.regs[RSP] += bytes
    else:
        set_stack_pointer(c, c.regs[RSP] + bytes)


# --- chaining ----------------------------------------------------------------------------------------------------

cdef inline int next_insn(Cpu* c, Insn* i) noexcept nogil:
    """Goes on with the next instruction of the block (a sibling call)."""
    return (i + 1).fn(c, i + 1)


cdef inline u64 rip_of(Cpu* c, Insn* i) noexcept nogil:
    return c.regs[RIP_SLOT] + i.off


cdef inline u64 rip_after(Cpu* c, Insn* i) noexcept nogil:
    return c.regs[RIP_SLOT] + i.off + i.len


cdef inline u64 retired_before(Cpu* c, Insn* i) noexcept nogil:
    """Instructions retired before `i`, exactly."""
    return c.slice_end - <u64>c.budget - i.left
