"""Samples of gradients, and the share of one in another."""

from __future__ import annotations

from gradlab.audit.recording import samples


def test_what_is_no_multiple_of_the_gradient_is_no_share_of_it() -> None:
    assert samples.share((1.0, 0.0), (1.0, 1.0)) is None


def test_a_complex_share_is_that_of_the_real_inner_product() -> None:
    assert samples.share((1 + 1j, 2j), (2 + 2j, 4j)) == 0.5
