# Entry in 32-bit protected mode (multiboot 1 or PVH): builds the first page tables, enters long mode, jumps to the kernel.
# The kernel proper is 64-bit code linked in the higher half; it is carried here as plain bytes (see boot.ld).

        .set KERNEL_PHYSICAL, 0x200000
        .set KERNEL_VIRTUAL,  0xFFFFFFFF80200000

        .set PRESENT_WRITABLE, 0x003
        .set LARGE,            0x080            # a PD entry that maps 2 MiB itself
        .set COM1,             0x3F8

# Multiboot 1 specification 3.1: a header within the first 8 KiB; flags: page-aligned modules, memory map wanted.
        .section .multiboot, "a"
        .balign 4
        .long   0x1BADB002
        .long   0x00000003
        .long   -(0x1BADB002 + 0x00000003)

# The PVH boot ABI finds its 32-bit entry by an ELF note: owner "Xen", type 18 (PHYS32_ENTRY).
        .section .note.pvh, "a", @note
        .balign 4
        .long   4, 4, 18
        .asciz  "Xen"
        .long   start_pvh

        .text
        .code32
        .globl  start_multiboot
start_multiboot:                                # eax = 0x2BADB002, ebx = multiboot information
        movl    $1, %edi
        jmp     start

start_pvh:                                      # ebx = hvm_start_info
        movl    $2, %edi

start:
        cli
        cld
        movl    $boot_stack_end, %esp
        movl    %ebx, %esi                      # edi and esi are kept for the kernel: its first two arguments

# Is there a long mode? CPUID exists if EFLAGS.ID can be changed (SDM 1, 3.4.3.3).
        pushfl
        popl    %eax
        movl    %eax, %ecx
        xorl    $0x200000, %eax
        pushl   %eax
        popfl
        pushfl
        popl    %eax
        xorl    %ecx, %eax
        jz      no_long_mode
        movl    $0x80000000, %eax
        cpuid
        cmpl    $0x80000001, %eax
        jb      no_long_mode
        movl    $0x80000001, %eax
        cpuid
        movl    %edx, %ebp                      # bit 29: long mode, bit 20: no-execute
        btl     $29, %ebp
        jnc     no_long_mode

# Level 4: entry 0 for the identity map, entry 511 for the last 512 GiB, where the kernel lives.
        movl    $pdpt_low + PRESENT_WRITABLE, pml4
        movl    $pdpt_high + PRESENT_WRITABLE, pml4 + 511 * 8
# Level 3: the first 4 GiB; and the gigabyte at 0xFFFFFFFF80000000.
        movl    $pd_low + 0x0000 + PRESENT_WRITABLE, pdpt_low
        movl    $pd_low + 0x1000 + PRESENT_WRITABLE, pdpt_low + 8
        movl    $pd_low + 0x2000 + PRESENT_WRITABLE, pdpt_low + 16
        movl    $pd_low + 0x3000 + PRESENT_WRITABLE, pdpt_low + 24
        movl    $pd_high + PRESENT_WRITABLE, pdpt_high + 510 * 8
# Level 2: the identity map is made of 2 MiB pages; the kernel's 2 MiB are cut further.
        movl    $pt_kernel + PRESENT_WRITABLE, pd_high + 1 * 8
        xorl    %ecx, %ecx
        movl    $PRESENT_WRITABLE + LARGE, %eax
1:      movl    %eax, pd_low(, %ecx, 8)
        addl    $0x200000, %eax
        incl    %ecx
        cmpl    $4 * 512, %ecx
        jne     1b
# Level 1: 4 KiB pages, all writable for now; the kernel tightens them (paging.c).
        xorl    %ecx, %ecx
        movl    $KERNEL_PHYSICAL + PRESENT_WRITABLE, %eax
1:      movl    %eax, pt_kernel(, %ecx, 8)
        addl    $0x1000, %eax
        incl    %ecx
        cmpl    $512, %ecx
        jne     1b

# The order of SDM 3A 10.8.5: CR4.PAE, CR3, EFER.LME, CR0.PG.
        movl    %cr4, %eax
        orl     $0x20, %eax
        movl    %eax, %cr4
        movl    $pml4, %eax
        movl    %eax, %cr3
        movl    $0xC0000080, %ecx               # IA32_EFER
        rdmsr
        orl     $0x100, %eax                    # LME
        btl     $20, %ebp
        jnc     1f
        orl     $0x800, %eax                    # NXE
1:      wrmsr
        movl    %cr0, %eax
        orl     $0x80010000, %eax               # PG, and WP: the kernel obeys read-only pages too
        movl    %eax, %cr0
# Compatibility mode now; a far jump into a segment with L = 1 makes it 64-bit mode.
        lgdt    gdt_pointer
        ljmp    $0x08, $in_long_mode

        .code64
in_long_mode:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movabs  $KERNEL_VIRTUAL, %rax
        jmp     *%rax

        .code32
no_long_mode:
        movl    $sorry, %ebx
1:      movw    $COM1 + 5, %dx
2:      inb     %dx, %al
        testb   $0x20, %al                      # transmitter holding register empty
        jz      2b
        movb    (%ebx), %al
        testb   %al, %al
        jz      3f
        movw    $COM1, %dx
        outb    %al, %dx
        incl    %ebx
        jmp     1b
3:      cli
        hlt
        jmp     3b

        .section .rodata
sorry:  .asciz  "teach: this processor has no long mode; nothing to show.\r\n"

        .balign 8
gdt:    .quad   0
        .quad   0x00209A0000000000              # 64-bit code, ring 0
        .quad   0x0000920000000000              # data
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt

        .section .kernel, "a"
        .incbin "kernel.bin"

        .bss
        .balign 4096
pml4:       .skip 4096
pdpt_low:   .skip 4096
pdpt_high:  .skip 4096
pd_low:     .skip 4 * 4096
pd_high:    .skip 4096
pt_kernel:  .skip 4096
boot_stack: .skip 256
boot_stack_end:
