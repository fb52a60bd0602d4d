// SPDX-License-Identifier: GPL-3.0-or-later
/* bench-load: see --help. */
#include "load.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const struct {
    const char *name;
    void (*run)(const struct options *o);
    bool needs_backend, needs_heads;
} commands[] = {
    {"down",       run_down,       true,  false},
    {"up",         run_up,         true,  false},
    {"rtt",        run_rtt,        true,  false},
    {"handshakes", run_handshakes, false, false},
    {"requests",   run_requests,   false, true },
    {"idle",       run_idle,       true,  false},
};

static void usage(FILE *out)
{
    fputs("usage: bench-load down|up|rtt|handshakes|requests|idle --port N [options]\n\n"
          "TLS client and plain backend on the two sides of a proxy; prints one line of JSON.\n\n"
          "  -h, --host ADDRESS   the proxy (127.0.0.1)\n"
          "  -p, --port N\n"
          "  -f, --backend-fd N   a listening socket that the proxy dials\n"
          "  -H, --heads FILE     what each session says first: heads, each with its empty line\n"
          "  -s, --sessions N     at the same time (1)\n"
          "  -n, --count N        round trips, handshakes, requests, idle sessions (1000)\n"
          "  -b, --bytes N        of all sessions together (1 GiB)\n"
          "  -r, --resume         resume one TLS session in each handshake (with heads: that of\n"
          "                       a connection that has sent the first of them)\n"
          "  -w, --watch PID      tell its CPU time; may be repeated\n",
          out);
}

/* Heads end with an empty line; they are kept with it. */
static void read_heads(struct options *o, const char *path)
{
    FILE *f = fopen(path, "re");
    char *text = NULL;
    size_t size = 0;

    if (!f || getdelim(&text, &size, 0, f) < 0)
        die("cannot read %s", path);
    fclose(f);
    for (char *at = text, *end; (end = strstr(at, "\r\n\r\n")); at = end + 4) {
        o->heads = realloc(o->heads, (o->n_heads + 1) * sizeof *o->heads);
        if (!o->heads)
            die("out of memory");
        o->heads[o->n_heads++] = strndup(at, (size_t)(end + 4 - at));
    }
    free(text);
    if (!o->n_heads)
        die("%s has no head", path);
}

static void add_watch(struct options *o, int pid)
{
    if (o->n_watch == WATCH_MAX)
        die("too many processes to watch");
    o->watch[o->n_watch++] = pid;
}

static void set_option(struct options *o, int c)
{
    switch (c) {
    case 'h':
        o->host = optarg;
        break;
    case 'p':
        o->port = atoi(optarg);
        break;
    case 'f':
        o->backend_fd = atoi(optarg);
        break;
    case 'H':
        read_heads(o, optarg);
        break;
    case 's':
        o->sessions = strtoul(optarg, NULL, 10);
        break;
    case 'n':
        o->count = strtoul(optarg, NULL, 10);
        break;
    case 'b':
        o->bytes = strtoull(optarg, NULL, 10);
        break;
    case 'r':
        o->resume = true;
        break;
    case 'w':
        add_watch(o, atoi(optarg));
        break;
    default:
        usage(stderr);
        exit(2);
    }
}

int main(int argc, char **argv)
{
    static const struct option longs[] = {
        {"host",             required_argument, NULL, 'h'},
        {"port",              required_argument, NULL, 'p'},
        {"backend-fd",                  required_argument, NULL, 'f'},
        {"heads",required_argument, NULL, 'H'},
        {"sessions",               required_argument, NULL, 's'},
        {"count",       required_argument, NULL, 'n'},
        {"bytes",              required_argument, NULL, 'b'},
        {"resume",                  no_argument, NULL, 'r'},
        {"watch",              required_argument, NULL, 'w'},
        {0              }
    };
    struct options o = {
        .host = "127.0.0.1", .backend_fd = -1, .sessions = 1, .count = 1000, .bytes = 1u << 30};
    struct rlimit files;
    int c;

    while ((c = getopt_long(argc, argv, "h:p:f:H:s:n:b:rw:", longs, NULL)) != -1)
        set_option(&o, c);
    signal(SIGPIPE, SIG_IGN);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (size_t i = 0; optind + 1 == argc && i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(argv[optind], commands[i].name) != 0)
            continue;
        if (!o.port || !o.sessions || !o.count || (commands[i].needs_backend && o.backend_fd < 0) ||
            (commands[i].needs_heads && !o.n_heads))
            break;
        commands[i].run(&o);
        return 0;
    }
    usage(stderr);
    return 2;
}
