"""Transformer parts: self-attention and cross-attention blocks, their MLP, and the caption projection.

B images, N tokens of an image, M of them queried, L text positions, W width, H heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6  # of every LayerNorm in the release


class MLP(nn.Module):
    """Linear, exact GELU, linear, with dropout after each linear's output."""

    def __init__(self, width: int, ratio: float, dropout: float):
        super().__init__()
        self.fc1 = nn.Linear(width, int(width * ratio))
        self.fc2 = nn.Linear(int(width * ratio), width)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        x = drop(F.gelu(self.fc1(x)), self.dropout, self.training)
        return drop(self.fc2(x), self.dropout, self.training)


class SelfAttention(nn.Module):
    """Multi-head attention among the tokens of one sequence."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, key_mask: Tensor | None, queries: Tensor | None) -> Tensor:
        """`queries` (B, M) keeps the output of those positions only; all are still attended to."""
        batch, length, width = x.shape
        if queries is None:
            q, k, v = (
                self.qkv(x).view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
            )
        else:
            # Past the layer itself, so that weights which layerwise casting stores as float8 are cast here.
            weight, bias = (p if p.itemsize > 1 else p.to(x.dtype) for p in (self.qkv.weight, self.qkv.bias))
            q = split_heads(F.linear(take(x, queries), weight[:width], bias[:width]), self.heads)
            k, v = (
                F.linear(x, weight[width:], bias[width:])
                .view(batch, length, 2, self.heads, width // self.heads)
                .unbind(2)
            )
            k, v = k.transpose(1, 2), v.transpose(1, 2)
        return drop(self.proj(attend(q, k, v, key_mask, self.dropout, self.training)), self.dropout, self.training)


class Block(nn.Module):
    """Pre-norm ViT block: x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = SelfAttention(width, heads, dropout)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = MLP(width, mlp_ratio, dropout)

    def forward(self, x: Tensor, key_mask: Tensor | None = None, queries: Tensor | None = None) -> Tensor:
        """(B, N, W), or (B, M, W) when `queries` names the positions whose output is wanted."""
        residual = x if queries is None else take(x, queries)
        x = residual + self.attn(self.norm1(x), key_mask, queries)
        return x + self.mlp(self.norm2(x))


class CrossAttention(nn.Module):
    """Multi-head attention from image tokens to text."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, L, W/H) of a normalized context."""
        batch, length, width = context.shape
        key, value = self.key_value(context).view(batch, length, 2, self.heads, width // self.heads).unbind(2)
        return key.transpose(1, 2), value.transpose(1, 2)

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor], key_mask: Tensor | None) -> Tensor:
        query = split_heads(self.query(x), self.heads)
        x = attend(query, *keys_values, key_mask, self.dropout, self.training)
        return drop(self.proj(x), self.dropout, self.training)


class TextContext(NamedTuple):
    """What a cross block reads of the text; it does not depend on the image."""

    keys: Tensor  # (B, H, L, W/H)
    values: Tensor  # (B, H, L, W/H)
    null: Tensor | None  # (W,), the attention's output where the text is the null text; None without guidance


class CrossBlock(nn.Module):
    """Cross-attention from image tokens to text, then an MLP; image tokens do not see each other here.

    `normalized_residual`: the skip carries the normalized query, as in the release (models/utils.py:172-178);
    otherwise a standard pre-norm skip.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: float, dropout: float, normalized_residual: bool):
        super().__init__()
        self.normalized_residual = normalized_residual
        self.norm_query = nn.LayerNorm(width, eps=EPSILON)
        self.norm_context = nn.LayerNorm(width, eps=EPSILON)
        self.attn = CrossAttention(width, heads, dropout)
        self.norm_mlp = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = MLP(width, mlp_ratio, dropout)

    def keys_values(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of aligned text (B, L, W); they do not depend on the image."""
        return self.attn.keys_values(self.norm_context(text))

    def constant_attention(self, vector: Tensor) -> Tensor:
        """The attention output (W,) when every text position holds `vector` (W,).

        Equal keys give uniform weights, so the output is the one value, whatever the query and the length.
        """
        _, value = self.attn.key_value(self.norm_context(vector)).chunk(2, dim=-1)
        return self.attn.proj(value)

    def context(self, text: Tensor, null_text: Tensor | None) -> TextContext:
        """What the block reads of aligned text (B, L, W) and of the null text (1, 1, W), None without guidance."""
        null = None if null_text is None else self.constant_attention(null_text[0, 0])
        return TextContext(*self.keys_values(text), null)

    def forward(self, x: Tensor, context: TextContext, key_mask: Tensor | None) -> Tensor:
        """x (B, M, W), or (2B, M, W) where the second half attends to the context's null text."""
        query = self.norm_query(x)
        residual = query if self.normalized_residual else x
        keys_values = context.keys, context.values
        if context.null is None:
            x = residual + self.attn(query, keys_values, key_mask)
        else:
            given, null = residual.chunk(2)
            given = given + self.attn(query[: len(given)], keys_values, key_mask)
            x = torch.cat([given, null + context.null])
        return x + self.mlp(self.norm_mlp(x))


class TextProjection(nn.Module):
    """Caption features to the model's width: linear, tanh GELU, linear."""

    def __init__(self, text_channels: int, width: int):
        super().__init__()
        self.linear_1 = nn.Linear(text_channels, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.gelu(self.linear_1(x), approximate="tanh"))


def attend(q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, dropout: float, training: bool) -> Tensor:
    """Scaled dot-product attention with heads merged again: (B, M, W). `key_mask` (B, L) is true where attended."""
    mask = None if key_mask is None else key_mask[:, None, None, :]
    x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout if training else 0.0)
    return x.transpose(1, 2).flatten(2)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, M, W) -> (B, H, M, W/H)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def take(x: Tensor, index: Tensor) -> Tensor:
    """The rows (B, M, W) of x (B, N, W) at positions `index` (B, M)."""
    # Whole rows of the flattened batch: a gather moves, and its gradient adds, one number at a time.
    batch, length, _ = x.shape
    starts = torch.arange(batch, device=x.device)[:, None] * length
    return x.flatten(0, 1).index_select(0, (index + starts).flatten()).unflatten(0, index.shape)


def tile(x: Tensor, rows: int) -> Tensor:
    """x (1, ...), (rows, ...), or (rows/2, ...), which both guidance halves then have, as `rows` rows."""
    if len(x) == 1:
        return x.expand(rows, *x.shape[1:])
    return x if len(x) == rows else torch.cat([x, x])


def drop(x: Tensor, probability: float, training: bool) -> Tensor:
    """Dropout that costs nothing when it is off."""
    return F.dropout(x, probability, training) if training and probability > 0 else x
