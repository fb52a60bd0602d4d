// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* Certificates made on the spot, P-256. */

struct test_cert {
    char *cert, *key; /* PEM */
};

/* name: the DNS name or address (SAN); days: until its end (negative: expired); issuer: NULL for
 * self-signed. */
struct test_cert test_cert_make(const char *name, int days, const struct test_cert *issuer);
void test_cert_done(struct test_cert *c);
