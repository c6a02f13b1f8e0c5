"""Outputs that fit the loss: without the activation that restricts them, or in the form that the loss takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from unstuck.findings.records import Cause
from unstuck.measurements.records import Outputs
from unstuck.remedies.activations import behind, exchanged
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import NotApplicableError, Situation, Treatment
from unstuck.training import Loss

Form = Callable[[Tensor], Tensor]

# What cosines are multiplied by to tell classes apart: an inverse temperature, of the usual size (Wang et al., 2018).
_SCALE = 20.0


def fit_outputs(known: Situation) -> Sequence[Treatment]:
    """Take the last activation off, or bring the outputs into the form that the loss takes."""
    outputs = known.measured.outputs
    if outputs is None or not known.findings or known.findings[0].cause is not Cause.MISMATCHED_LOSS:
        return []
    ending = behind(known.training.model)
    if ending and outputs.misfit not in ("broadcast", "cosines"):
        names = " and ".join(type(child).__name__ for _, _, child in ending)
        return [
            _treatment(
                f"{names} at the end taken off",
                "model without its last activation",
                lambda loss: exchanged(loss, behind, nn.Identity),
            )
        ]
    form = _form(outputs)
    if form is None:
        return []
    words, line, change = form
    return [_treatment(words, line, lambda loss: _in_form(loss, change))]


def _treatment(words: str, line: str, change: Callable[[Loss], Loss]) -> Treatment:
    def apply(run: Run) -> None:
        run.training = replace(run.training, loss=change(run.training.loss))
        run.look_at(run.objective.batches)
        run.forget()

    return Treatment(
        "fit-outputs",
        frozenset({Cause.MISMATCHED_LOSS}),
        f"{words}; the loss is that of the changed outputs",
        (f"# {line}",),
        "what the loss function says that it takes",
        apply,
        in_place=False,
    )


def _form(outputs: Outputs) -> tuple[str, str, Form] | None:
    """What brings the outputs into the form that the criterion takes: in words, as code, as a function."""
    if outputs.misfit == "probabilities" and "binary" in outputs.criterion:
        return "logits for probabilities", "give logits, without sigmoid", torch.logit
    if outputs.misfit == "probabilities":
        return "logarithms of probabilities", "give logits, without softmax", _log
    if outputs.misfit == "unnormalised":
        return "log-probabilities", "outputs = torch.log_softmax(outputs, dim=1)", _log_softmax
    if outputs.misfit == "cosines":
        return f"cosines times {_SCALE:g}", f"scores = {_SCALE:g} * scores", _Scaled(outputs.shapes[0])
    if outputs.misfit == "broadcast":
        return "outputs of the targets' shape", "outputs = outputs.squeeze(-1)", _squeezed
    return None


@dataclass(frozen=True)
class _Scaled:
    shape: tuple[int, ...]

    def __call__(self, outputs: Tensor) -> Tensor:
        if tuple(outputs.shape)[1:] != self.shape[1:]:
            msg = "the scores are made in the loss, out of what the model gives"
            raise NotApplicableError(msg)
        return _SCALE * outputs


def _log(outputs: Tensor) -> Tensor:
    return outputs.clamp_min(torch.finfo(outputs.dtype).tiny).log()


def _log_softmax(outputs: Tensor) -> Tensor:
    return torch.log_softmax(outputs, dim=1)


def _squeezed(outputs: Tensor) -> Tensor:
    """Take a last dimension of one off, or put one on."""
    return outputs.squeeze(-1) if outputs.ndim > 1 and outputs.shape[-1] == 1 else outputs.unsqueeze(-1)


def _in_form(loss: Loss, form: Form) -> Loss:
    """The same loss of outputs in another form; the hook goes when the session ends."""

    def compute(model: nn.Module, batch: Any) -> Tensor:
        met: list[Tensor] = []

        def changed(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if not isinstance(output, Tensor):
                msg = "the model gives no tensor"
                raise NotApplicableError(msg)
            met.append(output)
            return form(output)

        model.register_forward_hook(changed)
        value = loss(model, batch)
        if not met:
            msg = "the loss makes the outputs itself, out of parts of the model"
            raise NotApplicableError(msg)
        return value

    return compute
