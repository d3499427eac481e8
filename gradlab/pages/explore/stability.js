/** The map of lr and keep: where training diverges, computed for full batches and simulated for mini-batches. */

import { drawProblem, surfaceOf } from "./problem.js";
import { FULL, LIMITS } from "./setting.js";
import { rootsOf, sideOfEdge } from "./theory.js";

/** @typedef {import("./setting.js").Setting} Setting */

export const DRAWS = 20;
export const COLUMNS = 32;
export const ROWS = 16;
const DIVERGED = 1000; // times the loss on all samples at the start
const ROUNDING = 1e-9; // counts as the loss at the start if that is smaller: at the minimum, all else is rounding

/**
 * The gradient of each batch is a linear function of the weights: (h11·w1 + h12·w2 − c1, h12·w1 + h22·w2 − c2).
 * @typedef {{gradients: Float64Array, surface: import("./problem.js").Surface}} Draw
 */

/**
 * Return the weights' error factor per update on full batches: below 1 training settles, above 1 it diverges.
 * @param {number} lr
 * @param {number} keep
 * @param {number[]} curvatures
 */
export function rateOf(lr, keep, curvatures) {
  let slowest = 0;
  for (const curvature of curvatures) slowest = Math.max(slowest, Math.abs(rootsOf(lr * curvature, keep).first));
  return slowest;
}

/**
 * Return whether training diverges on full batches.
 * @param {number} lr
 * @param {number} keep
 * @param {number} curvature the larger one
 */
export function divergesOnFull(lr, keep, curvature) {
  const side = sideOfEdge(lr * curvature, keep);
  return side > 0 || (keep === 1 && side === 0);
}

/**
 * Return the value of a position from 0 to 1 along a slider or an axis, and the position of a value.
 * @param {"lr" | "keep"} name
 * @param {number} position
 */
export function valueAt(name, position) {
  const { from, to, log } = LIMITS[name];
  return log ? from * (to / from) ** position : from + (to - from) * position;
}

/**
 * @param {"lr" | "keep"} name
 * @param {number} value
 */
export function positionOf(name, value) {
  const { from, to, log } = LIMITS[name];
  return log ? Math.log(value / from) / Math.log(to / from) : (value - from) / (to - from);
}

/**
 * Return the gradients of all batches of one draw.
 * @param {Setting} setting
 * @param {number} seed
 * @returns {Draw}
 */
export function drawGradients(setting, seed) {
  const { curvature, noise, batch, steps } = setting;
  const { x1, x2, y, order, starts } = drawProblem({ curvature, noise, batch, rounds: 1, seed, steps });
  const gradients = new Float64Array(5 * steps);
  for (let t = 0; t < steps; t++) {
    const scale = 2 / (starts[t + 1] - starts[t]);
    for (let i = starts[t]; i < starts[t + 1]; i++) {
      const [a, b, target] = [x1[order[i]], x2[order[i]], y[order[i]]];
      gradients[5 * t] += scale * a * a;
      gradients[5 * t + 1] += scale * a * b;
      gradients[5 * t + 2] += scale * b * b;
      gradients[5 * t + 3] += scale * a * target;
      gradients[5 * t + 4] += scale * b * target;
    }
  }
  return { gradients, surface: surfaceOf({ x1, x2, y, order, starts, epoch: 1 }, curvature) };
}

/**
 * Return whether the loss on all samples passes 1,000 times its start within the steps of this draw.
 * @param {Draw} draw
 * @param {{lr: number, keep: number, every: number, w1: number, w2: number}} training
 */
export function divergesWithin({ gradients, surface }, { lr, keep, every, w1, w2 }) {
  const [steep, gentle] = surface.curvatures;
  const [m1, m2] = surface.minimum;
  let limit = Infinity, grad1 = 0, grad2 = 0, inWindow = 0; // prettier-ignore
  for (let at = 0; at < gradients.length; at += 5) {
    const along = 0.8 * (w1 - m1) + 0.6 * (w2 - m2);
    const across = 0.8 * (w2 - m2) - 0.6 * (w1 - m1);
    const loss = surface.floor + 0.5 * (steep * along * along + gentle * across * across);
    if (at === 0) limit = DIVERGED * Math.max(loss, ROUNDING);
    if (!(loss <= limit)) return true;
    const mixed = gradients[at + 1];
    grad1 += (gradients[at] * w1 + mixed * w2 - gradients[at + 3]) / every;
    grad2 += (mixed * w1 + gradients[at + 2] * w2 - gradients[at + 4]) / every;
    if (++inWindow < every) continue;
    inWindow = 0;
    w1 -= lr * grad1;
    w2 -= lr * grad2;
    grad1 *= keep;
    grad2 *= keep;
  }
  return false;
}

/** The share of draws that diverge, cell by cell, coarse cells first. */
export class StabilityMap {
  /** @param {Setting} setting */
  constructor(setting) {
    this.setting = setting;
    this.draws = /** @type {Draw[]} */ ([]);
    this.counts = new Int8Array(COLUMNS * ROWS).fill(-1); // of diverged draws; −1 if not simulated yet
    this.order = coarseFirst();
    this.done = setting.batch === FULL ? this.order.length : 0;
  }

  get progress() {
    return this.done / this.order.length;
  }

  /** Draw the batches of one more draw, or simulate one more cell. Return whether work is left. */
  advance() {
    if (this.done === this.order.length) return false;
    if (this.draws.length < DRAWS) {
      this.draws.push(drawGradients(this.setting, this.setting.seed + this.draws.length));
      return true;
    }
    const cell = this.order[this.done++];
    const column = cell % COLUMNS;
    const lr = valueAt("lr", (column + 0.5) / COLUMNS);
    const keep = Math.floor(cell / COLUMNS) / (ROWS - 1);
    this.counts[cell] = this.countAt(lr, keep);
    return this.done < this.order.length;
  }

  /**
   * Return how many of the draws diverge at this lr and keep; −1 if not all are drawn yet.
   * @param {number} lr
   * @param {number} keep
   */
  countAt(lr, keep) {
    if (this.draws.length < DRAWS) return -1;
    const { every, w1, w2 } = this.setting;
    return this.draws.filter((draw) => divergesWithin(draw, { lr, keep, every, w1, w2 })).length;
  }
}

/** Return the cells in an order in which every fourth row and column comes first. */
function coarseFirst() {
  const cells = Array.from({ length: COLUMNS * ROWS }, (_, cell) => cell);
  /** @param {number} cell */
  const fineness = (cell) => {
    const [row, column] = [Math.floor(cell / COLUMNS), cell % COLUMNS];
    return row % 4 || column % 4 ? (row % 2 || column % 2 ? 2 : 1) : 0;
  };
  return cells.sort((one, other) => fineness(one) - fineness(other) || one - other);
}

/**
 * Return the numbers of a setting that the map depends on, as a key.
 * @param {Setting} setting
 */
export function keyOfMap({ every, batch, noise, curvature, steps, seed, w1, w2 }) {
  return batch === FULL ? `full ${curvature}` : [every, batch, noise, curvature, steps, seed, w1, w2].join(" ");
}
