/* The `cpu` command: CPUID, the control registers, and what their bits mean. */
#include "kernel.h"

struct bit { u8 number; const char *name; };

static void cpuid(u32 leaf, u32 *a, u32 *b, u32 *c, u32 *d)
{
    __asm__ volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "a"(leaf), "c"(0));
}

int processor_has_no_execute(void)
{
    u32 a, b, c, d;
    cpuid(0x80000001, &a, &b, &c, &d);
    return d >> 20 & 1;
}

static void show_bits(u64 value, const struct bit *bits)
{
    for (; bits->name; bits++)
        if (value >> bits->number & 1)
            print(" %s", bits->name);
}

static void show_register(const char *name, u64 value, const struct bit *bits)
{
    print("  %-5s %016lx ", name, value);
    show_bits(value, bits);
    print("\n");
}

void processor_show(void)
{
    static const struct bit leaf1_edx[] = {
        {0, "fpu"}, {3, "pse"}, {4, "tsc"}, {5, "msr"}, {6, "pae"}, {8, "cx8"}, {9, "apic"}, {11, "sep"}, {12, "mtrr"}, {13, "pge"},
        {15, "cmov"}, {16, "pat"}, {19, "clflush"}, {23, "mmx"}, {24, "fxsr"}, {25, "sse"}, {26, "sse2"}, {0, 0}};
    static const struct bit leaf1_ecx[] = {
        {0, "sse3"}, {1, "pclmulqdq"}, {9, "ssse3"}, {12, "fma"}, {13, "cx16"}, {17, "pcid"}, {19, "sse4.1"}, {20, "sse4.2"}, {21, "x2apic"},
        {22, "movbe"}, {23, "popcnt"}, {25, "aes"}, {26, "xsave"}, {28, "avx"}, {30, "rdrand"}, {31, "hypervisor"}, {0, 0}};
    static const struct bit extended_edx[] = {{11, "syscall"}, {20, "nx"}, {26, "1gib-pages"}, {27, "rdtscp"}, {29, "long-mode"}, {0, 0}};
    static const struct bit cr0_bits[] = {
        {0, "PE (protected mode)"}, {1, "MP"}, {2, "EM"}, {3, "TS"}, {4, "ET"}, {5, "NE"}, {16, "WP (read-only holds for the kernel too)"},
        {18, "AM"}, {29, "NW"}, {30, "CD"}, {31, "PG (paging)"}, {0, 0}};
    static const struct bit cr4_bits[] = {
        {4, "PSE"}, {5, "PAE (8-byte page table entries)"}, {7, "PGE (global pages)"}, {9, "OSFXSR"}, {10, "OSXMMEXCPT"}, {12, "LA57"},
        {20, "SMEP"}, {21, "SMAP"}, {0, 0}};
    static const struct bit efer_bits[] = {{0, "SCE"}, {8, "LME (long mode on)"}, {10, "LMA (long mode active)"}, {11, "NXE (no-execute)"}, {0, 0}};
    u32 a, b, c, d, highest, words[13];
    u64 cr0, cr3, cr4;

    cpuid(0, &highest, &words[0], &words[2], &words[1]);
    words[3] = 0;
    cpuid(1, &a, &b, &c, &d);
    u32 family = a >> 8 & 15, model = a >> 4 & 15;
    if (family == 6 || family == 15)
        model += (a >> 16 & 15) << 4;
    if (family == 15)
        family += a >> 20 & 255;
    print("Processor: %s, family %u, model %u, stepping %u\n", (const char *)words, family, model, a & 15);
    print("Features: ");
    show_bits(d, leaf1_edx);
    show_bits(c, leaf1_ecx);
    cpuid(0x80000000, &highest, &b, &c, &d);
    cpuid(0x80000001, &a, &b, &c, &d);
    show_bits(d, extended_edx);
    print("\n");
    if (highest >= 0x80000004) {
        for (u32 i = 0; i < 3; i++)
            cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]);
        words[12] = 0;
        print("Name: %s\n", (const char *)words);
    }

    __asm__("mov %%cr0, %0" : "=r"(cr0));
    __asm__("mov %%cr3, %0" : "=r"(cr3));
    __asm__("mov %%cr4, %0" : "=r"(cr4));
    __asm__ volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(0xC0000080));
    print("Control registers:\n");
    show_register("cr0", cr0, cr0_bits);
    print("  cr3   %016lx  the page tables begin here\n", cr3);
    show_register("cr4", cr4, cr4_bits);
    show_register("efer", (u64)d << 32 | a, efer_bits);
    print("Running in 64-bit mode, ring 0, in the higher half (this code is at %016lx).\n", (u64)processor_show);
}
