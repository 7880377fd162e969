"""The custom networks in PyTorch, as fast as it goes on a CPU, or as a user gets it by default."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from peer import widths

LAST = torch.channels_last


class Custom(nn.Module):
    """Convolutions of kernel 5 with ReLU, max pooling of 3 between them, dropout and one dense layer.

    `fast` runs them as two-dimensional convolutions of height 1, channels last: oneDNN's best path.
    Without it they are plain Conv1d on [n, c, l]. Both have the same parameters up to an axis of length 1.
    """

    def __init__(self, name, classes, variant, dropout, fast):
        super().__init__()
        self.fast = fast
        channels = [1] + widths(name)
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if fast else (nn.Conv1d, nn.BatchNorm1d)
        kernel, padding = ((1, 5), (0, 2)) if fast else (5, 2)
        self.convs = nn.ModuleList(
            conv(c_in, c_out, kernel, padding=padding) for c_in, c_out in zip(channels, channels[1:])
        )
        self.norms = nn.ModuleList(norm(c) for c in channels[1:]) if "bn" in variant else None
        self.dropout = nn.Dropout(dropout if "do" in variant else 0.0)
        length = 16000
        for _ in channels[2:]:
            length //= 3
        self.fc = nn.Linear(channels[-1] * length, classes)
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        nn.init.xavier_uniform_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)
        if fast:
            self.to(memory_format=LAST)

    def forward(self, x):
        """Logits [n, classes] of waveforms [n, 16000]."""
        h = x[:, None, None, :] if self.fast else x[:, None, :]
        pool = (lambda h: F.max_pool2d(h, (1, 3))) if self.fast else (lambda h: F.max_pool1d(h, 3))
        for i, conv in enumerate(self.convs):
            h = conv(h)
            if self.fast and i == 0:
                h = h.contiguous(memory_format=LAST)  # one input channel leaves the layout open
            if self.norms is not None:
                h = self.norms[i](h)
            h = F.relu(h, inplace=True)
            if i + 1 < len(self.convs):
                h = pool(h)
        return self.fc(self.dropout(h.flatten(1)))


class Peer:
    """A network with its optimiser behind the interface that both frameworks share."""

    def __init__(self, name, classes, variant, dropout, seed, threads, fast=True):
        torch.set_num_threads(threads)
        torch.manual_seed(seed)
        self.net = Custom(name, classes, variant, dropout, fast)
        self.adam = torch.optim.Adam(self.net.parameters(), lr=1e-3, eps=1e-8, fused=fast)
        self.version = torch.__version__

    def parameters(self):
        return sum(p.numel() for p in self.net.parameters())

    def step(self, x, labels):
        """One forward, backward and Adam step on arrays; returns the mean loss."""
        self.net.train()
        self.adam.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self.net(torch.from_numpy(x)), torch.from_numpy(labels))
        loss.backward()
        self.adam.step()
        return loss.item()

    def predict(self, x, batch=60):
        """The class number of each clip."""
        self.net.eval()
        with torch.inference_mode():
            parts = [self.net(torch.from_numpy(x[i : i + batch])).argmax(1).numpy() for i in range(0, len(x), batch)]
        return np.concatenate(parts)

