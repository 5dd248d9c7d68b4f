"""A space of six words, made by hand, and how the tests of embed ask about it."""

from command import ask

# Woman - man is (1, 0, 0), and so is queen - king. Cats are two of cat.
WORDS = """\
king 0 2 0
queen 1 2 0
man 0 1 0
woman 1 1 0
cat 0 0 1
cats 0 0 2
"""


def write(folder, text=WORDS):
    """A file of vectors, and its path."""
    path = folder / "words.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def rows(*arguments):
    """The rows that embed answers with, by their word."""
    done = ask("embed", *arguments, "-f", "json")
    assert done.code == 0, done.err
    return {row["word"]: row for row in done.json["rows"]}
