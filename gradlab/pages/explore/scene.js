/** The scene: a setting, and all that the pictures show of it. */

import { drawProblem, errorsAt, surfaceOf, SAMPLES } from "./problem.js";
import { FULL, LIMITS, roundsOf } from "./setting.js";
import { emptyPath, train } from "./simulation.js";
import { closedForm } from "./theory.js";
import { verdictOf } from "./verdict.js";

/** @typedef {import("./setting.js").Setting} Setting */

const MOST = LIMITS.steps.to;

export class Scene {
  /** @param {Setting} setting */
  constructor(setting) {
    this.setting = setting;
    this.path = emptyPath(MOST);
    this.cleared = emptyPath(MOST); // the same with zero_grad()
    this.mean = new Float64Array(MOST);
    this.clearedMean = new Float64Array(MOST);
    this.theory = new Float64Array(MOST);
    this.key = keyOfProblem(setting);
    this.problem = drawn(setting);
    this.surface = surfaceOf(this.problem, setting.curvature);
    /** @type {import("./verdict.js").Verdict} */
    this.verdict = "flat"; // until compute() trains
  }

  /**
   * Train at a setting. Samples and batches are drawn again only if they change.
   * @param {Setting} setting
   */
  compute(setting) {
    this.setting = setting;
    if (keyOfProblem(setting) !== this.key) {
      this.key = keyOfProblem(setting);
      this.problem = drawn(setting);
      this.surface = surfaceOf(this.problem, setting.curvature);
    }
    this.verdict = this.train();
  }

  train() {
    const { setting, problem, surface, path, cleared } = this;
    const { batch, steps, w1, w2 } = setting;
    train(problem, setting, steps, path);
    train(problem, { ...setting, keep: 0 }, steps, cleared);
    if (batch === FULL) {
      closedForm(surface, errorsAt(surface, w1, w2), setting, steps, this.theory);
    } else {
      meansOver(SAMPLES / batch, path.loss, steps, this.mean);
      meansOver(SAMPLES / batch, cleared.loss, steps, this.clearedMean);
    }
    return verdictOf(path.loss.slice(0, steps), problem.epoch);
  }

  /** Return what the loss curve shows. */
  curves() {
    const { setting, path, cleared } = this;
    const isFull = setting.batch === FULL;
    return {
      loss: path.loss,
      mean: isFull ? path.loss : this.mean,
      cleared: setting.keep === 0 ? null : isFull ? cleared.loss : this.clearedMean,
      theory: isFull ? this.theory : null,
      steps: setting.steps,
      diverged: path.diverged,
    };
  }
}

/** @param {Setting} setting */
function drawn(setting) {
  return drawProblem({ ...setting, rounds: roundsOf(setting) });
}

/** @param {Setting} setting */
function keyOfProblem(setting) {
  const { batch, noise, curvature, steps, seed } = setting;
  return [batch, noise, curvature, steps, seed, roundsOf(setting)].join(" ");
}

/**
 * Write the mean of each loss and those before it, at most `window` in all.
 * @param {number} window
 * @param {Float64Array} losses
 * @param {number} steps
 * @param {Float64Array} means overwritten and returned
 */
export function meansOver(window, losses, steps, means) {
  for (let t = 0; t < steps; t++) {
    const from = Math.max(0, t - window + 1);
    let sum = 0;
    for (let before = from; before <= t; before++) sum += losses[before];
    means[t] = sum / (t - from + 1);
  }
  return means;
}
