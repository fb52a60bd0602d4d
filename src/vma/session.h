// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The VM's one desktop: does what the table of nx.h says with processes, signals, hooks and timers,
 * and tells its owner each change. */

#include "conf/conf.h"
#include "ev/ev.h"
#include "vma/nx.h"
#include "wire/vma.h"

struct session;

struct session_ops {
    /* The state has changed. */
    void (*changed)(void *owner);
    /* A start could not be carried out; err->code -EPERM: it would fail again. Comes before
     * changed(). */
    void (*failed)(void *owner, const struct qvd_error *err);
};

must_check int session_new(struct ev_loop *loop, const struct conf *conf,
                           const struct session_ops *ops, void *owner,
                           struct session **ret_session);
/* Takes over a desktop that an earlier monitor has left, whatever its end was; else ends what is
 * left of one. Once, before anything else. */
void session_adopt(struct session *s);
/* Ends what still runs. NULL-safe, always NULL. */
struct session *session_free(struct session *s);
/* Frees it, leaving a desktop that runs to the next monitor. NULL-safe, always NULL. */
struct session *session_leave(struct session *s);

enum nx_state session_state(const struct session *s);
/* What the next start is for; taken over. */
void session_set_params(struct session *s, struct wire_params *params);
/* An order goes through the table; an event that means nothing now is passed over. */
void session_event(struct session *s, enum nx_event event);
/* nxagent listens and nobody's stream is there or on its way: true invites the asker to dial. Only
 * after that can a former asker's stream be there, which takes a longer look. */
bool session_invite(struct session *s);
