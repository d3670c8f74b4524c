# The native oracle: cases run by the host's processor, in a process of its own (host.h). x86-64 Linux only.
from libc.string cimport memcpy, memset

from emu.base.types cimport u8, u32, u64

import os
import select
import signal

import numpy as np

from emu.base.errors import HostError, UsageError
from emu.debug.native.cases import CASE, CODE_BYTES, DATA_BYTES, LDT, RESULT, WINDOW, ldt_user_desc

cdef extern from "sys/mman.h" nogil:
    void* mmap(void* address, size_t length, int protection, int flags, int fd, long offset)
    int munmap(void* address, size_t length)
    int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_ANONYMOUS, MAP_NORESERVE
    void* MAP_FAILED

cdef extern from "unistd.h" nogil:
    int fork()
    void _exit(int)

cdef extern from "emu/debug/native/host.h" nogil:
    ctypedef struct native_case:
        pass
    ctypedef struct native_result:
        pass
    ctypedef struct native_shared:
        u64 count
        u64 code_width
        u64 want_memory
        u64 progress
        u64 ready
        native_case* cases
        native_result* results
        u8* codes
        u8* before
        u8* memory
    ctypedef struct native_ldt:
        u32 base
        u32 limit
        u32 flags
    void native_serve(native_shared* shared, int from_, int to, u64 window, const native_ldt* ldt, int entries)

cdef enum:
    BATCH = 1024
    CODE_WIDTH = 4096
    MEMORY = 8192
    STALLED_MS = 5000            # no batch takes as long: the process is stopped, and its case is marked -1

assert sizeof(native_case) == CASE.itemsize and sizeof(native_result) == RESULT.itemsize and DATA_BYTES == MEMORY


cdef class NativeCpu:
    """The host's processor. `has_ldt`: whether 16-bit code and the selectors of the LDT can be used.

    Raises HostError where the process cannot be made."""

    cdef native_shared* shared
    cdef u64 size
    cdef int child, to_child, from_child
    cdef readonly bint has_ldt
    cdef readonly int lost       # processes that an instruction killed or hung

    def __cinit__(self):
        cdef u8* at
        self.child = self.to_child = self.from_child = -1
        self.size = 4096 + BATCH * (sizeof(native_case) + sizeof(native_result) + CODE_WIDTH + MEMORY) + MEMORY
        at = <u8*>mmap(NULL, self.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if at == MAP_FAILED:
            raise HostError("native oracle", "no memory for its cases", f"{self.size} bytes")
        self.shared = <native_shared*>at
        at += 4096
        self.shared.before = at
        at += MEMORY
        self.shared.cases = <native_case*>at
        at += BATCH * sizeof(native_case)
        self.shared.results = <native_result*>at
        at += BATCH * sizeof(native_result)
        self.shared.codes = at
        at += BATCH * CODE_WIDTH
        self.shared.memory = at
        self._start()

    def __dealloc__(self):
        self._stop()
        if self.shared != NULL:
            munmap(self.shared, self.size)

    cdef _stop(self):
        if self.child > 0:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
            os.close(self.to_child)
            os.close(self.from_child)
        self.child = -1

    cdef _start(self):
        cdef native_ldt[16] ldt
        cdef int k, child, down, up, entries = len(LDT)
        for k in range(entries):
            ldt[k].base, ldt[k].limit, ldt[k].flags = ldt_user_desc(LDT[k])
        down, self.to_child = os.pipe()
        self.from_child, up = os.pipe()
        child = fork()
        if child == 0:
            native_serve(self.shared, down, up, WINDOW, ldt, entries)
            _exit(1)
        os.close(down)
        os.close(up)
        self.child = child
        if child < 0 or not self._answered():
            raise HostError("native oracle", "the host refused its process")
        self.has_ldt = self.shared.ready & 0xFF == 1

    cdef bint _answered(self):
        ready, _, _ = select.select([self.from_child], [], [], STALLED_MS / 1000)
        return bool(ready) and len(os.read(self.from_child, 1)) == 1

    def run(self, cases, codes, template, bint memory=False):
        """Runs `cases` (n, of CASE), whose code are the rows of `codes` (n, width <= 4096; uint8), over the data `template` (8192,
        uint8). Gives results (n, of RESULT); with `memory` a pair: those and the data pages after each case (n, 8192)."""
        cdef u64 count = len(cases)
        cdef u64 start = 0
        cdef u64 some
        cdef u64 width = codes.shape[1]
        cdef const u8[::1] from_cases = np.ascontiguousarray(cases).view(np.uint8).reshape(-1)
        cdef const u8[::1] from_codes = np.ascontiguousarray(codes).reshape(-1)
        cdef const u8[::1] from_template = np.ascontiguousarray(template)
        check_cases(cases, codes, template)
        results = np.zeros(count, RESULT)
        pages = np.zeros((count if memory else 1, MEMORY), np.uint8)
        if not count:
            return (results, pages[:0]) if memory else results
        cdef u8[::1] to_results = results.view(np.uint8).reshape(-1)
        cdef u8[:, ::1] to_pages = pages
        memcpy(self.shared.before, &from_template[0], MEMORY)
        while start < count:
            some = min(count - start, <u64>BATCH)
            memcpy(self.shared.cases, &from_cases[start * sizeof(native_case)], some * sizeof(native_case))
            memcpy(self.shared.codes, &from_codes[start * width], some * width)
            self.shared.count = some
            self.shared.code_width = width
            self.shared.want_memory = memory
            self.shared.progress = 0
            os.write(self.to_child, b"\0")
            if not self._answered():
                self._stop()
                self._start()
                self.lost += 1
                some = self.shared.progress + 1
                memset(self.shared.results + (some - 1), 0, sizeof(native_result))
                memcpy(&to_results[start * sizeof(native_result)], self.shared.results, some * sizeof(native_result))
                results[start + some - 1]["vector"] = -1
            else:
                memcpy(&to_results[start * sizeof(native_result)], self.shared.results, some * sizeof(native_result))
            if memory:
                memcpy(&to_pages[start, 0], self.shared.memory, some * MEMORY)
            start += some
        return (results, pages) if memory else results


def check_cases(cases, codes, template):
    """UsageError where cases would leave the memory that is theirs."""
    if cases.dtype != CASE or codes.dtype != np.uint8 or len(codes) != len(cases) or template.shape != (DATA_BYTES,):
        raise UsageError("cases", f"{cases.dtype}, {codes.shape}", "cases of CASE, their codes (uint8), a template of 8192 bytes")
    length = cases["code_length"].astype(int)
    if (codes.shape[1] > CODE_WIDTH or (length > codes.shape[1]).any() or (cases["code_at"] + length > CODE_BYTES).any()
            or (cases["patch_length"] > 64).any() or (cases["patch_at"] + cases["patch_length"].astype(int) > DATA_BYTES).any()):
        raise UsageError("cases", "code or patch", "code inside the code pages, a patch of at most 64 bytes inside the data pages")
