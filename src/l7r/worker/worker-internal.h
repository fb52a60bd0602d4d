// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the files of the worker share. It holds no secret but what passes through it, and can open
 * and dial nothing. */

#include "base/addrs.h"
#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "ev/ev.h"
#include "http/server.h"
#include "ipc/channel.h"
#include "ipc/l7r-counts.h"
#include "ipc/l7r-msg.h"
#include "stream/relay.h"
#include "stream/stream.h"
#include "stream/tls.h"

struct worker {
    struct ev_loop *loop;
    struct ipc_channel *master;
    struct ipc_channel *broker; /* NULL: away */
    uint64_t instance;          /* the broker's, as last told */
    struct l7r_context context; /* its strings are not kept */
    struct tls_context *tls;    /* NULL: plain */
    int listen_fd;
    struct ev_io *accepting;
    struct ev_timer *resume; /* accepting again after a limit of descriptors */
    bool draining;

    struct list conns;         /* struct client */
    struct map *by_id;         /* struct client by conn */
    struct map *sources;       /* struct source by address */
    struct l7r_counts *counts; /* of all workers; NULL: only of this one */
    uint32_t region;           /* ours of it */
    struct list arrivals;      /* struct arrival: balancers' connections before their header */
    struct addrs proxies;      /* l7r.trusted_proxies */
    int64_t told_full;         /* clock_ms() of the last word about a limit */
    int64_t complained;        /* clock_ms() of the last word about a balancer */
    size_t n_conns;            /* those of relays too */
    size_t n_unauth;
    uint64_t next_conn;

    struct list relays;     /* struct relay */
    struct map *by_session; /* struct relay by session, relayed */
    struct list reports;    /* struct relay: ended, not yet acknowledged */
    struct ev_timer *again; /* reports that did not fit into the queue */
};

/* Connections of one address. */
struct source {
    unsigned count; /* of this worker */
    bool balancer;  /* its failures are not its own: it is no source of logins */
    char address[64];
};

enum client_state {
    CLIENT_HANDSHAKE,
    CLIENT_IDLE,    /* between requests */
    CLIENT_WAITING, /* the broker works on its request */
};

/* A client's connection until it becomes a relay. */
struct client {
    struct list node;
    struct worker *worker;
    uint64_t id;
    enum client_state state;
    struct source *source; /* NULL: given to a relay */
    struct stream *stream; /* during the handshake */
    struct http_server *http;
    struct ev_timer *unauth;   /* the life of a connection that has not authenticated */
    struct ev_timer *progress; /* a 102 that waits for its time */
    struct ev_timer *waiting;  /* the broker's time for its answer */
    int64_t accepted_us;
    uint32_t tls_ms;
    bool authenticated, expired, known; /* known: to the broker */
    enum l7r_kind kind;
    struct buf body; /* of an answer in pieces */
    char text[200];  /* the 102 that waits, and the last sent */
    char sent[200];
    int64_t sent_ms;
};

/* A session, relayed or waiting for the broker's word that its end is written. */
struct relay {
    struct list node;
    struct worker *worker;
    struct source *source;
    struct stream_relay *stream;
    struct ev_deferred reap;
    int64_t began_us;
    char *reason; /* NULL: not told */
    struct l7r_closed report;
    bool reported;
};

/* worker.c */
void worker_broker_lost(struct worker *w);
void worker_end_if_idle(struct worker *w);
void worker_resume_accept(struct worker *w);

/* rights.c: the user, an empty root, no capability, a list of system calls. 0, or -errno, told. */
must_check int worker_enter_sandbox(const char *user);

/* check.c: the exit status. */
int check_main(const char *user);

/* client.c */
/* balancer: nobody else's connection but its own. */
void client_new(struct worker *w, int fd, const char *address, bool balancer);
/* Tells the broker, unless it has a session now, and frees it. */
void client_free(struct client *c);
void client_progress(struct client *c, const char *text);
void client_answer(struct client *c, const struct l7r_answer *a);
void client_still_there(struct client *c);
/* The broker is away: what waits is answered 503. */
void client_broker_lost(struct client *c);

/* request.c: what a head says, put into a message. 0: q is filled (its strings live in *m until
 * request_done()); else the status to answer with, *ret_why tells why. */
struct request_memory {
    struct http_target *target;
    char *login, *secret;
    struct buf params, env;
};
must_check int request_read(const struct http_head *head, struct request_memory *m,
                            struct l7r_request *q, const char **ret_why);
void request_done(struct request_memory *m);

/* source.c: NULL when the address has too many connections; a balancer's are not limited */
must_check struct source *source_enter(struct worker *w, const char *address, bool balancer);
void source_leave(struct worker *w, struct source *s);
void source_set_proxies(struct worker *w, const char *list);

/* arrival.c: a connection from one of them; client_new() follows with the address that it tells */
void arrival_new(struct worker *w, int fd, const char *balancer);

/* relay.c */
/* 101, and from then on bytes; takes fd over. The client is freed. */
void relay_start(struct client *c, const struct l7r_relay *m, int fd);
/* A relay that never was: the client has gone. */
void relay_report_unused(struct worker *w, const struct l7r_relay *m);
void relay_cut(struct worker *w, const struct l7r_cut *m);
void relay_acknowledged(struct worker *w, uint64_t session);
/* The reports that did not fit into the queue. */
void relay_report_again(struct worker *w);
/* HELLO has gone out: what is relayed, and what has ended meanwhile. 0 or -errno. */
must_check int relay_resync(struct worker *w);
