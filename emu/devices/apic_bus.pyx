# The bus between local APICs and I/O APICs: messages, end-of-interrupt broadcasts, the window of the running CPU.
# Source: Intel SDM volume 3A, chapter 11 "Advanced Programmable Interrupt Controller (APIC)".
import cython

from emu.base.bits cimport mask_of
from emu.base.errors import SnapshotError
from emu.base.state cimport declare_state
from emu.base.types cimport u32, u64
from emu.memory.space cimport region

cdef u32 APIC_ALL = 0xFFFFFFFF
cdef u64 MESSAGE_WINDOW = 0xFEE          # bits 31:20 of the address of a message


cdef int apic_deliver(ApicBusState* bus, u32 destination, bint logical, int delivery, int vector, bint level) noexcept nogil:
    cdef ApicAgent* agent
    cdef ApicAgent* best = NULL
    cdef int k, priority
    cdef int lowest = 0x100
    cdef int taken = 0
    for k in range(bus.count):
        agent = &bus.agent[k]
        if not agent.is_addressed(agent.owner, destination, logical):
            continue
        if delivery != DELIVER_LOWEST:
            taken += agent.accept(agent.owner, delivery, vector, level)
            continue
        priority = agent.priority(agent.owner)
        if 0 <= priority < lowest:
            lowest = priority
            best = agent
    if best != NULL:
        taken = best.accept(best.owner, delivery, vector, level)
    return taken


cdef void apic_broadcast(ApicBusState* bus, void* excluded, int delivery, int vector) noexcept nogil:
    cdef int k
    for k in range(bus.count):
        if bus.agent[k].owner != excluded:
            bus.agent[k].accept(bus.agent[k].owner, delivery, vector, False)


cdef void apic_end_of_interrupt(ApicBusState* bus, int vector) noexcept nogil:
    cdef int k
    for k in range(bus.ioapics):
        bus.eoi[k](bus.eoi_owner[k], vector)


cdef void apic_message_signal(void* owner, u64 address, u32 data) noexcept nogil:
    cdef u32 destination = (address >> 12) & 0xFF
    cdef bint logical = (address >> 2) & 1
    if address >> 20 != MESSAGE_WINDOW:
        return
    if destination == 0xFF and not logical:
        destination = APIC_ALL
    apic_deliver(<ApicBusState*>owner, destination, logical, (data >> 8) & 7, data & 0xFF, (data >> 15) & 1)


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    cdef ApicBusState* bus = <ApicBusState*>owner
    cdef ApicAgent* agent = &bus.agent[bus.current]
    return agent.read(agent.owner, offset, size) if bus.current < bus.count else mask_of(size)


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef ApicBusState* bus = <ApicBusState*>owner
    cdef ApicAgent* agent = &bus.agent[bus.current]
    if bus.current < bus.count:
        agent.write(agent.owner, offset, size, value)


@cython.final
cdef class ApicBus:
    """What the APICs of a machine share.

    Region: `region` (4 KiB, for 0xFEE00000); an access reaches the local APIC of the CPU that runs, whose number
    `current` holds.
    """

    def __cinit__(self):
        self._keep = []
        self.region = region("lapic", 0x1000, _read, _write, <void*>&self.state, self)
        fields = declare_state("apic_bus", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        fields.add("current", "i32", &self.state.current)
        self.fields = fields

    cdef int attach(self, ApicAgent agent, object keep) except -1:
        """Adds a local APIC; the first one belongs to the processor that boots."""
        if self.state.count == MAX_AGENTS:
            raise ValueError(f"a machine has at most {MAX_AGENTS} local APICs")
        self.state.agent[self.state.count] = agent
        self.state.count += 1
        self._keep.append(keep)
        return self.state.count - 1

    cdef int attach_ioapic(self, eoi_fn eoi, void* owner, object keep) except -1:
        """Adds an I/O APIC that hears the ends of interrupts."""
        if self.state.ioapics == MAX_IOAPICS:
            raise ValueError(f"a machine has at most {MAX_IOAPICS} I/O APICs")
        self.state.eoi[self.state.ioapics] = eoi
        self.state.eoi_owner[self.state.ioapics] = owner
        self.state.ioapics += 1
        self._keep.append(keep)
        return 0

    @property
    def current(self):
        """The number (in order of construction) of the CPU that runs."""
        return self.state.current

    @current.setter
    def current(self, int number):
        if not 0 <= number < self.state.count:
            raise ValueError(f"no local APIC {number}")
        self.state.current = number

    def reset(self):
        """The first CPU runs."""
        self.state.current = 0

    def signal(self, u64 address, u32 data):
        """A message-signalled interrupt: `data` written to `address` (SDM 3A 11.11)."""
        apic_message_signal(&self.state, address, data)

    def _validate(self):
        if not 0 <= self.state.current < max(self.state.count, 1):
            raise SnapshotError("apic_bus.current", str(self.state.current), f"less than {self.state.count} CPUs")
