# Declared state: the list of a component's fields, with their place in C memory, and what follows from it.
from libc.stdlib cimport free, malloc
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

    cdef int cover(self, void* address, u64 size) except -1:
        """Names memory that the component's state lies in: every byte of it that changes is a field, or `derived`."""
        self._spans.append((<u64>address, size))
        return 0

    cdef int derived(self, str name, void* address, u64 size) except -1:
        """Names a part of what `cover` named that is not saved: it follows from the fields, or is scratch, or wiring."""
        self._derived.append((name, <u64>address, size))
        return 0

    cdef int when_restored(self, restored_fn fn, void* owner) except -1:
        """Has `fn(owner)` called after every restore by copying (StateImage)."""
        self._restored = fn
        self._owner = owner
        return 0

    def covered(self):
        """The covered memory as it is now, for tests of completeness: a list of (address, bytes)."""
        return [(address, bytes((<u8*><u64>address)[:size])) for address, size in self._spans]

    def name_at(self, address):
        """What lies at an address of the covered memory: the name of a field or a derived part, or None."""
        for name, kind, count, start in self._fields:
            if start <= address < start + _SIZES[kind] * count:
                return name
        for name, start, size in self._derived:
            if start <= address < start + size:
                return name
        return None

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
    fields._spans = []
    fields._derived = []
    fields._keep = keep
    fields._validate = validate
    return fields


cdef class StateImage:
    """The declared fields of `components` (StateFields), in order, as one block of `size` bytes.

    `capture()` copies them out, `restore(data)` back in; then every component makes anew what follows from its fields.
    Nothing is checked: the block must come from a machine with the same `layout`, in this process. What comes from
    outside goes through StateFields.set.
    """

    def __cinit__(self, components):
        cdef u64 address, size
        places = []
        hooks = []
        layout = []
        self._keep = list(components)
        for fields in self._keep:
            layout.append((fields.component, fields.layout))
            self._collect(fields, places, hooks)
        merged = []
        last = [0, 0]
        for address, size in places:                 # neighbours are copied at once
            if last[0] + last[1] == address:
                last[1] += size
            else:
                last = [address, size]
                merged.append(last)
        self.layout = tuple(layout)
        self._parts = <StatePart*>malloc((len(merged) + 1) * sizeof(StatePart))
        self._hooks = <StateHook*>malloc((len(hooks) + 1) * sizeof(StateHook))
        if self._parts == NULL or self._hooks == NULL:
            raise MemoryError()
        for k, (address, size) in enumerate(merged):
            self._parts[k].address = <u8*>address
            self._parts[k].size = size
            self.size += size
        for k, (address, size) in enumerate(hooks):
            self._hooks[k].fn = <restored_fn><void*>address
            self._hooks[k].owner = <void*>size
        self._part_count = len(merged)
        self._hook_count = len(hooks)

    def _collect(self, StateFields fields, list places, list hooks):
        for _, kind, count, address in fields._fields:
            places.append((address, _SIZES[kind] * count))
        if fields._restored != NULL:
            hooks.append((<u64><void*>fields._restored, <u64>fields._owner))

    def __dealloc__(self):
        free(self._parts)
        free(self._hooks)

    cdef void capture_to(self, u8* out) noexcept nogil:
        cdef int k
        for k in range(self._part_count):
            memcpy(out, self._parts[k].address, self._parts[k].size)
            out += self._parts[k].size

    cdef void restore_from(self, const u8* data) noexcept nogil:
        cdef int k
        for k in range(self._part_count):
            memcpy(self._parts[k].address, data, self._parts[k].size)
            data += self._parts[k].size
        for k in range(self._hook_count):
            self._hooks[k].fn(self._hooks[k].owner)

    def capture(self):
        """All fields as they are now, as bytes."""
        data = bytearray(self.size)
        cdef u8[::1] view
        if self.size:
            view = data
            self.capture_to(&view[0])
        return bytes(data)

    def restore(self, bytes data not None):
        """Sets all fields to what `capture` gave; ValueError where that cannot be of this layout."""
        if <u64>len(data) != self.size:
            raise ValueError(f"{len(data)} bytes of state, where {self.size} are wanted")
        self.restore_from(<const u8*>data)
