// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The SQL of a session's life: claim, look, order a start, switch, close; and what repairs it.
 *
 * Every write after the claim is WHERE session_id = mine: who was taken over changes nothing. All
 * may be repeated. Callbacks come once, never inside the call, unless the call was
 * dropped (store_call_drop()). NULL: out of memory. */

#include "db/db.h"
#include "model/balance.h"
#include "model/states.h"
#include "model/vm-state.h"
#include "store/call.h"

/* How a node is chosen. random gives 0 <= u < 1; must live on. */
struct store_balance {
    balance_fn *plugin;
    struct balance_weights weights;
    double (*random)(void *arg);
    void *arg;
};

struct store_claim_query {
    uint64_t vm_id, user_id;
    bool allowed; /* also when it is another's */
    uint64_t instance;
    const char *source; /* the client's address, NULL: unknown */
    const char *client; /* at most 256 bytes */
    uint64_t resume;    /* the session that this one goes on with; 0: none */
    int64_t tls_ms, auth_ms;
    unsigned takeover_max;
    int64_t takeover_window_ms;
    int64_t instance_timeout_ms; /* an instance that has not beaten for so long is gone */
    struct store_balance balance;
    bool (*final)(const char *reason); /* is a session with that end over for good? */
    bool ask; /* nothing is claimed, only resume's end told: STORE_CLAIM_TAKEN or _ENDED */
};

enum store_claim_outcome {
    STORE_CLAIM_OK,
    STORE_CLAIM_NOT_FOUND,
    STORE_CLAIM_DENIED,       /* another user's */
    STORE_CLAIM_VM_BLOCKED,   /* text: the reason, may be "" */
    STORE_CLAIM_HOST_BLOCKED, /* it runs on a node in maintenance */
    STORE_CLAIM_HOST_DOWN,    /* it runs on a node that is not running */
    STORE_CLAIM_TAKEOVERS,    /* too many within the window */
    STORE_CLAIM_TAKEN,        /* another client has come since q.resume */
    STORE_CLAIM_ENDED,        /* q.resume has ended for good; text: why */
    STORE_CLAIM_NO_NODE,      /* text tells by how much */
    STORE_CLAIM_NO_IMAGE,     /* no published image has its tag */
    STORE_CLAIM_FAILED,       /* the database: it may have been made all the same */
    STORE_CLAIM_OUTCOME_MAX
};

struct store_claim {
    enum store_claim_outcome outcome;
    char text[200];
    uint64_t session;
    uint64_t host_id;         /* 0: none yet */
    uint64_t former;          /* the session that was there, 0: none */
    uint64_t former_instance; /* who has it */
    bool former_gone;         /* that instance is no more: nobody will close it */
    bool ordered;             /* a start was ordered: the host is to be told */
    enum vm_state vm_state;
};
typedef void store_claim_fn(void *arg, const struct store_claim *claim);

/* One transaction: may this user have that VM now? Then the session is his, and a start is ordered
 * where the VM is stopped. Strings of q need not live on. */
must_check struct store_call *store_session_claim(struct db *db, const struct store_claim_query *q,
                                                  store_claim_fn *fn, void *arg);

/* The same for a VM that has stopped while its session waits: chooses a node and orders the start,
 * if the session is still mine and nothing else was ordered. */
must_check struct store_call *store_session_start(struct db *db, uint64_t session, uint64_t vm_id,
                                                  const struct store_balance *balance,
                                                  store_claim_fn *fn, void *arg);

/* What a waiting session sees of its VM. */
struct store_look {
    bool gone;        /* no such VM any more */
    bool failed;      /* the database; the rest is empty */
    uint64_t session; /* whose it is now */
    bool abort;       /* a disconnect is ordered */
    enum vm_state vm_state;
    enum vm_cmd vm_cmd; /* of a running VM: it is about to end, start: and to begin anew */
    uint64_t host_id;
    bool blocked;
    char blocked_reason[200];
    bool former_ended; /* the session that was asked for */
    char address[64];
    uint16_t vma_port, x_port;
    bool has_secret;
    uint8_t secret[32];
    char host_address[64];
    char user_login[65];
    const char *properties; /* JSON object; lives until the callback returns */
};
typedef void store_look_fn(void *arg, const struct store_look *look);
/* former: 0 or the session to ask about. */
must_check struct store_call *store_session_look(struct db *db, uint64_t vm_id, uint64_t former,
                                                 store_look_fn *fn, void *arg);

/* How long each phase took in ms; -1: not reached or not needed. */
struct store_phases {
    int64_t tls, auth, claim, start, x_start, dial, first_byte;
};

/* connecting -> connected. taken: still mine, and nobody ordered its end or the VM's. */
typedef void store_switch_fn(void *arg, bool failed, bool taken);
must_check struct store_call *store_session_switch(struct db *db, uint64_t session, uint64_t host,
                                                   const struct store_phases *phases,
                                                   store_switch_fn *fn, void *arg);

struct store_close_query {
    uint64_t session;
    const char *reason;
    uint64_t bytes_in, bytes_out;
    struct store_phases phases;
};
/* heir: the instance whose session took the VM over, 0: none. */
typedef void store_close_fn(void *arg, bool failed, uint64_t heir, uint64_t vm_id);
must_check struct store_call *store_session_close(struct db *db, const struct store_close_query *q,
                                                  store_close_fn *fn, void *arg);

/* Reconciling ---------------------------------------------------------------------------------- */

/* A serial above all sessions that exist: those that are claimed later have higher ones. 0: failed.
 */
typedef void store_serial_fn(void *arg, uint64_t serial);
must_check struct store_call *store_serial(struct db *db, store_serial_fn *fn, void *arg);

/* Sessions as lists of ids. */
struct store_ids {
    const uint64_t *ids;
    size_t n;
};
/* Ends those of the instance below serial that are neither in known nor of a VM in claiming.
 * ended: their number; -1: failed. */
typedef void store_orphans_fn(void *arg, int64_t ended);
must_check struct store_call *store_session_orphans(struct db *db, uint64_t instance,
                                                    uint64_t serial, struct store_ids known,
                                                    struct store_ids claiming, store_orphans_fn *fn,
                                                    void *arg);
/* Gives VMs whose session was ended behind its back (the database was away too long) back to the
 * sessions that are still relayed; the lists go in pairs. */
must_check struct store_call *store_session_readopt(struct db *db, uint64_t instance,
                                                    struct store_ids sessions, struct store_ids vms,
                                                    store_orphans_fn *fn, void *arg);

/* What is known of a relayed session. */
struct store_session_row {
    uint64_t id, vm_id, user_id, host_id;
    bool mine;            /* the VM is still in it */
    int64_t connected_ms; /* for so long; -1: not connected */
};
typedef void store_find_fn(void *arg, bool failed, const struct store_session_row *rows, size_t n);
must_check struct store_call *store_session_find(struct db *db, struct store_ids ids,
                                                 store_find_fn *fn, void *arg);

/* Which of these sessions a lost notification would have told of: the VM is no longer theirs, not
 * running, or to be left. The lists go in pairs. ids live until the callback returns. */
typedef void store_changed_fn(void *arg, bool failed, struct store_ids changed);
must_check struct store_call *store_session_changed(struct db *db, struct store_ids sessions,
                                                    struct store_ids vms, store_changed_fn *fn,
                                                    void *arg);
