/* The host's processor as an oracle without a signal for each case: one piece of straight code over many cases of emu/debug/native. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include "emu/debug/native/area.h"

#define CODE 0x10001000u
#define DATA 0x10005000u
#define RBX 3
#define RDI 7

/* What goes into the registers and what comes out of them; the code below knows the offsets. */
static struct {
    uint8_t fx[512];
    uint64_t regs[16];
    uint64_t flags, host_stack, code;
} emu_straight __attribute__((used, aligned(64)));
void emu_straight_enter(void);
void emu_straight_leave(void);
__asm__(
".pushsection .text\n.hidden emu_straight_enter\n.globl emu_straight_enter\nemu_straight_enter:\n"
"push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
"mov %rsp,648+emu_straight(%rip)\n"
"fxrstor64 emu_straight(%rip)\n"
"pushq 640+emu_straight(%rip)\npopfq\n"
"mov 512+emu_straight(%rip),%rax\nmov 520+emu_straight(%rip),%rcx\nmov 528+emu_straight(%rip),%rdx\n"
"mov 536+emu_straight(%rip),%rbx\nmov 552+emu_straight(%rip),%rbp\nmov 560+emu_straight(%rip),%rsi\n"
"mov 568+emu_straight(%rip),%rdi\nmov 576+emu_straight(%rip),%r8\nmov 584+emu_straight(%rip),%r9\n"
"mov 592+emu_straight(%rip),%r10\nmov 600+emu_straight(%rip),%r11\nmov 608+emu_straight(%rip),%r12\n"
"mov 616+emu_straight(%rip),%r13\nmov 624+emu_straight(%rip),%r14\nmov 632+emu_straight(%rip),%r15\n"
"call *656+emu_straight(%rip)\n"
"mov %rax,512+emu_straight(%rip)\nmov %rcx,520+emu_straight(%rip)\nmov %rdx,528+emu_straight(%rip)\n"
"mov %rbx,536+emu_straight(%rip)\nmov %rbp,552+emu_straight(%rip)\nmov %rsi,560+emu_straight(%rip)\n"
"mov %rdi,568+emu_straight(%rip)\nmov %r8,576+emu_straight(%rip)\nmov %r9,584+emu_straight(%rip)\n"
"mov %r10,592+emu_straight(%rip)\nmov %r11,600+emu_straight(%rip)\nmov %r12,608+emu_straight(%rip)\n"
"mov %r13,616+emu_straight(%rip)\nmov %r14,624+emu_straight(%rip)\nmov %r15,632+emu_straight(%rip)\n"
"pushfq\npopq 640+emu_straight(%rip)\n"
"fxsave64 emu_straight(%rip)\n"
".hidden emu_straight_leave\n.globl emu_straight_leave\nemu_straight_leave:\n"
"mov 648+emu_straight(%rip),%rsp\n"
"cld\nfninit\n"
"pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n.popsection\n");

static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                              REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
static uint8_t* page;
static uint8_t area[AREA_BYTES] __attribute__((aligned(4096))), before[AREA_BYTES] __attribute__((aligned(4096)));
static volatile int trapped, trap_error;
static volatile uint64_t trap_rip;

static void on_signal(int number, siginfo_t* info, void* context) {
    ucontext_t* u = context;
    greg_t* r = u->uc_mcontext.gregs;
    uint8_t* fx = (uint8_t*)u->uc_mcontext.fpregs;
    (void)number, (void)info;
    for (int n = 0; n < 16; n++) if (n != 4) emu_straight.regs[n] = r[order[n]];
    emu_straight.flags = r[REG_EFL];
    memcpy(emu_straight.fx, fx, 512);
    trapped = (int)r[REG_TRAPNO];
    trap_error = (int)r[REG_ERR];
    trap_rip = r[REG_RIP];
    r[REG_RIP] = (greg_t)emu_straight_leave;
    r[REG_EFL] &= ~(greg_t)0x40400;
    memset(fx, 0, 24);
    fx[0] = 0x7F, fx[1] = 3;
}

/* Pointers of the x87 unit as they would be if code and data lay where the emulator has them. */
static void translate(uint8_t* fx) {
    uint64_t place;
    memcpy(&place, fx + 8, 8);
    if (place - (uint64_t)page < 4096) place += CODE - (uint64_t)page, memcpy(fx + 8, &place, 8);
    memcpy(&place, fx + 16, 8);
    if (place - (uint64_t)area < AREA_BYTES) place += DATA - (uint64_t)area, memcpy(fx + 16, &place, 8);
}

/* Runs `code` once a case: 64-bit cases that all begin at CODE; rbx and rdi may point into the data. 0, or -1 without memory for it. */
int straight_run(const native_case* cases, native_result* results, long count, const uint8_t* code, int length, const uint8_t* data) {
    static const int numbers[] = {SIGFPE, SIGSEGV, SIGBUS, SIGILL};
    struct sigaction action, old[4];
    uint32_t mxcsr;
    if (!page) {
        page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) return -1;
    }
    memset(page, 0xCC, 4096);
    memcpy(page, code, length);
    page[length] = 0xC3;
    memcpy(area, data, AREA_BYTES);
    memcpy(before, data, AREA_BYTES);
    memset(&action, 0, sizeof action);
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO;
    for (int k = 0; k < 4; k++) sigaction(numbers[k], &action, &old[k]);
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    emu_straight.code = (uint64_t)page;
    for (long n = 0; n < count; n++) {
        const native_case* k = &cases[n];
        native_result* out = &results[n];
        uint64_t shift = (uint64_t)area - DATA;
        int has_rbx = k->regs[RBX] - DATA < AREA_BYTES, has_rdi = k->regs[RDI] - DATA < AREA_BYTES;
        if (k->patch_length) {
            memcpy(area + k->patch_at, k->patch, k->patch_length);
            memcpy(before + k->patch_at, k->patch, k->patch_length);
        }
        memcpy(emu_straight.fx, k->fx, 512);
        memcpy(emu_straight.regs, k->regs, 128);
        emu_straight.regs[RBX] += has_rbx ? shift : 0;
        emu_straight.regs[RDI] += has_rdi ? shift : 0;
        emu_straight.flags = k->rflags;
        trapped = 1;
        trap_error = 0;
        trap_rip = emu_straight.code + length;
        emu_straight_enter();
        __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
        memset(out, 0, sizeof *out);
        memcpy(out->regs, emu_straight.regs, 128);
        out->regs[RBX] -= has_rbx ? shift : 0;
        out->regs[RDI] -= has_rdi ? shift : 0;
        out->rip = CODE + (trap_rip - emu_straight.code);
        out->rflags = emu_straight.flags;
        out->fs_base = k->fs_base;
        out->gs_base = k->gs_base;
        memcpy(out->selectors, k->selectors, sizeof out->selectors);
        out->vector = (int16_t)trapped;
        out->steps = trapped == 1;
        out->error = trapped >= 10 && trapped <= 14 ? (uint32_t)trap_error : 0;
        memcpy(out->fx, emu_straight.fx, 416);
        memset(out->fx + 28, 0, 4);
        out->fx[5] = 0;
        translate(out->fx);
        out->memory_hash = area_scan(area, before, out->lines);
        if (k->patch_length) {
            memcpy(area + k->patch_at, data + k->patch_at, k->patch_length);
            memcpy(before + k->patch_at, data + k->patch_at, k->patch_length);
        }
    }
    for (int k = 0; k < 4; k++) sigaction(numbers[k], &old[k], 0);
    return 0;
}
