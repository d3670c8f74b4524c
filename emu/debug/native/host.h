/* The host's side: runs cases in a process of its own, one signal a step; all state goes in and out through the signal's frame. */
#ifndef EMU_DEBUG_NATIVE_HOST_H
#define EMU_DEBUG_NATIVE_HOST_H
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include "emu/debug/native/area.h"

/* One piece of memory that both processes see. */
typedef struct {
    uint64_t count, code_width, want_memory;     /* of the batch asked for */
    volatile uint64_t progress;                  /* cases that are done */
    uint64_t ready;                              /* what native_prepare gave, and FS.base << 8 */
    native_case* cases;
    native_result* results;
    uint8_t* codes;
    uint8_t* before;                             /* AREA_BYTES: the template */
    uint8_t* memory;                             /* AREA_BYTES a case */
} native_shared;

typedef struct { uint32_t base, limit, flags; } native_ldt;

/* The process has no memory below 4 GiB but the cases' own; an interpreter may lie there, and with it ways into libc (its PLT).
   So what runs later calls nothing. */
static inline void native_copy(void* to, const void* from, uint64_t length) {
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(length) : : "memory");
}
static inline void native_fill(void* to, uint8_t value, uint64_t length) {
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(length) : "a"(value) : "memory");
}
static inline int native_same(const void* a, const void* b, uint64_t length) {
    const volatile uint8_t *x = a, *y = b;
    for (; length; length--) if (*x++ != *y++) return 0;
    return 1;
}
static inline long native_call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "0"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

/* What the frame of a signal does not hold; the entry below stores and loads it. */
static struct { uint64_t fs_base, gs_base, flags; uint16_t es, ds, fs, gs; } emu_native_live __attribute__((used));
static native_shared* native_here;
static uint8_t* native_code;                     /* the code pages, writable */
static uint8_t* native_area;
static uint8_t native_before[AREA_BYTES] __attribute__((aligned(64)));
static uint8_t native_host_fpu[512];
static gregset_t native_host_registers;
static int native_running;
static uint64_t native_at, native_old_code, native_old_length;
static uint32_t native_steps;

void emu_native_entry(int, siginfo_t*, void*);
/* Handler of all signals. AC, NT and the segment registers are still the tested program's when it begins; it leaves by
   rt_sigreturn itself, after loading the next program's. NT and ID reach the program through RFLAGS at the system call. */
__asm__(
".pushsection .text\n.hidden emu_native_entry\n.globl emu_native_entry\nemu_native_entry:\n"
"pushq $2\npopfq\n"
"leaq emu_native_live(%rip),%rcx\n"
"mov %es,24(%rcx)\nmov %ds,26(%rcx)\nmov %fs,28(%rcx)\nmov %gs,30(%rcx)\n"
"rdfsbase %rax\nmov %rax,(%rcx)\nrdgsbase %rax\nmov %rax,8(%rcx)\n"
"pushq %rdx\nmovq %rdx,%rdi\ncall emu_native_handle\naddq $16,%rsp\n"
"leaq emu_native_live(%rip),%rcx\n"
"mov 24(%rcx),%es\nmov 26(%rcx),%ds\nmov 28(%rcx),%fs\nmov 30(%rcx),%gs\n"
"mov (%rcx),%rax\nwrfsbase %rax\nmov 8(%rcx),%rax\nwrgsbase %rax\n"
"pushq 16(%rcx)\npopfq\nmov $15,%eax\nsyscall\nhlt\n.popsection\n");

static const int native_order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static void native_load(ucontext_t* u) {
    const native_case* k = &native_here->cases[native_at];
    greg_t* r = u->uc_mcontext.gregs;
    uint8_t* fx = (uint8_t*)u->uc_mcontext.fpregs;
    const uint8_t* code = native_here->codes + native_at * native_here->code_width;
    if (native_old_length != k->code_length || native_old_code != k->code_at
            || !native_same(native_code + native_old_code, code, native_old_length)) {
        native_fill(native_code + native_old_code, 0xCC, native_old_length);
        native_copy(native_code + k->code_at, code, k->code_length);
        native_old_code = k->code_at;
        native_old_length = k->code_length;
    }
    if (k->patch_length) {
        native_copy(native_area + k->patch_at, k->patch, k->patch_length);
        native_copy(native_before + k->patch_at, k->patch, k->patch_length);
    }
    for (int n = 0; n < 16; n++) r[native_order[n]] = k->regs[n];
    r[REG_RIP] = k->rip;
    r[REG_EFL] = k->rflags | (k->finish ? 0 : 0x100);
    r[REG_CSGSFS] = (greg_t)((uint64_t)k->selectors[1] | (uint64_t)k->selectors[2] << 48);
    u->uc_flags |= 6;                            /* SS is as given: UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */
    emu_native_live.fs_base = k->fs_base;
    emu_native_live.gs_base = k->gs_base;
    emu_native_live.es = k->selectors[0];
    emu_native_live.ds = k->selectors[3];
    emu_native_live.fs = k->selectors[4];
    emu_native_live.gs = k->selectors[5];
    native_copy(fx, k->fx, 464);
    *(uint64_t*)(fx + 512) = 3;                  /* XSTATE_BV: x87 and SSE as given, all else as at the start */
    native_steps = 0;
}

static void native_store(ucontext_t* u) {
    const native_case* k = &native_here->cases[native_at];
    native_result* out = &native_here->results[native_at];
    const greg_t* r = u->uc_mcontext.gregs;
    for (int n = 0; n < 16; n++) out->regs[n] = r[native_order[n]];
    out->rip = r[REG_RIP];
    out->rflags = r[REG_EFL];
    out->fs_base = emu_native_live.fs_base;
    out->gs_base = emu_native_live.gs_base;
    out->vector = (int16_t)r[REG_TRAPNO];
    if (k->finish && out->vector == 3) {
        out->rip--;
        out->vector = 1;
        native_steps = 1;
    }
    out->error = out->vector == 8 || (out->vector >= 10 && out->vector <= 14) ? (uint32_t)r[REG_ERR] : 0;
    out->cr2 = out->vector == 14 ? r[REG_CR2] : 0;
    out->selectors[0] = emu_native_live.es;
    out->selectors[1] = (uint16_t)r[REG_CSGSFS];
    out->selectors[2] = (uint16_t)((uint64_t)r[REG_CSGSFS] >> 48);
    out->selectors[3] = emu_native_live.ds;
    out->selectors[4] = emu_native_live.fs;
    out->selectors[5] = emu_native_live.gs;
    if ((k->selectors[2] | out->selectors[2]) & 4) out->regs[4] &= 0xFFFFFFFFu;     /* Linux' way to 16-bit stacks (espfix) */
    out->steps = (uint16_t)native_steps;
    native_copy(out->fx, u->uc_mcontext.fpregs, 416);
    native_fill(out->fx + 416, 0, 96);
    native_fill(out->fx + 28, 0, 4);
    out->fx[5] = 0;
    if (native_here->want_memory) native_copy(native_here->memory + native_at * AREA_BYTES, native_area, AREA_BYTES);
    out->memory_hash = area_scan(native_area, native_before, out->lines);
    if (k->patch_length) {
        native_copy(native_area + k->patch_at, native_here->before + k->patch_at, k->patch_length);
        native_copy(native_before + k->patch_at, native_here->before + k->patch_at, k->patch_length);
    }
}

__attribute__((used)) static void emu_native_handle(ucontext_t* u) {
    greg_t* r = u->uc_mcontext.gregs;
    if (!native_running) {
        native_copy(native_host_registers, r, sizeof(gregset_t));
        native_copy(native_host_fpu, u->uc_mcontext.fpregs, 464);
        native_running = 1;
        native_load(u);
    } else {
        const native_case* k = &native_here->cases[native_at];
        if (r[REG_TRAPNO] == 1 && ++native_steps < k->steps) {
            r[REG_EFL] |= 0x100;
        } else {
            native_store(u);
            native_here->progress = ++native_at;
            if (native_at < native_here->count) {
                native_load(u);
            } else {
                native_copy(r, native_host_registers, sizeof(gregset_t));
                native_copy(u->uc_mcontext.fpregs, native_host_fpu, 464);
                native_fill(&emu_native_live, 0, sizeof emu_native_live);
                emu_native_live.fs_base = native_here->ready >> 8;
                native_running = 0;
            }
        }
    }
    emu_native_live.flags = (uint64_t)(r[REG_EFL] & 0x204000) | 2;
}

/* Makes the address space of cases.py: 1, or 2 where the kernel refuses an LDT (which costs the 16-bit mode), 0 where it cannot. */
static int native_prepare(uint64_t window, const native_ldt* ldt, int entries) {
    struct { uint32_t number, base, limit, flags; } user;
    uint64_t low = 0x10000;
    uint8_t* page;
    int made = 1, file, k;
    file = (int)syscall(SYS_memfd_create, "code", 0);
    if (file < 0 || ftruncate(file, 0x2000)) return 0;
    native_code = mmap(0, 0x2000, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file, 0);
    if (native_code == MAP_FAILED) return 0;
    memset(native_code, 0xCC, 0x2000);
    if (mmap((void*)(window + 0x1000), 0x2000, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, 0) == MAP_FAILED)
        return 0;
    native_area = mmap((void*)(window + 0x5000), 0x3000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE,
                       -1, 0);
    if (native_area == MAP_FAILED) return 0;
    page = native_area + 0x2000;
    for (k = 0; k < 0x1000; k++) page[k] = (uint8_t)(7 * k + 3);
    mprotect(page, 0x1000, PROT_READ);
    for (k = 0; k < entries; k++) {
        user.number = (uint32_t)k;
        user.base = ldt[k].base;
        user.limit = ldt[k].limit;
        user.flags = ldt[k].flags;
        if (syscall(SYS_modify_ldt, 0x11, &user, sizeof user)) made = 2;
    }
    native_call(SYS_munmap, (long)low, (long)(window + 0x1000 - low), 0);
    native_call(SYS_munmap, (long)(window + 0x3000), 0x2000, 0);
    native_call(SYS_munmap, (long)(window + 0x8000), (long)(((uint64_t)1 << 32) - window - 0x8000), 0);
    return made;
}

/* The child's life: a byte on `from` asks for the batch in `shared`, a byte on `to` tells that it is done. Never returns. */
static void native_serve(native_shared* shared, int from, int to, uint64_t window, const native_ldt* ldt, int entries) {
    static const int numbers[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    static uint8_t stack[1 << 16] __attribute__((aligned(64)));
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack, .ss_flags = 0};
    struct sigaction action;
    sigset_t all;
    char byte = 0;
    uint64_t base;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_DUMPABLE, 0);
    sigfillset(&all);
    for (unsigned k = 0; k < sizeof numbers / sizeof *numbers; k++) sigdelset(&all, numbers[k]);
    sigprocmask(SIG_SETMASK, &all, 0);
    sigfillset(&all);
    sigaltstack(&alternate, 0);
    memset(&action, 0, sizeof action);
    action.sa_sigaction = emu_native_entry;
    action.sa_mask = all;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (unsigned k = 0; k < sizeof numbers / sizeof *numbers; k++) sigaction(numbers[k], &action, 0);
    native_here = shared;
    __asm__ volatile("rdfsbase %0" : "=r"(base));
    shared->ready = (uint64_t)native_prepare(window, ldt, entries) | base << 8;
    if (!(shared->ready & 0xFF) || native_call(SYS_write, to, (long)&byte, 1) != 1) native_call(SYS_exit_group, 1, 0, 0);
    while (native_call(SYS_read, from, (long)&byte, 1) == 1) {
        native_copy(native_area, shared->before, AREA_BYTES);
        native_copy(native_before, shared->before, AREA_BYTES);
        native_at = 0;
        if (shared->count) __asm__ volatile("int3" : : : "memory");
        if (native_call(SYS_write, to, (long)&byte, 1) != 1) break;
    }
    native_call(SYS_exit_group, 0, 0, 0);
}
#endif
