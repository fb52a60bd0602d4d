// SPDX-License-Identifier: GPL-3.0-or-later
#include "ipc/api-msg.h"

#define MESSAGE(name_, type_, fd_)                                                                 \
    const struct ipc_message name_##_msg = {.type = type_,                                         \
                                            .fd = fd_,                                             \
                                            .name = #name_,                                        \
                                            .size = sizeof(struct name_),                          \
                                            .fields = name_##_fields,                              \
                                            .n_fields = ARRAY_SIZE(name_##_fields)}

static const struct ipc_field api_authd_fields[] = {
    IPC_FIELD(struct api_authd, again, IPC_BOOL, 0),
};
static const struct ipc_field api_tls_fields[] = {
    IPC_FIELD(struct api_tls, key, IPC_BOOL, 0),
};
static const struct ipc_field api_copy_fields[] = {
    IPC_FIELD(struct api_copy, di, IPC_U64, INT64_MAX),
    IPC_FIELD(struct api_copy, file, IPC_STR, API_FILE_MAX),
    IPC_FIELD(struct api_copy, name, IPC_STR, API_FILE_MAX + 21),
};
static const struct ipc_field api_copier_fields[] = {
    IPC_FIELD(struct api_copier, di, IPC_U64, INT64_MAX),
};
static const struct ipc_field api_progress_fields[] = {
    IPC_FIELD(struct api_progress, done, IPC_U64, INT64_MAX),
    IPC_FIELD(struct api_progress, total, IPC_U64, INT64_MAX),
};
static const struct ipc_field api_copied_fields[] = {
    IPC_FIELD(struct api_copied, ok, IPC_BOOL, 0),
    IPC_FIELD(struct api_copied, size, IPC_U64, INT64_MAX),
    IPC_FIELD(struct api_copied, sha256, IPC_STR, API_SHA256_LEN),
    IPC_FIELD(struct api_copied, text, IPC_STR, 300),
};
static const struct ipc_field api_remove_fields[] = {
    IPC_FIELD(struct api_remove, name, IPC_STR, API_FILE_MAX + 21),
};
static const struct ipc_field api_ready_fields[] = {
    IPC_FIELD(struct api_ready, ready, IPC_BOOL, 0),
};

MESSAGE(api_authd, 160, true);
MESSAGE(api_tls, 161, true);
MESSAGE(api_copy, 162, false);
MESSAGE(api_copier, 163, true);
MESSAGE(api_progress, 164, false);
MESSAGE(api_copied, 165, false);
MESSAGE(api_remove, 166, false);
MESSAGE(api_ready, 167, false);
