# The CPU's declared state, and how it is checked when it comes from outside.
from emu.base.state cimport StateFields
from emu.cpu.state cimport Cpu

cdef StateFields declare_cpu(Cpu* c, object core, object check)
cdef int check_cpu(Cpu* c) except -1                     # SnapshotError; where all is well, what follows is made
cdef void forget_translations(Cpu* c) noexcept nogil
