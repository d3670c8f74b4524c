// The 64-bit image's modes, descriptors and gates.
#include "long.h"

u64 gdt[64] __attribute__((aligned(16))) = { 0, 0x00209B0000000000, 0x00CF93000000FFFF };
u64 ldt[16];
static u64 idt[512] __attribute__((aligned(16)));
u8 tss[256] __attribute__((aligned(16)));
u8 io_map[1];
extern u8 entries[];

void set_gate(u8 vector, u64 value)
{
    idt[2 * vector] = value;
    idt[2 * vector + 1] = 0;
}

void set_gate_high(u8 vector, u64 value)
{
    idt[2 * vector + 1] = value;
}

u64 get_gate(u8 vector)
{
    return idt[2 * vector];
}

void set_tss(u32 offset, u64 value)
{
    *(u64 *)(tss + offset) = value;
}

void load_idt(word limit)
{
    struct { u16 limit; u64 base; } __attribute__((packed)) pointer = { limit, (u64)idt };
    __asm__ volatile("lidt %0" : : "m"(pointer));
}

void load_gdt(word limit)
{
    struct { u16 limit; u64 base; } __attribute__((packed)) pointer = { limit, (u64)gdt };
    __asm__ volatile("lgdt %0" : : "m"(pointer));
}

void reset_descriptors(void)
{
    for (int k = 1; k < 64; k++)
        gdt[k] = 0;
    gdt[1] = segment(0, 0xFFFFF, PRESENT | CODE_R | 1, PAGES | LONG);
    gdt[2] = segment(0, 0xFFFFF, PRESENT | DATA_W | 1, PAGES | WIDE);
    gdt[3] = segment(0, 0xFFFFF, PRESENT | CODE_R | 1 | DPL(3), PAGES | LONG);
    gdt[4] = segment(0, 0xFFFFF, PRESENT | DATA_W | 1 | DPL(3), PAGES | WIDE);
    gdt[5] = segment(0, 0xFFFF, PRESENT | CODE_R | 1, 0);
    gdt[6] = segment(0, 0xFFFF, PRESENT | DATA_W | 1, 0);
    gdt[7] = segment(USER_BASE, 0xFFFF, PRESENT | CODE_R | 1 | DPL(3), 0);
    gdt[8] = segment(USER_BASE, 0xFFFF, PRESENT | DATA_W | 1 | DPL(3), 0);
    gdt[9] = segment(0, 0xFFFFF, PRESENT | CODE_R | 1, PAGES | WIDE);
    gdt[10] = segment(0, 0xFFFFF, PRESENT | CODE_R | 1 | DPL(3), PAGES | WIDE);
    gdt[11] = segment((u32)(word)tss, sizeof tss - 1, PRESENT | TSS32, 0);
    gdt[12] = 0;
    gdt[13] = segment((u32)(word)ldt, sizeof ldt - 1, PRESENT | LDT, 0);
    gdt[14] = 0;
    clear((word)tss, sizeof tss);
    set_tss(4, INNER_STACK);
    *(u16 *)(tss + 102) = 0x68 + 32;
    for (int k = 0x68; k < 256; k++)
        tss[k] = 0xFF;
    for (int vector = 0; vector < 256; vector++)
        set_gate(vector, gate(KCODE, (u32)(word)entries + 16 * vector,
                              PRESENT | INTERRUPT32 | (vector == 3 || vector == 4 || vector == DONE ? DPL(3) : 0), 0));
    load_gdt(sizeof gdt - 1);
    load_idt(sizeof idt - 1);
    __asm__ volatile("ltr %w0" : : "r"(MAIN_TSS));
    __asm__ volatile("lldt %w0" : : "r"(0));
}

void mode(int which)
{
    static const char *const names[] = { "kernel64", "user64", "kernel16", "user16", "kernel32", "user32" };
    where(names[which]);
    t = (struct state){ .flags = 2, .sp = STACK, .cs = KCODE, .ss = KDATA, .ds = KDATA, .es = KDATA };
    switch (which) {
    case USER:
        t.cs = UCODE, t.sp = USER_STACK + USER_BASE, t.ip = USER_BASE;
        break;
    case KERNEL32:
        t.cs = KCODE32;
        break;
    case USER32:
        t.cs = UCODE32, t.sp = USER_STACK + USER_BASE, t.ip = USER_BASE;
        break;
    case KERNEL16:
        t.cs = KCODE16, t.ss = t.ds = t.es = KDATA16, t.sp = LOW_STACK;
        break;
    case USER16:
        t.cs = UCODE16, t.ss = t.ds = t.es = UDATA16, t.sp = LOW_STACK;
        break;
    }
    if (which == USER || which == USER32)
        t.ss = t.ds = t.es = UDATA;
}

void lost_trap(void)
{
    say_outcome();
    say_frame();
    give_up("a trap outside of a run, at", t.ip);
}
