// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What TLS streams have in common: certificate, key and ticket keys of a server; roots of a client.
 * TLS 1.2 or later, no renegotiation, no early data, ALPN http/1.1 or none. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct tls_context;

/* Reads what OpenSSL reads from files once: before a sandbox without files is entered. */
void tls_init(void);

/* Before anything else of OpenSSL: what it gives back is kept at hand for the next connection. */
void tls_keep_memory(void);

/* PEM bytes, not file names: a sandboxed process has no files. min_version: "TLSv1.2" (NULL) or
 * "TLSv1.3"; ciphers: OpenSSL's list for 1.2, NULL ours. client_ca (NUL-ended): if set, clients
 * must show a certificate of one of these authorities, and get no session tickets; crl: those that
 * are revoked; without a list of its authority that is not out of date no certificate is good then.
 */
struct tls_server_spec {
    const char *cert_pem; /* chain, the server's own first */
    size_t cert_len;
    const char *key_pem;
    size_t key_len;
    const char *min_version, *ciphers;
    const char *client_ca_pem, *crl_pem;
};
must_check int tls_server_new(const struct tls_server_spec *spec, struct tls_context **ret_tls,
                              struct qvd_error *err);

/* system: the distribution's roots. Files and folders are NULL-ended lists (NULL: none); a folder's
 * *.pem and *.crt files are read, and lists of revoked certificates from its *.crl files; those
 * that cannot be are passed over. crl_file: more such lists. Authorities without a list are trusted
 * to have revoked nothing. */
struct tls_client_spec {
    bool system;
    const char *const *ca_files;
    const char *const *ca_dirs;
    const char *crl_file;             /* NULL: none */
    const char *cert_file, *key_file; /* both or none */
};
must_check int tls_client_new(const struct tls_client_spec *spec, struct tls_context **ret_tls,
                              struct qvd_error *err);

/* What a server's certificate tells; times in seconds since 1970, 0: none. */
struct tls_server_facts {
    int64_t not_after;
    int64_t crl_next; /* when the first list of revoked certificates is out of date */
    char subject[256];
};
void tls_server_facts(const struct tls_context *tls, struct tls_server_facts *ret);

/* Streams keep references of their own: a reload makes a new context and drops this one. */
struct tls_context *tls_context_ref(struct tls_context *tls);
/* NULL-safe, always NULL. */
struct tls_context *tls_context_unref(struct tls_context *tls);

/* Session tickets that all workers understand: the first key makes them, all open them. Without
 * keys a context makes its own. With TLS 1.3 a connection's ticket goes out with the first bytes
 * that are written. */
#define TLS_TICKET_KEY_LEN 80
#define TLS_TICKET_KEYS_MAX 3
must_check int tls_server_set_tickets(struct tls_context *tls,
                                      const uint8_t keys[][TLS_TICKET_KEY_LEN], size_t n);

/* Faults of a certificate: OpenSSL's X509_V_ERR_* numbers, and these of the reference. */
enum tls_fault {
    TLS_FAULT_NOT_YET = 9,
    TLS_FAULT_EXPIRED = 10,
    TLS_FAULT_REVOKED = 23,
    TLS_FAULT_HOST = 1001,      /* not for this host */
    TLS_FAULT_WEAK_HASH = 1002, /* signed with MD5 or SHA-1 */
    TLS_FAULT_WEAK_KEY = 1003,  /* RSA of 1024 bits or less */
};
#define TLS_FAULTS_MAX 16

/* What a client was shown. */
struct tls_peer {
    const char *host;
    int faults[TLS_FAULTS_MAX]; /* each once, ascending */
    size_t n_faults;
    char fingerprint[65]; /* SHA-256 of the certificate, lower-case hex */
    char subject[256], issuer[256];
    char not_before[32], not_after[32];
};
/* "it has expired", "it is not for this host". */
const char *tls_fault_text(int fault);
