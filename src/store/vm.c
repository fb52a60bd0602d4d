// SPDX-License-Identifier: GPL-3.0-or-later
#include "store/vm.h"

/* What a start needs, for the two statements that take one; $1 VM, $2 node, $3 key, $4-6 ports.
 * The image is resolved here and nowhere else. */
#define TAKE(extra, from)                                                                          \
    "WITH " extra "r AS (UPDATE vm_runtimes r SET vm_state = 'starting_1',"                        \
    " vm_cmd = nullif(r.vm_cmd, 'start'),"                                                         \
    " vm_address = v.ip, vm_vma_port = $4, vm_x_port = $5, vm_ssh_port = $6, vm_pid = NULL,"       \
    " vma_ok_ts = NULL, current_osf_id = v.osf_id,"                                                \
    " current_di_id = (SELECT di_id FROM vm_next_di WHERE vm_id = $1)"                             \
    "  FROM vms v WHERE r.vm_id = $1 AND v.id = r.vm_id AND r.host_id = $2 AND " from              \
    " RETURNING r.vm_id, r.current_di_id),"                                                        \
    "n AS (UPDATE vm_counters c SET run_attempts = run_attempts + 1 FROM r"                        \
    " WHERE c.vm_id = r.vm_id),"                                                                   \
    "s AS (INSERT INTO vm_secrets (vm_id, secret) SELECT vm_id, $3 FROM r"                         \
    " ON CONFLICT (vm_id) DO UPDATE SET secret = EXCLUDED.secret, created_at = now())"             \
    " SELECT v.id, v.user_id, v.osf_id, r.current_di_id, v.name, v.di_tag, d.version, d.path,"     \
    " o.hypervisor, host(v.ip), o.memory, o.use_overlay,"                                          \
    " coalesce(o.user_storage_size, 0) > 0"                                                        \
    "  FROM r JOIN vms v ON v.id = r.vm_id JOIN osfs o ON o.id = v.osf_id"                         \
    "  LEFT JOIN dis d ON d.id = r.current_di_id"

static struct db_request *take(struct db *db, const char *sql, int64_t host, int64_t vm,
                               const struct store_vm_ports *p, const void *secret, db_done_fn *done,
                               void *arg)
{
    return db_query(db, sql,
                    DB_PARAMS(DB_INT(vm), DB_INT(host), DB_BYTES(secret, STORE_SECRET_LEN),
                              DB_INT(p->vma), DB_INT(p->x), DB_INT(p->ssh)),
                    0, done, arg);
}

/* Not sent twice by itself: the second time would find the row taken and answer "nothing", and the
 * VM would wait for the sweep, which finds it in starting_1 and takes it again. */
struct db_request *store_vm_take_start(struct db *db, int64_t host, int64_t vm,
                                       const struct store_vm_ports *ports, const void *secret,
                                       db_done_fn *done, void *arg)
{
    return take(db,
                TAKE("x AS (UPDATE vm_runtimes SET vm_cmd = NULL, host_id = NULL"
                     " WHERE vm_id = $1 AND host_id = $2 AND vm_state = 'stopped'"
                     " AND vm_cmd = 'stop' RETURNING vm_id),"
                     "h AS (UPDATE host_runtimes SET assigned = greatest(assigned - 1, 0)"
                     " WHERE host_id = $2 AND EXISTS (SELECT FROM x)),",
                     "r.vm_state = 'stopped' AND r.vm_cmd = 'start'"),
                host, vm, ports, secret, done, arg);
}

struct db_request *store_vm_retake_start(struct db *db, int64_t host, int64_t vm,
                                         const struct store_vm_ports *ports, const void *secret,
                                         db_done_fn *done, void *arg)
{
    return take(db, TAKE("", "r.vm_state = 'starting_1'"), host, vm, ports, secret, done, arg);
}

int store_vm_read_start(const struct db_result *r, struct store_vm_start *ret,
                        struct qvd_error *err)
{
    struct store_vm_start v;

    if (db_rows(r) == 0)
        return 0;
    v = (struct store_vm_start){
        .vm_id = db_int(r, 0, 0),
        .user_id = db_int(r, 0, 1),
        .osf_id = db_int(r, 0, 2),
        .di_id = db_int(r, 0, 3),
        .memory_mb = (uint32_t)db_int(r, 0, 10),
        .use_overlay = db_bool(r, 0, 11),
        .own_home = db_bool(r, 0, 12),
    };
    if (db_copy(r, 0, 4, v.name, sizeof v.name) < 0 || db_copy(r, 0, 5, v.tag, sizeof v.tag) < 0 ||
        db_copy(r, 0, 8, v.hypervisor, sizeof v.hypervisor) < 0 ||
        db_copy(r, 0, 9, v.ip, sizeof v.ip) < 0 ||
        (v.di_id && (db_copy(r, 0, 6, v.version, sizeof v.version) < 0 ||
                     db_copy(r, 0, 7, v.image, sizeof v.image) < 0)))
        return qvd_error_set(err, -EINVAL, "vm %lld: a text of its row is too long",
                             (long long)v.vm_id);
    *ret = v;
    return 1;
}

/* When its user has stayed away too long; only after a session of this run. f is its OSF, minutes
 * the parameter for those that have none of their own. */
#define IDLE_AT(minutes)                                                                           \
    "CASE WHEN r.user_state = 'disconnected' AND r.user_state_ts > r.vm_cmd_ts"                    \
    " AND coalesce(f.stop_after_disconnect, " minutes ") >= 0 THEN r.user_state_ts"                \
    " + coalesce(f.stop_after_disconnect, " minutes ") * interval '1 minute' END"
#define MS_UNTIL(time) "(extract(epoch FROM (" time ") - clock_timestamp()) * 1000)::bigint"
#define RFC3339(time) "to_char((" time ") AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
/* The columns of a store_vm_due. */
#define DUE(soft, hard, idle)                                                                      \
    MS_UNTIL(soft)                                                                                 \
    "," MS_UNTIL(hard) "," MS_UNTIL(idle) "," RFC3339(soft) "," RFC3339(hard)

static int64_t ms_until(const struct db_result *r, int row, int col)
{
    return db_null(r, row, col) ? STORE_NEVER : db_int(r, row, col);
}

static void read_due(const struct db_result *r, int row, int col, struct store_vm_due *ret)
{
    *ret = (struct store_vm_due){.soft_ms = ms_until(r, row, col),
                                 .hard_ms = ms_until(r, row, col + 1),
                                 .idle_ms = ms_until(r, row, col + 2)};
    if (db_copy(r, row, col + 3, ret->soft, sizeof ret->soft) < 0)
        ret->soft[0] = 0;
    if (db_copy(r, row, col + 4, ret->hard, sizeof ret->hard) < 0)
        ret->hard[0] = 0;
}

/* May be sent twice: an order to stop stays on the row until a state is told that obeys it, and
 * what was due becomes an order. Where the VM is on its way to its end there is nothing to obey. */
struct db_request *store_vm_look(struct db *db, int64_t host, int64_t vm,
                                 const struct store_vm_rules *rules, db_done_fn *done, void *arg)
{
    return db_query(
        db,
        "WITH o AS (SELECT r.vm_id, r.vm_cmd, r.vm_cmd_id, r.vm_state = 'running' AS runs,"
        " r.vm_state NOT IN ('starting_1', 'starting_2', 'running') AS ends,"
        " r.vm_expiration_soft AS soft, r.vm_expiration_hard AS hard, " IDLE_AT(
            "$3") " AS idle"
                  "  FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id"
                  "  JOIN osfs f ON f.id = coalesce(r.current_osf_id, v.osf_id)"
                  "  WHERE r.vm_id = $1 AND r.host_id = $2 AND r.vm_state <> 'stopped'"
                  "  FOR NO KEY UPDATE OF r),"
                  "w AS (SELECT o.*, CASE WHEN vm_cmd = 'stop' THEN 1 WHEN NOT runs THEN 0"
                  "  WHEN vm_cmd = 'start' OR hard <= clock_timestamp() THEN 2"
                  "  WHEN idle <= clock_timestamp() THEN 3 ELSE 0 END AS wish FROM o),"
                  "u AS (UPDATE vm_runtimes r SET"
                  "  vm_cmd = CASE WHEN w.wish = 1 THEN NULL"
                  "   WHEN w.vm_cmd = 'start' OR w.wish = 2 AND $4::boolean THEN 'start'"
                  "   ELSE 'stop' END,"
                  "  vm_expiration_soft = CASE WHEN w.wish <> 2 THEN r.vm_expiration_soft END,"
                  "  vm_expiration_hard = CASE WHEN w.wish <> 2 THEN r.vm_expiration_hard END"
                  "  FROM w WHERE r.vm_id = w.vm_id AND (w.wish > 1 OR w.wish = 1 AND w.ends)"
                  "  RETURNING r.vm_cmd, r.vm_cmd_id)"
                  " SELECT wish, CASE WHEN wish = 1 THEN vm_cmd_id"
                  "  ELSE (SELECT vm_cmd_id FROM u WHERE vm_cmd = 'stop') END,"
                  " CASE WHEN wish = 0 AND runs AND soft <= clock_timestamp() THEN "
                  "nextval('serials') END, " DUE("soft", "hard", "idle") " FROM w",
        DB_PARAMS(DB_INT(vm), DB_INT(host), DB_INT(rules->idle_minutes), DB_BOOL(rules->restart)),
        DB_REPEAT, done, arg);
}

bool store_vm_read_look(const struct db_result *r, struct store_vm_seen *ret)
{
    if (db_rows(r) == 0)
        return false;
    *ret = (struct store_vm_seen){.wish = (enum store_vm_wish)db_int(r, 0, 0),
                                  .stop_serial = db_int(r, 0, 1)};
    read_due(r, 0, 3, &ret->due);
    ret->due.serial = db_int(r, 0, 2);
    return true;
}

struct db_request *store_vm_serial(struct db *db, db_done_fn *done, void *arg)
{
    return db_query(db, "SELECT nextval('serials')", DB_NO_PARAMS, DB_REPEAT, done, arg);
}

int64_t store_vm_read_serial(const struct db_result *r)
{
    return db_rows(r) == 0 ? 0 : db_int(r, 0, 0);
}

struct db_request *store_vm_tell(struct db *db, int64_t host, int64_t vm,
                                 const struct store_vm_news *news, db_done_fn *done, void *arg)
{
    return db_query(
        db,
        "WITH o AS (SELECT vm_id, vm_state FROM vm_runtimes"
        " WHERE vm_id = $1 AND host_id = $2 AND vm_state <> 'stopped' FOR UPDATE),"
        "r AS (UPDATE vm_runtimes r SET vm_state = $3, vm_pid = $4,"
        " vm_cmd = CASE WHEN $3 IN ('starting_1', 'starting_2', 'running') THEN r.vm_cmd"
        "  ELSE nullif(r.vm_cmd, 'stop') END,"
        " vma_ok_ts = CASE WHEN $5::boolean THEN now() ELSE r.vma_ok_ts END,"
        " blocked = r.blocked OR $6::text IS NOT NULL,"
        " blocked_reason = coalesce($6, r.blocked_reason)"
        "  FROM o WHERE r.vm_id = o.vm_id RETURNING r.*),"
        /* Counted once, however often it is told. */
        "n AS (UPDATE vm_counters c SET run_ok = run_ok + 1 FROM o"
        " WHERE c.vm_id = o.vm_id AND o.vm_state <> 'running' AND $3 = 'running')"
        " SELECT r.l7r_instance_id, r.vm_cmd, " DUE(
            "r.vm_expiration_soft", "r.vm_expiration_hard",
            IDLE_AT("$7")) " FROM r JOIN vms v ON v.id = r.vm_id"
                           " JOIN osfs f ON f.id = coalesce(r.current_osf_id, v.osf_id)",
        DB_PARAMS(DB_INT(vm), DB_INT(host), DB_TEXT(vm_state_to_string(news->state)),
                  DB_ID(news->pid), DB_BOOL(news->alive), DB_TEXT(news->reason),
                  DB_INT(news->idle_minutes)),
        DB_REPEAT, done, arg);
}

struct db_request *store_vm_stopped(struct db *db, int64_t host, int64_t vm, bool restart,
                                    const char *reason, db_done_fn *done, void *arg)
{
    return db_query(
        db,
        "WITH o AS (SELECT vm_id, $4::text IS NULL AND coalesce(vm_cmd = 'start', $3) AS again"
        " FROM vm_runtimes"
        " WHERE vm_id = $1 AND host_id = $2 AND vm_state <> 'stopped' FOR UPDATE),"
        "r AS (UPDATE vm_runtimes r SET vm_state = 'stopped', vm_pid = NULL, vma_ok_ts = NULL,"
        " vm_cmd = CASE WHEN o.again THEN 'start' END,"
        " host_id = CASE WHEN o.again THEN r.host_id END,"
        " vm_address = NULL, vm_vma_port = NULL, vm_x_port = NULL, vm_ssh_port = NULL,"
        " vm_vnc_port = NULL, vm_serial_port = NULL, current_osf_id = NULL, current_di_id = NULL,"
        " blocked = r.blocked OR $4::text IS NOT NULL,"
        " blocked_reason = coalesce($4, r.blocked_reason)"
        "  FROM o WHERE r.vm_id = o.vm_id"
        " RETURNING r.vm_id, r.l7r_instance_id, r.vm_cmd, r.host_id),"
        "s AS (DELETE FROM vm_secrets s USING r WHERE s.vm_id = r.vm_id),"
        "h AS (UPDATE host_runtimes h SET assigned = greatest(assigned - 1, 0)"
        " WHERE h.host_id = $2 AND EXISTS (SELECT FROM r WHERE host_id IS NULL))"
        " SELECT l7r_instance_id, vm_cmd FROM r",
        DB_PARAMS(DB_INT(vm), DB_INT(host), DB_BOOL(restart), DB_TEXT(reason)), DB_REPEAT, done,
        arg);
}

static enum vm_cmd order(const char *word)
{
    return word ? vm_cmd_from_string(word) : VM_CMD_NONE;
}

bool store_vm_read_told(const struct db_result *r, int64_t *ret_instance, enum vm_cmd *ret_order)
{
    if (db_rows(r) == 0)
        return false;
    *ret_instance = db_int(r, 0, 0);
    *ret_order = order(db_str(r, 0, 1));
    return true;
}

void store_vm_told_due(const struct db_result *r, struct store_vm_due *ret)
{
    read_due(r, 0, 2, ret);
}

void store_vm_notify(struct db *db, int64_t vm, int64_t instance)
{
    char channel[32];

    if (instance) {
        snprintf(channel, sizeof channel, "l%lld", (long long)instance);
        db_notify_id(db, channel, "vm", vm);
    }
    db_notify_id(db, "api", "vm", vm);
}

struct db_request *store_vm_of_host(struct db *db, int64_t host, bool secrets, int64_t idle_minutes,
                                    db_done_fn *done, void *arg)
{
    return db_query(
        db,
        "SELECT r.vm_id, r.vm_state, r.vm_cmd, r.vm_cmd_id, f.hypervisor, host(v.ip), " DUE(
            "r.vm_expiration_soft", "r.vm_expiration_hard",
            IDLE_AT("$3")) ", s.secret FROM vm_runtimes r JOIN vms v ON v.id = r.vm_id"
                           "  JOIN osfs f ON f.id = coalesce(r.current_osf_id, v.osf_id)"
                           "  LEFT JOIN vm_secrets s ON $2::boolean AND s.vm_id = r.vm_id"
                           " WHERE r.host_id = $1 ORDER BY r.vm_cmd_id",
        DB_PARAMS(DB_INT(host), DB_BOOL(secrets), DB_INT(idle_minutes)), DB_REPEAT, done, arg);
}

int store_vm_read_row(const struct db_result *r, int row, struct store_vm_row *ret)
{
    struct store_vm_row v = {
        .vm_id = db_int(r, row, 0),
        .state = vm_state_from_string(db_str(r, row, 1)),
        .order = order(db_str(r, row, 2)),
        .order_id = db_int(r, row, 3),
    };

    if (v.state == VM_STATE_INVALID || v.order == VM_CMD_INVALID)
        return -EINVAL;
    if (db_copy(r, row, 4, v.hypervisor, sizeof v.hypervisor) < 0 ||
        db_copy(r, row, 5, v.ip, sizeof v.ip) < 0)
        return -EINVAL;
    read_due(r, row, 6, &v.due);
    v.has_secret = db_bytes(r, row, 11, v.secret, sizeof v.secret) == 0;
    *ret = v;
    return 0;
}

struct db_request *store_vm_release(struct db *db, int64_t host, db_done_fn *done, void *arg)
{
    return db_query(db,
                    "WITH r AS (UPDATE vm_runtimes SET host_id = NULL, vm_cmd = NULL"
                    " WHERE host_id = $1 AND vm_state = 'stopped'"
                    " AND vm_cmd IS DISTINCT FROM 'start' RETURNING vm_id),"
                    "h AS (UPDATE host_runtimes SET assigned ="
                    " greatest(assigned - (SELECT count(*) FROM r)::integer, 0)"
                    " WHERE host_id = $1 AND EXISTS (SELECT FROM r))"
                    " SELECT vm_id FROM r",
                    DB_PARAMS(DB_INT(host)), DB_REPEAT, done, arg);
}

struct db_request *store_vm_addresses(struct db *db, db_done_fn *done, void *arg)
{
    return db_query(db, "SELECT id, host(ip) FROM vms", DB_NO_PARAMS, DB_REPEAT, done, arg);
}

struct db_request *store_vm_addresses_mark(struct db *db, db_done_fn *done, void *arg)
{
    return db_query(db, "SELECT count(*) || ' ' || coalesce(max(id), 0) FROM vms", DB_NO_PARAMS,
                    DB_REPEAT, done, arg);
}
