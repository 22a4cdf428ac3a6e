"""What a training sees depends on seed and epoch: not on workers, not on an interruption."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lightning import Trainer, seed_everything
from torch import nn

from ftbc_lightning.data import ArrayDataModule
from ftbc_lightning.data.epochs import Drawn, Shuffled
from ftbc_lightning.training.module import SpikingClassifier


class Small(nn.Sequential):
    """A dropout above 0 takes random numbers of the training process."""

    def __init__(self, dropout):
        super().__init__(nn.Flatten(), nn.Linear(3 * 8 * 8, 8), nn.ReLU(), nn.Dropout(dropout))
        self.append(nn.Linear(8, 2))


@pytest.fixture
def archive(tmp_path):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    labels = np.arange(24) % 2
    path = tmp_path / "samples.npz"
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return str(path)


def samples(archive, **settings):
    """A data module of few samples."""
    settings = {"batch_size": 4, "calibration_samples": 4, **settings}
    return ArrayDataModule(path=archive, validation_fraction=0.2, **settings)


def trained(archive, folder, *, epochs, workers=0, dropout=0.5, ckpt_path=None):
    """The weights after some epochs, and the path of the last checkpoint."""
    seed_everything(1, verbose=False)
    data = samples(archive, augmentation="cifar", num_workers=workers)
    trainer = Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    module = SpikingClassifier(Small(dropout))
    trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    path = folder / "last.ckpt"
    trainer.save_checkpoint(path)
    return torch.cat([p.detach().flatten() for p in module.ann.parameters()]), path


def test_training_does_not_depend_on_the_number_of_workers(archive, tmp_path):
    alone, _ = trained(archive, tmp_path, epochs=2)
    helped, _ = trained(archive, tmp_path, epochs=2, workers=2)
    assert torch.equal(alone, helped)


def test_a_resumed_training_ends_where_one_without_interruption_does(archive, tmp_path):
    whole, _ = trained(archive, tmp_path, epochs=2, dropout=0.0)
    _, path = trained(archive, tmp_path, epochs=1, dropout=0.0)
    resumed, _ = trained(archive, tmp_path, epochs=2, dropout=0.0, ckpt_path=path)
    assert torch.equal(whole, resumed)


def batches(archive, *, epochs, batch_size=4, seed=0):
    """What the loader gives in each epoch."""
    data = samples(archive, augmentation="flip_crop", batch_size=batch_size, seed=seed)
    data.setup()
    loader = data.train_dataloader()
    found = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        found.append(torch.cat([images for images, _ in loader]))
    return found


def test_an_epoch_after_a_resumption_is_what_it_would_have_been(archive):
    whole = batches(archive, epochs=[0, 1, 2])
    torch.rand(7)  # what the process drew in between does not count
    (resumed,) = batches(archive, epochs=[2])
    assert torch.equal(whole[2], resumed)


@pytest.mark.parametrize("batch_size", [1, 100])
def test_each_epoch_has_an_order_and_draws_of_its_own(archive, batch_size):
    first, second = batches(archive, epochs=[0, 1], batch_size=batch_size)
    keys = [{tuple(image.flatten().tolist()) for image in epoch} for epoch in (first, second)]
    assert len(keys[0] & keys[1]) < len(first) / 2
    (other,) = batches(archive, epochs=[0], batch_size=batch_size, seed=1)
    assert not torch.equal(first, other)


def test_a_training_loader_leaves_the_random_numbers_of_the_process(archive):
    before = torch.get_rng_state()
    batches(archive, epochs=[0])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("workers", "device"), [(0, "meta"), (2, "cpu")])
def test_training_samples_are_made_on_the_device_that_trains_or_by_workers(
    archive, workers, device
):
    """Nothing of the CPU may meet tensors of "meta", which have no values."""
    data = samples(archive, augmentation="cifar", num_workers=workers)
    data.setup()
    strategy = SimpleNamespace(root_device=torch.device("meta"))
    data.trainer = SimpleNamespace(global_rank=0, world_size=1, strategy=strategy)
    batches = list(data.train_dataloader())
    assert {part.device.type for batch in batches for part in batch} == {device}
    assert data.train_set.dataset.images.device.type == "cpu"
    plain = [*data.val_dataloader(), *data.calibration_dataloader()]
    assert {images.device.type for images, _ in plain} == {"cpu"}


@pytest.mark.parametrize("batch_size", [3, 700, 2000])
def test_batches_of_a_block_are_those_of_the_order(archive, batch_size):
    data = samples(archive, batch_size=batch_size)
    data.setup()
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)
    sizes = [len(labels) for _, labels in loader]
    count = len(data.train_indices)
    assert sizes == [min(batch_size, count - at) for at in range(0, count, batch_size)]
    assert len(loader) == len(sizes)
    order = [data.train_set.indices[place % count] for place in loader.sampler]
    expected = data.train_set.dataset.__getitems__(order)[0]
    assert torch.equal(torch.cat([images for images, _ in loader]), expected)


def test_processes_share_an_epoch():
    shares = [Shuffled(range(10), rank=rank, world=2, seed=0) for rank in (0, 1)]
    for share in shares:
        share.set_epoch(3)
    places = [place for share in shares for place in share]
    assert sorted(places) == list(range(30, 40))


def test_one_sample_is_drawn_as_a_batch_of_one():
    class Noise(torch.utils.data.Dataset):
        def __getitem__(self, index):
            return index + torch.rand(())

        def __len__(self):
            return 6

    drawn = Drawn(Noise(), [2, 4], seed=0)
    assert drawn[3] == drawn.__getitems__([3])[0]
    assert 4 < drawn[3] < 5
    assert drawn[1] != drawn[3]
