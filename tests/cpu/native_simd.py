# Runs one instruction on the host's processor, with a given state around it: the oracle of the vector instructions.
import ctypes
import pathlib
import platform
import subprocess

AVAILABLE = platform.machine() in ("x86_64", "AMD64")
REGISTERS = ("rax", "rcx", "rdx", "rsi", "r8", "rbx", "rdi")
SIGNALS = {8: "fpe", 11: "segv", 4: "ill", 7: "bus"}

_SOURCE = r"""
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
struct state { unsigned long regs[7]; unsigned long flags; unsigned char fx[512] __attribute__((aligned(64))); };
extern void run_code(struct state*, void*);
__asm__(
".globl run_code\nrun_code:\n"
"push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
"mov %rdi,%r15\nmov %rsi,%r14\n"
"fxrstor64 64(%r15)\n"
"pushq 56(%r15)\npopfq\n"
"mov (%r15),%rax\nmov 8(%r15),%rcx\nmov 16(%r15),%rdx\nmov 24(%r15),%rsi\nmov 32(%r15),%r8\nmov 40(%r15),%rbx\nmov 48(%r15),%rdi\n"
"call *%r14\n"
"mov %rax,(%r15)\nmov %rcx,8(%r15)\nmov %rdx,16(%r15)\nmov %rsi,24(%r15)\nmov %r8,32(%r15)\nmov %rbx,40(%r15)\nmov %rdi,48(%r15)\n"
"pushfq\npopq 56(%r15)\n"
"fxsave64 64(%r15)\n"
"fninit\n"
"pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");
static unsigned char* page;
static sigjmp_buf back;
static struct state* current;
static void caught(int number, siginfo_t* info, void* context) {
    ucontext_t* u = context;
    if (current) memcpy(current->fx, u->uc_mcontext.fpregs, 416);
    siglongjmp(back, number);
}
int run(struct state* s, const unsigned char* code, int length) {
    struct sigaction action, old[4];
    static const int numbers[4] = {SIGFPE, SIGSEGV, SIGILL, SIGBUS};
    unsigned mxcsr;
    int result, k;
    if (!page) {
        page = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page == MAP_FAILED) return -1;
    }
    memcpy(page, code, length);
    page[length] = 0xc3;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = caught;
    action.sa_flags = SA_SIGINFO;
    for (k = 0; k < 4; k++) sigaction(numbers[k], &action, &old[k]);
    current = s;
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    result = sigsetjmp(back, 1);
    if (result == 0) run_code(s, page);
    __asm__ volatile("fninit\nldmxcsr %0" : : "m"(mxcsr));
    current = 0;
    for (k = 0; k < 4; k++) sigaction(numbers[k], &old[k], 0);
    return result;
}
"""


class State(ctypes.Structure):
    _fields_ = [("regs", ctypes.c_uint64 * 7), ("flags", ctypes.c_uint64), ("fx", ctypes.c_ubyte * 512)]


class Host:
    """The host's processor; `folder` takes the compiled helper."""

    def __init__(self, folder: pathlib.Path) -> None:
        source = folder / "native_simd.c"
        source.write_text(_SOURCE)
        library = folder / "native_simd.so"
        subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        self._run = ctypes.CDLL(str(library)).run
        self._raw = ctypes.create_string_buffer(ctypes.sizeof(State) + 64)
        address = ctypes.addressof(self._raw) + 63 & ~63
        self.state = State.from_address(address)
        self._memory_raw = ctypes.create_string_buffer(8192)
        self.memory_address = ctypes.addressof(self._memory_raw) + 4095 & ~4095
        self.memory = (ctypes.c_ubyte * 4096).from_address(self.memory_address)

    def run(self, code: bytes, registers: dict, flags: int, fx: bytes, memory: bytes):
        """(registers, arithmetic flags, FXSAVE image, memory, None or the name of the signal)."""
        for k, name in enumerate(REGISTERS):
            self.state.regs[k] = registers.get(name, 0)
        self.state.flags = flags
        ctypes.memmove(self.state.fx, fx, 512)
        ctypes.memmove(self.memory, memory, len(memory))
        result = self._run(ctypes.byref(self.state), code, len(code))
        after = {name: self.state.regs[k] for k, name in enumerate(REGISTERS)}
        return (after, self.state.flags & 0x8D5, bytes(self.state.fx), bytes(self.memory[:len(memory)]), SIGNALS.get(result))
