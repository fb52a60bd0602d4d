// SPDX-License-Identifier: GPL-3.0-or-later
/* The tables of what administrators see and change. Adding a field is one row. */
#include "store/admin.h"

#include <string.h>

/* clang-format off */
#define FIELDS(f) .fields = f, .n_fields = ARRAY_SIZE(f)
#define ID_MAX INT64_MAX
/* What a superadministrator adds names its tenant; others' is their own. */
#define TENANT_FIELD(expr)                                                                         \
    {                                                                                              \
        "tenant", ADMIN_TEXT, "(SELECT t.name FROM tenants t WHERE t.id = " expr ")", NULL, NULL,  \
            "rfsc", 1, 80, NULL, "Tenant (superadministrators; default: default)"                  \
    }

static const struct admin_field host_fields[] = {
    {"id", ADMIN_INT, "h.id", NULL, NULL, "dfs", 1, ID_MAX, NULL, "Number"},
    {"name", ADMIN_TEXT, "h.name", "name", NULL, "dfscme", 1, 127, NULL,
     "Name; equals nodename in the node's node.conf"},
    {"address", ADMIN_IP, "host(h.address)", "address", "%s::inet", "dfscme", 0, 0, NULL,
     "Address of the node"},
    {"state", ADMIN_STATE, "r.state", NULL, NULL, "dfs", 0, 0,
     "stopped starting running stopping lost", "State of its qvd-hkd"},
    {"blocked", ADMIN_BOOL, "r.blocked", "blocked", "%s::boolean", "dfsex", 0, 0, NULL,
     "Takes no more VMs"},
    {"vms", ADMIN_INT, "r.assigned", NULL, NULL, "dfs", 0, 0, NULL,
     "VMs that run on it or are on their way"},
    {"usable_ram", ADMIN_REAL, "r.usable_ram", NULL, NULL, "dfs", 0, 0, NULL, "MB"},
    {"usable_cpu", ADMIN_REAL, "r.usable_cpu", NULL, NULL, "dfs", 0, 0, NULL, "Cores"},
    {"free_ram", ADMIN_REAL, "r.free_ram", NULL, NULL, "rfs", 0, 0, NULL, "Share, 0 to 1"},
    {"free_cpu", ADMIN_REAL, "r.free_cpu", NULL, NULL, "rfs", 0, 0, NULL, "Share, 0 to 1"},
    {"heartbeat", ADMIN_TIME, "r.ok_ts", NULL, NULL, "rfs", 0, 0, NULL, "Last sign of life"},
    {"heartbeat_age", ADMIN_REAL, "round(extract(epoch FROM clock_timestamp() - r.ok_ts))", NULL,
     NULL, "dfs", 0, 0, NULL, "Seconds since the last sign of life"},
    {"frontend", ADMIN_BOOL, "h.frontend", "frontend", "%s::boolean", "rfsce", 0, 0, NULL,
     "Takes connections of users"},
    {"backend", ADMIN_BOOL, "h.backend", "backend", "%s::boolean", "rfsce", 0, 0, NULL, "Runs VMs"},
    {"description", ADMIN_TEXT, "h.description", "description", NULL, "rfscen", 0, 4096, NULL,
     "Free text"},
    {"http_requests", ADMIN_INT, "c.http_requests", NULL, NULL, "rfs", 0, 0, NULL, "Since ever"},
    {"auth_attempts", ADMIN_INT, "c.auth_attempts", NULL, NULL, "rfs", 0, 0, NULL, "Since ever"},
    {"auth_ok", ADMIN_INT, "c.auth_ok", NULL, NULL, "rfs", 0, 0, NULL, "Since ever"},
    {"nx_attempts", ADMIN_INT, "c.nx_attempts", NULL, NULL, "rfs", 0, 0, NULL, "Since ever"},
    {"nx_ok", ADMIN_INT, "c.nx_ok", NULL, NULL, "rfs", 0, 0, NULL, "Since ever"},
    {"short_sessions", ADMIN_INT, "c.short_sessions", NULL, NULL, "rfs", 0, 0, NULL, "Since ever"},
    {"created", ADMIN_TIME, "h.created_at", NULL, NULL, "rfs", 0, 0, NULL, "When it was added"},
};
const struct admin_resource admin_host = {
    .name = "host",
    .text = "nodes",
    .table = "hosts",
    .from =
        "hosts h JOIN host_runtimes r ON r.host_id = h.id JOIN host_counters c ON c.host_id = h.id",
    .key = "h.id",
    .companion = "host_runtimes",
    .companion_key = "host_id",
    .keep = "CASE WHEN r.assigned > 0 OR EXISTS (SELECT FROM vm_runtimes v WHERE v.host_id = h.id)"
            " THEN 'VMs run on it; stop them first' WHEN r.state NOT IN ('stopped', 'lost')"
            " AND r.ok_ts > now() - interval '1 minute' THEN 'its qvd-hkd is running; stop it "
            "first' END",
    .properties = "host_properties",
    .sort = "id",
    FIELDS(host_fields),
};

static const struct admin_field osf_fields[] = {
    {"id", ADMIN_INT, "o.id", NULL, NULL, "dfs", 1, ID_MAX, NULL, "Number"},
    {"name", ADMIN_TEXT, "o.name", "name", NULL, "dfscme", 1, 64, NULL, "Name"},
    {"memory", ADMIN_INT, "o.memory", "memory", "%s::integer", "dfsce", 16, 16777216, NULL,
     "Memory of each VM, MB (default: osf.default.memory)"},
    {"use_overlay", ADMIN_BOOL, "o.use_overlay", "use_overlay", "%s::boolean", "dfsce", 0, 0, NULL,
     "VMs may write on their system (default: osf.default.overlay)"},
    {"user_storage_size", ADMIN_INT, "o.user_storage_size", "user_storage_size", "%s::integer",
     "dfscen", 0, 16777216, NULL, "Home of each VM, MB; none: homes live in the overlay"},
    {"user_storage_limit", ADMIN_TEXT,
     "CASE WHEN o.user_storage_size > 0 THEN CASE o.hypervisor WHEN 'kvm' THEN 'enforced' ELSE "
     "'not enforced' END END",
     NULL, NULL, "rfs", 0, 0, NULL, "Does something keep homes below user_storage_size?"},
    {"hypervisor", ADMIN_WORD, "o.hypervisor", "hypervisor", NULL, "dfsc", 0, 0, "lxc kvm nothing",
     "What runs it (default: vm.hypervisor)"},
    {"is_application", ADMIN_BOOL, "o.is_application", "is_application", "%s::boolean", "rfsce", 0,
     0, NULL, "Shows an application in place of a desktop"},
    {"stop_after_disconnect", ADMIN_INT, "o.stop_after_disconnect", "stop_after_disconnect",
     "%s::integer", "rfscen", -1, 5256000, NULL,
     "Minutes after which a VM whose user stays away is stopped; 0 at once, -1 never, empty: "
     "vm.stop_after_disconnect"},
    {"vms", ADMIN_INT, "(SELECT count(*) FROM vms v WHERE v.osf_id = o.id)", NULL, NULL, "rfs", 0,
     0, NULL, "How many VMs use it"},
    {"dis", ADMIN_INT, "(SELECT count(*) FROM dis d WHERE d.osf_id = o.id)", NULL, NULL, "rfs", 0,
     0, NULL, "How many images it has"},
    {"description", ADMIN_TEXT, "o.description", "description", NULL, "rfscen", 0, 4096, NULL,
     "Free text"},
    TENANT_FIELD("o.tenant_id"),
    {"created", ADMIN_TIME, "o.created_at", NULL, NULL, "rfs", 0, 0, NULL, "When it was added"},
};
const struct admin_resource admin_osf = {
    .name = "osf",
    .text = "OS flavours",
    .table = "osfs",
    .from = "osfs o",
    .key = "o.id",
    .tenant = "o.tenant_id",
    .keep = "CASE WHEN EXISTS (SELECT FROM vms v WHERE v.osf_id = o.id) THEN 'VMs use it; delete "
            "them first'"
            " WHEN EXISTS (SELECT FROM dis d WHERE d.osf_id = o.id) THEN"
            " 'it has images; delete them first (qa di del -f osf_id=' || o.id || ')' END",
    .properties = "osf_properties",
    .sort = "id",
    FIELDS(osf_fields),
    .extra_column = "tenant_id",
    .extra_value = "$1::bigint",
};

static const struct admin_field di_fields[] = {
    {"id", ADMIN_INT, "d.id", NULL, NULL, "dfs", 1, ID_MAX, NULL, "Number"},
    {"osf", ADMIN_TEXT, "o.name", "osf_id",
     "(SELECT o.id FROM osfs o WHERE o.name = %s AND o.tenant_id = $1)", "dfsc", 1, 64, NULL,
     "Name of its OSF"},
    {"osf_id", ADMIN_INT, "d.osf_id", "osf_id",
     "(SELECT o.id FROM osfs o WHERE o.id = %s::bigint AND o.tenant_id = $1)", "rfsc", 1, ID_MAX,
     NULL, "Number of its OSF"},
    {"version", ADMIN_TEXT, "d.version", "version", NULL, "dfsc", 1, 64, NULL,
     "Version; default: YYYY-MM-DD-NNN"},
    {"path", ADMIN_TEXT, "d.path", NULL, NULL, "dfsc", 1, 200, NULL,
     "File: of the staging folder when it is added, then <id>-<file> of the images folder"},
    {"tags", ADMIN_LIST,
     "(SELECT coalesce(array_agg(t.tag ORDER BY t.tag), '{}') FROM di_tags t"
     " WHERE t.di_id = d.id)",
     NULL, NULL, "dfc", 0, 0, NULL, "Tags"},
    {"state", ADMIN_WORD, "r.state", NULL, NULL, "dfs", 0, 0,
     "new generating fail uploading upload_stalled verifying ready published retired",
     "How far it is; VMs use it once it is published"},
    {"percentage", ADMIN_REAL, "r.percentage", NULL, NULL, "rfs", 0, 0, NULL,
     "Of the copy, 0 to 100"},
    {"status_message", ADMIN_TEXT, "r.status_message", NULL, NULL, "rf", 0, 0, NULL,
     "Why it failed"},
    {"blocked", ADMIN_BOOL, "d.blocked", "blocked", "%s::boolean", "dfse", 0, 0, NULL,
     "No VM starts with it"},
    {"size", ADMIN_INT, "d.size", NULL, NULL, "rfs", 0, 0, NULL, "Bytes"},
    {"sha256", ADMIN_TEXT, "d.sha256", NULL, NULL, "rf", 0, 0, NULL, "Of the file"},
    {"description", ADMIN_TEXT, "d.description", "description", NULL, "rfscen", 0, 4096, NULL,
     "Free text"},
    TENANT_FIELD("o.tenant_id"),
    {"created", ADMIN_TIME, "d.created_at", NULL, NULL, "rfs", 0, 0, NULL, "When it was added"},
};
const struct admin_resource admin_di = {
    .name = "di",
    .text = "disk images",
    .table = "dis",
    .from = "dis d JOIN osfs o ON o.id = d.osf_id JOIN di_runtimes r ON r.di_id = d.id",
    .key = "d.id",
    .tenant = "o.tenant_id",
    .keep =
        "CASE WHEN EXISTS (SELECT FROM vm_runtimes v WHERE v.current_di_id = d.id AND v.vm_state "
        "<> 'stopped')"
        " THEN 'a VM is running it; stop it first' WHEN NOT EXISTS (SELECT FROM dis e JOIN "
        "di_runtimes s"
        " ON s.di_id = e.id WHERE e.osf_id = d.osf_id AND e.id <> d.id AND s.state = 'published')"
        " AND EXISTS (SELECT FROM vm_next_di n WHERE n.di_id = d.id) THEN"
        " 'VMs start with it and its OSF has no other; delete them first' WHEN EXISTS (SELECT FROM "
        "vm_next_di n"
        " JOIN vms v ON v.id = n.vm_id WHERE n.di_id = d.id AND v.di_tag NOT IN ('head', "
        "'default'))"
        " THEN 'VMs start with it by one of its tags; give them another first (qa vm edit "
        "di_tag=...)' END",
    .properties = "di_properties",
    .sort = "id",
    FIELDS(di_fields),
};

static const struct admin_field user_fields[] = {
    {"id", ADMIN_INT, "u.id", NULL, NULL, "dfs", 1, ID_MAX, NULL, "Number"},
    {"login", ADMIN_LOGIN, "u.login", "login", NULL, "dfscme", 1, 64, NULL,
     "Login, without tenant"},
    {"password", ADMIN_SECRET, NULL, "password", NULL, "cen", 1, 511, NULL,
     "Password; without one nobody can log in as this user"},
    {"blocked", ADMIN_BOOL, "u.blocked", "blocked", "%s::boolean", "dfsce", 0, 0, NULL,
     "May not log in"},
    {"vms", ADMIN_INT, "(SELECT count(*) FROM vms v WHERE v.user_id = u.id)", NULL, NULL, "dfs", 0,
     0, NULL, "How many VMs are his"},
    {"vms_connected", ADMIN_INT,
     "(SELECT count(*) FROM vms v JOIN vm_runtimes m ON m.vm_id = v.id"
     " WHERE v.user_id = u.id AND m.user_state = 'connected')",
     NULL, NULL, "rfs", 0, 0, NULL, "How many of them are in use now"},
    {"language", ADMIN_WORD, "u.language", "language", NULL, "rfsce", 0, 0, "auto default en es",
     "Language"},
    {"description", ADMIN_TEXT, "u.description", "description", NULL, "rfscen", 0, 4096, NULL,
     "Free text"},
    TENANT_FIELD("u.tenant_id"),
    {"created", ADMIN_TIME, "u.created_at", NULL, NULL, "rfs", 0, 0, NULL, "When it was added"},
};
const struct admin_resource admin_user = {
    .name = "user",
    .text = "users",
    .table = "users",
    .from = "users u",
    .key = "u.id",
    .tenant = "u.tenant_id",
    .keep = "CASE WHEN EXISTS (SELECT FROM vms v WHERE v.user_id = u.id)"
            " THEN 'VMs are his; delete them first (qa vm del -f user=' || u.login || ')' END",
    .properties = "user_properties",
    .sort = "id",
    FIELDS(user_fields),
    .extra_column = "tenant_id",
    .extra_value = "$1::bigint",
};

static const struct admin_field vm_fields[] = {
    {"id", ADMIN_INT, "v.id", NULL, NULL, "dfs", 1, ID_MAX, NULL, "Number"},
    {"name", ADMIN_TEXT, "v.name", "name", NULL, "dfscme", 1, 64, NULL, "Name"},
    {"user", ADMIN_LOGIN, "u.login", "user_id",
     "(SELECT u.id FROM users u WHERE u.login = %s AND u.tenant_id = $1)", "dfsc", 1, 64, NULL,
     "Login of its owner"},
    {"user_id", ADMIN_INT, "v.user_id", "user_id",
     "(SELECT u.id FROM users u WHERE u.id = %s::bigint AND u.tenant_id = $1)", "rfsc", 1, ID_MAX,
     NULL, "Number of its owner"},
    {"ip", ADMIN_IP, "host(v.ip)", "ip", "%s::inet", "dfsc", 0, 0, NULL,
     "Address; given at creation (default: the lowest free one) and fixed"},
    {"osf", ADMIN_TEXT, "o.name", "osf_id",
     "(SELECT o.id FROM osfs o WHERE o.name = %s AND o.tenant_id = $1)", "dfsc", 1, 64, NULL,
     "Name of its OSF"},
    {"osf_id", ADMIN_INT, "v.osf_id", "osf_id",
     "(SELECT o.id FROM osfs o WHERE o.id = %s::bigint AND o.tenant_id = $1)", "rfsc", 1, ID_MAX,
     NULL, "Number of its OSF"},
    {"di_tag", ADMIN_TEXT, "v.di_tag", "di_tag", NULL, "dfsce", 1, 128, NULL,
     "Tag of the image it starts with (default: default)"},
    {"di", ADMIN_TEXT, "(SELECT n.path FROM vm_next_di n WHERE n.vm_id = v.id)", NULL, NULL, "dfs",
     0, 0, NULL, "Image that a start takes now"},
    {"di_in_use", ADMIN_TEXT, "(SELECT d.path FROM dis d WHERE d.id = r.current_di_id)", NULL, NULL,
     "rfs", 0, 0, NULL, "Image that runs"},
    {"host", ADMIN_TEXT, "h.name", NULL, NULL, "dfs", 0, 127, NULL, "Node where it runs"},
    {"host_id", ADMIN_INT, "r.host_id", NULL, NULL, "rfs", 1, ID_MAX, NULL, "Number of its node"},
    {"state", ADMIN_STATE, "r.vm_state", NULL, NULL, "dfs", 0, 0,
     "stopped starting_1 starting_2 running stopping_1 stopping_2 zombie_1 zombie_2", "State"},
    {"command", ADMIN_WORD, "r.vm_cmd", NULL, NULL, "rfs", 0, 0, "start stop", "Order that waits"},
    {"user_state", ADMIN_WORD, "r.user_state", NULL, NULL, "dfs", 0, 0,
     "disconnected connecting connected", "Whether somebody uses it"},
    {"user_ip", ADMIN_IP, "host(r.user_ip)", NULL, NULL, "rfs", 0, 0, NULL, "From where"},
    {"blocked", ADMIN_BOOL, "r.blocked", "blocked", "%s::boolean", "dfsex", 0, 0, NULL,
     "Its user may not connect"},
    {"blocked_reason", ADMIN_TEXT, "r.blocked_reason", NULL, NULL, "rf", 0, 0, NULL,
     "Why a failed start has blocked it"},
    {"blocked_time", ADMIN_TIME, "r.blocked_ts", NULL, NULL, "rfs", 0, 0, NULL,
     "Since when it is blocked"},
    {"memory", ADMIN_INT, "o.memory", NULL, NULL, "rfs", 0, 0, NULL, "MB, of its OSF"},
    {"use_overlay", ADMIN_BOOL, "o.use_overlay", NULL, NULL, "rfs", 0, 0, NULL, "Of its OSF"},
    {"user_storage_size", ADMIN_INT, "o.user_storage_size", NULL, NULL, "rfs", 0, 0, NULL,
     "MB, of its OSF"},
    {"expire_soft", ADMIN_TIME, "r.vm_expiration_soft", "vm_expiration_soft", "%s::timestamptz",
     "rfsexn", 0, 0, NULL, "When it asks to restart; of a running VM, empty: never"},
    {"expire_hard", ADMIN_TIME, "r.vm_expiration_hard", "vm_expiration_hard", "%s::timestamptz",
     "rfsexn", 0, 0, NULL, "When it is restarted; of a running VM, empty: never"},
    {"state_time", ADMIN_TIME, "r.vm_state_ts", NULL, NULL, "rfs", 0, 0, NULL,
     "Since when it is in its state"},
    {"run_attempts", ADMIN_INT, "c.run_attempts", NULL, NULL, "rfs", 0, 0, NULL, "Starts"},
    {"run_ok", ADMIN_INT, "c.run_ok", NULL, NULL, "rfs", 0, 0, NULL, "Starts that succeeded"},
    {"description", ADMIN_TEXT, "v.description", "description", NULL, "rfscen", 0, 4096, NULL,
     "Free text"},
    TENANT_FIELD("v.tenant_id"),
    {"created", ADMIN_TIME, "v.created_at", NULL, NULL, "rfs", 0, 0, NULL, "When it was added"},
};
const struct admin_resource admin_vm = {
    .name = "vm",
    .text = "virtual machines",
    .table = "vms",
    .from = "vms v JOIN vm_runtimes r ON r.vm_id = v.id JOIN vm_counters c ON c.vm_id = v.id"
            " JOIN users u ON u.id = v.user_id JOIN osfs o ON o.id = v.osf_id"
            " LEFT JOIN hosts h ON h.id = r.host_id",
    .key = "v.id",
    .tenant = "v.tenant_id",
    .companion = "vm_runtimes",
    .companion_key = "vm_id",
    .keep =
        "CASE WHEN r.vm_state <> 'stopped' OR r.vm_cmd IS NOT NULL"
        " THEN 'it is ' || coalesce('about to ' || r.vm_cmd, r.vm_state) || '; stop it first' END",
    .properties = "vm_properties",
    .sort = "id",
    FIELDS(vm_fields),
    .extra_column = "ip",
    .extra_value = "vm_free_ip($2::inet, $3::integer)",
};

/* clang-format on */

const struct admin_resource *const admin_resources[] = {&admin_host, &admin_osf, &admin_di,
                                                        &admin_user, &admin_vm};
const size_t admin_n_resources = ARRAY_SIZE(admin_resources);

const struct admin_resource *admin_resource_find(const char *name)
{
    for (size_t i = 0; i < admin_n_resources; i++)
        if (strcmp(admin_resources[i]->name, name) == 0)
            return admin_resources[i];
    return NULL;
}

const struct admin_field *admin_field_find(const struct admin_resource *r, const char *name)
{
    for (size_t i = 0; i < r->n_fields; i++)
        if (strcmp(r->fields[i].name, name) == 0)
            return &r->fields[i];
    return NULL;
}

bool admin_may(const struct admin_field *f, char letter)
{
    return strchr(f->may, letter) || (letter == 'r' && strchr(f->may, 'd'));
}

const char *admin_type_name(enum admin_type t)
{
    static const char *const names[] = {
        [ADMIN_INT] = "integer", [ADMIN_REAL] = "number",   [ADMIN_TEXT] = "text",
        [ADMIN_LOGIN] = "text",  [ADMIN_BOOL] = "boolean",  [ADMIN_WORD] = "word",
        [ADMIN_STATE] = "word",  [ADMIN_IP] = "address",    [ADMIN_TIME] = "time",
        [ADMIN_LIST] = "list",   [ADMIN_SECRET] = "secret",
    };

    return names[t];
}
