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
 * It and the X session live on without this process. 0, or -errno with err. */
must_check int agent_start(struct ev_loop *loop, const struct conf *conf, const struct user *user,
                           const struct wire_params *params, unsigned display,
                           const char *options_path, const struct agent_ops *ops, void *owner,
                           struct agent **ret_agent, struct qvd_error *err);
/* Kills what still runs of it. NULL-safe, always NULL. */
struct agent *agent_free(struct agent *a);

/* What a later monitor needs to find them again; pid 0: none. */
struct agent_saved {
    pid_t pid, session_pid;
    uint64_t began, session_began; /* in ticks after the machine's start, as /proc/PID/stat tells */
};
struct agent_saved agent_save(const struct agent *a);
/* Takes over what an earlier monitor has started and lost. Lines that nxagent has written meanwhile
 * come by ops as usual. 0; -ESRCH: it has ended; -errno with err. An X session that has ended is
 * told by logged_out. */
must_check int agent_adopt(struct ev_loop *loop, const struct conf *conf, const struct user *user,
                           const struct wire_params *params, unsigned display,
                           const struct agent_saved *saved, const struct agent_ops *ops,
                           void *owner, struct agent **ret_agent, struct qvd_error *err);
/* Forgets it without ending anything: for a later monitor. NULL-safe, always NULL. */
struct agent *agent_leave(struct agent *a);
/* Starts the X session (command.x-session). 0, or -errno with err. */
must_check int agent_login(struct agent *a, struct qvd_error *err);
/* A signal to nxagent; with TERM and KILL to the X session's group too. */
void agent_signal(struct agent *a, int signo);

/* Who has the port of nxagent. Never asked by dialling: a bare connect makes nxagent unusable. */
enum agent_port {
    AGENT_PORT_CLOSED, /* nobody listens, no stream */
    AGENT_PORT_FREE,   /* it listens and no stream is there */
    AGENT_PORT_BUSY,   /* a stream is there */
    AGENT_PORT_LOST,   /* a stream is there whose peer has ended it */
};
/* Both ends of a stream as /proc/net/tcp tells them: addresses in network order, ports in ours. */
struct agent_stream {
    uint32_t local, remote;
    unsigned local_port, remote_port;
};
/* From the text of /proc/net/tcp; with AGENT_PORT_BUSY *ret_stream is the first stream. */
enum agent_port agent_port_parse(const char *proc_net_tcp, unsigned port,
                                 struct agent_stream *ret_stream);
/* The kernel goes through its table of all streams for this: milliseconds of CPU. */
enum agent_port agent_port(unsigned port);
/* Does somebody listen, and no dial waits to be accepted? Asks for that one socket, so it costs
 * next to nothing. An accepted stream is seen only by agent_port(), until its listener is closed.
 */
bool agent_port_waits(unsigned port);
/* Resets the stream at that port, as if its peer had gone: nxagent then suspends at once, while it
 * talks to a living peer for seconds after a HUP. 0: nothing is there any more; -errno: the kernel
 * cannot (CONFIG_INET_DIAG_DESTROY) or does not let us. */
must_check int agent_cut(unsigned port);
/* Wakes nxagent up, and does nothing else: a client comes to its display and goes. */
void agent_nudge(unsigned display);

/* At the monitor's start, when nothing can be adopted: ends an agent that an earlier monitor left
 * behind, and waits for its end. */
void agent_sweep(void);
/* What nxagent needs of the system: no stale locks and sockets of that display, /tmp/.X11-unix of
 * root. Follows no link and no folder of a user's. 0, or -errno with err. */
must_check int agent_sweep_display(unsigned display, struct qvd_error *err);
/* /run/user/UID of that user; a failure is logged. */
void agent_make_runtime_dir(const struct user *u);
/* Remembers the process for agent_sweep(); 0: forgets it. */
void agent_write_pid(pid_t pid);
