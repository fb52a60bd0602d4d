// SPDX-License-Identifier: GPL-3.0-or-later
#include "llhttp-oracle.h"

#include <llhttp/llhttp.h>

static int add(llhttp_t *p, const char *at, size_t len)
{
    struct oracle *s = p->data;

    return buf_append(&s->text, at, len) < 0 ? HPE_USER : 0;
}

static int end_of_part(llhttp_t *p)
{
    return add(p, "\n", 1);
}

static int on_head(llhttp_t *p)
{
    struct oracle *s = p->data;

    s->complete = true;
    return HPE_PAUSED;
}

bool oracle_takes(const uint8_t *data, size_t len, struct oracle *s)
{
    llhttp_settings_t settings;
    llhttp_t p;

    llhttp_settings_init(&settings);
    settings.on_url = add;
    settings.on_url_complete = end_of_part;
    settings.on_header_field = add;
    settings.on_header_field_complete = end_of_part;
    settings.on_header_value = add;
    settings.on_header_value_complete = end_of_part;
    settings.on_headers_complete = on_head;
    llhttp_init(&p, HTTP_REQUEST, &settings);
    *s = (struct oracle){0};
    buf_init(&s->text, 0);
    p.data = s;
    (void)llhttp_execute(&p, (const char *)data, len);
    s->chunked = p.flags & F_CHUNKED;
    s->content_length = p.content_length;
    s->reason = p.reason ? p.reason : "";
    return s->complete;
}
