# The core loop: events, budget, blocks; and the owner of a CPU's state.
#
# Between two blocks the loop looks, in this order, at: due timers, stop and reset requests, INIT, NMI, INTR, HLT, the
# instruction count. A block runs only if it fits what is left up to the next deadline; else exactly the rest of it runs.
import cython

from libc.stdlib cimport calloc, free
from libc.string cimport memset
from cpython.exc cimport PyErr_CheckSignals

from emu.base.check cimport check
from emu.base.clock cimport NEVER, Clock, clock_fire
from emu.base.errors import HostError
from emu.base.line cimport LineInput, line_fn, line_input, line_output
from emu.base.state cimport StateFields, declare_state
from emu.base.types cimport i64, u8, u32, u64
from emu.cpu.access cimport fetch_bytes, flush_tlb, set_fault, translate
from emu.cpu.block cimport find_block, flush_blocks, invalidate_code, run_again_alone, run_one, run_prefix
from emu.cpu.event cimport deliver_fault, deliver_interrupt
from emu.cpu.flags cimport all_flags, load_arithmetic_flags
from emu.cpu.mode cimport update_mode
from emu.cpu.reset cimport reset_cpu
from emu.cpu.state cimport *
from emu.memory.ports cimport Ports
from emu.memory.space cimport PhysicalMemory

cdef extern from "sys/mman.h" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void* address, size_t length)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE
    void* MAP_FAILED

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        i64 tv_sec
        i64 tv_nsec
    int clock_gettime(int clock, timespec* now)
    int CLOCK_MONOTONIC

import importlib

from emu.cpu.gen import tables

for _topic in tables.TOPICS:
    importlib.import_module(f"emu.cpu.gen.handlers_{_topic}")

cdef enum:
    ARENA_BYTES = 32 << 20
    HASH_BYTES = 65536 * 8
    DR6_BS = 1 << 14
    MOST_JUMPS = 64              # idle jumps before the caller is asked whether it wants something else
    MOST_EVENTS = 4096           # ... exceptions and interrupts without an instruction that retires
    MOST_TURNS = 1 << 13         # blocks that the core loop itself enters, dear ones among them (a device, a flush) ...
    MOST_INSTRUCTIONS = 1 << 16  # ... or instructions, before it pauses, so that somebody may look whether to stop
    SIGNALS_NS = 20000000        # host time between two looks at the host's signals


cdef inline i64 host_ns() noexcept nogil:
    """The host's clock: only ever decides when to look at the host's signals, never what the guest sees."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1000000000 + now.tv_nsec


cdef inline bint interrupt_ready(Cpu* c) noexcept nogil:
    return c.intr != 0 and c.flags_system & F_IF != 0


cdef inline void report_debug(Cpu* c, u64 bits) noexcept nogil:
    """DR6 of a #DB: the conditions of breakpoints (bits 3:0) are those of now, the others stay until software clears them."""
    c.dr[6] = (c.dr[6] & ~<u64>15) | bits


cdef void take_debug_trap(Cpu* c, u64 bits) noexcept nogil:
    """A trap-type #DB after an instruction."""
    report_debug(c, bits)
    set_fault(c, DB, False, 0)
    c.debug_fault = 0
    deliver_fault(c)


cdef bint instruction_breakpoint(Cpu* c) noexcept nogil:
    """DR0..3 with R/W = 0 at the next instruction; a fault, held back by RF."""
    cdef int k
    cdef u64 hit = 0
    cdef u64 linear = c.rip + c.cs_base
    if c.flags_system & F_RF:
        return False
    for k in range(4):
        if c.dr[7] & (<u64>3 << (2 * k)) and not (c.dr[7] >> (16 + 4 * k)) & 3 and c.dr[k] == linear:
            hit |= <u64>1 << k
    if hit == 0:
        return False
    report_debug(c, hit)
    set_fault(c, DB, False, 0)
    c.debug_fault = 1
    return True


cdef int settle(Cpu* c, int rc) noexcept nogil:
    """Brings the CPU to an instruction boundary after handlers returned `rc`; 0, or an exit reason."""
    while rc == RC_SINGLE:                       # once more, alone, at the exact count
        check(0 < c.at.left <= MAX_BLOCK)
        c.budget += c.at.left - 1
        c.clock.now_ns = c.slice_end - <u64>c.budget - 1 + c.idle_ns
        rc = run_again_alone(c)
    if rc == RC_FAULT:
        check(0 < c.at.left <= MAX_BLOCK and 0 <= c.fault_vector < 32)
        c.budget += c.at.left
        c.rip = c.regs[RIP_SLOT] + c.at.off
        c.rip &= c.rip_mask
        c.debug_trap = 0
        deliver_fault(c)
    elif rc == RC_UNSUPPORTED:
        c.budget += c.at.left
        c.rip = (c.regs[RIP_SLOT] + c.at.off) & c.rip_mask
        return EXIT_UNSUPPORTED
    return 0


cdef int step(Cpu* c) noexcept nogil:
    """One instruction, with everything that the fast path leaves out: shadows, TF, breakpoints."""
    cdef bint trap = c.flags_system & F_TF != 0
    cdef bint quiet = c.shadow_debug != 0
    cdef u64 bits
    cdef int rc
    cdef u64 before = c.slice_end - <u64>c.budget
    c.shadow = 0
    c.shadow_debug = 0
    if c.dr[7] & 0xFF and not quiet and instruction_breakpoint(c):
        deliver_fault(c)
        return 0
    c.budget -= 1
    c.clock.now_ns = before + c.idle_ns
    c.debug_trap = 0
    c.trap_dropped = 0
    c.flags_system &= ~<u64>F_RF                 # it held for the breakpoint check; IRET may set it for the next one
    rc = run_one(c)
    if rc == RC_NEXT:
        bits = <u64>c.debug_trap
        c.debug_trap = 0
        if trap and not c.trap_dropped:
            bits |= DR6_BS
        if bits and not c.shadow_debug:
            take_debug_trap(c, bits)
        return 0
    return settle(c, rc)


cdef int run_cpu(Cpu* c, u64 target, bint jump) noexcept nogil:
    """Runs until `target` instructions have retired in all, or something else wants attention (EXIT_*).

    `jump`: an idle CPU jumps to its next timer at once; otherwise it returns EXIT_IDLE."""
    cdef u64 done, now, limit, last = ~<u64>0, pause = retired(c) + MOST_INSTRUCTIONS
    cdef Block* b
    cdef int rc, vector, jumps = 0, events = 0, turns = 0
    while True:
        done = c.slice_end - <u64>c.budget
        events = events + 1 if done == last else 0
        last = done
        if events > MOST_EVENTS:                 # a handler that faults at once, an interrupt that never goes away
            c.idle_ns += MOST_EVENTS             # time goes on all the same
            return EXIT_TARGET
        check(c.budget >= 0 and c.single == 0 and c.regs[ZERO_SLOT] == 0 and c.flags_system & F_ONE)
        now = done + c.idle_ns
        c.clock.now_ns = now
        c.slice_end = done
        c.budget = 0
        if c.clock.next_deadline_ns <= now:
            clock_fire(c.clock)
        if c.shutdown:
            return EXIT_SHUTDOWN
        if c.reset_request:
            return EXIT_RESET
        if c.stop_request:
            return EXIT_STOP
        if c.init:
            return EXIT_RESET
        if c.debug_trap & DR6_BS and c.flags_system & F_TF:      # of a SYSRET; a step takes its own
            c.debug_trap = 0
            take_debug_trap(c, DR6_BS)
            continue
        if not c.shadow:
            if c.nmi and not c.nmi_blocked:
                c.nmi = 0
                c.halted = 0
                deliver_interrupt(c, NMI)
                continue
            if interrupt_ready(c):
                c.halted = 0
                vector = c.port.acknowledge(c.port.interrupt_owner) if c.port.acknowledge != NULL else -1
                if vector >= 0:
                    deliver_interrupt(c, vector)
                    continue
        if c.halted:
            c.shadow = 0
            if not c.flags_system & F_IF:
                return EXIT_DEAD
            if c.clock.next_deadline_ns == NEVER or not jump:
                return EXIT_IDLE
            jumps += 1
            if jumps > MOST_JUMPS:
                return EXIT_TARGET
            c.idle_ns += c.clock.next_deadline_ns - now
            continue
        if done >= target:
            return EXIT_TARGET
        if done >= pause or turns >= MOST_TURNS:
            return EXIT_PAUSE
        limit = target if target < pause else pause
        if c.clock.next_deadline_ns != NEVER and c.clock.next_deadline_ns - c.idle_ns < limit:
            limit = c.clock.next_deadline_ns - c.idle_ns
        check(limit > done)
        c.slice_end = limit
        c.budget = <i64>(limit - done)
        if c.shadow or c.flags_system & F_TF or c.dr[7] & 0xFF:
            turns += 1
            rc = step(c)
            if rc:
                return rc
            continue
        if c.flags_system & F_RF:
            c.flags_system &= ~<u64>F_RF         # only instruction breakpoints look at it, and none is armed
        # --- blocks, until something happens that this loop must look at
        c.link_slot = NULL                       # of before an event: its branch does not lead where rip is now
        while True:
            b = find_block(c)                    # takes back link_slot where it has to empty the arena
            if b == NULL:
                c.link_slot = NULL
                if c.rc == RC_FAULT:
                    deliver_fault(c)
                    break
                c.budget -= 1
                c.clock.now_ns = c.slice_end - <u64>c.budget - 1 + c.idle_ns
                rc = run_one(c)
            else:
                if c.link_slot != NULL:
                    c.link_slot[0] = b
                    c.link_slot = NULL
                if <i64>b.n > c.budget:
                    limit = <u64>c.budget
                    c.budget = 0
                    rc = run_prefix(c, b, limit)
                else:
                    c.budget -= b.n
                    c.regs[RIP_SLOT] = c.rip
                    rc = (<Insn*>(b + 1)).fn(c, <Insn*>(b + 1))
            if rc != RC_NEXT:
                rc = settle(c, rc)
                if rc:
                    return rc
                break
            turns += 1
            if (c.budget <= 0 or turns >= MOST_TURNS or c.shadow or c.halted or c.intr or c.nmi or c.flags_system & F_TF
                    or c.stop_request
                    or c.reset_request or c.init or c.shutdown or c.dr[7] & 0xFF
                    or c.clock.next_deadline_ns < c.slice_end + c.idle_ns):
                break


# --- Python side -------------------------------------------------------------------------------------------------

_NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
REASONS = ("target", "idle", "shutdown", "stop", "unsupported", "dead", "reset")


cdef void set_intr(void* owner, int number, int level) noexcept nogil:
    (<Cpu*>owner).intr = level


cdef void set_nmi(void* owner, int number, int level) noexcept nogil:
    if level:
        (<Cpu*>owner).nmi = 1


cdef void set_init(void* owner, int number, int level) noexcept nogil:
    if level:
        (<Cpu*>owner).init = 1


cdef void set_sipi(void* owner, int number, int level) noexcept nogil:
    """STARTUP messages: `level` is the vector."""
    (<Cpu*>owner).sipi = level


cdef void set_a20(void* owner, int number, int level) noexcept nogil:
    cdef Cpu* c = <Cpu*>owner
    c.space.a20_mask = ~<u64>0 if level else ~(<u64>1 << 20)
    flush_tlb(c, True)
    memset(c.vtab, 0, VTAB_ENTRIES * sizeof(VtabEntry))


@cython.no_gc_clear                  # what __dealloc__ needs is still there then
cdef class Core:
    """One CPU: its state, its caches, and how to run it.

    memory, ports and clock are the machine's; `features` the feature numbers of its model (isa/features.py)."""

    def __cinit__(self, PhysicalMemory memory, Ports ports, Clock clock, features=(), int number=0, int physical_bits=40,
                  int model=0, object seed=0):
        cdef u64 entries = CONTEXTS * 2 * TLB_ENTRIES
        cdef u64 at
        self.c = <Cpu*>calloc(1, sizeof(Cpu))
        if self.c == NULL:
            raise HostError("memory", "the host refused the state of a CPU")
        self._tables_bytes = (entries * (sizeof(TlbEntry) + 1) + 2 * ITLB_ENTRIES * sizeof(ItlbEntry)
                              + VTAB_ENTRIES * sizeof(VtabEntry) + HASH_BYTES + ARENA_BYTES + 4096)
        self._tables = mmap(NULL, self._tables_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if self._tables == MAP_FAILED:
            self._tables = NULL
            raise HostError("memory", "the host refused the caches of a CPU", f"{self._tables_bytes} bytes")
        c = self.c
        at = <u64>self._tables
        c.arena = <u8*>at
        c.arena_size = ARENA_BYTES
        at += ARENA_BYTES
        c.hash = <Block**>at
        at += HASH_BYTES
        c.tlbs = <TlbEntry*>at
        at += entries * sizeof(TlbEntry)
        c.itlbs = <ItlbEntry*>at
        at += 2 * ITLB_ENTRIES * sizeof(ItlbEntry)
        c.vtab = <VtabEntry*>at
        at += VTAB_ENTRIES * sizeof(VtabEntry)
        c.tlb_shift = <u8*>at
        memset(c.tlb_used, 1, sizeof(c.tlb_used))
        self._memory = memory
        self._keep = [ports, clock]
        c.space = &memory.space
        c.ports = &ports.space
        c.clock = &clock.state
        c.number = number
        c.model = model
        c.physical_bits = physical_bits
        for feature in features:
            c.features[feature >> 6] |= <u64>1 << (feature & 63)
        c.features[0] |= 1
        for k in range(TLB_ENTRIES):             # the context that is never filled
            c.tlbs[CTX_SLOW * 2 * TLB_ENTRIES + k].tag = <u64>(k ^ 1) << 12
            c.tlbs[(CTX_SLOW * 2 + 1) * TLB_ENTRIES + k].tag = <u64>(k ^ 1) << 12
        if c.space.code_owners == 8:
            raise ValueError("too many CPUs")
        c.space.code_written[c.space.code_owners] = invalidate_code
        c.space.code_owner[c.space.code_owners] = c
        c.space.code_owners += 1
        for k in range(4):
            c.random_state[k] = (int(seed) * <u64>0x9E3779B97F4A7C15 + (k + 1) * <u64>0xBF58476D1CE4E5B9 + number) & (2 ** 64 - 1)
        reset_cpu(c)
        self.fields = self._declare()

    def __dealloc__(self):
        cdef int k, n = 0
        if self.c != NULL:
            for k in range(self.c.space.code_owners if self.c.space != NULL else 0):
                if self.c.space.code_owner[k] != self.c:
                    self.c.space.code_owner[n] = self.c.space.code_owner[k]
                    n += 1
            if self.c.space != NULL:
                self.c.space.code_owners = n
            free(self.c)
        if self._tables != NULL:
            munmap(self._tables, self._tables_bytes)

    cdef StateFields _declare(self):
        cdef Cpu* c = self.c
        cdef int k
        cdef StateFields f = declare_state(f"cpu{c.number}", self)
        f.add("registers", "u64", c.regs, 16)
        f.add("flag_result", "i64", &c.flag_result)
        f.add("flag_carries", "u32", &c.flag_carries)
        f.add("flag_adjust", "u32", &c.flag_adjust)
        f.add("flags_system", "u64", &c.flags_system)
        f.add("rip", "u64", &c.rip)
        for k in range(8):
            f.add(f"x87_significand_{k}", "u64", &c.fpu.st[k].significand)
            f.add(f"x87_sign_exponent_{k}", "u16", &c.fpu.st[k].sign_exponent)
        f.add("x87_control", "u16", &c.fpu.control)
        f.add("x87_status", "u16", &c.fpu.status)
        f.add("x87_valid", "u16", &c.fpu.valid)
        f.add("x87_opcode", "u16", &c.fpu.fop)
        f.add("x87_code_selector", "u16", &c.fpu.fcs)
        f.add("x87_data_selector", "u16", &c.fpu.fds)
        f.add("x87_code_pointer", "u64", &c.fpu.fip)
        f.add("x87_data_pointer", "u64", &c.fpu.fdp)
        f.add("ferr", "i32", &c.ferr.level)
        return f

    # --- running
    def run(self, u64 target, bint jump=True):
        """Runs, without the GIL, until `target` instructions have retired in all or attention is wanted; gives the reason.

        The host's signals are answered on the way: what their handlers raise ends the run between two instructions."""
        cdef int reason
        cdef i64 look
        while True:
            with nogil:
                look = host_ns() + SIGNALS_NS
                while True:
                    reason = run_cpu(self.c, target, jump)
                    if reason != EXIT_PAUSE or host_ns() >= look:
                        break
            if reason != EXIT_PAUSE:
                return REASONS[reason]
            PyErr_CheckSignals()                 # their handlers run, and may raise

    def reset(self):
        """Power-on state; retired instructions and time go on."""
        reset_cpu(self.c)
        self.after_load()

    def after_load(self):
        """To be called after registers were set from outside: all that follows from them is made anew."""
        flush_tlb(self.c, True)
        flush_blocks(self.c)
        update_mode(self.c)

    @property
    def retired(self):
        """Instructions retired since power-on."""
        return self.c.slice_end - <u64>self.c.budget

    @property
    def idle_ns(self):
        return self.c.idle_ns

    @idle_ns.setter
    def idle_ns(self, u64 value):
        self.c.idle_ns = value

    def request_stop(self, bint on=True):
        """Makes run() return soon; may be called from any thread or signal handler."""
        self.c.stop_request = on

    def keep(self, part):
        """Holds a part alive that the CPU calls."""
        self._keep.append(part)

    # --- lines
    cdef LineInput _input(self, line_fn fn):
        return line_input(fn, self.c, 0, self)

    @property
    def intr(self):
        return self._input(set_intr)

    @property
    def nmi(self):
        return self._input(set_nmi)

    @property
    def init(self):
        return self._input(set_init)

    @property
    def ferr(self):
        """The CPU's output for x87 exceptions while CR0.NE is clear."""
        return line_output(&self.c.ferr, self)

    @property
    def startup(self):
        return self._input(set_sipi)

    @property
    def a20(self):
        return self._input(set_a20)

    # --- looking and setting
    @property
    def rip(self):
        return self.c.rip

    @property
    def registers(self):
        """All registers by name, as plain ints."""
        cdef Cpu* c = self.c
        values = {name: c.regs[k] for k, name in enumerate(_NAMES)}
        values.update(rip=c.rip, rflags=all_flags(c), cr0=c.cr0, cr2=c.cr2, cr3=c.cr3, cr4=c.cr4, efer=c.efer, cpl=c.cpl,
                      mxcsr=c.mxcsr)
        for k, name in enumerate(_SEGMENTS):
            values[name] = c.seg[k].selector
            values[name + "_base"] = c.seg[k].base
        for k in range(16):
            values[f"xmm{k}"] = c.xmm[k].low | (<object>c.xmm[k].high << 64)
        return values

    def set_register(self, str name, value):
        """Sets a general register, rip or rflags."""
        if name == "rip":
            self.c.rip = value
        elif name in ("rflags", "eflags"):
            load_arithmetic_flags(self.c, value)
            self.c.flags_system = (value & ~<u64>F_ARITH) | F_ONE
            update_mode(self.c)
        elif name.startswith("xmm"):
            self.c.xmm[int(name[3:])].low = value & <u64>0xFFFFFFFFFFFFFFFF
            self.c.xmm[int(name[3:])].high = value >> 64
        else:
            self.c.regs[_NAMES.index(name)] = value

    def set_segment(self, int number, int selector, u64 base, u32 limit, int attributes):
        """Loads a segment register's hidden part as given; attributes as in state.pxd (Segment)."""
        self.c.seg[number].selector = selector
        self.c.seg[number].base = base
        self.c.seg[number].limit = limit
        self.c.seg[number].attributes = attributes

    def set_system(self, **values):
        """Sets cr0, cr2, cr3, cr4, efer, cpl, halted, pdpte (four) and descriptor tables (gdt_base, gdt_limit, idt_base, idt_limit)."""
        cdef Cpu* c = self.c
        for name, value in values.items():
            if name == "cr0": c.cr0 = value
            elif name == "cr2": c.cr2 = value
            elif name == "cr3": c.cr3 = value
            elif name == "cr4": c.cr4 = value
            elif name == "efer": c.efer = value
            elif name == "cpl": c.cpl = value
            elif name == "gdt_base": c.gdtr.base = value
            elif name == "gdt_limit": c.gdtr.limit = value
            elif name == "idt_base": c.idtr.base = value
            elif name == "idt_limit": c.idtr.limit = value
            elif name == "halted": c.halted = value
            elif name == "pdpte": c.pdpte[0], c.pdpte[1], c.pdpte[2], c.pdpte[3] = value
            else: raise ValueError(name)

    def set_memory_types(self, u64 hole, u64 size):
        """The MTRRs as firmware leaves them: write-back, but for the video window and [hole, hole + size) (size a power of
        two that hole is a multiple of), which are uncached; ROM is write-protected."""
        cdef Cpu* c = self.c
        cdef int k
        c.mtrr_def_type = 0xC06
        c.mtrr_fixed[0] = c.mtrr_fixed[1] = <u64>0x0606060606060606
        c.mtrr_fixed[2] = 0
        for k in range(3, 11):
            c.mtrr_fixed[k] = <u64>0x0505050505050505
        c.mtrr_variable[0] = hole
        c.mtrr_variable[1] = (((<u64>1 << c.physical_bits) - 1) & ~(size - 1)) | 0x800

    def translate(self, u64 linear):
        """The physical address of a linear one, by the present tables, or None; changes no state but accessed bits."""
        cdef u64 physical
        cdef int shift
        cdef u64 cr2 = self.c.cr2
        if translate(self.c, linear, ACCESS_READ, CTX_KERNEL, &physical, &shift):
            self.c.cr2 = cr2
            return None
        return physical

    @property
    def last_fault(self):
        """(vector, error code or None, cr2) of the latest fault."""
        return (self.c.fault_vector, self.c.fault_error if self.c.fault_has_error else None, self.c.cr2)

    @property
    def fault_chain(self):
        """The latest fault and those met while delivering it: (vector, error code or None, cr2) each."""
        cdef Cpu* c = self.c
        return tuple((c.chain_vector[k], c.chain_error[k] if c.chain_has_error[k] else None, c.chain_cr2[k])
                     for k in range(c.chain_length))

    @property
    def unsupported(self):
        """What was met that is not emulated."""
        return self.c.unsupported.decode() if self.c.unsupported != NULL else ""

    @property
    def code_bits(self):
        """16, 32 or 64: the width of the code segment."""
        return 16 << (self.c.mode & MODE_CODE)

    def code_bytes(self, int length=15):
        """Up to `length` bytes at the instruction pointer; fewer where a page is not there."""
        cdef u8[64] data
        cdef int got
        cdef u64 cr2 = self.c.cr2
        got = fetch_bytes(self.c, self.c.rip + self.c.cs_base, data, min(length, 64))
        self.c.cr2 = cr2
        return (<u8*>data)[:got] if got > 0 else b""

    @property
    def counters(self):
        cdef Cpu* c = self.c
        return {"flushes": c.flushes, "blocks": c.blocks_made, "tlb_misses": c.tlb_misses, "page_faults": c.page_faults,
                "alone": c.singles, "arena": c.arena_used}

    @property
    def halted(self):
        return bool(self.c.halted)
