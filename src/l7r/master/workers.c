// SPDX-License-Identifier: GPL-3.0-or-later
/* The worker processes: one a slot that accepts, and older ones that only finish their sessions. */
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "config.h"
#include "ev/service.h"
#include "ipc/log-msg.h"
#include "l7r/master/master-internal.h"

#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 10000
#define WELL_MS 30000

static void start(void *arg);

static void proc_free(struct proc *p)
{
    list_remove(&p->node);
    if (p->region >= 0)
        l7r_counts_give_region(p->master->counts, (unsigned)p->region);
    p->channel = ipc_channel_free(p->channel);
    p->child = ev_child_free(p->child);
    free(p);
}

/* Its end ---------------------------------------------------------------------------------------
 */

static void start_later(struct slot *s, int64_t lived_ms)
{
    if (lived_ms > WELL_MS || !s->pause)
        s->pause = PAUSE_MIN_MS;
    ev_timer_arm(s->again, s->pause);
    s->pause = s->pause * 2 > PAUSE_MAX_MS ? PAUSE_MAX_MS : s->pause * 2;
}

static void exited(void *arg, int status)
{
    struct proc *p = arg;
    struct master *m = p->master;
    struct slot *s = &m->slots[p->slot];
    char text[32];
    bool expected = m->stopping || (p->draining && status == 0);

    log_line(expected ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR, "worker %u (pid %d) has ended: %s",
             p->slot, (int)p->pid, ev_child_status_text(status, text, sizeof text));
    if (s->current == p) {
        s->current = NULL;
        if (!m->stopping)
            start_later(s, clock_ms() - p->started);
    }
    proc_free(p);
    if (m->stopping && list_empty(&m->procs) && !m->broker)
        ev_loop_stop(m->loop, 0);
}

/* What it says ----------------------------------------------------------------------------------
 */

static bool all_ready(const struct master *m)
{
    for (size_t i = 0; i < m->n_slots; i++)
        if (!m->slots[i].current || !m->slots[i].current->ready)
            return false;
    return true;
}

static void drain(struct proc *p, bool now)
{
    struct l7r_stop stop = {.now = now};

    if (p->draining && !now)
        return;
    p->draining = true;
    if (ipc_send(p->channel, &l7r_stop_msg, &stop, -EBADF) < 0)
        (void)ev_child_kill(p->child, SIGTERM);
}

static int on_ready(void *owner, const void *msg, int *fd)
{
    struct proc *p = owner;
    struct master *m = p->master;

    p->ready = true;
    m->slots[p->slot].pause = 0;
    /* After two reloads in a row a newer one may be there already. */
    QVD_LIST_FOREACH (old, &m->procs, struct proc, node)
        if (old->slot == p->slot && old->generation < p->generation)
            drain(old, false);
    if (!m->told_ready && all_ready(m)) {
        m->told_ready = true;
        log_info("%zu workers accept connections", m->n_slots);
        service_notify("READY=1\nSTATUS=accepting connections");
    }
    return 0;
}

static const struct ipc_handler handlers[] = {
    {&l7r_ready_msg, ~0u, on_ready},
};

/* Its process ends by itself, or is ended: its exit tells. */
static void channel_closed(void *owner, int reason)
{
    struct proc *p = owner;

    if (reason < 0)
        log_error("worker %u: %s", p->slot, strerror(-reason));
    (void)ev_child_kill(p->child, SIGTERM);
}

/* Its start -------------------------------------------------------------------------------------
 */

static must_check int link_broker(struct master *m, struct proc *p)
{
    struct l7r_link to_worker = {.peer = L7R_PEER_BROKER, .slot = p->slot};
    struct l7r_link to_broker = {
        .peer = L7R_PEER_WORKER, .slot = p->slot, .generation = p->generation};
    int fds[2], r = ipc_pair(fds);

    if (r < 0)
        return r;
    r = ipc_send(m->broker, &l7r_link_msg, &to_broker, fds[0]);
    if (r == 0)
        r = ipc_send(p->channel, &l7r_link_msg, &to_worker, fds[1]);
    (void)fd_close(fds[0]);
    (void)fd_close(fds[1]);
    return r;
}

/* More processes than there are regions (drained ones that have still sessions): then this one
 * counts by itself. */
static must_check int share_counts(struct proc *p)
{
    p->region = l7r_counts_take_region(p->master->counts);
    if (p->region < 0)
        return 0;
    const struct l7r_shared_counts m = {.region = (uint32_t)p->region};
    return ipc_send(p->channel, &l7r_shared_counts_msg, &m, p->master->counts_fd);
}

static must_check int spawn(struct proc *p, struct qvd_error *err)
{
    struct master *m = p->master;
    const char *argv[] = {QVD_LIBEXECDIR "/qvd-l7r-worker", "--user", conf_str(m->conf, "l7r.user"),
                          NULL};
    int fds[2], r = ipc_pair(fds);

    if (r < 0)
        return qvd_error_errno(err, r, "no channel");
    const struct ev_child_fd in_child[] = {
        {fds[1],               3},
        {m->slots[p->slot].fd, 4},
    };
    const struct ev_child_spec spec = {.path = argv[0],
                                       .argv = argv,
                                       .fds = in_child,
                                       .n_fds = ARRAY_SIZE(in_child),
                                       .death_signal = SIGTERM};
    r = ev_child_spawn(m->loop, &spec, exited, p, &p->child, err);
    (void)fd_close(fds[1]);
    if (r < 0) {
        (void)fd_close(fds[0]);
        return r;
    }
    r = ipc_channel_new(m->loop, fds[0], handlers, ARRAY_SIZE(handlers), channel_closed, p,
                        &p->channel);
    if (r == 0)
        r = share_counts(p);
    if (r == 0)
        r = context_send(m, p);
    if (r == 0 && m->broker)
        r = link_broker(m, p);
    return r < 0 ? qvd_error_errno(err, r, "cannot speak with it") : 0;
}

static void start(void *arg)
{
    struct slot *s = arg;
    struct master *m = s->master;
    struct qvd_error err = {0};
    struct proc *p = m->stopping ? NULL : calloc(1, sizeof *p);

    if (m->stopping)
        return;
    if (!p) {
        start_later(s, 0);
        return;
    }
    p->master = m;
    p->region = -1;
    p->slot = (unsigned)(s - m->slots);
    p->generation = m->generation;
    p->started = clock_ms();
    list_append(&m->procs, &p->node);
    int r = spawn(p, &err);
    if (r < 0) {
        log_error("worker %u: %s", p->slot, err.text);
        if (p->child)
            (void)ev_child_kill(p->child, SIGKILL);
        proc_free(p);
        start_later(s, 0);
        return;
    }
    p->pid = ev_child_pid(p->child);
    s->current = p;
}

int workers_open(struct master *m)
{
    int r = l7r_counts_new(&m->counts, &m->counts_fd);

    for (size_t i = 0; r == 0 && i < m->n_slots; i++)
        r = ev_timer_new(m->loop, start, &m->slots[i], &m->slots[i].again);
    return r;
}

void workers_start(struct master *m)
{
    if (!certificate_there(m)) {
        if (!m->told_no_certificate)
            log_error("no certificate: put it and its key at path.l7r.ssl.cert (%s) and"
                      " path.l7r.ssl.key, or into the database (ssl_configs); nothing is served"
                      " until then",
                      conf_str(m->conf, "path.l7r.ssl.cert"));
        m->told_no_certificate = true;
        /* It waits as long as it takes: a service manager shall not think that it hangs. */
        service_notify("READY=1\nSTATUS=waiting for a certificate");
        return;
    }
    for (size_t i = 0; i < m->n_slots; i++)
        if (!m->slots[i].current && !ev_timer_armed(m->slots[i].again))
            start(&m->slots[i]);
}

void workers_renew(struct master *m)
{
    if (!certificate_there(m) || m->stopping)
        return;
    m->generation++;
    for (size_t i = 0; i < m->n_slots; i++) {
        ev_timer_disarm(m->slots[i].again);
        start(&m->slots[i]);
    }
}

void workers_tell(struct master *m)
{
    QVD_LIST_FOREACH (p, &m->procs, struct proc, node)
        if (!p->draining && context_send(m, p) < 0)
            log_error("worker %u does not take new settings", p->slot);
}

void workers_log(struct master *m)
{
    QVD_LIST_FOREACH (p, &m->procs, struct proc, node)
        ipc_log_send(p->channel);
}

void workers_link(struct master *m)
{
    QVD_LIST_FOREACH (p, &m->procs, struct proc, node) {
        int r = link_broker(m, p);
        if (r < 0)
            log_error("worker %u gets no channel to the broker: %s", p->slot, strerror(-r));
    }
}

void workers_stop(struct master *m, bool now)
{
    QVD_LIST_FOREACH (p, &m->procs, struct proc, node)
        drain(p, now);
}
