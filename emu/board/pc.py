# The PC: addresses, interrupt numbers and wires; the only place that knows them.
from __future__ import annotations
from typing import NamedTuple

from emu.base.clock import Clock
from emu.base.errors import UsageError
from emu.base.pci_routing import FIRST_GSI, INTX_NETS
from emu.board.wiring import Alarm, Latch, connect_apic, connect_msi, connect_pic, connect_running
from emu.boot.acpi import AcpiBoard, PciWindows, build_tables
from emu.boot.e820 import RESERVED, E820Entry, build_e820
from emu.boot.mp import build_mp_tables
from emu.cpu.core import Core, Processors
from emu.cpu.models import CpuModel
from emu.devices.acpi_pm import AcpiPm
from emu.devices.apic_bus import ApicBus
from emu.devices.backend.char import CharBackend
from emu.devices.debug_exit import DebugExit
from emu.devices.debug_port import DebugPort
from emu.devices.fw_cfg import FwCfg, describe_machine
from emu.devices.hpet import Hpet
from emu.devices.ioapic import Ioapic
from emu.devices.irq_router import IrqRouter
from emu.devices.lapic import Lapic
from emu.devices.pci.bus import HostBridge, IsaBridge, PciBus
from emu.devices.pic import Pic
from emu.devices.pit import Pit
from emu.devices.ps2 import KeyboardController
from emu.devices.rtc import Rtc
from emu.devices.uart import Uart
from emu.devices.virtio.block import VirtioBlock
from emu.devices.virtio.console import VirtioConsole
from emu.devices.virtio.rng import VirtioRng
from emu.isa.features import BITS
from emu.memory.ports import Ports
from emu.memory.space import PhysicalMemory

IOAPIC = 0xFEC00000
LAPIC = 0xFEE00000
HPET = 0xFED00000
PM = 0x600
FW_CFG = 0x510
DEBUG_CONSOLES = (0xE9, 0x402)
ACPI_BASE = 0xE0000
ACPI_BYTES = 0x10000
MP_BASE = 0xF0000
MP_BYTES = 0x10000
PCI_MEMORY = (0xC0000000, 0xFEBFFFFF)
PCI_PORTS = (0xC000, 0xFFFF)
PCI_IRQS = (10, 11, 10, 11)
SOFT_OFF_TYPE = 0            # as in QEMU, so that kernels written for it power off
ISA_PORTS_END = 0x400        # what 10-bit ISA cards decode
ISA_WAIT_NS = 1000           # an 8-bit I/O cycle at 8.33 MHz with its wait states, rounded up
BALLOON_SLOT = 31           # above all that are counted from below
COM = ((0x3F8, 4), (0x2F8, 3))


class PcOptions(NamedTuple):
    """What a PC is made of. memory_bytes; model of its CPUs; start_seconds: the RTC's time at power-on (Unix); cpus: 1..255;
    tables: the ACPI tables and memory map of a PC that is wired alike, if there is one already; disks: a DiskBackend each, or
    (DiskBackend, Limits); network: (model, address, Limits) of each card."""

    memory_bytes: int
    model: CpuModel
    seed: int = 0
    start_seconds: int = 0
    debug_exit: tuple[int, int] | None = None
    disks: tuple = ()
    rom: tuple = ()              # firmware of one's own: (physical address, bytes) of each place where it is seen
    debug_consoles: tuple = ()   # ports of debug consoles besides the usual two
    cpus: int = 1
    tables: tuple = ()
    network: tuple = ()
    balloon: bool = False


class Pc:
    """One PC, wired; `cpus[0]` boots."""

    def __init__(self, options: PcOptions) -> None:
        self.options = options
        self.clock = clock = Clock()
        self.memory = memory = PhysicalMemory(options.memory_bytes)
        for base, data in options.rom:
            memory.add_rom(base, data, over_ram=True)
        self.ports = ports = Ports()
        ports.set_wait(ISA_PORTS_END, ISA_WAIT_NS)
        model = options.model
        self.processors = processors = Processors(memory, clock)
        self.cpus = [Core(memory, ports, clock, model.features, processors, model.physical_bits, model.number, options.seed)
                     for _ in range(options.cpus)]
        boot = self.cpus[0]
        self.requests = latch = Latch(processors)
        self.alarm = Alarm(clock, latch)
        # --- interrupt controllers
        self.pic = Pic()
        ports.map(0x20, self.pic.master)
        ports.map(0xA0, self.pic.slave)
        ports.map(0x4D0, self.pic.elcr)
        self.apic_bus = self.ioapic = None
        self.lapics: list[Lapic] = []
        if model.has_apic:
            self.apic_bus = ApicBus()
            connect_running(processors, self.apic_bus)
            for cpu in self.cpus:
                self.lapics.append(Lapic(clock, self.apic_bus, cpu.number))
                connect_apic(cpu, self.lapics[-1])
            self.lapics[0].connect_pic(self.pic)
            self.ioapic = Ioapic(self.apic_bus)
            memory.map(LAPIC, self.apic_bus.region)
            memory.map(IOAPIC, self.ioapic.region)
        else:
            connect_pic(boot, self.pic)
        self.router = router = IrqRouter(self.pic, self.ioapic)
        # --- timers
        self.pit = Pit(clock)
        ports.map(0x40, self.pit.counters)
        ports.map(0x61, self.pit.speaker)
        self.rtc = Rtc(clock, options.start_seconds)
        ports.map(0x70, self.rtc.region)
        self.hpet = None
        if self.ioapic is not None:
            self.hpet = Hpet(clock)
            self.pit.output.connect(self.hpet.pit)
            self.rtc.output.connect(self.hpet.rtc)
            self.hpet.irq0.connect(router.isa(0))
            self.hpet.irq8.connect(router.isa(8))
            for gsi, pin in self.hpet.pins.items():
                pin.connect(router.pci(gsi))
            memory.map(HPET, self.hpet.region)
        else:
            self.pit.output.connect(router.isa(0))
            self.rtc.output.connect(router.isa(8))
        self.pm = AcpiPm(clock, SOFT_OFF_TYPE)
        ports.map(PM, self.pm.region)
        self.pm.sci.connect(router.isa(9))
        self.pm.power_off.connect(latch.input("power off"))
        self.ps2 = KeyboardController(clock)
        ports.map(0x60, self.ps2.region_data)
        ports.map(0x64, self.ps2.region_command)
        ports.map(0x92, self.ps2.region_system)
        self.ps2.keyboard_irq.connect(router.isa(1))
        self.ps2.mouse_irq.connect(router.isa(12))
        self.ps2.a20.connect(processors.a20)
        self.ps2.reset_request.connect(latch.input("reset"))
        boot.ferr.connect(router.isa(13))
        # --- serial lines and debug ports
        self.serial = [CharBackend() for _ in COM]
        self.uarts = []
        for (port, irq), backend in zip(COM, self.serial):
            uart = Uart(clock, backend)
            ports.map(port, uart.region)
            uart.irq.connect(router.isa(irq))
            backend.full.connect(latch.input("output full"))
            self.uarts.append(uart)
        self.debug_consoles = {}
        for port in (*DEBUG_CONSOLES, *(port for port in options.debug_consoles if port not in DEBUG_CONSOLES)):
            backend = self.debug_consoles[port] = CharBackend()
            backend.full.connect(latch.input("output full"))
            self._map_chosen("isa-debugcon", port, DebugPort(backend))
        self.debug_exit = None
        if options.debug_exit is not None:
            base, size = options.debug_exit
            self.debug_exit = DebugExit(size)
            self._map_chosen("isa-debug-exit", base, self.debug_exit)
            self.debug_exit.request.connect(latch.input("debug exit"))
        self.fw_cfg = FwCfg(describe_machine(options.memory_bytes, len(self.cpus)))
        ports.map(FW_CFG, self.fw_cfg.region)
        self._plug()
        if options.tables:
            self.acpi, self.e820 = options.tables
        else:
            self._describe()

    def _map_chosen(self, name: str, port: int, device) -> None:
        """Maps a device at a port that the user has chosen; UsageError where it cannot be."""
        try:
            self.ports.map(port, device.region)
        except ValueError:
            raise UsageError(name, f"port {port:#x} is taken, or is none", "a free one up to 0xffff",
                             "choose another with iobase=") from None

    def _plug(self) -> None:
        """PCI: the bridges, then what is in the slots."""
        options, clock, memory = self.options, self.clock, self.memory
        self.pci = bus = PciBus(memory, self.ports)
        self.ports.map(0xCF8, bus.region)
        bus.reset_request.connect(self.requests.input("reset"))
        for net in range(INTX_NETS):
            if self.ioapic is not None:
                bus.intx(net).connect(self.router.pci(FIRST_GSI + net))
        for irq in sorted(set(PCI_IRQS)):
            bus.isa_irq(irq).connect(self.router.isa(irq))
        if self.apic_bus is not None:
            connect_msi(bus, self.apic_bus)
        self.console = CharBackend()
        self.console.full.connect(self.requests.input("output full"))
        self.cards = [HostBridge(bus), IsaBridge(bus), VirtioRng(bus, 2, memory, clock, options.seed),
                      VirtioConsole(bus, 3, memory, clock, self.console)]
        self.disks = []
        for slot, disk in enumerate(options.disks, 4):
            backend, limits = disk if isinstance(disk, tuple) else (disk, None)
            self.disks.append(VirtioBlock(bus, slot, memory, clock, backend, limits=limits))
        self.cards += self.disks
        self.balloon = None
        if options.balloon:
            from emu.devices.virtio.balloon import VirtioBalloon
            self.balloon = VirtioBalloon(bus, BALLOON_SLOT, memory, clock)
            self.cards.append(self.balloon)
        self.network = [self._network_card(number, *card) for number, card in enumerate(options.network)]

    def _network_card(self, number, model, mac, limits):
        """Plugs in network card `number`; gives its end of the cable. Only what is used is loaded, so that a start takes no longer."""
        from emu.devices.backend.net.port import NetPort
        if model == "e1000":
            from emu.devices.e1000 import E1000 as Card
        else:
            from emu.devices.virtio.net import VirtioNet as Card
        port = NetPort(self.clock, mac, limits, f"net{number}")
        port.sent.connect(self.requests.input("frames sent"))
        self.cards.append(Card(self.pci, 4 + len(self.disks) + number, self.memory, self.clock, port))
        return port

    def _describe(self) -> None:
        """The ACPI tables and the memory map that go with the wiring above."""
        board = AcpiBoard(
            cpus=len(self.cpus), lapic_address=LAPIC, ioapic_address=IOAPIC, ioapic_id=0, timer_gsi=2, sci=9,
            pm_event_port=PM, pm_control_port=PM + 4, pm_timer_port=PM + 8, pm_timer_32bit=False,
            s5_sleep_type=SOFT_OFF_TYPE, reset_port=0xCF9, reset_value=6,
            hpet_address=HPET if self.hpet is not None else None, hpet_id=self.hpet_id(),
            pci=PciWindows(PCI_MEMORY), pci_gsi_base=FIRST_GSI, pci_irqs=PCI_IRQS, com_ports=COM,
            has_apic=bool(self.lapics), has_ps2=True)
        self.acpi = build_tables(board, ACPI_BASE, ACPI_BYTES)
        self.mp = build_mp_tables(board, *self._identity(), MP_BASE, MP_BYTES) if board.has_apic else None
        low = [(base, size) for base, size in self.memory.ram_ranges if not 0xA0000 <= base < 0x100000]
        reserved = [E820Entry(0x9FC00, 0x400, RESERVED), E820Entry(0xE0000, 0x20000, RESERVED)]
        self.e820 = build_e820(low, [entry for entry in reserved if entry.base < self.options.memory_bytes])

    def _identity(self) -> tuple[int, int]:
        """EAX and EDX of CPUID leaf 1."""
        model = self.options.model
        return model.signature, sum(1 << bit for name, bit in BITS["1.edx"].items() if name in model.names)

    def hpet_id(self) -> int:
        return self.memory.read(HPET, 4) if self.hpet is not None else 0

    @property
    def devices(self):
        """Every part that has declared state."""
        parts = [self.clock, self.memory, self.requests, self.processors, *self.cpus, self.pic, self.apic_bus, *self.lapics, self.ioapic,
                 self.router, self.pit, self.rtc, self.hpet, self.pm, self.ps2, *self.serial, *self.uarts,
                 *self.debug_consoles.values(), self.debug_exit, self.fw_cfg, self.pci, *self.cards, self.console,
                 *self.network]
        return [part for part in parts if part is not None]

    def reset(self) -> None:
        """The reset line: every device and CPU as after power-on; memory stays, time goes on. Without a ROM that would do
        it, what firmware leaves in the devices is there at once."""
        for device in self.devices:
            if hasattr(device, "reset"):
                device.reset()
        if self.lapics:
            self.lapics[0].set_virtual_wire()    # with a ROM, too: one that knows no APIC shall get its interrupts
        if not self.options.rom:
            self.pci.assign_resources(*PCI_MEMORY, *PCI_PORTS, PCI_IRQS)
