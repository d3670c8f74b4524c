# PCI bus 0: configuration mechanism 1, BARs that move as the guest programs them, interrupt wires, messages, and the
# two bridges that every PC of this kind has.
#
# Sources: PCI Local Bus Specification 3.0 (sections in comments); Intel 82441FX (440FX) datasheet for the host bridge;
# Intel 82371SB (PIIX3) datasheet for the ISA bridge, its PIRQ routing and the reset control register.
# DEVIATES: eight interrupt wires instead of PIIX3's four, see emu.base.pci_routing; wires n and n + 4 share PIRQ n % 4.
import cython

from libc.string cimport memcpy

from emu.base.errors import SnapshotError
from emu.base.line cimport drive, line_output, pulse
from emu.base.pci_routing import INTX_NETS
from emu.base.state cimport declare_state
from emu.base.types cimport u8, u16, u32, u64
from emu.memory.ports cimport Ports, port_map, port_unmap
from emu.memory.space cimport PhysicalMemory, read_fn, region, space_map, space_unmap, write_fn

cdef enum:
    ADDRESS_ENABLE = 0x80000000
    ADDRESS_KEPT = 0x80FFFFFC
    RESET_CPU = 0x04                 # reset control: a rising edge resets
    RESET_KEPT = 0x06
    COMMAND_WRITABLE = 0x0547        # ports, memory, master, parity, SERR, INTx off
    BAR_PORTS = 0x01
    BAR_64BIT = 0x04
    BAR_PREFETCHABLE = 0x08
    PIRQ_ROUTE = 0x60                # PIIX3: four registers, bit 7 = not routed, bits 3:0 = IRQ
    PIRQ_OFF = 0x80
    PIRQ_ALLOWED = 0xDEF8            # IRQs 3-7, 9-12, 14, 15


# ---- building a function

cdef void set_config(PciFunction* function, int offset, int size, u32 value) noexcept nogil:
    cdef int k
    for k in range(size):
        function.config[offset + k] = <u8>(value >> (8 * k))


cdef void _set_writable(PciFunction* function, int offset, int size, u32 mask) noexcept nogil:
    cdef int k
    for k in range(size):
        function.writable[offset + k] = <u8>(mask >> (8 * k))


cdef int add_bar(PciFunction* function, int number, u64 size, bint is_ports, bint is_64bit, bint prefetchable,
                 read_fn read, write_fn write, void* owner) except -1:
    """Declares BAR `number` of `size` bytes or ports (a power of two), served by `read` and `write`."""
    cdef PciBar* bar = &function.bar[number]
    cdef u64 mask
    if number + is_64bit >= PCI_BARS or size & (size - 1) or size < <u64>(4 if is_ports else 16):
        raise ValueError(f"BAR {number} of {size} bytes cannot be")
    mask = ~(size - 1)
    bar.size = size
    bar.is_ports = is_ports
    bar.is_64bit = is_64bit
    bar.read = read
    bar.write = write
    bar.owner = owner
    set_config(function, PCI_BAR0 + 4 * number, 4,
               BAR_PORTS if is_ports else (BAR_64BIT if is_64bit else 0) | (BAR_PREFETCHABLE if prefetchable else 0))
    _set_writable(function, PCI_BAR0 + 4 * number, 4, <u32>mask)
    if is_64bit:
        _set_writable(function, PCI_BAR0 + 4 * number + 4, 4, <u32>(mask >> 32))
    return 0


cdef int add_capability(PciFunction* function, u8 identity, int length) except -1:
    """Appends a capability of `length` bytes (its two header bytes included) and returns its offset."""
    cdef int offset = function.next_capability
    if offset + length > 256:
        raise ValueError("configuration space has no room for another capability")
    function.config[function.last_link] = <u8>offset
    function.config[offset] = identity
    function.config[offset + 1] = 0
    function.config[PCI_STATUS] |= STATUS_CAPABILITIES
    function.last_link = offset + 1
    function.next_capability = (offset + length + 3) & ~3
    return offset


# ---- BARs

cdef void _find_bar(PciFunction* function, int number, bint* wanted, u64* base) noexcept nogil:
    """Where configuration space puts a BAR, and whether it is decoded there (6.2.5.1)."""
    cdef PciBar* bar = &function.bar[number]
    cdef u32 low = get_config(function, PCI_BAR0 + 4 * number, 4)
    cdef u8 command = function.config[PCI_COMMAND]
    if bar.is_ports:
        base[0] = low & <u32>0xFFFFFFFC
        wanted[0] = (command & COMMAND_PORTS) != 0
    else:
        base[0] = low & <u32>0xFFFFFFF0
        if bar.is_64bit:
            base[0] |= <u64>get_config(function, PCI_BAR0 + 4 * number + 4, 4) << 32
        wanted[0] = (command & COMMAND_MEMORY) != 0
    wanted[0] = wanted[0] and bar.size != 0 and base[0] != 0


cdef void _remap(PciBusState* bus) noexcept nogil:
    """Maps what configuration space asks for: all anew in the order of the functions, so that the outcome where BARs lie
    over each other (or over memory) depends on nothing but the present registers."""
    cdef PciFunction* function
    cdef PciBar* bar
    cdef bint wanted, changed = False
    cdef u64 base
    cdef int k, number
    for k in range(bus.count):
        for number in range(PCI_BARS):
            bar = &bus.function[k].bar[number]
            _find_bar(bus.function[k], number, &wanted, &base)
            if wanted != bar.wanted or (wanted and base != bar.base):
                changed = True
    if not changed:
        return
    for k in range(bus.count):
        for number in range(PCI_BARS):
            bar = &bus.function[k].bar[number]
            if bar.mapped:
                if bar.is_ports:
                    port_unmap(bus.ports, bar.base, bar.owner)
                else:
                    space_unmap(bus.space, bar.base, bar.owner)
                bar.mapped = False
    for k in range(bus.count):
        function = bus.function[k]
        for number in range(PCI_BARS):
            bar = &function.bar[number]
            _find_bar(function, number, &bar.wanted, &bar.base)
            if not bar.wanted:
                continue
            if bar.is_ports:
                bar.mapped = port_map(bus.ports, bar.base, bar.size, bar.read, bar.write, bar.owner) == 0
            else:
                bar.mapped = space_map(bus.space, bar.base, bar.size, bar.read, bar.write, bar.owner) == 0


cdef void _function_restored(void* owner) noexcept nogil:
    _remap((<PciFunction*>owner).bus)


# ---- interrupts

cdef void _update_wires(PciBusState* bus) noexcept nogil:
    cdef u32 nets = 0
    cdef u32 irqs = 0
    cdef PciFunction* function
    cdef u8 route
    cdef int k, pin
    for k in range(bus.count):
        function = bus.function[k]
        pin = function.config[PCI_INTERRUPT_PIN]
        if function.intx and pin and not get_config(function, PCI_COMMAND, 2) & COMMAND_NO_INTX:
            nets |= <u32>1 << (((function.devfn >> 3) + pin - 1) % PCI_NETS)
    if bus.isa_bridge != NULL:
        for k in range(PCI_NETS):
            route = bus.isa_bridge.config[PIRQ_ROUTE + k % 4]
            if nets >> k & 1 and not route & PIRQ_OFF:
                irqs |= <u32>1 << (route & 0x0F)
    irqs &= PIRQ_ALLOWED
    for k in range(PCI_NETS):
        drive(&bus.intx[k], nets >> k & 1)
    for k in range(16):
        drive(&bus.isa[k], irqs >> k & 1)


cdef void set_intx(PciFunction* function, bint level) noexcept nogil:
    """Asserts or releases the function's interrupt pin; the command register may hold it back."""
    if function.intx != level:
        function.intx = level
        function.config[PCI_STATUS] = (function.config[PCI_STATUS] & (0xFF ^ STATUS_INTX)) | (STATUS_INTX if level else 0)
        _update_wires(function.bus)


cdef void send_message(PciFunction* function, u64 address, u32 data) noexcept nogil:
    """Sends a message-signalled interrupt, which is a write by the function: lost where it may not master the bus (6.8.3)."""
    cdef PciBusState* bus = function.bus
    if not function.config[PCI_COMMAND] & COMMAND_MASTER:
        return
    bus.messages += 1
    bus.message_address = address
    bus.message_data = data
    if bus.msi != NULL:
        bus.msi(bus.msi_owner, address, data)


# ---- configuration space

cdef u32 function_read(PciFunction* function, int offset, int size) noexcept nogil:
    """A guest's read of `size` bytes of configuration space; offset + size is at most 256."""
    if function.before_read != NULL:
        function.before_read(function.owner, offset, size)
    return get_config(function, offset, size)


cdef void function_write(PciFunction* function, int offset, int size, u32 value) noexcept nogil:
    """A guest's write of `size` bytes of configuration space; offset + size is at most 256."""
    cdef int k
    cdef u8 mask
    for k in range(size):
        mask = function.writable[offset + k]
        function.config[offset + k] = (function.config[offset + k] & ~mask) | (<u8>(value >> (8 * k)) & mask)
    if offset < PCI_BAR0 + 4 * PCI_BARS and offset + size > PCI_COMMAND:
        _remap(function.bus)
    _update_wires(function.bus)
    if function.after_write != NULL:
        function.after_write(function.owner, offset, size)


cdef PciFunction* _addressed(PciBusState* bus) noexcept nogil:
    if not bus.address & <u32>ADDRESS_ENABLE or (bus.address >> 16) & 0xFF or not bus.index[(bus.address >> 8) & 0xFF]:
        return NULL
    return bus.function[bus.index[(bus.address >> 8) & 0xFF] - 1]


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    """Ports 0xCF8..0xCFF (3.2.2.3.2): CONFIG_ADDRESS answers 32-bit accesses only, CONFIG_DATA all that stay within it."""
    cdef PciBusState* bus = <PciBusState*>owner
    cdef PciFunction* function
    if offset == 0 and size == 4:
        return bus.address
    if offset == 1 and size == 1:
        return bus.reset_control
    if offset >= 4 and offset + <u64>size <= 8:
        function = _addressed(bus)
        if function != NULL:
            return function_read(function, <int>(bus.address & 0xFC) + <int>(offset - 4), size)
    return <u64>0xFFFFFFFFFFFFFFFF


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef PciBusState* bus = <PciBusState*>owner
    cdef PciFunction* function
    cdef bint was_set
    if offset == 0 and size == 4:
        bus.address = <u32>value & <u32>ADDRESS_KEPT
    elif offset == 1 and size == 1:
        was_set = bus.reset_control & RESET_CPU
        bus.reset_control = <u8>value & RESET_KEPT
        if value & RESET_CPU and not was_set:
            pulse(&bus.reset)
    elif offset >= 4 and offset + <u64>size <= 8:
        function = _addressed(bus)
        if function != NULL:
            function_write(function, <int>(bus.address & 0xFC) + <int>(offset - 4), size, <u32>value)


@cython.final
cdef class PciBus:
    """PCI bus 0 with nothing on it; devices put themselves there.

    memory and ports: where BARs appear. The board maps `region` (8 ports) at 0xCF8 and connects `intx(n)` for n in 0..7
    (I/O APIC input 16 + n, active-high level inside this program), `isa_irq(n)` for the IRQs that PIRQ registers may name,
    `reset_request` (a pulse) and, in C, `connect_msi`.
    """

    def __init__(self, PhysicalMemory memory not None, Ports ports not None):
        cdef PciBusState* bus = &self.state
        assert INTX_NETS == PCI_NETS
        self._memory = memory
        self._ports = ports
        self._devices = []
        bus.space = &memory.space
        bus.ports = &ports.space
        self._intx = tuple([line_output(&bus.intx[k], self) for k in range(PCI_NETS)])
        self._isa_irq = tuple([line_output(&bus.isa[k], self) for k in range(16)])
        self.reset_request = line_output(&bus.reset, self)
        self.region = region("pci configuration", 8, _read, _write, bus, self)
        fields = declare_state("pci", self)
        fields.cover(&self.state, sizeof(self.state))
        fields.add("address", "u32", &bus.address)
        fields.add("reset_control", "u8", &bus.reset_control)
        for k in range(PCI_NETS):
            fields.add(f"intx{k}_level", "i32", &bus.intx[k].level)
        for k in range(16):
            fields.add(f"isa{k}_level", "i32", &bus.isa[k].level)
        fields.add("messages", "u64", &bus.messages)
        fields.add("message_address", "u64", &bus.message_address)
        fields.add("message_data", "u32", &bus.message_data)
        self.fields = fields

    cdef int connect_msi(self, msi_fn send, void* owner, object keep) except -1:
        """Makes `send` the receiver of messages."""
        self.state.msi = send
        self.state.msi_owner = owner
        self._msi_keep = keep
        return 0

    @property
    def devices(self):
        """The devices on the bus, in the order in which they were plugged."""
        return tuple(self._devices)

    def reset(self):
        """Resets the bus; each device has a `reset` of its own."""
        self.state.address = 0
        self.state.reset_control = 0

    def intx(self, int net):
        """Interrupt wire `net` (0..7): the output for I/O APIC input 16 + net."""
        return self._intx[net]

    def isa_irq(self, int irq):
        """ISA interrupt `irq` (0..15): the output as the ISA bridge's PIRQ registers route the wires to it."""
        return self._isa_irq[irq]

    @property
    def last_message(self):
        """How many message-signalled interrupts were sent, and the address and data of the last one."""
        return self.state.messages, self.state.message_address, self.state.message_data

    def assign_resources(self, u64 memory_base, u64 memory_end, u64 port_base, u64 port_end, irqs=(10, 11, 10, 11)):
        """Places every BAR and routes interrupts, as firmware does before it starts a kernel.

        memory_base..memory_end and port_base..port_end are the ranges to use; irqs are those of PIRQ A to D. Largest BARs
        come first, each at a multiple of its size. Raises ValueError where they do not fit.
        """
        cdef PciDevice device
        cdef PciFunction* function
        next_base = {False: memory_base, True: port_base}
        end = {False: memory_end, True: port_end}
        bars = []
        for order, entry in enumerate(self._devices):
            device = entry
            for number in range(PCI_BARS):
                if device.function.bar[number].size:
                    bars.append((-device.function.bar[number].size, order, number, device))
        for _, _, number, entry in sorted(bars, key=lambda bar: bar[:3]):
            device = entry
            function = &device.function
            ports = bool(function.bar[number].is_ports)
            size = function.bar[number].size
            base = (next_base[ports] + size - 1) // size * size
            if base + size > end[ports]:
                raise ValueError(f"the PCI devices need more than the {'ports' if ports else 'addresses'} up to {end[ports]:#x}")
            next_base[ports] = base + size
            function_write(function, PCI_BAR0 + 4 * number, 4, <u32>(base & 0xFFFFFFFF))
            if function.bar[number].is_64bit:
                function_write(function, PCI_BAR0 + 4 * number + 4, 4, <u32>(base >> 32))
        for entry in self._devices:
            device = entry
            function = &device.function
            if function.config[PCI_INTERRUPT_PIN]:
                net = ((function.devfn >> 3) + function.config[PCI_INTERRUPT_PIN] - 1) % PCI_NETS
                function_write(function, PCI_INTERRUPT_LINE, 1, irqs[net % 4])
            function_write(function, PCI_COMMAND, 2,
                           get_config(function, PCI_COMMAND, 2) | COMMAND_PORTS | COMMAND_MEMORY | COMMAND_MASTER)
        if self.state.isa_bridge != NULL:
            for k in range(4):
                function_write(self.state.isa_bridge, PIRQ_ROUTE + k, 1, irqs[k])

    def read(self, u64 offset, int size=4):
        """What a read of `size` bytes at port 0xCF8 + `offset` gives."""
        return _read(&self.state, offset, size) & (<u64>0xFFFFFFFFFFFFFFFF >> (64 - 8 * size))

    def write(self, u64 offset, int size, u64 value):
        """A write of `size` bytes at port 0xCF8 + `offset`."""
        _write(&self.state, offset, size, value)


cdef class PciDevice:
    """One PCI function. `read(offset, size)` and `write(offset, size, value)` reach its configuration space."""

    cdef int begin(self, str name, PciBus bus, int slot, int number, u16 vendor, u16 device, u32 class_code, u8 revision) except -1:
        """Gives the function its identity: class_code is base class, subclass and interface in 24 bits."""
        cdef PciFunction* function = &self.function
        if not 0 <= slot < 32 or not 0 <= number < 8:
            raise ValueError(f"{name}: there is no slot {slot}, function {number}")
        self.bus = bus
        function.bus = &bus.state
        function.devfn = slot * 8 + number
        function.owner = function
        function.next_capability = 0x40
        function.last_link = PCI_CAPABILITIES
        set_config(function, PCI_VENDOR, 2, vendor)
        set_config(function, PCI_DEVICE, 2, device)
        set_config(function, PCI_REVISION, 4, (class_code << 8) | revision)
        _set_writable(function, PCI_COMMAND, 2, COMMAND_WRITABLE)
        _set_writable(function, PCI_INTERRUPT_LINE, 1, 0xFF)
        _set_writable(function, 0x0C, 1, 0xFF)           # cache line size
        fields = declare_state(f"{name}@{slot:02x}.{number}", self, self._restored)
        fields.cover(function, sizeof(PciFunction))
        fields.when_restored(_function_restored, function)
        fields.add("config", "bytes", &function.config[0], 256)
        fields.add("intx", "u8", &function.intx)
        self.fields = fields
        return 0

    cdef int plug(self) except -1:
        """Puts the function, now complete, on its bus."""
        cdef PciBusState* bus = &self.bus.state
        cdef int devfn = self.function.devfn
        if bus.index[devfn] or bus.count == PCI_FUNCTIONS:
            raise ValueError(f"{self.fields.component}: the slot is taken, or the bus is full")
        memcpy(&self.function.initial[0], &self.function.config[0], 256)
        bus.function[bus.count] = &self.function
        bus.count += 1
        bus.index[devfn] = bus.count
        self.bus._devices.append(self)
        return 0

    def _restored(self):
        """Restored registers are checked like guest input: bits that no guest can write are as they were built."""
        cdef int k
        cdef PciFunction* function = &self.function
        for k in range(256):
            if k != PCI_STATUS and (function.config[k] ^ function.initial[k]) & ~function.writable[k] & 0xFF:
                raise SnapshotError(f"{self.fields.component}.config", f"{function.config[k]:#x} at {k:#x}",
                                    "what this device has there")
        if function.intx > 1:
            raise SnapshotError(f"{self.fields.component}.intx", str(function.intx), "0 or 1")
        _remap(function.bus)

    def reset(self):
        """Reset: registers as built, BARs not decoded, no interrupt."""
        cdef PciFunction* function = &self.function
        memcpy(&function.config[0], &function.initial[0], 256)
        function.intx = 0
        _remap(function.bus)
        _update_wires(function.bus)

    @property
    def slot(self):
        """Its device number (0..31)."""
        return self.function.devfn >> 3

    @property
    def bars(self):
        """Where its BARs are: {number: (base, size)} of those that are decoded and visible."""
        return {k: (self.function.bar[k].base, self.function.bar[k].size)
                for k in range(PCI_BARS) if self.function.bar[k].mapped}

    def read(self, int offset, int size=4):
        """Configuration space, as a guest reads it."""
        self._check(offset, size)
        return function_read(&self.function, offset, size)

    def write(self, int offset, int size, u32 value):
        """Configuration space, as a guest writes it."""
        self._check(offset, size)
        function_write(&self.function, offset, size, value)

    def _check(self, offset, size):
        if size not in (1, 2, 4) or not 0 <= offset <= 256 - size:
            raise ValueError(f"{size} bytes at {offset:#x} of configuration space")


@cython.final
cdef class HostBridge(PciDevice):
    """The host bridge (Intel 82441FX) in slot 0; its memory timing and shadow registers only keep what is written."""

    def __init__(self, PciBus bus not None):
        self.begin("host_bridge", bus, 0, 0, 0x8086, 0x1237, 0x060000, 2)
        _set_writable(&self.function, 0x50, 4, 0xFFFFFFFF)
        for offset in range(0x58, 0x70):                 # DRAM timing, PAM, DRAM row boundaries
            _set_writable(&self.function, offset, 1, 0xFF)
        _set_writable(&self.function, 0x72, 1, 0xFF)     # SMRAM
        self.plug()


@cython.final
cdef class IsaBridge(PciDevice):
    """The PCI to ISA bridge (Intel 82371SB, PIIX3): its PIRQ registers route interrupt wires to ISA interrupts."""

    def __init__(self, PciBus bus not None, int slot=1):
        self.begin("isa_bridge", bus, slot, 0, 0x8086, 0x7000, 0x060100, 0)
        set_config(&self.function, PCI_COMMAND, 2, COMMAND_PORTS | COMMAND_MEMORY | COMMAND_MASTER)
        for offset in range(4):
            set_config(&self.function, PIRQ_ROUTE + offset, 1, PIRQ_OFF)
            _set_writable(&self.function, PIRQ_ROUTE + offset, 1, 0x8F)
        _set_writable(&self.function, 0x4C, 4, 0x0000FFFF)       # recovery timer, X-bus chip select
        _set_writable(&self.function, 0x82, 1, 0x0F)             # deterministic latency control
        self.plug()
        bus.state.isa_bridge = &self.function
