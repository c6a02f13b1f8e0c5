"""The mean of the parameters on the way, in the place of the last ones."""

from collections.abc import Sequence

from unstuck.findings.records import Cause
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import Left, Situation, Treatment

# The mean is taken over all but the beginning of the way.
_FROM = 0.25


def average(known: Situation) -> Sequence[Treatment]:
    """Average the parameters of the steps: what the noise does to one it undoes to another."""
    if (
        known.measured.sample.whole
        and known.measured.sample.batches == 1
        and not known.measured.sample.stochastic
    ):
        return []

    def apply(run: Run) -> None:
        run.average_from = _FROM

    return [
        Treatment(
            "average",
            frozenset({Cause.GRADIENT_NOISE}),
            "the mean of the parameters over the steps",
            (
                "averaged = torch.optim.swa_utils.AveragedModel(model)",
                "averaged.update_parameters(model)  # after each optimizer.step(); evaluate `averaged`",
            ),
            "Polyak & Juditsky, 1992; Izmailov et al., 2018",
            apply,
            left=Left.ALWAYS,
        )
    ]
