// Where the guest begins, and where it sleeps. Two doors lead to the same 64-bit code: a PVH note (QEMU, Cloud Hypervisor, Firecracker) and
// the ELF entry by the 64-bit Linux boot protocol (Firecracker, for an image without the note).

        .set PAGE_2M,       0x83            // present, writable, large
        .set TABLE,         0x3

        .section .note.pvh, "a", @note
        .long 4, 8, 18                      // name bytes, description bytes, XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .quad start_pvh

        .text
        .code32
start_pvh:
        cli
        mov 24(%ebx), %edi                  // hvm_start_info.cmdline_paddr
        lgdt gdt_pointer
        mov %cr4, %eax
        or $0x20, %eax                      // physical address extension
        mov %eax, %cr4
        mov $tables, %eax
        mov %eax, %cr3
        mov $0xc0000080, %ecx               // EFER
        rdmsr
        or $0x100, %eax                     // long mode
        wrmsr
        mov %cr0, %eax
        or $0x80000000, %eax                // paging
        mov %eax, %cr0
        ljmp $8, $long_mode

        .code64
        .globl start_linux
start_linux:
        cli
        mov 0x228(%rsi), %edi               // boot_params.hdr.cmd_line_ptr
        lgdt gdt_pointer
        mov $tables, %eax
        mov %rax, %cr3
        mov $stack_top, %esp
        pushq $8
        pushq $long_mode
        lretq

long_mode:
        mov $16, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        mov $stack_top, %esp
        mov %edi, %edi
        call guest

        // Interrupts are on only at the hlt. Their frame is left behind instead of returned from: some hosts emulate no iret.
sleep:  mov $stack_top, %esp
        sti
        hlt
        jmp sleep

        .globl timer_interrupt, button_interrupt
timer_interrupt:
        mov $stack_top, %esp
        call tick
        jmp sleep

button_interrupt:
        mov $stack_top, %esp
        call button
        jmp sleep

        .data
        .balign 8
gdt:    .quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
        .word . - gdt - 1
        .quad gdt

        // The first 16 MiB, where the guest and what the VMM hands it lie, and the devices below 4 GiB.
        .balign 4096
tables: .quad low_and_high + TABLE
        .fill 511, 8, 0
low_and_high:
        .quad low + TABLE, 0, 0, high + TABLE
        .fill 508, 8, 0
low:    .set n, 0
        .rept 8
        .quad n * 0x200000 + PAGE_2M
        .set n, n + 1
        .endr
        .fill 504, 8, 0
high:   .set n, 0
        .rept 512
        .quad 0xc0000000 + n * 0x200000 + PAGE_2M
        .set n, n + 1
        .endr

        .bss
        .balign 16
        .skip 4096
stack_top:
        .section .note.GNU-stack, "", @progbits
