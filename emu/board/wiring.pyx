# Where the CPU's port meets the interrupt controllers, and where devices' lines become requests to the machine.
from emu.base.clock cimport Clock, NEVER, Timer, timer_arm, timer_cancel
from emu.base.line cimport line_input
from emu.base.state cimport declare_state
from emu.base.types cimport u32, u64
from emu.cpu.core cimport Core, Processors
from emu.devices.apic_bus cimport ApicBus, apic_message_signal
from emu.devices.lapic cimport Lapic
from emu.devices.pci.bus cimport PciBus
from emu.devices.pic cimport Pic, pic_acknowledge


def connect_apic(Core core not None, Lapic lapic not None):
    """The CPU gets its interrupts from its local APIC."""
    lapic.fill_port(&core.c.port)
    lapic.intr.connect(core.intr)
    lapic.nmi.connect(core.nmi)
    lapic.init.connect(core.init)
    lapic.startup.connect(core.startup)
    core.keep(lapic)


def connect_running(Processors processors not None, ApicBus apics not None):
    """The bus of the local APICs knows which CPU reaches it."""
    processors.crew.running = &apics.state.current
    processors.keep(apics)


def connect_pic(Core core not None, Pic pic not None):
    """A CPU without a local APIC gets its interrupts from the 8259As."""
    core.c.port.interrupt_owner = <void*>&pic.state
    core.c.port.acknowledge = pic_acknowledge
    pic.output.connect(core.intr)
    core.keep(pic)


def connect_msi(PciBus bus not None, ApicBus apics not None):
    """Message-signalled interrupts go to the local APICs."""
    bus.connect_msi(apic_message_signal, &apics.state, apics)


cdef struct LatchState:
    u32 bits
    u32 spare
    int* stop_request            # of the CPUs


cdef void _set(void* owner, int number, int level) noexcept nogil:
    cdef LatchState* state = <LatchState*>owner
    if level:
        state.bits |= <u32>1 << number
        state.stop_request[0] = 1


cdef class Latch:
    """Requests of devices to the machine (power off, reset, ...): each stops the CPUs and waits to be taken."""
    cdef LatchState state
    cdef list names
    cdef Processors processors
    cdef readonly object fields

    def __init__(self, Processors processors not None):
        self.processors = processors
        self.state.stop_request = &processors.crew.stop_request
        self.names = []
        fields = declare_state("requests", self)
        fields.add("bits", "u32", &self.state.bits)
        fields.cover(&self.state, sizeof(LatchState))
        fields.derived("wiring", &self.state.spare, sizeof(LatchState) - sizeof(u32))
        self.fields = fields

    def input(self, str name):
        """A line that asks for `name`."""
        if name not in self.names:
            self.names.append(name)
        return line_input(_set, &self.state, self.names.index(name), self)

    def take(self):
        """The names asked for since the last call; lets the CPUs run again."""
        bits = self.state.bits
        self.state.bits = 0
        self.state.stop_request[0] = 0
        return [name for number, name in enumerate(self.names) if bits >> number & 1]


cdef struct AlarmState:
    Timer timer
    LatchState* latch
    int number


cdef void _ring(void* owner, u64 now_ns) noexcept nogil:
    cdef AlarmState* state = <AlarmState*>owner
    _set(state.latch, state.number, 1)


cdef class Alarm:
    """Stops the CPU at an instant of virtual time, by a request to the machine that `latch.take()` names "alarm".

    It is no part of the machine's state: whoever runs the machine sets it for a run."""
    cdef AlarmState state
    cdef Clock clock
    cdef Latch latch

    def __init__(self, Clock clock not None, Latch latch not None):
        latch.input("alarm")
        self.clock, self.latch = clock, latch
        self.state.latch = &latch.state
        self.state.number = latch.names.index("alarm")
        clock.attach(&self.state.timer, _ring, &self.state, self)

    def set(self, at_ns):
        """Rings at virtual time `at_ns` (ns since power-on, not before now); None: not at all."""
        if at_ns is None:
            timer_cancel(&self.clock.state, &self.state.timer)
        else:
            timer_arm(&self.clock.state, &self.state.timer, at_ns)

    @property
    def is_set(self):
        """Whether it is still to ring."""
        return self.state.timer.deadline_ns != NEVER
