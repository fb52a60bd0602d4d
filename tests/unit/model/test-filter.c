// SPDX-License-Identifier: GPL-3.0-or-later
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/buf.h"
#include "model/filter.h"

/* As text with all brackets: (and A B), key op values, patterns as ~pattern~. */
static void show(const struct filter *f, struct buf *out)
{
    static const char *const kinds[] = {"and", "or", "not"};
    static const char *const ops[] = {"=", "!=", "<", ">", "<=", ">=", "in"};
    int r = 0;

    if (f->kind == FILTER_TEST) {
        r = buf_printf(out, "%s%s", f->key, ops[f->op]);
        for (size_t i = 0; i < f->n_values && r == 0; i++)
            r = f->values[i].like ? buf_printf(out, "%s~%s~", i ? "|" : "", f->values[i].like)
                                  : buf_printf(out, "%s%s", i ? "|" : "", f->values[i].text);
        assert_int_equal(r, 0);
        return;
    }
    assert_int_equal(buf_printf(out, "(%s ", kinds[f->kind]), 0);
    show(f->left, out);
    if (f->right) {
        assert_int_equal(buf_append_str(out, " "), 0);
        show(f->right, out);
    }
    assert_int_equal(buf_append_str(out, ")"), 0);
}

static void good_filters(void **state)
{
    static const struct {
        const char *text, *tree;
    } rows[] = {
        {"name=al*,state=running",     "(and name=~al%~ state=running)"},
        {"user=al*",                   "user=~al%~"                    },
        {"a=1;b=2,c=3",                "(or a=1 (and b=2 c=3))"        },
        {"(a=1;b=2),c=3",              "(and (or a=1 b=2) c=3)"        },
        {"!a=1,b=2",                   "(and (not a=1) b=2)"           },
        {"!(a=1,b=2)",                 "(not (and a=1 b=2))"           },
        {"!!a=1",                      "(not (not a=1))"               },
        {"id=[1,2,7]",                 "id=1|2|7"                      },
        {"id!=[1,2]",                  "id!=1|2"                       },
        {"memory=[256:1024]",          "memoryin256|1024"              },
        {"memory>=512,memory<1024",    "(and memory>=512 memory<1024)" },
        {"a<>1",                       "a!=1"                          },
        {"alice",                      "name=alice"                    },
        {"al?ce",                      "name=~al_ce~"                  },
        {"name=\"a,b*\"",              "name=a,b*"                     },
        {"name='a;b'*",                "name=~a;b%~"                   },
        {"name=50%_*",                 "name=~50\\%\\_%~"              },
        {"name=a\\b*",                 "name=~a\\\\b%~"                },
        {"host=",                      "host="                         },
        {"host=,a=1",                  "(and host= a=1)"               },
        {" name = two words , b = 2 ", "(and name=two words b=2)"      },
        {"name=\" x \"",               "name= x "                      },
        {"name~mid",                   "name=~%mid%~"                  },
        {"name~50%",                   "name=~%50\\%%~"                },
        {"property.city=Rome",         "property.city=Rome"            },
        {"ip=10.3.15.*",               "ip=~10.3.15.%~"                },
        {"t=2026-11-21T10:00",         "t=2026-11-21T10:00"            },
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct filter *f = NULL;
        struct qvd_error err = {0};
        struct buf out;
        if (filter_parse(rows[i].text, &f, &err) < 0)
            fail_msg("%s: %s", rows[i].text, err.text);
        buf_init(&out, 0);
        show(f, &out);
        assert_string_equal(buf_cstr(&out), rows[i].tree);
        buf_done(&out);
        filter_free(f);
    }
}

static void bad_filters_name_the_place(void **state)
{
    static const struct {
        const char *text, *place;
    } rows[] = {
        {"a=1,",      "character 5"},
        {"(a=1",      "character 5"},
        {"a=1)",      "character 4"},
        {"=1",        "character 1"},
        {"a=\"open",  "character 8"},
        {"a=[1,2",    "character 7"},
        {"a=[1:2:3]", "character 7"},
        {"a<[1,2]",   "character 8"},
        {"a=[1]x",    "character 6"},
        {"!",         "character 2"},
        {";",         "character 1"},
        {"()",        "character 2"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct filter *f = NULL;
        struct qvd_error err = {0};
        if (filter_parse(rows[i].text, &f, &err) != -EINVAL)
            fail_msg("%s was taken", rows[i].text);
        if (!strstr(err.text, rows[i].place))
            fail_msg("%s: %s, not %s", rows[i].text, err.text, rows[i].place);
        assert_null(f);
    }
}

static int parse(const char *text)
{
    struct filter *f = NULL;
    int r = filter_parse(text, &f, NULL);

    filter_free(f);
    return r;
}

static void limits_hold(void **state)
{
    char text[3 * FILTER_TEXT_MAX];
    struct filter *f;
    size_t n;

    assert_int_equal(filter_parse("  ", &f, NULL), 0);
    assert_null(f);
    for (int depth = FILTER_DEPTH_MAX - 1; depth <= FILTER_DEPTH_MAX; depth++) {
        memset(text, '!', sizeof text);
        strcpy(text + depth, "a=1");
        assert_int_equal(parse(text), depth < FILTER_DEPTH_MAX ? 0 : -EINVAL);
    }
    for (int tests = FILTER_TESTS_MAX; tests <= FILTER_TESTS_MAX + 1; tests++) {
        n = 0;
        for (int i = 0; i < tests; i++)
            n += (size_t)sprintf(text + n, "%sa=%d", i ? "," : "", i);
        assert_int_equal(parse(text), tests == FILTER_TESTS_MAX ? 0 : -EINVAL);
    }
    for (int values = FILTER_VALUES_MAX; values <= FILTER_VALUES_MAX + 1; values++) {
        n = (size_t)sprintf(text, "a=[");
        for (int i = 0; i < values; i++)
            n += (size_t)sprintf(text + n, "%s%d", i ? "," : "", i);
        strcpy(text + n, "]");
        assert_int_equal(parse(text), values == FILTER_VALUES_MAX ? 0 : -EINVAL);
    }
    for (int len = FILTER_TEXT_MAX; len <= FILTER_TEXT_MAX + 1; len++) {
        memset(text, 'x', (size_t)len);
        text[len] = '\0';
        assert_int_equal(parse(text), len == FILTER_TEXT_MAX ? 0 : -EINVAL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_filters),
        cmocka_unit_test(bad_filters_name_the_place),
        cmocka_unit_test(limits_hold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
