import sys

import unstuck

# The words of the JSON document, which other people's programs compare with.
CAUSES = [
    "healthy",
    "saddle-point",
    "local-minimum",
    "local-maximum",
    "plateau",
    "step-too-large",
    "step-too-small",
    "ill-conditioned",
    "gradient-noise",
    "vanishing-gradient",
    "dead-units",
    "saturated-units",
    "stale-second-moment",
    "precision-stall",
    "non-finite",
    "frozen-parameters",
    "mismatched-loss",
    "uninformative-labels",
    "unshuffled-data",
    "generalization-gap",
]


def test_the_public_names_are_a_list_someone_chose():
    assert unstuck.__all__ == [
        "BatchSize",
        "Cause",
        "Diagnosis",
        "History",
        "Sharpness",
        "Spectrum",
        "Surface",
        "Training",
        "Treated",
        "UnstuckError",
        "Watch",
        "batch_size",
        "diagnose",
        "escape",
        "sharpness",
        "spectrum",
        "supervised",
        "surface",
        "treat",
        "watch",
    ]
    assert all(getattr(unstuck, name).__module__.startswith("unstuck.") for name in unstuck.__all__)


def test_everything_else_in_the_namespace_is_a_module_of_ours():
    visible = {name for name in dir(unstuck) if not name.startswith("_")}
    # Under pytest, jaxtyping's import hook leaves its own name in every module.
    others = visible - set(unstuck.__all__) - {"jaxtyping"}
    assert {name for name in others if f"unstuck.{name}" not in sys.modules} == set()


def test_the_words_for_causes_are_twenty_and_fixed():
    assert [cause.value for cause in unstuck.Cause] == CAUSES


def test_a_cause_is_its_word():
    assert unstuck.Cause("saddle-point") is unstuck.Cause.SADDLE_POINT
    assert f"{unstuck.Cause.SADDLE_POINT}" == "saddle-point" == unstuck.Cause.SADDLE_POINT
