// SPDX-License-Identifier: GPL-3.0-or-later
/* qvd-l7r-broker: the session machine's process. Speaks with the master (descriptor 3), workers,
 * qvd-authd, qvd-rpc and the database; reads no byte of a stranger, and no file. */
#include <getopt.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "config.h"
#include "ipc/log-msg.h"
#include "l7r/broker/broker-internal.h"
#include "store/config.h"

#define MASTER_FD 3
#define STOP_MS 5000

/* Settings and certificate of the database: for us and for the master. ----------------------------
 */

static void load(struct broker *b);

static void loaded(struct broker *b)
{
    b->loading = false;
    b->former_conf = conf_free(b->former_conf);
    if (b->load_again)
        load(b);
}

static void have_certificate(void *arg, const struct store_l7r_certificate *c)
{
    struct broker *b = arg;

    if (c) {
        const struct ipc_bytes parts[] = {
            {c->cert, strlen(c->cert)},
            {c->key,  strlen(c->key) },
            {c->ca,   strlen(c->ca)  },
            {c->crl,  strlen(c->crl) }
        };
        const struct l7r_certificate m = {.cert_len = (uint32_t)parts[0].len,
                                          .key_len = (uint32_t)parts[1].len,
                                          .ca_len = (uint32_t)parts[2].len,
                                          .crl_len = (uint32_t)parts[3].len};
        _cleanup_(close_p) int fd = l7r_memory_new(parts, ARRAY_SIZE(parts));
        if (fd < 0 || ipc_send(b->master, &l7r_certificate_msg, &m, fd) < 0)
            log_error("the master does not take the certificate of the database");
    }
    loaded(b);
}

static void have_settings(void *arg, const char *settings, size_t len)
{
    struct broker *b = arg;
    struct l7r_settings m = {(uint32_t)len};

    if (settings && len <= L7R_SETTINGS_MAX) {
        const struct ipc_bytes all = {settings, len};
        _cleanup_(close_p) int fd = l7r_memory_new(&all, 1);
        if (fd < 0 || ipc_send(b->master, &l7r_settings_msg, &m, fd) < 0)
            log_error("the master does not take the settings of the database");
    }
    if (!store_l7r_certificate(b->db, have_certificate, b))
        loaded(b);
}

static void have_config(void *arg, int r, const struct qvd_error *err)
{
    struct broker *b = arg;

    if (r < 0)
        log_warning("the settings of the database stay as they were: %s", err->text);
    if (r < 0 || !store_l7r_settings(b->db, have_settings, b))
        loaded(b);
}

static void load(struct broker *b)
{
    if (b->loading) {
        b->load_again = true;
        return;
    }
    b->load_again = false;
    b->loading = store_config_load(b->db, b->conf, have_config, b) != NULL;
}

/* The database ----------------------------------------------------------------------------------
 */

static void config_changed(void *arg, const char *channel, const char *payload)
{
    store_schema_look(((struct broker *)arg)->schema);
    load(arg);
}

const char *broker_refuses(const struct broker *b)
{
    if (b->stopping)
        return "The server is stopping. Retry later";
    if (b->schema && !store_schema_fits(b->schema))
        return "The server is being upgraded. Retry later";
    return NULL;
}

static void schema_changed(void *arg, const char *why)
{
    struct broker *b = arg;

    if (why) {
        log_error("%s; until then new requests get 503", why);
        return;
    }
    log_info("the database's schema fits again");
    load(b);
    reconcile_now(b);
}

static void listening(void *arg)
{
    struct broker *b = arg;

    if (!b->listening_since)
        b->listening_since = clock_ms();
    store_schema_look(b->schema);
    load(b);
    reconcile_now(b);
}

static void changed(void *arg, bool up)
{
    struct broker *b = arg;

    if (up) {
        reconcile_now(b);
        return;
    }
    b->listening_since = 0;
    b->host_at = 0;
    log_warning("the database is gone: sessions go on, new requests get 503");
}

static must_check int open_database(struct broker *b, const struct db_target *target)
{
    const struct db_options options = {.name = "qvd-l7r", .connections = 2, .one_plan = true};
    int r = db_new(b->loop, target, &options, &b->db);

    if (r == 0)
        r = store_schema_new(b->loop, b->db, schema_changed, b, &b->schema);
    if (r < 0)
        return r;
    db_on_listening(b->db, listening, b);
    db_on_change(b->db, changed, b);
    return db_listen(b->db, STORE_CHANNEL_CONFIG, config_changed, b);
}

/* The master ------------------------------------------------------------------------------------
 */

static void odd_setting(void *arg, const char *text)
{
    log_debug("%s", text);
}

static must_check int take_settings(struct broker *b, const struct l7r_broker_context *m, int fd)
{
    _cleanup_(free_p) char *text = NULL;
    _cleanup_(conf_free_p) struct conf *conf = conf_new(odd_setting, NULL);
    struct qvd_error err = {0};
    int r = conf ? l7r_memory_read(fd, m->settings_len, L7R_SETTINGS_MAX, &text) : -ENOMEM;

    if (r == 0)
        r = conf_load_text(conf, "settings of the master", text, m->settings_len, &err);
    if (text)
        explicit_bzero(text, m->settings_len);
    if (r < 0) {
        log_error("settings: %s", err.text[0] ? err.text : strerror(-r));
        return r;
    }
    /* The database's rows may just be on their way into the former ones. */
    if (b->loading)
        b->former_conf = b->conf;
    else
        b->conf = conf_free(b->conf);
    b->conf = TAKE_PTR(conf);
    return 0;
}

static must_check int first_context(struct broker *b, const struct l7r_broker_context *m)
{
    struct db_target target;
    struct qvd_error err = {0};

    b->instance = m->instance;
    int r = str_copy(b->nodename, sizeof b->nodename, m->nodename);
    if (r == 0)
        r = db_target_from_conf(b->conf, "l7r", &target, &err);
    if (r < 0) {
        log_error("%s", err.text);
        return r;
    }
    r = open_database(b, &target);
    explicit_bzero(&target, sizeof target);
    if (r < 0)
        return r;
    return reconcile_start(b);
}

static int on_context(void *owner, const void *msg, int *fd)
{
    struct broker *b = owner;
    const struct l7r_broker_context *m = msg;

    log_set_level((enum log_level)m->log_level);
    if (!b->db) {
        int r = take_settings(b, m, *fd);
        return r < 0 ? r : first_context(b, m);
    }
    /* A reload: those that are no good do not take the present ones' place. */
    if (!b->former_conf && take_settings(b, m, *fd) == 0)
        load(b);
    return 0;
}

static int on_link(void *owner, const void *msg, int *fd)
{
    struct broker *b = owner;
    const struct l7r_link *m = msg;
    int r = 0;

    if (m->peer == L7R_PEER_WORKER)
        r = link_new(b, TAKE_FD(*fd), m);
    else if (m->peer == L7R_PEER_AUTHD)
        r = auth_client_attach(b->auth, TAKE_FD(*fd));
    else if (m->peer == L7R_PEER_RPC)
        r = rpc_client_attach(b->rpc, TAKE_FD(*fd));
    else
        return -EBADMSG;
    if (r < 0)
        log_error("cannot take a channel of kind %u: %s", m->peer, strerror(-r));
    return 0;
}

static void buried(void *arg, int64_t sessions)
{
    struct broker *b = arg;

    ev_loop_stop(b->loop, 0);
}

static void end_instance(void *arg)
{
    struct broker *b = arg;

    if (!store_l7r_bury(b->db, b->instance, INT32_MAX, buried, b))
        ev_loop_stop(b->loop, 0);
}

/* A node that runs no VMs stops with us. */
static void end(struct broker *b)
{
    if (!store_l7r_front(b->db, b->nodename, (int)getpid(), true, 0, end_instance, b))
        end_instance(b);
}

void broker_end_if_idle(struct broker *b)
{
    if (!b->stopping || b->ending || !list_empty(&b->sessions))
        return;
    b->ending = true;
    if (b->db && b->instance)
        reconcile_last_beat(b, end);
    else
        ev_loop_stop(b->loop, 0);
}

static void stop_limit_over(void *arg)
{
    struct broker *b = arg;

    log_warning("the database did not take all ends of sessions in time");
    ev_loop_stop(b->loop, 0);
}

static int on_stop(void *owner, const void *msg, int *fd)
{
    struct broker *b = owner;

    if (b->stopping)
        return 0;
    b->stopping = true;
    ev_timer_arm(b->stop_limit, STOP_MS);
    QVD_LIST_FOREACH (s, &b->sessions, struct session, node)
        session_abort(s, "the server is stopping");
    broker_end_if_idle(b);
    return 0;
}

static int on_log(void *owner, const void *msg, int *fd)
{
    struct broker *b = owner;
    int r = ipc_on_log(owner, msg, fd);

    rpc_client_log(b->rpc);
    auth_client_log(b->auth);
    return r;
}

static const struct ipc_handler handlers[] = {
    {&l7r_link_msg,           ~0u, on_link   },
    {&l7r_broker_context_msg, ~0u, on_context},
    {&l7r_stop_msg,           ~0u, on_stop   },
    {&ipc_log_msg,            ~0u, on_log    },
};

static void master_gone(void *owner, int reason)
{
    struct broker *b = owner;

    log_error("the master is gone%s%s", reason < 0 ? ": " : "",
              reason < 0 ? strerror(-reason) : "");
    ev_loop_stop(b->loop, 1);
}

/* Life ------------------------------------------------------------------------------------------
 */

static must_check int broker_init(struct broker *b)
{
    int r = ev_loop_new(&b->loop);

    list_init(&b->links);
    list_init(&b->sessions);
    list_init(&b->stoppers);
    b->by_id = map_new_u64();
    b->by_vm = map_new_u64();
    b->heirs = map_new_u64();
    if (r == 0 && (!b->by_id || !b->by_vm || !b->heirs))
        r = -ENOMEM;
    if (r == 0)
        r = random_bytes(b->key, sizeof b->key);
    if (r == 0)
        r = auth_client_new(b->loop, &b->auth);
    if (r == 0)
        r = rpc_client_new(b->loop, &b->rpc);
    if (r == 0)
        r = ev_timer_new(b->loop, stop_limit_over, b, &b->stop_limit);
    if (r == 0)
        r = ipc_channel_new(b->loop, MASTER_FD, handlers, ARRAY_SIZE(handlers), master_gone, b,
                            &b->master);
    return r;
}

static void usage(FILE *out)
{
    fprintf(out,
            "usage: qvd-l7r-broker --user NAME\n\n"
            "The session machine of qvd-l7r, which starts it (descriptor 3 is its channel).\n\n"
            "  -u, --user NAME   the user it becomes\n"
            "  -h, --help        this text\n"
            "  -V, --version     the version\n");
}

/* The user, or NULL: end with *ret_status. */
static const char *options(int argc, char **argv, int *ret_status)
{
    static const struct option longs[] = {
        {"user",       required_argument, NULL, 'u'},
        {"help",        no_argument, NULL, 'h'},
        {"version",            no_argument, NULL, 'V'},
        {0}
    };
    const char *user = NULL;
    int c;

    *ret_status = 2;
    while ((c = getopt_long(argc, argv, "u:hV", longs, NULL)) != -1) {
        if (c == 'u') {
            user = optarg;
        } else if (c == 'h' || c == 'V') {
            c == 'h' ? usage(stdout) : (void)puts("qvd-l7r-broker " QVD_VERSION);
            *ret_status = 0;
            return NULL;
        } else {
            usage(stderr);
            return NULL;
        }
    }
    if (!user || optind < argc) {
        usage(stderr);
        return NULL;
    }
    return user;
}

int main(int argc, char **argv)
{
    static struct broker broker;
    int status;
    const char *user = options(argc, argv, &status);

    if (!user)
        return status;
    log_open("qvd-l7r-broker");
    if (broker_enter_sandbox(user) < 0)
        return 1;
    srand48((long)clock_us());
    int r = broker_init(&broker);
    if (r < 0) {
        log_error("cannot start: %s", strerror(-r));
        return 1;
    }
    status = ev_loop_run(broker.loop);
    log_info("ends");
    return status;
}
