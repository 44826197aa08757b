"""LightGen's masked autoregressive model: text aligner, masked encoder, decoder, cross stack, diffusion head.

B images, N tokens (row by row), M of them masked, V visible, L text positions, W width,
D token channels, K noise copies.
Structure as released (XianfengWu01/LightGen, models/fluid_arbitrary.py); text enters in the cross stack only, unless
`text_in_decoder` puts it among the decoder's tokens as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from lightgen.disk.config import from_dict
from lightgen.model.blocks import EPSILON, Block, CrossBlock, TextContext, TextProjection, take, tile
from lightgen.model.config import MARConfig
from lightgen.model.diffusion import add_noise, flow_noised, learned_range_loss
from lightgen.model.head import Head, guide, initialize
from lightgen.model.masking import Draws, Layout, mask_layout

POSITION_OFFSET = 0.1  # added to each side when position tables are resized, as in DINO and the release
FLOW_TIME_SCALE = 1000.0  # flow times in (0, 1) are shown to the head on the same scale as timesteps


class MARLoss(NamedTuple):
    """What a training step needs."""

    loss: Tensor  # scalar to minimize
    mse: Tensor  # scalar, its squared-error part
    errors: Tensor  # (B,) mean squared error of the head over an image's masked tokens, channels and noise copies
    residuals: Tensor  # (K, B, M, D) float32, prediction minus target, whose squares `errors` averages; 0 where filled


class DecoderText(NamedTuple):
    """Text tokens that join the decoder's. The null text is one of them: more would tell how long the caption was."""

    tokens: Tensor  # (B, L, W), with guidance (2B, L, W)
    mask: Tensor  # (B, L) bool, true where attended


class MAR(ModelMixin, ConfigMixin):
    """The trainable part of LightGen; saved and loaded as any diffusers model."""

    config_name = "config.json"  # type: ignore[assignment]
    # Norms, and layers whose weights tell what type their inputs take, keep theirs where others are stored as float8.
    _skip_layerwise_casting_patterns = ("norm", "^head.input$", "^head.time_in$")  # type: ignore[assignment]
    cross_blocks: Sequence[CrossBlock]  # an nn.ModuleList, whose items torch types as bare modules

    def __init__(self, config: MARConfig):
        super().__init__()
        self.mar_config = config
        self.register_to_config(**asdict(config))
        width, heads, mlp_ratio, dropout = config.width, config.heads, config.mlp_ratio, config.dropout
        entries = config.position_grid**2

        def stack(depth: int) -> nn.ModuleList:
            return nn.ModuleList([Block(width, heads, mlp_ratio, dropout) for _ in range(depth)])

        self.text_projection = TextProjection(config.text_channels, width)
        self.text_blocks = stack(config.text_depth)
        self.text_norm = nn.LayerNorm(width, eps=EPSILON)
        self.null_text = nn.Parameter(torch.empty(1, 1, width))

        self.token_embed = nn.Linear(config.token_dim, width)
        self.encoder_positions = nn.Parameter(torch.empty(1, entries, width))
        self.token_norm = nn.LayerNorm(width, eps=EPSILON)
        self.encoder_blocks = stack(config.encoder_depth)
        self.encoder_norm = nn.LayerNorm(width, eps=EPSILON)

        self.decoder_embed = nn.Linear(width, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.decoder_positions = nn.Parameter(torch.empty(1, entries, width))
        if config.text_in_decoder:
            self.decoder_text_embed = nn.Linear(width, width)
        self.decoder_blocks = stack(config.decoder_depth)
        self.decoder_norm = nn.LayerNorm(width, eps=EPSILON)

        self.cross_embed = nn.Linear(width, width)
        self.cross_positions = nn.Parameter(torch.empty(1, entries, width))
        cross = (width, heads, mlp_ratio, dropout, config.normalized_residual)
        self.cross_blocks = nn.ModuleList([CrossBlock(*cross) for _ in range(config.cross_depth)])  # type: ignore[assignment]
        self.cross_norm = nn.LayerNorm(width, eps=EPSILON)

        self.head = Head(config.token_dim, config.head_channels, width, config.head_width, config.head_depth)
        self._initialize()

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **unused: Any) -> Self:  # type: ignore[override]
        """The untrained model of a config.json; what `from_pretrained` calls."""
        return cls(from_dict(MARConfig, own_fields(config), "MAR's config.json"))

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        tables = (self.encoder_positions, self.decoder_positions, self.cross_positions)
        for parameter in (self.null_text, self.mask_token, *tables):
            nn.init.normal_(parameter, std=0.02)
        initialize(self.head)

    def forward(
        self,
        latents: Tensor,
        text: Tensor,
        text_lengths: Tensor,
        draws: Draws,
        variational: bool = True,
        guidance: float = 1.0,
    ) -> MARLoss:
        """The loss of a batch of latents (B, C, H, W) with text features (B, L, text_channels) of true lengths (B,).

        Without `variational` the bound that trains a ddpm head's variance is left out of it: `errors` do not hold it.
        With a `guidance` other than 1 it is the loss of what sampling at that scale predicts, null + guidance (given -
        null), without the bound.
        """
        tokens = self.patchify(latents)
        grid = self.token_grid(latents)
        aligned, key_mask = self.align_text(text, text_lengths)
        aligned = torch.where(draws.text_dropped[:, None, None], self.null_text, aligned)
        layout = mask_layout(draws)
        guided = guidance != 1
        encoded = self.encode(tokens, self.positions(self.encoder_positions, grid), layout)
        joined = self.decoder_text(aligned, key_mask, draws.text_dropped, guided=guided)
        x = self.decode(encoded, self.positions(self.decoder_positions, grid), layout, layout.masked, joined)
        positions = self.positions(self.cross_positions, grid)
        z = self.cross(x, positions, aligned, key_mask, layout.masked, guided=guided)
        return self.head_loss(tokens, z, draws, layout, variational and not guided, guidance)

    def patchify(self, latents: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, D): tokens row by row, channels slowest within a token."""
        patch = self.mar_config.patch_size
        h, w = self.token_grid(latents)
        x = latents.reshape(len(latents), -1, h, patch, w, patch).permute(0, 2, 4, 1, 3, 5)
        return x.reshape(len(latents), h * w, -1)

    def unpatchify(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """(B, N, D) -> (B, C, H, W), the inverse of `patchify`."""
        patch = self.mar_config.patch_size
        x = tokens.reshape(len(tokens), *grid, -1, patch, patch).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(len(tokens), -1, grid[0] * patch, grid[1] * patch)

    def token_grid(self, latents: Tensor) -> tuple[int, int]:
        """(h, w) tokens of latents (B, C, H, W)."""
        config = self.mar_config
        channels, height, width = latents.shape[1:]
        if channels != config.vae_channels:
            raise ValueError(f"latents have {channels} channels, this model was made for {config.vae_channels}")
        if height % config.patch_size or width % config.patch_size:
            raise ValueError(f"latents of {height}x{width} do not divide into patches of {config.patch_size}")
        return height // config.patch_size, width // config.patch_size

    def align_text(self, text: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor | None]:
        """Aligned text (B, L, W) and its key mask (B, L), None where padding is attended to."""
        if text.shape[-1] != self.mar_config.text_channels:
            wanted = self.mar_config.text_channels
            raise ValueError(f"text features have {text.shape[-1]} channels, this model was made for {wanted}")
        key_mask = None
        if not self.mar_config.attend_to_padding:
            key_mask = torch.arange(text.shape[1], device=text.device) < lengths[:, None]
        x = self.text_projection(text.to(self.mask_token.dtype))
        for block in self.text_blocks:
            x = block(x, key_mask)
        return self.text_norm(x), key_mask

    def encode(self, tokens: Tensor, positions: Tensor, layout: Layout) -> Tensor | None:
        """Encoded visible tokens (B, V, W); None when there are none."""
        if layout.visible is None:
            return None
        x = take(tokens, layout.visible).to(positions.dtype)
        x = self.token_norm(self.token_embed(x) + positions[0][layout.visible])
        key_mask = layout.visible_valid
        if key_mask is not None:
            # An image without visible tokens attends to its fillers; the decoder never reads them.
            key_mask = key_mask | ~key_mask.any(1, keepdim=True)
        for block in self.encoder_blocks:
            x = block(x, key_mask)
        return self.encoder_norm(x)

    def decoder_text(
        self, aligned: Tensor, key_mask: Tensor | None, dropped: Tensor, *, guided: bool = False
    ) -> DecoderText | None:
        """What joins the decoder's tokens of aligned text (B, L, W); None where text enters in the cross stack alone.

        `dropped` (B,) marks what is the null text; with `guided` another B rows of it follow.
        """
        if not self.mar_config.text_in_decoder:
            return None
        batch, length = aligned.shape[:2]
        mask = aligned.new_ones(batch, length, dtype=torch.bool) if key_mask is None else key_mask
        if guided:
            aligned = torch.cat([aligned, self.null_text.expand_as(aligned)])
            mask, dropped = tile(mask, 2 * batch), torch.cat([dropped, torch.ones_like(dropped)])
        is_first = torch.arange(length, device=mask.device) == 0
        return DecoderText(self.decoder_text_embed(aligned), torch.where(dropped[:, None], is_first, mask))

    def decode(
        self,
        visible: Tensor | None,
        positions: Tensor,
        layout: Layout,
        queries: Tensor | None = None,
        text: DecoderText | None = None,
    ) -> Tensor:
        """Decoded tokens (B, N, W), or (B, M, W) at the positions `queries`, which the last block alone computes.

        Without visible tokens and text the result is (1, N, W), the same for every image. With text there are as many
        rows as it has, 2B with guidance.
        """
        if layout.visible is None or visible is None:
            x = self.mask_token + positions
            if self.training and self.mar_config.dropout:  # dropout is drawn for each image
                x = x.expand(layout.batch, -1, -1)
        else:
            x = self.decoder_embed(visible)
            mask_token = self.mask_token.to(x.dtype)
            if layout.visible_valid is not None:
                x = torch.where(layout.visible_valid[..., None], x, mask_token)
            index = layout.visible[..., None].expand_as(x)
            x = mask_token.expand(len(x), positions.shape[1], -1).scatter(1, index, x) + positions
        if queries is not None and not len(self.decoder_blocks):
            x = take(x, queries)
        key_mask, length = None, x.shape[1]
        if text is not None:
            rows = len(text.tokens)
            key_mask = torch.cat([text.mask.new_ones(rows, length), text.mask], 1)
            x = torch.cat([tile(x, rows), text.tokens], 1)
            queries = None if queries is None else tile(queries, rows)
        for depth, block in enumerate(self.decoder_blocks, 1):
            x = block(x, key_mask, queries if depth == len(self.decoder_blocks) else None)
        return self.decoder_norm(x if queries is not None else x[:, :length])

    def cross(
        self,
        x: Tensor,
        positions: Tensor,
        aligned: Tensor,
        key_mask: Tensor | None,
        index: Tensor | None,
        *,
        guided: bool = False,
    ) -> Tensor:
        """The head's condition z (B, M, W) for decoded tokens x at the positions `index` (all when None); with `guided`
        (2B, M, W), followed by that under the null text."""
        contexts = [block.context(aligned, self.null_text if guided else None) for block in self.cross_blocks]
        x = self.embed_decoded(x, positions, index)
        return self.attend_text(x.expand(max(len(x), len(aligned)), -1, -1), contexts, key_mask, guided=guided)

    def embed_decoded(self, x: Tensor, positions: Tensor, index: Tensor | None) -> Tensor:
        """Decoded tokens (B, M, W), or (2B, M, W), for the cross stack, with the positions `index` (B, M) of theirs."""
        return self.cross_embed(x) + (positions if index is None else tile(positions[0][index], len(x)))

    def attend_text(
        self, x: Tensor, contexts: Sequence[TextContext], key_mask: Tensor | None, *, guided: bool
    ) -> Tensor:
        """The cross stack on embedded tokens (B, M, W), given each block's context; with `guided` (2B, M, W)."""
        if guided and not self.mar_config.text_in_decoder:
            x = torch.cat([x, x])  # the trunk before this sees no text, so both halves share it
        for block, context in zip(self.cross_blocks, contexts, strict=True):
            x = block(x, context, key_mask)
        return self.cross_norm(x)

    def positions(self, table: Tensor, grid: tuple[int, int]) -> Tensor:
        """A position table for a grid of (h, w) tokens, (1, N, W): bicubic where the grid is not the table's.

        The release builds a (w, h) table (fluid_arbitrary.py:198-218), wrong where h != w; here it is (h, w).
        """
        side = self.mar_config.position_grid
        if grid == (side, side):
            return table
        scale = ((grid[0] + POSITION_OFFSET) / side, (grid[1] + POSITION_OFFSET) / side)
        image = table.float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
        image = F.interpolate(image, scale_factor=scale, mode="bicubic")
        return image.flatten(2).transpose(1, 2).to(table.dtype)

    def head_loss(
        self,
        tokens: Tensor,
        z: Tensor,
        draws: Draws,
        layout: Layout,
        variational: bool,
        guidance: float,
    ) -> MARLoss:
        """The head's loss on masked tokens for z (B, M, W), with guidance (2B, M, W); noise copies share z."""
        config = self.mar_config
        clean, timesteps, noise = tokens.float(), draws.timesteps, draws.noise
        if layout.masked is not None:
            batch, num_tokens = draws.mask.shape
            offsets = torch.arange(batch, device=tokens.device)[:, None] * num_tokens
            index = (layout.masked + offsets).flatten()
            shape = layout.masked.shape
            clean = clean.flatten(0, 1).index_select(0, index).unflatten(0, shape)  # (B, M, D)
            timesteps = timesteps.flatten(1).index_select(1, index).unflatten(1, shape)  # (K, B, M)
            noise = noise.flatten(1, 2).index_select(1, index).unflatten(1, shape)  # (K, B, M, D)
        halves = self.head.condition(z).unflatten(0, (-1, 1, len(clean)))  # (G, 1, B, M, head width)
        condition = halves + self.embed_times(timesteps)  # (G, K, B, M, head width)
        clean, bound = clean.expand_as(noise), None
        if config.head_objective == "flow":
            output = self.head.denoise(flow_noised(clean, noise, timesteps), condition)
            residual = guide(output, guidance, config.token_dim).float() - (noise - clean)
        else:
            output = self.head.denoise(add_noise(clean, noise, timesteps, config.diffusion_steps), condition)
            prediction = guide(output, guidance, config.token_dim)
            if variational:
                residual, bound = learned_range_loss(prediction, clean, noise, timesteps, config.diffusion_steps)
            else:
                residual = prediction[..., : config.token_dim].float() - noise
        return mean_loss(residual, bound, layout.masked_valid)

    def embed_times(self, timesteps: Tensor) -> Tensor:
        """The head's time embedding; from a table of all steps where that is less work."""
        if timesteps.is_floating_point():
            return self.head.embed_times(timesteps * FLOW_TIME_SCALE)
        steps = self.mar_config.diffusion_steps
        if timesteps.numel() <= steps:
            return self.head.embed_times(timesteps)
        return F.embedding(timesteps, self.head.embed_times(torch.arange(steps, device=timesteps.device)))


def own_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `MARConfig` in a config.json; names that begin with _ are diffusers' own."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def mean_loss(residual: Tensor, variational: Tensor | None, valid: Tensor | None) -> MARLoss:
    """Means over masked tokens, each weighing the same, of residuals (K, B, M, D) and bounds (K, B, M)."""
    squared, kept = residual.square().mean(-1), residual.detach()
    if valid is None:
        errors = squared.mean((0, 2))
        mse = errors.mean()
        return MARLoss(mse if variational is None else mse + variational.mean(), mse, errors, kept)
    errors = (squared.mean(0) * valid).sum(1) / valid.sum(1)
    total = valid.sum()
    mse = (squared.mean(0) * valid).sum() / total
    loss = mse if variational is None else mse + (variational.mean(0) * valid).sum() / total
    return MARLoss(loss, mse, errors, kept * valid[..., None])
