// SPDX-License-Identifier: GPL-3.0-or-later
#include "base/ask.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <termios.h>

static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

static volatile sig_atomic_t caught;

static void on_signal(int signo)
{
    caught = signo;
}

/* 0, or -errno (-EINTR: a signal was caught, -ENODATA: the end without a line). The signals come in
 * ppoll() only, which lets those of mask: none is lost between a look and a wait. */
static must_check int read_line(char *line, size_t size, const sigset_t *mask)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    size_t n = 0;

    for (;;) {
        char c;
        int ready = ppoll(&input, 1, NULL, mask);
        ssize_t r = ready < 0 ? -1 : read(STDIN_FILENO, &c, 1);
        if (caught)
            return -EINTR;
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0 && n == 0)
            return -ENODATA;
        if (r == 0 || c == '\n')
            break;
        if (n + 1 >= size)
            return -ENOBUFS;
        line[n++] = c;
    }
    if (n > 0 && line[n - 1] == '\r')
        n--;
    line[n] = '\0';
    return 0;
}

static must_check char *ask(const char *prompt, bool echo)
{
    char line[ASK_LINE_MAX] = "";
    struct sigaction note = {.sa_handler = on_signal}, old[ARRAY_SIZE(ending)];
    struct termios before, silent;
    bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
    sigset_t blocked, mask;

    caught = 0;
    sigemptyset(&blocked);
    for (size_t i = 0; i < ARRAY_SIZE(ending); i++)
        sigaddset(&blocked, ending[i]);
    sigprocmask(SIG_BLOCK, &blocked, &mask);
    for (size_t i = 0; i < ARRAY_SIZE(ending); i++)
        sigaction(ending[i], &note, &old[i]);
    if (terminal && !echo) {
        silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        /* First silent, then asked: who answers at once is not shown. */
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    }
    if (terminal || echo)
        fputs(prompt, stderr);
    int r = read_line(line, sizeof line, &mask);
    if (terminal && !echo)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    if ((terminal && !echo) || (echo && r < 0))
        fputc('\n', stderr);
    for (size_t i = 0; i < ARRAY_SIZE(ending); i++)
        sigaction(ending[i], &old[i], NULL);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    if (caught)
        raise(caught);
    char *copy = r == 0 ? strdup(line) : NULL;
    explicit_bzero(line, sizeof line);
    return copy;
}

char *ask_secret(const char *prompt)
{
    return ask(prompt, false);
}

char *ask_text(const char *prompt)
{
    return ask(prompt, true);
}
