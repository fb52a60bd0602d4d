// SPDX-License-Identifier: GPL-3.0-or-later
/* HOST: may this node's L7R serve now? Read at most once a second: load balancers ask for it all
 * the time. And what was wrong with the request itself, which comes after that. */
#include "base/clock.h"
#include "base/str.h"
#include "l7r/broker/broker-internal.h"

#define FRESH_MS 1000

static enum session_event kind_of(struct session *s)
{
    if (s->flaw == 426)
        return session_refuse(s, 426, "%s", s->flaw_text);
    if (s->token_vm_id && s->vm_id && s->token_vm_id != s->vm_id)
        return session_refuse(s, 403, "The token is for another virtual machine");
    if (s->flaw)
        return session_refuse(s, s->flaw, "%s", s->flaw_text);
    switch (s->kind) {
    case L7R_PING:
        return session_answer(s, "text/plain", str_printf("I am alive!\r\n"));
    case L7R_LIST:
    case L7R_LIST_APPS:
        return SESSION_EV_LIST;
    case L7R_STOP_VM:
        return SESSION_EV_STOP;
    default:
        return SESSION_EV_DONE;
    }
}

static enum session_event judge(struct session *s)
{
    const struct store_l7r_host *h = &s->broker->host;
    bool state_matters = s->kind != L7R_CONNECT && s->kind != L7R_STOP_VM;

    if (broker_refuses(s->broker))
        return session_refuse(s, 503, "%s", broker_refuses(s->broker));
    if (h->failed)
        return session_refuse(s, 503, "The database cannot be reached. Retry later");
    if (!h->registered)
        return session_refuse(s, 503, "Server is not registered");
    if (h->blocked)
        return session_refuse(s, 503, "Server is blocked");
    if (!h->frontend)
        return session_refuse(s, 503, "Server takes no connections");
    if (state_matters && h->state != HOST_RUNNING)
        return session_refuse(s, 503, "Server is %s", host_state_to_string(h->state));
    return kind_of(s);
}

static void answered(void *arg, const struct store_l7r_host *host)
{
    struct session *s = arg;

    s->call = NULL;
    s->broker->host = *host;
    s->broker->host_at = host->failed ? 0 : clock_ms();
    session_event(s, judge(s));
}

enum session_event step_host(struct session *s)
{
    struct broker *b = s->broker;

    if (b->host_at && clock_ms() - b->host_at < FRESH_MS)
        return judge(s);
    s->call = store_l7r_host(b->db, b->nodename, answered, s);
    return s->call ? SESSION_EV_NONE : session_refuse(s, 503, "out of memory");
}
