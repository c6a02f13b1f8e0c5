import math

import plotly.graph_objects as go

from unstuck.study.drawing import curve, logarithmic


def test_a_logarithmic_axis_reaches_around_all_that_can_be_drawn_on_it():
    figure = curve(go.Figure(), [1.0, 2.0, None], [1e-3, math.inf, 0.0], "loss", 0)
    curve(figure, [4.0], [50.0], "another", 1)
    logarithmic(figure, y=True)
    low, high = figure.layout.yaxis.range
    assert 1e-4 < 10**low < 1e-3
    assert 50.0 < 10**high < 1e3
    assert figure.layout.xaxis.type is None
