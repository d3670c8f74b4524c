/* The two 8259 interrupt controllers and the 8254 timer: 100 interrupts a second, and what `ticks` and `uptime` make of them. */
#include "kernel.h"

enum {
    PIC1 = 0x20, PIC2 = 0xA0,
    PIT_CHANNEL_0 = 0x40, PIT_COMMAND = 0x43,
    PIT_HZ = 1193182,
};

static volatile u64 ticks;

void clock_start(void)
{
    /* 8259A datasheet, initialization command words: cascade, ICW4 needed; vectors 32..47 (0..31 are the processor's
     * exceptions); the second controller hangs on line 2; 8086 mode. Then the masks: timer, cascade and COM1 open. */
    out8(PIC1, 0x11);
    out8(PIC2, 0x11);
    out8(PIC1 + 1, 32);
    out8(PIC2 + 1, 40);
    out8(PIC1 + 1, 1 << 2);
    out8(PIC2 + 1, 2);
    out8(PIC1 + 1, 0x01);
    out8(PIC2 + 1, 0x01);
    out8(PIC1 + 1, 0xFF & ~(1 << 0 | 1 << 2 | 1 << 4));
    out8(PIC2 + 1, 0xFF);

    /* 82C54 datasheet: channel 0, low byte then high byte, mode 2 (rate generator), binary. */
    u16 divisor = (PIT_HZ + TICKS_PER_SECOND / 2) / TICKS_PER_SECOND;
    out8(PIT_COMMAND, 0x34);
    out8(PIT_CHANNEL_0, divisor & 0xFF);
    out8(PIT_CHANNEL_0, divisor >> 8);
}

void clock_interrupt(void)
{
    ticks++;
}

void interrupt_done(u64 line)
{
    if (line >= 8)
        out8(PIC2, 0x20);
    out8(PIC1, 0x20);
}

void clock_show(void)
{
    u64 start = ticks, halts = 0;
    print("%lu timer interrupts so far, %d a second. Waiting for ten more:\n ", start, TICKS_PER_SECOND);
    for (u64 seen = start; seen < start + 10;) {
        __asm__ volatile("hlt" ::: "memory");
        halts++;
        if (ticks != seen) {
            seen = ticks;
            print(" %lu", seen);
        }
    }
    print("\nThe processor slept (HLT) %lu times meanwhile.\n", halts);
}

void uptime_show(void)
{
    u64 now = ticks;
    print("up %lu.%02lu seconds\n", now / TICKS_PER_SECOND, now % TICKS_PER_SECOND);
}
