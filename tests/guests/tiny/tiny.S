// A guest that boots in milliseconds: 32-bit code behind a PVH note, a serial console, a timer.
//
// It prints the two boot markers and then a numbered heartbeat every 40 ms, and sleeps in between. Bytes on the console are commands:
//   p  answer PONG            e  print an exit marker        q  power off
//   a  print AGENT-READY      f  print for ever              r  reset
//   x  hang: hear nothing more, not even the power button
// The power button powers it off. Words on the kernel command line: `noready` (AGENT-READY only on `a`), `flood` (as `f`).

        .set COM1,          0x3f8
        .set PM1_STATUS,    0x600           // q35, as its firmware leaves it
        .set PM1_ENABLE,    0x602
        .set PM1_CONTROL,   0x604
        .set POWER_BUTTON,  0x100
        .set SLEEP_S5,      0x2000
        .set LAPIC,         0xfee00000
        .set TICK_COUNT,    20000000        // 20 ms of the 1 GHz timer
        .set READY_TICK,    2

        .section .note.pvh, "a", @note
        .long 4, 8, 18                      // name bytes, description bytes, XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .quad start

        .text
        .code32
        .globl start
start:  cli
        cld
        mov $stack_top, %esp
        mov 24(%ebx), %ebp                  // hvm_start_info.cmdline_paddr
        lgdt gdt_pointer
        ljmp $8, $1f
1:      mov $16, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss

        mov $0xff, %al                      // both interrupt controllers off
        out %al, $0x21
        out %al, $0xa1

        mov $isr, %eax                      // one gate, for the timer
        mov %ax, gate
        shr $16, %eax
        mov %ax, gate + 6
        lidt idt_pointer

        mov $PM1_ENABLE, %dx
        mov $POWER_BUTTON, %ax
        out %ax, %dx

        mov $program_started, %esi
        call print
        call words

        movl $0x1ff, LAPIC + 0xf0           // on
        movl $0xb, LAPIC + 0x3e0            // divide by one
        movl $0x20020, LAPIC + 0x320        // periodic, vector 32
        movl $TICK_COUNT, LAPIC + 0x380

sleep:  sti
        hlt
        jmp sleep

        // Leaves the interrupt frame behind instead of returning: interrupts are on only at the hlt, and some hosts emulate no iret.
isr:    add $12, %esp
        movl $0, LAPIC + 0xb0
        call tick
        jmp sleep

tick:   incl ticks
        mov $PM1_STATUS, %dx
        in %dx, %ax
        test $POWER_BUTTON, %ax
        jnz power_off
        cmpb $0, flooding
        jnz flood
        cmpl $READY_TICK, ticks
        jne 1f
        cmpb $0, not_ready
        jne 1f
        mov $agent_ready, %esi
        call print
1:      testl $1, ticks
        jnz commands
        incl beats
        mov $heartbeat, %esi
        call print
        mov beats, %eax
        call print_number
        mov $newline, %esi
        call print

commands:
        mov $(COM1 + 5), %dx
        in %dx, %al
        test $1, %al
        jz 1f
        mov $COM1, %dx
        in %dx, %al
        cmp $'p', %al
        je pong
        cmp $'a', %al
        je ready
        cmp $'e', %al
        je exit
        cmp $'f', %al
        je flood
        cmp $'q', %al
        je power_off
        cmp $'r', %al
        je reset
        cmp $'x', %al
        je hang
        jmp commands
1:      ret

pong:   mov $pong_text, %esi
        jmp 1f
ready:  mov $agent_ready, %esi
        jmp 1f
exit:   mov $exit_text, %esi
1:      call print
        jmp commands

power_off:
        mov $power_off_text, %esi
        call print
        mov $PM1_CONTROL, %dx
        mov $SLEEP_S5, %ax
        out %ax, %dx
1:      hlt
        jmp 1b

reset:  mov $reset_text, %esi
        call print
        mov $0xcf9, %dx
        mov $6, %al
        out %al, %dx
1:      hlt
        jmp 1b

hang:   mov $hang_text, %esi
        call print
1:      cli
        hlt
        jmp 1b

flood:  mov $flood_text, %esi
        call print
        jmp flood

        // Sets the flags that the command line at %ebp names.
words:  test %ebp, %ebp
        jz 3f
1:      mov (%ebp), %eax
        test %al, %al
        jz 3f
        cmp $0x65726f6e, %eax               // "nore"
        jne 2f
        movb $1, not_ready
2:      cmp $0x6f6f6c66, %eax               // "floo"
        jne 4f
        movb $1, flooding
4:      inc %ebp
        jmp 1b
3:      ret

        // Prints the text at %esi up to its zero.
print:  mov $(COM1 + 5), %dx
        in %dx, %al
        test $0x20, %al
        jz print
        lodsb
        test %al, %al
        jz 1f
        mov $COM1, %dx
        out %al, %dx
        jmp print
1:      ret

print_number:
        mov $number_end, %edi
        mov $10, %ecx
1:      xor %edx, %edx
        div %ecx
        add $'0', %dl
        dec %edi
        mov %dl, (%edi)
        test %eax, %eax
        jnz 1b
        mov %edi, %esi
        jmp print

        .section .rodata
program_started: .asciz "TALLYMAN-PROGRAM-START ts=2001-01-01T00:00:00Z mode=exec\r\n"
agent_ready:     .asciz "TALLYMAN-AGENT-READY ts=2001-01-01T00:00:00Z\r\n"
exit_text:       .asciz "TALLYMAN-EXIT code=3 message=\"said \\\"no\\\"\"\r\n"
heartbeat:       .asciz "HB "
newline:         .asciz "\r\n"
pong_text:       .asciz "PONG\r\n"
power_off_text:  .asciz "POWER OFF\r\n"
reset_text:      .asciz "RESET\r\n"
hang_text:       .asciz "HANG\r\n"
flood_text:      .asciz "flood flood flood flood flood flood flood flood flood flood flood flood\r\n"

        .data
        .balign 8
gdt:    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
        .word . - gdt - 1
        .long gdt
        .balign 8
idt:    .fill 32, 8, 0
gate:   .word 0, 8, 0x8e00, 0
idt_pointer:
        .word . - idt - 1
        .long idt
ticks:  .long 0
beats:  .long 0
not_ready: .byte 0
flooding:  .byte 0
        .fill 12, 1, 0
number_end: .byte 0

        .bss
        .balign 16
        .skip 4096
stack_top:
        .section .note.GNU-stack, "", @progbits
