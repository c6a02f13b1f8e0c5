"""The measured numbers that findings rest on: what each is called, and in which unit it reads best."""

from typing import Literal

from unstuck.report.words import ROUTES

# "gain": a share of the loss; "share": of anything else; "times": a ratio; "log": a ratio's natural logarithm.
Unit = Literal["plain", "gain", "share", "times", "log"]

EVIDENCE: dict[str, tuple[str, Unit]] = {
    "lambda_min": ("lowest eigenvalue", "plain"),
    "lambda_max": ("highest eigenvalue", "plain"),
    "trace": ("sum of all eigenvalues", "plain"),
    "largest_curvature": ("largest curvature", "plain"),
    "certificate_bound": ("certified lower bound", "plain"),
    "gradient_norm": ("norm of the gradient", "plain"),
    "minimum_ratio": ("positive eigenvalues", "share"),
    "flatness": ("gradient's curvature over the largest", "share"),
    "curvature_gain": ("gain owed to negative curvature", "gain"),
    "shake_gain": ("gain of a descent from a small random displacement", "gain"),
    "slope_gain": ("gain owed to the slope", "gain"),
    "gain_per_step": ("gain of each step", "gain"),
    "best_rate_factor": ("best rate, of the present one", "times"),
    "trial_gain": ("gain of the trial over going on", "gain"),
    "other_rate_gain": ("gain at that rate", "gain"),
    "whole_gain": ("gain of steps on all the sample", "gain"),
    "eta_lambda_max": ("rate times highest eigenvalue (stable below 2)", "plain"),
    "sharpness_over_limit": ("steepest curvature, of what the steps bear", "times"),
    "krylov_over_best_rate": ("corrected gain over that of the best rate", "times"),
    "best_over_stable_step": ("best step over longest stable step", "times"),
    "noise_scale": ("noise scale, in examples", "plain"),
    "batch_size": ("batch size", "plain"),
    "gradient_left": ("gradient left at the first place", "share"),
    "learned_share": ("learnt of what the inputs tell", "share"),
    "dead_share": ("dead units, of all", "share"),
    "silent_share": ("inputs of the layer that are always zero", "share"),
    "dead_in_worst_layer": ("dead units in the worst layer", "share"),
    "flat_share": ("values where the slope is nil", "share"),
    "saturated_share": ("saturated units", "share"),
    "gradient_passed": ("gradient that gets through", "share"),
    "excluded_gain": ("gain of what is left out", "gain"),
    "trained_gain": ("gain of what is trained", "gain"),
    "excluded_share": ("parameters left out", "share"),
    "sway": ("change of the loss by what is cut off", "gain"),
    "lost_share": ("parameters that rounding leaves unmoved", "share"),
    "kept_length": ("kept of the step", "share"),
    "rounded_gain": ("gain of the steps as rounded", "gain"),
    "exact_gain": ("gain of the steps without rounding", "gain"),
    "log_sigma_over_rms": ("sigma over the present size of the gradient", "log"),
    "present_gain": ("gain with sigma as it is", "gain"),
    "fresh_gain": ("gain with sigma measured afresh", "gain"),
    "momentum_over_gradient": ("momentum, of what the gradients could keep up", "times"),
    "carried_gain": ("gain with the momentum as it is", "gain"),
    "uncarried_gain": ("gain with the momentum begun anew", "gain"),
    "batch": ("batch, counted from 0", "plain"),
    "floor": ("lowest loss as it is built", "plain"),
    "own_first": ("change at the own target, of the largest", "share"),
    "own_share": ("change at the own target, of all", "share"),
    "free_floor": ("lowest loss with free outputs", "plain"),
    "present_loss": ("loss now", "plain"),
    "out_of_reach": ("loss out of reach, of what could be gained", "share"),
    "constant_loss": ("loss of one output for all", "plain"),
    "dependence": ("correlation with left-out labels", "plain"),
    "p_value": ("p of independence", "plain"),
    "detectable": ("correlation that would have been noticed", "plain"),
    "gain_of_shuffling": ("gain of shuffling", "gain"),
    "swing_of_the_loss": ("swing of the loss", "gain"),
    "batch_variance_over_random": ("variance of batch means over random ones", "times"),
    "most_common_class_in_a_batch": ("most common class, of a batch", "share"),
    "generalization_gap": ("validation loss less training loss", "plain"),
    "validation_loss": ("validation loss", "plain"),
    "training_loss_in_eval_mode": ("training loss, in eval mode", "plain"),
    "loss_of_a_constant_output": ("validation loss of a constant output", "plain"),
    "fall_of_validation": ("fall of the validation loss by going on", "plain"),
    "fall_of_training": ("fall of the training loss by going on", "plain"),
    "step": ("step", "plain"),
    "signal": ("squared gradient, without the part that is noise", "plain"),
    "first_step_share": ("length of a first step over that of the weights", "share"),
    "weights_grown": ("length of the weights over that at the beginning", "times"),
    "promise": ("what a step promises, of the loss", "times"),
    "kept_up": ("how far steps keep the loss up", "share"),
    "falls": ("fall of the loss while the steps double", "share"),
    "step_share": ("length of a step over that of the weights", "share"),
    "unchanged_share": ("parameters that a step leaves unchanged", "share"),
    "sigma_ratio": ("sigma over the present size of the gradient", "times"),
    "gradient_cosine": ("cosine between successive gradients", "plain"),
    "zero_layers": ("layers whose weights and gradients are all zero", "plain"),
    "overshoot": ("slope at a step's end, uphill, over that at its start", "times"),
    "level_over_beginning": ("loss over that of the first step", "times"),
    "silent_layers": ("layers without any gradient", "plain"),
    "noise_scale_at_least": ("noise scale, in batches, at least", "plain"),
    "rise": ("rise of other batches' loss by a step like it", "plain"),
    "corrected_gain": ("gain of a step corrected for curvature", "gain"),
    "best_step": ("best step along the present one", "times"),
    "along_update": ("gain of the best step along the present one", "gain"),
    "sharpness_sam": ("rise of the loss within SAM's radius", "plain"),
}
_GAIN = "_gain"  # how the names of routes' gains end


def evidence_name(name: str) -> str:
    """What a measured number is called; `krylov_gain` names its route, one without words keeps its name."""
    if name in EVIDENCE:
        return EVIDENCE[name][0]
    route = name.removesuffix(_GAIN)
    return f"gain: {ROUTES[route]}" if route in ROUTES and route != name else name.replace("_", " ")


def unit(name: str) -> Unit:
    """In which unit it is; the gain of a route is a gain."""
    if name in EVIDENCE:
        return EVIDENCE[name][1]
    return "gain" if name.endswith(_GAIN) else "plain"
