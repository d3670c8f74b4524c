# Declared state: a component lists its fields once; save, restore, compare, reset and the debugger use the list.
from emu.base.types cimport u8, u64

# Told after fields were restored by copying: what follows from them is to be made anew. Never fails.
ctypedef void (*restored_fn)(void* owner) noexcept nogil


cdef class StateFields:
    cdef readonly str component
    cdef list _fields                 # (name, kind, count, address)
    cdef list _spans                  # (address, bytes): memory that the fields lie in
    cdef list _derived                # (name, address, bytes): parts of it that are not saved
    cdef object _keep
    cdef object _validate
    cdef restored_fn _restored
    cdef void* _owner
    cdef int add(self, str name, str kind, void* address, int count=*) except -1
    cdef int cover(self, void* address, u64 size) except -1
    cdef int derived(self, str name, void* address, u64 size) except -1
    cdef int when_restored(self, restored_fn fn, void* owner) except -1


cdef StateFields declare_state(str component, object keep, object validate=*)


cdef struct StatePart:
    u8* address
    u64 size


cdef struct StateHook:
    restored_fn fn
    void* owner


cdef class StateImage:
    """The fields of many components as one block of bytes, copied without Python: for forks and resets."""
    cdef StatePart* _parts
    cdef int _part_count
    cdef StateHook* _hooks
    cdef int _hook_count
    cdef readonly u64 size
    cdef readonly tuple layout
    cdef list _keep
    cdef void capture_to(self, u8* out) noexcept nogil
    cdef void restore_from(self, const u8* data) noexcept nogil
