// SPDX-License-Identifier: GPL-3.0-or-later
/* Certificate, key, authority and list of revoked ones: from files and database, tried by a worker
 * before any other gets them (we read no PEM: whoever can write the database could), and told of
 * before they are out of date. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/str.h"
#include "config.h"
#include "l7r/master/expiry.h"
#include "l7r/master/master-internal.h"

#define CHECK_MS 20000
#define CHECK_ANSWER_MAX 4096
#define DAY_MS (24 * 3600 * 1000u)

/* Sources ---------------------------------------------------------------------------------------
 */

static void pem_done(struct pem *p)
{
    for (int i = 0; i < PEM_PARTS; i++) {
        if (p->text[i])
            explicit_bzero(p->text[i], p->len[i]);
        free(p->text[i]);
    }
    *p = (struct pem){0};
}

static bool pem_same(const struct pem *a, const struct pem *b)
{
    for (int i = 0; i < PEM_PARTS; i++)
        if (a->len[i] != b->len[i] || (a->len[i] && memcmp(a->text[i], b->text[i], a->len[i]) != 0))
            return false;
    return true;
}

/* The key is the server: whoever reads it can be the server. */
static void look_at_mode(const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0 && (st.st_mode & 077))
        log_warning("%s can be read by others than its owner (mode %04o): chmod 600 it", path,
                    (unsigned)st.st_mode & 07777);
}

/* 0, also when it may be missing and is; -errno with err. */
static must_check int read_part(struct master *m, struct pem *p, enum pem_part part,
                                const char *key, bool optional, struct qvd_error *err)
{
    const char *path = conf_str(m->conf, key);
    int r = *path ? fs_read(path, L7R_CERTIFICATE_MAX, &p->text[part], &p->len[part]) : -ENOENT;

    if (r == -ENOENT && optional)
        return 0;
    return r < 0 ? qvd_error_errno(err, r, "%s = %s", key, path) : 0;
}

int certificate_read_files(struct master *m, struct qvd_error *err)
{
    struct pem p = {0};
    int r = read_part(m, &p, PEM_CERT, "path.l7r.ssl.cert", true, err);

    if (r == 0 && p.text[PEM_CERT]) {
        r = read_part(m, &p, PEM_KEY, "path.l7r.ssl.key", false, err);
        if (r == 0)
            look_at_mode(conf_str(m->conf, "path.l7r.ssl.key"));
    }
    if (r == 0)
        r = read_part(m, &p, PEM_CA, "path.l7r.ssl.ca", true, err);
    if (r == 0 && p.text[PEM_CA])
        r = read_part(m, &p, PEM_CRL, "path.l7r.ssl.crl", true, err);
    if (r < 0) {
        pem_done(&p);
        return r;
    }
    pem_done(&m->files);
    m->files = p;
    return 0;
}

int certificate_take(struct master *m, const struct l7r_certificate *c, int fd)
{
    const uint32_t lens[PEM_PARTS] = {c->cert_len, c->key_len, c->ca_len, c->crl_len};
    size_t all_len = 0, at = 0;
    _cleanup_(free_p) char *all = NULL;
    struct pem p = {0};

    for (int i = 0; i < PEM_PARTS; i++)
        all_len += lens[i];
    int r = l7r_memory_read(fd, all_len, (size_t)PEM_PARTS * L7R_CERTIFICATE_MAX, &all);
    for (int i = 0; r == 0 && i < PEM_PARTS; at += lens[i++]) {
        p.text[i] = lens[i] ? malloc(lens[i]) : NULL;
        if (p.text[i])
            memcpy(p.text[i], all + at, lens[i]);
        else if (lens[i])
            r = -ENOMEM;
        p.len[i] = lens[i];
    }
    if (all)
        explicit_bzero(all, all_len);
    if (r < 0 || pem_same(&p, &m->database)) {
        pem_done(&p);
        return r;
    }
    pem_done(&m->database);
    m->database = p;
    return 1;
}

/* What is wanted --------------------------------------------------------------------------------
 */

static void plan_done(struct tls_plan *p)
{
    pem_done(&p->pem);
    free(p->ciphers);
    *p = (struct tls_plan){0};
}

static bool wants_v13(const struct master *m)
{
    const char *manual = conf_str(m->conf, "l7r.options.SSL_version");

    return strcmp(conf_str(m->conf, "l7r.ssl.version.min"), "1.3") == 0 ||
           str_starts(manual, "TLSv1_3") || strstr(manual, "!TLSv1_2");
}

/* The database's certificate goes before the files', and so does its authority; a list of revoked
 * ones comes from where the authority comes from. */
static must_check int plan_make(const struct master *m, struct tls_plan *ret)
{
    const struct pem *own =
        m->database.len[PEM_CERT] && m->database.len[PEM_KEY] ? &m->database : &m->files;
    const struct pem *clients = m->database.len[PEM_CA] ? &m->database : &m->files;
    struct tls_plan p = {.v13 = wants_v13(m),
                         .require = conf_bool(m->conf, "l7r.client.cert.require"),
                         .from = own == &m->database ? "database" : "files"};
    bool whole = true;

    for (int i = 0; i < PEM_PARTS; i++) {
        const struct pem *from = i == PEM_CA || i == PEM_CRL ? clients : own;
        if (!from->len[i] || (from == clients && !p.require && i >= PEM_CA))
            continue;
        p.pem.text[i] = malloc(from->len[i]);
        whole = whole && p.pem.text[i];
        if (p.pem.text[i])
            memcpy(p.pem.text[i], from->text[i], from->len[i]);
        p.pem.len[i] = from->len[i];
    }
    const char *ciphers = conf_str(m->conf, "l7r.ssl.ciphers");
    p.ciphers = strdup(*ciphers ? ciphers : conf_str(m->conf, "l7r.options.SSL_cipher_list"));
    if (!whole || !p.ciphers) {
        plan_done(&p);
        return -ENOMEM;
    }
    *ret = p;
    return 0;
}

static bool plan_same(const struct tls_plan *a, const struct tls_plan *b)
{
    return pem_same(&a->pem, &b->pem) && a->v13 == b->v13 && a->require == b->require &&
           str_eq(a->ciphers, b->ciphers);
}

bool certificate_there(const struct master *m)
{
    return !m->use_ssl || (m->plan.pem.len[PEM_CERT] && m->plan.pem.len[PEM_KEY]);
}

/* How long it is good ---------------------------------------------------------------------------
 */

static void date_text(int64_t t, char dst[32])
{
    time_t when = (time_t)t;
    struct tm tm;

    if (!gmtime_r(&when, &tm) || strftime(dst, 32, "%Y-%m-%d %H:%M UTC", &tm) == 0)
        (void)snprintf(dst, 32, "an unknown date");
}

static void announce(struct expiry *e, const char *what, const char *then)
{
    int64_t now = clock_wall_us() / 1000000, days = 0;
    char date[32];

    date_text(e->when, date);
    switch (expiry_due(e, now, &days)) {
    case EXPIRY_NOTHING:
        break;
    case EXPIRY_SOON:
        log_warning("%s is good for %lld more day%s, until %s: %s", what, (long long)days,
                    days == 1 ? "" : "s", date, then);
        break;
    case EXPIRY_OVER:
        log_error("%s is out of date since %s: %s", what, date, then);
        break;
    }
}

static void announce_all(struct master *m)
{
    announce(&m->cert_expiry, "the certificate", "clients will refuse this server then");
    announce(&m->crl_expiry, "the list of revoked client certificates", "no client is let in then");
}

static void another_day(void *arg)
{
    struct master *m = arg;

    ev_timer_arm(m->day, DAY_MS);
    announce_all(m);
}

int certificate_init(struct master *m)
{
    int r = ev_timer_new(m->loop, another_day, m, &m->day);

    if (r == 0)
        ev_timer_arm(m->day, DAY_MS);
    return r;
}

/* The check -------------------------------------------------------------------------------------
 */

static void finish(struct master *m)
{
    bool renew = m->renew;

    m->renew = false;
    if (renew)
        workers_renew(m);
    else
        workers_tell(m);
    workers_start(m);
    if (renew)
        reload_done(m);
}

/* "ok NOT_AFTER CRL_NEXT SUBJECT". */
static void take_facts(struct master *m, const char *answer)
{
    long long after = 0, next = 0;
    int at = 0;
    char date[32], subject[256];

    if (sscanf(answer, "ok %lld %lld %n", &after, &next, &at) != 2 || !at)
        return;
    (void)snprintf(subject, sizeof subject, "%.255s", answer + at);
    date_text(after, date);
    log_info("certificate of %s from the %s is used, good until %s%s", str_trim(subject),
             m->plan.from, date, m->plan.require ? "; clients must have certificates" : "");
    m->cert_expiry = (struct expiry){.when = after};
    m->crl_expiry = (struct expiry){.when = next};
    announce_all(m);
}

static void checked(void *arg, const struct ev_command_result *result)
{
    struct master *m = arg;
    struct tls_plan wanted = m->wanted;
    bool good = result->status == 0 && str_starts(result->out, "ok ");

    m->check = NULL;
    m->wanted = (struct tls_plan){0};
    if (good) {
        plan_done(&m->plan);
        m->plan = wanted;
        take_facts(m, result->out);
    } else {
        char why[CHECK_ANSWER_MAX + 1];
        (void)snprintf(why, sizeof why, "%s", result->out_len ? result->out : result->errors);
        log_error("the certificate of the %s cannot be used: %s%s", wanted.from,
                  why[0] ? str_trim(why) : "it could not be checked",
                  certificate_there(m) ? "; the former one stays" : "; nothing is served");
        plan_done(&wanted);
    }
    finish(m);
}

static must_check int check_input(const struct tls_plan *p, struct buf *out)
{
    int r = buf_printf(out, "%zu %zu %zu %zu %d %d %zu\n", p->pem.len[0], p->pem.len[1],
                       p->pem.len[2], p->pem.len[3], p->require, p->v13, strlen(p->ciphers));

    for (int i = 0; r == 0 && i < PEM_PARTS; i++)
        if (p->pem.len[i])
            r = buf_append(out, p->pem.text[i], p->pem.len[i]);
    return r < 0 ? r : buf_append_str(out, p->ciphers);
}

static must_check int start_check(struct master *m, struct qvd_error *err)
{
    const char *argv[] = {QVD_LIBEXECDIR "/qvd-l7r-worker", "--check", "--user",
                          conf_str(m->conf, "l7r.user"), NULL};
    struct buf input;

    buf_init(&input, 0);
    int r = check_input(&m->wanted, &input);
    if (r < 0)
        r = qvd_error_errno(err, r, "certificate");
    else
        r = ev_command_run(m->loop, argv, (const char *)input.data, input.len, CHECK_ANSWER_MAX,
                           CHECK_MS, checked, m, &m->check, err);
    if (input.len)
        explicit_bzero(input.data, input.len);
    buf_done(&input);
    return r;
}

void certificate_apply(struct master *m)
{
    struct tls_plan wanted = {0};
    struct qvd_error err = {0};

    if (m->stopping)
        return;
    if (!m->use_ssl || plan_make(m, &wanted) < 0 || !wanted.pem.len[PEM_CERT] ||
        plan_same(&wanted, m->check ? &m->wanted : &m->plan)) {
        plan_done(&wanted);
        if (!m->check)
            finish(m);
        return;
    }
    m->check = ev_command_cancel(m->check);
    plan_done(&m->wanted);
    m->wanted = wanted;
    if (start_check(m, &err) < 0) {
        log_error("the certificate cannot be checked: %s", err.text);
        plan_done(&m->wanted);
        finish(m);
    }
}

void certificate_done(struct master *m)
{
    m->check = ev_command_cancel(m->check);
    pem_done(&m->files);
    pem_done(&m->database);
    plan_done(&m->plan);
    plan_done(&m->wanted);
}
