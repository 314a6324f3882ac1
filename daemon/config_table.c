/* SPDX-License-Identifier: MIT */
/* Every key of the configuration that is not a plug-in's, one row each. Read by config.c, config_dump.c and --help. */
#include "ahead.h"
#include "config.h"
#include "config_table.h"

#define DAEMON(member) offsetof(struct config_daemon, member)
#define FEED(member)   offsetof(struct config_feed, member)
#define FIELD(member)  offsetof(struct config_field, member)
#define ACCESS(member) offsetof(struct config_access, member)
#define CACHE(member)  offsetof(struct config_cache, member)
#define SPLIT(member)  offsetof(struct config_split, member)
#define ROWS_MAX       1048576
#define ELEMENTS_MAX   2147483647 /* a dimension of a row */
#define HOUR_MS        3600000
#define MEMORY_MIN     (1 << 20)
#define MEMORY_MAX     1125899906842624.0 /* 1024 TiB */

const struct setting config_top_table[] = {
    { "version", SETTING_INT, offsetof(struct config_top, version), NULL, .help = "the version of this format: 1" },
    { "daemon", SETTING_SECTION, 0, "", .help = "the process: workers, memory" },
    { "feeds", SETTING_SECTION, 0, "", .help = "a map from each feed's name to its recipe; more may stand in feeds.d/*.yaml" },
    SETTINGS_END,
};

const struct setting config_drop_in_table[] = {
    { "version", SETTING_INT, offsetof(struct config_top, version), "1", .help = "the version of this format: 1" },
    { "feeds", SETTING_SECTION, 0, NULL, .help = "a map from each feed's name to its recipe" },
    SETTINGS_END,
};

const struct setting config_daemon_table[] = {
    { "workers", SETTING_INT, DAEMON(workers), "auto", 1, 1024, .choices = "auto",
      .help = "worker threads; auto: one per core that affinity and the cgroups' quotas allow. Beside them are spare ones, one "
              "and an eighth of them, for other "
              "feeds when all are stuck in reads",
      .restart = true },
    { "memory", SETTING_SIZE, DAEMON(memory), "auto", MEMORY_MIN, MEMORY_MAX, .choices = "auto",
      .help = "budget for all arenas, caches and scratch; auto: the smallest of a quarter of the cgroup's limit, 8GiB and, "
              "where shm is posix, what /dev/shm has free",
      .restart = true },
    { "shm", SETTING_CHOICE, DAEMON(shm), "auto", .choices = "auto|memfd|posix",
      .help = "kind of shared memory; auto: memfd where the kernel can seal it", .restart = true },
    { "read_ahead", SETTING_INT, DAEMON(read_ahead), "auto", 0, AHEAD_MOST, .choices = "auto",
      .help =
          "samples that are read before a worker comes to them, from files; auto: as many as hide the time that reads wait, none "
          "where they do not, and at most 64 and a sixteenth of the memory; 0: none",
      .restart = true },
    { "max_consumers", SETTING_INT, DAEMON(max_consumers), "256", 1, 65536, .help = "attached processes at a time" },
    { "user_consumers", SETTING_INT, DAEMON(user_consumers), "auto", 1, 65536, .choices = "auto",
      .help = "of them those of one user, who is neither root nor the daemon's own; auto: half of max_consumers" },
    { "user_jobs", SETTING_INT, DAEMON(user_jobs), "64", 1, 65536, .help = "jobs that such a user may have at a time" },
    { "user_held", SETTING_INT, DAEMON(user_held), "512", 1, 1048576,
      .help = "batches that such a user's consumers may hold at a time, all together: the sum of their max_held" },
    { "patience", SETTING_DURATION, DAEMON(patience_ms), "10s", 10, HOUR_MS,
      .help = "how long a connection may owe its first question, or leave an answer unread" },
    { "state", SETTING_STRING, DAEMON(state), "auto",
      .help = "folder that keeps what sources list, or none; auto: $STATE_DIRECTORY, with --user $XDG_STATE_HOME/pfeed or "
              "~/.local/state/pfeed, else /var/lib/pfeed",
      .restart = true },
    SETTINGS_END,
};

const struct setting config_feed_table[] = {
    { "source", SETTING_SECTION, FEED(source_params), NULL, .help = "where the samples are: 'type' and that kind's own keys" },
    { "subset", SETTING_PATH, FEED(subset), "",
      .help = "a file of ids, one a line, each once: only these samples take part, and their order is the file's",
      .print = SETTING_BESIDE },
    { "shuffle", SETTING_SECTION, 0, "", .help = "order of the samples: global, none, block, or a map of mode, seed and more" },
    { "batch", SETTING_INT, FEED(batch), NULL, 1, ROWS_MAX,
      .help = "rows of a slot, and of one global step unless a job asks otherwise", .print = SETTING_BESIDE },
    { "tail", SETTING_CHOICE, FEED(tail), "drop", .choices = "drop|pad|partial",
      .help = "the rows left at an epoch's end: left out, filled up with others, or a shorter batch (world 1 only)" },
    { "deliver", SETTING_STRING, FEED(deliver), "split",
      .help = "split: the ranks of a job divide each step; each: every rank gets all of it; first: a step goes to whoever asks "
              "first" },
    { "gang", SETTING_INT, FEED(gang), "none", 1, 1024, .choices = "none",
      .help = "hold the first step until this many ranks are attached", .print = SETTING_BESIDE },
    { "gang_wait", SETTING_DURATION, FEED(gang_wait_ms), "10m", 0, 24 * HOUR_MS,
      .help = "how long those who are there wait for the rest of the gang; then they start without them. 0: for ever",
      .print = SETTING_BESIDE },
    { "epochs", SETTING_INT, FEED(epochs), "forever", 1, 1e9, .choices = "forever", .help = "end the feed after this many",
      .print = SETTING_BESIDE },
    { "slots", SETTING_INT, FEED(slots), "auto", 2, PF_SLOTS_MAX, .choices = "auto",
      .help = "batches kept ready or in work; auto: as measured times need, at most 64. See TUNING in pfeed.yaml(5)",
      .print = SETTING_BESIDE },
    { "max_held", SETTING_INT, FEED(max_held), "2", 1, 16, .help = "batches that a consumer may hold at a time",
      .print = SETTING_BESIDE },
    { "weight", SETTING_INT, FEED(weight), "1", 1, 1000,
      .help = "its share of the workers' time beside other feeds that want rows: 2 gets twice as much as 1",
      .print = SETTING_BESIDE },
    { "slow", SETTING_CHOICE, FEED(slow), "park", .choices = "park|block|skip",
      .help = "what a job that stalls the others does: it is parked and goes on from its own step later, they wait for it, or it "
              "misses batches (world 1, 'deliver: each' or 'first')",
      .print = SETTING_BESIDE },
    { "park_after", SETTING_DURATION, FEED(park_after_ms), "30s", 0, HOUR_MS,
      .help = "how long a job may stall the others before it is parked, if that is more than ten of its steps",
      .print = SETTING_BESIDE },
    { "on_error", SETTING_CHOICE, FEED(on_error), "replace", .choices = "replace|mask|fail",
      .help = "a sample that cannot be used: take another one, mark the row, or end the feed", .print = SETTING_RECIPE },
    { "max_errors", SETTING_FLOAT, FEED(max_errors), "0.05", 0, 1,
      .help = "share of the rows that may be bad before the feed fails, counted over 1,000 rows and three samples; 0: the first",
      .print = SETTING_BESIDE },
    { "read_retry", SETTING_DURATION, FEED(read_retry_ms), "30s", 0, HOUR_MS,
      .help = "how long transient read errors are tried again", .print = SETTING_BESIDE },
    { "warm", SETTING_BOOL, FEED(warm), "no", .help = "fill the slots once before the first consumer comes",
      .print = SETTING_BESIDE },
    { "fields", SETTING_SECTION, 0, NULL, .help = "a map from each field's name to how its rows are made" },
    { "split", SETTING_SECTION, 0, "", .help = "the part of the samples that this feed has; not given: all" },
    { "access", SETTING_SECTION, 0, "", .help = "who may attach, beside root: users and groups; not given: group pfeed" },
    { "cache", SETTING_SECTION, 0, "",
      .help = "memory, or a file, that keeps samples for later epochs; feeds over one source share it" },
    SETTINGS_END,
};

const struct setting config_source_table[] = {
    { "type", SETTING_STRING, FEED(source_type), NULL, .help = "kind of source" },
    { "classes_of", SETTING_STRING, FEED(classes_of), "", .help = "number the classes as this other feed does" },
    SETTINGS_END,
};

const struct setting config_shuffle_table[] = {
    { "mode", SETTING_CHOICE, FEED(shuffle), "global", .choices = "global|none|block|weighted",
      .help = "global: every epoch a new order of all samples; none: as the source lists them; block: nearly as random, by reads "
              "that lie together; weighted: drawn by weight, with replacement" },
    { "seed", SETTING_INT, FEED(seed), "0", 0, SETTING_NO_MAX, .help = "of the order and of all random transforms",
      .print = SETTING_BESIDE },
    { "block", SETTING_INT, FEED(block), "auto", 1, 1e9, .choices = "auto",
      .help = "samples of a block, which are read together (mode block); auto: 256" },
    { "window", SETTING_INT, FEED(window), "auto", 1, 65536, .choices = "auto",
      .help = "blocks, far from each other, whose samples are shuffled together (mode block); auto: 64" },
    { "weights", SETTING_PATH, FEED(weights), "",
      .help = "a file of numbers, one a line, as many as the source has samples (mode weighted)", .print = SETTING_BESIDE },
    { "weights_from", SETTING_STRING, FEED(weights_from), "",
      .help = "or the part of the samples that has them, such as a column of a list (mode weighted)", .print = SETTING_BESIDE },
    { "length", SETTING_INT, FEED(length), "auto", 1, 4294967295.0, .choices = "auto",
      .help = "draws of an epoch (mode weighted); auto: as many as there are samples" },
    { "repeat", SETTING_INT, FEED(repeat), "1", 1, 1024,
      .help = "each sample so often in turn, every time with other random transforms (repeated augmentation)" },
    SETTINGS_END,
};

const struct setting config_split_table[] = {
    { "part", SETTING_STRING, SPLIT(part), NULL, .help = "which of the parts this feed has" },
    { "parts", SETTING_SECTION, 0, NULL, .help = "a map from each part's name to its share; all shares together are at most 1" },
    { "key", SETTING_INT, SPLIT(key), "0", 0, SETTING_NO_MAX,
      .help = "of the hash of a sample's path, by which it is in a part; feeds with the same parts and key split alike" },
    { "group", SETTING_STRING, SPLIT(group), "",
      .help =
          "an extended regular expression on the path: samples where its first (...), or else all of it, matches the same text "
          "stay together" },
    { "stratify", SETTING_CHOICE, SPLIT(stratify), "none", .choices = "none|class",
      .help = "class: each class is split for itself, and a warning says which ones the part has not" },
    SETTINGS_END,
};

const struct setting config_field_table[] = {
    { "from", SETTING_STRING, FIELD(from), "", .help = "part of the sample; default: the field's own name" },
    { "key", SETTING_STRING, FIELD(key), "",
      .help = "of a part that is JSON, the value in it: label, box.0, or a pointer as /box/0 (source type tar)" },
    { "decode", SETTING_SECTION, 0, "", .help = "kind of decoder, or a map from it to its settings; default: raw" },
    { "transforms", SETTING_SECTION, 0, "",
      .help = "a list: names, or maps from a name to its settings; in this order. Presets stand for several; 'dtype: WORD' and "
              "'layout: WORD' may stand in it, too" },
    { "geometry", SETTING_STRING, FIELD(geometry), "",
      .help = "another field, whose crops, resizes and flips this one has, with the same draws: of a mask, its picture",
      .print = SETTING_BESIDE },
    { "dtype", SETTING_STRING, FIELD(dtype), "auto", .help = "element type of the rows; auto: as the part has it" },
    { "layout", SETTING_CHOICE, FIELD(field.layout), "chw", .choices = "chw|hwc", .help = "of pictures: planes or pixels" },
    { "shape", SETTING_INTS, FIELD(shape), "[]", 1, ELEMENTS_MAX, .help = "of one row, for sources that make their own" },
    { "length", SETTING_INT, FIELD(want.length), "auto", 1, ELEMENTS_MAX, .choices = "auto",
      .help = "tokens in a row (source type tokens)" },
    { "stride", SETTING_INT, FIELD(want.stride), "auto", 1, ELEMENTS_MAX, .choices = "auto",
      .help = "tokens from one row's start to the next; auto: length" },
    SETTINGS_END,
};

const struct setting config_cache_table[] = {
    { "encoded", SETTING_SIZE, CACHE(encoded), "none", MEMORY_MIN, MEMORY_MAX, .choices = "none",
      .help = "memory for samples as they are in their files", .print = SETTING_BESIDE },
    { "decoded", SETTING_SECTION, 0, "", .help = "memory for pictures, decoded and reduced: a size, or a map of size and side" },
    { "disk", SETTING_PATH, CACHE(disk), "", .help = "a file that keeps such reduced pictures, also from one start to the next",
      .print = SETTING_BESIDE },
    { "size", SETTING_SIZE, CACHE(disk_size), "none", MEMORY_MIN, MEMORY_MAX, .choices = "none",
      .help = "how large that file may become", .print = SETTING_BESIDE },
    { "check", SETTING_DURATION, CACHE(check_ms), "1m", 0, 24 * HOUR_MS,
      .help = "how long a sample is used without a look whether its file has changed (size or time); 0: a look each time",
      .print = SETTING_BESIDE },
    SETTINGS_END,
};

const struct setting config_decoded_table[] = {
    { "size", SETTING_SIZE, CACHE(decoded), "none", MEMORY_MIN, MEMORY_MAX, .choices = "none", .help = "memory for them",
      .print = SETTING_BESIDE },
    { "side", SETTING_INT, CACHE(side), "256", 16, 4096,
      .help = "their shorter side in pixels; every picture of the feed is first reduced to it, whether it is kept or not" },
    SETTINGS_END,
};

const struct setting config_access_table[] = {
    { "users", SETTING_STRINGS, ACCESS(user_words), "[]", .help = "names or numbers" },
    { "groups", SETTING_STRINGS, ACCESS(group_words), "[]", .help = "names or numbers" },
    SETTINGS_END,
};
