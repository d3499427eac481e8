"""DDPG on a one-dimensional "push the cart to zero" task."""
import copy
import random
from collections import deque

import torch
import torch.nn as nn
import torch.nn.functional as F

GAMMA, TAU = 0.95, 0.02


class Cart:
    def reset(self):
        self.x, self.v, self.t = random.uniform(-1, 1), 0.0, 0
        return [self.x, self.v]

    def step(self, force):
        self.v = 0.9 * self.v + 0.1 * force
        self.x = max(-2.0, min(2.0, self.x + self.v))
        self.t += 1
        reward = -self.x ** 2 - 0.01 * force ** 2
        return [self.x, self.v], reward, self.t >= 30


class Actor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 1), nn.Tanh())

    def forward(self, s):
        return self.net(s)


class Critic(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, s, a):
        return self.net(torch.cat([s, a], 1))


class Agent:
    def __init__(self):
        self.actor, self.critic = Actor(), Critic()
        self.actor_t, self.critic_t = copy.deepcopy(self.actor), copy.deepcopy(self.critic)
        self.opt_a = torch.optim.Adam(self.actor.parameters(), lr=1e-3)
        self.opt_c = torch.optim.Adam(self.critic.parameters(), lr=3e-3)

    @torch.no_grad()
    def act(self, s, noise):
        a = self.actor(torch.tensor([s]))[0, 0].item()
        return max(-1.0, min(1.0, a + random.gauss(0, noise)))

    def learn(self, batch):
        s, a, r, s2, done = batch
        with torch.no_grad():
            target = r + GAMMA * (1 - done) * self.critic_t(s2, self.actor_t(s2))
        critic_loss = F.mse_loss(self.critic(s, a), target)
        self.opt_c.zero_grad()
        critic_loss.backward()
        self.opt_c.step()

        actor_loss = -self.critic(s, self.actor(s)).mean()
        self.opt_a.zero_grad()
        actor_loss.backward()
        self.opt_a.step()

        for net, tgt in ((self.actor, self.actor_t), (self.critic, self.critic_t)):
            for p, q in zip(net.parameters(), tgt.parameters()):
                q.data.lerp_(p.data, TAU)
        return critic_loss.item()


def sample(buffer, n):
    rows = random.sample(list(buffer), n)
    cols = [torch.tensor(c, dtype=torch.float32) for c in zip(*rows)]
    return [c if c.dim() == 2 else c[:, None] for c in cols]


def main():
    random.seed(12)
    torch.manual_seed(12)
    torch.set_num_threads(1)
    env, agent, buffer = Cart(), Agent(), deque(maxlen=2000)
    loss = float("nan")
    for episode in range(12):
        s, done, ret = env.reset(), False, 0.0
        while not done:
            a = agent.act(s, noise=0.3)
            s2, r, done = env.step(a)
            buffer.append((s, a, r, s2, float(done)))
            s, ret = s2, ret + r
            if len(buffer) >= 64:
                loss = agent.learn(sample(buffer, 32))
        if episode % 3 == 2:
            print(f"episode {episode + 1} return {ret:.2f} critic loss {loss:.4f}")
    print("final loss", loss)


if __name__ == "__main__":
    main()
