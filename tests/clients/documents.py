"""Runs the Python examples of the documents, with the real libraries: only the gateway's address is another one."""

import os
import re
from pathlib import Path

import openai
from gateway import KEY, URL, check, finish, png, scratch, step

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

found = 0
for page in [ROOT / "README.md", *sorted(ROOT.glob("deploy/guide/**/*.md"))]:
    for example in BLOCK.findall(page.read_text()):
        found += 1
        if "standardwebhooks" in example:
            scope = {}
            exec(example, scope)
            check(callable(scope["receive"]), example)
            continue
        check("http://gateway:8080" in example, "names no gateway:", example)
        with scratch() as directory:
            os.chdir(directory)
            png(directory).rename("boat.png")
            exec(example.replace("http://gateway:8080", URL), {"openai": openai, "ACME_KEY": KEY})
            made = [file for file in Path(directory).iterdir() if file.read_bytes()[4:8] == b"ftyp"]
            check(made, "no MP4 came of:", example)
            os.chdir(ROOT)
        step(f"{page.relative_to(ROOT)}: {example.splitlines()[0]}")
check(found, "no example in the documents")
finish("documents")
