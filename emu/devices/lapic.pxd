# The local APIC of one CPU: xAPIC and x2APIC.
# Source: Intel SDM volume 3A, chapter 11 "Advanced Programmable Interrupt Controller (APIC)".
from emu.base.clock cimport ClockState, Timer
from emu.base.line cimport Line, LineInput, LineOutput
from emu.base.port cimport Port
from emu.base.types cimport u8, u32, u64
from emu.devices.apic_bus cimport ApicBus, ApicBusState

cdef enum:
    LVT_ENTRIES = 6

ctypedef int (*acknowledge_fn)(void* owner) noexcept nogil


cdef struct LapicState:
    u32 initial_id           # the x2APIC ID; after reset also the xAPIC ID
    u32 id                   # the xAPIC ID, bits 7:0
    u64 base                 # IA32_APIC_BASE
    u32 tpr
    u32 ldr                  # as in xAPIC mode: bits 31:24
    u32 dfr
    u32 svr
    u32 esr                  # what reads give
    u32 errors               # gathered since the last write of ESR
    u64 icr
    u32 lvt[LVT_ENTRIES]     # timer, thermal, performance, LINT0, LINT1, error
    u32 isr[8]
    u32 irr[8]
    u32 tmr[8]
    u32 initial_count
    u32 divide               # divide configuration register
    u64 deadline_ns          # when the count reaches 0, in one-shot and periodic mode; NEVER: it stands at 0
    u64 tsc_deadline         # IA32_TSC_DEADLINE, in ns of virtual time; 0: disarmed
    u8 lint[2]               # levels of LINT0, LINT1 now
    Timer timer
    ClockState* clock
    ApicBusState* bus
    acknowledge_fn external  # the interrupt controller behind LINT0 (ExtINT)
    void* external_owner
    Line intr                # an interrupt is deliverable: to the CPU's INTR
    Line nmi                 # a pulse each
    Line init
    Line startup             # SIPI: the listener's `level` is the vector, called for each message


cdef int lapic_acknowledge(void* owner) noexcept nogil               # owner of all these: LapicState*
cdef u64 lapic_base_read(void* owner) noexcept nogil
cdef int lapic_base_write(void* owner, u64 value) noexcept nogil
cdef int lapic_msr_read(void* owner, u32 index, u64* value) noexcept nogil
cdef int lapic_msr_write(void* owner, u32 index, u64 value) noexcept nogil
cdef u64 lapic_tpr_read(void* owner) noexcept nogil
cdef void lapic_tpr_write(void* owner, u64 value) noexcept nogil


cdef class Lapic:
    cdef LapicState state
    cdef object _clock
    cdef object _external
    cdef ApicBus bus
    cdef readonly int number             # on the bus; 0 boots
    cdef readonly object fields
    cdef readonly LineOutput intr, nmi, init, startup
    cdef readonly LineInput lint0, lint1
    cdef void fill_port(self, Port* port)
