"""How large the networks are.

In: layers of each family. Out: building them (`networks.families`), how many numbers
they hold (`settings.sizes`).
"""

from __future__ import annotations

from dataclasses import dataclass

from settings.part import Part, field

NETWORKS = ("lstm", "gru", "cnn", "cnn_lstm", "mlp", "tcn", "attention", "ensemble")
"""Model families that are Keras networks whose layers are fields."""

HYBRID = "hybrid"
"""The one that is made of layers of trained models."""

KERAS_MODELS = (*NETWORKS, HYBRID)

ENSEMBLE_MEMBERS = ("lstm", "cnn", "attention")
"""Families that the ensemble weighs."""

MAX_POSITIONS = 250_000
"""Most numbers that an attention's positions have: they stand in its description."""


@dataclass(frozen=True, kw_only=True)
class NetworkFields(Part):
    """Network.

    Attributes:
        sequence_length: Bars of the past window that the model reads.
        lstm_units: Units of each LSTM layer, of one direction.
        gru_units: Units of each layer of `gru`, of one direction.
        bidirectional: LSTM and GRU layers read the window forwards and backwards. The
            ensemble's LSTM always does.
        cnn_filters: Filters of each convolution of `cnn`; each halves the bars.
        cnn_kernels: Bars that each convolution of `cnn` covers.
        cnn_lstm_filters: Filters of each convolution of `cnn_lstm`; each halves the
            bars.
        cnn_lstm_kernels: Bars that each convolution of `cnn_lstm` covers.
        cnn_lstm_units: Units of each LSTM layer of `cnn_lstm`, of one direction.
        cnn_lstm_residual: Adds the input of each convolution of `cnn_lstm` to its
            output.
        cnn_lstm_attention: `cnn_lstm` attends to all steps of its last LSTM layer, not
            to the last alone; with `attention_heads`.
        mlp_inputs: What the dense layers of `mlp` read: means of the newest bar, the 2
            before it, the 4 before those and so on, or every bar.
        tcn_filters: Filters of each convolution of `tcn`.
        tcn_kernel: Bars that each convolution of `tcn` covers. Its blocks are as many
            as see the whole window.
        attention_blocks: Blocks of `attention`: self-attention and a feed-forward pair
            of layers each.
        attention_heads: Heads of a self-attention.
        attention_dim: Numbers for each bar between the blocks of `attention`.
        attention_ff_dim: Units of the hidden feed-forward layer of a block.
        attention_norm: Where a block normalises: what it reads, or what it returns.
        attention_dropout: Share of a block's additions dropped while training.
        dense_units: Units of each dense layer; empty for none.
        conv_batch_norm: Batch normalisation after each convolution; trains in one
            branch.
        dense_batch_norm: Batch normalisation after each dense layer; trains in one
            branch.
        gate_units: Hidden units of the ensemble's gate, which weighs its members.
        dropout_rate: Share of activations dropped after each hidden layer while
            training.
        recurrent_dropout: Share of recurrent connections dropped; above 0 it rules out
            cuDNN.
    """

    sequence_length: int = field(120, ge=1, le=100_000)
    lstm_units: tuple[int, ...] = field((128, 64, 32), ge=1, le=8192)
    gru_units: tuple[int, ...] = field((128, 128, 128), ge=1, le=8192)
    bidirectional: bool = False
    cnn_filters: tuple[int, ...] = field((32, 64, 128), ge=1, le=8192)
    cnn_kernels: tuple[int, ...] = field((3, 5, 7), ge=1, le=1000)
    cnn_lstm_filters: tuple[int, ...] = field((64, 128, 256), ge=1, le=8192)
    cnn_lstm_kernels: tuple[int, ...] = field((3, 3, 3), ge=1, le=1000)
    cnn_lstm_units: tuple[int, ...] = field((256, 256), ge=1, le=8192)
    cnn_lstm_residual: bool = False
    cnn_lstm_attention: bool = False
    mlp_inputs: str = field("means", choices=("means", "bars"))
    tcn_filters: int = field(32, ge=1, le=8192)
    tcn_kernel: int = field(3, ge=2, le=1000)
    attention_blocks: int = field(2, ge=1, le=100)
    attention_heads: int = field(8, ge=1, le=1024)
    attention_dim: int = field(128, ge=2, le=8192)
    attention_ff_dim: int = field(512, ge=1, le=65_536)
    attention_norm: str = field("pre", choices=("pre", "post"))
    attention_dropout: float = field(0.1, ge=0, lt=1)
    dense_units: tuple[int, ...] = field((32, 16), ge=1, le=65_536)
    conv_batch_norm: bool = True
    dense_batch_norm: bool = False
    gate_units: int = field(64, ge=1, le=65_536)
    dropout_rate: float = field(0.3, ge=0, lt=1)
    recurrent_dropout: float = field(0.0, ge=0, lt=1)

    @property
    def tcn_blocks(self) -> int:
        """Fewest blocks whose two convolutions each see the whole window.

        Block `n` looks back `2 (tcn_kernel - 1) 2^(n-1)` bars (Bai et al., 2018), all
        of them `2 (tcn_kernel - 1) (2^blocks - 1)`.
        """
        spans = -(-(self.sequence_length - 1) // (2 * (self.tcn_kernel - 1)))
        return max(1, spans.bit_length())

    def family_problems(self, model: str) -> list[str]:
        """Returns what is wrong with a family; the fields of the others rest."""
        families = ENSEMBLE_MEMBERS if model == "ensemble" else (model,)
        problems = [
            f"{name}_units: expected at least one layer. Received: ()"
            for name in families
            if getattr(self, f"{name}_units", (1,)) == ()
        ]
        for name in families:
            filters = getattr(self, f"{name}_filters", None)
            kernels = getattr(self, f"{name}_kernels", None)
            if filters is None or kernels is None:
                continue
            if not filters or len(filters) != len(kernels):
                problems.append(
                    f"{name}_filters, {name}_kernels: expected one kernel for each "
                    f"convolution, at least one. Received: {filters} and {kernels}"
                )
            elif self.sequence_length < 2 ** len(filters):
                problems.append(
                    f"sequence_length: expected at least {2 ** len(filters)} for "
                    f"{len(filters)} convolutions, each of which halves the bars. "
                    f"Received: {self.sequence_length}"
                )
        if "attention" in families:
            problems += self._attention_problems()
        elif model == "cnn_lstm" and self.cnn_lstm_attention:
            if self.cnn_lstm_units and self.cnn_lstm_units[-1] % self.attention_heads:
                problems.append(
                    "cnn_lstm_units: expected a multiple of attention_heads in the "
                    f"last layer. Received: {self.cnn_lstm_units} for "
                    f"{self.attention_heads} heads"
                )
        return problems

    def _attention_problems(self) -> list[str]:
        problems = []
        if self.attention_dim % self.attention_heads or self.attention_dim % 2:
            problems.append(
                "attention_dim: expected an even multiple of attention_heads. "
                f"Received: {self.attention_dim} for {self.attention_heads} heads"
            )
        numbers = self.sequence_length * self.attention_dim
        if numbers > MAX_POSITIONS:
            problems.append(
                "sequence_length, attention_dim: expected a product of at most "
                f"{MAX_POSITIONS}, because the saved network names every position. "
                f"Received: {numbers}"
            )
        return problems


def mean_blocks(num_bars: int) -> list[tuple[int, int]]:
    """Returns [start, stop) of the bars of each mean of `mlp`, the newest first.

    Example:
        >>> mean_blocks(8)
        [(7, 8), (5, 7), (1, 5), (0, 1)]
    """
    blocks, stop, size = [], num_bars, 1
    while stop > 0:
        blocks.append((max(0, stop - size), stop))
        stop, size = stop - size, 2 * size
    return blocks
