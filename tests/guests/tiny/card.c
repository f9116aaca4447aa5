// A network card for the guest. It answers address resolution and echo requests, and sends datagrams when it is told to.

#include "tiny.h"

enum {
    NETWORK = 1,
    HEAD = 12, // bytes before each packet
};

static struct queue receiving, sending;
static u64 card;
static u8 own[4], gateway_mac[6] = {0x02, 0x54, 0x4c, 0x59, 0, 1}, mac[6] = {0x02, 0x54, 0x4c, 0x59, 0, 2};

static u32 get16(const u8 *at) { return at[0] << 8 | at[1]; }
static void put16(u8 *at, u32 value) { at[0] = value >> 8, at[1] = value; }

// The checksum of IP and ICMP.
static u32 checksum(const u8 *bytes, u32 length) {
    u32 sum = 0;
    for (u32 at = 0; at + 1 < length; at += 2) sum += get16(bytes + at);
    if (length & 1) sum += bytes[length - 1] << 8;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return ~sum & 0xffff;
}

// Where the next packet is written.
static u8 *packet(void) { return queue_next(&sending) + HEAD; }

static void send(u32 length) { queue_send(&sending, HEAD + length); }

static void frame(u8 *to, u32 kind) {
    copy(to, gateway_mac, 6);
    copy(to + 6, mac, 6);
    put16(to + 12, kind);
}

static void answer_resolution(const u8 *asked) {
    if (get16(asked + 6) != 1 || !same(asked + 24, own, 4)) return;
    u8 *to = packet();
    frame(to, 0x806);
    copy(to + 14, asked, 8);
    put16(to + 20, 2);
    copy(to + 22, mac, 6);
    copy(to + 28, own, 4);
    copy(to + 32, asked + 8, 10);
    send(42);
}

static void answer_echo(const u8 *ip, u32 length) {
    u32 total = get16(ip + 2), head = (ip[0] & 15) * 4;
    if (ip[9] != 1 || ip[head] != 8 || total > length || !same(ip + 16, own, 4)) return;
    u8 *to = packet();
    frame(to, 0x800);
    copy(to + 14, ip, total);
    u8 *answer = to + 14;
    copy(answer + 12, ip + 16, 4);
    copy(answer + 16, ip + 12, 4);
    put16(answer + 10, 0);
    put16(answer + 10, checksum(answer, head));
    answer[head] = 0;
    put16(answer + head + 2, 0);
    put16(answer + head + 2, checksum(answer + head, total - head));
    send(14 + total);
}

static void take(const u8 *bytes, u32 length) {
    if (length < 42) return;
    if (get16(bytes + 12) == 0x806) answer_resolution(bytes + 14);
    if (get16(bytes + 12) == 0x800) answer_echo(bytes + 14, length - 14);
}

void card_tick(void) {
    u32 length;
    u8 *bytes;
    if (!card) return;
    device_tick(card);
    while ((bytes = queue_taken(&receiving, &length))) {
        take(bytes + HEAD, length - HEAD);
        queue_give_back(&receiving);
    }
}

// A datagram of 1,000 bytes, IP included, to port 9 of 198.51.100.2.
void card_send(void) {
    static const u8 to[4] = {198, 51, 100, 2};
    if (!card) return;
    u8 *bytes = packet(), *ip = bytes + 14;
    frame(bytes, 0x800);
    for (u32 at = 0; at < 1000; at++) ip[at] = 0;
    ip[0] = 0x45, ip[8] = 64, ip[9] = 17;
    put16(ip + 2, 1000);
    copy(ip + 12, own, 4);
    copy(ip + 16, to, 4);
    put16(ip + 10, checksum(ip, 20));
    put16(ip + 20, 9);
    put16(ip + 22, 9);
    put16(ip + 24, 980);
    send(1014);
}

// Sets the card up, if there is one, with an address like 10.0.0.1.
void card_begin(const char *address) {
    for (u32 part = 0; part < 4; part++) {
        while (*address >= '0' && *address <= '9') own[part] = own[part] * 10 + (*address++ - '0');
        address++;
    }
    card = device_begin(NETWORK);
    if (!card) {
        print("NO CARD\r\n");
        return;
    }
    queue_begin(&receiving, card, 0, 1);
    queue_begin(&sending, card, 1, 0);
    device_ready(card);
    queue_fill(&receiving);
}
