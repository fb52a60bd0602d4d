// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the files of authd share: a question on its way. */

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
    struct ev_timer *run;   /* the next password may be hashed */
    struct ev_timer *sweep; /* of expired tokens */
};

enum job_kind { JOB_USER, JOB_ADMIN, JOB_HASH, JOB_TOKEN, JOB_MAKE };
enum job_state {
    JOB_LOOKUP, /* the database is asked */
    JOB_READY,  /* waits for its turn to be hashed */
};

struct job {
    struct list node;
    struct authd *authd;
    enum job_kind kind;
    enum job_state state;
    uint64_t id; /* the asker's */
    int64_t received, not_before;
    char *login, *tenant; /* normalised */
    char *password, *source;
    char *account_key;
    /* the account, once looked up; id 0: none */
    int64_t account_id, tenant_id;
    bool blocked;
    char *stored, *stored_login;
    /* of a token that is made */
    char token[64];
    bool store_only;
};

/* A job of the kind, queued; NULL when the queue is full or memory is (the caller answers BUSY). */
must_check struct job *job_new(struct authd *d, enum job_kind kind, uint64_t id);
/* Out of the queue; wipes its secrets. Always NULL. */
struct job *job_free(struct job *j);
/* Looks for the next password to hash, at the next turn or when one may be tried. */
void authd_schedule(struct authd *d);

/* Answers the asker and frees the job. */
void job_answer(struct job *j, enum auth_status status);
void authd_answer(struct authd *d, enum job_kind kind, uint64_t id, enum auth_status status);
void authd_answer_user(struct authd *d, const struct auth_user *u);
void authd_answer_token(struct authd *d, const struct auth_token *t);

/* Hashes, asks the plugins, answers. Blocks. */
void job_run(struct job *j);

/* Asked and answered without hashing (tokens.c). */
int on_verify_token(void *owner, const void *msg, int *fd);
int on_make_token(void *owner, const void *msg, int *fd);
void authd_sweep_tokens(void *arg);
