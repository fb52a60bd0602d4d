// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* A client object, as the files of the library see it:
 *   client.c    settings, states, the end          trust.c     who is trusted
 *   connect.c   from a host's name to a connection  resolve.c   names, in a thread
 *   request.c   list, stop, connect; refusals      params.c    what connect_to_vm is told
 *   session.c   nxproxy and the relay              again.c     after a cut
 *   nxdir.c     nxproxy's private folder           loop.c      the loop's public cover
 *   display.c   the X display                      xauth.c     its name and cookie
 *   keyboard.c  its keyboard                       fit.c       the size of the desktop's window */

#include <netdb.h>

#include "base/buf.h"
#include "client/display.h"
#include "client/qvdclient.h"
#include "ev/child.h"
#include "ev/ev.h"
#include "http/client.h"
#include "stream/relay.h"
#include "stream/tls.h"
#include "wire/l7r.h"

struct ev_resolve;

#define CLIENT_SHARED_MAX 32 /* variables for the authentication */

/* What is wanted of the server next. */
enum client_goal { GOAL_LIST, GOAL_STOP, GOAL_CONNECT, GOAL_ASK_END };

/* A certificate that was accepted for now, or is asked about. */
struct client_cert {
    char fingerprint[65];
    int faults[TLS_FAULTS_MAX];
    size_t n_faults;
    char subject[256], issuer[256], not_before[32], not_after[32];
    bool changed; /* another of this host was accepted before */
};

/* nxproxy and what belongs to it; all empty without a session. */
#define DISPLAY_MEND "call me inside a graphical session, or name its display by --display"

struct client_session {
    char dir[96]; /* private, "" when there is none */
    int dir_fd;   /* holds its lock */
    struct stream *server;
    int listen_fd;
    struct ev_io *listen_io;
    struct ev_child *child;
    struct ev_io *errors_io;
    struct ev_timer *errors_timer; /* until its output is read again */
    int errors_fd;
    char line[300]; /* of nxproxy's output, not ended yet */
    size_t line_len;
    char last_error[200];
    struct stream_relay *relay;
    struct stream_relay_stats stats;
    int64_t started_ms;
    int child_status;
    bool nx_ended_first, ended_by_us; /* us: by a signal */
};

/* Of a session that ended without our wish. */
struct client_again {
    uint64_t session; /* the server's number of the last one; 0: it does not number them */
    bool active;      /* from the end on until the next is there */
    unsigned attempts;
    int64_t began; /* clock_ms() of the first cut; 0: none yet */
    char why[160];
};

struct qvdclient {
    struct ev_loop *loop;
    const struct qvdclient_callbacks *cb;
    void *arg;
    char *options[QVDCLIENT_OPTION_MAX];
    struct client_shared {
        char *name, *value;
    } shared[CLIENT_SHARED_MAX];
    size_t n_shared;
    enum qvdclient_state state;
    enum client_goal goal;
    struct ev_timer *timer;
    struct ev_deferred later;
    void (*later_fn)(struct qvdclient *c);

    char host_port[300];
    char *password;
    struct ev_resolve *resolver;
    struct addrinfo *addresses, *next_address;
    struct tls_context *tls;
    struct stream *stream;    /* until it is open */
    struct http_client *http; /* then */
    bool reused;              /* the connection has answered before */
    bool retried;
    bool down; /* ending, and only nxproxy may still be there */
    struct client_cert cert, accepted_now;

    struct wire_vm *vms;
    size_t n_vms;
    uint64_t vm_id;
    struct client_display *display;
    char display_name[300]; /* what nxproxy is told */
    struct client_session session;
    struct client_again again;
    char run[17]; /* names this client to the server */

    enum qvdclient_result result;
    char text[400];
};

/* client.c */
const char *client_option(const struct qvdclient *c, enum qvdclient_option o); /* "" when unset */
bool client_flag(const struct qvdclient *c, enum qvdclient_option o);
void client_set_state(struct qvdclient *c, enum qvdclient_state state);
void client_step(struct qvdclient *c, enum qvdclient_step done, const char *fmt, ...)
    printf_like(3, 4);
void client_debug(struct qvdclient *c, const char *fmt, ...) printf_like(2, 3);
/* From anywhere: takes everything down; ended() follows when nxproxy has ended too. The first call
 * counts. */
void client_end(struct qvdclient *c, enum qvdclient_result result, const char *fmt, ...)
    printf_like(3, 4);
/* fn at the end of this turn. */
void client_later(struct qvdclient *c, void (*fn)(struct qvdclient *c));
bool client_over(const struct qvdclient *c);
/* Everything has been taken down: tells ended(). */
void client_finished(struct qvdclient *c);

/* connect.c */
void client_connect(struct qvdclient *c);
void client_disconnect(struct qvdclient *c);

/* request.c: makes the request of c->goal, over a new connection if there is none. */
void client_ask(struct qvdclient *c);
/* A connection is there. */
void client_connected(struct qvdclient *c);
extern const struct http_client_ops client_http_ops;

/* params.c: the target of connect_to_vm. 0, -ENOMEM. */
must_check int client_connect_target(struct qvdclient *c, struct buf *out);

/* session.c */
void client_session_start(struct qvdclient *c, struct stream *s);
/* Takes it down: the relay at once, nxproxy by and by. True: nothing is left. */
bool client_session_end(struct qvdclient *c);
/* TERM, and KILL the next time. */
void client_session_kill(struct qvdclient *c);
/* Makes room for another session: cuts the relay and kills nxproxy, keeps the display. True:
 * nothing is left; false: client_again_nx_gone() follows. */
bool client_session_reset(struct qvdclient *c);
/* At once and for good, nxproxy killed. */
void client_session_drop(struct qvdclient *c);
/* Is the program there? */
bool client_session_possible(struct qvdclient *c);

/* again.c. May a cut session be made again? */
bool client_again_possible(const struct qvdclient *c);
/* The stream has ended: cut, or in good order, which is only asked about. */
void client_again_begin(struct qvdclient *c, bool cut, const char *why);
void client_again_nx_gone(struct qvdclient *c);
void client_again_timer(struct qvdclient *c);
void client_again_connected(struct qvdclient *c);
/* c->text and *result are how it would end: true, it goes on trying; else they may have changed. */
bool client_again_failed(struct qvdclient *c, enum qvdclient_result *result);

/* nxdir.c: a private folder in the person's runtime folder, else in /tmp; sweeps what killed
 * clients left. 0 or -errno. */
must_check int client_dir_make(struct client_session *s);
void client_dir_remove(struct client_session *s);

/* trust.c */
enum client_trust { TRUST_NO, TRUST_YES, TRUST_CHANGED };
enum client_trust client_trust_check(struct qvdclient *c, const struct client_cert *cert);
/* 0 or -errno. */
must_check int client_trust_add(struct qvdclient *c, const struct client_cert *cert);
/* Hex digits of two fingerprints, whatever their case, colons and blanks. */
bool client_fingerprint_equal(const char *a, const char *b);
/* A new path below the person's home; NULL. */
must_check char *client_home_path(const char *name);

/* loop.c */
struct ev_loop *client_loop(struct qvdclient_loop *loop);
