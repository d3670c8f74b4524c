# One boot sector that runs one counted loop: real mode -> protected or long mode with 4 KiB pages -> 'S' on COM1, loop, 'E', stop.
# Symbols given on the assembler's command line: LONG (0 or 1), LOOP (0 mix, 1 alu, 2 call, 3 tlb), TURNS (iterations).
# loops.py knows the instructions of one turn; a test counts them with Unicorn.

        .set TABLES, 0x10000
        .set PAGE_TABLES, 0x13000               # of the first 32 MiB
        .set PAGES, 8192
        .set DATA, 0x100000
        .set SPAN, 16 << 20                     # what the tlb loop walks over, page by page

        .if LONG
        .set ENTRY, 8
        .else
        .set ENTRY, 4
        .endif

        .code16
        .globl _start
_start: cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x7000, %sp
        inb     $0x92, %al                      # A20
        orb     $2, %al
        outb    %al, $0x92
        movw    $0x3FB, %dx                     # COM1: 8 bits a byte
        movb    $3, %al
        outb    %al, %dx
        lgdtl   gdt_pointer
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpw   $8, $protected

        .code32
protected:
        movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x7000, %esp
# Tables: zeroed, then identity for 32 MiB in 4 KiB pages.
        cld
        xorl    %eax, %eax
        movl    $TABLES, %edi
        movl    $(PAGE_TABLES + PAGES * ENTRY - TABLES) / 4, %ecx
        rep stosl
        movl    $PAGE_TABLES, %edi
        movl    $3, %eax
1:      movl    %eax, (%edi)
        addl    $ENTRY, %edi
        addl    $0x1000, %eax
        cmpl    $PAGES * 0x1000 + 3, %eax
        jne     1b
        .if LONG
        movl    $TABLES + 0x1003, TABLES
        movl    $TABLES + 0x2003, TABLES + 0x1000
        movl    $TABLES + 0x2000, %edi
        .else
        movl    $TABLES, %edi
        .endif
        movl    $PAGE_TABLES + 3, %eax
        movl    $PAGES * ENTRY / 0x1000, %ecx
1:      movl    %eax, (%edi)
        addl    $ENTRY, %edi
        addl    $0x1000, %eax
        loop    1b
        movl    $TABLES, %eax
        movl    %eax, %cr3
        .if LONG
        movl    $0x20, %eax                     # CR4.PAE
        movl    %eax, %cr4
        movl    $0xC0000080, %ecx
        rdmsr
        orb     $1, %ah                         # EFER.LME
        wrmsr
        .endif
        movl    %cr0, %eax
        orl     $0x80000000, %eax
        movl    %eax, %cr0
        .if LONG
        ljmp    $24, $long
        .code64
long:
        .endif

        movb    $'S', %al
        movw    $0x3F8, %dx
        outb    %al, %dx
        movl    $TURNS, %ebp
        movl    $DATA, %esi
        xorl    %eax, %eax
        xorl    %ebx, %ebx
        movl    $12345, %ecx
        xorl    %edi, %edi

        .balign 16
turn:                                           # a test begins here
        .if LOOP == 0
        # mix: a pseudo-random index, load, change, store; a branch both of whose ways are one instruction; the stack; bytes
        imull   $1103515245, %ecx, %ecx
        addl    $12345, %ecx
        movl    %ecx, %eax
        shrl    $16, %eax
        andl    $0x3FFC, %eax
        .if LONG
        movl    (%rsi, %rax), %ebx
        .else
        movl    (%esi, %eax), %ebx
        .endif
        addl    %ecx, %ebx
        testb   $8, %al
        jz      1f
        xorl    %edi, %ebx
        jmp     2f
1:      leal    3(%ebx, %edi, 2), %ebx
        nop
2:
        .if LONG
        movl    %ebx, (%rsi, %rax)
        pushq   %rbx
        movzbl  1(%rsi, %rax), %edx
        popq    %rdi
        .else
        movl    %ebx, (%esi, %eax)
        pushl   %ebx
        movzbl  1(%esi, %eax), %edx
        popl    %edi
        .endif
        subl    %edx, %edi
        decl    %ebp
        jnz     turn
        .endif

        .if LOOP == 1
        # alu: registers only
        addl    $7, %eax
        xorl    %eax, %ebx
        leal    5(%ebx, %ecx, 4), %ecx
        subl    %eax, %ecx
        roll    $3, %ebx
        andl    $0x7FFFFFFF, %ecx
        orl     %ecx, %edi
        incl    %edi
        shrl    $1, %edi
        notl    %eax
        addl    %edi, %eax
        movl    %eax, %edx
        sarl    $2, %edx
        xorl    %edx, %ebx
        decl    %ebp
        jnz     turn
        .endif

        .if LOOP == 2
        # call: two functions deep, with a frame
        call    outer
        decl    %ebp
        jnz     turn
        jmp     done
outer:  addl    $1, %eax
        call    inner
        call    inner
        ret
inner:
        .if LONG
        pushq   %rbx
        addl    $1, %ebx
        popq    %rbx
        .else
        pushl   %ebx
        addl    $1, %ebx
        popl    %ebx
        .endif
        ret
done:
        .endif

        .if LOOP == 3
        # tlb: every access lies on another page, 4096 pages in turn
        .if LONG
        movl    (%rsi), %eax
        addl    $1, %eax
        movl    %eax, (%rsi)
        .else
        movl    (%esi), %eax
        addl    $1, %eax
        movl    %eax, (%esi)
        .endif
        addl    $0x1040, %esi
        cmpl    $DATA + SPAN, %esi
        jb      1f
        movl    $DATA, %esi                     # once in some 4000 turns: not counted
1:      decl    %ebp
        jnz     turn
        .endif

finished:
        movb    $'E', %al
        movw    $0x3F8, %dx
        outb    %al, %dx
1:      cli
        hlt
        jmp     1b

        .balign 8
gdt:    .quad   0
        .quad   0x00CF9A000000FFFF              # 32-bit code
        .quad   0x00CF92000000FFFF              # data
        .quad   0x00209A0000000000              # 64-bit code
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt

        .org    510
        .word   0xAA55
