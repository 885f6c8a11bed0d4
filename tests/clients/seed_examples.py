"""Finds the example programs in the seeds: text of documentation pages.

The pages lost their code fences, so an example is known by how it begins
and ends in its own language.
"""

import re
from dataclasses import dataclass
from pathlib import Path

# A line of one word is a label of the page (the next language, a heading),
# never a statement of an example.
LABEL = re.compile(r"\w+$")


@dataclass
class Example:
    seed: str
    language: str
    code: str
    name: str = ""

    @property
    def unified(self):
        """Belongs to the OpenAI-style dialect: /v1/videos at the root."""
        return "/v1/videos" in self.code

    @property
    def query(self):
        """Asks for a task that another example has to create first."""
        return re.search(r"/tasks/[<{]task_id[>}]", self.code) is not None


def find_examples(directory):
    """Every example of every seed, in order, with a name that says what it is."""
    examples = []
    for path in sorted(Path(directory).glob("[0-9][0-9][0-9]_*.txt")):
        examples += examples_of(path.name[:3], path.read_text(encoding="utf-8"))
    seen = {}
    for example in examples:
        name = f"{example.seed} {subject(example)} {example.language}"
        seen[name] = seen.get(name, 0) + 1
        example.name = name if seen[name] == 1 else f"{name} #{seen[name]}"
    return examples


def examples_of(seed, text):
    examples = []
    position = 0
    while position < len(text):
        line_end = text.find("\n", position) + 1 or len(text)
        line = text[position:line_end].rstrip()
        for language, begins, ends in LANGUAGES:
            if begins.match(line):
                line_end = ends(text, position)
                examples.append(Example(seed, language, text[position:line_end].rstrip() + "\n"))
                break
        position = line_end
    for example in examples:
        if example.language == "python" and "dashscope" in example.code.split("\n\n")[0]:
            example.language = "dashscope"
    return examples


def shell_end(text, start):
    """The end of a shell command: at a line end outside quotes and without a
    backslash, or at a quote to which the page glued the answer."""
    quote = None
    for position in range(start, len(text)):
        character = text[position]
        if quote:
            if character == quote and not (quote == '"' and text[position - 1] == "\\"):
                quote = None
                if text[position + 1 : position + 2] == "{":
                    return position + 1
        elif character in "'\"":
            quote = character
        elif character == "\n" and text[position - 1] != "\\":
            return position
    return len(text)


def label_end(text, start):
    """The end of a script: at the page's next label."""
    position = start
    for line in text[start:].splitlines(keepends=True):
        if LABEL.match(line.rstrip("\n")):
            return position
        position += len(line)
    return position


def braces_end(text, start):
    """The end of a Java file: at the brace that closes its class."""
    depth = 0
    for token in re.compile(r'"(?:\\.|[^"\\])*"|[{}]').finditer(text, start):
        depth += {"{": 1, "}": -1}.get(token.group(), 0)
        if token.group() == "}" and depth == 0:
            return token.end()
    raise ValueError("a Java example has no end")


LANGUAGES = [
    ("curl", re.compile(r"curl "), shell_end),
    ("java", re.compile(r"import [\w.]+;$"), braces_end),
    ("python", re.compile(r"(import|from) \w+"), label_end),
    ("node", re.compile(r"const \w+ = require\("), label_end),
]


def subject(example):
    """The purpose of an example, from the request that it sends."""
    code = example.code
    if example.unified:
        if "--data" in code:
            return "unified create"
        return "unified content" if "/content" in code else "unified query"
    if example.query:
        return "query"
    if "kf2v" in code:
        return "kf2v wait" if ".wait(" in code else "kf2v call"
    if "last_frame" in code:
        return "first and last frame"
    if "driving_audio" in code:
        return "i2v with audio"
    model = re.search(r"wan2\.\d-(\w+)", code)
    return model.group(1) if model else "unknown"
