// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the files of the broker share: itself, its workers, and the sessions (one for each request,
 * from its first message to its last statement). */

#include <netinet/in.h>

#include "base/list.h"
#include "base/map.h"
#include "conf/conf.h"
#include "ev/ev.h"
#include "ipc/auth-client.h"
#include "ipc/channel.h"
#include "ipc/l7r-msg.h"
#include "ipc/rpc-client.h"
#include "l7r/broker/table.h"
#include "store/l7r.h"
#include "store/schema.h"
#include "store/session.h"
#include "store/store.h"

#define BROKER_ID_PREFIX_MAX 96

struct link;

struct broker {
    struct ev_loop *loop;
    struct ipc_channel *master;
    struct conf *conf;
    struct conf *former_conf; /* replaced while the database's rows were on their way to it */
    struct db *db;
    struct store_schema *schema; /* NULL: no database yet */
    struct auth_client *auth;
    struct rpc_client *rpc;
    char nodename[128];
    uint64_t instance; /* 0: not yet registered */
    bool stopping;
    uint8_t key[32]; /* for what is kept of credentials */

    struct list links;    /* struct link */
    struct list sessions; /* struct session, all */
    struct map *by_id;    /* session id -> struct session */
    struct map *by_vm;    /* VM id -> the first struct session of vm_next */
    struct map *heirs;    /* former session's id -> the struct session that waits for its end */
    struct list stoppers; /* sessions in SESSION_STOPPING */

    struct store_l7r_counters counters; /* since the last beat began */
    struct store_l7r_counters told;     /* what it tells */
    uint64_t told_as;                   /* its number; 0: written */

    struct ev_timer *stop_limit;
    bool loading, load_again; /* settings and certificate */

    /* reconcile.c */
    struct ev_timer *sweep, *beat;
    bool sweeping, sweep_again, beating, ending;
    uint64_t sweep_serial;
    void (*last_beat)(struct broker *b);
    int64_t listening_since; /* clock_ms(); 0: not listening */

    /* The node, as read last. */
    struct store_l7r_host host;
    int64_t host_at;
};

/* What is known of a client's connection while it lives. */
struct conn {
    uint64_t id;
    struct session *session; /* its open request, or NULL */
    bool known;              /* the rest is filled */
    uint8_t digest[32];      /* of the credentials that were good */
    int64_t since;           /* clock_ms(): when they were */
    uint64_t user_id;
    int64_t tenant_id;
    uint64_t token_vm_id;
    int64_t token_until; /* as authd tells it; 0: no token of ours */
    bool asks;           /* his plugins want to be asked at each request */
    char *login;
    char *params; /* JSON */
};

/* A worker. */
struct link {
    struct list node;
    struct broker *broker;
    struct ipc_channel *channel;
    struct ev_deferred reap;
    uint32_t slot, generation;
    bool welcome;  /* HELLO has come */
    bool resynced; /* it has told all that it relays */
    bool dead;
    struct map *conns; /* struct conn by id */
    int64_t told_full; /* clock_ms(); 0: never */
};

struct session {
    struct list node;      /* in broker->sessions */
    struct list stop_node; /* in broker->stoppers */
    struct broker *broker;
    struct link *link; /* NULL: the worker has gone */
    uint64_t conn;     /* 0: the connection has gone */
    enum l7r_kind kind;
    enum session_step step;
    enum session_event pending;
    bool busy;
    struct ev_deferred reap;

    /* The request. */
    enum l7r_credentials credentials;
    char *login, *secret; /* until SESSION_AUTH is over */
    char source[65];
    char *client; /* until it is connected */
    uint64_t vm_id;
    uint32_t flaw;
    char *flaw_text; /* likewise */
    bool store_auth;
    char *params; /* "key NUL value NUL" */
    size_t params_len;
    char *env, *file_name; /* for plugins, until SESSION_AUTH is over */
    size_t env_len;

    /* The user. */
    uint64_t user_id, token_vm_id;
    int64_t token_until;
    int64_t tenant_id;
    char *user_login, *user_params; /* JSON of the plugins */
    bool asks;                      /* they want to be asked */
    /* What they said to this request. */
    bool allowed, lists;
    char *asked_params;
    uint64_t *listed;
    size_t n_listed;

    /* The session. */
    uint64_t id; /* 0: not claimed */
    uint64_t host_id, former, former_instance;
    struct session *vm_next; /* another of the same VM */
    bool ordered;            /* a start was ordered for it */
    bool started;            /* the VM was not running when it came */
    bool look_again;
    bool relayed; /* the worker has it */
    bool unsure;  /* the database may have another idea of the VM when it has gone */
    char slave_key[65];
    char address[INET_ADDRSTRLEN];
    uint16_t vma_port, x_port;
    uint8_t vm_secret[32];
    char *x_start; /* body of the call */
    int fd;        /* the desktop's, dialled */
    struct ev_io *io;

    /* What is under way. */
    struct store_call *call, *look;
    uint64_t auth_call;
    struct rpc_request *rpc;
    struct ev_timer *limit, *retry; /* NULL while it is connected */

    /* The answer. */
    bool answered, authenticated;
    uint32_t status, retry_after;
    char *text;       /* the body */
    const char *type; /* its content type */
    char *reason;     /* why it ended, for the log and the row; NULL: not told */

    int64_t began, step_began, connected, ended; /* clock_ms(); 0: not yet */
    struct store_phases phases;
    uint64_t bytes_in, bytes_out;
};

/* rights.c: the user, no capability, a list of system calls. 0, or -errno, told. */
must_check int broker_enter_sandbox(const char *user);

/* broker.c */
/* When it is stopping and the last session has gone. */
void broker_end_if_idle(struct broker *b);

/* link.c */
must_check int link_new(struct broker *b, int fd, const struct l7r_link *m);
struct link *link_free(struct link *l);
struct conn *link_conn(struct link *l, uint64_t conn);
void link_forget(struct link *l, uint64_t conn);
/* In the log, now and then: it has more of something than an honest worker. */
void link_tell_full(struct link *l, const char *what);

/* session.c */
must_check struct session *session_new(struct broker *b, struct link *l, uint64_t conn,
                                       enum l7r_kind kind);
/* The only way from step to step. */
void session_event(struct session *s, enum session_event event);
/* Ends it whatever it does; reason is what the client reads and the row keeps. */
void session_abort(struct session *s, const char *reason);
/* Why nothing new is begun, for the user: the broker is stopping, or the database's schema is not
 * the one of this program. NULL: it is. */
const char *broker_refuses(const struct broker *b);
/* Sets the answer (once; later ones are ignored) and returns SESSION_EV_REFUSED. */
enum session_event session_refuse(struct session *s, uint32_t status, const char *fmt, ...)
    printf_like(3, 4);
/* 503 with Retry-After, in the words that clients know. */
enum session_event session_unavailable(struct session *s, const char *fmt, ...) printf_like(2, 3);
/* Sets a good answer; takes body over. NULL body: out of memory. */
enum session_event session_answer(struct session *s, const char *type, char *body);
/* Sends the answer if there is one and somebody who waits for it. */
void session_send_answer(struct session *s);
void session_progress(struct session *s, const char *text);
/* Why it ends; the first word stays. */
void session_set_reason(struct session *s, const char *reason);
/* It is connected: all that only its way there needed is given back. */
void session_slim(struct session *s);
/* Names it by its id and VM, so that it is found. 0 or -ENOMEM. */
must_check int session_register(struct session *s);
void session_unregister(struct session *s);
/* What its client shared is of no more use. */
void session_forget_env(struct session *s);
/* Looks at its VM's row; what is found comes to session_looked() (watch.c). */
void session_look(struct session *s);
/* "[s:7 u:12 vm:42]". dst of BROKER_ID_PREFIX_MAX. Returns dst. */
const char *session_prefix(const struct session *s, char *dst);
int64_t session_step_ms(const struct session *s);

/* watch.c: what a look found */
void session_looked(void *arg, const struct store_look *look);

/* step-*.c: how each step begins; the event, or SESSION_EV_NONE when it will come later. */
enum session_event step_auth(struct session *s);
enum session_event step_hook(struct session *s);
/* He is known, and nobody minds: what comes next for this kind of request. */
enum session_event session_known(struct session *s);
enum session_event step_token(struct session *s);
enum session_event step_host(struct session *s);
enum session_event step_list(struct session *s);
enum session_event step_stop(struct session *s);
enum session_event step_stopping(struct session *s);
enum session_event step_claim(struct session *s);
enum session_event step_takeover(struct session *s);
enum session_event step_wait(struct session *s);
enum session_event step_prepare(struct session *s);
enum session_event step_ask(struct session *s);
enum session_event step_dial(struct session *s);
enum session_event step_switch(struct session *s);
enum session_event step_connected(struct session *s);
enum session_event step_cut(struct session *s);
enum session_event step_reset(struct session *s);
enum session_event step_close(struct session *s);

/* What a look means to the steps that wait for it. */
enum session_event step_wait_looked(struct session *s, const struct store_look *look);
enum session_event step_switch_looked(struct session *s, const struct store_look *look);
/* Chooses a node and orders the start. */
void step_wait_order(struct session *s);
/* Builds the body of x_start from what the look found. */
must_check int step_prepare_build(struct session *s, const struct store_look *look);
void step_stopping_left(struct session *s);
void step_stopping_looked(struct session *s, const struct store_look *look);
/* Where the nodes' weights come from. */
struct store_balance broker_balance(const struct broker *b);
void broker_notify_host(struct broker *b, uint64_t host_id, uint64_t vm_id);

/* call-vma.c: a call to the VM's agent through qvd-rpc. 0 or -errno (no socket, no memory). */
must_check int session_call_vma(struct session *s, const char *function, const char *body,
                                uint32_t timeout_ms, rpc_client_fn *fn);
/* A socket that is being connected, or -errno. */
must_check int session_dial_socket(const struct session *s, uint16_t port);

/* reconcile.c */
must_check int reconcile_start(struct broker *b);
void reconcile_stop(struct broker *b);
/* The last beat: what was counted is written, then done(b). */
void reconcile_last_beat(struct broker *b, void (*done)(struct broker *b));
/* Everything is looked at now (or as soon as the present round is over). */
void reconcile_now(struct broker *b);
/* Adopts what a worker relays: looked up in the database at the next round. Not more than a node
 * can have. */
void reconcile_adopt(struct link *l, uint64_t id);
