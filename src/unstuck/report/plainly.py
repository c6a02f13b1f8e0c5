"""Text for what can write no more than ASCII."""

_PLAIN = str.maketrans(
    {
        "\u2016": "|",
        "\u00b1": "+-",
        "\u00d7": "x",
        "\u2013": "-",
        "\u2026": "...",
        "\u2212": "-",
        "\u00b7": "-",
        "\u03bb": "lambda",
        "\u03a3": "Sigma",
        "\u2192": "->",
        "\u00b2": "^2",
        "\u00a7": "section ",
        "\u00a0": " ",
        "\u2002": " ",
    }
)


def in_ascii(text: str) -> str:
    """Spell what has a spelling, and put a question mark for anything else."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode()
