/* SPDX-License-Identifier: MIT */
/* What a service manager is told, where there is one (sd_notify); nothing otherwise. Main thread. */
#ifndef PFEED_NOTIFY_H
#define PFEED_NOTIFY_H

void notify_ready(const char *status);
void notify_status(const char *status);
void notify_reloading(void); /* until the next notify_ready */
void notify_stopping(void);

#endif
