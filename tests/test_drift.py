"""Tenths of a text add up to the whole, and a gain is what its two rows differ by."""

import json
import math

import numpy as np
import pytest
from typed_rows import result

from lmstages.results import drift
from lmstages.results.intervals import Profile

SIZES = np.tile([300.0, 100.0, 200.0], 20)


def rows_and_profiles(**nats):
    """Rows of one text by the nats of their blocks; a name that ends in _online is evaluated online."""
    rows, profiles = [], {}
    for name, values in nats.items():
        online = name.endswith("_online")
        facts = {"type": name.removesuffix("_online"), "category": "online" if online else "static"}
        described = json.dumps({"order": 5, "online": online})
        rows.append(result(model=name, **facts, hyperparameters=described))
        profiles[rows[-1].key] = Profile(np.asarray(values), SIZES[: len(values)], 1.0)
    return rows, profiles


def test_blocks_fall_into_the_tenth_in_which_their_middle_lies():
    assert drift.tenths_of(np.array([10.0] * 10)).tolist() == [*range(10)]
    assert drift.tenths_of(np.array([70.0, 10.0, 20.0])).tolist() == [3, 7, 9]


def test_tenths_add_up_to_the_row():
    nats = np.random.default_rng(0).uniform(100, 900, 60)
    measured = drift.drift(*rows_and_profiles(ppm=nats))
    assert [row.tenth for row in measured] == [*range(1, 11)] and sum(row.bytes for row in measured) == SIZES.sum()
    bits = sum(row.bits_per_byte * row.bytes for row in measured)
    assert bits * math.log(2) == pytest.approx(nats.sum())
    assert all(row.low <= row.bits_per_byte <= row.high and row.gain is None for row in measured)


def test_the_gain_is_over_the_same_model_without_online_evaluation():
    nats = np.random.default_rng(1).uniform(100, 900, 60)
    rows, profiles = rows_and_profiles(cache=nats, ppm=nats, ppm_online=nats - 0.5 * math.log(2) * SIZES)
    gaining = [row for row in drift.drift(rows, profiles) if row.gain is not None]
    assert {(row.model, row.twin) for row in gaining} == {("ppm_online", "ppm")} and len(gaining) == 10
    for row in gaining:
        assert row.gain == pytest.approx(0.5) and row.gain_low == pytest.approx(0.5) == pytest.approx(row.gain_high)


def test_other_hyperparameters_are_no_twin():
    rows, profiles = rows_and_profiles(ppm=SIZES, ppm_online=SIZES)
    rows[0].hyperparameters = '{"order": 4, "online": false}'
    assert all(row.twin is None and row.gain_low is None for row in drift.drift(rows, profiles))


def test_few_blocks_and_infinite_rows_have_no_tenths():
    assert drift.drift(*rows_and_profiles(ppm=SIZES[:9])) == []
    assert drift.drift(*rows_and_profiles(ppm=np.where(np.arange(60) == 3, np.inf, SIZES))) == []
    assert drift.drift([result()], {}) == []
