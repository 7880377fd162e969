"""The networks in PyTorch, as fast as it goes on a CPU, or as a user gets it by default."""

import torch
from torch import nn
from torch.nn import functional as F

LAST = torch.channels_last


class Module(nn.Module):
    """Convolutions with ReLU and max pooling, hidden dense layers, dropout and one dense layer.

    `fast` runs them as two-dimensional convolutions of height 1, channels last: oneDNN's best path.
    Without it they are plain Conv1d on [n, c, l]. Both have the same parameters up to an axis of length 1.
    """

    def __init__(self, net, classes, norm, fast):
        super().__init__()
        self.net, self.fast = net, fast
        conv_of, norm_of = (nn.Conv2d, nn.BatchNorm2d) if fast else (nn.Conv1d, nn.BatchNorm1d)
        channels = [1] + [conv.channels for conv in net.convs]
        self.convs = nn.ModuleList()
        for c_in, conv in zip(channels, net.convs):
            padding = conv.kernel // 2 if net.same else 0
            kernel, padding = ((1, conv.kernel), (0, padding)) if fast else (conv.kernel, padding)
            self.convs.append(conv_of(c_in, conv.channels, kernel, padding=padding))
        self.norms = nn.ModuleList(norm_of(c) for c in channels[1:]) if norm else None
        self.dropout = nn.Dropout(net.dropout)
        length, last = net.features()
        widths = [length * last, *net.dense, classes]
        self.dense = nn.ModuleList(nn.Linear(c_in, c_out) for c_in, c_out in zip(widths, widths[1:]))
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        for dense in self.dense:
            nn.init.xavier_uniform_(dense.weight)
            nn.init.zeros_(dense.bias)
        if fast:
            self.to(memory_format=LAST)

    def pool(self, h, size):
        """Max pooling along the clip."""
        if self.fast:
            return F.max_pool2d(h, (1, size), ceil_mode=self.net.ceil)
        return F.max_pool1d(h, size, ceil_mode=self.net.ceil)

    def forward(self, x):
        """Logits [n, classes] of waveforms [n, 16000]."""
        h = x[:, None, None, :] if self.fast else x[:, None, :]
        for i, conv in enumerate(self.convs):
            h = conv(h)
            if self.fast and i == 0:
                h = h.contiguous(memory_format=LAST)  # one input channel leaves the layout open
            if self.norms is not None:
                h = self.norms[i](h)
            h = F.relu(h, inplace=True)
            if self.net.convs[i].pool > 1:
                h = self.pool(h, self.net.convs[i].pool)
        h = h.flatten(1)
        for dense in self.dense[:-1]:
            h = F.relu(dense(h), inplace=True)
        return self.dense[-1](self.dropout(h))


class Peer:
    """A network with its optimiser, with the interface that the frameworks share."""

    def __init__(self, net, classes, norm, seed, threads, fast=True):
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        self.module = Module(net, classes, norm, fast)
        self.adam = torch.optim.Adam(self.module.parameters(), lr=1e-3, eps=1e-8, fused=fast)
        self.version = torch.__version__

    def parameters(self):
        return sum(p.numel() for p in self.module.parameters())

    def step(self, x, labels):
        """One forward, backward and Adam step on arrays; returns the mean loss."""
        self.module.train()
        self.adam.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self.module(torch.from_numpy(x)), torch.from_numpy(labels))
        loss.backward()
        self.adam.step()
        return loss.item()

    def predict(self, x, batch=60):
        """The class number of each clip."""
        self.module.eval()
        with torch.inference_mode():
            parts = [self.module(torch.from_numpy(x[i : i + batch])).argmax(1) for i in range(0, len(x), batch)]
        return torch.cat(parts).numpy()


class Predictor:
    """A network without what only training needs."""

    def __init__(self, net, classes, seed, threads, fast):
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        self.module = Module(net, classes, norm=False, fast=fast).eval()
        self.version = torch.__version__

    def logits(self, x):
        """Logits [n, classes] of clips [n, 16000]."""
        with torch.inference_mode():
            return self.module(torch.from_numpy(x)).numpy()
