/* The three tables that the processor reads by itself: GDT (segments), TSS (stacks), IDT (interrupt entries). */
#include "kernel.h"

/* 64-bit TSS: SDM 3A 8.7. In long mode it holds no task any more, only stack pointers and the port permissions. */
static struct {
    u32 reserved0;
    u64 rsp[3];
    u64 reserved1;
    u64 ist[7];
    u64 reserved2;
    u16 reserved3, port_map;
} __attribute__((packed)) tss;

static u64 gdt[6] = {
    [SELECTOR_CODE / 8] = 0x00209A0000000000,   /* present, ring 0, code, L = 1: 64-bit */
    [SELECTOR_DATA / 8] = 0x0000920000000000,   /* present, ring 0, writable data */
    [SELECTOR_ABSENT / 8] = 0x0000120000000000, /* data with P = 0: `fault segment` loads it */
};                                              /* SELECTOR_TSS takes two entries; its address is only known now */

static struct { u64 low, high; } idt[48];       /* 64-bit gates are 16 bytes: SDM 3A 6.14.1 */

struct pointer { u16 limit; u64 base; } __attribute__((packed));

void descriptors_start(void)
{
    u64 base = (u64)&tss;
    tss.rsp[0] = (u64)kernel_stack_end;
    tss.ist[0] = (u64)fault_stack_end;
    tss.port_map = sizeof tss;                  /* beyond the limit: no port is open to user mode */
    gdt[SELECTOR_TSS / 8] = (sizeof tss - 1) | (base & 0xFFFFFF) << 16 | 0x89UL << 40 | (base >> 24 & 0xFF) << 56;
    gdt[SELECTOR_TSS / 8 + 1] = base >> 32;

    for (int vector = 0; vector < 48; vector++) {
        u64 entry = entry_table[vector];
        u64 stack = vector == 8 ? 1 : 0;        /* a double fault always gets a good stack: IST 1 */
        idt[vector].low = (entry & 0xFFFF) | (u64)SELECTOR_CODE << 16 | stack << 32 | 0x8EUL << 40 | (entry >> 16 & 0xFFFF) << 48;
        idt[vector].high = entry >> 32;
    }

    struct pointer to_gdt = {sizeof gdt - 1, (u64)gdt}, to_idt = {sizeof idt - 1, (u64)idt};
    __asm__ volatile("lgdt %0" : : "m"(to_gdt));
    load_segments();
    __asm__ volatile("ltr %w0" : : "r"(SELECTOR_TSS));
    __asm__ volatile("lidt %0" : : "m"(to_idt));
}
