# Devices with an 8-bit bus: a wider access reaches them as one access a byte, in rising order (as ISA splits it).
from emu.base.types cimport u8, u64

ctypedef u8 (*byte_read_fn)(void* owner, u64 offset) noexcept nogil
ctypedef void (*byte_write_fn)(void* owner, u64 offset, u8 value) noexcept nogil


cdef inline u64 read_bytes(byte_read_fn read, void* owner, u64 offset, int size) noexcept nogil:
    cdef u64 value = 0
    cdef int k
    for k in range(size):
        value |= <u64>read(owner, offset + <u64>k) << (8 * k)
    return value


cdef inline void write_bytes(byte_write_fn write, void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef int k
    for k in range(size):
        write(owner, offset + <u64>k, <u8>(value >> (8 * k)))
