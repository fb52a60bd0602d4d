// SPDX-License-Identifier: GPL-3.0-or-later
/* config get, set, del, ssl. */
#include <string.h>

#include "base/buf.h"
#include "base/fs.h"
#include "base/str.h"
#include "http/uri.h"
#include "qa/qa.h"

/* "config/<key>", escaped; a new string. */
static char *key_target(const char *key)
{
    _cleanup_(buf_done_p) struct buf b = {0};

    if (buf_append_str(&b, "config/") < 0 || http_encode(&b, key) < 0)
        return NULL;
    const char *text = buf_cstr(&b);
    return text ? strdup(text) : NULL;
}

/* "config?key=a,b"; a new string. */
static char *list_target(const struct qa *qa)
{
    _cleanup_(buf_done_p) struct buf b = {0};
    int r = buf_append_str(&b, "config");

    for (int i = 0; r == 0 && i < qa->n_args; i++) {
        r = buf_append_str(&b, i ? "%2C" : "?key=");
        if (r == 0)
            r = http_encode(&b, qa->args[i]);
    }
    const char *text = r == 0 ? buf_cstr(&b) : NULL;
    return text ? strdup(text) : NULL;
}

int qa_config_get(struct qa *qa)
{
    struct qvd_error err;
    json_t *answer = NULL, *row;
    size_t i;
    _cleanup_(free_p) char *target = list_target(qa);
    int r = target ? session_call(qa->session, "GET", target, NULL, &answer, &err)
                   : qvd_error_set(&err, -ENOMEM, "out of memory");

    if (r != SESSION_OK)
        return qa_fail(r, &err);
    const json_t *rows = json_object_get(answer, "rows");
    if (qa->format != QA_TABLE) {
        r = qa_print_rows(qa, rows, qa->object->columns);
    } else {
        json_array_foreach(rows, i, row)
        {
            const char *key = json_string_value(json_object_get(row, "key"));
            const char *value = json_string_value(json_object_get(row, "value"));
            printf("%s=%s\n", key ? key : "", value ? value : "");
        }
    }
    json_decref(answer);
    return r;
}

int qa_config_set(struct qa *qa)
{
    json_t *words = qa_pairs(qa), *value;
    const char *key;
    int status = words && json_object_size(words) ? QA_OK : QA_USAGE;

    if (words && status == QA_USAGE)
        fprintf(stderr, "Syntax error: qa config set KEY=VALUE ...\n");
    if (status == QA_OK) {
        json_object_foreach(words, key, value)
        {
            struct qvd_error err;
            json_t *answer = NULL;
            _cleanup_(free_p) char *target = key_target(key);
            json_t *body = json_pack("{s:O}", "value", value);
            int r = target && body ? session_call(qa->session, "PUT", target, body, &answer, &err)
                                   : qvd_error_set(&err, -ENOMEM, "out of memory");
            const char *warning = json_string_value(json_object_get(answer, "warning"));
            if (warning)
                fprintf(stderr, "Warning: %s\n", warning);
            const char *note = json_string_value(json_object_get(answer, "note"));
            if (note && !qa->quiet)
                fprintf(stderr, "Note: %s\n", note);
            json_decref(answer);
            json_decref(body);
            if (r != SESSION_OK) {
                status = qa_fail(r, &err);
                break;
            }
        }
    }
    json_decref(words);
    return status;
}

int qa_config_del(struct qa *qa)
{
    int status = QA_OK, done = 0;

    if (qa->n_args == 0) {
        fprintf(stderr, "Syntax error: qa config del KEY ...\n");
        return QA_USAGE;
    }
    for (int i = 0; i < qa->n_args; i++) {
        struct qvd_error err;
        _cleanup_(free_p) char *target = key_target(qa->args[i]);
        int r = target ? session_call(qa->session, "DELETE", target, NULL, NULL, &err)
                       : qvd_error_set(&err, -ENOMEM, "out of memory");
        if (r == SESSION_OK) {
            done++;
            continue;
        }
        qvd_error_wrap(&err, "%s", qa->args[i]);
        status = qa_fail(r, &err);
    }
    if (!qa->quiet)
        printf("%d config entries deleted.\n", done);
    return status != QA_OK && done ? QA_SOME_FAILED : status;
}

int qa_config_ssl(struct qa *qa)
{
    json_t *files = qa_pairs(qa), *body = json_object(), *value;
    const char *key;
    struct qvd_error err;
    int status = files && body ? QA_OK : QA_USAGE;

    if (status == QA_OK && (!json_object_get(files, "key") || !json_object_get(files, "cert"))) {
        fprintf(stderr, "Syntax error: qa config ssl key=FILE cert=FILE [ca=FILE] [crl=FILE]\n");
        status = QA_USAGE;
    }
    if (status == QA_OK) {
        json_object_foreach(files, key, value)
        {
            _cleanup_(free_p) char *text = NULL;
            size_t len;
            const char *path = json_string_value(value);
            int r = fs_read(path, 1 << 20, &text, &len);
            if (r < 0) {
                fprintf(stderr, "Error: %s: %s\n", path, strerror(-r));
                status = QA_USAGE;
                break;
            }
            json_object_set_new(body, key, json_string(text));
            explicit_bzero(text, len);
        }
    }
    if (status == QA_OK) {
        int r = session_call(qa->session, "PUT", "ssl", body, NULL, &err);
        status = r == SESSION_OK ? QA_OK : qa_fail(r, &err);
    }
    if (status == QA_OK && !qa->quiet)
        printf("SSL certificate, private key, ca and crl set.\n");
    json_decref(files);
    json_decref(body);
    return status;
}
