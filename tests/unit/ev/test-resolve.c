// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>

#include "ev/ev.h"
#include "ev/resolve.h"

struct heard {
    struct ev_loop *loop;
    unsigned calls;
    struct addrinfo *list;
    char why[128];
};

static void on_answer(void *arg, struct addrinfo *list, const char *why)
{
    struct heard *h = arg;

    h->calls++;
    h->list = list;
    snprintf(h->why, sizeof h->why, "%s", why ? why : "");
    ev_loop_stop(h->loop, 0);
}

static void on_limit(void *arg)
{
    ev_loop_stop(arg, 1);
}

/* Looks up and waits for the answer; the list is the caller's. */
static struct heard look_up(const char *host, const char *port)
{
    struct heard h = {0};
    struct ev_resolve *r;
    struct ev_timer *limit;

    assert_int_equal(ev_loop_new(&h.loop), 0);
    assert_int_equal(ev_timer_new(h.loop, on_limit, h.loop, &limit), 0);
    ev_timer_arm(limit, 50000);
    assert_int_equal(ev_resolve_new(h.loop, host, port, on_answer, &h, &r), 0);
    assert_int_equal(h.calls, 0); /* never from inside */
    assert_int_equal(ev_loop_run(h.loop), 0);
    assert_int_equal(h.calls, 1);
    ev_resolve_free(r);
    ev_timer_free(limit);
    ev_loop_free(h.loop);
    return h;
}

static void test_addresses_in_digits(void **state)
{
    struct heard h = look_up("192.0.2.7", "8443");
    const struct sockaddr_in *four;
    const struct sockaddr_in6 *six;
    char text[INET6_ADDRSTRLEN];

    assert_non_null(h.list);
    four = (const struct sockaddr_in *)h.list->ai_addr;
    assert_int_equal(four->sin_family, AF_INET);
    assert_int_equal(ntohs(four->sin_port), 8443);
    assert_int_equal(ntohl(four->sin_addr.s_addr), 0xc0000207);
    assert_null(h.list->ai_next);
    freeaddrinfo(h.list);

    h = look_up("2001:db8::5", "1");
    assert_non_null(h.list);
    six = (const struct sockaddr_in6 *)h.list->ai_addr;
    assert_non_null(inet_ntop(AF_INET6, &six->sin6_addr, text, sizeof text));
    assert_string_equal(text, "2001:db8::5");
    freeaddrinfo(h.list);
}

static void test_a_name_and_none(void **state)
{
    struct heard h = look_up("localhost", "8443");

    assert_non_null(h.list);
    assert_string_equal(h.why, "");
    freeaddrinfo(h.list);
    h = look_up("no.such.host.invalid", "8443");
    assert_null(h.list);
    assert_string_not_equal(h.why, "");
}

/* Freed before its answer: nothing comes, nothing leaks (the sanitizer looks). */
static void test_nobody_waits_any_more(void **state)
{
    struct heard h = {0};
    struct ev_resolve *r;

    assert_int_equal(ev_loop_new(&h.loop), 0);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(
            ev_resolve_new(h.loop, i % 2 ? "localhost" : "192.0.2.1", "1", on_answer, &h, &r), 0);
        assert_null(ev_resolve_free(r));
    }
    ev_loop_turn(h.loop, false);
    assert_int_equal(h.calls, 0);
    ev_loop_free(h.loop);
    assert_null(ev_resolve_free(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses_in_digits),
        cmocka_unit_test(test_a_name_and_none),
        cmocka_unit_test(test_nobody_waits_any_more),
    };

    signal(SIGPIPE, SIG_IGN); /* as the program does */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
