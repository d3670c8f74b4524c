# System instructions: control, debug and segment registers, descriptor tables, far transfers, flags, MSRs, time.
"""Rows of the system instructions. A row that may change the mode word, or what a TLB entry allows, ends its block."""

IMPORTS = """
from emu.cpu.access cimport run_alone
from emu.cpu.control cimport *
from emu.cpu.far cimport *
from emu.cpu.msr cimport rdmsr, wrmsr
from emu.cpu.verify cimport *
"""

TABLE = """
0F 20 /r | mov Ry,Cd | op mov_from_cr | anymod f64
0F 22 /r | mov Cd,Ry | end mov_to_cr | anymod f64
0F 21 /r | mov Ry,Dd | op mov_from_dr | anymod f64
0F 23 /r | mov Dd,Ry | end mov_to_dr | anymod f64
0F 06 | clts | op clts |
0F 01 /6 | lmsw Mw | end lmsw_m |
0F 01 /6 | lmsw Rw | end lmsw_r |
0F 01 /4 | smsw Mw | op smsw_m |
0F 01 /4 | smsw Rv | op smsw_r |
0F 01 /7 | invlpg M | end invlpg | cpuid=I486
66 0F 38 82 /r | invpcid Gy,Mdq | end invpcid | f64 cpuid=INVPCID
0F 08 | invd | op privileged | cpuid=I486
0F 09 | wbinvd | op privileged | cpuid=I486
0F 01 /0 | sgdt Ms | op sgdt |
0F 01 /1 | sidt Ms | op sidt |
0F 01 /2 | lgdt Ms | op lgdt |
0F 01 /3 | lidt Ms | op lidt |
0F 00 /0 | sldt Mw | op sldt_m | pe
0F 00 /0 | sldt Rv | op sldt_r | pe
0F 00 /1 | str Mw | op str_m | pe
0F 00 /1 | str Rv | op str_r | pe
0F 00 /2 | lldt Mw | end lldt_m | pe
0F 00 /2 | lldt Rw | end lldt_r | pe
0F 00 /3 | ltr Mw | end ltr_m | pe
0F 00 /3 | ltr Rw | end ltr_r | pe
8C /r | mov Mw,Sw | op mov_from_sreg_m |
8C /r | mov Rv,Sw | op mov_from_sreg_r |
8E /r | mov Sw,Mw | end mov_to_sreg_m |
8E /r | mov Sw,Rv | end mov_to_sreg_r |
0F 02 /r | lar Gv,Mw | op lar_memory | pe w=z
0F 02 /r | lar Gv,Rv | op lar_register | pe w=z
0F 03 /r | lsl Gv,Mw | op lsl_memory | pe w=z
0F 03 /r | lsl Gv,Rv | op lsl_register | pe w=z
0F 00 /4 | verr Mw | op verr_memory | pe w=z
0F 00 /4 | verr Rw | op verr_register | pe w=z
0F 00 /5 | verw Mw | op verw_memory | pe w=z
0F 00 /5 | verw Rw | op verw_register | pe w=z
63 /r | arpl Mw,Gw | op arpl_memory | i64 pe w=z
63 /r | arpl Rw,Gw | op arpl_register | i64 pe w=z
06 | push ES | op push_sreg | i64
0E | push CS | op push_sreg | i64
16 | push SS | op push_sreg | i64
1E | push DS | op push_sreg | i64
0F A0 | push FS | op push_sreg | d64
0F A8 | push GS | op push_sreg | d64
07 | pop ES | end pop_sreg | i64
17 | pop SS | end pop_sreg | i64
1F | pop DS | end pop_sreg | i64
0F A1 | pop FS | end pop_sreg | d64
0F A9 | pop GS | end pop_sreg | d64
C4 /r | les Gv,Mp,ES | end load_far_pointer | i64
C5 /r | lds Gv,Mp,DS | end load_far_pointer | i64
0F B2 /r | lss Gv,Mp,SS | end load_far_pointer |
0F B4 /r | lfs Gv,Mp,FS | end load_far_pointer |
0F B5 /r | lgs Gv,Mp,GS | end load_far_pointer |
EA | jmp Ap | end jmp_far | i64
9A | call Ap | end call_far | i64
FF /5 | jmp Mp | end jmp_far_memory |
FF /3 | call Mp | end call_far_memory |
CA | retf/retf/retfq Iw | end ret_far |
CB | retf/retf/retfq | end ret_far |
CF | iret/iretd/iretq | end iret |
CC | int3 | end int_3 |
CD | int Ib | end int_n |
CE | into | end into | i64
F1 | int1 | end int_1 |
0F 0B | ud2 | end ud |
0F B9 /r | ud1 Gv,Ev | end ud |
0F FF /r | ud0 Gv,Ev | end ud |
9C | pushf/pushfd/pushfq | op pushf | d64
9D | popf/popfd/popfq | end popf | d64
FA | cli | op cli |
FB | sti | end sti |
F4 | hlt | end hlt |
NP 0F 01 =CA | clac | op clac | cpuid=SMAP
NP 0F 01 =CB | stac | op stac | cpuid=SMAP
0F 05 | syscall | end syscall | cpuid=SYSCALL
0F 07 | sysret/sysret/sysretq | end sysret | cpuid=SYSCALL
0F 34 | sysenter | end sysenter | cpuid=SEP
0F 35 | sysexit/sysexit/sysexitq | end sysexit | cpuid=SEP
0F 01 =F8 | swapgs | op swapgs | o64
F3 0F AE /0 | rdfsbase Ry | op rdfsbase | o64 cpuid=FSGSBASE
F3 0F AE /1 | rdgsbase Ry | op rdgsbase | o64 cpuid=FSGSBASE
F3 0F AE /2 | wrfsbase Ry | op wrfsbase | o64 cpuid=FSGSBASE
F3 0F AE /3 | wrgsbase Ry | op wrgsbase | o64 cpuid=FSGSBASE
F3 0F C7 /7 | rdpid Ry | op rdpid | f64 cpuid=RDPID
NP 0F 01 =EE | rdpkru | op rdpkru | cpuid=PKU
NP 0F 01 =EF | wrpkru | end wrpkru | cpuid=PKU
NP 0F 01 =D0 | xgetbv | op xgetbv | cpuid=XSAVE
NP 0F 01 =D1 | xsetbv | end xsetbv | cpuid=XSAVE
0F 31 | rdtsc | op rdtsc | cpuid=TSC
0F 01 =F9 | rdtscp | op rdtscp | cpuid=RDTSCP
NFx 0F C7 /6 | rdrand Rv | op rdrand | cpuid=RDRAND w=oszapc
NFx 0F C7 /7 | rdseed Rv | op rdrand | cpuid=RDSEED w=oszapc
0F 32 | rdmsr | alone rdmsr | cpuid=MSR
0F 30 | wrmsr | alone wrmsr | cpuid=MSR
0F A2 | cpuid | op cpuid | cpuid=CPUID
"""

from emu.isa.shapes import FAIL, Variant  # noqa: E402


def _alone(v: Variant) -> tuple[str, list[str]]:
    """Ends the block, and runs at an exact instruction count: it may look at the time, or reach the local APIC."""
    return v.name("alone"), ["if not c.single:", "    run_alone(c)", "    " + FAIL, "c.rip = rip_after(c, i) & c.rip_mask",
                             f"if unlikely({v.row.function}(c, i)):", "    " + FAIL, "return RC_NEXT"]


SHAPES = {"alone": _alone}
ENDS = {"alone"}
