// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the processes of qvd-l7r tell each other. Types 130 to 159.
 *
 * Master and child: each child's descriptor 3. Worker and broker: a channel that the master makes
 * and hands to both by l7r_link. A connection is named by the worker (conn, never used again), a
 * session by its database id, which all processes and the VMA know. */

#include "ipc/codec.h"

/* Raised when the meaning of a message changes: a worker of an older generation says which it
 * speaks, and the broker takes no new request from another than its own. */
#define L7R_VERSION 1

#define L7R_TICKET_KEY_LEN 80             /* name 16, AES-256 key 32, HMAC key 32 */
#define L7R_TICKET_KEYS 2                 /* the one in use, then the former */
#define L7R_CERTIFICATE_MAX (1024 * 1024) /* of each of the four texts */
#define L7R_CIPHERS_MAX 1024
#define L7R_PROXIES_MAX 4096 /* text of l7r.trusted_proxies */
#define L7R_SETTINGS_MAX (1024 * 1024)
#define L7R_BODY_MAX 8000 /* of one l7r_answer; longer bodies come in several */
#define L7R_ENV_MAX 4096  /* AUTH_ENV_MAX */
#define L7R_PARAMS_MAX 8000
#define L7R_RESYNC_MAX 1000 /* sessions in one l7r_resync */

/* Master to child ------------------------------------------------------------------------------ */

/* To a worker, at its start and again when a part changes. The descriptor is a sealed memory file:
 * cert_len bytes of PEM chain, key_len of PEM key (both 0: plain TCP), ca_len of the authorities of
 * clients' certificates (0: none are asked for), crl_len of revoked ones. */
struct l7r_context {
    uint32_t slot, generation;
    uint32_t cert_len, key_len, ca_len, crl_len;
    uint32_t handshake_ms;        /* TLS done within, from accept */
    uint32_t head_ms;             /* head whole within, from its first byte */
    uint32_t unauth_ms;           /* a connection that never authenticated lives at most */
    uint32_t idle_ms;             /* one that did may idle between requests for */
    uint32_t head_max;            /* bytes of a head */
    uint32_t progress_ms;         /* at least between two 102s */
    uint32_t request_ms;          /* the broker's answer comes within, else 503 */
    uint32_t send_ms;             /* a client that takes nothing of an answer for so long is cut */
    uint32_t half_close_ms;       /* a session with one direction closed lives for so long */
    uint32_t per_source;          /* connections of one address */
    uint32_t unauth;              /* connections that have not authenticated */
    uint32_t connections;         /* in all, of this worker */
    uint32_t log_level;           /* enum log_level */
    const char *min_version;      /* "TLSv1.2", "TLSv1.3" */
    const char *ciphers;          /* of TLS 1.2; empty: OpenSSL's own */
    const char *proxies;          /* l7r.trusted_proxies: who tells the client's address first */
    struct ipc_bytes ticket_keys; /* L7R_TICKET_KEYS of L7R_TICKET_KEY_LEN */
};

/* To a worker, before all else. The descriptor is the memory of ipc/l7r-counts.h. */
struct l7r_shared_counts {
    uint32_t region; /* that it may write */
};

/* To the broker, at its start and after a reload. The descriptor is a sealed memory file of
 * settings_len bytes: the settings of the files that concern it, "key = value" lines. */
struct l7r_broker_context {
    const char *nodename;
    uint64_t instance; /* of the former broker; 0: the first */
    uint32_t settings_len;
    uint32_t log_level;
};

/* A channel to another process: it replaces the one before. */
enum l7r_peer { L7R_PEER_BROKER, L7R_PEER_WORKER, L7R_PEER_AUTHD, L7R_PEER_RPC, L7R_PEER_MAX };
struct l7r_link {
    uint32_t peer;
    uint32_t slot, generation; /* of a worker */
};

/* To a worker: take no new connections, end when the last has gone. To the broker: close all
 * sessions, forget the instance, end. */
struct l7r_stop {
    bool now; /* worker: do not wait for the connections */
};

/* Child to master ------------------------------------------------------------------------------ */

/* From a worker: it accepts. From the broker: it takes requests. */
struct l7r_ready {
    uint64_t instance; /* the broker's, 0 while the database has not been reached */
};

/* From the broker: the table ssl_configs (0: nothing there), in the shape of l7r_context. */
struct l7r_certificate {
    uint32_t cert_len, key_len, ca_len, crl_len;
};
/* From the broker: the cluster's settings of the database, len bytes of "key NUL value NUL". */
struct l7r_settings {
    uint32_t len;
};

/* Worker to broker ----------------------------------------------------------------------------- */

/* The first of a channel. */
struct l7r_hello {
    uint32_t version;
    uint64_t instance; /* of the broker it knew, 0: none */
    uint32_t slot, generation;
};
/* After it: the sessions that it relays, u64 each; the last says so (also when there is none). */
struct l7r_resync {
    struct ipc_bytes sessions;
    bool last;
};

enum l7r_kind {
    L7R_PING,
    L7R_AUTH,      /* authenticate_user */
    L7R_TOKEN,     /* create_auth_token */
    L7R_LIST,      /* list_of_vm */
    L7R_LIST_APPS, /* list_of_applications */
    L7R_CONNECT,   /* connect_to_vm */
    L7R_STOP_VM,
    L7R_KIND_MAX
};
enum l7r_credentials { L7R_NONE, L7R_BASIC, L7R_BEARER, L7R_CREDENTIALS_MAX };

/* One request; a connection has at most one open. secret: password or token. params: "key NUL value
 * NUL" in the order of the query. flaw: 0, or the status that the worker would answer; the broker
 * does so when nothing of an earlier check refuses. */
struct l7r_request {
    uint64_t conn;
    uint32_t kind;
    uint32_t credentials;
    const char *login;
    const char *secret;
    const char *source; /* address of the client */
    const char *client; /* its User-Agent, or "" */
    uint64_t vm_id;     /* 0: none given */
    uint32_t flaw;
    const char *flaw_text;
    bool store_auth;
    const char *file_name; /* of list_of_vm */
    uint32_t tls_ms;       /* how long the handshake took */
    struct ipc_bytes params;
    struct ipc_bytes env; /* Auth-<hex> headers, decoded: "name NUL value NUL" */
};
/* The client is still there (answer to l7r_still_there). */
struct l7r_here {
    uint64_t conn;
};
/* The connection has ended; what was known of it is forgotten. */
struct l7r_gone {
    uint64_t conn;
};
/* A relay has ended. Repeated after each l7r_resync until l7r_ack came. bytes_in: from the client.
 */
struct l7r_closed {
    uint64_t conn;
    uint64_t session;
    uint64_t bytes_in, bytes_out;
    int64_t first_byte_ms; /* from the 101 to the VM's first byte; -1: none came */
    const char *reason;
};

/* Broker to worker ----------------------------------------------------------------------------- */

/* The broker that now answers. */
struct l7r_welcome {
    uint64_t instance;
};
struct l7r_progress {
    uint64_t conn;
    const char *text;
};
/* The answer; its body comes in pieces, the last says so. status counts in the last. */
struct l7r_answer {
    uint64_t conn;
    uint32_t status;
    const char *type;     /* content type */
    uint32_t retry_after; /* seconds; 0: no such header */
    bool authenticated;   /* the credentials were good: the connection may stay */
    bool last;
    struct ipc_bytes body;
};
struct l7r_still_there {
    uint64_t conn;
};
/* Answer 101 and relay to the descriptor. */
struct l7r_relay {
    uint64_t conn;
    uint64_t session;
    const char *slave_key;
};
/* End that relay; l7r_closed follows. */
struct l7r_cut {
    uint64_t session;
    const char *reason;
};
/* The end of that session is written: its report may be forgotten. */
struct l7r_ack {
    uint64_t session;
};

extern const struct ipc_message l7r_context_msg;        /* with a memory file */
extern const struct ipc_message l7r_broker_context_msg; /* with a memory file */
extern const struct ipc_message l7r_link_msg;           /* with a channel's end */
extern const struct ipc_message l7r_stop_msg;
extern const struct ipc_message l7r_ready_msg;
extern const struct ipc_message l7r_certificate_msg;   /* with a memory file */
extern const struct ipc_message l7r_settings_msg;      /* with a memory file */
extern const struct ipc_message l7r_shared_counts_msg; /* with a memory file */
extern const struct ipc_message l7r_hello_msg;
extern const struct ipc_message l7r_resync_msg;
extern const struct ipc_message l7r_request_msg;
extern const struct ipc_message l7r_here_msg;
extern const struct ipc_message l7r_gone_msg;
extern const struct ipc_message l7r_closed_msg;
extern const struct ipc_message l7r_welcome_msg;
extern const struct ipc_message l7r_progress_msg;
extern const struct ipc_message l7r_answer_msg;
extern const struct ipc_message l7r_still_there_msg;
extern const struct ipc_message l7r_relay_msg; /* with the dialled socket */
extern const struct ipc_message l7r_cut_msg;
extern const struct ipc_message l7r_ack_msg;

/* All of them, ended by NULL: for tests. */
extern const struct ipc_message *const l7r_messages[];

/* A sealed memory file of n parts: the descriptor, or -errno. */
must_check int l7r_memory_new(const struct ipc_bytes *parts, size_t n);
/* Reads len bytes (at most max) of a memory file that a peer sent; they must all be there. A NUL
 * follows them. 0, -EFBIG, -EBADMSG, -ENOMEM, -errno. */
must_check int l7r_memory_read(int fd, size_t len, size_t max, char **ret_data);
