# First 64-bit instructions of the kernel, the 48 interrupt entries, and the jump back out of a fault that was asked for.

        .section .text.entry, "ax"
        .globl  kernel_entry
kernel_entry:                                   # rdi = how we were booted, rsi = physical address of the information
        movl    %edi, %edi
        movl    %esi, %esi
        movq    $kernel_stack_end, %rsp
        xorl    %ebp, %ebp
        call    kernel_main
1:      cli
        hlt
        jmp     1b

        .text
# The processor pushes SS, RSP, RFLAGS, CS, RIP, and for some exceptions an error code (SDM 3A 6.14.2). Each entry
# makes this uniform: an error code of 0 where there is none, then the vector.
        .altmacro
        .macro  entry vector
        .balign 16
entry_\vector:
        .if     (\vector == 8) || (\vector == 17) || (\vector == 21) || (\vector >= 10 && \vector <= 14)
        .else
        pushq   $0
        .endif
        pushq   $\vector
        jmp     common_entry
        .endm

        .set    number, 0
        .rept   48
        entry   %number
        .set    number, number + 1
        .endr

common_entry:
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rbx
        pushq   %rbp
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        cld
        movq    %rsp, %rdi
        call    interrupt
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rdi
        popq    %rsi
        popq    %rbp
        popq    %rbx
        popq    %rdx
        popq    %rcx
        popq    %rax
        addq    $16, %rsp
        iretq

# int save_context(struct context *): 0 at first; comes back a second time with 1 when a fault handler restores it.
        .globl  save_context
save_context:
        movq    %rbx, 0(%rdi)
        movq    %rbp, 8(%rdi)
        movq    %r12, 16(%rdi)
        movq    %r13, 24(%rdi)
        movq    %r14, 32(%rdi)
        movq    %r15, 40(%rdi)
        leaq    8(%rsp), %rax
        movq    %rax, 48(%rdi)
        movq    (%rsp), %rax
        movq    %rax, 56(%rdi)
        xorl    %eax, %eax
        ret

# void load_segments(void): after LGDT, the new code segment needs a far return, the others a plain load.
        .globl  load_segments
load_segments:
        popq    %rax
        pushq   $0x08
        pushq   %rax
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        xorl    %eax, %eax
        movl    %eax, %fs
        movl    %eax, %gs
        lretq

        .section .rodata
        .balign 8
        .globl  entry_table
entry_table:
        .macro  entry_address vector
        .quad   entry_\vector
        .endm
        .set    number, 0
        .rept   48
        entry_address %number
        .set    number, number + 1
        .endr

        .section .bss.pages, "aw", @nobits
        .balign 4096
        .globl  stack_guard, kernel_stack_end, fault_stack_end
stack_guard:                                    # taken out of the page tables: a stack that overflows faults here
        .skip   4096
        .skip   4 * 4096
kernel_stack_end:
        .skip   2 * 4096                        # the double fault handler's own stack (IST 1)
fault_stack_end:
