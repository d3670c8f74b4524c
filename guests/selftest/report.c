// Printing on COM1, the counts, and the end of the run.
#include "report.h"

enum { COM1 = 0x3F8, DEBUG_EXIT = 0xF4, BOCHS_SHUTDOWN = 0x8900 };

static char observed[512];
static const char *topic_name = "", *where_name = "";
static unsigned length, cases, failures, skipped;

static void put(char c)
{
    static int ready;
    if (!ready) {
        ready = 1;
        out8(COM1 + 3, 0x83);
        out8(COM1, 1);          // 115200 baud
        out8(COM1 + 1, 0);
        out8(COM1 + 3, 0x03);   // 8 bits, no parity
    }
    while (!(in8(COM1 + 5) & 0x20))
        ;
    out8(COM1, c);
}

static void print(const char *text)
{
    while (*text)
        put(*text++);
}

static void add(char c)
{
    if (length < sizeof observed - 1)
        observed[length++] = c;
}

static void add_number(word value, unsigned base)
{
    char digits[24];
    unsigned n = 0;
    do {
        unsigned digit = value % base;
        digits[n++] = digit < 10 ? '0' + digit : 'a' + digit - 10;
        value /= base;
    } while (value);
    while (n)
        add(digits[--n]);
}

void say(const char *format, ...)
{
    __builtin_va_list arguments;
    __builtin_va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            add(*format);
            continue;
        }
        switch (*++format) {
        case 'x':
            add_number(__builtin_va_arg(arguments, word), 16);
            break;
        case 'd': {
            int value = __builtin_va_arg(arguments, int);
            if (value < 0)
                add('-');
            add_number(value < 0 ? 0u - value : (unsigned)value, 10);
            break;
        }
        case 's':
            for (const char *text = __builtin_va_arg(arguments, const char *); *text; text++)
                add(*text);
            break;
        }
    }
    __builtin_va_end(arguments);
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

void topic(const char *name)
{
    topic_name = name;
    where_name = "";
}

void where(const char *name)
{
    where_name = name;
}

static void print_name(const char *name)
{
    print(topic_name);
    print("/");
    print(where_name);
    print(*where_name ? "/" : "");
    print(name);
}

void is(const char *name, const char *expected)
{
    observed[length] = 0;
    int good = same(observed, expected);
    cases++;
    failures += !good;
    print(good ? "ok   " : "FAIL ");
    print_name(name);
    print(": ");
    print(observed);
    if (!good) {
        print(" | expected: ");
        print(expected);
    }
    print("\n");
    length = 0;
}

void skip(const char *name, const char *feature)
{
    skipped++;
    print("skip ");
    print_name(name);
    print(": no ");
    print(feature);
    print("\n");
    length = 0;
}

static _Noreturn void stop(u8 code)
{
    while (!(in8(COM1 + 5) & 0x40))     // the last byte has left
        ;
    out8(DEBUG_EXIT, code);
    for (const char *text = "Shutdown"; *text; text++)
        out8(BOCHS_SHUTDOWN, *text);
    for (;;)
        __asm__ volatile("cli; hlt");
}

void finish(const char *image)
{
    length = 0;
    say("%s: %d cases, %d failed, %d skipped\n", image, cases, failures, skipped);
    observed[length] = 0;
    print(observed);
    stop(failures != 0);
}

void give_up(const char *why, word detail)
{
    observed[length] = 0;
    print("STOP ");
    print(observed);
    length = 0;
    say(" %s %x\n", why, detail);
    observed[length] = 0;
    print(observed);
    stop(2);
}
