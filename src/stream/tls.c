// SPDX-License-Identifier: GPL-3.0-or-later
/* TLS contexts: certificates, roots, ticket keys. */
#include "stream/tls.h"

#include <dirent.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "stream/stream-internal.h"

#define CIPHERS_12 "ECDHE+AESGCM:ECDHE+CHACHA20"

struct ticket_key {
    uint8_t name[16], aes[32], mac[32];
};
_Static_assert(sizeof(struct ticket_key) == TLS_TICKET_KEY_LEN, "a ticket key's length");

struct tls_context {
    struct tls_context_head head;
    unsigned refs;
    SSL_CTX *ctx;
    struct ticket_key tickets[TLS_TICKET_KEYS_MAX];
    size_t n_tickets;
    EVP_CIPHER *ticket_cipher; /* looked up once */
    int64_t crl_next;          /* seconds since 1970; 0: no list */
};

const char *tls_error_text(char *dst, size_t size)
{
    unsigned long e = ERR_get_error();
    const char *reason = e ? ERR_reason_error_string(e) : "end of connection";

    if (ERR_SYSTEM_ERROR(e)) /* a file's, mostly */
        reason = strerror(ERR_GET_REASON(e));
    else if (ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE)
        reason = "not in PEM form";
    ERR_clear_error();
    if (str_copy(dst, size, reason ? reason : "unknown error") < 0)
        return "error";
    return dst;
}

int tls_fail(struct qvd_error *err, const char *what)
{
    char text[160];

    return qvd_error_set(err, -EINVAL, "%s: %s", what, tls_error_text(text, sizeof text));
}

SSL_CTX *tls_context_ssl(struct tls_context *tls)
{
    return tls->ctx;
}

void tls_init(void)
{
    OPENSSL_init_ssl(OPENSSL_INIT_LOAD_CONFIG | OPENSSL_INIT_LOAD_SSL_STRINGS |
                         OPENSSL_INIT_LOAD_CRYPTO_STRINGS,
                     NULL);
}

int64_t tls_context_crl_next(const struct tls_context *tls)
{
    return tls->crl_next;
}

struct tls_context *tls_context_ref(struct tls_context *tls)
{
    tls->refs++;
    return tls;
}

struct tls_context *tls_context_unref(struct tls_context *tls)
{
    if (tls && --tls->refs == 0) {
        SSL_CTX_free(tls->ctx);
        EVP_CIPHER_free(tls->ticket_cipher);
        OPENSSL_cleanse(tls->tickets, sizeof tls->tickets);
        free(tls);
    }
    return NULL;
}

static must_check int context_new(const SSL_METHOD *method, struct tls_context **ret_tls)
{
    struct tls_context *tls = calloc(1, sizeof *tls);

    if (!tls)
        return -ENOMEM;
    tls->head.ops = &stream_tls_ops;
    tls->refs = 1;
    tls->ctx = SSL_CTX_new(method);
    if (!tls->ctx) {
        free(tls);
        return -ENOMEM;
    }
    SSL_CTX_set_min_proto_version(tls->ctx, TLS1_2_VERSION);
    /* A peer that just closes has ended: what needs more has lengths of its own. */
    SSL_CTX_set_options(tls->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                      SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_app_data(tls->ctx, tls);
    *ret_tls = tls;
    return 0;
}

/* --- server --------------------------------------------------------------------------------- */

static X509 *read_cert(BIO *bio)
{
    return PEM_read_bio_X509(bio, NULL, NULL, NULL);
}

static void end_of_pem(void)
{
    ERR_clear_error(); /* "no start line" is how a list of PEM blocks ends */
}

static must_check int use_chain(SSL_CTX *ctx, const char *pem, size_t len, struct qvd_error *err)
{
    BIO *bio = BIO_new_mem_buf(pem, len);
    X509 *cert = bio ? read_cert(bio) : NULL;
    int ok = cert && SSL_CTX_use_certificate(ctx, cert) == 1;

    X509_free(cert);
    if (!ok) {
        BIO_free(bio);
        return tls_fail(err, "certificate");
    }
    while (ok && (cert = read_cert(bio))) {
        ok = SSL_CTX_add0_chain_cert(ctx, cert) == 1;
        if (!ok)
            X509_free(cert);
    }
    BIO_free(bio);
    if (!ok)
        return tls_fail(err, "certificate chain");
    end_of_pem();
    return 0;
}

static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
    return -1; /* never ask on a terminal */
}

static must_check int use_key(SSL_CTX *ctx, const char *pem, size_t len, struct qvd_error *err)
{
    BIO *bio = BIO_new_mem_buf(pem, len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
    int ok = key && SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;

    EVP_PKEY_free(key);
    BIO_free(bio);
    return ok ? 0 : tls_fail(err, "private key");
}

/* http/1.1 or nothing: a client that offers h2 too must not get it. */
static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                       const unsigned char *in, unsigned in_len, void *arg)
{
    static const char http11[] = "http/1.1";

    for (unsigned i = 0; i < in_len && i + in[i] < in_len; i += 1 + in[i]) {
        if (in[i] == sizeof http11 - 1 && memcmp(in + i + 1, http11, in[i]) == 0) {
            *out = in + i + 1;
            *out_len = in[i];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_NOACK;
}

static must_check int set_versions(SSL_CTX *ctx, const struct tls_server_spec *spec,
                                   struct qvd_error *err)
{
    if (str_eq(spec->min_version, "TLSv1.3"))
        SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
    else if (spec->min_version && !str_eq(spec->min_version, "TLSv1.2"))
        return qvd_error_set(err, -EINVAL, "TLS version %s: TLSv1.2 and TLSv1.3 are allowed",
                             spec->min_version);
    if (SSL_CTX_set_cipher_list(ctx, spec->ciphers ? spec->ciphers : CIPHERS_12) != 1)
        return tls_fail(err, "list of ciphers");
    return 0;
}

int tls_server_new(const struct tls_server_spec *spec, struct tls_context **ret_tls,
                   struct qvd_error *err)
{
    struct tls_context *tls;
    int r = context_new(TLS_server_method(), &tls);

    if (r < 0)
        return qvd_error_errno(err, r, "TLS context");
    SSL_CTX_set_session_cache_mode(tls->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_session_id_context(tls->ctx, (const unsigned char *)"qvd", 3);
    /* TLS 1.3: not in the handshake, but with the first answer (stream-tls.c). */
    SSL_CTX_set_num_tickets(tls->ctx, 0);
    /* The chain is what the file has: none is looked for in each handshake. */
    SSL_CTX_set_mode(tls->ctx, SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_options(tls->ctx, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_alpn_select_cb(tls->ctx, select_alpn, NULL);
    r = set_versions(tls->ctx, spec, err);
    if (r >= 0)
        r = use_chain(tls->ctx, spec->cert_pem, spec->cert_len, err);
    if (r >= 0)
        r = use_key(tls->ctx, spec->key_pem, spec->key_len, err);
    if (r >= 0 && spec->client_ca_pem)
        r = tls_demand_clients(tls->ctx, spec, &tls->crl_next, err);
    if (r < 0) {
        tls_context_unref(tls);
        return r;
    }
    *ret_tls = tls;
    return 0;
}

static int set_mac(EVP_MAC_CTX *mac, const struct ticket_key *key)
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_MAC_CTX_set_params(mac, params);
}

/* SSL_CTX_set_tlsext_ticket_key_evp_cb(3): 1 ok, 2 ok and renew, 0 unknown key, -1 failure. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int make)
{
    struct tls_context *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    if (make) {
        const struct ticket_key *key = &tls->tickets[0];
        if (random_bytes(iv, 16) < 0 ||
            EVP_EncryptInit_ex(cipher, tls->ticket_cipher, NULL, key->aes, iv) != 1 ||
            set_mac(mac, key) != 1)
            return -1;
        memcpy(name, key->name, sizeof key->name);
        return 1;
    }
    for (size_t i = 0; i < tls->n_tickets; i++) {
        const struct ticket_key *key = &tls->tickets[i];
        if (memcmp(name, key->name, sizeof key->name) != 0)
            continue;
        if (set_mac(mac, key) != 1 ||
            EVP_DecryptInit_ex(cipher, tls->ticket_cipher, NULL, key->aes, iv) != 1)
            return -1;
        return i == 0 ? 1 : 2;
    }
    return 0;
}

int tls_server_set_tickets(struct tls_context *tls, const uint8_t keys[][TLS_TICKET_KEY_LEN],
                           size_t n)
{
    if (n == 0 || n > TLS_TICKET_KEYS_MAX)
        return -EINVAL;
    if (!tls->ticket_cipher)
        tls->ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    if (!tls->ticket_cipher)
        return -ENOMEM;
    memcpy(tls->tickets, keys, n * TLS_TICKET_KEY_LEN);
    tls->n_tickets = n;
    return SSL_CTX_set_tlsext_ticket_key_evp_cb(tls->ctx, on_ticket) == 1 ? 0 : -EINVAL;
}

/* --- client ----------------------------------------------------------------------------------- */

/* The number of lists that were taken, -1 when the file cannot be read. */
static int load_crls(SSL_CTX *ctx, const char *path)
{
    BIO *bio = BIO_new_file(path, "r");
    X509_CRL *crl;
    int n = 0;

    if (!bio)
        return -1;
    while ((crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL))) {
        n += X509_STORE_add_crl(SSL_CTX_get_cert_store(ctx), crl) == 1;
        X509_CRL_free(crl);
    }
    BIO_free(bio);
    if (n > 0)
        X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_CRL_CHECK);
    return n;
}

/* Unreadable files of a folder are passed over: a stray one must not lock the person out. */
static void add_folder(SSL_CTX *ctx, const char *path)
{
    DIR *dir = opendir(path);

    if (!dir)
        return;
    for (struct dirent *e; (e = readdir(dir));) {
        _cleanup_(free_p) char *file = NULL;
        bool crl = str_ends(e->d_name, ".crl");
        if (!crl && !str_ends(e->d_name, ".pem") && !str_ends(e->d_name, ".crt"))
            continue;
        file = str_printf("%s/%s", path, e->d_name);
        if (file && crl)
            (void)load_crls(ctx, file);
        else if (file)
            (void)SSL_CTX_load_verify_file(ctx, file);
    }
    closedir(dir);
    ERR_clear_error();
}

/* Whether a folder holds authorities by the hash of their names ("4042bcee.0"). */
static bool is_hashed(const char *path)
{
    DIR *dir = opendir(path);
    bool found = false;

    if (!dir)
        return false;
    for (struct dirent *e; !found && (e = readdir(dir));)
        found = strspn(e->d_name, "0123456789abcdef") == 8 && str_eq(e->d_name + 8, ".0");
    closedir(dir);
    return found;
}

/* OpenSSL reads the whole bundle of the system at once, 140 certificates in 25 ms. In a hashed
 * folder it looks only for the issuer that it needs. Whoever names other places by OpenSSL's own
 * environment has them all read. */
static void use_system(SSL_CTX *ctx)
{
    if (!getenv(X509_get_default_cert_file_env()) && !getenv(X509_get_default_cert_dir_env()) &&
        is_hashed(X509_get_default_cert_dir()))
        SSL_CTX_set_default_verify_dir(ctx);
    else
        SSL_CTX_set_default_verify_paths(ctx);
}

static must_check int use_own_cert(SSL_CTX *ctx, const struct tls_client_spec *spec,
                                   struct qvd_error *err)
{
    if (!spec->cert_file || !spec->key_file)
        return qvd_error_set(err, -EINVAL,
                             "a client certificate needs both its file and its key's");
    if (SSL_CTX_use_certificate_chain_file(ctx, spec->cert_file) != 1)
        return tls_fail(err, spec->cert_file);
    if (SSL_CTX_use_PrivateKey_file(ctx, spec->key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return tls_fail(err, spec->key_file);
    return 0;
}

int tls_client_new(const struct tls_client_spec *spec, struct tls_context **ret_tls,
                   struct qvd_error *err)
{
    static const unsigned char alpn[] = "\x08http/1.1";
    struct tls_context *tls;
    int r = context_new(TLS_client_method(), &tls);

    if (r < 0)
        return qvd_error_errno(err, r, "TLS context");
    SSL_CTX_set_alpn_protos(tls->ctx, alpn, sizeof alpn - 1);
    /* One certificate of a chain that the person trusts is enough, be it no root. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(tls->ctx), X509_V_FLAG_PARTIAL_CHAIN);
    if (spec->system)
        use_system(tls->ctx);
    for (size_t i = 0; spec->ca_dirs && spec->ca_dirs[i]; i++)
        add_folder(tls->ctx, spec->ca_dirs[i]);
    for (size_t i = 0; r >= 0 && spec->ca_files && spec->ca_files[i]; i++)
        if (SSL_CTX_load_verify_file(tls->ctx, spec->ca_files[i]) != 1)
            r = tls_fail(err, spec->ca_files[i]);
    if (r >= 0 && spec->crl_file && load_crls(tls->ctx, spec->crl_file) <= 0)
        r = tls_fail(err, spec->crl_file);
    if (r >= 0 && (spec->cert_file || spec->key_file))
        r = use_own_cert(tls->ctx, spec, err);
    ERR_clear_error();
    if (r < 0) {
        tls_context_unref(tls);
        return r;
    }
    *ret_tls = tls;
    return 0;
}

/* --- faults ------------------------------------------------------------------------------------
 */

static int known_as(int fault)
{
    switch (fault) {
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
        return TLS_FAULT_HOST;
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
        return TLS_FAULT_WEAK_KEY;
    case X509_V_ERR_CA_MD_TOO_WEAK:
        return TLS_FAULT_WEAK_HASH;
    default:
        return fault;
    }
}

void tls_peer_add_fault(struct tls_peer *peer, int fault)
{
    size_t i = 0;

    fault = known_as(fault);
    while (i < peer->n_faults && peer->faults[i] < fault)
        i++;
    if (i < peer->n_faults && peer->faults[i] == fault)
        return;
    if (peer->n_faults == TLS_FAULTS_MAX)
        return;
    memmove(peer->faults + i + 1, peer->faults + i, (peer->n_faults - i) * sizeof(int));
    peer->faults[i] = fault;
    peer->n_faults++;
}

const char *tls_fault_text(int fault)
{
    switch (fault) {
    case TLS_FAULT_HOST:
        return "it is not for this host";
    case TLS_FAULT_WEAK_HASH:
        return "it is signed with a weak hash (MD5 or SHA-1)";
    case TLS_FAULT_WEAK_KEY:
        return "its key is too short";
    case X509_V_ERR_CERT_HAS_EXPIRED:
        return "it has expired";
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "it is not valid yet";
    case X509_V_ERR_CERT_REVOKED:
        return "its authority has revoked it";
    case X509_V_ERR_CRL_HAS_EXPIRED:
        return "the list of revoked certificates is out of date";
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return "it is self-signed: no authority stands for it";
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_CERT_UNTRUSTED:
        return "its authority is not known here";
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        return "it came without the certificate of its authority";
    default:
        return X509_verify_cert_error_string(fault);
    }
}
