// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A node, a row and an agent that do what the test says, in place of node/, store/ and qvd-rpc. */

#include "hkd/hkd-internal.h"

/* What the database has of the VMs (ids 1 to FAKE_VMS). */
#define FAKE_VMS 16
struct fake_row {
    enum vm_state state;
    enum vm_cmd order;
    bool mine; /* host_id is the node's */
    bool no_image;
    char reason[320];
    unsigned told; /* states told */
    struct store_vm_due due;
    enum store_vm_wish wish; /* what a look finds */
};
/* What the node has of them. */
struct fake_run {
    struct node_vm *run; /* NULL: does not run */
    const struct node_vm_fns *fns;
    void *arg;
    unsigned launched, termed, killed, settled;
    bool deaf;        /* TERM does not help */
    bool found;       /* adoption finds it */
    const char *fail; /* the launch is refused */
};
struct fakes {
    struct ev_loop *loop;
    struct fake_row rows[FAKE_VMS + 1];
    struct fake_run runs[FAKE_VMS + 1];
    bool db_away;
    bool answer_lost; /* of the next look */
    bool stops;       /* the node stops its VMs */
    uint32_t rpc_status;
    unsigned pings, poweroffs, expires, looks, sweeps;
    char expire_body[200];
    uint64_t last_serial;
    unsigned notified;
};
extern struct fakes fakes;

/* The launch or adoption that fakes saw last for that VM reports. */
void fake_started(int64_t id);
void fake_ready(int64_t id);
void fake_gone(int64_t id, enum node_vm_end end, const char *text);
