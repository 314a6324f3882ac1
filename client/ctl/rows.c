/* SPDX-License-Identifier: MIT */
/* The tables of pfeedctl: a row here for every member of the daemon's rows (ctl.h); counters come from counters.tbl. */
#include <inttypes.h>
#include <string.h>

#include "columns.h"
#include "rows.h"

#define PF_COUNTER(scope, name, unit, help) COUNTER_##scope(name, unit, help)

/* ---- the daemon ----------------------------------------------------------------------------------------------------- */

static const struct column daemon_columns[] = {
    COLUMN(pf_row_daemon, version, "version", "", "of pfeedd"),
    COLUMN(pf_row_daemon, status, "status", "", "what it does, in a sentence"),
    COLUMN(pf_row_daemon, config, "config", "", "its configuration file"),
    COLUMN(pf_row_daemon, shm, "shm", "", "kind of shared memory in use: memfd or posix"),
    COLUMN(pf_row_daemon, pid, "pid", "", "its process"),
    COLUMN(pf_row_daemon, uptime_ns, "up", "ns", "time since it started"),
    COLUMN(pf_row_daemon, memory_bytes, "memory", "bytes", "its budget"),
    COLUMN(pf_row_daemon, memory_used_bytes, "memory used", "bytes", "what arenas, scratch and tables take of the budget"),
    COLUMN_SUM(pf_row_daemon, cpu_ns, "CPU", "ns", "CPU time of the whole process"),
    COLUMN(pf_row_daemon, workers, "workers", "", "threads that read and decode"),
    COLUMN(pf_row_daemon, workers_busy, "busy", "", "workers that have a row in work"),
    COLUMN(pf_row_daemon, reads, "reads", "", "by which means samples are read, and how far ahead of the workers"),
    COLUMN(pf_row_daemon, feeds, "feeds", "", "feeds configured"),
    COLUMN(pf_row_daemon, consumers, "consumers", "", "processes attached"),
    COLUMN(pf_row_daemon, quarantined, "quarantined", "",
           "consumers that were dropped but whose process lives, so that their slots wait"),
    COLUMN(pf_row_daemon, dropped, "dropped", "", "consumers dropped since start for what they wrote"),
    COLUMN_SUM(pf_row_daemon, wakeups, "wake-ups", "turns", "turns of the main loop"),
};
const struct table table_daemon = {
    .name = "daemon",
    .none = "pfeedd says nothing about itself",
    .shown = "all",
    COLUMNS(daemon_columns),
    .row_size = sizeof(struct pf_row_daemon),
    .what = PF_STAT_DAEMON,
};

/* ---- feeds ---------------------------------------------------------------------------------------------------------- */

static bool feed_failed(const void *row)
{
    return ((const struct pf_row_feed *)row)->failed[0] != 0;
}

static enum paint feed_paint(const void *row)
{
    return feed_failed(row) ? PAINT_RED : PAINT_NONE;
}

static void feed_slots_short(const void *row, char *to, size_t size)
{
    const struct pf_row_feed *feed = row;

    if (feed->slots_short > 0)
        snprintf(to, size, "%u of %" PRIu64 " slots, memory is short", feed->n_slots, feed->n_slots + feed->slots_short);
    else
        snprintf(to, size, "%s", "");
}

static void feed_slots_short_json(const void *row, struct json *json)
{
    json_u64(json, ((const struct pf_row_feed *)row)->slots_short);
}

/* As a token has them. */
static void feed_prints(const void *row, char *to, size_t size)
{
    const struct pf_prints *prints = &((const struct pf_row_feed *)row)->prints;

    snprintf(to, size, "%016" PRIx64 ":%016" PRIx64 ":%016" PRIx64, prints->data, prints->order, prints->recipe);
}

#define COUNTER_feed(name, unit, help) COLUMN_SUM(pf_row_feed, name, #name, unit, help),
#define COUNTER_consumer(name, unit, help)
static const struct column feed_columns[] = {
    COLUMN_PAINT(pf_row_feed, name, "feed", "", "its name in the configuration", feed_paint),
    COLUMN(pf_row_feed, state, "state", "", "running; retired: changed by a reload, it serves only the jobs that it has"),
    COLUMN(pf_row_feed, source, "source", "", "where its samples live"),
    COLUMN(pf_row_feed, deliver, "deliver", "", "how ranks share its steps: split or each"),
    COLUMN(pf_row_feed, tail, "tail", "", "what becomes of an epoch's last rows: drop, pad or partial"),
    COLUMN(pf_row_feed, shuffle, "shuffle", "", "order of its samples"),
    COLUMN(pf_row_feed, samples, "samples", "samples", "samples of the source"),
    COLUMN(pf_row_feed, seed, "seed", "", "of order and augmentations, where a job gives none"),
    COLUMN(pf_row_feed, batch, "batch", "", "rows of a slot"),
    COLUMN(pf_row_feed, n_slots, "slots", "", "slots of its arena"),
    COLUMN_MADE(pf_row_feed, slots_short, "memory", "slots that are missing, as memory is short: they come when it returns",
                feed_slots_short, feed_slots_short_json, NULL),
    COLUMN(pf_row_feed, slot_bytes, "slot_bytes", "bytes", "size of a slot"),
    COLUMN(pf_row_feed, free, "free", "", "slots that hold nothing"),
    COLUMN(pf_row_feed, filling, "filling", "", "slots that workers fill"),
    COLUMN(pf_row_feed, ready, "ready", "", "slots that are full and granted to nobody"),
    COLUMN(pf_row_feed, held, "held", "", "full slots that are granted to somebody"),
    COLUMN(pf_row_feed, consumers, "consumers", "", "processes attached"),
    COLUMN(pf_row_feed, jobs, "jobs", "", "training runs they belong to"),
    COLUMN(pf_row_feed, gang, "gang", "", "ranks that must be there before the first step"),
    COLUMN(pf_row_feed, gang_there, "gang_there", "", "ranks of the gang that are there"),
#include "counters.tbl"
    COLUMN_MADE(pf_row_feed, prints, "prints", "fingerprints of data, order and recipe: where they agree, so do histories",
                feed_prints, NULL, NULL),
    COLUMN(pf_row_feed, reading, "reading", "", "the sample whose read takes longest just now, if over a second"),
    COLUMN(pf_row_feed, reading_ns, "for", "ns", "how long that read has taken so far"),
    COLUMN(pf_row_feed, read_ahead, "ahead", "samples", "how many samples may be read ahead of the workers; 0: none are"),
    COLUMN_PAINT(pf_row_feed, failed, "failed", "", "why the feed has failed, or nothing", feed_paint),
};
#undef COUNTER_feed
#undef COUNTER_consumer
const struct table table_feeds = {
    .name = "feeds",
    .none = "no feeds",
    .shown = "name batch free filling ready held consumers rows_filled rows_delivered slots_short reading_ns reading failed",
    COLUMNS(feed_columns),
    .row_size = sizeof(struct pf_row_feed),
    .id_offset = offsetof(struct pf_row_feed, name),
    .id_size = PF_FEED_NAME,
    .what = PF_STAT_FEEDS,
    .problem = feed_failed,
};

/* ---- slots ---------------------------------------------------------------------------------------------------------- */

static void slot_state_text(const void *row, char *to, size_t size)
{
    static const char *const names[] = { [PF_SLOT_FREE] = "free", [PF_SLOT_FILLING] = "filling", [PF_SLOT_READY] = "ready" };
    const struct pf_row_slot *slot = row;

    if (slot->state == PF_SLOT_READY && slot->grants > 0)
        snprintf(to, size, "held");
    else if (slot->state < sizeof(names) / sizeof(names[0]))
        snprintf(to, size, "%s", names[slot->state]);
    else
        snprintf(to, size, "state %u", slot->state);
}

enum paint slot_paint(const void *row)
{
    const struct pf_row_slot *slot = row;

    if (slot->state == PF_SLOT_READY)
        return slot->grants > 0 ? PAINT_BLUE : PAINT_GREEN;
    return slot->state == PF_SLOT_FILLING ? PAINT_YELLOW : PAINT_DIM;
}

uint32_t slot_holders(const struct pf_row_slot *slot)
{
    return slot->n_holders < PF_HOLDERS ? slot->n_holders : PF_HOLDERS;
}

/* "job/0 job/1 (job/2) +3": in brackets what was granted but not taken yet. */
static void holders_text(const void *row, char *to, size_t size)
{
    const struct pf_row_slot *slot = row;
    size_t at = 0;

    *to = 0;
    for (uint32_t i = 0; i < slot_holders(slot) && at < size; i++) {
        const char *open = slot->holders[i].taken ? "" : "(", *close = slot->holders[i].taken ? "" : ")";
        const char *space = i ? " " : "";
        int n;

        if (slot->holders[i].job[0])
            n = snprintf(to + at, size - at, "%s%s%.*s/%u%s", space, open, (int)sizeof(slot->holders[i].job),
                         slot->holders[i].job, slot->holders[i].rank, close);
        else
            n = snprintf(to + at, size - at, "%s%s#%" PRIu64 "%s", space, open, slot->holders[i].consumer, close);
        at += (size_t)n;
    }
    if (slot->n_holders > PF_HOLDERS && at < size)
        snprintf(to + at, size - at, " +%u", slot->n_holders - PF_HOLDERS);
}

static void holders_json(const void *row, struct json *json)
{
    const struct pf_row_slot *slot = row;

    json_open(json, '[');
    for (uint32_t i = 0; i < slot_holders(slot); i++) {
        json_open(json, '{');
        json_key(json, "consumer");
        json_u64(json, slot->holders[i].consumer);
        json_key(json, "job");
        json_text(json, slot->holders[i].job, sizeof(slot->holders[i].job));
        json_key(json, "rank");
        json_u64(json, slot->holders[i].rank);
        json_key(json, "taken");
        json_bool(json, slot->holders[i].taken != 0);
        json_close(json, '}');
    }
    json_close(json, ']');
}

static const struct column slot_columns[] = {
    COLUMN(pf_row_slot, feed, "feed", "", "whose arena it lies in"),
    COLUMN(pf_row_slot, slot, "slot", "", "its number in the arena"),
    COLUMN_MADE(pf_row_slot, state, "state", "free, filling, ready, or held: ready and granted to somebody", slot_state_text,
                NULL, slot_paint),
    COLUMN(pf_row_slot, epoch, "epoch", "", "of its rows"),
    COLUMN(pf_row_slot, index, "index", "", "its place in the epoch, in slots"),
    COLUMN(pf_row_slot, seed, "seed", "", "of its rows"),
    COLUMN(pf_row_slot, rows, "rows", "", "rows that were asked for"),
    COLUMN(pf_row_slot, rows_done, "done", "", "rows that are in"),
    COLUMN(pf_row_slot, grants, "grants", "", "grants out on it"),
    COLUMN(pf_row_slot, pins, "pins", "", "cursors that still want it"),
    COLUMN(pf_row_slot, since_ns, "since", "ns", "time in this state"),
    COLUMN(pf_row_slot, n_holders, "n_holders", "", "consumers that it is granted to; holders has the first of them"),
    COLUMN_MADE(pf_row_slot, holders, "holders", "job/rank (or #consumer) that it is granted to; in brackets: not taken yet",
                holders_text, holders_json, NULL),
};
const struct table table_slots = {
    .name = "slots",
    .none = "no slots",
    .shown = "feed slot state epoch index rows rows_done grants pins since_ns holders",
    COLUMNS(slot_columns),
    .row_size = sizeof(struct pf_row_slot),
    .what = PF_STAT_SLOTS,
};

/* ---- consumers ------------------------------------------------------------------------------------------------------ */

static void consumer_state_text(const void *row, char *to, size_t size)
{
    static const char *const names[] = {
        [PF_CONSUMER_WAITING] = "waiting",         [PF_CONSUMER_RUNNING] = "running", [PF_CONSUMER_ENDED] = "ended",
        [PF_CONSUMER_QUARANTINED] = "quarantined", [PF_CONSUMER_PARKED] = "parked",
    };
    uint32_t state = ((const struct pf_row_consumer *)row)->state;

    if (state < sizeof(names) / sizeof(names[0]))
        snprintf(to, size, "%s", names[state]);
    else
        snprintf(to, size, "state %u", state);
}

static enum paint consumer_paint(const void *row)
{
    static const enum paint paints[] = {
        [PF_CONSUMER_WAITING] = PAINT_YELLOW,  [PF_CONSUMER_RUNNING] = PAINT_GREEN, [PF_CONSUMER_ENDED] = PAINT_DIM,
        [PF_CONSUMER_QUARANTINED] = PAINT_RED, [PF_CONSUMER_PARKED] = PAINT_YELLOW,
    };
    uint32_t state = ((const struct pf_row_consumer *)row)->state;

    return state < sizeof(paints) / sizeof(paints[0]) ? paints[state] : PAINT_NONE;
}

#define COUNTER_feed(name, unit, help)
#define COUNTER_consumer(name, unit, help) COLUMN_SUM(pf_row_consumer, name, #name, unit, help),
static const struct column consumer_columns[] = {
    COLUMN(pf_row_consumer, consumer, "#", "", "its number, never used again"),
    COLUMN(pf_row_consumer, feed, "feed", "", "what it is attached to"),
    COLUMN(pf_row_consumer, job, "job", "", "training run; nothing: private"),
    COLUMN(pf_row_consumer, rank, "rank", "", "of the job"),
    COLUMN(pf_row_consumer, replica, "replica", "", "which of the processes that get this rank's batches"),
    COLUMN(pf_row_consumer, world, "world", "", "ranks of the job"),
    COLUMN(pf_row_consumer, batch, "batch", "", "rows of a step of this rank"),
    COLUMN(pf_row_consumer, pid, "pid", "", "its process; 0: in another PID namespace, where its hang-up counts as death"),
    COLUMN(pf_row_consumer, uid, "uid", "", "whose process it is"),
    COLUMN_MADE(pf_row_consumer, state, "state",
                "waiting, running, ended, parked, or quarantined: dropped, but its process lives", consumer_state_text, NULL,
                consumer_paint),
    COLUMN(pf_row_consumer, epoch, "epoch", "", "of the next step to be granted"),
    COLUMN(pf_row_consumer, step, "step", "", "the next step to be granted"),
    COLUMN(pf_row_consumer, granted, "granted", "", "grants out, taken or not"),
    COLUMN(pf_row_consumer, held, "held", "", "batches taken and not given back"),
    COLUMN(pf_row_consumer, max_held, "max_held", "", "batches that it may hold"),
    COLUMN(pf_row_consumer, age_ns, "age", "ns", "time since it attached"),
    COLUMN(pf_row_consumer, held_since_ns, "held_since", "ns", "age of its oldest grant"),
#include "counters.tbl"
    COLUMN(pf_row_consumer, waits_for, "waits for", "", "what it waits for, or nothing"),
};
#undef COUNTER_feed
#undef COUNTER_consumer
const struct table table_consumers = {
    .name = "consumers",
    .none = "no consumers",
    .shown = "consumer feed job rank world pid state epoch step granted held max_held held_since_ns rows wait_ns waits_for",
    COLUMNS(consumer_columns),
    .row_size = sizeof(struct pf_row_consumer),
    .id_offset = offsetof(struct pf_row_consumer, consumer),
    .id_size = sizeof(uint64_t),
    .what = PF_STAT_CONSUMERS,
};

/* ---- jobs ----------------------------------------------------------------------------------------------------------- */

static enum paint job_paint(const void *row)
{
    const struct pf_row_job *job = row;

    return strcmp(job->state, "running") == 0 ? PAINT_GREEN : strcmp(job->state, "ended") == 0 ? PAINT_DIM : PAINT_YELLOW;
}

static void job_place(char *to, size_t size, uint64_t epoch, uint64_t step)
{
    snprintf(to, size, "%" PRIu64 ":%" PRIu64, epoch, step);
}

static void job_at_text(const void *row, char *to, size_t size)
{
    const struct pf_row_job *job = row;

    job_place(to, size, job->epoch, job->step);
    if (job->front_epoch != job->epoch || job->front_step != job->step) {
        size_t at = strlen(to);

        snprintf(to + at, size - at, "..");
        at += 2;
        job_place(to + at, size - at, job->front_epoch, job->front_step);
    }
}

static void job_at_json(const void *row, struct json *json)
{
    const struct pf_row_job *job = row;

    json_open(json, '[');
    json_u64(json, job->epoch);
    json_u64(json, job->step);
    json_close(json, ']');
}

static void decoded_text(const void *row, char *to, size_t size)
{
    const struct pf_row_job *job = row;

    snprintf(to, size, "%.3f", (double)job->decoded_ppm / 1e6);
}

static void decoded_json(const void *row, struct json *json)
{
    json_u64(json, ((const struct pf_row_job *)row)->decoded_ppm);
}

static void slot_use_text(const void *row, char *to, size_t size)
{
    const struct pf_row_job *job = row;

    snprintf(to, size, "%.3f", (double)job->slot_use_ppm / 1e6);
}

static void slot_use_json(const void *row, struct json *json)
{
    json_u64(json, ((const struct pf_row_job *)row)->slot_use_ppm);
}

static const struct column job_columns[] = {
    COLUMN(pf_row_job, feed, "feed", "", "what it is fed"),
    COLUMN(pf_row_job, job, "job", "", "its name; nothing: private"),
    COLUMN(pf_row_job, uid, "uid", "", "whose it is"),
    COLUMN_PAINT(pf_row_job, state, "state", "",
                 "waiting: for ranks or the gang; running; stalling: others wait for it; parked: set aside; ended", job_paint),
    COLUMN_MADE(
        pf_row_job, epoch, "at",
        "epoch:step that the rank furthest behind takes next, and the one furthest ahead; JSON: [epoch, step] of the former",
        job_at_text, job_at_json, NULL),
    COLUMN(pf_row_job, front_epoch, "front_epoch", "", "of the rank furthest ahead"),
    COLUMN(pf_row_job, front_step, "front_step", "", "of the rank furthest ahead"),
    COLUMN(pf_row_job, steps, "steps", "", "of an epoch"),
    COLUMN(pf_row_job, epochs, "epochs", "", "that it runs for; 0: for ever"),
    COLUMN(pf_row_job, start_epoch, "start_epoch", "", "where it began"),
    COLUMN(pf_row_job, start_step, "start_step", "", "where it began"),
    COLUMN(pf_row_job, seed, "seed", "", "of order and augmentations"),
    COLUMN(pf_row_job, run, "run", "", "restart count that it gave"),
    COLUMN(pf_row_job, world, "world", "", "ranks that divide each step"),
    COLUMN(pf_row_job, ranks, "ranks", "", "of them attached"),
    COLUMN(pf_row_job, local, "local", "", "of them living on this host"),
    COLUMN(pf_row_job, local_ranks, "local_ranks", "", "as it gave them; nothing: all"),
    COLUMN_MADE(pf_row_job, slot_use_ppm, "slot_use", "share of its slots' rows that ranks of this host use; JSON: in millionths",
                slot_use_text, slot_use_json, NULL),
    COLUMN(pf_row_job, aligned_batch, "aligned_batch", "", "the feed's batch with which slot_use would be 1; 0: none"),
    COLUMN(pf_row_job, consumers, "consumers", "", "processes attached: more than ranks where there are replicas"),
    COLUMN(pf_row_job, batch, "batch", "", "rows of a rank's step"),
    COLUMN(pf_row_job, world_batch, "G", "", "rows of a step over all ranks"),
    COLUMN(pf_row_job, slow, "slow", "", "what becomes of it when it stalls others: park, block or skip"),
    COLUMN(pf_row_job, group, "group", "", "jobs of a group stand so near each other that they share slots"),
    COLUMN(pf_row_job, shares, "shares with", "", "the other jobs of its group"),
    COLUMN_SUM(pf_row_job, rows_filled, "rows_filled", "rows", "rows decoded that this job asked for first"),
    COLUMN_SUM(pf_row_job, rows_delivered, "rows_delivered", "rows", "rows that its ranks gave back"),
    COLUMN_MADE(pf_row_job, decoded_ppm, "decoded/row",
                "rows decoded for its whole group per row delivered to it; 1 / jobs where all is shared; JSON: in millionths",
                decoded_text, decoded_json, NULL),
};
const struct table table_jobs = {
    .name = "jobs",
    .none = "no jobs",
    .shown = "feed job uid state epoch steps world ranks batch group shares rows_delivered decoded_ppm",
    COLUMNS(job_columns),
    .row_size = sizeof(struct pf_row_job),
    .what = PF_STAT_JOBS,
};

/* ---- caches --------------------------------------------------------------------------------------------------------- */

static void share_text(const void *row, char *to, size_t size)
{
    snprintf(to, size, "%.3f", (double)((const struct pf_row_cache *)row)->share_ppm / 1e6);
}

static void share_json(const void *row, struct json *json)
{
    json_u64(json, ((const struct pf_row_cache *)row)->share_ppm);
}

static void hit_text(const void *row, char *to, size_t size)
{
    snprintf(to, size, "%.3f", (double)((const struct pf_row_cache *)row)->hit_ppm / 1e6);
}

static void hit_json(const void *row, struct json *json)
{
    json_u64(json, ((const struct pf_row_cache *)row)->hit_ppm);
}

static const struct column cache_columns[] = {
    COLUMN(pf_row_cache, kind, "cache", "", "encoded: bytes of files; decoded: reduced pictures; disk: the same, in a file"),
    COLUMN(pf_row_cache, feeds, "feeds", "", "those that share it"),
    COLUMN(pf_row_cache, source, "source", "", "where its samples are from"),
    COLUMN(pf_row_cache, samples, "samples", "samples", "that could be in it"),
    COLUMN(pf_row_cache, entries, "kept", "samples", "that are in it"),
    COLUMN_MADE(pf_row_cache, share_ppm, "share", "kept of samples: the hit rate of whole epochs; JSON: in millionths",
                share_text, share_json, NULL),
    COLUMN(pf_row_cache, size_bytes, "size", "bytes", "how large it may become"),
    COLUMN(pf_row_cache, used_bytes, "used", "bytes", "of that filled"),
    COLUMN(pf_row_cache, lost_bytes, "lost", "bytes", "of that used no more, as their files have changed"),
    COLUMN(pf_row_cache, index_bytes, "index", "bytes", "memory beside it that says where each sample is"),
    COLUMN_SUM(pf_row_cache, hits, "hits", "samples", "asked for and there"),
    COLUMN_SUM(pf_row_cache, misses, "misses", "samples", "asked for and not there"),
    COLUMN_MADE(pf_row_cache, hit_ppm, "hit_rate", "hits of hits and misses since it was made; JSON: in millionths", hit_text,
                hit_json, NULL),
    COLUMN_SUM(pf_row_cache, stale, "stale", "samples", "given up, as their files have changed"),
    COLUMN_SUM(pf_row_cache, damaged, "damaged", "samples", "of a file: given up, as they were not as they had been written"),
    COLUMN_SUM(pf_row_cache, saved_ns, "saved", "ns", "CPU time that reading and decoding them again would have taken"),
    COLUMN(pf_row_cache, file, "file", "", "where it is kept; nothing: in memory"),
    COLUMN(pf_row_cache, note, "note", "", "why it does not grow, or nothing"),
};
const struct table table_caches = {
    .name = "caches",
    .none = "no caches",
    .shown = "kind feeds samples entries share_ppm size_bytes used_bytes hits misses hit_ppm saved_ns note",
    COLUMNS(cache_columns),
    .row_size = sizeof(struct pf_row_cache),
    .what = PF_STAT_CACHES,
};

/* ---- errors --------------------------------------------------------------------------------------------------------- */

static bool is_there(const void *row)
{
    return row;
}

static const struct column error_columns[] = {
    COLUMN(pf_row_error, feed, "feed", "", "whose sample it is"),
    COLUMN(pf_row_error, id, "id", "", "of the sample"),
    COLUMN(pf_row_error, epoch, "epoch", "", "when it was last met"),
    COLUMN(pf_row_error, count, "times", "", "how often it was met"),
    COLUMN(pf_row_error, where, "where", "", "its path"),
    COLUMN(pf_row_error, reason, "reason", "", "what is wrong with it"),
};
const struct table table_errors = {
    .name = "errors",
    .none = "no bad samples",
    .shown = "all",
    COLUMNS(error_columns),
    .row_size = sizeof(struct pf_row_error),
    .what = PF_STAT_ERRORS,
    .problem = is_there,
};

/* ---- counters ------------------------------------------------------------------------------------------------------- */

struct counter {
    char scope[16], name[32], unit[16], help[128];
};

#define COUNTER_feed(name, unit, help)     { "feed", #name, unit, help },
#define COUNTER_consumer(name, unit, help) { "consumer", #name, unit, help },
static const struct counter counters[] = {
#include "counters.tbl"
};

static const struct column counter_columns[] = {
    COLUMN(counter, scope, "of", "", "kept for each feed or for each consumer"),
    COLUMN(counter, name, "counter", "", "its column and JSON key in feeds or consumers"),
    COLUMN(counter, unit, "unit", "", "of the JSON value; text shows it in human units, --watch per second"),
    COLUMN(counter, help, "help", "", "what it counts"),
};
const struct table table_counters = {
    .name = "counters",
    .none = "no counters",
    .shown = "all",
    COLUMNS(counter_columns),
    .row_size = sizeof(struct counter),
    .rows = counters,
    .count = sizeof(counters) / sizeof(counters[0]),
};
