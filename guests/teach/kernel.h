/* Everything the files of the teaching kernel share: types, port access, and one line per public function. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum { BOOTED_MULTIBOOT = 1, BOOTED_PVH = 2 };
enum { SELECTOR_CODE = 0x08, SELECTOR_DATA = 0x10, SELECTOR_ABSENT = 0x18, SELECTOR_TSS = 0x20 };

/* What entry.S leaves on the stack, lowest address first. */
struct frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
};

/* What save_context() in entry.S keeps: the registers a callee must preserve, and where to go on. */
struct context {
    u64 rbx, rbp, r12, r13, r14, r15, rsp, rip;
};

static inline void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }
static inline u8 in8(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }

/* entry.S, kernel.ld */
extern char kernel_start[], rodata_start[], data_start[], kernel_end[];
extern char stack_guard[], kernel_stack_end[], fault_stack_end[];
extern const u64 entry_table[48];
__attribute__((returns_twice)) int save_context(struct context *context);
void load_segments(void);

/* serial.c */
void serial_start(void);
void serial_interrupt(void);
void serial_put(char c);
int serial_get(void);                           /* waits, with HLT, for a byte */
int serial_key_waits(void);

/* print.c: %s %c %d %u %x, a width, 0 to pad with zeros, - to pad right, l for 64 bits */
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
int same(const char *a, const char *b);

/* line.c */
void read_line(const char *prompt, char *line, int size);

/* descriptors.c */
void descriptors_start(void);

/* paging.c */
void paging_start(void);
void paging_walk(u64 address);                  /* prints every level */

/* memory.c */
void memory_start(u64 kind, u64 information);
void memory_show(void);
const char *boot_command_line(void);

/* processor.c */
void processor_show(void);
int processor_has_no_execute(void);

/* clock.c */
enum { TICKS_PER_SECOND = 100 };
void clock_start(void);
void clock_interrupt(void);
void clock_show(void);
void uptime_show(void);
void interrupt_done(u64 line);

/* faults.c */
void fault_command(const char *kind);
void fault_kinds_show(void);
