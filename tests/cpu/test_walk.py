# Page walks over every combination of permission bits, against the rules of SDM 3A 4.6 and 4.7 written down here again.
import itertools

import pytest

from tests.tools.bench import CODE, TABLES, Bench

LINEAR = 0x80000000
DIRECTORIES, DIRECTORY, TABLE, PAGE = 0x50000, 0x51000, 0x52000, 0x60000
P, W, U, A, D, PS = 1, 2, 4, 0x20, 0x40, 0x80
NX = 1 << 63
CR0, CR4, EFER = 0x80000013, 0x620, 0xD01
WP, SMEP, SMAP, PKE, NXE = 1 << 16, 1 << 20, 1 << 21, 1 << 22, 1 << 11
ACCESSES = {"read": bytes.fromhex("8a00"), "write": bytes.fromhex("8800"), "execute": bytes.fromhex("ffe0")}


class Walker:
    """A CPU whose page LINEAR is mapped with given bits; the code page belongs to the privilege that runs."""

    def __init__(self):
        self.bench = Bench(64)

    def put(self, address, value):
        self.bench.memory.physical[address:address + 8] = value.to_bytes(8, "little")

    def get(self, address):
        return int.from_bytes(self.bench.memory.physical[address:address + 8], "little")

    def access(self, kind, cpl, leaf, middle=P | W | U, cr0=CR0 | WP, cr4=CR4, efer=EFER, ac=False, pkru=None, large=False):
        """(error code or None, accessed and dirty bits of the leaf, accessed bit of the level above)."""
        bench, cpu = self.bench, self.bench.cpu
        bench.enter()
        self.put(TABLES + 0x2000, P | W | PS | (U if cpl == 3 else 0))
        self.put(TABLES + 0x1000 + 2 * 8, DIRECTORY | P | W | U)
        if large:
            self.put(DIRECTORY, leaf | PS)
        else:
            self.put(DIRECTORY, TABLE | middle)
            self.put(TABLE, PAGE | leaf)
        bench.memory.physical[PAGE:PAGE + 2] = b"\x90\x90"
        cpu.set_system(cr0=cr0, cr4=cr4, efer=efer, cpl=cpl)
        if cpl == 3:
            for number in range(6):
                cpu.set_segment(number, 0x0B if number == 1 else 0x13, 0, 0xFFFFFFFF, 0xAFB if number == 1 else 0xCF3)
        cpu.after_load()
        code = ACCESSES[kind]
        if pkru is not None:
            code = bytes.fromhex("0f01ef") + code          # WRPKRU, rcx = rdx = 0
            bench.memory.physical[CODE:CODE + len(code)] = code
        registers = {"rax": LINEAR if pkru is None else pkru, "rcx": 0, "rdx": 0}
        rflags = 2 | (1 << 18 if ac else 0)
        if pkru is None:
            bench.run(code, registers, rflags, count=2 if kind == "execute" else 1)
        else:
            bench.run(code, registers, rflags, count=1)
            cpu.set_register("rax", LINEAR)
            cpu.run(cpu.retired + (2 if kind == "execute" else 1))
        chain = cpu.fault_chain
        fault = chain[0] if cpu.counters["page_faults"] != getattr(self, "faults", 0) else None
        self.faults = cpu.counters["page_faults"]
        if fault is not None:
            assert fault[0] == 14 and fault[2] == LINEAR
        leaf_now = self.get(DIRECTORY if large else TABLE)
        return (None if fault is None else fault[1]), leaf_now & (A | D), self.get(DIRECTORY) & A


@pytest.fixture(scope="module")
def walker():
    return Walker()


def expect(kind, cpl, leaf, middle, wp, smep, smap, ac, nxe=True):
    """The error code, or None, by SDM 3A 4.6.1, 4.6.2 and 4.7."""
    write, execute, user = kind == "write", kind == "execute", cpl == 3
    error = (2 if write else 0) | (4 if user else 0) | (16 if execute and (nxe or smep) else 0)
    if not leaf & P:
        return error
    if leaf & NX and not nxe:
        return error | 1 | 8
    user_page = leaf & middle & U
    writable = leaf & middle & W
    if user:
        allowed = user_page and (writable or not write)
    elif execute:
        allowed = not (user_page and smep)
    else:
        allowed = not (user_page and smap and not ac) and (writable or not write or not wp)
    if execute and leaf & NX:
        allowed = False
    return None if allowed else error | 1


@pytest.mark.parametrize("kind", list(ACCESSES))
@pytest.mark.parametrize("cpl", [0, 3])
def test_every_combination_of_rights_faults_and_marks_as_the_manual_says(walker, kind, cpl):
    wrong = []
    for present, writable, user, nx, above in itertools.product((0, P), (0, W), (0, U), (0, NX), (P, P | W, P | U, P | W | U)):
        for wp, smep, smap, ac in itertools.product((0, WP), (0, SMEP), (0, SMAP), (False, True)):
            leaf = present | writable | user | nx
            want = expect(kind, cpl, leaf, above, wp, smep, smap, ac)
            error, marks, upper = walker.access(kind, cpl, leaf, above, CR0 | wp, CR4 | smep | smap, ac=ac)
            marked = 0 if want is not None else A | (D if kind == "write" else 0)
            if (error, marks, upper) != (want, marked, A if want is None else 0):
                wrong.append((hex(leaf), above, wp, smep, smap, ac, error, want, marks, upper))
    assert wrong == []


@pytest.mark.parametrize("kind, cpl", itertools.product(ACCESSES, (0, 3)))
def test_no_execute_bit_is_reserved_without_nxe(walker, kind, cpl):
    for nx in (0, NX):
        leaf = P | W | U | nx
        want = expect(kind, cpl, leaf, P | W | U, WP, 0, 0, False, nxe=False)
        assert walker.access(kind, cpl, leaf, efer=EFER & ~NXE)[0] == want


@pytest.mark.parametrize("bit", [*range(40, 52)])
def test_bits_beyond_the_physical_address_are_reserved(walker, bit):
    assert walker.access("read", 3, P | W | U | 1 << bit)[0] == 1 | 4 | 8


@pytest.mark.parametrize("bit", [*range(13, 21)])
def test_low_address_bits_of_a_large_page_are_reserved(walker, bit):
    assert walker.access("read", 0, P | W | 1 << bit, large=True)[0] == 1 | 8
    assert walker.access("read", 0, P | W, large=True)[0] is None


@pytest.mark.parametrize("kind, cpl, wp", itertools.product(("read", "write", "execute"), (0, 3), (0, WP)))
def test_protection_keys_bind_data_of_user_pages(walker, kind, cpl, wp):
    key = 5
    for access_disabled, write_disabled, user in itertools.product((0, 1), (0, 1), (0, U)):
        pkru = (access_disabled | write_disabled << 1) << (2 * key)
        leaf = P | W | user | key << 59
        want = expect(kind, cpl, leaf, P | W | U, wp, 0, 0, False)
        denied = access_disabled or (write_disabled and kind == "write" and (cpl == 3 or wp))
        if want is None and user and kind != "execute" and denied:
            want = 1 | 32 | (2 if kind == "write" else 0) | (4 if cpl == 3 else 0)
        assert walker.access(kind, cpl, leaf, cr0=CR0 | wp, cr4=CR4 | PKE, pkru=pkru)[0] == want
