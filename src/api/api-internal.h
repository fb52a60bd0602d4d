// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

/* What the files of the API's server share: the server, a request on its way, the table of routes.
 */

#include <jansson.h>
#include <netinet/in.h>

#include "base/list.h"
#include "base/map.h"
#include "conf/conf.h"
#include "db/db.h"
#include "ev/ev.h"
#include "http/server.h"
#include "http/uri.h"
#include "ipc/auth-client.h"
#include "ipc/channel.h"
#include "store/admin-config.h"
#include "store/admin-vm.h"
#include "store/admin.h"
#include "store/schema.h"
#include "stream/tls.h"

#define API_VALUES_MAX 64
#define API_TICKET_LEN 43

struct api {
    struct ev_loop *loop;
    struct conf *conf;
    struct db *db;
    struct store_schema *schema;
    struct auth_client *auth;
    struct ipc_channel *master;
    struct tls_context *tls;
    char *cert;
    size_t cert_len;
    struct list conns;
    size_t n_conns;
    struct map *copies; /* id of an image -> struct copy */
    struct admin_balance balance;
};

struct api_conn {
    struct list node;
    struct api *api;
    struct http_server *http;
    struct api_request *request; /* the present one */
    char source[64];             /* the peer's address without port */
};

/* A request; lives until it is answered. conn is NULL once the peer has gone: what was begun goes
 * on, the answer is for nobody. */
struct api_request {
    struct api *api;
    struct api_conn *conn;
    const struct route *route;
    char method[16];
    struct http_target *target;
    char *path[6]; /* the words behind /api/1/ */
    size_t n_path;
    char *path_room;
    json_t *body; /* an object; NULL: none was sent */
    struct admin_who who;
    char admin_name[260], admin_tenant[260];
    uint8_t ticket_hash[STORE_TICKET_HASH_LEN];
    const struct admin_resource *resource;
    int64_t id;
    struct filter *filter;
    /* values to be set, and the texts they point to */
    struct admin_value values[API_VALUES_MAX];
    char *texts[API_VALUES_MAX + 4];
    size_t n_values, n_texts;
    int64_t tenant;
    char *hash;                          /* of a new password */
    void (*then)(struct api_request *q); /* what follows the hash or the tenant */
};

/* What is asked for. path: words, "*" stands for one that is kept. open: needs no login. */
struct route {
    const char *method, *path;
    bool open;
    void (*fn)(struct api_request *q);
    const char *text; /* for the documentation */
};
extern const struct route api_routes[];
extern const size_t api_n_routes;

/* Answers; the request is freed. */
void api_answer_raw(struct api_request *q, int status, const char *body, size_t len);
void api_answer_json(struct api_request *q, int status, json_t *take);
void api_answer_error(struct api_request *q, enum admin_status status, const struct qvd_error *err);
void api_answer_text_error(struct api_request *q, int http_status, const char *code,
                           const char *text);
void api_answer_id(struct api_request *q, int status, int64_t id);
/* {"id": N} or the error; notes the change in the log. For store's callbacks. */
void api_answer_done(void *arg, const struct admin_done *done);
/* Ends the request with the error when status is not ADMIN_OK: false. */
bool api_began(struct api_request *q, enum admin_status status, const struct qvd_error *err);
void api_request_free(struct api_request *q);
/* Keeps a text until the request ends; NULL when out of memory (or too many). */
const char *api_keep(struct api_request *q, char *take);
/* The log's line about a change. */
void api_log(const struct api_request *q, const char *what, int64_t id, const char *outcome);

/* A new connection. */
void api_accept(struct api *api, int fd, const struct sockaddr_in6 *peer);
void api_conn_free(struct api_conn *c);

/* Fills q->values from the body by the table. letter: 'c' creation, 'e' edit. */
must_check enum admin_status api_values(struct api_request *q, char letter, struct qvd_error *err);
/* A member of the body as text ("" for null); NULL: not there. Fails when it is no text. */
must_check enum admin_status api_member(struct api_request *q, const char *name, bool must,
                                        const char **ret, struct qvd_error *err);
const char *api_text_of(struct api_request *q, const json_t *v);

/* Handlers of routes, one file a subject. */
void api_info(struct api_request *q);
void api_login(struct api_request *q);
void api_logout(struct api_request *q);
void api_session(struct api_request *q);
void api_password(struct api_request *q);
void api_list(struct api_request *q);
void api_show(struct api_request *q);
void api_create(struct api_request *q);
void api_edit(struct api_request *q);
void api_delete(struct api_request *q);
void api_block(struct api_request *q);
void api_unblock(struct api_request *q);
void api_vm_start(struct api_request *q);
void api_vm_stop(struct api_request *q);
void api_vm_disconnect(struct api_request *q);
void api_di_tag(struct api_request *q);
void api_di_untag(struct api_request *q);
void api_config_list(struct api_request *q);
void api_config_set(struct api_request *q);
void api_config_delete(struct api_request *q);
void api_config_ssl(struct api_request *q);
/* What creation and deletion of images, and creation of VMs, do more. */
void api_di_create(struct api_request *q);
void api_di_delete(struct api_request *q);
must_check enum admin_status api_vm_address(struct api_request *q, struct db_param extra[3],
                                            bool *ret_extra, struct qvd_error *err);
/* The master's message: the copier of an image. Takes *fd. */
int api_di_copier(struct api *api, uint64_t di, int *fd);
/* At the end: the copies that go on are their copiers' affair no more. After db_free(). */
void api_di_forget(struct api *api);

/* Who sent it (bearer ticket): calls the route's fn, or answers 401. */
void api_authenticate(struct api_request *q, const char *authorization);
void api_ticket_hash(const char *ticket, uint8_t dst[STORE_TICKET_HASH_LEN]);
