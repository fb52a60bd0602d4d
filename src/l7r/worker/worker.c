// SPDX-License-Identifier: GPL-3.0-or-later
/* qvd-l7r-worker: TLS, requests and relays of strangers. In an empty root, without rights: it gets
 * its listening socket (descriptor 4), certificate and settings from the master (descriptor 3), and
 * each desktop's socket from the broker. */
#include <getopt.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/str.h"
#include "config.h"
#include "ipc/log-msg.h"
#include "l7r/worker/worker-internal.h"

#define MASTER_FD 3
#define LISTEN_FD 4
#define ACCEPT_TURN 64
#define NO_DESCRIPTORS_MS 200

/* Accepting -------------------------------------------------------------------------------------
 */

static void address_of(const struct sockaddr_storage *addr, socklen_t len, char dst[64])
{
    if (getnameinfo((const struct sockaddr *)addr, len, dst, 64, NULL, 0, NI_NUMERICHOST) != 0)
        (void)snprintf(dst, 64, "unknown");
    if (str_starts(dst, "::ffff:"))
        memmove(dst, dst + 7, strlen(dst + 7) + 1);
    char *zone = strchr(dst, '%');
    if (zone)
        *zone = 0;
}

static void set_accepting(struct worker *w, bool on)
{
    if (w->accepting && ev_io_set(w->accepting, on ? EV_IO_IN : 0) < 0)
        log_error("cannot change what is accepted");
}

void worker_resume_accept(struct worker *w)
{
    if (!w->draining && w->n_conns < w->context.connections && !ev_timer_armed(w->resume))
        set_accepting(w, true);
}

static void resume_due(void *arg)
{
    worker_resume_accept(arg);
}

static void acceptable(void *arg, unsigned events)
{
    struct worker *w = arg;
    struct sockaddr_storage addr;
    char address[64];

    for (int i = 0; i < ACCEPT_TURN; i++) {
        socklen_t len = sizeof addr;
        if (w->n_conns >= w->context.connections) {
            set_accepting(w, false);
            return;
        }
        int fd =
            accept4(w->listen_fd, (struct sockaddr *)&addr, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            address_of(&addr, len, address);
            if (addrs_have(&w->proxies, address))
                arrival_new(w, fd, address);
            else
                client_new(w, fd, address, false);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_error("cannot accept: %s; raise LimitNOFILE or lower l7r.limit.connections",
                      strerror(errno));
            set_accepting(w, false);
            ev_timer_arm(w->resume, NO_DESCRIPTORS_MS);
        }
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

static void stop_accepting(struct worker *w)
{
    w->accepting = ev_io_free(w->accepting);
    w->listen_fd = fd_close(w->listen_fd);
}

void worker_end_if_idle(struct worker *w)
{
    if (w->draining && list_empty(&w->arrivals) && list_empty(&w->conns) &&
        list_empty(&w->relays) && list_empty(&w->reports))
        ev_loop_stop(w->loop, 0);
}

/* The broker ------------------------------------------------------------------------------------
 */

static int on_welcome(void *owner, const void *msg, int *fd)
{
    struct worker *w = owner;

    w->instance = ((const struct l7r_welcome *)msg)->instance;
    return 0;
}

static int on_progress(void *owner, const void *msg, int *fd)
{
    const struct l7r_progress *m = msg;
    struct client *c = map_get_u64(((struct worker *)owner)->by_id, m->conn);

    if (c)
        client_progress(c, m->text);
    return 0;
}

static int on_answer(void *owner, const void *msg, int *fd)
{
    const struct l7r_answer *m = msg;
    struct client *c = map_get_u64(((struct worker *)owner)->by_id, m->conn);

    if (c)
        client_answer(c, m);
    return 0;
}

static int on_still_there(void *owner, const void *msg, int *fd)
{
    const struct l7r_still_there *m = msg;
    struct client *c = map_get_u64(((struct worker *)owner)->by_id, m->conn);

    if (c)
        client_still_there(c);
    return 0;
}

static int on_relay(void *owner, const void *msg, int *fd)
{
    struct worker *w = owner;
    const struct l7r_relay *m = msg;
    struct client *c = map_get_u64(w->by_id, m->conn);

    if (c && c->state == CLIENT_WAITING)
        relay_start(c, m, TAKE_FD(*fd));
    else
        relay_report_unused(w, m);
    return 0;
}

static int on_cut(void *owner, const void *msg, int *fd)
{
    relay_cut(owner, msg);
    return 0;
}

static int on_ack(void *owner, const void *msg, int *fd)
{
    relay_acknowledged(owner, ((const struct l7r_ack *)msg)->session);
    return 0;
}

static const struct ipc_handler broker_handlers[] = {
    {&l7r_welcome_msg,     ~0u, on_welcome    },
    {&l7r_progress_msg,    ~0u, on_progress   },
    {&l7r_answer_msg,      ~0u, on_answer     },
    {&l7r_still_there_msg, ~0u, on_still_there},
    {&l7r_relay_msg,       ~0u, on_relay      },
    {&l7r_cut_msg,         ~0u, on_cut        },
    {&l7r_ack_msg,         ~0u, on_ack        },
};

void worker_broker_lost(struct worker *w)
{
    w->broker = ipc_channel_free(w->broker);
    QVD_LIST_FOREACH (c, &w->conns, struct client, node)
        client_broker_lost(c);
}

static void broker_closed(void *owner, int reason)
{
    struct worker *w = owner;

    log_warning("the broker is gone%s%s: sessions go on, new requests get 503",
                reason < 0 ? ": " : "", reason < 0 ? strerror(-reason) : "");
    worker_broker_lost(w);
}

static int attach_broker(struct worker *w, int fd)
{
    struct l7r_hello hello = {.version = L7R_VERSION,
                              .instance = w->instance,
                              .slot = w->context.slot,
                              .generation = w->context.generation};

    if (w->broker)
        worker_broker_lost(w);
    int r = ipc_channel_new(w->loop, fd, broker_handlers, ARRAY_SIZE(broker_handlers),
                            broker_closed, w, &w->broker);
    if (r == 0)
        r = ipc_send(w->broker, &l7r_hello_msg, &hello, -EBADF);
    if (r == 0)
        r = relay_resync(w);
    if (r < 0 && w->broker)
        worker_broker_lost(w);
    return r;
}

/* The master ------------------------------------------------------------------------------------
 */

/* The four texts of the memory file, each with a NUL behind it. */
static must_check int split(char *all, const uint32_t lens[4], char *ret_text[4])
{
    size_t at = 0;

    for (int i = 0; i < 4; at += lens[i++]) {
        ret_text[i] = lens[i] ? strndup(all + at, lens[i]) : NULL;
        if (lens[i] && !ret_text[i])
            return -ENOMEM;
    }
    return 0;
}

static must_check int set_tickets(struct tls_context *tls, const struct ipc_bytes *tickets)
{
    uint8_t keys[L7R_TICKET_KEYS][TLS_TICKET_KEY_LEN];

    if (tickets->len != sizeof keys)
        return 0;
    memcpy(keys, tickets->data, sizeof keys);
    int r =
        tls_server_set_tickets(tls, (const uint8_t(*)[TLS_TICKET_KEY_LEN])keys, L7R_TICKET_KEYS);
    explicit_bzero(keys, sizeof keys);
    return r;
}

static must_check int make_tls(struct worker *w, const struct l7r_context *m, int fd,
                               struct tls_context **ret_tls)
{
    const uint32_t lens[4] = {m->cert_len, m->key_len, m->ca_len, m->crl_len};
    char *all = NULL, *text[4] = {0};
    struct qvd_error err = {0};
    size_t len = (size_t)m->cert_len + m->key_len + m->ca_len + m->crl_len;
    struct tls_context *tls = NULL;
    int r = l7r_memory_read(fd, len, 4 * (size_t)L7R_CERTIFICATE_MAX, &all);

    if (r == 0)
        r = split(all, lens, text);
    if (r == 0 && m->cert_len) {
        const struct tls_server_spec spec = {.cert_pem = text[0],
                                             .cert_len = m->cert_len,
                                             .key_pem = text[1],
                                             .key_len = m->key_len,
                                             .min_version = m->min_version,
                                             .ciphers = m->ciphers[0] ? m->ciphers : NULL,
                                             .client_ca_pem = text[2],
                                             .crl_pem = text[3]};
        r = tls_server_new(&spec, &tls, &err);
        if (r == 0)
            r = set_tickets(tls, &m->ticket_keys);
    }
    if (all)
        explicit_bzero(all, len);
    if (text[1])
        explicit_bzero(text[1], m->key_len);
    free(all);
    for (int i = 0; i < 4; i++)
        free(text[i]);
    if (r < 0) {
        log_error("certificate: %s", err.text[0] ? err.text : strerror(-r));
        tls = tls_context_unref(tls);
        return r;
    }
    *ret_tls = tls;
    return 0;
}

/* Of the command line. */
static const char *user;
static bool check_only;

/* The first: from now on strangers may come. */
static must_check int begin(struct worker *w)
{
    struct l7r_ready ready = {0};

    tls_init();
    int r = worker_enter_sandbox(user);

    if (r == 0)
        r = ev_io_new(w->loop, w->listen_fd, EV_IO_IN, acceptable, w, &w->accepting);
    if (r == 0)
        r = ipc_send(w->master, &l7r_ready_msg, &ready, -EBADF);
    return r;
}

static int on_context(void *owner, const void *msg, int *fd)
{
    struct worker *w = owner;
    struct tls_context *tls = NULL;
    bool first = !w->accepting && !w->draining;
    int r = make_tls(w, msg, *fd, &tls);

    /* A certificate that is no good does not take the present one's place. */
    if (r < 0)
        return first ? r : 0;
    (void)tls_context_unref(w->tls);
    w->tls = tls;
    w->context = *(const struct l7r_context *)msg;
    w->context.min_version = w->context.ciphers = w->context.proxies = NULL;
    source_set_proxies(w, ((const struct l7r_context *)msg)->proxies);
    w->context.ticket_keys = (struct ipc_bytes){0};
    log_set_level((enum log_level)w->context.log_level);
    return first ? begin(w) : 0;
}

static int on_counts(void *owner, const void *msg, int *fd)
{
    struct worker *w = owner;

    w->region = ((const struct l7r_shared_counts *)msg)->region;
    /* Once, before the first connection. */
    return w->counts ? -EBADMSG : l7r_counts_open(*fd, &w->counts);
}

static int on_link(void *owner, const void *msg, int *fd)
{
    struct worker *w = owner;

    if (((const struct l7r_link *)msg)->peer != L7R_PEER_BROKER)
        return -EBADMSG;
    int r = attach_broker(w, TAKE_FD(*fd));
    if (r < 0)
        log_error("cannot speak with the broker: %s", strerror(-r));
    return 0;
}

static int on_stop(void *owner, const void *msg, int *fd)
{
    struct worker *w = owner;

    w->draining = true;
    stop_accepting(w);
    if (((const struct l7r_stop *)msg)->now)
        ev_loop_stop(w->loop, 0);
    else
        worker_end_if_idle(w);
    return 0;
}

static const struct ipc_handler master_handlers[] = {
    {&l7r_shared_counts_msg, ~0u, on_counts },
    {&l7r_context_msg,       ~0u, on_context},
    {&l7r_link_msg,          ~0u, on_link   },
    {&l7r_stop_msg,          ~0u, on_stop   },
    {&ipc_log_msg,           ~0u, ipc_on_log},
};

static void master_gone(void *owner, int reason)
{
    struct worker *w = owner;

    log_error("the master is gone%s%s", reason < 0 ? ": " : "",
              reason < 0 ? strerror(-reason) : "");
    ev_loop_stop(w->loop, 1);
}

/* Life ------------------------------------------------------------------------------------------
 */

static void again_due(void *arg)
{
    struct worker *w = arg;

    relay_report_again(w);
}

static must_check int worker_init(struct worker *w)
{
    int r = ev_loop_new(&w->loop);

    list_init(&w->arrivals);
    list_init(&w->conns);
    list_init(&w->relays);
    list_init(&w->reports);
    w->listen_fd = LISTEN_FD;
    stream_tune(LISTEN_FD);
    w->by_id = map_new_u64();
    w->by_session = map_new_u64();
    w->sources = map_new_str();
    if (r == 0 && (!w->by_id || !w->by_session || !w->sources))
        r = -ENOMEM;
    if (r == 0)
        r = ev_timer_new(w->loop, resume_due, w, &w->resume);
    if (r == 0)
        r = ev_timer_new(w->loop, again_due, w, &w->again);
    if (r == 0)
        r = ipc_channel_new(w->loop, MASTER_FD, master_handlers, ARRAY_SIZE(master_handlers),
                            master_gone, w, &w->master);
    return r;
}

static void usage(FILE *out)
{
    fprintf(out, "usage: qvd-l7r-worker [--check] --user NAME\n\n"
                 "Serves clients for qvd-l7r, which starts it (descriptor 3 is its channel, 4 its"
                 " listening socket).\n\n"
                 "  -c, --check       only tell whether the certificate on standard input is good\n"
                 "  -u, --user NAME   the user it becomes\n"
                 "  -h, --help        this text\n"
                 "  -V, --version     the version\n");
}

/* 0; -1: end with *ret_status. */
static int options(int argc, char **argv, int *ret_status)
{
    static const struct option longs[] = {
        {"check",            no_argument, NULL, 'c'},
        {"user",              required_argument, NULL, 'u'},
        {"help",                  no_argument, NULL, 'h'},
        {"version",no_argument, NULL, 'V'},
        {0              }
    };
    int c;

    *ret_status = 0;
    while ((c = getopt_long(argc, argv, "cu:hV", longs, NULL)) != -1) {
        if (c == 'u') {
            user = optarg;
        } else if (c == 'c') {
            check_only = true;
        } else if (c == 'h' || c == 'V') {
            c == 'h' ? usage(stdout) : (void)puts("qvd-l7r-worker " QVD_VERSION);
            return -1;
        } else {
            user = NULL;
            break;
        }
    }
    if (user && optind == argc)
        return 0;
    usage(stderr);
    *ret_status = 2;
    return -1;
}

int main(int argc, char **argv)
{
    static struct worker worker;
    int status;

    if (options(argc, argv, &status) < 0)
        return status;
    log_open("qvd-l7r-worker");
    if (check_only)
        return check_main(user);
    tls_keep_memory();
    int r = worker_init(&worker);
    if (r < 0) {
        log_error("cannot start: %s", strerror(-r));
        return 1;
    }
    status = ev_loop_run(worker.loop);
    log_debug("ends");
    return status;
}
