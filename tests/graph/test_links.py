"""Log odds of having a code: popularity, and how the patient fits the code."""

import clinical  # noqa: F401
from clinical.graph import LinkHead, link_aspect, popularity

import math

import pytest
import torch


def test_the_aspect_is_that_of_the_relation_by_codes_where_there_is_one():
    assert link_aspect({"similar": "similar"}, ["events", "codes"]) == "codes"
    assert link_aspect({"alike": "shares_code"}, ["events", "codes"]) == "alike"
    assert link_aspect({"similar": "similar"}, ["events"]) is None


def test_popularity_is_the_log_odds_among_train_subjects():
    found = popularity({"subjects": [0, 10, 40], "n_subjects": 40})
    assert found.tolist() == pytest.approx(
        [math.log(0.5 / 40.5), math.log(10.5 / 30.5), math.log(40.5 / 0.5)]
    )


def test_links_are_popularity_and_the_product_with_the_codes():
    torch.manual_seed(0)
    head = LinkHead(6, 4, 3)
    head.popularity = torch.tensor([-1.0, 0.0, 2.0])
    torch.nn.init.normal_(head.bias)
    aspect, codes = torch.randn(2, 6), torch.randn(3, 4)
    links = head(aspect, codes)
    fit = head.project(aspect)[1] @ codes[2] / 2
    assert float(links[1, 2].detach()) == pytest.approx(float(fit + 2.0 + head.bias[2]), rel=1e-5)
