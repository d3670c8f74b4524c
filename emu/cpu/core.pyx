# The owners of the state of CPUs, as Python sees them: one CPU, and all CPUs of a machine with what they share.
import cython

from libc.stdlib cimport calloc, free
from libc.string cimport memset
from cpython.exc cimport PyErr_CheckSignals

from emu.base.clock cimport Clock
from emu.base.errors import HostError, SnapshotError
from emu.base.line cimport LineInput, line_fn, line_input, line_output
from emu.base.types cimport i64, u8, u32, u64
from emu.base.state cimport declare_state
from emu.cpu.access cimport fetch_bytes, flush_tlb, translate
from emu.cpu.block cimport flush_blocks, invalidate_code
from emu.cpu.declare cimport check_cpu, declare_cpu, forget_translations
from emu.cpu.flags cimport all_flags, load_arithmetic_flags
from emu.cpu.loop cimport EXIT_PAUSE, call_cpu, catch_up, crew_retired, run_crew
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
    VTAB_BYTES = VTAB_ENTRIES * 16
    TLB_COUNT = CONTEXTS * 2 * TLB_ENTRIES
    TLB_BYTES = TLB_COUNT * 17 + 2 * ITLB_ENTRIES * 16
    # DEVIATES: some PAUSE in a few cycles, some in 140. It lets a CPU that spins for another cost the host little.
    PAUSE_NS = 100
    SIGNALS_NS = 20000000        # host time between two looks at the host's signals


cdef inline i64 host_ns() noexcept nogil:
    """The host's clock: only ever decides when to look at the host's signals, never what the guest sees."""
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec * 1000000000 + now.tv_nsec


_NAMES = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15")
_SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")
REASONS = ("target", "idle", "shutdown", "stop", "unsupported", "dead", "reset")


cdef void set_intr(void* owner, int number, int level) noexcept nogil:
    (<Cpu*>owner).intr = level
    if level:
        call_cpu(<Cpu*>owner)


cdef void set_nmi(void* owner, int number, int level) noexcept nogil:
    if level:
        (<Cpu*>owner).nmi = 1
        call_cpu(<Cpu*>owner)


cdef void set_init(void* owner, int number, int level) noexcept nogil:
    if level:
        (<Cpu*>owner).init = 1
        (<Cpu*>owner).sipi = -1
        call_cpu(<Cpu*>owner)


cdef void set_sipi(void* owner, int number, int level) noexcept nogil:
    """STARTUP messages: `level` is the vector. They start a CPU that waits for one; others ignore them (SDM 3A 8.4.2)."""
    cdef Cpu* c = <Cpu*>owner
    if c.wait_sipi or c.init:
        c.sipi = level
        call_cpu(c)


cdef void set_a20(void* owner, int number, int level) noexcept nogil:
    cdef Crew* w = <Crew*>owner
    cdef int k
    w.space.a20_mask = ~<u64>0 if level else ~(<u64>1 << 20)
    for k in range(w.count):
        flush_tlb(w.cpu[k], True)
    memset(w.vtab, 0, VTAB_BYTES)


cdef void* map_tables(u64 size) except NULL:
    """Zeros from the host, for caches; what is never touched costs nothing."""
    cdef void* tables = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
    if tables == MAP_FAILED:
        raise HostError("memory", "the host refused the caches of a CPU", f"{size} bytes")
    return tables


@cython.no_gc_clear                  # __dealloc__ needs the memory that it holds
cdef class Processors:
    """The CPUs of one machine, numbered from 0, which boots; and what they share: decoded code, and whose turn it is.

    Owns the state of every Core that is made with it."""

    def __cinit__(self, PhysicalMemory memory, Clock clock):
        cdef Crew* w = &self.crew
        w.turn = -1
        w.clock = &clock.state
        w.space = &memory.space
        w.arena = <u8*>map_tables(ARENA_BYTES + HASH_BYTES + VTAB_BYTES)
        w.arena_size = ARENA_BYTES
        w.hash = <Block**>(w.arena + ARENA_BYTES)
        w.vtab = <VtabEntry*>(w.arena + ARENA_BYTES + HASH_BYTES)
        if w.space.code_owners == 8:
            raise ValueError("too many parts keep decoded code of this memory")
        w.space.code_written[w.space.code_owners] = invalidate_code
        w.space.code_owner[w.space.code_owners] = w
        w.space.code_owners += 1
        self._memory = memory
        self._keep = [clock]
        fields = declare_state("processors", self, self._validate)
        fields.cover(w, sizeof(Crew))
        fields.derived("requests and caches", &w.stop_request, <u64>w + sizeof(Crew) - <u64>&w.stop_request)
        fields.add("turn", "i32", &w.turn)
        fields.add("turn_over", "i32", &w.turn_over)
        self.fields = fields

    def __dealloc__(self):
        cdef Crew* w = &self.crew
        cdef int k, n = 0
        for k in range(w.count):
            munmap(w.cpu[k].tlbs, TLB_BYTES)
            free(w.cpu[k])
        if w.space != NULL:
            for k in range(w.space.code_owners):
                if w.space.code_owner[k] != w:
                    w.space.code_owner[n] = w.space.code_owner[k]
                    w.space.code_written[n] = w.space.code_written[k]
                    n += 1
            w.space.code_owners = n
        if w.arena != NULL:
            munmap(w.arena, ARENA_BYTES + HASH_BYTES + VTAB_BYTES)

    cdef Cpu* add(self) except NULL:
        """One CPU more, with empty caches."""
        cdef Crew* w = &self.crew
        cdef Cpu* c
        cdef int k
        cdef u8* tables
        if w.count == MAX_CPUS:
            raise ValueError(f"a machine has at most {MAX_CPUS} CPUs")
        tables = <u8*>map_tables(TLB_BYTES)
        c = <Cpu*>calloc(1, sizeof(Cpu))
        if c == NULL:
            munmap(tables, TLB_BYTES)
            raise HostError("memory", "the host refused the state of a CPU")
        c.tlbs = <TlbEntry*>tables
        c.itlbs = <ItlbEntry*>(tables + TLB_COUNT * 16)
        c.tlb_shift = tables + TLB_COUNT * 16 + 2 * ITLB_ENTRIES * 16
        memset(c.tlb_used, 1, sizeof(c.tlb_used))
        for k in range(TLB_ENTRIES):             # the context that is never filled
            c.tlbs[CTX_SLOW * 2 * TLB_ENTRIES + k].tag = <u64>(k ^ 1) << 12
            c.tlbs[(CTX_SLOW * 2 + 1) * TLB_ENTRIES + k].tag = <u64>(k ^ 1) << 12
        c.crew = w
        c.number = w.count
        c.hash = w.hash
        c.vtab = w.vtab
        c.space = w.space
        c.clock = w.clock
        w.cpu[w.count] = c
        w.count += 1
        for k in range(w.count):
            w.cpu[k].pause_ns = PAUSE_NS if w.count > 1 else 0
        return c

    def run(self, u64 target, bint jump=True):
        """Runs, without the GIL, until all CPUs together have retired `target` instructions or attention is wanted; gives
        the reason. `jump`: where all are asleep, time goes to the next timer at once.

        The host's signals are answered on the way: what their handlers raise ends the run between two instructions."""
        cdef int reason
        cdef i64 look
        self._memory.own()
        while True:
            with nogil:
                look = host_ns() + SIGNALS_NS
                while True:
                    reason = run_crew(&self.crew, target, jump)
                    if reason != EXIT_PAUSE or host_ns() >= look:
                        break
            if reason != EXIT_PAUSE:
                return REASONS[reason]
            PyErr_CheckSignals()                 # their handlers run, and may raise

    def reset(self):
        """Nobody's turn; the CPUs are reset one by one."""
        self.crew.turn = -1
        self.crew.turn_over = 0

    def wait(self, u64 ns):
        """Time goes on by `ns` in which no CPU does anything."""
        self.crew.clock.now_ns += ns
        catch_up(&self.crew)

    @property
    def latest_ns(self):
        """The time of the CPU that is furthest ahead, or of the devices: nothing has happened yet after it."""
        cdef int k
        cdef u64 latest = self.crew.clock.now_ns
        for k in range(self.crew.count):
            latest = max(latest, self.crew.cpu[k].slice_end - <u64>self.crew.cpu[k].budget + self.crew.cpu[k].idle_ns)
        return latest

    def request_stop(self, bint on=True):
        """Makes run() return soon; may be called from any thread or signal handler."""
        self.crew.stop_request = on

    def keep(self, part):
        """Holds a part alive that the CPUs reach."""
        self._keep.append(part)

    @property
    def retired(self):
        """Instructions retired since power-on, by all CPUs."""
        return crew_retired(&self.crew)

    @property
    def current(self):
        """The number of the CPU that ran last."""
        return max(self.crew.turn, 0)

    @property
    def counters(self):
        """Of the decoded code that all CPUs share."""
        return {"blocks": self.crew.blocks_made, "arena": self.crew.arena_used}

    @property
    def a20(self):
        return line_input(set_a20, &self.crew, 0, self)

    def _validate(self):
        if not -1 <= self.crew.turn < self.crew.count or not 0 <= self.crew.turn_over <= 1:
            raise SnapshotError("processors.turn", str(self.crew.turn), f"the number of one of {self.crew.count} CPUs, or -1")


cdef class Core:
    """One CPU: its state and its own caches.

    memory, ports and clock are the machine's; `features` the feature numbers of its model (isa/features.py);
    `processors` those that it joins as the last one (None: it is a machine's only one)."""

    def __cinit__(self, PhysicalMemory memory, Ports ports, Clock clock, features=(), Processors processors=None,
                  int physical_bits=40, int model=0, object seed=0):
        self.processors = processors if processors is not None else Processors(memory, clock)
        self.c = c = self.processors.add()
        self._keep = [ports]
        c.ports = &ports.space
        c.model = model
        c.physical_bits = physical_bits
        for feature in features:
            c.features[feature >> 6] |= <u64>1 << (feature & 63)
        c.features[0] |= 1
        for k in range(4):
            c.random_state[k] = (int(seed) * <u64>0x9E3779B97F4A7C15 + (k + 1) * <u64>0xBF58476D1CE4E5B9 + c.number) & (2 ** 64 - 1)
        reset_cpu(c)
        self.fields = declare_cpu(self.c, self, self._check)

    def _check(self):
        check_cpu(self.c)

    def forget_translations(self):
        """Empties the TLBs, as taking a snapshot does: what is copied and its copy then have the same future."""
        forget_translations(self.c)

    # --- running
    def run(self, u64 target, bint jump=True):
        """Runs all CPUs of its machine; see Processors.run."""
        return self.processors.run(target, jump)

    def reset(self):
        """Power-on state, in which all but the first CPU wait for a SIPI; retired instructions and time go on."""
        reset_cpu(self.c)

    def after_load(self):
        """To be called after registers were set from outside: all that follows from them is made anew."""
        flush_tlb(self.c, True)
        flush_blocks(self.c.crew)
        update_mode(self.c)

    @property
    def retired(self):
        """Instructions that this CPU has retired since power-on."""
        return self.c.slice_end - <u64>self.c.budget

    @property
    def number(self):
        """Which CPU of the machine: 0 boots."""
        return self.c.number

    @property
    def idle_ns(self):
        """Virtual time in which nothing retired here."""
        return self.c.idle_ns

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
        """Sets cr0, cr2, cr3, cr4, efer, cpl, halted, waits (for a SIPI), pdpte (four) and descriptor tables (gdt_base, gdt_limit,
        idt_base, idt_limit)."""
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
            elif name == "waits": c.wait_sipi = value
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
        return {"flushes": c.flushes, "tlb_misses": c.tlb_misses, "page_faults": c.page_faults,
                "alone": c.singles}

    @property
    def halted(self):
        return bool(self.c.halted)
