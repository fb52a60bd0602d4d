// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The way of one request, from its credentials to its end, as one table: which step follows which
 * event, how long each may take, what the client is told meanwhile. Knows nothing of how a step is
 * done. docs/session-steps.md shows it. */

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/table.h"

enum session_step {
    SESSION_NEW,
    SESSION_AUTH,     /* who is it: qvd-authd is asked, unless the connection has told before */
    SESSION_HOOK,     /* his plugins are asked, if they want to be */
    SESSION_TOKEN,    /* qvd-authd makes a token */
    SESSION_HOST,     /* may this node serve him now */
    SESSION_LIST,     /* his VMs */
    SESSION_STOP,     /* the order to stop a VM */
    SESSION_STOPPING, /* until it has stopped */
    SESSION_CLAIM,    /* one transaction: allowed, blocked, taken over, node, order to start */
    SESSION_UNCLAIM,  /* nobody wants the claim any more: until its outcome is known */
    SESSION_TAKEOVER, /* until the former session has ended */
    SESSION_WAIT,     /* until the VM runs */
    SESSION_PREPARE,  /* x_start: until the desktop listens */
    SESSION_ASK,      /* is the client still there: a dial that is not used does harm */
    SESSION_DIAL,     /* the desktop's port */
    SESSION_SWITCH,   /* connecting becomes connected */
    SESSION_CONNECTED,
    SESSION_CUT,   /* until the worker has ended the relay and told its counters */
    SESSION_RESET, /* the VMA is told of a dial that was not used */
    SESSION_CLOSE, /* one statement */
    SESSION_LATER, /* the database was away: the close waits */
    SESSION_GONE,
    SESSION_STEP_MAX,
    SESSION_STEP_INVALID = -1
};
QVD_STRING_TABLE_DECLARE(session_step, enum session_step);

enum session_event {
    SESSION_EV_NONE,     /* nothing yet */
    SESSION_EV_DONE,     /* the step is done, the usual next */
    SESSION_EV_ANSWERED, /* done, and with it the request */
    SESSION_EV_REFUSED,  /* the answer tells why */
    SESSION_EV_LIMIT,    /* the step's time is over */
    SESSION_EV_ABORT,    /* the client has gone, or somebody ordered the end */
    SESSION_EV_OPEN,     /* needs no credentials */
    SESSION_EV_TOKEN,    /* the kinds of request part */
    SESSION_EV_HOOK,
    SESSION_EV_LIST,
    SESSION_EV_STOP,
    SESSION_EV_HOLD,   /* another session has the VM and must end first */
    SESSION_EV_ENDED,  /* the relay has ended */
    SESSION_EV_UNUSED, /* it has, and carried nothing */
    SESSION_EV_MAX
};
QVD_STRING_TABLE_DECLARE(session_event, enum session_event);

/* Waiting steps have a limit and a row for SESSION_EV_ABORT; CONNECTED stands as long as it likes;
 * NEW and GONE are passed through. */
enum session_step_kind { SESSION_PASSING, SESSION_WAITING, SESSION_STANDING };

struct session_step_row {
    enum session_step_kind kind;
    uint32_t limit_ms;    /* of a waiting step: the setting's default */
    const char *setting;  /* that tells the limit; NULL: limit_ms holds */
    uint32_t times;       /* so many times it (1 or 2) */
    const char *progress; /* the 102's text when it begins; NULL: none */
    const char *why;      /* what the client reads when its limit is over; NULL: it is not told */
};
extern const struct session_step_row session_steps[SESSION_STEP_MAX];

/* The step that follows; the same one: stays as it is; SESSION_STEP_INVALID: no row. */
enum session_step session_next(enum session_step step, enum session_event event);

/* The table as docs/session-steps.md has it. */
void session_print_table(FILE *out);
