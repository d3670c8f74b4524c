/* The host's own x87 and SSE as an oracle: one instruction, given as bytes, over many states. x86-64 hosts only. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

static unsigned char *code_page;
static uint32_t trapped_mxcsr;
static unsigned char *after_trap;

static void on_fault(int number, siginfo_t *info, void *context) {
    ucontext_t *u = context;
    (void)number; (void)info;
    trapped_mxcsr = u->uc_mcontext.fpregs->mxcsr;
    u->uc_mcontext.fpregs->mxcsr = 0x1f80;
    u->uc_mcontext.gregs[REG_RIP] = (greg_t)after_trap;
}

static unsigned char *page(void) {
    if (!code_page)
        code_page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return code_page;
}

/* code: an x87 instruction whose memory operand, if any, is [rax]. images: 108 bytes each; memory: 16 bytes each. */
int run_x87(const uint8_t *code, int length, long count, const uint8_t *images, uint8_t *memory, uint64_t *flags,
            uint8_t *images_after) {
    static const uint8_t head[] = {0x48, 0x89, 0xf0, 0xdd, 0x27, 0x45, 0x31, 0xc0}; /* mov rax,rsi; frstor [rdi]; xor r8d,r8d */
    static const uint8_t tail[] = {0x9c, 0x8f, 0x01, 0xdd, 0x32, 0xc3};             /* pushf; pop [rcx]; fnsave [rdx]; ret */
    unsigned char *p = page();
    if (p == MAP_FAILED)
        return -1;
    memcpy(p, head, sizeof head);
    memcpy(p + sizeof head, code, length);
    memcpy(p + sizeof head + length, tail, sizeof tail);
    for (long n = 0; n < count; n++)
        ((void (*)(const void *, void *, void *, void *))p)(images + 108 * n, memory + 16 * n, images_after + 108 * n, flags + n);
    __asm__ volatile("fninit");
    return 0;
}

/* code: an SSE instruction, destination xmm0 (or eax/rax), source xmm1 (or ecx/rcx). */
int run_sse(const uint8_t *code, int length, long count, const uint64_t *a, const uint64_t *b, const uint32_t *mxcsr,
            uint64_t *xmm, uint64_t *general, uint64_t *flags, uint32_t *mxcsr_after) {
    /* rdi = {a, b, mxcsr}, rsi = {xmm, general, flags, mxcsr}; movq xmm0,[rdi]; movq xmm1,[rdi+8]; mov rcx,[rdi+8]; ldmxcsr [rdi+16] */
    static const uint8_t head[] = {0xf3, 0x0f, 0x7e, 0x07, 0xf3, 0x0f, 0x7e, 0x4f, 0x08, 0x48, 0x8b, 0x4f, 0x08,
                                   0x0f, 0xae, 0x57, 0x10};
    /* pushf; pop [rsi+16]; stmxcsr [rsi+24]; movq [rsi],xmm0; mov [rsi+8],rax; ret */
    static const uint8_t tail[] = {0x9c, 0x8f, 0x46, 0x10, 0x0f, 0xae, 0x5e, 0x18, 0x66, 0x0f, 0xd6, 0x06,
                                   0x48, 0x89, 0x46, 0x08, 0xc3};
    unsigned char *p = page();
    struct sigaction action = {0}, old;
    if (p == MAP_FAILED)
        return -1;
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGFPE, &action, &old);
    memcpy(p, head, sizeof head);
    memcpy(p + sizeof head, code, length);
    memcpy(p + sizeof head + length, tail, sizeof tail);
    after_trap = p + sizeof head + length;
    for (long n = 0; n < count; n++) {
        uint64_t in[3] = {a[n], b[n], mxcsr[n]}, out[4] = {0};
        trapped_mxcsr = 0xffffffff;
        ((void (*)(void *, void *))p)(in, out);
        xmm[n] = out[0];
        general[n] = out[1];
        flags[n] = out[2];
        mxcsr_after[n] = trapped_mxcsr == 0xffffffff ? (uint32_t)out[3] : trapped_mxcsr;
    }
    __asm__ volatile("ldmxcsr %0" : : "m"((uint32_t){0x1f80}));
    sigaction(SIGFPE, &old, 0);
    return 0;
}

/* How far results are from the true values, in units of the last of 64 bits; by libquadmath's 113 bits. */
#include <quadmath.h>

static __float128 true_value(int function, __float128 a, __float128 b) {
    switch (function) {
    case 0xf0: return expm1q(a * M_LN2q);
    case 0xf1: return b * log2q(a);
    case 0xf9: return b * (log1pq(a) / M_LN2q);
    case 0xf2: return tanq(a);
    case 0xf3: return atan2q(b, a);
    case 0xfe: return sinq(a);
    default: return cosq(a);
    }
}

void quad_errors(int function, long count, const long double *a, const long double *b, const long double *results, double *errors) {
    for (long n = 0; n < count; n++) {
        __float128 exact = true_value(function, a[n], b[n]);
        int exponent = ilogbq(exact);
        if (exponent < -16382)
            exponent = -16382;
        errors[n] = (double)fabsq(scalbnq(exact - (__float128)results[n], 63 - exponent));
    }
}
