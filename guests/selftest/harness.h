// Runs a piece of code in a mode of choice until it traps, and tells how it trapped. Both images have this interface.
#ifndef HARNESS_H
#define HARNESS_H
#include "report.h"

#ifdef __x86_64__
#define NATIVE "64"
#else
#define NATIVE "32"
#endif

// What a run starts with, and after it how it ended. The assembly files know the order.
struct state {
    word ax, cx, dx, bx, sp, bp, si, di;
#ifdef __x86_64__
    word r8, r9, r10, r11, r12, r13, r14, r15;
#endif
    word ip, flags, cs, ss, ds, es, fs, gs;
    word vector, error, cr2;
    word frame;                 // where the handler's stack pointed at (the error code, or 0 in its place)
    word handler_flags, handler_cs, handler_ss, handler_ds, handler_es, handler_fs, handler_gs;
};

extern struct state t;
// When set: asked at each trap of a run; 1 goes on from `t`, 0 ends the run.
extern int (*on_trap)(void);

// Fills `t` for a mode: registers 0, stack, segments, flags 2.
void mode(int which);
// Runs from `code` (an address from SNIPPET) until a trap that on_trap does not take.
void go(word code);
// Runs from t.ip.
void run(void);

enum {                          // modes of a run
    KERNEL,                     // native width, CPL 0
    USER,                       // native width, CPL 3
    KERNEL16, USER16,           // 16-bit protected mode, or 16-bit compatibility mode
    KERNEL32, USER32,           // 32-bit image: as KERNEL and USER; 64-bit image: compatibility mode
#ifndef __x86_64__
    KERNEL1, KERNEL2,           // CPL 1 and 2
    V86,                        // virtual-8086 mode: segments 0, code in section .low
#endif
};

enum { CF = 1, ZF = 0x40, TF = 0x100, IF = 0x200, DF = 0x400, IOPL3 = 0x3000, NT = 0x4000, RF = 0x10000, VM = 0x20000, AC = 0x40000,
       VIF = 0x80000, VIP = 0x100000 };
enum { DONE = 0x20 };           // the vector that a snippet ends with

// A piece of code that ends with INT 20h ("done"); its address.
#define PIECE(section, bits, text) ({ word at_; \
    __asm__ volatile(".pushsection " section ", \"ax\"\n.code" bits "\n9001:\n" text "\nint $0x20\n.popsection\n.code" NATIVE); \
    __asm__ volatile("mov $9001b, %0" : "=r"(at_)); at_; })
#define SNIPPET(text) PIECE(".snippets", NATIVE, text)
#define SNIPPET32(text) PIECE(".snippets", "32", text)
#define SNIPPET16(text) PIECE(".low", "16", text)

// The outcome in short: "done", or the exception, its error code, and how far into the code: "GP(18)+2"; #PF with CR2.
void say_outcome(void);
// The pushed frame (CS, SS, SP, flags without the arithmetic ones and RF): "frame" where all is as the run began, else as it is.
void say_frame(void);

#define CASE(name, which, code, expected) do { mode(which); go(code); say_outcome(); is(name, expected); } while (0)
#define FRAME(name, which, code, expected) do { mode(which); go(code); say_outcome(); say_frame(); is(name, expected); } while (0)

// --- descriptors (SDM 3A 3.4.5, 6.11)
enum {                          // access byte; or'ed with DPL(n)
    PRESENT = 0x80, CODE_R = 0x1A, CODE_X = 0x18, CODE_CONFORMING = 0x1E, DATA_W = 0x12, DATA_R = 0x10, DATA_DOWN = 0x16,
    TSS16 = 1, LDT = 2, CALL16 = 4, TASK_GATE = 5, INTERRUPT16 = 6, TRAP16 = 7, TSS32 = 9, CALL32 = 12, INTERRUPT32 = 14,
    TRAP32 = 15,
};
enum { PAGES = 8, WIDE = 4, LONG = 2 };                 // descriptor flags G, D/B, L
#define DPL(n) ((n) << 5)
extern u64 gdt[64];
extern u64 ldt[16];
u64 segment(u32 base, u32 limit, u8 access, u8 flags);
u64 gate(u16 selector, u32 offset, u8 access, u8 count);
// Sets the gate of a vector; the 64-bit image's upper half is 0.
void set_gate(u8 vector, u64 value);
u64 get_gate(u8 vector);
void reset_descriptors(void);                           // GDT, LDT, IDT and TSS as at the start

// Selectors of both images (DPL 0 and 3); what lies behind is each image's own list.
enum {
    KCODE = 0x08, KDATA = 0x10, UCODE = 0x1B, UDATA = 0x23, KCODE16 = 0x28, KDATA16 = 0x30, UCODE16 = 0x3B, UDATA16 = 0x43,
    KCODE32 = 0x48, UCODE32 = 0x53, MAIN_TSS = 0x58, MAIN_LDT = 0x68,
    KCODE1 = 0x79, KDATA1 = 0x81, KCODE2 = 0x8A, KDATA2 = 0x92, OTHER_TSS = 0x98, FREE = 0xA8,   // FREE and all above: a test's own
};
extern u8 tss[256];
extern u8 io_map[];

// --- memory that tests may use as they like (not in the image)
enum { STACK = 0x300000, USER_STACK = 0x310000, INNER_STACK = 0x320000, LOW_STACK = 0x7000, SCRATCH = 0x330000, TABLES = 0x340000,
       PAGES_AT = 0x400000 };

#define LOAD_CR(n) ({ word v_; __asm__ volatile("mov %%cr" #n ", %0" : "=r"(v_)); v_; })
#define STORE_CR(n, v) __asm__ volatile("mov %0, %%cr" #n : : "r"((word)(v)) : "memory")
#define LOAD_DR(n) ({ word v_; __asm__ volatile("mov %%db" #n ", %0" : "=r"(v_)); v_; })
#define STORE_DR(n, v) __asm__ volatile("mov %0, %%db" #n : : "r"((word)(v)) : "memory")

static inline void write_msr(u32 index, u64 value)
{
    __asm__ volatile("wrmsr" : : "c"(index), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

static inline u64 read_msr(u32 index)
{
    u32 low, high;
    __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(index));
    return low | (u64)high << 32;
}

struct cpuid { u32 a, b, c, d; };
static inline struct cpuid cpuid(u32 leaf, u32 subleaf)
{
    struct cpuid r;
    __asm__ volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(subleaf));
    return r;
}
static inline u64 rdtsc(void)
{
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return low | (u64)high << 32;
}

void clear(word address, word bytes);
#endif
