// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The orders of node and broker: which may come, in which order they are carried out, and who gets
 * which answer (docs/protocol.md, wire/vma.h).
 *
 * One order about the desktop is carried out at a time. A later one (higher serial) overtakes it:
 * the former is answered 409. The same pair (serial, function) again waits for, or gets, the same
 * result. */

#include "conf/conf.h"
#include "ev/ev.h"
#include "vma/msg.h"
#include "vma/session.h"

struct orders;

struct orders_ops {
    /* The answer to one order. */
    void (*result)(void *owner, const struct vma_result *result);
};

/* Takes over what an earlier monitor has left: its desktop, the last serial. */
must_check int orders_new(struct ev_loop *loop, const struct conf *conf,
                          const struct orders_ops *ops, void *owner, struct orders **ret_orders);
struct orders *orders_free(struct orders *o);
/* Frees it, leaving a desktop that runs to the next monitor. NULL-safe, always NULL. */
struct orders *orders_leave(struct orders *o);
struct session *orders_session(struct orders *o);

/* Takes one order; answered by ops->result, now or later, exactly once. params is taken over. */
void orders_take(struct orders *o, uint64_t id, enum wire_vma_function function, uint64_t serial,
                 struct wire_params *params);
/* The answer to that order has left for its asker. */
void orders_sent(struct orders *o, uint64_t id);
/* Nobody waits for answers any more (the listener has gone); what is under way goes on. */
void orders_forget_waiting(struct orders *o);

/* What is done with an order's serial. Pure. */
enum orders_serial { SERIAL_NEW, SERIAL_SAME, SERIAL_OLD };
enum orders_serial orders_serial(uint64_t last, uint64_t serial);
