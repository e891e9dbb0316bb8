"""A preprocessor of mdBook: links that lead out of docs/ become their text, since the book does not have what they lead to.

README.md is the exception, whose place the introduction takes. mdBook calls this program with the name of a renderer to ask whether
it serves it, and with the book on standard input to have it changed.
"""

import json
import re
import sys

# [text](../path): where `../` leads out of the folder in which all pages are.
OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)]*)\)")


def inside(text):
    def link(found):
        return f"[{found[1]}](introduction.md)" if found[2].split("#")[0] == "README.md" else found[1]

    return OUTSIDE.sub(link, text)


def change(items):
    for item in items:
        chapter = item.get("Chapter") if isinstance(item, dict) else None
        if chapter:
            chapter["content"] = inside(chapter["content"])
            change(chapter["sub_items"])


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    change(book.get("items") or book["sections"])
    json.dump(book, sys.stdout)


if __name__ == "__main__":
    main()
