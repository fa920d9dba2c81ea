"""A network of your own for `devsort trajectory examples/spec/spec.py`.

The file names what `devsort.llc_trajectory` takes, and signals and events for what follows. Here
the checkpoints are made on the way; yours lie in a folder.
"""

import torch
from torch import nn
from torch.nn import functional as F

import devsort

torch.manual_seed(0)
x = torch.randn(500, 8)
y = (x[:, :4].sum(1) > 0).long()
network = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(network.parameters(), 1e-2)
checkpoints, accuracy = {}, []
for step in range(1, 257):
    loss_now = F.cross_entropy(network(x), y)
    optimizer.zero_grad()
    loss_now.backward()
    optimizer.step()
    if step in (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256):
        checkpoints[step] = {name: t.clone() for name, t in network.state_dict().items()}
        accuracy.append((network(x).argmax(1) == y).float().mean().item())

loss, _ = devsort.module_loss(
    network, lambda model, batch: F.cross_entropy(model(batch[0]), batch[1], reduction="none")
)
data = (x, y)
config = devsort.SamplerConfig(n_beta=100, num_draws=60, num_burnin_steps=40)
restrictions = {"first layer": ["0.*"]}
signals = {"accuracy": (list(checkpoints), accuracy)}
events = {"half of training": 128}
