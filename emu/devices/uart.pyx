# The 16550A serial port: registers, FIFOs, interrupts, on virtual time.
#
# Source: National Semiconductor PC16550D datasheet, June 1995 (register numbers in comments are its section 8).
# DEVIATES, each for a reason:
# - A transmitted byte leaves at once: the holding register is empty again when the write returns. No driver can tell
#   a very fast line from it, and a guest that polls LSR does not burn virtual time.
# - A received byte takes its character time, but at most that of 115200 bit/s, so that a guest that never set a
#   divisor gets its input too; a byte that finds the receiver full waits instead of being lost (the host's end never
#   overruns; loopback does, as in hardware).
# - All eight bits of a byte pass, whatever word length LCR says, and OUT2 does not gate the interrupt: many kernels
#   program neither.
import cython

from emu.base.clock cimport Clock, timer_arm, timer_cancel, NEVER
from emu.base.errors import SnapshotError
from emu.base.line cimport drive, line_output
from emu.base.state cimport declare_state
from emu.base.types cimport u8, u64
from emu.devices.backend.char cimport CharBackend, char_available, char_get, char_put
from emu.devices.narrow cimport read_bytes, write_bytes
from emu.memory.space cimport region

cdef enum:
    # IER
    IER_RECEIVED = 0x01
    IER_TRANSMIT_EMPTY = 0x02
    IER_LINE_STATUS = 0x04
    IER_MODEM_STATUS = 0x08
    # IIR (interrupt identification), in falling priority
    IIR_LINE_STATUS = 0x06
    IIR_RECEIVED = 0x04
    IIR_TIMEOUT = 0x0C
    IIR_TRANSMIT_EMPTY = 0x02
    IIR_MODEM_STATUS = 0x00
    IIR_NONE = 0x01
    IIR_FIFOS = 0xC0
    # FCR
    FCR_ENABLE = 0x01
    FCR_CLEAR_RECEIVER = 0x02
    FCR_CLEAR_TRANSMITTER = 0x04
    FCR_KEPT = 0xC9
    # LCR
    LCR_WORD = 0x03
    LCR_STOP = 0x04
    LCR_PARITY = 0x08
    LCR_BREAK = 0x40
    LCR_DLAB = 0x80
    # MCR
    MCR_DTR = 0x01
    MCR_RTS = 0x02
    MCR_OUT1 = 0x04
    MCR_OUT2 = 0x08
    MCR_LOOP = 0x10
    MCR_KEPT = 0x1F
    # LSR
    LSR_DATA = 0x01
    LSR_OVERRUN = 0x02
    LSR_PARITY = 0x04
    LSR_FRAMING = 0x08
    LSR_BREAK = 0x10
    LSR_ERRORS = 0x1E
    LSR_HOLDING_EMPTY = 0x20
    LSR_EMPTY = 0x40
    LSR_FIFO_ERROR = 0x80
    # MSR
    MSR_DCTS = 0x01
    MSR_DDSR = 0x02
    MSR_TERI = 0x04
    MSR_DDCD = 0x08
    MSR_CTS = 0x10
    MSR_DSR = 0x20
    MSR_RI = 0x40
    MSR_DCD = 0x80

cdef enum:
    CLOCK_HZ = 1843200               # the PC's crystal; a bit takes 16 * divisor of its periods
    SLOWEST_CHARACTER_NS = 86806     # 10 bits at 115200 bit/s


cdef u64 _character_ns(UartState* uart) noexcept nogil:
    """How long one character takes on the line, in ns."""
    cdef u64 divisor = uart.divisor_low | (<u64>uart.divisor_high << 8)
    cdef u64 bits = 1 + 5 + (uart.line_control & LCR_WORD) + 1
    cdef u64 ns
    if uart.line_control & LCR_STOP:
        bits += 1
    if uart.line_control & LCR_PARITY:
        bits += 1
    ns = bits * divisor * 16 * 1000000000 // CLOCK_HZ
    return ns if 0 < ns < SLOWEST_CHARACTER_NS else SLOWEST_CHARACTER_NS


cdef int _trigger_level(UartState* uart) noexcept nogil:
    """How many bytes raise the received-data interrupt."""
    if not uart.fifo_control & FCR_ENABLE:
        return 1
    if uart.fifo_control >> 6 == 0:
        return 1
    if uart.fifo_control >> 6 == 1:
        return 4
    return 8 if uart.fifo_control >> 6 == 2 else 14


cdef int _capacity(UartState* uart) noexcept nogil:
    return UART_FIFO_BYTES if uart.fifo_control & FCR_ENABLE else 1


cdef u8 _identify(UartState* uart) noexcept nogil:
    """The pending enabled interrupt of the highest priority, as IIR bits 3:0."""
    if uart.interrupt_enable & IER_LINE_STATUS and uart.line_status & LSR_ERRORS:
        return IIR_LINE_STATUS
    if uart.interrupt_enable & IER_RECEIVED:
        if uart.received_count >= _trigger_level(uart):
            return IIR_RECEIVED
        if uart.timeout_pending:
            return IIR_TIMEOUT
    if uart.interrupt_enable & IER_TRANSMIT_EMPTY and uart.transmit_pending:
        return IIR_TRANSMIT_EMPTY
    if uart.interrupt_enable & IER_MODEM_STATUS and uart.modem_status & 0x0F:
        return IIR_MODEM_STATUS
    return IIR_NONE


cdef void _update_irq(UartState* uart) noexcept nogil:
    drive(&uart.irq, _identify(uart) != IIR_NONE)


cdef void _watch_timeout(UartState* uart) noexcept nogil:
    """Restarts the wait of four character times after traffic at the receiver FIFO."""
    uart.timeout_pending = 0
    if uart.fifo_control & FCR_ENABLE and uart.received_count:
        timer_arm(uart.clock, &uart.timeout_timer, uart.clock.now_ns + 4 * _character_ns(uart))
    else:
        timer_cancel(uart.clock, &uart.timeout_timer)


cdef void _show_head(UartState* uart) noexcept nogil:
    """LSR follows the byte that is now on top: data ready, and the errors that came with it."""
    if uart.received_count:
        uart.line_status |= LSR_DATA | uart.received_error[uart.received_start]
        uart.received_error[uart.received_start] = 0
    else:
        uart.line_status &= 0xFF ^ LSR_DATA


cdef void _receive(UartState* uart, u8 byte, u8 errors) noexcept nogil:
    """A byte has come through the receiver's shift register."""
    cdef int place
    if uart.received_count >= _capacity(uart):
        uart.line_status |= LSR_OVERRUN
        if uart.fifo_control & FCR_ENABLE:
            return                       # with FIFOs the byte in the shift register is lost, without the older one
        uart.received_count = 0
    place = (uart.received_start + uart.received_count) & (UART_FIFO_BYTES - 1)
    uart.received[place] = byte
    uart.received_error[place] = errors
    uart.received_count += 1
    if uart.received_count == 1:
        _show_head(uart)
    _watch_timeout(uart)


cdef void _await_input(UartState* uart) noexcept nogil:
    """Starts the receiver's shift register where a byte waits, there is room for it, and it is not running."""
    if (uart.receive_timer.deadline_ns == NEVER and uart.received_count < _capacity(uart)
            and (uart.break_pending or char_available(uart.char)) and not uart.modem_control & MCR_LOOP):
        timer_arm(uart.clock, &uart.receive_timer, uart.clock.now_ns + _character_ns(uart))


cdef void _receive_fired(void* owner, u64 now_ns) noexcept nogil:
    cdef UartState* uart = <UartState*>owner
    cdef int byte
    if uart.received_count < _capacity(uart) and not uart.modem_control & MCR_LOOP:
        if uart.break_pending:
            uart.break_pending = 0
            _receive(uart, 0, LSR_BREAK)
        else:
            byte = char_get(uart.char)
            if byte >= 0:
                _receive(uart, <u8>byte, 0)
        _update_irq(uart)
    _await_input(uart)


cdef void _timeout_fired(void* owner, u64 now_ns) noexcept nogil:
    cdef UartState* uart = <UartState*>owner
    if uart.received_count:
        uart.timeout_pending = 1
        _update_irq(uart)


cdef void _input_ready(void* owner) noexcept nogil:
    _await_input(<UartState*>owner)


cdef void _clear_receiver(UartState* uart) noexcept nogil:
    uart.received_count = 0
    uart.received_start = 0
    uart.line_status &= 0xFF ^ (LSR_DATA | LSR_ERRORS)
    _watch_timeout(uart)


cdef void _update_modem_status(UartState* uart) noexcept nogil:
    """MSR 7:4 follow the pins, or MCR in loopback (8.8); MSR 3:0 keep what has changed since the last read."""
    cdef u8 pins = uart.modem_inputs
    cdef u8 before = uart.modem_status
    cdef u8 changed
    if uart.modem_control & MCR_LOOP:
        pins = ((MSR_CTS if uart.modem_control & MCR_RTS else 0) | (MSR_DSR if uart.modem_control & MCR_DTR else 0)
                | (MSR_RI if uart.modem_control & MCR_OUT1 else 0) | (MSR_DCD if uart.modem_control & MCR_OUT2 else 0))
    changed = before ^ pins
    uart.modem_status = (before & 0x0F) | pins
    if changed & MSR_CTS:
        uart.modem_status |= MSR_DCTS
    if changed & MSR_DSR:
        uart.modem_status |= MSR_DDSR
    if changed & MSR_DCD:
        uart.modem_status |= MSR_DDCD
    if before & MSR_RI and not pins & MSR_RI:        # the trailing edge only
        uart.modem_status |= MSR_TERI


cdef void _transmit(UartState* uart, u8 byte) noexcept nogil:
    uart.transmit_pending = 0
    _update_irq(uart)                    # the line falls between two bytes, as it does on a real line
    if uart.modem_control & MCR_LOOP:
        _receive(uart, byte, 0)
    else:
        char_put(uart.char, byte)
    uart.transmit_pending = 1


cdef void _write_fifo_control(UartState* uart, u8 value) noexcept nogil:
    if (value ^ uart.fifo_control) & FCR_ENABLE:     # a change of mode clears both FIFOs
        uart.fifo_control = value & FCR_KEPT
        _clear_receiver(uart)
        uart.transmit_pending = 1
    if not value & FCR_ENABLE:
        uart.fifo_control = 0            # the other bits are programmed only together with bit 0
        return
    uart.fifo_control = value & FCR_KEPT
    if value & FCR_CLEAR_RECEIVER:
        _clear_receiver(uart)
    if value & FCR_CLEAR_TRANSMITTER:
        uart.transmit_pending = 1


cdef u8 _read_register(void* owner, u64 offset) noexcept nogil:
    cdef UartState* uart = <UartState*>owner
    cdef u8 value
    if offset == 0:
        if uart.line_control & LCR_DLAB:
            return uart.divisor_low
        value = uart.received[uart.received_start]
        if uart.received_count:
            uart.received_count -= 1
            if uart.fifo_control & FCR_ENABLE:
                uart.received_start = (uart.received_start + 1) & (UART_FIFO_BYTES - 1)
            _show_head(uart)
            _watch_timeout(uart)
            _update_irq(uart)
            _await_input(uart)
        return value
    if offset == 1:
        return uart.divisor_high if uart.line_control & LCR_DLAB else uart.interrupt_enable
    if offset == 2:
        value = _identify(uart)
        if value == IIR_TRANSMIT_EMPTY:
            uart.transmit_pending = 0
            _update_irq(uart)
        return value | (IIR_FIFOS if uart.fifo_control & FCR_ENABLE else 0)
    if offset == 3:
        return uart.line_control
    if offset == 4:
        return uart.modem_control
    if offset == 5:
        return _read_line_status(uart)
    if offset == 6:
        value = uart.modem_status
        uart.modem_status &= 0xF0
        _update_irq(uart)
        return value
    return uart.scratch


cdef u8 _read_line_status(UartState* uart) noexcept nogil:
    cdef u8 value = uart.line_status
    cdef int k
    if uart.fifo_control & FCR_ENABLE:
        if value & (LSR_PARITY | LSR_FRAMING | LSR_BREAK):
            value |= LSR_FIFO_ERROR
        for k in range(uart.received_count):
            if uart.received_error[(uart.received_start + k) & (UART_FIFO_BYTES - 1)]:
                value |= LSR_FIFO_ERROR
    if uart.line_status & LSR_ERRORS:
        uart.line_status &= 0xFF ^ LSR_ERRORS
        _update_irq(uart)
    return value


cdef void _write_register(void* owner, u64 offset, u8 value) noexcept nogil:
    cdef UartState* uart = <UartState*>owner
    if offset == 0:
        if uart.line_control & LCR_DLAB:
            uart.divisor_low = value
            return
        _transmit(uart, value)
    elif offset == 1:
        if uart.line_control & LCR_DLAB:
            uart.divisor_high = value
            return
        # Enabling it while the holding register is empty raises the interrupt again: drivers start output this way.
        if value & IER_TRANSMIT_EMPTY and not uart.interrupt_enable & IER_TRANSMIT_EMPTY:
            uart.transmit_pending = 1
        uart.interrupt_enable = value & 0x0F
    elif offset == 2:
        _write_fifo_control(uart, value)
    elif offset == 3:
        if (value & LCR_BREAK and not uart.line_control & LCR_BREAK) and uart.modem_control & MCR_LOOP:
            _receive(uart, 0, LSR_BREAK)
        uart.line_control = value
    elif offset == 4:
        uart.modem_control = value & MCR_KEPT
        _update_modem_status(uart)
    elif offset == 7:
        uart.scratch = value
    # 5 and 6: LSR and MSR are for reading; writes to them are factory tests
    _update_irq(uart)
    _await_input(uart)


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    return read_bytes(_read_register, owner, offset, size)


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    write_bytes(_write_register, owner, offset, size, value)


@cython.final
cdef class Uart:
    """A 16550A at eight ports; bytes go to and come from `backend`.

    clock: the machine's; backend: a CharBackend, whose input this device reads. The board maps `region` and connects `irq`.
    """

    def __init__(self, Clock clock not None, CharBackend backend not None):
        cdef UartState* uart = &self.state
        self._clock = clock
        self._backend = backend
        uart.clock = &clock.state
        uart.char = &backend.state
        clock.attach(&uart.receive_timer, _receive_fired, uart, self)
        clock.attach(&uart.timeout_timer, _timeout_fired, uart, self)
        backend.attach(_input_ready, uart, self)
        self.irq = line_output(&uart.irq, self)
        self.region = region("uart", 8, _read, _write, uart, self)
        fields = declare_state("uart", self, self._validate)
        fields.cover(&self.state, sizeof(self.state))
        for name, address in (("interrupt_enable", <u64>&uart.interrupt_enable), ("fifo_control", <u64>&uart.fifo_control),
                              ("line_control", <u64>&uart.line_control), ("modem_control", <u64>&uart.modem_control),
                              ("line_status", <u64>&uart.line_status), ("modem_status", <u64>&uart.modem_status),
                              ("scratch", <u64>&uart.scratch), ("divisor_low", <u64>&uart.divisor_low),
                              ("divisor_high", <u64>&uart.divisor_high), ("modem_inputs", <u64>&uart.modem_inputs),
                              ("received_start", <u64>&uart.received_start), ("received_count", <u64>&uart.received_count),
                              ("timeout_pending", <u64>&uart.timeout_pending),
                              ("transmit_pending", <u64>&uart.transmit_pending), ("break_pending", <u64>&uart.break_pending)):
            fields.add(name, "u8", <void*><u64>address)
        fields.add("received", "bytes", &uart.received[0], UART_FIFO_BYTES)
        fields.add("received_error", "bytes", &uart.received_error[0], UART_FIFO_BYTES)
        fields.add("irq_level", "i32", &uart.irq.level)
        fields.add("receive_deadline_ns", "u64", &uart.receive_timer.deadline_ns)
        fields.add("timeout_deadline_ns", "u64", &uart.timeout_timer.deadline_ns)
        self.fields = fields
        self.reset()

    def _validate(self):
        cdef UartState* uart = &self.state
        if uart.received_start >= UART_FIFO_BYTES or uart.received_count > _capacity(uart):
            raise SnapshotError("uart.received_count", f"{uart.received_start}, {uart.received_count}", "a place in the FIFO")
        timer_arm(uart.clock, &uart.receive_timer, uart.receive_timer.deadline_ns)
        timer_arm(uart.clock, &uart.timeout_timer, uart.timeout_timer.deadline_ns)

    def reset(self):
        """Master reset (datasheet table I). Host input that waits in the backend stays."""
        cdef UartState* uart = &self.state
        uart.interrupt_enable = 0
        uart.fifo_control = 0
        uart.line_control = 0
        uart.modem_control = 0
        uart.line_status = LSR_HOLDING_EMPTY | LSR_EMPTY
        uart.modem_inputs = MSR_CTS | MSR_DSR | MSR_DCD          # a terminal that is switched on
        uart.modem_status = uart.modem_inputs
        uart.scratch = 0
        uart.divisor_low = 12                                    # 9600 bit/s; hardware leaves it undefined
        uart.divisor_high = 0
        uart.transmit_pending = 0
        uart.break_pending = 0
        _clear_receiver(uart)
        timer_cancel(uart.clock, &uart.receive_timer)
        _update_irq(uart)
        _await_input(uart)

    def send_break(self):
        """The other end holds the line in break for one character (Linux: SysRq)."""
        self.state.break_pending = 1
        _await_input(&self.state)

    def set_modem_inputs(self, u8 pins):
        """The other end drives CTS, DSR, RI and DCD: bits 4 to 7 of `pins`, as in MSR."""
        self.state.modem_inputs = pins & 0xF0
        _update_modem_status(&self.state)
        _update_irq(&self.state)

    def read(self, u64 offset, int size=1):
        """What a read of `size` bytes at port `offset` (0..7) gives."""
        return _read(&self.state, offset, size)

    def write(self, u64 offset, int size, u64 value):
        """A write of `size` bytes at port `offset` (0..7)."""
        _write(&self.state, offset, size, value)
