"""What each figure teaches, in two or three sentences."""

CAPTIONS: dict[str, str] = {
    "descent": (
        "The best that the loss can do from here, by each way of going; measured, not extrapolated. "
        "At a saddle only negative curvature has something to give, at a minimum nothing has; anywhere "
        "else the bars show what the optimizer leaves behind, and which way it lies."
    ),
    "trials": (
        "The run continued from this very state under each remedy, on the same batches in the same order; what a "
        "remedy itself costs is counted along the axis. Each thin line is another order of the batches; the dots "
        "below are the gains with their intervals."
    ),
    "past": (
        "What the run wrote down. A loss that has stopped while the gradient has not become small is no critical "
        "point: always look at both curves."
    ),
    "course": (
        "The run continued on a copy. A loss that stays while the gradient stays large is no critical point: "
        "the steps bounce or wander. Only where both are flat, and the gradient near zero, it may be one."
    ),
    "rates": (
        "The run continued on copies from the same point, on the same batches in the same order, with one "
        "change each. If a lower rate falls where the present one does not, the steps are too large or too "
        "noisy; if only a higher one falls, they are too small."
    ),
    "valley": (
        "A cut through the valley along the gradient. The bottom lies before the point where the present step "
        "lands: on the other wall, from where the next step comes back."
    ),
    "line": (
        "The loss on a walk along each way down. A lowest point left of the present step means that steps "
        "are too large, one far to the right that they are too small; a curve that never dips below the "
        "dashed line has nothing to give."
    ),
    "noise": (
        "How much of a batch's gradient, in squared length, is the gradient of all the data; the rest is "
        "chance. Far below the dotted line a batch says little about the way, and only small steps average "
        "the noise out."
    ),
    "spectrum": (
        "An eigenvalue says how strongly the loss bends along one direction. A saddle has some on both "
        "sides of the shaded zone, a minimum has none on the left; beyond the dotted lines there is none, "
        "with the probability that is written there. Below, the extreme ones as they were found, and as "
        "they were judged on data kept aside."
    ),
    "slices": (
        "The dots are the real loss, the dashes what its slope and curvature at this point predict. At a "
        "saddle the lowest eigenvalue gives a hilltop and the highest a valley floor; at a minimum both "
        "are valley floors."
    ),
    "layers": (
        "All values that came out of each nonlinearity, on all the examples seen. Where it is flat, a change of "
        "the weights before it changes nothing; a unit that is flat on every example is dead and stays so. For "
        "ReLU half of the values flat is normal."
    ),
    "depth": (
        "What the loss tells each weight, read from right to left. A curve that falls by a thousand on its way "
        "to the left leaves the first places without a say; a factor of three to ten is normal."
    ),
    "outputs": (
        "The least loss over all values that the last layer could give, as the model is built, against that "
        "over any outputs at all. What lies between the two is out of reach of every optimizer."
    ),
    "labels": (
        "Models predicted labels that they were not shown. Permuted labels, which nothing can predict, give "
        "correlations within the shaded zone; a dependence right of the dotted line would have been noticed."
    ),
    "order": (
        "Batches should be fair samples of the data. Where they are not, each one pulls towards its own "
        "examples, and the next one undoes it."
    ),
    "validation": (
        "The loss on data that the run trains on, and on data kept aside. A gap is no harm as long as going on "
        "lowers both."
    ),
    "wiring": (
        "What one best step along the gradient gains, for the parameters that are trained and for those that "
        "are not. Leaving parameters out is no harm while the others have as much to gain."
    ),
    "moments": (
        "Adaptive optimizers divide each step by sigma, a running size of past gradients. Where it is far above the "
        "present size the steps are too short, where it is far below they are too long."
    ),
    "precision": (
        "A weight has only so many digits. An update smaller than half of the last one leaves the weight as "
        "it was."
    ),
    "cost": (
        "It is often said that the Hessian costs too much to look at. It does; so it was never formed, "
        "only multiplied with a few vectors."
    ),
}

WHOLE = "It is often said that the Hessian costs too much to look at. This one is small enough to be formed whole."


def caption(name: str, *, whole: bool) -> str:
    """What a figure teaches; `whole` says that the Hessian was small enough to be formed."""
    return WHOLE if whole and name == "cost" else CAPTIONS[name]
