"""Things by name: what a class lacks is told when it is built, and not after a training that wanted it."""

from dataclasses import dataclass

import pytest
from flax import linen as nn

from dfm import models, objectives
from dfm.errors import UserError

DFM = dict(name="dfm", height=4, width=4, channels=1, net_width=2, net_depth=2, latent_size=3, decoder_widths=[6])


class Unfinished(nn.Module):
    """A model whose author forgot some of the protocol; `height` and its kin are fields, which count."""

    height: int
    width: int
    channels: int = 1
    encodes: bool = False

    def decode(self, z, labels=None, height=None, width=None): ...


@dataclass(frozen=True)
class Unlearnable:
    model: object
    weight: float = 1.0

    def init(self, key): ...


def test_a_model_that_lacks_something_is_refused_by_what_it_lacks(monkeypatch):
    monkeypatch.setitem(models.MODELS, "unfinished", f"{__name__}:Unfinished")
    with pytest.raises(UserError) as caught:
        models.build({"name": "unfinished", "height": 8, "width": 8})
    lacking = "stride, latent_shape, classes, has_likelihood"
    assert str(caught.value) == f"the model 'unfinished' lacks {lacking}, which dfm/models/protocol.py asks for"


def test_an_objective_that_lacks_something_is_refused_by_what_it_lacks(monkeypatch):
    monkeypatch.setitem(objectives.OBJECTIVES, "unlearnable", f"{__name__}:Unlearnable")
    with pytest.raises(UserError, match="lacks groups, .*gradients, which dfm/objectives/protocol.py asks for"):
        objectives.build({"name": "unlearnable"}, models.build(DFM))
