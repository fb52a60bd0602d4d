// SPDX-License-Identifier: GPL-3.0-or-later
#include "certs.h"

#include <arpa/inet.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static char *bio_text(BIO *bio)
{
    char *data;
    long len = BIO_get_mem_data(bio, &data);
    char *text = strndup(data, len);

    BIO_free(bio);
    return text;
}

static void add_extension(X509 *cert, int nid, const char *value)
{
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    CHECK(e && X509_add_ext(cert, e, -1));
    X509_EXTENSION_free(e);
}

struct test_cert test_cert_make(const char *name, int days, const struct test_cert *issuer)
{
    static long serial = 1;
    EVP_PKEY *key = EVP_EC_gen("P-256"), *signer = key;
    X509 *cert = X509_new(), *ca = NULL;
    X509_NAME *subject = X509_get_subject_name(cert);
    unsigned char addr[16];
    char san[256];

    CHECK(key && cert);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(cert), -86400L * 30);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400L * days);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_pubkey(cert, key);
    if (issuer) {
        BIO *bio = BIO_new_mem_buf(issuer->cert, -1);
        CHECK(ca = PEM_read_bio_X509(bio, NULL, NULL, NULL));
        BIO_free(bio);
        bio = BIO_new_mem_buf(issuer->key, -1);
        CHECK(signer = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL));
        BIO_free(bio);
    }
    X509_set_issuer_name(cert, X509_get_subject_name(ca ? ca : cert));
    snprintf(san, sizeof san, "%s:%s",
             inet_pton(AF_INET, name, addr) == 1 || inet_pton(AF_INET6, name, addr) == 1 ? "IP"
                                                                                         : "DNS",
             name);
    add_extension(cert, NID_subject_alt_name, san);
    add_extension(cert, NID_basic_constraints, issuer ? "CA:FALSE" : "CA:TRUE");
    CHECK(X509_sign(cert, signer, EVP_sha256()));

    BIO *out = BIO_new(BIO_s_mem()), *out_key = BIO_new(BIO_s_mem());
    CHECK(PEM_write_bio_X509(out, cert));
    CHECK(PEM_write_bio_PrivateKey(out_key, key, NULL, NULL, 0, NULL, NULL));
    struct test_cert made = {bio_text(out), bio_text(out_key)};
    if (ca) {
        X509_free(ca);
        EVP_PKEY_free(signer);
    }
    X509_free(cert);
    EVP_PKEY_free(key);
    return made;
}

void test_cert_done(struct test_cert *c)
{
    free(c->cert);
    free(c->key);
}
