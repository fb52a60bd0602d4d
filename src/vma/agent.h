// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The process nxagent and the X session in it: started as the user, watched, their output read line
 * by line. Knows no states. */

#include "conf/conf.h"
#include "ev/child.h"
#include "ev/ev.h"
#include "vma/environ.h"
#include "vma/user.h"

struct agent;

struct agent_ops {
    /* A line of nxagent's log, without its end; printable. */
    void (*line)(void *owner, const char *line);
    /* nxagent has ended; the owner frees the agent, now or later. */
    void (*gone)(void *owner, const char *how);
    /* The X session has ended: the person has logged out. */
    void (*logged_out)(void *owner);
};

/* Sweeps what an earlier agent left (locks, sockets), and starts a new one that reads options_path.
 * 0, or -errno with err. */
must_check int agent_start(struct ev_loop *loop, const struct conf *conf, const struct user *user,
                           const struct wire_params *params, unsigned display,
                           const char *options_path, const struct agent_ops *ops, void *owner,
                           struct agent **ret_agent, struct qvd_error *err);
/* Kills what still runs of it. NULL-safe, always NULL. */
struct agent *agent_free(struct agent *a);
/* Starts the X session (command.x-session). 0, or -errno with err. */
must_check int agent_login(struct agent *a, struct qvd_error *err);
/* A signal to nxagent; with TERM and KILL to the X session's group too. */
void agent_signal(struct agent *a, int signo);

/* Who has the port of nxagent, from /proc/net/tcp text: nobody listens; it listens and no stream is
 * there; a stream is there. Never by dialling: a bare connect makes nxagent unusable. */
enum agent_port { AGENT_PORT_CLOSED, AGENT_PORT_FREE, AGENT_PORT_BUSY, AGENT_PORT_LOST };
/* LOST: a stream is there whose peer has ended it. */
enum agent_port agent_port_parse(const char *proc_net_tcp, unsigned port);
enum agent_port agent_port(unsigned port);

/* At the monitor's start: ends an agent that an earlier monitor left behind, and waits for it. */
void agent_sweep(const struct conf *conf);
