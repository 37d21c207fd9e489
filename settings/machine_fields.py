"""What a run computes on, and what it writes beside its model.

In: seed, threads, kinds of output. Out: setting the machine up (`networks.runtime`).
"""

from __future__ import annotations

from dataclasses import dataclass

from settings.part import Part, field


@dataclass(frozen=True, kw_only=True)
class MachineFields(Part):
    """Machine and output.

    Attributes:
        seed: Seed of weights, dropout and the order of windows.
        num_threads: CPU threads; None takes the cores this process may use.
        num_branches: Parts of a batch computed side by side on CPU; None takes the
            fastest: one for each thread, for each two where a network keeps two busy,
            one where it must see the whole batch.
        deterministic_ops: Asks TensorFlow for deterministic kernels: equal bits also on
            a GPU, where it costs speed. On a CPU runs are equal without it; it gives
            other bits at no cost.
        device: What networks compute on. `auto` takes a GPU on which a small step
            works, else the CPU.
        recovery: After a step that does not fit into memory, goes on from the last
            checkpoint with the batch in pieces, twice as many each time, until one has
            8 windows, and then on the CPU; update and order stay those of the batch.
        allow_swap: Starts also where the estimated memory is more than what is free.
        mixed_precision: Computes in float16 on a GPU; ignored on a CPU, where it is
            slower.
        allocator: `"auto"` starts `python trainer.py` anew with tcmalloc where the
            machine has it, which is faster; `"system"` keeps the C library's. Results
            are the same.
        checkpoint_minutes: Minutes of an epoch, or of a fit of trees, after which its
            state is saved; that much a killed run loses at most. 0 saves after every
            step, or round.
        save_scaler_pickle: Also writes the scaler as `.pkl`, for other programs; it is
            never read here.
        tensorboard: Writes TensorBoard logs.
        verbose_logging: Logs details of each step.
    """

    seed: int = field(42, ge=0, lt=2**32)
    num_threads: int | None = field(None, ge=1, le=1024)
    num_branches: int | None = field(None, ge=1, le=1024)
    deterministic_ops: bool = False
    device: str = field("auto", choices=("auto", "cpu", "gpu"))
    recovery: bool = True
    allow_swap: bool = False
    mixed_precision: bool = False
    allocator: str = field("auto", choices=("auto", "system"))
    checkpoint_minutes: float = field(5.0, ge=0)
    save_scaler_pickle: bool = True
    tensorboard: bool = True
    verbose_logging: bool = False
