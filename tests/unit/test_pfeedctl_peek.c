/* SPDX-License-Identifier: MIT */
/* pfeedctl peek against a made-up arena: every dtype and layout gives the picture that went in, the latest slot with the row is
 * taken, nothing resident means attaching, an arena full of lies is no crash, and a copy is never torn. argv[1]: pfeedctl. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arena.h"
#include "fake_pfeedd.h"
#include "half.h"

enum { BATCH = 4, SLOTS = 5, WIDTH = 5, HEIGHT = 3, ARENA_BYTES = 8 * 4096, SLOTS_AT = 4096, SLOT_BYTES = 4096 };
enum { PIXELS_AT = 1024, LABELS_AT = 512 };

static const char *program;
static const float mean[3] = { 0.485f, 0.456f, 0.406f }, deviation[3] = { 0.229f, 0.224f, 0.225f };

static const struct kind {
    const char *name;
    uint8_t code, bits;
} kinds[] = { { "uint8", 1, 8 }, { "float16", 2, 16 }, { "bfloat16", 4, 16 }, { "float32", 2, 32 } };

struct world {
    struct kind kind;
    uint32_t layout, channels;
    struct pf_row_slot rows[SLOTS];
    int arena; /* memfd */
    uint8_t *base;
    bool attach; /* answers ATTACH */
    bool end;    /* hangs up after the look at the slots */
};

/* ---- making it ------------------------------------------------------------------------------------------------------ */

/* Any picture that differs in every pixel, channel, slot and row. */
static uint8_t pixel(uint32_t slot, uint32_t row, uint32_t channel, uint32_t at)
{
    return (uint8_t)(slot * 50 + row * 13 + channel * 70 + at * 11);
}

static void put(const struct kind *kind, uint8_t *to, uint8_t value, uint32_t channel)
{
    float real = ((float)value / 255 - mean[channel]) / deviation[channel];
    uint16_t half = kind->code == 4 ? bfloat_from_float(real) : half_from_float(real);

    if (kind->bits == 8)
        *to = value;
    else if (kind->bits == 16)
        memcpy(to, &half, sizeof(half));
    else
        memcpy(to, &real, sizeof(real));
}

static struct pf_slot *table(const struct world *world)
{
    return (struct pf_slot *)(world->base + 2048);
}

static void fill_slot(struct world *world, uint32_t slot)
{
    uint8_t *base = world->base + SLOTS_AT + slot * SLOT_BYTES;
    uint32_t pixels = WIDTH * HEIGHT, element = world->kind.bits / 8;

    for (uint32_t row = 0; row < BATCH; row++) {
        ((uint64_t *)base)[row] = slot * 100 + row;
        ((uint64_t *)(base + 64))[row] = slot * 100 + row + (row == 1);
        base[128 + row] = row == 1 ? PF_ROW_REPLACED : 0;
        for (uint32_t c = 0; c < world->channels; c++)
            for (uint32_t at = 0; at < pixels; at++) {
                uint32_t place = world->layout == PF_LAYOUT_CHW ? c * pixels + at : at * world->channels + c;

                put(&world->kind, base + PIXELS_AT + (row * world->channels * pixels + place) * element, pixel(slot, row, c, at),
                    c);
            }
    }
    table(world)[slot] =
        (struct pf_slot){ .state = PF_SLOT_READY, .rows = BATCH, .epoch = 2, .index = 40 + slot, .seed = 7, .sequence = 8 };
}

static void make_fields(struct world *world, struct pf_field *fields)
{
    bool chw = world->layout == PF_LAYOUT_CHW;
    struct pf_field image = { .name = "image",
                              .dtype_code = world->kind.code,
                              .dtype_bits = world->kind.bits,
                              .dtype_lanes = 1,
                              .ndim = 3,
                              .offset = PIXELS_AT,
                              .layout = world->layout };

    image.shape[chw ? 0 : 2] = world->channels;
    image.shape[chw ? 1 : 0] = HEIGHT;
    image.shape[chw ? 2 : 1] = WIDTH;
    image.row_bytes = (uint64_t)world->channels * HEIGHT * WIDTH * (world->kind.bits / 8);
    memcpy(image.mean, mean, sizeof(mean));
    memcpy(image.std, deviation, sizeof(deviation));
    fields[0] = (struct pf_field){
        .name = "label", .dtype_code = 0, .dtype_bits = 64, .dtype_lanes = 1, .row_bytes = 8, .offset = LABELS_AT
    };
    fields[1] = image;
}

static void make_world(struct world *world, const struct kind *kind, uint32_t layout, uint32_t channels)
{
    struct pf_arena info = { .head = { .magic = PF_MAGIC, .version = PF_VERSION, .kind = PF_ARENA, .size = ARENA_BYTES },
                             .n_slots = SLOTS,
                             .n_fields = 2,
                             .batch = BATCH,
                             .fields_offset = 256,
                             .table_offset = 2048,
                             .slots_offset = SLOTS_AT,
                             .slot_bytes = SLOT_BYTES,
                             .used_ids_offset = 64,
                             .flags_offset = 128,
                             .samples = 1000 };

    *world = (struct world){ .kind = *kind, .layout = layout, .channels = channels };
    world->arena = memfd_create("arena", MFD_CLOEXEC);
    CHECK(world->arena >= 0 && ftruncate(world->arena, ARENA_BYTES) == 0, "%s", strerror(errno));
    world->base = mmap(NULL, ARENA_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, world->arena, 0);
    CHECK(world->base != MAP_FAILED, "%s", strerror(errno));
    memcpy(world->base, &info, sizeof(info));
    make_fields(world, (struct pf_field *)(world->base + info.fields_offset));
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        fill_slot(world, slot);
        world->rows[slot] =
            (struct pf_row_slot){ .feed = "images", .slot = slot, .state = PF_SLOT_READY, .since_ns = 1000 - slot * 100 };
    }
}

static void free_world(struct world *world)
{
    munmap(world->base, ARENA_BYTES);
    close(world->arena);
}

/* ---- answering ------------------------------------------------------------------------------------------------------ */

static int make_page(size_t size, uint32_t kind, const struct pf_grant *grant)
{
    int fd = memfd_create("page", MFD_CLOEXEC);
    struct pf_grant_page *page;

    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0, "%s", strerror(errno));
    page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(page != MAP_FAILED, "%s", strerror(errno));
    page->head = (struct pf_head){ .magic = PF_MAGIC, .version = PF_VERSION, .kind = kind, .size = size };
    if (grant) {
        page->wake_at = UINT64_MAX;
        page->grants[0] = *grant;
        page->published = 1;
    }
    munmap(page, size);
    return fd;
}

static void answer_attach(int socket, const struct world *world, const struct pf_ctl_attach *request)
{
    const struct pf_grant grant = { .epoch = 5, .step = 9, .slot = 3, .rows = BATCH, .valid = BATCH };
    struct pf_ctl_attached reply = { .consumer = 1,
                                     .arena_size = ARENA_BYTES,
                                     .samples = 1000,
                                     .steps = 250,
                                     .epoch = 5,
                                     .batch = BATCH,
                                     .world_batch = BATCH,
                                     .max_held = 1 };
    int fds[PF_ATTACH_FDS] = { world->arena, make_page(sizeof(struct pf_grant_page), PF_GRANT_PAGE, &grant),
                               make_page(sizeof(struct pf_return_page), PF_RETURN_PAGE, NULL), eventfd(0, EFD_CLOEXEC) };

    CHECK(request->flags & PF_ATTACH_PEEK, "attached without PF_ATTACH_PEEK");
    fake_send(socket, &reply, PF_CTL_ATTACHED, sizeof(reply), fds, PF_ATTACH_FDS);
    for (int i = 1; i < PF_ATTACH_FDS; i++)
        close(fds[i]);
}

static bool answer(int socket, const union fake_message *request, void *data)
{
    struct world *world = data;
    struct pf_ctl_head head;

    switch (request->head.type) {
    case PF_CTL_PEEK:
        fake_send(socket, &head, PF_CTL_OK, sizeof(head), &world->arena, 1);
        return true;
    case PF_CTL_STAT:
        for (uint32_t i = 0; i < SLOTS; i++)
            fake_rows(socket, PF_STAT_SLOTS, &world->rows[i], 1, sizeof(world->rows[i]), i + 1 < SLOTS);
        return !world->end;
    case PF_CTL_ATTACH:
        if (world->attach)
            answer_attach(socket, world, &request->attach);
        else
            fake_error(socket, -ENOSPC, "no slot is free for a look");
        return true;
    case PF_CTL_DETACH:
        fake_send(socket, &head, PF_CTL_OK, sizeof(head), NULL, 0);
        return true;
    default:
        return false;
    }
}

/* ---- checking ------------------------------------------------------------------------------------------------------- */

/* The PPM on standard output is that row; bfloat16 has 8 bits of mantissa, hence two levels of room. */
static void expect_picture(const struct world *world, const struct run *run, uint32_t slot, uint32_t row)
{
    static const char header[] = "P6\n5 3\n255\n";
    int room = world->kind.code == 4 ? 2 : 0;

    CHECK(run->status == 0 && run->out_size == strlen(header) + WIDTH * HEIGHT * 3 &&
              memcmp(run->out, header, strlen(header)) == 0,
          "%s: %d, %zu bytes, %s", world->kind.name, run->status, run->out_size, run->err);
    for (uint32_t at = 0; at < WIDTH * HEIGHT; at++)
        for (uint32_t c = 0; c < 3; c++) {
            int is = (unsigned char)run->out[strlen(header) + at * 3 + c],
                must = pixel(slot, row, world->channels == 1 ? 0 : c, at);

            CHECK(is - must <= room && must - is <= room, "%s: pixel %u channel %u is %d, must be %d", world->kind.name, at, c,
                  is, must);
        }
}

static struct run peek(const struct fake *fake, const char *row)
{
    const char *words[] = { "peek", "images", "--out", "-", "--row", row, NULL };

    return run_pfeedctl(program, fake, words, false, NULL);
}

static void test_pictures(void)
{
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
        for (uint32_t v = 0; v < 4; v++) {
            struct world world;
            struct fake fake;
            struct run run;

            make_world(&world, &kinds[k], v % 2 ? PF_LAYOUT_CHW : PF_LAYOUT_HWC, v / 2 ? 1 : 3);
            fake_start(&fake, answer, &world);
            run = peek(&fake, "1");
            expect_picture(&world, &run, SLOTS - 1, 1);
            CHECK(strstr(run.err,
                         "sample 401 (in its place: sample 402), epoch 2, row 1 of batch 44 in slot 4, seed 7, flags: replaced"),
                  "%s", run.err);
            CHECK(strstr(run.err, kinds[k].name), "%s", run.err);
            run_fini(&run);
            fake_stop(&fake);
            free_world(&world);
        }
}

/* The latest slot is taken unless it is not ready, lacks the row, or is being written. */
static void test_choice(void)
{
    const char *json[] = { "peek", "--feed", "images", "--out", "/dev/null", "--json", "--row", "2", NULL };
    struct world world;
    struct fake fake;
    struct run run;

    make_world(&world, &kinds[1], PF_LAYOUT_CHW, 3);
    table(&world)[4].state = PF_SLOT_FILLING;
    world.base[SLOTS_AT + 3 * SLOT_BYTES + 128 + 2] = PF_ROW_UNFILLED; /* a row in the middle that nobody asked for */
    table(&world)[2].sequence = 9;
    world.rows[1].state = PF_SLOT_FREE;
    fake_start(&fake, answer, &world);
    run = peek(&fake, "2");
    expect_picture(&world, &run, 0, 2);
    run_fini(&run);
    run = peek(&fake, "0");
    expect_picture(&world, &run, 3, 0);
    run_fini(&run);
    run = run_pfeedctl(program, &fake, json, false, NULL);
    CHECK(run.status == 0 &&
              json_holds(run.out, "d['id'] == 2 and d['slot'] == 0 and d['flags'] == [] and d['field']['shape'] == [3, 3, 5] "
                                  "and d['field']['dtype'] == 'float16' and d['attached'] is False"),
          "%d %s %s", run.status, run.out, run.err);
    run_fini(&run);
    run = peek(&fake, "4");
    CHECK(run.status == 2 && strstr(run.err, "rows 0 to 3"), "%d %s", run.status, run.err);
    run_fini(&run);
    fake_stop(&fake);
    free_world(&world);
}

/* A fake of its own for each run: the world may only change while no thread answers from it. */
static struct run peek_once(struct world *world, const char *row)
{
    struct fake fake;
    struct run run;

    fake_start(&fake, answer, world);
    run = peek(&fake, row);
    fake_stop(&fake);
    return run;
}

static void test_attach(void)
{
    struct world world;
    struct run run;

    make_world(&world, &kinds[3], PF_LAYOUT_HWC, 3);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        world.rows[slot].state = PF_SLOT_FREE;
    run = peek_once(&world, "3");
    CHECK(run.status == 1 && strstr(run.err, "no slot is free for a look") && run.out_size == 0, "%d %s", run.status, run.err);
    run_fini(&run);
    world.attach = true;
    run = peek_once(&world, "3");
    expect_picture(&world, &run, 3, 3);
    CHECK(strstr(run.err, "sample 303, epoch 5, row 3 of step 9 (attached for it), flags: none"), "%s", run.err);
    run_fini(&run);
    world.end = true;
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        world.rows[slot].state = PF_SLOT_READY;
    run = peek_once(&world, "0");
    CHECK(run.status == 0, "%d %s", run.status, run.err); /* what was copied before the daemon went is good */
    run_fini(&run);
    free_world(&world);
}

static void test_no_picture(void)
{
    const char *field[] = { "peek", "images", "--out", "/dev/null", "--field", "label", NULL };
    const char *none[] = { "peek", "images", "--out", "/dev/null", "--field", "lable", NULL };
    const char *unwritable[] = { "peek", "images", "--out", "/dev/full", NULL };
    struct world world;
    struct fake fake;
    struct run run;

    make_world(&world, &kinds[0], PF_LAYOUT_HWC, 3);
    fake_start(&fake, answer, &world);
    run = run_pfeedctl(program, &fake, field, false, NULL);
    CHECK(run.status == 1 && strstr(run.err, "no picture in field 'label'; its fields: label int64[]; image uint8[3, 5, 3] hwc"),
          "%s", run.err);
    run_fini(&run);
    run = run_pfeedctl(program, &fake, none, false, NULL);
    CHECK(run.status == 1 && strstr(run.err, "has no field 'lable'"), "%s", run.err);
    run_fini(&run);
    run = run_pfeedctl(program, &fake, unwritable, false, NULL);
    CHECK(run.status == 1 && strstr(run.err, "cannot write '/dev/full'"), "%d %s", run.status, run.err);
    run_fini(&run);
    ((struct pf_field *)(world.base + 256))[1].layout = PF_LAYOUT_NONE;
    run = peek(&fake, "0");
    CHECK(run.status == 1 && strstr(run.err, "has no picture field; its fields: label int64[]; image uint8[3, 5, 3]"), "%s",
          run.err);
    run_fini(&run);
    fake_stop(&fake);
    free_world(&world);
}

#define HEAD(member)  offsetof(struct pf_arena, member), sizeof(((struct pf_arena *)0)->member)
#define FIELD(member) 256 + sizeof(struct pf_field) + offsetof(struct pf_field, member), sizeof(((struct pf_field *)0)->member)

/* Each lie about a place or a size is found before anything is read by it. */
static void test_told_lies(void)
{
    static const struct lie {
        const char *name;
        size_t at, size;
        uint8_t byte; /* everywhere in there */
    } lies[] = {
        { "n_slots", HEAD(n_slots), 0x01 },
        { "n_fields", HEAD(n_fields), 0x01 },
        { "batch", HEAD(batch), 0x00 },
        { "batch", HEAD(batch), 0xff },
        { "fields_offset", HEAD(fields_offset), 0xff },
        { "table_offset", HEAD(table_offset), 0x7f },
        { "slots_offset", HEAD(slots_offset), 0xff },
        { "slot_bytes", HEAD(slot_bytes), 0x00 },
        { "slot_bytes", HEAD(slot_bytes), 0xff },
        { "ids_offset", HEAD(ids_offset), 0xff },
        { "used_ids_offset", HEAD(used_ids_offset), 0xff },
        { "flags_offset", HEAD(flags_offset), 0xff },
        { "size", HEAD(head.size), 0x7f },
        { "name", FIELD(name), 'x' },
        { "ndim", FIELD(ndim), 0x09 },
        { "shape", FIELD(shape), 0x80 },
        { "row_bytes", FIELD(row_bytes), 0x01 },
        { "offset", FIELD(offset), 0x0f },
    };
    struct world world;
    struct fake fake;

    make_world(&world, &kinds[1], PF_LAYOUT_CHW, 3);
    fake_start(&fake, answer, &world);
    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        uint8_t kept[1024];
        struct run run;

        memcpy(kept, world.base, sizeof(kept));
        memset(world.base + lies[i].at, lies[i].byte, lies[i].size);
        run = peek(&fake, "3");
        CHECK(run.status == 1 && strstr(run.err, "is not sound"), "%s: %d %s", lies[i].name, run.status, run.err);
        run_fini(&run);
        memcpy(world.base, kept, sizeof(kept));
    }
    fake_stop(&fake);
    free_world(&world);
}

/* Bytes of the head and of the fields at random: an error or a picture, nothing else. */
static void test_lies(void)
{
    unsigned seed = 3;
    struct world world;
    struct fake fake;

    make_world(&world, &kinds[1], PF_LAYOUT_CHW, 3);
    fake_start(&fake, answer, &world);
    for (int round = 0; round < 150; round++) {
        uint8_t kept[1024];
        struct run run;

        memcpy(kept, world.base, sizeof(kept));
        for (int i = 0; i < 2; i++) {
            uint32_t at =
                round % 3 ? 64 + (uint32_t)rand_r(&seed) % 80 : 256 + (uint32_t)rand_r(&seed) % (2 * sizeof(struct pf_field));

            world.base[at] = (uint8_t)rand_r(&seed);
        }
        run = peek(&fake, "3");
        CHECK(run.status >= 0 && run.status <= 2 && (run.status == 0 || *run.err), "round %d: %d %s", round, run.status, run.err);
        run_fini(&run);
        memcpy(world.base, kept, sizeof(kept));
    }
    CHECK(ftruncate(world.arena, 100) == 0, "%s", strerror(errno));
    struct run run = peek(&fake, "0");
    CHECK(run.status == 1 && strstr(run.err, "too small"), "%d %s", run.status, run.err);
    run_fini(&run);
    fake_stop(&fake);
    free_world(&world);
}

/* ---- the sequence --------------------------------------------------------------------------------------------------- */

/* A copy under a sequence is a data race by design. */
#if defined(__SANITIZE_THREAD__)
#define RACES_ARE_FAULTS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RACES_ARE_FAULTS 1
#endif
#endif
#ifndef RACES_ARE_FAULTS
#define RACES_ARE_FAULTS 0
#endif

struct writer {
    struct world *world;
    int stop;
};

/* As the daemon does it: odd, rows, even. Row 0 holds the same byte everywhere, its id too. */
static void *rewrite(void *argument)
{
    struct writer *writer = argument;
    struct pf_slot *entry = table(writer->world);
    uint8_t *slot = writer->world->base + SLOTS_AT;

    for (uint64_t n = 0; !__atomic_load_n(&writer->stop, __ATOMIC_RELAXED); n++) {
        __atomic_store_n(&entry->sequence, 2 * n + 1, __ATOMIC_RELAXED);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        memset(slot + PIXELS_AT, (int)(n & 255), (size_t)3 * WIDTH * HEIGHT);
        memset(slot, (int)(n & 255), sizeof(uint64_t));
        __atomic_store_n(&entry->sequence, 2 * n + 2, __ATOMIC_RELEASE);
        for (volatile int i = 0; i < 200; i++) /* so that a copy can succeed at times */
            ;
    }
    return NULL;
}

static void test_torn(void)
{
    struct world world;
    struct writer writer = { .world = &world };
    struct arena arena;
    struct sentence why;
    pthread_t thread;
    unsigned copied = 0;

    if (RACES_ARE_FAULTS)
        return;
    make_world(&world, &kinds[0], PF_LAYOUT_HWC, 3);
    memset(world.base + SLOTS_AT, 0, SLOT_BYTES);
    CHECK(arena_map(world.arena, &arena, &why) == 0, "%s", why.text);
    CHECK(pthread_create(&thread, NULL, rewrite, &writer) == 0, "no thread");
    for (unsigned i = 0; i < 2000000 && copied < 20000; i++) {
        uint8_t bytes[3 * WIDTH * HEIGHT];
        struct arena_row row;

        if (!arena_copy(&arena, 0, 0, &arena.fields[1], bytes, &row))
            continue;
        copied++;
        for (size_t at = 0; at < sizeof(bytes); at++)
            CHECK(bytes[at] == bytes[0] && (row.id & 255) == bytes[0], "torn: byte %zu is %u, not %u; id %llx", at, bytes[at],
                  bytes[0], (unsigned long long)row.id);
    }
    __atomic_store_n(&writer.stop, 1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    CHECK(copied > 100, "only %u copies", copied);
    arena_unmap(&arena);
    free_world(&world);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2, "usage: test_pfeedctl_peek PFEEDCTL");
    program = argv[1];
    signal(SIGPIPE, SIG_IGN);
    unsetenv("PFEED_SOCKET");
    test_pictures();
    test_choice();
    test_attach();
    test_no_picture();
    test_told_lies();
    test_lies();
    test_torn();
    return 0;
}
