// SPDX-License-Identifier: GPL-3.0-or-later
#include "model/vm-state.h"

static const char *const state_table[VM_STATE_MAX] = {
    [VM_STOPPED] = "stopped",   [VM_STARTING_1] = "starting_1", [VM_STARTING_2] = "starting_2",
    [VM_RUNNING] = "running",   [VM_STOPPING_1] = "stopping_1", [VM_STOPPING_2] = "stopping_2",
    [VM_ZOMBIE_1] = "zombie_1", [VM_ZOMBIE_2] = "zombie_2",
};
static const char *const wire_table[VM_STATE_MAX] = {
    [VM_STOPPED] = "stopped", [VM_STARTING_1] = "starting", [VM_STARTING_2] = "starting",
    [VM_RUNNING] = "running", [VM_STOPPING_1] = "stopping", [VM_STOPPING_2] = "stopping",
    [VM_ZOMBIE_1] = "zombie", [VM_ZOMBIE_2] = "zombie",
};
static const char *const limit_table[VM_STATE_MAX] = {
    [VM_STARTING_1] = "hkd.vm.start.resources.timeout",
    [VM_STARTING_2] = "hkd.vm.start.vma.timeout",
    [VM_STOPPING_1] = "hkd.vm.stop.vma.timeout",
    [VM_STOPPING_2] = "hkd.vm.stop.timeout",
    [VM_ZOMBIE_1] = "hkd.vm.kill.term.timeout",
    [VM_ZOMBIE_2] = "hkd.vm.kill.timeout",
};
static const char *const event_table[VM_EV_MAX] = {
    [VM_EV_START] = "start",   [VM_EV_STOP] = "stop",         [VM_EV_ABORT] = "abort",
    [VM_EV_TURN] = "turn",     [VM_EV_FAILED] = "failed",     [VM_EV_STARTED] = "started",
    [VM_EV_READY] = "ready",   [VM_EV_ALIVE] = "alive",       [VM_EV_UNREACHABLE] = "unreachable",
    [VM_EV_DEAD] = "dead",     [VM_EV_ANSWERED] = "answered", [VM_EV_REFUSED] = "refused",
    [VM_EV_EXITED] = "exited", [VM_EV_FOUND] = "found",       [VM_EV_GONE] = "gone",
    [VM_EV_LIMIT] = "limit",
};
struct bit_name {
    unsigned bit;
    const char *name;
};
static const struct bit_name guard_names[] = {
    {VM_IF_HAS_VMA,  "has a VMA" },
    {VM_IF_LAUNCHED, "launched"  },
    {VM_IF_READY,    "ready came"},
    {VM_IF_REBOOTS,  "reboots"   },
};
static const struct bit_name action_names[] = {
    {VM_DO_BLOCK_BOOT,    "block (no boot)"   },
    {VM_DO_BLOCK_NETWORK, "block (no network)"},
    {VM_DO_BLOCK_VMA,     "block (no VMA)"    },
    {VM_DO_QUEUE,         "queue"             },
    {VM_DO_LAUNCH,        "launch"            },
    {VM_DO_PING,          "ping"              },
    {VM_DO_PING_LATER,    "ping in a moment"  },
    {VM_DO_WATCH,         "watch"             },
    {VM_DO_POWEROFF,      "ask to power off"  },
    {VM_DO_TERM,          "TERM"              },
    {VM_DO_KILL,          "KILL"              },
    {VM_DO_FINISH,        "finish"            },
};

/* The whole machine. A row not here means: nothing to do. Of rows for the same state and event the
 * first whose guard holds is taken, so the one without a guard comes last. */
static const struct vm_transition transitions[] = {
    {VM_STOPPED,    VM_EV_START,       0,              VM_DO_QUEUE,                      VM_STARTING_1},

    {VM_STARTING_1, VM_EV_TURN,        0,              VM_DO_LAUNCH,                     VM_STARTING_1},
    {VM_STARTING_1, VM_EV_STARTED,     0,              0,                                VM_STARTING_2},
    {VM_STARTING_1, VM_EV_STOP,        VM_IF_LAUNCHED, VM_DO_TERM,                       VM_ZOMBIE_1  },
    {VM_STARTING_1, VM_EV_STOP,        0,              VM_DO_FINISH,                     VM_STOPPED   },
    {VM_STARTING_1, VM_EV_ABORT,       VM_IF_LAUNCHED, VM_DO_KILL,                       VM_ZOMBIE_2  },
    {VM_STARTING_1, VM_EV_ABORT,       0,              VM_DO_FINISH,                     VM_STOPPED   },
    {VM_STARTING_1, VM_EV_FAILED,      0,              VM_DO_BLOCK_BOOT | VM_DO_FINISH,  VM_STOPPED   },
    {VM_STARTING_1, VM_EV_EXITED,      0,              VM_DO_BLOCK_BOOT | VM_DO_FINISH,  VM_STOPPED   },
    {VM_STARTING_1, VM_EV_LIMIT,       VM_IF_LAUNCHED, VM_DO_BLOCK_BOOT | VM_DO_KILL,    VM_ZOMBIE_2  },
    {VM_STARTING_1, VM_EV_LIMIT,       0,              VM_DO_FINISH,                     VM_STOPPED   },
    {VM_STARTING_1, VM_EV_FOUND,       0,              VM_DO_PING,                       VM_STARTING_2},
    {VM_STARTING_1, VM_EV_GONE,        0,              VM_DO_QUEUE,                      VM_STARTING_1},

    {VM_STARTING_2, VM_EV_READY,       0,              VM_DO_PING,                       VM_STARTING_2},
    {VM_STARTING_2, VM_EV_ALIVE,       0,              VM_DO_WATCH,                      VM_RUNNING   },
    {VM_STARTING_2, VM_EV_UNREACHABLE, 0,              VM_DO_PING_LATER,                 VM_STARTING_2},
    {VM_STARTING_2, VM_EV_STOP,        0,              VM_DO_TERM,                       VM_ZOMBIE_1  },
    {VM_STARTING_2, VM_EV_ABORT,       0,              VM_DO_KILL,                       VM_ZOMBIE_2  },
    {VM_STARTING_2, VM_EV_EXITED,      VM_IF_REBOOTS,  VM_DO_FINISH,                     VM_STOPPED   },
    {VM_STARTING_2, VM_EV_EXITED,      0,              VM_DO_BLOCK_BOOT | VM_DO_FINISH,  VM_STOPPED   },
    {VM_STARTING_2, VM_EV_LIMIT,       VM_IF_READY,    VM_DO_BLOCK_NETWORK | VM_DO_TERM, VM_ZOMBIE_1  },
    {VM_STARTING_2, VM_EV_LIMIT,       0,              VM_DO_BLOCK_VMA | VM_DO_TERM,     VM_ZOMBIE_1  },
    {VM_STARTING_2, VM_EV_FOUND,       0,              VM_DO_PING,                       VM_STARTING_2},
    {VM_STARTING_2, VM_EV_GONE,        0,              VM_DO_FINISH,                     VM_STOPPED   },

    {VM_RUNNING,    VM_EV_STOP,        VM_IF_HAS_VMA,  VM_DO_POWEROFF,                   VM_STOPPING_1},
    {VM_RUNNING,    VM_EV_STOP,        0,              VM_DO_TERM,                       VM_ZOMBIE_1  },
    {VM_RUNNING,    VM_EV_ABORT,       0,              VM_DO_KILL,                       VM_ZOMBIE_2  },
    {VM_RUNNING,    VM_EV_DEAD,        0,              VM_DO_TERM,                       VM_ZOMBIE_1  },
    {VM_RUNNING,    VM_EV_EXITED,      0,              VM_DO_FINISH,                     VM_STOPPED   },
    {VM_RUNNING,    VM_EV_FOUND,       0,              VM_DO_WATCH,                      VM_RUNNING   },
    {VM_RUNNING,    VM_EV_GONE,        0,              VM_DO_FINISH,                     VM_STOPPED   },

    {VM_STOPPING_1, VM_EV_ANSWERED,    0,              0,                                VM_STOPPING_2},
    {VM_STOPPING_1, VM_EV_REFUSED,     0,              VM_DO_TERM,                       VM_ZOMBIE_1  },
    {VM_STOPPING_1, VM_EV_ABORT,       0,              VM_DO_KILL,                       VM_ZOMBIE_2  },
    {VM_STOPPING_1, VM_EV_LIMIT,       0,              VM_DO_TERM,                       VM_ZOMBIE_1  },
    {VM_STOPPING_1, VM_EV_EXITED,      0,              VM_DO_FINISH,                     VM_STOPPED   },
    {VM_STOPPING_1, VM_EV_FOUND,       0,              VM_DO_POWEROFF,                   VM_STOPPING_1},
    {VM_STOPPING_1, VM_EV_GONE,        0,              VM_DO_FINISH,                     VM_STOPPED   },

    {VM_STOPPING_2, VM_EV_ABORT,       0,              VM_DO_KILL,                       VM_ZOMBIE_2  },
    {VM_STOPPING_2, VM_EV_LIMIT,       0,              VM_DO_TERM,                       VM_ZOMBIE_1  },
    {VM_STOPPING_2, VM_EV_EXITED,      0,              VM_DO_FINISH,                     VM_STOPPED   },
    {VM_STOPPING_2, VM_EV_FOUND,       0,              0,                                VM_STOPPING_2},
    {VM_STOPPING_2, VM_EV_GONE,        0,              VM_DO_FINISH,                     VM_STOPPED   },

    {VM_ZOMBIE_1,   VM_EV_ABORT,       0,              VM_DO_KILL,                       VM_ZOMBIE_2  },
    {VM_ZOMBIE_1,   VM_EV_LIMIT,       0,              VM_DO_KILL,                       VM_ZOMBIE_2  },
    {VM_ZOMBIE_1,   VM_EV_EXITED,      0,              VM_DO_FINISH,                     VM_STOPPED   },
    {VM_ZOMBIE_1,   VM_EV_FOUND,       0,              VM_DO_TERM,                       VM_ZOMBIE_1  },
    {VM_ZOMBIE_1,   VM_EV_GONE,        0,              VM_DO_FINISH,                     VM_STOPPED   },

    {VM_ZOMBIE_2,   VM_EV_ABORT,       0,              VM_DO_KILL,                       VM_ZOMBIE_2  },
    {VM_ZOMBIE_2,   VM_EV_LIMIT,       0,              VM_DO_KILL,                       VM_ZOMBIE_2  },
    {VM_ZOMBIE_2,   VM_EV_EXITED,      0,              VM_DO_FINISH,                     VM_STOPPED   },
    {VM_ZOMBIE_2,   VM_EV_FOUND,       0,              VM_DO_KILL,                       VM_ZOMBIE_2  },
    {VM_ZOMBIE_2,   VM_EV_GONE,        0,              VM_DO_FINISH,                     VM_STOPPED   },
};

QVD_STRING_TABLE_DEFINE(vm_state, enum vm_state, state_table, VM_STATE_INVALID)

const char *vm_state_to_wire(enum vm_state s)
{
    return (int)s >= 0 && s < VM_STATE_MAX ? wire_table[s] : NULL;
}

bool vm_state_matches(enum vm_state s, const char *word)
{
    return vm_state_to_string(s) &&
           (strcmp(word, state_table[s]) == 0 || strcmp(word, wire_table[s]) == 0);
}

const char *vm_event_to_string(enum vm_event e)
{
    return (int)e >= 0 && e < VM_EV_MAX ? event_table[e] : NULL;
}

const char *vm_guard_to_string(unsigned guard)
{
    for (size_t i = 0; i < ARRAY_SIZE(guard_names); i++)
        if (guard_names[i].bit == guard)
            return guard_names[i].name;
    return "";
}

const char *vm_action_to_string(enum vm_action a)
{
    for (size_t i = 0; i < ARRAY_SIZE(action_names); i++)
        if (action_names[i].bit == (unsigned)a)
            return action_names[i].name;
    return NULL;
}

const struct vm_transition *vm_transition(enum vm_state in, enum vm_event event, unsigned holds)
{
    for (size_t i = 0; i < ARRAY_SIZE(transitions); i++) {
        const struct vm_transition *t = &transitions[i];

        if (t->in == in && t->event == event && (t->guard & holds) == t->guard)
            return t;
    }
    return NULL;
}

const struct vm_transition *vm_transitions(size_t *ret_n)
{
    *ret_n = ARRAY_SIZE(transitions);
    return transitions;
}

const char *vm_state_limit_key(enum vm_state s)
{
    return (int)s >= 0 && s < VM_STATE_MAX ? limit_table[s] : NULL;
}

static void print_actions(FILE *out, unsigned actions)
{
    const char *between = "";

    for (size_t i = 0; i < ARRAY_SIZE(action_names); i++) {
        if (!(actions & action_names[i].bit))
            continue;
        fprintf(out, "%s%s", between, action_names[i].name);
        between = ", ";
    }
}

void vm_state_print(FILE *out)
{
    fputs("| state | clients see | limit |\n|---|---|---|\n", out);
    for (int s = 0; s < VM_STATE_MAX; s++)
        fprintf(out, "| %s | %s | %s%s%s |\n", state_table[s], wire_table[s],
                limit_table[s] ? "`" : "", limit_table[s] ? limit_table[s] : "none",
                limit_table[s] ? "`" : "");
    fputs("\n| state | event | if | what is done | next |\n|---|---|---|---|---|\n", out);
    for (size_t i = 0; i < ARRAY_SIZE(transitions); i++) {
        const struct vm_transition *t = &transitions[i];
        fprintf(out, "| %s | %s | %s | ", state_table[t->in], event_table[t->event],
                vm_guard_to_string(t->guard));
        print_actions(out, t->actions);
        fprintf(out, " | %s |\n", state_table[t->next]);
    }
}
