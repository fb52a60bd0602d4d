// SPDX-License-Identifier: GPL-3.0-or-later
/* qvd-api: the API of administrators. */
#include <stdio.h>
#include <string.h>

#include "api/process.h"
#include "base/str.h"
#include "conf/main.h"
#include "ipc/api-msg.h"

static struct {
    bool copy;
    uint64_t serve; /* number of sockets + 1 */
} chosen;

static const struct conf_option options[] = {
    {0, "serve", "SOCKETS", "(internal) the process that takes requests" },
    {0, "copy",  NULL,      "(internal) the process that copies an image"},
    {0, NULL,    NULL,      NULL                                         },
};

static int option(void *arg, const struct conf_option *o, const char *value)
{
    if (strcmp(o->name, "copy") == 0)
        chosen.copy = true;
    else if (str_to_u64(value, 64, &chosen.serve) < 0)
        return -EINVAL;
    else
        chosen.serve++;
    return 0;
}

static int check(void *arg, const struct conf *c, struct qvd_error *err)
{
    const char *url = conf_str(c, "api.url");

    if (!str_starts(url, "https://"))
        return qvd_error_set(err, -EINVAL, "api.url = %s: https://ADDRESS:PORT/ expected", url);
    return 0;
}

bool api_file_name_ok(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len > API_FILE_MAX || !utf8_valid(name, len) || strchr(name, '/') ||
        strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f)
            return false;
    return true;
}

bool api_image_name_ok(const char *name)
{
    size_t digits = strspn(name, "0123456789");

    return digits > 0 && digits <= 19 && name[digits] == '-' && api_file_name_ok(name + digits + 1);
}

/* -f FILE, as conf_main() will read it: the children are given the same. */
static const char *find_conf_file(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (str_starts(argv[i], "--config="))
            return argv[i] + strlen("--config=");
        if (str_starts(argv[i], "-f") && argv[i][2])
            return argv[i] + 2;
        if ((strcmp(argv[i], "-f") == 0 || strcmp(argv[i], "--config") == 0) && i + 1 < argc)
            return argv[i + 1];
    }
    return NULL;
}

int main(int argc, char **argv)
{
    const struct conf_program program = {
        .name = "qvd-api",
        .summary = "serves the administration API over HTTPS",
        .files = CONF_IN_NODE,
        .options = options,
        .option = option,
        .check = check,
    };
    int status;

    if (argc == 2 && strcmp(argv[1], "--print-doc") == 0)
        return api_print_doc();
    struct conf *conf = conf_main(&program, argc, argv, &status);
    if (!conf)
        return status;
    if (chosen.copy)
        status = api_copy(conf);
    else if (chosen.serve)
        status = api_serve(conf, (size_t)chosen.serve - 1);
    else
        status = api_master(conf, find_conf_file(argc, argv));
    conf_free(conf);
    return status;
}
