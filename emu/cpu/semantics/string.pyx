# String instructions, one element at a time or in runs within a page; port I/O.
#
# A repeated instruction does at most as many elements as the budget allows, charges each as one instruction, and
# leaves rip at itself where it is not finished. A fault at an element leaves all earlier ones done (SDM 2B REP).
from libc.string cimport memcpy, memset

from emu.base.bits cimport unlikely
from emu.base.types cimport i64, u8, u16, u32, u64
from emu.cpu.access cimport (commit, get, leave, next_insn, put, read_at, reg, rip_after, rip_of, run_alone,
                             set_reg, write_at)
from emu.cpu.flags cimport flag_zf
from emu.cpu.semantics.integer cimport do_cmp
from emu.cpu.state cimport (ES, F_DF, FLAT, I_ASIZE, I_REP, I_REPNE, MODE_FLAT_ES, RC_NEXT, RCX,
                            RDI, RSI, SEG_CHECKED, Cpu, Insn)
from emu.cpu.segment cimport io_allowed
from emu.memory.ports cimport port_read, port_write

ctypedef int (*element_fn)(Cpu* c, Insn* i, int size) noexcept nogil


cdef inline void wait_for_bus(Cpu* c, u32 port) noexcept nogil:
    """An access to a slow bus takes its time; code that polls a device relies on it."""
    if port < c.ports.slow_end:
        c.idle_ns += c.ports.wait_ns


cdef inline int destination_segment(Cpu* c) noexcept nogil:
    """ES, which no prefix overrides."""
    return FLAT if c.mode & MODE_FLAT_ES else ES | SEG_CHECKED


cdef inline void advance(Cpu* c, Insn* i, int slot, i64 bytes) noexcept nogil:
    """Moves RSI or RDI by the direction flag, cut to the address size."""
    cdef u64 mask = c.address_mask[i.flags & I_ASIZE]
    cdef u64 value = c.regs[slot] + <u64>(-bytes if c.flags_system & F_DF else bytes)
    if mask == <u64>0xFFFF:
        (<u16*>&c.regs[slot])[0] = <u16>value
    else:
        c.regs[slot] = value & mask


cdef inline void count_down(Cpu* c, Insn* i, u64 elements) noexcept nogil:
    cdef u64 mask = c.address_mask[i.flags & I_ASIZE]
    if mask == <u64>0xFFFF:
        (<u16*>&c.regs[RCX])[0] = <u16>(c.regs[RCX] - elements)
    else:
        c.regs[RCX] = (c.regs[RCX] - elements) & mask


cdef int move_one(Cpu* c, Insn* i, int size) noexcept nogil:
    cdef u64 mask = c.address_mask[i.flags & I_ASIZE]
    cdef u64 value
    cdef u8* p = read_at(c, i.seg, c.regs[RSI] & mask, size)
    if p == NULL:
        return 1
    value = get(p, size)
    p = write_at(c, destination_segment(c), c.regs[RDI] & mask, size)
    if p == NULL:
        return 1
    put(p, value, size)
    commit(c, p)
    advance(c, i, RSI, size)
    advance(c, i, RDI, size)
    return 0


cdef int store_one(Cpu* c, Insn* i, int size) noexcept nogil:
    cdef u8* p = write_at(c, destination_segment(c), c.regs[RDI] & c.address_mask[i.flags & I_ASIZE], size)
    if p == NULL:
        return 1
    put(p, c.regs[0], size)
    commit(c, p)
    advance(c, i, RDI, size)
    return 0


cdef int load_one(Cpu* c, Insn* i, int size) noexcept nogil:
    cdef u8* p = read_at(c, i.seg, c.regs[RSI] & c.address_mask[i.flags & I_ASIZE], size)
    if p == NULL:
        return 1
    set_reg(c, 0, get(p, size), size)
    advance(c, i, RSI, size)
    return 0


cdef int compare_one(Cpu* c, Insn* i, int size) noexcept nogil:
    cdef u64 mask = c.address_mask[i.flags & I_ASIZE]
    cdef u64 right
    cdef u8* p = read_at(c, destination_segment(c), c.regs[RDI] & mask, size)      # first, as AMD's processors do
    if p == NULL:
        return 1
    right = get(p, size)
    p = read_at(c, i.seg, c.regs[RSI] & mask, size)
    if p == NULL:
        return 1
    do_cmp(c, get(p, size), right, size)
    advance(c, i, RSI, size)
    advance(c, i, RDI, size)
    return 0


cdef int scan_one(Cpu* c, Insn* i, int size) noexcept nogil:
    cdef u8* p = read_at(c, destination_segment(c), c.regs[RDI] & c.address_mask[i.flags & I_ASIZE], size)
    if p == NULL:
        return 1
    do_cmp(c, reg(c, 0, size), get(p, size), size)
    advance(c, i, RDI, size)
    return 0


cdef int input_one(Cpu* c, Insn* i, int size) noexcept nogil:
    """The store is checked before the port is read: a read may have effects."""
    cdef u8* p
    if not c.single:
        return run_alone(c)
    p = write_at(c, destination_segment(c), c.regs[RDI] & c.address_mask[i.flags & I_ASIZE], size)
    if p == NULL:
        return 1
    put(p, port_read(c.ports, <u32>c.regs[2] & 0xFFFF, size), size)
    commit(c, p)
    wait_for_bus(c, <u32>c.regs[2] & 0xFFFF)
    advance(c, i, RDI, size)
    return 0


cdef int output_one(Cpu* c, Insn* i, int size) noexcept nogil:
    cdef u8* p
    if not c.single:
        return run_alone(c)
    p = read_at(c, i.seg, c.regs[RSI] & c.address_mask[i.flags & I_ASIZE], size)
    if p == NULL:
        return 1
    port_write(c.ports, <u32>c.regs[2] & 0xFFFF, size, <u32>get(p, size))
    wait_for_bus(c, <u32>c.regs[2] & 0xFFFF)
    advance(c, i, RSI, size)
    return 0


cdef inline u64 run_length(u64 offset, u64 wanted, int size) noexcept nogil:
    """Whole elements from `offset` to the end of its page, at most `wanted`."""
    cdef u64 fit = (4096 - (offset & 0xFFF)) / size
    return fit if fit < wanted else wanted


cdef u64 fill_run(Cpu* c, Insn* i, int size, u64 wanted) noexcept nogil:
    """REP STOS over one page at once, where that is plain memory; gives the elements done, 0: take the slow way."""
    cdef u64 mask = c.address_mask[i.flags & I_ASIZE]
    cdef u64 offset = c.regs[RDI] & mask
    cdef u64 n, k
    cdef u64 value = c.regs[0]
    cdef u8* p
    if c.flags_system & F_DF or not c.mode & MODE_FLAT_ES or mask == <u64>0xFFFF:
        return 0
    n = run_length(offset, wanted, size)
    if n < 2:
        return 0
    p = write_at(c, FLAT, offset, size)
    if p == NULL or p == c.bounce:
        return 0
    if size == 1:
        memset(p, <u8>value, n)
    elif size == 8:
        for k in range(n):
            (<u64*>p)[k] = value
    elif size == 4:
        for k in range(n):
            (<u32*>p)[k] = <u32>value
    else:
        for k in range(n):
            (<u16*>p)[k] = <u16>value
    advance(c, i, RDI, n * size)
    return n


cdef u64 copy_run(Cpu* c, Insn* i, int size, u64 wanted) noexcept nogil:
    """REP MOVS within one page of each side at once, where both are plain memory and do not overlap."""
    cdef u64 mask = c.address_mask[i.flags & I_ASIZE]
    cdef u64 source = c.regs[RSI] & mask
    cdef u64 target = c.regs[RDI] & mask
    cdef u64 n
    cdef u8* p
    cdef u8* q
    if c.flags_system & F_DF or not c.mode & MODE_FLAT_ES or i.seg & SEG_CHECKED or mask == <u64>0xFFFF:
        return 0
    n = run_length(source + c.segment_base[i.seg], wanted, size)
    n = run_length(target, n, size)
    if n < 2:
        return 0
    p = read_at(c, i.seg, source, size)
    if p == NULL or p == c.bounce:
        return 0
    q = write_at(c, FLAT, target, size)
    if q == NULL or q == c.bounce:
        return 0
    if q < p + n * size and p < q + n * size:
        return 0
    memcpy(q, p, n * size)
    advance(c, i, RSI, n * size)
    advance(c, i, RDI, n * size)
    return n


cdef int repeat(Cpu* c, Insn* i, int size, element_fn one, int kind) noexcept nogil:
    """kind 0: by count alone; 1: CMPS/SCAS, ends by ZF too; 2: STOS; 3: MOVS."""
    cdef u64 left = c.regs[RCX] & c.address_mask[i.flags & I_ASIZE]
    cdef u64 allowed, done, n
    cdef bint finished = left == 0
    allowed = 1 if c.single else <u64>c.budget + 1
    done = 0
    while not finished and done < allowed:
        n = 0
        if kind >= 2 and not c.single:
            n = left if left < allowed - done else allowed - done
            n = fill_run(c, i, size, n) if kind == 2 else copy_run(c, i, size, n)
        if n == 0:
            if one(c, i, size):
                c.budget -= <i64>done           # those that are done have retired; the one that faulted is given back
                return leave(c, i)
            n = 1
        count_down(c, i, n)
        left -= n
        done += n
        finished = left == 0
        if kind == 1 and flag_zf(c) != ((i.flags & I_REP) != 0):
            finished = True
    if done > 1:
        c.budget -= <i64>(done - 1)
    c.rip = (rip_after(c, i) & c.rip_mask) if finished else rip_of(c, i)
    return RC_NEXT


cdef inline int string(Cpu* c, Insn* i, int size, element_fn one, int kind) noexcept nogil:
    if i.flags & (I_REP | I_REPNE):
        return repeat(c, i, size, one, kind)
    if unlikely(one(c, i, size)):
        return leave(c, i)
    return next_insn(c, i)


cdef int movs_any(Cpu* c, Insn* i, int size) noexcept nogil:
    return string(c, i, size, move_one, 3)


cdef int stos_any(Cpu* c, Insn* i, int size) noexcept nogil:
    return string(c, i, size, store_one, 2)


cdef int lods_any(Cpu* c, Insn* i, int size) noexcept nogil:
    return string(c, i, size, load_one, 0)


cdef int cmps_any(Cpu* c, Insn* i, int size) noexcept nogil:
    return string(c, i, size, compare_one, 1)


cdef int scas_any(Cpu* c, Insn* i, int size) noexcept nogil:
    return string(c, i, size, scan_one, 1)


cdef int ins_any(Cpu* c, Insn* i, int size) noexcept nogil:
    if io_allowed(c, <u32>c.regs[2] & 0xFFFF, size):       # also where the count is 0
        return leave(c, i)
    return string(c, i, size, input_one, 0)


cdef int outs_any(Cpu* c, Insn* i, int size) noexcept nogil:
    if io_allowed(c, <u32>c.regs[2] & 0xFFFF, size):
        return leave(c, i)
    return string(c, i, size, output_one, 0)


cdef int port_in(Cpu* c, Insn* i, u32 port, int size) noexcept nogil:
    if io_allowed(c, port, size):
        return 1
    if not c.single:
        return run_alone(c)
    set_reg(c, 0, port_read(c.ports, port, size), size)
    wait_for_bus(c, port)
    return 0


cdef int port_out(Cpu* c, Insn* i, u32 port, int size) noexcept nogil:
    if io_allowed(c, port, size):
        return 1
    if not c.single:
        return run_alone(c)
    port_write(c.ports, port, size, <u32>reg(c, 0, size))
    wait_for_bus(c, port)
    return 0
