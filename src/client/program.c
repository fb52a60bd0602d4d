// SPDX-License-Identifier: GPL-3.0-or-later
/* qvdclient: connects a person to his desktop, from a terminal or a menu. */
#include "client/program.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/ask.h"
#include "base/log.h"

#define ENDED "The session has ended"

static struct qvdclient_loop *signal_loop;
static volatile sig_atomic_t signalled;

static void on_signal(int signo)
{
    signalled = signo;
    qvdclient_loop_wake(signal_loop);
}

static void on_wake(void *arg)
{
    struct program *p = arg;

    if (signalled)
        qvdclient_stop(p->client);
}

/* Without SA_RESTART: a signal ends a question too. */
static void catch_signals(struct qvdclient_loop *loop)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction action = {.sa_handler = on_signal};

    signal_loop = loop;
    for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
        sigaction(signals[i], &action, NULL);
}

void say(const struct program *p, const char *fmt, ...)
{
    char text[600];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fprintf(stderr, "qvdclient: %s\n", text);
    if (p->logs)
        log_info("%s", text);
}

static void on_debug(void *arg, const char *text)
{
    log_debug("%s", text);
}

static void on_state(void *arg, enum qvdclient_state state)
{
    struct program *p = arg;

    log_debug("%s", qvdclient_state_name(state));
    if (p->steps && state >= QVDCLIENT_RESOLVING && state <= QVDCLIENT_STARTING_NX &&
        state != QVDCLIENT_ASKING_CERTIFICATE && state != QVDCLIENT_CHOOSING)
        say(p, "%s ...", qvdclient_state_name(state));
    if (state == QVDCLIENT_CONNECTED && p->lost) {
        say(p, "connected again");
        p->lost = false;
    }
}

static void on_progress(void *arg, const char *text)
{
    const struct program *p = arg;

    say(p, "%s", text);
}

static void on_step(void *arg, enum qvdclient_step done, const char *detail)
{
    struct program *p = arg;

    log_debug("step %d is done: %s", (int)done, detail);
    if (p->check)
        check_step(p, done, detail);
}

static void on_password(void *arg)
{
    struct program *p = arg;
    char *line = NULL;

    if (signalled)
        return; /* the wake-up is on its way */
    if (!ask_possible()) {
        fprintf(stderr, "qvdclient: no password: give it by --password-file, QVDPASSWORD or -w -, "
                        "or call me from a terminal\n");
    } else {
        line = ask_secret("Password: ");
    }
    qvdclient_answer_password(p->client, line);
    if (line)
        explicit_bzero(line, strlen(line));
    free(line);
}

/* What may be done about a fault, and what client.ssl.allow_* says of it. Numbers as in
 * accepted_certs.json: X509_V_ERR_* and those of client.md 2.5. */
static const struct fault {
    int fault;
    const char *key, *mend;
} faults[] = {
#define UNKNOWN "give --ca FILE with its authority"
    {2,    "client.ssl.allow_untrusted",          UNKNOWN                                       },
    {9,    "client.ssl.allow_not_yet_valid",      "look at the clock of this machine"           },
    {10,   "client.ssl.allow_expired",
                                                       "your administrator must renew it; look at the clock of this machine too"                  },
    {18,   "client.ssl.allow_untrusted",          UNKNOWN                                       },
    {19,   "client.ssl.allow_untrusted",          UNKNOWN                                       },
    {20,   "client.ssl.allow_untrusted",          UNKNOWN                                       },
    {21,   "client.ssl.allow_untrusted",          UNKNOWN                                       },
    {23,   "client.ssl.allow_revoked",            "do not connect; tell your administrator"     },
    {27,   "client.ssl.allow_untrusted",          UNKNOWN                                       },
    {1001, "client.ssl.allow_bad_host",           "call the server by a name that is in it (-h)"},
    {1002, "client.ssl.allow_insecure_sign_algo", "your administrator must make a new one"      },
    {1003, "client.ssl.allow_weak_key",           "your administrator must make a new one"      },
};

static const struct fault *fault_of(int number)
{
    static const struct fault other = {0, "client.ssl.allow_unknown_error",
                                       "ask your administrator"};

    for (size_t i = 0; i < ARRAY_SIZE(faults); i++)
        if (faults[i].fault == number)
            return &faults[i];
    return &other;
}

/* Reads what may be accepted; NULL: all of it. */
static const char *forbidden(const struct program *p, const struct qvdclient_certificate *cert)
{
    for (size_t i = 0; i < cert->n_faults; i++)
        if (!conf_bool(p->conf, fault_of(cert->faults[i])->key))
            return fault_of(cert->faults[i])->key;
    return NULL;
}

static void on_certificate(void *arg, const struct qvdclient_certificate *cert)
{
    struct program *p = arg;
    const char *key = forbidden(p, cert);

    if (signalled)
        return; /* the wake-up is on its way */
    p->fault = cert->changed ? FAULT_CHANGED : cert->faults[0];
    if (!key && !p->check && ask_possible()) {
        qvdclient_answer_certificate(
            p->client, ask_certificate(cert, conf_ms(p->conf, "client.ssl.error_timeout")));
        return;
    }
    if (key)
        say(p, "%s = 0 does not let you accept it", key);
    if (cert->changed)
        say(p,
            "%s shows ANOTHER certificate than the one that you accepted: someone may be "
            "listening; ask your administrator",
            cert->host);
    for (size_t i = 0; i < cert->n_faults; i++)
        say(p, "%s: %s", cert->fault_texts[i], fault_of(cert->faults[i])->mend);
    if (!key && !cert->changed && p->fault != 23)
        say(p,
            "or, having compared it with what your administrator tells you: --accept-fingerprint "
            "%s",
            cert->fingerprint);
    qvdclient_answer_certificate(p->client, QVDCLIENT_REJECT);
}

static void on_vms(void *arg, const struct qvdclient_vm *vms, size_t n)
{
    struct program *p = arg;
    uint64_t id = 0;

    if (signalled)
        return;
    if (p->list) {
        if (!p->check)
            show_vms(vms, n, p->json);
        qvdclient_finish(p->client);
        return;
    }
    if (n == 0)
        say(p, "you have no virtual machine; ask your administrator");
    else if (n == 1 || p->first || p->check)
        id = vms[0].id;
    else if (ask_possible())
        id = ask_vm(vms, n);
    else
        say(p, "you have %zu virtual machines: name one by --vm, or take the first by -o", n);
    if (id) {
        (void)qvdclient_choose_vm(p->client, id);
    } else {
        p->status = QVDCLIENT_NO_VM;
        qvdclient_finish(p->client);
    }
}

static void on_reconnecting(void *arg, const char *why, unsigned attempt, unsigned delay_ms)
{
    struct program *p = arg;

    if (attempt == 1)
        say(p, "the connection was lost: %s", why);
    if (attempt > 1)
        say(p, "attempt %u failed: %s", attempt - 1, why);
    say(p, "connecting again in %u.%u s; your desktop goes on meanwhile", delay_ms / 1000,
        delay_ms % 1000 / 100);
    p->lost = true;
}

/* What the person can do about it, behind what went wrong. */
static const char *mend_of(const struct program *p, enum qvdclient_result result)
{
    switch (result) {
    case QVDCLIENT_USAGE:
        return "; qvdclient --help tells the options";
    case QVDCLIENT_UNREACHABLE:
        return p->plain ? "; most servers speak TLS: leave --no-ssl (client.use_ssl = 0) out"
                        : "; check host and port, or let qvdclient --check look";
    case QVDCLIENT_LOGIN:
        return p->token
                   ? "; ask for a new one"
                   : "; check both (with several tenants: user@tenant), or ask your administrator";
    case QVDCLIENT_SESSION:
        return "; your desktop goes on: connect again";
    case QVDCLIENT_TAKEN:
        return "; connect again to take it back";
    default:
        return "";
    }
}

static void on_ended(void *arg, enum qvdclient_result result, const char *text)
{
    struct program *p = arg;
    int status = result != QVDCLIENT_OK ? (int)result : p->status;

    if (p->check)
        status = check_ended(p, (enum qvdclient_result)status,
                             result == QVDCLIENT_OK && status ? "there is none" : text);
    /* An end of the server's that the person did not make himself is told too. */
    else if (result != QVDCLIENT_OK || (strncmp(text, ENDED ":", strlen(ENDED ":")) == 0 &&
                                        strcmp(text, ENDED ": closed by the desktop") != 0))
        say(p, "%s%s", text, mend_of(p, result));
    log_debug("%s", text);
    qvdclient_loop_stop(p->loop, status);
}

static const struct qvdclient_callbacks callbacks = {
    .state = on_state,
    .certificate = on_certificate,
    .password = on_password,
    .vms = on_vms,
    .step = on_step,
    .progress = on_progress,
    .reconnecting = on_reconnecting,
    .debug = on_debug,
    .ended = on_ended,
};

int main(int argc, char **argv)
{
    struct program p = {0};
    int status = QVDCLIENT_FAILED;

    log_open("qvdclient");
    p.loop = qvdclient_loop_new();
    p.client = p.loop ? qvdclient_new(p.loop, &callbacks, &p) : NULL;
    if (!p.client) {
        say(&p, "out of memory");
    } else if (program_options(&p, argc, argv, &status) == 0) {
        program_open_log(&p);
        p.steps = !p.debug && !p.check && isatty(STDERR_FILENO);
        if (p.check)
            (void)qvdclient_set(p.client, QVDCLIENT_RECONNECT, "0");
        if (p.list) /* of them all */
            (void)qvdclient_set(p.client, QVDCLIENT_VM, NULL);
        qvdclient_loop_on_wake(p.loop, on_wake, &p);
        catch_signals(p.loop);
        if (qvdclient_start(p.client) == 0)
            status = qvdclient_loop_run(p.loop);
    }
    qvdclient_free(p.client);
    conf_free(p.conf);
    conf_free(p.system);
    if (p.loop)
        qvdclient_loop_free(p.loop);
    return status;
}
