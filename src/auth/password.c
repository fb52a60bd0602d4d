// SPDX-License-Identifier: GPL-3.0-or-later
/* Password hashes by libcrypt. Each verification costs one yescrypt hash, whatever is stored, so
 * that its time tells nothing of the account. */
#include "auth/password.h"

#include <crypt.h>
#include <openssl/sha.h>
#include <string.h>

#include "base/str.h"

#define OLD_PREFIX "$qvd1$"

/* The hash of nobody: of a random password, in the scheme and cost of all others. */
static const char *nobody(void)
{
    static char hash[PASSWORD_HASH_MAX];
    char password[33];

    if (!hash[0] && (random_alnum(password, 32) < 0 || password_hash(password, hash, NULL) < 0))
        hash[0] = '\0';
    return hash;
}

int password_hash(const char *password, char dst[PASSWORD_HASH_MAX], struct qvd_error *err)
{
    char salt[CRYPT_GENSALT_OUTPUT_SIZE];

    if (!password[0])
        return qvd_error_set(err, -EINVAL, "the password is empty");
    if (strlen(password) > PASSWORD_MAX)
        return qvd_error_set(err, -EINVAL, "the password has more than %d bytes", PASSWORD_MAX);
    if (!crypt_gensalt_rn("$y$", 0, NULL, 0, salt, sizeof salt))
        return qvd_error_errno(err, errno, "cannot make a salt");
    _cleanup_(free_p) struct crypt_data *data = calloc(1, sizeof *data);
    if (!data)
        return qvd_error_errno(err, ENOMEM, "cannot hash the password");
    const char *hash = crypt_r(password, salt, data);
    if (!hash || hash[0] == '*' || str_copy(dst, PASSWORD_HASH_MAX, hash) < 0)
        return qvd_error_set(err, -EIO, "cannot hash the password: libcrypt lacks yescrypt");
    explicit_bzero(data, sizeof *data);
    return 0;
}

static bool verify_crypt(const char *password, const char *stored)
{
    _cleanup_(free_p) struct crypt_data *data = calloc(1, sizeof *data);

    if (!data)
        return false;
    const char *hash = crypt_r(password, stored, data);
    size_t len = strlen(stored);
    bool same = hash && hash[0] != '*' && strlen(hash) == len && bytes_equal(hash, stored, len);
    explicit_bzero(data, sizeof *data);
    return same;
}

/* base64 without padding of SHA-256(salt, password): what the original stores. */
static bool verify_old(const char *password, const char *stored, const char *salt)
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    _cleanup_(free_p) char *all = str_printf("%s%s", salt, password);

    if (!all)
        return false;
    SHA256((const unsigned char *)all, strlen(all), sum);
    password_wipe(all);
    _cleanup_(free_p) char *b64 = base64_encode(sum, sizeof sum);
    if (!b64)
        return false;
    b64[strcspn(b64, "=")] = '\0';
    return strlen(b64) == strlen(stored) && bytes_equal(b64, stored, strlen(stored));
}

enum password_verdict password_verify(const char *password, const char *stored, const char *salt)
{
    bool old = stored && str_starts(stored, OLD_PREFIX);
    bool fit = password[0] && strlen(password) <= PASSWORD_MAX;
    bool none = !fit || !stored || !stored[0] || old;
    bool right = verify_crypt(fit ? password : "-", none ? nobody() : stored);

    if (old)
        return fit && verify_old(password, stored + strlen(OLD_PREFIX), salt) ? PASSWORD_RIGHT_OLD
                                                                              : PASSWORD_WRONG;
    return right && !none ? PASSWORD_RIGHT : PASSWORD_WRONG;
}

void password_wipe(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
}
