/** The problem: 16 samples of a linear regression with two weights, in batches. The task `two_weights` of gradlab. */

import { Generator } from "./random.js";

export const SAMPLES = 16;
export const BEST = [1, 0.5]; // the weights without label noise
export const GENTLE_CURVATURE = 1;
const STEEP = [-Math.sqrt(2.5), -Math.sqrt(0.1), Math.sqrt(0.4), 1]; // as in gradlab.tasks.builtin
const GENTLE = [Math.sqrt(0.4), -Math.sqrt(0.4), Math.sqrt(1.6), -Math.sqrt(1.6)];

/**
 * Samples, and which of them each batch holds: batch t holds order[starts[t]] … order[starts[t + 1] − 1].
 * @typedef {{x1: Float64Array, x2: Float64Array, y: Float64Array, order: Int32Array, starts: Int32Array,
 *   epoch: number}} Problem epoch: the number of batches in an epoch
 */

/**
 * The loss on all samples: floor + ½·λ·e² along both directions, with e the distance from the minimum.
 * @typedef {{curvatures: number[], minimum: number[], floor: number}} Surface
 */

/**
 * Return the samples and batches that gradlab's task `two_weights` draws.
 * @param {{curvature: number, noise: number, batch: number, rounds: number, seed: number, steps: number}} wanted
 * @returns {Problem}
 */
export function drawProblem({ curvature, noise, batch, rounds, seed, steps }) {
  const generator = new Generator(seed);
  const errors = new Float64Array(SAMPLES);
  for (let nth = 0; nth < 12 * SAMPLES; nth++) errors[nth % SAMPLES] += generator.uniform();
  const x1 = new Float64Array(SAMPLES);
  const x2 = new Float64Array(SAMPLES);
  const y = new Float64Array(SAMPLES);
  const steep = Math.sqrt(curvature / 2);
  const gentle = Math.sqrt(0.5);
  for (let i = 0; i < SAMPLES; i++) {
    const a = steep * STEEP[i >> 2];
    const b = gentle * GENTLE[i & 3];
    x1[i] = 0.8 * a - 0.6 * b;
    x2[i] = 0.6 * a + 0.8 * b;
    y[i] = x1[i] + 0.5 * x2[i] + noise * (errors[i] - 6);
  }
  return { x1, x2, y, ...drawBatches(generator, batch, steps), epoch: rounds * Math.ceil(SAMPLES / batch) };
}

/**
 * @param {Generator} generator
 * @param {number} batch
 * @param {number} steps
 */
function drawBatches(generator, batch, steps) {
  const passes = Math.ceil(steps / Math.ceil(SAMPLES / batch));
  const order = new Int32Array(passes * SAMPLES);
  const starts = new Int32Array(steps + 1);
  for (let pass = 0, t = 0; pass < passes; pass++) {
    generator.permute(order, pass * SAMPLES, SAMPLES);
    for (let at = 0; at < SAMPLES && t < steps; at += batch) {
      starts[++t] = pass * SAMPLES + Math.min(at + batch, SAMPLES);
    }
  }
  return { order, starts };
}

/**
 * Return the loss on all samples as a surface. Its axes are (0.8, 0.6) and (−0.6, 0.8).
 * @param {Problem} problem
 * @param {number} curvature
 * @returns {Surface}
 */
export function surfaceOf({ x1, x2, y }, curvature) {
  let steepSquares = 0, gentleSquares = 0, steepSum = 0, gentleSum = 0, floor = 0; // prettier-ignore
  for (let i = 0; i < SAMPLES; i++) {
    const a = 0.8 * x1[i] + 0.6 * x2[i];
    const b = 0.8 * x2[i] - 0.6 * x1[i];
    steepSquares += a * a;
    gentleSquares += b * b;
    steepSum += a * y[i];
    gentleSum += b * y[i];
  }
  const along = steepSum / steepSquares;
  const across = gentleSum / gentleSquares;
  const minimum = [0.8 * along - 0.6 * across, 0.6 * along + 0.8 * across];
  for (let i = 0; i < SAMPLES; i++) {
    const left = x1[i] * minimum[0] + x2[i] * minimum[1] - y[i];
    floor += (left * left) / SAMPLES;
  }
  return { curvatures: [curvature, GENTLE_CURVATURE], minimum, floor };
}

/**
 * Return the distances of weights from the minimum along the two axes of the surface.
 * @param {Surface} surface
 * @param {number} w1
 * @param {number} w2
 */
export function errorsAt({ minimum }, w1, w2) {
  const [d1, d2] = [w1 - minimum[0], w2 - minimum[1]];
  return [0.8 * d1 + 0.6 * d2, 0.8 * d2 - 0.6 * d1];
}
