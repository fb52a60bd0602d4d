// SPDX-License-Identifier: GPL-3.0-or-later
/* CLOSE: one statement ends the session's row and frees the VM, if it is still this session's. It
 * waits for the database as long as need be (LATER). */
#include "base/clock.h"
#include "base/log.h"
#include "l7r/broker/broker-internal.h"

static const char *ms_text(int64_t ms, char dst[24])
{
    (void)snprintf(dst, 24, ms < 0 ? "-" : "%lld", (long long)ms);
    return dst;
}

/* How long it was connected, however long its end waited for the database. */
static int64_t connected_ms(const struct session *s)
{
    return s->connected ? s->ended - s->connected : 0;
}

/* The one line that tells a session's whole way. */
static void tell(const struct session *s)
{
    const struct store_phases *p = &s->phases;
    char prefix[BROKER_ID_PREFIX_MAX], t[7][24];

    log_info("%s session ended: %s; %.1f s connected, %llu bytes in, %llu out; tls %s, auth %s,"
             " claim %s, start %s, x_start %s, dial %s, first byte %s ms; host %llu, from %s",
             session_prefix(s, prefix), s->reason ? s->reason : "closed",
             (double)connected_ms(s) / 1000, (unsigned long long)s->bytes_in,
             (unsigned long long)s->bytes_out, ms_text(p->tls, t[0]), ms_text(p->auth, t[1]),
             ms_text(p->claim, t[2]), ms_text(p->start, t[3]), ms_text(p->x_start, t[4]),
             ms_text(p->dial, t[5]), ms_text(p->first_byte, t[6]), (unsigned long long)s->host_id,
             s->source);
}

static void tell_heirs(struct session *s, uint64_t heir)
{
    struct broker *b = s->broker;
    struct session *waiting = map_get_u64(b->heirs, s->id);

    store_tell_api(b->db, "vm", (int64_t)s->vm_id);
    /* Nobody is in it now: its node may have to stop it after a while. */
    if (!heir && !waiting)
        store_tell_host(b->db, (int64_t)s->host_id, "vm", (int64_t)s->vm_id);
    if (waiting && waiting->step == SESSION_TAKEOVER)
        session_event(waiting, SESSION_EV_DONE);
    else if (heir != b->instance)
        store_tell_l7r(b->db, (int64_t)heir, "vm", (int64_t)s->vm_id);
}

static void answered(void *arg, bool failed, uint64_t heir, uint64_t vm_id)
{
    struct session *s = arg;

    s->call = NULL;
    if (failed) {
        session_event(s, SESSION_EV_REFUSED);
        return;
    }
    if (s->relayed && s->link) {
        struct l7r_ack m = {.session = s->id};
        if (ipc_send(s->link->channel, &l7r_ack_msg, &m, -EBADF) < 0)
            log_debug("session %llu is reported once more", (unsigned long long)s->id);
    }
    if (s->connected && connected_ms(s) < conf_ms(s->broker->conf, "l7r.short_session"))
        s->broker->counters.short_sessions++;
    tell(s);
    tell_heirs(s, heir);
    session_event(s, SESSION_EV_DONE);
}

enum session_event step_close(struct session *s)
{
    struct broker *b = s->broker;
    struct store_close_query q = {.session = s->id,
                                  .reason = s->reason ? s->reason : "closed",
                                  .bytes_in = s->bytes_in,
                                  .bytes_out = s->bytes_out,
                                  .phases = s->phases};

    s->fd = fd_close(s->fd);
    if (!s->ended)
        s->ended = clock_ms();
    s->call = store_session_close(b->db, &q, answered, s);
    return s->call ? SESSION_EV_NONE : SESSION_EV_REFUSED;
}
