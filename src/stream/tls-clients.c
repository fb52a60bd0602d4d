// SPDX-License-Identifier: GPL-3.0-or-later
/* Clients' certificates: which authorities' are taken, which are revoked, and until when all of
 * this is good. */
#include <openssl/err.h>
#include <string.h>
#include <time.h>

#include "stream/stream-internal.h"

static int64_t seconds_of(const ASN1_TIME *t)
{
    struct tm tm;

    return t && ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

/* All lists of the text (an authority has one, a chain of them has several). */
static must_check int add_crls(SSL_CTX *ctx, const char *pem, int64_t *ret_next,
                               struct qvd_error *err)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509_CRL *crl;
    size_t n = 0;
    bool ok = true;

    *ret_next = 0;
    while (bio && ok && (crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL))) {
        int64_t next = seconds_of(X509_CRL_get0_nextUpdate(crl));
        if (next && (!*ret_next || next < *ret_next))
            *ret_next = next;
        ok = X509_STORE_add_crl(store, crl) == 1;
        n += ok;
        X509_CRL_free(crl);
    }
    BIO_free(bio);
    if (!ok || n == 0)
        return tls_fail(err, "list of revoked certificates");
    ERR_clear_error();
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK);
    return 0;
}

int tls_demand_clients(SSL_CTX *ctx, const struct tls_server_spec *spec, int64_t *ret_crl_next,
                       struct qvd_error *err)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ctx);
    BIO *bio = BIO_new_mem_buf(spec->client_ca_pem, -1);
    bool ok = true;
    size_t n = 0;
    X509 *cert;

    while (bio && ok && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
        ok = X509_STORE_add_cert(store, cert) == 1 && SSL_CTX_add_client_CA(ctx, cert) == 1;
        n += ok;
        X509_free(cert);
    }
    BIO_free(bio);
    if (!ok || n == 0)
        return tls_fail(err, "authority of clients' certificates");
    ERR_clear_error(); /* "no start line" is how a list of PEM blocks ends */
    /* Whom the administrator names is trusted, be it no root. */
    X509_STORE_set_flags(store, X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       stream_tls_verify_client);
    /* A ticket would let in whom a newer list of revoked ones keeps out, or who has expired. */
    SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"qvd+", 4);
    return spec->crl_pem ? add_crls(ctx, spec->crl_pem, ret_crl_next, err) : 0;
}

void tls_server_facts(const struct tls_context *tls, struct tls_server_facts *ret)
{
    X509 *cert = SSL_CTX_get0_certificate(tls_context_ssl((struct tls_context *)tls));

    *ret = (struct tls_server_facts){.crl_next = tls_context_crl_next(tls)};
    if (!cert)
        return;
    ret->not_after = seconds_of(X509_get0_notAfter(cert));
    tls_name_text(X509_get_subject_name(cert), ret->subject, sizeof ret->subject);
}
