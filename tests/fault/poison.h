/* SPDX-License-Identifier: MIT */
/* How test_poison tells poison.c what to do. */
#ifndef POISON_H
#define POISON_H

#define POISON_ENV   "PFEED_POISON"
#define POISON_ABORT "abort"
#define POISON_SEGV  "segv" /* anything else: a file to make before hanging */

#endif
