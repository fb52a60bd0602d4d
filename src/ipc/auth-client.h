// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The asker's side of qvd-authd: a client that asks and calls back, and a spawner that keeps authd
 * running. Both may live in one process, or the spawner in a root process that passes the asker's
 * end of each new channel to its sandboxed child.
 *
 * Knows nothing of passwords' schemes, plugins or the database. */

#include "ev/ev.h"
#include "ipc/auth-msg.h"

struct auth_client;

/* What came back. Only the member of the question's kind is meaningful, and only when status is
 * AUTH_OK; its strings live until the callback returns. */
struct auth_answer {
    enum auth_status status;
    struct auth_user user;     /* of verify_user, verify_token */
    struct auth_token token;   /* of make_token */
    struct auth_admin admin;   /* of verify_admin */
    struct auth_hashed hashed; /* of hash */
    struct auth_asked asked;   /* of ask */
};
/* Called exactly once for each question that was taken and not cancelled, never inside the call
 * that asked. AUTH_UNAVAILABLE: authd is not there, died, or did not answer in time. */
typedef void auth_answer_fn(void *arg, const struct auth_answer *answer);

/* Without a channel at first: questions are answered AUTH_UNAVAILABLE. 0 or -ENOMEM. */
must_check int auth_client_new(struct ev_loop *loop, struct auth_client **ret_client);
/* How long later questions wait for their answer; 15 s at first. */
void auth_client_set_limit(struct auth_client *c, int64_t ms);
/* NULL-safe, always NULL; open questions get no callback. */
struct auth_client *auth_client_free(struct auth_client *c);
/* A (new) channel to authd; takes fd over, also on failure. What was asked on the former one and
 * has no answer yet gets AUTH_UNAVAILABLE. 0 or -errno. */
must_check int auth_client_attach(struct auth_client *c, int fd);
/* The log's present target, to qvd-authd if it is there. */
void auth_client_log(struct auth_client *c);
bool auth_client_attached(const struct auth_client *c);

/* The questions. The request's id is ours (set by the call), its strings are copied. Returns
 * a number for auth_client_cancel(), or 0: out of memory, or a text of the request is longer than
 * its message allows (fn will not be called). More than 1000 open: answered AUTH_BUSY. */
must_check uint64_t auth_client_verify_user(struct auth_client *c, struct auth_verify_user q,
                                            auth_answer_fn *fn, void *arg);
must_check uint64_t auth_client_verify_token(struct auth_client *c, struct auth_verify_token q,
                                             auth_answer_fn *fn, void *arg);
must_check uint64_t auth_client_make_token(struct auth_client *c, struct auth_make_token q,
                                           auth_answer_fn *fn, void *arg);
must_check uint64_t auth_client_verify_admin(struct auth_client *c, struct auth_verify_admin q,
                                             auth_answer_fn *fn, void *arg);
must_check uint64_t auth_client_hash(struct auth_client *c, struct auth_hash q, auth_answer_fn *fn,
                                     void *arg);
must_check uint64_t auth_client_ask(struct auth_client *c, struct auth_ask q, auth_answer_fn *fn,
                                    void *arg);
/* fn will not be called; unknown numbers are ignored. */
void auth_client_cancel(struct auth_client *c, uint64_t id);

/* Keeps one qvd-authd running: it is started (as root: it takes its own user itself) with its end
 * of a channel as descriptor 3, and started again when it ends, after 0.1 s, 0.2 s ... 10 s. */
struct auth_spawner;

/* fd >= 0: a new authd runs, fd is the asker's end (yours to close, or to auth_client_attach()).
 * fd < 0: it ended or could not be started; text tells how, and when it is tried again (log it).
 */
typedef void auth_spawned_fn(void *arg, int fd, const char *text);

/* conf_file: given to authd as --config; NULL: its default. Starts the first at the next turn.
 * 0 or -ENOMEM. */
must_check int auth_spawner_new(struct ev_loop *loop, const char *conf_file, auth_spawned_fn *fn,
                                void *arg, struct auth_spawner **ret_spawner);
/* Ends authd (TERM; it also ends by itself when its channel closes). NULL-safe, always NULL. */
struct auth_spawner *auth_spawner_free(struct auth_spawner *s);
/* Ends the present authd and starts a new one at once, which reads the settings anew. */
void auth_spawner_restart(struct auth_spawner *s);
/* From now on none is started; the present one lives on. */
void auth_spawner_start_no_more(struct auth_spawner *s);
