// What the parts of the guest share.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

// Plain moves, which every host emulates.
static inline void poke8(u64 address, u8 value) { asm volatile("movb %0, (%1)" : : "q"(value), "r"(address) : "memory"); }
static inline void poke32(u64 address, u32 value) { asm volatile("movl %0, (%1)" : : "r"(value), "r"(address) : "memory"); }

static inline u32 peek32(u64 address) {
    u32 value;
    asm volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
    return value;
}

void print(const char *text);
void print_number(u32 number);
void copy(u8 *to, const u8 *from, u32 bytes);
int same(const u8 *one, const u8 *other, u32 bytes);

enum {
    QUEUE = 64, // buffers of each queue: Firecracker hands no packet over before it has 64 KiB
    BUFFER = 1600,
};

struct descriptor { u64 address; u32 length; u16 flags, next; };
struct available { u16 flags, index, ring[QUEUE]; };
struct used { u16 flags, index; struct { u32 id, length; } ring[QUEUE]; };

// A queue of a device, and its buffers.
struct queue {
    struct descriptor descriptors[QUEUE] __attribute__((aligned(16)));
    struct available ours __attribute__((aligned(4)));
    struct used theirs __attribute__((aligned(4)));
    u8 buffers[QUEUE][BUFFER];
    u64 device;
    u32 number;
    u16 seen;
};

u64 device_begin(u32 kind);
void device_ready(u64 device);
void device_tick(u64 device);
void queue_begin(struct queue *queue, u64 device, u32 number, int device_writes);
void queue_fill(struct queue *queue);
u8 *queue_taken(struct queue *queue, u32 *length);
void queue_give_back(struct queue *queue);
u8 *queue_next(struct queue *queue);
void queue_send(struct queue *queue, u32 length);

void card_begin(const char *address);
void card_tick(void);
void card_send(void);

void agent_begin(void);
void agent_tick(void);
