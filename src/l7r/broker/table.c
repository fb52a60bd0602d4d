// SPDX-License-Identifier: GPL-3.0-or-later
#include "l7r/broker/table.h"

/* Limits are settings, each with the default that the table shows. */
#define AUTHD 15000, "l7r.authd.timeout"
#define DATABASE 10000, "l7r.timeout.database"
#define WORKER 5000, "l7r.timeout.worker"
#define NO_DATABASE "the database does not answer"

/* clang-format off */
const struct session_step_row session_steps[SESSION_STEP_MAX] = {
    [SESSION_NEW]       = {.kind = SESSION_PASSING},
    [SESSION_AUTH]      = {SESSION_WAITING, AUTHD, 1, NULL, "the login took too long"},
    [SESSION_HOOK]      = {SESSION_WAITING, AUTHD, 1, NULL, "the login took too long"},
    [SESSION_TOKEN]     = {SESSION_WAITING, AUTHD, 1, NULL, "the token took too long"},
    [SESSION_HOST]      = {SESSION_WAITING, DATABASE, 1, NULL, NO_DATABASE},
    [SESSION_LIST]      = {SESSION_WAITING, DATABASE, 1, NULL, NO_DATABASE},
    [SESSION_STOP]      = {SESSION_WAITING, DATABASE, 1, NULL, NO_DATABASE},
    [SESSION_STOPPING]  = {SESSION_WAITING, 270000, "l7r.timeout.vm_stop", 1,
                           "Waiting for VM to reach state stopped", "the VM did not stop in time"},
    [SESSION_CLAIM]     = {SESSION_WAITING, DATABASE, 2, NULL, NO_DATABASE},
    [SESSION_UNCLAIM]   = {SESSION_WAITING, DATABASE, 1, NULL, NULL},
    [SESSION_TAKEOVER]  = {SESSION_WAITING, 5000, "l7r.timeout.takeover", 1,
                           "Aborting contending session", NULL},
    [SESSION_WAIT]      = {SESSION_WAITING, 270000, "l7r.timeout.vm_start", 1, NULL,
                           "the VM did not start in time"},
    [SESSION_PREPARE]   = {SESSION_WAITING, 30000, "l7r.timeout.x_start", 1, "Starting X session",
                           "the desktop did not start in time"},
    [SESSION_ASK]       = {SESSION_WAITING, WORKER, 1, NULL, "the server is busy"},
    [SESSION_DIAL]      = {SESSION_WAITING, 5000, "l7r.timeout.dial", 1, "Connecting X session",
                           "the desktop does not take the connection"},
    [SESSION_SWITCH]    = {SESSION_WAITING, DATABASE, 1, NULL, NO_DATABASE},
    [SESSION_CONNECTED] = {.kind = SESSION_STANDING},
    [SESSION_CUT]       = {SESSION_WAITING, WORKER, 1, NULL, NULL},
    [SESSION_RESET]     = {SESSION_WAITING, 4000, "l7r.timeout.vma", 1, NULL, NULL},
    [SESSION_CLOSE]     = {SESSION_WAITING, DATABASE, 1, NULL, NULL},
    [SESSION_LATER]     = {SESSION_WAITING, 1000, NULL, 1, NULL, NULL},
    [SESSION_GONE]      = {.kind = SESSION_PASSING},
};
/* clang-format on */

/* A row that leads to its own step: expected, and nothing to do. */
static const struct {
    enum session_step step;
    enum session_event event;
    enum session_step next;
} rows[] = {
    {SESSION_NEW,       SESSION_EV_DONE,     SESSION_AUTH     },
    {SESSION_NEW,       SESSION_EV_OPEN,     SESSION_HOST     },
    {SESSION_NEW,       SESSION_EV_HOLD,     SESSION_CONNECTED}, /* found relayed by a worker */

    {SESSION_AUTH,      SESSION_EV_DONE,     SESSION_HOST     },
    {SESSION_AUTH,      SESSION_EV_TOKEN,    SESSION_TOKEN    },
    {SESSION_AUTH,      SESSION_EV_ANSWERED, SESSION_GONE     },
    {SESSION_AUTH,      SESSION_EV_REFUSED,  SESSION_GONE     },
    {SESSION_AUTH,      SESSION_EV_LIMIT,    SESSION_GONE     },
    {SESSION_AUTH,      SESSION_EV_ABORT,    SESSION_GONE     },

    {SESSION_AUTH,      SESSION_EV_HOOK,     SESSION_HOOK     },

    {SESSION_HOOK,      SESSION_EV_DONE,     SESSION_HOST     },
    {SESSION_HOOK,      SESSION_EV_TOKEN,    SESSION_TOKEN    },
    {SESSION_HOOK,      SESSION_EV_ANSWERED, SESSION_GONE     },
    {SESSION_HOOK,      SESSION_EV_REFUSED,  SESSION_GONE     },
    {SESSION_HOOK,      SESSION_EV_LIMIT,    SESSION_GONE     },
    {SESSION_HOOK,      SESSION_EV_ABORT,    SESSION_GONE     },

    {SESSION_TOKEN,     SESSION_EV_ANSWERED, SESSION_GONE     },
    {SESSION_TOKEN,     SESSION_EV_REFUSED,  SESSION_GONE     },
    {SESSION_TOKEN,     SESSION_EV_LIMIT,    SESSION_GONE     },
    {SESSION_TOKEN,     SESSION_EV_ABORT,    SESSION_GONE     },

    {SESSION_HOST,      SESSION_EV_DONE,     SESSION_CLAIM    },
    {SESSION_HOST,      SESSION_EV_LIST,     SESSION_LIST     },
    {SESSION_HOST,      SESSION_EV_STOP,     SESSION_STOP     },
    {SESSION_HOST,      SESSION_EV_ANSWERED, SESSION_GONE     },
    {SESSION_HOST,      SESSION_EV_REFUSED,  SESSION_GONE     },
    {SESSION_HOST,      SESSION_EV_LIMIT,    SESSION_GONE     },
    {SESSION_HOST,      SESSION_EV_ABORT,    SESSION_GONE     },

    {SESSION_LIST,      SESSION_EV_ANSWERED, SESSION_GONE     },
    {SESSION_LIST,      SESSION_EV_REFUSED,  SESSION_GONE     },
    {SESSION_LIST,      SESSION_EV_LIMIT,    SESSION_GONE     },
    {SESSION_LIST,      SESSION_EV_ABORT,    SESSION_GONE     },

    {SESSION_STOP,      SESSION_EV_DONE,     SESSION_STOPPING },
    {SESSION_STOP,      SESSION_EV_ANSWERED, SESSION_GONE     },
    {SESSION_STOP,      SESSION_EV_REFUSED,  SESSION_GONE     },
    {SESSION_STOP,      SESSION_EV_LIMIT,    SESSION_GONE     },
    {SESSION_STOP,      SESSION_EV_ABORT,    SESSION_GONE     },

    {SESSION_STOPPING,  SESSION_EV_ANSWERED, SESSION_GONE     },
    {SESSION_STOPPING,  SESSION_EV_LIMIT,    SESSION_GONE     },
    {SESSION_STOPPING,  SESSION_EV_ABORT,    SESSION_GONE     },

    {SESSION_CLAIM,     SESSION_EV_DONE,     SESSION_WAIT     },
    {SESSION_CLAIM,     SESSION_EV_HOLD,     SESSION_TAKEOVER },
    {SESSION_CLAIM,     SESSION_EV_REFUSED,  SESSION_GONE     },
    {SESSION_CLAIM,     SESSION_EV_LIMIT,    SESSION_UNCLAIM  },
    {SESSION_CLAIM,     SESSION_EV_ABORT,    SESSION_UNCLAIM  },

    {SESSION_UNCLAIM,   SESSION_EV_DONE,     SESSION_CLOSE    },
    {SESSION_UNCLAIM,   SESSION_EV_HOLD,     SESSION_CLOSE    },
    {SESSION_UNCLAIM,   SESSION_EV_REFUSED,  SESSION_GONE     },
    {SESSION_UNCLAIM,   SESSION_EV_LIMIT,    SESSION_GONE     },
    {SESSION_UNCLAIM,   SESSION_EV_ABORT,    SESSION_UNCLAIM  },

    {SESSION_TAKEOVER,  SESSION_EV_DONE,     SESSION_WAIT     },
    {SESSION_TAKEOVER,  SESSION_EV_LIMIT,    SESSION_WAIT     }, /* the VMA's cut makes it safe */
    {SESSION_TAKEOVER,  SESSION_EV_ABORT,    SESSION_CLOSE    },

    {SESSION_WAIT,      SESSION_EV_DONE,     SESSION_PREPARE  },
    {SESSION_WAIT,      SESSION_EV_REFUSED,  SESSION_CLOSE    },
    {SESSION_WAIT,      SESSION_EV_LIMIT,    SESSION_CLOSE    },
    {SESSION_WAIT,      SESSION_EV_ABORT,    SESSION_CLOSE    },

    {SESSION_PREPARE,   SESSION_EV_DONE,     SESSION_ASK      },
    {SESSION_PREPARE,   SESSION_EV_REFUSED,  SESSION_CLOSE    },
    {SESSION_PREPARE,   SESSION_EV_LIMIT,    SESSION_CLOSE    },
    {SESSION_PREPARE,   SESSION_EV_ABORT,    SESSION_CLOSE    },

    {SESSION_ASK,       SESSION_EV_DONE,     SESSION_DIAL     },
    {SESSION_ASK,       SESSION_EV_LIMIT,    SESSION_CLOSE    },
    {SESSION_ASK,       SESSION_EV_ABORT,    SESSION_CLOSE    },

    {SESSION_DIAL,      SESSION_EV_DONE,     SESSION_SWITCH   },
    {SESSION_DIAL,      SESSION_EV_REFUSED,  SESSION_RESET    },
    {SESSION_DIAL,      SESSION_EV_LIMIT,    SESSION_RESET    },
    {SESSION_DIAL,      SESSION_EV_ABORT,    SESSION_RESET    },

    {SESSION_SWITCH,    SESSION_EV_DONE,     SESSION_CONNECTED},
    {SESSION_SWITCH,    SESSION_EV_REFUSED,  SESSION_RESET    },
    {SESSION_SWITCH,    SESSION_EV_LIMIT,    SESSION_RESET    },
    {SESSION_SWITCH,    SESSION_EV_ABORT,    SESSION_RESET    },

    {SESSION_CONNECTED, SESSION_EV_ENDED,    SESSION_CLOSE    },
    {SESSION_CONNECTED, SESSION_EV_UNUSED,   SESSION_RESET    },
    {SESSION_CONNECTED, SESSION_EV_ABORT,    SESSION_CUT      },

    {SESSION_CUT,       SESSION_EV_ENDED,    SESSION_CLOSE    },
    {SESSION_CUT,       SESSION_EV_UNUSED,   SESSION_CLOSE    },
    {SESSION_CUT,       SESSION_EV_LIMIT,    SESSION_CLOSE    },
    {SESSION_CUT,       SESSION_EV_ABORT,    SESSION_CUT      },

    {SESSION_RESET,     SESSION_EV_DONE,     SESSION_CLOSE    },
    {SESSION_RESET,     SESSION_EV_LIMIT,    SESSION_CLOSE    },
    {SESSION_RESET,     SESSION_EV_ABORT,    SESSION_RESET    },

    {SESSION_CLOSE,     SESSION_EV_DONE,     SESSION_GONE     },
    {SESSION_CLOSE,     SESSION_EV_REFUSED,  SESSION_LATER    },
    {SESSION_CLOSE,     SESSION_EV_LIMIT,    SESSION_LATER    },
    {SESSION_CLOSE,     SESSION_EV_ABORT,    SESSION_CLOSE    },

    {SESSION_LATER,     SESSION_EV_LIMIT,    SESSION_CLOSE    },
    {SESSION_LATER,     SESSION_EV_ABORT,    SESSION_LATER    },
};

static const char *const step_names[SESSION_STEP_MAX] = {
    [SESSION_NEW] = "new",
    [SESSION_AUTH] = "auth",
    [SESSION_HOOK] = "hook",
    [SESSION_TOKEN] = "token",
    [SESSION_HOST] = "host",
    [SESSION_LIST] = "list",
    [SESSION_STOP] = "stop",
    [SESSION_STOPPING] = "stopping",
    [SESSION_CLAIM] = "claim",
    [SESSION_UNCLAIM] = "unclaim",
    [SESSION_TAKEOVER] = "takeover",
    [SESSION_WAIT] = "wait",
    [SESSION_PREPARE] = "prepare",
    [SESSION_ASK] = "ask",
    [SESSION_DIAL] = "dial",
    [SESSION_SWITCH] = "switch",
    [SESSION_CONNECTED] = "connected",
    [SESSION_CUT] = "cut",
    [SESSION_RESET] = "reset",
    [SESSION_CLOSE] = "close",
    [SESSION_LATER] = "later",
    [SESSION_GONE] = "gone",
};
QVD_STRING_TABLE_DEFINE(session_step, enum session_step, step_names, SESSION_STEP_INVALID)

static const char *const event_names[SESSION_EV_MAX] = {
    [SESSION_EV_NONE] = "none",         [SESSION_EV_DONE] = "done",
    [SESSION_EV_ANSWERED] = "answered", [SESSION_EV_REFUSED] = "refused",
    [SESSION_EV_LIMIT] = "limit",       [SESSION_EV_ABORT] = "abort",
    [SESSION_EV_OPEN] = "open",         [SESSION_EV_TOKEN] = "token",
    [SESSION_EV_HOOK] = "hook",         [SESSION_EV_LIST] = "list",
    [SESSION_EV_STOP] = "stop",         [SESSION_EV_HOLD] = "hold",
    [SESSION_EV_ENDED] = "ended",       [SESSION_EV_UNUSED] = "unused",
};
QVD_STRING_TABLE_DEFINE(session_event, enum session_event, event_names, SESSION_EV_NONE)

enum session_step session_next(enum session_step step, enum session_event event)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].step == step && rows[i].event == event)
            return rows[i].next;
    return SESSION_STEP_INVALID;
}

void session_print_table(FILE *out)
{
    fprintf(out, "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->\n"
                 "# The steps of a session\n\n"
                 "Printed by `print-session-steps` from `src/l7r/broker/table.c`.\n\n"
                 "| step | limit | event | next |\n|---|---|---|---|\n");
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct session_step_row *s = &session_steps[rows[i].step];
        char limit[64] = "-";

        if (s->setting)
            (void)snprintf(limit, sizeof limit, "%s`%s`", s->times > 1 ? "twice " : "", s->setting);
        else if (s->kind == SESSION_WAITING)
            (void)snprintf(limit, sizeof limit, "%u s", s->limit_ms / 1000);
        fprintf(out, "| %s | %s | %s | %s |\n", step_names[rows[i].step], limit,
                event_names[rows[i].event],
                rows[i].next == rows[i].step ? "stays" : step_names[rows[i].next]);
    }
}
