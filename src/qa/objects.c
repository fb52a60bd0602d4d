// SPDX-License-Identifier: GPL-3.0-or-later
/* The objects with their columns, and how a filter becomes a list of them. */
#include <string.h>

#include "base/str.h"
#include "qa/qa.h"

static const struct qa_column host_columns[] = {
    {"Id",         "id", QA_PLAIN},
    {"Name",    "name", QA_PLAIN},
    {"Address",       "address", QA_PLAIN},
    {"HKD",    "heartbeat_age", QA_AGE},
    {"Usable RAM",    "usable_ram", QA_ROUND},
    {"Usable CPU",    "usable_cpu", QA_ROUND},
    {"VMs assigned",        "vms", QA_PLAIN},
    {"Blocked",      "blocked", QA_BIT},
    {"State", "state", QA_PLAIN},
    {0   },
};
static const struct qa_column osf_columns[] = {
    {"Id",      "id", QA_PLAIN},
    {"Name", "name", QA_PLAIN},
    {"RAM",    "memory", QA_PLAIN},
    {"Overlay", "use_overlay", QA_YES},
    {"UserHD",     "user_storage_size", QA_PLAIN},
    {"IsApplication", "is_application", QA_YES},
    {"Hypervisor", "hypervisor", QA_PLAIN},
    {0  },
};
static const struct qa_column di_columns[] = {
    {"Id",      "id", QA_PLAIN},
    {"OSF", "osf", QA_PLAIN},
    {"Version",     "version", QA_PLAIN},
    {"Path", "path", QA_PLAIN},
    {"Tags", "tags", QA_WORDS},
    {"State", "state", QA_PLAIN},
    {"Blocked",    "blocked", QA_BIT},
    {0},
};
static const struct qa_column user_columns[] = {
    {"Id",      "id", QA_PLAIN},
    {"Login", "login", QA_PLAIN},
    {"VMs",   "vms", QA_PLAIN},
    {"Blocked", "blocked", QA_BIT},
    {0    },
};
static const struct qa_column vm_columns[] = {
    {"Id",      "id", QA_PLAIN},
    {"Name", "name", QA_PLAIN},
    {"User",    "user", QA_PLAIN},
    {"Ip", "ip", QA_PLAIN},
    {"OSF",    "osf", QA_PLAIN},
    {"DI_Tag", "di_tag", QA_PLAIN},
    {"DI",      "di", QA_PLAIN},
    {"Host", "host", QA_PLAIN},
    {"State",     "state", QA_PLAIN},
    {"UserState", "user_state", QA_PLAIN},
    {"Blocked",  "blocked", QA_BIT},
    {0},
};
static const struct qa_column config_columns[] = {
    {"Key",     "key", QA_PLAIN},
    {"Value", "value", QA_PLAIN},
    {0  }
};

const struct qa_object qa_objects[] = {
    {"host",                                       "hosts", "Host", "name", "qa host add name=node1 address=192.0.2.11", host_columns},
    {"osf",                                      "OSFs", "OSF", "name", "qa osf add name=MyOSF memory=512", osf_columns},
    {"di", "DIs", "DI", "path", "qa di add path=desktop.tar.zst osf=MyOSF", di_columns},
    {"user",                                            "users", "User", "login", "qa user add login=alice", user_columns},
    {"vm", "virtual machines", "VM", "name", "qa vm add name=desk user=alice osf=MyOSF",
     vm_columns},
    {"config",                                      "settings", "Setting", "key", "qa config set vm.network.dns_server=192.0.2.1",
     config_columns},
    {0                                },
};

int qa_find(struct qa *qa, const char *more, json_t **ret_rows)
{
    struct qvd_error err;
    json_t *answer = NULL, *rows = NULL;
    _cleanup_(free_p) char *fields =
        str_printf("id,%s%s%s", qa->object->label, more ? "," : "", more ? more : "");
    _cleanup_(free_p) char *target =
        fields ? qa_target(qa->object->name, qa->filter, fields, NULL) : NULL;

    if (!target)
        return qa_fail(-ENOMEM, &(struct qvd_error){.text = "out of memory"});
    int r = session_call(qa->session, "GET", target, NULL, &answer, &err);
    if (r != SESSION_OK)
        return qa_fail(r, &err);
    rows = json_incref(json_object_get(answer, "rows"));
    json_decref(answer);
    if (!json_is_array(rows)) {
        json_decref(rows);
        return qa_fail(-EBADMSG, &(struct qvd_error){.text = "the answer has no rows"});
    }
    if (json_array_size(rows) == 0) {
        json_decref(rows);
        if (!qa->quiet)
            fprintf(stderr, "No %s match.\n", qa->object->plural);
        return qa->filter ? QA_NOT_FOUND : QA_OK;
    }
    *ret_rows = rows;
    return 0;
}

int qa_each(struct qa *qa, const json_t *rows,
            int (*fn)(struct qa *qa, json_int_t id, struct qvd_error *err), int *ret_done)
{
    size_t i;
    json_t *row;
    int status = QA_OK, done = 0, failed = 0;

    json_array_foreach(rows, i, row)
    {
        struct qvd_error err = {0};
        int r = fn(qa, json_integer_value(json_object_get(row, "id")), &err);
        if (r == SESSION_OK) {
            done++;
            continue;
        }
        const char *label = json_string_value(json_object_get(row, qa->object->label));
        qvd_error_wrap(&err, "%s %s", qa->object->name, label ? label : "?");
        status = qa_fail(r, &err);
        if (r < 0)
            break; /* the server has gone: the others would fail alike */
        failed++;
    }
    *ret_done = done;
    return failed && done ? QA_SOME_FAILED : status;
}
