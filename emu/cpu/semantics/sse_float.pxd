# Floating point of SSE over softfloat: lanes of `d` become d op s, or op s; exceptions of all lanes gather in FloatStatus.
from emu.base.types cimport i32, i64, u8, u32, u64
from emu.cpu.semantics.simd cimport Vec
from emu.cpu.softfloat cimport *
from emu.cpu.state cimport CR0_EM, F_CF, F_PF, F_ZF, Cpu, Insn

# sse_float.pyx; they work on Cpu.operand, and check and raise for themselves: 0, or 1 with the fault set
cdef int dpps(Cpu* c, Insn* i) noexcept nogil
cdef int dppd(Cpu* c, Insn* i) noexcept nogil
cdef u32 reciprocal(u32 a) noexcept nogil
cdef u32 reciprocal_root(u32 a) noexcept nogil


# --- arithmetic ------------------------------------------------------------------------------------------------------

cdef inline void add_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.ud[k] = f32_add(d.ud[k], s.ud[k], f)


cdef inline void add_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.uq[k] = f64_add(d.uq[k], s.uq[k], f)


cdef inline void sub_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.ud[k] = f32_sub(d.ud[k], s.ud[k], f)


cdef inline void sub_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.uq[k] = f64_sub(d.uq[k], s.uq[k], f)


cdef inline void mul_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.ud[k] = f32_mul(d.ud[k], s.ud[k], f)


cdef inline void mul_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.uq[k] = f64_mul(d.uq[k], s.uq[k], f)


cdef inline void div_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.ud[k] = f32_div(d.ud[k], s.ud[k], f)


cdef inline void div_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.uq[k] = f64_div(d.uq[k], s.uq[k], f)


cdef inline void min_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.ud[k] = f32_min(d.ud[k], s.ud[k], f)


cdef inline void min_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.uq[k] = f64_min(d.uq[k], s.uq[k], f)


cdef inline void max_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.ud[k] = f32_max(d.ud[k], s.ud[k], f)


cdef inline void max_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.uq[k] = f64_max(d.uq[k], s.uq[k], f)


cdef inline void sqrt_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.ud[k] = f32_sqrt(s.ud[k], f)


cdef inline void sqrt_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.uq[k] = f64_sqrt(s.uq[k], f)


cdef inline void addsub_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.ud[k] = f32_add(d.ud[k], s.ud[k], f) if k & 1 else f32_sub(d.ud[k], s.ud[k], f)


cdef inline void addsub_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.uq[k] = f64_add(d.uq[k], s.uq[k], f) if k & 1 else f64_sub(d.uq[k], s.uq[k], f)


cdef inline void hadd_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(lanes // 2):
        r.ud[k] = f32_add(d.ud[2 * k], d.ud[2 * k + 1], f)
    for k in range(lanes // 2):
        r.ud[k + lanes // 2] = f32_add(s.ud[2 * k], s.ud[2 * k + 1], f)
    d[0] = r


cdef inline void hadd_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(lanes // 2):
        r.uq[k] = f64_add(d.uq[2 * k], d.uq[2 * k + 1], f)
    for k in range(lanes // 2):
        r.uq[k + lanes // 2] = f64_add(s.uq[2 * k], s.uq[2 * k + 1], f)
    d[0] = r


cdef inline void hsub_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(lanes // 2):
        r.ud[k] = f32_sub(d.ud[2 * k], d.ud[2 * k + 1], f)
    for k in range(lanes // 2):
        r.ud[k + lanes // 2] = f32_sub(s.ud[2 * k], s.ud[2 * k + 1], f)
    d[0] = r


cdef inline void hsub_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    cdef Vec r
    for k in range(lanes // 2):
        r.uq[k] = f64_sub(d.uq[2 * k], d.uq[2 * k + 1], f)
    for k in range(lanes // 2):
        r.uq[k + lanes // 2] = f64_sub(s.uq[2 * k], s.uq[2 * k + 1], f)
    d[0] = r


# --- comparisons -----------------------------------------------------------------------------------------------------

cdef inline bint holds(int relation, int predicate) noexcept nogil:
    """Predicates 0..7: EQ LT LE UNORD NEQ NLT NLE ORD (SDM 2A CMPPS)."""
    cdef int kind = predicate & 3
    cdef bint hit
    if kind == 0:
        hit = relation == RELATION_EQUAL
    elif kind == 1:
        hit = relation == RELATION_LESS
    elif kind == 2:
        hit = relation == RELATION_LESS or relation == RELATION_EQUAL
    else:
        hit = relation == RELATION_UNORDERED
    return hit ^ ((predicate >> 2) & 1)


cdef inline bint is_quiet(int predicate) noexcept nogil:
    """EQ and UNORD and their opposites signal for SNaNs only."""
    return (predicate & 3) == 0 or (predicate & 3) == 3


cdef inline void cmp_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes, int predicate) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.ud[k] = <u32>0 - <u32>holds(f32_compare(d.ud[k], s.ud[k], is_quiet(predicate), f), predicate)


cdef inline void cmp_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes, int predicate) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.uq[k] = <u64>0 - <u64>holds(f64_compare(d.uq[k], s.uq[k], is_quiet(predicate), f), predicate)


cdef inline u64 comparison_flags(int relation) noexcept nogil:
    """ZF, PF and CF of COMIS*, UCOMIS*; OF, SF and AF are 0."""
    if relation == RELATION_UNORDERED:
        return F_ZF | F_PF | F_CF
    if relation == RELATION_LESS:
        return F_CF
    return F_ZF if relation == RELATION_EQUAL else 0


cdef inline u64 comis_f32(const Vec* d, const Vec* s, FloatStatus* f) noexcept nogil:
    return comparison_flags(f32_compare(d.ud[0], s.ud[0], False, f))


cdef inline u64 comis_f64(const Vec* d, const Vec* s, FloatStatus* f) noexcept nogil:
    return comparison_flags(f64_compare(d.uq[0], s.uq[0], False, f))


cdef inline u64 ucomis_f32(const Vec* d, const Vec* s, FloatStatus* f) noexcept nogil:
    return comparison_flags(f32_compare(d.ud[0], s.ud[0], True, f))


cdef inline u64 ucomis_f64(const Vec* d, const Vec* s, FloatStatus* f) noexcept nogil:
    return comparison_flags(f64_compare(d.uq[0], s.uq[0], True, f))


# --- rounding to an integral value; `control`: bits 1:0 the mode, bit 2 MXCSR's instead, bit 3 no precision exception

cdef inline void round_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes, int control) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.ud[k] = f32_round(s.ud[k], f.rounding if control & 4 else control & 3, (control >> 3) & 1, f)


cdef inline void round_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes, int control) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.uq[k] = f64_round(s.uq[k], f.rounding if control & 4 else control & 3, (control >> 3) & 1, f)


# --- conversions between formats; what is left of the register is cleared by those with two results in a quarter each

cdef inline void f32_from_i32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.ud[k] = i32_to_f32(s.sd[k], f)


cdef inline void f64_from_i32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.uq[k] = i32_to_f64(s.sd[k], f)


cdef inline void f32_from_i64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    d.ud[0] = i64_to_f32(s.sq[0], f)


cdef inline void f64_from_i64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    d.uq[0] = i64_to_f64(s.sq[0], f)


cdef inline void f64_from_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.uq[k] = f32_to_f64(s.ud[k], f)


cdef inline void f32_from_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.ud[k] = f64_to_f32(s.uq[k], f)
    if lanes == 2:
        d.uq[1] = 0


cdef inline void i32_from_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.sd[k] = f32_to_i32(s.ud[k], f.rounding, f)


cdef inline void i32_from_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.sd[k] = f64_to_i32(s.uq[k], f.rounding, f)
    d.uq[1] = 0


cdef inline void i64_from_f32(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    d.sq[0] = f32_to_i64(s.ud[0], f.rounding, f)


cdef inline void i64_from_f64(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    d.sq[0] = f64_to_i64(s.uq[0], f.rounding, f)


cdef inline void i32_from_f32_cut(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.sd[k] = f32_to_i32(s.ud[k], ROUND_ZERO, f)


cdef inline void i32_from_f64_cut(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    cdef int k
    for k in range(lanes):
        d.sd[k] = f64_to_i32(s.uq[k], ROUND_ZERO, f)
    d.uq[1] = 0


cdef inline void i64_from_f32_cut(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    d.sq[0] = f32_to_i64(s.ud[0], ROUND_ZERO, f)


cdef inline void i64_from_f64_cut(Vec* d, const Vec* s, FloatStatus* f, int lanes) noexcept nogil:
    d.sq[0] = f64_to_i64(s.uq[0], ROUND_ZERO, f)


cdef inline void rcpps(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(4):
        d.ud[k] = reciprocal(s.ud[k])


cdef inline void rcpss(Vec* d, const Vec* s, int n) noexcept nogil:
    d.ud[0] = reciprocal(s.ud[0])


cdef inline void rsqrtps(Vec* d, const Vec* s, int n) noexcept nogil:
    cdef int k
    for k in range(4):
        d.ud[k] = reciprocal_root(s.ud[k])


cdef inline void rsqrtss(Vec* d, const Vec* s, int n) noexcept nogil:
    d.ud[0] = reciprocal_root(s.ud[0])
