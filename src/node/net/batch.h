// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Changes that a command makes from its stdin (nft -f -, ip -batch -): one command at a time, what
 * was asked meanwhile goes with the next. */

#include "base/error.h"
#include "ev/ev.h"

struct batch;

typedef void batch_fn(void *arg, int result, const struct qvd_error *err);

/* Runs "program option [more] -"; the texts must live as long. 0 or -ENOMEM. */
must_check int batch_new(struct ev_loop *loop, const char *program, const char *option,
                         const char *more, struct batch **ret);
/* Adds text (whole lines); done (may be NULL) is called once, never inside. 0 or -ENOMEM. */
must_check int batch_add(struct batch *b, const char *text, size_t len, batch_fn *done, void *arg);
/* done of this arg will not be called. */
void batch_forget(struct batch *b, const void *arg);
struct batch *batch_free(struct batch *b);
