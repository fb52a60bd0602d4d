// SPDX-License-Identifier: GPL-3.0-or-later
#include "model/node-life.h"

static const struct {
    const char *name;
    enum host_state shown;
    const char *limit_key;
} steps[LIFE_STEP_MAX] = {
  /* What asks the database has an answer within its deadline (db.h), and then asks again. */
    [LIFE_SCHEMA] = {"schema",   HOST_STATE_INVALID, NULL               },
    [LIFE_SETTINGS] = {"settings", HOST_STATE_INVALID, NULL               },
    [LIFE_FIND] = {"find",     HOST_STATE_INVALID, NULL               },
    [LIFE_ENTER] = {"enter",    HOST_STARTING,      NULL               },
    [LIFE_NODE] = {"node",     HOST_STARTING,      "hkd.start.timeout"},
    [LIFE_ADOPT] = {"adopt",    HOST_STARTING,      "hkd.adopt.timeout"},
    [LIFE_RUN] = {"run",      HOST_RUNNING,       NULL               },
    [LIFE_STOP_VMS] = {"stop_vms", HOST_STOPPING,      "hkd.stop.timeout" },
    [LIFE_TIDY] = {"tidy",     HOST_STOPPING,      "hkd.tidy.timeout" },
    [LIFE_LEAVE] = {"leave",    HOST_STOPPED,       "hkd.leave.timeout"},
};
static const char *const event_table[LIFE_EV_MAX] = {
    [LIFE_EV_DONE] = "done", [LIFE_EV_AGAIN] = "again", [LIFE_EV_REFUSED] = "refused",
    [LIFE_EV_STOP] = "stop", [LIFE_EV_LIMIT] = "limit",
};
static const char *const action_table[LIFE_DO_MAX] = {
    [LIFE_DO_ENTER] = "begin it",
    [LIFE_DO_RELOAD] = "read settings",
    [LIFE_DO_KILL_VMS] = "kill VMs",
    [LIFE_DO_END] = "end",
};

/* The whole of it. What is not here changes nothing. */
static const struct life_row rows[] = {
    {LIFE_SCHEMA,   LIFE_EV_DONE,    LIFE_DO_ENTER,    LIFE_SETTINGS},
    {LIFE_SCHEMA,   LIFE_EV_AGAIN,   LIFE_DO_ENTER,    LIFE_SCHEMA  },
    {LIFE_SCHEMA,   LIFE_EV_REFUSED, LIFE_DO_END,      LIFE_SCHEMA  },
    {LIFE_SCHEMA,   LIFE_EV_STOP,    LIFE_DO_END,      LIFE_SCHEMA  },
    {LIFE_SETTINGS, LIFE_EV_DONE,    LIFE_DO_ENTER,    LIFE_FIND    },
    {LIFE_SETTINGS, LIFE_EV_AGAIN,   LIFE_DO_ENTER,    LIFE_SETTINGS},
    {LIFE_SETTINGS, LIFE_EV_STOP,    LIFE_DO_END,      LIFE_SETTINGS},
    {LIFE_FIND,     LIFE_EV_DONE,    LIFE_DO_ENTER,    LIFE_ENTER   },
    {LIFE_FIND,     LIFE_EV_AGAIN,   LIFE_DO_ENTER,    LIFE_FIND    },
    {LIFE_FIND,     LIFE_EV_STOP,    LIFE_DO_END,      LIFE_FIND    },
    {LIFE_ENTER,    LIFE_EV_DONE,    LIFE_DO_ENTER,    LIFE_NODE    },
    {LIFE_ENTER,    LIFE_EV_AGAIN,   LIFE_DO_ENTER,    LIFE_ENTER   },
    {LIFE_ENTER,    LIFE_EV_REFUSED, LIFE_DO_ENTER,    LIFE_FIND    },
    {LIFE_ENTER,    LIFE_EV_STOP,    LIFE_DO_ENTER,    LIFE_LEAVE   },
    {LIFE_NODE,     LIFE_EV_DONE,    LIFE_DO_ENTER,    LIFE_ADOPT   },
    {LIFE_NODE,     LIFE_EV_REFUSED, LIFE_DO_ENTER,    LIFE_LEAVE   },
    {LIFE_NODE,     LIFE_EV_LIMIT,   LIFE_DO_ENTER,    LIFE_LEAVE   },
    {LIFE_NODE,     LIFE_EV_STOP,    LIFE_DO_ENTER,    LIFE_LEAVE   },
    {LIFE_ADOPT,    LIFE_EV_DONE,    LIFE_DO_ENTER,    LIFE_RUN     },
    {LIFE_ADOPT,    LIFE_EV_LIMIT,   LIFE_DO_ENTER,    LIFE_ADOPT   },
    {LIFE_ADOPT,    LIFE_EV_STOP,    LIFE_DO_ENTER,    LIFE_STOP_VMS},
    {LIFE_RUN,      LIFE_EV_AGAIN,   LIFE_DO_RELOAD,   LIFE_RUN     },
    {LIFE_RUN,      LIFE_EV_STOP,    LIFE_DO_ENTER,    LIFE_STOP_VMS},
    {LIFE_STOP_VMS, LIFE_EV_DONE,    LIFE_DO_ENTER,    LIFE_TIDY    },
    {LIFE_STOP_VMS, LIFE_EV_REFUSED, LIFE_DO_ENTER,    LIFE_LEAVE   },
    {LIFE_STOP_VMS, LIFE_EV_LIMIT,   LIFE_DO_KILL_VMS, LIFE_STOP_VMS},
    {LIFE_STOP_VMS, LIFE_EV_STOP,    LIFE_DO_KILL_VMS, LIFE_STOP_VMS},
    {LIFE_TIDY,     LIFE_EV_DONE,    LIFE_DO_ENTER,    LIFE_LEAVE   },
    {LIFE_TIDY,     LIFE_EV_REFUSED, LIFE_DO_ENTER,    LIFE_LEAVE   },
    {LIFE_TIDY,     LIFE_EV_LIMIT,   LIFE_DO_ENTER,    LIFE_LEAVE   },
    {LIFE_TIDY,     LIFE_EV_STOP,    LIFE_DO_ENTER,    LIFE_LEAVE   },
    {LIFE_LEAVE,    LIFE_EV_DONE,    LIFE_DO_END,      LIFE_LEAVE   },
    {LIFE_LEAVE,    LIFE_EV_LIMIT,   LIFE_DO_END,      LIFE_LEAVE   },
    {LIFE_LEAVE,    LIFE_EV_STOP,    LIFE_DO_END,      LIFE_LEAVE   },
};

const char *life_step_to_string(enum life_step s)
{
    return (int)s >= 0 && s < LIFE_STEP_MAX ? steps[s].name : NULL;
}

enum life_step life_step_from_string(const char *s)
{
    for (int i = 0; s && i < LIFE_STEP_MAX; i++)
        if (strcmp(steps[i].name, s) == 0)
            return (enum life_step)i;
    return LIFE_STEP_INVALID;
}

const char *life_event_to_string(enum life_event e)
{
    return (int)e >= 0 && e < LIFE_EV_MAX ? event_table[e] : NULL;
}

const char *life_action_to_string(enum life_action a)
{
    return (int)a >= 0 && a < LIFE_DO_MAX ? action_table[a] : NULL;
}

const struct life_row *life_row(enum life_step in, enum life_event event)
{
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].in == in && rows[i].event == event)
            return &rows[i];
    return NULL;
}

const struct life_row *life_rows(size_t *ret_n)
{
    *ret_n = ARRAY_SIZE(rows);
    return rows;
}

enum host_state life_shown(enum life_step s)
{
    return steps[s].shown;
}

const char *life_limit_key(enum life_step s)
{
    return steps[s].limit_key;
}

void life_print(FILE *out)
{
    fputs("| step | the node's row says | limit |\n|---|---|---|\n", out);
    for (int i = 0; i < LIFE_STEP_MAX; i++) {
        const char *shown = host_state_to_string(steps[i].shown), *key = steps[i].limit_key;

        fprintf(out, "| %s | %s | %s%s%s |\n", steps[i].name, shown ? shown : "", key ? "`" : "",
                key ? key : "none", key ? "`" : "");
    }
    fputc('\n', out);
    fputs("| step | event | what is done | next | the node's row says |\n|---|---|---|---|---|\n",
          out);
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const char *shown = host_state_to_string(steps[rows[i].in].shown);

        fprintf(out, "| %s | %s | %s | %s | %s |\n", steps[rows[i].in].name,
                event_table[rows[i].event], action_table[rows[i].action],
                rows[i].action == LIFE_DO_END ? "" : steps[rows[i].next].name, shown ? shown : "");
    }
}
