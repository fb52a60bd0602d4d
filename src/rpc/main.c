// SPDX-License-Identifier: GPL-3.0-or-later
/* qvd-rpc: speaks with hostile VMAs for hkd or the broker, whose channel is descriptor 3. Gives up
 * all rights before the first byte. Started by ipc/rpc-client.h's spawner, not by people. */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "config.h"
#include "ev/ev.h"
#include "rpc/server.h"
#include "wire/vma.h"

#define ASKER_FD 3

static const struct option options[] = {
    {"user",    required_argument, NULL, 'u'},
    {"help",    no_argument,       NULL, 'h'},
    {"version", no_argument,       NULL, 'V'},
    {NULL,      0,                 NULL, 0  },
};

static int usage(FILE *out, int status)
{
    fputs("usage: qvd-rpc [--user NAME]\n"
          "Asks the agents of VMs for the process that started it with a channel as descriptor 3.\n"
          "  --user NAME  become this system user (default: qvd-rpc)\n"
          "  --help, --version\n",
          out);
    return status;
}

/* -1: go on with *ret_user; else the exit status. */
static int parse(int argc, char **argv, const char **ret_user)
{
    int c;

    while ((c = getopt_long(argc, argv, "hV", options, NULL)) != -1) {
        switch (c) {
        case 'u':
            *ret_user = optarg;
            break;
        case 'h':
            return usage(stdout, 0);
        case 'V':
            puts("qvd-rpc " QVD_VERSION);
            return 0;
        default:
            return usage(stderr, 2);
        }
    }
    return optind < argc ? usage(stderr, 2) : -1;
}

static int serve(const char *user)
{
    const struct sandbox_spec spec = {
        .user = user, .chroot_dir = QVD_RUNDIR "/empty", .syscalls = sandbox_loop_syscalls};
    struct rpc_server *server = NULL;
    struct ev_loop *loop = NULL;
    struct qvd_error err;

    int r = wire_vma_warm_up();
    if (r == 0)
        r = ev_loop_new(&loop);
    if (r == 0)
        r = fs_set_nonblock(ASKER_FD);
    if (r == 0)
        r = rpc_server_new(loop, ASKER_FD, &server);
    if (r < 0) {
        log_error("cannot serve descriptor %d: %s", ASKER_FD, strerror(-r));
        return 1;
    }
    r = sandbox_enter(&spec, &err);
    if (r < 0)
        log_error("%s", err.text);
    int status = r < 0 ? 1 : ev_loop_run(loop);
    rpc_server_free(server);
    ev_loop_free(loop);
    return status;
}

int main(int argc, char **argv)
{
    const char *user = "qvd-rpc";
    int type = 0, status = parse(argc, argv, &user);
    socklen_t len = sizeof type;

    if (status >= 0)
        return status;
    log_open("qvd-rpc");
    if (getsockopt(ASKER_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET) {
        log_error("descriptor 3 is no channel; qvd-rpc is started by qvd-hkd and qvd-l7r");
        return 2;
    }
    return serve(user);
}
