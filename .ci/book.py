#!/usr/bin/env python3
"""Makes the book of docs/ and looks where its links lead.

    python3 .ci/book.py         target/book/index.html

Needs mdbook, which .ci/tools installs. A link must lead to a file of the book and, if it names one, to a heading in it; a chapter that
SUMMARY.md does not name is an error, too. Links into the world are not followed.
"""

import html.parser
import pathlib
import subprocess
import sys
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
BOOK = ROOT / "target" / "book"


class Page(html.parser.HTMLParser):
    def __init__(self, file):
        super().__init__()
        self.links, self.ids = [], set()
        self.feed(file.read_text())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id":
                self.ids.add(value)
            if name in ("href", "src") and value and not urllib.parse.urlsplit(value).scheme:
                self.links.append(value)


def faults():
    # print.html has all pages in one, and the links of each.
    pages = {file.name: Page(file) for file in BOOK.glob("*.html") if file.name != "print.html"}
    for name, page in pages.items():
        for link in page.links:
            path, _, fragment = link.partition("#")
            target = urllib.parse.unquote(path) or name
            if not (BOOK / target).is_file() and target.strip("/") != "":
                yield f"{name}: {link} leads to no file"
            elif fragment and target in pages and urllib.parse.unquote(fragment) not in pages[target].ids:
                yield f"{name}: {link} leads to no heading"
    for chapter in (ROOT / "docs").glob("*.md"):
        if chapter.name != "SUMMARY.md" and f"{chapter.stem}.html" not in pages:
            yield f"docs/{chapter.name} is in no chapter of docs/SUMMARY.md"


def main():
    if subprocess.run(["mdbook", "build"], cwd=ROOT).returncode != 0:
        sys.exit("book.py: mdbook failed; its messages are above")
    found = list(faults())
    if found:
        sys.exit("book.py: " + "\nbook.py: ".join(found))
    print(f"{BOOK / 'index.html'}: {sum(1 for _ in BOOK.glob('*.html'))} pages, all links lead somewhere")


if __name__ == "__main__":
    main()
