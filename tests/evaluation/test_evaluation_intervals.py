"""Wilson's interval: the shares that agree with what was counted."""

from math import sqrt

import pytest

from t2v.evaluation.intervals import wilson


@pytest.mark.parametrize(("right", "total"), [(0, 7), (1, 10), (5, 10), (98, 100), (200, 200), (1999, 2000)])
def test_the_ends_are_z_standard_errors_from_what_was_counted(right, total):
    seen, z = right / total, 1.959964
    for end in wilson(right, total):
        if 0 < end < 1:
            assert abs(seen - end) == pytest.approx(z * sqrt(end * (1 - end) / total), abs=1e-8)


def test_all_right_and_all_wrong_have_the_closed_forms():
    assert wilson(10, 10, z=2) == pytest.approx((10 / 14, 1))
    assert wilson(0, 10, z=2) == pytest.approx((0, 4 / 14))


def test_more_clips_narrow_it_and_none_leave_everything_open():
    widths = [high - low for low, high in (wilson(9 * count, 10 * count) for count in (1, 10, 100))]
    assert widths == sorted(widths, reverse=True)
    assert wilson(0, 0) == (0, 1)
