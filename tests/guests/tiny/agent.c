// The agent's protocol over the guest's vsock device: one connection at a time, on port 1024. It is asked for nothing that a guest
// without processes could not do: it says when its clock is set, and answers every command with TINY.

#include "tiny.h"

enum {
    VSOCK = 19,
    PORT = 1024,
    HOST = 2, GUEST = 3, // addresses
    REQUEST = 1, RESPONSE, RESET, SHUTDOWN, DATA, CREDIT, ASK_CREDIT,
    CREDIT_BYTES = 1 << 16,
    BODY = 1024, // most bytes of a message
};

struct head {
    u64 from, to;
    u32 from_port, to_port, length;
    u16 type, operation;
    u32 flags, room, taken;
} __attribute__((packed));

static struct queue receiving, sending, events;
static u64 device;
static u32 peer; // port of the host; 0 without a connection
static u32 taken; // bytes of it
static u8 coded[BODY]; // a frame, as far as it was read
static u32 coded_length, sent, received;

static void packet(u32 to_port, u16 operation, u32 length) {
    *(struct head *)queue_next(&sending) = (struct head){GUEST, HOST, PORT, to_port, length, 1, operation, 0, CREDIT_BYTES, taken};
    queue_send(&sending, sizeof(struct head) + length);
}

static u32 check(const u8 *bytes, u32 length) {
    u32 crc = ~0u;
    while (length--) {
        crc ^= *bytes++;
        for (u32 bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xedb88320 : crc >> 1;
    }
    return ~crc;
}

static u32 get32(const u8 *at) { return at[0] | at[1] << 8 | at[2] << 16 | (u32)at[3] << 24; }
static void put32(u8 *at, u32 value) { at[0] = value, at[1] = value >> 8, at[2] = value >> 16, at[3] = value >> 24; }

// Sends a message: its number, what was taken, and its kind stand before it.
static void say(u8 kind, const u8 *fields, u32 length) {
    static u8 body[BODY];
    u8 *out = queue_next(&sending) + sizeof(struct head), *begin = out, *code = out++;
    put32(body, kind == 1 ? 0 : ++sent);
    put32(body + 4, received);
    body[8] = kind;
    copy(body + 9, fields, length);
    put32(body + 9 + length, check(body, 9 + length));
    for (u32 at = 0; at < 13 + length; at++) {
        if (body[at]) *out++ = body[at];
        if (!body[at] || out - code == 255) *code = out - code, code = out++;
    }
    *code = out - code;
    *out++ = 0;
    packet(peer, DATA, out - begin);
}

// A command: it was started, wrote a line and ended.
static void run(const u8 *session) {
    u8 fields[32];
    copy(fields, session, 4);
    say(3, fields, 4);
    fields[4] = 0;
    copy(fields + 5, (const u8 *)"TINY\n", 5);
    say(5, fields, 10);
    fields[4] = 1;
    put32(fields + 5, 0);
    say(7, fields, 9);
}

// Seconds of a time in nanoseconds, without a division by more than 32 bits.
static u32 seconds(u64 ns) { return (ns >> 9) / 1953125; }

static void obey(const u8 *body, u32 length) {
    const u8 *fields = body + 9;
    u8 answer[32];
    if (length < 9) return;
    if (body[8] == 1) {
        sent = received = 0;
        answer[0] = 2, answer[1] = 0;
        copy(answer + 2, fields + 2, 16);
        say(1, answer, 18);
        return;
    }
    if (get32(body) != received + 1) {
        print("AGENT LOST A MESSAGE\r\n");
        return;
    }
    received++;
    switch (body[8]) {
    case 2:
        print("AGENT TIME ");
        print_number(seconds(get32(fields) | (u64)get32(fields + 4) << 32));
        print("\r\n");
        copy(answer, fields, 8);
        copy(answer + 8, fields, 8);
        answer[16] = 1;
        say(2, answer, 17);
        break;
    case 3: run(fields); break;
    case 10: print("AGENT BYE\r\n"), say(8, 0, 0); break;
    case 13: print("AGENT HOLD\r\n"), answer[0] = 1, say(10, answer, 1); break;
    }
}

// A frame without its zero.
static void decode(void) {
    static u8 body[BODY];
    u32 length = 0;
    for (u32 at = 0; at < coded_length;) {
        u32 code = coded[at++];
        if (code - 1 > coded_length - at) return;
        copy(body + length, coded + at, code - 1);
        length += code - 1, at += code - 1;
        if (code != 255 && at < coded_length) body[length++] = 0;
    }
    if (length > 4 && check(body, length - 4) == get32(body + length - 4)) obey(body, length - 4);
}

static void read(const u8 *bytes, u32 length) {
    taken += length;
    for (; length--; bytes++) {
        if (*bytes) {
            if (coded_length < BODY) coded[coded_length++] = *bytes;
        } else {
            if (coded_length) decode();
            coded_length = 0;
        }
    }
}

static void take(const struct head *head) {
    switch (head->operation) {
    case REQUEST:
        if (peer) print("AGENT IS LEFT FOR ANOTHER\r\n");
        peer = head->from_port, taken = coded_length = 0;
        print("AGENT OPEN\r\n");
        packet(peer, RESPONSE, 0);
        break;
    case DATA:
        if (head->from_port == peer) read((const u8 *)(head + 1), head->length);
        else packet(head->from_port, RESET, 0); // the connection was cut since
        break;
    case ASK_CREDIT: packet(peer, CREDIT, 0); break;
    case SHUTDOWN: packet(head->from_port, RESET, 0); // fall through
    case RESET:
        if (peer) print("AGENT CLOSED\r\n");
        peer = 0;
        break;
    }
}

void agent_tick(void) {
    u32 length;
    u8 *bytes;
    if (!device) return;
    device_tick(device);
    // The only event: the machine was saved or loaded, and no connection is left.
    while ((bytes = queue_taken(&events, &length))) {
        if (peer) print("AGENT CUT\r\n");
        peer = 0;
        queue_give_back(&events);
    }
    while ((bytes = queue_taken(&receiving, &length))) {
        take((const struct head *)bytes);
        queue_give_back(&receiving);
    }
}

void agent_begin(void) {
    device = device_begin(VSOCK);
    if (!device) {
        print("NO VSOCK\r\n");
        return;
    }
    queue_begin(&receiving, device, 0, 1);
    queue_begin(&sending, device, 1, 0);
    queue_begin(&events, device, 2, 1);
    device_ready(device);
    queue_fill(&receiving);
    queue_fill(&events);
}
