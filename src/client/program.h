// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The program qvdclient: uses the library by its public header only. */

#include "base/cleanup.h"
#include "client/qvdclient.h"
#include "conf/conf.h"

struct program {
    struct qvdclient_loop *loop;
    struct qvdclient *client;
    struct conf *conf;
    bool list, json, first, debug;
    bool lost; /* the session was cut and is not there again */
    int status;
};

/* program-options.c: settings, environment, options, in this order the later wins. 0: go on; else
 * *ret_status is how to end (everything has been told). */
must_check int program_options(struct program *p, int argc, char **argv, int *ret_status);

/* program-ask.c. There is a person to ask. */
bool ask_possible(void);
enum qvdclient_answer ask_certificate(const struct qvdclient_certificate *cert);
/* 0 when none was chosen. */
uint64_t ask_vm(const struct qvdclient_vm *vms, size_t n);
void show_vms(const struct qvdclient_vm *vms, size_t n, bool json);
