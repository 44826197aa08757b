"""What a model is and how it generates, as data; no torch, so that plans and `--help` can read it."""

from dataclasses import dataclass
from typing import Literal

from lightgen.disk.bounds import require

SOLVERS = {"ddpm": ("ddpm", "ddim"), "flow": ("euler", "heun")}  # by head objective


# Far above any model; beyond it a damaged config would ask for all memory before a weight is looked at.
_MOST = {
    2**16: ("width", "head_width", "text_channels", "max_text_length"),
    2**12: ("vae_channels",),
    2**10: ("vae_stride", "patch_size", "position_grid"),
    10**6: ("diffusion_steps",),
    10**4: ("noise_copies",),
}


@dataclass(frozen=True, kw_only=True)
class MARConfig:
    """Sizes, dropout and switches of a `MAR`; the defaults are the released 792 M model's."""

    width: int = 1024  # of every transformer stack
    encoder_depth: int = 16  # blocks
    decoder_depth: int = 16  # blocks
    cross_depth: int = 16  # blocks
    heads: int = 16  # attention heads; divides width
    mlp_ratio: float = 4.0  # hidden width of an MLP over width
    text_depth: int = 6  # blocks of the text aligner
    text_channels: int = 4096  # width of the text encoder's features
    max_text_length: int = 128  # text positions; captions are padded to it where padding is attended to
    vae_channels: int = 16  # latent channels
    vae_stride: int = 8  # pixels per latent position
    patch_size: int = 2  # latent positions per token side
    position_grid: int = 16  # entries per side of the position tables
    dropout: float = 0.1  # of attention weights and projections, in training
    text_drop: float = 0.1  # share of captions replaced by the null text in training
    head_depth: int = 8  # blocks
    head_width: int = 1536
    head_objective: Literal["ddpm", "flow"] = "ddpm"  # epsilon with learned variance, or rectified-flow velocity
    diffusion_steps: int = 1000  # of the ddpm training schedule
    noise_copies: int = 4  # noise draws per token and training step (diffusion_batch_mul)
    mask_mean: float = 1.0  # of the truncated normal of mask ratios
    mask_std: float = 0.25
    mask_minimum: float = 0.7  # smallest mask ratio
    normalized_residual: bool = True  # released quirk: cross blocks' skip carries the normalized query (utils.py:172)
    attend_to_padding: bool = True  # released quirk: padded text positions are attended to (utils.py:89-131)
    text_in_decoder: bool = (
        False  # text is among the decoder's tokens too; the release shows it to the cross stack alone
    )

    def __post_init__(self) -> None:
        for most, names in _MOST.items():
            require(self, f"[1, {most}]", *names)
        require(self, "[1, inf)", "heads")
        require(self, "(0, 100]", "mlp_ratio")
        require(self, "[0, 1000]", "encoder_depth", "decoder_depth", "cross_depth", "text_depth", "head_depth")
        _require(self.width % self.heads == 0, f"width {self.width} does not divide into {self.heads} heads")
        _require(
            self.decoder_depth > 0 or not self.text_in_decoder, "text_in_decoder: decoder_depth is 0, no block has it"
        )
        require(self, "[0, 1]", "dropout", "text_drop")
        require(self, "(0, 1)", "mask_minimum")
        require(self, "[-1000, 1000]", "mask_mean")
        require(self, "(0, 1000]", "mask_std")
        _require(self.head_objective in ("ddpm", "flow"), f"head_objective {self.head_objective!r}: ddpm or flow")

    @property
    def token_dim(self) -> int:
        """Channels of one token: a patch of latents."""
        return self.vae_channels * self.patch_size**2

    @property
    def token_pixels(self) -> int:
        """Pixels per side of one token."""
        return self.vae_stride * self.patch_size

    @property
    def head_channels(self) -> int:
        """Output channels of the head: epsilon and variance, or velocity."""
        return self.token_dim * (2 if self.head_objective == "ddpm" else 1)


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How images are generated; the defaults are the released scripts'."""

    num_steps: int = 64  # autoregressive steps, 1 to the number of tokens
    num_head_steps: int = 100  # denoising steps of the head in each
    guidance_scale: float = 4.0  # 1 = off
    guidance_schedule: Literal["constant", "linear"] = "constant"  # linear: 1 at the first token, the scale at the last
    temperature: float = 1.0  # scales the noise of ddpm steps; the start noise of the other, deterministic solvers
    solver: Literal["ddpm", "ddim", "euler", "heun"] = "ddpm"  # the first two for ddpm heads, the others for flow heads
    order: Literal["random", "raster"] = "random"  # in which tokens are predicted; raster: row by row

    def __post_init__(self) -> None:
        require(self, "[1, inf)", "num_steps", "num_head_steps")
        require(self, "[0, inf)", "guidance_scale", "temperature")
        if self.guidance_schedule not in ("constant", "linear"):
            raise ValueError(f"guidance_schedule is {self.guidance_schedule!r}; valid: constant, linear")
        if self.order not in ("random", "raster"):
            raise ValueError(f"order is {self.order!r}; valid: random, raster")
        if not any(self.solver in solvers for solvers in SOLVERS.values()):
            raise ValueError(f"solver is {self.solver!r}; valid: ddpm, ddim, euler, heun")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
