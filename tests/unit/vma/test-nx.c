// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/fs.h"
#include "base/str.h"
#include "vma/nx.h"

static bool step(enum nx_state in, enum nx_event event, enum nx_action *action, enum nx_state *next)
{
    return nx_step(in, event, action, next) == 0;
}

/* Walks the table: each state can be reached from stopped, and each leads back to it. */
static void test_reachable(void **state)
{
    bool seen[NX_STATE_MAX] = {[NX_STOPPED] = true};
    enum nx_action action;
    enum nx_state next;

    for (int round = 0; round < NX_STATE_MAX; round++)
        for (int s = 0; s < NX_STATE_MAX; s++)
            for (int e = 0; seen[s] && e < NX_EV_MAX; e++)
                if (step(s, e, &action, &next))
                    seen[next] = true;
    for (int s = 0; s < NX_STATE_MAX; s++)
        if (!seen[s])
            fail_msg("%s is never reached", nx_state_to_string(s));
    bool home[NX_STATE_MAX] = {[NX_STOPPED] = true};
    for (int round = 0; round < NX_STATE_MAX; round++)
        for (int s = 0; s < NX_STATE_MAX; s++)
            for (int e = 0; e < NX_EV_MAX; e++)
                if (step(s, e, &action, &next) && home[next])
                    home[s] = true;
    for (int s = 0; s < NX_STATE_MAX; s++)
        if (!home[s])
            fail_msg("%s never ends", nx_state_to_string(s));
}

/* Each state but the three in which a desktop may rest has a limit and a row for its end; each in
 * which something runs has a row for an order to end. */
static void test_limits_and_aborts(void **state)
{
    enum nx_action action;
    enum nx_state next;

    for (int s = 0; s < NX_STATE_MAX; s++) {
        bool rests = s == NX_STOPPED || s == NX_CONNECTED || s == NX_SUSPENDED;
        if ((nx_limit_of(s) == NX_FOR_EVER) != rests ||
            step(s, NX_EV_LIMIT, &action, &next) == rests)
            fail_msg("%s: its limit", nx_state_to_string(s));
        bool ending = s == NX_STOPPED || s == NX_STOPPING || s == NX_KILLING;
        if (step(s, NX_EV_END, &action, &next) == ending)
            fail_msg("%s: its abort", nx_state_to_string(s));
        bool no_agent = s == NX_STOPPED || s == NX_PREPARING;
        if (step(s, NX_EV_GONE, &action, &next) == no_agent)
            fail_msg("%s: nxagent may end at any time", nx_state_to_string(s));
        if (!no_agent)
            assert_int_equal(next, NX_STOPPED);
    }
}

/* HUP toggles: only from where the agent's own word has told that it stands still. */
static void test_when_hup_is_sent(void **state)
{
    enum nx_action action;
    enum nx_state next;

    for (int s = 0; s < NX_STATE_MAX; s++)
        for (int e = 0; e < NX_EV_MAX; e++) {
            if (!step(s, e, &action, &next))
                continue;
            if (action == NX_DO_WAKE)
                assert_true(s == NX_WAKING && next == NX_RESUMING);
            if (action == NX_DO_HUP)
                assert_true(s == NX_RELISTENING && next == NX_CUTTING);
            if (action == NX_DO_CUT)
                assert_true((s == NX_CONNECTED || (s == NX_RECONNECTING && e == NX_EV_LIMIT)) &&
                            next == NX_CUTTING);
            if (action == NX_DO_SPAWN)
                assert_true(s == NX_PREPARING && next == NX_STARTING);
        }
}

/* What an order for a desktop in that state leads to, followed by what nxagent says. */
struct life {
    const char *events; /* letters, see below */
    enum nx_state ends;
};
static const struct {
    char letter;
    enum nx_event event;
} letters[] = {
    {'S', NX_EV_START    },
    {'p', NX_EV_PREPARED },
    {'l', NX_EV_LISTENS  },
    {'a', NX_EV_ACCEPTED },
    {'u', NX_EV_UP       },
    {'s', NX_EV_SUSPENDS },
    {'d', NX_EV_SUSPENDED},
    {'y', NX_EV_STRAY    },
    {'r', NX_EV_RESUMES  },
    {'C', NX_EV_CUT      },
    {'R', NX_EV_RESET    },
    {'E', NX_EV_END      },
    {'g', NX_EV_GONE     },
    {'t', NX_EV_LIMIT    },
    {'f', NX_EV_FAILED   },
    {'x', NX_EV_LOST     },
};

static enum nx_state live(const char *events)
{
    enum nx_state at = NX_STOPPED, next;
    enum nx_action action;

    for (; *events; events++)
        for (size_t i = 0; i < ARRAY_SIZE(letters); i++)
            if (letters[i].letter == *events && step(at, letters[i].event, &action, &next))
                at = next;
    return at;
}

static void test_lives(void **state)
{
    static const struct life lives[] = {
        {"Spl",             NX_LISTENING  },
        {"Splau",           NX_FRESH      },
        {"SplauS",          NX_FRESH      }, /* an order waits */
        {"SplauC",          NX_FRESH      },
        {"Splaut",          NX_CONNECTED  },
        {"Splauxsd",        NX_SUSPENDED  }, /* the client has gone */
        {"SplausdSprl",     NX_RELISTENING},
        {"SplausdSprlaut",  NX_CONNECTED  },
        {"SplautSxsdSprl",  NX_RELISTENING}, /* takeover */
        {"SplauxSsdSprl",   NX_RELISTENING}, /* takeover while the stream breaks */
        {"SplautSsyrl",     NX_RELISTENING}, /* our HUP came too late and woke it up */
        {"SplautSsyt",      NX_SUSPENDED  },
        {"SplausdSprlaxsd", NX_SUSPENDED  }, /* a dial given up */
        {"SplausdSprlt",    NX_CUTTING    }, /* nobody came */
        {"SplausdSprltxsd", NX_SUSPENDED  },
        {"Splag",           NX_STOPPED    }, /* a dial given up on a fresh one */
        {"SplR",            NX_LISTENING  },
        {"SplaRg",          NX_STOPPED    },
        {"Splt",            NX_STOPPING   },
        {"Spltg",           NX_STOPPED    },
        {"Sf",              NX_STOPPED    },
        {"SE",              NX_STOPPED    },
        {"Spt",             NX_STOPPING   },
        {"Sptt",            NX_KILLING    },
        {"Spttt",           NX_KILLING    },
        {"Spttg",           NX_STOPPED    },
        {"SplauE",          NX_STOPPING   },
        {"SplausdSprlEd",   NX_STOPPING   }, /* TERM only made it suspend */
        {"SplautCxsd",      NX_SUSPENDED  },
        {"SplausdSf",       NX_SUSPENDED  }, /* a hook refuses: the windows stay */
        {"SplausdSpt",      NX_SUSPENDED  }, /* it does not wake up: the windows stay */
    };

    for (size_t i = 0; i < ARRAY_SIZE(lives); i++)
        if (live(lives[i].events) != lives[i].ends)
            fail_msg("%s ends in %s, not in %s", lives[i].events,
                     nx_state_to_string(live(lives[i].events)), nx_state_to_string(lives[i].ends));
}

/* l7r-protocol 6.1: the words of x_state. */
static void test_x_states(void **state)
{
    static const struct {
        enum nx_state nx;
        const char *word;
    } words[] = {
        {NX_STOPPED,     "stopped"     },
        {NX_PREPARING,   "provisioning"},
        {NX_STARTING,    "starting"    },
        {NX_LISTENING,   "listening"   },
        {NX_RELISTENING, "listening"   },
        {NX_FRESH,       "connected"   },
        {NX_CONNECTED,   "connected"   },
        {NX_SUSPENDING,  "suspending"  },
        {NX_SUSPENDED,   "suspended"   },
        {NX_STOPPING,    "stopping"    },
        {NX_KILLING,     "stopping"    },
    };

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        assert_string_equal(wire_x_state_to_string(nx_to_x_state(words[i].nx)), words[i].word);
}

/* Lines of nxagent 3.5.99.26, as it wrote them. */
static void test_lines(void **state)
{
    static const struct {
        const char *line;
        enum nx_event event;
    } lines[] = {
        {"Info: Waiting for connection from any host on socket 'tcp:*:4100'.", NX_EV_LISTENS  },
        {"Info: Accepted connection from '10.3.15.1'.",                        NX_EV_ACCEPTED },
        {"Session: Session started at 'Sat Nov 21 10:22:49 2026'.",            NX_EV_UP       },
        {"Session: Session resumed at 'Sat Nov 21 10:22:55 2026'.",            NX_EV_UP       },
        {"Session: Display failure detected at 'Sat Nov 21 10:22:52 2026'.",   NX_EV_LOST     },
        {"Session: Suspending session at 'Sat Nov 21 10:22:52 2026'.",         NX_EV_SUSPENDS },
        {"Session: Session suspended at 'Sat Nov 21 10:22:52 2026'.",          NX_EV_SUSPENDED},
        {"Session: Resuming session at 'Sat Nov 21 10:22:54 2026'.",           NX_EV_RESUMES  },
        {"Session: Starting session at 'Sat Nov 21 10:22:47 2026'.",           NX_EV_MAX      },
        {"Info: Agent running with pid '11'.",                                 NX_EV_MAX      },
        {" Session: Session started at",                                       NX_EV_MAX      },
        {"",                                                                   NX_EV_MAX      },
    };

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
        assert_int_equal(nx_event_of_line(lines[i].line), lines[i].event);
}

/* docs/nx-states.md is what the table prints. */
static void test_documented(void **state)
{
    _cleanup_(free_p) char *doc = NULL, *table = NULL;
    char path[512];
    size_t doc_len, len;
    FILE *f = open_memstream(&table, &len);

    assert_non_null(f);
    nx_print_table(f);
    assert_int_equal(fclose(f), 0);
    snprintf(path, sizeof path, "%s/docs/nx-states.md", getenv("QVD_SOURCE"));
    assert_int_equal(fs_read(path, 65536, &doc, &doc_len), 0);
    if (!strstr(doc, table))
        fail_msg("docs/nx-states.md differs from the table; write it anew: meson compile nx-docs");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reachable),        cmocka_unit_test(test_limits_and_aborts),
        cmocka_unit_test(test_when_hup_is_sent), cmocka_unit_test(test_lives),
        cmocka_unit_test(test_x_states),         cmocka_unit_test(test_lines),
        cmocka_unit_test(test_documented),
    };

    return cmocka_run_group_tests_name("nx", tests, NULL, NULL);
}
