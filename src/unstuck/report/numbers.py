"""Numbers as people read them: three significant digits, the error beside them, sensible units."""

import math

from unstuck.estimate import Estimate

DIGITS = 3
PLAIN = (1e-4, 1e6)  # magnitudes in between are written without an exponent
NOTHING = "not measured"
TIMES = "\u00d7"
ROUNDING = 1e-6  # of the value: a smaller error is none that anybody wants to read
NEGLIGIBLE = 1e-5  # of the loss: in the summary a smaller gain is not worth its digits (they are in the JSON)


def significant(value: float | None, digits: int = DIGITS) -> str:
    """Write a number with that many significant digits: 0.0412, 12,300, 1.23e-7."""
    if value is None:
        return NOTHING
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else ("infinite" if value > 0 else "-infinite")
    if value == 0:
        return "0"
    low, high = PLAIN
    mantissa, exponent = _scientific(value, digits)
    rounded = float(f"{mantissa}e{exponent}")
    if low <= abs(rounded) < high:
        return f"{rounded:,.{max(0, digits - 1 - exponent)}f}"
    return f"{mantissa}e{exponent}"


def digits(low: float, top: float) -> int:
    """Of numbers within that range, so many that they are told apart; where they hardly differ these are many."""
    largest = max(abs(low), abs(top))
    return DIGITS + max(round(math.log10(largest / (top - low))), 0) if top > low else DIGITS


def with_error(estimate: Estimate | None, scale: float = 1.0) -> str:
    """Write value ± standard error, the value no finer than the error; `scale` multiplies both.

    An error of zero, or of rounding only (all the data were looked at), is written "± 0"; one that nobody
    can know (a single batch) "± ?".
    """
    if estimate is None:
        return NOTHING
    value, stderr = scale * estimate.value, abs(scale) * estimate.stderr
    if not math.isfinite(value):
        return significant(value)
    if not math.isfinite(stderr):
        return f"{significant(value)} ± ?"
    if stderr < ROUNDING * abs(value):
        return f"{significant(value)} ± 0"
    return f"{_rounded_to(value, stderr)} ± {significant(stderr, 2)}"


def percent(share: float | None, digits: int = DIGITS) -> str:
    """Write a share of one as a percentage, without zeros at its end: 0.1 %, 12.1 %."""
    return NOTHING if share is None else f"{_trimmed(significant(100 * share, digits))} %"


def gain(estimate: Estimate) -> str:
    """Write a gain, a share of one, in percent; one that is surely negligible reads "under 0.001"."""
    if abs(estimate.value) + 2 * estimate.stderr < NEGLIGIBLE:
        return f"under {100 * NEGLIGIBLE:g}"
    if 0 < estimate.stderr < min(NEGLIGIBLE / 2, abs(estimate.value) / 1000):
        return f"{significant(100 * estimate.value)} ± 0"
    return with_error(estimate, 100.0)


def probability(value: float) -> str:
    """Write a probability as a percentage that never rounds up to certainty."""
    if 0.9995 <= value < 1:  # noqa: PLR2004 - what one decimal would round to 100 %
        return "over 99.9 %"
    text = f"{100 * value:.1f}".removesuffix(".0")
    return f"{text} %"


def count(value: int | float, one: str, many: str | None = None) -> str:
    """Write a number of things: "1 gradient", "41 gradients", "12,345 parameters"."""
    number = f"{value:,.0f}" if value == int(value) or value >= 10 else f"{value:.1f}"  # noqa: PLR2004
    return f"{number} {one if number == '1' else many or one + 's'}"


def sampled(examples: int, batches: int, draws: int = 1) -> str:
    """Write what a sample holds, of which every batch is there under so many draws of what is random in the loss."""
    text = f"{count(examples // draws, 'example')} in {count(batches // draws, 'batch', 'batches')}"
    if draws == 1:
        return text
    each = "" if batches == draws else "each "
    return f"{text}, {each}looked at under {draws} draws of the randomness"


def seconds(value: float) -> str:
    """Write a duration: 45 ms, 1.2 s, 3 min 20 s, 2 h 5 min."""
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 60:  # noqa: PLR2004
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def memory(value: int | float) -> str:
    """Write a number of bytes in powers of 1000: 310 MB, 4.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _trimmed(number: str) -> str:
    mantissa, mark, exponent = number.partition("e")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return mantissa + mark + exponent


def _scientific(value: float, digits: int) -> tuple[str, int]:
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return mantissa, int(exponent)


def _rounded_to(value: float, stderr: float) -> str:
    """The value with three digits, or fewer where the error makes them meaningless."""
    if stderr == 0 or value == 0:
        return significant(value)
    if abs(value) < stderr / 100:
        return "0"
    finest = _scientific(stderr, 2)[1] - 1
    digits = _scientific(value, DIGITS)[1] - finest + 1
    return significant(value, min(DIGITS, max(1, digits)))
