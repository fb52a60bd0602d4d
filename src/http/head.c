// SPDX-License-Identifier: GPL-3.0-or-later
/* RFC 9112 heads, strictly: what is not plainly right is refused, and nothing is repaired. */
#include "http/head.h"

#include <string.h>
#include <strings.h>

#include "base/list.h"
#include "base/str.h"

/* The head, its headers and a copy of its bytes with NULs behind the parts: one piece of memory. */
struct parsed {
    struct http_head head;
    struct http_header headers[];
};

enum line_end { END_UNKNOWN, END_CRLF, END_LF };

struct parser {
    char *at, *end;
    enum line_end line_end;
    const char *why;
    struct http_head *head;
    struct http_header *headers;
    size_t max_headers;
};

static bool is_token(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Visible characters, blanks and what is beyond ASCII. */
static bool is_text(unsigned char c)
{
    return c == '\t' || (c >= 0x20 && c != 0x7f);
}

static bool has_lone_cr(const uint8_t *data, size_t len)
{
    const uint8_t *cr;

    for (size_t at = 0; at < len && (cr = memchr(data + at, '\r', len - at));
         at = (size_t)(cr - data) + 1)
        if (cr + 1 < data + len && cr[1] != '\n')
            return true;
    return false;
}

ssize_t http_head_length(const uint8_t *data, size_t len, size_t max)
{
    size_t seen = len < max ? len : max, start = 0;
    bool begun = false;

    while (start < seen) {
        const uint8_t *lf = memchr(data + start, '\n', seen - start);
        if (!lf)
            break;
        size_t line = lf - (data + start);
        bool empty = line == 0 || (line == 1 && data[start] == '\r');
        start += line + 1;
        if (empty && begun)
            return start;
        begun = begun || !empty;
    }
    if (len >= max)
        return -E2BIG;
    return has_lone_cr(data, seen) ? -EBADMSG : 0;
}

static int bad(struct parser *p, int status, const char *why)
{
    p->why = why;
    return status;
}

/* The next line, NUL-ended without its end: 0 or 400. */
static must_check int next_line(struct parser *p, char **ret_line, size_t *ret_len)
{
    char *line = p->at, *lf = memchr(p->at, '\n', p->end - p->at);
    enum line_end line_end = END_LF;

    if (!lf)
        return bad(p, 400, "no end of line");
    p->at = lf + 1;
    if (lf > line && lf[-1] == '\r') {
        lf--;
        line_end = END_CRLF;
    }
    if (p->line_end != END_UNKNOWN && line_end != p->line_end)
        return bad(p, 400, "CRLF and LF mixed");
    p->line_end = line_end;
    *lf = '\0';
    for (const char *c = line; c < lf; c++)
        if (!is_text(*c))
            return bad(p, 400, "control character");
    *ret_line = line;
    *ret_len = lf - line;
    return 0;
}

/* Leading empty lines are ignored (RFC 9112, 2.2), whatever their ends. */
static void skip_empty_lines(struct parser *p)
{
    for (;;) {
        if (p->end - p->at >= 1 && p->at[0] == '\n')
            p->at++;
        else if (p->end - p->at >= 2 && p->at[0] == '\r' && p->at[1] == '\n')
            p->at += 2;
        else
            return;
    }
}

static must_check int check_version(struct parser *p, const char *s)
{
    if (strcmp(s, "HTTP/1.1") == 0)
        return 0;
    if (strncmp(s, "HTTP/", 5) == 0 && s[5] >= '0' && s[5] <= '9' &&
        (s[6] == '\0' || (s[6] == '.' && s[7] >= '0' && s[7] <= '9' && s[8] == '\0')))
        return bad(p, 505, "HTTP/1.1 only");
    return bad(p, 400, "no HTTP version");
}

static must_check int parse_request_line(struct parser *p, char *line)
{
    char *target = strchr(line, ' ');
    char *version = target ? strchr(target + 1, ' ') : NULL;

    if (!version)
        return bad(p, 400, "request line without three parts");
    *target++ = '\0';
    *version++ = '\0';
    if (!*line)
        return bad(p, 400, "no method");
    for (const char *c = line; *c; c++)
        if (!is_token(*c))
            return bad(p, 400, "method");
    if (*target != '/')
        return bad(p, 400, "target without leading slash");
    for (const char *c = target; *c; c++)
        if (*c <= ' ' || *c >= 0x7f || *c == '#')
            return bad(p, 400, "target");
    p->head->method = line;
    p->head->target = target;
    return check_version(p, version);
}

static must_check int parse_status_line(struct parser *p, char *line, size_t len)
{
    char *status = strchr(line, ' ');

    if (!status)
        return bad(p, 400, "status line");
    *status++ = '\0';
    int r = check_version(p, line);
    if (r)
        return r;
    if (strlen(status) < 3 || (status[3] != ' ' && status[3] != '\0') || status[0] < '1' ||
        status[0] > '5')
        return bad(p, 400, "status");
    for (int i = 0; i < 3; i++) {
        if (status[i] < '0' || status[i] > '9')
            return bad(p, 400, "status");
        p->head->status = p->head->status * 10 + (status[i] - '0');
    }
    p->head->reason = status[3] ? status + 4 : status + 3;
    return 0;
}

static must_check int parse_header(struct parser *p, char *line, size_t len)
{
    char *colon = memchr(line, ':', len), *value, *end = line + len;

    if (is_blank(*line))
        return bad(p, 400, "folded header");
    if (!colon || colon == line)
        return bad(p, 400, "header without name");
    for (const char *c = line; c < colon; c++)
        if (!is_token(*c))
            return bad(p, 400, "header name");
    *colon = '\0';
    /* llhttp does not see "chunked" before a tab: two readings of where the body ends. */
    if ((strcasecmp(line, "Transfer-Encoding") == 0 || strcasecmp(line, "Content-Length") == 0) &&
        memchr(colon + 1, '\t', end - colon - 1))
        return bad(p, 400, "tab in a header that tells the body's length");
    for (value = colon + 1; is_blank(*value); value++)
        ;
    while (end > value && is_blank(end[-1]))
        end--;
    *end = '\0';
    if (p->head->n_headers == p->max_headers)
        return bad(p, 431, "too many headers");
    p->headers[p->head->n_headers++] = (struct http_header){line, value};
    return 0;
}

static size_t count(const struct http_head *h, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < h->n_headers; i++)
        n += strcasecmp(h->headers[i].name, name) == 0;
    return n;
}

/* What decides where the body ends must have one meaning only. */
static must_check int judge(struct parser *p)
{
    static const char *const single[] = {"Content-Length", "Transfer-Encoding", "Host",
                                         "Authorization"};
    struct http_head *h = p->head;
    const char *length, *coding = http_head_get(h, "Transfer-Encoding");
    uint64_t value;

    for (size_t i = 0; i < ARRAY_SIZE(single); i++)
        if (count(h, single[i]) > 1)
            return bad(p, 400, "header given twice");
    length = http_head_get(h, "Content-Length");
    h->content_length = -1;
    if (coding && length)
        return bad(p, 400, "Content-Length beside Transfer-Encoding");
    if (coding && strcasecmp(coding, "chunked") != 0)
        return bad(p, 501, "Transfer-Encoding other than chunked");
    if (coding && h->status && (h->status < 200 || h->status == 204))
        return bad(p, 400, "Transfer-Encoding in an answer without body");
    if (length) {
        if (!*length || strspn(length, "0123456789") != strlen(length) ||
            str_to_u64(length, INT64_MAX, &value) < 0)
            return bad(p, 400, "Content-Length");
        h->content_length = value;
    }
    h->chunked = coding;
    h->close = http_head_has(h, "Connection", "close");
    h->upgrade = http_head_has(h, "Connection", "upgrade") && http_head_get(h, "Upgrade");
    h->expect_continue = h->method && http_head_has(h, "Expect", "100-continue");
    return 0;
}

static must_check int parse(struct parser *p, enum http_kind kind)
{
    char *line;
    size_t len;

    skip_empty_lines(p);
    int r = next_line(p, &line, &len);
    if (!r)
        r = kind == HTTP_REQUEST ? parse_request_line(p, line) : parse_status_line(p, line, len);
    while (!r) {
        r = next_line(p, &line, &len);
        if (r)
            break;
        if (len == 0)
            return p->at == p->end ? judge(p) : bad(p, 400, "bytes behind the head");
        r = parse_header(p, line, len);
    }
    return r;
}

int http_head_parse(enum http_kind kind, const uint8_t *data, size_t len,
                    struct http_head **ret_head, const char **ret_why)
{
    size_t lines = 0;

    for (size_t i = 0; i < len; i++)
        lines += data[i] == '\n';
    if (lines > HTTP_HEADERS_MAX)
        lines = HTTP_HEADERS_MAX;
    size_t table = sizeof(struct parsed) + lines * sizeof(struct http_header);
    struct parsed *all = malloc(table + len + 1);
    if (!all)
        return -ENOMEM;
    all->head = (struct http_head){.headers = all->headers};
    char *copy = (char *)all + table;
    memcpy(copy, data, len);
    copy[len] = '\0';
    struct parser p = {.at = copy,
                       .end = copy + len,
                       .head = &all->head,
                       .headers = all->headers,
                       .max_headers = lines};
    int r = parse(&p, kind);
    if (r) {
        if (ret_why)
            *ret_why = p.why;
        free(all);
        return r;
    }
    *ret_head = &all->head;
    return 0;
}

struct http_head *http_head_free(struct http_head *h)
{
    if (h)
        free(QVD_CONTAINER(h, struct parsed, head));
    return NULL;
}

const char *http_head_get(const struct http_head *h, const char *name)
{
    for (size_t i = 0; i < h->n_headers; i++)
        if (strcasecmp(h->headers[i].name, name) == 0)
            return h->headers[i].value;
    return NULL;
}

static bool list_has(const char *list, const char *word)
{
    size_t len = strlen(word);

    while (*list) {
        list += strspn(list, ", \t");
        size_t item = strcspn(list, ",");
        const char *next = list + item;
        while (item > 0 && is_blank(list[item - 1]))
            item--;
        if (item == len && strncasecmp(list, word, len) == 0)
            return true;
        list = next;
    }
    return false;
}

bool http_head_has(const struct http_head *h, const char *name, const char *word)
{
    for (size_t i = 0; i < h->n_headers; i++)
        if (strcasecmp(h->headers[i].name, name) == 0 && list_has(h->headers[i].value, word))
            return true;
    return false;
}

const char *http_reason(int status)
{
    static const struct {
        int status;
        const char *reason;
    } table[] = {
        {100, "Continue"                       },
        {101, "Switching Protocols"            },
        {102, "Processing"                     },
        {200, "OK"                             },
        {201, "Created"                        },
        {202, "Accepted"                       },
        {204, "No Content"                     },
        {206, "Partial Content"                },
        {301, "Moved Permanently"              },
        {302, "Found"                          },
        {303, "See Other"                      },
        {304, "Not Modified"                   },
        {400, "Bad Request"                    },
        {401, "Unauthorized"                   },
        {403, "Forbidden"                      },
        {404, "Not Found"                      },
        {405, "Method Not Allowed"             },
        {406, "Not Acceptable"                 },
        {408, "Request Timeout"                },
        {409, "Conflict"                       },
        {410, "Gone"                           },
        {411, "Length Required"                },
        {412, "Precondition Failed"            },
        {413, "Content Too Large"              },
        {414, "URI Too Long"                   },
        {415, "Unsupported Media Type"         },
        {422, "Unprocessable Content"          },
        {426, "Upgrade Required"               },
        {429, "Too Many Requests"              },
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"          },
        {501, "Not Implemented"                },
        {502, "Bad Gateway"                    },
        {503, "Service Unavailable"            },
        {504, "Gateway Timeout"                },
        {505, "HTTP Version Not Supported"     },
    };

    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (table[i].status == status)
            return table[i].reason;
    return "Unknown";
}
