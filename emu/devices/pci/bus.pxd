# PCI bus 0: functions with their configuration space and BARs, the host bridge, interrupt wires, messages.
from emu.base.line cimport Line, LineOutput
from emu.base.types cimport u8, u16, u32, u64
from emu.memory.ports cimport Ports, PortSpace
from emu.memory.space cimport PhysicalMemory, Region, Space, read_fn, write_fn

cdef enum:
    PCI_FUNCTIONS = 64               # at most, on this bus
    PCI_BARS = 6
    PCI_NETS = 8                     # emu.base.pci_routing.INTX_NETS
    # Configuration space (PCI Local Bus 3.0, 6.1)
    PCI_VENDOR = 0x00
    PCI_DEVICE = 0x02
    PCI_COMMAND = 0x04
    PCI_STATUS = 0x06
    PCI_REVISION = 0x08
    PCI_CLASS = 0x09
    PCI_HEADER_TYPE = 0x0E
    PCI_BAR0 = 0x10
    PCI_SUBSYSTEM_VENDOR = 0x2C
    PCI_SUBSYSTEM = 0x2E
    PCI_CAPABILITIES = 0x34
    PCI_INTERRUPT_LINE = 0x3C
    PCI_INTERRUPT_PIN = 0x3D
    COMMAND_PORTS = 0x001
    COMMAND_MEMORY = 0x002
    COMMAND_MASTER = 0x004
    COMMAND_NO_INTX = 0x400
    STATUS_INTX = 0x08
    STATUS_CAPABILITIES = 0x10

# A message-signalled interrupt: a 32-bit write of `data` to `address` that reaches the local APICs.
ctypedef void (*msi_fn)(void* owner, u64 address, u32 data) noexcept nogil
# Called before configuration space is read (to put a live value there), or after it was written.
ctypedef void (*config_fn)(void* owner, int offset, int size) noexcept nogil


cdef struct PciBar:
    u64 size                         # bytes or ports, a power of two; 0: no such BAR
    bint is_ports
    bint is_64bit                    # takes the next BAR's place too
    read_fn read
    write_fn write
    void* owner
    bint wanted                      # decoded, at `base`, as configuration space says
    bint mapped                      # and really there: nothing else was in the way
    u64 base


cdef struct PciFunction:
    u8 config[256]
    u8 writable[256]                 # the bits a guest can write
    u8 initial[256]                  # what reset brings back
    PciBar bar[PCI_BARS]
    int devfn                        # slot * 8 + function
    int next_capability              # where the next one will lie
    int last_link                    # offset of the pointer that will point to it
    u8 intx                          # whether the function asserts its interrupt pin
    PciBusState* bus
    config_fn before_read            # NULL: nothing to do
    config_fn after_write
    void* owner


cdef struct PciBusState:
    Space* space
    PortSpace* ports
    int count
    PciFunction* function[PCI_FUNCTIONS]
    u8 index[256]                    # by devfn: 0 nobody, else 1 + place in function[]
    u32 address                      # CONFIG_ADDRESS
    u8 reset_control                 # port 0xCF9
    Line reset
    Line intx[PCI_NETS]
    Line isa[16]                     # where the ISA bridge's PIRQ registers route the wires
    PciFunction* isa_bridge
    msi_fn msi                       # NULL: nobody listens
    void* msi_owner
    u64 messages                     # how many were sent, and the last one
    u64 message_address
    u32 message_data


cdef class PciBus:
    cdef PciBusState state
    cdef PhysicalMemory _memory
    cdef Ports _ports
    cdef object _msi_keep
    cdef list _devices
    cdef readonly object fields
    cdef readonly Region region
    cdef tuple _intx
    cdef tuple _isa_irq
    cdef readonly LineOutput reset_request
    cdef int connect_msi(self, msi_fn send, void* owner, object keep) except -1


cdef class PciDevice:
    """Base of PCI functions: subclasses fill `function` (identity, BARs, capabilities) and then call `plug`."""
    cdef PciFunction function
    cdef readonly PciBus bus
    cdef readonly object fields
    cdef int begin(self, str name, PciBus bus, int slot, int number, u16 vendor, u16 device, u32 class_code, u8 revision) except -1
    cdef int plug(self) except -1


# Building a function, before it is plugged
cdef int add_bar(PciFunction* function, int number, u64 size, bint is_ports, bint is_64bit, bint prefetchable,
                 read_fn read, write_fn write, void* owner) except -1
cdef int add_capability(PciFunction* function, u8 identity, int length) except -1       # returns its offset
cdef void set_config(PciFunction* function, int offset, int size, u32 value) noexcept nogil      # whatever the guest may write

# While the machine runs
cdef u32 function_read(PciFunction* function, int offset, int size) noexcept nogil
cdef void function_write(PciFunction* function, int offset, int size, u32 value) noexcept nogil
cdef void set_intx(PciFunction* function, bint level) noexcept nogil
cdef void send_message(PciFunction* function, u64 address, u32 data) noexcept nogil


cdef inline u32 get_config(PciFunction* function, int offset, int size) noexcept nogil:
    cdef u32 value = 0
    cdef int k
    for k in range(size):
        value |= <u32>function.config[offset + k] << (8 * k)
    return value
