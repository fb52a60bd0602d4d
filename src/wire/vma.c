// SPDX-License-Identifier: GPL-3.0-or-later
/* VMA wire v1: signing, checking, and the shape of answers. Knows no sockets and no HTTP. */
#include "wire/vma.h"

#include <jansson.h>
#include <nettle/hmac.h>
#include <string.h>

#include "base/str.h"

#define MAC_LEN SHA256_DIGEST_SIZE
#define MAC_HEX (2 * MAC_LEN)

int wire_vma_nonce(char ret_nonce[WIRE_VMA_NONCE_LEN + 1])
{
    uint8_t raw[WIRE_VMA_NONCE_LEN / 2];
    int r = random_bytes(raw, sizeof raw);

    if (r == 0)
        hex_encode(raw, sizeof raw, ret_nonce);
    return r;
}

/* The hex MAC over head (which ends with a newline) and the hash of the body. */
static void make_mac(const uint8_t secret[WIRE_VMA_SECRET_LEN], const char *head, const void *body,
                     size_t len, char ret_mac[MAC_HEX + 1])
{
    uint8_t hash[MAC_LEN], mac[MAC_LEN];
    char hex[MAC_HEX + 1];
    struct sha256_ctx of_body;
    struct hmac_sha256_ctx of_all;

    sha256_init(&of_body);
    if (len > 0)
        sha256_update(&of_body, len, body);
    sha256_digest(&of_body, sizeof hash, hash);
    hex_encode(hash, sizeof hash, hex);
    hmac_sha256_set_key(&of_all, WIRE_VMA_SECRET_LEN, secret);
    hmac_sha256_update(&of_all, strlen(head), (const uint8_t *)head);
    hmac_sha256_update(&of_all, MAC_HEX, (const uint8_t *)hex);
    hmac_sha256_digest(&of_all, sizeof mac, mac);
    explicit_bzero(&of_all, sizeof of_all);
    hex_encode(mac, sizeof mac, ret_mac);
}

static must_check int request_mac(const uint8_t secret[WIRE_VMA_SECRET_LEN], const char *function,
                                  uint64_t serial, const char *nonce, const void *body, size_t len,
                                  char ret_mac[MAC_HEX + 1])
{
    char head[160];
    int r = str_format(head, sizeof head, "qvd1 request\n%s\n%llu\n%s\n", function,
                       (unsigned long long)serial, nonce);

    if (r == 0)
        make_mac(secret, head, body, len, ret_mac);
    return r;
}

static must_check int answer_mac(const uint8_t secret[WIRE_VMA_SECRET_LEN], unsigned status,
                                 const char *nonce, const void *body, size_t len,
                                 char ret_mac[MAC_HEX + 1])
{
    char head[160];
    int r = str_format(head, sizeof head, "qvd1 answer\n%u\n%s\n", status, nonce);

    if (r == 0)
        make_mac(secret, head, body, len, ret_mac);
    return r;
}

int wire_vma_warm_up(void)
{
    size_t seed;

    if (random_bytes(&seed, sizeof seed) < 0)
        return -EIO;
    json_object_seed(seed | 1); /* jansson would open /dev/urandom */
    return 0;
}

int wire_vma_sign_request(const uint8_t secret[WIRE_VMA_SECRET_LEN], const char *function,
                          uint64_t serial, const char *nonce, const void *body, size_t len,
                          char ret_value[WIRE_VMA_AUTH_MAX])
{
    char mac[MAC_HEX + 1];
    int r = request_mac(secret, function, serial, nonce, body, len, mac);

    return r < 0 ? r
                 : str_format(ret_value, WIRE_VMA_AUTH_MAX, "v1 %llu %s %s",
                              (unsigned long long)serial, nonce, mac);
}

int wire_vma_sign_answer(const uint8_t secret[WIRE_VMA_SECRET_LEN], unsigned status,
                         const char *nonce, const void *body, size_t len,
                         char ret_value[WIRE_VMA_AUTH_MAX])
{
    char mac[MAC_HEX + 1];
    int r = answer_mac(secret, status, nonce, body, len, mac);

    return r < 0 ? r : str_format(ret_value, WIRE_VMA_AUTH_MAX, "v1 %s", mac);
}

static bool is_hex(const char *s, size_t len, size_t want)
{
    if (len != want)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!(s[i] >= '0' && s[i] <= '9') && !(s[i] >= 'a' && s[i] <= 'f'))
            return false;
    return true;
}

/* Takes the next word off the front of *s: words are separated by exactly one blank. */
static size_t next_word(const char **s, const char *end, const char **ret_word)
{
    const char *at = *s;
    const char *blank = memchr(at, ' ', end - at);
    size_t n = (blank ? blank : end) - at;

    *ret_word = at;
    *s = blank ? blank + 1 : end;
    return n;
}

static must_check int parse_serial(const char *word, size_t len, uint64_t *ret_serial)
{
    char text[21];

    if (str_copy_n(text, sizeof text, word, len) < 0 ||
        str_to_u64(text, UINT64_MAX, ret_serial) < 0)
        return -EBADMSG;
    return text[0] == '0' && len > 1 ? -EBADMSG : 0;
}

int wire_vma_check_request(const uint8_t secret[WIRE_VMA_SECRET_LEN], const char *function,
                           const char *value, size_t value_len, const void *body, size_t len,
                           uint64_t *ret_serial, char ret_nonce[WIRE_VMA_NONCE_LEN + 1])
{
    const char *at = value, *end = value + value_len, *word[4];
    char nonce[WIRE_VMA_NONCE_LEN + 1], mac[MAC_HEX + 1];
    size_t n[4];
    uint64_t serial;

    if (value_len >= WIRE_VMA_AUTH_MAX || value_len == 0 || end[-1] == ' ')
        return -EBADMSG;
    for (int i = 0; i < 4; i++)
        n[i] = next_word(&at, end, &word[i]);
    if (at != end || n[0] != 2 || memcmp(word[0], "v1", 2) != 0 ||
        parse_serial(word[1], n[1], &serial) < 0 || !is_hex(word[2], n[2], WIRE_VMA_NONCE_LEN) ||
        !is_hex(word[3], n[3], MAC_HEX))
        return -EBADMSG;
    memcpy(nonce, word[2], n[2]);
    nonce[n[2]] = '\0';
    int r = request_mac(secret, function, serial, nonce, body, len, mac);
    if (r < 0)
        return -EIO;
    if (!bytes_equal(mac, word[3], MAC_HEX))
        return -EACCES;
    *ret_serial = serial;
    memcpy(ret_nonce, nonce, sizeof nonce);
    return 0;
}

int wire_vma_check_answer(const uint8_t secret[WIRE_VMA_SECRET_LEN], unsigned status,
                          const char *nonce, const char *value, size_t value_len, const void *body,
                          size_t len)
{
    char mac[MAC_HEX + 1];

    if (value_len != 3 + MAC_HEX || memcmp(value, "v1 ", 3) != 0 ||
        !is_hex(value + 3, value_len - 3, MAC_HEX))
        return -EBADMSG;
    if (answer_mac(secret, status, nonce, body, len, mac) < 0)
        return -EIO;
    return bytes_equal(mac, value + 3, MAC_HEX) ? 0 : -EACCES;
}

/* Copies a text that a stranger chose as one printable line, cut at whole characters. */
static void copy_printable(char *dst, size_t size, const char *s, size_t len)
{
    size_t n = 0;

    while (n < len && n < size - 1) {
        unsigned char c = s[n];
        dst[n++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
    }
    while (n > 0 && n < len && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--; /* the cut must not split a character */
    dst[n] = '\0';
    /* C1 controls (U+0080 to U+009F) are 0xc2 0x80 to 0xc2 0x9f. */
    for (size_t i = 0; i + 1 < n; i++)
        if ((unsigned char)dst[i] == 0xc2 && (unsigned char)dst[i + 1] < 0xa0)
            dst[i] = dst[i + 1] = '?';
}

int wire_vma_answer_parse(const char *body, size_t len, struct wire_vma_answer *ret)
{
    json_error_t error;

    if (len > WIRE_VMA_BODY_MAX)
        return -EBADMSG;
    json_auto_t *root = json_loadb(body, len, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(root))
        return -EBADMSG;
    json_t *state = json_object_get(root, "state"), *text = json_object_get(root, "error");
    if ((state && !json_is_string(state)) || (text && !json_is_string(text)))
        return -EBADMSG;
    ret->state = state ? wire_x_state_from_string(json_string_value(state)) : WIRE_X_STATE_INVALID;
    ret->error[0] = '\0';
    if (text)
        copy_printable(ret->error, sizeof ret->error, json_string_value(text),
                       json_string_length(text));
    return 0;
}

char *wire_vma_answer_format(const struct wire_vma_answer *answer)
{
    json_auto_t *root = json_object();
    const char *state = wire_x_state_to_string(answer->state);

    if (!root || (state && json_object_set_new(root, "state", json_string(state)) < 0))
        return NULL;
    if (answer->error[0] && json_object_set_new(root, "error", json_string(answer->error)) < 0)
        return NULL;
    return json_dumps(root, JSON_COMPACT);
}
