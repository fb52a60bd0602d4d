// SPDX-License-Identifier: GPL-3.0-or-later
/* A client object: its settings, its states, its end. */
#include <stdarg.h>
#include <string.h>
#include <strings.h>

#include "base/str.h"
#include "base/table.h"
#include "client/client-internal.h"
#include "config.h"

static const char *const state_table[QVDCLIENT_STATE_MAX] = {
    [QVDCLIENT_IDLE] = "idle",
    [QVDCLIENT_ASKING_PASSWORD] = "asking for the password",
    [QVDCLIENT_RESOLVING] = "looking up the server",
    [QVDCLIENT_CONNECTING] = "connecting",
    [QVDCLIENT_ASKING_CERTIFICATE] = "asking about the certificate",
    [QVDCLIENT_LISTING] = "asking for the machines",
    [QVDCLIENT_CHOOSING] = "choosing",
    [QVDCLIENT_STOPPING_VM] = "stopping the machine",
    [QVDCLIENT_WAITING] = "waiting for the desktop",
    [QVDCLIENT_STARTING_NX] = "starting nxproxy",
    [QVDCLIENT_CONNECTED] = "connected",
    [QVDCLIENT_RECONNECTING] = "connecting again",
    [QVDCLIENT_ENDING] = "ending",
    [QVDCLIENT_ENDED] = "ended",
};

enum value_type {
    VALUE_TEXT,
    VALUE_FLAG,
    VALUE_PORT,
    VALUE_SECONDS,
    VALUE_GEOMETRY,
    VALUE_LINK,
    VALUE_KEYBOARD,
    VALUE_ZONE,
    VALUE_FINGERPRINT
};

/* What is taken, in words. */
static const char *const allowed[] = {
    [VALUE_TEXT] = "no control characters",
    [VALUE_FLAG] = "0 or 1",
    [VALUE_PORT] = "a number from 1 to 65535",
    [VALUE_SECONDS] = "seconds, from 0 to 86400",
    [VALUE_GEOMETRY] = "WIDTHxHEIGHT as 1024x768, each at least 64",
    [VALUE_LINK] = "modem, isdn, adsl, wan, lan, local or a rate as 56k, 1m, 100m",
    [VALUE_KEYBOARD] = "MODEL/LAYOUT as pc105/es",
    [VALUE_ZONE] = "a name as Europe/Madrid",
    [VALUE_FINGERPRINT] = "the 64 hexadecimal digits of a SHA-256",
};

/* A setting is a row. */
static const struct {
    const char *def;
    enum value_type type;
} option_table[QVDCLIENT_OPTION_MAX] = {
    [QVDCLIENT_PORT] = {"8443",     VALUE_PORT       },
    [QVDCLIENT_USE_SSL] = {"1",        VALUE_FLAG       },
    [QVDCLIENT_CA_SYSTEM] = {"1",        VALUE_FLAG       },
    [QVDCLIENT_FINGERPRINT] = {NULL,       VALUE_FINGERPRINT},
    [QVDCLIENT_INSECURE] = {"0",        VALUE_FLAG       },
    [QVDCLIENT_RESTART] = {"0",        VALUE_FLAG       },
    [QVDCLIENT_GEOMETRY] = {"1024x768", VALUE_GEOMETRY   },
    [QVDCLIENT_FULLSCREEN] = {"0",        VALUE_FLAG       },
    [QVDCLIENT_RECONNECT] = {"120",      VALUE_SECONDS    },
    [QVDCLIENT_LINK] = {"local",    VALUE_LINK       },
    [QVDCLIENT_KEYBOARD] = {NULL,       VALUE_KEYBOARD   },
    [QVDCLIENT_TIMEZONE] = {NULL,       VALUE_ZONE       },
    [QVDCLIENT_NXPROXY] = {"nxproxy",  VALUE_TEXT       },
};

const char *client_option(const struct qvdclient *c, enum qvdclient_option o)
{
    if (c->options[o])
        return c->options[o];
    return option_table[o].def ? option_table[o].def : "";
}

bool client_flag(const struct qvdclient *c, enum qvdclient_option o)
{
    return strcmp(client_option(c, o), "1") == 0;
}

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

/* Words, and a "/" between: nothing that could be more than one. */
static bool is_path_of_words(const char *value, const char *chars)
{
    size_t n = strspn(value, chars);

    return n <= 128 && value[n] == '\0';
}

static bool value_ok(enum value_type type, const char *value)
{
    int64_t number;
    unsigned w, h;
    char rest;

    for (const char *s = value; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            return false;
    switch (type) {
    case VALUE_FLAG:
        return strcmp(value, "0") == 0 || strcmp(value, "1") == 0;
    case VALUE_PORT:
        return str_to_i64(value, 1, 65535, &number) == 0;
    case VALUE_SECONDS:
        return str_to_i64(value, 0, 86400, &number) == 0;
    case VALUE_GEOMETRY:
        return sscanf(value, "%5ux%5u%c", &w, &h, &rest) == 2 && w >= 64 && h >= 64;
    case VALUE_LINK:
        return !*value || wire_l7r_link(value);
    case VALUE_KEYBOARD:
        return is_path_of_words(value, LETTERS "_+.%-/");
    case VALUE_ZONE:
        return is_path_of_words(value, LETTERS "_+-/");
    case VALUE_FINGERPRINT:
        return client_fingerprint_equal(value, value);
    case VALUE_TEXT:
        break;
    }
    return true;
}

const char *qvdclient_allowed(enum qvdclient_option option)
{
    return option >= 0 && option < QVDCLIENT_OPTION_MAX ? allowed[option_table[option].type] : NULL;
}

int qvdclient_set(struct qvdclient *c, enum qvdclient_option option, const char *value)
{
    char *copy = NULL;

    if (option < 0 || option >= QVDCLIENT_OPTION_MAX ||
        (value && !value_ok(option_table[option].type, value)))
        return -EINVAL;
    if (value && *value) {
        copy = strdup(value);
        if (!copy)
            return -ENOMEM;
    }
    if (c->options[option])
        explicit_bzero(c->options[option], strlen(c->options[option]));
    free(c->options[option]);
    c->options[option] = copy;
    return 0;
}

static void forget_shared(struct client_shared *v)
{
    explicit_bzero(v->value, strlen(v->value));
    free(v->value);
    free(v->name);
}

int qvdclient_share(struct qvdclient *c, const char *name, const char *value)
{
    size_t len = strlen(name), at = 0;

    if (len == 0 || len > 64 ||
        name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_")] ||
        (value && strlen(value) > 1024))
        return -EINVAL;
    while (at < c->n_shared && strcmp(c->shared[at].name, name) != 0)
        at++;
    if (at < c->n_shared) {
        forget_shared(&c->shared[at]);
        c->shared[at] = c->shared[--c->n_shared];
    }
    if (!value)
        return 0;
    if (c->n_shared == CLIENT_SHARED_MAX)
        return -ENOSPC;
    struct client_shared v = {strdup(name), strdup(value)};
    if (!v.name || !v.value) {
        free(v.name);
        free(v.value);
        return -ENOMEM;
    }
    c->shared[c->n_shared++] = v;
    return 0;
}

/* --- states --------------------------------------------------------------------------------- */

void client_set_state(struct qvdclient *c, enum qvdclient_state state)
{
    if (c->state == state)
        return;
    c->state = state;
    if (c->cb->state)
        c->cb->state(c->arg, state);
}

enum qvdclient_state qvdclient_state(const struct qvdclient *c)
{
    return c->state;
}

const char *qvdclient_state_name(enum qvdclient_state state)
{
    return state >= 0 && state < QVDCLIENT_STATE_MAX ? state_table[state] : NULL;
}

bool client_over(const struct qvdclient *c)
{
    return c->state == QVDCLIENT_IDLE || c->state == QVDCLIENT_ENDING ||
           c->state == QVDCLIENT_ENDED;
}

void client_debug(struct qvdclient *c, const char *fmt, ...)
{
    char text[512];
    va_list args;

    if (!c->cb->debug)
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    c->cb->debug(c->arg, text);
}

void client_step(struct qvdclient *c, enum qvdclient_step done, const char *fmt, ...)
{
    char text[300];
    va_list args;

    if (!c->cb->step || client_over(c))
        return;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    c->cb->step(c->arg, done, text);
}

void client_later(struct qvdclient *c, void (*fn)(struct qvdclient *c))
{
    c->later_fn = fn;
    ev_defer(c->loop, &c->later);
}

static void on_later(void *arg)
{
    struct qvdclient *c = arg;

    c->later_fn(c);
}

static void wipe_password(struct qvdclient *c)
{
    if (c->password)
        explicit_bzero(c->password, strlen(c->password));
    free(c->password);
    c->password = NULL;
}

void client_finished(struct qvdclient *c)
{
    c->state = QVDCLIENT_ENDED;
    if (c->cb->state)
        c->cb->state(c->arg, QVDCLIENT_ENDED);
    if (c->cb->ended)
        c->cb->ended(c->arg, c->result, c->text);
}

static void take_down(struct qvdclient *c)
{
    c->down = true;
    ev_timer_disarm(c->timer);
    client_disconnect(c);
    wipe_password(c);
    free(c->vms);
    c->vms = NULL;
    c->n_vms = 0;
    c->tls = tls_context_unref(c->tls);
    if (client_session_end(c))
        client_finished(c);
}

void client_end(struct qvdclient *c, enum qvdclient_result result, const char *fmt, ...)
{
    va_list args;

    if (client_over(c))
        return;
    va_start(args, fmt);
    vsnprintf(c->text, sizeof c->text, fmt, args);
    va_end(args);
    if (client_again_failed(c, &result))
        return;
    c->result = result;
    client_set_state(c, QVDCLIENT_ENDING);
    client_later(c, take_down);
}

/* --- the public functions ----------------------------------------------------------------------
 */

static void on_timer(void *arg)
{
    struct qvdclient *c = arg;

    if (c->state == QVDCLIENT_STARTING_NX) {
        client_end(c, QVDCLIENT_SESSION, "%s did not start: %s",
                   client_option(c, QVDCLIENT_NXPROXY),
                   c->session.last_error[0] ? c->session.last_error : "no word from it");
    } else if (c->state == QVDCLIENT_RECONNECTING) {
        client_again_timer(c);
    } else if (c->state == QVDCLIENT_ENDING) {
        client_session_kill(c);
    }
}

struct qvdclient *qvdclient_new(struct qvdclient_loop *loop,
                                const struct qvdclient_callbacks *callbacks, void *arg)
{
    struct qvdclient *c = calloc(1, sizeof *c);

    if (!c)
        return NULL;
    c->loop = client_loop(loop);
    c->cb = callbacks;
    c->arg = arg;
    c->session.dir_fd = c->session.listen_fd = c->session.errors_fd = -EBADF;
    ev_deferred_init(&c->later, on_later, c);
    if (ev_timer_new(c->loop, on_timer, c, &c->timer) < 0) {
        free(c);
        return NULL;
    }
    return c;
}

void qvdclient_free(struct qvdclient *c)
{
    if (!c)
        return;
    ev_deferred_cancel(&c->later);
    client_disconnect(c);
    c->timer = ev_timer_free(c->timer);
    client_session_drop(c);
    c->tls = tls_context_unref(c->tls);
    wipe_password(c);
    for (int i = 0; i < QVDCLIENT_OPTION_MAX; i++)
        (void)qvdclient_set(c, i, NULL);
    while (c->n_shared > 0)
        forget_shared(&c->shared[--c->n_shared]);
    free(c->vms);
    free(c);
}

static must_check int check_settings(struct qvdclient *c)
{
    bool token = *client_option(c, QVDCLIENT_TOKEN);
    bool ipv6 = strchr(client_option(c, QVDCLIENT_HOST), ':');
    const char *missing = NULL;

    if (!*client_option(c, QVDCLIENT_HOST))
        missing = "no server is named";
    else if (!token && !*client_option(c, QVDCLIENT_USER))
        missing = "no user is named";
    else if (strchr(client_option(c, QVDCLIENT_USER), ':'))
        missing = "a user's name has no colon";
    else if (!*client_option(c, QVDCLIENT_CERT_FILE) != !*client_option(c, QVDCLIENT_KEY_FILE))
        missing = "a client certificate needs its key, and a key its certificate";
    else if (str_format(c->host_port, sizeof c->host_port, ipv6 ? "[%s]:%s" : "%s:%s",
                        client_option(c, QVDCLIENT_HOST), client_option(c, QVDCLIENT_PORT)) < 0)
        missing = "the server's name is too long";
    if (missing)
        client_end(c, QVDCLIENT_USAGE, "%s", missing);
    return missing ? -EINVAL : 0;
}

static void begin(struct qvdclient *c)
{
    const char *given = c->options[QVDCLIENT_PASSWORD];

    if (check_settings(c) < 0)
        return;
    if (*client_option(c, QVDCLIENT_TOKEN)) {
        client_connect(c);
    } else if (given) {
        qvdclient_answer_password(c, given);
    } else if (c->cb->password) {
        client_set_state(c, QVDCLIENT_ASKING_PASSWORD);
        c->cb->password(c->arg);
    } else {
        client_end(c, QVDCLIENT_LOGIN, "no password is given");
    }
}

int qvdclient_start(struct qvdclient *c)
{
    uint8_t run[8] = {0};

    if (c->state != QVDCLIENT_IDLE && c->state != QVDCLIENT_ENDED)
        return -EBUSY;
    c->goal = GOAL_LIST;
    c->retried = c->down = false;
    c->again = (struct client_again){0};
    /* Without it nothing is told apart that our user has not begun himself. */
    if (random_bytes(run, sizeof run) < 0)
        client_debug(c, "no random bytes");
    hex_encode(run, sizeof run, c->run);
    c->accepted_now = (struct client_cert){0};
    c->session =
        (struct client_session){.dir_fd = -EBADF, .listen_fd = -EBADF, .errors_fd = -EBADF};
    c->state = QVDCLIENT_RESOLVING;
    client_later(c, begin);
    return 0;
}

void qvdclient_answer_password(struct qvdclient *c, const char *password)
{
    if (c->state != QVDCLIENT_ASKING_PASSWORD && c->state != QVDCLIENT_RESOLVING)
        return;
    wipe_password(c);
    if (!password) {
        client_end(c, QVDCLIENT_CANCELLED, "given up");
        return;
    }
    c->password = strdup(password);
    if (!c->password)
        client_end(c, QVDCLIENT_FAILED, "out of memory");
    else
        client_later(c, client_connect);
}

void qvdclient_finish(struct qvdclient *c)
{
    if (c->state == QVDCLIENT_CHOOSING)
        client_end(c, QVDCLIENT_OK, "done");
}

void qvdclient_stop(struct qvdclient *c)
{
    bool was_there = c->state == QVDCLIENT_CONNECTED || c->again.active;

    c->again.active = false;
    if (was_there)
        client_end(c, QVDCLIENT_OK, "disconnected");
    else
        client_end(c, QVDCLIENT_CANCELLED, "given up");
}

void qvdclient_traffic(const struct qvdclient *c, uint64_t *ret_in, uint64_t *ret_out)
{
    const struct stream_relay_stats *stats =
        c->session.relay ? stream_relay_stats(c->session.relay) : &c->session.stats;

    *ret_in = stats->bytes[STREAM_A];
    *ret_out = stats->bytes[STREAM_B];
}

const char *qvdclient_version(void)
{
    return QVD_VERSION;
}
