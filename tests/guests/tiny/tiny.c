// A guest that boots in milliseconds, on every hypervisor: a serial console, a timer, a power button.
//
// It prints the two boot markers and then a numbered heartbeat every 40 ms, and sleeps in between. Bytes on the console are commands:
//   p  answer PONG                      q  power off        x  hang: ignore all input, and the power button
//   a  print AGENT-READY                r  reset            l  print the rest of the line
//   e  print an exit marker             t  triple fault     f  print for ever
//   u  send a datagram
//   m  jump to an address without memory, after which a VMM can't go on
// The power button powers it off. Words on the kernel command line:
//   vmm=NAME    whose power button, power-off and reset to use: qemu (if absent), qemu-microvm, cloud-hypervisor, firecracker
//   start=MS    print PROGRAM-START MS after the boot instead of at once
//   ready=MS    print AGENT-READY MS after the boot instead of after 40 ms
//   beat=MS     time between heartbeats, instead of 40 ms
//   noready     print AGENT-READY only on `a`
//   nobutton    ignore the power button, and other events on its line, such as new memory
//   flood       after 20 ms, as on `f`
//   agent       speak the agent's protocol on a vsock device, Firecracker's alone: every command says TINY and ends with 0
//   tallyman.net=ADDRESS/31,GATEWAY   set up a network card, which answers echo requests; Firecracker's alone

#include "tiny.h"

enum {
    COM1 = 0x3f8,
    LINE_STATUS = COM1 + 5,
    HAS_INPUT = 1,
    TAKES_OUTPUT = 0x20,
    TIMER_VECTOR = 32,
    BUTTON_VECTOR = 33,
    TICK_MS = 20,
};

static const u64 LOCAL_APIC = 0xfee00000, IO_APIC = 0xfec00000;
static const u32 TIMER_HZ = 1000000000; // with KVM and without

enum vmm { QEMU, QEMU_MICROVM, CLOUD_HYPERVISOR, FIRECRACKER };

struct gate {
    u16 offset_low, selector, type, offset_middle;
    u32 offset_high, zero;
} __attribute__((packed));

extern const u8 timer_interrupt[], button_interrupt[];

static struct gate gates[BUTTON_VECTOR + 1];
static enum vmm vmm;
static u32 ticks, beats, start_tick = 0, ready_tick = 2, beat_ticks = 2;
static int no_ready, no_button, flooding, line_begun;
static char line[256];
static u32 line_length;

static void out8(u16 port, u8 value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static void out16(u16 port, u16 value) { asm volatile("outw %0, %1" : : "a"(value), "Nd"(port)); }

static u8 in8(u16 port) {
    u8 value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static u16 in16(u16 port) {
    u16 value;
    asm volatile("inw %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static void print_byte(u8 byte) {
    while (!(in8(LINE_STATUS) & TAKES_OUTPUT)) {}
    out8(COM1, byte);
}

void print(const char *text) {
    while (*text) print_byte(*text++);
}

void print_number(u32 number) {
    if (number >= 10) print_number(number / 10);
    print_byte('0' + number % 10);
}

static void hang(void) {
    for (;;) asm volatile("cli; hlt");
}

static void power_off(void) {
    print("POWER OFF\r\n");
    switch (vmm) {
    case QEMU: out16(0x604, 0x2000); break; // PM1 control: sleep, type S5 of q35's firmware
    case QEMU_MICROVM: poke8(0xfea00200, 0x34); break; // sleep control of a reduced-hardware ACPI: sleep, type S5
    case CLOUD_HYPERVISOR: out8(0x600, 0x34); break;
    case FIRECRACKER: out8(0x64, 0xfe); break; // it has nothing else: guests reset themselves to end
    }
    hang();
}

static void reset(void) {
    print("RESET\r\n");
    switch (vmm) {
    case QEMU: out8(0xcf9, 6); break;
    case QEMU_MICROVM: poke8(0xfea00202, 0x42); break;
    case CLOUD_HYPERVISOR:
    case FIRECRACKER: out8(0x64, 0xfe); break;
    }
    hang();
}

static void triple_fault(void) {
    static const struct { u16 limit; u64 base; } __attribute__((packed)) nothing = {0, 0};
    print("TRIPLE FAULT\r\n");
    asm volatile("lidt %0; ud2" : : "m"(nothing));
}

static void leave_memory(void) {
    print("NO MEMORY\r\n");
    asm volatile("jmp *%0" : : "r"(0xd0000000UL));
}

static void flood(void) {
    for (;;) print("flood flood flood flood flood flood flood flood flood flood flood flood\r\n");
}

static void print_started(void) { print("TALLYMAN-PROGRAM-START ts=2001-01-01T00:00:00Z mode=exec\r\n"); }
static void print_ready(void) { print("TALLYMAN-AGENT-READY ts=2001-01-01T00:00:00Z\r\n"); }

static int button_is_pressed(void) {
    switch (vmm) {
    case QEMU: return in16(0x600) & 0x100; // PM1 status
    case QEMU_MICROVM: return peek32(0xfea00000) & 2; // what the generic event device wants
    case CLOUD_HYPERVISOR: return 0; // says so by an interrupt
    case FIRECRACKER: return in8(0x64) & 1 && in8(0x60); // a key of Ctrl+Alt+Del
    }
    return 0;
}

static void command(u8 byte) {
    if (line_begun) {
        if (byte != '\n' && line_length < sizeof line - 1) {
            line[line_length++] = byte;
            return;
        }
        line[line_length] = 0;
        print(line);
        print("\r\n");
        line_begun = line_length = 0;
        return;
    }
    switch (byte) {
    case 'p': print("PONG\r\n"); break;
    case 'a': print_ready(); break;
    case 'e': print("TALLYMAN-EXIT code=3 message=\"said \\\"no\\\"\"\r\n"); break;
    case 'l': line_begun = 1; break;
    case 'f': flood(); break;
    case 'u': card_send(); break;
    case 'q': power_off(); break;
    case 'r': reset(); break;
    case 't': triple_fault(); break;
    case 'm': leave_memory(); break;
    case 'x': print("HANG\r\n"); hang(); break;
    }
}

void button(void) { power_off(); }

void tick(void) {
    poke32(LOCAL_APIC + 0xb0, 0); // end of interrupt
    ticks++;
    if (!no_button && button_is_pressed()) power_off();
    if (flooding) flood();
    card_tick();
    agent_tick();
    if (ticks == start_tick) print_started();
    if (ticks == ready_tick && !no_ready) print_ready();
    if (ticks % beat_ticks == 0) {
        print("HB ");
        print_number(++beats);
        print("\r\n");
    }
    while (in8(LINE_STATUS) & HAS_INPUT) command(in8(COM1));
}

// The rest of `text` if it begins with `prefix`.
static const char *after(const char *text, const char *prefix) {
    while (*prefix)
        if (*text++ != *prefix++) return 0;
    return text;
}

static int is(const char *word, const char *text) {
    const char *rest = after(word, text);
    return rest && (*rest == 0 || *rest == ' ');
}

static u32 ticks_of(const char *ms) {
    u32 number = 0;
    while (*ms >= '0' && *ms <= '9') number = number * 10 + (*ms++ - '0');
    return number / TICK_MS;
}

static void obey(const char *word) {
    const char *rest;
    if ((rest = after(word, "vmm="))) {
        if (is(rest, "qemu-microvm")) vmm = QEMU_MICROVM;
        if (is(rest, "cloud-hypervisor")) vmm = CLOUD_HYPERVISOR;
        if (is(rest, "firecracker")) vmm = FIRECRACKER;
    }
    if ((rest = after(word, "start="))) start_tick = ticks_of(rest);
    if ((rest = after(word, "ready="))) ready_tick = ticks_of(rest);
    if ((rest = after(word, "tallyman.net="))) card_begin(rest);
    if ((rest = after(word, "beat=")) && ticks_of(rest)) beat_ticks = ticks_of(rest);
    if (is(word, "agent")) agent_begin();
    no_ready |= is(word, "noready");
    no_button |= is(word, "nobutton");
    flooding |= is(word, "flood");
}

static void set_gate(u8 vector, const u8 *handler) {
    u64 at = (u64)handler;
    gates[vector] = (struct gate){at, 8, 0x8e00, at >> 16, at >> 32, 0};
}

static void set_up_interrupts(void) {
    struct { u16 limit; u64 base; } __attribute__((packed)) pointer = {sizeof gates - 1, (u64)gates};
    out8(0x21, 0xff); // both old interrupt controllers off
    out8(0xa1, 0xff);
    set_gate(TIMER_VECTOR, timer_interrupt);
    set_gate(BUTTON_VECTOR, button_interrupt);
    asm volatile("lidt %0" : : "m"(pointer));
    poke32(LOCAL_APIC + 0xf0, 0x1ff); // on
    poke32(LOCAL_APIC + 0x3e0, 0xb); // divide by one
    poke32(LOCAL_APIC + 0x320, 0x20000 | TIMER_VECTOR); // periodic
    poke32(LOCAL_APIC + 0x380, TIMER_HZ / 1000 * TICK_MS);
}

static void set_up_button(void) {
    if (vmm == QEMU) out16(0x602, 0x100); // PM1 enable
    if (vmm != CLOUD_HYPERVISOR || no_button) return;
    // Only ACPI code knows the button's interrupt line. No other device has its interrupts on.
    for (u32 line = 5; line < 24; line++) {
        poke32(IO_APIC, 0x10 + 2 * line);
        poke32(IO_APIC + 0x10, BUTTON_VECTOR);
        poke32(IO_APIC, 0x11 + 2 * line);
        poke32(IO_APIC + 0x10, 0);
    }
}

void guest(const char *command_line) {
    for (const char *word = command_line; word && *word;) {
        obey(word);
        while (*word && *word != ' ') word++;
        while (*word == ' ') word++;
    }
    set_up_button();
    if (start_tick == 0) print_started();
    set_up_interrupts();
}
