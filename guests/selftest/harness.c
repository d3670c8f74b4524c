// What both harnesses share: outcomes in words, descriptors.
#include "harness.h"

struct state t;
int (*on_trap)(void);
static struct state start;

void clear(word address, word bytes)
{
    __asm__ volatile("rep stosb" : "+D"(address), "+c"(bytes) : "a"(0) : "memory");
}

void go(word code)
{
    t.ip += code;               // mode() leaves there what lies between the code and where it is run
    start = t;
    run();
}

static const char *const names[] = { "DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "9", "TS", "NP", "SS", "GP", "PF",
                                     "15", "MF", "AC", "MC", "XM" };

void say_outcome(void)
{
    if (t.vector == DONE)
        say("done");
    else if (t.vector < sizeof names / sizeof *names)
        say("%s", names[t.vector]);
    else
        say("vector %x", t.vector);
    if (t.vector == 8 || (t.vector >= 10 && t.vector <= 14) || t.vector == 17)
        say("(%x)", t.error);
    if (t.vector != DONE)
        say("+%x", t.ip - start.ip);
    if (t.vector == 14)
        say(" cr2=%x", t.cr2);
}

void say_frame(void)
{
    word sp = t.sp, from = start.sp, flags = t.flags & ~(word)(0x8D5 | RF);
    int narrow = !(t.flags & VM) && !(t.ss & 4) && t.ss & 0xFFFC && !(gdt[t.ss >> 3] >> 54 & 1);
    if (narrow)                 // a 16-bit stack: the upper half of ESP is whatever it was
        sp &= 0xFFFF, from &= 0xFFFF;
    if (t.cs == start.cs && t.ss == start.ss && sp == from && flags == start.flags)
        say(" frame");
    else
        say(" cs=%x ss=%x sp%s%x fl=%x", t.cs, t.ss, sp > from ? "+" : "-", sp > from ? sp - from : from - sp, flags);
}

u64 segment(u32 base, u32 limit, u8 access, u8 flags)
{
    return (limit & 0xFFFF) | (u64)(base & 0xFFFFFF) << 16 | (u64)access << 40 | (u64)(limit >> 16 & 15) << 48 | (u64)flags << 52
           | (u64)(base >> 24) << 56;
}

u64 gate(u16 selector, u32 offset, u8 access, u8 count)
{
    return (offset & 0xFFFF) | (u64)selector << 16 | (u64)count << 32 | (u64)access << 40 | (u64)(offset >> 16) << 48;
}
