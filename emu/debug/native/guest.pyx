# The emulator's side of the native oracle: the same cases, run by our processor under the tables of a 64-bit kernel.
from libc.string cimport memcpy, memset

from emu.base.clock cimport Clock
from emu.base.types cimport u8, u16, u32, u64
from emu.cpu.core cimport Core
from emu.cpu.flags cimport all_flags, load_arithmetic_flags
from emu.cpu.loop cimport EXIT_UNSUPPORTED, retired, run_crew
from emu.cpu.mode cimport update_mode
from emu.cpu.segment cimport make_null, unpack
from emu.cpu.semantics.x87 cimport fxrstor_image, fxsave_image
from emu.cpu.state cimport *
from emu.memory.ports cimport Ports
from emu.memory.space cimport PhysicalMemory, dma_write, ram_pointer

import numpy as np

from emu.debug.native.cases import CASE, CODE, DATA, GDT, LDT, READ_ONLY, RESULT, WINDOW, ldt_descriptor

cdef extern from "emu/debug/native/area.h" nogil:
    ctypedef struct native_case:
        u64 regs[16]
        u64 rip
        u64 rflags
        u64 fs_base
        u64 gs_base
        u16 selectors[6]
        u16 code_length
        u16 steps
        u32 code_at
        u32 patch_at
        u16 patch_length
        u8 patch[64]
        u8 fx[512]
    ctypedef struct native_result:
        u64 regs[16]
        u64 rip
        u64 rflags
        u64 fs_base
        u64 gs_base
        u64 cr2
        u64 memory_hash
        u64 lines[2]
        u16 selectors[6]
        short vector
        u16 steps
        u32 error
        u8 fx[512]
    u64 area_scan(u8* live, const u8* before, u64* lines)

cdef enum:                       # physical addresses
    PML4 = 0x1000                # then the tables of the window, then those of the kernel's half
    GDT_AT = 0x8000
    LDT_AT = 0x8800
    TSS_AT = 0x9000
    IDT_AT = 0xA000
    STUBS = 0xB000               # 16 bytes of HLT a vector
    STACK_TOP = 0xF000
    CODE_AT = 0x10000
    DATA_AT = 0x12000
    READ_ONLY_AT = 0x14000
    MEMORY = 8192

cdef u64 KERNEL = <u64>0xFFFFFFFF80000000
cdef u64 NX = <u64>1 << 63


cdef class EmulatedCpu:
    """Our processor with the features given (numbers of isa/features.py)."""

    cdef readonly Core core
    cdef PhysicalMemory memory
    cdef u8* area                # the data pages
    cdef u8* stack_top
    cdef u8[MEMORY] before
    cdef u64 old_code
    cdef u64 old_length
    cdef const u8* old_bytes
    cdef object keep
    cdef Segment[128] descriptors        # by selector >> 3 and, for the LDT, 64 further on
    cdef u8[128] known

    def __init__(self, features):
        cdef Cpu* c
        self.memory = PhysicalMemory(1 << 20)
        self.core = Core(self.memory, Ports(), Clock(), tuple(features))
        c = self.core.c
        write = self._write
        write(PML4, 0x2007)
        write(0x2000 + 8 * (WINDOW >> 30), 0x3007)
        write(0x3000 + 8 * (WINDOW >> 21 & 511), 0x4007)
        for first, pages, at, bits in ((CODE, 2, CODE_AT, 0x65), (DATA, 2, DATA_AT, 0x67 | NX),
                                       (READ_ONLY, 1, READ_ONLY_AT, 0x65 | NX)):
            for k in range(pages):
                write(0x4000 + 8 * (first + 4096 * k >> 12 & 511), at + 4096 * k | bits)
        write(PML4 + 8 * 511, 0x5003)
        write(0x5000 + 8 * 510, 0x6003)
        write(0x6000, 0x1E3)
        for selector, descriptor in GDT.items():
            write(GDT_AT + selector, descriptor)
        for k, entry in enumerate(LDT):
            write(LDT_AT + 8 * k, ldt_descriptor(entry))
        write(TSS_AT + 4, KERNEL + STACK_TOP)
        write(TSS_AT + 0x60, 0x68 << 48)             # no I/O permission bitmap
        for vector in range(256):
            stub = KERNEL + STUBS + 16 * vector
            access = 0xEE if vector in (3, 4, 0x80) else 0x8E
            write(IDT_AT + 16 * vector, stub & 0xFFFF | 0x10 << 16 | access << 40 | (stub >> 16 & 0xFFFF) << 48)
            write(IDT_AT + 16 * vector + 8, stub >> 32)
        self.memory.physical[STUBS:STUBS + 4096] = b"\xf4" * 4096
        self.memory.physical[CODE_AT:CODE_AT + 8192] = b"\xcc" * 8192
        self.memory.physical[READ_ONLY_AT:READ_ONLY_AT + 4096] = bytes((7 * k + 3) & 255 for k in range(4096))
        self.core.set_system(cr0=0x80050033, cr3=PML4, efer=0xD01, gdt_base=KERNEL + GDT_AT, gdt_limit=0x7F, idt_base=KERNEL + IDT_AT,
                             idt_limit=4095, cr4=0x6A0 | self._control())
        c.xcr0 = 3
        unpack(&c.seg[TR], 0x40, <u64>0x00008B0000000067)
        c.seg[TR].base = KERNEL + TSS_AT
        unpack(&c.seg[LDTR], 0x50, <u64>0x0000820000000000 | (8 * len(LDT) - 1))
        c.seg[LDTR].base = KERNEL + LDT_AT
        self.area = ram_pointer(c.space, DATA_AT)
        self.stack_top = ram_pointer(c.space, STACK_TOP - 8) + 8
        for selector, descriptor in GDT.items():
            self._describe(selector >> 3, selector, descriptor)
        for k, entry in enumerate(LDT):
            self._describe(64 + k, 8 * k + 7, ldt_descriptor(entry))
        self.core.after_load()

    def _write(self, u64 physical, u64 value):
        self.memory.physical[physical:physical + 8] = int(value).to_bytes(8, "little")

    def _describe(self, int place, int selector, u64 descriptor):
        unpack(&self.descriptors[place], selector, descriptor)
        self.known[place] = 1

    def _control(self):
        """The bits of CR4 that a kernel sets where the processor has them."""
        from emu.isa.features import FEATURE_NUMBERS
        cdef u64* have = self.core.c.features
        bits = {"UMIP": 1 << 11, "FSGSBASE": 1 << 16, "XSAVE": 1 << 18, "SMEP": 1 << 20, "SMAP": 1 << 21}
        return sum(bit for name, bit in bits.items() if have[<int>FEATURE_NUMBERS[name] >> 6] >> (<int>FEATURE_NUMBERS[name] & 63) & 1)

    def run(self, cases, codes, template, bint traced=True, bint memory=False):
        """As NativeCpu.run. traced: with the trap flag, as the host does it (then what PUSHF stores is the same too, and MOV SS holds a
        trap back); else as programs run, through blocks."""
        cdef int count = len(cases)
        cdef u64 width = codes.shape[1]
        cdef const u8[::1] from_cases = np.ascontiguousarray(cases).view(np.uint8).reshape(-1)
        cdef const u8[::1] from_codes = np.ascontiguousarray(codes).reshape(-1)
        cdef const u8[::1] from_template = np.ascontiguousarray(template)
        if cases.dtype != CASE or len(codes) != count or len(from_template) != MEMORY:
            raise ValueError("cases, codes and template do not fit")
        results = np.zeros(count, RESULT)
        pages = np.zeros((count if memory else 1, MEMORY), np.uint8)
        if not count:
            return (results, pages[:0]) if memory else results
        cdef u8[::1] to_results = results.view(np.uint8).reshape(-1)
        cdef u8[:, ::1] to_pages = pages
        cdef int k
        cdef const native_case* case
        memcpy(self.area, &from_template[0], MEMORY)
        memcpy(self.before, &from_template[0], MEMORY)
        with nogil:
            for k in range(count):
                case = (<const native_case*>&from_cases[0]) + k
                self.load(case, &from_codes[0] + <u64>k * width)
                self.go(case, (<native_result*>&to_results[0]) + k, traced)
                if memory:
                    memcpy(&to_pages[k, 0], self.area, MEMORY)
                self.store(case, (<native_result*>&to_results[0]) + k, &from_template[0])
        self.put_code(NULL, 0, 0)
        return (results, pages) if memory else results

    cdef void put_code(self, const u8* code, u64 at, u64 length) noexcept nogil:
        cdef u8[4096] blank
        if length and self.old_length == length and self.old_code == at and not differ(self.old_bytes, code, length):
            return
        if self.old_length:
            memset(blank, 0xCC, self.old_length)
            dma_write(self.core.c.space, CODE_AT + self.old_code, blank, self.old_length)
        if length:
            dma_write(self.core.c.space, CODE_AT + at, code, length)
        self.old_code = at
        self.old_length = length
        self.old_bytes = code

    cdef void set_segment(self, int number, u16 selector) noexcept nogil:
        cdef int place = (selector >> 3) + (64 if selector & 4 else 0)
        if place < 128 and self.known[place]:
            self.core.c.seg[number] = self.descriptors[place]
            self.core.c.seg[number].selector = selector
        else:
            make_null(&self.core.c.seg[number], selector)

    cdef void load(self, const native_case* case, const u8* code) noexcept nogil:
        cdef Cpu* c = self.core.c
        cdef int k
        self.put_code(code, case.code_at, case.code_length)
        if case.patch_length:
            memcpy(self.area + case.patch_at, case.patch, case.patch_length)
            memcpy(self.before + case.patch_at, case.patch, case.patch_length)
        memcpy(c.regs, case.regs, 128)
        for k in range(6):
            self.set_segment(k, case.selectors[k])
        c.seg[FS].base = case.fs_base
        c.seg[GS].base = case.gs_base
        c.rip = case.rip
        load_arithmetic_flags(c, case.rflags)
        c.flags_system = (case.rflags & ~<u64>F_ARITH) | F_ONE
        c.cpl = 3
        c.cr2 = 0
        c.dr[6] = <u64>0xFFFF0FF0
        fxrstor_image(&c.fpu, &c.xmm[0].low, 16, &c.mxcsr, case.fx, True)
        c.halted = c.shadow = c.shadow_debug = c.shutdown = c.debug_trap = 0
        update_mode(c)

    cdef void go(self, const native_case* case, native_result* out, bint traced) noexcept nogil:
        """Runs the steps. A single-step trap on the way is answered as its handler would: on with the trap flag as wanted."""
        cdef Cpu* c = self.core.c
        cdef u64 end = retired(c) + case.steps
        cdef int reason = 0, vector = 1, steps = 0
        while True:
            if traced:
                c.flags_system |= F_TF
                update_mode(c)
                reason = run_crew(c.crew, retired(c) + 1, False)
            else:
                reason = run_crew(c.crew, end, False)
            if reason == EXIT_UNSUPPORTED or c.shutdown:
                vector = -2
                break
            if c.cpl == 3:
                if traced and retired(c) < end + case.steps:
                    continue                     # a trap was held back: one instruction more
                steps = case.steps
                break
            vector = <int>((c.rip - KERNEL - STUBS) >> 4)
            c.halted = 0
            if not traced:                       # without the HLT of the handler, and the INT that led there
                steps = <int>(retired(c) + case.steps - end) - <int>(c.rip & 1) - (vector == 3 or vector == 4)
            self.leave(out, vector)
            if vector != 1:
                break
            if traced:
                steps += 1
            if traced and steps >= case.steps or not traced and retired(c) >= end:
                break
            if not traced:
                c.flags_system &= ~<u64>F_TF
        out.vector = <short>vector
        out.steps = <u16>steps

    cdef void leave(self, native_result* out, int vector) noexcept nogil:
        """Takes the exception's frame off the kernel's stack: back to where it was raised."""
        cdef Cpu* c = self.core.c
        cdef const u64* frame = <const u64*>(self.stack_top - 48)
        out.error = 0
        if vector == 8 or 10 <= vector <= 14:
            out.error = <u32>frame[0]
        out.cr2 = c.cr2 if vector == 14 else 0
        c.rip = frame[1]
        self.set_segment(CS, <u16>frame[2])
        load_arithmetic_flags(c, frame[3])
        c.flags_system = (frame[3] & ~<u64>F_ARITH) | F_ONE
        c.regs[RSP] = frame[4]
        self.set_segment(SS, <u16>frame[5])
        c.cpl = 3
        update_mode(c)

    cdef void store(self, const native_case* case, native_result* out, const u8* template) noexcept nogil:
        cdef Cpu* c = self.core.c
        cdef int k
        memcpy(out.regs, c.regs, 128)
        out.rip = c.rip
        out.rflags = all_flags(c)
        out.fs_base = c.seg[FS].base
        out.gs_base = c.seg[GS].base
        for k in range(6):
            out.selectors[k] = c.seg[k].selector
        fxsave_image(&c.fpu, &c.xmm[0].low, 16, c.mxcsr, out.fx, True, False)
        memset(out.fx + 28, 0, 4)
        out.memory_hash = area_scan(self.area, self.before, out.lines)
        if case.patch_length:
            memcpy(self.area + case.patch_at, template + case.patch_at, case.patch_length)
            memcpy(self.before + case.patch_at, template + case.patch_at, case.patch_length)


cdef inline bint differ(const u8* a, const u8* b, u64 length) noexcept nogil:
    cdef u64 k
    for k in range(length):
        if a[k] != b[k]:
            return True
    return False
