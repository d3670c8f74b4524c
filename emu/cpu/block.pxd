# Blocks: made from guest bytes, found by physical address, forgotten when their bytes change.
from emu.base.types cimport u64
from emu.cpu.state cimport Block, Cpu, Crew

cdef Block* find_block(Cpu* c) noexcept nogil            # for Cpu.rip; NULL: fault set, or it must run alone (c.rc)
cdef int run_prefix(Cpu* c, Block* b, u64 count) noexcept nogil      # the first `count` instructions of a block
cdef int run_again_alone(Cpu* c) noexcept nogil          # Cpu.at, once more, with MMIO and stores to code allowed
cdef int run_one(Cpu* c) noexcept nogil                  # one instruction at Cpu.rip, decoded anew
cdef void invalidate_code(void* owner, u64 physical, u64 length) noexcept nogil
cdef void flush_blocks(Crew* w) noexcept nogil
