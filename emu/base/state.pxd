# Declared state: a component lists its fields once; save, restore, compare, reset and the debugger use the list.
from emu.base.types cimport u64


cdef class StateFields:
    cdef readonly str component
    cdef list _fields                 # (name, kind, count, address)
    cdef object _keep
    cdef object _validate
    cdef int add(self, str name, str kind, void* address, int count=*) except -1


cdef StateFields declare_state(str component, object keep, object validate=*)
