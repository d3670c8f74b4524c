// The 32-bit image's modes, descriptors and gates.
#include "protected.h"

u64 gdt[64] __attribute__((aligned(16))) = { 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF };
u64 ldt[16] __attribute__((aligned(16)));
static u64 idt[256] __attribute__((aligned(16)));
u8 tss[256] __attribute__((aligned(256)));
u8 other_tss[256] __attribute__((aligned(256)));
extern u8 entries[];

void set_gate(u8 vector, u64 value)
{
    idt[vector] = value;
}

u64 get_gate(u8 vector)
{
    return idt[vector];
}

void set_word(u32 address, u16 value)
{
    *(volatile u16 *)address = value;
}

void set_long(u32 address, u32 value)
{
    *(volatile u32 *)address = value;
}

void load_idt(word limit)
{
    struct { u16 limit; u32 base; } __attribute__((packed)) pointer = { limit, (u32)idt };
    __asm__ volatile("lidt %0" : : "m"(pointer));
}

void load_gdt(word limit)
{
    struct { u16 limit; u32 base; } __attribute__((packed)) pointer = { limit, (u32)gdt };
    __asm__ volatile("lgdt %0" : : "m"(pointer));
}

static void set_ring(int at, int dpl)
{
    gdt[at] = segment(0, 0xFFFFF, PRESENT | CODE_R | 1 | DPL(dpl), PAGES | WIDE);
    gdt[at + 1] = segment(0, 0xFFFFF, PRESENT | DATA_W | 1 | DPL(dpl), PAGES | WIDE);
}

void reset_descriptors(void)
{
    for (int k = 1; k < 64; k++)
        gdt[k] = 0;
    for (int k = 0; k < 16; k++)
        ldt[k] = 0;
    set_ring(1, 0);
    set_ring(3, 3);
    gdt[5] = segment(0, 0xFFFF, PRESENT | CODE_R | 1, 0);
    gdt[6] = segment(0, 0xFFFF, PRESENT | DATA_W | 1, 0);
    gdt[7] = segment(0, 0xFFFF, PRESENT | CODE_R | 1 | DPL(3), 0);
    gdt[8] = segment(0, 0xFFFF, PRESENT | DATA_W | 1 | DPL(3), 0);
    gdt[9] = gdt[1];
    gdt[10] = gdt[3];
    gdt[11] = segment((u32)tss, sizeof tss - 1, PRESENT | TSS32, 0);
    gdt[13] = segment((u32)ldt, sizeof ldt - 1, PRESENT | LDT, 0);
    set_ring(15, 1);
    set_ring(17, 2);
    gdt[19] = segment((u32)other_tss, sizeof other_tss - 1, PRESENT | TSS32, 0);
    clear((u32)tss, sizeof tss);
    clear((u32)other_tss, sizeof other_tss);
    for (u32 ring = 0; ring < 3; ring++) {
        set_long((u32)tss + 4 + 8 * ring, INNER_STACK + 0x1000 * ring);
        set_long((u32)tss + 8 + 8 * ring, (ring == 0 ? KDATA : ring == 1 ? KDATA1 : KDATA2));
    }
    set_word((u32)tss + 102, 0x68 + 32);        // the 32 bytes of the interrupt redirection map, then the I/O map: nothing
    for (int k = 0x68; k < 256; k++)
        tss[k] = 0xFF;
    for (int vector = 0; vector < 256; vector++)
        set_gate(vector, gate(KCODE, (u32)entries + 16 * vector,
                              PRESENT | INTERRUPT32 | (vector == 3 || vector == 4 || vector == DONE ? DPL(3) : 0), 0));
    load_gdt(sizeof gdt - 1);
    load_idt(sizeof idt - 1);
    __asm__ volatile("ltr %w0" : : "r"(MAIN_TSS));
    __asm__ volatile("lldt %w0" : : "r"(MAIN_LDT));
}

void mode(int which)
{
    static const char *const names[] = { "kernel32", "user32", "kernel16", "user16", "kernel32", "user32", "ring1", "ring2", "v86" };
    static const u8 code[] = { KCODE, UCODE, KCODE16, UCODE16, KCODE32, UCODE32, KCODE1, KCODE2 };
    static const u8 data[] = { KDATA, UDATA, KDATA16, UDATA16, KDATA, UDATA, KDATA1, KDATA2 };
    where(names[which]);
    t = (struct state){ .flags = 2, .sp = which == USER ? USER_STACK : STACK };
    if (which == V86) {
        t.flags |= VM | IOPL3;
        t.sp = LOW_STACK;
        return;
    }
    t.cs = code[which];
    t.ss = t.ds = t.es = t.fs = t.gs = data[which];
    if (which == KERNEL16 || which == USER16)
        t.sp = LOW_STACK;
}

void lost_trap(void)
{
    say_outcome();
    say_frame();
    give_up("a trap outside of a run, at", t.ip);
}
