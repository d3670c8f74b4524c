# MSI-X: a table of messages in a BAR of the function, one per interrupt source. Source: PCI Local Bus 3.0, 6.8.2.
from emu.base.state cimport StateFields
from emu.base.types cimport u16, u32, u64
from emu.devices.pci.bus cimport PciFunction, add_bar, add_capability, get_config, send_message, set_config

cdef enum:
    CAPABILITY_MSIX = 0x11
    CONTROL_ENABLE = 0x8000
    CONTROL_MASK_ALL = 0x4000
    VECTOR_MASKED = 1
    PENDING_OFFSET = 0x800


cdef bint msix_enabled(Msix* msix) noexcept nogil:
    return (get_config(msix.function, msix.capability + 2, 2) & CONTROL_ENABLE) != 0


cdef inline bint _masked(Msix* msix, u32 vector) noexcept nogil:
    return (get_config(msix.function, msix.capability + 2, 2) & CONTROL_MASK_ALL) or msix.table[4 * vector + 3] & VECTOR_MASKED


cdef void msix_raise(Msix* msix, u16 vector) noexcept nogil:
    """Sends the message of `vector`, or keeps it pending while it is masked."""
    if vector >= msix.count or not msix_enabled(msix):
        return
    if _masked(msix, vector):
        msix.pending |= <u64>1 << vector
    else:
        send_message(msix.function, msix.table[4 * vector] | (<u64>msix.table[4 * vector + 1] << 32), msix.table[4 * vector + 2])


cdef void msix_control_written(Msix* msix) noexcept nogil:
    """Sends what has become unmasked."""
    cdef u32 vector
    if not msix.pending or not msix_enabled(msix):
        return
    for vector in range(msix.count):
        if msix.pending >> vector & 1 and not _masked(msix, vector):
            msix.pending &= ~(<u64>1 << vector)
            msix_raise(msix, <u16>vector)


cdef u64 _read(void* owner, u64 offset, int size) noexcept nogil:
    cdef Msix* msix = <Msix*>owner
    cdef u64 value = 0
    if offset & <u64>(size - 1) or size < 4:             # software shall use aligned words of 4 or 8 bytes (6.8.2)
        return 0
    if offset < 16 * msix.count:
        value = msix.table[offset >> 2]
        if size == 8:
            value |= <u64>msix.table[(offset >> 2) + 1] << 32
    elif offset == PENDING_OFFSET:
        value = msix.pending
    elif offset == PENDING_OFFSET + 4:
        value = msix.pending >> 32
    return value


cdef void _write(void* owner, u64 offset, int size, u64 value) noexcept nogil:
    cdef Msix* msix = <Msix*>owner
    if offset & <u64>(size - 1) or size < 4 or offset >= 16 * msix.count:
        return
    _write_word(msix, <u32>(offset >> 2), <u32>value)
    if size == 8:
        _write_word(msix, <u32>(offset >> 2) + 1, <u32>(value >> 32))
    msix_control_written(msix)


cdef void _write_word(Msix* msix, u32 index, u32 value) noexcept nogil:
    if index & 3 == 0:
        value &= <u32>0xFFFFFFFC
    elif index & 3 == 3:
        value &= VECTOR_MASKED
    msix.table[index] = value


cdef void msix_reset(Msix* msix) noexcept nogil:
    """Every vector masked and empty; configuration space is the function's own to reset."""
    cdef u32 k
    msix.pending = 0
    for k in range(MSIX_VECTORS * 4):
        msix.table[k] = VECTOR_MASKED if k & 3 == 3 else 0


cdef int add_msix(Msix* msix, PciFunction* function, int bar, u32 count) except -1:
    """Gives the function MSI-X with `count` vectors, table and pending bits in BAR `bar`; before it is plugged."""
    if not 1 <= count <= MSIX_VECTORS:
        raise ValueError(f"{count} MSI-X vectors; at most {MSIX_VECTORS}")
    msix.function = function
    msix.count = count
    add_bar(function, bar, MSIX_BAR_BYTES, False, False, False, _read, _write, msix)
    msix.capability = add_capability(function, CAPABILITY_MSIX, 12)
    set_config(function, msix.capability + 2, 2, count - 1)
    set_config(function, msix.capability + 4, 4, <u32>bar)
    set_config(function, msix.capability + 8, 4, PENDING_OFFSET | <u32>bar)
    function.writable[msix.capability + 3] = (CONTROL_ENABLE | CONTROL_MASK_ALL) >> 8
    msix_reset(msix)
    return 0


cdef int declare_msix(Msix* msix, object fields) except -1:
    cdef StateFields list_of_fields = fields
    list_of_fields.add("msix_table", "u32", &msix.table[0], MSIX_VECTORS * 4)
    list_of_fields.add("msix_pending", "u64", &msix.pending)
    return 0
