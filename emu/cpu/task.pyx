# Hardware task switch (SDM 3A chapter 7): state saved in the old TSS, loaded from the new one, all checks.
#
# Up to the point where the old task is left every fault belongs to it and nothing has changed (1 is returned); the checks
# of the new task's segments come afterwards and their faults are the new task's (2 is returned: c.rip is its, too).
from emu.base.types cimport u32, u64
from emu.cpu.access cimport flush_tlb, probe_as, push, read_as, set_fault, write_as
from emu.cpu.flags cimport all_flags, load_arithmetic_flags
from emu.cpu.mode cimport update_mode
from emu.cpu.segment cimport *
from emu.cpu.state cimport *
from emu.memory.space cimport space_read

cdef enum:
    BUSY = 2                     # bit of the type of a TSS descriptor
    WIDE = 8                     # 32-bit TSS
    OLD_TASK = 1                 # what task_switch returns
    NEW_TASK = 2
    DR6_BT = 1 << 15
    DR7_LOCAL = 0x155            # L0..L3, LE

# the fields of a TSS in the order they are kept here (SDM 3A figures 7-2 and 7-10)
cdef enum:
    T_CR3 = 0
    T_IP = 1
    T_FLAGS = 2
    T_REGISTERS = 3              # eight
    T_SEGMENTS = 11              # ES CS SS DS FS GS
    T_LDT = 17
    T_TRAP = 18
    T_FIELDS = 19

cdef u64 FLAGS_WRITABLE = (F_ARITH | F_TF | F_IF | F_DF | F_IOPL | F_NT | F_RF | F_VM | F_AC | F_VIF | F_VIP | F_ID)


cdef inline int write_field(Cpu* c, u64 base, u32 offset, int size, u64 value) noexcept nogil:
    return write_as(c, base + offset, size, CTX_KERNEL, value)


cdef inline int probe_range(Cpu* c, u64 base, u32 first, u32 last, int access) noexcept nogil:
    """Both ends of a range shorter than a page."""
    return probe_as(c, base + first, 1, access, CTX_KERNEL) or probe_as(c, base + last, 1, access, CTX_KERNEL)


cdef int read_state(Cpu* c, u64 base, bint wide, u64* state) noexcept nogil:
    """The dynamic fields of a TSS."""
    cdef int k
    for k in range(T_FIELDS):
        state[k] = 0
    if wide:
        for k in range(T_FIELDS):
            if read_as(c, base + 0x1C + 4 * k, 4, CTX_KERNEL, &state[k]):
                return 1
        for k in range(T_SEGMENTS, T_TRAP):
            state[k] &= 0xFFFF
        return 0
    for k in range(10):                              # IP, FLAGS, eight registers
        if read_as(c, base + 0x0E + 2 * k, 2, CTX_KERNEL, &state[T_IP + k]):
            return 1
    for k in range(8):                               # as the 80386 has it; test386 and Bochs say the same
        state[T_REGISTERS + k] |= <u64>0xFFFF0000
    for k in range(4):                               # ES CS SS DS
        if read_as(c, base + 0x22 + 2 * k, 2, CTX_KERNEL, &state[T_SEGMENTS + k]):
            return 1
    return read_as(c, base + 0x2A, 2, CTX_KERNEL, &state[T_LDT])


cdef int save_state(Cpu* c, u64 base, bint wide, u64 flags) noexcept nogil:
    """The running task into its TSS: what software reads back there, and nothing else."""
    cdef int k
    if wide:
        if write_field(c, base, 0x20, 4, c.rip) or write_field(c, base, 0x24, 4, flags):
            return 1
        for k in range(8):
            if write_field(c, base, 0x28 + 4 * k, 4, c.regs[k]):
                return 1
        for k in range(6):
            if write_field(c, base, 0x48 + 4 * k, 2, c.seg[k].selector):
                return 1
        return 0
    if write_field(c, base, 0x0E, 2, c.rip) or write_field(c, base, 0x10, 2, flags):
        return 1
    for k in range(8):
        if write_field(c, base, 0x12 + 2 * k, 2, c.regs[k]):
            return 1
    for k in range(4):
        if write_field(c, base, 0x22 + 2 * k, 2, c.seg[k].selector):
            return 1
    return 0


cdef int change_busy(Cpu* c, u32 selector, bint busy) noexcept nogil:
    """The busy bit of a TSS descriptor in the GDT."""
    cdef u64 address = c.gdtr.base + (selector & 0xFFF8) + 5
    cdef u64 value
    if read_as(c, address, 1, CTX_KERNEL, &value):
        return 1
    return write_as(c, address, 1, CTX_KERNEL, value | BUSY if busy else value & ~<u64>BUSY)


cdef inline int invalid_task(Cpu* c, int vector, u32 selector, u32 ext) noexcept nogil:
    return set_fault(c, vector, True, (selector & 0xFFFC) | ext)


cdef int load_ldt(Cpu* c, u32 selector, u32 ext) noexcept nogil:
    cdef u64 descriptor
    cdef Segment loaded
    if not selector & 0xFFFC:
        return 0
    if selector & 4:
        return invalid_task(c, TS, selector, ext)
    if read_descriptor(c, selector, TS, ext, &descriptor):
        return 1
    unpack(&loaded, selector, descriptor)
    if loaded.attributes & (A_S | A_TYPE | A_P) != 2 | A_P:
        return invalid_task(c, TS, selector, ext)
    c.seg[LDTR] = loaded
    return 0


cdef int load_task_segment(Cpu* c, int number, u32 selector, u32 ext) noexcept nogil:
    """One segment register of the new task; the privilege is that of its CS (SDM 3A table 7-1)."""
    cdef u64 descriptor
    cdef Segment loaded
    cdef u32 rpl = selector & 3
    cdef u32 dpl
    cdef int absent = NP
    cdef bint code, conforming, wrong
    if not selector & 0xFFFC:
        if number == CS or number == SS:
            return invalid_task(c, TS, selector, ext)
        return 0                                     # null already
    if read_descriptor(c, selector, TS, ext, &descriptor):
        return 1
    unpack(&loaded, selector, descriptor)
    dpl = dpl_of(&loaded)
    code = loaded.attributes & A_CODE != 0
    conforming = code and loaded.attributes & A_CONFORMING != 0
    wrong = not loaded.attributes & A_S
    if number == CS:
        wrong = wrong or not code or (dpl > rpl if conforming else dpl != rpl)
    elif number == SS:
        wrong = wrong or code or not loaded.attributes & A_RW or rpl != c.cpl or dpl != c.cpl
        absent = SS_FAULT
    else:
        wrong = wrong or (code and not loaded.attributes & A_RW) or (not conforming and (rpl > dpl or c.cpl > dpl))
    if wrong:
        return invalid_task(c, TS, selector, ext)
    if not loaded.attributes & A_P:
        return invalid_task(c, absent, selector, ext)
    if mark_accessed(c, selector, descriptor):
        return 1
    loaded.attributes |= 1
    c.seg[number] = loaded
    return 0


cdef int load_segments(Cpu* c, const u64* state, u32 ext) noexcept nogil:
    """LDTR and the segment registers; each is null, with its selector visible, until it has passed its checks."""
    cdef int k
    if load_ldt(c, <u32>state[T_LDT], ext):
        return 1
    if c.flags_system & F_VM:
        for k in range(6):
            load_real(c, k, <u32>state[T_SEGMENTS + k])
        return 0
    if load_task_segment(c, CS, <u32>state[T_SEGMENTS + CS], ext):
        return 1
    if load_task_segment(c, SS, <u32>state[T_SEGMENTS + SS], ext):
        return 1
    for k in range(6):
        if k != CS and k != SS and load_task_segment(c, k, <u32>state[T_SEGMENTS + k], ext):
            return 1
    return 0


cdef int push_error(Cpu* c, u32 error, int size, u32 ext) noexcept nogil:
    """The error code of an exception that came through a task gate, on the new task's stack."""
    cdef int single = c.single
    cdef int failed
    c.single = 1                                     # between two instructions: nothing is to be run again
    failed = push(c, error, size)
    c.single = single
    if failed and c.fault_vector == SS_FAULT:
        c.fault_error |= ext
    return failed


cdef int enter_task(Cpu* c, const u64* state, bint wide, bint nested, bint has_error, u32 error, u32 ext) noexcept nogil:
    """Loads the new task: from here on it is the one that faults."""
    cdef u64 flags = (state[T_FLAGS] & FLAGS_WRITABLE) | F_ONE
    cdef int k
    if nested:
        flags |= F_NT
    if wide and c.cr0 & CR0_PG and state[T_CR3] != c.cr3:
        c.cr3 = state[T_CR3]
        if c.cr4 & CR4_PAE:
            for k in range(4):
                c.pdpte[k] = space_read(c.space, ((c.cr3 & <u64>0xFFFFFFE0) + 8 * k) & c.space.a20_mask, 8)
        flush_tlb(c, False)
    load_arithmetic_flags(c, flags)
    c.flags_system = flags & ~<u64>F_ARITH
    for k in range(8):
        c.regs[k] = state[T_REGISTERS + k]
    make_null(&c.seg[LDTR], <u32>state[T_LDT])
    for k in range(6):
        make_null(&c.seg[k], <u32>state[T_SEGMENTS + k])
    c.rip = state[T_IP]
    c.cpl = 3 if flags & F_VM else <u32>state[T_SEGMENTS + CS] & 3
    c.dr[7] &= ~<u64>DR7_LOCAL
    update_mode(c)
    if load_segments(c, state, ext):
        update_mode(c)
        return NEW_TASK
    update_mode(c)
    if has_error and push_error(c, error, 4 if wide else 2, ext):
        return NEW_TASK
    if c.rip > c.seg[CS].limit:
        set_fault(c, GP, True, ext)
        return NEW_TASK
    if state[T_TRAP] & 1:                            # T: a debug trap before the first instruction
        c.dr[6] = (c.dr[6] & ~<u64>15) | DR6_BT
        c.debug_fault = 0
        set_fault(c, DB, False, 0)
        return NEW_TASK
    return 0


cdef int task_switch(Cpu* c, u32 selector, int how, bint has_error, u32 error, u32 ext) noexcept nogil:
    cdef int bad = TS if how == TASK_IRET else GP
    cdef u64[T_FIELDS] state
    cdef u64 descriptor, flags
    cdef Segment tss
    cdef Segment* old = &c.seg[TR]
    cdef bint wide, old_wide = old.attributes & WIDE != 0
    cdef bint nested = how == TASK_CALL or how == TASK_INTERRUPT
    cdef u32 wanted
    selector &= 0xFFFF
    if selector & 4 or not selector & 0xFFFC:
        return invalid_task(c, bad, selector, ext)
    if read_descriptor(c, selector, bad, ext, &descriptor):
        return OLD_TASK
    unpack(&tss, selector, descriptor)
    wanted = 1 | BUSY if how == TASK_IRET else 1
    if tss.attributes & (A_S | A_TYPE) & ~<u32>WIDE != wanted:
        return invalid_task(c, bad, selector, ext)
    if not tss.attributes & A_P:
        return invalid_task(c, NP, selector, ext)
    wide = tss.attributes & WIDE != 0
    if tss.limit < <u32>(0x67 if wide else 0x2B):
        return invalid_task(c, TS, selector, ext)
    if old.limit < <u32>(0x5F if old_wide else 0x29):
        return invalid_task(c, TS, old.selector, ext)
    # --- whatever can fault in the old task, before anything has changed
    if probe_range(c, old.base, 0x20 if old_wide else 0x0E, 0x5F if old_wide else 0x29, ACCESS_WRITE):
        return OLD_TASK
    if probe_range(c, tss.base, 0, 0x67 if wide else 0x2B, ACCESS_READ):
        return OLD_TASK
    if nested and probe_range(c, tss.base, 0, 1, ACCESS_WRITE):
        return OLD_TASK
    if not nested and probe_as(c, c.gdtr.base + (old.selector & 0xFFF8) + 5, 1, ACCESS_WRITE, CTX_KERNEL):
        return OLD_TASK
    if how != TASK_IRET and probe_as(c, c.gdtr.base + (selector & 0xFFF8) + 5, 1, ACCESS_WRITE, CTX_KERNEL):
        return OLD_TASK
    # --- leave the old task
    flags = all_flags(c)
    if how == TASK_IRET:
        flags &= ~<u64>F_NT
    if save_state(c, old.base, old_wide, flags):
        return OLD_TASK
    if not nested and change_busy(c, old.selector, False):
        return OLD_TASK
    if nested and write_field(c, tss.base, 0, 2, old.selector):
        return OLD_TASK
    if how != TASK_IRET and change_busy(c, selector, True):
        return OLD_TASK
    if read_state(c, tss.base, wide, state):
        return OLD_TASK
    tss.attributes |= BUSY
    c.seg[TR] = tss
    c.cr0 |= CR0_TS
    return enter_task(c, state, wide, nested, has_error, error, ext)
