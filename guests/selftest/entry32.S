# The 32-bit image: runs of `t` by IRETD, to any privilege and to virtual-8086 mode; the 256 interrupt entries.
# Offsets of struct state (harness.h)
        .set S_AX, 0
        .set S_SP, 16
        .set S_IP, 32
        .set S_FLAGS, 36
        .set S_CS, 40
        .set S_SS, 44
        .set S_DS, 48
        .set S_ES, 52
        .set S_FS, 56
        .set S_GS, 60
        .set S_VECTOR, 64
        .set S_ERROR, 68
        .set S_CR2, 72
        .set S_FRAME, 76
        .set S_HANDLER, 80                      # flags, CS, SS, DS, ES, FS, GS

        .text
        .globl  enter_c
enter_c:
        call    main
        hlt

# void run(void)
        .globl  run
run:    pushl   %ebx
        pushl   %ebp
        pushl   %esi
        pushl   %edi
        movl    %esp, harness_sp
go_on:  movl    $1, running
        testl   $0x20000, t + S_FLAGS
        jz      1f
        pushl   t + S_GS
        pushl   t + S_FS
        pushl   t + S_DS
        pushl   t + S_ES
        jmp     2f
1:      testl   $3, t + S_CS
        jnz     2f
        movw    t + S_SS, %ss                   # the same privilege: IRETD leaves the stack alone
        movl    t + S_SP, %esp
        jmp     3f
2:      pushl   t + S_SS
        pushl   t + S_SP
3:      pushl   t + S_FLAGS
        pushl   t + S_CS
        pushl   t + S_IP
        movl    t, %eax
        movl    t + 4, %ecx
        movl    t + 8, %edx
        movl    t + 12, %ebx
        movl    t + 20, %ebp
        movl    t + 24, %esi
        movl    t + 28, %edi
        testl   $0x20000, t + S_FLAGS
        jnz     run_iret
        movw    t + S_ES, %es
        movw    t + S_FS, %fs
        movw    t + S_GS, %gs
        movw    t + S_DS, %ds
        .globl  run_iret
run_iret:
        iretl

        .globl  trapped
trapped:                                        # on the stack: vector, error code, EIP, CS, EFLAGS, ...
        pushl   %ds
        pushl   %eax
        movl    $0x10, %eax
        movl    %eax, %ds
        popl    t + S_AX
        popl    t + S_HANDLER + 12
        pushfl
        popl    t + S_HANDLER
        movl    %ecx, t + 4
        movl    %edx, t + 8
        movl    %ebx, t + 12
        movl    %ebp, t + 20
        movl    %esi, t + 24
        movl    %edi, t + 28
        leal    4(%esp), %eax
        movl    %eax, t + S_FRAME
        movl    %cs, %eax
        movl    %eax, t + S_HANDLER + 4
        movl    %ss, %eax
        movl    %eax, t + S_HANDLER + 8
        movl    %es, %eax
        movl    %eax, t + S_HANDLER + 16
        movl    %fs, %eax
        movl    %eax, t + S_HANDLER + 20
        movl    %gs, %eax
        movl    %eax, t + S_HANDLER + 24
        popl    t + S_VECTOR
        popl    t + S_ERROR
        popl    t + S_IP
        popl    t + S_CS
        popl    t + S_FLAGS
        testl   $0x20000, t + S_FLAGS
        jnz     1f
        movl    t + S_HANDLER + 12, %eax
        movl    %eax, t + S_DS
        movl    t + S_HANDLER + 16, %eax
        movl    %eax, t + S_ES
        movl    t + S_HANDLER + 20, %eax
        movl    %eax, t + S_FS
        movl    t + S_HANDLER + 24, %eax
        movl    %eax, t + S_GS
        movl    t + S_CS, %eax
        xorl    t + S_HANDLER + 4, %eax
        testl   $3, %eax
        jnz     2f
        movl    %ss, %eax
        movl    %eax, t + S_SS
        movl    %esp, t + S_SP
        jmp     3f
1:      popl    t + S_SP
        popl    t + S_SS
        popl    t + S_ES
        popl    t + S_DS
        popl    t + S_FS
        popl    t + S_GS
        jmp     3f
2:      popl    t + S_SP
        popl    t + S_SS
        .globl  captured
3:
captured:
        movl    %cr2, %eax
        movl    %eax, t + S_CR2
        movl    $0x10, %eax
        movl    %eax, %ss
        movl    harness_sp, %esp
        movl    %eax, %es
        movl    %eax, %fs
        movl    %eax, %gs
        pushl   $2
        popfl
        cmpl    $1, running
        jne     lost
        movl    $0, running
        movl    on_trap, %eax
        testl   %eax, %eax
        jz      1f
        call    *%eax
        testl   %eax, %eax
        jnz     go_on
1:      popl    %edi
        popl    %esi
        popl    %ebp
        popl    %ebx
        ret

lost:   movl    $stack_end, %esp
        call    lost_trap

        .altmacro
        .macro  entry number
        .balign 16
        .if     (\number == 8) || (\number >= 10 && \number <= 14) || (\number == 17) || (\number == 21)
        .else
        pushl   $0
        .endif
        pushl   $\number
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

        .bss
        .balign 4
        .globl  harness_sp, running
harness_sp: .skip 4
running:    .skip 4
        .section .bss.pages, "aw", @nobits
        .balign 4096
        .skip   16384
        .globl  stack_end
stack_end:
