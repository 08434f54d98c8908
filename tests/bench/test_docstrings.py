"""The sections of docstrings give words by name."""

from zsad.bench.docstrings import described

TEXT = """Add up.

    Twice as it is.

    Args:
        a, b: numbers
            to add.
        base: of the numbers: ten.

    Raises:
        ValueError: they are not numbers.
    """


def test_a_section_gives_the_words_of_each_name():
    before, words = described(TEXT, "Args")
    assert before == "Add up.\n\nTwice as it is."
    assert words["a"] == words["b"] == "numbers to add."
    assert words["base"] == "of the numbers: ten."


def test_a_docstring_without_the_section_is_all_text():
    assert described("Add up.", "Args") == ("Add up.", {})
    assert described(None, "Args") == ("", {})
