"""The table that starts from principal components."""

import numpy as np
import pytest

from dfm.data import load
from dfm.errors import UserError
from dfm.models.dfm import DeepFourierMachine
from dfm.objectives.latent_start import check_components, principal_components
from dfm.objectives.reconstruction import Reconstruction


def test_scores_are_uncorrelated_of_the_stated_variance_and_rebuild_the_pictures():
    dataset = load("digits")
    scores = np.asarray(principal_components(dataset, 12, 0.25), np.float64)
    assert scores.shape == (1500, 12)
    np.testing.assert_allclose(np.cov(scores, rowvar=False), 0.25 * np.eye(12), atol=1e-3)
    pictures = dataset.take(np.arange(1500)).reshape(1500, -1) / 127.5 - 1.0
    design = np.column_stack([scores, np.ones(1500)])
    rebuilt = design @ np.linalg.lstsq(design, pictures, rcond=None)[0]
    values = np.linalg.svd(pictures - pictures.mean(0), compute_uv=False)
    # the best that twelve numbers a picture can do by linear means (Eckart and Young 1936)
    assert ((rebuilt - pictures) ** 2).sum() == pytest.approx((values[12:] ** 2).sum(), rel=1e-4)


def test_more_components_than_numbers_are_refused():
    with pytest.raises(UserError, match="1500 pictures of 64 numbers have no 100"):
        check_components(1500, 64, 100)
    check_components(1500, 64, 64)


def test_an_objective_starts_from_components_where_it_says_so():
    dataset, model = load("digits", "train"), DeepFourierMachine(8, 8, 1, 2, 2, 3, (4,))
    params, table = {}, np.zeros((len(dataset), 3), np.float32)
    same = Reconstruction(model, 0.0).start_from_pictures(params, table, dataset, 0)
    assert same[0] is params and same[1] is table
    pca = Reconstruction(model, 0.0, latent_start="pca", latent_variance=4.0)
    kept, values = pca.start_from_pictures(params, table, dataset, 0)
    assert kept is params
    np.testing.assert_array_equal(values, principal_components(dataset, 3, 4.0))
    with pytest.raises(UserError, match="2 pictures of 64 numbers have no 3 principal components"):
        pca.check_pictures((8, 8, 1), 2)
