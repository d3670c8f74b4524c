# The I/O APIC: 24 pins, each with a redirection entry.
# Source: Intel 82093AA datasheet (order 290566); EOI register: Intel ICH9 datasheet, 13.5.
import cython

from emu.base.errors import SnapshotError
from emu.base.line cimport line_input
from emu.base.state cimport declare_state
from emu.base.types cimport u32, u64
from emu.devices.apic_bus cimport APIC_ALL, ApicBus, apic_deliver
from emu.memory.space cimport region

cdef enum:
    IOREGSEL = 0x00
    IOWIN = 0x10
    EOI = 0x40
    ID = 0
    VERSION = 1
    ARBITRATION = 2
    TABLE = 0x10
    VERSION_VALUE = 0x20 | (IOAPIC_PINS - 1) << 16       # 0x20: there is an EOI register
    ENTRY_LOGICAL = 0x800
    ENTRY_REMOTE_IRR = 0x4000
    ENTRY_LEVEL = 0x8000
    ENTRY_MASKED = 0x10000
    ENTRY_WRITABLE_LOW = 0x1AFFF                         # all but delivery status and remote IRR
    ENTRY_WRITABLE_HIGH = 0xFF000000


cdef bint _send(IoapicState* ioapic, int pin) noexcept nogil:
    """Sends the message of a pin; False: no local APIC took it."""
    cdef u64 entry = ioapic.entry[pin]
    cdef u32 destination = <u32>(entry >> 56)
    if destination == 0xFF and not entry & ENTRY_LOGICAL:
        destination = APIC_ALL
    return apic_deliver(ioapic.bus, destination, (entry & ENTRY_LOGICAL) != 0, (entry >> 8) & 7, entry & 0xFF,
                        (entry & ENTRY_LEVEL) != 0) > 0


cdef void _sample(IoapicState* ioapic, int pin) noexcept nogil:
    """A level-triggered pin that is asserted sends once, then waits for the EOI of what it sent (remote IRR)."""
    cdef u64 entry = ioapic.entry[pin]
    if (ioapic.levels >> pin & 1 and entry & ENTRY_LEVEL and not entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)
            and _send(ioapic, pin)):
        ioapic.entry[pin] |= ENTRY_REMOTE_IRR


cdef void ioapic_set_input(void* owner, int pin, int level) noexcept nogil:
    """Pin 0..23 is asserted (1) or not (0)."""
    # DEVIATES: a wire says "asserted", so the polarity bit is kept but inverts nothing; a guest that has the polarity of
    # a pin wrong would see a storm or silence on hardware, and works here.
    cdef IoapicState* ioapic = <IoapicState*>owner
    cdef u32 bit
    if pin < 0 or pin >= IOAPIC_PINS:
        return
    bit = <u32>1 << pin
    if not level:
        ioapic.levels &= ~bit
    elif not ioapic.levels & bit:
        ioapic.levels |= bit
        if ioapic.entry[pin] & ENTRY_LEVEL:
            _sample(ioapic, pin)
        elif not ioapic.entry[pin] & ENTRY_MASKED:       # an edge at a masked pin is lost (82093AA, 3.2.4, bit 16)
            _send(ioapic, pin)


cdef void _end_of_interrupt(void* owner, int vector) noexcept nogil:
    """An EOI on the bus, or in the EOI register: every level-triggered pin of that vector may send again."""
    cdef IoapicState* ioapic = <IoapicState*>owner
    cdef int pin
    for pin in range(IOAPIC_PINS):
        if ioapic.entry[pin] & ENTRY_REMOTE_IRR and <int>(ioapic.entry[pin] & 0xFF) == vector:
            ioapic.entry[pin] &= ~<u64>ENTRY_REMOTE_IRR
            _sample(ioapic, pin)


cdef u32 _read_register(IoapicState* ioapic) noexcept nogil:
    cdef int place = ioapic.index - TABLE
    if ioapic.index == ID or ioapic.index == ARBITRATION:
        return ioapic.id << 24
    if ioapic.index == VERSION:
        return VERSION_VALUE
    if 0 <= place < 2 * IOAPIC_PINS:
        return <u32>(ioapic.entry[place >> 1] >> (32 * (place & 1)))
    return 0


cdef void _write_register(IoapicState* ioapic, u32 value) noexcept nogil:
    cdef int place = ioapic.index - TABLE
    cdef u64* entry
    if ioapic.index == ID:
        ioapic.id = (value >> 24) & 15
    elif 0 <= place < 2 * IOAPIC_PINS:
        entry = &ioapic.entry[place >> 1]
        if place & 1:
            entry[0] = (entry[0] & <u64>0xFFFFFFFF) | <u64>(value & <u32>ENTRY_WRITABLE_HIGH) << 32
        else:
            entry[0] = (entry[0] & ~<u64>ENTRY_WRITABLE_LOW) | (value & ENTRY_WRITABLE_LOW)
            if not value & ENTRY_LEVEL:
                entry[0] &= ~<u64>ENTRY_REMOTE_IRR       # an edge-triggered pin has none
            _sample(ioapic, place >> 1)


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    cdef IoapicState* ioapic = <IoapicState*>owner
    if offset == IOREGSEL:
        return ioapic.index
    if offset == IOWIN:
        return _read_register(ioapic)
    return 0


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef IoapicState* ioapic = <IoapicState*>owner
    if offset == IOREGSEL:
        ioapic.index = value & 0xFF
    elif offset == IOWIN and size >= 4:
        _write_register(ioapic, <u32>value)
    elif offset == EOI:
        _end_of_interrupt(owner, value & 0xFF)


@cython.final
cdef class Ioapic:
    """One I/O APIC on the bus of the local APICs.

    Region: `region` (4 KiB: IOREGSEL, IOWIN, EOI). Wires: `input(pin)`, pin 0..23.
    """

    def __cinit__(self, ApicBus bus not None):
        cdef void* owner = <void*>&self.state
        self._bus = bus
        self.state.bus = &bus.state
        self.region = region("ioapic", 0x1000, _read, _write, owner, self)
        fields = declare_state("ioapic", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        fields.add("index", "u8", &self.state.index)
        fields.add("id", "u32", &self.state.id)
        fields.add("levels", "u32", &self.state.levels)
        fields.add("entry", "u64", &self.state.entry, IOAPIC_PINS)
        self.fields = fields
        bus.attach_ioapic(_end_of_interrupt, owner, self)
        self.reset()

    def reset(self):
        """As after power-on: every pin is masked; the levels of the pins stay what they are."""
        cdef int pin
        self.state.index = 0
        self.state.id = 0
        for pin in range(IOAPIC_PINS):
            self.state.entry[pin] = ENTRY_MASKED

    def input(self, int pin):
        """The wire of pin 0..23."""
        if not 0 <= pin < IOAPIC_PINS:
            raise ValueError(f"no pin {pin}")
        return line_input(ioapic_set_input, <void*>&self.state, pin, self)

    def _validate(self):
        cdef int pin
        if self.state.id > 15 or self.state.levels >> IOAPIC_PINS:
            raise SnapshotError("ioapic", f"id {self.state.id}, levels {self.state.levels:#x}", "at most 15, and 24 pins")
        for pin in range(IOAPIC_PINS):
            if (self.state.entry[pin] & 0xFFFFFFFF) & ~<u64>(ENTRY_WRITABLE_LOW | ENTRY_REMOTE_IRR) or (
                    self.state.entry[pin] >> 32) & ~<u64>(<u32>ENTRY_WRITABLE_HIGH):
                raise SnapshotError("ioapic.entry", f"{self.state.entry[pin]:#x}", "no reserved bits")
