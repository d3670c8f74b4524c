# Descriptors and segment registers: reading, checking, loading; I/O permission.
from emu.base.types cimport u32, u64
from emu.cpu.state cimport Cpu, Insn, Segment

cdef enum:                       # bits of Segment.attributes
    A_TYPE = 15
    A_CODE = 8
    A_CONFORMING = 4             # code
    A_EXPAND_DOWN = 4            # data
    A_RW = 2                     # data: writable; code: readable
    A_S = 16
    A_P = 128
    A_L = 512
    A_B = 1024                   # D/B
    A_G = 2048
    A_NULL = 0x8000

cdef inline u32 dpl_of(Segment* s) noexcept nogil:
    return (s.attributes >> 5) & 3


cdef int read_descriptor(Cpu* c, u32 selector, u32 vector, u32 ext, u64* descriptor) noexcept nogil
cdef void unpack(Segment* s, u32 selector, u64 descriptor) noexcept nogil
cdef int mark_accessed(Cpu* c, u32 selector, u64 descriptor) noexcept nogil
cdef int load_segment(Cpu* c, int number, u32 selector) noexcept nogil
cdef int load_data(Cpu* c, int number, u32 selector, u32 cpl, Segment* out) noexcept nogil
cdef void load_real(Cpu* c, int number, u32 selector) noexcept nogil
cdef void make_null(Segment* s, u32 selector) noexcept nogil
cdef void drop_outer_segments(Cpu* c) noexcept nogil
cdef int io_allowed(Cpu* c, u32 port, int size) noexcept nogil
