// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* The filter language of `qa -f` and of the API's lists:
 *
 *     name=al*,state=running          "," is AND
 *     id=[1,2,7];!blocked=yes         ";" is OR (binds less), "!" is NOT (binds most), "(" ")"
 *     memory=[256:1024]  memory>=512  between; also != < > <= >= ~ (~ is = with wildcards at ends)
 *     name="a,b*"                     quotes protect; * and ? outside of them are wildcards
 *     alice                           a word alone is name=alice
 *     host=                           no value
 *
 * Pure: knows no fields and no SQL. */

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define FILTER_TEXT_MAX 8192
#define FILTER_DEPTH_MAX 20
#define FILTER_TESTS_MAX 200
#define FILTER_VALUES_MAX 1000

enum filter_kind { FILTER_AND, FILTER_OR, FILTER_NOT, FILTER_TEST };
enum filter_op { FILTER_EQ, FILTER_NE, FILTER_LT, FILTER_GT, FILTER_LE, FILTER_GE, FILTER_BETWEEN };

struct filter_value {
    char *text; /* without quotes; what a comparison is made with */
    char *like; /* as a pattern of SQL's LIKE, \ escapes; NULL: no wildcard */
};

struct filter {
    enum filter_kind kind;
    struct filter *left, *right; /* AND, OR; NOT: left only */
    /* TEST: any of the values; BETWEEN has two */
    char *key;
    enum filter_op op;
    struct filter_value *values;
    size_t n_values;
};

/* Blank text gives *ret_filter = NULL: everything. 0; -EINVAL with err naming the place; -ENOMEM.
 * Free by filter_free(). */
must_check int filter_parse(const char *text, struct filter **ret_filter, struct qvd_error *err);
/* NULL-safe, always NULL. */
struct filter *filter_free(struct filter *f);
static inline void filter_free_p(struct filter **f)
{
    filter_free(*f);
}
