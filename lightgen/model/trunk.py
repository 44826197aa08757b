"""What generation asks of the model in a step: z of the tokens to predict, then the head's guided output for them.

Both leave out what cannot change the result: what sees no text is computed once for both guidance halves; cross
blocks act per token, so they run on the tokens of this step only; text keys and values and the null text's attention
are constants. `released.py` computes the same without these savings.

B images, N tokens, n predicted in a step, G = 2 with guidance and 1 without, W width, D token channels.
"""

import torch
from torch import Tensor

from lightgen.model.blocks import take
from lightgen.model.head import guide
from lightgen.model.mar import MAR
from lightgen.model.masking import Layout

MODULATED_ROWS = 256  # most rows (head steps times tokens times halves) whose modulations are held at once


class Trunk:
    """z (G, B, n, W) of the predicted tokens, computing what they need and nothing twice."""

    def __init__(self, model: MAR, text: Tensor, lengths: Tensor, grid: tuple[int, int], guided: bool):
        self.model, self.guided = model, guided
        aligned, self.key_mask = model.align_text(text, lengths)
        self.contexts = [block.context(aligned, model.null_text if guided else None) for block in model.cross_blocks]
        dropped = torch.zeros_like(lengths, dtype=torch.bool)
        self.joined = model.decoder_text(aligned, self.key_mask, dropped, guided=guided)
        tables = (model.encoder_positions, model.decoder_positions, model.cross_positions)
        self.positions = [model.positions(table, grid) for table in tables]

    def __call__(self, tokens: Tensor, visible: Tensor | None, predicted: Tensor) -> Tensor:
        model = self.model
        layout = Layout(len(tokens), visible, None, None, None)
        encoded = model.encode(tokens, self.positions[0], layout)
        if encoded is None and self.joined is None:
            x = take(model.decode(None, self.positions[1], layout).expand(len(tokens), -1, -1), predicted)
        else:
            x = model.decode(encoded, self.positions[1], layout, predicted, self.joined)
        x = model.embed_decoded(x, self.positions[2], predicted)
        z = model.attend_text(x, self.contexts, self.key_mask, guided=self.guided)
        return z.unflatten(0, (1 + self.guided, -1))


class Prediction:
    """The guided output of the head for x (B, n, D) at entry `step` of the times, given z.

    The condition is embedded once a step, times come from a table (times, head width), both halves share x; and the
    modulations, most of the head's arithmetic, do not depend on x: those of several head steps make one product.
    """

    def __init__(self, model: MAR, z: Tensor, time_table: Tensor, guidance: float):
        self.head, self.time_table, self.guidance = model.head, time_table, guidance
        self.condition = self.head.condition(z)
        self.span = MODULATED_ROWS // self.condition[..., 0].numel()  # head steps at once
        self.start = -1  # the first of the steps whose modulations are held
        self.held: list[tuple[tuple[Tensor, ...], ...]] = []  # for each step a layer's shift, scale and gate

    @staticmethod
    def table(model: MAR, times: Tensor) -> Tensor:
        """What is kept of the times for all steps: their embeddings."""
        return model.head.embed_times(times)

    def __call__(self, x: Tensor, step: int) -> Tensor:
        if self.span > 1:
            output = self.head.modulated(x, self._modulations(step))
        else:
            output = self.head.denoise(x, self.condition + self.time_table[step])
        return guide(output.float(), self.guidance, x.shape[-1])

    def _modulations(self, step: int) -> tuple[tuple[Tensor, ...], ...]:
        """What `Head.modulations` yields for `step`, computed together with its neighbors'."""
        start = step - step % self.span
        if start != self.start:
            self.held = []  # freed before its successor is made
            self.start, times = start, self.time_table[start : start + self.span]
            layers = self.head.modulations(self.condition + times[:, None, None, None])
            # Each layer's shift, scale and gate hold all steps; they are taken apart once, not in every step.
            steps_of_layers = (zip(*(part.unbind() for part in layer), strict=True) for layer in layers)
            self.held = list(zip(*steps_of_layers, strict=True))
        return self.held[step - start]
