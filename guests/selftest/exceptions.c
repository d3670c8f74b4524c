// Every exception from every mode and privilege: vector, error code, pushed frame; gates of the IDT that are not good.
#include "image.h"

#define ONE(name, which, code, expected) do { mode(which); go(code); say_outcome(); say_frame(); is(name, expected); } while (0)
#ifdef __x86_64__
#define OTHERS(name, text, expected) do { \
    ONE(name, KERNEL32, SNIPPET32(text), expected); \
    ONE(name, USER32, SNIPPET32(text), expected); } while (0)
#else
#define OTHERS(name, text, expected) do { \
    ONE(name, KERNEL1, SNIPPET(text), expected); \
    ONE(name, KERNEL2, SNIPPET(text), expected); \
    ONE(name, V86, SNIPPET16(text), expected); } while (0)
#endif
#define EACH(name, text, expected) do { \
    ONE(name, KERNEL, SNIPPET(text), expected); \
    ONE(name, USER, SNIPPET(text), expected); \
    ONE(name, KERNEL16, SNIPPET16(text), expected); \
    ONE(name, USER16, SNIPPET16(text), expected); \
    OTHERS(name, text, expected); } while (0)
// Where the outcome depends on the privilege
#ifdef __x86_64__
#define OUTER_OTHERS(name, text, inner, outer) do { \
    ONE(name, KERNEL32, SNIPPET32(text), inner); \
    ONE(name, USER32, SNIPPET32(text), outer); } while (0)
#else
#define OUTER_OTHERS(name, text, inner, outer) do { \
    ONE(name, KERNEL1, SNIPPET(text), outer); \
    ONE(name, KERNEL2, SNIPPET(text), outer); \
    ONE(name, V86, SNIPPET16(text), outer); } while (0)
#endif
#define INNER_OUTER(name, text, inner, outer) do { \
    ONE(name, KERNEL, SNIPPET(text), inner); \
    ONE(name, USER, SNIPPET(text), outer); \
    ONE(name, KERNEL16, SNIPPET16(text), inner); \
    ONE(name, USER16, SNIPPET16(text), outer); \
    OUTER_OTHERS(name, text, inner, outer); } while (0)

static void plain(void)
{
    EACH("done", "nop", "done frame");
    EACH("divide by zero", "divb %cl", "DE+0 frame");
    EACH("quotient too large", "movb $1, %cl; movb $1, %ah; divb %cl", "DE+4 frame");
    EACH("int1", ".byte 0xF1", "DB+1 frame");
    EACH("int3", "int3", "BP+1 frame");
    EACH("int 3 in two bytes", ".byte 0xCD, 3", "BP+2 frame");
    EACH("ud2", "ud2", "UD+0 frame");
    EACH("lock without memory", ".byte 0xF0, 0x90", "UD+0 frame");
    EACH("lock of mov", ".byte 0xF0, 0x88, 0x07", "UD+0 frame");
    EACH("mov to cs", ".byte 0x8E, 0xC8", "UD+0 frame");
    EACH("15 prefixes", ".fill 15, 1, 0x26; nop", "GP(0)+0 frame");
    EACH("14 prefixes", ".fill 14, 1, 0x26; nop", "done frame");
}

static void privileged(void)
{
    INNER_OUTER("clts", "clts", "done frame", "GP(0)+0 frame");
    INNER_OUTER("invd", "invd", "done frame", "GP(0)+0 frame");
    INNER_OUTER("wbinvd", "wbinvd", "done frame", "GP(0)+0 frame");
    INNER_OUTER("mov from cr0", ".byte 0x0F, 0x20, 0xC0", "done frame", "GP(0)+0 frame");
    INNER_OUTER("mov from cr1", ".byte 0x0F, 0x20, 0xC8", "UD+0 frame", "UD+0 frame");
    INNER_OUTER("mov from dr0", ".byte 0x0F, 0x21, 0xC0", "done frame", "GP(0)+0 frame");
    INNER_OUTER("rdmsr", "movb $0x10, %cl; .byte 0x0F, 0x32", "done frame", "GP(0)+2 frame");
    INNER_OUTER("rdmsr of none", "movb $0x11, %ch; .byte 0x0F, 0x32", "GP(0)+2 frame", "GP(0)+2 frame");
    INNER_OUTER("smsw", "smsw %ax", "done frame", "done frame");
    INNER_OUTER("lmsw", ".byte 0x0F, 0x01, 0xE0; lmsw %ax", "done frame", "GP(0)+3 frame");
}

static void with_cr0(word set, void (*body)(void))
{
    word old = LOAD_CR(0);
    STORE_CR(0, old | set);
    body();
    STORE_CR(0, old);
}

enum { CR0_MP = 2, CR0_EM = 4, CR0_TS = 8 };

static void task_switched(void)
{
    EACH("fnop with TS", "fnop", "NM+0 frame");
    EACH("fwait with TS and not MP", "fwait", "done frame");
}

static void task_switched_monitored(void)
{
    EACH("fwait with TS and MP", "fwait", "NM+0 frame");
}

static void emulated(void)
{
    EACH("fnop with EM", "fnop", "NM+0 frame");
    EACH("fwait with EM", "fwait", "done frame");
    EACH("mmx with EM", "pxor %mm0, %mm0", "UD+0 frame");
}

void exceptions(void)
{
    topic("exception");
    plain();
    privileged();
    with_cr0(CR0_TS, task_switched);
    with_cr0(CR0_TS | CR0_MP, task_switched_monitored);
    with_cr0(CR0_EM, emulated);
}
