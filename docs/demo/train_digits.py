"""Trains the demo's model: a 14-layer CIFAR ResNet on scikit-learn's 8 x 8 digits.

    python docs/demo/train_digits.py     # writes digits_resnet.safetensors beside this file

The file that is shipped was written by this script; the demo does not run it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from nnslim.data import Loader, Sampling, load_data
from nnslim.measure.accuracy import network_accuracy
from nnslim.models.cifar import CifarResNet
from nnslim.train import TrainConfig, fit

EPOCHS = 30


def main() -> None:
    torch.manual_seed(0)
    data = load_data("digits")
    model = CifarResNet(14, in_channels=data.preprocess.channels)
    train = Loader(
        data.train,
        data.preprocess,
        64,
        sampling=Sampling(shuffle=True, drop_last=True),
        augment=data.augment,
    )
    fit(model, train, TrainConfig(epochs=EPOCHS, lr=0.1), device=torch.device("cpu"))
    accuracy = network_accuracy(model.eval(), Loader(data.test, data.preprocess, 500))
    target = Path(__file__).with_name("digits_resnet.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, target)
    print(f"{accuracy.top1_pct:.2f}% of {accuracy.n} test images; wrote {target.name}")


if __name__ == "__main__":
    main()
