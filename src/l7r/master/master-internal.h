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
#include "ipc/l7r-counts.h"
#include "ipc/l7r-msg.h"
#include "ipc/rpc-client.h"
#include "ipc/spawner.h"
#include "l7r/master/expiry.h"

#define SLOTS_MAX 64

struct master;

/* A worker process. */
struct proc {
    struct list node;
    struct master *master;
    unsigned slot, generation;
    int region; /* of m->counts; -1: none */
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

/* PEM texts with their sizes; NULL: none. Authority and revoked ones are of clients' certificates.
 */
enum pem_part { PEM_CERT, PEM_KEY, PEM_CA, PEM_CRL, PEM_PARTS };
struct pem {
    char *text[PEM_PARTS];
    size_t len[PEM_PARTS];
};

/* All of what decides about TLS. */
struct tls_plan {
    struct pem pem;
    bool v13, require;
    char *ciphers;
    const char *from; /* for people */
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

    struct l7r_counts *counts; /* connections of addresses, of all workers */
    int counts_fd;
    bool opened; /* the sockets, once the database's settings are known or late */
    struct ev_timer *open_limit;
    bool use_ssl;               /* as the file has it: no row takes TLS away */
    bool changed;               /* something, by the settings that have just come */
    struct pem files, database; /* the certificate's sources: the latter wins */
    struct tls_plan plan;       /* found good: what workers get */
    struct tls_plan wanted;     /* being checked */
    struct ev_command *check;
    bool renew; /* a reload waits for the check */
    struct expiry cert_expiry, crl_expiry;
    struct ev_timer *day;
    uint8_t tickets[L7R_TICKET_KEYS][L7R_TICKET_KEY_LEN];
    struct ev_timer *rotate, *stop_limit;
    struct ev_signal *signals[4];
};

/* sockets.c: fills the slots, from the service manager or bound here. 0, or -errno with err. */
must_check int sockets_open(struct master *m, struct qvd_error *err);

/* caps.c: 0, or -errno with err. */
must_check int caps_bound(struct qvd_error *err);

/* certificate.c */
must_check int certificate_init(struct master *m);
void certificate_done(struct master *m);
/* Reads certificate and key files; none there is no error. 0 or -errno with err. */
must_check int certificate_read_files(struct master *m, struct qvd_error *err);
/* From the broker: 1 changed, 0, or -errno. */
must_check int certificate_take(struct master *m, const struct l7r_certificate *c, int fd);
/* Sources or settings may have changed: if so they are checked, then the workers are told (or
 * renewed, if m->renew). What is no good changes nothing. */
void certificate_apply(struct master *m);
/* There is one to serve with. */
bool certificate_there(const struct master *m);

/* master.c: the new workers are on their way. */
void reload_done(struct master *m);

/* context.c */
must_check int context_send(struct master *m, struct proc *p);
must_check int context_send_broker(struct master *m);
must_check int context_new_ticket(struct master *m);
/* From the broker: 0 or -errno. */
must_check int context_take_settings(struct master *m, const struct l7r_settings *s, int fd);

/* workers.c */
must_check int workers_open(struct master *m);
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
