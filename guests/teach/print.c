/* Formatted output on the serial line, and the few string functions that the kernel needs. */
#include <stdarg.h>
#include "kernel.h"

int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* gcc may call these two even in freestanding code. */
void *memset(void *to, int value, u64 size)
{
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
    return start;
}

void *memcpy(void *to, const void *from, u64 size)
{
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return start;
}

static void put_padded(const char *text, int width, int left, char pad)
{
    int length = 0;
    while (text[length])
        length++;
    for (int i = length; !left && i < width; i++)
        serial_put(pad);
    for (int i = 0; i < length; i++)
        serial_put(text[i]);
    for (int i = length; left && i < width; i++)
        serial_put(' ');
}

static const char *number(char *end, u64 value, u64 base, int negative)
{
    *--end = 0;
    do {
        *--end = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    if (negative)
        *--end = '-';
    return end;
}

void print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    for (; *format; format++) {
        if (*format != '%') {
            serial_put(*format);
            continue;
        }
        int left = 0, width = 0, wide = 0;
        char pad = ' ', buffer[24], *end = buffer + sizeof buffer;
        format++;
        if (*format == '-')
            left = 1, format++;
        if (*format == '0')
            pad = '0', format++;
        while (*format >= '0' && *format <= '9')
            width = width * 10 + *format++ - '0';
        if (*format == 'l')
            wide = 1, format++;
        if (*format == 's') {
            put_padded(va_arg(arguments, const char *), width, left, ' ');
        } else if (*format == 'c') {
            serial_put(va_arg(arguments, int));
        } else if (*format == 'd') {
            long value = wide ? va_arg(arguments, long) : va_arg(arguments, int);
            put_padded(number(end, value < 0 ? -(u64)value : (u64)value, 10, value < 0), width, left, pad);
        } else if (*format == 'u' || *format == 'x') {
            u64 value = wide ? va_arg(arguments, u64) : va_arg(arguments, u32);
            put_padded(number(end, value, *format == 'u' ? 10 : 16, 0), width, left, pad);
        } else {
            serial_put(*format);
        }
    }
    va_end(arguments);
}
