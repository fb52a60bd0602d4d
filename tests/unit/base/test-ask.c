// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/ask.h"

/* Runs ask_secret() in a child whose stdin is fd; its wait status. text gets what it returned. */
static pid_t ask_in_child(int fd, int result)
{
    pid_t pid = fork();

    if (pid == 0) {
        dup2(fd, STDIN_FILENO);
        char *line = ask_secret("Password: ");
        if (line && write(result, line, strlen(line)) < 0)
            _exit(9);
        _exit(line ? 0 : 1);
    }
    return pid;
}

static int open_terminal(int *ret_slave)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);

    assert_true(master >= 0);
    assert_int_equal(grantpt(master), 0);
    assert_int_equal(unlockpt(master), 0);
    *ret_slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    assert_true(*ret_slave >= 0);
    return master;
}

static bool echoes(int fd)
{
    struct termios t;

    assert_int_equal(tcgetattr(fd, &t), 0);
    return t.c_lflag & ECHO;
}

static void wait_until_silent(int fd)
{
    const struct timespec pause = {.tv_nsec = 1000000};

    for (int i = 0; echoes(fd); i++) {
        assert_true(i < 10000);
        nanosleep(&pause, NULL);
    }
}

static void takes_one_line_and_leaves_the_rest(void **state)
{
    int in[2], out[2], status;
    char text[32] = "";

    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    assert_int_equal(write(in[1], "first\r\nsecond\n", 14), 14);
    pid_t pid = ask_in_child(in[0], out[1]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(out[0], text, sizeof text - 1), 5);
    assert_string_equal(text, "first");
    assert_int_equal(read(in[0], text, sizeof text - 1), 7);
    assert_memory_equal(text, "second\n", 7);
    close(in[1]);
    pid = ask_in_child(in[0], out[1]); /* the end without a line */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 1);
}

static void terminal_is_silent_and_then_as_it_was(void **state)
{
    int slave, master = open_terminal(&slave), out[2], status;
    char text[32] = "";

    assert_int_equal(pipe(out), 0);
    pid_t pid = ask_in_child(slave, out[1]);
    wait_until_silent(slave);
    assert_int_equal(write(master, "secret\n", 7), 7);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(read(out[0], text, sizeof text - 1), 6);
    assert_string_equal(text, "secret");
    assert_true(echoes(slave));
}

static void a_signal_leaves_no_silent_terminal(void **state)
{
    int slave, master = open_terminal(&slave), out[2], status;

    assert_int_equal(pipe(out), 0);
    pid_t pid = ask_in_child(slave, out[1]);
    wait_until_silent(slave);
    assert_int_equal(kill(pid, SIGINT), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    assert_true(echoes(slave));
    close(master);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_one_line_and_leaves_the_rest),
        cmocka_unit_test(terminal_is_silent_and_then_as_it_was),
        cmocka_unit_test(a_signal_leaves_no_silent_terminal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
