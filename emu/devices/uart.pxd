# The 16550A serial port.
from emu.base.clock cimport ClockState, Timer
from emu.base.line cimport Line, LineOutput
from emu.base.types cimport u8
from emu.devices.backend.char cimport CharBackend, CharState
from emu.memory.space cimport Region

cdef enum:
    UART_FIFO_BYTES = 16


cdef struct UartState:
    u8 interrupt_enable          # IER
    u8 fifo_control              # FCR, the bits that stay: enable, DMA mode, trigger level
    u8 line_control              # LCR
    u8 modem_control             # MCR
    u8 line_status               # LSR; bit 7 is worked out on reading
    u8 modem_status              # MSR
    u8 scratch                   # SCR
    u8 divisor_low               # DLL
    u8 divisor_high              # DLM
    u8 modem_inputs              # what the other end drives: MSR bits 7:4 outside of loopback
    u8 received[UART_FIFO_BYTES]         # receiver FIFO; without FIFOs only its first place is used
    u8 received_error[UART_FIFO_BYTES]   # LSR error bits that came with each byte
    u8 received_start
    u8 received_count
    u8 timeout_pending           # character timeout indication
    u8 transmit_pending          # THRE interrupt: set when the holding register falls empty, reset by reading IIR
    u8 break_pending             # a break from the other end waits for its turn
    Line irq
    ClockState* clock
    Timer receive_timer          # when the next byte is through the receiver's shift register
    Timer timeout_timer          # when four character times have passed without traffic
    CharState* char


cdef class Uart:
    cdef UartState state
    cdef CharBackend _backend
    cdef object _clock
    cdef readonly object fields
    cdef readonly Region region
    cdef readonly LineOutput irq         # the interrupt output (INTR)
