"""What each measure is, what it can say, and what it cannot."""

from dataclasses import dataclass

from unstuck.landscape.ascent import ASAM_RADIUS, SAM_RADIUS
from unstuck.landscape.box import DIRECTIONS


@dataclass(frozen=True)
class Words:
    """The name of a measure for people, its unit, and what it means.

    Attributes:
        blind: Whether it stays as it is when a ReLU layer is multiplied and the next one divided by the same number.
    """

    label: str
    unit: str
    meaning: str
    blind: bool = False


MEASURES: dict[str, Words] = {
    "lambda_max": Words("\u03bb_max", "", "how strongly the loss bends along its steepest direction"),
    "trace": Words("trace", "", "the sum of the bends along all directions"),
    "keskar": Words("Keskar \u03c6(0.001)", " %", "rise in a box of a thousandth of each weight and one"),
    "keskar_5e-4": Words("Keskar \u03c6(0.0005)", " %", "the same in half the box"),
    "keskar_subspace": Words(
        "\u03c6(0.001), random", " %", f"the same along {DIRECTIONS} random directions, mean over draws"
    ),
    "keskar_subspace_5e-4": Words("\u03c6(0.0005), random", " %", "the same in half the box"),
    "sam": Words("SAM, one step", "", f"rise after one ascent step of length {SAM_RADIUS:g}"),
    "sam_steps": Words("SAM, several", "", "highest found by several such steps"),
    "asam": Words(
        "ASAM, one step", "", f"as SAM, each weight in units of itself, length {ASAM_RADIUS:g}", blind=True
    ),
    "asam_steps": Words("ASAM, several", "", "highest found by several such steps", blind=True),
}

# In the order in which they are best read.
ORDER = tuple(MEASURES)

DIRECTIONS_OF: dict[str, str] = {
    "random": "random",
    "filters": "random, scaled like the filters",
    "top": "steepest (top eigenvector)",
    "second": "second eigenvector",
}

# What is measured beside them.
STAGES: dict[str, str] = {"validation": "validation loss", "profiles": "the loss along directions"}

# Dinh et al. (2017); Kwon et al. (2021); Andriushchenko et al. (2023).
_SCALE = (
    "Sharpness says how much the loss rises when the weights move a little, and it compares networks of one form "
    "only: multiply a ReLU layer by ten and divide the next by ten, and the network computes the same, while "
    "\u03bb_max, trace, Keskar's \u03c6 and SAM change and only ASAM does not (Dinh et al., 2017; Kwon et al., 2021)."
)
_GENERALISATION = (
    "A flatter minimum need not generalise better (Andriushchenko et al., 2023), and the learning rate shapes "
    "sharpness as much as the batch size does: compare by the validation loss, and take sharpness as a hint at why."
)
READING = (_SCALE, _GENERALISATION)

CAPTIONS: dict[str, str] = {
    "profiles": (
        "All panels have the same heights but not the same widths. Points are losses that were evaluated; between "
        "them the line is interpolated. Validation data shift the curve a little: beside a steep wall such a shift "
        "costs much, on flat ground hardly anything. That is why flat minima are hoped to generalise."
    ),
    "widths": (
        "The training loss along each direction, all at one scale: the narrower, the sharper. Of thousands of "
        "directions only a few are steep, and a random one hardly meets them."
    ),
}
