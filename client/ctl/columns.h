/* SPDX-License-Identifier: MIT */
/* How the files with tables (rows*.c) write a column: a member of a row's struct, with its header, unit and help. */
#ifndef PFEEDCTL_COLUMNS_H
#define PFEEDCTL_COLUMNS_H

#include "table.h"

#define KIND(type, member)                                                                                                       \
    _Generic(((struct type *)0)->member, char * : COLUMN_TEXT, uint32_t : COLUMN_U32, uint64_t : COLUMN_U64, int64_t : COLUMN_I64)
#define BASE(type, member, header_, unit_, help_)                                                                                \
    .key = #member, .header = header_, .unit = unit_, .help = help_, .offset = offsetof(struct type, member),                    \
    .size = sizeof(((struct type *)0)->member)
#define COLUMN(type, member, header, unit, help)                                                                                 \
    {                                                                                                                            \
        BASE(type, member, header, unit, help), .kind = KIND(type, member)                                                       \
    }
#define COLUMN_SUM(type, member, header, unit, help)                                                                             \
    {                                                                                                                            \
        BASE(type, member, header, unit, help), .kind = KIND(type, member), .adds_up = true                                      \
    }
#define COLUMN_PAINT(type, member, header, unit, help, paint_)                                                                   \
    {                                                                                                                            \
        BASE(type, member, header, unit, help), .kind = KIND(type, member), .paint = paint_                                      \
    }
#define COLUMN_MADE(type, member, header, help, text_, json_, paint_)                                                            \
    {                                                                                                                            \
        BASE(type, member, header, "", help), .kind = COLUMN_OTHER, .text = text_, .json = json_, .paint = paint_                \
    }
#define COLUMNS(array) .columns = (array), .n_columns = sizeof(array) / sizeof((array)[0])

#endif
