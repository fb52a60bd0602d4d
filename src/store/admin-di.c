// SPDX-License-Identifier: GPL-3.0-or-later
#include "store/admin-di.h"

#include <string.h>

#include "base/str.h"
#include "model/di.h"
#include "store/admin-internal.h"

struct change {
    struct db *db;
    int64_t id, tenant;
    char *osf, *version, *description, *tags, *tag, *path;
    int64_t osf_id, osf_tenant;
    admin_done_fn *fn;
    admin_di_deleted_fn *deleted;
    void *arg;
    struct admin_done done;
};

static struct change *change_free(struct change *c)
{
    if (c) {
        free(c->osf);
        free(c->version);
        free(c->description);
        free(c->tags);
        free(c->tag);
        free(c->path);
        free(c);
    }
    return NULL;
}

static void change_free_p(struct change **c)
{
    change_free(*c);
}

static struct change *change_new(struct db *db, const struct admin_who *who, int64_t id,
                                 admin_done_fn *fn, void *arg)
{
    struct change *c = calloc(1, sizeof *c);

    if (c)
        *c = (struct change){.db = db,
                             .id = id,
                             .tenant = who ? who->tenant_id : 0,
                             .fn = fn,
                             .arg = arg,
                             .done.id = id};
    return c;
}

static enum admin_status no_memory(struct change *c, struct qvd_error *err)
{
    change_free(c);
    qvd_error_set(err, ADMIN_AWAY, "out of memory");
    return ADMIN_AWAY;
}

static void tell(void *arg, const struct db_result *r)
{
    _cleanup_(change_free_p) struct change *c = arg;

    if (db_status(r) != DB_OK)
        c->done.status = store_admin_failed(r, "di", &c->done.err);
    if (c->done.status == ADMIN_OK && c->done.id)
        db_notify_id(c->db, "api", "di", c->done.id);
    if (c->deleted)
        c->deleted(c->arg, &c->done, c->path ? c->path : "");
    else
        c->fn(c->arg, &c->done);
}

static void refuse(struct db_txn *t, struct change *c, enum admin_status status, const char *text)
{
    c->done.status = status;
    qvd_error_set(&c->done.err, (int)status, "%s", text);
    db_txn_abort(t);
}

/* Creation: the OSF is locked, so that two images of one day get two versions. */

static void on_new_row(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct change *c = arg;

    c->done.id = db_int(r, 0, 0);
    db_txn_query(t,
                 "UPDATE di_runtimes SET state = 'uploading', publish_tags ="
                 "   (SELECT array_agg(DISTINCT x) FROM unnest(ARRAY[$2, 'head'] ||"
                 "           coalesce($3::text[], '{}')) x)"
                 " WHERE di_id = $1",
                 DB_PARAMS(DB_INT(c->done.id), DB_TEXT(db_str(r, 0, 1)), DB_TEXT(c->tags)), NULL,
                 NULL);
    db_txn_commit(t);
}

static void on_osf(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct change *c = arg;

    if (db_rows(r) == 0) {
        refuse(t, c, ADMIN_INVALID, "di: there is no such OSF in this tenant");
        return;
    }
    db_txn_query(t,
                 "INSERT INTO dis (osf_id, version, description)"
                 " SELECT $1, coalesce($2::text, (SELECT v FROM (SELECT"
                 "   to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD-')"
                 "   || lpad(n::text, 3, '0') AS v FROM generate_series(0, 999) n) g"
                 "  WHERE NOT EXISTS (SELECT FROM dis d WHERE d.osf_id = $1 AND d.version = g.v)"
                 "    AND NOT EXISTS (SELECT FROM di_tags x WHERE x.osf_id = $1 AND x.tag = g.v)"
                 "  ORDER BY v LIMIT 1)), $3"
                 " RETURNING id, version",
                 DB_PARAMS(DB_INT(db_int(r, 0, 0)), DB_TEXT(c->version), DB_TEXT(c->description)),
                 on_new_row, c);
}

static void run_new(struct db_txn *t, void *arg)
{
    struct change *c = arg;

    c->done.status = ADMIN_OK;
    db_txn_query(
        t,
        "SELECT o.id FROM osfs o WHERE ($1::text IS NULL OR o.name = $1)"
        "   AND ($2::bigint IS NULL OR o.id = $2)"
        "   AND (o.tenant_id = $3 OR ($2::bigint IS NOT NULL AND $4::bigint IS NULL))"
        " FOR NO KEY UPDATE",
        DB_PARAMS(DB_TEXT(c->osf), DB_ID(c->osf_id), DB_INT(c->osf_tenant), DB_ID(c->tenant)),
        on_osf, c);
}

/* NULL stays NULL; false: out of memory. */
static bool copy(char **dst, const char *s)
{
    *dst = s ? strdup(s) : NULL;
    return !s || *dst;
}

enum admin_status store_admin_di_new(struct db *db, const struct admin_who *who,
                                     const struct admin_di_new *di, admin_done_fn *fn, void *arg,
                                     struct qvd_error *err)
{
    struct change *c = change_new(db, who, 0, fn, arg);

    if (!c)
        return no_memory(c, err);
    c->osf_id = di->osf_id;
    c->osf_tenant = di->tenant;
    if (!copy(&c->osf, di->osf) || !copy(&c->version, di->version) ||
        !copy(&c->description, di->description) || !copy(&c->tags, di->tags) ||
        !db_txn(db, 0, run_new, tell, c))
        return no_memory(c, err);
    return ADMIN_OK;
}

/* Publication: fixed tags of others stay where they are. */
static const char publish_sql[] =
    "WITH d AS (UPDATE dis SET path = $2, size = $3, sha256 = $4 WHERE id = $1"
    "           RETURNING id, osf_id, version),"
    " r AS (UPDATE di_runtimes SET state = 'published', percentage = 100, status_message = NULL"
    "        WHERE di_id = $1 RETURNING publish_tags),"
    " t AS (SELECT unnest(publish_tags) AS tag FROM r UNION"
    "       SELECT 'default' FROM d WHERE NOT EXISTS"
    "              (SELECT FROM di_tags x WHERE x.osf_id = d.osf_id AND x.tag = 'default'))"
    " INSERT INTO di_tags (di_id, osf_id, tag, fixed)"
    " SELECT d.id, d.osf_id, t.tag, t.tag = d.version FROM d, t"
    " ON CONFLICT (osf_id, tag) DO UPDATE SET di_id = EXCLUDED.di_id WHERE NOT di_tags.fixed";

enum admin_status store_admin_di_publish(struct db *db, int64_t di, const char *path, int64_t size,
                                         const char *sha256, admin_done_fn *fn, void *arg,
                                         struct qvd_error *err)
{
    struct change *c = change_new(db, NULL, di, fn, arg);

    if (!c || !db_query(db, publish_sql,
                        DB_PARAMS(DB_INT(di), DB_TEXT(path), DB_INT(size), DB_TEXT(sha256)),
                        DB_REPEAT, tell, c))
        return no_memory(c, err);
    return ADMIN_OK;
}

static void ignore(void *arg, const struct db_result *r)
{
}

void store_admin_di_progress(struct db *db, int64_t di, double percentage)
{
    const struct db_request *q = db_query(
        db, "UPDATE di_runtimes SET percentage = $2 WHERE di_id = $1 AND state = 'uploading'",
        DB_PARAMS(DB_INT(di), DB_REAL(percentage)), DB_REPEAT, ignore, NULL);

    if (q)
        db_notify_id(db, "api", "di", di);
}

enum admin_status store_admin_di_fail(struct db *db, int64_t di, const char *why, admin_done_fn *fn,
                                      void *arg, struct qvd_error *err)
{
    struct change *c = change_new(db, NULL, di, fn, arg);

    if (!c || !db_query(db,
                        "UPDATE di_runtimes SET state = 'fail', status_message = $2"
                        " WHERE di_id = $1 AND state <> 'published'",
                        DB_PARAMS(DB_INT(di), DB_TEXT(why)), DB_REPEAT, tell, c))
        return no_memory(c, err);
    return ADMIN_OK;
}

enum admin_status store_admin_di_interrupted(struct db *db, admin_done_fn *fn, void *arg,
                                             struct qvd_error *err)
{
    struct change *c = change_new(db, NULL, 0, fn, arg);

    if (!c || !db_query(db,
                        "UPDATE di_runtimes SET state = 'fail', status_message ="
                        " 'qvd-api ended during the copy; delete it and add it again'"
                        " WHERE state = 'uploading'",
                        DB_NO_PARAMS, DB_REPEAT, tell, c))
        return no_memory(c, err);
    return ADMIN_OK;
}

/* Columns: found, published, done. */
static void on_tagged(void *arg, const struct db_result *r)
{
    struct change *c = arg;

    if (db_status(r) == DB_OK && db_rows(r) == 0) {
        c->done.status = ADMIN_NOT_FOUND;
        qvd_error_set(&c->done.err, ADMIN_NOT_FOUND, "there is no di %lld", (long long)c->id);
    } else if (db_status(r) == DB_OK && db_int(r, 0, 0) == 0) {
        c->done.status = ADMIN_CONFLICT;
        qvd_error_set(&c->done.err, ADMIN_CONFLICT, "di %lld: %s", (long long)c->id,
                      db_str(r, 0, 1));
    }
    tell(c, r);
}

enum admin_status store_admin_di_tag(struct db *db, const struct admin_who *who, int64_t di,
                                     const char *tag, admin_done_fn *fn, void *arg,
                                     struct qvd_error *err)
{
    if (!di_tag_valid(tag)) {
        qvd_error_set(err, ADMIN_INVALID,
                      "tag: 1 to %d characters without blanks and commas expected", DI_TAG_MAX);
        return ADMIN_INVALID;
    }
    struct change *c = change_new(db, who, di, fn, arg);
    if (!c ||
        !db_query(db,
                  "WITH d AS (SELECT d.id, d.osf_id, r.state FROM dis d"
                  "             JOIN osfs o ON o.id = d.osf_id JOIN di_runtimes r ON r.di_id = d.id"
                  "            WHERE d.id = $1 AND ($2::bigint IS NULL OR o.tenant_id = $2)),"
                  " t AS (INSERT INTO di_tags (di_id, osf_id, tag)"
                  "       SELECT id, osf_id, $3 FROM d WHERE state = 'published'"
                  "       ON CONFLICT (osf_id, tag) DO UPDATE SET di_id = EXCLUDED.di_id"
                  "        WHERE NOT di_tags.fixed OR di_tags.di_id = EXCLUDED.di_id RETURNING 1)"
                  " SELECT (SELECT count(*) FROM t), CASE WHEN d.state <> 'published'"
                  "   THEN 'it is ' || d.state || '; tags are given to published images'"
                  "   ELSE 'the tag is the version of another image, which keeps it' END FROM d",
                  DB_PARAMS(DB_INT(di), DB_ID(c->tenant), DB_TEXT(tag)), DB_REPEAT, on_tagged, c))
        return no_memory(c, err);
    return ADMIN_OK;
}

enum admin_status store_admin_di_untag(struct db *db, const struct admin_who *who, int64_t di,
                                       const char *tag, admin_done_fn *fn, void *arg,
                                       struct qvd_error *err)
{
    struct change *c = change_new(db, who, di, fn, arg);

    if (!c ||
        !db_query(db,
                  "WITH d AS (SELECT d.id FROM dis d JOIN osfs o ON o.id = d.osf_id"
                  "            WHERE d.id = $1 AND ($2::bigint IS NULL OR o.tenant_id = $2)),"
                  " t AS (DELETE FROM di_tags x USING d WHERE x.di_id = d.id AND x.tag = $3"
                  "          AND NOT x.fixed AND x.tag NOT IN ('head', 'default') RETURNING 1)"
                  " SELECT (SELECT count(*) FROM t), CASE"
                  "   WHEN $3 IN ('head', 'default') THEN 'head and default are moved to another"
                  " image (qa di tag), never taken away'"
                  "   WHEN EXISTS (SELECT FROM di_tags x WHERE x.di_id = d.id AND x.tag = $3)"
                  "   THEN 'the tag is its version, which stays'"
                  "   ELSE 'it has no such tag' END FROM d",
                  DB_PARAMS(DB_INT(di), DB_ID(c->tenant), DB_TEXT(tag)), DB_REPEAT, on_tagged, c))
        return no_memory(c, err);
    return ADMIN_OK;
}

static void on_delete_row(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct change *c = arg;

    if (db_affected(r) == 0)
        refuse(t, c, ADMIN_NOT_FOUND, "di: it has gone meanwhile");
    else
        db_txn_commit(t);
}

/* Columns: why not, path. */
static void on_delete_look(struct db_txn *t, void *arg, const struct db_result *r)
{
    struct change *c = arg;
    char text[256];

    if (db_rows(r) == 0) {
        snprintf(text, sizeof text, "there is no di %lld", (long long)c->id);
        refuse(t, c, ADMIN_NOT_FOUND, text);
        return;
    }
    if (!db_null(r, 0, 0)) {
        snprintf(text, sizeof text, "di %lld not deleted: %s", (long long)c->id, db_str(r, 0, 0));
        refuse(t, c, ADMIN_CONFLICT, text);
        return;
    }
    free(c->path);
    if (!copy(&c->path, db_str(r, 0, 1))) {
        refuse(t, c, ADMIN_AWAY, "out of memory");
        return;
    }
    db_txn_query(t,
                 "UPDATE di_tags x SET di_id = n.id FROM (SELECT e.id, e.osf_id FROM dis e"
                 "  JOIN di_runtimes s ON s.di_id = e.id AND s.state = 'published'"
                 " WHERE e.id <> $1 AND e.osf_id = (SELECT osf_id FROM dis WHERE id = $1)"
                 " ORDER BY e.id DESC LIMIT 1) n"
                 " WHERE x.di_id = $1 AND x.tag IN ('head', 'default')",
                 DB_PARAMS(DB_INT(c->id)), NULL, NULL);
    db_txn_query(t, "DELETE FROM dis WHERE id = $1", DB_PARAMS(DB_INT(c->id)), on_delete_row, c);
}

static void run_delete(struct db_txn *t, void *arg)
{
    struct change *c = arg;

    /* The reason why not is the table's; its text has no place for parameters. */
    static char sql[4096];
    if (!sql[0] && str_format(sql, sizeof sql,
                              "SELECT %s, d.path FROM %s WHERE d.id = $1"
                              " AND ($2::bigint IS NULL OR o.tenant_id = $2) FOR UPDATE OF d",
                              admin_di.keep, admin_di.from) < 0) {
        refuse(t, c, ADMIN_BROKEN, "di: the statement is too long");
        return;
    }
    c->done.status = ADMIN_OK;
    db_txn_query(t, sql, DB_PARAMS(DB_INT(c->id), DB_ID(c->tenant)), on_delete_look, c);
}

enum admin_status store_admin_di_delete(struct db *db, const struct admin_who *who, int64_t di,
                                        admin_di_deleted_fn *fn, void *arg, struct qvd_error *err)
{
    struct change *c = change_new(db, who, di, NULL, arg);

    if (!c)
        return no_memory(c, err);
    c->deleted = fn;
    if (!db_txn(db, 0, run_delete, tell, c))
        return no_memory(c, err);
    return ADMIN_OK;
}
