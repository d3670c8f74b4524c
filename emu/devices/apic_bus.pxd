# The bus between local APICs and I/O APICs: messages, end-of-interrupt broadcasts, the window of the running CPU.
# Source: Intel SDM volume 3A, chapter 11 "Advanced Programmable Interrupt Controller (APIC)".
from emu.base.types cimport u32, u64
from emu.memory.space cimport Region, read_fn, write_fn

cdef enum:
    MAX_AGENTS = 255
    MAX_IOAPICS = 4

cdef enum:                           # delivery modes, SDM 3A 11.5.1, 11.6.1
    DELIVER_FIXED = 0
    DELIVER_LOWEST = 1
    DELIVER_SMI = 2
    DELIVER_NMI = 4
    DELIVER_INIT = 5
    DELIVER_STARTUP = 6
    DELIVER_EXTINT = 7

cdef u32 APIC_ALL                    # the destination that is everyone, 0xFFFFFFFF

ctypedef void (*eoi_fn)(void* owner, int vector) noexcept nogil


cdef struct ApicAgent:               # what the bus knows of a local APIC
    void* owner
    bint (*is_addressed)(void* owner, u32 destination, bint logical) noexcept nogil
    bint (*accept)(void* owner, int delivery, int vector, bint level) noexcept nogil     # False: not taken
    int (*priority)(void* owner) noexcept nogil      # -1: takes no fixed interrupts now
    read_fn read                     # the registers in memory
    write_fn write


cdef struct ApicBusState:
    int count
    ApicAgent agent[MAX_AGENTS]
    int current                      # whose CPU runs: it reaches its own local APIC at the common address
    int ioapics
    eoi_fn eoi[MAX_IOAPICS]
    void* eoi_owner[MAX_IOAPICS]


# A message; the number of local APICs that took it.
cdef int apic_deliver(ApicBusState* bus, u32 destination, bint logical, int delivery, int vector, bint level) noexcept nogil
# A message to all but `excluded` (NULL: to all).
cdef void apic_broadcast(ApicBusState* bus, void* excluded, int delivery, int vector) noexcept nogil
# The end of a level-triggered interrupt, told to every I/O APIC.
cdef void apic_end_of_interrupt(ApicBusState* bus, int vector) noexcept nogil
# What a device does with a message-signalled interrupt (owner: ApicBusState*): SDM 3A 11.11.
cdef void apic_message_signal(void* owner, u64 address, u32 data) noexcept nogil


cdef class ApicBus:
    cdef ApicBusState state
    cdef list _keep
    cdef readonly object fields
    cdef readonly Region region
    cdef int attach(self, ApicAgent agent, object keep) except -1        # returns its number
    cdef int attach_ioapic(self, eoi_fn eoi, void* owner, object keep) except -1
