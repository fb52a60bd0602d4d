// SPDX-License-Identifier: GPL-3.0-or-later
#include "model/filter.h"

#include <string.h>

#include "base/buf.h"
#include "base/str.h"

struct parser {
    const char *text, *at;
    struct qvd_error *err;
    unsigned depth, tests, values;
};

static must_check int parse_or(struct parser *p, struct filter **ret);

static int fault(const struct parser *p, const char *what)
{
    return qvd_error_set(p->err, -EINVAL, "filter, character %zu: %s",
                         (size_t)(p->at - p->text) + 1, what);
}

struct filter *filter_free(struct filter *f)
{
    if (!f)
        return NULL;
    filter_free(f->left);
    filter_free(f->right);
    for (size_t i = 0; i < f->n_values; i++) {
        free(f->values[i].text);
        free(f->values[i].like);
    }
    free(f->values);
    free(f->key);
    free(f);
    return NULL;
}

static void skip_blanks(struct parser *p)
{
    p->at += strspn(p->at, " \t\r\n");
}

static must_check struct filter *node(enum filter_kind kind, struct filter *left,
                                      struct filter *right)
{
    struct filter *f = calloc(1, sizeof *f);

    if (f)
        *f = (struct filter){.kind = kind, .left = left, .right = right};
    return f;
}

/* One character of a value, into its text and its pattern. */
static must_check int add_char(struct buf *text, struct buf *like, char c, bool quoted, bool *wild)
{
    int r = buf_append(text, &c, 1);
    bool is_wild = !quoted && (c == '*' || c == '?');

    *wild |= is_wild;
    if (r == 0 && is_wild)
        return buf_append(like, c == '*' ? "%" : "_", 1);
    if (r == 0 && strchr("%_\\", c))
        r = buf_append(like, "\\", 1);
    return r < 0 ? r : buf_append(like, &c, 1);
}

static must_check int take_text(struct parser *p, const char *stops, struct buf *text,
                                struct buf *like, bool *wild)
{
    size_t trailing = 0; /* blanks at the end that no quote protects */

    while (*p->at && !strchr(stops, *p->at)) {
        char quote = *p->at == '"' || *p->at == '\'' ? *p->at++ : '\0';
        do {
            if (quote && !*p->at)
                return fault(p, "the quote is not closed");
            if (quote && *p->at == quote)
                break;
            int r = add_char(text, like, *p->at, quote, wild);
            if (r < 0)
                return r;
            trailing = !quote && strchr(" \t\r\n", *p->at) ? trailing + 1 : 0;
            p->at++;
        } while (quote);
        if (quote)
            p->at++;
    }
    text->len -= trailing;
    like->len -= trailing;
    return 0;
}

static must_check int take_value(struct parser *p, const char *stops, struct filter *f)
{
    _cleanup_(buf_done_p) struct buf text = {0}, like = {0};
    bool wild = false;
    struct filter_value *more;

    buf_init(&text, 0);
    buf_init(&like, 0);
    skip_blanks(p);
    if (++p->values > FILTER_VALUES_MAX)
        return fault(p, "too many values");
    int r = take_text(p, stops, &text, &like, &wild);
    if (r < 0)
        return r;
    more = reallocarray(f->values, f->n_values + 1, sizeof *more);
    if (!more)
        return -ENOMEM;
    f->values = more;
    const char *t = buf_cstr(&text), *l = buf_cstr(&like);
    struct filter_value v = {t ? strdup(t) : NULL, wild && l ? strdup(l) : NULL};
    f->values[f->n_values++] = v;
    return !v.text || (wild && !v.like) ? -ENOMEM : 0;
}

static must_check int take_list(struct parser *p, struct filter *f)
{
    p->at++;
    for (;;) {
        int r = take_value(p, ",:]", f);
        if (r < 0)
            return r;
        if (*p->at == ']')
            break;
        if (*p->at == ':' && f->n_values == 1 && f->op == FILTER_EQ)
            f->op = FILTER_BETWEEN;
        else if (*p->at != ',' || f->op == FILTER_BETWEEN)
            return fault(p, "\"]\", \",\" or one \":\" expected");
        p->at++;
    }
    p->at++;
    if (f->op == FILTER_BETWEEN && f->n_values != 2)
        return fault(p, "between needs two values");
    if (f->op != FILTER_EQ && f->op != FILTER_NE && f->op != FILTER_BETWEEN)
        return fault(p, "only = and != take a list");
    return 0;
}

static bool take_op(struct parser *p, enum filter_op *op, bool *like)
{
    static const struct {
        const char *text;
        enum filter_op op;
        bool like;
    } ops[] = {
        {"!=", FILTER_NE, false},
        {"<>", FILTER_NE, false},
        {"<=", FILTER_LE, false},
        {">=", FILTER_GE, false},
        {"=",  FILTER_EQ, false},
        {"<",  FILTER_LT, false},
        {">",  FILTER_GT, false},
        {"~",  FILTER_EQ, true },
    };

    for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
        if (!str_starts(p->at, ops[i].text))
            continue;
        p->at += strlen(ops[i].text);
        *op = ops[i].op;
        *like = ops[i].like;
        return true;
    }
    return false;
}

/* "~": the text anywhere within. */
static must_check int widen(struct filter *f)
{
    for (size_t i = 0; i < f->n_values; i++) {
        _cleanup_(free_p) char *old = f->values[i].like;
        _cleanup_(buf_done_p) struct buf like = {0};
        int r = 0;
        buf_init(&like, 0);
        for (const char *c = f->values[i].text; !old && r == 0 && *c; c++) {
            bool wild = false;
            _cleanup_(buf_done_p) struct buf text = {0};
            buf_init(&text, 0);
            r = add_char(&text, &like, *c, true, &wild);
        }
        const char *inner = old ? old : buf_cstr(&like);
        f->values[i].like = r == 0 && inner ? str_printf("%%%s%%", inner) : NULL;
        if (!f->values[i].like)
            return -ENOMEM;
    }
    return 0;
}

static must_check int fill_test(struct parser *p, struct filter *f)
{
    size_t n = strspn(p->at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-");
    const char *key = p->at;
    bool like = false;
    int r;

    if (++p->tests > FILTER_TESTS_MAX)
        return fault(p, "too many conditions");
    p->at += n;
    skip_blanks(p);
    if (n == 0 || !take_op(p, &f->op, &like)) {
        p->at = key; /* a word alone */
        if (!*key || strchr(",;()[]=<>~", *key))
            return fault(p, "a condition such as name=word expected");
        f->key = strdup("name");
        f->op = FILTER_EQ;
        return f->key ? take_value(p, ",;)", f) : -ENOMEM;
    }
    f->key = strndup(key, n);
    if (!f->key)
        return -ENOMEM;
    skip_blanks(p);
    r = *p->at == '[' ? take_list(p, f) : take_value(p, ",;)", f);
    return r == 0 && like ? widen(f) : r;
}

static must_check int parse_unary(struct parser *p, struct filter **ret)
{
    struct filter *f = NULL;
    int r;

    skip_blanks(p);
    if (++p->depth > FILTER_DEPTH_MAX)
        return fault(p, "nested too deeply");
    if (*p->at == '!') {
        p->at++;
        f = node(FILTER_NOT, NULL, NULL);
        r = f ? parse_unary(p, &f->left) : -ENOMEM;
    } else if (*p->at == '(') {
        p->at++;
        r = parse_or(p, &f);
        if (r == 0 && *p->at != ')')
            r = fault(p, "\")\" expected");
        if (r == 0)
            p->at++;
    } else {
        f = node(FILTER_TEST, NULL, NULL);
        r = f ? fill_test(p, f) : -ENOMEM;
    }
    p->depth--;
    skip_blanks(p);
    if (r < 0)
        f = filter_free(f);
    *ret = f;
    return r;
}

/* Operands of one level with sign between them. */
static must_check int parse_level(struct parser *p, char sign, enum filter_kind kind,
                                  int (*operand)(struct parser *, struct filter **),
                                  struct filter **ret)
{
    struct filter *all = NULL;
    int r = operand(p, &all);

    while (r == 0 && *p->at == sign) {
        struct filter *right = NULL;
        p->at++;
        r = operand(p, &right);
        struct filter *both = r == 0 ? node(kind, all, right) : NULL;
        if (!both) {
            filter_free(right);
            r = r < 0 ? r : -ENOMEM;
            break;
        }
        all = both;
    }
    if (r < 0)
        all = filter_free(all);
    *ret = all;
    return r;
}

static must_check int parse_and(struct parser *p, struct filter **ret)
{
    return parse_level(p, ',', FILTER_AND, parse_unary, ret);
}

static must_check int parse_or(struct parser *p, struct filter **ret)
{
    return parse_level(p, ';', FILTER_OR, parse_and, ret);
}

int filter_parse(const char *text, struct filter **ret_filter, struct qvd_error *err)
{
    struct parser p = {.text = text, .at = text, .err = err};
    _cleanup_(filter_free_p) struct filter *f = NULL;

    if (strlen(text) > FILTER_TEXT_MAX)
        return qvd_error_set(err, -EINVAL, "filter: longer than %d bytes", FILTER_TEXT_MAX);
    skip_blanks(&p);
    if (*p.at) {
        int r = parse_or(&p, &f);
        if (r < 0)
            return r == -ENOMEM ? qvd_error_set(err, r, "out of memory") : r;
        if (*p.at)
            return fault(&p, "\",\" or \";\" expected");
    }
    *ret_filter = TAKE_PTR(f);
    return 0;
}
