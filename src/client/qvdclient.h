// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* libqvdclient: connects a person to his QVD desktop.
 *
 * A client object is one connection: it asks the server for the person's virtual machines, connects
 * to one, and carries the desktop to an X display by an nxproxy of its own. Several may live in one
 * loop, and in several processes of one machine: nothing they use has a fixed name.
 *
 *     struct qvdclient_loop *loop = qvdclient_loop_new();
 *     struct qvdclient *c = qvdclient_new(loop, &callbacks, me);
 *     qvdclient_set(c, QVDCLIENT_HOST, "qvd.example.org");
 *     qvdclient_set(c, QVDCLIENT_USER, "alice");
 *     qvdclient_set(c, QVDCLIENT_PASSWORD, secret);
 *     qvdclient_start(c);
 *     qvdclient_loop_run(loop);
 *
 * Everything happens in callbacks, from qvdclient_loop_run() or _turn(), never from inside another
 * function here. A question (certificate, password, vms) is answered by a function, inside the
 * callback or later. ended() is always the last one and comes once for each qvdclient_start(). A
 * loop and its clients belong to one thread; only qvdclient_loop_wake() may be called from others
 * and from signal handlers. A program with a loop of its own runs this one in a thread. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define QVDCLIENT_API __attribute__((visibility("default")))

struct qvdclient_loop;
struct qvdclient;

/* NULL: out of memory. Ignores SIGPIPE for the process. */
QVDCLIENT_API struct qvdclient_loop *qvdclient_loop_new(void);
/* After its clients. NULL-safe. */
QVDCLIENT_API void qvdclient_loop_free(struct qvdclient_loop *loop);
/* Until qvdclient_loop_stop(); returns its code. */
QVDCLIENT_API int qvdclient_loop_run(struct qvdclient_loop *loop);
QVDCLIENT_API void qvdclient_loop_stop(struct qvdclient_loop *loop, int code);
/* One turn; block: waits for something to happen. */
QVDCLIENT_API void qvdclient_loop_turn(struct qvdclient_loop *loop, bool block);
/* What wake() calls, in the loop's thread; NULL: nothing. */
QVDCLIENT_API void qvdclient_loop_on_wake(struct qvdclient_loop *loop, void (*fn)(void *arg),
                                          void *arg);
/* From any thread and from signal handlers. */
QVDCLIENT_API void qvdclient_loop_wake(struct qvdclient_loop *loop);

/* Settings of a client; values are texts. Unset ones have the default told here. */
enum qvdclient_option {
    QVDCLIENT_HOST,           /* name or address; must be set */
    QVDCLIENT_PORT,           /* 8443 */
    QVDCLIENT_USER,           /* must be set, unless TOKEN is */
    QVDCLIENT_PASSWORD,       /* unset: password() is asked */
    QVDCLIENT_TOKEN,          /* bearer token, plain, instead of user and password */
    QVDCLIENT_USE_SSL,        /* 1; 0: no TLS: loopback and private addresses only */
    QVDCLIENT_CA_SYSTEM,      /* 1: the system's authorities are trusted */
    QVDCLIENT_CA_SYSTEM_FILE, /* instead of where OpenSSL looks */
    QVDCLIENT_CA_SYSTEM_PATH, /* the same, folders separated by colons */
    QVDCLIENT_CRL_FILE,       /* PEM of lists of revoked certificates */
    QVDCLIENT_CA_FILE,        /* PEM of further authorities */
    QVDCLIENT_CA_DIR,         /* folder of further authorities; ~/.qvd/certs */
    QVDCLIENT_TRUST_FILE,     /* where accepted certificates are kept; ~/.qvd/accepted_certs.json */
    QVDCLIENT_FINGERPRINT,    /* SHA-256 of a certificate that is right whatever its faults */
    QVDCLIENT_INSECURE,       /* 0; 1: any certificate will do */
    QVDCLIENT_CERT_FILE,      /* certificate to show to the server, PEM; with KEY_FILE */
    QVDCLIENT_KEY_FILE,
    QVDCLIENT_VM,         /* id or name of the machine to connect to; unset: vms() chooses */
    QVDCLIENT_RESTART,    /* 0; 1: the machine is stopped first */
    QVDCLIENT_RECONNECT,  /* 120: seconds for which a cut session is made again; 0: never */
    QVDCLIENT_DISPLAY,    /* X display; $DISPLAY */
    QVDCLIENT_GEOMETRY,   /* 1024x768 */
    QVDCLIENT_FULLSCREEN, /* 0 */
    QVDCLIENT_KEYBOARD,   /* model/layout; unset: that of the display */
    QVDCLIENT_LINK,       /* modem isdn adsl wan lan local, or a rate; local */
    QVDCLIENT_TIMEZONE,   /* the machine's own */
    QVDCLIENT_LOCALE,     /* wanted in a new desktop; that of the environment, unless it is C */
    QVDCLIENT_NX_OPTIONS, /* more NX options for the desktop's side: an allow-list there applies */
    QVDCLIENT_NXPROXY_OPTIONS, /* more NX options for the local nxproxy: k=v,k=v */
    QVDCLIENT_NXPROXY,         /* the program; nxproxy */
    QVDCLIENT_OPTION_MAX
};

enum qvdclient_state {
    QVDCLIENT_IDLE,
    QVDCLIENT_ASKING_PASSWORD,
    QVDCLIENT_RESOLVING,
    QVDCLIENT_CONNECTING,
    QVDCLIENT_ASKING_CERTIFICATE,
    QVDCLIENT_LISTING,
    QVDCLIENT_CHOOSING,
    QVDCLIENT_STOPPING_VM,
    QVDCLIENT_WAITING,     /* for the desktop; progress() tells */
    QVDCLIENT_STARTING_NX, /* the desktop is there, nxproxy starts */
    QVDCLIENT_CONNECTED,
    QVDCLIENT_RECONNECTING, /* the line was cut; then RESOLVING and so on once more */
    QVDCLIENT_ENDING,
    QVDCLIENT_ENDED,
    QVDCLIENT_STATE_MAX
};

/* The way to the desktop, for those who show or test it; without TLS two of them are left out. */
enum qvdclient_step {
    QVDCLIENT_STEP_NAME,        /* the server's name has an address */
    QVDCLIENT_STEP_PORT,        /* it takes the connection */
    QVDCLIENT_STEP_TLS,         /* it speaks TLS */
    QVDCLIENT_STEP_CERTIFICATE, /* its certificate is trusted */
    QVDCLIENT_STEP_LOGIN,       /* the login is good */
    QVDCLIENT_STEP_VM,          /* there is a machine, and it is chosen */
    QVDCLIENT_STEP_DISPLAY,     /* the X display lets us in, and nxproxy is there */
    QVDCLIENT_STEP_START,       /* the desktop listens */
    QVDCLIENT_STEP_NX,          /* and is shown */
    QVDCLIENT_STEP_MAX
};

/* How it ended; also the exit status of the program qvdclient. */
enum qvdclient_result {
    QVDCLIENT_OK = 0,          /* the session ended, or only the list was wanted */
    QVDCLIENT_FAILED = 1,      /* this machine: no memory, a bad file... */
    QVDCLIENT_USAGE = 2,       /* an option's value */
    QVDCLIENT_LOGIN = 3,       /* user or password refused */
    QVDCLIENT_CERTIFICATE = 4, /* the server's certificate is not trusted */
    QVDCLIENT_UNREACHABLE = 5, /* no connection, or not a QVD server */
    QVDCLIENT_NO_VM = 6,       /* none, or not the wanted one */
    QVDCLIENT_REFUSED = 7,     /* the server forbids it */
    QVDCLIENT_UNAVAILABLE = 8, /* the server or the machine cannot now */
    QVDCLIENT_SESSION = 9,     /* the session broke off, or nxproxy failed */
    QVDCLIENT_CANCELLED = 10,  /* by qvdclient_stop(), before the desktop was there */
    QVDCLIENT_TAKEN = 11,      /* the session was taken over by another client */
};

struct qvdclient_certificate {
    const char *host; /* host:port */
    const char *subject, *issuer, *not_before, *not_after;
    const char *fingerprint; /* SHA-256, hex */
    bool changed;            /* another certificate of this host was accepted before */
    size_t n_faults;
    const int *faults;              /* numbers of accepted_certs.json */
    const char *const *fault_texts; /* the same in words */
};
enum qvdclient_answer { QVDCLIENT_REJECT, QVDCLIENT_ACCEPT_ONCE, QVDCLIENT_ACCEPT_ALWAYS };

struct qvdclient_vm {
    uint64_t id;
    const char *name;
    const char *state; /* stopped, starting, running, stopping, zombie */
    bool blocked;
    bool is_application;
};

/* Any may be NULL; what a question then does is told. Texts live until the callback returns. */
struct qvdclient_callbacks {
    void (*state)(void *arg, enum qvdclient_state state);
    /* Faults that nobody has accepted yet: qvdclient_answer_certificate(). NULL: rejected. */
    void (*certificate)(void *arg, const struct qvdclient_certificate *certificate);
    /* qvdclient_answer_password(). NULL: ends with QVDCLIENT_LOGIN. */
    void (*password)(void *arg);
    /* The machines, none perhaps: qvdclient_choose_vm() or qvdclient_finish(). Not called when
     * QVDCLIENT_VM is set. NULL: the first is taken. */
    void (*vms)(void *arg, const struct qvdclient_vm *vms, size_t n);
    /* A step is done, detail tells how; the next has begun. */
    void (*step)(void *arg, enum qvdclient_step done, const char *detail);
    /* What the server does, in its words. */
    void (*progress)(void *arg, const char *text);
    /* The line was cut (why), or an attempt to make it again failed: the next, the attempt-th,
     * begins in delay_ms. qvdclient_stop() ends the attempts. The desktop goes on meanwhile. */
    void (*reconnecting)(void *arg, const char *why, unsigned attempt, unsigned delay_ms);
    /* For a log: nothing in it is secret. */
    void (*debug)(void *arg, const char *text);
    void (*ended)(void *arg, enum qvdclient_result result, const char *text);
};

/* NULL: out of memory. callbacks must outlive it. */
QVDCLIENT_API struct qvdclient *
qvdclient_new(struct qvdclient_loop *loop, const struct qvdclient_callbacks *callbacks, void *arg);
/* Cuts what there is, without ended(), and kills its nxproxy. NULL-safe. */
QVDCLIENT_API void qvdclient_free(struct qvdclient *c);
/* value NULL: unset. Copied. 0; -EINVAL: not such a value; -ENOMEM. Not between start and ended. */
QVDCLIENT_API int qvdclient_set(struct qvdclient *c, enum qvdclient_option option,
                                const char *value);
/* What an option takes, in words: "a number from 1 to 65535"; NULL for the unknown. */
QVDCLIENT_API const char *qvdclient_allowed(enum qvdclient_option option);
/* A variable that the server's authentication is told (it decides what it makes of it), with every
 * request. value NULL: not any more. Copied. 0; -EINVAL: no such name (letters, digits, _; at most
 * 64) or value (at most 1024 bytes); -ENOSPC: more than 32; -ENOMEM. Not between start and ended.
 */
QVDCLIENT_API int qvdclient_share(struct qvdclient *c, const char *name, const char *value);
/* 0; -EBUSY: started already. Faults of the settings are told by ended(). */
QVDCLIENT_API int qvdclient_start(struct qvdclient *c);
QVDCLIENT_API void qvdclient_answer_certificate(struct qvdclient *c, enum qvdclient_answer answer);
/* Copied, and wiped at the end; NULL: the person gives up. */
QVDCLIENT_API void qvdclient_answer_password(struct qvdclient *c, const char *password);
/* -ENOENT: not in the list; else 0. */
QVDCLIENT_API int qvdclient_choose_vm(struct qvdclient *c, uint64_t id);
/* Instead of choosing: the list was all that was wanted. */
QVDCLIENT_API void qvdclient_finish(struct qvdclient *c);
/* Disconnects, whatever is going on; the desktop goes on. ended() follows. */
QVDCLIENT_API void qvdclient_stop(struct qvdclient *c);

QVDCLIENT_API enum qvdclient_state qvdclient_state(const struct qvdclient *c);
/* "waiting"; NULL for the unknown. */
QVDCLIENT_API const char *qvdclient_state_name(enum qvdclient_state state);
/* Bytes from and to the desktop since it is connected. */
QVDCLIENT_API void qvdclient_traffic(const struct qvdclient *c, uint64_t *ret_in,
                                     uint64_t *ret_out);
QVDCLIENT_API const char *qvdclient_version(void);

#ifdef __cplusplus
}
#endif
