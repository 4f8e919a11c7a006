"""One process: a team of one agrees with itself at no cost, and what several processes need is checked without them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hessian.distributed import DONE, GOING, PURPOSES, Team, bare, is_main, team_of
from hessian.errors import BadArgument, PeerError
from hessian.sharded import divided, local, placed, reshard, whole
from hessian.vectors import Space, dot, random_unit
from hessian.wire import patience


def test_a_team_of_one_changes_nothing():
    team = team_of([nn.Linear(2, 2)])
    vector = torch.ones(3)
    assert team.alone
    assert (team.mean(0.1, 7), team.least(3), team.lowest(0.5), team.total(None), team.share(4.0)) == (0.1, 3, 0.5, None, 1.0)
    assert math.isnan(team.mean(math.nan, None))
    assert team.every(True)
    assert not team.every(False)
    assert team.sum_(vector) is vector
    assert (Team().size, Team().readers) == (1, 1)


def test_ranks_that_end_while_others_go_on_know_that_it_is_over():
    here, elsewhere = [float(PURPOSES.index("the end")), DONE, 0.0], [float(PURPOSES.index("the end")), GOING, 0.0]
    for rows in ([here, elsewhere], [elsewhere, here]):
        ending, going = Team(), Team()
        ending.ranks = going.ranks = [0, 1]
        ending._check(rows, DONE, "")
        with pytest.raises(PeerError, match="the ranks are not at the same place"):
            going._check(rows, GOING, "")
        assert ending._over
        assert going._over


def test_plain_tensors_and_models_are_left_alone():
    tensor, model = torch.ones(2, 3), nn.Linear(2, 2)
    assert all(same is tensor for same in (local(tensor), whole(tensor), placed(tensor, tensor), divided(tensor, tensor)))
    assert bare(model) is model
    reshard([model])


def test_a_whole_space_measures_as_the_vectors_alone():
    space, vector = Space(5), torch.arange(5.0)
    assert (space.size, space.length) == (5, 5)
    assert space.dot(vector, vector) == dot(vector, vector) == 30
    assert space.norm(vector) == math.sqrt(30)
    assert torch.equal(space.random_unit(vector, 3), random_unit(5, vector, 3))
    assert torch.equal(space.project(torch.eye(5)[:2], vector), vector[:2])


@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", ""])
def test_the_timeout_is_a_positive_number_of_seconds(monkeypatch: pytest.MonkeyPatch, text: str):
    assert patience() == 60
    monkeypatch.setenv("LRFINDER_TIMEOUT", text)
    with pytest.raises(BadArgument, match="LRFINDER_TIMEOUT"):
        patience()
    monkeypatch.setenv("LRFINDER_TIMEOUT", "2.5")
    assert patience() == 2.5


def test_before_the_process_group_is_there_only_the_first_rank_of_torchrun_speaks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RANK", "1")  # as other programs set it
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert is_main()
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert not is_main()
    monkeypatch.setenv("RANK", "0")
    assert is_main()
