// SPDX-License-Identifier: GPL-3.0-or-later
/* qvdclient --check: walks the way to the desktop and tells each step, and of the one that fails
 * what can be done. Exit: 20 + the step; of a certificate, 30 and more by its fault. */
#include <stdio.h>

#include "client/program.h"

#define EXIT_STEP 20
#define EXIT_CERTIFICATE 30

static const struct {
    const char *name, *mend;
} steps[QVDCLIENT_STEP_MAX] = {
    [QVDCLIENT_STEP_NAME] =
        {"name",        "check the spelling of -h, and what this machine asks for names (getent "
                 "hosts NAME)"                                  },
    [QVDCLIENT_STEP_PORT] = {"port",
                               "check -p, firewalls on the way, and on the server: systemctl status "
                             "qvd-l7r"                                                                },
    [QVDCLIENT_STEP_TLS] =
        {"TLS",         "something else than a QVD server listens there, or changes what passes: "
                "check -h and -p"                                },
    [QVDCLIENT_STEP_CERTIFICATE] = {"certificate", "see above"                                             },
    [QVDCLIENT_STEP_LOGIN] =
        {"login",       "check the user (with its tenant: user@tenant) and the password; after many "
                  "failures wait some minutes; a server that demands a certificate of yours gets "
                  "it by -c and -k"                            },
    [QVDCLIENT_STEP_VM] = {"machine",
                               "check --vm, or ask your administrator for a virtual machine"          },
    [QVDCLIENT_STEP_DISPLAY] = {"display",
                               "check DISPLAY and XAUTHORITY, and that nxproxy is installed"          },
    [QVDCLIENT_STEP_START] =
        {"start",       "your administrator finds the reason in the logs of qvd-l7r and qvd-hkd, by the "
                  "reference if one is told"                   },
    [QVDCLIENT_STEP_NX] = {"desktop",     "look at what nxproxy says with -d; install a newer one"},
};

static const struct {
    int fault, status;
} fault_exits[] = {
    {1001,          EXIT_CERTIFICATE + 1},
    {10,            EXIT_CERTIFICATE + 2},
    {9,             EXIT_CERTIFICATE + 3},
    {23,            EXIT_CERTIFICATE + 4},
    {1002,          EXIT_CERTIFICATE + 5},
    {1003,          EXIT_CERTIFICATE + 5},
    {FAULT_CHANGED, EXIT_CERTIFICATE + 6},
};

void check_step(struct program *p, enum qvdclient_step done, const char *detail)
{
    printf("ok      %-12s %s\n", steps[done].name, detail);
    fflush(stdout);
    p->next_step = done + 1;
    if (p->plain && p->next_step == QVDCLIENT_STEP_TLS)
        p->next_step = QVDCLIENT_STEP_LOGIN;
    if (done == QVDCLIENT_STEP_NX)
        qvdclient_stop(p->client); /* it has been shown */
}

static int status_of(const struct program *p)
{
    if (p->next_step != QVDCLIENT_STEP_CERTIFICATE)
        return EXIT_STEP + p->next_step;
    for (size_t i = 0; i < ARRAY_SIZE(fault_exits); i++)
        if (fault_exits[i].fault == p->fault)
            return fault_exits[i].status;
    return EXIT_CERTIFICATE;
}

int check_ended(struct program *p, enum qvdclient_result result, const char *text)
{
    enum qvdclient_step last = p->list ? QVDCLIENT_STEP_VM : QVDCLIENT_STEP_MAX;

    if (p->next_step >= last && result == QVDCLIENT_OK) {
        printf("all is well%s\n", p->list ? " up to the list of machines" : "");
        return QVDCLIENT_OK;
    }
    /* Settings, or the person: no step of the way. */
    if (result == QVDCLIENT_USAGE || result == QVDCLIENT_CANCELLED) {
        say(p, "%s", text);
        return result;
    }
    printf("FAILED  %-12s %s\n        %-12s %s\n", steps[p->next_step].name, text,
           "what to do:", steps[p->next_step].mend);
    return status_of(p);
}
