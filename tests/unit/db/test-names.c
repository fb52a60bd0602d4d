// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "db/db-internal.h"

static void on_call(void *arg, unsigned events)
{
    *(bool *)arg = true;
}

static void on_limit(void *arg)
{
    fail_msg("no connection to the new address within 20 s");
}

static void on_done(void *arg, const struct db_result *r)
{
}

/* Listens at an address of "localhost"; the port. fd -1: this machine has no such address. */
static int listen_at(int family, uint16_t port, int *ret_fd)
{
    struct sockaddr_storage at = {.ss_family = (sa_family_t)family};
    struct sockaddr_in *four = (struct sockaddr_in *)&at;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&at;
    socklen_t len = family == AF_INET ? sizeof *four : sizeof *six;

    if (family == AF_INET) {
        four->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        four->sin_port = htons(port);
    } else {
        six->sin6_addr = in6addr_loopback;
        six->sin6_port = htons(port);
    }
    *ret_fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*ret_fd < 0 || bind(*ret_fd, (struct sockaddr *)&at, len) < 0 || listen(*ret_fd, 5) < 0 ||
        getsockname(*ret_fd, (struct sockaddr *)&at, &len) < 0) {
        *ret_fd = fd_close(*ret_fd);
        return 0;
    }
    return ntohs(family == AF_INET ? four->sin_port : six->sin6_port);
}

/* It was elsewhere when the program began, where nobody listens any more. */
static void test_a_name_moves(void **state)
{
    struct db_target target = {.host = "localhost,127.0.0.9",
                               .hostaddr = "127.0.0.9,127.0.0.9",
                               .name = "x",
                               .user = "x",
                               .sslmode = "disable"};
    struct db_options options = {.name = "test", .backoff_max_ms = 200};
    struct ev_loop *loop;
    struct ev_timer *limit;
    struct ev_io *io[2] = {NULL};
    struct db *db;
    int fds[2];
    bool called = false;
    int port = listen_at(AF_INET, 0, &fds[0]);

    (void)listen_at(AF_INET6, (uint16_t)port, &fds[1]);
    assert_true(port > 0);
    snprintf(target.port, sizeof target.port, "%d", port);
    assert_int_equal(ev_loop_new(&loop), 0);
    assert_int_equal(ev_timer_new(loop, on_limit, NULL, &limit), 0);
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            assert_int_equal(ev_io_new(loop, fds[i], EV_IO_IN, on_call, &called, &io[i]), 0);
    assert_int_equal(db_new(loop, &target, &options, &db), 0);
    assert_non_null(db_query(db, "SELECT 1", DB_NO_PARAMS, 0, on_done, NULL));
    ev_timer_arm(limit, 20000);
    while (!called)
        ev_loop_turn(loop, true);
    /* As many addresses as hosts, those in digits as they were. */
    assert_true(strcmp(db->target.hostaddr, "127.0.0.1,127.0.0.9") == 0 ||
                strcmp(db->target.hostaddr, "::1,127.0.0.9") == 0);
    db_free(db);
    for (int i = 0; i < 2; i++) {
        ev_io_free(io[i]);
        fd_close(fds[i]);
    }
    ev_timer_free(limit);
    ev_loop_free(loop);
}

static void test_which_are_names(void **state)
{
    assert_true(names_any(&(struct db_target){.host = "db.example"}));
    assert_true(names_any(&(struct db_target){.host = "10.0.0.1,db.example"}));
    assert_false(names_any(&(struct db_target){.host = "10.0.0.1,::1"}));
    assert_false(names_any(&(struct db_target){.host = "/run/postgresql"}));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_name_moves),
        cmocka_unit_test(test_which_are_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
