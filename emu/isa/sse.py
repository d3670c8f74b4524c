# MMX, SSE, SSE2, SSE3, SSSE3, SSE4.1, SSE4.2, FXSAVE and XSAVE.
"""Rows of the vector instructions, and the shapes of their handlers.

  simd F [xmm0]        d = F(d, s, bytes[, immediate or XMM0]); register and memory forms in one handler
  shift F              d = F(d, immediate, bytes)
  forms R M            R(c, i, size) for the register form, M(c, i, vector register, size) for the memory form
  float F n            d = F(d, s, FloatStatus, lanes[, immediate]), then the exceptions
  compare F            flags = F(d, s, FloatStatus)
  ...                  see below
"""

IMPORTS = """
from emu.cpu.access cimport *
from emu.cpu.semantics.simd cimport *
from emu.cpu.semantics.sse_int cimport *
from emu.cpu.semantics.sse_shuffle cimport *
from emu.cpu.semantics.sse_move cimport *
from emu.cpu.semantics.sse_string cimport *
from emu.cpu.semantics.sse_float cimport *
from emu.cpu.semantics.sse_state cimport *
from emu.cpu.flags cimport load_arithmetic_flags
from emu.cpu.fpu cimport mmx_enter, mmx_set
"""

# 0F xx: MMX with Pq,Qq and SSE2 with Vdq,Wdq: opcode, name, feature of the MMX form (none: SSE2 alone), its source
_BOTH = """
60 punpcklbw MMX Qd, 61 punpcklwd MMX Qd, 62 punpckldq MMX Qd, 63 packsswb MMX, 64 pcmpgtb MMX, 65 pcmpgtw MMX,
66 pcmpgtd MMX, 67 packuswb MMX, 68 punpckhbw MMX, 69 punpckhwd MMX, 6A punpckhdq MMX, 6B packssdw MMX, 6C punpcklqdq,
6D punpckhqdq, 74 pcmpeqb MMX, 75 pcmpeqw MMX, 76 pcmpeqd MMX, D1 psrlw MMX, D2 psrld MMX, D3 psrlq MMX, D4 paddq SSE2,
D5 pmullw MMX, D8 psubusb MMX, D9 psubusw MMX, DA pminub SSE, DB pand MMX, DC paddusb MMX, DD paddusw MMX, DE pmaxub SSE,
DF pandn MMX, E0 pavgb SSE, E1 psraw MMX, E2 psrad MMX, E3 pavgw SSE, E4 pmulhuw SSE, E5 pmulhw MMX, E8 psubsb MMX,
E9 psubsw MMX, EA pminsw SSE, EB por MMX, EC paddsb MMX, ED paddsw MMX, EE pmaxsw SSE, EF pxor MMX, F1 psllw MMX,
F2 pslld MMX, F3 psllq MMX, F4 pmuludq SSE2, F5 pmaddwd MMX, F6 psadbw SSE, F8 psubb MMX, F9 psubw MMX, FA psubd MMX,
FB psubq SSE2, FC paddb MMX, FD paddw MMX, FE paddd MMX
"""
# 0F 38 xx: the same, SSSE3
_SSSE3 = """
00 pshufb, 01 phaddw, 02 phaddd, 03 phaddsw, 04 pmaddubsw, 05 phsubw, 06 phsubd, 07 phsubsw, 08 psignb, 09 psignw,
0A psignd, 0B pmulhrsw, 1C pabsb, 1D pabsw, 1E pabsd
"""
# 66 0F 38 xx: SSE4.1, with the source where it is not Wdq
_SSE41 = """
20 pmovsxbw Wq, 21 pmovsxbd Wd, 22 pmovsxbq Ww, 23 pmovsxwd Wq, 24 pmovsxwq Wd, 25 pmovsxdq Wq, 28 pmuldq, 29 pcmpeqq,
2B packusdw, 30 pmovzxbw Wq, 31 pmovzxbd Wd, 32 pmovzxbq Ww, 33 pmovzxwd Wq, 34 pmovzxwq Wd, 35 pmovzxdq Wq, 38 pminsb,
39 pminsd, 3A pminuw, 3B pminud, 3C pmaxsb, 3D pmaxsd, 3E pmaxuw, 3F pmaxud, 40 pmulld, 41 phminposuw
"""
_SHIFTS = (("71", 2, "srlw"), ("71", 4, "sraw"), ("71", 6, "sllw"), ("72", 2, "srld"), ("72", 4, "srad"), ("72", 6, "slld"),
           ("73", 2, "srlq"), ("73", 6, "sllq"), ("73", 3, "srldq"), ("73", 7, "slldq"))


def _integer_rows() -> str:
    lines = []
    for entry in _BOTH.replace("\n", " ").split(","):
        opcode, name, *rest = entry.split()
        if rest:
            lines.append(f"NP 0F {opcode} /r | {name} Pq,{rest[1] if rest[1:] else 'Qq'} | simd {name} | cpuid={rest[0]}")
        lines.append(f"66 0F {opcode} /r | {name} Vdq,Wdq | simd {name} | cpuid=SSE2")
    for entry in _SSSE3.replace("\n", " ").split(","):
        opcode, name = entry.split()
        lines.append(f"NP 0F 38 {opcode} /r | {name} Pq,Qq | simd {name} | cpuid=SSSE3")
        lines.append(f"66 0F 38 {opcode} /r | {name} Vdq,Wdq | simd {name} | cpuid=SSSE3")
    for entry in _SSE41.replace("\n", " ").split(","):
        opcode, name, *rest = entry.split()
        lines.append(f"66 0F 38 {opcode} /r | {name} Vdq,{rest[0] if rest else 'Wdq'} | simd {name} | cpuid=SSE41")
    for opcode, digit, name in _SHIFTS:
        if not name.endswith("dq"):
            lines.append(f"NP 0F {opcode} /{digit} | p{name} Nq,Ib | shift_by shift_{name} | cpuid=MMX")
        lines.append(f"66 0F {opcode} /{digit} | p{name} Udq,Ib | shift_by shift_{name} | cpuid=SSE2")
    return "\n".join(lines)


_INTEGER = """
66 0F 38 37 /r | pcmpgtq Vdq,Wdq | simd pcmpgtq | cpuid=SSE42
NP 0F 3A 0F /r | palignr Pq,Qq,Ib | simd palignr | cpuid=SSSE3
66 0F 3A 0F /r | palignr Vdq,Wdq,Ib | simd palignr | cpuid=SSSE3
NP 0F 70 /r | pshufw Pq,Qq,Ib | simd pshufw | cpuid=SSE
66 0F 70 /r | pshufd Vdq,Wdq,Ib | simd pshufd | cpuid=SSE2
F2 0F 70 /r | pshuflw Vdq,Wdq,Ib | simd pshuflw | cpuid=SSE2
F3 0F 70 /r | pshufhw Vdq,Wdq,Ib | simd pshufhw | cpuid=SSE2
NP 0F C6 /r | shufps Vps,Wps,Ib | simd shufps | cpuid=SSE
66 0F C6 /r | shufpd Vpd,Wpd,Ib | simd shufpd | cpuid=SSE2
NP 0F 14 /r | unpcklps Vps,Wps | simd punpckldq | cpuid=SSE
66 0F 14 /r | unpcklpd Vpd,Wpd | simd punpcklqdq | cpuid=SSE2
NP 0F 15 /r | unpckhps Vps,Wps | simd punpckhdq | cpuid=SSE
66 0F 15 /r | unpckhpd Vpd,Wpd | simd punpckhqdq | cpuid=SSE2
NP 0F 54 /r | andps Vps,Wps | simd pand | cpuid=SSE
66 0F 54 /r | andpd Vpd,Wpd | simd pand | cpuid=SSE2
NP 0F 55 /r | andnps Vps,Wps | simd pandn | cpuid=SSE
66 0F 55 /r | andnpd Vpd,Wpd | simd pandn | cpuid=SSE2
NP 0F 56 /r | orps Vps,Wps | simd por | cpuid=SSE
66 0F 56 /r | orpd Vpd,Wpd | simd por | cpuid=SSE2
NP 0F 57 /r | xorps Vps,Wps | simd pxor | cpuid=SSE
66 0F 57 /r | xorpd Vpd,Wpd | simd pxor | cpuid=SSE2
F3 0F 12 /r | movsldup Vps,Wps | simd movsldup | cpuid=SSE3
F3 0F 16 /r | movshdup Vps,Wps | simd movshdup | cpuid=SSE3
F2 0F 12 /r | movddup Vpd,Wq | simd movddup | cpuid=SSE3
66 0F 38 10 /r | pblendvb Vdq,Wdq,XMM0 | simd pblendvb xmm0 | cpuid=SSE41
66 0F 38 14 /r | blendvps Vps,Wps,XMM0 | simd blendvps xmm0 | cpuid=SSE41
66 0F 38 15 /r | blendvpd Vpd,Wpd,XMM0 | simd blendvpd xmm0 | cpuid=SSE41
66 0F 3A 0C /r | blendps Vps,Wps,Ib | simd blendps | cpuid=SSE41
66 0F 3A 0D /r | blendpd Vpd,Wpd,Ib | simd blendpd | cpuid=SSE41
66 0F 3A 0E /r | pblendw Vdq,Wdq,Ib | simd pblendw | cpuid=SSE41
66 0F 3A 21 /r | insertps Vps,Ups,Ib | simd insertps_lane | cpuid=SSE41
66 0F 3A 21 /r | insertps Vps,Md,Ib | simd insertps | cpuid=SSE41
66 0F 3A 42 /r | mpsadbw Vdq,Wdq,Ib | simd mpsadbw | cpuid=SSE41
66 0F 38 17 /r | ptest Vdq,Wdq | ptest ptest | cpuid=SSE41 w=oszapc
66 0F 3A 60 /r | pcmpestrm Vdq,Wdq,Ib | strings pcmpestrm | cpuid=SSE42 w=oszapc
66 0F 3A 61 /r | pcmpestri Vdq,Wdq,Ib | strings pcmpestri | cpuid=SSE42 w=oszapc
66 0F 3A 62 /r | pcmpistrm Vdq,Wdq,Ib | strings pcmpistrm | cpuid=SSE42 w=oszapc
66 0F 3A 63 /r | pcmpistri Vdq,Wdq,Ib | strings pcmpistri | cpuid=SSE42 w=oszapc
NP 0F 77 | emms | op emms | cpuid=MMX
"""

_MOVES = """
NP 0F 10 /r | movups Vps,Wps | forms copy_xmm load_unaligned | cpuid=SSE
66 0F 10 /r | movupd Vpd,Wpd | forms copy_xmm load_unaligned | cpuid=SSE2
F3 0F 10 /r | movss Vss,Wss | forms merge_low load_low | cpuid=SSE
F2 0F 10 /r | movsd Vsd,Wsd | forms merge_low load_low | cpuid=SSE2
NP 0F 11 /r | movups Wps,Vps | forms copy_xmm store_unaligned | cpuid=SSE
66 0F 11 /r | movupd Wpd,Vpd | forms copy_xmm store_unaligned | cpuid=SSE2
F3 0F 11 /r | movss Wss,Vss | forms merge_low store_low | cpuid=SSE
F2 0F 11 /r | movsd Wsd,Vsd | forms merge_low store_low | cpuid=SSE2
NP 0F 12 /r | movhlps Vq,Uq | forms copy_high_to_low - | cpuid=SSE
NP 0F 12 /r | movlps Vq,Mq | forms - load_low_half | cpuid=SSE
66 0F 12 /r | movlpd Vq,Mq | forms - load_low_half | cpuid=SSE2
NP 0F 13 /r | movlps Mq,Vq | forms - store_low | cpuid=SSE
66 0F 13 /r | movlpd Mq,Vq | forms - store_low | cpuid=SSE2
NP 0F 16 /r | movlhps Vq,Uq | forms copy_low_to_high - | cpuid=SSE
NP 0F 16 /r | movhps Vq,Mq | forms - load_high_half | cpuid=SSE
66 0F 16 /r | movhpd Vq,Mq | forms - load_high_half | cpuid=SSE2
NP 0F 17 /r | movhps Mq,Vq | forms - store_high | cpuid=SSE
66 0F 17 /r | movhpd Mq,Vq | forms - store_high | cpuid=SSE2
NP 0F 28 /r | movaps Vps,Wps | forms copy_xmm load_aligned | cpuid=SSE
66 0F 28 /r | movapd Vpd,Wpd | forms copy_xmm load_aligned | cpuid=SSE2
NP 0F 29 /r | movaps Wps,Vps | forms copy_xmm store_aligned | cpuid=SSE
66 0F 29 /r | movapd Wpd,Vpd | forms copy_xmm store_aligned | cpuid=SSE2
NP 0F 2B /r | movntps Mps,Vps | forms - store_aligned | cpuid=SSE
66 0F 2B /r | movntpd Mpd,Vpd | forms - store_aligned | cpuid=SSE2
NP 0F 50 /r | movmskps Gd,Ups | forms sign_mask_ps - | cpuid=SSE
66 0F 50 /r | movmskpd Gd,Upd | forms sign_mask_pd - | cpuid=SSE2
NP 0F 6E /r | movq Pq,Eq | forms mmx_from_general mmx_load | w1 cpuid=MMX
NP 0F 6E /r | movd Pd,Ed | forms mmx_from_general mmx_load | cpuid=MMX
66 0F 6E /r | movq Vq,Eq | forms xmm_from_general load_low | w1 cpuid=SSE2
66 0F 6E /r | movd Vd,Ed | forms xmm_from_general load_low | cpuid=SSE2
NP 0F 6F /r | movq Pq,Qq | forms mmx_copy mmx_load | cpuid=MMX
66 0F 6F /r | movdqa Vdq,Wdq | forms copy_xmm load_aligned | cpuid=SSE2
F3 0F 6F /r | movdqu Vdq,Wdq | forms copy_xmm load_unaligned | cpuid=SSE2
NP 0F 7E /r | movq Eq,Pq | forms mmx_to_general mmx_store | w1 cpuid=MMX
NP 0F 7E /r | movd Ed,Pd | forms mmx_to_general mmx_store | cpuid=MMX
66 0F 7E /r | movq Eq,Vq | forms xmm_to_general store_low | w1 cpuid=SSE2
66 0F 7E /r | movd Ed,Vd | forms xmm_to_general store_low | cpuid=SSE2
F3 0F 7E /r | movq Vq,Wq | forms copy_low load_low | cpuid=SSE2
NP 0F 7F /r | movq Qq,Pq | forms mmx_copy mmx_store | cpuid=MMX
66 0F 7F /r | movdqa Wdq,Vdq | forms copy_xmm store_aligned | cpuid=SSE2
F3 0F 7F /r | movdqu Wdq,Vdq | forms copy_xmm store_unaligned | cpuid=SSE2
NP 0F C3 /r | movnti Mq,Gq | forms - store_general | w1 cpuid=SSE2
NP 0F C3 /r | movnti Md,Gd | forms - store_general | cpuid=SSE2
NP 0F C4 /r | pinsrw Pq,Rd,Ib | forms mmx_insert - | cpuid=SSE
NP 0F C4 /r | pinsrw Pq,Mw,Ib | forms - mmx_insert_memory | cpuid=SSE
66 0F C4 /r | pinsrw Vdq,Rd,Ib | forms insert_general - 2 | cpuid=SSE2
66 0F C4 /r | pinsrw Vdq,Mw,Ib | forms - insert_memory | cpuid=SSE2
NP 0F C5 /r | pextrw Gd,Nq,Ib | forms mmx_extract - | cpuid=SSE
66 0F C5 /r | pextrw Gd,Udq,Ib | forms extract_general - 2 | cpuid=SSE2
66 0F D6 /r | movq Wq,Vq | forms copy_low store_low | cpuid=SSE2
F3 0F D6 /r | movq2dq Vdq,Nq | forms mmx_to_xmm - | cpuid=SSE2
F2 0F D6 /r | movdq2q Pq,Udq | forms xmm_to_mmx - | cpuid=SSE2
NP 0F D7 /r | pmovmskb Gd,Nq | forms mmx_sign_mask - | cpuid=SSE
66 0F D7 /r | pmovmskb Gd,Udq | forms sign_mask_bytes - | cpuid=SSE2
NP 0F E7 /r | movntq Mq,Pq | forms - mmx_store | cpuid=SSE
66 0F E7 /r | movntdq Mdq,Vdq | forms - store_aligned | cpuid=SSE2
F2 0F F0 /r | lddqu Vdq,Mdq | forms - load_unaligned | cpuid=SSE3
NP 0F F7 /r | maskmovq Pq,Nq | forms maskmovq - | cpuid=SSE
66 0F F7 /r | maskmovdqu Vdq,Udq | forms maskmovdqu - | cpuid=SSE2
66 0F 38 2A /r | movntdqa Vdq,Mdq | forms - load_aligned | cpuid=SSE41
66 0F 3A 14 /r | pextrb Rd,Vdq,Ib | forms extract_general - 1 | cpuid=SSE41
66 0F 3A 14 /r | pextrb Mb,Vdq,Ib | forms - extract_memory | cpuid=SSE41
66 0F 3A 15 /r | pextrw Rd,Vdq,Ib | forms extract_general - 2 | cpuid=SSE41
66 0F 3A 15 /r | pextrw Mw,Vdq,Ib | forms - extract_memory | cpuid=SSE41
66 0F 3A 16 /r | pextrq Eq,Vdq,Ib | forms extract_general extract_memory | w1 cpuid=SSE41
66 0F 3A 16 /r | pextrd Ed,Vdq,Ib | forms extract_general extract_memory | cpuid=SSE41
66 0F 3A 17 /r | extractps Ed,Vdq,Ib | forms extract_general extract_memory | cpuid=SSE41
66 0F 3A 20 /r | pinsrb Vdq,Rd,Ib | forms insert_general - 1 | cpuid=SSE41
66 0F 3A 20 /r | pinsrb Vdq,Mb,Ib | forms - insert_memory | cpuid=SSE41
66 0F 3A 22 /r | pinsrq Vdq,Eq,Ib | forms insert_general insert_memory | w1 cpuid=SSE41
66 0F 3A 22 /r | pinsrd Vdq,Ed,Ib | forms insert_general insert_memory | cpuid=SSE41
"""

# the four forms of an arithmetic opcode: packed and scalar, single and double
_FLOATS = (("NP", "ps", "Wps", "f32 4", "SSE"), ("66", "pd", "Wpd", "f64 2", "SSE2"), ("F3", "ss", "Wss", "f32 1", "SSE"),
           ("F2", "sd", "Wsd", "f64 1", "SSE2"))


def _float_rows() -> str:
    lines = []
    for opcode, name in (("51", "sqrt"), ("58", "add"), ("59", "mul"), ("5C", "sub"), ("5D", "min"), ("5E", "div"), ("5F", "max"),
                         ("C2", "cmp")):
        for prefix, suffix, source, form, feature in _FLOATS:
            kind, lanes = form.split()
            immediate = ",Ib" if name == "cmp" else ""
            lines.append(f"{prefix} 0F {opcode} /r | {name}{suffix} V{suffix},{source}{immediate} | float {name}_{kind} {lanes}"
                         f" | cpuid={feature}")
    for opcode, (_, suffix, source, form, _) in zip(("08", "09", "0A", "0B"), _FLOATS):
        kind, lanes = form.split()
        lines.append(f"66 0F 3A {opcode} /r | round{suffix} V{suffix},{source},Ib | float round_{kind} {lanes} | cpuid=SSE41")
    for prefix, suffix, form in (("66", "pd", "f64 2"), ("F2", "ps", "f32 4")):
        kind, lanes = form.split()
        for opcode, name in (("7C", "hadd"), ("7D", "hsub"), ("D0", "addsub")):
            lines.append(f"{prefix} 0F {opcode} /r | {name}{suffix} V{suffix},W{suffix} | float {name}_{kind} {lanes} | cpuid=SSE3")
    return "\n".join(lines)


_FLOAT = """
NP 0F 2E /r | ucomiss Vss,Wss | compare ucomis_f32 | cpuid=SSE w=oszapc
66 0F 2E /r | ucomisd Vsd,Wsd | compare ucomis_f64 | cpuid=SSE2 w=oszapc
NP 0F 2F /r | comiss Vss,Wss | compare comis_f32 | cpuid=SSE w=oszapc
66 0F 2F /r | comisd Vsd,Wsd | compare comis_f64 | cpuid=SSE2 w=oszapc
NP 0F 52 /r | rsqrtps Vps,Wps | simd rsqrtps | cpuid=SSE
F3 0F 52 /r | rsqrtss Vss,Wss | simd rsqrtss | cpuid=SSE
NP 0F 53 /r | rcpps Vps,Wps | simd rcpps | cpuid=SSE
F3 0F 53 /r | rcpss Vss,Wss | simd rcpss | cpuid=SSE
66 0F 3A 40 /r | dpps Vps,Wps,Ib | op dpps | cpuid=SSE41
66 0F 3A 41 /r | dppd Vpd,Wpd,Ib | op dppd | cpuid=SSE41
NP 0F 2A /r | cvtpi2ps Vps,Qq | from_mmx f32_from_i32 | cpuid=SSE
66 0F 2A /r | cvtpi2pd Vpd,Qq | from_mmx f64_from_i32 | cpuid=SSE2
F3 0F 2A /r | cvtsi2ss Vss,Eq | float f32_from_i64 1 | w1 cpuid=SSE
F3 0F 2A /r | cvtsi2ss Vss,Ed | float f32_from_i32 1 | cpuid=SSE
F2 0F 2A /r | cvtsi2sd Vsd,Eq | float f64_from_i64 1 | w1 cpuid=SSE2
F2 0F 2A /r | cvtsi2sd Vsd,Ed | float f64_from_i32 1 | cpuid=SSE2
NP 0F 2C /r | cvttps2pi Pq,Wq | to_mmx i32_from_f32_cut | cpuid=SSE
66 0F 2C /r | cvttpd2pi Pq,Wpd | to_mmx i32_from_f64_cut | cpuid=SSE2
F3 0F 2C /r | cvttss2si Gq,Wss | to_general i64_from_f32_cut | w1 cpuid=SSE
F3 0F 2C /r | cvttss2si Gd,Wss | to_general i32_from_f32_cut | cpuid=SSE
F2 0F 2C /r | cvttsd2si Gq,Wsd | to_general i64_from_f64_cut | w1 cpuid=SSE2
F2 0F 2C /r | cvttsd2si Gd,Wsd | to_general i32_from_f64_cut | cpuid=SSE2
NP 0F 2D /r | cvtps2pi Pq,Wq | to_mmx i32_from_f32 | cpuid=SSE
66 0F 2D /r | cvtpd2pi Pq,Wpd | to_mmx i32_from_f64 | cpuid=SSE2
F3 0F 2D /r | cvtss2si Gq,Wss | to_general i64_from_f32 | w1 cpuid=SSE
F3 0F 2D /r | cvtss2si Gd,Wss | to_general i32_from_f32 | cpuid=SSE
F2 0F 2D /r | cvtsd2si Gq,Wsd | to_general i64_from_f64 | w1 cpuid=SSE2
F2 0F 2D /r | cvtsd2si Gd,Wsd | to_general i32_from_f64 | cpuid=SSE2
NP 0F 5A /r | cvtps2pd Vpd,Wq | float f64_from_f32 2 | cpuid=SSE2
66 0F 5A /r | cvtpd2ps Vps,Wpd | float f32_from_f64 2 | cpuid=SSE2
F3 0F 5A /r | cvtss2sd Vsd,Wss | float f64_from_f32 1 | cpuid=SSE2
F2 0F 5A /r | cvtsd2ss Vss,Wsd | float f32_from_f64 1 | cpuid=SSE2
NP 0F 5B /r | cvtdq2ps Vps,Wdq | float f32_from_i32 4 | cpuid=SSE2
66 0F 5B /r | cvtps2dq Vdq,Wps | float i32_from_f32 4 | cpuid=SSE2
F3 0F 5B /r | cvttps2dq Vdq,Wps | float i32_from_f32_cut 4 | cpuid=SSE2
F3 0F E6 /r | cvtdq2pd Vpd,Wq | float f64_from_i32 2 | cpuid=SSE2
66 0F E6 /r | cvttpd2dq Vdq,Wpd | float i32_from_f64_cut 2 | cpuid=SSE2
F2 0F E6 /r | cvtpd2dq Vdq,Wpd | float i32_from_f64 2 | cpuid=SSE2
"""

_SYSTEM = """
0F 18 /0 | prefetchnta M | nop nop | cpuid=SSE
0F 18 /1 | prefetcht0 M | nop nop | cpuid=SSE
0F 18 /2 | prefetcht1 M | nop nop | cpuid=SSE
0F 18 /3 | prefetcht2 M | nop nop | cpuid=SSE
0F 18 /r | nop Ev | nop nop | cpuid=NOPL
NP 0F AE /0 | fxsave/fxsave/fxsave64 M | area fxsave | cpuid=FXSR
NP 0F AE /1 | fxrstor/fxrstor/fxrstor64 M | area fxrstor | cpuid=FXSR
NP 0F AE /2 | ldmxcsr Md | op ldmxcsr | cpuid=SSE
NP 0F AE /3 | stmxcsr Md | op stmxcsr | cpuid=SSE
NP 0F AE /4 | xsave/xsave/xsave64 M | area xsave | cpuid=XSAVE
NP 0F AE /5 | xrstor/xrstor/xrstor64 M | area xrstor | cpuid=XSAVE
NP 0F AE /6 | xsaveopt/xsaveopt/xsaveopt64 M | area xsaveopt | cpuid=XSAVEOPT
NP 0F C7 /4 | xsavec/xsavec/xsavec64 M | area xsavec | cpuid=XSAVEC
NP 0F AE /5 | lfence | nop nop | cpuid=SSE2
NP 0F AE /6 | mfence | nop nop | cpuid=SSE2
NP 0F AE /7 | sfence | nop nop | cpuid=SSE
NP 0F AE /7 | clflush Mb | op flush_line | cpuid=CLFSH
66 0F AE /7 | clflushopt Mb | op flush_line | cpuid=CLFLUSHOPT
66 0F AE /6 | clwb Mb | op flush_line | cpuid=CLWB
"""

TABLE = _integer_rows() + _INTEGER + _MOVES + _float_rows() + _FLOAT + _SYSTEM

from emu.isa.shapes import FAIL, NEXT, Variant  # noqa: E402


def _check(call: str) -> list[str]:
    return [f"if unlikely({call}):", "    " + FAIL]


def _source_size(v: Variant) -> int:
    return v.size(1)


def _simd(v: Variant) -> tuple[str, list[str]]:
    mmx = v.row.operands[0].place == "P"
    size = _source_size(v)
    length = 8 if mmx else 16
    third = ", xmm(c, 0)" if v.row.args else ", <int>i.imm & 255" if len(v.row.operands) == 3 else ""
    call = f"{v.row.function}(&d, &s, {length}{third})"
    if mmx:
        return v.name("mmx", size), ["cdef Vec d, s", *_check(f"mmx_source(c, i, {size}, &s)"), "d.uq[0] = mmx(c, i.dst)", call,
                                     "mmx_result(c, i.dst, d.uq[0])", NEXT]
    return v.name("xmm", size), ["cdef Vec d, s", *_check(f"sse_source(c, i, {size}, &s)"), "d = xmm(c, i.dst)[0]", call,
                                 "xmm(c, i.dst)[0] = d", NEXT]


def _shift_by(v: Variant) -> tuple[str, list[str]]:
    if v.row.operands[0].place == "N":
        return v.name("mmx"), ["cdef Vec d", *_check("mmx_check(c)"), "d.uq[0] = mmx(c, i.dst)",
                               f"{v.row.function}(&d, <u8>i.imm, 8)", "mmx_result(c, i.dst, d.uq[0])", NEXT]
    return v.name("xmm"), [*_check("sse_check(c)"), f"{v.row.function}(xmm(c, i.dst), <u8>i.imm, 16)", NEXT]


def _forms(v: Variant) -> tuple[str, list[str]]:
    row = v.row
    if v.memory:
        size = v.rm_size
        slot = "src" if row.operands[0].place in "EWQ" else "dst"
        return f"{row.args[0]}_{slot}_{size}", [*_check(f"{row.args[0]}(c, i, i.{slot}, {size})"), NEXT]
    size = int(row.args[1]) if row.args[1:] else v.rm_size
    return f"{row.function}_{size}", [*_check(f"{row.function}(c, i, {size})"), NEXT]


def _ptest(v: Variant) -> tuple[str, list[str]]:
    return v.name("xmm"), ["cdef Vec s", *_check("sse_source(c, i, 16, &s)"), "ptest_flags(c, xmm(c, i.dst), &s)", NEXT]


def _strings(v: Variant) -> tuple[str, list[str]]:
    return v.name("xmm"), [*_check("sse_source_loose(c, i, 16, <Vec*>&c.operand)"), f"{v.row.function}(c, i, <Vec*>&c.operand)", NEXT]


def _area(v: Variant) -> tuple[str, list[str]]:
    """FXSAVE and the like have forms with REX.W under a name of their own (fxsave64)."""
    return v.name("area"), [*_check(f"{v.row.function}(c, i)"), NEXT]


def _float(v: Variant) -> tuple[str, list[str]]:
    size = _source_size(v)
    source = "general_source" if v.row.operands[1].place == "E" else "sse_source"
    third = ", <int>i.imm & 255" if len(v.row.operands) == 3 else ""
    return v.name(v.row.args[0], size), ["cdef Vec d, s", *_check(f"{source}(c, i, {size}, &s)"), "d = xmm(c, i.dst)[0]",
                                         f"{v.row.function}(&d, &s, float_start(c), {v.row.args[0]}{third})",
                                         *_check("float_end(c)"), "xmm(c, i.dst)[0] = d", NEXT]


def _compare(v: Variant) -> tuple[str, list[str]]:
    return v.name("xmm"), ["cdef Vec s", "cdef u64 flags", *_check(f"sse_source(c, i, {_source_size(v)}, &s)"),
                           f"flags = {v.row.function}(xmm(c, i.dst), &s, float_start(c))", *_check("float_end(c)"),
                           "load_arithmetic_flags(c, flags)", NEXT]


def _to_general(v: Variant) -> tuple[str, list[str]]:
    source, size = _source_size(v), v.size(0)
    return v.name(8 * size), ["cdef Vec d, s", *_check(f"sse_source(c, i, {source}, &s)"),
                              f"{v.row.function}(&d, &s, float_start(c), 1)", *_check("float_end(c)"),
                              f"set_reg(c, i.dst, d.uq[0], {size})", NEXT]


def _to_mmx(v: Variant) -> tuple[str, list[str]]:
    """The x87 state becomes MMX's even where #XM follows: so AMD's processors do it (the same in _from_mmx)."""
    return v.name("mmx"), ["cdef Vec d, s", *_check(f"mmx_check(c) or sse_source(c, i, {_source_size(v)}, &s)"),
                           "mmx_enter(&c.fpu)", f"{v.row.function}(&d, &s, float_start(c), 2)", *_check("float_end(c)"),
                           "mmx_set(&c.fpu, i.dst, d.uq[0])", NEXT]


def _from_mmx(v: Variant) -> tuple[str, list[str]]:
    """With a memory operand no MMX register is in play, and the x87 state is left alone (SDM 2A CVTPI2PD; processors do
    the same for CVTPI2PS)."""
    if v.memory:
        enter, source = [], "sse_check(c) or memory_source(c, i, 8, False, &s)"
    else:
        enter, source = ["mmx_enter(&c.fpu)"], "sse_check(c) or mmx_source(c, i, 8, &s)"
    return v.name(v.form), ["cdef Vec d, s", *_check(source), *enter, "d = xmm(c, i.dst)[0]",
                            f"{v.row.function}(&d, &s, float_start(c), 2)", *_check("float_end(c)"),
                            "xmm(c, i.dst)[0] = d", NEXT]


def _nop(v: Variant) -> tuple[str, list[str]]:
    return "no_operation", [NEXT]


SHAPES = {"nop": _nop, "area": _area, "float": _float, "compare": _compare, "to_general": _to_general, "to_mmx": _to_mmx,
          "from_mmx": _from_mmx, "simd": _simd, "shift_by": _shift_by, "forms": _forms, "ptest": _ptest, "strings": _strings}
