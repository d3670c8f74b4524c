# First bytes of an image: a boot sector, a multiboot 1 header, and the 32-bit entry that both lead to.
#
# One file is a kernel for loaders (QEMU -kernel, emu run) and a disk that a BIOS boots (Bochs).

        .set LOAD, 0x100000
        .set BUFFER_SEGMENT, 0x1000
        .set CHUNK_SECTORS, 63                  # 8 chunks are 504 sectors: half of a cylinder of 16 heads, 63 sectors

        .section .boot, "ax"
        .code16
        .globl  image_start
image_start:
boot:   cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7C00, %sp
        ljmp    $0, $(0x7C00 + 1f - boot)
1:      movb    %dl, 0x7C00 + drive - boot
        inb     $0x92, %al
        orb     $2, %al
        andb    $0xFE, %al
        outb    %al, $0x92                      # A20
read:   movw    $(0x7C00 + packet - boot), %si
        movb    $0x42, %ah                      # extended read (EDD 1.1)
        movb    0x7C00 + drive - boot, %dl
        sti
        int     $0x13
        cli
        jc      failed
        lgdtl   0x7C00 + boot_gdt_pointer - boot
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        movw    $0x10, %bx
        movw    %bx, %ds
        movw    %bx, %es
        andb    $0xFE, %al
        movl    %eax, %cr0                      # real mode again, with the limits of 4 GiB kept
        movl    $(BUFFER_SEGMENT * 16), %esi
        movl    0x7C00 + target - boot, %edi
        movl    $(CHUNK_SECTORS * 128), %ecx
        cld
        addr32 rep movsl
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movl    %edi, 0x7C00 + target - boot
        addl    $CHUNK_SECTORS, 0x7C00 + packet_sector - boot
        cmpl    $load_end, %edi
        jb      read
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $0x08, $entry
failed: movb    $0x21, %al
        outb    %al, $0xE9
        hlt
        jmp     failed

        .balign 4
target: .long   LOAD
packet: .byte   16, 0
        .word   CHUNK_SECTORS, 0, BUFFER_SEGMENT
packet_sector:
        .quad   0
drive:  .byte   0
        .balign 8
boot_gdt:
        .quad   0
        .quad   0x00CF9A000000FFFF              # 32-bit code
        .quad   0x00CF92000000FFFF              # data
boot_gdt_pointer:
        .word   . - boot_gdt - 1
        .long   0x7C00 + boot_gdt - boot
        .org    510
        .word   0xAA55

# Multiboot 1 specification 3.1, with the addresses of a flat image (bit 16).
        .balign 4
header: .long   0x1BADB002
        .long   0x00010000
        .long   -(0x1BADB002 + 0x00010000)
        .long   header, image_start, load_end, bss_end, entry

        .code32
        .globl  entry
entry:  cli
        cld
        movl    $start_gdt_pointer, %eax
        lgdtl   (%eax)
        ljmp    $0x08, $1f
1:      movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %fs
        movl    %eax, %gs
        movl    %eax, %ss
        movl    $bss_start, %edi
        movl    $bss_end, %ecx
        subl    %edi, %ecx
        xorl    %eax, %eax
        rep stosb
        movl    $low_image, %esi                # 16-bit code goes where its addresses say
        movl    $low_start, %edi
        movl    $low_length, %ecx
        rep movsb
        movl    $stack_end, %esp
        jmp     enter_c

        .balign 8
        .globl  start_gdt
start_gdt:
        .quad   0
        .quad   0x00CF9A000000FFFF
        .quad   0x00CF92000000FFFF
start_gdt_pointer:
        .word   . - start_gdt - 1
        .long   start_gdt
