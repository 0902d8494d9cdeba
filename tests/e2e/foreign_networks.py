"""More models as people write them; the list of all, and of what is refused."""

# ruff: noqa
# mypy: ignore-errors
# fmt: off

import math
from collections import OrderedDict
import operator

import torch
import torch.nn as nn
import torch.nn.functional as F

from tests.e2e.foreign_models import *


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.layers = nn.ModuleList()
        for i in range(3):
            self.layers.append(nn.Sequential(nn.BatchNorm2d(2 + 2 * i), nn.ReLU(), nn.Conv2d(2 + 2 * i, 2, 3, padding=1)))
        self.norm = nn.BatchNorm2d(8)
        self.classifier = nn.Linear(8, 4)

    def forward(self, x):
        features = [self.stem(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        out = F.relu(self.norm(torch.cat(features, 1)), inplace=True)
        out = F.adaptive_avg_pool2d(out, (1, 1)).view(out.size(0), -1)
        return self.classifier(out)


class DQN(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(2, 4, kernel_size=4, stride=2), nn.ReLU(), nn.Conv2d(4, 4, kernel_size=3), nn.ReLU())
        self.value = nn.Sequential(nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 1))
        self.advantage = nn.Sequential(nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 4))

    def forward(self, x):
        x = self.features(x)
        x = x.view(x.size(0), -1)
        value, advantage = self.value(x), self.advantage(x)
        return value + advantage - advantage.mean(dim=1, keepdim=True)


class ESPCN(nn.Module):
    def __init__(self, upscale_factor=2):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, (5, 5), (1, 1), (2, 2))
        self.conv4 = nn.Conv2d(4, upscale_factor**2, (3, 3), (1, 1), (1, 1))
        self.pixel_shuffle = nn.PixelShuffle(upscale_factor)

    def forward(self, x):
        x = torch.tanh(self.conv1(x))
        return torch.clamp_(self.pixel_shuffle(self.conv4(x)), 0.0, 1.0)


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(True),
            nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU(True))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(8, 4, 3, stride=2, padding=1, output_padding=1), nn.ReLU(True),
            nn.ConvTranspose2d(4, 1, 3, stride=2, padding=1, output_padding=1), nn.Sigmoid())

    def forward(self, x):
        return self.decoder(self.encoder(x))


class FPN(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 4, 3, 2, 1)
        self.c2 = nn.Conv2d(4, 8, 3, 2, 1)
        self.l1 = nn.Conv2d(4, 4, 1)
        self.l2 = nn.Conv2d(8, 4, 1)

    def _upsample_add(self, x, y):
        _, _, H, W = y.size()
        return F.interpolate(x, size=(H, W), mode="nearest") + y

    def forward(self, x):
        c1 = F.relu(self.c1(x))
        c2 = F.relu(self.c2(c1))
        p2 = self.l2(c2)
        p1 = self._upsample_add(p2, self.l1(c1))
        return p1, p2


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.b1 = nn.Conv2d(3, 2, 1)
        self.b5_1 = nn.Conv2d(3, 2, 1)
        self.b5_2 = nn.Conv2d(2, 3, 5, padding=2)
        self.bp = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        b1 = self.b1(x)
        b5 = self.b5_2(self.b5_1(x))
        bp = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1)
        bp = self.bp(bp)
        outputs = [b1, b5, bp]
        return torch.cat(outputs, 1)


class CRNN(nn.Module):
    """Speech commands: mel input, then time major."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, (3, 3), padding=(1, 1))
        self.fc = nn.Linear(16, 6)

    def forward(self, x):
        if x.dim() == 3:
            x = x.unsqueeze(1)
        x = F.hardtanh(self.conv(x), 0, 6)
        b, c, h, w = x.size()
        x = x.permute(0, 3, 1, 2).reshape(b, w, c * h)
        x = self.fc(x)
        return x.max(dim=1)[0]


class CRNNAmax(CRNN):
    def forward(self, x):
        x = x.unsqueeze(1)
        x = F.hardswish(self.conv(x))
        b, c, h, w = x.shape
        x = x.permute(0, 3, 1, 2).reshape(b, w, c * h)
        return torch.max(self.fc(x), 1).values


class MlpWithDict(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(OrderedDict([("fc1", nn.Linear(8, 16)), ("act", nn.ELU()), ("drop", nn.Dropout(0.1)), ("fc2", nn.Linear(16, 4))]))
        self.softmax = nn.Softmax(dim=-1)

    def forward(self, x):
        return self.softmax(self.block(x))


class Leaky(nn.Module):
    """darknet"""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({"a": nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.LeakyReLU(0.1)), "b": nn.Conv2d(4, 4, 1)})

    def forward(self, x):
        x = self.layers["a"](x)
        route = x
        x = self.layers["b"](x)
        x = operator.iadd(x, route)
        x = F.pad(x, (-1, 0, 0, 2), value=0.5)
        x = nn.functional.max_pool2d(x, (2, 1), (2, 1))
        return torch.mean(x, dim=(-2, -1))


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 12), nn.Hardtanh())
        self.mu = nn.Linear(12, 2)
        self.logvar = nn.Linear(12, 2)

    def forward(self, x):
        h = self.body(x)
        return {"mu": self.mu(h), "logvar": self.logvar(h)}


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        a = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(8), dim=-1)
        return a @ v


class NoBatch(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d((3, 3))
        self.conv = nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")

    def forward(self, x):
        return self.pool(self.conv(x))


class Unequal(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.pool = nn.AdaptiveAvgPool2d((4, 4))
        self.mp = nn.AdaptiveMaxPool2d(3)

    def forward(self, x):
        x = self.conv(x)
        return self.pool(x).flatten(1), self.mp(x).flatten(1)


class Maxout(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 12)

    def forward(self, x):
        x = self.fc(x)
        return x.view(*x.shape[:1], x.shape[1] // 3, 3).max(-1)[0]


class Indices(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, x):
        x, i = self.pool(x)
        return x


class SplitAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(2, 6, 3, padding="same")

    def forward(self, x):
        a, b, c = torch.split(self.c(x), [2, 2, 2], 1)
        return torch.stack([a * torch.sigmoid(b), torch.minimum(a, c)], dim=1).sum(1) + (1 - x) ** 2



class WithLstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=True)
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.fc(out[:, -1])


class PoolIndices(nn.Module):
    """SegNet."""

    def __init__(self):
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)

    def forward(self, x):
        x, i = self.pool(x)
        return self.unpool(x, i)


class Detector(nn.Module):
    """A condition on the data."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)

    def forward(self, x):
        x = self.conv(x)
        if x.max() > 1:
            x = x / 2
        return x


# The model, and the shape of a sample.
SUPPORTED = {
    "mnist_example": (Net, (1, 8, 8)),
    "cifar_tutorial": (CifarTutorial, (3, 14, 14)),
    "resnet": (ResNet, (3, 8, 8)),
    "resnet_cifar_a": (ResNetCifarA, (3, 8, 8)),
    "mobilenet_v2": (MobileNetV2, (3, 8, 8)),
    "senet": (SENet, (3, 5, 5)),
    "shufflenet": (ShuffleUnit, (3, 4, 4)),
    "squeezenet": (SqueezeNet, (3, 16, 16)),
    "unet": (UNet, (1, 6, 7)),
    "tcn": (WeightNormTCN, (2, 12)),
    "densenet": (DenseNet, (1, 6, 6)),
    "dueling_dqn": (DQN, (2, 12, 12)),
    "espcn": (ESPCN, (1, 6, 6)),
    "autoencoder": (Autoencoder, (1, 8, 8)),
    "fpn": (FPN, (1, 8, 8)),
    "inception": (Inception, (3, 5, 5)),
    "crnn": (CRNN, (4, 6)),
    "crnn_values": (CRNNAmax, (4, 6)),
    "darknet": (Leaky, (3, 6, 6)),
    "two_heads": (TwoHeads, (6,)),
    "maxout": (Maxout, (6,)),
    "pool_with_indices": (Indices, (1, 4, 4)),
    "unequal_pools": (Unequal, (1, 9, 9)),
    "split_attention": (SplitAttention, (2, 4, 4)),
}
# In scaled integers, with a scale for each output channel of the weights: ReLU6, and branches joined.
SCALED = {
    "mobilenet_v2_scaled": (MobileNetV2, (3, 8, 8)),
    "densenet_scaled": (DenseNet, (1, 6, 6)),
}
# What has no hardware: the shape, the node and its line, and what to use instead.
REFUSED = {
    "log_softmax": (NetLogSoftmax, (1, 8, 8), "F.log_softmax", "leave it to the host"),
    "softmax": (MlpWithDict, (8,), "self.softmax(self", "leave it to the host"),
    "matmul": (Attention, (4, 8), "q @ k", "a constant matrix is a linear layer"),
    "bilinear": (lambda: UNet(True), (1, 6, 6), "self.up(x1)", "use mode='nearest'"),
    "reflect": (NoBatch, (1, 6, 6), "self.pool(self.conv", "use 'zeros', or a pad before it"),
    "lstm": (WithLstm, (5, 4), "self.lstm(x)", "unroll it"),
    "unpool": (PoolIndices, (1, 4, 4), "x, i = self.pool", "without indices"),
    "condition": (Detector, (1, 4, 4), "if x.max()", "use torch.clamp, relu or other tensor"),
}
