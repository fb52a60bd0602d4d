// SPDX-License-Identifier: GPL-3.0-or-later
#include "ipc/l7r-msg.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "ipc/l7r-counts.h"

#define LIMIT_MS (7 * 24 * 3600 * 1000u)
#define TEXT_MAX 512

#define ROW(s, member, type_, max_) IPC_FIELD(struct s, member, type_, max_)
#define MESSAGE_FD(name_, type_, fd_)                                                              \
    const struct ipc_message name_##_msg = {.type = type_,                                         \
                                            .fd = fd_,                                             \
                                            .name = #name_,                                        \
                                            .size = sizeof(struct name_),                          \
                                            .fields = name_##_fields,                              \
                                            .n_fields = ARRAY_SIZE(name_##_fields)}
#define MESSAGE(name_, type_) MESSAGE_FD(name_, type_, false)

static const struct ipc_field l7r_context_fields[] = {
    ROW(l7r_context, slot, IPC_U32, 1023),
    ROW(l7r_context, generation, IPC_U32, 0),
    ROW(l7r_context, cert_len, IPC_U32, L7R_CERTIFICATE_MAX),
    ROW(l7r_context, key_len, IPC_U32, L7R_CERTIFICATE_MAX),
    ROW(l7r_context, ca_len, IPC_U32, L7R_CERTIFICATE_MAX),
    ROW(l7r_context, crl_len, IPC_U32, L7R_CERTIFICATE_MAX),
    ROW(l7r_context, handshake_ms, IPC_U32, LIMIT_MS),
    ROW(l7r_context, head_ms, IPC_U32, LIMIT_MS),
    ROW(l7r_context, unauth_ms, IPC_U32, LIMIT_MS),
    ROW(l7r_context, idle_ms, IPC_U32, LIMIT_MS),
    ROW(l7r_context, head_max, IPC_U32, 65536),
    ROW(l7r_context, progress_ms, IPC_U32, LIMIT_MS),
    ROW(l7r_context, request_ms, IPC_U32, LIMIT_MS),
    ROW(l7r_context, send_ms, IPC_U32, LIMIT_MS),
    ROW(l7r_context, half_close_ms, IPC_U32, LIMIT_MS),
    ROW(l7r_context, per_source, IPC_U32, 1000000),
    ROW(l7r_context, unauth, IPC_U32, 1000000),
    ROW(l7r_context, connections, IPC_U32, 1000000),
    ROW(l7r_context, log_level, IPC_U32, 4),
    ROW(l7r_context, min_version, IPC_STR, 16),
    ROW(l7r_context, ciphers, IPC_STR, L7R_CIPHERS_MAX),
    ROW(l7r_context, proxies, IPC_STR, L7R_PROXIES_MAX),
    ROW(l7r_context, ticket_keys, IPC_BYTES, L7R_TICKET_KEYS *L7R_TICKET_KEY_LEN),
};
static const struct ipc_field l7r_broker_context_fields[] = {
    ROW(l7r_broker_context, nodename, IPC_STR, 127),
    ROW(l7r_broker_context, instance, IPC_U64, INT64_MAX),
    ROW(l7r_broker_context, settings_len, IPC_U32, L7R_SETTINGS_MAX),
    ROW(l7r_broker_context, log_level, IPC_U32, 4),
};
static const struct ipc_field l7r_link_fields[] = {
    ROW(l7r_link, peer, IPC_U32, L7R_PEER_MAX - 1),
    ROW(l7r_link, slot, IPC_U32, 1023),
    ROW(l7r_link, generation, IPC_U32, 0),
};
static const struct ipc_field l7r_stop_fields[] = {ROW(l7r_stop, now, IPC_BOOL, 0)};
static const struct ipc_field l7r_ready_fields[] = {ROW(l7r_ready, instance, IPC_U64, INT64_MAX)};
static const struct ipc_field l7r_certificate_fields[] = {
    ROW(l7r_certificate, cert_len, IPC_U32, L7R_CERTIFICATE_MAX),
    ROW(l7r_certificate, key_len, IPC_U32, L7R_CERTIFICATE_MAX),
    ROW(l7r_certificate, ca_len, IPC_U32, L7R_CERTIFICATE_MAX),
    ROW(l7r_certificate, crl_len, IPC_U32, L7R_CERTIFICATE_MAX),
};
static const struct ipc_field l7r_settings_fields[] = {
    ROW(l7r_settings, len, IPC_U32, L7R_SETTINGS_MAX),
};
static const struct ipc_field l7r_shared_counts_fields[] = {
    ROW(l7r_shared_counts, region, IPC_U32, L7R_COUNTS_REGIONS - 1),
};
static const struct ipc_field l7r_hello_fields[] = {
    ROW(l7r_hello, version, IPC_U32, 0),
    ROW(l7r_hello, instance, IPC_U64, INT64_MAX),
    ROW(l7r_hello, slot, IPC_U32, 1023),
    ROW(l7r_hello, generation, IPC_U32, 0),
};
static const struct ipc_field l7r_resync_fields[] = {
    ROW(l7r_resync, sessions, IPC_BYTES, L7R_RESYNC_MAX * sizeof(uint64_t)),
    ROW(l7r_resync, last, IPC_BOOL, 0),
};
static const struct ipc_field l7r_request_fields[] = {
    ROW(l7r_request, conn, IPC_U64, 0),
    ROW(l7r_request, kind, IPC_U32, L7R_KIND_MAX - 1),
    ROW(l7r_request, credentials, IPC_U32, L7R_CREDENTIALS_MAX - 1),
    ROW(l7r_request, login, IPC_STR, 512),
    ROW(l7r_request, secret, IPC_STR, 1024),
    ROW(l7r_request, source, IPC_STR, 64),
    ROW(l7r_request, client, IPC_STR, 256),
    ROW(l7r_request, vm_id, IPC_U64, INT64_MAX),
    ROW(l7r_request, flaw, IPC_U32, 599),
    ROW(l7r_request, flaw_text, IPC_STR, TEXT_MAX),
    ROW(l7r_request, store_auth, IPC_BOOL, 0),
    ROW(l7r_request, file_name, IPC_STR, 1024),
    ROW(l7r_request, tls_ms, IPC_U32, 0),
    ROW(l7r_request, params, IPC_BYTES, L7R_PARAMS_MAX),
    ROW(l7r_request, env, IPC_BYTES, L7R_ENV_MAX),
};
static const struct ipc_field l7r_here_fields[] = {ROW(l7r_here, conn, IPC_U64, 0)};
static const struct ipc_field l7r_gone_fields[] = {ROW(l7r_gone, conn, IPC_U64, 0)};
static const struct ipc_field l7r_closed_fields[] = {
    ROW(l7r_closed, conn, IPC_U64, 0),
    ROW(l7r_closed, session, IPC_U64, INT64_MAX),
    ROW(l7r_closed, bytes_in, IPC_U64, INT64_MAX),
    ROW(l7r_closed, bytes_out, IPC_U64, INT64_MAX),
    ROW(l7r_closed, first_byte_ms, IPC_I64, 0),
    ROW(l7r_closed, reason, IPC_STR, 256),
};
static const struct ipc_field l7r_welcome_fields[] = {
    ROW(l7r_welcome, instance, IPC_U64, INT64_MAX),
};
static const struct ipc_field l7r_progress_fields[] = {
    ROW(l7r_progress, conn, IPC_U64, 0),
    ROW(l7r_progress, text, IPC_STR, TEXT_MAX),
};
static const struct ipc_field l7r_answer_fields[] = {
    ROW(l7r_answer, conn, IPC_U64, 0),
    ROW(l7r_answer, status, IPC_U32, 599),
    ROW(l7r_answer, type, IPC_STR, 64),
    ROW(l7r_answer, retry_after, IPC_U32, 86400),
    ROW(l7r_answer, authenticated, IPC_BOOL, 0),
    ROW(l7r_answer, last, IPC_BOOL, 0),
    ROW(l7r_answer, body, IPC_BYTES, L7R_BODY_MAX),
};
static const struct ipc_field l7r_still_there_fields[] = {
    ROW(l7r_still_there, conn, IPC_U64, 0),
};
static const struct ipc_field l7r_relay_fields[] = {
    ROW(l7r_relay, conn, IPC_U64, 0),
    ROW(l7r_relay, session, IPC_U64, INT64_MAX),
    ROW(l7r_relay, slave_key, IPC_STR, 64),
};
static const struct ipc_field l7r_cut_fields[] = {
    ROW(l7r_cut, session, IPC_U64, INT64_MAX),
    ROW(l7r_cut, reason, IPC_STR, 256),
};
static const struct ipc_field l7r_ack_fields[] = {ROW(l7r_ack, session, IPC_U64, INT64_MAX)};

MESSAGE_FD(l7r_context, 130, true);
MESSAGE_FD(l7r_broker_context, 131, true);
MESSAGE_FD(l7r_link, 132, true);
MESSAGE(l7r_stop, 133);
MESSAGE(l7r_ready, 134);
MESSAGE_FD(l7r_certificate, 135, true);
MESSAGE_FD(l7r_settings, 136, true);
MESSAGE_FD(l7r_shared_counts, 137, true);
MESSAGE(l7r_hello, 140);
MESSAGE(l7r_resync, 141);
MESSAGE(l7r_request, 142);
MESSAGE(l7r_here, 143);
MESSAGE(l7r_gone, 144);
MESSAGE(l7r_closed, 145);
MESSAGE(l7r_welcome, 150);
MESSAGE(l7r_progress, 151);
MESSAGE(l7r_answer, 152);
MESSAGE(l7r_still_there, 153);
MESSAGE_FD(l7r_relay, 154, true);
MESSAGE(l7r_cut, 155);
MESSAGE(l7r_ack, 156);

const struct ipc_message *const l7r_messages[] = {
    &l7r_context_msg,  &l7r_broker_context_msg,
    &l7r_link_msg,     &l7r_stop_msg,
    &l7r_ready_msg,    &l7r_certificate_msg,
    &l7r_settings_msg, &l7r_shared_counts_msg,
    &l7r_hello_msg,    &l7r_resync_msg,
    &l7r_request_msg,  &l7r_here_msg,
    &l7r_gone_msg,     &l7r_closed_msg,
    &l7r_welcome_msg,  &l7r_progress_msg,
    &l7r_answer_msg,   &l7r_still_there_msg,
    &l7r_relay_msg,    &l7r_cut_msg,
    &l7r_ack_msg,      NULL,
};

int l7r_memory_new(const struct ipc_bytes *parts, size_t n)
{
    _cleanup_(close_p) int fd = memfd_create("qvd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int r = 0;

    if (fd < 0)
        return -errno;
    for (size_t i = 0; r == 0 && i < n; i++)
        if (parts[i].len)
            r = fs_write_all(fd, parts[i].data, parts[i].len);
    if (r < 0)
        return r;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return -errno;
    return TAKE_FD(fd);
}

int l7r_memory_read(int fd, size_t len, size_t max, char **ret_data)
{
    if (len > max)
        return -EFBIG;
    _cleanup_(free_p) char *data = malloc(len + 1);
    if (!data)
        return -ENOMEM;
    for (size_t at = 0; at < len;) {
        ssize_t n = pread(fd, data + at, len - at, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EBADMSG;
        at += (size_t)n;
    }
    data[len] = 0;
    *ret_data = TAKE_PTR(data);
    return 0;
}
