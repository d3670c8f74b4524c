# The x87 unit's state (shared with MMX) and its register stack.
from emu.base.types cimport u8, u16, u32, u64
from emu.cpu.softfloat cimport F80

cdef enum:                       # status word (SDM 1 8.1.3); its exception flags are FLOAT_*
    X87_SF = 0x40                # stack fault
    X87_ES = 0x80                # an unmasked exception waits
    X87_C0 = 0x100
    X87_C1 = 0x200
    X87_C2 = 0x400
    X87_TOP = 0x3800
    X87_C3 = 0x4000
    X87_B = 0x8000               # a copy of ES
    X87_CONDITION = 0x4700

cdef struct X87:
    F80 st[8]                    # the physical registers R0..R7; MMi is st[i].significand
    u16 control
    u16 status                   # TOP included
    u16 valid                    # bit n: Rn is not empty (the tag word as FXSAVE stores it)
    u16 fop                      # last instruction: its opcode's 11 bits
    u16 fcs
    u16 fds
    u64 fip
    u64 fdp


cdef inline int stack_top(const X87* x) noexcept nogil:
    return x.status >> 11 & 7


cdef inline F80* stack_register(X87* x, int i) noexcept nogil:
    """ST(i)."""
    return &x.st[(stack_top(x) + i) & 7]


cdef inline bint stack_empty(const X87* x, int i) noexcept nogil:
    return not x.valid >> ((stack_top(x) + i) & 7) & 1


cdef inline void stack_set(X87* x, int i, F80 value) noexcept nogil:
    cdef int place = (stack_top(x) + i) & 7
    x.st[place] = value
    x.valid |= 1 << place


cdef inline void stack_free(X87* x, int i) noexcept nogil:
    x.valid &= ~(1 << ((stack_top(x) + i) & 7))


cdef inline void stack_turn(X87* x, int by) noexcept nogil:
    """TOP += by."""
    x.status = (x.status & ~X87_TOP) | ((stack_top(x) + by) & 7) << 11


cdef inline void stack_pop(X87* x) noexcept nogil:
    stack_free(x, 0)
    stack_turn(x, 1)


cdef inline void stack_push(X87* x, F80 value) noexcept nogil:
    stack_turn(x, -1)
    stack_set(x, 0, value)


cdef inline bint x87_pending(const X87* x) noexcept nogil:
    """Whether a waiting instruction raises #MF now (SDM 1 8.7)."""
    return x.status & X87_ES


cdef inline void x87_renew(X87* x) noexcept nogil:
    """ES and B follow from the flags and masks, whenever one of them was loaded."""
    if x.status & ~x.control & 0x3F:
        x.status |= X87_ES | X87_B
    else:
        x.status &= ~(X87_ES | X87_B)


cdef inline void x87_reset(X87* x) noexcept nogil:
    """FNINIT: the registers' contents stay."""
    x.control = 0x37F
    x.status = 0
    x.valid = 0
    x.fop = 0
    x.fcs = 0
    x.fds = 0
    x.fip = 0
    x.fdp = 0


cdef inline void mmx_enter(X87* x) noexcept nogil:
    """What every MMX instruction but EMMS does to the x87 state (SDM 3A 12.2)."""
    x.status &= ~X87_TOP
    x.valid = 0xFF


cdef inline void mmx_leave(X87* x) noexcept nogil:
    """EMMS: all registers empty, TOP = 0 (SDM 3A table 12-1)."""
    x.status &= ~X87_TOP
    x.valid = 0


cdef inline void mmx_set(X87* x, int i, u64 value) noexcept nogil:
    """MMi = value; its exponent field becomes all ones."""
    x.st[i].significand = value
    x.st[i].sign_exponent = 0xFFFF
