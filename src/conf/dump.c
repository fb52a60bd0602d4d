// SPDX-License-Identifier: GPL-3.0-or-later

/* Settings as people read them: --dump-config and the templates of settings files. Secrets are
 * never shown. */

#include <string.h>

#include "conf/conf-internal.h"

static void print_value(FILE *out, const char *value)
{
    if (*value == ' ' || *value == '\t')
        fputc('\\', out);
    for (const char *p = value; *p; p++) {
        if (*p == '\\')
            fputs("\\\\", out);
        else if (*p == '\n')
            fputs("\\n", out);
        else
            fputc(*p, out);
    }
}

/* A pattern's secrets cannot be told from other values: names that sound like one are hidden. */
static bool is_secret(const char *key)
{
    const struct conf_key *k = conf_find(key);

    return (k && k->type == CONF_SECRET) || strstr(key, "pass") || strstr(key, "secret") ||
           strstr(key, "token");
}

void conf_dump(const struct conf *c, unsigned files, FILE *out)
{
    size_t n;
    const struct conf_key *keys = conf_keys(&n);
    const char *key, *value, *source;
    int64_t tenant;

    for (size_t i = 0; i < n; i++) {
        if (conf_is_pattern(&keys[i]) ||
            !(keys[i].type >= CONF_OBSOLETE ? conf_is_set(c, keys[i].key)
                                            : (keys[i].files & files) != 0))
            continue;
        value = conf_str(c, keys[i].key);
        fprintf(out, "%s = ", keys[i].key);
        print_value(out, keys[i].type == CONF_SECRET && *value ? "***" : value);
        fprintf(out, "\n#   %s, %s%s\n", conf_source(c, &keys[i]),
                keys[i].type == CONF_OBSOLETE   ? "obsolete: "
                : keys[i].type == CONF_RESERVED ? "without effect in this version"
                                                : conf_when_name(keys[i].when),
                keys[i].type == CONF_OBSOLETE ? keys[i].text : "");
    }
    for (size_t i = 0; conf_extra_at(c, i, &tenant, &key, &value, &source); i++) {
        if (tenant >= 0)
            fprintf(out, "# tenant %lld: ", (long long)tenant);
        fprintf(out, "%s = ", key);
        print_value(out, is_secret(key) && *value ? "***" : value);
        fprintf(out, "\n#   %s\n", source);
    }
}

static void print_allowed(const struct conf_key *k, FILE *out)
{
    switch (k->type) {
    case CONF_INT:
    case CONF_REAL:
        fprintf(out, "%s, %lld to %lld", conf_type_name(k->type), (long long)k->min,
                (long long)k->max);
        break;
    case CONF_CHOICE:
        fprintf(out, "one of: %s", k->choices);
        break;
    case CONF_DURATION:
        fprintf(out, "time, %gs to %gs", (double)k->min / 1000, (double)k->max / 1000);
        break;
    default:
        fputs(k->choices ? form_text(k->choices) : conf_type_name(k->type), out);
    }
}

void conf_print_template(unsigned file, const char *name, FILE *out)
{
    static const char *const scopes[CONF_SCOPE_MAX] = {
        [CONF_CLUSTER] = "same on all nodes: better set by qa config set",
        [CONF_TENANT] = "same on all nodes, or a tenant's own: better set by qa config set",
        [CONF_NODE] = "may differ from node to node",
        [CONF_FILE] = NULL,
    };
    size_t n;
    const struct conf_key *keys = conf_keys(&n);

    fprintf(out,
            "# %s: settings of QVD. \"key = value\" or \"key: value\"; the last one wins.\n"
            "# ${other.key} stands for that key's value; a backslash takes the next character as\n"
            "# it is. Each key stands here with its default; take the # away to change it.\n",
            name);
    for (size_t i = 0; i < n; i++) {
        const struct conf_key *k = &keys[i];

        if (!(k->files & file) || k->type >= CONF_OBSOLETE)
            continue;
        fprintf(out, "\n# %s.\n# (", k->text);
        print_allowed(k, out);
        if (scopes[k->scope])
            fprintf(out, "; %s", scopes[k->scope]);
        fprintf(out, "; %s)\n#%s%s = ", conf_when_name(k->when), conf_is_pattern(k) ? " " : "",
                k->key);
        print_value(out, k->def ? k->def : "");
        fputc('\n', out);
    }
}

/* scdoc marks by these characters; before them a backslash takes them as they are. */
static void print_scdoc(FILE *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (strchr("_*\\`", *p))
            fputc('\\', out);
        fputc(*p, out);
    }
}

/* The file in which people would look for a name that stands in no template. */
static unsigned file_of(const struct conf_key *k)
{
    if (k->files || (strncmp(k->key, "internal.", 9) == 0 && k->type < CONF_OBSOLETE))
        return k->files;
    if (strncmp(k->key, "client.", 7) == 0 || strncmp(k->key, "path.ssl.", 9) == 0)
        return CONF_IN_CLIENT;
    if (strncmp(k->key, "vma.", 4) == 0 || strncmp(k->key, "createdevice.", 13) == 0)
        return CONF_IN_VMA;
    if (strncmp(k->key, "log", 3) == 0)
        return CONF_IN_NODE | CONF_IN_VMA;
    return CONF_IN_NODE;
}

/* One row of the list; of a name that does nothing only what to do about it. */
static void print_manual_row(const struct conf_key *k, FILE *out)
{
    fputs("\n*", out);
    print_scdoc(out, k->key);
    fputs("*", out);
    if (k->def && *k->def) {
        fputs(" = ", out);
        print_scdoc(out, k->def);
    }
    fputs("\n\t", out);
    print_scdoc(out, k->text);
    fputs(".", out);
    if (k->type < CONF_OBSOLETE) {
        fputs(" (", out);
        print_allowed(k, out);
        fprintf(out, "; scope %s; %s)", conf_scope_name(k->scope), conf_when_name(k->when));
    }
    fputc('\n', out);
}

void conf_print_manual(unsigned file, FILE *out)
{
    static const char *const heads[] = {
        NULL,
        "\n# NAMES WITHOUT EFFECT IN THIS VERSION\n\nAccepted, with a warning:\n",
        "\n# OBSOLETE NAMES\n\nAccepted and ignored, with a warning that says what to use:\n",
    };
    static const enum conf_type types[] = {CONF_STR, CONF_RESERVED, CONF_OBSOLETE};
    size_t n;
    const struct conf_key *keys = conf_keys(&n);

    for (size_t part = 0; part < ARRAY_SIZE(heads); part++) {
        const char *head = heads[part];

        for (size_t i = 0; i < n; i++) {
            const struct conf_key *k = &keys[i];
            bool idle = k->type >= CONF_OBSOLETE;

            if (!(file_of(k) & file) || (idle ? k->type != types[part] : part != 0))
                continue;
            if (head)
                fputs(head, out);
            head = NULL;
            print_manual_row(k, out);
        }
    }
}
