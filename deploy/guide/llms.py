#!/usr/bin/env python3
"""Makes llms.txt, the list of the guide's pages, and llms-full.txt, all English pages in one, in the form of llmstxt.org.

    python3 deploy/guide/llms.py [FOLDER]        FOLDER: where the files go; the folder of this script
"""

import re
import sys
from pathlib import Path

GUIDE = Path(__file__).resolve().parent
LINK = re.compile(r"\[([^\]]+)\]\(([a-z-]+\.md)\)")


def plain(text):
    """Links become their text, as the list has links of its own. A link to the other language stands at its end."""
    text = re.sub(r" *\[[^\]]+\]\(\.\./zh/[^)]*\)\.?", "", text)
    return re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)


def sections(index):
    """The sections of the index that list pages: a title, and for each page its title, file and description."""
    for section in index.split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        pages = []
        for row in text.splitlines():
            cells = [cell.strip() for cell in row.strip("|").split(" | ")]
            link = LINK.fullmatch(cells[0])
            if row.startswith("|") and link and len(cells) == 2:
                pages.append((link[1], link[2], plain(cells[1])))
        if pages:
            yield title, pages


def main():
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else GUIDE
    index = (GUIDE / "en" / "index.md").read_text(encoding="utf-8")
    title, summary = re.match(r"# (.*)\n\n((?:.+\n)+)", index).groups()
    listed = list(sections(index))
    text = f"# {title}\n\n> {plain(' '.join(summary.split()))}\n"
    for heading, pages in listed:
        text += f"\n## {heading}\n\n"
        text += "".join(f"- [{name}](en/{page}): {description}\n" for name, page, description in pages)
    text += "\n## Optional\n\n- [中文](zh/index.md): the guide in Chinese\n"
    names = ["index.md"] + [page for _, pages in listed for _, page, _ in pages]
    # A page may stand in several groups.
    whole = [(GUIDE / "en" / name).read_text(encoding="utf-8").strip() for name in dict.fromkeys(names)]
    (folder / "llms.txt").write_text(text, encoding="utf-8")
    (folder / "llms-full.txt").write_text("\n\n".join(whole) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
