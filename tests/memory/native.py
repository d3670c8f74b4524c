# Calls the C functions of emu.memory.space as a device or a CPU does, and mirrors struct Space.
import ctypes

import emu.memory.space as space_module
from emu.memory.space import PhysicalMemory

READ_FN = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int)
WRITE_FN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int, ctypes.c_uint64)
CODE_FN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)


class Slot(ctypes.Structure):
    _fields_ = [("base", ctypes.c_uint64), ("size", ctypes.c_uint64), ("host", ctypes.c_void_p),
                ("first_page", ctypes.c_uint64), ("readonly", ctypes.c_int)]


class Mmio(ctypes.Structure):
    _fields_ = [("base", ctypes.c_uint64), ("size", ctypes.c_uint64), ("read", READ_FN), ("write", WRITE_FN),
                ("owner", ctypes.c_void_p)]


class Space(ctypes.Structure):
    _fields_ = [("slots", ctypes.c_int), ("slot", Slot * 32), ("regions", ctypes.c_int), ("region", Mmio * 64),
                ("a20_mask", ctypes.c_uint64), ("dirty", ctypes.POINTER(ctypes.c_uint8)),
                ("code_lines", ctypes.POINTER(ctypes.c_uint64)), ("pages", ctypes.c_uint64),
                ("dma_depth", ctypes.c_int), ("code_written", CODE_FN * 8), ("code_owner", ctypes.c_void_p * 8),
                ("code_owners", ctypes.c_int), ("dropped", ctypes.c_uint64)]


def c_function(name: str, result, *arguments):
    """The C function `name` that the module exports to its cimporters."""
    capsule = space_module.__pyx_capi__[name]
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return ctypes.CFUNCTYPE(result, *arguments)(get_pointer(capsule, get_name(capsule)))


U64, POINTER, INT = ctypes.c_uint64, ctypes.c_void_p, ctypes.c_int
dma_read = c_function("dma_read", INT, POINTER, U64, POINTER, U64)
dma_write = c_function("dma_write", INT, POINTER, U64, POINTER, U64)
dma_pointer = c_function("dma_pointer", POINTER, POINTER, U64, U64, INT)
space_read = c_function("space_read", U64, POINTER, U64, INT)
space_map = c_function("space_map", INT, POINTER, U64, U64, READ_FN, WRITE_FN, POINTER)
space_unmap = c_function("space_unmap", INT, POINTER, U64, POINTER)


def struct_of(memory: PhysicalMemory) -> Space:
    return Space.from_address(memory.address)


def dma_write_bytes(memory: PhysicalMemory, physical: int, data: bytes) -> int:
    return dma_write(memory.address, physical, ctypes.create_string_buffer(data, len(data)), len(data))


def dma_read_bytes(memory: PhysicalMemory, physical: int, length: int) -> bytes | None:
    buffer = ctypes.create_string_buffer(length)
    return None if dma_read(memory.address, physical, buffer, length) else buffer.raw


class CodeListener:
    """Records what code_written tells; attach it to a memory and mark lines."""

    def __init__(self, memory: PhysicalMemory) -> None:
        self.told: list[tuple[int, int]] = []
        self.callback = CODE_FN(lambda owner, physical, length: self.told.append((physical, length)))
        self.space = struct_of(memory)
        self.space.code_written[self.space.code_owners] = self.callback
        self.space.code_owners += 1

    def mark(self, page: int, line: int) -> None:
        self.space.code_lines[page] |= 1 << line
