// SPDX-License-Identifier: GPL-3.0-or-later
/* nxagent's table. Its lines and their order were observed with nxagent 3.5.99.26. */
#include "vma/nx.h"

#include "base/str.h"

static const char *const state_names[NX_STATE_MAX] = {
    [NX_STOPPED] = "stopped",           [NX_PREPARING] = "preparing",
    [NX_STARTING] = "starting",         [NX_LISTENING] = "listening",
    [NX_CONNECTING] = "connecting",     [NX_FRESH] = "fresh",
    [NX_CONNECTED] = "connected",       [NX_CUTTING] = "cutting",
    [NX_SUSPENDING] = "suspending",     [NX_SETTLING] = "settling",
    [NX_SUSPENDED] = "suspended",       [NX_WAKING] = "waking",
    [NX_RESUMING] = "resuming",         [NX_RELISTENING] = "relistening",
    [NX_RECONNECTING] = "reconnecting", [NX_STOPPING] = "stopping",
    [NX_KILLING] = "killing",
};
QVD_STRING_TABLE_DEFINE(nx_state, enum nx_state, state_names, NX_STATE_INVALID)

static const struct {
    enum nx_limit limit;
    enum wire_x_state x;
} states[NX_STATE_MAX] = {
    [NX_STOPPED] = {NX_FOR_EVER,         WIRE_X_STOPPED     },
    [NX_PREPARING] = {NX_LIMIT_PREPARING,  WIRE_X_PROVISIONING},
    [NX_STARTING] = {NX_LIMIT_INITIATING, WIRE_X_STARTING    },
    [NX_LISTENING] = {NX_LIMIT_LISTENING,  WIRE_X_LISTENING   },
    [NX_CONNECTING] = {NX_LIMIT_LISTENING,  WIRE_X_LISTENING   },
    [NX_FRESH] = {NX_LIMIT_FRESH,      WIRE_X_CONNECTED   },
    [NX_CONNECTED] = {NX_FOR_EVER,         WIRE_X_CONNECTED   },
    [NX_CUTTING] = {NX_LIMIT_SUSPENDING, WIRE_X_SUSPENDING  },
    [NX_SUSPENDING] = {NX_LIMIT_SUSPENDING, WIRE_X_SUSPENDING  },
    [NX_SETTLING] = {NX_LIMIT_SETTLING,   WIRE_X_SUSPENDING  },
    [NX_SUSPENDED] = {NX_FOR_EVER,         WIRE_X_SUSPENDED   },
    [NX_WAKING] = {NX_LIMIT_PREPARING,  WIRE_X_STARTING    },
    [NX_RESUMING] = {NX_LIMIT_INITIATING, WIRE_X_STARTING    },
    [NX_RELISTENING] = {NX_LIMIT_LISTENING,  WIRE_X_LISTENING   },
    [NX_RECONNECTING] = {NX_LIMIT_LISTENING,  WIRE_X_LISTENING   },
    [NX_STOPPING] = {NX_LIMIT_STOPPING,   WIRE_X_STOPPING    },
    [NX_KILLING] = {NX_LIMIT_STOPPING,   WIRE_X_STOPPING    },
};

/* The whole machine. A pair that is not here: nothing to do. HUP toggles, so no state sends one
 * unless the agent's own line has told where it stands; an open desktop is never killed because a
 * resume went wrong. */
static const struct {
    enum nx_state in;
    enum nx_event event;
    enum nx_action action;
    enum nx_state next;
} transitions[] = {
    {NX_STOPPED,      NX_EV_START,     NX_DO_PREPARE, NX_PREPARING   },

    {NX_PREPARING,    NX_EV_PREPARED,  NX_DO_SPAWN,   NX_STARTING    },
    {NX_PREPARING,    NX_EV_FAILED,    NX_DO_NOTHING, NX_STOPPED     },
    {NX_PREPARING,    NX_EV_END,       NX_DO_ABORT,   NX_STOPPED     },
    {NX_PREPARING,    NX_EV_LIMIT,     NX_DO_ABORT,   NX_STOPPED     },

    {NX_STARTING,     NX_EV_LISTENS,   NX_DO_NOTHING, NX_LISTENING   },
    {NX_STARTING,     NX_EV_FAILED,    NX_DO_NOTHING, NX_STOPPED     },
    {NX_STARTING,     NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },
    {NX_STARTING,     NX_EV_CUT,       NX_DO_TERM,    NX_STOPPING    },
    {NX_STARTING,     NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_STARTING,     NX_EV_LIMIT,     NX_DO_TERM,    NX_STOPPING    },

    {NX_LISTENING,    NX_EV_ACCEPTED,  NX_DO_NOTHING, NX_CONNECTING  },
    {NX_LISTENING,    NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },
    {NX_LISTENING,    NX_EV_CUT,       NX_DO_TERM,    NX_STOPPING    },
    {NX_LISTENING,    NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_LISTENING,    NX_EV_LIMIT,     NX_DO_TERM,    NX_STOPPING    },

    {NX_CONNECTING,   NX_EV_UP,        NX_DO_LOGIN,   NX_FRESH       },
    {NX_CONNECTING,   NX_EV_START,     NX_DO_TERM,    NX_STOPPING    },
    {NX_CONNECTING,   NX_EV_RESET,     NX_DO_TERM,    NX_STOPPING    },
    {NX_CONNECTING,   NX_EV_CUT,       NX_DO_TERM,    NX_STOPPING    },
    {NX_CONNECTING,   NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_CONNECTING,   NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },
    {NX_CONNECTING,   NX_EV_LIMIT,     NX_DO_TERM,    NX_STOPPING    },

 /* An agent whose stream is cut while it comes up may die by SIGSEGV, then or at the
  * next resume, with all windows (design/002). So orders wait. */
    {NX_FRESH,        NX_EV_LIMIT,     NX_DO_NOTHING, NX_CONNECTED   },
    {NX_FRESH,        NX_EV_SUSPENDS,  NX_DO_NOTHING, NX_SUSPENDING  },
    {NX_FRESH,        NX_EV_SUSPENDED, NX_DO_NOTHING, NX_SUSPENDED   },
    {NX_FRESH,        NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_FRESH,        NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },

    {NX_CONNECTED,    NX_EV_START,     NX_DO_CUT,     NX_CUTTING     },
    {NX_CONNECTED,    NX_EV_CUT,       NX_DO_CUT,     NX_CUTTING     },
    {NX_CONNECTED,    NX_EV_SUSPENDS,  NX_DO_NOTHING, NX_SUSPENDING  },
    {NX_CONNECTED,    NX_EV_SUSPENDED, NX_DO_NOTHING, NX_SUSPENDED   },
    {NX_CONNECTED,    NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_CONNECTED,    NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },

    {NX_CUTTING,      NX_EV_SUSPENDS,  NX_DO_NOTHING, NX_SUSPENDING  },
    {NX_CUTTING,      NX_EV_SUSPENDED, NX_DO_NOTHING, NX_SUSPENDED   },
    {NX_CUTTING,      NX_EV_STRAY,     NX_DO_NOTHING, NX_SETTLING    },
    {NX_CUTTING,      NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_CUTTING,      NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },
    {NX_CUTTING,      NX_EV_LIMIT,     NX_DO_TERM,    NX_STOPPING    },

    {NX_SUSPENDING,   NX_EV_SUSPENDED, NX_DO_NOTHING, NX_SUSPENDED   },
    {NX_SUSPENDING,   NX_EV_STRAY,     NX_DO_NOTHING, NX_SETTLING    },
    {NX_SUSPENDING,   NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_SUSPENDING,   NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },
    {NX_SUSPENDING,   NX_EV_LIMIT,     NX_DO_TERM,    NX_STOPPING    },

    {NX_SETTLING,     NX_EV_RESUMES,   NX_DO_NOTHING, NX_RESUMING    },
    {NX_SETTLING,     NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_SETTLING,     NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },
    {NX_SETTLING,     NX_EV_LIMIT,     NX_DO_NOTHING, NX_SUSPENDED   },

    {NX_SUSPENDED,    NX_EV_START,     NX_DO_HOOKS,   NX_WAKING      },
    {NX_SUSPENDED,    NX_EV_RESUMES,   NX_DO_NOTHING, NX_RESUMING    },
    {NX_SUSPENDED,    NX_EV_LISTENS,   NX_DO_NOTHING, NX_RELISTENING },
    {NX_SUSPENDED,    NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_SUSPENDED,    NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },

    {NX_WAKING,       NX_EV_PREPARED,  NX_DO_WAKE,    NX_RESUMING    },
    {NX_WAKING,       NX_EV_FAILED,    NX_DO_NOTHING, NX_SUSPENDED   },
    {NX_WAKING,       NX_EV_CUT,       NX_DO_ABORT,   NX_SUSPENDED   },
    {NX_WAKING,       NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_WAKING,       NX_EV_GONE,      NX_DO_ABORT,   NX_STOPPED     },
    {NX_WAKING,       NX_EV_LIMIT,     NX_DO_ABORT,   NX_SUSPENDED   },

    {NX_RESUMING,     NX_EV_LISTENS,   NX_DO_NOTHING, NX_RELISTENING },
    {NX_RESUMING,     NX_EV_SUSPENDED, NX_DO_NOTHING, NX_SUSPENDED   },
    {NX_RESUMING,     NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_RESUMING,     NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },
    {NX_RESUMING,     NX_EV_LIMIT,     NX_DO_NOTHING, NX_SUSPENDED   },

    {NX_RELISTENING,  NX_EV_ACCEPTED,  NX_DO_NOTHING, NX_RECONNECTING},
    {NX_RELISTENING,  NX_EV_SUSPENDED, NX_DO_NOTHING, NX_SUSPENDED   },
    {NX_RELISTENING,  NX_EV_CUT,       NX_DO_HUP,     NX_CUTTING     },
    {NX_RELISTENING,  NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_RELISTENING,  NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },
    {NX_RELISTENING,  NX_EV_LIMIT,     NX_DO_HUP,     NX_CUTTING     },

 /* A stream that breaks now may end the agent by SIGSEGV, so orders wait here too. */
    {NX_RECONNECTING, NX_EV_UP,        NX_DO_NOTHING, NX_FRESH       },
    {NX_RECONNECTING, NX_EV_SUSPENDED, NX_DO_NOTHING, NX_SUSPENDED   },
    {NX_RECONNECTING, NX_EV_END,       NX_DO_TERM,    NX_STOPPING    },
    {NX_RECONNECTING, NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },
    {NX_RECONNECTING, NX_EV_LIMIT,     NX_DO_CUT,     NX_CUTTING     },

    {NX_STOPPING,     NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },
 /* While it waits for a stream, TERM only makes it suspend: once more. */
    {NX_STOPPING,     NX_EV_SUSPENDED, NX_DO_TERM,    NX_STOPPING    },
    {NX_STOPPING,     NX_EV_LIMIT,     NX_DO_KILL,    NX_KILLING     },

    {NX_KILLING,      NX_EV_GONE,      NX_DO_NOTHING, NX_STOPPED     },
 /* Not even KILL ends it (it hangs in the kernel): told, and asked again. */
    {NX_KILLING,      NX_EV_LIMIT,     NX_DO_KILL,    NX_KILLING     },
};

int nx_step(enum nx_state in, enum nx_event event, enum nx_action *ret_action,
            enum nx_state *ret_next)
{
    for (size_t i = 0; i < ARRAY_SIZE(transitions); i++) {
        if (transitions[i].in != in || transitions[i].event != event)
            continue;
        *ret_action = transitions[i].action;
        *ret_next = transitions[i].next;
        return 0;
    }
    return 1;
}

enum nx_limit nx_limit_of(enum nx_state state)
{
    return states[state].limit;
}

enum wire_x_state nx_to_x_state(enum nx_state state)
{
    return states[state].x;
}

static const struct {
    const char *prefix;
    enum nx_event event;
} lines[] = {
    {"Info: Waiting for connection from ",    NX_EV_LISTENS  },
    {"Info: Accepted connection from ",       NX_EV_ACCEPTED },
    {"Session: Session started at ",          NX_EV_UP       },
    {"Session: Session resumed at ",          NX_EV_UP       },
    {"Session: Display failure detected at ", NX_EV_LOST     },
    {"Session: Suspending session at ",       NX_EV_SUSPENDS },
    {"Session: Session suspended at ",        NX_EV_SUSPENDED},
    {"Session: Resuming session at ",         NX_EV_RESUMES  },
};

enum nx_event nx_event_of_line(const char *line)
{
    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        if (str_starts(line, lines[i].prefix))
            return lines[i].event;
    return NX_EV_MAX;
}

const char *nx_event_to_string(enum nx_event event)
{
    static const char *const names[NX_EV_MAX] = {
        [NX_EV_START] = "start",         [NX_EV_PREPARED] = "prepared",
        [NX_EV_FAILED] = "failed",       [NX_EV_LISTENS] = "listens",
        [NX_EV_ACCEPTED] = "accepted",   [NX_EV_UP] = "up",
        [NX_EV_LOST] = "stream lost",    [NX_EV_SUSPENDS] = "suspends",
        [NX_EV_SUSPENDED] = "suspended", [NX_EV_STRAY] = "suspended by itself",
        [NX_EV_RESUMES] = "resumes",     [NX_EV_CUT] = "x_suspend",
        [NX_EV_RESET] = "x_reset",       [NX_EV_END] = "end",
        [NX_EV_GONE] = "agent gone",     [NX_EV_LIMIT] = "limit",
    };

    return event >= 0 && event < NX_EV_MAX ? names[event] : "?";
}

const char *nx_action_to_string(enum nx_action action)
{
    static const char *const names[NX_DO_MAX] = {
        [NX_DO_NOTHING] = "-",         [NX_DO_PREPARE] = "prepare",
        [NX_DO_SPAWN] = "start agent", [NX_DO_LOGIN] = "start session",
        [NX_DO_HOOKS] = "hooks",       [NX_DO_CUT] = "end stream",
        [NX_DO_WAKE] = "options, HUP", [NX_DO_HUP] = "HUP",
        [NX_DO_TERM] = "TERM",         [NX_DO_KILL] = "KILL",
        [NX_DO_ABORT] = "abort hooks",
    };

    return action >= 0 && action < NX_DO_MAX ? names[action] : "?";
}

const char *nx_limit_to_string(enum nx_limit limit)
{
    static const char *const names[NX_LIMIT_MAX] = {
        [NX_FOR_EVER] = "none",
        [NX_LIMIT_PREPARING] = "`vma.timeout.preparing`",
        [NX_LIMIT_INITIATING] = "`vma.timeout.initiating`",
        [NX_LIMIT_LISTENING] = "`vma.timeout.listening`",
        [NX_LIMIT_SUSPENDING] = "`vma.timeout.suspending`",
        [NX_LIMIT_FRESH] = "0.3 s",
        [NX_LIMIT_SETTLING] = "0.5 s",
        [NX_LIMIT_STOPPING] = "`vma.timeout.stopping`",
    };

    return limit >= 0 && limit < NX_LIMIT_MAX ? names[limit] : "?";
}

void nx_print_table(FILE *out)
{
    fprintf(out, "| state | x_state | limit |\n|---|---|---|\n");
    for (int i = 0; i < NX_STATE_MAX; i++)
        fprintf(out, "| %s | %s | %s |\n", state_names[i], wire_x_state_to_string(states[i].x),
                nx_limit_to_string(states[i].limit));
    fprintf(out, "\n| in | event | does | next |\n|---|---|---|---|\n");
    for (size_t i = 0; i < ARRAY_SIZE(transitions); i++)
        fprintf(out, "| %s | %s | %s | %s |\n", state_names[transitions[i].in],
                nx_event_to_string(transitions[i].event),
                nx_action_to_string(transitions[i].action), state_names[transitions[i].next]);
}
