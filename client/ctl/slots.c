/* SPDX-License-Identifier: MIT */
/* `pfeedctl slots`: the table, and on a terminal above it a bar per arena that shows at a glance whether slots are short and
 * who has them: a letter for each holder. */
#include <inttypes.h>
#include <string.h>

#include "pfeedctl.h"
#include "text.h"

enum { LETTERS = 26 };

struct bar {
    const struct pf_row_slot *slots; /* of one arena */
    size_t count;
    struct holder {
        uint64_t consumer;
        const struct pf_row_slot *slot; /* where its name stands */
        uint32_t place, slots;
    } holders[LETTERS];
    size_t n_holders;
    size_t held, ready, filling, free;
    bool several, more;
};

static struct holder *holder_of(struct bar *bar, const struct pf_row_slot *slot, uint32_t place)
{
    uint64_t consumer = slot->holders[place].consumer;

    for (size_t i = 0; i < bar->n_holders; i++)
        if (bar->holders[i].consumer == consumer)
            return &bar->holders[i];
    if (bar->n_holders == LETTERS)
        return NULL;
    bar->holders[bar->n_holders] = (struct holder){ .consumer = consumer, .slot = slot, .place = place };
    return &bar->holders[bar->n_holders++];
}

static void count(struct bar *bar)
{
    for (size_t i = 0; i < bar->count; i++) {
        const struct pf_row_slot *slot = &bar->slots[i];

        bar->held += slot->state == PF_SLOT_READY && slot->grants > 0;
        bar->ready += slot->state == PF_SLOT_READY && slot->grants == 0;
        bar->filling += slot->state == PF_SLOT_FILLING;
        bar->free += slot->state == PF_SLOT_FREE;
        for (uint32_t h = 0; h < slot_holders(slot); h++) {
            struct holder *holder = holder_of(bar, slot, h);

            if (holder)
                holder->slots++;
        }
    }
}

static char letter(struct bar *bar, const struct pf_row_slot *slot)
{
    struct holder *holder;

    if (slot->state != PF_SLOT_READY)
        return slot->state == PF_SLOT_FILLING ? '-' : '.';
    if (slot->grants == 0)
        return '=';
    if (slot->n_holders > 1) {
        bar->several = true;
        return '*';
    }
    holder = slot->n_holders == 1 ? holder_of(bar, slot, 0) : NULL;
    if (holder)
        return (char)('a' + (holder - bar->holders));
    bar->more = true;
    return '#';
}

static void print_holders(const struct view *view, const struct bar *bar, unsigned indent)
{
    if (bar->n_holders == 0)
        return;
    fprintf(view->out, "%*s", (int)indent, "");
    for (size_t i = 0; i < bar->n_holders; i++) {
        const struct holder *holder = &bar->holders[i];
        char job[PF_JOB_NAME];

        text_clean(job, sizeof(job), holder->slot->holders[holder->place].job, sizeof(job));
        fprintf(view->out, "%s%c ", i ? ", " : "", (char)('a' + i));
        if (*job)
            fprintf(view->out, "%s/%u", job, holder->slot->holders[holder->place].rank);
        else
            fprintf(view->out, "#%" PRIu64, holder->consumer);
        fprintf(view->out, " (%u)", holder->slots);
    }
    fprintf(view->out, "%s%s\n", bar->several ? ", * several" : "", bar->more ? ", # others" : "");
}

static void print_bar(const struct view *view, struct bar *bar)
{
    char name[PF_FEED_NAME];
    size_t line;
    unsigned indent;

    text_clean(name, sizeof(name), bar->slots[0].feed, sizeof(name));
    indent = (unsigned)text_width(name) + 2;
    line = view->width > indent + 20 ? view->width - indent - 3 : 60;
    fprintf(view->out, "%s%s%s  [", paint_begin(view->colour, PAINT_BOLD), name, paint_end(view->colour, PAINT_BOLD));
    count(bar);
    for (size_t i = 0; i < bar->count; i++) {
        enum paint paint = slot_paint(&bar->slots[i]);

        if (i && i % line == 0)
            fprintf(view->out, "\n%*s", (int)indent + 1, "");
        fprintf(view->out, "%s%c%s", paint_begin(view->colour, paint), letter(bar, &bar->slots[i]),
                paint_end(view->colour, paint));
    }
    fprintf(view->out, "]\n%*s%zu held, %zu ready =, %zu filling -, %zu free .\n", (int)indent, "", bar->held, bar->ready,
            bar->filling, bar->free);
    print_holders(view, bar, indent);
}

static void print_bars(const struct view *view, const struct pf_row_slot *slots, size_t n)
{
    for (size_t at = 0, next; at < n; at = next) {
        struct bar bar = { .slots = slots + at };

        for (next = at + 1; next < n && strncmp(slots[next].feed, slots[at].feed, PF_FEED_NAME) == 0; next++)
            ;
        bar.count = next - at;
        print_bar(view, &bar);
    }
    if (n)
        putc('\n', view->out);
}

int verb_slots(struct ctl *ctl)
{
    struct stat_rows rows;
    int rc = ctl_rows(ctl, &table_slots, &rows);

    if (rc != 0)
        return rc;
    if (ctl_gave(ctl, OPTION_JSON)) {
        table_json(&ctl->json, &table_slots, rows.rows, rows.count);
    } else {
        if (ctl->terminal)
            print_bars(&ctl->view, rows.rows, rows.count);
        table_print(&ctl->view, &table_slots, rows.rows, rows.count);
    }
    stat_rows_fini(&rows);
    return CTL_FINE;
}
