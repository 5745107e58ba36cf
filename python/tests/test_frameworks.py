# SPDX-License-Identifier: BSD-3-Clause
"""torchkeep.lightning, torchkeep.transformers and torchkeep.ignite with the real frameworks. That a killed training ends
with the bits of one that was not is tested with the recipes (test_recipes.py)."""
import json
import pathlib

import pytest
import torch

import torchkeep


def frameworks(*names):
    return [pytest.importorskip(name, reason=f"{name} is not installed (tools/setup frameworks)") for name in names]


# ---- Lightning

@pytest.fixture
def lightning():
    return frameworks("lightning")[0]


def regression(lightning):
    class Regression(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))

        def training_step(self, batch, index):
            return self.net(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), lr=0.01)

    torch.manual_seed(0)
    return Regression()


def fit(lightning, folder, io, steps, resume=None, callbacks=()):
    model = regression(lightning)
    torch.manual_seed(1 if resume is None else 2)  # what a resume restores is not what the program seeds
    data = torch.utils.data.TensorDataset(torch.randn(40, 4, generator=torch.Generator().manual_seed(3)))
    sampler = torchkeep.ResumableSampler(data, seed=1)
    loader = torch.utils.data.DataLoader(data, batch_size=4, sampler=sampler)
    saves = lightning.pytorch.callbacks.ModelCheckpoint(folder, filename="{step}", save_top_k=-1, every_n_train_steps=3)
    trainer = lightning.Trainer(max_steps=steps, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
                                enable_model_summary=False, plugins=[io], callbacks=[saves, *callbacks])
    trainer.fit(model, torchkeep.batches(loader), ckpt_path=resume)
    return model.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("background", [False, True])
def test_lightning_continues_in_the_middle_of_an_epoch_with_the_same_bits(background, lightning, tmp_path):
    from torchkeep.lightning import ExactResume, TorchkeepIO

    whole = fit(lightning, tmp_path / "whole", TorchkeepIO(background=background), 14, callbacks=[ExactResume()])
    fit(lightning, tmp_path / "cut", TorchkeepIO(background=background), 7, callbacks=[ExactResume()])
    resumed = fit(lightning, tmp_path / "cut", TorchkeepIO(), 14, str(tmp_path / "cut" / "step=6.ckpt"), [ExactResume()])
    assert same(whole, resumed)
    torchkeep.verify(tmp_path / "cut" / "step=6.ckpt")
    assert torch.load(tmp_path / "cut" / "step=6.ckpt", weights_only=False)["global_step"] == 6


def test_lightning_reads_what_lightning_wrote_by_itself_and_the_other_way_round(lightning, tmp_path):
    from lightning.fabric.plugins import TorchCheckpointIO

    from torchkeep.lightning import TorchkeepIO

    theirs = fit(lightning, tmp_path / "theirs", TorchCheckpointIO(), 6)
    ours = fit(lightning, tmp_path / "ours", TorchkeepIO(), 6)
    assert same(theirs, ours)
    there = fit(lightning, tmp_path / "more", TorchkeepIO(), 9, str(tmp_path / "theirs" / "step=3.ckpt"))
    here = fit(lightning, tmp_path / "more", TorchCheckpointIO(), 9, str(tmp_path / "ours" / "step=3.ckpt"))
    assert same(there, here)


def test_a_background_save_is_the_state_when_it_was_asked_for_and_keeps_ties(lightning, tmp_path, monkeypatch):
    import threading

    from torchkeep.lightning import TorchkeepIO

    goes, save = threading.Event(), torchkeep.save

    def slow(*arguments, **options):
        goes.wait()
        save(*arguments, **options)

    monkeypatch.setattr(torchkeep, "save", slow)
    io, weight = TorchkeepIO(background=True), torch.ones(4)
    io.save_checkpoint({"a": weight, "tied": weight[1:], "n": [weight]}, tmp_path / "a.ckpt")
    weight.zero_()
    goes.set()
    loaded = io.load_checkpoint(tmp_path / "a.ckpt")
    assert loaded["a"].tolist() == [1] * 4
    loaded["a"][1] = 5
    assert loaded["tied"][0] == 5 and loaded["n"][0][1] == 5


def test_a_background_save_that_fails_is_raised_by_the_next_call(lightning, tmp_path):
    from torchkeep.lightning import TorchkeepIO

    io = TorchkeepIO(background=True)
    io.save_checkpoint({"a": object()}, tmp_path / "a.ckpt")
    with pytest.raises(torchkeep.Error, match="object"):
        io.teardown()
    io.teardown()


def test_a_path_of_another_store_is_refused(lightning):
    from torchkeep.lightning import TorchkeepIO

    with pytest.raises(torchkeep.InvalidArgumentError, match="s3://bucket/a.ckpt: torchkeep writes to local"):
        TorchkeepIO().save_checkpoint({}, "s3://bucket/a.ckpt")


# ---- the Hugging Face Trainer

@pytest.fixture
def trainer(tmp_path):
    transformers, _ = frameworks("transformers", "accelerate")
    from torchkeep.transformers import CrashProof

    class Trainer(CrashProof, transformers.Trainer):
        pass

    class Data(torch.utils.data.Dataset):
        def __len__(self):
            return 24

        def __getitem__(self, index):
            tokens = torch.arange(8) * (index + 3) % 20
            return {"input_ids": tokens, "labels": tokens}

    def made(**options):
        torch.manual_seed(0)
        config = transformers.GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2)
        arguments = transformers.TrainingArguments(str(tmp_path / "out"), per_device_train_batch_size=4, report_to=[],
                                                   use_cpu=True, disable_tqdm=True, logging_strategy="no",
                                                   **{"max_steps": 6, "save_steps": 2, "save_total_limit": 2, **options})
        return Trainer(transformers.GPT2LMHeadModel(config), arguments, train_dataset=Data(), eval_dataset=Data())

    return made


def checkpoints(tmp_path):
    return sorted(one.name for one in (tmp_path / "out").glob("checkpoint-*"))


def test_the_trainers_folders_are_whole_and_no_more_than_it_was_told_to_keep(trainer, tmp_path):
    from torchkeep.transformers import newest_whole_checkpoint

    one = trainer()
    one.train()
    assert checkpoints(tmp_path) == ["checkpoint-4", "checkpoint-6"] and one.args.save_total_limit == 2
    assert newest_whole_checkpoint(tmp_path / "out").endswith("checkpoint-6")
    noted = json.loads((tmp_path / "out/checkpoint-6/torchkeep-files.json").read_text())["files"]
    assert {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= set(noted)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json", "training_args.bin"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_folder_is_passed_over(name, damage, trainer, tmp_path):
    from torchkeep.transformers import newest_whole_checkpoint

    trainer().train()
    file = tmp_path / "out" / "checkpoint-6" / name
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    file.write_bytes(content[:-1] if damage == "truncate" else content)
    if damage == "remove":
        file.unlink()
    assert newest_whole_checkpoint(tmp_path / "out").endswith("checkpoint-4")


def test_a_save_that_was_interrupted_leaves_the_older_checkpoint_and_the_training_goes_on_from_it(trainer, tmp_path):
    from torchkeep.transformers import newest_whole_checkpoint

    class Killed(BaseException):
        pass

    one, calls = trainer(save_total_limit=1), []

    def die(output_dir):
        calls.append(output_dir)
        if len(calls) == 2:  # the model and the optimizer are written, the generators and the state are not
            raise Killed

    plain = one._save_rng_state
    one._save_rng_state = lambda output_dir: (die(output_dir), plain(output_dir))
    with pytest.raises(Killed):
        one.train()
    assert checkpoints(tmp_path) == ["checkpoint-2", "checkpoint-4"]
    assert newest_whole_checkpoint(tmp_path / "out").endswith("checkpoint-2")
    again = trainer(save_total_limit=1)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 6 and checkpoints(tmp_path) == ["checkpoint-6"]


def test_a_folder_of_the_plain_trainer_is_continued_from(trainer, tmp_path):
    import transformers

    from torchkeep.transformers import newest_whole_checkpoint

    one = trainer()
    transformers.Trainer(one.model, one.args, train_dataset=one.train_dataset).train()
    assert not list((tmp_path / "out").rglob("torchkeep-*"))
    assert newest_whole_checkpoint(tmp_path / "out").endswith("checkpoint-6")
    (tmp_path / "out/checkpoint-6/trainer_state.json").unlink()
    assert newest_whole_checkpoint(tmp_path / "out").endswith("checkpoint-4")


def test_without_a_checkpoint_the_training_begins(trainer, tmp_path):
    one = trainer(max_steps=2)
    one.train(resume_from_checkpoint=True)
    assert one.state.global_step == 2


def test_the_best_checkpoint_is_kept(trainer, tmp_path):
    one = trainer(eval_strategy="steps", eval_steps=2, load_best_model_at_end=True, metric_for_best_model="loss",
                  save_total_limit=1, learning_rate=0.0)
    one.train()
    # With a limit of 1 the Trainer itself removes the last one at the end, if another is the best.
    assert [pathlib.Path(one.state.best_model_checkpoint).name] == checkpoints(tmp_path) == ["checkpoint-2"]


# ---- Ignite

def test_ignites_checkpoint_saves_and_resumes_with_torchkeep(tmp_path):
    frameworks("ignite")
    from ignite.engine import Engine, Events
    from ignite.handlers import Checkpoint

    from torchkeep.ignite import Generators, TorchkeepSaver

    def program(folder, iterations, resume=None):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.3), torch.nn.Linear(8, 1))
        optimizer = torch.optim.AdamW(model.parameters())
        data = torch.utils.data.TensorDataset(torch.randn(40, 4))
        sampler = torchkeep.ResumableSampler(data, seed=1)
        loader = torch.utils.data.DataLoader(data, batch_size=4, sampler=sampler)

        def step(engine, batch):
            optimizer.zero_grad()
            model(batch[0]).square().mean().backward()
            optimizer.step()

        def endless():
            while True:
                yield from torchkeep.batches(loader)

        trainer = Engine(step)
        saved = {"model": model, "optimizer": optimizer, "data": sampler, "rng": Generators(), "trainer": trainer}
        handler = Checkpoint(saved, TorchkeepSaver(folder), n_saved=2, global_step_transform=lambda *_: trainer.state.iteration)
        trainer.add_event_handler(Events.ITERATION_COMPLETED(every=3), handler)
        saved["handler"] = handler  # knows which files it keeps
        if resume:
            Checkpoint.load_objects(saved, torchkeep.load(resume))
        trainer.run(endless(), max_epochs=iterations, epoch_length=1)
        return model.state_dict()

    whole = program(tmp_path / "whole", 14)
    program(tmp_path / "cut", 7)
    assert sorted(one.name for one in (tmp_path / "cut").iterdir()) == ["checkpoint_3.pt", "checkpoint_6.pt"]
    assert same(whole, program(tmp_path / "cut", 14, tmp_path / "cut" / "checkpoint_6.pt"))
    # ignite's list in checkpoint_6 does not have checkpoint_6 itself yet, so that one stays.
    assert {one.name for one in (tmp_path / "cut").iterdir()} == {f"checkpoint_{step}.pt" for step in (6, 9, 12)}
