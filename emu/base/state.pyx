# Declared state: the list of a component's fields, with their place in C memory, and what follows from it.
from libc.string cimport memcpy

from emu.base.errors import SnapshotError
from emu.base.types cimport u8, u64

_SIZES = {"u8": 1, "u16": 2, "u32": 4, "u64": 8, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "bytes": 1}


cdef class StateFields:
    """The declared state of one component.

    A field is (name, kind, count): kind is "u8".."u64", "i8".."i64" or "bytes"; count > 1 is an array.
    `get()` gives {name: int | tuple of int | bytes}; `set(values)` checks names, types, ranges and lengths
    before it changes anything, then calls the component's own `validate` (which raises SnapshotError).
    """

    cdef int add(self, str name, str kind, void* address, int count=1) except -1:
        if kind not in _SIZES:
            raise ValueError(f"{self.component}.{name}: unknown kind {kind}")
        self._fields.append((name, kind, count, <u64>address))
        return 0

    @property
    def layout(self):
        """The fields as a tuple of (name, kind, count), in order."""
        return tuple((name, kind, count) for name, kind, count, _ in self._fields)

    def get(self):
        """The present values, as a dict in the declared order."""
        return {name: self._read(kind, count, address) for name, kind, count, address in self._fields}

    def set(self, values):
        """Sets every field from `values`; raises SnapshotError and changes nothing where they do not fit."""
        names = [field[0] for field in self._fields]
        if set(values) != set(names):
            odd = sorted(set(values) ^ set(names))
            raise SnapshotError(self.component, ", ".join(odd), f"exactly the fields {', '.join(names)}")
        for name, kind, count, _ in self._fields:
            self._check(name, kind, count, values[name])
        before = self.get()
        for name, kind, count, address in self._fields:
            self._write(kind, count, address, values[name])
        if self._validate is not None:
            try:
                self._validate()
            except SnapshotError:
                for name, kind, count, address in self._fields:
                    self._write(kind, count, address, before[name])
                raise

    def _check(self, name, kind, count, value):
        where = f"{self.component}.{name}"
        if kind == "bytes":
            if not isinstance(value, bytes) or len(value) != count:
                raise SnapshotError(where, repr(value)[:40], f"{count} bytes")
            return
        items = (value,) if count == 1 else value
        if not isinstance(items, (tuple, list)) or len(items) != count:
            raise SnapshotError(where, repr(value)[:40], f"{count} integers")
        bits = 8 * _SIZES[kind]
        low, high = (0, 2 ** bits) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
        for item in items:
            if not isinstance(item, int) or not low <= item < high:
                raise SnapshotError(where, repr(item)[:40], f"an integer of kind {kind}")

    def _read(self, kind, count, address):
        cdef int size = _SIZES[kind]
        raw = (<u8*><u64>address)[:size * count]
        if kind == "bytes":
            return raw
        items = tuple(int.from_bytes(raw[k * size:(k + 1) * size], "little", signed=kind[0] == "i")
                      for k in range(count))
        return items[0] if count == 1 else items

    def _write(self, kind, count, address, value):
        cdef int size = _SIZES[kind]
        if kind == "bytes":
            raw = value
        else:
            items = (value,) if count == 1 else value
            raw = b"".join(item.to_bytes(size, "little", signed=kind[0] == "i") for item in items)
        memcpy(<void*><u64>address, <const u8*>raw, size * count)


cdef StateFields declare_state(str component, object keep, object validate=None):
    """A new, empty list of fields; `keep` owns the memory they lie in."""
    cdef StateFields fields = StateFields.__new__(StateFields)
    fields.component = component
    fields._fields = []
    fields._keep = keep
    fields._validate = validate
    return fields
