"""Block-diagonal curvature: the two ends of the spectrum and the trace of every layer by itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import nn

from unstuck.curvature.dense import dense_spectrum, looped
from unstuck.curvature.records import Curvature, Question
from unstuck.curvature.spectrum import spectrum
from unstuck.curvature.vectors import Operator
from unstuck.landscape.bends import Bending, Block
from unstuck.landscape.ground import Ground, Limits
from unstuck.measurements.records import Omission, Sample
from unstuck.objective import Draw
from unstuck.objective.ledger import Ledger
from unstuck.objective.parameters import Parameters, exactly
from unstuck.objective.sampling import reason
from unstuck.progress import Told
from unstuck.training import Training

# A module with more than this share of all parameters is no layer but holds them: its children are looked at.
_HOLDS = 0.5

# What only strings modules together is no layer either.
_STRINGS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)

# Up to so many parameters the matrix of a block is formed: no more products than its ends would take otherwise.
_FORMED = 64

# Products for the trace, beyond those of the eigenvalues: their scatter is its error.
_PROBES = 8


@dataclass(frozen=True)
class Layer:
    """A block: its name, and those of its parameters."""

    name: str
    names: tuple[str, ...]


def layers(model: nn.Module, only: Sequence[str] = ()) -> tuple[Layer, ...]:
    """Divide what is trained into blocks of one layer each, such as `h.0`, `h.1`, ...; in the model's order.

    A layer is the outermost module that neither only strings others together (`ModuleList`, `Sequential`) nor holds
    most of the parameters by itself. Parameters of a module that is none belong to a block of that module's name.

    Raises:
        TrainingError: A pattern of `only` matches nothing.
    """
    chosen = {slot.name for slot in Parameters(model, among=only).slots}
    slots = Parameters(model).slots
    whole = sum(slot.parameter.numel() for slot in slots)
    modules, sizes = dict(model.named_modules()), dict[str, int]()
    for slot in slots:
        for path in _paths(slot.name):
            sizes[path] = sizes.get(path, 0) + slot.parameter.numel()

    def goes_deeper(path: str) -> bool:
        module = modules[path]
        deeper = isinstance(module, _STRINGS) or sizes[path] > _HOLDS * whole
        return deeper and any(True for _ in module.children())

    found: dict[str, list[str]] = {}
    for name in (slot.name for slot in slots if slot.name in chosen):
        paths = _paths(name)
        layer = next((path for path in paths if not goes_deeper(path)), paths[-1])
        found.setdefault(layer, []).append(name)
    return tuple(Layer(name or type(model).__name__, tuple(names)) for name, names in found.items())


def _paths(name: str) -> list[str]:
    """The modules around a parameter, from the outermost."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:depth]) for depth in range(len(parts) + 1)]


class Blocks:
    """Measures one block after the other, each in its share of the time that is left.

    Args:
        training: What is looked at.
        drawn: The sample.
        sample: Its description.
        limits: What may be spent on all of them.

    Attributes:
        found: What is known by now.
        omitted: What is not, and why.
        settled: Whether all of them were measured, to the error that was asked for.
    """

    def __init__(
        self, training: Training, drawn: Draw, sample: Sample, limits: Limits, ledger: Ledger
    ) -> None:
        self._training, self._drawn, self._sample, self._limits = training, drawn, sample, limits
        self._ledger = ledger
        self._layers = layers(training.model, limits.only)
        self.found: list[Block] = []
        self.omitted: list[Omission] = []
        self.settled = True

    def run(self, told: Told) -> None:
        """Measure all of them, until the time is over."""
        for number, layer in enumerate(self._layers):
            told(f"eigenvalues of {layer.name}", number / len(self._layers))
            if self._limits.over():
                names = ", ".join(each.name for each in self._layers[number:])
                self._leave_out(f"the time was over before {names}")
                return
            until = (1.0 - 1.0 / (len(self._layers) - number)) * self._limits.left()
            try:
                self._measure(layer, lambda until=until: self._limits.left() - until)
            except Exception as error:  # strangers' models may raise anything
                self._leave_out(f"{layer.name}: {reason(error)}")

    def beside(self, bending: Bending) -> Bending:
        """Add what is known by now."""
        return replace(
            bending,
            blocks=tuple(self.found),
            omitted=(*bending.omitted, *self.omitted),
            complete=bending.complete and self.settled and len(self.found) == len(self._layers),
        )

    def _leave_out(self, why: str) -> None:
        self.settled = False
        self.omitted.append(Omission("blocks", why))

    def _measure(self, layer: Layer, left: Callable[[], float]) -> None:
        limits = replace(self._limits, left=left, only=tuple(map(exactly, layer.names)))
        ground = Ground(self._training, self._drawn, self._sample, limits, decayed=True, ledger=self._ledger)
        objective = ground.objective
        with objective.products(ground.theta, ground.judge.halves.finds, memory=ground.graphs) as products:
            curvature = _curvature(ground.operator(products), ground)
        known = curvature.spectrum
        self.found.append(
            Block(
                name=layer.name,
                parameters=objective.size,
                lowest=known.lowest[0],
                highest=known.highest[0],
                judged_lowest=ground.judge.curvature(curvature.lowest),
                judged_highest=ground.judge.curvature(curvature.highest),
                trace=known.trace,
                products=known.products,
                settled=curvature.settled,
            )
        )
        self.settled = self.settled and curvature.settled
        if curvature.interrupted:
            raise KeyboardInterrupt


def _curvature(operator: Operator, ground: Ground) -> Curvature:
    if operator.size <= _FORMED and ground.objective.space.parts is None:
        return dense_spectrum(operator, looped(operator.matvec))
    return spectrum(
        operator,
        Question(tolerance=1e-2, probes=_PROBES),
        ground.limits.generator(),
        room=ground.room,
        should_stop=ground.limits.over,
    )
