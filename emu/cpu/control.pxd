# Control and debug registers, descriptor-table registers, flags, fast system calls, time and random numbers.
from emu.base.types cimport u64
from emu.cpu.state cimport Cpu, Insn

cdef int mov_from_cr(Cpu* c, Insn* i) noexcept nogil
cdef int mov_to_cr(Cpu* c, Insn* i) noexcept nogil
cdef int mov_from_dr(Cpu* c, Insn* i) noexcept nogil
cdef int mov_to_dr(Cpu* c, Insn* i) noexcept nogil
cdef int clts(Cpu* c, Insn* i) noexcept nogil
cdef int lmsw_r(Cpu* c, Insn* i) noexcept nogil
cdef int lmsw_m(Cpu* c, Insn* i) noexcept nogil
cdef int smsw_r(Cpu* c, Insn* i) noexcept nogil
cdef int smsw_m(Cpu* c, Insn* i) noexcept nogil
cdef int invlpg(Cpu* c, Insn* i) noexcept nogil
cdef int invpcid(Cpu* c, Insn* i) noexcept nogil
cdef int privileged(Cpu* c, Insn* i) noexcept nogil          # INVD, WBINVD: nothing but the check
cdef int sgdt(Cpu* c, Insn* i) noexcept nogil
cdef int sidt(Cpu* c, Insn* i) noexcept nogil
cdef int lgdt(Cpu* c, Insn* i) noexcept nogil
cdef int lidt(Cpu* c, Insn* i) noexcept nogil
cdef int sldt_r(Cpu* c, Insn* i) noexcept nogil
cdef int sldt_m(Cpu* c, Insn* i) noexcept nogil
cdef int str_r(Cpu* c, Insn* i) noexcept nogil
cdef int str_m(Cpu* c, Insn* i) noexcept nogil
cdef int lldt_r(Cpu* c, Insn* i) noexcept nogil
cdef int lldt_m(Cpu* c, Insn* i) noexcept nogil
cdef int ltr_r(Cpu* c, Insn* i) noexcept nogil
cdef int ltr_m(Cpu* c, Insn* i) noexcept nogil
cdef int mov_from_sreg_r(Cpu* c, Insn* i) noexcept nogil
cdef int mov_from_sreg_m(Cpu* c, Insn* i) noexcept nogil
cdef int mov_to_sreg_r(Cpu* c, Insn* i) noexcept nogil
cdef int mov_to_sreg_m(Cpu* c, Insn* i) noexcept nogil
cdef int push_sreg(Cpu* c, Insn* i) noexcept nogil
cdef int pop_sreg(Cpu* c, Insn* i) noexcept nogil
cdef int load_far_pointer(Cpu* c, Insn* i) noexcept nogil     # LDS LES LFS LGS LSS: aux is the segment register
cdef int pushf(Cpu* c, Insn* i) noexcept nogil
cdef int popf(Cpu* c, Insn* i) noexcept nogil
cdef int cli(Cpu* c, Insn* i) noexcept nogil
cdef int sti(Cpu* c, Insn* i) noexcept nogil
cdef int hlt(Cpu* c, Insn* i) noexcept nogil
cdef int stac(Cpu* c, Insn* i) noexcept nogil
cdef int clac(Cpu* c, Insn* i) noexcept nogil
cdef int syscall(Cpu* c, Insn* i) noexcept nogil
cdef int sysret(Cpu* c, Insn* i) noexcept nogil
cdef int sysenter(Cpu* c, Insn* i) noexcept nogil
cdef int sysexit(Cpu* c, Insn* i) noexcept nogil
cdef int swapgs(Cpu* c, Insn* i) noexcept nogil
cdef int rdfsbase(Cpu* c, Insn* i) noexcept nogil
cdef int rdgsbase(Cpu* c, Insn* i) noexcept nogil
cdef int wrfsbase(Cpu* c, Insn* i) noexcept nogil
cdef int wrgsbase(Cpu* c, Insn* i) noexcept nogil
cdef int rdpid(Cpu* c, Insn* i) noexcept nogil
cdef int rdpkru(Cpu* c, Insn* i) noexcept nogil
cdef int wrpkru(Cpu* c, Insn* i) noexcept nogil
cdef int xgetbv(Cpu* c, Insn* i) noexcept nogil
cdef int xsetbv(Cpu* c, Insn* i) noexcept nogil
cdef int rdtsc(Cpu* c, Insn* i) noexcept nogil
cdef int rdtscp(Cpu* c, Insn* i) noexcept nogil
cdef int rdrand(Cpu* c, Insn* i) noexcept nogil
cdef int cpuid(Cpu* c, Insn* i) noexcept nogil
cdef int ud(Cpu* c, Insn* i) noexcept nogil                   # UD0, UD1, UD2
cdef int cpl0(Cpu* c) noexcept nogil
cdef u64 valid_cr4(Cpu* c) noexcept nogil                     # the bits that this CPU has
cdef u64 valid_xcr0(Cpu* c) noexcept nogil
