# A boot sector that sends one byte on COM1 and halts: how long does it take from the start of a process to here?
        .code16
        .globl _start
_start: cli
        movw    $0x3FB, %dx
        movb    $3, %al
        outb    %al, %dx
        movw    $0x3F8, %dx
        movb    $'!', %al
        outb    %al, %dx
1:      hlt
        jmp     1b
        .org    510
        .word   0xAA55
