"""Puts functions of its own into torch."""

import torch


def relu(values, inplace=False):
    return values


torch.nn.functional.relu = relu
torch.Tensor.relu = relu
