// SPDX-License-Identifier: GPL-3.0-or-later
/* client.conf: /etc/qvd/client.conf, ~/.qvd/client.conf, a file of --config, the later wins; what
 * client.force.* of the first sets, nothing else changes. */
#include <locale.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "client/program.h"
#include "config.h"

#define FORCE "client.force."
#define SYSTEM_FILE QVD_SYSCONFDIR "/client.conf"
#define SHARED_MAX 32

char *program_home_file(const char *name)
{
    const char *home = getenv("HOME");

    return home && *home ? str_printf("%s/%s", home, name) : NULL;
}

static void warn(void *arg, const char *text)
{
    fprintf(stderr, "qvdclient: %s\n", text);
}

/* 0 also when there is none, unless it was asked for. */
static must_check int load(struct conf *conf, const char *path, bool wanted)
{
    struct qvd_error err;
    int r = path ? conf_load(conf, path, &err) : 0;

    if (r == 0 || (r == -ENOENT && !wanted))
        return 0;
    fprintf(stderr, "qvdclient: %s\n", err.text);
    return r;
}

/* --- what is forced ------------------------------------------------------------------------------
 */

/* "client.KEY" as "client.force.KEY"; false: no such key. */
static bool force_name(const char *key, char *dst, size_t size)
{
    return str_starts(key, "client.") && !str_starts(key, FORCE) &&
           str_format(dst, size, FORCE "%s", key + strlen("client.")) == 0;
}

static const char *forced_by(const struct conf *conf, const char *key)
{
    char name[128];

    return conf && force_name(key, name, sizeof name) ? conf_custom(conf, -1, name) : NULL;
}

bool program_forced(const struct program *p, const char *key)
{
    return key && forced_by(p->system, key);
}

bool program_certificates_forced(const struct program *p)
{
    static const char *const keys[] = {
        "client.ssl.allow_untrusted",     "client.ssl.allow_bad_host", "client.ssl.allow_expired",
        "client.ssl.allow_not_yet_valid", "client.ssl.allow_revoked",  "client.ssl.allow_weak_key",
    };

    for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
        if (program_forced(p, keys[i]) && !conf_bool(p->conf, keys[i]))
            return true;
    return false;
}

static must_check int apply_forced(struct program *p)
{
    struct qvd_error err;
    size_t n;
    const struct conf_key *keys = conf_keys(&n);

    for (size_t i = 0; i < n; i++) {
        const char *system = forced_by(p->system, keys[i].key);
        const char *all = forced_by(p->conf, keys[i].key);
        if (all && (!system || strcmp(system, all) != 0))
            fprintf(stderr, "qvdclient: " FORCE "%s counts in " SYSTEM_FILE " only, ignoring\n",
                    keys[i].key + strlen("client."));
        if (system && conf_override(p->conf, keys[i].key, system, &err) < 0) {
            fprintf(stderr, "qvdclient: " SYSTEM_FILE ": " FORCE "%s: %s\n",
                    keys[i].key + strlen("client."), err.text);
            return -EINVAL;
        }
    }
    return 0;
}

int program_conf_load(struct program *p, const char *extra)
{
    _cleanup_(free_p) char *personal = program_home_file(".qvd/client.conf");

    p->system = conf_new(NULL, NULL);
    p->conf = conf_new(warn, NULL);
    if (!p->system || !p->conf)
        return -ENOMEM;
    int r = load(p->system, SYSTEM_FILE, false);
    if (r >= 0)
        r = load(p->conf, SYSTEM_FILE, false);
    if (r >= 0)
        r = load(p->conf, personal, false);
    if (r >= 0 && extra)
        r = load(p->conf, extra, true);
    return r < 0 ? r : apply_forced(p);
}

/* --- what is no option of the command line
 * --------------------------------------------------------
 */

static must_check int set(struct program *p, enum qvdclient_option option, const char *key)
{
    int r = qvdclient_set(p->client, option, conf_str(p->conf, key));

    if (r < 0)
        fprintf(stderr, "qvdclient: %s cannot be %s\n", key, conf_str(p->conf, key));
    return r;
}

/* The folder of personal authorities; a plain name lies below ~/.qvd. */
static must_check int set_personal(struct program *p)
{
    const char *dir = conf_str(p->conf, "path.ssl.ca.personal");
    _cleanup_(free_p) char *below = NULL, *in_home = NULL;

    if (*dir != '/' && !str_starts(dir, "~/")) {
        below = str_printf(".qvd/%s", dir);
        in_home = below ? program_home_file(below) : NULL;
    } else if (*dir == '~') {
        in_home = program_home_file(dir + 2);
    }
    return qvdclient_set(p->client, QVDCLIENT_CA_DIR, in_home ? in_home : dir);
}

/* Both spellings of the list; a variable that is not set is not told. */
static must_check int share_environment(struct program *p)
{
    static const char *const lists[] = {"client.auth_env_share.list.",
                                        "client.auth_env.share.list."};
    char key[64];

    if (!conf_bool(p->conf, "client.auth_env_share.enable"))
        return 0;
    for (unsigned i = 0; i < SHARED_MAX * ARRAY_SIZE(lists); i++) {
        (void)snprintf(key, sizeof key, "%s%u", lists[i / SHARED_MAX], i % SHARED_MAX);
        const char *name = conf_custom(p->conf, -1, key);
        const char *value = name && *name ? getenv(name) : NULL;
        int r = value ? qvdclient_share(p->client, name, value) : 0;
        if (r == -ENOMEM)
            return r;
        if (r < 0)
            fprintf(stderr,
                    "qvdclient: %s = %s: it cannot be sent (a name has letters, digits and _,"
                    " a value at most 1024 bytes); left out\n",
                    key, name);
    }
    return 0;
}

static void set_locale(struct program *p)
{
    const char *name = conf_str(p->conf, "client.locale");

    if (*name)
        (void)setenv("LC_ALL", name, 1);
    if (!setlocale(LC_MESSAGES, "") && *name)
        fprintf(stderr, "qvdclient: client.locale = %s: this machine has no such locale\n", name);
}

int program_conf_apply(struct program *p)
{
    char seconds[24];
    int r = set_personal(p);

    set_locale(p);
    (void)snprintf(seconds, sizeof seconds, "%lld",
                   (long long)(conf_ms(p->conf, "client.reconnect.limit") + 999) / 1000);
    if (r >= 0)
        r = qvdclient_set(p->client, QVDCLIENT_RECONNECT, seconds);
    if (r >= 0)
        r = set(p, QVDCLIENT_CA_SYSTEM_PATH, "path.ssl.ca.system.path");
    if (r >= 0)
        r = set(p, QVDCLIENT_CA_SYSTEM_FILE, "path.ssl.ca.system.file");
    if (r >= 0)
        r = set(p, QVDCLIENT_LOCALE, "client.locale");
    if (r >= 0)
        r = set(p, QVDCLIENT_CRL_FILE, "client.ssl.crl_file");
    if (r >= 0 && conf_bool(p->conf, "client.ssl.use_cert")) {
        r = set(p, QVDCLIENT_CERT_FILE, "client.ssl.cert_file");
        if (r >= 0)
            r = set(p, QVDCLIENT_KEY_FILE, "client.ssl.key_file");
    }
    return r < 0 ? r : share_environment(p);
}

/* --- the log
 * ----------------------------------------------------------------------------------------
 */

static enum log_level level_of(const char *word)
{
    static const struct {
        const char *word;
        enum log_level level;
    } words[] = {
        {"ALL",   LOG_LEVEL_DEBUG  },
        {"TRACE", LOG_LEVEL_DEBUG  },
        {"DEBUG", LOG_LEVEL_DEBUG  },
        {"WARN",  LOG_LEVEL_WARNING},
        {"ERROR", LOG_LEVEL_ERROR  },
        {"FATAL", LOG_LEVEL_ERROR  },
    };

    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcasecmp(words[i].word, word) == 0)
            return words[i].level;
    return LOG_LEVEL_INFO;
}

void program_open_log(struct program *p)
{
    const char *level = conf_str(p->conf, "log.level"), *file = getenv("QVD_DEBUG_FILE");
    _cleanup_(free_p) char *in_home = NULL;

    if (!p->debug || !file || !*file)
        file = conf_str(p->conf, "client.log.filename");
    if (!*file)
        file = conf_str(p->conf, "log.filename");
    if (str_starts(file, "~/")) {
        in_home = program_home_file(file + 2);
        file = in_home ? in_home : file;
    }
    log_set_level(p->debug ? LOG_LEVEL_DEBUG : level_of(level));
    if (!*file || (!p->debug && strcasecmp(level, "OFF") == 0))
        return;
    int r = log_set_file(file);
    p->logs = r >= 0;
    if (r < 0)
        fprintf(stderr, "qvdclient: the log file %s cannot be written: %s; going on without\n",
                file, strerror(-r));
}
