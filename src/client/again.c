// SPDX-License-Identifier: GPL-3.0-or-later
/* After the stream has ended without our nxproxy having wanted it. A line that was cut is made
 * again, by itself, for as long as QVDCLIENT_RECONNECT tells; after an end in good order the server
 * is asked why, so that a person whose session was taken over reads so. Only servers that number
 * their sessions (WIRE_L7R_SESSION) can tell a cut from a takeover: with others nothing is tried.
 */
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "client/client-internal.h"

#define STABLE_MS 30000 /* a session that lasted so long begins a new count */

/* The first is soon, and not the same moment for all whose worker died. */
static uint64_t delay_of(unsigned attempt)
{
    static const uint16_t delays[] = {200, 500, 1000, 2000, 4000, 8000, 15000};
    uint64_t ms = delays[attempt < ARRAY_SIZE(delays) ? attempt : ARRAY_SIZE(delays) - 1];
    uint16_t random = 0;

    if (random_bytes(&random, sizeof random) < 0)
        random = 0;
    return ms / 2 + ms * random / 65536;
}

static int64_t limit_ms(const struct qvdclient *c)
{
    int64_t seconds = 0;

    return str_to_i64(client_option(c, QVDCLIENT_RECONNECT), 0, 86400, &seconds) < 0
               ? 0
               : seconds * 1000;
}

bool client_again_possible(const struct qvdclient *c)
{
    return c->again.session && limit_ms(c) > 0;
}

static void attempt(struct qvdclient *c)
{
    c->retried = true; /* one connection an attempt */
    client_connect(c);
}

static void wait_for_next(struct qvdclient *c)
{
    uint64_t delay = delay_of(c->again.attempts);

    c->again.attempts++;
    client_set_state(c, QVDCLIENT_RECONNECTING);
    if (c->cb->reconnecting)
        c->cb->reconnecting(c->arg, c->again.why, c->again.attempts, (unsigned)delay);
    ev_timer_arm(c->timer, delay);
}

void client_again_begin(struct qvdclient *c, bool cut, const char *why)
{
    int64_t now = clock_ms();

    if (!c->again.began || now - c->session.started_ms > STABLE_MS) {
        c->again.began = now;
        c->again.attempts = 0;
    }
    c->again.active = true;
    c->goal = cut ? GOAL_CONNECT : GOAL_ASK_END;
    (void)snprintf(c->again.why, sizeof c->again.why, "%.150s", why);
    client_set_state(c, QVDCLIENT_RECONNECTING);
    if (client_session_reset(c))
        client_again_nx_gone(c);
}

void client_again_nx_gone(struct qvdclient *c)
{
    if (c->goal == GOAL_ASK_END)
        client_later(c, attempt);
    else
        wait_for_next(c);
}

void client_again_timer(struct qvdclient *c)
{
    attempt(c);
}

void client_again_connected(struct qvdclient *c)
{
    c->again.active = false;
}

static void next(struct qvdclient *c)
{
    client_disconnect(c);
    if (client_session_reset(c))
        wait_for_next(c);
}

bool client_again_failed(struct qvdclient *c, enum qvdclient_result *result)
{
    bool passing = *result == QVDCLIENT_UNREACHABLE || *result == QVDCLIENT_UNAVAILABLE ||
                   *result == QVDCLIENT_SESSION;
    char last[sizeof c->text];

    if (!c->again.active)
        return false;
    if (c->goal == GOAL_ASK_END) {
        if (*result != QVDCLIENT_TAKEN && *result != QVDCLIENT_CANCELLED &&
            *result != QVDCLIENT_OK) {
            *result = QVDCLIENT_OK;
            (void)snprintf(c->text, sizeof c->text, "the session has ended");
        }
        return false;
    }
    if (!passing)
        return false;
    if (clock_ms() - c->again.began < limit_ms(c)) {
        client_debug(c, "attempt %u: %s", c->again.attempts, c->text);
        (void)snprintf(c->again.why, sizeof c->again.why, "%.150s", c->text);
        client_set_state(c, QVDCLIENT_RECONNECTING);
        client_later(c, next);
        return true;
    }
    memcpy(last, c->text, sizeof last);
    *result = QVDCLIENT_SESSION;
    (void)snprintf(c->text, sizeof c->text,
                   "the connection was lost and did not come back within %s s (%.200s); your "
                   "desktop goes on: connect again later",
                   client_option(c, QVDCLIENT_RECONNECT), last);
    return false;
}
