# The 64-bit image: into long mode; runs of `t` by IRETQ; the 256 interrupt entries.
# Offsets of struct state (harness.h)
        .set S_AX, 0
        .set S_SP, 32
        .set S_IP, 128
        .set S_FLAGS, 136
        .set S_CS, 144
        .set S_SS, 152
        .set S_DS, 160
        .set S_ES, 168
        .set S_FS, 176
        .set S_GS, 184
        .set S_VECTOR, 192
        .set S_ERROR, 200
        .set S_CR2, 208
        .set S_FRAME, 216
        .set S_HANDLER, 224                     # flags, CS, SS, DS, ES, FS, GS

        .text
        .code32
        .globl  enter_c
enter_c:
        movl    $0x80000001, %eax
        cpuid
        btl     $29, %edx
        jc      1f
        hlt                                     # no long mode: nothing to do here
1:      movl    $pdpt + 7, pml4
        movl    $pd_low + 3, pdpt               # 0: supervisor, 1 GiB: the same for CPL 3, 3 GiB: devices
        movl    $pd_user + 7, pdpt + 8
        movl    $pd_high + 3, pdpt + 24
        xorl    %ecx, %ecx
        movl    $0x83, %eax
2:      movl    %eax, pd_low(, %ecx, 8)
        leal    4(%eax), %edx
        movl    %edx, pd_user(, %ecx, 8)
        leal    0xC0000010(%eax), %edx
        movl    %edx, pd_high(, %ecx, 8)
        addl    $0x200000, %eax
        incl    %ecx
        cmpl    $512, %ecx
        jb      2b
        movl    %cr4, %eax
        orl     $0x20, %eax
        movl    %eax, %cr4
        movl    $pml4, %eax
        movl    %eax, %cr3
        movl    $0xC0000080, %ecx
        rdmsr
        orl     $0x900, %eax                    # LME, NXE
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        lgdtl   gdt_pointer
        ljmp    $0x08, $1f
        .code64
1:      movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $stack_end, %esp
        call    main
        hlt

# void run(void)
        .globl  run
run:    pushq   %rbx
        pushq   %rbp
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, harness_sp
go_on:  movq    $1, running
        movl    t + S_DS, %eax
        movl    %eax, %ds
        movl    t + S_ES, %eax
        movl    %eax, %es
        movl    $t, %r15d
        pushq   S_SS(%r15)
        pushq   S_SP(%r15)
        pushq   S_FLAGS(%r15)
        pushq   S_CS(%r15)
        pushq   S_IP(%r15)
        movq    0(%r15), %rax
        movq    8(%r15), %rcx
        movq    16(%r15), %rdx
        movq    24(%r15), %rbx
        movq    40(%r15), %rbp
        movq    48(%r15), %rsi
        movq    56(%r15), %rdi
        movq    64(%r15), %r8
        movq    72(%r15), %r9
        movq    80(%r15), %r10
        movq    88(%r15), %r11
        movq    96(%r15), %r12
        movq    104(%r15), %r13
        movq    112(%r15), %r14
        movq    120(%r15), %r15
        .globl  run_iret
run_iret:
        iretq

trapped:                                        # on the stack: vector, error code, RIP, CS, RFLAGS, RSP, SS
        pushfq
        popq    t + S_HANDLER
        movq    %rax, t + S_AX
        movq    %rcx, t + 8
        movq    %rdx, t + 16
        movq    %rbx, t + 24
        movq    %rbp, t + 40
        movq    %rsi, t + 48
        movq    %rdi, t + 56
        movq    %r8, t + 64
        movq    %r9, t + 72
        movq    %r10, t + 80
        movq    %r11, t + 88
        movq    %r12, t + 96
        movq    %r13, t + 104
        movq    %r14, t + 112
        movq    %r15, t + 120
        leaq    8(%rsp), %rax
        movq    %rax, t + S_FRAME
        popq    t + S_VECTOR
        popq    t + S_ERROR
        popq    t + S_IP
        popq    t + S_CS
        popq    t + S_FLAGS
        popq    t + S_SP
        popq    t + S_SS
        movl    %cs, %eax
        movq    %rax, t + S_HANDLER + 8
        movl    %ss, %eax
        movq    %rax, t + S_HANDLER + 16
        movl    %ds, %eax
        movq    %rax, t + S_DS
        movq    %rax, t + S_HANDLER + 24
        movl    %es, %eax
        movq    %rax, t + S_ES
        movq    %rax, t + S_HANDLER + 32
        movl    %fs, %eax
        movq    %rax, t + S_FS
        movl    %gs, %eax
        movq    %rax, t + S_GS
        movq    %cr2, %rax
        movq    %rax, t + S_CR2
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        pushq   $2
        popfq
        cmpq    $1, running
        jne     lost
        movq    $0, running
        movq    harness_sp, %rsp
        movq    on_trap, %rax
        testq   %rax, %rax
        jz      1f
        call    *%rax
        testl   %eax, %eax
        jnz     go_on
1:      popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbp
        popq    %rbx
        ret

lost:   movl    $stack_end, %esp
        call    lost_trap

        .altmacro
        .macro  entry number
        .balign 16
        .if     (\number == 8) || (\number >= 10 && \number <= 14) || (\number == 17) || (\number == 21)
        .else
        pushq   $0
        .endif
        pushq   $\number
        jmp     trapped
        .endm
        .balign 16
        .globl  entries
entries:
        .set    n, 0
        .rept   256
        entry   %n
        .set    n, n + 1
        .endr

        .data
        .balign 8
        .globl  gdt_pointer
gdt_pointer:
        .word   64 * 8 - 1
        .quad   gdt

        .bss
        .globl  harness_sp, running
harness_sp: .skip 8
running:    .skip 8
        .section .bss.pages, "aw", @nobits
        .balign 4096
        .globl  pml4, pdpt, pd_low, pd_user
pml4:   .skip   4096
pdpt:   .skip   4096
pd_low: .skip   4096
pd_user: .skip  4096
pd_high: .skip  4096
        .skip   16384
        .globl  stack_end
stack_end:
