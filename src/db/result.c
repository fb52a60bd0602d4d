// SPDX-License-Identifier: GPL-3.0-or-later

/* What came back: sorts the server's errors into what a caller can do about them, and gives the
 * columns by number. */

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "db/db-internal.h"

const char *db_status_name(enum db_status s)
{
    static const char *const names[DB_STATUS_MAX] = {
        [DB_OK] = "ok",
        [DB_GONE] = "database not reachable",
        [DB_FULL] = "too many requests wait for the database",
        [DB_CONFLICT] = "conflict",
        [DB_CONSTRAINT] = "constraint",
        [DB_TIMEOUT] = "timeout",
        [DB_ERROR] = "error",
    };

    return (unsigned)s < DB_STATUS_MAX ? names[s] : NULL;
}

void db_result_done(struct db_result *r)
{
    PQclear(r->pg);
    *r = (struct db_result){0};
}

static enum db_status sort_out(const char *state)
{
    if (strcmp(state, "40001") == 0 || strcmp(state, "40P01") == 0 || strcmp(state, "55P03") == 0)
        return DB_CONFLICT;
    if (strcmp(state, "57014") == 0)
        return DB_TIMEOUT;
    /* 57P01..5 the server goes down or throws us out, 08 connection, 25P03 idle in transaction */
    if (str_starts(state, "57P") || str_starts(state, "08") || strcmp(state, "25P03") == 0 ||
        !*state)
        return DB_GONE;
    if (str_starts(state, "23"))
        return DB_CONSTRAINT;
    return DB_ERROR;
}

void db_result_set(struct db_result *r, PGresult *pg)
{
    ExecStatusType status = PQresultStatus(pg);
    const char *state, *message;

    PQclear(r->pg);
    r->pg = pg;
    r->status = DB_OK;
    r->error[0] = r->sqlstate[0] = 0;
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
        return;
    if (status == PGRES_PIPELINE_ABORTED) {
        db_result_fail(r, DB_ERROR, "not run: a statement before it failed");
        return;
    }
    state = PQresultErrorField(pg, PG_DIAG_SQLSTATE);
    message = PQresultErrorField(pg, PG_DIAG_MESSAGE_PRIMARY);
    (void)snprintf(r->sqlstate, sizeof r->sqlstate, "%s", state ? state : "");
    db_result_fail(r, sort_out(r->sqlstate), message ? message : PQresultErrorMessage(pg));
}

void db_result_fail(struct db_result *r, enum db_status status, const char *text)
{
    r->status = status;
    (void)snprintf(r->error, sizeof r->error, "%s", text);
    r->error[strcspn(r->error, "\n")] = 0;
}

const struct db_result *db_result_of(const struct db_result *r, size_t i)
{
    return r->first && i < r->n ? r->first + i : r;
}

enum db_status db_status(const struct db_result *r)
{
    return r->status;
}

const char *db_error(const struct db_result *r)
{
    return r->error;
}

const char *db_sqlstate(const struct db_result *r)
{
    return r->sqlstate;
}

const char *db_constraint(const struct db_result *r)
{
    const char *name = r->status == DB_CONSTRAINT && r->pg
                           ? PQresultErrorField(r->pg, PG_DIAG_CONSTRAINT_NAME)
                           : NULL;
    const char *column;

    if (name)
        return name;
    column = r->status == DB_CONSTRAINT && r->pg
                 ? PQresultErrorField(r->pg, PG_DIAG_COLUMN_NAME) /* NOT NULL has no other name */
                 : NULL;
    return column ? column : "";
}

bool db_violates(const struct db_result *r, const char *constraint)
{
    return strcmp(db_constraint(r), constraint) == 0;
}

int db_rows(const struct db_result *r)
{
    return r->status == DB_OK && r->pg ? PQntuples(r->pg) : 0;
}

int db_cols(const struct db_result *r)
{
    return r->status == DB_OK && r->pg ? PQnfields(r->pg) : 0;
}

int64_t db_affected(const struct db_result *r)
{
    uint64_t n = 0;

    if (r->status != DB_OK || !r->pg || str_to_u64(PQcmdTuples(r->pg), INT64_MAX, &n) < 0)
        return 0;
    return (int64_t)n;
}

bool db_null(const struct db_result *r, int row, int col)
{
    return row < 0 || col < 0 || row >= db_rows(r) || col >= db_cols(r) ||
           PQgetisnull(r->pg, row, col);
}

const char *db_str(const struct db_result *r, int row, int col)
{
    return db_null(r, row, col) ? NULL : PQgetvalue(r->pg, row, col);
}

int64_t db_int(const struct db_result *r, int row, int col)
{
    const char *s = db_str(r, row, col);

    return s ? strtoll(s, NULL, 10) : 0;
}

double db_real(const struct db_result *r, int row, int col)
{
    const char *s = db_str(r, row, col);

    return s ? strtod(s, NULL) : 0;
}

bool db_bool(const struct db_result *r, int row, int col)
{
    const char *s = db_str(r, row, col);

    return s && *s == 't';
}

size_t db_len(const struct db_result *r, int row, int col)
{
    return db_null(r, row, col) ? 0 : (size_t)PQgetlength(r->pg, row, col);
}

int db_bytes(const struct db_result *r, int row, int col, void *dst, size_t len)
{
    const char *s = db_str(r, row, col);
    size_t n = db_len(r, row, col);

    if (!s || n != 2 + 2 * len || s[0] != '\\' || s[1] != 'x')
        return -EINVAL;
    return hex_decode(s + 2, n - 2, dst, len);
}

int db_copy(const struct db_result *r, int row, int col, char *dst, size_t size)
{
    const char *s = db_str(r, row, col);

    if (!s) {
        dst[0] = 0;
        return -ENODATA;
    }
    return str_copy(dst, size, s);
}

int db_fail(const struct db_result *r, struct qvd_error *err, const char *what)
{
    int code = -EIO;

    if (r->status == DB_GONE || r->status == DB_FULL || r->status == DB_CONFLICT ||
        r->status == DB_TIMEOUT)
        code = -EAGAIN;
    else if (r->status == DB_CONSTRAINT)
        code = strcmp(r->sqlstate, "23505") == 0 ? -EEXIST : -EINVAL;
    return qvd_error_set(err, code, "%s: %s", what,
                         r->error[0] ? r->error : db_status_name(r->status));
}
