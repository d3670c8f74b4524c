/* What the loader tells about memory (multiboot 1 or PVH), and the `mem` command. */
#include "kernel.h"

enum { MAX_RANGES = 32 };

static struct { u64 base, size; u32 kind; } ranges[MAX_RANGES];
static int range_count;
static const char *command_line = "";
static const char *loader = "";

struct multiboot {                              /* Multiboot 1 specification 3.3 */
    u32 flags, lower_kib, upper_kib, boot_device, command_line, modules, modules_at, symbols[4], map_bytes, map_at;
};

struct pvh {                                    /* the PVH boot ABI's hvm_start_info, version 1 */
    u32 magic, version, flags, modules;
    u64 modules_at, command_line, rsdp, map_at;
    u32 map_entries, reserved;
};

static void add(u64 base, u64 size, u32 kind)
{
    if (range_count == MAX_RANGES)
        return;
    ranges[range_count].base = base;
    ranges[range_count].size = size;
    ranges[range_count++].kind = kind;
}

void memory_start(u64 kind, u64 information)
{
    if (kind == BOOTED_MULTIBOOT) {
        const struct multiboot *m = (const struct multiboot *)information;
        loader = "multiboot";
        if (m->flags & 1 << 2)
            command_line = (const char *)(u64)m->command_line;
        if (m->flags & 1 << 6) {
            /* Each entry begins with its own size, which does not count itself. */
            for (u64 at = m->map_at, end = at + m->map_bytes; at + 24 <= end; at += 4 + *(const u32 *)at)
                add(*(const u64 *)(at + 4), *(const u64 *)(at + 12), *(const u32 *)(at + 20));
        } else if (m->flags & 1) {
            add(0, m->lower_kib * 1024UL, 1);
            add(0x100000, m->upper_kib * 1024UL, 1);
        }
    } else {
        const struct pvh *p = (const struct pvh *)information;
        loader = "PVH";
        if (p->command_line)
            command_line = (const char *)p->command_line;
        for (u32 i = 0; p->version >= 1 && i < p->map_entries; i++) {
            u64 at = p->map_at + 24 * i;
            add(*(const u64 *)at, *(const u64 *)(at + 8), *(const u32 *)(at + 16));
        }
    }
}

const char *boot_command_line(void)
{
    return command_line;
}

void memory_show(void)
{
    static const char *const kinds[] = {"?", "usable", "reserved", "ACPI tables", "ACPI state", "bad"};
    u64 usable = 0;
    print("Physical memory, as the %s loader describes it:\n", loader);
    for (int i = 0; i < range_count; i++) {
        print("  %012lx - %012lx  %8lu KiB  %s\n", ranges[i].base, ranges[i].base + ranges[i].size - 1,
              ranges[i].size / 1024, kinds[ranges[i].kind <= 5 ? ranges[i].kind : 0]);
        if (ranges[i].kind == 1)
            usable += ranges[i].size;
    }
    print("Usable: %lu KiB (%lu MiB)\n", usable / 1024, usable >> 20);
    print("\nVirtual memory, as this kernel maps it (`walk ADDRESS` shows how):\n");
    print("  0000000000000000 - 00000000ffffffff  the first 4 GiB, one to one, by 2 MiB pages\n");
    print("  %016lx - %016lx  code: read, execute\n", (u64)kernel_start, (u64)rodata_start - 1);
    print("  %016lx - %016lx  constants: read\n", (u64)rodata_start, (u64)data_start - 1);
    print("  %016lx - %016lx  data: read, write\n", (u64)data_start, (u64)kernel_end - 1);
    print("  %016lx - %016lx  a hole below the stack (`fault double` falls in)\n", (u64)stack_guard, (u64)stack_guard + 4095);
}
