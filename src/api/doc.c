// SPDX-License-Identifier: GPL-3.0-or-later
/* docs/api.md, from the tables of routes and fields. */
#include <stdio.h>
#include <string.h>

#include "api/api-internal.h"
#include "api/process.h"

static const char intro[] =
    "<!-- SPDX-License-Identifier: GPL-3.0-or-later -->\n"
    "# The API of administrators\n\n"
    "Printed from the tables in `src/store/admin-tables.c` and `src/api/routes.c`: do not edit, "
    "run\n"
    "`qvd-api --print-doc >docs/api.md`.\n\n"
    "HTTPS on `api.url` (default port 3000), JSON both ways, everything below `/api/1/`. Log in\n"
    "first; each other request carries `Authorization: Bearer TICKET`. A ticket lives as long as "
    "it\n"
    "is used (`api.session.expiration`) and is stored hashed.\n\n"
    "```\n"
    "$ curl --cacert ca.pem https://HOST:3000/api/1/login \\\n"
    "    -d '{\"login\": \"admin\", \"tenant\": \"*\", \"password\": \"...\"}'\n"
    "{\"ticket\":\"...\",\"id\":1,\"tenant_id\":0}\n"
    "$ curl --cacert ca.pem -H 'Authorization: Bearer ...' \\\n"
    "    'https://HOST:3000/api/1/vm?filter=user%3Dal*,state%3Drunning&fields=id,name,host'\n"
    "{\"total\":1,\"rows\":[{\"id\" : 1, \"name\" : \"desk\", \"host\" : \"node1\"}]}\n"
    "```\n\n"
    "Numbers and yes/no may also be sent as text (`\"512\"`, `\"yes\"`); an empty text or `null`\n"
    "takes a value away where that is possible. Administrators of a tenant see and change only "
    "what\n"
    "is their tenant's; those of the tenant `*` see all and may name one at creation "
    "(`tenant`).\n\n"
    "A failure is `{\"error\": {\"code\", \"message\"}}` with the status 400 (the question has a\n"
    "fault), 401 (log in), 403 (not allowed), 404 (there is none), 405 (not possible here), 409 "
    "(the\n"
    "state of things forbids it), 413 (too long), 422 (a value is not possible), 429 (too many "
    "failed\n"
    "logins), 500 (a defect), 503 (try again). The message tells what, where and how to mend "
    "it.\n\n"
    "Filters: `name=al*,state=running`: `,` is and, `;` or (binds less), `!` not, `( )`; `=` `!=`\n"
    "`<` `>` `<=` `>=`, `~` (contains), `[a,b]` any of, `[a:b]` between, `*` and `?` wildcards,\n"
    "quotes protect; `field=` without a value; `property.KEY`; a word alone is a name.\n";

static void print_routes(void)
{
    puts("\n## Requests\n\n| Method | Path | |\n|---|---|---|");
    for (size_t i = 0; i < api_n_routes; i++) {
        const struct route *r = &api_routes[i];
        char path[64] = "", *out = path;
        bool kind = r->path[0] == '*';
        for (const char *c = r->path; *c; c++)
            if (*c == '*')
                out = stpcpy(out, kind && c == r->path                 ? "KIND"
                                  : strncmp(r->path, "config", 6) == 0 ? "KEY"
                                                                       : "ID");
            else
                *out++ = *c, *out = '\0';
        printf("| %s | `%s` | %s%s |\n", r->method, path, r->text, r->open ? " (no login)" : "");
    }
}

static void print_field(const struct admin_field *f)
{
    printf("| `%s` | %s", f->name, admin_type_name(f->type));
    if (f->choices)
        printf(": %s", f->choices);
    printf(" | %s%s%s%s | %s | %s |\n", admin_may(f, 'r') ? "read" : "",
           admin_may(f, 'f') ? ", filter" : "", admin_may(f, 's') ? ", sort" : "",
           admin_may(f, 'r') ? "" : "-",
           admin_may(f, 'm')                        ? (admin_may(f, 'e') ? "must, edit" : "must")
           : admin_may(f, 'c') && admin_may(f, 'e') ? "create, edit"
           : admin_may(f, 'c')                      ? "create"
           : admin_may(f, 'e')                      ? "edit"
                                                    : "-",
           f->text);
}

int api_print_doc(void)
{
    fputs(intro, stdout);
    print_routes();
    puts("\nKIND is one of the following; ID its number. Creation answers 201 with `{id}`, that of "
         "an\n"
         "image 202: its file is copied from the staging folder meanwhile, `state` and "
         "`percentage`\n"
         "tell how far it is.");
    for (size_t i = 0; i < admin_n_resources; i++) {
        const struct admin_resource *r = admin_resources[i];
        printf("\n## %s: %s\n\n%s| Field | Type | Lists | Set | |\n|---|---|---|---|---|\n",
               r->name, r->text, r->tenant ? "" : "Superadministrators only.\n\n");
        for (size_t j = 0; j < r->n_fields; j++)
            print_field(&r->fields[j]);
    }
    return ferror(stdout) || fflush(stdout) ? 1 : 0;
}
