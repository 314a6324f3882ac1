/* SPDX-License-Identifier: MIT */
/* Counts the system calls of the calling thread in short pieces of its work: exactly, by the kernel's tracepoint
 * raw_syscalls:sys_enter, where that is permitted; else (x86-64) by syscall user dispatch, which tells whether there was any. */
#ifndef SYSCALLS_H
#define SYSCALLS_H

#include <stdint.h>

/* How it counts, in words; NULL where neither way is open. Checked against one call that is known. */
const char *syscalls_open(void);
void syscalls_begin(void);
void syscalls_end(void);
int64_t syscalls_count(void); /* in all pieces since open; by dispatch: pieces that had any */
void syscalls_close(void);

#endif
