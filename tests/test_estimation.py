"""Maximum-likelihood estimates are the published ones, and the parameters of factorisations add up."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstages.analyses import estimation
from lmstages.analyses.estimation import COIN, WIDGETS, likeliest, negative_log_likelihood
from lmstages.config.reading import read_run
from lmstages.figures import registry
from lmstages.figures.files import groups
from lmstages.report.embedded import Figures
from lmstages.report.page import render
from lmstages.results import frame
from lmstages.results.schema import TABLES


def test_the_coin_is_likeliest_at_its_share_of_heads():
    assert likeliest(COIN, estimation.coin, 1).theta == pytest.approx([0.62], abs=1e-6)


def test_the_true_value_is_less_likely_than_the_estimate():
    true, estimate = (negative_log_likelihood(COIN, estimation.coin(np.array([p]))) for p in (0.6, 0.62))
    assert true > estimate


def test_free_parameters_are_the_proportions():
    """The lowest is 202.97 nats; the 203.3 of the source is the level of the contour that it draws around it."""
    estimate = likeliest(WIDGETS, estimation.free, 2)
    assert estimate.theta == pytest.approx([0.038, 0.007], abs=1e-6) and round(estimate.nats, 2) == 202.97


def test_a_wrong_constraint_costs_nats():
    """207.19 is published for 0.047, to which the source rounds the optimum; the optimum itself has 207.18."""
    estimate = likeliest(WIDGETS, estimation.squared, 1)
    assert round(float(estimate.theta[0]), 3) == 0.047 and round(estimate.nats, 2) == 207.18
    assert round(float(negative_log_likelihood(WIDGETS, estimation.squared(np.array([0.047])))), 2) == 207.19
    assert estimate.probabilities == pytest.approx([0.047, 0.047**2, 1 - 0.047 - 0.047**2], abs=5e-4)


def test_a_right_constraint_comes_nearer_to_the_truth_than_freedom():
    right, free = likeliest(WIDGETS, estimation.a_third, 1), likeliest(WIDGETS, estimation.free, 2)
    assert right.theta[0] == pytest.approx(0.75 * 45 / 1000, abs=1e-6) and round(float(right.theta[0]), 3) == 0.034
    assert free.nats < right.nats < likeliest(WIDGETS, estimation.squared, 1).nats
    assert abs(right.theta[0] - 0.03) < abs(free.theta[0] - 0.03)


def test_the_published_optimum_of_the_right_constraint():
    """0.03375, which the source rounds to 0.0338."""
    assert abs(likeliest(WIDGETS, estimation.a_third, 1).theta[0] - 0.0338) <= 0.00005 + 1e-9


@given(st.lists(st.integers(1, 500), min_size=3, max_size=3))
def test_the_free_optimum_is_always_the_proportions(counts):
    estimate = likeliest(counts, estimation.free, 2)
    assert estimate.probabilities == pytest.approx(np.array(counts) / sum(counts), abs=1e-5)


def test_what_occurred_and_is_impossible_costs_everything():
    assert negative_log_likelihood((1, 0), np.array([[0.0, 1.0], [1.0, 0.0], [-0.5, 1.5]])).tolist() == [
        np.inf,
        0.0,
        np.inf,
    ]


def test_parameters_of_factorisations():
    assert estimation.joint_parameters(2, 2) == 3 and estimation.joint_parameters(10, 10) == 10**10 - 1
    assert [estimation.conditional_parameters(2, position) for position in (1, 2, 3)] == [1, 2, 4]
    assert estimation.independent_parameters(2) == 1 and estimation.independent_parameters(67) == 66


@given(st.integers(2, 70), st.integers(1, 9))
def test_conditionals_have_as_many_parameters_as_the_joint(outcomes, variables):
    conditionals = [estimation.conditional_parameters(outcomes, position) for position in range(1, variables + 1)]
    assert sum(conditionals) == estimation.joint_parameters(outcomes, variables)


# In the report


def drawing():
    [drawn] = groups(registry()["likelihoods"], None, {})
    return drawn.drawing


def test_the_figure_is_the_same_bytes_every_time_and_embeddable():
    first = drawing().svg()
    assert first == drawing().svg() and first.startswith("<svg ")
    assert "style=" not in first and "207.18 at 0.0473" in first and "204.16 at 0.0338" in first


def test_the_caption_has_the_figures_numbers():
    caption = drawing().caption
    assert all(number in caption for number in ("0.62", "202.97", "207.18", "204.16"))


def page(folder, facts):
    """The report of a run without rows."""
    for table in TABLES:
        frame.write(folder, table, frame.frame(table, []), {})
    return render(frame.Results(folder, {"run": "r", **facts}), Figures())


def test_the_report_closes_with_estimation_only_where_asked(tmp_path):
    shown, hidden = (page(tmp_path, {"estimation": wanted}) for wanted in (True, False))
    assert '<section class="corpus" id="estimation">' in shown and "10.00 G" in shown
    assert 'id="estimation"' not in hidden and 'id="estimation"' not in page(tmp_path, {})


def test_the_config_asks_for_estimation(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("corpora: {coined: }\ntokenizers: {char: {kind: char}}\nmodels: {bigram: }\n")
    assert json.loads(read_run(config).summary_section())["estimation"] is False
    config.write_text(config.read_text() + "estimation: true\n")
    assert json.loads(read_run(config).summary_section())["estimation"] is True
