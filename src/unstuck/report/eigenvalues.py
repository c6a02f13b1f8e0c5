"""What a report states about the eigenvalues, in words and formatted numbers."""

import math

from unstuck.curvature.records import Certificate, Eigenvalue, Spectrum
from unstuck.estimate import Estimate
from unstuck.findings.records import Verdict
from unstuck.measurements.records import Gradient
from unstuck.report.facts import Fact
from unstuck.report.numbers import count, percent, probability, significant, with_error


def eigenvalue_facts(verdict: Verdict) -> tuple[Fact, ...]:
    """What is known about the eigenvalues; without a spectrum, what was met on the way down."""
    spectrum = verdict.measured.spectrum
    if spectrum is None:
        return _met(verdict.measured.gradient)
    judged = [each and each.eigenvalue for each in map(verdict.measured.slice, ("lowest", "highest"))]
    return spectrum_facts(spectrum, judged[0], judged[1], exhaustive=verdict.measured.sample.exhaustive)


def spectrum_facts(
    spectrum: Spectrum, lowest: Estimate | None, highest: Estimate | None, *, exhaustive: bool
) -> tuple[Fact, ...]:
    """What is known about eigenvalues, and of both ends what the half of the sample that judges says."""
    limit = percent(spectrum.flat)
    total = "sum of all eigenvalues" + (
        "" if exhaustive else ", of one half of the sample: its scatter is not counted"
    )
    return (
        _found("lowest eigenvalue", spectrum.lowest[0]),
        *_judged(lowest, exhaustive=exhaustive),
        _found("highest eigenvalue", spectrum.highest[0]),
        *_judged(highest, exhaustive=exhaustive),
        Fact("certificate", certificate_words(spectrum.floor, "below")),
        Fact("", certificate_words(spectrum.ceiling, "above")),
        Fact("minimum ratio", _shares(spectrum.positive), "of the eigenvalues are positive"),
        Fact("curving down", _shares(spectrum.below), f"are below -{limit} of the largest"),
        Fact("flat", _shares(flat_share(spectrum)), f"are within ±{limit} of the largest"),
        Fact("curving up", _shares(spectrum.above), f"are above {limit} of the largest"),
        Fact("trace", with_error(spectrum.trace), total),
        Fact("numerical noise", percent(spectrum.noise), "of the largest: closer to zero means zero"),
    )


def flat_share(spectrum: Spectrum) -> Estimate:
    """The share of eigenvalues that are neither clearly positive nor clearly negative."""
    above, below = spectrum.above, spectrum.below
    return Estimate(max(0.0, 1 - above.value - below.value), math.hypot(above.stderr, below.stderr))


def certificate_words(certificate: Certificate, side: str) -> str:
    """Say what the certificate of the lower ("below") or upper ("above") end of the spectrum promises."""
    limit = significant(certificate.bound)
    if side == "below" and certificate.tolerance > 0:
        limit = f"-{percent(certificate.tolerance)} of the largest ({limit})"
    if certificate.probability == 1:
        return f"no eigenvalue {side} {limit}: all were computed"
    return f"no eigenvalue {side} {limit}, with probability {probability(certificate.probability)}"


def curvature_gap(verdict: Verdict) -> str:
    """Why there is no curvature to show."""
    if verdict.measured.complete:
        return "The curvature was not needed for this answer, so the eigenvalues were not computed."
    return "The curvature was not measured: the measurement ended before its turn came."


def spectrum_sentence(spectrum: Spectrum) -> str:
    """How the eigenvalues were found, in one sentence."""
    if spectrum.exact:
        return f"All {count(spectrum.size, 'eigenvalue')} were computed from the full Hessian."
    found = len(spectrum.lowest) + len(spectrum.highest)
    return (
        f"{found} of {count(spectrum.size, 'eigenvalue')} were found one by one and the others estimated, "
        f"from {count(spectrum.products, 'Hessian-vector product')}."
    )


def _met(gradient: Gradient) -> tuple[Fact, ...]:
    """Bounds of the spectrum from the few products that the ways down took."""
    ends = (
        ("steepest curvature met", gradient.steepest, "the highest eigenvalue is no less"),
        ("lowest curvature met", gradient.lowest, "the lowest eigenvalue is no more"),
    )
    return tuple(Fact(label, significant(value), words) for label, value, words in ends if value is not None)


def _found(label: str, eigenvalue: Eigenvalue) -> Fact:
    return Fact(label, f"{significant(eigenvalue.value)} ± {significant(eigenvalue.residual, 2)}", "residual")


def _judged(eigenvalue: Estimate | None, *, exhaustive: bool) -> tuple[Fact, ...]:
    """The same eigenvalue on the half of the sample that judges."""
    if eigenvalue is None:
        return ()
    data = "on all the data" if exhaustive else "on data that it was not found on"
    return (Fact("", with_error(eigenvalue), f"curvature along it, {data}"),)


def _shares(estimate: Estimate) -> str:
    return f"{with_error(estimate, 100.0)} %"
