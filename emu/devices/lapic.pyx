# The local APIC of one CPU: xAPIC and x2APIC.
# Source: Intel SDM volume 3A, chapter 11 "Advanced Programmable Interrupt Controller (APIC)".
import cython

from emu.base.bits cimport clz64, mask_of
from emu.base.clock cimport NEVER, Clock, timer_arm
from emu.base.errors import SnapshotError
from emu.base.line cimport drive, line_input, line_output, pulse
from emu.base.port cimport Port
from emu.base.state cimport declare_state
from emu.base.types cimport u32, u64
from emu.devices.apic_bus cimport (APIC_ALL, DELIVER_EXTINT, DELIVER_FIXED, DELIVER_INIT, DELIVER_LOWEST, DELIVER_NMI,
                                   DELIVER_STARTUP, ApicAgent, ApicBus, ApicBusState, apic_broadcast, apic_deliver,
                                   apic_end_of_interrupt)
from emu.devices.pic cimport Pic, pic_acknowledge

cdef enum:
    # Registers by offset / 16, which is also the x2APIC MSR less 0x800 (SDM 3A tables 11-1 and 11-6)
    ID = 0x02
    VERSION = 0x03
    TPR = 0x08
    APR = 0x09
    PPR = 0x0A
    EOI = 0x0B
    REMOTE_READ = 0x0C
    LDR = 0x0D
    DFR = 0x0E
    SVR = 0x0F
    ISR = 0x10
    TMR = 0x18
    IRR = 0x20
    ESR = 0x28
    ICR_LOW = 0x30
    ICR_HIGH = 0x31
    LVT = 0x32
    INITIAL_COUNT = 0x38
    CURRENT_COUNT = 0x39
    DIVIDE = 0x3E
    SELF_IPI = 0x3F

    LVT_TIMER = 0
    LVT_LINT0 = 3
    LVT_LINT1 = 4
    LVT_ERROR = 5
    LVT_REMOTE_IRR = 0x4000
    LVT_LEVEL = 0x8000
    LVT_MASKED = 0x10000
    LVT_TIMER_MODE = 0x60000
    TIMER_PERIODIC = 0x20000
    TIMER_TSC_DEADLINE = 0x40000
    LVT_READ_ONLY = 0x5000           # delivery status, remote IRR

    VERSION_VALUE = 0x01050014       # integrated APIC, 6 LVT entries, EOI broadcasts can be suppressed
    SVR_ENABLED = 0x100
    SVR_NO_EOI_BROADCAST = 0x1000
    SVR_WRITABLE = 0x13FF
    BASE_BSP = 0x100
    BASE_X2APIC = 0x400
    BASE_ENABLED = 0x800
    ERROR_SEND_ILLEGAL_VECTOR = 0x20
    ERROR_RECEIVED_ILLEGAL_VECTOR = 0x40
    ERROR_ILLEGAL_REGISTER = 0x80
    ICR_LOGICAL = 0x800
    ICR_ASSERT = 0x4000
    ICR_LEVEL = 0x8000
    ICR_WRITABLE = 0xCCFFF
    ICR_IGNORED = 0x1000             # delivery status
    MSR_TSC_DEADLINE = 0x6E0
    MSR_X2APIC = 0x800

cdef u64 BASE_DEFAULT = 0xFEE00000
cdef u64 BASE_RESERVED = 0xFFF00000000002FF      # bits 63:52, 9 and 7:0
# DEVIATES: hardware accepts any period; below 1 us a guest would make the emulator do nothing but fire timers.
cdef u64 SHORTEST_PERIOD_NS = 1000

cdef u32 LVT_WRITABLE[LVT_ENTRIES]
LVT_WRITABLE[:] = [0x700FF, 0x107FF, 0x107FF, 0x1A7FF, 0x1A7FF, 0x100FF]


# ---- vectors

cdef inline int _highest(u32* bits) noexcept nogil:
    """The highest vector that is set, -1: none."""
    cdef int k
    for k in range(7, -1, -1):
        if bits[k]:
            return 32 * k + 63 - clz64(bits[k])
    return -1


cdef inline void _set(u32* bits, int vector) noexcept nogil:
    bits[vector >> 5] |= <u32>1 << (vector & 31)


cdef inline void _clear(u32* bits, int vector) noexcept nogil:
    bits[vector >> 5] &= ~(<u32>1 << (vector & 31))


cdef inline bint _test(u32* bits, int vector) noexcept nogil:
    return (bits[vector >> 5] >> (vector & 31)) & 1


cdef u32 _processor_priority(LapicState* apic) noexcept nogil:
    """PPR (SDM 3A 11.8.3.1)."""
    cdef int served = _highest(apic.isr)
    if served < 0 or (apic.tpr & 0xF0) >= <u32>(served & 0xF0):
        return apic.tpr
    return served & 0xF0


cdef int _deliverable(LapicState* apic) noexcept nogil:
    """The vector that goes to the processor now, -1: none."""
    cdef int vector = _highest(apic.irr)
    if vector < 0 or <u32>(vector & 0xF0) <= (_processor_priority(apic) & 0xF0):
        return -1
    return vector


cdef bint _external_pending(LapicState* apic) noexcept nogil:
    """INTR of the 8259As gets through: LINT0 is ExtINT, or the APIC is off and the pin is INTR (SDM 3A 11.4.3)."""
    if not apic.lint[0]:
        return False
    if not apic.base & BASE_ENABLED:
        return True
    return not apic.lvt[LVT_LINT0] & LVT_MASKED and (apic.lvt[LVT_LINT0] >> 8) & 7 == DELIVER_EXTINT


cdef void _update(LapicState* apic) noexcept nogil:
    drive(&apic.intr, _deliverable(apic) >= 0 or _external_pending(apic))


cdef void _error(LapicState* apic, u32 error) noexcept nogil:
    """Records an error; the error LVT interrupts once until ESR is written (SDM 3A 11.5.3)."""
    cdef u32 lvt = apic.lvt[LVT_ERROR]
    if apic.errors & error:
        return
    apic.errors |= error
    if not lvt & LVT_MASKED:
        if lvt & 0xF0:
            _set(apic.irr, lvt & 0xFF)
            _clear(apic.tmr, lvt & 0xFF)
            _update(apic)
        else:
            apic.errors |= ERROR_RECEIVED_ILLEGAL_VECTOR


cdef void _request(LapicState* apic, int vector, bint level) noexcept nogil:
    """Takes a fixed interrupt into IRR."""
    if vector < 16:
        _error(apic, ERROR_RECEIVED_ILLEGAL_VECTOR)
        return
    _set(apic.irr, vector)
    if level:
        _set(apic.tmr, vector)
    else:
        _clear(apic.tmr, vector)
    _update(apic)


# ---- reset

cdef void _init(LapicState* apic) noexcept nogil:
    """The state after INIT, which spares IDs and IA32_APIC_BASE (SDM 3A 11.4.7.3)."""
    cdef int k
    apic.tpr = 0
    apic.ldr = 0
    apic.dfr = <u32>0xFFFFFFFF
    apic.svr = 0xFF
    apic.esr = 0
    apic.errors = 0
    apic.icr = 0
    for k in range(LVT_ENTRIES):
        apic.lvt[k] = LVT_MASKED
    for k in range(8):
        apic.isr[k] = 0
        apic.irr[k] = 0
        apic.tmr[k] = 0
    apic.initial_count = 0
    apic.divide = 0
    apic.deadline_ns = NEVER
    apic.tsc_deadline = 0
    _arm(apic)
    _update(apic)


# ---- messages on the bus

cdef bint _is_addressed(void* owner, u32 destination, bint logical) noexcept nogil:
    """Whether a message is for this local APIC (SDM 3A 11.6.2)."""
    cdef LapicState* apic = <LapicState*>owner
    cdef bint x2apic = (apic.base & BASE_X2APIC) != 0
    cdef u32 cluster
    if destination == APIC_ALL:
        return True
    if not logical:
        return destination == (apic.initial_id if x2apic else apic.id)
    if x2apic:
        return destination >> 16 == apic.initial_id >> 4 and destination >> (apic.initial_id & 15) & 1
    if destination > 0xFF:
        return False
    if apic.dfr >> 28 == 15:                         # flat model
        return (destination & apic.ldr >> 24) != 0
    cluster = destination >> 4                       # cluster model; 15 is every cluster
    return apic.dfr >> 28 == 0 and (cluster == 15 or cluster == apic.ldr >> 28) and (destination & apic.ldr >> 24 & 15) != 0


cdef int _priority(void* owner) noexcept nogil:
    """The priority that lowest-priority delivery compares, -1: takes no fixed interrupts now."""
    cdef LapicState* apic = <LapicState*>owner
    if not apic.base & BASE_ENABLED or not apic.svr & SVR_ENABLED:
        return -1
    return <int>_processor_priority(apic)


cdef bint _accept(void* owner, int delivery, int vector, bint level) noexcept nogil:
    """Takes a message; False: it does not."""
    cdef LapicState* apic = <LapicState*>owner
    if not apic.base & BASE_ENABLED:
        return False
    if delivery == DELIVER_FIXED or delivery == DELIVER_LOWEST:
        if not apic.svr & SVR_ENABLED:
            return False
        _request(apic, vector, level)
    elif delivery == DELIVER_NMI:
        pulse(&apic.nmi)
    elif delivery == DELIVER_INIT:
        _init(apic)
        pulse(&apic.init)
    elif delivery == DELIVER_STARTUP:
        if apic.startup.set != NULL:
            apic.startup.set(apic.startup.owner, apic.startup.number, vector)
    else:
        # DEVIATES: there is no system management mode for SMI, and no 8259A behind the bus for ExtINT (it is at LINT0).
        return False
    return True


cdef void _send(LapicState* apic) noexcept nogil:
    """Sends what the interrupt command register says (SDM 3A 11.6.1)."""
    cdef ApicBusState* bus = apic.bus
    cdef u32 command = <u32>apic.icr
    cdef u32 destination = <u32>(apic.icr >> 32)
    cdef int delivery = (command >> 8) & 7
    cdef int shorthand = (command >> 18) & 3
    cdef int vector = command & 0xFF
    if delivery <= DELIVER_LOWEST and vector < 16:
        _error(apic, ERROR_SEND_ILLEGAL_VECTOR)
        return
    if delivery == DELIVER_INIT and command & ICR_LEVEL and not command & ICR_ASSERT:
        return                                       # INIT level de-assert: nothing on processors since the Pentium 4
    if shorthand == 0:
        if not apic.base & BASE_X2APIC:
            destination >>= 24
            if destination == 0xFF and not command & ICR_LOGICAL:
                destination = APIC_ALL
        apic_deliver(bus, destination, (command & ICR_LOGICAL) != 0, delivery, vector, False)
    elif shorthand == 1:
        _accept(apic, delivery, vector, False)
    else:
        apic_broadcast(bus, NULL if shorthand == 2 else <void*>apic, delivery, vector)


cdef void _end_of_interrupt(LapicState* apic) noexcept nogil:
    """EOI (SDM 3A 11.8.5); that of a level-triggered interrupt goes to every I/O APIC."""
    cdef u32* lint0 = &apic.lvt[LVT_LINT0]
    cdef int vector = _highest(apic.isr)
    if vector < 0:
        return
    _clear(apic.isr, vector)
    if _test(apic.tmr, vector):
        if lint0[0] & LVT_REMOTE_IRR and lint0[0] & 0xFF == <u32>vector:
            lint0[0] &= ~<u32>LVT_REMOTE_IRR
            _sample_lint0(apic)
        if not apic.svr & SVR_NO_EOI_BROADCAST:
            apic_end_of_interrupt(apic.bus, vector)
    _update(apic)


# ---- local interrupt pins

cdef void _sample_lint0(LapicState* apic) noexcept nogil:
    """A fixed, level-triggered LINT0 asks as long as it is high and not in service."""
    cdef u32* lvt = &apic.lvt[LVT_LINT0]
    if (apic.lint[0] and lvt[0] & LVT_LEVEL and not lvt[0] & (LVT_MASKED | LVT_REMOTE_IRR)
            and (lvt[0] >> 8) & 7 == DELIVER_FIXED):
        lvt[0] |= LVT_REMOTE_IRR
        _request(apic, lvt[0] & 0xFF, True)


cdef void _lint(void* owner, int number, int level) noexcept nogil:
    """LINT0 or LINT1 goes to `level`."""
    # DEVIATES: a wire says "asserted", so the polarity bit of the LVT is kept but inverts nothing.
    cdef LapicState* apic = <LapicState*>owner
    cdef u32 lvt = apic.lvt[LVT_LINT0 + number]
    cdef int delivery = (lvt >> 8) & 7
    cdef bint rose = level and not apic.lint[number]
    apic.lint[number] = level != 0
    if not apic.base & BASE_ENABLED:
        if rose and number == 1:
            pulse(&apic.nmi)
    elif rose and not lvt & LVT_MASKED:
        if delivery == DELIVER_NMI or delivery == DELIVER_INIT:
            _accept(apic, delivery, 0, False)
        elif delivery == DELIVER_FIXED and (number == 1 or not lvt & LVT_LEVEL):
            _request(apic, lvt & 0xFF, False)
    if number == 0:
        _sample_lint0(apic)
    _update(apic)


# ---- timer

cdef inline u64 _divisor(LapicState* apic) noexcept nogil:
    """Bits 3, 1 and 0: 2, 4, ... 128, 1 (SDM 3A figure 11-10). The input is 1 GHz."""
    return <u64>1 << (((apic.divide & 3 | apic.divide >> 1 & 4) + 1) & 7)


cdef inline u64 _period_ns(LapicState* apic) noexcept nogil:
    return max(apic.initial_count * _divisor(apic), SHORTEST_PERIOD_NS)


cdef inline bint _is_tsc_deadline(LapicState* apic) noexcept nogil:
    return (apic.lvt[LVT_TIMER] & LVT_TIMER_MODE) == TIMER_TSC_DEADLINE


cdef void _arm(LapicState* apic) noexcept nogil:
    cdef u64 deadline_ns = apic.deadline_ns
    if _is_tsc_deadline(apic):
        deadline_ns = apic.tsc_deadline if apic.tsc_deadline else NEVER
    timer_arm(apic.clock, &apic.timer, deadline_ns)


cdef void _start_count(LapicState* apic) noexcept nogil:
    if apic.initial_count == 0:
        apic.deadline_ns = NEVER
    else:
        apic.deadline_ns = apic.clock.now_ns + _period_ns(apic)
    _arm(apic)


cdef u32 _current_count(LapicState* apic) noexcept nogil:
    cdef u64 divisor = _divisor(apic)
    if apic.deadline_ns == NEVER or apic.deadline_ns < apic.clock.now_ns:
        return 0
    return <u32>min((apic.deadline_ns - apic.clock.now_ns + divisor - 1) // divisor, <u64>apic.initial_count)


cdef void _expire(LapicState* apic) noexcept nogil:
    if not apic.lvt[LVT_TIMER] & LVT_MASKED:
        _request(apic, apic.lvt[LVT_TIMER] & 0xFF, False)


cdef void _fire(void* owner, u64 now_ns) noexcept nogil:
    cdef LapicState* apic = <LapicState*>owner
    cdef u64 period_ns
    if _is_tsc_deadline(apic):
        apic.tsc_deadline = 0
    elif apic.lvt[LVT_TIMER] & LVT_TIMER_MODE == TIMER_PERIODIC and apic.initial_count:
        period_ns = _period_ns(apic)
        apic.deadline_ns = now_ns + period_ns - (now_ns - apic.deadline_ns) % period_ns
    else:
        apic.deadline_ns = NEVER
    _arm(apic)
    _expire(apic)


cdef void _write_divide(LapicState* apic, u32 value) noexcept nogil:
    """A running count goes on from where it is, at the new rate."""
    cdef u32 count = _current_count(apic)
    apic.divide = value & 0xB
    if count:
        apic.deadline_ns = apic.clock.now_ns + max(count * _divisor(apic), SHORTEST_PERIOD_NS)
        _arm(apic)


cdef void _write_lvt(LapicState* apic, int entry, u32 value) noexcept nogil:
    cdef u32 before = apic.lvt[entry]
    value = (value & LVT_WRITABLE[entry]) | (before & LVT_REMOTE_IRR)
    if not apic.svr & SVR_ENABLED:
        value |= LVT_MASKED
    if entry == LVT_LINT0 and (not value & LVT_LEVEL or (value >> 8) & 7 != DELIVER_FIXED):
        value &= ~<u32>LVT_REMOTE_IRR
    apic.lvt[entry] = value
    if entry == LVT_TIMER and (before ^ value) & TIMER_TSC_DEADLINE:
        apic.deadline_ns = NEVER                     # the change of mode disarms the timer (SDM 3A 11.5.4.1)
        apic.tsc_deadline = 0
        _arm(apic)
    elif entry == LVT_LINT0:
        _sample_lint0(apic)
        _update(apic)


# ---- registers

cdef int _read_register(LapicState* apic, u32 index, u32* value) noexcept nogil:
    """0, or -1 where there is no register to be read."""
    value[0] = 0
    if index == ID:
        value[0] = apic.initial_id if apic.base & BASE_X2APIC else apic.id << 24
    elif index == VERSION:
        value[0] = VERSION_VALUE
    elif index == TPR:
        value[0] = apic.tpr
    elif index == PPR:
        value[0] = _processor_priority(apic)
    elif index == LDR:
        value[0] = apic.ldr
        if apic.base & BASE_X2APIC:
            value[0] = (apic.initial_id >> 4) << 16 | <u32>1 << (apic.initial_id & 15)
    elif index == DFR:
        value[0] = apic.dfr
    elif index == SVR:
        value[0] = apic.svr
    elif ISR <= index < ISR + 8:
        value[0] = apic.isr[index - ISR]
    elif TMR <= index < TMR + 8:
        value[0] = apic.tmr[index - TMR]
    elif IRR <= index < IRR + 8:
        value[0] = apic.irr[index - IRR]
    elif index == ESR:
        value[0] = apic.esr
    elif index == ICR_LOW:
        value[0] = <u32>apic.icr
    elif index == ICR_HIGH:
        value[0] = <u32>(apic.icr >> 32)
    elif LVT <= index < LVT + LVT_ENTRIES:
        value[0] = apic.lvt[index - LVT]
    elif index == INITIAL_COUNT:
        value[0] = apic.initial_count
    elif index == CURRENT_COUNT:
        value[0] = _current_count(apic)
    elif index == DIVIDE:
        value[0] = apic.divide
    elif index != APR and index != REMOTE_READ and index != EOI:
        return -1                                    # those three exist, and read as 0 since the Pentium 4
    return 0


cdef int _write_register(LapicState* apic, u32 index, u32 value) noexcept nogil:
    """0, or -1 where there is no register to be written."""
    cdef int k
    if index == ID:
        apic.id = value >> 24
    elif index == TPR:
        apic.tpr = value & 0xFF
        _update(apic)
    elif index == EOI:
        _end_of_interrupt(apic)
    elif index == LDR:
        apic.ldr = value & <u32>0xFF000000
    elif index == DFR:
        apic.dfr = value | 0x0FFFFFFF
    elif index == SVR:
        apic.svr = value & SVR_WRITABLE
        if not value & SVR_ENABLED:
            for k in range(LVT_ENTRIES):
                apic.lvt[k] |= LVT_MASKED
        _update(apic)
    elif index == ESR:
        apic.esr = apic.errors
        apic.errors = 0
    elif index == ICR_LOW:
        apic.icr = (apic.icr & <u64>0xFFFFFFFF00000000) | (value & ICR_WRITABLE)
        _send(apic)
    elif index == ICR_HIGH:
        apic.icr = (<u64>value << 32 & <u64>0xFF00000000000000) | <u32>apic.icr
    elif LVT <= index < LVT + LVT_ENTRIES:
        _write_lvt(apic, index - LVT, value)
    elif index == INITIAL_COUNT:
        if not _is_tsc_deadline(apic):
            apic.initial_count = value
            _start_count(apic)
    elif index == DIVIDE:
        _write_divide(apic, value)
    elif index != APR and index != REMOTE_READ and index != CURRENT_COUNT and index != VERSION and not ISR <= index < ESR:
        return -1
    return 0


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    """Registers are 32 bits wide at every 16 bytes; what lies between reads as 0 (SDM 3A 11.4.1)."""
    cdef LapicState* apic = <LapicState*>owner
    cdef u32 value
    if apic.base & (BASE_ENABLED | BASE_X2APIC) != BASE_ENABLED:
        return mask_of(size)
    if offset & 12:
        return 0
    if _read_register(apic, <u32>(offset >> 4), &value):
        _error(apic, ERROR_ILLEGAL_REGISTER)
    return value >> (8 * (offset & 3))


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef LapicState* apic = <LapicState*>owner
    if apic.base & (BASE_ENABLED | BASE_X2APIC) != BASE_ENABLED or offset & 15 or size < 4:
        return
    if _write_register(apic, <u32>(offset >> 4), <u32>value):
        _error(apic, ERROR_ILLEGAL_REGISTER)


# ---- what the CPU calls

cdef int lapic_acknowledge(void* owner) noexcept nogil:
    cdef LapicState* apic = <LapicState*>owner
    cdef int vector = _deliverable(apic)
    if vector >= 0:
        _clear(apic.irr, vector)
        _set(apic.isr, vector)
        _update(apic)
        return vector
    if _external_pending(apic) and apic.external != NULL:
        return apic.external(apic.external_owner)
    return apic.svr & 0xFF                           # it was withdrawn: the spurious vector (SDM 3A 11.9)


cdef u64 lapic_base_read(void* owner) noexcept nogil:
    return (<LapicState*>owner).base


cdef int lapic_base_write(void* owner, u64 value) noexcept nogil:
    """IA32_APIC_BASE (SDM 3A 11.4.4, 11.12.5)."""
    # DEVIATES: the address is kept, but the window stays where the board has put it.
    cdef LapicState* apic = <LapicState*>owner
    cdef u64 mode = value & (BASE_ENABLED | BASE_X2APIC)
    cdef u64 before = apic.base & (BASE_ENABLED | BASE_X2APIC)
    if value & BASE_RESERVED or mode == BASE_X2APIC:
        return -1
    if before == BASE_ENABLED | BASE_X2APIC and mode == BASE_ENABLED:
        return -1                                    # x2APIC mode is left by way of "disabled" only
    if before == 0 and mode == BASE_ENABLED | BASE_X2APIC:
        return -1
    # The processor that boots is chosen by hardware, yet the bit can be written.
    apic.base = value
    if mode == 0 and before:
        apic.id = apic.initial_id & 0xFF
        _init(apic)
    _update(apic)
    return 0


cdef int lapic_msr_read(void* owner, u32 index, u64* value) noexcept nogil:
    cdef LapicState* apic = <LapicState*>owner
    cdef u32 low
    if index == MSR_TSC_DEADLINE:
        value[0] = apic.tsc_deadline
        return 0
    index -= MSR_X2APIC
    if (not apic.base & BASE_X2APIC or index > SELF_IPI or index == APR or index == REMOTE_READ or index == DFR
            or index == EOI or index == ICR_HIGH or _read_register(apic, index, &low)):
        return -1
    value[0] = apic.icr if index == ICR_LOW else low
    return 0


cdef int _write_x2apic(LapicState* apic, u32 index, u64 value) noexcept nogil:
    """A reserved bit, or a register that is not there or only read, is #GP (SDM 3A 11.12.1.3)."""
    if index == ICR_LOW:
        if <u32>value & ~<u32>(ICR_WRITABLE | ICR_IGNORED):
            return -1
        apic.icr = value & ~<u64>ICR_IGNORED
        _send(apic)
        return 0
    if value >> 32:
        return -1
    if index == SELF_IPI:
        if value > 0xFF:
            return -1
        if value < 16:
            _error(apic, ERROR_SEND_ILLEGAL_VECTOR)
        else:
            _accept(apic, DELIVER_FIXED, <int>value, False)
        return 0
    if index == TPR:
        if value > 0xFF:
            return -1
    elif index == EOI or index == ESR:
        if value:
            return -1
    elif index == SVR:
        if value & ~<u64>SVR_WRITABLE:
            return -1
    elif LVT <= index < LVT + LVT_ENTRIES:
        if value & ~<u64>(LVT_WRITABLE[index - LVT] | LVT_READ_ONLY):
            return -1
    elif index == DIVIDE:
        if value & ~<u64>0xB:
            return -1
    elif index != INITIAL_COUNT:
        return -1
    return _write_register(apic, index, <u32>value)


cdef int lapic_msr_write(void* owner, u32 index, u64 value) noexcept nogil:
    cdef LapicState* apic = <LapicState*>owner
    if index == MSR_TSC_DEADLINE:
        if _is_tsc_deadline(apic):                   # in the other modes the write is ignored (SDM 3A 11.5.4.1)
            apic.tsc_deadline = value
            if value and value <= apic.clock.now_ns:
                apic.tsc_deadline = 0
                _expire(apic)
            _arm(apic)
        return 0
    if not apic.base & BASE_X2APIC:
        return -1
    return _write_x2apic(apic, index - MSR_X2APIC, value)


cdef u64 lapic_tpr_read(void* owner) noexcept nogil:
    return (<LapicState*>owner).tpr >> 4


cdef void lapic_tpr_write(void* owner, u64 value) noexcept nogil:
    cdef LapicState* apic = <LapicState*>owner
    apic.tpr = (value & 15) << 4
    _update(apic)


cdef void _restored(void* owner) noexcept nogil:
    _arm(<LapicState*>owner)


@cython.final
cdef class Lapic:
    """One CPU's local APIC; the first one of a bus belongs to the processor that boots.

    `apic_id` is 0..254. Wires: `lint0` (the 8259As), `lint1` (NMI); `intr`, a level, `nmi` and `init`, pulses, and
    `startup`, whose listener is told the vector of each SIPI as its level, go to the CPU. The timer counts 1 GHz.
    """

    def __cinit__(self, Clock clock not None, ApicBus bus not None, int apic_id):
        cdef LapicState* apic = &self.state
        cdef void* owner = <void*>apic
        cdef ApicAgent agent
        if not 0 <= apic_id < 255:
            raise ValueError(f"APIC ID {apic_id} is not in 0..254")
        apic.clock = &clock.state
        apic.bus = &bus.state
        apic.initial_id = apic_id
        self._clock = clock
        self.bus = bus
        self.lint0 = line_input(_lint, owner, 0, self)
        self.lint1 = line_input(_lint, owner, 1, self)
        self.intr = line_output(&apic.intr, self)
        self.nmi = line_output(&apic.nmi, self)
        self.init = line_output(&apic.init, self)
        self.startup = line_output(&apic.startup, self)
        fields = declare_state(f"lapic{bus.state.count}", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        fields.when_restored(_restored, &self.state)
        fields.add("id", "u32", &apic.id)
        fields.add("base", "u64", &apic.base)
        fields.add("tpr", "u32", &apic.tpr)
        fields.add("ldr", "u32", &apic.ldr)
        fields.add("dfr", "u32", &apic.dfr)
        fields.add("svr", "u32", &apic.svr)
        fields.add("esr", "u32", &apic.esr)
        fields.add("errors", "u32", &apic.errors)
        fields.add("icr", "u64", &apic.icr)
        fields.add("lvt", "u32", &apic.lvt, LVT_ENTRIES)
        fields.add("isr", "u32", &apic.isr, 8)
        fields.add("irr", "u32", &apic.irr, 8)
        fields.add("tmr", "u32", &apic.tmr, 8)
        fields.add("initial_count", "u32", &apic.initial_count)
        fields.add("divide", "u32", &apic.divide)
        fields.add("deadline_ns", "u64", &apic.deadline_ns)
        fields.add("tsc_deadline", "u64", &apic.tsc_deadline)
        fields.add("lint", "u8", &apic.lint, 2)
        fields.add("intr", "i32", &apic.intr.level)
        self.fields = fields
        clock.attach(&apic.timer, _fire, owner, self)
        agent.owner = owner
        agent.is_addressed = _is_addressed
        agent.accept = _accept
        agent.priority = _priority
        agent.read = _read
        agent.write = _write
        self.number = bus.attach(agent, self)
        self.reset()

    cdef void fill_port(self, Port* port):
        """Gives the CPU its functions; the board calls this once."""
        port.interrupt_owner = <void*>&self.state
        port.acknowledge = lapic_acknowledge
        port.apic_owner = <void*>&self.state
        port.apic_base_read = lapic_base_read
        port.apic_base_write = lapic_base_write
        port.apic_msr_read = lapic_msr_read
        port.apic_msr_write = lapic_msr_write
        port.tpr_read = lapic_tpr_read
        port.tpr_write = lapic_tpr_write

    def connect_pic(self, Pic pic not None):
        """The 8259As come to LINT0, and answer the acknowledge cycles of ExtINT."""
        pic.output.connect(self.lint0)
        self.state.external = pic_acknowledge
        self.state.external_owner = <void*>&pic.state
        self._external = pic

    def reset(self):
        """As after power-on: enabled in xAPIC mode, all local interrupts masked."""
        self.state.id = self.state.initial_id
        self.state.base = BASE_DEFAULT | BASE_ENABLED
        if self.number == 0:
            self.state.base |= BASE_BSP
        _init(&self.state)

    def set_virtual_wire(self):
        """What firmware leaves behind on the boot processor: LINT0 is ExtINT, LINT1 is NMI (MP specification 3.6.2.2)."""
        _write_register(&self.state, SVR, SVR_ENABLED | 0xFF)
        _write_register(&self.state, LVT + LVT_LINT0, DELIVER_EXTINT << 8)
        _write_register(&self.state, LVT + LVT_LINT1, DELIVER_NMI << 8)

    def acknowledge(self):
        """What the CPU's acknowledge gives: the vector."""
        return lapic_acknowledge(<void*>&self.state)

    @property
    def base(self):
        """IA32_APIC_BASE."""
        return self.state.base

    @property
    def task_priority(self):
        """CR8."""
        return lapic_tpr_read(<void*>&self.state)

    @task_priority.setter
    def task_priority(self, u64 value):
        lapic_tpr_write(<void*>&self.state, value)

    def write_base(self, u64 value):
        """A write of IA32_APIC_BASE; False: #GP."""
        return lapic_base_write(<void*>&self.state, value) == 0

    def read_msr(self, u32 index):
        """A read of an x2APIC MSR, or of IA32_TSC_DEADLINE (0x6E0); None: #GP."""
        cdef u64 value
        return None if lapic_msr_read(<void*>&self.state, index, &value) else value

    def write_msr(self, u32 index, u64 value):
        """A write of an x2APIC MSR, or of IA32_TSC_DEADLINE (0x6E0); False: #GP."""
        return lapic_msr_write(<void*>&self.state, index, value) == 0

    def _validate(self):
        cdef LapicState* apic = &self.state
        cdef int k
        name = self.fields.component
        if apic.base & BASE_RESERVED or apic.base & (BASE_ENABLED | BASE_X2APIC) == BASE_X2APIC:
            raise SnapshotError(name + ".base", f"{apic.base:#x}", "a value that a guest can write")
        if (apic.id > 0xFF or apic.tpr > 0xFF or apic.ldr & 0xFFFFFF or ~apic.dfr & 0xFFFFFFF or apic.svr & ~SVR_WRITABLE
                or <u32>apic.icr & ~ICR_WRITABLE or apic.divide & ~0xB):
            raise SnapshotError(name, "a register has reserved bits", "a value that a guest can write")
        if (apic.isr[0] | apic.irr[0] | apic.tmr[0]) & 0xFFFF:
            raise SnapshotError(name, "a vector below 16", "vectors from 16")
        for k in range(LVT_ENTRIES):
            if apic.lvt[k] & ~(LVT_WRITABLE[k] | (LVT_REMOTE_IRR if k == LVT_LINT0 else 0)):
                raise SnapshotError(name + ".lvt", f"{apic.lvt[k]:#x}", "no reserved bits")
        if apic.lint[0] > 1 or apic.lint[1] > 1 or apic.intr.level not in (0, 1):
            raise SnapshotError(name, "the level of a wire", "0 or 1")
        _arm(apic)
