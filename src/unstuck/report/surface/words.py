"""What each picture is, what it can say, and what it cannot."""

from dataclasses import dataclass

from unstuck.report.numbers import count


@dataclass(frozen=True)
class Words:
    """How a plane is called.

    Attributes:
        title: In a heading.
        unit: Of both axes.
        axes: The names of both axes.
        meaning: What it is, in one sentence.
    """

    title: str
    unit: str
    axes: tuple[str, str]
    meaning: str

    def axis(self, number: int) -> str:
        """Name an axis with its unit."""
        return f"{self.axes[number]} ({self.unit})"


PLANES: dict[str, Words] = {
    "random": Words(
        "Along two random directions",
        "filters' lengths",
        ("random direction 1", "random direction 2"),
        "Two random directions; in each the filters are as long as the weights' own, biases and normalisations "
        "stay (Li et al., 2018). At 1 every filter has been displaced by its own length.",
    ),
    "hessian": Words(
        "Along the eigenvectors of λ_max and λ_min",
        "distance",
        ("λ_max direction", "λ_min direction"),
        "The directions along which the loss bends up most, and least or down; each axis ends where the quadratic "
        "model has changed by the loss itself, or at twice the length of the weights.",
    ),
    "path": Words(
        "Along the path of the weights",
        "distance",
        ("principal component 1", "principal component 2"),
        "The plane that shows most of a path's variance (its first two principal components), through the weights as "
        "they are (Li et al., 2018, section 7).",
    ),
}

# What is looked at beside the planes.
STAGES: dict[str, str] = {"validation": "validation loss"}

CAPTIONS: dict[str, str] = {
    "random": (
        "Lines of equal loss; the diamond is where the weights are. A random direction hardly meets the few steep "
        "ones: the picture looks smoother and rounder than the loss is."
    ),
    "random-surface": "The same as a surface. Drag it to turn it, or use the buttons below it.",
    "hessian": (
        "The real loss beside what slope and curvature at the point predict. Where the two differ, a method that "
        "trusts the quadratic model is misled. The axes have different scales: one direction is steep, the other not."
    ),
    "hessian-surface": (
        "The same as a surface; the quadratic model is switched on in the legend. At a saddle the loss falls "
        "along one axis and rises along the other."
    ),
    "path": (
        "The line is the path, from the circle to the square. It lies on the plane only in part: the height that "
        "is drawn below a place is not the loss that the run had there."
    ),
    "path-surface": (
        "The same as a surface; the line is drawn at the run's real loss, which need not be the surface's. Drag it "
        "to turn it, or use the buttons below it."
    ),
    "slices": (
        "Through the point along each axis: the real loss on training and on validation data, and dashed what slope "
        "and curvature at the point predict."
    ),
}


SOURCES: dict[str, str] = {
    "run": "the recorded run",
    "copy": "a copy of the run, continued from here",
}


def reading(parameters: int) -> tuple[str, ...]:
    """How to read the pictures: what they cannot say."""
    # Dinh et al. (2017); Li et al. (2018), section 4.
    two_of_many = (
        f"Each picture shows two directions of {count(parameters, 'parameter')}. What lies in the others it cannot "
        "show: what looks like a minimum here may have a way down elsewhere, and `unstuck diagnose` looks for one."
    )
    scale = (
        "Multiply a ReLU layer by ten and divide the next by ten, and the network computes the same: the random "
        "picture then stays as it is, the others become narrower or broader. So compare the breadth of valleys "
        "between networks by the random one alone, and even there take it as a hint (Dinh et al., 2017)."
    )
    return two_of_many, scale
