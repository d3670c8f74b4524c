# The local APICs of a machine and the bus between them (and the I/O APIC): xAPIC and x2APIC.
# Source: Intel SDM volume 3A, chapter 11 "Advanced Programmable Interrupt Controller (APIC)".
from emu.base.clock cimport ClockState, Timer
from emu.base.line cimport Line, LineInput, LineOutput
from emu.base.port cimport Port
from emu.base.types cimport u8, u32, u64
from emu.memory.space cimport Region

cdef enum:
    MAX_LAPICS = 64
    MAX_IOAPICS = 4
    LVT_ENTRIES = 6

cdef enum:                           # delivery modes, SDM 3A 11.5.1, 11.6.1
    DELIVER_FIXED = 0
    DELIVER_LOWEST = 1
    DELIVER_SMI = 2
    DELIVER_NMI = 4
    DELIVER_INIT = 5
    DELIVER_STARTUP = 6
    DELIVER_EXTINT = 7

ctypedef void (*eoi_fn)(void* owner, int vector) noexcept nogil
ctypedef int (*acknowledge_fn)(void* owner) noexcept nogil


cdef struct ApicBusState


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


cdef struct ApicBusState:
    int count
    LapicState* lapic[MAX_LAPICS]
    int current              # whose CPU runs: it reaches its own local APIC at the common address
    int ioapics
    eoi_fn eoi[MAX_IOAPICS]
    void* eoi_owner[MAX_IOAPICS]


# A message on the bus; the number of local APICs that took it. `destination` is 0xFFFFFFFF for all.
cdef int apic_deliver(ApicBusState* bus, u32 destination, bint logical, int delivery, int vector, bint level) noexcept nogil
# What a device does with a message-signalled interrupt (owner: ApicBusState*): SDM 3A 11.11.
cdef void apic_message_signal(void* owner, u64 address, u32 data) noexcept nogil

cdef int lapic_acknowledge(void* owner) noexcept nogil               # owner of all these: LapicState*
cdef u64 lapic_base_read(void* owner) noexcept nogil
cdef int lapic_base_write(void* owner, u64 value) noexcept nogil
cdef int lapic_msr_read(void* owner, u32 index, u64* value) noexcept nogil
cdef int lapic_msr_write(void* owner, u32 index, u64 value) noexcept nogil
cdef u64 lapic_tpr_read(void* owner) noexcept nogil
cdef void lapic_tpr_write(void* owner, u64 value) noexcept nogil


cdef class ApicBus:
    cdef ApicBusState state
    cdef list _keep
    cdef readonly object fields
    cdef readonly Region region
    cdef int attach_ioapic(self, eoi_fn eoi, void* owner, object keep) except -1


cdef class Lapic:
    cdef LapicState state
    cdef object _clock
    cdef object _external
    cdef ApicBus bus
    cdef readonly object fields
    cdef readonly LineOutput intr, nmi, init, startup
    cdef readonly LineInput lint0, lint1
    cdef void fill_port(self, Port* port)
