// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The life of a VM as one table: {state, event, guard -> actions, next}, with the time limit of
 * each state. Knows what may follow what; not how it is done, nor how time passes. */

#include <stdbool.h>
#include <stdio.h>

#include "base/table.h"

enum vm_state {
    VM_STOPPED,
    VM_STARTING_1, /* ordered: in the line of starts; then image, folders, network, launch */
    VM_STARTING_2, /* its first process runs; boot, network and VMA are checked */
    VM_RUNNING,
    VM_STOPPING_1, /* the VMA was asked to power off */
    VM_STOPPING_2, /* the VMA has answered: waits for the end */
    VM_ZOMBIE_1,   /* TERM was sent */
    VM_ZOMBIE_2,   /* KILL was sent */
    VM_STATE_MAX,
    VM_STATE_INVALID = -1
};
QVD_STRING_TABLE_DECLARE(vm_state, enum vm_state);
/* The word that clients know: stopped, starting, running, stopping, zombie. NULL for the unknown.
 */
const char *vm_state_to_wire(enum vm_state s);
/* Does a state answer to a word of a filter: its own name, or the wire's ("starting" both)? */
bool vm_state_matches(enum vm_state s, const char *word);

enum vm_event {
    VM_EV_START,   /* ordered, by the database or by a guest that rebooted */
    VM_EV_STOP,    /* ordered, or hkd ends its VMs */
    VM_EV_ABORT,   /* the row is no longer this node's, or hkd cannot wait: end it without asking */
    VM_EV_TURN,    /* a place in the line of starts is free */
    VM_EV_FAILED,  /* the launch was refused: nothing was begun */
    VM_EV_STARTED, /* the hypervisor runs the guest's first process */
    VM_EV_READY,   /* the VMA says that it listens: an event, not yet believed */
    VM_EV_ALIVE,   /* the VMA has answered with the VM's key */
    VM_EV_UNREACHABLE, /* it has not */
    VM_EV_DEAD,        /* it has not for too long */
    VM_EV_ANSWERED,    /* the VMA has taken the order to power off */
    VM_EV_REFUSED,     /* it has not */
    VM_EV_EXITED,      /* the run has ended, by whomever, and its traces are removed */
    VM_EV_FOUND,       /* hkd came back and its guard lives */
    VM_EV_GONE,        /* hkd came back and there is no guard */
    VM_EV_LIMIT,       /* the state's time is over */
    VM_EV_MAX
};
const char *vm_event_to_string(enum vm_event e);

/* What must hold for a row to be taken; the owner tells by a set of these bits. */
enum vm_guard {
    VM_IF_HAS_VMA = 1,  /* its hypervisor runs a VMA */
    VM_IF_LAUNCHED = 2, /* there is something to end on the node */
    VM_IF_READY = 4,    /* VM_EV_READY has come */
    VM_IF_REBOOTS = 8   /* the guest has asked to boot anew, and not too often in a row */
};
/* So many reboots in a row before the VMA has answered are a failed start. */
#define VM_EARLY_REBOOTS_MAX 3

/* The name of one bit; "" of none. */
const char *vm_guard_to_string(unsigned guard);

/* What the owner then does, all bits of the row, in the order of their values. */
enum vm_action {
    VM_DO_BLOCK_BOOT = 1,    /* block: it did not boot */
    VM_DO_BLOCK_NETWORK = 2, /* block: its VMA said that it listens, but cannot be reached */
    VM_DO_BLOCK_VMA = 4,     /* block: its VMA never said that it listens */
    VM_DO_QUEUE = 8,         /* into the line of starts */
    VM_DO_LAUNCH = 16,       /* image, folders, network, guard, hypervisor */
    VM_DO_PING = 32,         /* ask the VMA now, with the VM's key */
    VM_DO_PING_LATER = 64,   /* after a moment */
    VM_DO_WATCH = 128,       /* ask the VMA regularly from now on */
    VM_DO_POWEROFF = 256,    /* ask the VMA to power off */
    VM_DO_TERM = 512,
    VM_DO_KILL = 1024,
    VM_DO_FINISH = 2048 /* the run is over: the row is given back */
};
#define VM_DO_BLOCK (VM_DO_BLOCK_BOOT | VM_DO_BLOCK_NETWORK | VM_DO_BLOCK_VMA)
/* The name of one bit. */
const char *vm_action_to_string(enum vm_action a);

struct vm_transition {
    enum vm_state in;
    enum vm_event event;
    unsigned guard; /* bits that must all hold; 0: always */
    unsigned actions;
    enum vm_state next;
};

/* The first row for this state and event whose guard holds; NULL: nothing to do. */
const struct vm_transition *vm_transition(enum vm_state in, enum vm_event event, unsigned holds);
/* All rows, for walkers. */
const struct vm_transition *vm_transitions(size_t *ret_n);

/* The setting (a duration) that limits a state; NULL: a VM may stay in it for ever. */
const char *vm_state_limit_key(enum vm_state s);

/* Prints states, limits and rows as docs/vm-states.md shows them. */
void vm_state_print(FILE *out);
