"""Models as people write them, small: none knows of chop, and none was written for it.

After the PyTorch tutorials and examples, torchvision, and the repositories that most people copy.
"""

# ruff: noqa
# mypy: ignore-errors
# fmt: off

import math
from collections import OrderedDict
import operator

import torch
import torch.nn as nn
import torch.nn.functional as F


class Net(nn.Module):
    """The PyTorch MNIST example, small."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, 1)
        self.conv2 = nn.Conv2d(4, 8, 3, 1)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(32, 16)
        self.fc2 = nn.Linear(16, 10)

    def forward(self, x):
        x = self.conv1(x)
        x = F.relu(x)
        x = self.conv2(x)
        x = F.relu(x, inplace=True)
        x = F.max_pool2d(x, 2)
        x = self.dropout1(x)
        x = torch.flatten(x, 1)
        x = self.fc1(x)
        x = F.relu(x)
        x = self.dropout2(x)
        x = self.fc2(x)
        return x


class NetLogSoftmax(Net):
    def forward(self, x):
        return F.log_softmax(super().forward(x), dim=1)


class CifarTutorial(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 8, 3)
        self.fc1 = nn.Linear(8 * 2 * 2, 12)
        self.fc2 = nn.Linear(12, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(-1, self.num_flat_features(x))
        x = F.relu(self.fc1(x))
        return self.fc2(x)

    def num_flat_features(self, x):
        size = x.size()[1:]
        num_features = 1
        for s in size:
            num_features *= s
        return num_features


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inplanes, planes, stride=1, downsample=None):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x):
        residual = x
        out = self.conv1(x)
        out = self.bn1(out)
        out = self.relu(out)
        out = self.conv2(out)
        out = self.bn2(out)
        if self.downsample is not None:
            residual = self.downsample(x)
        out += residual
        out = self.relu(out)
        return out


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.inplanes = 4
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = self._make_layer(4, 1)
        self.layer2 = self._make_layer(8, 2, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(8, 10)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                n = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
                m.weight.data.normal_(0, math.sqrt(2.0 / n))

    def _make_layer(self, planes, blocks, stride=1):
        downsample = None
        if stride != 1 or self.inplanes != planes:
            downsample = nn.Sequential(nn.Conv2d(self.inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))
        layers = [BasicBlock(self.inplanes, planes, stride, downsample)]
        self.inplanes = planes
        for _ in range(1, blocks):
            layers.append(BasicBlock(planes, planes))
        return nn.Sequential(*layers)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer1(x)
        x = self.layer2(x)
        x = self.avgpool(x)
        x = x.view(x.size(0), -1)
        return self.fc(x)


class LambdaLayer(nn.Module):
    def __init__(self, lambd):
        super().__init__()
        self.lambd = lambd

    def forward(self, x):
        return self.lambd(x)


class ResNetCifarA(nn.Module):
    """akamaster's option A: the shortcut is strided slicing and channel padding."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.conv1 = nn.Conv2d(4, 8, 3, stride=2, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        planes = 8
        self.shortcut = LambdaLayer(
            lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, planes // 4, planes // 4), "constant", 0)
        )
        self.linear = nn.Linear(8, 10)

    def forward(self, x):
        x = F.relu(self.conv(x))
        out = F.relu(self.conv1(x))
        out = self.conv2(out)
        out += self.shortcut(x)
        out = F.relu(out)
        out = F.avg_pool2d(out, out.size()[3])
        out = out.view(out.size(0), -1)
        return self.linear(out)


def _make_divisible(v, divisor, min_value=None):
    if min_value is None:
        min_value = divisor
    new_v = max(min_value, int(v + divisor / 2) // divisor * divisor)
    if new_v < 0.9 * v:
        new_v += divisor
    return new_v


class ConvBNReLU(nn.Sequential):
    def __init__(self, i, o, k=3, stride=1, groups=1):
        super().__init__(
            nn.Conv2d(i, o, k, stride, (k - 1) // 2, groups=groups, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU6(inplace=True),
        )


class InvertedResidual(nn.Module):
    def __init__(self, inp, oup, stride, expand_ratio):
        super().__init__()
        hidden = int(round(inp * expand_ratio))
        self.use_res_connect = stride == 1 and inp == oup
        layers = []
        if expand_ratio != 1:
            layers.append(ConvBNReLU(inp, hidden, 1))
        layers.extend([ConvBNReLU(hidden, hidden, stride=stride, groups=hidden), nn.Conv2d(hidden, oup, 1, 1, 0, bias=False), nn.BatchNorm2d(oup)])
        self.conv = nn.Sequential(*layers)

    def forward(self, x):
        if self.use_res_connect:
            return x + self.conv(x)
        else:
            return self.conv(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        features = [ConvBNReLU(3, 4, stride=2), InvertedResidual(4, 4, 1, 2), InvertedResidual(4, 8, 2, 2)]
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(8, 5))

    def forward(self, x):
        x = self.features(x)
        x = x.mean([2, 3])
        return self.classifier(x)


class SELayer(nn.Module):
    def __init__(self, channel, reduction=4):
        super().__init__()
        self.avg_pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(
            nn.Linear(channel, channel // reduction, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(channel // reduction, channel, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x):
        b, c, _, _ = x.size()
        y = self.avg_pool(x).view(b, c)
        y = self.fc(y).view(b, c, 1, 1)
        return x * y.expand_as(x)


class SENet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.se = SELayer(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        out = self.se(F.relu(self.conv(x)))
        out = F.adaptive_avg_pool2d(out, (1, 1)).squeeze()
        return self.head(out)


class SENetOk(SENet):
    def forward(self, x):
        out = self.se(F.relu(self.conv(x)))
        out = F.adaptive_avg_pool2d(out, (1, 1)).squeeze(-1).squeeze(-1)
        return self.head(out)


def channel_shuffle(x, groups):
    batchsize, num_channels, height, width = x.data.size()
    channels_per_group = num_channels // groups
    x = x.view(batchsize, groups, channels_per_group, height, width)
    x = torch.transpose(x, 1, 2).contiguous()
    x = x.view(batchsize, -1, height, width)
    return x


class ShuffleUnit(nn.Module):
    def __init__(self):
        super().__init__()
        self.pre = nn.Conv2d(3, 8, 1)
        self.branch2 = nn.Sequential(
            nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
            nn.Conv2d(4, 4, 3, 1, 1, groups=4, bias=False), nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(inplace=True),
        )
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = self.pre(x)
        x1, x2 = x.chunk(2, dim=1)
        out = torch.cat((x1, self.branch2(x2)), dim=1)
        out = channel_shuffle(out, 2)
        out = out.mean([2, 3])
        return self.fc(out)


class Fire(nn.Module):
    def __init__(self, inplanes, squeeze, e1, e3):
        super().__init__()
        self.squeeze = nn.Conv2d(inplanes, squeeze, kernel_size=1)
        self.squeeze_activation = nn.ReLU(inplace=True)
        self.expand1x1 = nn.Conv2d(squeeze, e1, kernel_size=1)
        self.expand1x1_activation = nn.ReLU(inplace=True)
        self.expand3x3 = nn.Conv2d(squeeze, e3, kernel_size=3, padding=1)
        self.expand3x3_activation = nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.squeeze_activation(self.squeeze(x))
        return torch.cat([self.expand1x1_activation(self.expand1x1(x)), self.expand3x3_activation(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True), Fire(4, 2, 4, 4),
        )
        self.classifier = nn.Sequential(nn.Dropout(p=0.5), nn.Conv2d(8, 5, 1), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d((1, 1)))

    def forward(self, x):
        x = self.features(x)
        x = self.classifier(x)
        return torch.flatten(x, 1)


class DoubleConv(nn.Module):
    def __init__(self, i, o, mid=None):
        super().__init__()
        if not mid:
            mid = o
        self.double_conv = nn.Sequential(
            nn.Conv2d(i, mid, 3, padding=1, bias=False), nn.BatchNorm2d(mid), nn.ReLU(inplace=True),
            nn.Conv2d(mid, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    """milesial's Pytorch-UNet."""

    def __init__(self, i, o, bilinear=False):
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True) if bilinear else nn.ConvTranspose2d(i, i // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(i if not bilinear else i + i // 2, o)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        # input is CHW
        diffY = x2.size()[2] - x1.size()[2]
        diffX = x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [diffX // 2, diffX - diffX // 2, diffY // 2, diffY - diffY // 2])
        x = torch.cat([x2, x1], dim=1)
        return self.conv(x)


class UNet(nn.Module):
    def __init__(self, bilinear=False):
        super().__init__()
        self.inc = DoubleConv(1, 4)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(4, 8))
        self.up1 = Up(8, 4, bilinear)
        self.outc = nn.Conv2d(4, 2, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x = self.up1(x2, x1)
        return self.outc(x)


class Chomp1d(nn.Module):
    def __init__(self, chomp_size):
        super().__init__()
        self.chomp_size = chomp_size

    def forward(self, x):
        return x[:, :, : -self.chomp_size].contiguous()


class TemporalBlock(nn.Module):
    """locuslab TCN."""

    def __init__(self, i, o, k, dilation):
        super().__init__()
        pad = (k - 1) * dilation
        self.conv1 = nn.Conv1d(i, o, k, padding=pad, dilation=dilation)
        self.chomp1 = Chomp1d(pad)
        self.relu1 = nn.ReLU()
        self.net = nn.Sequential(self.conv1, self.chomp1, self.relu1, nn.Dropout(0.2))
        self.downsample = nn.Conv1d(i, o, 1) if i != o else None
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.net(x)
        res = x if self.downsample is None else self.downsample(x)
        return self.relu(out + res)


class TCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.tcn = nn.Sequential(*[TemporalBlock(2 if i == 0 else 4, 4, 3, 2**i) for i in range(2)])
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        y1 = self.tcn(x)
        return self.linear(y1[:, :, -1])


class WeightNormTCN(TCN):
    def __init__(self):
        super().__init__()
        for b in self.tcn:
            b.conv1 = b.net[0] = torch.nn.utils.weight_norm(b.conv1)


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
    "split_attention": (SplitAttention, (2, 4, 4)),
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


def mnist():
    return Net()
