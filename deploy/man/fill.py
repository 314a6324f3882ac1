#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fills a manual page's or a completion's template with what the programs and headers say of themselves, at build time.

fill.py --source ROOT --version V --output FILE [--pfeedd P] [--pfeedctl P] TEMPLATE

A line of the template that begins with @ is replaced:
  @rows PROGRAM TITLE   the rows below TITLE in `PROGRAM --help`
  @settings             every table of the configuration, from `pfeedd --help`
  @verbs                every verb with its options and columns, from `pfeedctl help VERB`
  @counters             from `pfeedctl counters --json`
  @calls                every call of pfeed.h
  @prototypes CALL...   from pfeed.h, as are
  @struct NAME...       and
  @defines PREFIX...
  @errors [CALL]        from errors.tbl; without a call by code, each with the calls that give it
  @example FILE         a program of this folder
  @sample               deploy/pfeed.yaml
@VERSION@, @OPTIONS@ (the long options of pfeedd) and @ARGUMENTS@ (those that take a file) are replaced anywhere.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

ROW = re.compile(r"^(?:  |  (?P<star>\*) |    )(?P<term>[a-z-][^\s]*(?: \[?[A-Z]+\]?(?= ))?)\s+(?P<text>\S.*)$")
STRING = r'"(?:[^"\\]|\\.)*"'


def escaped(text):
    """Nothing of the text is a request, and quotes are those of ASCII."""
    for plain, escape in (("\\", "\\e"), ("'", "\\(aq"), ("`", "\\(ga"), ("~", "\\(ti"), ("^", "\\(ha")):
        text = text.replace(plain, escape)
    return "\\&" + text if text.startswith(".") else text


def roff(text):
    """Prose: a dash between letters is a hyphen, one before a word a minus."""
    return re.sub(r"(?<!\w)--?(?=\w)", lambda dash: "\\-" * len(dash.group()), escaped(text))


def code(text):
    return escaped(text).replace("-", "\\-")


def term(text):
    """An option, key or verb bold, its argument in italics."""
    name, _, argument = text.partition(" ")
    bold, _, value = name.partition("=")
    optional = bold.endswith("[")
    out = "\\fB" + code(bold.rstrip("[")) + "\\fR"
    if value:
        out += ("[=" if optional else "=") + "\\fI" + value.rstrip("]") + "\\fR" + ("]" if optional else "")
    return out + (f" \\fI{roff(argument)}\\fR" if argument else "")


def sentence(text):
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def listed(rows):
    out = []
    for name, lines in rows:
        out += [".TP", term(name), roff(lines[0])]
        for line in lines[1:]:
            out += [".br", roff(line)]
    return out


def verbatim(text):
    return [".in +4n", ".EX"] + [code(line) for line in text.rstrip("\n").split("\n")] + [".EE", ".in"]


def blocks(text):
    """Pairs of title and rows [(term, [lines])]: a title is the last line that stands at the margin before the rows."""
    title, rows, found = "", [], []
    for line in text.split("\n"):
        row = ROW.match(line)
        if line and not line.startswith(" "):
            title, rows = line, []
            found.append((title, rows))
        elif row and len(line) - len(line.lstrip()) <= 4:
            rows.append((row["term"] + (" *" if row["star"] else ""), [row["text"]]))
        elif line.strip() and rows:
            rows[-1][1].append(line.strip())
    return found


class Filler:
    def __init__(self, options):
        self.options = options
        self.programs = {"pfeedd": options.pfeedd, "pfeedctl": options.pfeedctl}
        self.header = (options.source / "client/pfeed.h").read_text()
        self.folder = options.source / "deploy/man"

    def ask(self, program, *arguments):
        return subprocess.run([self.programs[program], *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout

    def rows(self, program, *title):
        for found, rows in blocks(self.ask(program, "--help")):
            if found.startswith(" ".join(title)) and rows:
                return listed(rows)
        sys.exit(f"fill.py: `{program} --help` has no rows below '{' '.join(title)}'")

    def settings(self):
        out, inside = [], False
        for title, rows in blocks(self.ask("pfeedd", "--help")):
            inside = inside or title.startswith("The configuration")
            if not inside or title.startswith("The configuration"):
                continue
            name, colon, help_line = title.partition(": ")
            out.append(f".SS {roff(name)}")
            if help_line:
                out.append(roff(sentence(help_line)))
            out += listed(rows)
        return out

    def verbs(self):
        out = []
        rows = next(rows for title, rows in blocks(self.ask("pfeedctl", "--help")) if title == "Verbs:")
        for name, (help_line,) in rows:
            lines = self.ask("pfeedctl", name.split()[0], "--help").split("\n")
            out += [f".SS {term(name)}", roff(sentence(help_line))]
            out += [roff(line) for line in lines[2:lines.index("Options:")] if line]
            for title, below in blocks("\n".join(lines[lines.index("Options:"):])):
                if title == "Options:":
                    out += [".PP", "Options: " + ", ".join(term(option) for option, _ in below) + "."]
                elif below:
                    out += [".PP", roff(title)] + listed(below)
        return out

    def counters(self):
        rows = json.loads(self.ask("pfeedctl", "counters", "--json"))["counters"]
        return listed([(row["name"], [f"{row['help']}; {row['unit']}, of each {row['scope']}"]) for row in rows])

    def calls(self):
        out = []
        for call in re.findall(r"^PFEED_API [^;]*?(pfeed_\w+)\(", self.header, re.MULTILINE):
            page = (self.folder / f"{call}.3.in").read_text()
            if page.startswith(".so "):
                page = (self.folder / (page.split("/")[-1].strip() + ".in")).read_text()
            out += [".TP", f".BR {call} (3)", re.search(r"^\.SH NAME\n.*? \\- (.*)$", page, re.MULTILINE)[1]]
        return out

    def prototypes(self, *calls):
        out = [".nf", ".B #include <pfeed.h>"]
        for call in calls:
            found = re.search(rf"^PFEED_API ([^;]*?\b{call}\([^;]*;)", self.header, re.MULTILINE)
            out += [".PP", f".B {found[1]}"]
        return out + [".fi"]

    def struct(self, *names):
        return verbatim("\n\n".join(re.search(rf"^struct {name} {{\n.*?^}};", self.header, re.MULTILINE | re.DOTALL)[0]
                                    for name in names))

    def defines(self, *prefixes):
        found = re.findall(r"^#define ((\w+) +\w+) +/\* (.*) \*/$", self.header, re.MULTILINE)
        return listed_names([(name, text) for _, name, text in found if name.startswith(prefixes)])

    def errors(self, call=None):
        table = re.sub(r"/\*.*?\*/", "", (self.options.source / "client/errors.tbl").read_text(), flags=re.DOTALL)
        rows = [(who, code, text(meaning), text(remedy)) for who, code, meaning, remedy in
                re.findall(rf"PFEED_ERROR\((\w+), (\w+),\s*((?:{STRING}\s*)+),\s*((?:{STRING}\s*)+)\)", table)]
        if not rows or len(rows) != table.count("PFEED_ERROR("):
            sys.exit("fill.py: a row of errors.tbl is not PFEED_ERROR(call, code, meaning, remedy)")
        if call:
            return listed_names([("-" + code, f"{meaning} {remedy}") for who, code, meaning, remedy in rows if who == call])
        codes = {}
        for who, code, _, _ in rows:
            codes.setdefault(code, []).append(f"\\fB{who}\\fR(3)")
        return [line for code in sorted(codes) for line in (".TP", f".B \\-{code}", ", ".join(codes[code]))]

    def example(self, name):
        return verbatim(re.sub(r"^/\*.*?\*/\n", "", (self.folder / name).read_text(), flags=re.MULTILINE))

    def sample(self):
        return verbatim((self.options.source / "deploy/pfeed.yaml").read_text())

    def fill(self, template):
        lines = []
        for line in template.split("\n"):
            directive = re.match(r"@([a-z]+)(.*)$", line)
            lines += getattr(self, directive[1])(*directive[2].split()) if directive else [line]
        # Paths and names of keys are not to be torn apart.
        filled = re.sub(r"^\.TH .*", "\\g<0>\n.nh\n.ad l", "\n".join(lines), count=1, flags=re.MULTILINE)
        filled = filled.replace("@VERSION@", self.options.version)
        if "@OPTIONS@" in filled:
            rows = next(rows for title, rows in blocks(self.ask("pfeedd", "--help")) if title.startswith("usage:"))
            filled = filled.replace("@OPTIONS@", " ".join(name.split()[0] for name, _ in rows))
            filled = filled.replace("@ARGUMENTS@", "|".join(name.split()[0] for name, _ in rows if re.search(r"FILE|PATH", name)))
        return filled


def text(strings):
    """Adjacent C strings as one."""
    return "".join(json.loads(part) for part in re.findall(STRING, strings))


def listed_names(rows):
    return [line for name, line in rows for line in (".TP", ".B " + name.replace("-", "\\-"), roff(sentence(line)))]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--source", type=pathlib.Path, required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("--output", type=pathlib.Path, required=True)
    parser.add_argument("--pfeedd")
    parser.add_argument("--pfeedctl")
    parser.add_argument("template", type=pathlib.Path)
    options = parser.parse_args()
    options.output.write_text(Filler(options).fill(options.template.read_text()))


if __name__ == "__main__":
    main()
