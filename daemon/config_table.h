/* SPDX-License-Identifier: MIT */
/* The configuration's own tables, one a kind of map. config.c reads by them, config_dump.c writes by them. */
#ifndef PFEED_CONFIG_TABLE_H
#define PFEED_CONFIG_TABLE_H

#include "setting.h"

#define CONFIG_VERSION 1

struct config_top {
    int64_t version;
};

extern const struct setting config_top_table[];     /* the main file; into struct config_top */
extern const struct setting config_drop_in_table[]; /* a file of feeds.d; into struct config_top */
extern const struct setting config_daemon_table[];  /* into struct config_daemon */
extern const struct setting config_feed_table[];    /* into struct config_feed */
extern const struct setting config_source_table[];  /* into struct config_feed; beside the kind's own */
extern const struct setting config_shuffle_table[]; /* into struct config_feed */
extern const struct setting config_split_table[];   /* into struct config_split; `parts` is a map of the user's own names */
extern const struct setting config_field_table[];   /* into struct config_field */
extern const struct setting config_cache_table[];   /* into struct config_cache */
extern const struct setting config_decoded_table[]; /* into struct config_cache: `decoded` of it */
extern const struct setting config_access_table[];  /* into struct config_access */

#endif
