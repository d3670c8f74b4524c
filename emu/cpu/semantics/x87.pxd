# What the x87 instructions do, over the X87 state and plain values; who fetches, stores and faults stands elsewhere.
#
# No function here looks at a pending exception: waiting instructions ask x87_pending() first. An exception that is unmasked
# becomes pending (X87_ES) and leaves registers and memory as SDM 1 8.5 says. Functions that give a value for memory return
# whether it is to be written.
from emu.base.types cimport i64, u8, u16, u32, u64
from emu.cpu.fpu cimport X87

# ---- FLD, FILD, FBLD ----------------------------------------------------------------------------------------------------
cdef void x87_load_f32(X87* x, u32 value) noexcept nogil
cdef void x87_load_f64(X87* x, u64 value) noexcept nogil
cdef void x87_load_f80(X87* x, u64 significand, u16 sign_exponent) noexcept nogil
cdef void x87_load_integer(X87* x, i64 value) noexcept nogil                     # sign-extended
cdef void x87_load_bcd(X87* x, u64 low, u16 high) noexcept nogil
cdef void x87_load_register(X87* x, int i) noexcept nogil
cdef void x87_load_constant(X87* x, int which) noexcept nogil                    # D9 E8 + which

# ---- FST, FIST, FISTTP, FBSTP ---------------------------------------------------------------------------------------------
cdef bint x87_store_f32(X87* x, bint pop, u32* out) noexcept nogil
cdef bint x87_store_f64(X87* x, bint pop, u64* out) noexcept nogil
cdef bint x87_store_f80(X87* x, u64* significand, u16* sign_exponent) noexcept nogil       # FSTP m80
cdef bint x87_store_integer(X87* x, int size, bint truncate, bint pop, u64* out) noexcept nogil
cdef bint x87_store_bcd(X87* x, u64* low, u16* high) noexcept nogil
cdef void x87_store_register(X87* x, int i, bint pop) noexcept nogil
cdef void x87_store_unchecked(X87* x, int i) noexcept nogil                     # D9 /3

# ---- arithmetic: OPERATION_* of softfloat_x87 ---------------------------------------------------------------------------
cdef void x87_arithmetic_f32(X87* x, int operation, u32 value) noexcept nogil    # ST0 = ST0 op value
cdef void x87_arithmetic_f64(X87* x, int operation, u64 value) noexcept nogil
cdef void x87_arithmetic_integer(X87* x, int operation, i64 value) noexcept nogil
cdef void x87_arithmetic_register(X87* x, int operation, int destination, int source, bint pop) noexcept nogil

# ---- comparison ---------------------------------------------------------------------------------------------------------
cdef void x87_compare_f32(X87* x, u32 value, bint pop) noexcept nogil
cdef void x87_compare_f64(X87* x, u64 value, bint pop) noexcept nogil
cdef void x87_compare_integer(X87* x, i64 value, bint pop) noexcept nogil
cdef void x87_compare_register(X87* x, int i, bint quiet, int pops) noexcept nogil
# FCOMI, FUCOMI: ZF, PF and CF at their places in EFLAGS (OF, SF, AF become 0).
cdef int x87_compare_flags(X87* x, int i, bint quiet, bint pop) noexcept nogil
cdef void x87_test(X87* x) noexcept nogil                                        # FTST
cdef void x87_examine(X87* x) noexcept nogil                                     # FXAM

# ---- one or two registers, no operand -------------------------------------------------------------------------------------
cdef void x87_exchange(X87* x, int i) noexcept nogil
cdef void x87_move_if(X87* x, int i, bint condition) noexcept nogil              # FCMOVcc
cdef void x87_change_sign(X87* x) noexcept nogil
cdef void x87_absolute(X87* x) noexcept nogil
cdef void x87_sqrt(X87* x) noexcept nogil
cdef void x87_round(X87* x) noexcept nogil
cdef void x87_scale(X87* x) noexcept nogil
cdef void x87_extract(X87* x) noexcept nogil
cdef void x87_remainder(X87* x, bint nearest) noexcept nogil
cdef void x87_sin(X87* x) noexcept nogil
cdef void x87_cos(X87* x) noexcept nogil
cdef void x87_sincos(X87* x) noexcept nogil
cdef void x87_tan(X87* x) noexcept nogil                                         # FPTAN
cdef void x87_atan(X87* x) noexcept nogil                                        # FPATAN
cdef void x87_2xm1(X87* x) noexcept nogil
cdef void x87_log2(X87* x, bint plus_one) noexcept nogil                         # FYL2XP1, FYL2X
cdef void x87_free(X87* x, int i, bint pop) noexcept nogil                       # FFREE, FFREEP
cdef void x87_turn(X87* x, int by) noexcept nogil                                # FINCSTP 1, FDECSTP -1

# ---- control ------------------------------------------------------------------------------------------------------------
cdef void x87_clear_exceptions(X87* x) noexcept nogil
cdef void x87_load_control(X87* x, u16 value) noexcept nogil

# ---- images in memory ---------------------------------------------------------------------------------------------------
# FSTENV, FLDENV: 14 (16-bit) or 28 bytes; protected: selectors and offsets, else linear addresses (SDM 1 figures 8-9 to 8-12).
# FSAVE, FRSTOR: the registers follow, 94 or 108 bytes.
cdef void x87_store_environment(X87* x, u8* image, bint wide, bint protected) noexcept nogil
cdef void x87_load_environment(X87* x, const u8* image, bint wide, bint protected) noexcept nogil
cdef void x87_save(X87* x, u8* image, bint wide, bint protected) noexcept nogil
cdef void x87_restore(X87* x, const u8* image, bint wide, bint protected) noexcept nogil
# FXSAVE, FXRSTOR: 512 bytes, of which 416 and up are never touched. rex_w: 64-bit instruction and data pointers. xmm: pairs of
# low and high halves; `registers` of them (16, 8, or 0 where the SSE state is left out). pointers: FOP, FIP and FDP are stored even
# where no unmasked exception waits; AMD's processors store zeros then (APM 2 11.4.4, CPUID 80000008H EBX bit 2).
cdef enum:
    MXCSR_MASK = 0xFFFF
cdef void fxsave_image(const X87* x, const u64* xmm, int registers, u32 mxcsr, u8* image, bint rex_w, bint pointers) noexcept nogil
# False, and nothing done: reserved bits of MXCSR are set (#GP).
cdef bint fxrstor_image(X87* x, u64* xmm, int registers, u32* mxcsr, const u8* image, bint rex_w) noexcept nogil
