"""How the tests of documentation read a page."""

from tests.docs.pages import anchors, blocks, links, python_blocks

PAGE = """# A title, with `code`: and more

See [one](money.md#part), [`two`](../README.md "a title") and ![a picture](a.svg) <img alt="x" src="b.png">.

    [not a link](nowhere.txt)

```console
$ true  # [nor this](nowhere.txt)
# no heading
```

`[nor](this)`

## Part
## Part
"""


def test_links_are_found_and_code_has_none() -> None:
    assert links(PAGE) == ["money.md#part", "../README.md", "a.svg", "b.png"]


def test_anchors_are_made_of_headings_as_github_makes_them() -> None:
    assert anchors(PAGE) == {"a-title-with-code-and-more", "part", "part-1"}


def test_blocks_are_told_by_their_kind_and_line() -> None:
    (block,) = blocks(PAGE)
    assert (block.kind, block.line) == ("console", 7)
    assert block.text.startswith("$ true")


def test_python_is_found_in_fences_and_in_indented_blocks() -> None:
    page = "# A page\n\n    import os\n\n    os.getpid()\n\nText\n\n```python\nimport sys\n```\n\n    $ import it\n"
    assert [(block.line, block.text.strip()) for block in python_blocks(page)] == [
        (9, "import sys"),
        (3, "import os\n\nos.getpid()"),
    ]
