/* SPDX-License-Identifier: MIT */
/* One feed of the configuration and its fields: from their YAML maps to struct config_feed. config.c calls it, on its thread. */
#ifndef PFEED_CONFIG_FEED_H
#define PFEED_CONFIG_FEED_H

#include "reader.h"

/* feed has its name and mark; the rest is zero. Errors are reader's. What was read is released by config_feed_release, also
 * after errors. */
void config_feed_read(struct reader *reader, struct config_feed *feed, yaml_node_t *map);
void config_feed_release(struct config_feed *feed);

/* config_order.c; a node of NULL: not given */
void config_shuffle_read(struct reader *reader, struct config_feed *feed, yaml_node_t *node);
void config_split_read(struct reader *reader, struct config_feed *feed, yaml_node_t *node);
void config_split_release(struct config_split *split);

/* config_cache.c; likewise */
void config_cache_read(struct reader *reader, struct config_feed *feed, yaml_node_t *node);
void config_cache_release(struct config_cache *cache);

/* config_transforms.c. finish: the field's keys are read; check: it has no error so far. */
void config_transforms_read(struct reader *reader, struct config_field *field, yaml_node_t *list);
void config_transforms_finish(struct reader *reader, struct config_field *field);
void config_transforms_check(struct reader *reader, const struct config_field *field);
/* Of all fields, once they are read: `geometry`. */
void config_transforms_share(struct reader *reader, struct config_feed *feed);
void config_transforms_release(struct config_field *field);

/* config_field.c */
void config_fields_read(struct reader *reader, struct config_feed *feed, yaml_node_t *map);
void config_field_release(struct config_field *field);

#endif
