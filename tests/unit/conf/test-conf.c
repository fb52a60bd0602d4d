// SPDX-License-Identifier: GPL-3.0-or-later

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/str.h"
#include "conf/conf.h"

static char told[4096];

static void collect(void *arg, const char *text)
{
    size_t n = strlen(told);

    assert_int_equal(str_format(told + n, sizeof told - n, "%s\n", text), 0);
}

static struct conf *load(const char *text)
{
    struct qvd_error err;
    struct conf *c = conf_new(collect, NULL);

    told[0] = 0;
    assert_non_null(c);
    if (conf_load_text(c, "node.conf", text, strlen(text), &err) < 0)
        fail_msg("%s", err.text);
    return c;
}

/* The text is refused with exactly this error, and leaves the settings as they were. */
static void refused(const char *text, const char *expected)
{
    struct qvd_error err = {0};
    struct conf *c = load("nodename = before\n");

    assert_int_equal(conf_load_text(c, "f", text, strlen(text), &err), -EINVAL);
    assert_string_equal(err.text, expected);
    assert_string_equal(conf_str(c, "nodename"), "before");
    conf_free(c);
}

static void test_syntax(void **state)
{
    struct conf *c = load("# comment\n"
                          "! also\n"
                          "\n"
                          "nodename = n1\r\n"
                          "  database.host:db.example.com  \n"
                          "database.name=x # no comment\n"
                          "l7r.port = 1\n"
                          "l7r.port = 9443\n"
                          "path.storage.root = /srv/\\\n"
                          "    qvd\n"
                          "l7r.auth.plugin.default.separators = @\\#\\ \n"
                          "l7r.auth.plugin.default.tenant = back\\\\slash");

    assert_string_equal(conf_str(c, "nodename"), "n1");
    assert_string_equal(conf_str(c, "database.host"), "db.example.com");
    assert_string_equal(conf_str(c, "database.name"), "x # no comment");
    assert_int_equal(conf_int(c, "l7r.port"), 9443);
    assert_string_equal(conf_str(c, "path.storage.root"), "/srv/qvd");
    assert_string_equal(conf_str(c, "path.storage.images"), "/srv/qvd/images");
    assert_string_equal(conf_str(c, "l7r.auth.plugin.default.separators"), "@# ");
    assert_string_equal(conf_str(c, "l7r.auth.plugin.default.tenant"), "back\\slash");
    assert_string_equal(told, "");
    conf_free(c);
}

static void test_types(void **state)
{
    struct conf *c = load("l7r.use_ssl = No\n"
                          "vm.overlay.persistent = TRUE\n"
                          "hkd.sweep.interval = 1h\n"
                          "hkd.heartbeat.interval = 500ms\n"
                          "l7r.limit.head = 2.5\n"
                          "l7r.loadbalancer.plugin.default.weight.ram = 0.25\n"
                          "log.level = debug\n");

    assert_false(conf_bool(c, "l7r.use_ssl"));
    assert_true(conf_bool(c, "vm.overlay.persistent"));
    assert_int_equal(conf_ms(c, "hkd.sweep.interval"), 3600000);
    assert_int_equal(conf_ms(c, "hkd.heartbeat.interval"), 500);
    assert_int_equal(conf_ms(c, "l7r.limit.head"), 2500);
    assert_true(conf_real(c, "l7r.loadbalancer.plugin.default.weight.ram") == 0.25);
    assert_string_equal(conf_str(c, "log.level"), "debug");
    assert_true(conf_is_set(c, "log.level"));
    assert_false(conf_is_set(c, "l7r.port"));
    conf_free(c);
}

static void test_refused(void **state)
{
    refused("a\nl7r.port = 99999\n",
            "f:1: expected \"key = value\" (keys are letters, digits, '.', '_' and '-')");
    refused("\n\nl7r.port = 65536\n",
            "f:3: l7r.port = 65536: must be a whole number between 1 and 65535");
    refused("l7r.port = 0\n", "f:1: l7r.port = 0: must be a whole number between 1 and 65535");
    refused("l7r.port =\n", "f:1: l7r.port = : must be a whole number between 1 and 65535");
    refused("l7r.use_ssl = perhaps\n", "f:1: l7r.use_ssl = perhaps: must be 0 or 1 (or no, yes, "
                                       "off, on, false, true)");
    refused("log.level = LOUD\n",
            "f:1: log.level = LOUD: must be one of: ALL TRACE DEBUG INFO WARN "
            "ERROR FATAL OFF");
    refused("path.run = run\n", "f:1: path.run = run: must be a path that begins with /");
    refused("hkd.sweep.interval = 5 s\n",
            "f:1: hkd.sweep.interval = 5 s: must be a time (seconds, or a number with "
            "ms, s, m, h or d) between 0.5s and 86400s");
    refused("hkd.sweep.interval = 25h\n",
            "f:1: hkd.sweep.interval = 25h: must be a time (seconds, or a number with "
            "ms, s, m, h or d) between 0.5s and 86400s");
    refused("vm.network.gateway = 10.0.0\n",
            "f:1: vm.network.gateway = 10.0.0: must be an IP address");
    refused("path.run = ${path.log}\npath.log = ${path.run}\n",
            "f:1: path.run = ${path.log}: ${...} leads back to itself or is nested too deep");
    refused("path.run = ${no.such}\n",
            "f:1: path.run = ${no.such}: uses ${no.such}, which is not set");
    refused("path.run = /a${path\n", "f:1: path.run = /a${path: has a ${ that is not a ${key}");
    refused("nodename = \xff\n", "f: not UTF-8 text");
    refused("api.password = x\nqa.password = ${nope}\n",
            "f:2: qa.password = ***: uses ${nope}, which is not set");
}

/* Texts and lists that have a syntax: what config-keys.md and the manual give, and what is none. */
static void test_forms(void **state)
{
    static const struct {
        const char *key, *good[4], *bad[5];
    } rows[] = {
        {"database.port",               {"5432", "5432,5433"},                                  {"54x", "0", "65536", "", ","}                   },
        {"database.sslrootcert",        {"", "/etc/ssl/pg.pem"},                                {"pg.pem"}                                       },
        {"log.filename",                {"", "/var/log/qvd/%p.log", "~/qvd.log"},               {"qvd.log"}                                      },
        {"log.syslog.address",
         {"/dev/log", "log.example.com:514", "tcp://[2001:db8::1]:601", "udp://192.0.2.1:514"},
         {"nowhere", "host:0", "tcp://host", "host:514x", "[::1:5"}                                                                              },
        {"l7r.address",                 {"*", "192.0.2.1, ::1"},                                {"1.2.3", "localhost", ""}                       },
        {"l7r.auth.plugins",            {"", "auto,ldap"},                                      {"../ldap", "a;b"}                               },
        {"l7r.trusted_proxies",
         {"", "192.0.2.1, 10.0.0.0/8", "2001:db8::/32"},
         {"balancer", "10.0.0.0/33", "10.0.0.0/8, x"}                                                                                            },
        {"vm.network.bridge",           {"qvdnet0", ""},                                        {"a b", "..", "sixteencharacters", "a/b"}        },
        {"vm.network.uplinks",          {"", "eth1, eth2.100"},                                 {"eth1, much-too-long-a-name"}                   },
        {"vm.network.netmask",
         {"255.255.0.0", "16", "30"},
         {"255.0.255.0", "0", "31", "255.255.255.255", "mask"}                                                                                   },
        {"vm.network.dns_server",       {"", "192.0.2.53, 2001:db8::53"},                       {"ns.example.com"}                               },
        {"vm.network.domain",           {"", "vms.example.com"},                                {"a b", "x,option:6"}                            },
        {"vm.network.mac.prefix",       {"54:52:00"},                                           {"", "55:52:00", "54:52", "zz:00:00", "54-52-00"}},
        {"vma.user.umask",              {"0022", "077"},                                        {"", "0999", "1777", "00022"}                    },
        {"vma.default.lang",            {"C.UTF-8", "es_ES.UTF-8@euro"},                        {"", "a b", "x=y"}                               },
        {"vma.default.client.keyboard", {"pc105/us", "pc105/es"},                               {"", "a,b", "x:y"}                               },
        {"vma.default.client.link",
         {"modem", "LAN", "56k", "2500000"},
         {"", "fast", "0", "1g", "k"}                                                                                                            },
        {"vma.on_action.connect",       {"", "/usr/local/bin/hook"},                            {"hook"}                                         },
        {"api.url",
         {"https://*:3000/", "https://192.0.2.1", "https://[::1]:443/"},
         {"http://*:3000/", "https://host:1/", "https://*:99999/", "https://*:1/x", ""}                                                          },
    };
    struct qvd_error err;

    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        const struct conf_key *key = conf_find(rows[i].key);
        assert_non_null(key);
        for (size_t j = 0; j < 4 && rows[i].good[j]; j++)
            if (conf_check(key, rows[i].good[j], &err) < 0)
                fail_msg("%s = %s: %s", key->key, rows[i].good[j], err.text);
        for (size_t j = 0; j < 5 && rows[i].bad[j]; j++)
            if (conf_check(key, rows[i].bad[j], &err) == 0)
                fail_msg("%s = %s was taken", key->key, rows[i].bad[j]);
    }
    refused("vma.default.client.link = fast\n",
            "f:1: vma.default.client.link = fast: must be modem, isdn, adsl, wan, lan, local or a "
            "rate as 56k, 1m");
}

static void test_limits(void **state)
{
    static char text[4097 * 16];
    struct conf *c;
    size_t n = 0;

    for (int i = 0; i < 4096; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "nodename = %d\n", i);
    c = load(text);
    assert_string_equal(conf_str(c, "nodename"), "4095");
    conf_free(c);
    (void)snprintf(text + n, sizeof text - n, "nodename = x\n");
    refused(text, "f:4097: more than 4096 settings");
}

static void test_unknown(void **state)
{
    struct conf *c = load("l7r.prot = 1\nqwertzuiop = 1\nlog4perl.appender.X = Y\n"
                          "l7r.auth.mode = basic\nvm.kvm.virtio = 5\n");

    assert_string_equal(
        told, "node.conf:1: unknown key l7r.prot; did you mean l7r.port?\n"
              "node.conf:2: unknown key qwertzuiop\n"
              "node.conf:3: log4perl.appender.X is obsolete, ignoring it: use log.target, "
              "log.filename and log.level\n"
              "node.conf:4: l7r.auth.mode is obsolete, ignoring it: use l7r.auth.plugins\n"
              "node.conf:5: vm.kvm.virtio accepted, without effect in this version\n");
    assert_string_equal(conf_custom(c, -1, "qwertzuiop"), "1");
    assert_null(conf_custom(c, -1, "other"));
    conf_free(c);
}

static void test_layers(void **state)
{
    static const struct conf_row rows[] = {
        {-1, "vm.network.domain",  "global"        },
        {-1, "l7r.port",           "1234"          },
        {-1, "l7r.auth.plugins",   "ldap"          },
        {7,  "l7r.auth.plugins",   "auto,${my.key}"},
        {7,  "l7r.port",           "99"            },
        {-1, "log.level",          "OFF"           },
        {-1, "hkd.sweep.interval", "never"         },
        {-1, "my.key",             "mine"          },
        {-1, "path.storage.root",  "/db"           },
        {-1, "client.share.3",     "/never"        },
    };
    struct conf *c = load("l7r.port = 5555\nvm.network.domain = file\nhkd.sweep.interval = 7s\n");
    struct qvd_error err;

    told[0] = 0;
    assert_int_equal(conf_set_rows(c, rows, ARRAY_SIZE(rows)), 0);
    assert_string_equal(conf_str(c, "vm.network.domain"), "global");
    assert_int_equal(conf_int(c, "l7r.port"), 1234);
    assert_int_equal(conf_tenant_int(c, 7, "l7r.port"), 1234);
    assert_string_equal(conf_tenant_str(c, 7, "l7r.auth.plugins"), "auto,mine");
    assert_string_equal(conf_tenant_str(c, 8, "l7r.auth.plugins"), "ldap");
    assert_string_equal(conf_str(c, "log.level"), "INFO");
    assert_int_equal(conf_ms(c, "hkd.sweep.interval"), 7000);
    assert_string_equal(conf_custom(c, 7, "my.key"), "mine");
    assert_string_equal(conf_str(c, "path.storage.images"), "/db/images");
    assert_non_null(strstr(told, "database: hkd.sweep.interval must be a time"));
    assert_non_null(strstr(told, "database: log.level works from files only, ignoring it\n"));
    assert_non_null(strstr(told, "database: l7r.port is not a setting of single tenants, ignoring "
                                 "tenant 7's\n"));
    assert_non_null(strstr(told, "node.conf:1: l7r.port has another value in the database, which "
                                 "is taken\n"));
    assert_int_equal(conf_override(c, "l7r.port", "1", &err), 0);
    assert_int_equal(conf_int(c, "l7r.port"), 1);
    assert_int_equal(conf_override(c, "l7r.port", "x", &err), -EINVAL);
    assert_string_equal(err.text,
                        "option: l7r.port = x: must be a whole number between 1 and 65535");
    assert_int_equal(conf_override(c, "l7r.prt", "1", &err), -EINVAL);
    assert_string_equal(err.text, "unknown key l7r.prt; did you mean l7r.port?");
    assert_int_equal(conf_set_rows(c, NULL, 0), 0);
    assert_string_equal(conf_str(c, "vm.network.domain"), "file");
    assert_int_equal(conf_int(c, "l7r.port"), 1);
    conf_free(c);
}

static void note_change(void *arg, const struct conf_key *key, int64_t tenant, const char *old)
{
    struct conf *c = arg;
    size_t n = strlen(told);

    assert_int_equal(str_format(told + n, sizeof told - n, "%s/%lld:%s>%s\n", key->key,
                                (long long)tenant, old, conf_tenant_str(c, tenant, key->key)),
                     0);
}

static void test_reload(void **state)
{
    char path[] = "/tmp/qvd-test-conf-XXXXXX";
    _cleanup_(close_p) int fd = mkstemp(path);
    static const struct conf_row rows[] = {
        {3, "l7r.auth.plugins", "totp"}
    };
    struct qvd_error err;
    struct conf *c = conf_new(collect, NULL);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, "l7r.port = 1\nnodename = a\n", 26), 26);
    assert_int_equal(conf_load(c, path, &err), 0);
    told[0] = 0;
    conf_on_change(c, note_change, c);
    assert_int_equal(pwrite(fd, "l7r.port = 2\n", 13, 0), 13);
    assert_int_equal(conf_reload(c, &err), 0);
    assert_string_equal(told, "l7r.port/-1:1>2\n");
    told[0] = 0;
    assert_int_equal(conf_set_rows(c, rows, 1), 0);
    assert_string_equal(told, "l7r.auth.plugins/3:>totp\n");
    told[0] = 0;
    assert_int_equal(pwrite(fd, "l7r.port = X\n", 13, 0), 13);
    assert_int_equal(conf_reload(c, &err), -EINVAL);
    assert_string_equal(told, "");
    assert_int_equal(conf_int(c, "l7r.port"), 2);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(conf_reload(c, &err), -ENOENT);
    assert_int_equal(conf_int(c, "l7r.port"), 2);
    assert_int_equal(conf_load(c, path, &err), -ENOENT);
    conf_free(c);
}

static void test_require_and_lists(void **state)
{
    struct conf *c = load("l7r.auth.plugins = auto, ldap\tdefault\n");
    struct qvd_error err;
    const char *at = NULL;
    char word[16];

    assert_int_equal(conf_require(c, &err, "l7r.port", "nodename", NULL), -EINVAL);
    assert_string_equal(err.text, "nodename must be set in node.conf: Name of this node, equal to "
                                  "the name that the host was added with (qa host add name=...)");
    assert_int_equal(conf_require(c, &err, "l7r.port", NULL), 0);
    assert_true(conf_list_next(conf_str(c, "l7r.auth.plugins"), &at, word, sizeof word));
    assert_string_equal(word, "auto");
    assert_true(conf_list_next(conf_str(c, "l7r.auth.plugins"), &at, word, sizeof word));
    assert_string_equal(word, "ldap");
    assert_true(conf_list_next(conf_str(c, "l7r.auth.plugins"), &at, word, 4));
    assert_string_equal(word, "def");
    assert_false(conf_list_next(conf_str(c, "l7r.auth.plugins"), &at, word, sizeof word));
    conf_free(c);
}

/* Each row of the table: a default that fits, limits that hold at limit and limit + 1, a text. */
static void test_table(void **state)
{
    size_t n;
    const struct conf_key *keys = conf_keys(&n);
    struct qvd_error err;
    char text[64];

    assert_true(n > 200);
    for (size_t i = 0; i < n; i++) {
        const struct conf_key *k = &keys[i];

        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(k->key, keys[j].key);
        assert_true(k->text && *k->text && !str_ends(k->text, "."));
        if (k->def && conf_check(k, k->def, &err) < 0 && *k->def)
            fail_msg("default: %s", err.text);
        if (k->type >= CONF_OBSOLETE)
            continue;
        if (k->type == CONF_INT || k->type == CONF_DURATION) {
            const char *unit = k->type == CONF_DURATION ? "ms" : "";

            assert_true(k->min < k->max && k->def);
            for (int d = 0; d < 2; d++) {
                assert_int_equal(
                    str_format(text, sizeof text, "%lld%s", (long long)k->max + d, unit), 0);
                assert_int_equal(conf_check(k, text, &err), d ? -EINVAL : 0);
                assert_int_equal(
                    str_format(text, sizeof text, "%lld%s", (long long)k->min - d, unit), 0);
                assert_int_equal(conf_check(k, text, &err), d ? -EINVAL : 0);
            }
        }
        if (!str_ends(k->key, ".*"))
            assert_ptr_equal(conf_find(k->key), k);
    }
    assert_null(conf_find("client.share."));
    assert_null(conf_find("no.such.key"));
    assert_string_equal(conf_find("client.share.3")->key, "client.share.*");
    assert_string_equal(conf_nearest("qa.paszword"), "qa.password");
}

static void test_dump(void **state)
{
    struct conf *c = load("database.password = hunter2\nauth.ldap.bindpass = hunter3\n"
                          "nodename = n\n");
    char *text;
    size_t len;
    FILE *out = open_memstream(&text, &len);

    conf_dump(c, CONF_IN_NODE, out);
    fclose(out);
    assert_null(strstr(text, "hunter"));
    assert_non_null(strstr(text, "nodename = n\n#   node.conf:3, restart\n"));
    assert_non_null(strstr(text, "database.password = ***\n"));
    assert_non_null(strstr(text, "auth.ldap.bindpass = ***\n"));
    assert_non_null(strstr(text, "l7r.port = 8443\n#   default, restart\n"));
    free(text);
    conf_free(c);
}

/* The templates say of each key what is in force when it is taken as it stands. */
static void test_template(void **state)
{
    for (unsigned file = CONF_IN_NODE; file <= CONF_IN_QA; file <<= 1) {
        struct conf *plain = conf_new(NULL, NULL), *c;
        char *text, *to;
        size_t len, n;
        const struct conf_key *keys = conf_keys(&n);
        FILE *out = open_memstream(&text, &len);

        conf_print_template(file, "x.conf", out);
        fclose(out);
        to = text;
        for (char *s = text; *s; s++) /* "#key = " -> "key = " */
            if (!(s[0] == '#' && s[1] != ' ' && (s == text || s[-1] == '\n')))
                *to++ = *s;
        *to = 0;
        c = load(text);
        for (size_t i = 0; i < n; i++)
            if (!str_ends(keys[i].key, ".*"))
                assert_string_equal(conf_str(c, keys[i].key), conf_str(plain, keys[i].key));
        assert_string_equal(told, "");
        free(text);
        conf_free(c);
        conf_free(plain);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_syntax),  cmocka_unit_test(test_types),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_forms),
        cmocka_unit_test(test_unknown), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_layers),  cmocka_unit_test(test_reload),
        cmocka_unit_test(test_table),   cmocka_unit_test(test_require_and_lists),
        cmocka_unit_test(test_dump),    cmocka_unit_test(test_template),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
