// SPDX-License-Identifier: GPL-3.0-or-later
/* Which certificates the person has accepted: for this run, by a fingerprint given, or for ever in
 * accepted_certs.json. The file is an object; each key is "sha256$<fingerprint>", its value
 * {algo, fingerprint, description, hosts, errors}: a certificate is silent for these hosts and
 * these errors only. */
#include <ctype.h>
#include <fcntl.h>
#include <jansson.h>
#include <pwd.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/str.h"
#include "client/client-internal.h"

#define FILE_MAX (1024 * 1024)

char *client_home_path(const char *name)
{
    const char *home = getenv("HOME");

    if (!home || !*home) {
        struct passwd *pw = getpwuid(getuid());
        home = pw ? pw->pw_dir : NULL;
    }
    return home ? str_printf("%s/%s", home, name) : NULL;
}

static char *file_path(struct qvdclient *c)
{
    const char *set = client_option(c, QVDCLIENT_TRUST_FILE);

    return *set ? strdup(set) : client_home_path(".qvd/accepted_certs.json");
}

/* What is in the file; an empty object when there is none or it cannot be read. */
static json_t *load(struct qvdclient *c, const char *path)
{
    _cleanup_(free_p) char *text = NULL;
    size_t len = 0;
    json_t *all = NULL;
    int r = path ? fs_read(path, FILE_MAX, &text, &len) : -ENOENT;

    if (r >= 0)
        all = json_loadb(text, len, 0, NULL);
    if (r != -ENOENT && !json_is_object(all))
        client_debug(c, "%s cannot be read; no certificate of it is accepted", path);
    if (!json_is_object(all)) {
        json_decref(all);
        all = json_object();
    }
    return all;
}

static bool has_host(json_t *entry, const char *host)
{
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(entry, "hosts"), i, item)
    {
        if (json_is_string(item) && strcasecmp(json_string_value(item), host) == 0)
            return true;
    }
    return false;
}

static bool has_error(json_t *entry, int fault)
{
    json_t *item;
    size_t i;

    json_array_foreach(json_object_get(entry, "errors"), i, item)
    {
        if (json_is_integer(item) && json_integer_value(item) == fault)
            return true;
    }
    return false;
}

static bool covers(const struct client_cert *accepted, const struct client_cert *cert)
{
    if (strcmp(accepted->fingerprint, cert->fingerprint) != 0)
        return false;
    for (size_t i = 0; i < cert->n_faults; i++) {
        bool found = false;
        for (size_t k = 0; k < accepted->n_faults; k++)
            found = found || accepted->faults[k] == cert->faults[i];
        if (!found)
            return false;
    }
    return true;
}

static void entry_key(const struct client_cert *cert, char *dst, size_t size)
{
    if (str_format(dst, size, "sha256$%s", cert->fingerprint) < 0)
        dst[0] = '\0';
}

enum client_trust client_trust_check(struct qvdclient *c, const struct client_cert *cert)
{
    _cleanup_(free_p) char *path = file_path(c);
    enum client_trust result = TRUST_NO;
    const char *name;
    char key[80];
    json_t *entry;

    if (client_flag(c, QVDCLIENT_INSECURE) ||
        client_fingerprint_equal(client_option(c, QVDCLIENT_FINGERPRINT), cert->fingerprint) ||
        (c->accepted_now.fingerprint[0] && covers(&c->accepted_now, cert)))
        return TRUST_YES;
    json_t *all = load(c, path);
    entry_key(cert, key, sizeof key);
    entry = json_object_get(all, key);
    if (entry && has_host(entry, c->host_port)) {
        result = TRUST_YES;
        for (size_t i = 0; i < cert->n_faults; i++)
            if (!has_error(entry, cert->faults[i]))
                result = TRUST_NO;
    } else {
        json_object_foreach(all, name, entry)
        {
            if (has_host(entry, c->host_port))
                result = TRUST_CHANGED;
        }
    }
    json_decref(all);
    return result;
}

/* The host belongs to one certificate: a new one takes the place of the former. */
static void forget_host(json_t *all, const char *host)
{
    const char *name;
    void *next;
    json_t *entry;

    json_object_foreach_safe(all, next, name, entry)
    {
        json_t *hosts = json_object_get(entry, "hosts");
        for (size_t i = json_array_size(hosts); i-- > 0;) {
            const char *item = json_string_value(json_array_get(hosts, i));
            if (item && strcasecmp(item, host) == 0)
                json_array_remove(hosts, i);
        }
        if (hosts && json_array_size(hosts) == 0)
            json_object_del(all, name);
    }
}

static json_t *make_entry(json_t *old, const struct client_cert *cert, const char *host)
{
    json_t *hosts = json_object_get(old, "hosts"), *errors = json_array();

    hosts = hosts ? json_incref(hosts) : json_array();
    json_array_append_new(hosts, json_string(host));
    for (size_t i = 0; i < cert->n_faults; i++)
        json_array_append_new(errors, json_integer(cert->faults[i]));
    return json_pack("{s:s, s:s, s:s, s:o, s:o}", "algo", "sha256", "fingerprint",
                     cert->fingerprint, "description",
                     utf8_valid(cert->subject, strlen(cert->subject)) ? cert->subject : "", "hosts",
                     hosts, "errors", errors);
}

static must_check int store(const char *path, json_t *all)
{
    _cleanup_(free_p) char *text = json_dumps(all, JSON_INDENT(2) | JSON_SORT_KEYS);

    return text ? fs_write_atomic(path, text, strlen(text), 0600) : -ENOMEM;
}

/* Two clients that remember at once must not forget for each other: the folder is locked. -EBADF:
 * a path without a folder, not locked. */
static int lock_folder(const char *path)
{
    _cleanup_(free_p) char *dir = strdup(path);
    char *slash = dir ? strrchr(dir, '/') : NULL;

    if (!slash || slash == dir)
        return -EBADF;
    *slash = '\0';
    if (mkdir(dir, 0700) < 0 && errno != EEXIST)
        return -errno;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        (void)flock(fd, LOCK_EX);
    return fd;
}

int client_trust_add(struct qvdclient *c, const struct client_cert *cert)
{
    _cleanup_(free_p) char *path = file_path(c);
    _cleanup_(close_p) int lock = path ? lock_folder(path) : -ENOENT;
    char key[80];

    if (lock < 0 && lock != -EBADF)
        return lock;
    json_t *all = load(c, path);
    entry_key(cert, key, sizeof key);
    forget_host(all, c->host_port);
    json_t *old = json_incref(json_object_get(all, key));
    json_t *entry = make_entry(old, cert, c->host_port);
    int r = entry && json_object_set_new(all, key, entry) == 0 ? store(path, all) : -ENOMEM;
    json_decref(old);
    json_decref(all);
    return r;
}

bool client_fingerprint_equal(const char *a, const char *b)
{
    size_t n = 0;

    for (;;) {
        while (*a == ':' || *a == ' ')
            a++;
        while (*b == ':' || *b == ' ')
            b++;
        if (!*a || !*b)
            return !*a && !*b && n == 64;
        if (tolower((unsigned char)*a++) != tolower((unsigned char)*b++))
            return false;
        n++;
    }
}
