// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Removes trees that are not needed any more: one at a time, at the lowest priority, in a child. */

#include "ev/ev.h"
#include "node/node.h"

struct purge;

typedef void purge_fn(void *arg);

must_check int purge_new(struct ev_loop *loop, node_log_fn *log, void *log_arg, struct purge **ret);
/* Queues a tree (once); done (may be NULL) when it is away, or could not be removed. urgent: before
 * others. 0 or -ENOMEM. */
must_check int purge_add(struct purge *p, const char *path, bool urgent, purge_fn *done, void *arg);
/* Queues what is called deleteme-*, and trials that nobody ended, in the folder; of
 * deleteme-failed-<vm>-* the newest of each VM stays for keep_s seconds. */
void purge_scan(struct purge *p, const char *dir, int64_t keep_s);
struct purge *purge_free(struct purge *p);
