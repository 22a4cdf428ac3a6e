"""What every data module promises about its splits and its calibration draw."""

import pickle
from types import SimpleNamespace

import pytest
import torch

from ftbc_lightning import UserError
from ftbc_lightning.data import DigitsDataModule


def ready(**settings):
    data = DigitsDataModule(**settings)
    data.prepare_data()
    data.setup()
    return data


def everything(loader):
    return torch.cat([images for images, _ in loader])


def as_set(images):
    return {tuple(image.flatten().tolist()) for image in images}


def test_splits_are_disjoint_and_complete():
    data = ready()
    parts = [
        data.calibration_pool.__getitems__(list(range(len(data.train_indices))))[0],
        everything(data.val_dataloader()),
        everything(data.test_dataloader()),
    ]
    assert [len(part) for part in parts] == [1082, 360, 355]
    sets = [as_set(part) for part in parts]
    assert not sets[0] & sets[1]
    assert not sets[0] & sets[2]
    assert not sets[1] & sets[2]


def test_every_split_has_every_class_in_proportion():
    data = ready()
    for loader in (data.val_dataloader(), data.test_dataloader()):
        counts = torch.cat([labels for _, labels in loader]).bincount(minlength=10)
        assert counts.min() >= 33
        assert counts.max() <= 38


def test_calibration_samples_come_from_the_part_that_trains():
    data = ready()
    drawn = as_set(everything(data.calibration_dataloader()))
    pool = as_set(data.calibration_pool.__getitems__(list(range(len(data.train_indices))))[0])
    assert len(drawn) > 500
    assert drawn <= pool


def test_the_draw_depends_on_the_seed_alone():
    first = everything(ready(batch_size=7).calibration_dataloader())
    assert torch.equal(first, everything(ready(batch_size=64).calibration_dataloader()))
    assert not torch.equal(first, everything(ready().calibration_dataloader(seed=5)))


def test_the_draw_does_not_depend_on_workers():
    first = everything(ready(calibration_samples=20).calibration_dataloader())
    other = ready(calibration_samples=20, num_workers=2)
    assert torch.equal(first, everything(other.calibration_dataloader()))


def shares(data, loader, world):
    """The batches that each of several processes is given."""
    found = []
    for rank in range(world):
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world)
        found.append(list(getattr(data, loader)()))
    return found


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_every_calibration_sample_is_used_once_and_batches_stay_what_they_are(world):
    data = ready(calibration_samples=101, batch_size=20)
    whole = list(data.calibration_dataloader())
    parts = shares(data, "calibration_dataloader", world)
    for index, (images, _) in enumerate(whole):
        merged = torch.cat([part[index][0] for part in parts if index < len(part)])
        assert len(merged) == len(images)
        assert as_set(merged) == as_set(images)
    assert sum(len(images) for part in parts for images, _ in part) == 101


def test_a_process_may_have_no_calibration_sample():
    data = ready(calibration_samples=2)
    assert [len(part) for part in shares(data, "calibration_dataloader", 3)] == [1, 1, 0]


@pytest.mark.parametrize("world", [2, 3, 7])
@pytest.mark.parametrize("split", ["val", "test", "predict"])
def test_evaluation_reads_each_sample_once_over_all_processes(world, split):
    data = ready()
    loader = f"{split}_dataloader"
    whole = everything(getattr(data, loader)())
    parts = [torch.cat([images for images, _ in p]) for p in shares(data, loader, world)]
    assert sum(map(len, parts)) == len(whole)
    assert as_set(torch.cat(parts)) == as_set(whole)


def test_fewer_evaluation_samples_than_processes_are_refused():
    data = ready()
    data.trainer = SimpleNamespace(global_rank=0, world_size=361)
    with pytest.raises(UserError, match="A split of 360 samples cannot be evaluated by 361"):
        data.val_dataloader()


def test_setup_divides_once():
    data = ready()
    before = data.train_set
    data.setup("fit")
    data.setup("test")
    assert data.train_set is before


def test_a_data_module_pickles_for_spawned_workers():
    data = pickle.loads(pickle.dumps(ready()))
    assert len(data.train_indices) == 1082


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"calibration_samples": 0}, "calibration_samples is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"num_workers": -1}, "num_workers is -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        DigitsDataModule(**settings)


def test_more_calibration_samples_than_training_samples_are_refused():
    with pytest.raises(UserError, match="calibration_samples is 2000, but the training part"):
        ready(calibration_samples=2000).calibration_dataloader()
