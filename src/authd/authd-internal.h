// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the files of authd share: a question on its way. */

#include "auth/plugin.h"
#include "auth/throttle.h"
#include "authd/authd.h"
#include "ipc/auth-msg.h"
#include "ipc/channel.h"
#include "store/auth.h"

struct authd {
    struct ev_loop *loop;
    struct conf *conf;
    struct db *db;
    struct ipc_channel *channel;
    void (*closed)(void *arg, int reason);
    void *arg;
    struct throttle *accounts, *sources;
    struct list jobs; /* in the order they came */
    size_t n_jobs;
    struct list aparts;     /* processes in which plugins are asked */
    struct ev_timer *run;   /* the next password may be hashed */
    struct ev_timer *sweep; /* of expired tokens */
};

enum job_kind { JOB_USER, JOB_ADMIN, JOB_HASH, JOB_TOKEN, JOB_MAKE, JOB_ASK };
enum job_state {
    JOB_LOOKUP, /* the database is asked, or it runs */
    JOB_READY,  /* waits for its turn to be hashed */
    JOB_AGAIN,  /* it was good; who it is now is looked up: a plugin named or made the account */
};

struct job {
    struct list node;
    struct authd *authd;
    enum job_kind kind;
    enum job_state state;
    uint64_t id; /* the asker's */
    int64_t received, not_before;
    struct login login;      /* normalised */
    char *typed;             /* the login as it came */
    char *password, *source; /* password: or the token */
    char *file_name, *env;
    size_t env_len;
    char *account_key; /* NULL: a token */
    char *params;      /* JSON of the plugins, NULL: none */
    bool rehash;
    bool nameless; /* plugins are to tell whose login it is */
    bool apart;    /* they are files of others: asked in a process apart */
    /* the account, once looked up; id 0: none */
    int64_t account_id, tenant_id;
    bool blocked;
    char *stored, *stored_login;
    uint64_t vm_id;           /* of a token that is used, or of a request */
    enum auth_ask_kind asked; /* the kind of request */
    /* of a token that is made */
    char token[64];
    bool store_only;
};

/* What the plugins say to a job. Its strings live as long as the struct hooks, or until the handler
 * returns. */
struct said {
    uint32_t verdict; /* enum auth_verdict; a request's: AUTH_YES when it was answered */
    const char *name, *tenant;
    bool rehash;
    bool allowed, lists; /* of a request, as in struct auth_asked */
    struct ipc_bytes vms;
    const char *params;
};
struct hooks {
    struct auth_attempt attempt;
    struct auth_vms vms;
    char *params;
    struct said said;
};

/* Asks them here and now (hooks.c): fills all of *h, to be ended by hooks_done(). */
void hooks_ask(const struct job *j, struct hooks *h);
void hooks_done(struct hooks *h);

/* Asks them in a process apart (apart.c); job_heard() comes in any case, perhaps before it returns.
 */
void apart_ask(struct job *j);
/* Whether there is a place for a process of that tenant, and one in the queue. */
bool apart_has_place(const struct authd *d, int64_t tenant_id);
bool apart_may_wait(const struct authd *d, int64_t tenant_id);
void apart_end_all(struct authd *d);

/* A job of the kind, queued; NULL when the queue is full or memory is (the caller answers BUSY). */
must_check struct job *job_new(struct authd *d, enum job_kind kind, uint64_t id);
/* Out of the queue; wipes its secrets. Always NULL. */
struct job *job_free(struct job *j);
/* Looks for the next password to hash, at the next turn or when one may be tried. */
void authd_schedule(struct authd *d);

/* From the settings, before each use of the throttles. */
void authd_set_limits(struct authd *d);

/* Answers the asker and frees the job. */
void job_answer(struct job *j, enum auth_status status);
void authd_answer(struct authd *d, enum job_kind kind, uint64_t id, enum auth_status status);
void authd_answer_user(struct authd *d, const struct auth_user *u);
void authd_answer_token(struct authd *d, const struct auth_token *t);
void authd_answer_asked(struct authd *d, const struct auth_asked *a);

/* The plugins can be asked now, as soon as it is its turn. */
void job_ready(struct job *j);
/* Hashes, or has the plugins asked. What is ours blocks. */
void job_run(struct job *j);
/* What they said; answers, or goes on. */
void job_heard(struct job *j, const struct said *s);
/* Whose login it is was told by the plugins. */
void job_named(struct job *j, const struct said *s);

/* Fills in what came. 0, -ENOMEM, -EBADMSG: env has another shape. */
must_check int job_fill(struct job *j, const char *typed, const char *password, const char *source,
                        const char *file_name, struct ipc_bytes env);
/* What the hooks see of it. Its strings are the job's. */
struct auth_attempt job_attempt(const struct job *j);
/* Asks the database for the account of j->login. */
void job_look_up(struct job *j);
/* It was good, and this is the account: the answer. */
void job_finish(struct job *j);

/* What plugins say to a request (ask.c). */
int on_ask(void *owner, const void *msg, int *fd);
void job_answer_ask(struct job *j, const struct said *s);
/* Whether a user of that tenant has plugins that want to be asked so. */
bool job_asks(const struct job *j, int64_t tenant);
/* Asked and answered without hashing (tokens.c). */
int on_verify_token(void *owner, const void *msg, int *fd);
int on_make_token(void *owner, const void *msg, int *fd);
/* No plugin knows it: the database decides. */
void job_use_token(struct job *j);
void authd_sweep_tokens(void *arg);
