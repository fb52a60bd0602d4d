// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The wire to the agent in a VM, version 1 (docs/protocol.md): POST /vma/1/FUNCTION, one request a
 * connection, JSON both ways, both ways authenticated by the VM's secret, which is never sent.
 *
 *   request  QVD-Auth: v1 SERIAL NONCE MAC   MAC = HMAC-SHA256(secret, "qvd1 request\n"
 *            FUNCTION "\n" SERIAL "\n" NONCE "\n" hex(SHA-256(body)))
 *   answer   QVD-Auth: v1 MAC                MAC = HMAC-SHA256(secret, "qvd1 answer\n"
 *            STATUS "\n" NONCE "\n" hex(SHA-256(body)))
 *
 * SERIAL is decimal without leading zeros: the id of the session or command, from one sequence.
 * An agent refuses (409) an order whose serial is lower than the last it obeyed, and answers an
 * equal pair (serial, function) with the same result. ping and x_state change nothing, carry 0 and
 * are always answered. NONCE: 32 hex digits, new for each request. Hex is lower case.
 *
 * Body of a request: a flat object of texts, as {"qvd.vm.user.name": "demo"}; {} without any.
 * Body of an answer: {"state": "listening"} with status 200, or {"state": ..., "error": TEXT} with
 * 400 (malformed), 401 (wrong MAC), 403 (refused for good), 404 (no such function), 409 (lower
 * serial, or overtaken by a later order), 503 (failed, perhaps not for ever). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/table.h"

#define WIRE_VMA_PORT 3030
#define WIRE_NX_PORT 4100
#define WIRE_VMA_PREFIX "/vma/1/"
#define WIRE_VMA_AUTH "QVD-Auth"
#define WIRE_VMA_BODY_MAX 16384 /* bytes of a body, either way */
#define WIRE_VMA_SECRET_LEN 32  /* bytes; the file holds them raw */
#define WIRE_VMA_NONCE_LEN 32   /* hex digits */
#define WIRE_VMA_AUTH_MAX 160   /* room for a QVD-Auth value and its NUL */
#define WIRE_VMA_TEXT_MAX 511   /* bytes of an answer's error text */
#define WIRE_VMA_SECRET_PATH "/dev/.qvd/secret"
/* A FIFO: the agent writes a byte when its port listens. */
#define WIRE_VMA_READY_PATH "/dev/.qvd/ready"

enum wire_vma_function {
    WIRE_VMA_PING,
    WIRE_VMA_X_STATE,
    WIRE_VMA_X_START,   /* parameters; answered once nxagent listens */
    WIRE_VMA_X_RESET,   /* a dial of this session was given up unused */
    WIRE_VMA_X_SUSPEND, /* answered once suspended */
    WIRE_VMA_X_STOP,    /* answered once stopped */
    WIRE_VMA_POWEROFF,  /* answered just before the shutdown begins */
    WIRE_VMA_EXPIRE,    /* qvd.vm.expiration.soft, .hard (RFC 3339): runs the expire hook */
    WIRE_VMA_FUNCTION_MAX,
    WIRE_VMA_FUNCTION_INVALID = -1
};
/* "ping", "x_state", ... */
QVD_STRING_TABLE_DECLARE(wire_vma_function, enum wire_vma_function);
/* Whether it needs a serial (all but ping and x_state). */
bool wire_vma_is_order(enum wire_vma_function f);

/* What x_state tells, as in the original. */
enum wire_x_state {
    WIRE_X_STOPPED,
    WIRE_X_STARTING,
    WIRE_X_PROVISIONING,
    WIRE_X_LISTENING, /* waits for the client's stream on WIRE_NX_PORT */
    WIRE_X_CONNECTED,
    WIRE_X_SUSPENDING,
    WIRE_X_SUSPENDED,
    WIRE_X_STOPPING,
    WIRE_X_STATE_MAX,
    WIRE_X_STATE_INVALID = -1
};
/* "stopped", "starting", ... */
QVD_STRING_TABLE_DECLARE(wire_x_state, enum wire_x_state);

/* Lets jansson have now what it would read from a file at first use: to be called before a sandbox
 * is entered, by whoever uses this room there. 0 or -EIO. */
must_check int wire_vma_warm_up(void);
/* A new nonce and its NUL: 0 or -errno. */
must_check int wire_vma_nonce(char ret_nonce[WIRE_VMA_NONCE_LEN + 1]);
/* The value of a request's QVD-Auth. function: its word. 0 or -EIO (libcrypto failed). */
must_check int wire_vma_sign_request(const uint8_t secret[WIRE_VMA_SECRET_LEN],
                                     const char *function, uint64_t serial, const char *nonce,
                                     const void *body, size_t len,
                                     char ret_value[WIRE_VMA_AUTH_MAX]);
/* Takes the QVD-Auth value of a request apart and checks its MAC. 0 with *ret_serial and the
 * nonce; -EBADMSG: not of this form; -EACCES: wrong MAC; -EIO. */
must_check int wire_vma_check_request(const uint8_t secret[WIRE_VMA_SECRET_LEN],
                                      const char *function, const char *value, size_t value_len,
                                      const void *body, size_t len, uint64_t *ret_serial,
                                      char ret_nonce[WIRE_VMA_NONCE_LEN + 1]);
/* The value of an answer's QVD-Auth. 0 or -EIO. */
must_check int wire_vma_sign_answer(const uint8_t secret[WIRE_VMA_SECRET_LEN], unsigned status,
                                    const char *nonce, const void *body, size_t len,
                                    char ret_value[WIRE_VMA_AUTH_MAX]);
/* 0; -EBADMSG: not of this form; -EACCES: wrong MAC; -EIO. */
must_check int wire_vma_check_answer(const uint8_t secret[WIRE_VMA_SECRET_LEN], unsigned status,
                                     const char *nonce, const char *value, size_t value_len,
                                     const void *body, size_t len);

struct wire_vma_answer {
    enum wire_x_state state;           /* INVALID: none told */
    char error[WIRE_VMA_TEXT_MAX + 1]; /* printable UTF-8 in one line; "" when none */
};
/* Reads an answer's body, which may be hostile: unknown members are passed over, a text too long is
 * cut, what is not printable becomes '?'. 0 or -EBADMSG. */
must_check int wire_vma_answer_parse(const char *body, size_t len, struct wire_vma_answer *ret);
/* The body of an answer (free it); NULL when out of memory. */
must_check char *wire_vma_answer_format(const struct wire_vma_answer *answer);

/* Parameters of x_start and hooks: names and texts, the later of two equal names wins. */
#define WIRE_PARAMS_MAX 256
#define WIRE_PARAM_NAME_MAX 128
#define WIRE_PARAM_VALUE_MAX 4096
struct wire_params;
must_check struct wire_params *wire_params_new(void);
/* NULL-safe; always NULL. */
struct wire_params *wire_params_free(struct wire_params *p);
static inline void wire_params_free_p(struct wire_params **p)
{
    wire_params_free(*p);
}
/* 0; -EINVAL: a name that is not [A-Za-z0-9._-]+, or a value with control characters or no UTF-8;
 * -ENOBUFS: over a limit; -ENOMEM. */
must_check int wire_params_set(struct wire_params *p, const char *name, const char *value);
/* Sets all members of a flat JSON object (numbers and booleans become texts, null is passed over):
 * 0, -EBADMSG, or as wire_params_set() with nothing changed for the rest. */
must_check int wire_params_set_json(struct wire_params *p, const char *json, size_t len);
/* The same for properties that people have typed: names that begin with "qvd." (only the server
 * says them) and members that wire_params_set() refuses are left out and counted. 0, -EBADMSG,
 * -ENOMEM.
 */
must_check int wire_params_set_properties(struct wire_params *p, const char *json, size_t len,
                                          size_t *ret_bad);
/* NULL when absent; lives until the next set. */
const char *wire_params_get(const struct wire_params *p, const char *name);
size_t wire_params_count(const struct wire_params *p);
/* In the order of first setting; i below the count. */
const char *wire_params_name(const struct wire_params *p, size_t i);
const char *wire_params_value(const struct wire_params *p, size_t i);
/* The JSON object (free it); NULL when out of memory. */
must_check char *wire_params_format(const struct wire_params *p);
