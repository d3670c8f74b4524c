# MSI-X: a table of messages in a BAR of the function, one per interrupt source.
from emu.base.types cimport u8, u16, u32, u64
from emu.devices.pci.bus cimport PciFunction

cdef enum:
    MSIX_VECTORS = 32                    # at most, per function
    MSIX_BAR_BYTES = 4096
    NO_VECTOR = 0xFFFF


cdef struct Msix:
    PciFunction* function
    int capability                       # its offset in configuration space
    u32 count
    u32 table[MSIX_VECTORS * 4]          # address low, address high, data, control (bit 0: masked)
    u64 pending                          # bit n: vector n was raised while it was masked


cdef int add_msix(Msix* msix, PciFunction* function, int bar, u32 count) except -1
cdef int declare_msix(Msix* msix, object fields) except -1
cdef void msix_reset(Msix* msix) noexcept nogil
cdef bint msix_enabled(Msix* msix) noexcept nogil
cdef void msix_raise(Msix* msix, u16 vector) noexcept nogil          # vectors that are not there are ignored
cdef void msix_control_written(Msix* msix) noexcept nogil            # to be called after configuration writes
