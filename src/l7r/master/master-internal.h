// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the files of the master share: it owns sockets, secrets and children, and reads no byte of a
 * stranger. */

#include "base/list.h"
#include "conf/conf.h"
#include "ev/child.h"
#include "ev/ev.h"
#include "ipc/auth-client.h"
#include "ipc/channel.h"
#include "ipc/l7r-msg.h"
#include "ipc/rpc-client.h"
#include "ipc/spawner.h"

#define SLOTS_MAX 64

struct master;

/* A worker process. */
struct proc {
    struct list node;
    struct master *master;
    unsigned slot, generation;
    struct ev_child *child;
    pid_t pid; /* as it was */
    struct ipc_channel *channel;
    bool ready, draining;
    int64_t started;
};

/* A listening socket, bound once, and who accepts from it now. */
struct slot {
    struct master *master;
    int fd;
    struct proc *current;
    struct ev_timer *again;
    uint64_t pause;
};

/* PEM texts with their sizes; NULL: none. */
struct pem {
    char *cert, *key;
    size_t cert_len, key_len;
};

struct master {
    struct ev_loop *loop;
    struct conf *conf;
    const char *conf_file; /* of the command line; NULL: the default */
    struct slot slots[SLOTS_MAX];
    size_t n_slots;
    struct list procs;
    unsigned generation;
    bool stopping, told_ready, told_no_certificate;

    struct ipc_spawner *broker_spawner, *rpc_spawner;
    struct auth_spawner *auth_spawner;
    struct ipc_channel *broker;
    uint64_t instance;    /* the broker's lineage */
    int rpc_fd, authd_fd; /* the broker's ends, while there is no broker */

    struct pem files, database; /* the certificate's sources: the latter wins */
    uint8_t tickets[L7R_TICKET_KEYS][L7R_TICKET_KEY_LEN];
    struct ev_timer *rotate, *stop_limit;
    struct ev_signal *signals[4];
};

/* sockets.c: fills the slots, from the service manager or bound here. 0, or -errno with err. */
must_check int sockets_open(struct master *m, struct qvd_error *err);

/* caps.c: 0, or -errno with err. */
must_check int caps_bound(struct qvd_error *err);

/* context.c */
/* Reads certificate and key files; none there is no error. 0 or -errno with err. */
must_check int context_read_files(struct master *m, struct qvd_error *err);
bool context_has_certificate(const struct master *m);
must_check int context_send(struct master *m, struct proc *p);
must_check int context_send_broker(struct master *m);
must_check int context_new_ticket(struct master *m);
void pem_done(struct pem *p);
/* From the broker: 0 or -errno. */
must_check int context_take_certificate(struct master *m, const struct l7r_certificate *c, int fd);
must_check int context_take_settings(struct master *m, const struct l7r_settings *s, int fd);

/* workers.c */
must_check int workers_init(struct master *m);
void workers_start(struct master *m);
/* A new generation; the old one stops when the new one accepts. */
void workers_renew(struct master *m);
/* Settings or keys have changed: to all of them. */
void workers_tell(struct master *m);
/* To all, also those that only finish: the log's present target. */
void workers_log(struct master *m);
/* A new broker: a channel to it for each. */
void workers_link(struct master *m);
void workers_stop(struct master *m, bool now);
