// SPDX-License-Identifier: GPL-3.0-or-later
/* The JSON that clients read: lists of VMs and tokens. */
#include "wire/l7r.h"

#include <jansson.h>
#include <string.h>

#include "base/str.h"

bool wire_l7r_client_key(const char *name)
{
    return str_starts(name, "qvd.client.") || str_starts(name, "custom.");
}

char *wire_vm_list_format(const struct wire_vm *vms, size_t n)
{
    json_auto_t *list = json_array();

    if (!list)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        /* 0 and 1, not false and true: an existing client reads numbers only. */
        json_t *item = json_pack("{s:I, s:s, s:s, s:i, s:i}", "id", (json_int_t)vms[i].id, "state",
                                 vms[i].state, "name", vms[i].name, "blocked", vms[i].blocked,
                                 "is_application", vms[i].is_application);
        if (!item || json_array_append_new(list, item) < 0)
            return NULL;
    }
    return json_dumps(list, JSON_COMPACT);
}

static must_check int read_id(const json_t *value, uint64_t *ret_id)
{
    if (json_is_string(value))
        return str_to_u64(json_string_value(value), INT64_MAX, ret_id) < 0 ? -EBADMSG : 0;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return -EBADMSG;
    *ret_id = json_integer_value(value);
    return 0;
}

static bool read_flag(const json_t *value)
{
    if (json_is_string(value))
        return !str_eq(json_string_value(value), "") && !str_eq(json_string_value(value), "0");
    return json_is_true(value) || (json_is_integer(value) && json_integer_value(value) != 0);
}

static must_check int read_text(const json_t *value, char *dst, size_t size)
{
    const char *s = json_string_value(value);

    if (!s || strlen(s) != json_string_length(value) || str_copy(dst, size, s) < 0)
        return -EBADMSG;
    return 0;
}

static must_check int read_vm(const json_t *item, struct wire_vm *vm)
{
    if (!json_is_object(item) || read_id(json_object_get(item, "id"), &vm->id) < 0 ||
        read_text(json_object_get(item, "state"), vm->state, sizeof vm->state) < 0 ||
        read_text(json_object_get(item, "name"), vm->name, sizeof vm->name) < 0)
        return -EBADMSG;
    vm->blocked = read_flag(json_object_get(item, "blocked"));
    vm->is_application = read_flag(json_object_get(item, "is_application"));
    return 0;
}

int wire_vm_list_parse(const char *json, size_t len, struct wire_vm **ret_vms, size_t *ret_n)
{
    _cleanup_(free_p) struct wire_vm *vms = NULL;
    json_error_t error;

    json_auto_t *list = json_loadb(json, len, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_array(list) || json_array_size(list) > WIRE_VM_LIST_MAX)
        return -EBADMSG;
    size_t n = json_array_size(list);
    if (n > 0) {
        vms = calloc(n, sizeof *vms);
        if (!vms)
            return -ENOMEM;
    }
    for (size_t i = 0; i < n; i++) {
        int r = read_vm(json_array_get(list, i), &vms[i]);
        if (r < 0)
            return r;
    }
    *ret_vms = TAKE_PTR(vms);
    *ret_n = n;
    return 0;
}

char *wire_token_format(const struct wire_token *t)
{
    json_auto_t *root = json_object();

    if (!root)
        return NULL;
    if (t->auth_params_id &&
        json_object_set_new(root, "auth_params_id", json_integer(t->auth_params_id)) < 0)
        return NULL;
    if (t->token[0]) {
        _cleanup_(free_p) char *coded = base64_encode(t->token, strlen(t->token));
        _cleanup_(free_p) char *line = coded ? str_printf("%s\n", coded) : NULL;
        if (!line || json_object_set_new(root, "auth_token", json_string(line)) < 0)
            return NULL;
    }
    return json_dumps(root, JSON_COMPACT);
}

int wire_token_parse(const char *json, size_t len, struct wire_token *ret)
{
    struct wire_token t = {0};
    _cleanup_(free_p) uint8_t *plain = NULL;
    json_error_t error;
    size_t n = 0;

    json_auto_t *root = json_loadb(json, len, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root))
        return -EBADMSG;
    json_t *id = json_object_get(root, "auth_params_id");
    json_t *token = json_object_get(root, "auth_token");
    if (id && !json_is_null(id) && read_id(id, &t.auth_params_id) < 0)
        return -EBADMSG;
    if (token) {
        const char *s = json_string_value(token);
        int r = s ? base64_decode(s, json_string_length(token), &plain, &n) : -EINVAL;
        if (r == -ENOMEM)
            return r;
        if (r < 0 || str_copy_n(t.token, sizeof t.token, (char *)plain, n) < 0)
            return -EBADMSG;
    }
    *ret = t;
    return 0;
}
