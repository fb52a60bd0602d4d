// SPDX-License-Identifier: GPL-3.0-or-later
/* Two clients of libqvdclient in one loop, by its public header only: lists, chooses, connects, and
 * tells each step. usage: twoclients PORT CA NXPROXY USER... */
#include <qvdclient.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct person {
    struct qvdclient *client;
    const char *name;
};

static struct qvdclient_loop *loop;
static int running, worst;

static void on_vms(void *arg, const struct qvdclient_vm *vms, size_t n)
{
    struct person *p = arg;

    printf("%s: %zu machines\n", p->name, n);
    if (qvdclient_choose_vm(p->client, 4711) == 0)
        abort(); /* not in the list */
    if (qvdclient_choose_vm(p->client, vms[n - 1].id) != 0)
        abort();
}

static void on_password(void *arg)
{
    struct person *p = arg;

    qvdclient_answer_password(p->client, "secret");
}

static void on_progress(void *arg, const char *text)
{
    struct person *p = arg;

    printf("%s: %s\n", p->name, text);
}

static void on_state(void *arg, enum qvdclient_state state)
{
    struct person *p = arg;

    printf("%s: state %s\n", p->name, qvdclient_state_name(state));
}

static void on_ended(void *arg, enum qvdclient_result result, const char *text)
{
    struct person *p = arg;
    uint64_t in, out;

    qvdclient_traffic(p->client, &in, &out);
    printf("%s: ended %d, %llu bytes in, %llu out: %s\n", p->name, result, (unsigned long long)in,
           (unsigned long long)out, text);
    if (result > worst)
        worst = result;
    if (--running == 0)
        qvdclient_loop_stop(loop, worst);
}

static const struct qvdclient_callbacks callbacks = {
    .state = on_state,
    .password = on_password,
    .vms = on_vms,
    .progress = on_progress,
    .ended = on_ended,
};

int main(int argc, char **argv)
{
    static struct person people[16];
    int n = argc - 4;

    if (n < 1 || n > 16)
        return 2;
    loop = qvdclient_loop_new();
    for (int i = 0; i < n; i++) {
        struct person *p = &people[i];
        p->name = argv[4 + i];
        p->client = qvdclient_new(loop, &callbacks, p);
        if (!p->client || qvdclient_set(p->client, QVDCLIENT_HOST, "localhost") ||
            qvdclient_set(p->client, QVDCLIENT_PORT, argv[1]) ||
            qvdclient_set(p->client, QVDCLIENT_CA_FILE, argv[2]) ||
            qvdclient_set(p->client, QVDCLIENT_NXPROXY, argv[3]) ||
            qvdclient_set(p->client, QVDCLIENT_USER, p->name) ||
            qvdclient_set(p->client, QVDCLIENT_PORT, "65536") == 0 || qvdclient_start(p->client))
            return 2;
        running++;
    }
    int status = qvdclient_loop_run(loop);
    for (int i = 0; i < n; i++)
        qvdclient_free(people[i].client);
    qvdclient_loop_free(loop);
    return status;
}
