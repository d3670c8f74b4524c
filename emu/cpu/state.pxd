# The CPU's state, the decoded instruction, the block, and the constants that all parts of the CPU share.
#
# Layout rules (docs/adr/0002): general registers first, addressed by byte offset, so that AH is one of them; a register
# that always reads zero stands for "no base / no index"; `regs[RIP_SLOT]` is the rip of the block that runs, so that
# a RIP-relative operand is an ordinary base register and one block serves every virtual alias of its page.
from emu.base.clock cimport ClockState
from emu.base.port cimport Port
from emu.base.line cimport Line
from emu.base.types cimport i32, i64, u8, u16, u32, u64
from emu.cpu.fpu cimport X87
from emu.cpu.softfloat cimport FloatStatus
from emu.memory.ports cimport PortSpace
from emu.memory.space cimport Space

cdef enum:                       # places in regs[]
    RAX = 0
    RCX = 1
    RDX = 2
    RBX = 3
    RSP = 4
    RBP = 5
    RSI = 6
    RDI = 7
    ZERO_SLOT = 16               # always 0
    RIP_SLOT = 17                # rip (offset in CS) of the first instruction of the running block
    TEMP_SLOT = 18
    REG_SLOTS = 20

cdef enum:                       # segment registers, in encoding order; then the system ones; FLAT: base 0, never checked
    ES = 0
    CS = 1
    SS = 2
    DS = 3
    FS = 4
    GS = 5
    FLAT = 6
    FLAT_STACK = 7               # the same, for operands in SS
    LDTR = 8
    TR = 9
    SEGMENTS = 10
    SEG_CHECKED = 16             # flag in Insn.seg: limit and type are to be checked (not flat)

cdef enum:                       # RFLAGS
    F_CF = 1 << 0
    F_ONE = 1 << 1
    F_PF = 1 << 2
    F_AF = 1 << 4
    F_ZF = 1 << 6
    F_SF = 1 << 7
    F_TF = 1 << 8
    F_IF = 1 << 9
    F_DF = 1 << 10
    F_OF = 1 << 11
    F_IOPL = 3 << 12
    F_NT = 1 << 14
    F_RF = 1 << 16
    F_VM = 1 << 17
    F_AC = 1 << 18
    F_VIF = 1 << 19
    F_VIP = 1 << 20
    F_ID = 1 << 21
    F_ARITH = 0x8D5              # OF SF ZF AF PF CF

cdef enum:                       # control registers
    CR0_PE = 1 << 0
    CR0_MP = 1 << 1
    CR0_EM = 1 << 2
    CR0_TS = 1 << 3
    CR0_ET = 1 << 4
    CR0_NE = 1 << 5
    CR0_WP = 1 << 16
    CR0_AM = 1 << 18
    CR0_NW = 1 << 29
    CR0_CD = 1 << 30
    CR4_VME = 1 << 0
    CR4_PVI = 1 << 1
    CR4_TSD = 1 << 2
    CR4_DE = 1 << 3
    CR4_PSE = 1 << 4
    CR4_PAE = 1 << 5
    CR4_MCE = 1 << 6
    CR4_PGE = 1 << 7
    CR4_PCE = 1 << 8
    CR4_OSFXSR = 1 << 9
    CR4_OSXMMEXCPT = 1 << 10
    CR4_UMIP = 1 << 11
    CR4_FSGSBASE = 1 << 16
    CR4_PCIDE = 1 << 17
    CR4_OSXSAVE = 1 << 18
    CR4_SMEP = 1 << 20
    CR4_SMAP = 1 << 21
    CR4_PKE = 1 << 22
    EFER_SCE = 1 << 0
    EFER_LME = 1 << 8
    EFER_LMA = 1 << 10
    EFER_NXE = 1 << 11
cdef u64 CR0_PG

cdef enum:                       # exception vectors
    DE = 0
    DB = 1
    NMI = 2
    BP = 3
    OF = 4
    BR = 5
    UD = 6
    NM = 7
    DF = 8
    TS = 10
    NP = 11
    SS_FAULT = 12
    GP = 13
    PF = 14
    MF = 16
    AC = 17
    MC = 18
    XM = 19

cdef enum:                       # the mode word: what, besides its bytes, decides how an instruction decodes
    MODE_16 = 0                  # bits 1:0: code size
    MODE_32 = 1
    MODE_64 = 2
    MODE_CODE = 3
    MODE_STACK32 = 1 << 2        # SS.B (legacy and compatibility modes)
    MODE_CPL_SHIFT = 3           # bits 4:3
    MODE_CPL = 3 << 3
    MODE_PROTECTED = 1 << 5      # CR0.PE and not virtual-8086
    MODE_V86 = 1 << 6
    MODE_LONG = 1 << 7           # EFER.LMA (64-bit or compatibility)
    MODE_FLAT_DS = 1 << 8        # base 0, limit 4 GiB, usable, expand-up, readable and writable; always set in 64-bit mode
    MODE_FLAT_ES = 1 << 9
    MODE_FLAT_SS = 1 << 10
    MODE_FLAT_CS = 1 << 11       # base 0, limit 4 GiB (readable)

cdef enum:                       # Insn.flags
    I_A16 = 1                    # address size, as an index into Cpu.address_mask: 0 = 64 bits
    I_A32 = 2
    I_ASIZE = 3
    I_REP = 4                    # F3
    I_REPNE = 8                  # F2
    I_LOCK = 16
    I_LINK_TAKEN = 32            # branch target lies in the block's own page and CS is flat: may be linked
    I_LINK_FALL = 64             # the same for the next instruction
    I_MEMORY = 128               # ModRM names memory: for handlers that serve both forms

cdef enum:                       # what a handler returns to the core loop
    RC_NEXT = 0                  # everything charged has retired; Cpu.rip is the next instruction
    RC_FAULT = 1                 # Cpu.at faulted: Cpu.fault_* say how
    RC_SINGLE = 2                # Cpu.at must be executed alone (MMIO, port, store to code); nothing of it was done
    RC_UNSUPPORTED = 3           # Cpu.at needs something that is not emulated (Cpu.unsupported says what)

cdef enum:                       # contexts of the software TLB: whose rules an access is under
    CTX_KERNEL = 0               # supervisor; user pages allowed
    CTX_USER = 1
    CTX_KERNEL_SMAP = 2          # supervisor with SMAP in force (EFLAGS.AC = 0)
    CTX_SLOW = 3                 # never filled: every access takes the slow path (#AC armed, data breakpoints)
    CONTEXTS = 4
    TLB_ENTRIES = 1024
    ITLB_ENTRIES = 256
    VTAB_ENTRIES = 16384
    MAX_BLOCK = 32               # instructions in a block
    MAX_CPUS = 255               # APIC IDs 0..254

cdef enum:                       # kinds of access, for the slow path and error codes
    ACCESS_READ = 0
    ACCESS_WRITE = 1
    ACCESS_EXECUTE = 2

ctypedef int (*handler_t)(Cpu* c, Insn* i) noexcept nogil


cdef struct Insn:                # 32 bytes
    handler_t fn
    i64 imm                      # immediate, sign-extended; x87: FOP; branch: target minus rip of the block's start; moffs
    i32 disp                     # displacement (RIP-relative: already relative to the block's start)
    u8 dst                       # byte offset in regs[] (general registers), or plain number (xmm, mmx, st, sreg, cr, dr)
    u8 src
    u8 base                      # byte offset in regs[]
    u8 index                     # byte offset in regs[]
    u8 scale                     # 0..3
    u8 seg                       # place in segment_base[], or'ed with SEG_CHECKED
    u8 flags                     # I_*
    u8 off                       # offset of this instruction from the block's start
    u8 len                       # its length
    u8 left                      # instructions from this one (included) to the end of the block; 0: pseudo
    u8 aux                       # a third operand or a condition; rows say
    u8 opsize                    # 1, 2, 4, 8: effective operand size, for handlers that are not specialised


cdef enum:                       # what the address of an access was, for the fault in flight
    OUTSIDE_NOT = 0
    OUTSIDE_FAULT = 1            # not canonical, or over the end of a flat segment: #GP(0), but #SS(0) where it is on the stack
    OUTSIDE_WRAPS = 2            # the segment's base carries it over 4 GiB, which is no fault


cdef struct Links:               # lies in the Insn slot behind a direct branch
    Block* taken
    Block* fall
    u64 unused[2]


cdef struct Block:               # 32-byte header, then its instructions
    u64 page                     # guest-physical address of its page
    u32 mode                     # mode word it was decoded under
    u32 n                        # instructions in it; NEVER_FITS: invalidated
    u16 bytes                    # length in bytes
    u16 start                    # offset in its page
    u32 lines                    # reserved
    Block* chain                 # next in the same physical hash bucket

cdef u32 NEVER_FITS


cdef struct TlbEntry:
    u64 tag                      # linear address of the page; a page of another index where invalid
    u8* host


cdef struct ItlbEntry:
    u64 tag
    u64 page                     # guest-physical address of the page


cdef struct VtabEntry:
    u64 linear
    Block* block


cdef struct Segment:
    u64 base
    u32 limit                    # in bytes, G applied
    u16 selector
    u16 attributes               # descriptor bits 55:52, 47:40: type 3:0, S 4, DPL 6:5, P 7, AVL 8, L 9, D/B 10, G 11; 15: unusable (null)


cdef struct DescriptorTable:
    u64 base
    u32 limit


cdef struct Xmm:
    u64 low
    u64 high


cdef struct Cpu:
    u64 regs[REG_SLOTS]          # must be first
    # lazy arithmetic flags: see flags.pxd
    i64 flag_result              # sign-extended result: ZF, SF, PF
    u32 flag_carries             # bit 1 CF, bit 0 carry into the sign bit (OF = both differ), bit 2 SF flip, bit 3 PF flip
    u32 flag_adjust              # bit 4: AF
    u64 flags_system             # all other RFLAGS bits, bit 1 set
    i64 budget                   # instructions that may still be charged in this slice
    u64 slice_end                # retired count when budget is used up: retired = slice_end - budget (all charged done)
    u64 address_mask[4]          # by Insn.flags & I_ASIZE
    u64 segment_base[8]          # of ES..GS, FLAT
    TlbEntry* tlb_read           # of the current context
    TlbEntry* tlb_write
    ItlbEntry* itlb
    VtabEntry* vtab
    u64 cs_base
    u64 cs_limit                 # all ones in 64-bit mode
    u64 rip_mask                 # all ones in 64-bit mode, else 32 ones
    u32 mode
    u32 cpl
    u64 rip                      # next instruction, valid between blocks
    Insn* at                     # instruction that faulted or left
    Block** link_slot            # a link to be set to the block that is found next
    int single                   # 1: one instruction runs alone, MMIO and stores to code are allowed
    int stack_kind               # 0: 64-bit; 1: flat 32-bit; 2: any other (checked)
    u32 ctx                      # present context of data accesses

    # a fault in flight
    int fault_vector
    int fault_has_error
    u32 fault_error
    int rc
    const char* unsupported

    # scratch of the running vector instruction
    FloatStatus float_status
    Xmm operand

    # slow path of memory accesses (access.pyx)
    u8 bounce[64]                # operand that crosses a page, or MMIO
    u64 bounce_linear
    int bounce_size
    int bounce_pages
    u64 bounce_physical[2]

    # events
    int intr                     # level of the INTR line
    int nmi                      # latched
    int nmi_blocked
    int init                     # latched
    int sipi                     # latched: the vector; -1: none
    int halted                   # HLT
    int wait_sipi                # after RESET (all but the first CPU) and INIT: nothing but a SIPI starts it
    int shadow                   # interrupts are held back for one instruction (STI, MOV SS, POP SS)
    int shadow_debug             # MOV SS/POP SS: debug traps too
    int debug_trap               # pending bits for DR6 after this instruction
    int trap_dropped             # the instruction took TF off the program that ran it (INT n, SYSCALL): no single-step trap
    int shutdown                 # triple fault happened
    int debug_fault              # the #DB in flight is a fault (instruction breakpoint, general detect)
    int chain_length             # the latest faults, for explanations
    int chain_vector[4]
    int chain_has_error[4]
    u32 chain_error[4]
    u64 chain_cr2[4]

    # architectural state
    Segment seg[SEGMENTS]
    DescriptorTable gdtr
    DescriptorTable idtr
    u64 cr0
    u64 cr2
    u64 cr3
    u64 cr4
    u64 cr8
    u64 xcr0
    u64 efer
    u64 dr[8]
    u64 pdpte[4]                 # PAE: the four loaded at MOV CR3
    u32 pkru
    u32 mxcsr
    Xmm xmm[16]
    X87 fpu                      # x87 registers, which MMX shares
    u64 star
    u64 lstar
    u64 cstar
    u64 sfmask
    u64 kernel_gs_base
    u64 sysenter_cs
    u64 sysenter_esp
    u64 sysenter_eip
    u64 pat
    u64 tsc_offset
    u64 tsc_aux
    u64 misc_enable
    u64 mtrr_def_type
    u64 mtrr_fixed[11]
    u64 mtrr_variable[16]
    u64 random_state[4]          # RDRAND/RDSEED, from the machine's seed
    u64 features[4]              # FEATURE_* bits of the CPU model (isa/features.py)
    u32 model                    # index of the CPU model
    u32 physical_bits
    u32 number                   # which CPU of the machine

    # what lies around it
    Space* space
    PortSpace* ports
    ClockState* clock
    Port port
    Line ferr                    # FERR#: an x87 exception with CR0.NE clear (IRQ 13 on a PC)
    u64 idle_ns                  # virtual time in which nothing retired: HLT, slow buses, PAUSE beside other CPUs
    Crew* crew                   # the CPUs of its machine
    u64 horizon_ns               # the least time of the other CPUs that run: devices and the TSC are reached up to it only
    u64 turn_end_ns              # its turn ends here
    u64 pause_ns                 # what PAUSE waits

    # caches; never saved
    TlbEntry* tlbs               # [CONTEXTS][2][TLB_ENTRIES]
    ItlbEntry* itlbs             # [2][ITLB_ENTRIES]: kernel, user
    Block** hash                 # blocks by physical address, of the whole crew
    Insn scratch[2 * MAX_BLOCK + 4]     # for instructions that run alone and for prefixes of blocks
    u8* tlb_shift                # [CONTEXTS][2][TLB_ENTRIES]: log2 of the size of the page an entry came from
    u8 tlb_used[CONTEXTS]        # entries were filled since the last flush
    u8 large_seen[256]           # pages above 4 KiB were cached for a 2 MiB region with this hash
    bint gigabyte_seen           # ... or 1 GiB pages anywhere
    int outside                  # OUTSIDE_*
    u64 flushes                  # statistics
    u64 tlb_misses
    u64 page_faults
    u64 interrupts
    u64 singles


cdef struct Crew:                # the CPUs of one machine, and what they share (docs/adr/0007)
    int count
    int turn                     # whose turn it is; -1: nobody's
    int turn_over                # ... and it ends at the next instruction boundary
    int stop_request             # set by another thread or a device: return to the caller soon
    int* running                 # where the board wants to know the number of the CPU that runs; NULL: nowhere
    ClockState* clock
    Space* space
    Block** hash                 # the caches of decoded code: one store reaches all
    VtabEntry* vtab
    u8* arena
    u64 arena_size
    u64 arena_used
    u64 blocks_made
    Cpu* cpu[MAX_CPUS]
