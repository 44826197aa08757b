"""What each choice of sampling buys: steps, head steps, solver, guidance, temperature and order, on one trained model.

LightGen samples with 64 autoregressive steps of 100 head steps and a constant guidance of 4; it ablates nothing here.
Every variant draws the same prompts from the same seeds by the same model, so differences are of sampling alone.
"""

from __future__ import annotations

from typing import Any

from ablations.recipes import judged, study, trained
from ablations.runner.study import Contrast, Variant
from ablations.settings import SETTINGS, Setting
from lightgen.disk.config import override

GUIDANCE = (1.0, 1.5, 2.0, 4.0, 6.0)
HEAD_STEPS = (5, 10, 50, 100)


def variants(setting: Setting, seed: int) -> list[Variant]:
    """The setting's own sampling, and one change of it in each of the others."""
    base, tokens = trained(setting, seed), setting.model.position_grid**2
    most = setting.sampling.num_steps
    calls: list[tuple[str, str, str, dict[str, Any]]] = [("base", "as the setting has it", "none", {})]
    calls += [
        ("steps-1", "all tokens in one step", "steps", {"num_steps": 1}),
        ("steps-half", f"{max(1, most // 2)} autoregressive steps", "steps", {"num_steps": max(1, most // 2)}),
        ("raster", "tokens row by row", "order", {"order": "raster"}),
    ]
    calls += [(f"head-{n}", f"{n} head steps", "head steps", {"num_head_steps": n}) for n in HEAD_STEPS]
    calls += [
        ("heun", "Heun, half the head steps: equal evaluations", "solver",
         {"solver": "heun", "num_head_steps": max(1, setting.sampling.num_head_steps // 2)}),
        ("linear", "guidance rising linearly to the scale", "guidance", {"guidance_schedule": "linear"}),
        ("linear-double", "guidance rising linearly to twice the scale", "guidance",
         {"guidance_schedule": "linear", "guidance_scale": 2 * setting.sampling.guidance_scale}),
        ("cool", "temperature 0.8", "temperature", {"temperature": 0.8}),
        ("warm", "temperature 1.2", "temperature", {"temperature": 1.2}),
    ]  # fmt: skip
    calls += [(f"guidance-{g:g}", f"guidance {g:g}", "guidance", {"guidance_scale": g}) for g in GUIDANCE]
    raw = trained(setting, seed, changes={"train.ema_decay": 0.0, "train.ema_warmup": False})
    found = [
        Variant(
            name=name,
            label=f"{label} ({tokens} tokens)" if kind == "steps" else label,
            factors={"changed": kind},
            ends=judged(setting, base, sampling=override(setting.sampling, changes)),
        )
        for name, label, kind, changes in calls
    ]
    released = Variant(
        name="raw", label="raw weights instead of their moving average", factors={"changed": "weights"},
        ends=judged(setting, raw),
    )  # fmt: skip
    return [*found, released]


def _minus(name: str, a: str, b: str, label: str, claim: str, **more: Any) -> Contrast:
    return Contrast(name=name, label=label, a=a, b=b, claim=claim, **more)


_CONTRASTS = [
    _minus("h11-head-steps", "head-100", "base", "100 head steps minus the setting's (20 at cpu scale)",
           "H11: 100 head steps are worth their price over 20.", primary=True),
    _minus("h11-few", "base", "head-5", "the setting's head steps minus 5", "H11: more than 5 head steps are needed."),
    _minus("h11-ten", "base", "head-10", "the setting's head steps minus 10", "H11: more than 10 are needed."),
    _minus("h11-fifty", "head-50", "base", "50 head steps minus the setting's", "H11: 50 head steps help."),
    _minus("h11-heun", "heun", "base", "Heun minus Euler at equal evaluations", "H11: the better solver helps."),
    _minus("h11-guidance", "base", "guidance-1", "guided minus unguided", "H11: guidance helps."),
    _minus("h11-strong", "guidance-4", "base", "LightGen's guidance 4 minus the setting's 3", "H11: 4 is better."),
    _minus("h11-linear", "linear", "base", "linear minus constant guidance", "H11: rising guidance is better."),
    _minus("h11-average", "base", "raw", "moving average minus raw weights", "H11: averaged weights are better."),
    _minus("h12-steps", "base", "steps-1", "one token a step minus all at once",
           "H12: fewer tokens a step give better pictures."),
    _minus("h12-half", "base", "steps-half", "one token a step minus two", "H12: one token a step is better than two."),
    _minus("h12-order", "base", "raster", "random minus raster order, model trained on random masks",
           "H12: random order is better than raster."),
    _minus("temperature-cool", "cool", "base", "temperature 0.8 minus 1", "A lower temperature helps."),
    _minus("temperature-warm", "warm", "base", "temperature 1.2 minus 1", "A higher temperature helps."),
]  # fmt: skip

CHANGES: dict[str, dict[str, Any]] = {
    "smoke": {}, "cpu": {"train.samples_seen": 60_000}, "gpu": {}, "paper": {},
}  # fmt: skip

STUDY = study(
    name="sampling_sweep",
    title="What sampling buys",
    question="Which choices of sampling change the score of one trained model, and at which price?",
    claim="64 autoregressive steps of 100 head steps, constant guidance 4, moving average, random order.",
    source="LightGen (arXiv 2503.08619), supplement A and B, and the released scripts: chosen, not ablated",
    variants=variants,
    contrasts=_CONTRASTS,
    settings={name: override(setting, CHANGES[name]) for name, setting in SETTINGS.items()},
)
