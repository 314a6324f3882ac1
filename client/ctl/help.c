/* SPDX-License-Identifier: MIT */
/* Help and completions, made from the verbs' and the options' rows. */
#include <string.h>

#include "nearest.h"
#include "pfeedctl.h"

#define EXITS "Exit codes: 0 fine, 1 a problem was found, 2 usage, 3 no daemon.\n"

static void option_line(FILE *out, const struct option_row *row)
{
    char name[48];

    if (*row->argument == '=')
        snprintf(name, sizeof(name), "--%s[%s]", row->name, row->argument);
    else
        snprintf(name, sizeof(name), "--%s%s%s", row->name, *row->argument ? " " : "", row->argument);
    fprintf(out, "  %-18s %s\n", name, row->help);
}

void help_verb(FILE *out, const struct verb *verb)
{
    fprintf(out, "Usage: pfeedctl %s%s%s [options]\n%s.\n", verb->name, *verb->argument ? " " : "", verb->argument, verb->help);
    if (verb->more)
        fprintf(out, "%s\n", verb->more);
    fputs("\nOptions:\n", out);
    for (int i = 0; i < OPTIONS; i++)
        if (verb->options >> i & 1)
            option_line(out, &option_rows[i]);
    for (size_t i = 0; i < sizeof(verb->tables) / sizeof(verb->tables[0]) && verb->tables[i]; i++)
        table_help(out, verb->tables[i]);
    fputs("\n" EXITS, out);
}

void help_all(FILE *out)
{
    fputs("Usage: pfeedctl VERB [options]\nLooks into the pfeedd of this host.\n\nVerbs:\n", out);
    for (const struct verb *verb = verbs; verb->name; verb++) {
        char name[48];

        snprintf(name, sizeof(name), "%s%s%s", verb->name, *verb->argument ? " " : "", verb->argument);
        fprintf(out, "  %-18s %s\n", name, verb->help);
    }
    fputs("\nOptions (pfeedctl VERB --help says which a verb takes):\n", out);
    for (int i = 0; i < OPTIONS; i++)
        option_line(out, &option_rows[i]);
    fputs("\n" EXITS, out);
}

int verb_help(struct ctl *ctl)
{
    struct nearest nearest;
    const struct verb *verb;

    if (!ctl->word) {
        help_all(ctl->view.out);
        return CTL_FINE;
    }
    verb = verb_find(ctl->word);
    if (verb) {
        help_verb(ctl->view.out, verb);
        return CTL_FINE;
    }
    nearest_init(&nearest, ctl->word);
    for (verb = verbs; verb->name; verb++)
        nearest_offer(&nearest, verb->name);
    sentence_set(&ctl->why, 0, "there is no verb '%.50s'%s%s%s", ctl->word, nearest.best ? "; did you mean '" : "",
                 nearest.best ? nearest.best : "", nearest.best ? "'?" : "");
    return CTL_USAGE;
}

/* ---- completions ---------------------------------------------------------------------------------------------------- */

/* Options in a case's pattern: those that need a value. */
static void valued(FILE *out)
{
    const char *bar = "";

    for (int i = 0; i < OPTIONS; i++)
        if (*option_rows[i].argument && *option_rows[i].argument != '=') {
            fprintf(out, "%s--%s", bar, option_rows[i].name);
            bar = "|";
        }
}

static void verb_names(FILE *out)
{
    for (const struct verb *verb = verbs; verb->name; verb++)
        fprintf(out, "%s ", verb->name);
}

/* Feeds are asked of the daemon at the socket that the line names: without one there are none. Their names are compared here
 * rather than given to compgen -W, which would expand what is in them. */
static const char bash_feeds[] =
    "_pfeedctl_feeds()\n{\n"
    "    local name\n"
    "    while read -r name; do\n"
    "        [[ $name == \"$word\"* ]] && COMPREPLY+=(\"$name\")\n"
    "    done < <(timeout 2 \"${COMP_WORDS[0]}\" feeds --columns name \"${at[@]}\" 2>/dev/null | sed 1d)\n"
    "}\n";

/* A `=` is a word of its own to bash. */
static const char bash_words[] =
    "        (( i++ )); [[ ${COMP_WORDS[i]} == = ]] && (( i++ ))\n"
    "            [[ $w == --socket ]] && (( i < COMP_CWORD )) && at=(--socket \"${COMP_WORDS[i]}\") ;;\n"
    "        =) (( i++ )) ;;\n"
    "        -*) ;;\n"
    "        *) if [[ $verb ]]; then argument=$w; else verb=$w; fi ;;\n"
    "        esac\n"
    "    done\n"
    "    [[ $previous == = ]] && previous=${COMP_WORDS[COMP_CWORD-2]}\n"
    "    [[ $word == = ]] && word=\n"
    "    COMPREPLY=()\n"
    "    case $previous in\n"
    "        --out|--socket) COMPREPLY=($(compgen -f -- \"$word\")); return ;;\n"
    "        --feed) _pfeedctl_feeds; return ;;\n"
    "        ";

static void complete_bash(FILE *out)
{
    fprintf(out, "# bash completion for pfeedctl; made by: pfeedctl completion bash\n%s_pfeedctl()\n{\n", bash_feeds);
    fputs("    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} verb='' argument='' takes='' words "
          "at=() i w\n"
          "    for (( i = 1; i < COMP_CWORD; i++ )); do\n"
          "        w=${COMP_WORDS[i]}\n"
          "        case $w in\n        ",
          out);
    valued(out);
    fprintf(out, ")\n    %s", bash_words);
    valued(out);
    fputs(") return ;;\n    esac\n    case $verb in\n        '') words='", out);
    verb_names(out);
    fputs("--help --version' ;;\n", out);
    for (const struct verb *verb = verbs; verb->name; verb++) {
        fprintf(out, "        %s) takes='%s' words='", verb->name, verb->argument);
        for (int i = 0; i < OPTIONS; i++)
            if (verb->options >> i & 1)
                fprintf(out, "--%s ", option_rows[i].name);
        fputs("' ;;\n", out);
    }
    fputs("    esac\n"
          "    if [[ ! $argument ]]; then\n"
          "        case $takes in\n"
          "            *FEED*) [[ $word == -* ]] || _pfeedctl_feeds ;;\n"
          "            *VERB*) words+='",
          out);
    verb_names(out);
    fputs("' ;;\n            *SHELL*) words+='bash zsh fish' ;;\n        esac\n    fi\n"
          "    COMPREPLY+=($(compgen -W \"$words\" -- \"$word\"))\n"
          "}\ncomplete -F _pfeedctl pfeedctl\n",
          out);
}

static void complete_zsh(FILE *out)
{
    fputs("#compdef pfeedctl\nautoload -U +X bashcompinit && bashcompinit\n", out);
    complete_bash(out);
}

/* Help lines stand between single quotes there. */
static void quoted(FILE *out, const char *text)
{
    putc('\'', out);
    for (; *text; text++)
        if (*text == '\'' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else
            putc(*text, out);
    putc('\'', out);
}

static void complete_fish(FILE *out)
{
    fputs("# fish completion for pfeedctl; made by: pfeedctl completion fish\ncomplete -c pfeedctl -f\n", out);
    for (const struct verb *verb = verbs; verb->name; verb++) {
        fprintf(out, "complete -c pfeedctl -n __fish_use_subcommand -a %s -d ", verb->name);
        quoted(out, verb->help);
        putc('\n', out);
        for (int i = 0; i < OPTIONS; i++) {
            if (!(verb->options >> i & 1))
                continue;
            fprintf(out, "complete -c pfeedctl -n '__fish_seen_subcommand_from %s' -l %s%s -d ", verb->name, option_rows[i].name,
                    *option_rows[i].argument && *option_rows[i].argument != '=' ? " -r" : "");
            quoted(out, option_rows[i].help);
            putc('\n', out);
        }
    }
}

int verb_completion(struct ctl *ctl)
{
    static const struct {
        const char *name;
        void (*print)(FILE *out);
    } shells[] = { { "bash", complete_bash }, { "zsh", complete_zsh }, { "fish", complete_fish } };

    for (size_t i = 0; i < sizeof(shells) / sizeof(shells[0]); i++)
        if (strcmp(ctl->word, shells[i].name) == 0) {
            shells[i].print(ctl->view.out);
            return CTL_FINE;
        }
    sentence_set(&ctl->why, 0, "no completion for '%.50s'; there are: bash zsh fish", ctl->word);
    return CTL_USAGE;
}
