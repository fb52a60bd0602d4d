// SPDX-License-Identifier: GPL-3.0-or-later
/* What repairs: the beat that tells that this instance lives, and rounds that compare the database
 * with what the workers relay: after each (re)connect, when a worker has told what it has, when an
 * outcome is not known, and every l7r.sweep in case a notification was lost. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "l7r/broker/broker-internal.h"

/* A list of ids under construction. */
struct ids {
    uint64_t *at;
    size_t n, size;
};

static bool ids_add(struct ids *l, uint64_t id)
{
    if (l->n == l->size) {
        size_t size = l->size ? 2 * l->size : 64;
        uint64_t *at = realloc(l->at, size * sizeof *at);
        if (!at)
            return false;
        l->at = at;
        l->size = size;
    }
    l->at[l->n++] = id;
    return true;
}

static void ids_done(struct ids *l)
{
    free(l->at);
}

static struct store_ids ids_of(const struct ids *l)
{
    return (struct store_ids){l->at, l->n};
}

/* A round ---------------------------------------------------------------------------------------

 * serial -> find what was adopted -> orphans -> readopt -> changed -> looks */

static void round_over(struct broker *b)
{
    b->sweeping = false;
    ev_timer_arm_jittered(b->sweep, (uint64_t)conf_ms(b->conf, "l7r.sweep"), 20);
    if (b->sweep_again)
        reconcile_now(b);
}

static void looked_at(void *arg, bool failed, struct store_ids changed)
{
    struct broker *b = arg;

    for (size_t i = 0; !failed && i < changed.n; i++) {
        struct session *s = map_get_u64(b->by_id, changed.ids[i]);
        if (s)
            session_look(s);
    }
    round_over(b);
}

/* Waiting sessions look for themselves, connected ones are asked for together. */
static void look_at_all(struct broker *b)
{
    struct ids sessions = {0}, vms = {0};
    bool ok = true;

    QVD_LIST_FOREACH (s, &b->sessions, struct session, node) {
        if (s->step == SESSION_WAIT || s->step == SESSION_TAKEOVER || s->step == SESSION_STOPPING)
            session_look(s);
        else if (s->step == SESSION_LATER)
            session_event(s, SESSION_EV_LIMIT);
        else if (s->step == SESSION_CONNECTED && s->vm_id)
            ok = ok && ids_add(&sessions, s->id) && ids_add(&vms, s->vm_id);
    }
    if (!ok || !sessions.n ||
        !store_session_changed(b->db, ids_of(&sessions), ids_of(&vms), looked_at, b))
        round_over(b);
    ids_done(&sessions);
    ids_done(&vms);
}

static void readopted(void *arg, int64_t count)
{
    struct broker *b = arg;

    if (count > 0)
        log_info("%lld sessions that the database had given up are relayed still: theirs again",
                 (long long)count);
    look_at_all(b);
}

static void readopt(struct broker *b)
{
    struct ids sessions = {0}, vms = {0};
    bool ok = true;

    QVD_LIST_FOREACH (s, &b->sessions, struct session, node)
        if (s->step == SESSION_CONNECTED && s->vm_id)
            ok = ok && ids_add(&sessions, s->id) && ids_add(&vms, s->vm_id);
    if (!ok || !sessions.n ||
        !store_session_readopt(b->db, b->instance, ids_of(&sessions), ids_of(&vms), readopted, b))
        look_at_all(b);
    ids_done(&sessions);
    ids_done(&vms);
}

static void orphans_ended(void *arg, int64_t ended)
{
    struct broker *b = arg;

    if (ended > 0)
        log_info("%lld sessions of this instance that nobody relays were ended", (long long)ended);
    if (ended < 0)
        round_over(b);
    else
        readopt(b);
}

static bool all_resynced(const struct broker *b)
{
    QVD_LIST_FOREACH (l, &b->links, struct link, node)
        if (!l->resynced)
            return false;
    return true;
}

static void end_orphans(struct broker *b)
{
    struct ids known = {0}, claiming = {0};
    bool ok = true;

    QVD_LIST_FOREACH (s, &b->sessions, struct session, node) {
        if (s->id)
            ok = ok && ids_add(&known, s->id);
        else if (s->step == SESSION_CLAIM || s->step == SESSION_UNCLAIM)
            ok = ok && ids_add(&claiming, s->vm_id);
    }
    /* While a worker has not told what it relays, nothing of ours may be ended. */
    if (!ok || !all_resynced(b) ||
        !store_session_orphans(b->db, b->instance, b->sweep_serial, ids_of(&known),
                               ids_of(&claiming), orphans_ended, b))
        readopt(b);
    ids_done(&known);
    ids_done(&claiming);
}

static void found(void *arg, bool failed, const struct store_session_row *rows, size_t n)
{
    struct broker *b = arg;

    if (failed) {
        round_over(b);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        struct session *s = map_get_u64(b->by_id, rows[i].id);
        if (!s || s->vm_id)
            continue;
        session_unregister(s);
        s->vm_id = rows[i].vm_id;
        s->user_id = rows[i].user_id;
        s->host_id = rows[i].host_id;
        if (rows[i].connected_ms >= 0)
            s->connected = clock_ms() - rows[i].connected_ms;
        if (session_register(s) < 0)
            log_error("out of memory: session %llu hears no notifications",
                      (unsigned long long)s->id);
    }
    end_orphans(b);
}

static void have_serial(void *arg, uint64_t serial)
{
    struct broker *b = arg;
    struct ids unknown = {0};
    bool ok = true;

    b->sweep_serial = serial;
    if (!serial) {
        round_over(b);
        return;
    }
    QVD_LIST_FOREACH (s, &b->sessions, struct session, node)
        if (s->id && !s->vm_id)
            ok = ok && ids_add(&unknown, s->id);
    if (!unknown.n)
        end_orphans(b);
    else if (!ok || !store_session_find(b->db, ids_of(&unknown), found, b))
        round_over(b);
    ids_done(&unknown);
}

void reconcile_now(struct broker *b)
{
    if (!b->instance || b->stopping)
        return;
    if (b->sweeping) {
        b->sweep_again = true;
        return;
    }
    b->sweep_again = false;
    b->sweeping = store_serial(b->db, have_serial, b) != NULL;
    if (!b->sweeping)
        ev_timer_arm(b->sweep, 1000);
}

/* The larger of both, as the second may have been lowered while they were relayed. */
static size_t most_sessions(const struct broker *b)
{
    int64_t sessions = conf_int(b->conf, "l7r.sessions.max");
    int64_t connections = conf_int(b->conf, "l7r.limit.connections");

    return (size_t)(sessions > connections ? sessions : connections);
}

void reconcile_adopt(struct link *l, uint64_t id)
{
    struct broker *b = l->broker;
    struct session *s = map_get_u64(b->by_id, id);

    if (s)
        return;
    if (map_count(b->by_id) >= most_sessions(b)) {
        link_tell_full(l, "sessions than l7r.sessions.max");
        return;
    }
    s = session_new(b, l, 0, L7R_CONNECT);
    if (!s)
        return;
    s->id = id;
    s->relayed = s->answered = true;
    if (session_register(s) < 0)
        log_error("out of memory: session %llu is not known", (unsigned long long)id);
    session_event(s, SESSION_EV_HOLD);
}

/* The beat --------------------------------------------------------------------------------------
 */

static void buried(void *arg, int64_t sessions)
{
    if (sessions > 0)
        log_info("%lld sessions of L7Rs that are gone were ended", (long long)sessions);
}

/* Others are judged only by who has seen the database all the while. */
static void bury_others(struct broker *b)
{
    int64_t timeout = conf_ms(b->conf, "l7r.instance.timeout");

    if (b->listening_since && clock_ms() - b->listening_since > timeout &&
        !store_l7r_bury(b->db, 0, timeout, buried, b))
        log_debug("out of memory");
}

static void sweep_due(void *arg)
{
    bury_others(arg);
    reconcile_now(arg);
}

static void notified(void *arg, const char *channel, const char *payload)
{
    struct broker *b = arg;
    char kind[16];
    int64_t id = 0;

    if (!store_payload(payload, kind, sizeof kind, &id))
        return;
    if (str_eq(kind, "vm")) {
        for (struct session *s = map_get_u64(b->by_vm, (uint64_t)id); s; s = s->vm_next)
            session_look(s);
    } else if (str_eq(kind, "session")) {
        struct session *s = map_get_u64(b->by_id, (uint64_t)id);
        if (s)
            session_look(s);
    }
}

static void have_instance(struct broker *b, uint64_t instance)
{
    struct l7r_ready ready = {.instance = instance};
    char channel[STORE_CHANNEL_SIZE];

    b->instance = instance;
    log_info("instance %llu", (unsigned long long)instance);
    store_channel_l7r(channel, (int64_t)instance);
    int r = db_listen(b->db, channel, notified, b);
    if (r < 0)
        log_error("cannot listen to %s: %s", channel, strerror(-r));
    if (ipc_send(b->master, &l7r_ready_msg, &ready, -EBADF) < 0)
        log_error("the master does not take the instance's number");
    QVD_LIST_FOREACH (l, &b->links, struct link, node) {
        struct l7r_welcome w = {.instance = instance};
        if (l->welcome && ipc_send(l->channel, &l7r_welcome_msg, &w, -EBADF) < 0)
            log_debug("worker %u does not take the instance's number", l->slot);
    }
    reconcile_now(b);
}

static void beaten(void *arg, uint64_t instance, bool front_only);

/* What a beat tells it tells once: one whose answer was lost is told again under its number. */
static bool beat(struct broker *b)
{
    static const struct store_l7r_counters none = {0};

    if (!b->told_as && memcmp(&b->counters, &none, sizeof none) != 0 &&
        random_bytes(&b->told_as, sizeof b->told_as) == 0) {
        b->told_as = (b->told_as & INT64_MAX) | 1;
        b->told = b->counters;
        b->counters = none;
    }
    b->beating = store_l7r_beat(b->db, b->instance, b->nodename, b->told_as ? &b->told : NULL,
                                b->told_as, beaten, b) != NULL;
    return b->beating;
}

/* Until all is written; the limit of the stop ends it when the database is away. */
static void last_beat(struct broker *b)
{
    static const struct store_l7r_counters none = {0};
    bool all = !b->told_as && memcmp(&b->counters, &none, sizeof none) == 0;

    if (all || !b->listening_since || !beat(b))
        b->last_beat(b);
}

static void beaten(void *arg, uint64_t instance, bool front_only)
{
    struct broker *b = arg;

    b->beating = false;
    if (instance && b->instance)
        b->told_as = 0;
    if (b->last_beat) {
        last_beat(b);
        return;
    }
    if (front_only && !b->stopping &&
        !store_l7r_front(b->db, b->nodename, (int)getpid(), false,
                         conf_ms(b->conf, "l7r.instance.timeout"), NULL, NULL))
        log_debug("out of memory: the node's sign of life comes later");
    ev_timer_arm_jittered(b->beat, instance ? (uint64_t)conf_ms(b->conf, "l7r.beat") : 1000, 20);
    if (instance && !b->instance)
        have_instance(b, instance);
}

static void beat_due(void *arg)
{
    struct broker *b = arg;

    if (b->beating || b->stopping)
        return;
    if (!beat(b))
        ev_timer_arm(b->beat, 1000);
}

void reconcile_last_beat(struct broker *b, void (*done)(struct broker *b))
{
    b->last_beat = done;
    if (!b->beating)
        last_beat(b);
}

int reconcile_start(struct broker *b)
{
    int r = ev_timer_new(b->loop, sweep_due, b, &b->sweep);

    if (r == 0)
        r = ev_timer_new(b->loop, beat_due, b, &b->beat);
    if (r < 0)
        return r;
    if (b->instance)
        have_instance(b, b->instance);
    beat_due(b);
    ev_timer_arm_jittered(b->sweep, (uint64_t)conf_ms(b->conf, "l7r.sweep"), 20);
    return 0;
}

void reconcile_stop(struct broker *b)
{
    b->sweep = ev_timer_free(b->sweep);
    b->beat = ev_timer_free(b->beat);
}
