"""torchdiag takes one look: gradients, dead units on all the data, and one verified step.

It ranks nothing: what makes a step impossible comes first here, then causes before what follows from them.
"""

import math

import torch

from benchmarks.causes.continuing import Run, joined, size_of
from benchmarks.causes.peers.watching import Said, Whole, Words, as_it_comes
from unstuck import Cause

WORDS: Words = {
    "loss is not finite": (Cause.NON_FINITE,),
    "gradient is None": (Cause.FROZEN_PARAMETERS,),
    "neurons dead, critical": (Cause.DEAD_UNITS, Cause.STEP_TOO_LARGE),
    "gradient vanishing": (Cause.VANISHING_GRADIENT,),
    "gradient exploding": (Cause.STEP_TOO_LARGE,),
    "no parameters changed": (Cause.FROZEN_PARAMETERS, Cause.PRECISION_STALL),
    "neurons dead, warning": (Cause.DEAD_UNITS, Cause.STEP_TOO_LARGE),
}
CRITICAL, WARNING = 50, 20  # per cent dead, as in its check_dead_neurons


def ask(run: Run) -> list[Said]:
    """Run the three checks on the state as it is handed in."""
    import torchdiag

    batch = run.steps[0]
    every = joined(run.every)
    dead = torchdiag.check_dead_neurons(Whole(run, every), torch.arange(size_of(every)))
    worst = max((layer["dead_pct"] for layer in dead.values()), default=0.0)
    whole, chosen = Whole(run, batch), torch.arange(size_of(batch))
    run.optimizer.zero_grad()
    loss = whole(chosen)
    if loss.requires_grad:
        loss.backward()
    states = {one["status"] for one in torchdiag.check_gradients(whole).values()}
    step = torchdiag.verify_step(whole, run.optimizer, as_it_comes, chosen, chosen)
    still = step.get("params_unchanged", 0) > 0 and step.get("params_updated", 0) == 0
    heard = {
        "loss is not finite": not math.isfinite(step["loss"]),
        "gradient is None": "no_grad" in states,
        "neurons dead, critical": worst > CRITICAL,
        "gradient vanishing": "VANISH" in states,
        "gradient exploding": "EXPLODE" in states,
        "no parameters changed": still,
        "neurons dead, warning": WARNING < worst <= CRITICAL,
    }
    return [Said(words, WORDS[words]) for words, holds in heard.items() if holds]
