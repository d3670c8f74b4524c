# The smallest cases of what the conformance runs have found: what goes in, and what an AMD processor of family 19H (Zen 3) makes of it.
"""Each was wrong once. `after` was read from the hardware; the tests hold both the emulator and the host (where it is x86-64) to it."""
from __future__ import annotations

from typing import NamedTuple

from emu.debug.native.cases import DATA, FS, READ_ONLY

AC = 1 << 18


class Found(NamedTuple):
    """name; mode and code; state: registers by name, fields of a case, patch (place in DATA, bytes); flags set; what must come of it:
    registers, vector, error, cr2, arithmetic (flags), offset (of rip in the code), written (any data)."""

    name: str
    mode: int
    code: str
    state: dict
    after: dict
    flags: int = 0
    traced: bool = True


FOUND = (
    Found("shld_16_past_its_width", 64, "660fa4d81d", {"rax": 0x820B, "rbx": 0xFDEC}, {"rax": 0x9FBD, "arithmetic": 0x94}),
    Found("shld_of_is_sign_xor_cf", 64, "0fa4d804", {"rax": 0x18000000, "rbx": 0}, {"rax": 0x80000000, "arithmetic": 0x95}),
    Found("shr_sets_af", 64, "d1e8", {"rax": 2}, {"rax": 1, "arithmetic": 0x10}),
    Found("lar_shows_the_limit_s_top_bits", 64, "0f02c3", {"rbx": 0x33}, {"rax": 0xAFFB00, "arithmetic": 0x40}),
    Found("lfs_takes_no_64_bit_offset", 64, "480fb407", {"rdi": DATA, "rax": 1 << 63, "patch": (0, bytes.fromhex("7856341200000000"))},
          {"rax": 0x12345678, "vector": 1}),
    Found("lss_holds_no_trap_back", 64, "0fb207", {"rdi": DATA, "patch": (0, bytes.fromhex("785634122b00"))}, {"vector": 1, "offset": 3}),
    Found("rdfsbase_has_no_16_bit_form", 64, "66f30faec0", {"fs_base": 0x12345678, "rax": 1 << 63 | 0xFFFF}, {"rax": 0x12345678}),
    Found("cmps_reads_rdi_first", 64, "a6", {"rsi": 0x1000, "rdi": 0x2000}, {"vector": 14, "cr2": 0x2000}),
    Found("outs_is_checked_with_count_0", 64, "f36e", {"rcx": 0, "rsi": DATA}, {"vector": 13, "offset": 0}),
    Found("cmpxchg_unequal_leaves_the_upper_half", 64, "0fb1cb", {"rbx": 0x1234567800000001, "rax": 0xFFFFFFFF00000002},
          {"rbx": 0x1234567800000001, "rax": 1}),
    Found("lmsw_looks_at_privilege_first", 64, "0f0137", {"rdi": 0x1000}, {"vector": 13}),
    Found("operand_over_4_gib_is_gp", 32, "8b07", {"rdi": 0xFFFFFFFE}, {"vector": 13, "error": 0}),
    Found("stack_operand_over_4_gib_is_ss", 32, "8b4500", {"rbp": 0xFFFFFFFE}, {"vector": 12, "error": 0}),
    Found("push_to_no_canonical_address_is_ss", 64, "50", {"rsp": 1 << 63}, {"vector": 12, "error": 0}),
    Found("rbp_operand_not_canonical_is_ss", 64, "8b4500", {"rbp": 1 << 63}, {"vector": 12, "error": 0}),
    Found("rbp_operand_in_ds_not_canonical_is_ss_too", 64, "3e8b4500", {"rbp": 1 << 63}, {"vector": 12, "error": 0}),
    Found("fs_offset_must_be_canonical", 64, "648b07", {"fs_base": 0xFFFF800000000000, "rdi": (DATA - 0xFFFF800000000000) & (1 << 64) - 1},
          {"vector": 13}),
    Found("movups_checks_alignment", 64, "0f1007", {"rdi": DATA + 8}, {"vector": 17}, AC),
    Found("movaps_alignment_comes_before_the_limit", 16, "0f284600", {"rbp": 0xFFF1}, {"vector": 13}),
    Found("far_pointer_is_two_reads", 32, "c507", {"rdi": DATA + 2, "patch": (0, bytes.fromhex("0000000000002b00"))}, {"vector": 17}, AC),
    Found("far_pointer_16_aligned_by_parts", 16, "c53f", {"rbx": 0x5002, "patch": (2, bytes.fromhex("34120f00"))},
          {"vector": 1, "rdi": 0x1234}, AC),
    Found("ret_far_reads_cs_first", 64, "cb", {"rsp": READ_ONLY + 0xFFF}, {"vector": 14, "cr2": READ_ONLY + 0x1003}),
    Found("iret_reads_flags_first", 64, "48cf", {"rsp": 0x1000}, {"vector": 14, "cr2": 0x1010}),
    Found("call_faults_on_its_stack_before_its_target", 64, "ffd0", {"rax": 1 << 63, "rsp": 0x1000}, {"vector": 14, "cr2": 0xFF8}),
    Found("bound_is_two_reads", 32, "6207", {"rdi": 0xFFFFFFFC}, {"vector": 14, "cr2": 0xFFFFFFFC}),
    Found("movsxd_of_16_bits_reads_32", 64, "666307", {"rdi": DATA + 2}, {"vector": 17}, AC),
    Found("fxsave_begins_with_its_last_byte", 64, "0fae07", {"rdi": READ_ONLY}, {"vector": 14, "cr2": READ_ONLY + 511}),
    Found("fxrstor_misaligned_is_ac", 64, "0fae0f", {"rdi": DATA + 2}, {"vector": 17}, AC),
    Found("fxrstor_aligned_by_4_is_gp", 64, "0fae0f", {"rdi": DATA + 4}, {"vector": 13}, AC),
    Found("maskmovdqu_checks_halves", 64, "660ff7c0", {"rdi": READ_ONLY - 4}, {"vector": 14, "cr2": READ_ONLY}),
    Found("loope_with_repne_waits_for_nonzero", 64, "f2e102", {"rcx": 5}, {"rcx": 4, "offset": 5}),
    Found("loopne_with_rep_waits_for_zero", 64, "f3e002", {"rcx": 5}, {"rcx": 4, "offset": 3}),
    Found("too_long_is_gp_where_no_row_fits", 64, "66" * 10 + "2e410fc38700000080", {}, {"vector": 13, "offset": 0}),
    Found("ud0_is_ud_however_long", 64, "66" * 12 + "0fff8700000080", {}, {"vector": 6, "offset": 0}),
    Found("mov_to_memory_stores_its_own_segment", 32, "8c27", {"rdi": DATA, "selectors": {FS: 0x1F}}, {"written": True}),
    Found("far_jump_takes_no_64_bit_offset", 64, "48ff2f", {"rdi": DATA, "patch": (0, bytes.fromhex("0010001033000000"))},
          {"vector": 1, "offset": 0}),
)
