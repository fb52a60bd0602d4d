// SPDX-License-Identifier: GPL-3.0-or-later
/* The agent's rules and parsers that touch nothing: accounts, options, ports, environment,
 * messages, serials. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/str.h"
#include "vma/account.h"
#include "vma/agent.h"
#include "vma/environ.h"
#include "vma/msg.h"
#include "vma/options.h"
#include "vma/orders.h"
#include "vma/region.h"
#include "vma/session-file.h"
#include "wire/l7r.h"

static void test_unix_names(void **state)
{
    static const char *const names[][2] = {
        {"ann",                                   "ann"                             },
        {"ann-2_x",                               "ann-2_x"                         },
        {"Ann.Smith@corp",                        "ann_smith_corp"                  },
        {"9lives",                                "_9lives"                         },
        {"-rf",                                   "_-rf"                            },
        {"../etc",                                "___etc"                          },
        {"a b;c\n",                               "a_b_c_"                          },
        {"\xc3\xb1",                              "__"                              },
        {"0123456789012345678901234567890123",    "_0123456789012345678901234567890"},
        {"abcdefghijklmnopqrstuvwxyzabcdefghijk", "abcdefghijklmnopqrstuvwxyzabcdef"},
    };
    char name[ACCOUNT_LOGIN_MAX + 1];

    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        assert_int_equal(account_unix_name(names[i][0], name), 0);
        assert_string_equal(name, names[i][1]);
    }
    assert_int_equal(account_unix_name("", name), -EINVAL);
}

#define NONE .want_uid = -1, .want_gid = -1, .login = "ann", .home = "/home/ann", .next_free = 1003

static void test_accounts(void **state)
{
    static const struct {
        struct account_facts facts;
        int result;
        struct account_plan plan;
        const char *text;
    } cases[] = {
  /* New: the first ordinary number, the home's, the plugin's. */
        {{NONE},                                                                                 0,      {ACCOUNT_ADD, 1000, 1000, true},     NULL                         },
        {{NONE, .uid_taken_by = "bob"},                                                          0,      {ACCOUNT_ADD, 1003, 1003, true},     NULL                         },
        {{NONE, .home_exists = true, .home_uid = 4321, .home_gid = 4322},
         0,                                                                                              {ACCOUNT_ADD, 4321, 4322, false},
         NULL                                                                                                                                                              },
        {{.want_uid = 7000, .want_gid = 7001, .login = "ann", .home = "/home/ann"},
         0,                                                                                              {ACCOUNT_ADD, 7000, 7001, true},
         NULL                                                                                                                                                              },
        {{.want_uid = 7000,
          .want_gid = -1,
          .login = "ann",
          .home = "/home/ann",
          .home_exists = true,
          .home_uid = 7000,
          .home_gid = 50},
         0,                                                                                              {ACCOUNT_ADD, 7000, 50, false},
         NULL                                                                                                                                                              },
        {{.want_uid = 7000,
          .want_gid = -1,
          .login = "ann",
          .home = "/home/ann",
          .home_exists = true,
          .home_uid = 7001,
          .home_gid = 7001},
         -EPERM,
         {0},
         "home /home/ann belongs to uid 7001, but user ann has uid 7000"                                                                                                   },
 /* Never the system's numbers. */
        {{NONE, .home_exists = true, .home_uid = 0},
         -EPERM,
         {0},
         "uid 0, an account of the system"                                                                                                                                 },
        {{NONE, .home_exists = true, .home_uid = 999, .home_gid = 999},                          -EPERM, {0},                                 "uid 999"                    },
        {{.want_uid = 0, .want_gid = -1, .login = "ann", .home = "/home/ann"},
         -EPERM,
         {0},
         "uid 0"                                                                                                                                                           },
        {{.want_uid = 1000, .want_gid = 0, .login = "ann", .home = "/home/ann"},
         -EPERM,
         {0},
         "group of root"                                                                                                                                                   },
        {{NONE, .exists = true, .uid = 33, .gid = 33},                                           -EPERM, {0},                                 "an account of the desktop's"},
        {{NONE, .exists = true, .ours = true, .uid = 0},
         -EPERM,
         {0},
         "an account of the desktop's"                                                                                                                                     },
        {{NONE, .exists = true, .use_existing = true, .uid = 0},                                 -EPERM, {0},                                 "of the desktop's"           },
 /* The image's ordinary accounts only when that is allowed. */
        {{NONE, .exists = true, .uid = 1500, .gid = 1500},                                       -EPERM, {0},                                 "vma.user.existing = use"    },
        {{NONE, .exists = true, .use_existing = true, .uid = 1500, .gid = 1500, .home_exists = true,
          .home_uid = 1500},
         0,                                                                                              {ACCOUNT_USE, 1500, 1500, false},
         NULL                                                                                                                                                              },
        {{NONE, .exists = true, .use_existing = true, .uid = 1500, .gid = 1500, .home_exists = true,
          .home_uid = 1501},
         -EPERM,
         {0},
         "belongs to uid 1501, account ann has uid 1500"                                                                                                                   },
 /* Ours from an earlier start: kept, or made again where the home has another number. */
        {{NONE, .exists = true, .ours = true, .uid = 1000, .gid = 1000, .home_exists = true,
          .home_uid = 1000, .home_gid = 1000},
         0,                                                                                              {ACCOUNT_USE, 1000, 1000, false},
         NULL                                                                                                                                                              },
        {{NONE, .exists = true, .ours = true, .uid = 1005, .gid = 1005},
         0,                                                                                              {ACCOUNT_USE, 1005, 1005, true},
         NULL                                                                                                                                                              },
        {{NONE, .exists = true, .ours = true, .uid = 1000, .gid = 1000, .home_exists = true,
          .home_uid = 1234, .home_gid = 1234},
         0,                                                                                              {ACCOUNT_REMAKE, 1234, 1234, false},
         NULL                                                                                                                                                              },
 /* A plugin's group: the image's number for it, never against another word, never root's. */
        {{NONE, .group = "staff", .group_gid = 50},                                              0,      {ACCOUNT_ADD, 1000, 50, true},       NULL                         },
        {{NONE, .group = "staff", .group_gid = -1},                                              0,      {ACCOUNT_ADD, 1000, 1000, true},     NULL                         },
        {{.want_uid = -1,
          .want_gid = 51,
          .login = "ann",
          .home = "/home/ann",
          .group = "staff",
          .group_gid = 50},
         -EPERM,
         {0},
         "group staff has gid 50 in this image, user ann wants 51"                                                                                                         },
        {{NONE, .group = "root", .group_gid = 0},                                                -EPERM, {0},                                 "group of root"              },
        {{.want_uid = -1, .want_gid = -1, .login = "qvd-vma", .home = "/home/qvd-vma"},
         -EPERM,
         {0},
         "login qvd-vma is reserved"                                                                                                                                       },
 /* Another's number. */
        {{NONE, .home_exists = true, .home_uid = 1000, .home_gid = 1000, .uid_taken_by = "bob"},
         -EPERM,
         {0},
         "uid 1000 of user ann belongs to account bob"                                                                                                                     },
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct account_plan plan = {0};
        struct qvd_error err = {0};
        int r = account_decide(&cases[i].facts, &plan, &err);
        if (r != cases[i].result)
            fail_msg("case %zu: %d, %s", i, r, err.text);
        if (r < 0 && !strstr(err.text, cases[i].text))
            fail_msg("case %zu: %s", i, err.text);
        if (r == 0 && (plan.what != cases[i].plan.what || plan.uid != cases[i].plan.uid ||
                       plan.gid != cases[i].plan.gid || plan.make_home != cases[i].plan.make_home))
            fail_msg("case %zu: %d %u:%u %d", i, plan.what, (unsigned)plan.uid, (unsigned)plan.gid,
                     plan.make_home);
    }
}

static int n_dropped;

static void count_dropped(void *arg, const char *name, const char *why)
{
    n_dropped++;
}

static void check_options_for(bool resumed, const char *settings, const char *const *pairs,
                              const char *want, int dropped)
{
    struct conf *conf = conf_new(NULL, NULL);
    struct wire_params *params = wire_params_new();
    struct qvd_error err;
    struct buf out;

    buf_init(&out, 4096);
    n_dropped = 0;
    if (conf_load_text(conf, "vma.conf", settings, strlen(settings), &err) < 0)
        fail_msg("%s", err.text);
    for (; *pairs; pairs += 2)
        assert_int_equal(wire_params_set(params, pairs[0], pairs[1]), 0);
    assert_int_equal(options_write(conf, params, 100, resumed, &out, count_dropped, NULL), 0);
    assert_string_equal(buf_cstr(&out), want);
    assert_int_equal(n_dropped, dropped);
    buf_done(&out);
    wire_params_free(params);
    conf_free(conf);
}

static void check_options(const char *settings, const char *const *pairs, const char *want,
                          int dropped)
{
    check_options_for(false, settings, pairs, want, dropped);
}

#define BEGINNING "nx/nx,tolerancechecks=bypass,"

static void test_options(void **state)
{
    static const char *const none[] = {NULL};
    static const char *const usual[] = {"qvd.client.keyboard",
                                        "pc105/es",
                                        "qvd.client.link",
                                        "adsl",
                                        "qvd.client.os",
                                        "linux",
                                        "qvd.client.geometry",
                                        "800x600",
                                        "qvd.client.fullscreen",
                                        "0",
                                        NULL};
    static const char *const full[] = {"qvd.client.link",
                                       "lan",
                                       "qvd.client.geometry",
                                       "800x600",
                                       "qvd.client.fullscreen",
                                       "1",
                                       "qvd.client.monitors",
                                       "1",
                                       NULL};
    static const char *const empty[] = {
        "qvd.client.keyboard", "", "qvd.client.link", "", "qvd.client.fullscreen", "", NULL};
    static const char *const evil[] = {"qvd.client.keyboard",
                                       "pc105,options=/etc/shadow",
                                       "qvd.client.link",
                                       "lan:0",
                                       "qvd.client.os",
                                       "linux,accept=1.2.3.4",
                                       "qvd.client.geometry",
                                       "1x1 listen=1",
                                       NULL};
    static const char *const extra[] = {
        "qvd.client.link", "modem", "qvd.client.nxagent.extra_args",
        "clipboard=both,accept=h connect=h listen=1 options=/x root=/x cookie=1 nodelay limit=$( "
        "tolerancechecks=strict slave=1 media=1 cups=631 pack=16m-png-9",
        NULL};
    static const char *const rate[] = {"qvd.client.link", "128k", NULL};
    static const char *const local_pack[] = {
        "qvd.client.link", "local", "qvd.client.nxagent.extra_args", "pack=16m-png-9", NULL};
    static const char *const printing[] = {"qvd.client.link", "wan", "qvd.client.printing.enabled",
                                           "1", NULL};
    static const char *const cifs[] = {"qvd.client.link",
                                       "wan",
                                       "qvd.client.printing.enabled",
                                       "1",
                                       "qvd.client.printing.flavor",
                                       "cifs",
                                       NULL};

    check_options("vma.default.client.link = adsl\n", none,
                  BEGINNING "keyboard=pc105/us,link=adsl,xinerama=1:100\n", 0);
    check_options("", none, BEGINNING "keyboard=pc105/us,link=local,pack=nopack,xinerama=1:100\n",
                  0);
    check_options("", usual,
                  BEGINNING "keyboard=pc105/es,client=linux,link=adsl,geometry=800x600,"
                            "fullscreen=0,xinerama=1:100\n",
                  0);
    check_options(
        "", full,
        BEGINNING "keyboard=pc105/us,link=lan,geometry=800x600,fullscreen=1,xinerama=0:100\n", 0);
    check_options_for(
        true, "", full,
        BEGINNING "keyboard=pc105/us,link=lan,resize=1,geometry=fullscreen,xinerama=0:100\n", 0);
    check_options_for(true, "", usual,
                      BEGINNING "keyboard=pc105/es,client=linux,link=adsl,geometry=800x600,"
                                "fullscreen=0,xinerama=1:100\n",
                      0);
    check_options("", empty, BEGINNING "keyboard=pc105/us,link=local,pack=nopack,xinerama=1:100\n",
                  0);
    check_options("", evil, BEGINNING "link=local,pack=nopack,xinerama=1:100\n", 4);
    check_options("", rate, BEGINNING "keyboard=pc105/us,link=isdn,xinerama=1:100\n", 0);
    check_options("", extra,
                  BEGINNING
                  "keyboard=pc105/us,link=modem,xinerama=1,clipboard=both,pack=16m-png-9:100\n",
                  12);
    check_options("", local_pack,
                  BEGINNING "keyboard=pc105/us,link=local,xinerama=1,pack=16m-png-9:100\n", 0);
    check_options("vma.audio.enable=1\nvma.slave.enable=1\nvma.printing.enable=1\n", printing,
                  BEGINNING "keyboard=pc105/us,link=wan,xinerama=1,media=1,slave=1,cups=2100:100\n",
                  0);
    check_options("vma.printing.enable=1\n", cifs,
                  BEGINNING "keyboard=pc105/us,link=wan,xinerama=1,smb=2100:100\n", 0);
}

/* l7r-protocol.md section 5: a word or a bandwidth. The thresholds are those of the NX library. */
static void test_links(void **state)
{
    static const char *const links[][2] = {
        {"modem",                    "modem"},
        {"MODEM",                    "modem"},
        {"local",                    "local"},
        {"33k",                      "modem"},
        {"56k",                      "modem"},
        {"57k",                      "isdn" },
        {"128k",                     "isdn" },
        {"640k",                     "adsl" },
        {"1m",                       "wan"  },
        {"34M",                      "wan"  },
        {"35m",                      "lan"  },
        {"100m",                     "lan"  },
        {"2400",                     "modem"},
        {"0",                        NULL   },
        {"k",                        NULL   },
        {"",                         NULL   },
        {"1g",                       NULL   },
        {"-1k",                      NULL   },
        {"1k,x",                     NULL   },
        {"99999999999999999999999m", NULL   },
    };

    for (size_t i = 0; i < ARRAY_SIZE(links); i++)
        if (!str_eq(wire_l7r_link(links[i][0]), links[i][1]))
            fail_msg("%s: %s", links[i][0], wire_l7r_link(links[i][0]));
}

static void test_names_and_homes(void **state)
{
    static const char *const good[] = {"/home/ann", "/srv/homes/a.b@c+d-e_f", "/a/b"};
    static const char *const bad[] = {"",        "ann",    "/",        "/ann",       "/a//b",
                                      "/a/../b", "/a/./b", "/a/b/",    "/a/b:c",     "/a/b c",
                                      "/a/$(b)", "a/b",    "/home/..", "/home/ann/."};
    char path[ACCOUNT_HOME_MAX + 8];

    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        assert_true(account_home_is_good(good[i]));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (account_home_is_good(bad[i]))
            fail_msg("%s", bad[i]);
    memset(path, 'x', sizeof path);
    memcpy(path, "/home/", 6);
    path[ACCOUNT_HOME_MAX] = '\0';
    assert_false(account_home_is_good(path));
    assert_true(account_is_reserved("root") && account_is_reserved("qvd-vma") &&
                account_is_reserved("systemd-x") && account_is_reserved("nobody"));
    assert_false(account_is_reserved("qvd") || account_is_reserved("roots"));
}

static void test_who_is_told_to_hooks(void **state)
{
    struct conf *conf = conf_new(NULL, NULL);
    struct wire_params *p = wire_params_new();
    struct qvd_error err;
    struct user u;

    assert_int_equal(user_resolve(conf, p, &u, &err), 0);
    assert_string_equal(u.name, "qvd");
    assert_string_equal(u.home, "/home/qvd");
    assert_string_equal(wire_params_get(p, "qvd.vm.user.groups"), "qvduser");
    assert_int_equal(wire_params_set(p, "qvd.vm.user.name", "Ann@corp"), 0);
    assert_int_equal(wire_params_set(p, "qvd.vm.user.home", ""), 0);
    assert_int_equal(user_resolve(conf, p, &u, &err), 0);
    assert_string_equal(wire_params_get(p, "qvd.vm.user.name"), "ann_corp");
    assert_string_equal(wire_params_get(p, "qvd.vm.user.login"), "Ann@corp");
    assert_string_equal(wire_params_get(p, "qvd.vm.user.home"), "/home/ann_corp");
    assert_int_equal(wire_params_set(p, "qvd.vm.user.home", "/etc"), 0);
    assert_int_equal(user_resolve(conf, p, &u, &err), -EPERM);
    assert_int_equal(wire_params_set(p, "qvd.vm.user.home", "/srv/h/ann"), 0);
    assert_int_equal(user_resolve(conf, p, &u, &err), 0);
    assert_string_equal(u.home, "/srv/h/ann");
    wire_params_free(p);
    conf_free(conf);
}

static void test_session_file(void **state)
{
    char dir[] = "/tmp/qvd-session-XXXXXX", path[64];
    struct session_saved saved = {
        .state = NX_SUSPENDED,
        .hup_out = true,
        .user = {.name = "ann",
                 .home = "/home/ann",
                 .uid = 1000,
                 .gid = 1001,
                 .groups = {5, 6},
                 .n_groups = 2},
        .agent = {.pid = 77, .session_pid = 78,     .began = 123456789012, .session_began = 5},
        .params = wire_params_new(),
    };
    struct session_saved back;
    static const struct {
        const char *text;
        size_t len;
    } bad[] = {
        {"",                     0 },
        {"\0",                   1 },
        {"state",                5 },
        {"state\0suspended\0",   16},
        {"state\0suspended\0\0", 17},
        {"state\0dancing\0\0",   15},
        {"state\0suspended\0hup_out\x00"
         "7\0",         26},
        {"a b\0c\0\0",           7 },
    };

    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/session", dir);
    assert_int_equal(session_file_read(path, &back), -ENOENT);
    assert_int_equal(wire_params_set(saved.params, "custom.a", "b\"c"), 0);
    assert_int_equal(session_file_write(path, &saved), 0);
    assert_int_equal(session_file_read(path, &back), 0);
    assert_true(back.state == NX_SUSPENDED && back.hup_out && !back.stream_lost);
    assert_true(back.user.uid == 1000 && back.user.gid == 1001 && back.user.n_groups == 2 &&
                back.user.groups[1] == 6);
    assert_string_equal(back.user.home, "/home/ann");
    assert_true(back.agent.pid == 77 && back.agent.session_pid == 78 &&
                back.agent.began == 123456789012 && back.agent.session_began == 5);
    assert_string_equal(wire_params_get(back.params, "custom.a"), "b\"c");
    wire_params_free(back.params);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        FILE *f = fopen(path, "we");
        fwrite(bad[i].text, 1, bad[i].len, f);
        fclose(f);
        assert_int_equal(session_file_read(path, &back), -EBADMSG);
    }
    wire_params_free(saved.params);
    unlink(path);
    rmdir(dir);
}

static void test_zones(void **state)
{
    static const char *const bad[] = {"",    "/etc/passwd", "../etc/passwd", "a/../b",
                                      "a b", "a\nb",        "\xc3\xb1"};

    assert_true(region_zone_is_good("Europe/Madrid") && region_zone_is_good("Etc/GMT+1"));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(region_zone_is_good(bad[i]));
    assert_false(region_zone_is_good(NULL));
    assert_true(region_has_locale("C.UTF-8"));
    assert_false(region_has_locale("xx_XX.UTF-8") || region_has_locale("../../etc") ||
                 region_has_locale("") || region_has_locale(NULL));
}

#define TCP_HEAD "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n"
#define TCP_TAIL " 00000000:00000000 00:00000000 00000000 65534        0 57158 1\n"

static void test_port(void **state)
{
    static const char listening[] = TCP_HEAD "   0: 00000000:1004 00000000:0000 0A" TCP_TAIL;
    static const char others[] = TCP_HEAD "   0: 00000000:1005 00000000:0000 0A" TCP_TAIL
                                          "   1: 0F0F030A:9C40 0100007F:1004 01" TCP_TAIL;
    static const char busy[] = TCP_HEAD "   0: 00000000:1004 00000000:0000 0A" TCP_TAIL
                                        "  12: 650F030A:1004 010F030A:C350 01" TCP_TAIL;
    static const char lost[] = TCP_HEAD "   0: 650F030A:1004 010F030A:C350 08" TCP_TAIL
                                        "   1: 00000000:1004 00000000:0000 0A" TCP_TAIL;
    struct agent_stream stream = {0};

    assert_int_equal(agent_port_parse(listening, 4100, &stream), AGENT_PORT_FREE);
    assert_int_equal(agent_port_parse(others, 4100, &stream), AGENT_PORT_CLOSED);
    assert_int_equal(agent_port_parse("", 4100, &stream), AGENT_PORT_CLOSED);
    assert_int_equal(agent_port_parse("x\n\n: :\n 1: 2:3", 4100, &stream), AGENT_PORT_CLOSED);
    assert_int_equal(agent_port_parse(lost, 4100, &stream), AGENT_PORT_LOST);
    assert_int_equal(agent_port_parse(busy, 4100, &stream), AGENT_PORT_BUSY);
    assert_true(stream.local == 0x650F030A && stream.local_port == 4100 &&
                stream.remote == 0x010F030A && stream.remote_port == 50000);
}

/* As nxagent does: one stream, any address. Port of *ret_fd. */
static unsigned listen_anywhere(int *ret_fd)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;

    *ret_fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(*ret_fd >= 0);
    assert_int_equal(bind(*ret_fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(*ret_fd, (struct sockaddr *)&at, &size), 0);
    return ntohs(at.sin_port);
}

static int dial(unsigned port)
{
    const struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

/* The kernel's word on a socket of our own, from its listening to its stream's end. */
static void test_who_waits_at_a_port(void **state)
{
    int listener;
    unsigned port = listen_anywhere(&listener);

    assert_false(agent_port_waits(port));
    assert_int_equal(listen(listener, 1), 0);
    assert_true(agent_port_waits(port));
    assert_int_equal(agent_port(port), AGENT_PORT_FREE);

    int dialled = dial(port);
    assert_false(agent_port_waits(port));
    assert_int_equal(agent_port(port), AGENT_PORT_BUSY);
    close(dialled); /* given up before it was accepted: nxagent will still take it */
    assert_false(agent_port_waits(port));
    close(accept(listener, NULL, NULL));
    assert_true(agent_port_waits(port));

    dialled = dial(port);
    int stream = accept(listener, NULL, NULL);
    assert_true(stream >= 0);
    assert_int_equal(agent_port(port), AGENT_PORT_BUSY);
    close(listener);
    assert_false(agent_port_waits(port));
    close(stream);
    close(dialled);
}

static void test_environ_lines(void **state)
{
    static const struct {
        const char *line, *name, *value;
        int result;
    } lines[] = {
        {"LANG=es_ES.UTF-8",   "LANG", "es_ES.UTF-8", 0      },
        {"export A=\"b c\"\r", "A",    "b c",         0      },
        {" B='x' ",            "B",    "x",           0      },
        {"C=",                 "C",    "",            0      },
        {"D=\"open",           "D",    "\"open",      0      },
        {"# E=1",              NULL,   NULL,          0      },
        {"   ",                NULL,   NULL,          0      },
        {"F",                  NULL,   NULL,          -EINVAL},
        {"G-H=1",              NULL,   NULL,          -EINVAL},
        {"=1",                 NULL,   NULL,          -EINVAL},
    };

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        const char *name, *value;
        char line[64];
        assert_int_equal(str_copy(line, sizeof line, lines[i].line), 0);
        assert_int_equal(environ_parse_line(line, &name, &value), lines[i].result);
        if (lines[i].result == 0) {
            assert_true(str_eq(name, lines[i].name));
            assert_true(str_eq(value, lines[i].value));
        }
    }
}

static void test_params_cross(void **state)
{
    struct wire_params *p = wire_params_new(), *back = wire_params_new();
    struct buf packed;

    assert_int_equal(wire_params_set(p, "a", "1"), 0);
    assert_int_equal(wire_params_set(p, "b", ""), 0);
    buf_init(&packed, 0);
    assert_int_equal(vma_params_pack(p, &packed), 0);
    assert_int_equal(packed.len, 7);
    assert_int_equal(vma_params_unpack(packed.data, packed.len, back), 0);
    assert_int_equal(wire_params_count(back), 2);
    assert_string_equal(wire_params_get(back, "a"), "1");
    assert_string_equal(wire_params_get(back, "b"), "");
    for (size_t n = 1; n < packed.len; n++)
        if (n != 4) /* the end of the first pair */
            assert_int_equal(vma_params_unpack(packed.data, n, back), -EBADMSG);
    assert_int_equal(vma_params_unpack("a b\0x", 6, back), -EBADMSG);
    assert_int_equal(vma_params_unpack("a\0\n", 4, back), -EBADMSG);
    assert_int_equal(vma_params_unpack("", 0, back), 0);
    buf_done(&packed);
    wire_params_free(p);
    wire_params_free(back);
}

static void test_serials(void **state)
{
    assert_int_equal(orders_serial(0, 1), SERIAL_NEW);
    assert_int_equal(orders_serial(7, 7), SERIAL_SAME);
    assert_int_equal(orders_serial(7, 6), SERIAL_OLD);
    assert_int_equal(orders_serial(UINT64_MAX, UINT64_MAX), SERIAL_SAME);
    assert_int_equal(orders_serial(UINT64_MAX - 1, UINT64_MAX), SERIAL_NEW);
}

static void test_run_as_spec(void **state)
{
    struct user u = {
        .uid = 1000, .gid = 1001, .groups = {5, 6},
                .n_groups = 2
    };
    static char command_name[] = "/bin/true";
    char *command[] = {command_name, NULL}, spec[USER_SPEC_MAX];
    /* Refused before anything is done, so nothing needs to be undone. */
    static const char *const bad[] = {"",
                                      "0:0::22",
                                      "999:999::22",
                                      "1000:0::22",
                                      "1000:1000:0:22",
                                      "1000:1000::",
                                      "1000:1000::9",
                                      "1000:1000",
                                      "1000:1000::1777",
                                      "x:1::22",
                                      "-1:1::22"};

    assert_int_equal(user_spec(&u, "0027", spec), 0);
    assert_string_equal(spec, "1000:1001:5,6:0027");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(user_run_as(bad[i], command), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unix_names),    cmocka_unit_test(test_accounts),
        cmocka_unit_test(test_options),       cmocka_unit_test(test_port),
        cmocka_unit_test(test_environ_lines), cmocka_unit_test(test_params_cross),
        cmocka_unit_test(test_serials),       cmocka_unit_test(test_run_as_spec),
        cmocka_unit_test(test_links),         cmocka_unit_test(test_names_and_homes),
        cmocka_unit_test(test_session_file),  cmocka_unit_test(test_who_is_told_to_hooks),
        cmocka_unit_test(test_zones),         cmocka_unit_test(test_who_waits_at_a_port),
    };

    return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
