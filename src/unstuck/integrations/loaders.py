"""What a framework's loop makes of a data loader, undone: batches as one step of the optimizer sees them."""

from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler

from unstuck.errors import TrainingError


def of_steps(loader: Any, passes: int = 1) -> Any:
    """Give a loader of the same examples whose batches are those of one step.

    A random order is drawn anew in each epoch, whatever the framework's own sampler remembers of where it stands.

    Args:
        loader: The framework's.
        passes: Backward passes that one step of the optimizer accumulates.

    Raises:
        TrainingError: It is no plain DataLoader, so that its batches cannot be made larger.
    """
    # What Accelerate prepares is a loader around one whose batches are dealt to processes.
    loader = getattr(loader, "base_dataloader", loader)
    batches: Any = getattr(loader, "batch_sampler", None)
    while hasattr(batches, "batch_sampler"):
        batches = batches.batch_sampler
    if type(loader) is not DataLoader or (type(batches) is not BatchSampler and loader.batch_size is None):
        if passes == 1:
            return loader
        msg = (
            f"gradients are accumulated over {passes} passes, and the batches of this {type(loader).__name__} cannot "
            f"be made larger: pass `data` that gives batches of {passes} times the size"
        )
        raise TrainingError(msg)
    dealt = batches if type(batches) is BatchSampler else loader
    drawn = isinstance(dealt.sampler, RandomSampler)
    return DataLoader(
        loader.dataset,
        batch_size=passes * int(dealt.batch_size or 1),
        shuffle=drawn or None,
        sampler=None if drawn or isinstance(loader.dataset, IterableDataset) else dealt.sampler,
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        drop_last=dealt.drop_last,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
    )
