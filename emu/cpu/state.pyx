# Constants of the CPU's state that do not fit a C enum.
from emu.base.types cimport u32, u64

cdef u64 CR0_PG = <u64>1 << 31
cdef u32 NEVER_FITS = 0x7FFFFFFF
