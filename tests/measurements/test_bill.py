import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unstuck.measurements.bill import Bill
from unstuck.objective.ledger import Ledger

# A measurement: its name, what it spends itself, and those that are made in its course.
MEASUREMENTS = st.recursive(
    st.tuples(st.sampled_from("abc"), st.floats(0, 10), st.just(())),
    lambda inner: st.tuples(st.sampled_from("abc"), st.floats(0, 10), st.lists(inner, max_size=3)),
    max_leaves=12,
)


def make(bill, measurement):
    name, price, inner = measurement
    with bill.item(name):
        for other in inner:
            make(bill, other)
        bill.ledger.spend(price, 3)


def spent_by(measurement, name):
    own, price, inner = measurement
    return (price if own == name else 0.0) + math.fsum(spent_by(other, name) for other in inner)


@given(st.lists(MEASUREMENTS, max_size=4), st.floats(0, 10))
def test_the_parts_add_up_to_the_whole_and_each_counts_for_itself_alone(measurements, beside):
    bill = Bill(Ledger())
    bill.ledger.spend(beside, 3)
    for measurement in measurements:
        make(bill, measurement)
    items = bill.items(3, 60.0)
    assert math.fsum(item.gradients for item in items) == pytest.approx(bill.ledger.gradients(3))
    assert math.fsum(item.seconds for item in items) == pytest.approx(60.0)
    for item in items[:-1]:
        mine = math.fsum(spent_by(measurement, item.name) for measurement in measurements)
        assert item.gradients == pytest.approx(mine, abs=1e-9)
    assert items[-1].name == "other"
    assert items[-1].gradients == pytest.approx(beside, abs=1e-9)


def test_what_a_measurement_spent_before_it_failed_is_put_down():
    bill = Bill(Ledger())

    def fail():
        with bill.item("a"):
            bill.ledger.spend(2.0, 5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(item.name, item.gradients) for item in bill.items(5, 1.0)] == [("a", 2.0), ("other", 0.0)]
