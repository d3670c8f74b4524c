# Our processor as a follower (follow.py): RAM and a CPU, no device, so that what only the outside can know is told apart.
from emu.base.clock cimport Clock
from emu.base.types cimport u16, u32, u64
from emu.cpu.access cimport flush_tlb
from emu.cpu.core cimport Core
from emu.cpu.event cimport deliver_interrupt
from emu.cpu.flags cimport all_flags, load_arithmetic_flags
from emu.cpu.loop cimport EXIT_SHUTDOWN, EXIT_UNSUPPORTED, run_crew
from emu.cpu.mode cimport update_mode
from emu.cpu.state cimport Cpu, CS, DS, ES, F_ARITH, F_ONE, FS, GS, LDTR, SS, TR
from emu.memory.ports cimport Ports
from emu.memory.space cimport PhysicalMemory

_GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
_SEGMENTS = (("es", ES), ("cs", CS), ("ss", SS), ("ds", DS), ("fs", FS), ("gs", GS), ("ldt", LDTR), ("tr", TR))
_XMM = tuple(f"xmm{n}" for n in range(16))
_DEBUG = (0, 1, 2, 3, 6, 7)


cdef class MachineFollower:
    """One CPU with the features given (numbers of isa/features.py) and RAM that holds `image` from address 0 up.

    msrs: index -> value, of those that a dump does not show (qemu.py, MSRS).
    """

    cdef Core core
    cdef PhysicalMemory memory
    cdef int reason

    def __init__(self, bytes image, msrs, features):
        self.memory = PhysicalMemory(len(image))
        self.core = Core(self.memory, Ports(), Clock(), features)
        for base, length in self.memory.ram_ranges:
            piece = image[base:base + length]
            if piece:
                self.memory.physical[base:base + len(piece)] = piece
        cdef Cpu* c = self.core.c
        for index, value in msrs.items():
            if index == 0x174: c.sysenter_cs = value
            elif index == 0x175: c.sysenter_esp = value
            elif index == 0x176: c.sysenter_eip = value
            elif index == 0x277: c.pat = value
            elif index == 0xC0000081: c.star = value
            elif index == 0xC0000082: c.lstar = value
            elif index == 0xC0000083: c.cstar = value
            elif index == 0xC0000084: c.sfmask = value
            elif index == 0xC0000102: c.kernel_gs_base = value
            elif index == 0xC0000103: c.tsc_aux = value

    def load(self, values):
        """See follow.Follower.load."""
        cdef Cpu* c = self.core.c
        cdef int k
        cdef u64 flags
        paging = (c.cr0, c.cr3, c.cr4, c.efer)
        for k, name in enumerate(_GENERAL):
            c.regs[k] = values.get(name, c.regs[k])
        c.rip = values["rip"]
        load_arithmetic_flags(c, values["rflags"])
        c.flags_system = (values["rflags"] & ~<u64>F_ARITH) | F_ONE
        c.cr0 = values["cr0"]
        c.cr2 = values["cr2"]
        c.cr3 = values["cr3"]
        c.cr4 = values["cr4"]
        c.efer = values["efer"]
        c.cpl = values["cpl"]
        for k in _DEBUG:
            c.dr[k] = values[f"dr{k}"]
        for name, number in _SEGMENTS:
            k = number
            flags = values[name + ".flags"]
            c.seg[k].selector = values[name]
            c.seg[k].base = values[name + ".base"]
            c.seg[k].limit = values[name + ".limit"]
            c.seg[k].attributes = <u16>((flags >> 8 & 0xFF) | (flags >> 20 & 0xF) << 8)
            if not flags & 0x8000 and values["cr0"] & 1 and name != "tr":
                c.seg[k].attributes |= <u16>0x8000               # not present can only be null here
        c.gdtr.base = values["gdt.base"]
        c.gdtr.limit = values["gdt.limit"]
        c.idtr.base = values["idt.base"]
        c.idtr.limit = values["idt.limit"]
        c.mxcsr = values["mxcsr"]
        c.fpu.control = values["fcw"]
        c.fpu.status = values["fsw"]
        c.fpu.valid = values["ftw"]
        for k in range(8):
            value = values[f"fpr{k}"]
            c.fpu.st[k].significand = value & <u64>0xFFFFFFFFFFFFFFFF
            c.fpu.st[k].sign_exponent = value >> 64
        for k, name in enumerate(_XMM):
            value = values.get(name)
            if value is not None:
                c.xmm[k].low = value & <u64>0xFFFFFFFFFFFFFFFF
                c.xmm[k].high = value >> 64
        c.halted = 0
        c.shutdown = 0
        if paging != (c.cr0, c.cr3, c.cr4, c.efer):
            flush_tlb(c, True)
        update_mode(c)

    def registers(self):
        """See follow.Follower.registers."""
        cdef Cpu* c = self.core.c
        cdef int k
        values = {name: c.regs[k] for k, name in enumerate(_GENERAL)}
        values.update({"rip": c.rip, "rflags": all_flags(c), "cr0": c.cr0, "cr2": c.cr2, "cr3": c.cr3, "cr4": c.cr4, "efer": c.efer,
                       "cpl": c.cpl, "dr0": c.dr[0], "dr1": c.dr[1], "dr2": c.dr[2], "dr3": c.dr[3], "dr6": c.dr[6], "dr7": c.dr[7],
                       "gdt.base": c.gdtr.base, "gdt.limit": c.gdtr.limit, "idt.base": c.idtr.base, "idt.limit": c.idtr.limit,
                       "mxcsr": c.mxcsr, "fcw": c.fpu.control, "fsw": c.fpu.status, "ftw": c.fpu.valid})
        for name, number in _SEGMENTS:
            k = number
            values[name] = c.seg[k].selector
            values[name + ".base"] = c.seg[k].base
            values[name + ".limit"] = c.seg[k].limit
            values[name + ".flags"] = <u32>(c.seg[k].attributes & 0xFF) << 8 | <u32>(c.seg[k].attributes >> 8 & 0xF) << 20
        for k, name in enumerate(_XMM):
            values[name] = c.xmm[k].low | <object>c.xmm[k].high << 64
        for k in range(8):
            values[f"fpr{k}"] = c.fpu.st[k].significand | <object>c.fpu.st[k].sign_exponent << 64
        return values

    def step(self):
        """See follow.Follower.step: by the core loop itself, so that blocks and their invalidation are compared too."""
        cdef Cpu* c = self.core.c
        if c.halted:
            c.halted = 0
        c.fault_vector = -1
        self.reason = run_crew(c.crew, c.slice_end - <u64>c.budget + 1, False)

    def interrupt(self, int vector):
        """See follow.Follower.interrupt."""
        cdef Cpu* c = self.core.c
        c.halted = 0
        deliver_interrupt(c, vector)

    def read_physical(self, address, size):
        """See follow.Follower.read_physical."""
        for base, length in self.memory.ram_ranges:
            if base <= address < base + length:
                data = bytes(self.memory.physical[address:min(address + size, base + length)])
                return data if len(data) == size else data + self.read_physical(address + len(data), size - len(data))
        return b""

    def outside(self):
        """See follow.Follower.outside."""
        return self.memory.dropped

    def remark(self):
        """See follow.Follower.remark."""
        cdef Cpu* c = self.core.c
        if self.reason == EXIT_UNSUPPORTED:
            return "not emulated" + (f": {c.unsupported.decode()}" if c.unsupported != NULL else "")
        if self.reason == EXIT_SHUTDOWN:
            return "shut down (triple fault)"
        if c.fault_vector >= 0:
            return f"raised exception {c.fault_vector}" + (f" with error code {c.fault_error:#x}" if c.fault_has_error else "")
        return ""
