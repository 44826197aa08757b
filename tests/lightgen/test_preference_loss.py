"""The losses of preference training in closed form: their values, gradients and limits."""

import math

import pytest
import torch

from lightgen.preference.config import PreferenceConfig
from lightgen.preference.loss import dpo_loss, safeguard, scale_gradient, simpo_loss


def errors(*values):
    return [torch.tensor([value], requires_grad=True) for value in values]


def test_the_loss_is_log_2_where_policy_and_reference_agree():
    winner, loser = torch.rand(5), torch.rand(5)
    assert torch.allclose(dpo_loss(winner, loser, winner, loser, beta=5000.0), torch.full((5,), math.log(2)))


def test_the_loss_equals_its_formula():
    found = dpo_loss(*errors(0.3, 0.5, 0.4, 0.45), beta=10.0)
    inside = -5.0 * ((0.3 - 0.4) - (0.5 - 0.45))
    assert found.item() == pytest.approx(math.log(1 + math.exp(-inside)))
    assert dpo_loss(*errors(0.3, 0.5, 0.4, 0.45), beta=10.0, kind="hinge").item() == pytest.approx(1 - inside)
    assert dpo_loss(*errors(0.3, 0.5, 0.4, 0.45), beta=10.0, kind="ipo").item() == pytest.approx((inside - 0.5) ** 2)


@pytest.mark.parametrize("kind", ["sigmoid", "hinge", "ipo"])
def test_gradients_lower_the_winner_s_error_and_raise_the_loser_s(kind):
    winner, loser, *reference = errors(0.4, 0.4, 0.4, 0.4)
    dpo_loss(winner, loser, *reference, beta=2.0, kind=kind).backward()
    assert winner.grad > 0 and loser.grad < 0
    assert winner.grad == -loser.grad


def test_a_constant_added_to_both_members_changes_nothing():
    values = torch.rand(4, 7, dtype=torch.float64)
    moved = values + torch.tensor([[0.3], [0.3], [0.0], [0.0]])
    torch.testing.assert_close(dpo_loss(*moved, beta=7.0), dpo_loss(*values, beta=7.0))


def test_dpo_positive_punishes_only_a_rising_winner():
    falling, rising = (0.3, 0.5, 0.4, 0.5), (0.5, 0.7, 0.4, 0.5)
    assert dpo_loss(*errors(*falling), beta=9.0, dpop=5.0) == dpo_loss(*errors(*falling), beta=9.0)
    found = dpo_loss(*errors(*rising), beta=9.0, dpop=5.0)
    inside = -4.5 * (0.1 - 0.2 + 5.0 * 0.1)  # the winner's drift once, and five times more
    assert found.item() == pytest.approx(math.log(1 + math.exp(-inside)))
    assert dpo_loss(*errors(*rising), beta=9.0).item() == pytest.approx(math.log(1 + math.exp(-4.5 * 0.1)))


def test_wrong_choices_are_refused():
    with pytest.raises(ValueError, match="beta"):
        dpo_loss(*errors(1.0, 1.0, 1.0, 1.0), beta=0.0)
    with pytest.raises(ValueError, match="sigmoid, hinge, ipo"):
        dpo_loss(*errors(1.0, 1.0, 1.0, 1.0), beta=1.0, kind="cubic")
    with pytest.raises(ValueError, match="beta"):
        PreferenceConfig(beta=-1.0)
    with pytest.raises(ValueError, match="beta"):
        simpo_loss(*errors(1.0, 1.0), beta=-1.0)
    assert math.isfinite(dpo_loss(*errors(1.0, 1.0, 1.0, 1.0), beta=0.01).item())


def test_simpo_needs_no_reference_and_its_margin_asks_for_more():
    winner, loser = errors(0.3, 0.5)
    assert simpo_loss(winner, loser, beta=10.0).item() == pytest.approx(math.log(1 + math.exp(-1.0)))
    asked = simpo_loss(winner, loser, beta=10.0, margin=0.5)
    assert asked.item() == pytest.approx(math.log(1 + math.exp(0.5 - 1.0)))
    simpo_loss(winner, loser, beta=10.0).backward()
    assert winner.grad == -loser.grad > 0


def test_the_safeguard_keeps_the_winner_s_error_from_rising():
    """Two targets, one prediction, as winner and loser share mask, time and noise; one gradient step on it."""

    def winner_s_change(loser_target, sdpo):
        prediction = torch.zeros(1, 8, requires_grad=True)
        winner_residual, loser_residual = prediction - 0.1, prediction - loser_target
        winner, loser = winner_residual.square().mean(1), loser_residual.square().mean(1)
        if sdpo:
            overlap = (winner_residual * loser_residual).mean(1).detach()
            loser = scale_gradient(loser, safeguard(winner, overlap, 0.1))
        loss = dpo_loss(winner, loser, winner.detach(), loser.detach(), beta=10.0)
        (gradient,) = torch.autograd.grad(loss.sum(), prediction)
        after = (prediction - 1e-3 * gradient - 0.1).square().mean(1)
        return (after - winner).item()

    assert winner_s_change(0.4, sdpo=False) > 0  # the loser lies farther on the same side: fleeing it leaves the winner
    assert winner_s_change(0.4, sdpo=True) < 0
    assert winner_s_change(-0.4, sdpo=True) == winner_s_change(-0.4, sdpo=False) < 0  # opposite sides: nothing is cut


def test_the_safeguard_s_factor_is_its_formula():
    winner, overlap = torch.tensor([0.2, 0.2, 0.2, 0.0]), torch.tensor([0.4, 0.1, -0.3, 0.0])
    torch.testing.assert_close(safeguard(winner, overlap, 0.1), torch.tensor([0.45, 1.0, 1.0, 1.0]))
    value = torch.tensor([2.0], requires_grad=True)
    scaled = scale_gradient(value, torch.tensor([0.25]))
    scaled.sum().backward()
    assert scaled.item() == 2.0 and value.grad.item() == 0.25
