"""What each spectrum is, and how to read it."""

TITLES: dict[str, str] = {
    "hessian": "The eigenvalues of the Hessian",
    "metric": "The eigenvalues in the optimizer's own metric",
}
LAYERS = "Every layer by itself"

CAPTIONS: dict[str, str] = {
    "hessian": (
        "An eigenvalue says how strongly the loss bends along one direction. A saddle has some on both sides of the "
        "shaded zone, a minimum has none on the left; beyond the dotted lines there is none, with the probability "
        "that is written there."
    ),
    "metric": (
        "The same where every parameter is measured in steps of the optimizer: of D^(1/2) H D^(1/2), D the rate over "
        "the scale of each parameter. Its largest one says whether the steps are stable."
    ),
    "blocks": (
        "The smallest and the largest eigenvalue of each layer with the others held fixed; of a sample of the data, "
        "on the half that they were not found on. The largest of all layers together is at least the largest of "
        "these, and the smallest at most "
        "the smallest: what lies beyond comes from how layers bend together."
    ),
}

# Ghorbani et al. (2019) for the first; Dinh et al. (2017).
_USUAL = (
    "Most directions of a network are flat, and a few are steep: that is normal. A negative eigenvalue is a way down "
    "only where the gradient is nil; `unstuck diagnose` says whether it is."
)
_SCALE = (
    "All eigenvalues change when a ReLU layer is multiplied and the next one divided, which leaves the network as it "
    "is (Dinh et al., 2017): compare networks of one form and scale only, or their signs."
)
READING = (_USUAL, _SCALE)
