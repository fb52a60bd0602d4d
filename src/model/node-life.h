// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The life of a node's daemon as one table: {step, event -> what is done, next}, with the time
 * limit of each step and what the node's row says meanwhile. */

#include <stdint.h>
#include <stdio.h>

#include "base/table.h"
#include "model/states.h"

enum life_step {
    LIFE_SCHEMA,   /* is the database's schema what we know? */
    LIFE_SETTINGS, /* rows of the database over node.conf */
    LIFE_FIND,     /* the node's row; waits until somebody adds it */
    LIFE_ENTER,    /* state starting */
    LIFE_NODE,     /* bridge, firewall, storage, dnsmasq */
    LIFE_ADOPT,    /* rows and guards of before */
    LIFE_RUN,
    LIFE_STOP_VMS, /* stops them, or leaves them to the next start */
    LIFE_TIDY,     /* no VM is left: the firewall goes */
    LIFE_LEAVE,    /* state stopped */
    LIFE_STEP_MAX,
    LIFE_STEP_INVALID = -1
};
QVD_STRING_TABLE_DECLARE(life_step, enum life_step);

enum life_event {
    LIFE_EV_DONE,
    LIFE_EV_AGAIN,   /* the database did not answer, or it is time to look again */
    LIFE_EV_REFUSED, /* the node cannot work */
    LIFE_EV_STOP,    /* a signal or an order */
    LIFE_EV_LIMIT,   /* the step's time is over */
    LIFE_EV_MAX
};
const char *life_event_to_string(enum life_event e);

enum life_action {
    LIFE_DO_ENTER,    /* begins the next step (anew, where it is the same) */
    LIFE_DO_RELOAD,   /* reads the database's settings again; stays */
    LIFE_DO_KILL_VMS, /* ends the VMs that are left by force; stays */
    LIFE_DO_END,      /* the program ends */
    LIFE_DO_MAX
};
const char *life_action_to_string(enum life_action a);

struct life_row {
    enum life_step in;
    enum life_event event;
    enum life_action action;
    enum life_step next;
};
/* NULL: nothing to do. */
const struct life_row *life_row(enum life_step in, enum life_event event);
const struct life_row *life_rows(size_t *ret_n);

/* What the node's row says in a step; HOST_STATE_INVALID: it has none yet. */
enum host_state life_shown(enum life_step s);
/* The setting (a duration) that limits a step; NULL: it may take for ever. */
const char *life_limit_key(enum life_step s);

/* Prints the rows as docs/vm-states.md shows them. */
void life_print(FILE *out);
