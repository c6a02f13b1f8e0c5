"""What the real Trainers of Lightning and Transformers train, as a training that can be diagnosed."""

import lightning
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, TensorDataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import unstuck
from unstuck.errors import TrainingError
from unstuck.integrations import lightning as of_lightning
from unstuck.integrations import transformers as of_transformers
from unstuck.integrations.recognised import training_in
from unstuck.objective import Objective, draw
from unstuck.target import load_training

# What the frameworks and their libraries say of themselves.
pytestmark = pytest.mark.filterwarnings("ignore")


class Logging(lightning.LightningModule):
    """Logs from within its step, which works only while its Trainer runs it."""

    def __init__(self, *, several=False, own_steps=False):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2))
        self.automatic_optimization = not own_steps
        self._several = several

    def training_step(self, batch):
        loss = functional.cross_entropy(self.net(batch[0]), batch[1])
        self.log("loss", loss, prog_bar=True)
        self.log_dict({"again": loss})
        return {"loss": loss, "logits": None}

    def validation_step(self, batch):
        pass

    def configure_optimizers(self):
        made = [torch.optim.Adam(self.parameters(), lr=1e-6) for _ in range(1 + self._several)]
        return made, [{"scheduler": torch.optim.lr_scheduler.StepLR(made[0], 3), "interval": "epoch"}]


class Digits(lightning.LightningDataModule):
    def setup(self, stage):
        assert stage == "fit"
        torch.manual_seed(0)
        inputs = torch.randn(96, 8)
        self.data = TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())

    def train_dataloader(self):
        return DataLoader(self.data, batch_size=8, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.data, batch_size=32)


def trainer(tmp_path, **more):
    return lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **more,
    )


@pytest.fixture
def fitted(tmp_path):
    torch.manual_seed(0)
    module, fitting = Logging(), trainer(tmp_path, accumulate_grad_batches=3, gradient_clip_val=0.5)
    fitting.fit(module, datamodule=Digits())
    return fitting, module


def test_a_fitted_module_comes_with_all_that_its_trainer_has_made(fitted):
    fitting, module = fitted
    training = of_lightning.training_of(module)
    assert training.optimizer is fitting.optimizers[0]
    assert training.optimizer.state
    assert training.scheduler is fitting.lr_scheduler_configs[0].scheduler
    assert training.clip == 0.5
    assert training.schedule_every == 4  # after each epoch of as many updates
    assert training.data.batch_size == 24
    assert isinstance(training.data.sampler, RandomSampler)
    assert isinstance(training.validation.sampler, SequentialSampler)


def test_its_loss_is_that_of_the_training_step_and_nothing_is_logged(fitted):
    _, module = fitted
    held = dict(vars(module))
    training = of_lightning.training_of(module)
    batch = next(iter(training.data))
    loss = training.loss(module, batch)
    assert torch.equal(loss, functional.cross_entropy(module.net(batch[0]), batch[1]))
    assert vars(module).keys() == held.keys()
    with pytest.raises(Exception, match=r"self\.log"):
        module.training_step(batch)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_its_precision_is_that_of_its_trainer(tmp_path, precision):
    torch.manual_seed(0)
    module = Logging()
    trainer(tmp_path, precision=precision).fit(module, datamodule=Digits())
    training = of_lightning.training_of(module)
    batch = next(iter(training.data))
    loss = training.loss(module, batch)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        outputs = module.net(batch[0].to(next(module.parameters()).dtype))
        assert torch.equal(loss, functional.cross_entropy(outputs, batch[1]))
    Objective(training, draw(training.data, seed=0, enough=lambda *_: True).batches, dtype=torch.float64)


def test_a_loss_of_the_users_own_that_calls_a_logging_step_can_be_diagnosed_after_a_fit(fitted):
    _, module = fitted
    batches = [tuple(part[:48] for part in module.trainer.datamodule.data[:])]
    training = unstuck.Training(
        module, lambda model, batch: model.training_step(batch)["loss"], batches, module.trainer.optimizers[0]
    )
    expected = float(functional.cross_entropy(module.net(batches[0][0]), batches[0][1]))
    found = unstuck.diagnose(training, budget=1.0, trials=False)
    assert found.point.loss == pytest.approx(expected, rel=1e-5)
    assert "log" not in vars(module)


def test_a_module_that_nobody_fitted_gives_its_own_optimizer_and_takes_the_data_it_is_given():
    module = Logging()
    training = of_lightning.training_of(module, Digits())
    assert isinstance(training.optimizer, torch.optim.Adam)
    assert isinstance(training.scheduler, torch.optim.lr_scheduler.StepLR)
    assert training.data.batch_size == 8
    assert training.schedule_every == 12
    assert training.clip is None
    assert training.validation is not None


@pytest.mark.parametrize(
    ("module", "data", "match"),
    [
        (Logging(own_steps=True), Digits(), "makes its steps by itself"),
        (Logging(several=True), Digits(), "2 optimizers"),
        (Logging(), None, "`data` is not known"),
    ],
    ids=["manual", "several", "no data"],
)
def test_what_cannot_be_taken_apart_is_said_in_a_line(module, data, match):
    with pytest.raises(TrainingError, match=match):
        of_lightning.training_of(module, data)


class Words(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, index):
        words = torch.randint(2, 20, (6,), generator=torch.Generator().manual_seed(index))
        return {"input_ids": words, "labels": words[0] % 2}


def bert(tmp_path, **more):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )
    arguments = TrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        max_grad_norm=0.7,
        label_smoothing_factor=0.1,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        **more,
    )
    return Trainer(
        BertForSequenceClassification(config), arguments, train_dataset=Words(), eval_dataset=Words()
    )


def test_a_trainer_of_transformers_comes_with_its_own_loss_and_what_one_step_sees(tmp_path):
    made = bert(tmp_path, max_steps=3, lr_scheduler_type="constant")
    made.train()
    made.model.eval()
    training = of_transformers.training_of(made)
    assert training.model.training
    assert training.data.batch_size == 16
    assert isinstance(training.data.sampler, RandomSampler)
    assert training.clip == 0.7
    assert training.schedule_every == 1
    assert isinstance(training.optimizer, torch.optim.AdamW)
    assert training.optimizer.state
    assert type(training.scheduler).__module__.startswith("torch.optim")
    batch = next(iter(training.data))
    first, second = (float(training.loss(training.model, batch)) for _ in range(2))
    logits = training.model(batch["input_ids"]).logits
    smoothed = functional.cross_entropy(logits, batch["labels"], label_smoothing=0.1)
    assert first == second == pytest.approx(float(smoothed), rel=1e-5)


def test_before_it_trains_an_optimizer_is_made_and_not_kept(tmp_path):
    made = bert(tmp_path, num_train_epochs=3, warmup_steps=4)
    training = of_transformers.training_of(made)
    assert len(training.optimizer.param_groups) == 2
    assert training.scheduler.get_last_lr() == [0.0, 0.0]
    assert made.optimizer is None
    assert made.lr_scheduler is None


def test_a_target_may_give_a_framework_s_own(tmp_path, fitted):
    fitting, module = fitted
    made = bert(tmp_path, max_steps=1)
    assert training_in(fitting).model is module
    assert training_in(module).model is module
    assert training_in(made).model is made.model
    assert training_in(nn.Linear(2, 2)) is None
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch, lightning\nfrom torch import nn\n"
        "class Mine(lightning.LightningModule):\n"
        "    def __init__(self):\n        super().__init__()\n        self.net = nn.Linear(2, 1)\n"
        "    def training_step(self, batch, index):\n        return self.net(batch).square().mean()\n"
        "    def configure_optimizers(self):\n        return torch.optim.SGD(self.parameters(), lr=0.1)\n"
        "    def train_dataloader(self):\n        return torch.utils.data.DataLoader(torch.ones(4, 2))\n"
        "def setup():\n    return Mine()\n"
    )
    training = load_training(f"{file}:setup")
    assert isinstance(training.optimizer, torch.optim.SGD)
    assert float(training.loss(training.model, torch.ones(4, 2))) > 0.0
