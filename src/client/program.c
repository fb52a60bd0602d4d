// SPDX-License-Identifier: GPL-3.0-or-later
/* qvdclient: connects a person to his desktop, from a terminal or a menu. */
#include "client/program.h"

#include <signal.h>
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

static void on_debug(void *arg, const char *text)
{
    log_debug("%s", text);
}

static void on_state(void *arg, enum qvdclient_state state)
{
    struct program *p = arg;

    log_debug("%s", qvdclient_state_name(state));
    if (state == QVDCLIENT_CONNECTED && p->lost) {
        fprintf(stderr, "qvdclient: connected again\n");
        p->lost = false;
    }
}

static void on_progress(void *arg, const char *text)
{
    fprintf(stderr, "qvdclient: %s\n", text);
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

/* What client.ssl.allow_* says of a fault: may the person accept it? */
static bool may_accept(const struct program *p, int fault)
{
    static const struct {
        int fault;
        const char *key;
    } table[] = {
        {2,    "client.ssl.allow_untrusted"    }, /* X509_V_ERR_*: no issuer */
        {9,    "client.ssl.allow_not_yet_valid"},
        {10,   "client.ssl.allow_expired"      },
        {18,   "client.ssl.allow_untrusted"    }, /* self-signed */
        {19,   "client.ssl.allow_untrusted"    }, /* self-signed in the chain */
        {20,   "client.ssl.allow_untrusted"    }, /* no local issuer */
        {21,   "client.ssl.allow_untrusted"    }, /* first cannot be verified */
        {23,   "client.ssl.allow_revoked"      },
        {27,   "client.ssl.allow_untrusted"    },
        {1001, "client.ssl.allow_bad_host"     },
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].fault == fault)
            return conf_bool(p->conf, table[i].key);
    return conf_bool(p->conf, "client.ssl.allow_unknown_error");
}

static void on_certificate(void *arg, const struct qvdclient_certificate *cert)
{
    struct program *p = arg;
    bool allowed = true;

    if (signalled)
        return; /* the wake-up is on its way */
    for (size_t i = 0; i < cert->n_faults; i++)
        allowed = allowed && may_accept(p, cert->faults[i]);
    if (!allowed) {
        fprintf(stderr, "qvdclient: your settings (client.ssl.allow_*) do not let you accept it\n");
        qvdclient_answer_certificate(p->client, QVDCLIENT_REJECT);
    } else if (!ask_possible()) {
        fprintf(stderr,
                "qvdclient: to trust it give --ca FILE of its authority, or, having checked "
                "it, --accept-fingerprint %s\n",
                cert->fingerprint);
        qvdclient_answer_certificate(p->client, QVDCLIENT_REJECT);
    } else {
        qvdclient_answer_certificate(p->client, ask_certificate(cert));
    }
}

static void on_vms(void *arg, const struct qvdclient_vm *vms, size_t n)
{
    struct program *p = arg;
    uint64_t id = 0;

    if (signalled)
        return;
    if (p->list) {
        show_vms(vms, n, p->json);
        qvdclient_finish(p->client);
        return;
    }
    if (n == 0)
        fprintf(stderr, "qvdclient: you have no virtual machine; ask your administrator\n");
    else if (n == 1 || p->first)
        id = vms[0].id;
    else if (ask_possible())
        id = ask_vm(vms, n);
    else
        fprintf(stderr,
                "qvdclient: you have %zu virtual machines: name one by --vm, or take the "
                "first by -o\n",
                n);
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
        fprintf(stderr, "qvdclient: the connection was lost: %s\n", why);
    if (attempt > 1)
        fprintf(stderr, "qvdclient: attempt %u failed: %s\n", attempt - 1, why);
    fprintf(stderr, "qvdclient: connecting again in %u.%u s; your desktop goes on meanwhile\n",
            delay_ms / 1000, delay_ms % 1000 / 100);
    p->lost = true;
}

static void on_ended(void *arg, enum qvdclient_result result, const char *text)
{
    struct program *p = arg;

    /* An end of the server's that the person did not make himself is told too. */
    if (result != QVDCLIENT_OK || (strncmp(text, ENDED ":", strlen(ENDED ":")) == 0 &&
                                   strcmp(text, ENDED ": closed by the desktop") != 0))
        fprintf(stderr, "qvdclient: %s\n", text);
    else
        log_debug("%s", text);
    qvdclient_loop_stop(p->loop, result != QVDCLIENT_OK ? (int)result : p->status);
}

static const struct qvdclient_callbacks callbacks = {
    .state = on_state,
    .certificate = on_certificate,
    .password = on_password,
    .vms = on_vms,
    .progress = on_progress,
    .reconnecting = on_reconnecting,
    .debug = on_debug,
    .ended = on_ended,
};

static void open_log(const struct program *p)
{
    const char *file = getenv("QVD_DEBUG_FILE");

    if (!p->debug)
        return;
    log_set_level(LOG_LEVEL_DEBUG);
    if (file && *file && log_set_file(file) < 0)
        log_warning("%s cannot be written, ignoring: QVD_DEBUG_FILE", file);
}

int main(int argc, char **argv)
{
    struct program p = {0};
    int status = QVDCLIENT_FAILED;

    log_open("qvdclient");
    p.loop = qvdclient_loop_new();
    p.client = p.loop ? qvdclient_new(p.loop, &callbacks, &p) : NULL;
    if (!p.client) {
        fprintf(stderr, "qvdclient: out of memory\n");
    } else if (program_options(&p, argc, argv, &status) == 0) {
        open_log(&p);
        if (p.list) /* of them all */
            (void)qvdclient_set(p.client, QVDCLIENT_VM, NULL);
        qvdclient_loop_on_wake(p.loop, on_wake, &p);
        catch_signals(p.loop);
        if (qvdclient_start(p.client) == 0)
            status = qvdclient_loop_run(p.loop);
    }
    qvdclient_free(p.client);
    conf_free(p.conf);
    if (p.loop)
        qvdclient_loop_free(p.loop);
    return status;
}
