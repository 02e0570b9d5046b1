"""Convolutional networks, those of torchvision included."""

import torch
import torch.nn.functional as F
import torchvision
from torch import nn


class TextCnn(nn.Module):
    """Kim's sentence classifier on embedded words, [batch, length, width]."""

    def __init__(self, width=300, filters=100, windows=(3, 4, 5), classes=2):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(width, filters, k) for k in windows)
        self.fc = nn.Linear(filters * len(windows), classes)

    def forward(self, x):
        maps = [F.relu(conv(x.mT)) for conv in self.convs]
        return self.fc(torch.cat([m.amax(-1) for m in maps], 1))


class Conv1dStack(nn.Module):
    """Convolutions that keep the length, each with a ReLU."""

    def __init__(self, channels=256, depth=6):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(channels, channels, 3, padding=1) for _ in range(depth))

    def forward(self, x):
        for conv in self.convs:
            x = F.relu(conv(x))
        return x


def conv_bn_relu_twice(inputs, outputs):
    layers = []
    for channels in (inputs, outputs):
        layers += [nn.Conv2d(channels, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """A padded U-Net with batch norms; level l has `width` * 2^l channels."""

    def __init__(self, inputs=3, outputs=1, width=32, depth=4):
        super().__init__()
        c = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(conv_bn_relu_twice(i, o) for i, o in zip([inputs, *c], c[:depth]))
        self.bottom = conv_bn_relu_twice(c[depth - 1], c[depth])
        upwards = range(depth - 1, -1, -1)
        self.up = nn.ModuleList(nn.ConvTranspose2d(c[l + 1], c[l], 2, stride=2) for l in upwards)
        self.merge = nn.ModuleList(conv_bn_relu_twice(2 * c[l], c[l]) for l in upwards)
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, x):
        skips = []
        for level in self.down:
            skips.append(level(x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.bottom(x)
        for up, merge in zip(self.up, self.merge):
            x = merge(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)


def with_statistics(net, batch):
    """Batch norms take the statistics of a batch, so that activations keep their size through the layers.
    Their scales and shifts are drawn, for a scale of one hides mistakes."""
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.uniform_(norm.weight, 0.8, 1.2)
        nn.init.uniform_(norm.bias, -0.1, 0.1)
    net.train()
    for m in net.modules():
        if isinstance(m, nn.Dropout):
            m.eval()
    with torch.no_grad():
        net(batch)
        for norm in norms:
            norm.running_var.clamp_(min=1e-3)
    return net.eval()


def unet():
    return with_statistics(UNet(), torch.randn(4, 3, 128, 128))


def image_classifier(name):
    """A network of torchvision with drawn weights."""
    return with_statistics(torchvision.models.get_model(name, weights=None), torch.randn(4, 3, 224, 224))
