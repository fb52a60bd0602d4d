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
    struct conf *system; /* /etc/qvd/client.conf alone: what it forces */
    bool list, json, first, debug, check;
    bool steps; /* are told as they begin */
    bool plain; /* without TLS */
    bool token; /* instead of user and password */
    bool logs;  /* to a file: what the person reads goes there too */
    enum qvdclient_step next_step;
    int fault; /* of the certificate, the first that nobody has accepted */
    bool lost; /* the session was cut and is not there again */
    int status;
};

#define FAULT_CHANGED (-1)

/* program.c. A line for the person, without its end. */
void say(const struct program *p, const char *fmt, ...) printf_like(2, 3);

/* program-options.c: settings, environment, options, in this order the later wins. 0: go on; else
 * *ret_status is how to end (everything has been told). */
must_check int program_options(struct program *p, int argc, char **argv, int *ret_status);

/* program-conf.c. Reads the files; extra: that of --config, or NULL. 0, or -errno (told). */
must_check int program_conf_load(struct program *p, const char *extra);
/* What they set beside the rows of the options. 0, or -errno (told). */
must_check int program_conf_apply(struct program *p);
/* Has the administrator forced this key (NULL: none)? Or which certificates may be accepted? */
bool program_forced(const struct program *p, const char *key);
bool program_certificates_forced(const struct program *p);
void program_open_log(struct program *p);
/* A new path below the home; NULL. */
must_check char *program_home_file(const char *name);

/* program-check.c. A step of --check is done. */
void check_step(struct program *p, enum qvdclient_step done, const char *detail);
/* The exit status. */
int check_ended(struct program *p, enum qvdclient_result result, const char *text);

/* program-ask.c. There is a person to ask. */
bool ask_possible(void);
/* wait_ms: how long the faults are shown before an answer is taken. */
enum qvdclient_answer ask_certificate(const struct qvdclient_certificate *cert, int64_t wait_ms);
/* 0 when none was chosen. */
uint64_t ask_vm(const struct qvdclient_vm *vms, size_t n);
void show_vms(const struct qvdclient_vm *vms, size_t n, bool json);
