/* Start of the teaching kernel in C, and its prompt. */
#include "kernel.h"

static char *argument_of(char *line)
{
    while (*line && *line != ' ')
        line++;
    if (*line)
        *line++ = 0;
    while (*line == ' ')
        line++;
    for (char *end = line; *end; end++)
        if (*end == ' ')
            *end = 0;
    return line;
}

static int has_word(const char *text, const char *word)
{
    for (; *text; text++) {
        const char *t = text, *w = word;
        while (*w && *t == *w)
            t++, w++;
        if (!*w && (*t == 0 || *t == ' '))
            return 1;
        while (*text && *text != ' ')
            text++;
        if (!*text)
            return 0;
    }
    return 0;
}

static void help(void)
{
    print("help             this text\n"
          "cpu              the processor: features, control registers\n"
          "mem              memory: physical ranges, what is mapped where\n"
          "walk ADDRESS     the page walk of a (hexadecimal) virtual address\n"
          "ticks            timer interrupts, counted and waited for\n"
          "uptime           time since the timer was started\n"
          "fault KIND       raise an exception and have it explained (`fault` lists them)\n"
          "reboot           reset by the keyboard controller\n"
          "poweroff         ACPI soft off\n"
          "Built from sources " SOURCES " by gcc " __VERSION__ ".\n");
}

static void walk(const char *argument)
{
    u64 address = 0;
    if (argument[0] == '0' && argument[1] == 'x')
        argument += 2;
    if (!*argument) {
        print("walk ADDRESS, for example: walk %lx\n", (u64)walk);
        return;
    }
    for (; *argument; argument++) {
        char c = *argument | 32;
        if (c >= '0' && c <= '9')
            address = address << 4 | (c - '0');
        else if (c >= 'a' && c <= 'f')
            address = address << 4 | (c - 'a' + 10);
        else {
            print("walk: '%c' is no hexadecimal digit\n", *argument);
            return;
        }
    }
    paging_walk(address);
}

static void poweroff(void)
{
    /* ACPI 4.8.3.2.1: PM1a_CNT, SLP_EN (bit 13) with the SLP_TYP that \_S5 names, 0 on the machines this kernel is for. */
    out16(0x604, 0x2000);
    for (int i = 0; i < 10; i++)                /* the power may take a moment to go */
        __asm__ volatile("hlt");
    print("The machine is still on: it has no ACPI power switch at port 604. Halted.\n");
    for (;;)
        __asm__ volatile("cli; hlt");
}

static void reboot(void)
{
    while (in8(0x64) & 2)                       /* 8042: until its input buffer is free */
        ;
    out8(0x64, 0xFE);                           /* pulse the reset line */
    for (;;)
        __asm__ volatile("hlt");
}

static void run(char *line)
{
    while (*line == ' ')
        line++;
    char *argument = argument_of(line);
    if (same(line, ""))
        return;
    else if (same(line, "help"))
        help();
    else if (same(line, "cpu"))
        processor_show();
    else if (same(line, "mem"))
        memory_show();
    else if (same(line, "walk"))
        walk(argument);
    else if (same(line, "ticks"))
        clock_show();
    else if (same(line, "uptime"))
        uptime_show();
    else if (same(line, "fault"))
        fault_command(argument);
    else if (same(line, "reboot"))
        reboot();
    else if (same(line, "poweroff"))
        poweroff();
    else
        print("'%s' is no command; `help` lists them.\n", line);
}

/* Called by entry.S, with interrupts off. */
void kernel_main(u64 kind, u64 information)
{
    static const char prompt[] = "teach> ";
    static char line[80];

    serial_start();
    memory_start(kind, information);
    descriptors_start();
    paging_start();
    clock_start();
    __asm__ volatile("sti");

    print("\nteach: a small 64-bit kernel to look into. `help` lists what it can show.\n");
    if (has_word(boot_command_line(), "batch")) {
        /* Nobody will type: show a little, then end. */
        static char script[][12] = {"help", "cpu", "mem", "ticks", "poweroff"};
        for (u32 i = 0; i < sizeof script / sizeof script[0]; i++) {
            print("%s%s\n", prompt, script[i]);
            run(script[i]);
        }
    }
    for (;;) {
        read_line(prompt, line, sizeof line);
        run(line);
    }
}
