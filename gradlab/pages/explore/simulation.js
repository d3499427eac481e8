/** The simulation: plain SGD on a linear regression with two weights, in the order of PyTorch's arithmetic. */

/** @typedef {import("./problem.js").Problem} Problem */

/**
 * What to train: every `every` backward passes an update, after which keep × gradient stays in `.grad`.
 * @typedef {{lr: number, keep: number, every: number, w1: number, w2: number}} Training
 */

/**
 * What was trained. At step t: the weights before the update, the loss, the fresh gradient of the batch (divided by
 * the length of the window), `.grad` with it, and whether an update follows. The weights have one entry more.
 * @typedef {{steps: number, w1: Float64Array, w2: Float64Array, loss: Float64Array, fresh1: Float64Array,
 *   fresh2: Float64Array, grad1: Float64Array, grad2: Float64Array, due: Uint8Array, diverged: number}} Path
 *   diverged: the first step whose loss is not finite, or −1
 */

/**
 * Return an empty path for up to `most` steps.
 * @param {number} most
 * @returns {Path}
 */
export function emptyPath(most) {
  const column = (more = 0) => new Float64Array(most + more);
  return {
    steps: 0, w1: column(1), w2: column(1), loss: column(), fresh1: column(), fresh2: column(),
    grad1: column(), grad2: column(), due: new Uint8Array(most), diverged: -1,
  }; // prettier-ignore
}

/**
 * Train for as many steps as the problem has batches, or until `steps`.
 *
 *     G ← keep·G + (g₁ + … + gₙ)/n
 *     w ← w − lr·G
 *
 * @param {Problem} problem
 * @param {Training} training
 * @param {number} steps
 * @param {Path} path overwritten and returned
 */
export function train(problem, { lr, keep, every, w1, w2 }, steps, path) {
  const { x1, x2, y, order, starts, epoch } = problem;
  let grad1 = 0, grad2 = 0; // prettier-ignore
  path.steps = steps;
  path.diverged = -1;
  for (let t = 0; t < steps; t++) {
    const inEpoch = t % epoch;
    const begin = inEpoch - (inEpoch % every); // of the window, which ends with its epoch and with the run
    const size = Math.min(every, epoch - begin, steps - t + inEpoch - begin);
    const from = starts[t], to = starts[t + 1]; // prettier-ignore
    const scale = (2 / (to - from)) * (1 / size);
    let loss = 0, fresh1 = 0, fresh2 = 0; // prettier-ignore
    for (let i = from; i < to; i++) {
      const sample = order[i];
      const left = x1[sample] * w1 + x2[sample] * w2 - y[sample];
      loss += left * left;
      fresh1 += scale * left * x1[sample];
      fresh2 += scale * left * x2[sample];
    }
    grad1 += fresh1;
    grad2 += fresh2;
    path.w1[t] = w1;
    path.w2[t] = w2;
    path.loss[t] = loss /= to - from;
    path.fresh1[t] = fresh1;
    path.fresh2[t] = fresh2;
    path.grad1[t] = grad1;
    path.grad2[t] = grad2;
    path.due[t] = inEpoch - begin === size - 1 ? 1 : 0;
    if (path.diverged < 0 && !Number.isFinite(loss)) path.diverged = t;
    if (path.due[t]) {
      w1 -= lr * grad1;
      w2 -= lr * grad2;
      grad1 = keep === 0 ? 0 : grad1 * keep; // zero_grad() clears even what is not finite
      grad2 = keep === 0 ? 0 : grad2 * keep;
    }
  }
  path.w1[steps] = w1;
  path.w2[steps] = w2;
  return path;
}
