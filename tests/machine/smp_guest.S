# A multiboot kernel for machines with several CPUs: starts all of them, then runs the test that TEST names (names below).
# It writes to the debug console (port 0xE9) and ends by isa-debug-exit (port 0xF4): value 1 is success.
# CPUS is how many there are. Built by processors_guest.py.
        .set APIC, 0xFEE00000
        .set APIC_ID, 0x20
        .set APIC_EOI, 0xB0
        .set APIC_LDR, 0xD0
        .set APIC_SVR, 0xF0
        .set APIC_ICR, 0x300
        .set APIC_ICR_HIGH, 0x310
        .set APIC_LVT_TIMER, 0x320
        .set APIC_COUNT, 0x380
        .set APIC_DIVIDE, 0x3E0
        .set TRAMPOLINE, 0x8000
        .set VECTOR, 0x40

        .text
        .code32
        .align 4
        .long 0x1BADB002, 0, -0x1BADB002
        .globl _start
_start:
        cli
        mov $stacks + 4096, %esp
        lgdt gdt_pointer
        ljmp $8, $1f
1:      mov $16, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        call fill_idt
        mov $trampoline, %esi
        mov $TRAMPOLINE, %edi
        mov $trampoline_end - trampoline, %ecx
        rep movsb
        xor %ebp, %ebp                  # %ebp: the number of this CPU in the order of arrival
        call enable_apic
        movl $0xC4500, APIC + APIC_ICR  # INIT, then SIPI, to all but this one
        movl $0xC4608, APIC + APIC_ICR
        movl $0xC4608, APIC + APIC_ICR  # the second one finds them running, and does nothing
1:      pause
        cmpl $CPUS - 1, arrived
        jne 1b
        jmp run

        .code16
trampoline:
        cli
        xor %ax, %ax
        mov %ax, %ds
        lgdtl TRAMPOLINE + gdt_pointer - trampoline
        mov %cr0, %eax
        or $1, %al
        mov %eax, %cr0
        ljmpl $8, $ap_start
        .align 8
gdt:    .quad 0, 0x00CF9B000000FFFF, 0x00CF93000000FFFF
gdt_pointer:
        .word 23
        .long gdt
trampoline_end:
        .code32

ap_start:
        mov $16, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov $1, %ebp
        lock xadd %ebp, arrived
        inc %ebp
        mov %ebp, %esp
        shl $12, %esp
        add $stacks + 4096, %esp
        call enable_apic

run:    lidt idt_pointer
        mov $1, %eax
        cpuid
        shr $24, %ebx
        mov APIC + APIC_ID, %eax
        shr $24, %eax
        cmp %eax, %ebx                  # CPUID and the local APIC name the same
        jne fail
        lock btsl %eax, seen            # and no other CPU has it
        jc fail
        call barrier
        .if TEST == 1
        call count
        .elseif TEST == 2
        call modify
        .elseif TEST == 3
        call interrupt
        .elseif TEST == 4
        call restart
        .elseif TEST == 5
        call stamps
        .elseif TEST == 6
        call fair
        .elseif TEST == 7
        call ticks
        .elseif TEST == 8
        call fault
        .endif
        call barrier
        test %ebp, %ebp
        jnz halt
        mov $'.', %al
        outb %al, $0xE9
        mov $1, %al
        outb %al, $0xF4
fail:   mov $'!', %al
        outb %al, $0xE9
        mov $2, %al
        outb %al, $0xF4
halt:   cli
        hlt
        jmp halt

# All CPUs meet here.
barrier:
        mov $1, %eax
        lock xadd %eax, meeting
        mov $CPUS, %ecx
        xor %edx, %edx
        div %ecx
        inc %eax
        mul %ecx                        # the count at which this meeting is complete
1:      pause
        mov meeting, %ecx
        sub %eax, %ecx
        js 1b
        ret

enable_apic:
        mov $APIC, %ebx
        movl $0x1FF, APIC_SVR(%ebx)
        mov $0x01000000, %eax           # logical ID: bit of the order of arrival
        mov %ebp, %ecx
        and $7, %ecx
        shl %cl, %eax
        mov %eax, APIC_LDR(%ebx)
        ret

take:   mov $1, %eax                    # the lock
1:      xchg %eax, lock_word
        test %eax, %eax
        jz 2f
        pause
        jmp 1b
2:      ret

give:   movl $0, lock_word
        ret

# %eax in hexadecimal, and a blank
print:  mov %eax, %edx
        mov $8, %ecx
1:      rol $4, %edx
        mov %dl, %al
        and $15, %al
        add $'0', %al
        cmp $'9', %al
        jbe 2f
        add $'a' - '9' - 1, %al
2:      outb %al, $0xE9
        loop 1b
        mov $' ', %al
        outb %al, $0xE9
        ret

# 1: each adds 2000 by LOCK INC, and 500 without it behind a lock
count:  mov $2000, %esi
1:      lock incl total
        dec %esi
        jnz 1b
        mov $500, %esi
2:      call take
        incl guarded
        call give
        dec %esi
        jnz 2b
        call barrier
        test %ebp, %ebp
        jnz 3f
        mov total, %eax
        call print
        mov guarded, %eax
        call print
3:      ret

# 2: CPU 0 patches an instruction that the others run all the time
modify: mov $200, %esi
        test %ebp, %ebp
        jz 2f
1:      call patched
        mov %eax, answers(, %ebp, 4)
        cmp %esi, %eax
        jne 1b
        ret
2:      xor %edi, %edi
3:      inc %edi
        mov %edi, patched + 1
        mov $CPUS - 1, %ecx
4:      pause
        cmp %edi, answers(, %ecx, 4)    # until every other one has run it
        jne 4b
        dec %ecx
        jnz 4b
        cmp %esi, %edi
        jne 3b
        ret
patched:
        mov $0, %eax
        ret

# 3: CPU 0 sends each kind of message to CPUs that wait in HLT
interrupt:
        test %ebp, %ebp
        jz 2f
1:      sti
        hlt
        cli
        cmpl $0, finished
        je 1b
        ret
2:      mov $APIC, %ebx
        movl $0, hits                   # fixed, all but self
        movl $0xC4000 + VECTOR, APIC_ICR(%ebx)
        mov $CPUS - 1, %ecx
        call await
        movl $0, hits                   # NMI, all but self
        movl $0xC4400, APIC_ICR(%ebx)
        mov $CPUS - 1, %ecx
        call await
        movl $0, hits                   # fixed, physical, to APIC ID 1
        movl $0x01000000, APIC_ICR_HIGH(%ebx)
        movl $0x4000 + VECTOR, APIC_ICR(%ebx)
        mov $1, %ecx
        call await
        movl $0, hits                   # fixed, logical flat, to the second that arrived
        movl $0x02000000, APIC_ICR_HIGH(%ebx)
        movl $0x4800 + VECTOR, APIC_ICR(%ebx)
        mov $1, %ecx
        call await
        movl $0, hits                   # lowest priority, logical, to all: one takes it
        movl $0xFE000000, APIC_ICR_HIGH(%ebx)
        movl $0x4900 + VECTOR, APIC_ICR(%ebx)
        mov $1, %ecx
        call await
        movl $0, hits                   # self, then all with self
        movl $0x44000 + VECTOR, APIC_ICR(%ebx)
        sti
        mov $1, %ecx
        call await
        movl $0, hits
        movl $0x84000 + VECTOR, APIC_ICR(%ebx)
        mov $CPUS, %ecx
        call await
        cli
        movl $1, finished
        movl $0xC4000 + VECTOR, APIC_ICR(%ebx)
        ret
# until there were %ecx hits, and a while longer: no more may come
await:  pause
        cmp %ecx, hits
        jne await
        mov $100, %edx
1:      pause
        dec %edx
        jnz 1b
        cmp %ecx, hits
        jne fail
        ret

on_vector:
        lock incl hits
        movl $0, APIC + APIC_EOI
        iret
on_nmi: lock incl hits
        iret

# 4: CPU 0 sends INIT to one that is halted with interrupts off, and to one that runs; both start anew
restart:
        test %ebp, %ebp
        jz 2f
        cmp $1, %ebp
        je 1f
        cmp $CPUS, %ebp
        jae halted_again                # it is here for the second time
        jmp halt
1:      pause
        jmp 1b
2:      mov $APIC, %ebx
        movl $0, seen
        mov $5000, %ecx
3:      loop 3b
        movl $CPUS - 1, arrived
        movl $0xC4500, APIC_ICR(%ebx)
        movl $0xC4608, APIC_ICR(%ebx)
4:      pause
        cmpl $2 * CPUS - 2, arrived
        jne 4b
        ret
halted_again:
        jmp halt

# 5: no time stamp is earlier than one that any CPU has read before
stamps: mov $3000, %esi
1:      call take
        lfence
        rdtsc
        sub stamp, %eax
        sbb stamp + 4, %edx
        js fail
        add %eax, stamp
        adc %edx, stamp + 4
        call give
        dec %esi
        jnz 1b
        ret

# 6: how often each gets a contended lock in 3 ms
fair:   rdtsc
        mov %eax, %edi
        add $3000000, %edi
1:      call take
        incl answers(, %ebp, 4)
        call give
        rdtsc
        sub %edi, %eax
        js 1b
        call barrier
        test %ebp, %ebp
        jnz 3f
        xor %esi, %esi
2:      mov answers(, %esi, 4), %eax
        call print
        inc %esi
        cmp $CPUS, %esi
        jne 2b
3:      ret

# 7: each waits in HLT for 20 ticks of its own timer
ticks:  mov $APIC, %ebx
        movl $0xB, APIC_DIVIDE(%ebx)
        movl $0x20000 + VECTOR, APIC_LVT_TIMER(%ebx)
        movl $50000, APIC_COUNT(%ebx)
        mov $20, %esi
1:      sti
        hlt
        cli
        dec %esi
        jnz 1b
        movl $0x10000, APIC_LVT_TIMER(%ebx)
        call barrier
        test %ebp, %ebp
        jnz 2f
        mov hits, %eax
        call print
2:      ret

# 8: one CPU, not the first, meets a triple fault
fault:  cmp $1, %ebp
        jne 1f
        lidt nothing
        int3
1:      hlt
        jmp 1b
nothing:
        .word 0
        .long 0

fill_idt:
        mov $on_vector, %eax
        mov $idt + VECTOR * 8, %edi
        call gate
        mov $on_nmi, %eax
        mov $idt + 2 * 8, %edi
gate:   mov %ax, (%edi)
        movw $8, 2(%edi)
        movw $0x8E00, 4(%edi)
        shr $16, %eax
        mov %ax, 6(%edi)
        ret
idt_pointer:
        .word 256 * 8 - 1
        .long idt

        .bss
        .align 4096
stacks: .skip (2 * CPUS + 2) * 4096
idt:    .skip 256 * 8
arrived:        .skip 4
meeting:        .skip 4
seen:           .skip 32
lock_word:      .skip 4
total:          .skip 4
guarded:        .skip 4
hits:           .skip 4
finished:       .skip 4
stamp:          .skip 8
answers:        .skip 4 * 256
