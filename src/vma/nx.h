// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The life of nxagent as one table: states, events, actions, limits. Pure: knows no processes; the
 * session (session.h) does what the actions say. docs/nx-states.md shows the table. */

#include <stdint.h>
#include <stdio.h>

#include "base/table.h"
#include "wire/vma.h"

enum nx_state {
    NX_STOPPED,
    NX_PREPARING,    /* hooks, home, account, before a new agent */
    NX_STARTING,     /* the process runs, its port does not listen yet */
    NX_LISTENING,    /* a fresh agent waits for its first stream; it exits when that fails */
    NX_CONNECTING,   /* the first stream is there, the display not yet */
    NX_FRESH,        /* a person sees the desktop, for a moment only: see the table */
    NX_CONNECTED,    /* a person sees the desktop */
    NX_CUTTING,      /* the stream was ended, the agent has not said so yet */
    NX_SUSPENDING,   /* the agent says that it suspends */
    NX_SETTLING,     /* suspended by itself while our HUP was under way: it may wake up again */
    NX_SUSPENDED,    /* windows live on without a display */
    NX_WAKING,       /* hooks before a resume */
    NX_RESUMING,     /* HUP sent, its port does not listen yet */
    NX_RELISTENING,  /* a resumed agent waits for a stream; it falls back to suspended */
    NX_RECONNECTING, /* the stream is there, the display not yet */
    NX_STOPPING,     /* TERM sent */
    NX_KILLING,      /* KILL sent */
    NX_STATE_MAX,
    NX_STATE_INVALID = -1
};
QVD_STRING_TABLE_DECLARE(nx_state, enum nx_state);

enum nx_event {
    NX_EV_START,     /* somebody wants to see the desktop (x_start, takeover too) */
    NX_EV_PREPARED,  /* hooks and account are done */
    NX_EV_FAILED,    /* they failed, or the agent cannot be started */
    NX_EV_LISTENS,   /* log: Waiting for connection */
    NX_EV_ACCEPTED,  /* log: Accepted connection */
    NX_EV_UP,        /* log: Session started, Session resumed */
    NX_EV_LOST,      /* log: Display failure detected */
    NX_EV_SUSPENDS,  /* log: Suspending session */
    NX_EV_SUSPENDED, /* log: Session suspended */
    NX_EV_STRAY,     /* the same, but its stream broke while our HUP was under way */
    NX_EV_RESUMES,   /* log: Resuming session */
    NX_EV_CUT,       /* order: x_suspend */
    NX_EV_RESET,     /* order: x_reset, a dial was given up unused */
    NX_EV_END,       /* order: x_stop, poweroff; or the person has logged out */
    NX_EV_GONE,      /* the process has ended */
    NX_EV_LIMIT,     /* the state's time is over */
    NX_EV_MAX
};
const char *nx_event_to_string(enum nx_event event);

/* What the session does before the next state is entered. */
enum nx_action {
    NX_DO_NOTHING,
    NX_DO_PREPARE, /* run hooks, make home and account */
    NX_DO_SPAWN,   /* sweep locks, write the options, start the agent */
    NX_DO_LOGIN,   /* the display is there for the first time: start the X session */
    NX_DO_HOOKS,   /* run the hooks before a resume */
    NX_DO_CUT,     /* end the stream: HUP, unless it has ended already */
    NX_DO_WAKE,    /* write the options, HUP */
    NX_DO_HUP,     /* back to suspended: HUP while it waits for a stream */
    NX_DO_TERM,
    NX_DO_KILL,
    NX_DO_ABORT, /* stop hooks under way */
    NX_DO_MAX
};
const char *nx_action_to_string(enum nx_action action);

/* Which setting is the limit of a state. */
enum nx_limit {
    NX_FOR_EVER,
    NX_LIMIT_PREPARING,
    NX_LIMIT_INITIATING,
    NX_LIMIT_LISTENING,
    NX_LIMIT_SUSPENDING,
    NX_LIMIT_FRESH,
    NX_LIMIT_SETTLING,
    NX_LIMIT_STOPPING,
    NX_LIMIT_MAX
};

/* 0 and action and next state; 1: nothing to do for this event in this state. */
must_check int nx_step(enum nx_state in, enum nx_event event, enum nx_action *ret_action,
                       enum nx_state *ret_next);
const char *nx_limit_to_string(enum nx_limit limit);
enum nx_limit nx_limit_of(enum nx_state state);
/* The word of x_state. */
enum wire_x_state nx_to_x_state(enum nx_state state);

/* The event that a line of the agent's log tells, or NX_EV_MAX. */
enum nx_event nx_event_of_line(const char *line);

/* The table, as the documentation shows it. */
void nx_print_table(FILE *out);
