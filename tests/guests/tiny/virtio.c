// Devices behind memory (virtio, version 2), as Firecracker has them, asked at each tick.

#include "tiny.h"

enum {
    MAGIC = 0x74726976, // "virt"
    ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8,
};

// Where the devices are, and how many places are looked at.
static const u64 FIRST_DEVICE = 0xd0000000;
enum { DEVICE_BYTES = 0x1000, DEVICES = 8 };

enum { // registers
    DEVICE_ID = 0x8, DRIVER_FEATURES = 0x20, DRIVER_FEATURES_SELECT = 0x24, QUEUE_SELECT = 0x30, QUEUE_SIZE = 0x38, QUEUE_READY = 0x44,
    QUEUE_NOTIFY = 0x50, INTERRUPT_STATUS = 0x60, INTERRUPT_DONE = 0x64, STATUS = 0x70, QUEUE_DESCRIPTORS = 0x80, QUEUE_OURS = 0x90,
    QUEUE_THEIRS = 0xa0,
};

void copy(u8 *to, const u8 *from, u32 bytes) {
    while (bytes--) *to++ = *from++;
}

int same(const u8 *one, const u8 *other, u32 bytes) {
    while (bytes--)
        if (*one++ != *other++) return 0;
    return 1;
}

// The first device of a kind, ready for its queues; 0 without one.
u64 device_begin(u32 kind) {
    u64 device = 0;
    for (u32 at = 0; at < DEVICES && !device; at++) {
        u64 place = FIRST_DEVICE + at * DEVICE_BYTES;
        if (peek32(place) == MAGIC && peek32(place + DEVICE_ID) == kind) device = place;
    }
    if (!device) return 0;
    poke32(device + STATUS, 0);
    poke32(device + STATUS, ACKNOWLEDGE); // step by step, or Firecracker refuses
    poke32(device + STATUS, ACKNOWLEDGE | DRIVER);
    poke32(device + DRIVER_FEATURES_SELECT, 0);
    poke32(device + DRIVER_FEATURES, 0);
    poke32(device + DRIVER_FEATURES_SELECT, 1);
    poke32(device + DRIVER_FEATURES, 1); // version 1
    poke32(device + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
    return device;
}

void device_ready(u64 device) { poke32(device + STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK); }

void device_tick(u64 device) { poke32(device + INTERRUPT_DONE, peek32(device + INTERRUPT_STATUS)); }

void queue_begin(struct queue *queue, u64 device, u32 number, int device_writes) {
    queue->device = device;
    queue->number = number;
    poke32(device + QUEUE_SELECT, number);
    poke32(device + QUEUE_SIZE, QUEUE);
    poke32(device + QUEUE_DESCRIPTORS, (u64)queue->descriptors);
    poke32(device + QUEUE_OURS, (u64)&queue->ours);
    poke32(device + QUEUE_THEIRS, (u64)&queue->theirs);
    for (u32 at = 0; at < QUEUE; at++) {
        queue->descriptors[at] = (struct descriptor){(u64)queue->buffers[at], BUFFER, device_writes ? 2 : 0, 0};
        queue->ours.ring[at] = at;
    }
    poke32(device + QUEUE_READY, 1);
}

static void offer(struct queue *queue) {
    queue->ours.index++;
    poke32(queue->device + QUEUE_NOTIFY, queue->number);
}

// Gives the device all buffers to write into.
void queue_fill(struct queue *queue) {
    for (u32 at = 0; at < QUEUE; at++) offer(queue);
}

// What the device has written, and how long it is; 0 if nothing.
u8 *queue_taken(struct queue *queue, u32 *length) {
    if (*(volatile u16 *)&queue->theirs.index == queue->seen) return 0;
    *length = queue->theirs.ring[queue->seen % QUEUE].length;
    return queue->buffers[queue->theirs.ring[queue->seen % QUEUE].id];
}

// Gives that back.
void queue_give_back(struct queue *queue) {
    queue->ours.ring[queue->ours.index % QUEUE] = queue->theirs.ring[queue->seen % QUEUE].id;
    queue->seen++;
    offer(queue);
}

// The next buffer for the device to read. It takes what it is given at once, so the buffer is free.
u8 *queue_next(struct queue *queue) { return queue->buffers[queue->ours.index % QUEUE]; }

// Gives it to the device.
void queue_send(struct queue *queue, u32 length) {
    queue->descriptors[queue->ours.index % QUEUE].length = length;
    offer(queue);
}
