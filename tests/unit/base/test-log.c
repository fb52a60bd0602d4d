// SPDX-License-Identifier: GPL-3.0-or-later

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"

static char folder[] = "/tmp/qvd-test-log-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[128];

    assert_int_equal(str_format(path, sizeof path, "%s/%s", folder, name), 0);
    return path;
}

/* The file's text is head, a time and tail. */
static void expect_file(const char *path, const char *tail)
{
    _cleanup_(free_p) char *text = NULL;
    size_t len;

    assert_int_equal(fs_read(path, 4096, &text, &len), 0);
    if (!str_ends(text, tail))
        fail_msg("%s: %s", path, text);
}

static int setup(void **state)
{
    log_open("qvd-test");
    return mkdtemp(folder) ? 0 : -1;
}

static int teardown(void **state)
{
    char command[64];

    if (str_format(command, sizeof command, "rm -r %s", folder) < 0)
        return -1;
    return system(command);
}

static void test_file(void **state)
{
    char path[128], old[128], line[64];
    struct stat st;

    strcpy(path, in_folder("a.log"));
    strcpy(old, in_folder("a.log.1"));
    assert_int_equal(log_set_file("/nonexistent/x.log"), -ENOENT);
    assert_int_equal(log_set_file(path), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    log_info("one\ntwo\033[m");
    (void)snprintf(line, sizeof line, "Z qvd-test[%d] info: one\\x0atwo\\x1b[m\n", (int)getpid());
    expect_file(path, line);
    log_debug("not at this level");
    expect_file(path, line);
    /* Rotated: the old file until it is opened again. */
    assert_int_equal(rename(path, old), 0);
    log_warning("still the old");
    expect_file(old, "] warn: still the old\n");
    assert_int_equal(log_set_file(path), 0);
    log_error("the new");
    expect_file(path, "] error: the new\n");
    log_set_level(LOG_LEVEL_OFF);
    log_error("nothing at all");
    expect_file(path, "] error: the new\n");
    log_set_level(LOG_LEVEL_INFO);
    assert_int_equal(log_set_file(NULL), 0);
}

static int local_syslog(const char *path)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    strcpy(sa.sun_path, path);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    return fd;
}

/* The next datagram begins with head and ends with tail. */
static void expect_datagram(int fd, const char *head, const char *tail)
{
    char text[4096];
    ssize_t n = recv(fd, text, sizeof text - 1, 0);

    if (n < 0)
        fail_msg("no line that ends with: %s", tail);
    text[n] = 0;
    if (!str_starts(text, head) || !str_ends(text, tail))
        fail_msg("%s", text);
}

/* RFC 3164 as /dev/log takes it: <facility * 8 + severity>Mmm dd hh:mm:ss TAG[PID]: text. */
static void test_syslog(void **state)
{
    char path[128], tail[64];
    int fd, again;

    strcpy(path, in_folder("log"));
    assert_int_equal(log_set_syslog(path, 3), -ENOENT);
    fd = local_syslog(path);
    assert_int_equal(log_facility("daemon"), 3);
    assert_int_equal(log_facility("local7"), 23);
    assert_int_equal(log_facility("nonsense"), -1);
    assert_int_equal(log_facility(""), -1);
    assert_int_equal(log_set_syslog(path, log_facility("local0")), 0);
    log_error("broken");
    (void)snprintf(tail, sizeof tail, " qvd-test[%d]: broken", (int)getpid());
    expect_datagram(fd, "<131>", tail); /* 16 * 8 + 3 */
    log_info("well");
    expect_datagram(fd, "<134>", ": well");
    /* Restarted: found at the next line. */
    close(fd);
    assert_int_equal(unlink(path), 0);
    log_info("lost");
    fd = local_syslog(path);
    log_info("back");
    expect_datagram(fd, "<132>", ": 1 lines before were lost");
    expect_datagram(fd, "<134>", ": back");
    /* A full queue does not stop us. */
    for (int i = 0; i < 5000; i++)
        log_info("flood %d", i);
    for (again = 0; recv(fd, tail, sizeof tail, 0) >= 0; again++)
        ;
    assert_in_range(again, 1, 4999);
    log_info("after");
    expect_datagram(fd, "<132>", " lines before were lost");
    expect_datagram(fd, "<134>", ": after");
    assert_int_equal(log_set_file(NULL), 0);
    close(fd);
}

/* RFC 5424: <PRI>1 TIME HOST APP PID - - text. */
static void test_remote(void **state)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    char address[32], host[256] = "", tail[400];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    (void)snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(sa.sin_port));
    assert_int_equal(log_set_syslog("nonsense", 3), -EINVAL);
    assert_int_equal(log_set_syslog("127.0.0.1:", 3), -EINVAL);
    assert_int_equal(log_set_syslog(":514", 3), -EINVAL);
    assert_int_equal(log_set_syslog(address, 3), 0);
    log_warning("over there");
    assert_int_equal(gethostname(host, sizeof host - 1), 0);
    (void)snprintf(tail, sizeof tail, "Z %s qvd-test %d - - over there", host, (int)getpid());
    expect_datagram(fd, "<28>1 20", tail);
    close(fd);
    /* Nobody is there: nothing happens to us. */
    log_warning("to nobody");
    log_warning("to nobody");
    assert_int_equal(log_set_file(NULL), 0);
}

static void expect_line(int fd, const char *tail)
{
    char text[1024];
    ssize_t n = 0, more;

    do {
        more = recv(fd, text + n, sizeof text - 1 - n, 0);
        assert_true(more > 0);
        n += more;
    } while (text[n - 1] != '\n');
    text[n] = '\0';
    if (strncmp(text, "<28>1 20", 8) != 0 || !str_ends(text, tail))
        fail_msg("%s", text);
}

/* RFC 6587: over TCP, each line ended by a newline. A server that comes back gets lines again. */
static void test_stream(void **state)
{
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof sa;
    char address[40], byte;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), peer;

    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    (void)snprintf(address, sizeof address, "tcp://127.0.0.1:%d", ntohs(sa.sin_port));
    assert_int_equal(log_set_syslog("tcp://nonsense", 3), -EINVAL);
    assert_int_equal(log_set_syslog(address, 3), -EHOSTUNREACH); /* nobody listens */
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(log_set_syslog(address, 3), 0);
    peer = accept(fd, NULL, NULL);
    log_warning("by stream");
    expect_line(peer, " - - by stream\n");
    close(peer);
    /* The first is lost in the network, the second finds the stream broken and makes a new one. */
    log_warning("lost");
    log_warning("found again");
    peer = accept(fd, NULL, NULL);
    expect_line(peer, " - - found again\n");
    assert_int_equal(log_set_file(NULL), 0);
    assert_int_equal(recv(peer, &byte, 1, 0), 0);
    close(peer);
    close(fd);
}

/* A child that opens nothing has target, level and facility of its parent; a new target by fd. */
static void test_child(void **state)
{
    char path[128], second[128];
    int status;

    strcpy(path, in_folder("parent.log"));
    strcpy(second, in_folder("second.log"));
    assert_int_equal(log_set_file(path), 0);
    log_set_level(LOG_LEVEL_WARNING);
    pid_t pid = fork();
    if (pid == 0) {
        log_share();
        pid = fork();
        if (pid == 0) {
            FILE *f = fopen(second, "w");

            log_open("qvd-child");
            log_info("not told");
            log_warning("from the child");
            if (!log_inherited() || log_get_level() != LOG_LEVEL_WARNING || !f)
                _exit(1);
            log_take(dup(fileno(f)), LOG_LEVEL_ERROR, 3);
            log_warning("not told");
            log_error("to the second");
            _exit(0);
        }
        (void)waitpid(pid, &status, 0);
        _exit(WEXITSTATUS(status));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    expect_file(path, "] warn: from the child\n");
    expect_file(second, "] error: to the second\n");
    log_set_level(LOG_LEVEL_INFO);
    assert_int_equal(log_set_file(NULL), 0);
}

/* One that outlives its parent writes by the name, and so follows a rotation. */
static void test_by_name(void **state)
{
    char path[128];
    int status;

    strcpy(path, in_folder("guard.log"));
    pid_t pid = fork();
    if (pid == 0) {
        if (log_set_file(path) < 0)
            _exit(1);
        log_share();
        pid = fork();
        if (pid == 0) {
            log_open("qvd-guard");
            log_by_name();
            log_info("first");
            if (unlink(path) < 0)
                _exit(2);
            log_info("second");
            _exit(access(path, F_OK) == 0 ? 0 : 3);
        }
        (void)waitpid(pid, &status, 0);
        _exit(WEXITSTATUS(status));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    expect_file(path, "] info: second\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),   cmocka_unit_test(test_syslog),
        cmocka_unit_test(test_remote), cmocka_unit_test(test_stream),
        cmocka_unit_test(test_child),  cmocka_unit_test(test_by_name),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
