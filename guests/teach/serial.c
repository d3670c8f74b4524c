/* The 16550 UART at COM1: output by polling, input by interrupt into a small ring. */
#include "kernel.h"

enum {
    COM1 = 0x3F8,
    DATA = COM1 + 0,                            /* and the divisor's low byte while LCR.DLAB is set */
    INTERRUPT_ENABLE = COM1 + 1,                /* and the divisor's high byte */
    FIFO_CONTROL = COM1 + 2,
    LINE_CONTROL = COM1 + 3,
    MODEM_CONTROL = COM1 + 4,
    LINE_STATUS = COM1 + 5,
};

static volatile u8 ring[256];                   /* the indices are bytes: they wrap by themselves */
static volatile u8 ring_in, ring_out;

void serial_start(void)
{
    out8(INTERRUPT_ENABLE, 0);
    out8(LINE_CONTROL, 0x80);                   /* DLAB */
    out8(DATA, 1);                              /* 115200 / 1 baud */
    out8(INTERRUPT_ENABLE, 0);
    out8(LINE_CONTROL, 0x03);                   /* 8 bits, no parity, 1 stop bit; DLAB off */
    out8(FIFO_CONTROL, 0x07);                   /* FIFOs on and emptied, interrupt at the first byte */
    out8(MODEM_CONTROL, 0x0B);                  /* DTR, RTS, and OUT2, which lets the interrupt through on a PC */
    out8(INTERRUPT_ENABLE, 0x01);               /* when a byte has come */
}

void serial_put(char c)
{
    if (c == '\n')
        serial_put('\r');
    while (!(in8(LINE_STATUS) & 0x20))          /* until the transmitter can take a byte */
        ;
    out8(DATA, c);
}

void serial_interrupt(void)
{
    while (in8(LINE_STATUS) & 0x01) {
        u8 byte = in8(DATA);
        if ((u8)(ring_in + 1) != ring_out)      /* full: the byte is lost, as on a terminal */
            ring[ring_in++] = byte;
    }
}

int serial_key_waits(void)
{
    return ring_in != ring_out;
}

int serial_get(void)
{
    for (;;) {
        /* Test with interrupts off, or a byte could come between the test and HLT and we would sleep over it. STI
         * takes effect after the next instruction (SDM 2B STI), so no interrupt fits between it and HLT. */
        __asm__ volatile("cli");
        if (serial_key_waits()) {
            __asm__ volatile("sti");
            return ring[ring_out++];
        }
        __asm__ volatile("sti; hlt" ::: "memory");
    }
}
