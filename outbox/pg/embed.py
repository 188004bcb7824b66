#!/usr/bin/python3
"""Turns .sql files, one statement each, into a C header of `struct pg_statement`.

    embed.py FOLDER OUTPUT INPUT.sql...

`poll.sql` with FOLDER `relay` becomes

    static const struct pg_statement sql_relay_poll = {"relay_poll", "select ..."};

and `sql_relay_all` lists all of them, for tests that prepare every statement of a program.
Comments stay in the file: what is sent is the statement without them and without its semicolon.
A file that holds anything but one statement with a head comment stops the build, and says where.
"""

import os
import re
import sys

NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
NAME_BYTES_MAX = 63  # NAMEDATALEN - 1: PostgreSQL cuts longer names of prepared statements

# One lexical piece of SQL: what is quoted is never looked into.
PIECE = re.compile(
    r"""(?P<line_comment>--[^\n]*)
      | (?P<block_comment>/\*)
      | (?P<quoted>(?<![A-Za-z0-9_])[eE]'(?:[^'\\]|''|\\.)*' | '(?:[^']|'')*' | "(?:[^"]|"")*"
          | (?<![A-Za-z0-9_$])\$(?P<tag>(?:[A-Za-z_][A-Za-z0-9_]*)?)\$.*?\$(?P=tag)\$)
      | (?P<unclosed>['"] | (?<![A-Za-z0-9_$])\$[A-Za-z_][A-Za-z0-9_]*\$ | \$\$)
      | (?P<semicolon>;)
      | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)


class BadFile(Exception):
    pass


def end_of_block_comment(text, start):
    """The position after the comment that begins at `start`; block comments nest in SQL."""
    depth = 0
    for mark in re.finditer(r"/\*|\*/", text[start:]):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return start + mark.end()
    raise BadFile("a block comment is not closed")


def statement_of(text):
    """The one statement in `text`, without comments, blank lines and the closing semicolon."""
    if not text.lstrip().startswith("--"):
        raise BadFile("begin with a comment: what the statement does, its parameters, its plan")
    kept, position, ended = [], 0, False
    while position < len(text):
        piece = PIECE.match(text, position)
        position = piece.end()
        if piece["block_comment"]:
            position = end_of_block_comment(text, piece.start())
            kept.append(" ")
        elif piece["line_comment"]:
            continue
        elif piece["unclosed"]:
            raise BadFile("a quote is not closed: %s" % piece.group())
        elif piece["semicolon"]:
            ended = True
        elif ended and not piece.group().isspace():
            raise BadFile("more than one statement")
        elif not ended:
            kept.append(piece.group())
    # Blank lines and trailing space go only where no quote can hold them: the quoted pieces are opaque.
    lines, line = [], ""
    for piece in kept + ["\n"]:
        if piece == "\n":
            if line.strip():
                lines.append(line.rstrip())
            line = ""
        else:
            line += piece
    statement = "\n".join(lines).strip()
    if not statement:
        raise BadFile("no statement")
    if "\0" in statement:
        raise BadFile("a NUL byte")
    return statement


def c_string(text):
    """`text` as adjacent C literals, one for each line."""
    named = {"\n": "\\n", "\t": "\\t", "\\": "\\\\", '"': '\\"', "?": "\\?"}  # ?: no trigraphs
    out = []
    for line in text.splitlines(keepends=True):
        encoded = ""
        for byte in line.encode():
            char = chr(byte)
            # Octal escapes are at most three digits long, so a digit that follows is never taken in.
            plain = 0x20 <= byte < 0x7F
            encoded += named.get(char) or (char if plain else "\\%03o" % byte)
        out.append('    "%s"' % encoded)
    return "\n".join(out)


def header(folder, files):
    out = [
        "/* Made by outbox/pg/embed.py from the .sql files of %s. */" % folder,
        "#ifndef SAGAPOST_SQL_%s_H" % folder.upper(),
        "#define SAGAPOST_SQL_%s_H" % folder.upper(),
        "",
        '#include "outbox/pg/session.h"',
        "",
    ]
    names = []
    for path in files:
        name = os.path.splitext(os.path.basename(path))[0]
        try:
            if not NAME.match(name):
                raise BadFile("the file's name must match [a-z][a-z0-9_]*")
            full = "%s_%s" % (folder, name)
            if len(full) > NAME_BYTES_MAX:
                raise BadFile("the name %s is longer than %d bytes" % (full, NAME_BYTES_MAX))
            if full in names or name == "all":
                raise BadFile("the name %s is taken" % full)
            with open(path, encoding="utf-8") as source:
                statement = statement_of(source.read())
        except (BadFile, UnicodeDecodeError) as why:
            raise SystemExit("%s: %s" % (path, why)) from why
        names.append(full)
        out += [
            "static const struct pg_statement sql_%s __attribute__((unused)) = {" % full,
            '    "%s",' % full,
            c_string(statement) + "};",
            "",
        ]
    out += ["static const struct pg_statement *const sql_%s_all[] __attribute__((unused)) = {" % folder]
    out += ["    &sql_%s," % name for name in names]
    out += ["};", "", "#endif", ""]
    return "\n".join(out)


def main(arguments):
    if len(arguments) < 3 or not NAME.match(arguments[0]):
        raise SystemExit(__doc__)
    folder, output, files = arguments[0], arguments[1], arguments[2:]
    text = header(folder, files)
    with open(output, "w", encoding="utf-8") as target:
        target.write(text)


if __name__ == "__main__":
    main(sys.argv[1:])
