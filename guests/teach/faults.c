/* Exceptions: the `fault` command raises them, the handler explains them in plain words and goes back to the prompt. */
#include "kernel.h"

static const struct { const char *name, *words; } exceptions[32] = {
    [0] = {"#DE divide error", "DIV or IDIV by zero, or a quotient too large for its register."},
    [1] = {"#DB debug", "A single step (RFLAGS.TF) or a hardware breakpoint (DR0..DR3)."},
    [2] = {"NMI", "An interrupt that cannot be masked: usually failing hardware."},
    [3] = {"#BP breakpoint", "The one-byte instruction INT3, which debuggers plant into code."},
    [4] = {"#OF overflow", "INTO found the overflow flag set."},
    [5] = {"#BR bound range", "BOUND found an index outside its array."},
    [6] = {"#UD invalid opcode", "These bytes are no instruction, or not one that is allowed here."},
    [7] = {"#NM device not available", "A floating-point instruction while CR0.TS or CR0.EM is set: the lazy way to switch FPU state."},
    [8] = {"#DF double fault", "A fault came up while the processor was delivering another one. One more, and it resets (triple fault)."},
    [10] = {"#TS invalid TSS", "The task state segment is not usable."},
    [11] = {"#NP segment not present", "A descriptor whose P bit is 0 was loaded."},
    [12] = {"#SS stack fault", "A stack access outside its segment, or at an address that is not canonical."},
    [13] = {"#GP general protection", "A rule was broken that has no exception of its own: privilege, a reserved bit, a bad selector, an address that is not canonical."},
    [14] = {"#PF page fault", "The page tables do not allow this access."},
    [16] = {"#MF x87 floating-point error", "An unmasked x87 exception was pending."},
    [17] = {"#AC alignment check", "A misaligned access while alignment checks are on."},
    [18] = {"#MC machine check", "The hardware found an error in itself."},
    [19] = {"#XM SIMD floating-point error", "An unmasked SSE exception."},
    [20] = {"#VE virtualization exception", "A second-level translation was refused."},
    [21] = {"#CP control protection", "A return address does not match the shadow stack, or an indirect branch went astray."},
};

static struct context before_fault;             /* where the `fault` command goes on */
static volatile int fault_wanted, steps;

static void explain_error(const struct frame *f)
{
    if (f->vector == 14) {                      /* SDM 3A 4.7: the page-fault error code */
        print("Error code %lx:", f->error);
        print(" the page is %s;", f->error & 1 ? "present, but this access is not allowed" : "not present");
        print(" %s", f->error & 16 ? "an instruction fetch" : f->error & 2 ? "a write" : "a read");
        print(" in %s mode%s\n", f->error & 4 ? "user" : "kernel", f->error & 8 ? "; a reserved bit is set in an entry" : "");
    } else if (f->error) {                      /* SDM 3A 6.13: a selector */
        print("Error code %lx: selector, index %lu of the %s%s\n", f->error, f->error >> 3 & 0x1FFF,
              f->error & 2 ? "IDT" : f->error & 4 ? "LDT" : "GDT", f->error & 1 ? ", while delivering an external event" : "");
    }
}

static void explain(const struct frame *f)
{
    u64 cr2;
    __asm__ volatile("mov %%cr2, %0" : "=r"(cr2));
    print("\n*** Exception %lu, %s\n", f->vector, exceptions[f->vector].name ? exceptions[f->vector].name : "reserved");
    print("%s\n", exceptions[f->vector].words ? exceptions[f->vector].words : "The manual gives this number no meaning.");
    explain_error(f);
    print("rip %016lx  bytes there:", f->rip);
    for (u64 at = f->rip; at < f->rip + 8 && at >= (u64)kernel_start && at < (u64)rodata_start; at++)
        print(" %02x", *(const u8 *)at);
    print("\n");
    if (f->vector == 14 || f->vector == 8) {
        print("cr2 %016lx  the address that faulted; its walk:\n", cr2);
        paging_walk(cr2);
    }
    if (f->vector == 8 && cr2 >= (u64)stack_guard && cr2 < (u64)stack_guard + 4096)
        print("That is the hole below the stack: it overflowed, and so the page fault could not be pushed either.\n"
              "The double fault has a stack of its own (IST 1 in the TSS), or this could not be shown.\n");
    print("rax %016lx  rbx %016lx  rcx %016lx  rdx %016lx\n", f->rax, f->rbx, f->rcx, f->rdx);
    print("rsi %016lx  rdi %016lx  rbp %016lx  rsp %016lx\n", f->rsi, f->rdi, f->rbp, f->rsp);
    print("r8  %016lx  r9  %016lx  r10 %016lx  r11 %016lx\n", f->r8, f->r9, f->r10, f->r11);
    print("r12 %016lx  r13 %016lx  r14 %016lx  r15 %016lx\n", f->r12, f->r13, f->r14, f->r15);
    print("cs %02lx  ss %02lx  rflags %016lx\n", f->cs, f->ss, f->rflags);
}

/* Called by entry.S for every vector. */
void interrupt(struct frame *f)
{
    if (f->vector >= 32) {
        if (f->vector == 32)
            clock_interrupt();
        else if (f->vector == 36)
            serial_interrupt();
        interrupt_done(f->vector - 32);
        return;
    }
    if (f->vector == 1 && steps > 0) {          /* `fault step`: a trap, the frame already points behind the instruction */
        print("  #DB after one instruction: next is %016lx, rax = %lx\n", f->rip, f->rax);
        if (--steps == 0)
            f->rflags &= ~0x100UL;              /* TF off */
        return;
    }
    explain(f);
    if (f->vector == 3) {
        print("INT3 is a trap: the saved rip already points behind it, so the program simply goes on.\n");
        return;
    }
    if (!fault_wanted) {
        print("Nobody asked for this one. The kernel stops here.\n");
        for (;;)
            __asm__ volatile("cli; hlt");
    }
    /* A real kernel would mend the cause, or end the program. Here the frame is bent: IRETQ "returns" to fault_command. */
    fault_wanted = 0;
    __asm__ volatile("clts");
    f->rbx = before_fault.rbx;
    f->rbp = before_fault.rbp;
    f->r12 = before_fault.r12;
    f->r13 = before_fault.r13;
    f->r14 = before_fault.r14;
    f->r15 = before_fault.r15;
    f->rsp = before_fault.rsp;
    f->rip = before_fault.rip;
    f->rax = 1;
    f->rflags = 0x202;
}

static void raise_divide(void)
{
    __asm__ volatile("div %0" : : "r"(0), "a"(1), "d"(0));
}

static void raise_debug(void)
{
    steps = 3;
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; mov $1, %%eax; add $1, %%eax; add %%eax, %%eax" ::: "rax", "memory");
}

static void raise_breakpoint(void)
{
    __asm__ volatile("int3");
}

static void raise_invalid_opcode(void)
{
    __asm__ volatile("ud2");
}

static void raise_not_available(void)
{
    __asm__ volatile("mov %%cr0, %%rax; or $8, %%rax; mov %%rax, %%cr0; fninit" ::: "rax");
}

static void raise_not_present(void)
{
    __asm__ volatile("mov %w0, %%es" : : "r"(SELECTOR_ABSENT));
}

static void raise_general_protection(void)
{
    __asm__ volatile("movb (%0), %%al" : : "r"(0x8000000000000000UL) : "rax");
}

static void raise_page_read(void)
{
    __asm__ volatile("movb (%0), %%al" : : "r"(0xDEAD000000UL) : "rax");
}

static void raise_page_write(void)
{
    __asm__ volatile("movb $0, (%0)" : : "r"(kernel_start) : "memory");
}

static void raise_page_execute(void)
{
    static u8 code[] = {0xC3};                  /* RET, but in the data pages, which are marked no-execute */
    __asm__ volatile("call *%0" : : "r"(code) : "memory");
}

static void raise_double(void)
{
    __asm__ volatile("1: push $0; jmp 1b");
}

static void raise_triple(void)
{
    static const struct { u16 limit; u64 base; } __attribute__((packed)) nothing = {0, 0};
    print("With an empty IDT no exception can be delivered: #UD, then #GP, then shutdown. Goodbye.\n");
    __asm__ volatile("lidt %0; ud2" : : "m"(nothing));
}

static const struct { const char *name, *words; void (*raise)(void); } kinds[] = {
    {"div", "divide by zero", raise_divide},
    {"step", "single-step three instructions", raise_debug},
    {"break", "a breakpoint instruction", raise_breakpoint},
    {"ud", "an opcode that is none", raise_invalid_opcode},
    {"fpu", "the FPU while it is switched off", raise_not_available},
    {"segment", "load a segment that is not present", raise_not_present},
    {"gp", "an address that is not canonical", raise_general_protection},
    {"page", "read an address that nothing maps", raise_page_read},
    {"write", "write to read-only code", raise_page_write},
    {"execute", "execute data", raise_page_execute},
    {"double", "overflow the stack", raise_double},
    {"triple", "no handler left: the machine goes down", raise_triple},
};

void fault_kinds_show(void)
{
    print("fault KIND, where KIND is one of\n");
    for (u32 i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        print("  %-8s %s\n", kinds[i].name, kinds[i].words);
}

/* Apart from fault_command(), so that nothing in a register has to survive the second return of save_context(). */
__attribute__((noinline)) static void raise_and_survive(void (*raise)(void))
{
    if (save_context(&before_fault)) {
        print("Survived: the handler sent us back to the prompt.\n");
        return;
    }
    fault_wanted = 1;
    raise();
    fault_wanted = 0;
}

void fault_command(const char *kind)
{
    for (u32 i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (same(kind, kinds[i].name)) {
            raise_and_survive(kinds[i].raise);
            return;
        }
    }
    fault_kinds_show();
}
