"""REINFORCE with a running baseline on a small cart-pole simulator."""

import argparse
import math
from collections import deque

import numpy as np
import torch
import torch.nn as nn
from torch.distributions import Categorical


class CartPole:
    """Cart-pole of Barto, Sutton and Anderson (1983), Euler integration."""

    gravity, mass_cart, mass_pole, length, force, dt = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02

    def __init__(self, rng, limit=200):
        self.rng, self.limit = rng, limit

    def reset(self):
        self.state = self.rng.uniform(-0.05, 0.05, size=4)
        self.steps = 0
        return self.state.astype(np.float32)

    def step(self, action):
        x, v, theta, omega = self.state
        force = self.force if action == 1 else -self.force
        cos, sin = math.cos(theta), math.sin(theta)
        total = self.mass_cart + self.mass_pole
        pole = self.mass_pole * self.length
        temp = (force + pole * omega**2 * sin) / total
        alpha = (self.gravity * sin - cos * temp) / (self.length * (4.0 / 3.0 - self.mass_pole * cos**2 / total))
        a = temp - pole * alpha * cos / total
        self.state = self.state + self.dt * np.array([v, a, omega, alpha])
        self.steps += 1
        x, _, theta, _ = self.state
        fell = abs(x) > 2.4 or abs(theta) > 12 * math.pi / 180
        return self.state.astype(np.float32), 1.0, fell or self.steps >= self.limit


def play(env, policy):
    log_probs, rewards = [], []
    obs, done = env.reset(), False
    while not done:
        dist = Categorical(logits=policy(torch.from_numpy(obs)), validate_args=False)
        action = dist.sample()
        obs, reward, done = env.step(action.item())
        log_probs.append(dist.log_prob(action))
        rewards.append(reward)
    return torch.stack(log_probs), rewards


def discounted(rewards, gamma):
    returns, g = [], 0.0
    for r in reversed(rewards):
        g = r + gamma * g
        returns.append(g)
    return torch.tensor(returns[::-1])


class Baseline:
    """Exponential average of the returns and of their spread."""

    def __init__(self, momentum=0.9):
        self.momentum, self.mean, self.std = momentum, None, None

    def advantage(self, returns):
        mean, std = returns.mean().item(), returns.std(unbiased=False).item()
        if self.mean is None:
            self.mean, self.std = mean, std
        advantage = (returns - self.mean) / (self.std + 1e-6)
        self.mean += (1 - self.momentum) * (mean - self.mean)
        self.std += (1 - self.momentum) * (std - self.std)
        return advantage


@torch.no_grad()
def evaluate(env, policy, episodes=5):
    total = 0.0
    for _ in range(episodes):
        obs, done = env.reset(), False
        while not done:
            obs, reward, done = env.step(policy(torch.from_numpy(obs)).argmax().item())
            total += reward
    return total / episodes


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gamma", type=float, default=0.99)
    parser.add_argument("--lr", type=float, default=1e-2)
    parser.add_argument("--goal", type=float, default=120.0, help="mean return of the last 20 episodes")
    parser.add_argument("--max-episodes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=543)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    env = CartPole(np.random.default_rng(args.seed))
    policy = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(policy.parameters(), lr=args.lr)

    baseline = Baseline()
    recent, episode = deque([0.0], maxlen=20), 0
    while sum(recent) / len(recent) < args.goal and episode < args.max_episodes:
        log_probs, rewards = play(env, policy)
        loss = -(log_probs * baseline.advantage(discounted(rewards, args.gamma))).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        episode += 1
        recent.append(sum(rewards))
        if episode % 20 == 0:
            print(f"episode {episode}  mean return {sum(recent) / len(recent):.1f}")

    print(f"stopped after {episode} episodes")
    print(f"evaluation return {evaluate(env, policy):.1f}")


if __name__ == "__main__":
    main()
