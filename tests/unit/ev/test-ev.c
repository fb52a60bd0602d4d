// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "ev/child.h"
#include "ev/ev.h"

static int make_loop(void **state)
{
    return ev_loop_new((struct ev_loop **)state);
}

static int drop_loop(void **state)
{
    ev_loop_free(*state);
    return 0;
}

struct seen {
    struct ev_loop *loop;
    struct ev_timer *timer;
    struct ev_io *io;
    unsigned events;
    int count, status;
    char text[64];
};

static void stop_on_timer(void *arg)
{
    struct seen *s = arg;

    s->timer = ev_timer_free(s->timer); /* inside its own callback */
    ev_loop_stop(s->loop, 7);
}

/* Until the kernel's tick. */
static void rest_of_a_tick(void)
{
    struct timespec before, now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &before);
    do
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    while (now.tv_nsec == before.tv_nsec);
}

static void timer_fires_once_and_may_die_in_its_callback(void **state)
{
    struct seen s = {.loop = *state};

    /* Never early, though the loop's clock steps on between arming and waiting. */
    for (int ms = 5; ms < 15; ms++) {
        int64_t before = clock_us();
        assert_int_equal(ev_timer_new(s.loop, stop_on_timer, &s, &s.timer), 0);
        assert_false(ev_timer_armed(s.timer));
        ev_timer_arm(s.timer, (uint64_t)ms);
        assert_true(ev_timer_armed(s.timer));
        rest_of_a_tick();
        assert_int_equal(ev_loop_run(s.loop), 7);
        assert_true(clock_us() - before >= ms * 1000);
    }
}

static void note_io(void *arg, unsigned events)
{
    struct seen *s = arg;

    s->events |= events;
    s->io = ev_io_free(s->io);
}

static void close_is_seen_without_reading(void **state)
{
    struct seen s = {.loop = *state};
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(ev_io_new(s.loop, fds[0], EV_IO_CLOSED, note_io, &s, &s.io), 0);
    ev_loop_turn(s.loop, false);
    assert_int_equal(s.events, 0);
    assert_int_equal(write(fds[1], "unread", 6), 6);
    ev_loop_turn(s.loop, false);
    assert_int_equal(s.events, 0);
    close(fds[1]);
    ev_loop_turn(s.loop, true);
    assert_int_equal(s.events, EV_IO_CLOSED);
    close(fds[0]);
}

static void count(void *arg)
{
    ((struct seen *)arg)->count++;
}

static void deferred_work_runs_once_at_the_end_of_the_turn(void **state)
{
    struct seen s = {.loop = *state};
    struct ev_deferred d;

    ev_deferred_init(&d, count, &s);
    ev_defer(s.loop, &d);
    ev_defer(s.loop, &d);
    assert_int_equal(s.count, 0);
    ev_loop_turn(s.loop, false);
    assert_int_equal(s.count, 1);
    ev_defer(s.loop, &d);
    ev_deferred_cancel(&d);
    ev_loop_turn(s.loop, false);
    assert_int_equal(s.count, 1);
}

static void note_end(void *arg, int status)
{
    struct seen *s = arg;

    s->status = status;
    ev_loop_stop(s->loop, 0);
}

static void child_has_only_what_it_was_given(void **state)
{
    struct seen s = {.loop = *state};
    struct ev_child *child;
    struct qvd_error err;
    int fds[2];
    char seen[256] = "";

    assert_int_equal(pipe(fds), 0); /* without close-on-exec: still not inherited */
    const char *const argv[] = {"sh", "-c", "ls /proc/self/fd >&5; kill -l 10; exit 3", NULL};
    struct ev_child_fd map[] = {
        {fds[1], 5}
    };
    struct ev_child_spec spec = {.path = "sh", .argv = argv, .fds = map, .n_fds = 1};
    assert_int_equal(ev_child_spawn(s.loop, &spec, note_end, &s, &child, &err), 0);
    ev_loop_run(s.loop);
    assert_true(WIFEXITED(s.status) && WEXITSTATUS(s.status) == 3);
    assert_string_equal(ev_child_status_text(s.status, s.text, sizeof s.text), "exit 3");
    close(fds[1]);
    assert_true(read(fds[0], seen, sizeof seen - 1) > 0);
    assert_string_equal(seen, "0\n1\n2\n3\n5\n"); /* 3: ls's own of the folder */
    close(fds[0]);
    assert_int_equal(ev_child_kill(child, SIGTERM), -ESRCH);
    ev_child_free(child);
}

static void missing_program_is_named(void **state)
{
    struct ev_child *child;
    struct qvd_error err;
    const char *const argv[] = {"/nonexistent/program", NULL};
    struct ev_child_spec spec = {.path = argv[0], .argv = argv};

    assert_int_equal(ev_child_spawn(*state, &spec, note_end, NULL, &child, &err), -ENOENT);
    assert_string_equal(err.text, "cannot start /nonexistent/program: No such file or directory");
}

static void note_result(void *arg, const struct ev_command_result *result)
{
    struct seen *s = arg;

    s->status = result->status;
    s->count = result->out_len;
    snprintf(s->text, sizeof s->text, "%.40s", result->errors);
    ev_loop_stop(s->loop, 0);
}

static void command_passes_input_and_bounds_output(void **state)
{
    struct seen s = {.loop = *state};
    const char *const argv[] = {"sh", "-c",
                                "cat; cat /dev/zero | head -c 300000; echo no >&2; exit 4", NULL};

    assert_int_equal(
        ev_command_run(s.loop, argv, "input", 5, 1000, 10000, note_result, &s, NULL, NULL), 0);
    ev_loop_run(s.loop);
    assert_int_equal(WEXITSTATUS(s.status), 4);
    assert_int_equal(s.count, 1000);
    assert_string_equal(s.text, "no\n");
}

static void command_is_killed_with_its_children_after_its_time(void **state)
{
    struct seen s = {.loop = *state};
    const char *const argv[] = {"sh", "-c", "sleep 60 & sleep 60", NULL};
    int64_t before = clock_ms();

    assert_int_equal(ev_command_run(s.loop, argv, NULL, 0, 100, 100, note_result, &s, NULL, NULL),
                     0);
    ev_loop_run(s.loop);
    assert_int_equal(s.status, -1);
    assert_true(clock_ms() - before < 30000);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, make_loop, drop_loop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(timer_fires_once_and_may_die_in_its_callback),
        CASE(close_is_seen_without_reading),
        CASE(deferred_work_runs_once_at_the_end_of_the_turn),
        CASE(child_has_only_what_it_was_given),
        CASE(missing_program_is_named),
        CASE(command_passes_input_and_bounds_output),
        CASE(command_is_killed_with_its_children_after_its_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
