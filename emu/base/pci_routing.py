# How PCI interrupt pins reach the I/O APIC: one formula, for the bus that drives the wires and the tables that tell of them.

INTX_NETS = 8                    # wires from PCI slots to the interrupt controllers
FIRST_GSI = 16                   # the first global system interrupt that PCI uses; those below are ISA's


def intx_net(slot: int, pin: int) -> int:
    """Returns the wire (0..7) of pin 0..3 (INTA..INTD) of device `slot` (0..31): neighbours get different ones."""
    return (slot + pin) % INTX_NETS


def intx_gsi(slot: int, pin: int) -> int:
    """Returns the global system interrupt of pin 0..3 (INTA..INTD) of device `slot` (0..31): 16 + (slot + pin) % 8."""
    return FIRST_GSI + intx_net(slot, pin)
