// SPDX-License-Identifier: GPL-3.0-or-later
/* Lists as tables (libsmartcols), CSV and JSON. */
#include <libsmartcols.h>
#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/str.h"
#include "qa/qa.h"

static must_check int add_list(struct buf *b, const json_t *list)
{
    size_t i;
    json_t *word;
    int r = 0;

    json_array_foreach(list, i, word)
    {
        const char *text = json_string_value(word);
        if (r == 0 && text)
            r = buf_printf(b, "%s%s", i ? "," : "", text);
    }
    return r;
}

static must_check int add_number(struct buf *b, double number, enum qa_show how)
{
    long long whole = llround(number);

    if (how == QA_AGE)
        return buf_printf(b, "%02lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
    if (how == QA_ROUND || number == (double)whole)
        return buf_printf(b, "%lld", whole);
    return buf_printf(b, "%g", number);
}

/* A value as people read it; "-" for none. A new string, NULL when out of memory. */
static char *text_of(const json_t *v, enum qa_show how)
{
    _cleanup_(buf_done_p) struct buf b = {0};
    int r = 0;

    if (json_is_string(v))
        r = buf_append_str(&b, json_string_value(v));
    else if (json_is_boolean(v) && how == QA_BIT)
        r = buf_append_str(&b, json_is_true(v) ? "1" : "0");
    else if (json_is_boolean(v))
        r = buf_append_str(&b, json_is_true(v) ? "yes" : "no");
    else if (json_is_integer(v) && how == QA_PLAIN)
        r = buf_printf(&b, "%lld", (long long)json_integer_value(v));
    else if (json_is_number(v))
        r = add_number(&b, json_number_value(v), how);
    else if (json_is_array(v))
        r = add_list(&b, v);
    if (r == 0 && b.len == 0)
        r = buf_append_str(&b, "-");
    const char *text = r == 0 ? buf_cstr(&b) : NULL;
    return text ? strdup(text) : NULL;
}

static int print_table(const struct qa *qa, const json_t *rows, const struct qa_column *columns)
{
    struct libscols_table *table = scols_new_table();
    int r = table ? 0 : -ENOMEM;
    size_t i;
    json_t *row;

    for (const struct qa_column *c = columns; r == 0 && c->title; c++)
        r = scols_table_new_column(table, c->title, 0, 0) ? 0 : -ENOMEM;
    json_array_foreach(rows, i, row)
    {
        struct libscols_line *line = r == 0 ? scols_table_new_line(table, NULL) : NULL;
        r = line ? 0 : -ENOMEM;
        for (size_t n = 0; r == 0 && columns[n].title; n++) {
            char *text = text_of(json_object_get(row, columns[n].field), columns[n].how);
            r = text ? scols_line_refer_data(line, n, text) : -ENOMEM;
        }
    }
    if (r == 0) {
        scols_table_enable_noheadings(table, qa->quiet);
        scols_table_set_column_separator(table, "  ");
        r = scols_print_table(table);
    }
    scols_unref_table(table);
    return r;
}

/* RFC 4180: quotes around what needs them. */
static void print_csv_cell(const char *text)
{
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (; *text; text++) {
        if (*text == '"')
            putchar('"');
        putchar(*text);
    }
    putchar('"');
}

static int print_csv(const struct qa *qa, const json_t *rows, const struct qa_column *columns)
{
    size_t i;
    json_t *row;

    for (const struct qa_column *c = columns; !qa->quiet && c->title; c++)
        printf("%s%s", c == columns ? "" : ",", c->field);
    if (!qa->quiet)
        putchar('\n');
    json_array_foreach(rows, i, row)
    {
        for (const struct qa_column *c = columns; c->title; c++) {
            const json_t *v = json_object_get(row, c->field);
            _cleanup_(free_p) char *text = text_of(v, QA_PLAIN);
            if (!text)
                return -ENOMEM;
            if (c != columns)
                putchar(',');
            if (v && !json_is_null(v) && !(json_is_array(v) && json_array_size(v) == 0))
                print_csv_cell(text);
        }
        putchar('\n');
    }
    return 0;
}

int qa_print_rows(const struct qa *qa, const json_t *rows, const struct qa_column *columns)
{
    int r = 0;

    if (qa->format == QA_TABLE)
        r = print_table(qa, rows, columns);
    else if (qa->format == QA_CSV)
        r = print_csv(qa, rows, columns);
    else if (json_dumpf(rows, stdout, JSON_INDENT(2)) < 0 || putchar('\n') == EOF)
        r = -EIO;
    if (r == 0 && fflush(stdout) == 0)
        return QA_OK;
    fprintf(stderr, "Error: the list cannot be written\n");
    return QA_SOME_FAILED;
}
