// SPDX-License-Identifier: GPL-3.0-or-later
/* What qvdclient says to the person at the terminal, and asks. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <termios.h>
#include <time.h>

#include "base/ask.h"
#include "base/str.h"
#include "client/program.h"

bool ask_possible(void)
{
    return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

/* In pairs, as other programs show it. */
static void show_fingerprint(const char *hex)
{
    for (size_t i = 0; hex[i] && hex[i + 1]; i += 2)
        fprintf(stderr, "%s%.2s", i == 0 ? "" : ":", hex + i);
    fputc('\n', stderr);
}

/* What was typed before the faults could be read is no answer to them. A signal ends the pause; the
 * question then ends too. */
static void let_read(int64_t wait_ms)
{
    struct timespec pause = {wait_ms / 1000, wait_ms % 1000 * 1000000};

    if (wait_ms <= 0)
        return;
    fprintf(stderr, "Read this first; you can answer in %lld s.\n",
            (long long)(wait_ms + 999) / 1000);
    (void)nanosleep(&pause, NULL);
    (void)tcflush(STDIN_FILENO, TCIFLUSH);
}

enum qvdclient_answer ask_certificate(const struct qvdclient_certificate *cert, int64_t wait_ms)
{
    if (cert->changed)
        fprintf(stderr,
                "\nWARNING: %s shows ANOTHER certificate than the one you accepted.\n"
                "Someone may be listening. Ask your administrator before you go on.\n",
                cert->host);
    fprintf(stderr, "\nThe certificate of %s cannot be trusted as it is:\n", cert->host);
    for (size_t i = 0; i < cert->n_faults; i++)
        fprintf(stderr, "  - %s\n", cert->fault_texts[i]);
    fprintf(stderr, "Subject: %s\nIssuer:  %s\nValid:   %s to %s\nSHA-256: ", cert->subject,
            cert->issuer, cert->not_before, cert->not_after);
    show_fingerprint(cert->fingerprint);
    let_read(wait_ms);
    for (;;) {
        char *line = ask_text("Accept it? (no, once, always) ");
        enum qvdclient_answer answer = QVDCLIENT_REJECT;
        bool known = true;
        if (line && strcasecmp(line, "once") == 0)
            answer = QVDCLIENT_ACCEPT_ONCE;
        else if (line && strcasecmp(line, "always") == 0)
            answer = QVDCLIENT_ACCEPT_ALWAYS;
        else
            known = !line || strcasecmp(line, "no") == 0 || strcasecmp(line, "n") == 0;
        free(line);
        if (known)
            return answer;
    }
}

/* A name comes from the server: its control characters stay out of the terminal. */
static void show_text(FILE *out, const char *s, size_t width)
{
    size_t n = 0;

    for (; *s; s++, n++)
        fputc((unsigned char)*s < ' ' || *s == 0x7f ? '?' : *s, out);
    for (; n < width; n++)
        fputc(' ', out);
}

static void show_table(FILE *out, const struct qvdclient_vm *vms, size_t n)
{
    fprintf(out, "%zu virtual machine%s\n%-7s %-10s %-39s %s\n", n, n == 1 ? "" : "s", "Id",
            "State", "Name", "Blocked");
    for (int i = 0; i < 74; i++)
        fputc('=', out);
    fputc('\n', out);
    for (size_t i = 0; i < n; i++) {
        fprintf(out, "%-7llu ", (unsigned long long)vms[i].id);
        show_text(out, vms[i].state, 10);
        fputc(' ', out);
        show_text(out, vms[i].name, 39);
        fprintf(out, " %s\n", vms[i].blocked ? "yes" : "no");
    }
}

static void show_json_text(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if ((unsigned char)*s < ' ')
            printf("\\u%04x", (unsigned)*s);
        else
            putchar(*s);
    }
    putchar('"');
}

void show_vms(const struct qvdclient_vm *vms, size_t n, bool json)
{
    if (!json) {
        show_table(stdout, vms, n);
        return;
    }
    putchar('[');
    for (size_t i = 0; i < n; i++) {
        printf("%s\n  {\"id\": %llu, \"name\": ", i ? "," : "", (unsigned long long)vms[i].id);
        show_json_text(vms[i].name);
        printf(", \"state\": ");
        show_json_text(vms[i].state);
        printf(", \"blocked\": %s, \"is_application\": %s}", vms[i].blocked ? "true" : "false",
               vms[i].is_application ? "true" : "false");
    }
    printf("%s]\n", n ? "\n" : "");
}

/* By id, by name, by the beginning of one name. */
static uint64_t find(const struct qvdclient_vm *vms, size_t n, const char *wanted)
{
    uint64_t id = 0, found = 0;
    size_t matches = 0, len = strlen(wanted);
    bool number = str_to_u64(wanted, UINT64_MAX, &id) == 0;

    for (size_t i = 0; i < n; i++) {
        if ((number && vms[i].id == id) || strcasecmp(vms[i].name, wanted) == 0)
            return vms[i].id;
        if (strncasecmp(vms[i].name, wanted, len) == 0) {
            found = vms[i].id;
            matches++;
        }
    }
    return matches == 1 ? found : 0;
}

uint64_t ask_vm(const struct qvdclient_vm *vms, size_t n)
{
    show_table(stderr, vms, n);
    for (;;) {
        char *line = ask_text("Which one? (id or name, empty to quit) ");
        if (!line || !*line) {
            free(line);
            return 0;
        }
        uint64_t id = find(vms, n, str_trim(line));
        if (!id)
            fprintf(stderr, "None or several are so called.\n");
        free(line);
        if (id)
            return id;
    }
}
