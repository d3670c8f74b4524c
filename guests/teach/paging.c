/* Page tables: boot.S made them, here they get their real permissions; and the walk that `walk` and page faults show. */
#include "kernel.h"

enum { PRESENT = 1, WRITABLE = 2, USER = 4, ACCESSED = 32, DIRTY = 64, LARGE = 128, GLOBAL = 256 };
#define NO_EXECUTE   (1UL << 63)
#define ADDRESS_MASK 0x000FFFFFFFFFF000UL

static u64 root(void)
{
    u64 cr3;
    __asm__("mov %%cr3, %0" : "=r"(cr3));
    return cr3 & ADDRESS_MASK;
}

/* The tables lie below 4 GiB, which the identity map covers: a physical address is usable as it is. */
static u64 *table_at(u64 physical)
{
    return (u64 *)(physical & ADDRESS_MASK);
}

static int index_at(u64 address, int level)
{
    return address >> (12 + 9 * (level - 1)) & 511;
}

/* The level 1 entry of an address in the kernel, which boot.S maps by 4 KiB pages. */
static u64 *entry_of(u64 address)
{
    u64 *table = table_at(root());
    for (int level = 4; level > 1; level--)
        table = table_at(table[index_at(address, level)]);
    return &table[index_at(address, 1)];
}

void paging_start(void)
{
    u64 no_execute = processor_has_no_execute() ? NO_EXECUTE : 0, cr4;
    for (u64 page = (u64)kernel_start; page < (u64)kernel_start + 0x200000; page += 4096) {
        u64 *entry = entry_of(page);
        if (page >= (u64)kernel_end || page == (u64)stack_guard)
            *entry = 0;
        else if (page >= (u64)data_start)
            *entry |= no_execute | GLOBAL;
        else if (page >= (u64)rodata_start)
            *entry = (*entry & ~(u64)WRITABLE) | no_execute | GLOBAL;
        else
            *entry = (*entry & ~(u64)WRITABLE) | GLOBAL;
    }
    /* The TLB may still hold the old, laxer entries: a new CR3 drops them; global pages only count from now on. */
    __asm__ volatile("mov %0, %%cr3" : : "r"(root()) : "memory");
    __asm__ volatile("mov %%cr4, %0; or $0x80, %0; mov %0, %%cr4" : "=&r"(cr4));      /* CR4.PGE */
}

void paging_walk(u64 address)
{
    static const char *const names[] = {"", "PT", "PD", "PDPT", "PML4"};
    long top = (long)address >> 47;
    if (top != 0 && top != -1) {
        print("  %016lx is not canonical: bits 63 to 47 must be alike.\n", address);
        return;
    }
    u64 physical = root();
    for (int level = 4; level >= 1; level--) {
        u64 entry = table_at(physical)[index_at(address, level)];
        print("  %-4s at %08lx, entry %3d: %016lx ", names[level], physical, index_at(address, level), entry);
        if (!(entry & PRESENT)) {
            print(" not present: the walk ends here\n");
            return;
        }
        print(" present%s%s%s%s%s%s\n", entry & WRITABLE ? " writable" : " read-only", entry & USER ? " user" : "",
              entry & NO_EXECUTE ? " no-execute" : "", entry & ACCESSED ? " accessed" : "",
              (level == 1 || entry & LARGE) && entry & DIRTY ? " dirty" : "",
              (level == 1 || entry & LARGE) && entry & GLOBAL ? " global" : "");
        physical = entry & ADDRESS_MASK;
        if (level == 1 || (level < 4 && entry & LARGE)) {
            u64 size = 1UL << (12 + 9 * (level - 1));
            physical = (physical & ~(size - 1)) + (address & (size - 1));
            print("  -> physical %lx, in a page of %lu KiB\n", physical, size / 1024);
            return;
        }
    }
}
