# Where interrupt wires meet: each goes to the 8259As, the I/O APIC or both; wires that share a number are ORed.
# Source: MP specification 1.4, 3.6.2 (symmetric I/O mode); ACPI 6.4, 5.2.12.5 (IRQ 0 at pin 2).
import cython

from emu.base.errors import SnapshotError
from emu.base.line cimport LineInput, LineOutput, drive, line_input, line_output
from emu.base.state cimport declare_state
from emu.base.types cimport u32
from emu.devices.ioapic cimport Ioapic
from emu.devices.pic cimport Pic

cdef enum:
    CASCADE = 2


cdef void _set(void* owner, int number, int level) noexcept nogil:
    """`number` is 32 times the interrupt, plus the source; interrupts 0..15 are ISA's, the rest PCI's."""
    cdef RouterState* router = <RouterState*>owner
    cdef int gsi = number // ROUTER_SOURCES
    cdef u32 bit = <u32>1 << (number % ROUTER_SOURCES)
    cdef int any_level
    if level:
        router.asserted[gsi] |= bit
    else:
        router.asserted[gsi] &= ~bit
    any_level = router.asserted[gsi] != 0
    if gsi < 16:
        drive(&router.pic[gsi], any_level)
    # The 8254 is IRQ 0 of the 8259As and pin 2 of the I/O APIC, where the cascade of the former leaves a place.
    drive(&router.ioapic[CASCADE if gsi == 0 else gsi], any_level)


@cython.final
cdef class IrqRouter:
    """Gives out wires `isa(irq)` and `pci(gsi)`, and fans them out to `pic` and `ioapic` (None where there is no such chip)."""

    def __cinit__(self, Pic pic=None, Ioapic ioapic=None):
        cdef int k
        cdef LineOutput output
        self._outputs = []
        fields = declare_state("irq_router", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        fields.add("asserted", "u32", &self.state.asserted, ROUTER_GSIS)
        for k in range(16):
            fields.add(f"pic{k}", "i32", &self.state.pic[k].level)
            if pic is not None and k != CASCADE:
                output = line_output(&self.state.pic[k], self)
                output.connect(pic.input(k))
                self._outputs.append(output)
        for k in range(ROUTER_GSIS):
            fields.add(f"ioapic{k}", "i32", &self.state.ioapic[k].level)
            if ioapic is not None:
                output = line_output(&self.state.ioapic[k], self)
                output.connect(ioapic.input(k))
                self._outputs.append(output)
        self.fields = fields

    cdef LineInput _new(self, int gsi):
        cdef int source = self.state.sources[gsi]
        if source == ROUTER_SOURCES:
            raise ValueError(f"interrupt {gsi} has {ROUTER_SOURCES} wires already")
        self.state.sources[gsi] += 1
        return line_input(_set, <void*>&self.state, gsi * ROUTER_SOURCES + source, self)

    def isa(self, int irq):
        """A new wire to IRQ 0..15, ORed with those given out before; ValueError for 2 (the cascade)."""
        if not 0 <= irq <= 15 or irq == CASCADE:
            raise ValueError(f"no IRQ {irq} comes to the interrupt controllers")
        return self._new(irq)

    def pci(self, int gsi):
        """A new wire to the I/O APIC's pin 16..23, ORed with those given out before."""
        if not 16 <= gsi < ROUTER_GSIS:
            raise ValueError(f"{gsi} is not in 16..23")
        return self._new(gsi)

    def reset(self):
        """Nothing: wires have no memory, they follow their sources."""

    def _validate(self):
        cdef int k
        for k in range(ROUTER_GSIS):
            if self.state.sources[k] < ROUTER_SOURCES and self.state.asserted[k] >> self.state.sources[k]:
                raise SnapshotError("irq_router.asserted", f"{self.state.asserted[k]:#x} at {k}", f"{self.state.sources[k]} wires")
            if self.state.ioapic[k].level not in (0, 1) or (k < 16 and self.state.pic[k].level not in (0, 1)):
                raise SnapshotError("irq_router", f"the level of wire {k}", "0 or 1")
