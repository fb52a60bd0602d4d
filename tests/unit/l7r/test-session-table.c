// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/fs.h"
#include "conf/conf.h"
#include "l7r/broker/table.h"

static const char *document; /* docs/session-steps.md */

static void every_step_has_a_name_and_a_kind(void **state)
{
    for (int s = 0; s < SESSION_STEP_MAX; s++) {
        assert_non_null(session_step_to_string((enum session_step)s));
        assert_int_equal(session_step_from_string(session_step_to_string((enum session_step)s)), s);
    }
    for (int e = 0; e < SESSION_EV_MAX; e++)
        assert_non_null(session_event_to_string((enum session_event)e));
}

/* From NEW each step is reached, and from each step its end. */
static void no_step_is_unreachable_or_without_end(void **state)
{
    bool reached[SESSION_STEP_MAX] = {[SESSION_NEW] = true};
    bool ends[SESSION_STEP_MAX] = {[SESSION_GONE] = true};

    for (int round = 0; round < SESSION_STEP_MAX; round++)
        for (int s = 0; s < SESSION_STEP_MAX; s++)
            for (int e = 0; e < SESSION_EV_MAX; e++) {
                enum session_step next = session_next((enum session_step)s, (enum session_event)e);
                if (next == SESSION_STEP_INVALID)
                    continue;
                if (reached[s])
                    reached[next] = true;
                if (ends[next])
                    ends[s] = true;
            }
    for (int s = 0; s < SESSION_STEP_MAX; s++) {
        if (!reached[s] || !ends[s])
            fail_msg("step %s: %s", session_step_to_string((enum session_step)s),
                     reached[s] ? "has no way to the end" : "is not reached");
    }
}

/* Each waiting step has a limit that leads away, and a row for an abort. A setting that tells the
 * limit is in the settings table, and its default is the table's. */
static void every_waiting_step_has_a_limit_and_an_abort(void **state)
{
    struct conf *conf = conf_new(NULL, NULL);

    for (int i = 0; i < SESSION_STEP_MAX; i++) {
        enum session_step s = (enum session_step)i;
        const struct session_step_row *row = &session_steps[s];
        if (row->kind != SESSION_WAITING) {
            assert_int_equal(row->limit_ms, 0);
            continue;
        }
        assert_true(row->limit_ms > 0);
        if (session_next(s, SESSION_EV_LIMIT) == SESSION_STEP_INVALID ||
            session_next(s, SESSION_EV_LIMIT) == s)
            fail_msg("step %s: its limit leads nowhere", session_step_to_string(s));
        if (session_next(s, SESSION_EV_ABORT) == SESSION_STEP_INVALID)
            fail_msg("step %s: no row for an abort", session_step_to_string(s));
        if (row->setting) {
            assert_non_null(conf_find(row->setting));
            assert_int_equal(conf_ms(conf, row->setting), row->limit_ms);
            assert_in_range(row->times, 1, 2);
        }
    }
    conf_free(conf);
}

/* What was claimed is closed: no way leads from CLAIM's success to GONE but through CLOSE. */
static void what_was_claimed_is_closed(void **state)
{
    for (int i = SESSION_TAKEOVER; i < SESSION_GONE; i++)
        for (int e = 0; e < SESSION_EV_MAX; e++)
            if (session_next((enum session_step)i, (enum session_event)e) == SESSION_GONE)
                assert_int_equal(i, SESSION_CLOSE);
}

/* A dial that was not used is told to the VMA: from DIAL and SWITCH nothing leads past RESET. */
static void an_unused_dial_is_told(void **state)
{
    static const enum session_step dialled[] = {SESSION_DIAL, SESSION_SWITCH};
    static const enum session_event failures[] = {SESSION_EV_REFUSED, SESSION_EV_LIMIT,
                                                  SESSION_EV_ABORT};

    for (size_t i = 0; i < ARRAY_SIZE(dialled); i++)
        for (size_t j = 0; j < ARRAY_SIZE(failures); j++)
            assert_int_equal(session_next(dialled[i], failures[j]), SESSION_RESET);
    assert_int_equal(session_next(SESSION_CONNECTED, SESSION_EV_UNUSED), SESSION_RESET);
}

/* The client is asked before the dial, and the dial comes last. */
static void the_way_of_a_connection(void **state)
{
    static const enum session_step way[] = {
        SESSION_NEW,     SESSION_AUTH, SESSION_HOST, SESSION_CLAIM,  SESSION_WAIT,
        SESSION_PREPARE, SESSION_ASK,  SESSION_DIAL, SESSION_SWITCH, SESSION_CONNECTED};

    for (size_t i = 0; i + 1 < ARRAY_SIZE(way); i++)
        assert_int_equal(session_next(way[i], SESSION_EV_DONE), way[i + 1]);
    assert_int_equal(session_next(SESSION_CONNECTED, SESSION_EV_ENDED), SESSION_CLOSE);
    assert_int_equal(session_next(SESSION_CLOSE, SESSION_EV_DONE), SESSION_GONE);
}

static void the_document_shows_the_table(void **state)
{
    char *text = NULL, *printed = NULL;
    size_t len = 0, printed_len = 0;
    FILE *f = open_memstream(&printed, &printed_len);

    assert_non_null(f);
    session_print_table(f);
    fclose(f);
    assert_int_equal(fs_read(document, 1 << 20, &text, &len), 0);
    assert_string_equal(text, printed); /* else: meson compile docs-session */
    free(text);
    free(printed);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_has_a_name_and_a_kind),
        cmocka_unit_test(no_step_is_unreachable_or_without_end),
        cmocka_unit_test(every_waiting_step_has_a_limit_and_an_abort),
        cmocka_unit_test(what_was_claimed_is_closed),
        cmocka_unit_test(an_unused_dial_is_told),
        cmocka_unit_test(the_way_of_a_connection),
        cmocka_unit_test(the_document_shows_the_table),
    };

    document = argc > 1 ? argv[1] : "";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
